//! Headers of sparse extents: "Hosted Sparse Extents" (`KDMV`) and "ESX Server Sparse Extents" (`COWD`).

use super::descriptor::MAX_LENGTH;
use super::{MAX_SIZE, SECTOR};
use crate::align::div_up;
use cairn_base::units::to_u64;
use cairn_base::{Error, Result, View};
use std::ops::Range;

/// Bytes of a header that are looked at: all of a hosted one, the part of an ESX one that says where grains are.
pub const SIZE: usize = 512;
/// How a hosted sparse extent begins.
pub const HOSTED: &[u8; 4] = b"KDMV";
/// How an ESX sparse extent begins.
pub const ESX: &[u8; 4] = b"COWD";
/// The most entries of a grain directory that are read: 64 TiB with grains of 64 KiB.
pub const MAX_TABLES: u64 = 2 << 20;
/// The largest grain, in bytes. VMware and QEMU make them of 64 KiB.
pub const MAX_GRAIN: u64 = 64 << 20;
/// The largest compressed grain, in bytes: it is decoded as a whole.
pub const MAX_COMPRESSED_GRAIN: u64 = 2 << 20;

/// Sector of the grain directory in the header of a stream, whose footer says where it is.
const AT_END: u64 = u64::MAX;
/// Entries of a grain table of ESX.
const ESX_TABLE: u64 = 4096;
/// Bytes of an ESX header.
const ESX_SIZE: u64 = 2048;

const HAS_NEWLINES: u32 = 1;
const HAS_REDUNDANT: u32 = 1 << 1;
const HAS_ZEROED_GRAINS: u32 = 1 << 2;
const IS_COMPRESSED: u32 = 1 << 16;
const HAS_MARKERS: u32 = 1 << 17;
/// Flags in this half must be understood.
const INCOMPATIBLE: u32 = 0xffff << 16;

const VERSION: usize = 4;
const FLAGS: usize = 8;
const CAPACITY: usize = 12;
const GRAIN: usize = 20;
const DESCRIPTOR: usize = 28;
const DESCRIPTOR_SIZE: usize = 36;
const TABLE_ENTRIES: usize = 44;
const REDUNDANT: usize = 48;
const DIRECTORY: usize = 56;
const UNCLEAN: usize = 72;
const NEWLINES: usize = 73;
const COMPRESSION: usize = 77;

/// Where the grain directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directory {
    /// From this byte of the file on; 0 if there is none.
    At(u64),
    /// Where the footer says, which stands at the end of the file.
    InFooter,
}

/// What the header of a sparse extent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// `VMDK` or `COWD`, for messages.
    pub format: &'static str,
    /// Bytes of the extent, whole sectors.
    pub size: u64,
    /// Bytes of a grain, a power of two from 4 KiB (ESX: 512 bytes) to 64 MiB.
    pub grain: u64,
    /// Entries of a grain table: 1 to 512, ESX 4096.
    pub table_entries: u64,
    /// The grain directory.
    pub directory: Directory,
    /// Where its copy begins, in bytes, if there is one.
    pub redundant: Option<u64>,
    /// Where the descriptor inside lies, in bytes.
    pub descriptor: Option<Range<u64>>,
    /// Whether entry 1 of a grain table stands for a grain of zeros.
    pub has_zeroed_grains: bool,
    /// Whether each grain is compressed, with a marker before it.
    pub is_compressed: bool,
    /// Whether it was not closed as it should have been.
    pub is_unclean: bool,
}

impl Header {
    /// Reads the header or the footer of a sparse extent, which lay at `base`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) where fields contradict the format,
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for versions and features that are not read.
    pub fn parse(bytes: &[u8], base: u64) -> Result<Header> {
        let header = match bytes {
            bytes if bytes.starts_with(HOSTED) => Header::parse_hosted(bytes, base)?,
            bytes if bytes.starts_with(ESX) => Header::parse_esx(bytes, base)?,
            _ => {
                return Err(Error::damaged(
                    "a sparse extent of a VMDK begins with `KDMV` or `COWD`, and this file does not",
                )
                .at_offset(base));
            }
        };
        if header.tables() > MAX_TABLES {
            return Err(Error::unsupported(format!(
                "the sparse extent has a grain directory of {} entries, and {MAX_TABLES} are read",
                header.tables()
            ))
            .at_offset(base));
        }
        Ok(header)
    }

