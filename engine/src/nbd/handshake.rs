//! The handshake: fixed newstyle. Whatever a client sends is bounded in length and number.

use super::export::{Exports, NbdExport};
use super::protocol::{
    ALLOCATION, ALLOCATION_ID, FIXED_NEWSTYLE, GREETING, MAX_NAME, MAX_OPTION, MAX_PAYLOAD,
    NO_ZEROES, OPTION_LEN, OPTION_MAGIC, OPTION_REPLY_MAGIC, info, option, parse_option, reply,
};
use cairn_base::View;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Options of one client, at most.
const MAX_OPTIONS: usize = 1000;
/// What transfers are best aligned to, in bytes.
const PREFERRED_BLOCK: u32 = 4096;

/// What client and server agreed on.
pub(super) struct Agreed {
    pub(super) export: Arc<NbdExport>,
    pub(super) structured: bool,
    /// Whether the client may ask where holes are.
    pub(super) allocation: bool,
}

/// What is known of a client so far.
struct Client {
    no_zeroes: bool,
    structured: bool,
    /// The export whose holes it wants to know.
    allocation_of: Option<Arc<NbdExport>>,
}

pub(super) fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

/// What an option's data is not, if a field is missing.
type Fields<T> = Result<T, cairn_base::Error>;

/// Agrees with a client on an export; `None` if it went away politely.
///
/// # Errors
/// As the stream reports, and for a client that does not keep to the protocol.
pub(super) fn negotiate<R: Read, W: Write>(
    reader: &mut R,
    writer: &mut W,
    exports: &Exports,
) -> io::Result<Option<Agreed>> {
    let mut greeting = GREETING.to_vec();
    greeting.extend(OPTION_MAGIC.to_be_bytes());
    greeting.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    writer.write_all(&greeting)?;
    let mut flags = [0; 4];
    reader.read_exact(&mut flags)?;
    let flags = u32::from_be_bytes(flags);
    let known = u32::from(FIXED_NEWSTYLE | NO_ZEROES);
    if flags & !known != 0 {
        return Err(broken("a client that wants what nobody knows"));
    }
    let mut client = Client {
        no_zeroes: flags & u32::from(NO_ZEROES) != 0,
        structured: false,
        allocation_of: None,
    };
    for _ in 0..MAX_OPTIONS {
        let mut head = [0; OPTION_LEN];
        reader.read_exact(&mut head)?;
        let (number, length) = parse_option(&head).map_err(|e| broken(&e.to_string()))?;
        if length > MAX_OPTION {
            return Err(broken("an option that is too long"));
        }
        let mut data = vec![0; usize::try_from(length).unwrap_or_default()];
        reader.read_exact(&mut data)?;
        let mut answer = Answer {
            option: number,
            structured: client.structured,
            writer,
        };
        match number {
            option::EXPORT_NAME => return client.export_name(&data, answer.writer, exports),
            option::ABORT => {
                // The client need not wait for it.
                let _gone = answer.ack();
                return Ok(None);
            }
            option::GO => {
                if let Some(export) = answer.describe(&data, exports)? {
                    answer.ack()?;
                    return Ok(Some(client.agreed(export)));
                }
            }
            option::INFO => {
                if answer.describe(&data, exports)?.is_some() {
                    answer.ack()?;
                }
            }
            option::LIST if data.is_empty() => answer.list(exports)?,
            option::STRUCTURED_REPLY if data.is_empty() => {
                client.structured = true;
                answer.ack()?;
            }
            option::LIST | option::STRUCTURED_REPLY => {
                answer.send(reply::ERR_INVALID, b"no data is expected")?
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
                client.contexts(&data, &mut answer, exports)?;
            }
            _ => answer.send(reply::ERR_UNSUP, b"")?,
        }
    }
    Err(broken("a client that never begins"))
}

impl Client {
    fn agreed(&self, export: Arc<NbdExport>) -> Agreed {
        let asked = self.allocation_of.as_ref();
        Agreed {
            allocation: asked.is_some_and(|of| Arc::ptr_eq(of, &export)),
            structured: self.structured,
            export,
        }
    }

    /// The oldest way to begin: there is no answer but the disk.
    fn export_name<W: Write>(
        &self,
        name: &[u8],
        writer: &mut W,
        exports: &Exports,
    ) -> io::Result<Option<Agreed>> {
        let Some(export) = exports.find(name) else {
            return Err(broken("a client that asks for a disk which is not there"));
        };
        let mut bytes = export.size().to_be_bytes().to_vec();
        bytes.extend(export.flags(self.structured).to_be_bytes());
        if !self.no_zeroes {
            bytes.extend([0; 124]);
        }
        writer.write_all(&bytes)?;
        Ok(Some(self.agreed(export.clone())))
    }

