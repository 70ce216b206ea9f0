//! The two headers, \[MS-VHDX\] 2.2.2: they say where the log is and whether it is in use. The one with the higher
//! sequence number counts, so that a header can be written while the other one holds.

use super::{ALIGNMENT, checksum};
use crate::align::is_multiple;
use crate::guid::Guid;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result, View};
use std::ops::Range;

/// Where the two headers lie.
pub const OFFSETS: [u64; 2] = [64 << 10, 128 << 10];
/// Bytes of a header that its checksum covers.
pub const SIZE: usize = 4096;

const SIGNATURE: &[u8; 4] = b"head";

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The valid header with the higher one counts.
    pub sequence: u64,
    /// Another one whenever the file is opened for writing.
    pub file_write_id: Guid,
    /// Another one whenever the disk's content may have changed.
    pub data_write_id: Guid,
    /// Which entries of the log are valid; nil if the log is empty.
    pub log_id: Guid,
    /// Version of the log's format; 0 is known.
    pub log_version: u16,
    /// Bytes of the log.
    pub log_length: u32,
    /// Where the log lies.
    pub log_offset: u64,
}

impl Header {
    /// Reads a header that lay at `base`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is not valid,
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for a version that is not read.
    pub fn parse(bytes: &[u8], base: u64) -> Result<Header> {
        let view = View::new(bytes, "VHDX header", base);
        if view.slice(0, 4)? != SIGNATURE {
            return Err(view.damaged(0, "does not begin with `head`"));
        }
        if view.u32_le(4)? != checksum(view.slice(0, SIZE)?) {
            return Err(view.damaged(4, "its checksum does not hold"));
        }
        let version = view.u16_le(66)?;
        if version != 1 {
            return Err(
                Error::unsupported(format!("VHDX of version {version} is not read"))
                    .at_offset(base),
            );
        }
        Ok(Header {
            sequence: view.u64_le(8)?,
            file_write_id: Guid::from_windows(view.array(16)?),
            data_write_id: Guid::from_windows(view.array(32)?),
            log_id: Guid::from_windows(view.array(48)?),
            log_version: view.u16_le(64)?,
            log_length: view.u32_le(68)?,
            log_offset: view.u64_le(72)?,
        })
    }

    /// The header as it is written, with its checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.extend_from_slice(SIGNATURE);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.file_write_id.to_windows());
        bytes.extend_from_slice(&self.data_write_id.to_windows());
        bytes.extend_from_slice(&self.log_id.to_windows());
        bytes.extend_from_slice(&self.log_version.to_le_bytes());
        bytes.extend_from_slice(&1u16.to_le_bytes());
        bytes.extend_from_slice(&self.log_length.to_le_bytes());
        bytes.extend_from_slice(&self.log_offset.to_le_bytes());
        bytes.resize(SIZE, 0);
        seal(&mut bytes);
        bytes
    }

    /// Where the log lies; empty if it has no length.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is not a range of whole MiB behind the first one and within
    /// `file_size` bytes, although the log is in use.
    pub fn log_range(&self, file_size: u64) -> Result<Range<u64>> {
        let length = u64::from(self.log_length);
        let end = self.log_offset.checked_add(length);
        let sound = self.log_offset >= ALIGNMENT
            && is_multiple(self.log_offset, ALIGNMENT)
            && is_multiple(length, ALIGNMENT);
        match end {
            Some(end) if sound && end <= file_size && (length > 0 || self.log_id.is_nil()) => {
                Ok(self.log_offset..end)
            }
            // An empty log is never looked at.
            _ if self.log_id.is_nil() => Ok(0..0),
            _ => Err(Error::damaged(format!(
                "the VHDX says its log is in use and has {length} bytes at {}, where no log can be",
                self.log_offset
            ))),
        }
    }
}

/// Puts the checksum of a header, region table or log entry into its place.
pub(crate) fn seal(bytes: &mut [u8]) {
    let sum = checksum(bytes);
    for (to, from) in bytes.iter_mut().skip(4).zip(sum.to_le_bytes()) {
        *to = from;
    }
}

/// The header that counts, and a warning if the other one is damaged.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if neither is valid, or if both claim to be the newest and differ.
pub fn current(image: &dyn ReadAt) -> Result<(Header, Option<String>)> {
    let read = |at| Header::parse(&read_vec(image, at, SIZE)?, at);
    let [first, second] = OFFSETS.map(read);
    match (first, second) {
        (Ok(first), Ok(second)) if first == second || first.sequence > second.sequence => {
            Ok((first, None))
        }
        (Ok(first), Ok(second)) if second.sequence > first.sequence => Ok((second, None)),
        (Ok(first), Ok(_)) => Err(Error::damaged(format!(
            "both VHDX headers have the sequence number {} and say different things",
            first.sequence
        ))),
        (Ok(header), Err(error)) | (Err(error), Ok(header)) => Ok((
            header,
            Some(format!("one of the two VHDX headers is damaged: {error}")),
        )),
        (Err(first), Err(_)) => Err(first.context("neither of the two VHDX headers can be used")),
    }
}

#[cfg(test)]
mod tests;
