//! Words of the protocol: numbers, and the two structures that clients send all the time. Integers are big-endian.

use cairn_base::{Kind, Result, View};

/// Begins the server's greeting.
pub(super) const GREETING: &[u8; 8] = b"NBDMAGIC";
/// Begins every option, and ends the greeting.
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454F_5054;
pub(super) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(super) const CHUNK_MAGIC: u32 = 0x668e_33ef;
pub(super) const REQUEST_LEN: usize = 28;
pub(super) const OPTION_LEN: usize = 16;

/// Data of a read or a write, at most.
pub(super) const MAX_PAYLOAD: u32 = 32 << 20;
/// Data of an option, at most.
pub(super) const MAX_OPTION: u32 = 64 << 10;
/// A name of an export or a context, at most.
pub(super) const MAX_NAME: usize = 4096;

/// Of the handshake, both ways: fixed newstyle, no zeros after the size.
pub(super) const FIXED_NEWSTYLE: u16 = 1;
pub(super) const NO_ZEROES: u16 = 2;

pub(super) mod option {
    pub(in crate::nbd) const EXPORT_NAME: u32 = 1;
    pub(in crate::nbd) const ABORT: u32 = 2;
    pub(in crate::nbd) const LIST: u32 = 3;
    pub(in crate::nbd) const INFO: u32 = 6;
    pub(in crate::nbd) const GO: u32 = 7;
    pub(in crate::nbd) const STRUCTURED_REPLY: u32 = 8;
    pub(in crate::nbd) const LIST_META_CONTEXT: u32 = 9;
    pub(in crate::nbd) const SET_META_CONTEXT: u32 = 10;
}

pub(super) mod reply {
    pub(in crate::nbd) const ACK: u32 = 1;
    pub(in crate::nbd) const SERVER: u32 = 2;
    pub(in crate::nbd) const INFO: u32 = 3;
    pub(in crate::nbd) const META_CONTEXT: u32 = 4;
    pub(in crate::nbd) const ERR_UNSUP: u32 = (1 << 31) + 1;
    pub(in crate::nbd) const ERR_INVALID: u32 = (1 << 31) + 3;
    pub(in crate::nbd) const ERR_UNKNOWN: u32 = (1 << 31) + 6;
    pub(in crate::nbd) const ERR_TOO_BIG: u32 = (1 << 31) + 9;
}

pub(super) mod info {
    pub(in crate::nbd) const EXPORT: u16 = 0;
    pub(in crate::nbd) const NAME: u16 = 1;
    pub(in crate::nbd) const DESCRIPTION: u16 = 2;
    pub(in crate::nbd) const BLOCK_SIZE: u16 = 3;
}

/// What an export can do.
pub(super) mod can {
    pub(in crate::nbd) const HAS_FLAGS: u16 = 1;
    pub(in crate::nbd) const READ_ONLY: u16 = 1 << 1;
    pub(in crate::nbd) const FLUSH: u16 = 1 << 2;
    pub(in crate::nbd) const FUA: u16 = 1 << 3;
    pub(in crate::nbd) const TRIM: u16 = 1 << 5;
    pub(in crate::nbd) const WRITE_ZEROES: u16 = 1 << 6;
    pub(in crate::nbd) const DF: u16 = 1 << 7;
    pub(in crate::nbd) const MULTI_CONN: u16 = 1 << 8;
    pub(in crate::nbd) const CACHE: u16 = 1 << 10;
    pub(in crate::nbd) const FAST_ZERO: u16 = 1 << 11;
}

/// Flags of a request.
pub(super) mod flag {
    pub(in crate::nbd) const FUA: u16 = 1;
    pub(in crate::nbd) const NO_HOLE: u16 = 1 << 1;
    pub(in crate::nbd) const DF: u16 = 1 << 2;
    pub(in crate::nbd) const REQ_ONE: u16 = 1 << 3;
    pub(in crate::nbd) const FAST_ZERO: u16 = 1 << 4;
}

