//! What a VHD made here consists of: a fixed one, and a dynamic one, wherever its blocks lie.

use super::dynamic::{self, DynamicHeader, UNUSED};
use super::footer::{self, DiskType, Footer, Geometry};
use super::{MAX_SIZE, SECTOR, bitmap};
use crate::align::{round_up, to_usize};
use crate::guid::Guid;
use crate::layout::Layout;
use cairn_base::units::to_u64;
use cairn_base::{Error, Result};

/// What the specification takes by default, and all that some programs read.
const BLOCK_SIZE: u32 = 2 << 20;
/// Where the block table lies: behind the copy of the footer and the dynamic header.
const TABLE: u64 = SECTOR + 1024;
const _: () = assert!(dynamic::SIZE == 1024);
/// 2000-01-01T00:00:00Z, from which a VHD counts seconds.
const EPOCH: i64 = 946_684_800;

/// Bytes of the virtual disk of a VHD for `size` bytes: rounded up to whole sectors of 512 bytes.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) above 2040 GiB.
pub(crate) fn disk_size(size: u64) -> Result<u64> {
    match round_up(size, SECTOR) {
        Some(disk_size) if disk_size <= MAX_SIZE => Ok(disk_size),
        _ => Err(Error::unsupported(format!(
            "a VHD has at most 2040 GiB, and the disk has {size} bytes"
        ))
        .advise("write it as VHDX or raw")),
    }
}

/// The footer of a fixed VHD of `disk_size` bytes, which stands right behind the disk and is all there is beside it. `seconds` since
/// 1970 is when it was made.
pub(crate) fn fixed_footer(disk_size: u64, id: Guid, seconds: i64) -> [u8; footer::SIZE] {
    footer_of(disk_size, DiskType::Fixed, id, seconds)
}

/// The size is exact, and not rounded to what cylinders, heads and sectors can say, which is less for most sizes: the geometry is what
/// Virtual PC computes for the size. The creator is written as `win `, Hyper-V's: so `qemu-img`, as Hyper-V does, takes the size for the
/// size. Virtual PC itself, which goes by the geometry, sees the disk without its last sectors.
fn footer_of(disk_size: u64, disk_type: DiskType, id: Guid, seconds: i64) -> [u8; footer::SIZE] {
    Footer {
        data_offset: match disk_type {
            DiskType::Fixed => u64::MAX,
            DiskType::Dynamic | DiskType::Differencing => SECTOR,
        },
        timestamp: u32::try_from(seconds.saturating_sub(EPOCH)).unwrap_or(0),
        creator: *b"win ",
        current_size: disk_size,
        geometry: Geometry::of(disk_size),
        disk_type,
        unique_id: id,
        checksum_holds: true,
    }
    .encode()
}

/// A dynamic VHD with blocks of 2 MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    disk_size: u64,
}

impl Made {
    /// For a disk of `size` bytes, rounded up to whole sectors of 512 bytes.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) above 2040 GiB.
    pub(crate) fn new(size: u64) -> Result<Made> {
        Ok(Made {
            disk_size: disk_size(size)?,
        })
    }

    /// Bytes of the virtual disk.
    pub(crate) fn disk_size(&self) -> u64 {
        self.disk_size
    }

    /// Entries of the block table.
    pub(crate) fn entries(&self) -> u64 {
        self.disk_size.div_ceil(u64::from(BLOCK_SIZE))
    }

    /// Where the block table lies, and how many bytes it has with what fills its last sector.
    pub(crate) fn table(&self) -> (u64, u64) {
        let length = self.entries().saturating_mul(4);
        (TABLE, length.next_multiple_of(SECTOR))
    }

    /// How its blocks are to lie.
    ///
    /// # Errors
    /// None that can be met.
    pub(crate) fn layout(&self) -> Result<Layout> {
        let (table, length) = self.table();
        Ok(Layout {
            disk_size: self.disk_size,
            block_size: u64::from(BLOCK_SIZE),
            // All sectors count as written: what was not is a hole of the file and reads as zeros.
            prefix: vec![0xff; to_usize(bitmap::size(BLOCK_SIZE))?],
            // Whole pages, for disks with physical sectors of 4 KiB; the table's end is a sector's in any case.
            alignment: 4096,
            start: table.saturating_add(length),
        })
    }

    /// The table's entry of a block whose data lie at `place`; none for a block that is not there. Behind the last entry the
    /// table is filled with those of blocks that are not there.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if the place is too far for an entry.
    pub(crate) fn entry(place: Option<u64>) -> Result<[u8; 4]> {
        let Some(place) = place else {
            return Ok(UNUSED.to_be_bytes());
        };
        // The entry names the bitmap in front of the data, in sectors.
        let sector = place.saturating_sub(bitmap::size(BLOCK_SIZE)) >> 9;
        u32::try_from(sector)
            .map(u32::to_be_bytes)
            .map_err(|_| Error::unsupported("the VHD became too large"))
    }

    /// Everything but blocks and table, and where it belongs, if the last block ends at `end`: dynamic header, footer, and the
    /// footer's copy, which makes a VHD of it and is best written last. `seconds` since 1970 is when it was made.
    pub(crate) fn rest(&self, id: Guid, seconds: i64, end: u64) -> [(u64, Vec<u8>); 3] {
        let footer = footer_of(self.disk_size, DiskType::Dynamic, id, seconds).to_vec();
        let header = DynamicHeader {
            table_offset: TABLE,
            entries: u32::try_from(self.entries()).unwrap_or(UNUSED),
            block_size: BLOCK_SIZE,
        };
        [
            (SECTOR, header.encode().to_vec()),
            (end, footer.clone()),
            (0, footer),
        ]
    }

    /// Bytes of the file, if the last block ends at `end`.
    pub(crate) fn file_size(&self, end: u64) -> u64 {
        end.saturating_add(to_u64(footer::SIZE))
    }
}
