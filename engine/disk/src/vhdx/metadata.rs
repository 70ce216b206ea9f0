//! The metadata, \[MS-VHDX\] 2.6: sizes, sector sizes, the disk's own id.

use super::{ALIGNMENT, MAX_SIZE};
use crate::align::is_multiple;
use crate::check::{Check, Topic};
use crate::guid::Guid;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, View};
use std::ops::Range;

/// Bytes of the table at the start of the region; the items lie behind it.
pub const TABLE_SIZE: usize = 64 << 10;

/// Block size and flags (2.6.2.1).
pub const FILE_PARAMETERS: Guid = Guid::from_printed(0xCAA16737_FA36_4D43_B3B6_33F0AA44E76B);
/// Bytes of the virtual disk (2.6.2.2).
pub const VIRTUAL_DISK_SIZE: Guid = Guid::from_printed(0x2FA54224_CD1B_4876_B211_5DBED83BF4B8);
/// The disk's own id (2.6.2.3).
pub const VIRTUAL_DISK_ID: Guid = Guid::from_printed(0xBECA12AB_B2E6_4523_93EF_C309E000C746);
/// Bytes of a logical sector (2.6.2.4).
pub const LOGICAL_SECTOR_SIZE: Guid = Guid::from_printed(0x8141BF1D_A96F_4709_BA47_F233A8FAAB5F);
/// Bytes of a physical sector (2.6.2.5).
pub const PHYSICAL_SECTOR_SIZE: Guid = Guid::from_printed(0xCDA348C7_445D_4471_9CC9_E9885251C556);
/// Where a differencing disk's parent is (2.6.2.6).
pub const PARENT_LOCATOR: Guid = Guid::from_printed(0xA8D35F2D_B30B_454D_ABF7_D3D84834AB0C);

const SIGNATURE: &[u8; 8] = b"metadata";
const MAX_ENTRIES: u16 = 2047;
const ENTRY: usize = 32;
/// "The sum of all items": no item is larger than this (2.6.1.2).
const MAX_ITEM: u32 = 1 << 20;

const IS_USER: u32 = 1;
const IS_VIRTUAL_DISK: u32 = 2;
const IS_REQUIRED: u32 = 4;

/// What the metadata say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Bytes of a block: a power of two from 1 to 256 MiB.
    pub block_size: u32,
    /// Blocks stay allocated: a fixed disk.
    pub leave_allocated: bool,
    /// Bytes of the virtual disk: at most 64 TiB, a multiple of the logical sector.
    pub disk_size: u64,
    /// The disk's own id.
    pub disk_id: Guid,
    /// Bytes of a logical sector, 512 or 4096.
    pub logical_sector: u32,
    /// Bytes of a physical sector, 512 or 4096.
    pub physical_sector: u32,
    /// A differencing disk's parent locator: its bytes, and where they lay.
    pub parent: Option<(u64, Vec<u8>)>,
}

/// Where the items lie in the file, each once.
#[derive(Default)]
struct Items {
    found: Vec<(Guid, Range<u64>)>,
}

