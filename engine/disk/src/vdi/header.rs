//! The header (`VDIPREHEADER`, `VDIHEADER1`, `VDIHEADER1PLUS`).

use super::{SIGNATURE, SIGNATURE_AT};
use crate::align::round_up;
use crate::guid::Guid;
use cairn_base::units::to_u64;
use cairn_base::{Error, Result, View};

/// Bytes of the file that hold all of the header that is read.
pub const SIZE: usize = 512;
/// An entry of the block table that stands for a block that is not there.
pub const FREE: u32 = u32::MAX;
/// An entry of the block table that stands for a block of zeros.
pub const ZERO: u32 = u32::MAX - 1;

const VERSION: usize = 68;
const HEADER_SIZE: usize = 72;
const KIND: usize = 76;
const BLOCKS_OFFSET: usize = 340;
const DATA_OFFSET: usize = 344;
const SECTOR_SIZE: usize = 360;
const DISK_SIZE: usize = 368;
const BLOCK_SIZE: usize = 376;
const BLOCK_EXTRA: usize = 380;
pub(super) const BLOCK_COUNT: usize = 384;
pub(super) const BLOCKS_ALLOCATED: usize = 388;
const CREATED_ID: usize = 392;
const MODIFIED_ID: usize = 408;
const PARENT_ID: usize = 424;
const PARENT_MODIFIED_ID: usize = 440;

/// `sizeof(VDIHEADER1)`.
const MIN_HEADER: u32 = 384;
const MIN_BLOCK: u32 = 512;
/// The largest block that is read. VirtualBox makes blocks of 1 MiB.
const MAX_BLOCK: u32 = 256 << 20;

/// `VDIIMAGETYPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Blocks are there as they were written.
    Dynamic,
    /// All blocks are there.
    Fixed,
    /// Undo or differencing: what is not there is the parent's.
    Differencing,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What sort of VDI it is.
    pub kind: Kind,
    /// Where the block table begins.
    pub table_offset: u64,
    /// Where the first block begins.
    pub data_offset: u64,
    /// Bytes of the virtual disk: not 0, a multiple of 512.
    pub disk_size: u64,
    /// Bytes of a block of the disk: a power of two from 512 to 256 MiB.
    pub block_size: u32,
    /// Bytes in front of each block in the file.
    pub block_extra: u32,
    /// Entries of the block table: as many as the disk needs.
    pub entries: u64,
    /// The disk's own id.
    pub id: Guid,
    /// Another one as soon as VirtualBox has written to the disk.
    pub modified: Guid,
    /// The parent's id; nil if there is none.
    pub parent: Guid,
    /// What the parent's `modified` was; nil if that is not said.
    pub parent_modified: Guid,
}

impl Header {
    /// Parses the first [`SIZE`] bytes of a file.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for other versions and sectors;
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for what no VDI can say.
    pub fn parse(head: &[u8]) -> Result<Header> {
        let view = View::new(head, "VDI header", 0);
        if view.slice(SIGNATURE_AT, SIGNATURE.len())? != SIGNATURE {
            return Err(view.damaged(SIGNATURE_AT, "the signature is another one"));
        }
        let version = view.u32_le(VERSION)?;
        if version >> 16 != 1 {
            return Err(Error::unsupported(format!(
                "VDI images of version {}.{} are not read, only 1.1",
                version >> 16,
                version & 0xffff
            ))
            .at_offset(to_u64(VERSION))
            .advise("convert it with `VBoxManage clonemedium`"));
        }
        if view.u32_le(HEADER_SIZE)? < MIN_HEADER {
            return Err(view.damaged(HEADER_SIZE, "the header is too short"));
        }
        let sector = view.u32_le(SECTOR_SIZE)?;
        if sector != 512 {
            return Err(Error::unsupported(format!(
                "VDI images with sectors of {sector} bytes are not read, only of 512"
            ))
            .at_offset(to_u64(SECTOR_SIZE)));
        }
        let block_size = view.u32_le(BLOCK_SIZE)?;
        if !block_size.is_power_of_two() || !(MIN_BLOCK..=MAX_BLOCK).contains(&block_size) {
            let why = format!("blocks of {block_size} bytes are said");
            return Err(view.damaged(BLOCK_SIZE, &why));
        }
        let disk_size = view.u64_le(DISK_SIZE)?;
        let needed = disk_size.div_ceil(u64::from(block_size));
        let entries = u64::from(view.u32_le(BLOCK_COUNT)?);
        if disk_size == 0 || entries < needed {
            let why =
                format!("a disk of {disk_size} bytes is said, in {entries} blocks of {block_size}");
            return Err(view.damaged(DISK_SIZE, &why));
        }
        let id = |at| Ok(Guid::from_windows(view.array(at)?));
        Ok(Header {
            kind: kind(&view)?,
            table_offset: view.u32_le(BLOCKS_OFFSET)?.into(),
            data_offset: view.u32_le(DATA_OFFSET)?.into(),
            // Blocks are made of sectors: the last one has room for it.
            disk_size: round_up(disk_size, 512).unwrap_or(disk_size),
            block_size,
            block_extra: view.u32_le(BLOCK_EXTRA)?,
            entries: needed,
            id: id(CREATED_ID)?,
            modified: id(MODIFIED_ID)?,
            parent: id(PARENT_ID)?,
            parent_modified: id(PARENT_MODIFIED_ID)?,
        })
    }
}

