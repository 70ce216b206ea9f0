//! Carrying out requests, and the replies.

use super::export::NbdExport;
use super::handshake::Agreed;
use super::protocol::{
    ALLOCATION_ID, CHUNK_MAGIC, Command, EINVAL, EIO, ENOSPC, ENOTSUP, EOVERFLOW, EPERM,
    HOLE_AND_ZERO, MAX_PAYLOAD, Request, SIMPLE_REPLY_MAGIC, chunk, errno, flag,
};
use cairn_base::{Error, Monitor};
use parking_lot::Mutex;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Data of a reply that is read before it is sent. More comes in pieces.
pub(super) const PIECE: u64 = 1 << 20;
/// A hole shorter than this is sent as zeros.
const MIN_HOLE: u64 = 4096;
/// What one answer about holes covers, in bytes of the disk: the client asks again for more.
const MAX_STATUS: u64 = 1 << 30;
/// Of that, what is looked at in one step: no more than the longest read.
const LOOK: u64 = 32 << 20;
/// And in the first step for an answer that tells the first part only.
const FIRST_STATUS: u64 = 4 << 20;
/// What it tells at most: data and holes in turn.
const MAX_DESCRIPTORS: usize = 4096;
/// Lists of data and holes take a byte of memory for so many of the disk, where they change every 4 KiB: a list of the overlay's runs, the data in
/// them, both in turn, and what is sent of it, 16 to 24 bytes an entry.
const LISTED: u64 = 32;
/// What the descriptors of an answer take, in bytes.
const TOLD: u64 = 128 << 10;
/// Failures that are told of one connection.
const MAX_TOLD: u32 = 20;

/// Memory that a request takes while it is carried out, in bytes.
pub(super) fn memory(request: &Request, structured: bool) -> u64 {
    let length = u64::from(request.length);
    match request.command {
        Command::Write => length,
        Command::Read if structured => {
            let length = length.min(u64::from(MAX_PAYLOAD));
            length.min(PIECE) + length / LISTED
        }
        Command::Read => length.min(u64::from(MAX_PAYLOAD)),
        Command::BlockStatus => length.min(LOOK) / LISTED + TOLD,
        _ => 0,
    }
}

/// A request that cannot be carried out: its number and what is wrong.
struct Refusal(u32, String);

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal(errno(error.kind()), error.to_string())
    }
}

/// What requests of one connection are carried out with.
pub(super) struct Executor<'a, W: Write> {
    agreed: &'a Agreed,
    writer: Mutex<W>,
    monitor: &'a dyn Monitor,
    told: AtomicU32,
}