    fn parse_hosted(bytes: &[u8], base: u64) -> Result<Header> {
        let view = View::new(bytes, "VMDK header", base);
        let version = view.u32_le(VERSION)?;
        if !(1..=3).contains(&version) {
            return Err(Error::unsupported(format!(
                "the VMDK is of version {version}, and 1 to 3 are read"
            ))
            .at_offset(base));
        }
        let flags = view.u32_le(FLAGS)?;
        if flags & HAS_NEWLINES != 0 && view.slice(NEWLINES, 4)? != b"\n \r\n" {
            return Err(view.damaged(
                NEWLINES,
                "its line ends were changed: the file was transferred as if it were text",
            ));
        }
        let unknown = flags & INCOMPATIBLE & !(IS_COMPRESSED | HAS_MARKERS);
        if unknown != 0 {
            return Err(Error::unsupported(format!(
                "the VMDK needs what is not known here (flags {unknown:#x})"
            ))
            .at_offset(base));
        }
        let is_compressed = check_compression(&view, flags)?;
        let most = match is_compressed {
            true => MAX_COMPRESSED_GRAIN,
            false => MAX_GRAIN,
        };
        let grain = sectors(view.u64_le(GRAIN)?).unwrap_or(0);
        if !grain.is_power_of_two() || !(4096..=most).contains(&grain) {
            return Err(view.damaged(
                GRAIN,
                &format!(
                    "{grain} bytes are no size of a grain (a power of two from 4096 to {most})"
                ),
            ));
        }
        let table_entries = u64::from(view.u32_le(TABLE_ENTRIES)?);
        if !(1..=512).contains(&table_entries) {
            return Err(view.damaged(
                TABLE_ENTRIES,
                &format!("{table_entries} are no number of entries of a grain table (1 to 512)"),
            ));
        }
        let directory = match view.u64_le(DIRECTORY)? {
            AT_END => Directory::InFooter,
            // What lies nowhere is refused when it is read, or its copy is used.
            at => Directory::At(sectors(at).unwrap_or(u64::MAX)),
        };
        let redundant = view.u64_le(REDUNDANT)?;
        Ok(Header {
            format: "VMDK",
            size: capacity(&view, view.u64_le(CAPACITY)?)?,
            grain,
            table_entries,
            directory,
            redundant: sectors(redundant).filter(|at| *at != 0 && flags & HAS_REDUNDANT != 0),
            descriptor: descriptor(&view)?,
            has_zeroed_grains: flags & HAS_ZEROED_GRAINS != 0,
            is_compressed,
            is_unclean: view.u8(UNCLEAN)? != 0,
        })
    }

    fn parse_esx(bytes: &[u8], base: u64) -> Result<Header> {
        let view = View::new(bytes, "COWD header", base);
        let version = view.u32_le(VERSION)?;
        if version != 1 {
            return Err(Error::unsupported(format!(
                "the ESX sparse extent is of version {version}, and 1 is read"
            ))
            .at_offset(base));
        }
        let grain = sectors(u64::from(view.u32_le(16)?)).unwrap_or(0);
        if !grain.is_power_of_two() || grain > MAX_GRAIN {
            return Err(view.damaged(
                16,
                &format!(
                    "{grain} bytes are no size of a grain (a power of two from 512 to {MAX_GRAIN})"
                ),
            ));
        }
        let directory = sectors(u64::from(view.u32_le(20)?)).unwrap_or(0);
        let header = Header {
            format: "COWD",
            size: capacity(&view, u64::from(view.u32_le(12)?))?,
            grain,
            table_entries: ESX_TABLE,
            directory: Directory::At(directory),
            redundant: None,
            descriptor: None,
            has_zeroed_grains: false,
            is_compressed: false,
            is_unclean: false,
        };
        let entries = u64::from(view.u32_le(24)?);
        if entries < header.tables() {
            return Err(view.damaged(
                24,
                &format!(
                    "a grain directory of {entries} entries cannot hold the extent, which needs {}",
                    header.tables()
                ),
            ));
        }
        Ok(header)
    }

    /// Bytes of the extent that a grain table is about.
    pub fn table_span(&self) -> u64 {
        self.grain.saturating_mul(self.table_entries)
    }

    /// Grain tables, which is entries of the grain directory.
    pub fn tables(&self) -> u64 {
        div_up(self.size, self.table_span()).unwrap_or(u64::MAX)
    }

    /// Bytes at the beginning of the file that no grain and no table can lie over.
    pub fn length(&self) -> u64 {
        match self.format {
            "COWD" => ESX_SIZE,
            _ => to_u64(SIZE),
        }
    }
}

/// Whether grains are compressed, in the one way there is.
fn check_compression(view: &View<'_>, flags: u32) -> Result<bool> {
    let is_compressed = flags & IS_COMPRESSED != 0;
    let has_markers = flags & HAS_MARKERS != 0;
    match (is_compressed, has_markers, view.u16_le(COMPRESSION)?) {
        (false, false, 0) => Ok(false),
        (true, true, 1) => Ok(true),
        (_, _, algorithm) if algorithm > 1 => Err(Error::unsupported(format!(
            "the VMDK is compressed in a way that is not known (number {algorithm})"
        ))
        .at_offset(view.base())),
        (true, false, 1) => Err(Error::unsupported(
            "the VMDK has compressed grains without markers, which are not read",
        )
        .at_offset(view.base())),
        (_, _, algorithm) => Err(view.damaged(
            COMPRESSION,
            &format!("compression {algorithm} contradicts the flags {flags:#x}"),
        )),
    }
}

fn capacity(view: &View<'_>, count: u64) -> Result<u64> {
    let size = sectors(count).filter(|size| (1..=MAX_SIZE).contains(size));
    size.ok_or_else(|| {
        view.damaged(
            CAPACITY,
            &format!("{count} sectors are no size of an extent that is read"),
        )
    })
}

fn descriptor(view: &View<'_>) -> Result<Option<Range<u64>>> {
    let (at, length) = (view.u64_le(DESCRIPTOR)?, view.u64_le(DESCRIPTOR_SIZE)?);
    if at == 0 {
        return Ok(None);
    }
    let length = sectors(length).filter(|length| (1..=MAX_LENGTH).contains(length));
    let range = sectors(at).zip(length);
    let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
    match range {
        Some(range) => Ok(Some(range)),
        None => Err(view.damaged(
            DESCRIPTOR,
            &format!("its descriptor has no place or a length other than 1 to {MAX_LENGTH} bytes"),
        )),
    }
}

/// Sectors as bytes.
pub(super) fn sectors(count: u64) -> Option<u64> {
    count.checked_mul(SECTOR)
}

#[cfg(test)]
mod tests;
