//! The boot sector with its "BIOS parameter block": sizes, and where everything lies (Microsoft FAT specification, section 3).

use super::heap::FIRST;
use super::table::Width;
use crate::ntfs::passing::is_passing;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result, View};
use std::ops::Range;

/// Bytes of a boot sector that are looked at.
const LENGTH: usize = 512;
/// The sector of FAT32's backup, wherever the first one does not say it.
const BACKUP: u64 = 6;

/// Where the root folder lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// FAT12 and FAT16: in a region of its own, in bytes of the volume.
    Region(Range<u64>),
    /// FAT32: in clusters, of which this is the first.
    Cluster(u32),
}

/// What a boot sector says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootSector {
    /// FAT12, FAT16 or FAT32.
    pub width: Width,
    /// Bytes, 512 to 4096, a power of two.
    pub sector_size: u32,
    /// Bytes, 512 to 512 KiB, a power of two.
    pub cluster_size: u32,
    /// Bytes of the volume.
    pub size: u64,
    /// Where the copies of the table begin, in bytes: the one that counts first; one alone where the others are not kept up to date.
    pub tables: Vec<u64>,
    /// Where the first cluster begins, in bytes.
    pub heap: u64,
    /// Number of clusters, as many as the table has entries for.
    pub clusters: u32,
    /// Clusters that the volume has room for and the table no entries.
    pub lost: u32,
    /// The root folder.
    pub root: Root,
    /// The volume's serial number.
    pub serial: Option<u32>,
    /// The label as it is stored.
    pub label: Option<[u8; 11]>,
    /// Whether the guest marked it as in use.
    pub dirty: bool,
    /// The sector of the backup, 0 if there is none.
    backup: u16,
}

/// Sizes as the fields tell them, in sectors if nothing else is said.
struct Sizes {
    sector: u32,
    per_cluster: u32,
    reserved: u32,
    tables: u32,
    /// Of one table.
    table: u32,
    /// Of the root folder's region.
    root: u32,
    total: u32,
    is_wide: bool,
}

impl BootSector {
    /// Reads the boot sector at the start of `device`, or FAT32's backup. The flag says that it was the backup.
    ///
    /// # Errors
    /// The first sector's [`Kind::Damaged`](cairn_base::Kind::Damaged) if both are bad; what may pass as the device reports it: the backup is used only
    /// where it is known that the first one is bad.
    pub fn read(device: &dyn ReadAt) -> Result<(BootSector, bool)> {
        let first = match BootSector::read_at(device, 0) {
            Ok(boot) => return Ok((boot, false)),
            Err(error) if is_passing(&error) => return Err(error),
            Err(error) => error,
        };
        match BootSector::backup(device)? {
            Some(boot) => Ok((boot, true)),
            None => Err(first),
        }
    }

