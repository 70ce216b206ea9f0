//! zip (PKWARE's APPNOTE 6.3.10): sizes of 64 bits, names in UTF-8, permissions, owners and times as Info-ZIP keeps them. Nothing is ever changed that was written, so that it can go into
//! a pipe; the directory at the end waits in memory, or in a file without a name when it is large.

use crate::copy::archive::{Member, Out};
use crate::copy::content::each_piece;
use cairn_base::units::to_u64;
use cairn_base::{Error, Monitor, ReadAt, Result, Time};
use cairn_guest::EntryKind;
use flate2::{Compression, Crc, write::DeflateEncoder};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use tempfile::SpooledTempFile;

/// Bytes of the directory in memory.
const IN_MEMORY: usize = 8 << 20;
/// Stands in fields of 32 bits whose value is in the extra field.
const LARGE: u32 = u32::MAX;
/// Version 4.5, the first with sizes of 64 bits; made by Unix.
const NEEDS: u16 = 45;
const MADE_BY: u16 = (3 << 8) | NEEDS;
/// Sizes and checksum stand behind the content.
const BEHIND: u16 = 1 << 3;
const UTF8: u16 = 1 << 11;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Content that is read at once where holes are passed over.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// A zip archive.
pub struct Zip<'a> {
    /// The stream.
    pub out: Out<'a>,
    directory: SpooledTempFile,
    members: u64,
}

/// What is known of a member when it is written.
#[derive(Default, Clone, Copy)]
struct Facts {
    crc: u32,
    packed: u64,
    size: u64,
}

impl<'a> Zip<'a> {
    /// To this stream.
    pub fn new(out: Out<'a>) -> Zip<'a> {
        Zip {
            out,
            directory: tempfile::spooled_tempfile(IN_MEMORY),
            members: 0,
        }
    }

    /// One more member.
    ///
    /// # Errors
    /// As the content's reading does; [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; as the operating system reports.
    pub fn member(&mut self, member: &Member<'_>, monitor: &dyn Monitor) -> Result<()> {
        let attributes = &member.item.attributes;
        let mut path = member.path.to_vec();
        if attributes.kind == EntryKind::Folder {
            path.push(b'/');
        }
        if path.len() > usize::from(u16::MAX) {
            return Err(Error::unsupported("the path is too long for a zip archive"));
        }
        let start = self.out.offset;
        let utf8 = !path.is_ascii() && std::str::from_utf8(&path).is_ok();
        let mut flags = if utf8 { UTF8 } else { 0 };
        let method = match member.content {
            Some(content) if content.size() > 0 => DEFLATED,
            _ => STORED,
        };
        let mut facts = Facts::default();
        let extra = extra(member, true);
        if method == STORED {
            let mut crc = Crc::new();
            crc.update(member.target);
            facts.crc = crc.sum();
            facts.size = to_u64(member.target.len());
            facts.packed = facts.size;
            self.local(member, (flags, method), &path, facts, &extra)?;
            self.out.write(member.target)?;
        } else if let Some(content) = member.content {
            flags |= BEHIND;
            self.local(member, (flags, method), &path, facts, &extra)?;
            facts = self.deflate(content, monitor)?;
            let mut behind = Vec::new();
            put32(&mut behind, &[0x0807_4b50, facts.crc]);
            put64(&mut behind, &[facts.packed, facts.size]);
            self.out.write(&behind)?;
        }
        self.entry(member, (flags, method), &path, facts, start)
    }

    fn local(
        &mut self,
        member: &Member<'_>,
        (flags, method): (u16, u16),
        path: &[u8],
        facts: Facts,
        extra: &[u8],
    ) -> Result<()> {
        let (time, date) = dos_time(member.item.attributes.modified);
        let behind = flags & BEHIND != 0;
        let mut extra = extra.to_vec();
        let mut bytes = Vec::new();
        put32(&mut bytes, &[0x0403_4b50]);
        put16(&mut bytes, &[NEEDS, flags, method, time, date]);
        if behind {
            // Says that the sizes behind the content have 64 bits.
            put32(&mut bytes, &[0, LARGE, LARGE]);
            put16(&mut extra, &[0x0001, 16]);
            put64(&mut extra, &[0, 0]);
        } else {
            let small = |size: u64| u32::try_from(size).unwrap_or(LARGE);
            let sizes = [facts.crc, small(facts.packed), small(facts.size)];
            put32(&mut bytes, &sizes);
        }
        put16(&mut bytes, &[length(path), length(&extra)]);
        bytes.extend_from_slice(path);
        bytes.extend_from_slice(&extra);
        self.out.write(&bytes)
    }

    fn deflate(&mut self, content: &dyn ReadAt, monitor: &dyn Monitor) -> Result<Facts> {
        let begin = self.out.offset;
        let mut crc = Crc::new();
        let failed = |e| Error::io("cannot write the archive", Path::new("-"), e);
        let mut packed = DeflateEncoder::new(Packed(&mut self.out), Compression::default());
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            crc.update(bytes);
            packed.write_all(bytes).map_err(failed)
        };
        let zeros = |from: u64, to: u64, put: &mut dyn FnMut(&[u8]) -> Result<()>| {
            let mut left = to.saturating_sub(from);
            while left > 0 {
                if monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                let length = usize::try_from(left).unwrap_or(ZEROS.len());
                let part = ZEROS.get(..length.min(ZEROS.len())).unwrap_or_default();
                put(part)?;
                left -= to_u64(part.len());
            }
            Ok(())
        };
        each_piece(content, monitor, &mut |piece| {
            zeros(at, piece.start, &mut put)?;
            put(piece.bytes)?;
            at = piece.start.saturating_add(to_u64(piece.bytes.len()));
            Ok(())
        })?;
        zeros(at, content.size(), &mut put)?;
        packed.finish().map_err(failed)?;
        Ok(Facts {
            crc: crc.sum(),
            packed: self.out.offset.saturating_sub(begin),
            size: content.size(),
        })
    }

