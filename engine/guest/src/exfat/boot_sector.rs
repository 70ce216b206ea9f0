//! The main and the backup boot region: twelve sectors each, of which the last holds the checksum of the others (specification, section 3).

use crate::fat::heap::FIRST;
use crate::ntfs::passing::is_passing;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result, View};

/// Bytes of a boot sector.
const LENGTH: usize = 512;
/// Sectors of a boot region that the checksum is of.
const SUMMED: u64 = 11;
/// The first sector of the backup.
const BACKUP: u64 = 12;

/// What a boot sector says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootSector {
    /// Bytes, 512 to 4096, a power of two.
    pub sector_size: u32,
    /// Bytes, 512 to 32 MiB, a power of two.
    pub cluster_size: u32,
    /// Bytes of the volume.
    pub size: u64,
    /// Where the tables begin in bytes: one, or two in TexFAT.
    pub tables: Vec<u64>,
    /// Bytes of one table.
    pub table_length: u64,
    /// Which of them counts, 0 or 1; so do the maps of clusters.
    pub active: u8,
    /// Where the first cluster begins, in bytes.
    pub heap: u64,
    /// Number of clusters.
    pub clusters: u32,
    /// First cluster of the root folder.
    pub root: u32,
    /// The volume's serial number.
    pub serial: u32,
    /// Whether the guest marked it as in use.
    pub dirty: bool,
    /// Whether the guest found that the medium fails.
    pub failing: bool,
}

/// Which boot region was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// The main one.
    Main,
    /// The main one, although its checksum is wrong: the backup is no better.
    Doubtful,
    /// The backup.
    Backup,
}

impl BootSector {
    /// Reads the main boot region of `device`, or its backup.
    ///
    /// # Errors
    /// The main one's [`Kind::Damaged`](cairn_base::Kind::Damaged) if neither has a boot sector that can be; what may pass as the device reports it:
    /// the backup is used only where it is known that the main one is bad.
    pub fn read(device: &dyn ReadAt) -> Result<(BootSector, Region)> {
        let main = BootSector::read_at(device, 0);
        match &main {
            Ok(boot) if is_sound(device, 0, boot.sector_size)? => {
                return Ok((boot.clone(), Region::Main));
            }
            Err(error) if is_passing(error) => return Err(error.clone()),
            Ok(_) | Err(_) => {}
        }
        match (BootSector::backup(device)?, main) {
            (Some(mut boot), main) => {
                // The state of the volume is not kept in the backup.
                if let Ok(main) = main {
                    boot.active = main.active;
                    boot.dirty = main.dirty;
                    boot.failing = main.failing;
                }
                Ok((boot, Region::Backup))
            }
            (None, Ok(boot)) => Ok((boot, Region::Doubtful)),
            (None, Err(error)) => Err(error),
        }
    }