fn kind(view: &View<'_>) -> Result<Kind> {
    match view.u32_le(KIND)? {
        1 => Ok(Kind::Dynamic),
        2 => Ok(Kind::Fixed),
        3 | 4 => Ok(Kind::Differencing),
        other => Err(view.damaged(KIND, &format!("image type {other} does not exist"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Kind as ErrorKind;

    /// A dynamic disk of 5 MiB and a sector in blocks of 1 MiB.
    fn good() -> Vec<u8> {
        let mut head = vec![0; SIZE];
        head[SIGNATURE_AT..68].copy_from_slice(SIGNATURE);
        for (at, value) in [
            (VERSION, 0x1_0001),
            (HEADER_SIZE, 400),
            (KIND, 1),
            (BLOCKS_OFFSET, 512),
            (DATA_OFFSET, 1024),
            (SECTOR_SIZE, 512),
            (DISK_SIZE, (5 << 20) + 512),
            (BLOCK_SIZE, 1 << 20),
            (BLOCK_COUNT, 6),
        ] {
            put(&mut head, at, value);
        }
        head[CREATED_ID] = 7;
        head
    }

    fn put(head: &mut [u8], at: usize, value: u32) {
        head[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    #[test]
    fn a_good_header() {
        let header = Header::parse(&good()).unwrap();
        assert_eq!((header.kind, header.entries), (Kind::Dynamic, 6));
        assert_eq!((header.table_offset, header.data_offset), (512, 1024));
        assert_eq!(
            header.id.to_string(),
            "00000007-0000-0000-0000-000000000000"
        );
        let mut odd = good();
        put(&mut odd, DISK_SIZE, (5 << 20) + 1);
        assert_eq!(Header::parse(&odd).unwrap().disk_size, (5 << 20) + 512);
        for (kind, expected) in [
            (2, Kind::Fixed),
            (3, Kind::Differencing),
            (4, Kind::Differencing),
        ] {
            let mut head = good();
            put(&mut head, KIND, kind);
            assert_eq!(Header::parse(&head).unwrap().kind, expected);
        }
    }

    #[test]
    fn fields_out_of_range_are_refused_with_their_place() {
        for (at, value, kind) in [
            (SIGNATURE_AT, 0, ErrorKind::Damaged),
            (VERSION, 1, ErrorKind::Unsupported),
            (VERSION, 0x2_0000, ErrorKind::Unsupported),
            (HEADER_SIZE, 383, ErrorKind::Damaged),
            (KIND, 0, ErrorKind::Damaged),
            (KIND, 5, ErrorKind::Damaged),
            (SECTOR_SIZE, 4096, ErrorKind::Unsupported),
            (BLOCK_SIZE, 0, ErrorKind::Damaged),
            (BLOCK_SIZE, 3 << 20, ErrorKind::Damaged),
            (BLOCK_SIZE, 256, ErrorKind::Damaged),
            (BLOCK_SIZE, 512 << 20, ErrorKind::Damaged),
            (DISK_SIZE, 0, ErrorKind::Damaged),
            (DISK_SIZE, (6 << 20) + 1, ErrorKind::Damaged),
        ] {
            let mut head = good();
            put(&mut head, at, value);
            let error = Header::parse(&head).unwrap_err();
            assert_eq!(
                (error.kind(), error.offset()),
                (kind, Some(at as u64)),
                "{error}"
            );
        }
        let mut head = good();
        head[DISK_SIZE..DISK_SIZE + 8].fill(0xff);
        assert!(Header::parse(&head).is_err());
        for length in 0..PARENT_MODIFIED_ID + 16 {
            assert!(Header::parse(&good()[..length]).is_err(), "{length}");
        }
    }
}