    /// The member in the directory.
    fn entry(
        &mut self,
        member: &Member<'_>,
        (flags, method): (u16, u16),
        path: &[u8],
        facts: Facts,
        start: u64,
    ) -> Result<()> {
        let attributes = &member.item.attributes;
        let (time, date) = dos_time(attributes.modified);
        let mut extra = extra(member, false);
        let mut large = Vec::new();
        let mut small = |size: u64| {
            let fits = u32::try_from(size).ok().filter(|size| *size != LARGE);
            if fits.is_none() {
                put64(&mut large, &[size]);
            }
            fits.unwrap_or(LARGE)
        };
        let (size, packed) = (small(facts.size), small(facts.packed));
        let offset = small(start);
        if !large.is_empty() {
            put16(&mut extra, &[0x0001, length(&large)]);
            extra.extend_from_slice(&large);
        }
        let (kind, dos) = match attributes.kind {
            EntryKind::Folder => (0o040_000, 0x10),
            EntryKind::Symlink => (0o120_000, 0),
            _ => (0o100_000, 0),
        };
        let usual = if dos == 0 { 0o644 } else { 0o755 };
        let mode = if member.item.unix {
            attributes.mode & 0o7777
        } else {
            usual
        };
        let mut bytes = Vec::new();
        put32(&mut bytes, &[0x0201_4b50]);
        put16(&mut bytes, &[MADE_BY, NEEDS, flags, method, time, date]);
        put32(&mut bytes, &[facts.crc, packed, size]);
        put16(&mut bytes, &[length(path), length(&extra), 0, 0, 0]);
        put32(&mut bytes, &[((kind | mode) << 16) | dos, offset]);
        bytes.extend_from_slice(path);
        bytes.extend_from_slice(&extra);
        self.members += 1;
        self.directory.write_all(&bytes).map_err(kept)
    }

    /// The directory, and where it is.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn end(&mut self) -> Result<()> {
        let start = self.out.offset;
        self.directory.seek(SeekFrom::Start(0)).map_err(kept)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = self.directory.read(&mut buffer).map_err(kept)?;
            if read == 0 {
                break;
            }
            self.out.write(buffer.get(..read).unwrap_or_default())?;
        }
        let end = self.out.offset;
        let size = end.saturating_sub(start);
        let mut bytes = Vec::new();
        let count = u16::try_from(self.members).unwrap_or(u16::MAX);
        let narrow = |size: u64| u32::try_from(size).unwrap_or(LARGE);
        if count == u16::MAX || narrow(size) == LARGE || narrow(start) == LARGE {
            put32(&mut bytes, &[0x0606_4b50]);
            put64(&mut bytes, &[44]);
            put16(&mut bytes, &[MADE_BY, NEEDS]);
            put32(&mut bytes, &[0, 0]);
            put64(&mut bytes, &[self.members, self.members, size, start]);
            put32(&mut bytes, &[0x0706_4b50, 0]);
            put64(&mut bytes, &[end]);
            put32(&mut bytes, &[1]);
        }
        put32(&mut bytes, &[0x0605_4b50]);
        put16(&mut bytes, &[0, 0, count, count]);
        put32(&mut bytes, &[narrow(size), narrow(start)]);
        put16(&mut bytes, &[0]);
        self.out.write(&bytes)?;
        self.out.flush()
    }
}