    /// The backup of a FAT32 boot sector, if there is one. Where it lies depends on the size of a sector, which it must agree with.
    ///
    /// # Errors
    /// What may pass of what the device reports.
    pub fn backup(device: &dyn ReadAt) -> Result<Option<BootSector>> {
        for sector in [512u64, 1024, 2048, 4096] {
            let offset = sector.saturating_mul(BACKUP);
            match BootSector::read_at(device, offset) {
                Ok(boot)
                    if boot.width == Width::ThirtyTwo
                        && u64::from(boot.sector_size) == sector
                        && u64::from(boot.backup) == BACKUP =>
                {
                    return Ok(Some(boot));
                }
                Err(error) if is_passing(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(None)
    }

    fn read_at(device: &dyn ReadAt, offset: u64) -> Result<BootSector> {
        if offset
            .checked_add(512)
            .is_none_or(|end| end > device.size())
        {
            return Err(Error::damaged("the volume is too small for a boot sector"));
        }
        let bytes = read_vec(device, offset, LENGTH)?;
        let view = View::new(&bytes, "FAT boot sector", offset);
        if offset != 0 && view.u16_le(510)? != 0xAA55 {
            return Err(view.damaged(510, "the signature 55 AA is missing"));
        }
        BootSector::parse(view)
    }

    /// Decodes a boot sector. FAT has no mark of its own: what it says must be possible.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) where it is not.
    pub fn parse(view: View<'_>) -> Result<BootSector> {
        if !matches!(view.u8(0)?, 0xEB | 0xE9) {
            return Err(view.damaged(0, "it does not begin with a jump"));
        }
        let sizes = Sizes::parse(view)?;
        let used = sizes
            .tables
            .checked_mul(sizes.table)
            .and_then(|tables| tables.checked_add(sizes.reserved)?.checked_add(sizes.root))
            .filter(|&used| used < sizes.total)
            .ok_or_else(|| view.damaged(19, "there is no room for clusters"))?;
        let room = sizes
            .total
            .saturating_sub(used)
            .checked_div(sizes.per_cluster)
            .unwrap_or(0);
        let width = match room {
            0 => return Err(view.damaged(19, "there is no room for clusters")),
            _ if sizes.is_wide => Width::ThirtyTwo,
            1..4085 => Width::Twelve,
            4085..65525 => Width::Sixteen,
            _ => return Err(view.damaged(19, "there are more clusters than FAT16 can have")),
        };
        let sector = u64::from(sizes.sector);
        let bytes = |sectors: u32| u64::from(sectors).saturating_mul(sector);
        let entries = width.entries(bytes(sizes.table)).min(0x0FFF_FFF7);
        let known = u32::try_from(entries)
            .unwrap_or(u32::MAX)
            .saturating_sub(FIRST);
        if known == 0 {
            return Err(view.damaged(22, "the file allocation table has no room for entries"));
        }
        let heap = bytes(used);
        let root = if sizes.is_wide {
            Root::Cluster(view.u32_le(44)? & 0x0FFF_FFFF)
        } else {
            Root::Region(heap.saturating_sub(bytes(sizes.root))..heap)
        };
        // What follows the fields that differ is at the same place from here on.
        let extended = view.tail(if sizes.is_wide { 64 } else { 36 })?;
        let mark = extended.u8(2)?;
        Ok(BootSector {
            width,
            sector_size: sizes.sector,
            cluster_size: sizes.sector.saturating_mul(sizes.per_cluster),
            size: bytes(sizes.total),
            tables: sizes.active(if sizes.is_wide { view.u16_le(40)? } else { 0 }),
            heap,
            clusters: room.min(known),
            lost: room.saturating_sub(known),
            root,
            serial: matches!(mark, 0x28 | 0x29)
                .then(|| extended.u32_le(3))
                .transpose()?,
            label: (mark == 0x29).then(|| extended.array(7)).transpose()?,
            dirty: extended.u8(1)? & 1 != 0,
            backup: if sizes.is_wide { view.u16_le(50)? } else { 0 },
        })
    }
}

impl Sizes {
    fn parse(view: View<'_>) -> Result<Sizes> {
        let sector = u32::from(view.u16_le(11)?);
        if !matches!(sector, 512 | 1024 | 2048 | 4096) {
            return Err(view.damaged(11, "impossible sector size"));
        }
        let per_cluster = u32::from(view.u8(13)?);
        if !per_cluster.is_power_of_two() {
            return Err(view.damaged(13, "impossible cluster size"));
        }
        let reserved = u32::from(view.u16_le(14)?);
        let tables = u32::from(view.u8(16)?);
        if reserved == 0 || !(1..=4).contains(&tables) {
            return Err(view.damaged(14, "impossible number of sectors before the clusters"));
        }
        if !matches!(view.u8(21)?, 0xF0 | 0xF8..) {
            return Err(view.damaged(21, "impossible type of medium"));
        }
        let is_wide = view.u16_le(22)? == 0;
        let root = u32::from(view.u16_le(17)?)
            .saturating_mul(32)
            .div_ceil(sector);
        let table = match view.u16_le(22)? {
            0 => view.u32_le(36)?,
            short => u32::from(short),
        };
        let total = match view.u16_le(19)? {
            0 => view.u32_le(32)?,
            short => u32::from(short),
        };
        if table == 0 || (root == 0 && !is_wide) {
            return Err(view.damaged(22, "impossible sizes of table and root folder"));
        }
        Ok(Sizes {
            sector,
            per_cluster,
            reserved,
            tables,
            table,
            root,
            total,
            is_wide,
        })
    }

    /// Where the copies of the table that count begin. FAT32 may have turned mirroring off: then one is kept up to date.
    fn active(&self, flags: u16) -> Vec<u64> {
        let starts = (0..self.tables).map(|copy| {
            let sectors = u64::from(copy)
                .saturating_mul(u64::from(self.table))
                .saturating_add(u64::from(self.reserved));
            sectors.saturating_mul(u64::from(self.sector))
        });
        let starts: Vec<u64> = starts.collect();
        let only = starts.get(usize::from(flags & 0xF)).copied();
        match only {
            Some(only) if flags & 0x80 != 0 => vec![only],
            _ => starts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FAT16: 4 sectors a cluster, two tables of 32 sectors, 512 entries in the root folder.
    fn sixteen(change: impl Fn(&mut [u8; 512])) -> Result<BootSector> {
        let mut bytes = [0u8; 512];
        bytes[0] = 0xEB;
        bytes[11..13].copy_from_slice(&512u16.to_le_bytes());
        bytes[13] = 4;
        bytes[14] = 1;
        bytes[16] = 2;
        bytes[17..19].copy_from_slice(&512u16.to_le_bytes());
        bytes[19..21].copy_from_slice(&32_000u16.to_le_bytes());
        bytes[21] = 0xF8;
        bytes[22] = 32;
        bytes[38] = 0x29;
        change(&mut bytes);
        BootSector::parse(View::new(&bytes, "boot", 0))
    }

    #[test]
    fn regions_follow_each_other() {
        let boot = sixteen(|_| ()).unwrap();
        assert_eq!(boot.width, Width::Sixteen);
        assert_eq!(boot.tables, [512, 33 * 512]);
        assert_eq!(boot.root, Root::Region(65 * 512..97 * 512));
        assert_eq!((boot.heap, boot.clusters, boot.lost), (97 * 512, 7975, 0));
        assert_eq!((boot.serial, boot.dirty), (Some(0), false));
        assert!(sixteen(|b| b[37] = 1).unwrap().dirty);
        let short = sixteen(|b| b[22] = 20).unwrap();
        assert_eq!(
            (short.clusters, short.lost),
            (20 * 256 - 2, 7981 - 20 * 256 + 2)
        );
        let twelve = sixteen(|b| b[13] = 8).unwrap();
        assert_eq!(twelve.width, Width::Twelve);
    }

    #[test]
    fn fat32_has_its_root_in_clusters_and_says_which_table_counts() {
        let wide = |flags: u16| {
            sixteen(move |b| {
                b[17..21].fill(0);
                b[22] = 0;
                b[32..36].copy_from_slice(&400_000u32.to_le_bytes());
                b[36..40].copy_from_slice(&800u32.to_le_bytes());
                b[40..42].copy_from_slice(&flags.to_le_bytes());
                b[44] = 2;
                b[66] = 0x28;
                b[65] = 1;
                b[67] = 9;
            })
            .unwrap()
        };
        let boot = wide(0);
        assert_eq!(
            (boot.width, boot.root.clone()),
            (Width::ThirtyTwo, Root::Cluster(2))
        );
        assert_eq!((boot.serial, boot.label, boot.dirty), (Some(9), None, true));
        assert_eq!(boot.tables, [512, 801 * 512]);
        assert_eq!(wide(0x81).tables, [801 * 512]);
        assert_eq!(wide(0x80).tables, [512]);
        // One that does not exist.
        assert_eq!(wide(0x83).tables, [512, 801 * 512]);
    }

    #[test]
    fn impossible_sizes_are_damage() {
        for (at, value) in [
            (0, 0x33),
            (12, 0),
            (12, 3),
            (13, 0),
            (13, 3),
            (14, 0),
            (16, 0),
            (16, 9),
            (18, 0),
            (20, 0),
            (21, 0),
            (21, 0xF1),
            (22, 0),
        ] {
            assert!(sixteen(|b| b[at] = value).is_err(), "{at} {value}");
        }
        // More clusters than FAT16 can count.
        let large = sixteen(|b| {
            b[19..21].fill(0);
            b[32..36].copy_from_slice(&400_000u32.to_le_bytes());
        });
        assert!(large.is_err());
    }
}