impl Items {
    fn parse(image: &dyn ReadAt, region: &Range<u64>) -> Result<Items> {
        let table = read_vec(image, region.start, TABLE_SIZE)?;
        let view = View::new(&table, "VHDX metadata table", region.start);
        if view.slice(0, 8)? != SIGNATURE {
            return Err(view.damaged(0, "does not begin with `metadata`"));
        }
        let count = view.u16_le(10)?;
        if count > MAX_ENTRIES {
            return Err(view.damaged(10, &format!("{count} entries are more than {MAX_ENTRIES}")));
        }
        let known = [
            FILE_PARAMETERS,
            VIRTUAL_DISK_SIZE,
            VIRTUAL_DISK_ID,
            LOGICAL_SECTOR_SIZE,
            PHYSICAL_SECTOR_SIZE,
            PARENT_LOCATOR,
        ];
        let mut items = Items::default();
        for index in 1..=usize::from(count) {
            let entry = view.part(index.saturating_mul(ENTRY), ENTRY, "VHDX metadata entry")?;
            let id = Guid::from_windows(entry.array(0)?);
            let flags = entry.u32_le(24)?;
            if flags & IS_USER != 0 || !known.contains(&id) {
                if flags & IS_REQUIRED != 0 {
                    return Err(Error::unsupported(format!(
                        "the VHDX needs the metadata item {id}, which is not known"
                    ))
                    .at_offset(entry.base()));
                }
                continue;
            }
            let (offset, length) = (entry.u32_le(16)?, entry.u32_le(20)?);
            let start = region.start.saturating_add(u64::from(offset));
            let end = start.saturating_add(u64::from(length));
            if u64::from(offset) < to_u64(TABLE_SIZE) || length > MAX_ITEM || end > region.end {
                return Err(entry.damaged(
                    16,
                    &format!(
                        "item {id} is said to have {length} bytes at {offset}, where it cannot be"
                    ),
                ));
            }
            if items.range(id).is_some() {
                return Err(entry.damaged(0, &format!("item {id} is named twice")));
            }
            items.found.push((id, start..end));
        }
        Ok(items)
    }

    fn range(&self, id: Guid) -> Option<Range<u64>> {
        let (_, range) = self.found.iter().find(|(found, _)| *found == id)?;
        Some(range.clone())
    }

    /// The first `N` bytes of an item that must be there.
    fn get<const N: usize>(&self, image: &dyn ReadAt, id: Guid) -> Result<[u8; N]> {
        let Some(range) = self.range(id) else {
            return Err(Error::damaged(format!(
                "the VHDX lacks the metadata item {id}"
            )));
        };
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
        let bytes = read_vec(image, range.start, length.min(N))?;
        View::new(&bytes, "VHDX metadata item", range.start).array(0)
    }
}

/// Items that lie over each other, in `region` of `image`, or have not the length that theirs have.
///
/// # Errors
/// What the image says when it is read.
pub(super) fn check(image: &dyn ReadAt, region: &Range<u64>, check: &mut Check<'_>) -> Result<()> {
    let Some(mut items) = check.take(Topic::Structure, Items::parse(image, region))? else {
        return Ok(());
    };
    let lengths = [
        (FILE_PARAMETERS, 8),
        (VIRTUAL_DISK_SIZE, 8),
        (VIRTUAL_DISK_ID, 16),
        (LOGICAL_SECTOR_SIZE, 4),
        (PHYSICAL_SECTOR_SIZE, 4),
    ];
    for (id, length) in lengths {
        let found = items.range(id).unwrap_or(0..0);
        let bytes = found.end.saturating_sub(found.start);
        if bytes != length {
            check.fault(Topic::Structure, found.start.max(region.start), || {
                format!("the metadata item {id} has {bytes} bytes, and {length} are right")
            });
        }
    }
    items.found.sort_by_key(|(_, range)| range.start);
    let pairs = items.found.iter().zip(items.found.iter().skip(1));
    for ((one, range), (other, next)) in pairs {
        if next.start < range.end {
            check.fault(Topic::Overlap, next.start, || {
                format!("the metadata items {one} and {other} share bytes")
            });
        }
    }
    Ok(())
}