    fn contexts<W: Write>(
        &mut self,
        data: &[u8],
        answer: &mut Answer<'_, W>,
        exports: &Exports,
    ) -> io::Result<()> {
        let set = answer.option == option::SET_META_CONTEXT;
        if set {
            self.allocation_of = None;
        }
        let Ok((name, queries)) = context_queries(data) else {
            return answer.send(reply::ERR_INVALID, b"malformed");
        };
        if !self.structured {
            return answer.send(reply::ERR_INVALID, b"structured replies come first");
        }
        let Some(export) = exports.find(name) else {
            return answer.send(reply::ERR_UNKNOWN, b"no such disk");
        };
        let wanted = |query: &&[u8]| *query == ALLOCATION.as_bytes() || !set && *query == b"base:";
        if queries.iter().any(wanted) || !set && queries.is_empty() {
            let mut bytes = if set { ALLOCATION_ID } else { 0 }.to_be_bytes().to_vec();
            bytes.extend(ALLOCATION.as_bytes());
            answer.send(reply::META_CONTEXT, &bytes)?;
            if set {
                self.allocation_of = Some(export.clone());
            }
        }
        answer.ack()
    }
}

/// The name of an export and queries: each a length and that many bytes.
fn context_queries(data: &[u8]) -> Fields<(&[u8], Vec<&[u8]>)> {
    let view = View::new(data, "option", 0);
    let (name, mut at) = text(&view, 0)?;
    let count = view.u32_be(at)?;
    at = at.saturating_add(4);
    let mut queries = Vec::new();
    // Each takes four bytes at least, so the option's length bounds them.
    for _ in 0..count {
        let (query, next) = text(&view, at)?;
        queries.push(query);
        at = next;
    }
    if at != data.len() {
        return Err(view.damaged(at, "more than it says"));
    }
    Ok((name, queries))
}

/// A length, and that many bytes; where it ends.
fn text<'a>(view: &View<'a>, at: usize) -> Fields<(&'a [u8], usize)> {
    let length = usize::try_from(view.u32_be(at)?).unwrap_or(usize::MAX);
    if length > MAX_NAME {
        return Err(view.damaged(at, "a name that is too long"));
    }
    let begin = at.saturating_add(4);
    Ok((view.slice(begin, length)?, begin.saturating_add(length)))
}

/// The name of an export, and which facts a client asks for.
fn info_request(data: &[u8]) -> Fields<(&[u8], Vec<u16>)> {
    let view = View::new(data, "option", 0);
    let (name, at) = text(&view, 0)?;
    let count = usize::from(view.u16_be(at)?);
    let begin = at.saturating_add(2);
    let bytes = view.slice(begin, count.saturating_mul(2))?;
    if begin.saturating_add(bytes.len()) != data.len() {
        return Err(view.damaged(begin, "more than it says"));
    }
    let (pairs, _) = bytes.as_chunks::<2>();
    Ok((
        name,
        pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect(),
    ))
}

/// Answers to one option.
struct Answer<'a, W: Write> {
    option: u32,
    /// Whether replies come in chunks, before this option.
    structured: bool,
    writer: &'a mut W,
}

impl<W: Write> Answer<'_, W> {
    fn send(&mut self, kind: u32, data: &[u8]) -> io::Result<()> {
        let mut bytes = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
        bytes.extend(self.option.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(data);
        self.writer.write_all(&bytes)
    }

    fn ack(&mut self) -> io::Result<()> {
        self.send(reply::ACK, b"")
    }

    fn list(&mut self, exports: &Exports) -> io::Result<()> {
        for export in exports.all() {
            let length = u32::try_from(export.name().len()).unwrap_or(u32::MAX);
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend(export.name().as_bytes());
            bytes.extend(export.description().as_bytes());
            self.send(reply::SERVER, &bytes)?;
        }
        self.ack()
    }

    /// Tells of an export what there is to know; `None` if it was refused.
    fn describe(&mut self, data: &[u8], exports: &Exports) -> io::Result<Option<Arc<NbdExport>>> {
        let (name, asked) = match info_request(data) {
            Ok(request) => request,
            Err(_) => {
                let too_big = data.len() > MAX_NAME;
                let kind = if too_big {
                    reply::ERR_TOO_BIG
                } else {
                    reply::ERR_INVALID
                };
                self.send(kind, b"malformed")?;
                return Ok(None);
            }
        };
        let Some(export) = exports.find(name) else {
            self.send(reply::ERR_UNKNOWN, b"no such disk")?;
            return Ok(None);
        };
        let (size, flags) = (export.size(), export.flags(self.structured));
        let (size, flags) = (size.to_be_bytes(), flags.to_be_bytes());
        let mut fact = |kind: u16, fields: &[&[u8]]| {
            let mut bytes = kind.to_be_bytes().to_vec();
            fields.iter().for_each(|field| bytes.extend(*field));
            self.send(reply::INFO, &bytes)
        };
        fact(info::EXPORT, &[&size, &flags])?;
        let blocks = [1, PREFERRED_BLOCK, MAX_PAYLOAD].map(u32::to_be_bytes);
        fact(info::BLOCK_SIZE, &[&blocks[0], &blocks[1], &blocks[2]])?;
        if asked.contains(&info::NAME) {
            fact(info::NAME, &[export.name().as_bytes()])?;
        }
        if asked.contains(&info::DESCRIPTION) {
            fact(info::DESCRIPTION, &[export.description().as_bytes()])?;
        }
        Ok(Some(export.clone()))
    }
}