impl<'a, W: Write> Executor<'a, W> {
    pub(super) fn new(agreed: &'a Agreed, writer: W, monitor: &'a dyn Monitor) -> Executor<'a, W> {
        Executor {
            agreed,
            writer: Mutex::new(writer),
            monitor,
            told: AtomicU32::new(0),
        }
    }

    fn export(&self) -> &NbdExport {
        &self.agreed.export
    }

    /// Carries out a request and replies.
    ///
    /// # Errors
    /// As the stream reports: the connection is of no use any more.
    pub(super) fn execute(&self, request: &Request, payload: &[u8]) -> io::Result<()> {
        match self.refuse(request) {
            Some(refusal) => self.fail(request, refusal),
            None => match request.command {
                Command::Read if self.agreed.structured => self.read_in_chunks(request),
                Command::Read => self.read_at_once(request),
                Command::BlockStatus => self.block_status(request),
                _ => match self.change(request, payload) {
                    Ok(()) => self.simple(request, 0, &[]),
                    Err(error) => self.fail(request, error),
                },
            },
        }
    }

    /// A failure nobody expected.
    pub(super) fn unexpected(&self, request: &Request) -> io::Result<()> {
        let why = "the request has ended unexpectedly".to_string();
        self.fail(request, Refusal(EIO, why))
    }

    /// What is wrong with a request by itself.
    fn refuse(&self, request: &Request) -> Option<Refusal> {
        let refusal = |number: u32, why: &str| Some(Refusal(number, why.to_string()));
        let (flags, writes) = match request.command {
            // Only where replies come in chunks can one want them whole.
            Command::Read if self.agreed.structured => (flag::DF, false),
            Command::Read => (0, false),
            Command::Write => (flag::FUA, true),
            Command::Trim => (flag::FUA, true),
            Command::WriteZeroes => (flag::FUA | flag::NO_HOLE | flag::FAST_ZERO, true),
            Command::BlockStatus => (flag::REQ_ONE, false),
            Command::Cache | Command::Flush | Command::Disconnect => (0, false),
            Command::Unknown => return refusal(EINVAL, "unknown command"),
        };
        if writes && self.export().overlay.is_none() {
            return refusal(EPERM, "the disk cannot be written to");
        }
        // FUA means nothing where nothing is written, and is allowed.
        if request.flags & !(flags | flag::FUA) != 0 {
            return refusal(EINVAL, "unknown flags");
        }
        if request.command == Command::Flush {
            return None;
        }
        let end = request.offset.checked_add(u64::from(request.length));
        if end.is_none_or(|end| end > self.export().size()) {
            // As the protocol says: a trim gives room back, and never lacks it.
            let number = match request.command {
                Command::Write | Command::WriteZeroes => ENOSPC,
                _ => EINVAL,
            };
            return refusal(number, "the range ends beyond the disk");
        }
        if request.command == Command::Read && request.length > MAX_PAYLOAD {
            return refusal(EOVERFLOW, "more than 32 MiB at once");
        }
        if request.command == Command::BlockStatus
            && (!self.agreed.allocation || request.length == 0)
        {
            return refusal(EINVAL, "no context was agreed on, or no range given");
        }
        None
    }

    /// What may change the disk, and what returns nothing.
    fn change(&self, request: &Request, payload: &[u8]) -> Result<(), Refusal> {
        let range = request.range();
        if request.command == Command::Cache {
            self.export().disk.will_need(range);
            return Ok(());
        }
        let Some(overlay) = &self.export().overlay else {
            return Ok(());
        };
        match request.command {
            Command::Write => overlay.write_at(request.offset, payload)?,
            Command::Trim => overlay.trim(range)?,
            Command::WriteZeroes => {
                let allocate = request.flags & flag::NO_HOLE != 0;
                if allocate && request.flags & flag::FAST_ZERO != 0 {
                    return Err(Refusal(
                        ENOTSUP,
                        "zeros that take room are written".to_string(),
                    ));
                }
                overlay.write_zeroes(range, allocate)?;
            }
            Command::Flush => overlay.flush()?,
            _ => {}
        }
        if request.flags & flag::FUA != 0 {
            overlay.flush()?;
        }
        Ok(())
    }

    /// For clients that take no chunks: the number of the failure comes first, so all is read before anything is sent.
    fn read_at_once(&self, request: &Request) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(request.length).unwrap_or_default()];
        match self.export().disk.read_exact_at(request.offset, &mut bytes) {
            Ok(()) => self.simple(request, 0, &bytes),
            Err(error) => self.fail(request, error.into()),
        }
    }

    fn read_in_chunks(&self, request: &Request) -> io::Result<()> {
        let range = request.range();
        if range.is_empty() {
            return self.chunk(request, chunk::DONE, chunk::NONE, &[]);
        }
        let whole = request.flags & flag::DF != 0;
        if whole && range.end - range.start > PIECE {
            let why = "too long for one piece".to_string();
            return self.fail(request, Refusal(EOVERFLOW, why));
        }
        let pieces = if whole {
            vec![(range, true)]
        } else {
            match self.export().disk.data_extents(range.clone()) {
                Ok(extents) => pieces(&range, extents),
                Err(error) => return self.fail(request, error.into()),
            }
        };
        let mut left = pieces.len();
        let mut bytes = Vec::new();
        for (piece, is_data) in pieces {
            left -= 1;
            let flags = if left == 0 { chunk::DONE } else { 0 };
            let length = piece.end - piece.start;
            let offset = piece.start.to_be_bytes();
            if !is_data {
                let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
                self.chunk(request, flags, chunk::HOLE, &[&offset, &length])?;
                continue;
            }
            bytes.resize(usize::try_from(length).unwrap_or_default(), 0);
            if let Err(error) = self.export().disk.read_exact_at(piece.start, &mut bytes) {
                return self.fail_at(request, error.into(), piece.start);
            }
            self.chunk(request, flags, chunk::DATA, &[&offset, &bytes])?;
        }
        Ok(())
    }

    fn block_status(&self, request: &Request) -> io::Result<()> {
        let one = request.flags & flag::REQ_ONE != 0;
        let parts = match self.parts(&request.range(), one) {
            Ok(parts) => parts,
            Err(error) => return self.fail(request, error.into()),
        };
        let mut bytes = ALLOCATION_ID.to_be_bytes().to_vec();
        for (part, is_data) in parts {
            let length = u32::try_from(part.end - part.start).unwrap_or(u32::MAX);
            bytes.extend(length.to_be_bytes());
            bytes.extend(if is_data { 0 } else { HOLE_AND_ZERO }.to_be_bytes());
        }
        self.chunk(request, chunk::DONE, chunk::BLOCK_STATUS, &[&bytes])
    }

    /// Data and holes from the start of `range` on, as far as one answer goes. They are looked at step by step, and no more than need be: for the first
    /// of them alone, because who asks one by one would otherwise have all of it looked at each time.
    fn parts(&self, range: &Range<u64>, one: bool) -> Result<Vec<(Range<u64>, bool)>, Error> {
        let end = range.end.min(range.start.saturating_add(MAX_STATUS));
        let (limit, mut step) = match one {
            true => (1, FIRST_STATUS),
            false => (MAX_DESCRIPTORS, LOOK),
        };
        let mut found: Vec<(Range<u64>, bool)> = Vec::new();
        let mut next = range.start;
        // The last one may go on in the next step.
        while next < end && found.len() <= limit {
            let part = next..end.min(next.saturating_add(step));
            for (part, is_data) in
                alternating(&part, self.export().disk.data_extents(part.clone())?)
            {
                match found.last_mut() {
                    Some((last, was_data)) if *was_data == is_data => last.end = part.end,
                    _ => found.push((part, is_data)),
                }
            }
            next = part.end;
            step = LOOK;
        }
        found.truncate(limit);
        Ok(found)
    }

    fn fail(&self, request: &Request, refusal: Refusal) -> io::Result<()> {
        self.fail_at(request, refusal, request.offset)
    }

    fn fail_at(&self, request: &Request, refusal: Refusal, offset: u64) -> io::Result<()> {
        let Refusal(number, why) = refusal;
        if number != EINVAL
            && number != EPERM
            && self.told.fetch_add(1, Ordering::Relaxed) < MAX_TOLD
        {
            let name = self.export().name();
            let command = format!("{:?}", request.command).to_lowercase();
            self.monitor.warn(&format!(
                "{name}: a {command} at byte {offset} failed: {why}"
            ));
        }
        let in_chunks = matches!(request.command, Command::Read | Command::BlockStatus);
        if !self.agreed.structured || !in_chunks {
            return self.simple(request, number, &[]);
        }
        // Of up to 1,000 bytes, and no torn character.
        let end = (0..=1000.min(why.len()))
            .rev()
            .find(|at| why.is_char_boundary(*at));
        let text = why.get(..end.unwrap_or(0)).unwrap_or_default();
        let length = u16::try_from(text.len()).unwrap_or(0).to_be_bytes();
        let (number, offset) = (number.to_be_bytes(), offset.to_be_bytes());
        if request.command == Command::Read && request.length > 0 {
            let fields: [&[u8]; 4] = [&number, &length, text.as_bytes(), &offset];
            self.chunk(request, chunk::DONE, chunk::ERROR_OFFSET, &fields)
        } else {
            let fields: [&[u8]; 3] = [&number, &length, text.as_bytes()];
            self.chunk(request, chunk::DONE, chunk::ERROR, &fields)
        }
    }

    fn simple(&self, request: &Request, number: u32, data: &[u8]) -> io::Result<()> {
        let mut head = SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
        head.extend(number.to_be_bytes());
        head.extend(request.cookie.to_be_bytes());
        self.send(head, &[data])
    }

    fn chunk(&self, request: &Request, flags: u16, kind: u16, fields: &[&[u8]]) -> io::Result<()> {
        let length = fields.iter().map(|field| field.len()).sum::<usize>();
        let mut head = CHUNK_MAGIC.to_be_bytes().to_vec();
        head.extend(flags.to_be_bytes());
        head.extend(kind.to_be_bytes());
        head.extend(request.cookie.to_be_bytes());
        head.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        self.send(head, fields)
    }

    /// One reply, or one chunk of it, at a time.
    fn send(&self, mut head: Vec<u8>, fields: &[&[u8]]) -> io::Result<()> {
        let (large, small) = match fields.split_last() {
            Some((last, before)) if last.len() > 4096 => (*last, before),
            _ => (&[][..], fields),
        };
        small.iter().for_each(|field| head.extend(*field));
        let mut writer = self.writer.lock();
        writer.write_all(&head)?;
        if !large.is_empty() {
            writer.write_all(large)?;
        }
        writer.flush()
    }
}