impl Metadata {
    /// Reads the metadata in `region` of `image`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for what the specification rules out,
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for a required item that is not known.
    pub fn read(image: &dyn ReadAt, region: &Range<u64>) -> Result<Metadata> {
        let items = Items::parse(image, region)?;
        let parameters: [u8; 8] = items.get(image, FILE_PARAMETERS)?;
        let view = View::new(&parameters, "VHDX file parameters", region.start);
        let (block_size, flags) = (view.u32_le(0)?, view.u32_le(4)?);
        if !block_size.is_power_of_two() || !(1 << 20..=256 << 20).contains(&block_size) {
            return Err(view.damaged(
                0,
                &format!("{block_size} bytes are no block size (1 to 256 MiB)"),
            ));
        }
        let logical_sector = u32::from_le_bytes(items.get(image, LOGICAL_SECTOR_SIZE)?);
        let physical_sector = u32::from_le_bytes(items.get(image, PHYSICAL_SECTOR_SIZE)?);
        for (name, size) in [("logical", logical_sector), ("physical", physical_sector)] {
            if size != 512 && size != 4096 {
                return Err(Error::damaged(format!(
                    "the VHDX says its {name} sectors have {size} bytes; they have 512 or 4096"
                )));
            }
        }
        let disk_size = u64::from_le_bytes(items.get(image, VIRTUAL_DISK_SIZE)?);
        if disk_size > MAX_SIZE || !is_multiple(disk_size, u64::from(logical_sector)) {
            return Err(Error::damaged(format!(
                "the VHDX says it has {disk_size} bytes; it has whole sectors and at most 64 TiB"
            )));
        }
        let parent = match items.range(PARENT_LOCATOR) {
            _ if flags & 2 == 0 => None,
            // No locator to be read does not make it less of a differencing disk.
            None => Some((region.start, Vec::new())),
            Some(range) => {
                let length = range
                    .end
                    .saturating_sub(range.start)
                    .min(u64::from(MAX_ITEM));
                let length = usize::try_from(length).unwrap_or(0);
                Some((range.start, read_vec(image, range.start, length)?))
            }
        };
        Ok(Metadata {
            block_size,
            leave_allocated: flags & 1 != 0,
            disk_size,
            disk_id: Guid::from_windows(items.get(image, VIRTUAL_DISK_ID)?),
            logical_sector,
            physical_sector,
            parent,
        })
    }

    /// The region as it is written, padded to 1 MiB. A parent is not written.
    pub fn encode(&self) -> Vec<u8> {
        let parameters = [
            self.block_size.to_le_bytes(),
            u32::from(self.leave_allocated).to_le_bytes(),
        ]
        .concat();
        let items: [(Guid, u32, Vec<u8>); 5] = [
            (FILE_PARAMETERS, IS_REQUIRED, parameters),
            (
                VIRTUAL_DISK_SIZE,
                IS_REQUIRED | IS_VIRTUAL_DISK,
                self.disk_size.to_le_bytes().to_vec(),
            ),
            (
                VIRTUAL_DISK_ID,
                IS_REQUIRED | IS_VIRTUAL_DISK,
                self.disk_id.to_windows().to_vec(),
            ),
            (
                LOGICAL_SECTOR_SIZE,
                IS_REQUIRED | IS_VIRTUAL_DISK,
                self.logical_sector.to_le_bytes().to_vec(),
            ),
            (
                PHYSICAL_SECTOR_SIZE,
                IS_REQUIRED | IS_VIRTUAL_DISK,
                self.physical_sector.to_le_bytes().to_vec(),
            ),
        ];
        let mut table = Vec::with_capacity(TABLE_SIZE);
        table.extend_from_slice(SIGNATURE);
        table.extend_from_slice(&[0; 2]);
        table.extend_from_slice(&5u16.to_le_bytes());
        table.resize(ENTRY, 0);
        let mut values = Vec::new();
        for (id, flags, value) in &items {
            let offset = u32::try_from(TABLE_SIZE.saturating_add(values.len())).unwrap_or(u32::MAX);
            let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
            table.extend_from_slice(&id.to_windows());
            table.extend_from_slice(&offset.to_le_bytes());
            table.extend_from_slice(&length.to_le_bytes());
            table.extend_from_slice(&flags.to_le_bytes());
            table.extend_from_slice(&[0; 4]);
            values.extend_from_slice(value);
        }
        table.resize(TABLE_SIZE, 0);
        table.extend_from_slice(&values);
        table.resize(usize::try_from(ALIGNMENT).unwrap_or(TABLE_SIZE), 0);
        table
    }
}

#[cfg(test)]
mod tests;