/// Chunks of structured replies.
pub(super) mod chunk {
    pub(in crate::nbd) const DONE: u16 = 1;
    pub(in crate::nbd) const NONE: u16 = 0;
    pub(in crate::nbd) const DATA: u16 = 1;
    pub(in crate::nbd) const HOLE: u16 = 2;
    pub(in crate::nbd) const BLOCK_STATUS: u16 = 5;
    pub(in crate::nbd) const ERROR: u16 = (1 << 15) + 1;
    pub(in crate::nbd) const ERROR_OFFSET: u16 = (1 << 15) + 2;
}

/// The one context there is: where holes are.
pub(super) const ALLOCATION: &str = "base:allocation";
pub(super) const ALLOCATION_ID: u32 = 1;
/// What it says of a hole, which reads as zeros.
pub(super) const HOLE_AND_ZERO: u32 = 3;

pub(super) const EPERM: u32 = 1;
pub(super) const EIO: u32 = 5;
pub(super) const EINVAL: u32 = 22;
pub(super) const ENOSPC: u32 = 28;
pub(super) const EOVERFLOW: u32 = 75;
pub(super) const ENOTSUP: u32 = 95;
pub(super) const ESHUTDOWN: u32 = 108;

/// The protocol's number for a failure.
pub(super) fn errno(kind: Kind) -> u32 {
    match kind {
        Kind::Full => ENOSPC,
        Kind::Denied => EPERM,
        Kind::Invalid => EINVAL,
        Kind::Unsupported => ENOTSUP,
        Kind::Interrupted => ESHUTDOWN,
        Kind::Damaged | Kind::Io | Kind::NotFound | Kind::Exists | Kind::Busy => EIO,
    }
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Read,
    Write,
    Disconnect,
    Flush,
    Trim,
    Cache,
    WriteZeroes,
    BlockStatus,
    Unknown,
}

/// A request, without the data of a write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) flags: u16,
    pub(super) command: Command,
    pub(super) cookie: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
}

impl Request {
    /// # Errors
    /// [`Kind::Damaged`] if it is none.
    pub(super) fn parse(bytes: &[u8; REQUEST_LEN]) -> Result<Request> {
        let view = View::new(bytes, "request", 0);
        if view.u32_be(0)? != REQUEST_MAGIC {
            return Err(view.damaged(0, "it does not begin as one"));
        }
        Ok(Request {
            flags: view.u16_be(4)?,
            command: match view.u16_be(6)? {
                0 => Command::Read,
                1 => Command::Write,
                2 => Command::Disconnect,
                3 => Command::Flush,
                4 => Command::Trim,
                5 => Command::Cache,
                6 => Command::WriteZeroes,
                7 => Command::BlockStatus,
                _ => Command::Unknown,
            },
            cookie: view.u64_be(8)?,
            offset: view.u64_be(16)?,
            length: view.u32_be(24)?,
        })
    }

    /// The bytes it is about, as far as numbers go.
    pub(super) fn range(&self) -> std::ops::Range<u64> {
        self.offset..self.offset.saturating_add(u64::from(self.length))
    }
}

/// An option's number and the length of its data.
///
/// # Errors
/// [`Kind::Damaged`] if it is none.
pub(super) fn parse_option(bytes: &[u8; OPTION_LEN]) -> Result<(u32, u32)> {
    let view = View::new(bytes, "option", 0);
    if view.u64_be(0)? != OPTION_MAGIC {
        return Err(view.damaged(0, "it does not begin as one"));
    }
    Ok((view.u32_be(8)?, view.u32_be(12)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_apart() {
        let bytes = [
            0x25, 0x60, 0x95, 0x13, 0, 9, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 1, 0, 0, 0,
            0, 2, 0,
        ];
        let request = Request::parse(&bytes).unwrap();
        assert_eq!(request.command, Command::BlockStatus);
        assert_eq!(request.flags, flag::FUA | flag::REQ_ONE);
        assert_eq!(request.cookie, 0x0102_0304_0506_0708);
        assert_eq!(request.range(), 65_536..66_048);
        let mut other = bytes;
        other[0] = 0;
        assert_eq!(Request::parse(&other).unwrap_err().kind(), Kind::Damaged);
        other = bytes;
        other[7] = 8;
        assert_eq!(Request::parse(&other).unwrap().command, Command::Unknown);
    }
}