/// Data and holes of `range` in turn.
fn alternating(range: &Range<u64>, extents: Vec<Range<u64>>) -> Vec<(Range<u64>, bool)> {
    let mut found: Vec<(Range<u64>, bool)> = Vec::new();
    let mut next = range.start;
    for extent in extents {
        let extent = extent.start.max(next)..extent.end.min(range.end);
        if extent.is_empty() {
            continue;
        }
        match found.last_mut() {
            Some((last, true)) if last.end == extent.start => last.end = extent.end,
            _ => {
                if next < extent.start {
                    found.push((next..extent.start, false));
                }
                found.push((extent.clone(), true));
            }
        }
        next = extent.end;
    }
    if next < range.end {
        found.push((next..range.end, false));
    }
    found
}

/// What is sent as chunks: holes that are worth it, data in pieces.
fn pieces(range: &Range<u64>, extents: Vec<Range<u64>>) -> Vec<(Range<u64>, bool)> {
    let mut merged: Vec<Range<u64>> = Vec::new();
    for extent in extents {
        match merged.last_mut() {
            Some(last) if extent.start < last.end.saturating_add(MIN_HOLE) => last.end = extent.end,
            _ => merged.push(extent),
        }
    }
    let mut found = Vec::new();
    for (part, is_data) in alternating(range, merged) {
        if !is_data {
            found.push((part, false));
            continue;
        }
        let mut next = part.start;
        while next < part.end {
            let end = part.end.min(next.saturating_add(PIECE));
            found.push((next..end, true));
            next = end;
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    #[test]
    fn data_and_holes_make_the_range() {
        assert_eq!(alternating(&(5..10), vec![]), [(5..10, false)]);
        assert_eq!(alternating(&(5..10), vec![0..20]), [(5..10, true)]);
        let mixed = alternating(&(0..100), vec![0..10, 10..20, 50..60]);
        assert_eq!(
            mixed,
            [
                (0..20, true),
                (20..50, false),
                (50..60, true),
                (60..100, false)
            ]
        );
        // Short holes are data, long data comes in pieces.
        let mib = 1u64 << 20;
        let sent = pieces(&(0..4 * mib), vec![0..100, 2000..mib + 5, 2 * mib..3 * mib]);
        let expected = [
            (0..mib, true),
            (mib..mib + 5, true),
            (mib + 5..2 * mib, false),
            (2 * mib..3 * mib, true),
            (3 * mib..4 * mib, false),
        ];
        assert_eq!(sent, expected);
    }
}