/// The stream, for the compressor.
struct Packed<'o, 'a>(&'o mut Out<'a>);

impl Write for Packed<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn kept(error: std::io::Error) -> Error {
    let place = Path::new("a temporary file");
    Error::io("cannot keep the archive's directory", place, error)
        .advise("name another folder in TMPDIR")
}

/// Times and owner: Info-ZIP's `UT` and `ux`, and the times of Windows, which are finer and reach further.
fn extra(member: &Member<'_>, local: bool) -> Vec<u8> {
    let known = &member.item.attributes;
    let mut extra = Vec::new();
    // Before 1970 readers disagree on the sign; the times of Windows say it then.
    let seconds = |time: Time| i32::try_from(time.seconds).ok().filter(|s| *s >= 0);
    if let (Some(modified), Some(accessed)) = (seconds(known.modified), seconds(known.accessed)) {
        // In the directory only the first time stands, whatever the flags say.
        put16(&mut extra, &[0x5455, if local { 9 } else { 5 }]);
        extra.push(3);
        extra.extend_from_slice(&modified.to_le_bytes());
        if local {
            extra.extend_from_slice(&accessed.to_le_bytes());
        }
    }
    let made = known.created.unwrap_or(known.modified);
    let times = [known.modified, known.accessed, made].map(windows_time);
    if let [Some(modified), Some(accessed), Some(made)] = times {
        put16(&mut extra, &[0x000a, 32, 0, 0, 1, 24]);
        put64(&mut extra, &[modified, accessed, made]);
    }
    if member.item.unix {
        put16(&mut extra, &[0x7875, 11]);
        extra.extend_from_slice(&[1, 4]);
        extra.extend_from_slice(&known.uid.to_le_bytes());
        extra.push(4);
        extra.extend_from_slice(&known.gid.to_le_bytes());
    }
    extra
}

/// In units of 100 ns since 1601.
fn windows_time(time: Time) -> Option<u64> {
    let seconds = u64::try_from(time.seconds.checked_add(11_644_473_600)?).ok()?;
    let ticks = seconds.checked_mul(10_000_000)?;
    ticks.checked_add(u64::from(time.nanos / 100))
}

/// Time and date as DOS has them: two seconds fine, from 1980 to 2107, in UTC here because nobody knows the guest's zone.
fn dos_time(time: Time) -> (u16, u16) {
    let (first, last) = (315_532_800, 4_354_819_198);
    let stamp = jiff::Timestamp::from_second(time.seconds.clamp(first, last));
    let Ok(stamp) = stamp.map(|stamp| jiff::tz::TimeZone::UTC.to_datetime(stamp)) else {
        return (0, 0x21);
    };
    let part = |number: i16| u16::try_from(number).unwrap_or(0);
    let small = |number: i8| part(i16::from(number));
    let day = small(stamp.day()) | (small(stamp.month()) << 5);
    (
        (small(stamp.second()) / 2) | (small(stamp.minute()) << 5) | (small(stamp.hour()) << 11),
        day | (part(stamp.year()).saturating_sub(1980) << 9),
    )
}

fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX)
}

fn put16(bytes: &mut Vec<u8>, numbers: &[u16]) {
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

fn put32(bytes: &mut Vec<u8>, numbers: &[u32]) {
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

fn put64(bytes: &mut Vec<u8>, numbers: &[u64]) {
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_dos_and_windows() {
        let of = |text: &str| Time::parse(text).unwrap();
        // 2026-11-20T02:03:04Z
        let (time, date) = dos_time(of("2026-11-20T02:03:04Z"));
        assert_eq!(
            (time, date),
            ((2 << 11) | (3 << 5) | 2, (46 << 9) | (11 << 5) | 20)
        );
        assert_eq!(dos_time(of("1960-01-01T00:00:00Z")), (0, (1 << 5) | 1));
        assert_eq!(
            dos_time(of("2200-01-01T00:00:00Z")).1,
            (127 << 9) | (12 << 5) | 31
        );
        assert_eq!(windows_time(of("1601-01-01T00:00:01Z")), Some(10_000_000));
        assert_eq!(windows_time(of("1600-01-01T00:00:00Z")), None);
    }
}