    /// The boot sector of the backup region, if there is one whose checksum is right. Where it lies depends on the size of a sector, which it must agree with.
    ///
    /// # Errors
    /// What may pass of what the device reports.
    pub fn backup(device: &dyn ReadAt) -> Result<Option<BootSector>> {
        for sector in [512u32, 1024, 2048, 4096] {
            let offset = u64::from(sector).saturating_mul(BACKUP);
            match BootSector::read_at(device, offset) {
                Ok(boot) if boot.sector_size == sector && is_sound(device, offset, sector)? => {
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
        BootSector::parse(View::new(&bytes, "exFAT boot sector", offset))
    }

    /// Decodes a boot sector.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for versions other than 1.
    pub fn parse(view: View<'_>) -> Result<BootSector> {
        if view.slice(3, 8)? != b"EXFAT   " {
            return Err(view.damaged(3, "the name `EXFAT` is missing"));
        }
        let revision = view.u16_le(104)?;
        if revision >> 8 != 1 {
            return Err(Error::unsupported(format!(
                "exFAT of version {}.{} is not read",
                revision >> 8,
                revision & 0xFF
            )));
        }
        let shift = |at: usize, range: std::ops::RangeInclusive<u8>| {
            let value = view.u8(at)?;
            if range.contains(&value) {
                Ok(1u32.checked_shl(u32::from(value)).unwrap_or(1))
            } else {
                Err(view.damaged(at, "impossible size of sectors or clusters"))
            }
        };
        let sector_size = shift(108, 9..=12)?;
        let cluster_size = sector_size
            .checked_mul(shift(109, 0..=25)?)
            .filter(|&size| size <= 32 << 20)
            .ok_or_else(|| view.damaged(109, "impossible cluster size"))?;
        let sector = u64::from(sector_size);
        let sectors =
            |at: usize| Ok::<u64, Error>(u64::from(view.u32_le(at)?).saturating_mul(sector));
        let size = view
            .u64_le(72)?
            .checked_mul(sector)
            .filter(|&size| size > 0 && i64::try_from(size).is_ok())
            .ok_or_else(|| view.damaged(72, "impossible volume size"))?;
        let (table, table_length, heap) = (sectors(80)?, sectors(84)?, sectors(88)?);
        let count = view.u8(110)?;
        let clusters = view.u32_le(92)?;
        let tables: Vec<u64> = (0..u64::from(count))
            .map(|copy| copy.saturating_mul(table_length).saturating_add(table))
            .collect();
        let entries = u64::from(clusters).saturating_add(u64::from(FIRST));
        let is_possible = matches!(count, 1 | 2)
            && (1..=0xFFFF_FFF5).contains(&clusters)
            && table >= sector.saturating_mul(BACKUP.saturating_mul(2))
            && table_length / 4 >= entries
            && heap >= table.saturating_add(table_length.saturating_mul(u64::from(count)))
            && u64::from(clusters)
                .checked_mul(u64::from(cluster_size))
                .and_then(|bytes| bytes.checked_add(heap))
                .is_some_and(|end| end <= size);
        if !is_possible {
            return Err(view.damaged(80, "table and clusters do not fit the volume"));
        }
        let flags = view.u16_le(106)?;
        Ok(BootSector {
            sector_size,
            cluster_size,
            size,
            active: u8::from(flags & 1 != 0 && count == 2),
            tables,
            table_length,
            heap,
            clusters,
            root: view.u32_le(96)?,
            serial: view.u32_le(100)?,
            dirty: flags & 2 != 0,
            failing: flags & 4 != 0,
        })
    }
}

/// Whether the boot region at byte `start` can be read and its checksum is right.
///
/// # Errors
/// What may pass.
fn is_sound(device: &dyn ReadAt, start: u64, sector: u32) -> Result<bool> {
    match is_summed(device, start, sector) {
        Err(error) if is_passing(&error) => Err(error),
        read => Ok(read.unwrap_or(false)),
    }
}

fn is_summed(device: &dyn ReadAt, start: u64, sector: u32) -> Result<bool> {
    let sector = u64::from(sector);
    let length = usize::try_from(sector.saturating_mul(SUMMED)).unwrap_or(0);
    let bytes = read_vec(device, start, length)?;
    let mut sum = 0u32;
    for (at, byte) in bytes.iter().enumerate() {
        // The state of the volume, which changes without the sum, is left out.
        if !matches!(at, 106 | 107 | 112) {
            sum = sum.rotate_right(1).wrapping_add(u32::from(*byte));
        }
    }
    let mut stored = [0; 4];
    let at = start.saturating_add(sector.saturating_mul(SUMMED));
    cairn_base::read_at::check_range(device.size(), at, stored.len())?;
    device.read_exact_at(at, &mut stored)?;
    Ok(u32::from_le_bytes(stored) == sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(change: impl Fn(&mut [u8; 512])) -> Result<BootSector> {
        let mut bytes = [0u8; 512];
        bytes[3..11].copy_from_slice(b"EXFAT   ");
        bytes[72..80].copy_from_slice(&20_000u64.to_le_bytes());
        bytes[80] = 128;
        bytes[84] = 20;
        bytes[88..92].copy_from_slice(&256u32.to_le_bytes());
        bytes[92..96].copy_from_slice(&2400u32.to_le_bytes());
        bytes[96] = 4;
        bytes[105] = 1;
        bytes[108..111].copy_from_slice(&[9, 3, 1]);
        change(&mut bytes);
        BootSector::parse(View::new(&bytes, "boot", 0))
    }

    #[test]
    fn sizes_are_powers_of_two() {
        let boot = sector(|_| ()).unwrap();
        assert_eq!((boot.sector_size, boot.cluster_size), (512, 4096));
        assert_eq!(
            (boot.tables.clone(), boot.heap),
            (vec![128 * 512], 256 * 512)
        );
        assert_eq!((boot.active, boot.dirty, boot.failing), (0, false, false));
        let two = sector(|b| {
            b[110] = 2;
            b[106] = 7;
        })
        .unwrap();
        assert_eq!(two.tables, [128 * 512, 148 * 512]);
        assert_eq!((two.active, two.dirty, two.failing), (1, true, true));
    }

    #[test]
    fn impossible_sizes_are_damage() {
        for (at, value) in [
            (73, 1),
            (79, 1),
            (80, 1),
            (84, 1),
            (89, 0),
            (95, 1),
            (108, 8),
            (108, 13),
            (109, 26),
            (109, 17),
            (110, 0),
            (110, 3),
            (3, 0),
        ] {
            assert!(sector(|b| b[at] = value).is_err(), "{at} {value}");
        }
        let error = sector(|b| b[105] = 2).unwrap_err();
        assert_eq!(error.kind(), cairn_base::Kind::Unsupported);
    }
}
