//! The boot sector (`$Boot`): sizes and where the file table lies.

use super::cluster::Lcn;
use super::passing::is_passing;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, View};

/// Bytes of a boot sector that are looked at.
const LENGTH: usize = 512;

/// What a boot sector says ("BIOS parameter block" of NTFS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootSector {
    /// Bytes, 256 to 4096, a power of two.
    pub sector_size: u32,
    /// Bytes, 256 to 2 MiB, a power of two.
    pub cluster_size: u32,
    /// Sectors of the volume, without the backup boot sector behind it.
    pub sectors: u64,
    /// Where `$MFT` begins.
    pub mft: Lcn,
    /// Where `$MFTMirr` begins.
    pub mirror: Lcn,
    /// Bytes of a file record, 512 to 64 KiB, a power of two.
    pub record_size: u32,
    /// The volume's serial number.
    pub serial: u64,
}

impl BootSector {
    /// Reads the boot sector at the start of `device`, or the backup in its last sector. The flag says that it
    /// was the backup.
    ///
    /// # Errors
    /// The first sector's [`Kind::Damaged`](cairn_base::Kind::Damaged) if both are bad; what passes, as the disk
    /// reports it.
    pub fn read(device: &dyn ReadAt) -> Result<(BootSector, bool)> {
        let first = match BootSector::read_at(device, 0) {
            Ok(boot) => return Ok((boot, false)),
            Err(error) if is_passing(&error) => return Err(error),
            Err(error) => error,
        };
        for sector in [512u64, 1024, 2048, 4096] {
            let Some(offset) = device.size().checked_sub(sector).filter(|&at| at > 0) else {
                continue;
            };
            match BootSector::read_at(device, offset) {
                Ok(boot) if u64::from(boot.sector_size) == sector => return Ok((boot, true)),
                Err(error) if is_passing(&error) => return Err(error),
                _ => {}
            }
        }
        Err(first)
    }

    fn read_at(device: &dyn ReadAt, offset: u64) -> Result<BootSector> {
        if offset
            .checked_add(to_u64(LENGTH))
            .is_none_or(|end| end > device.size())
        {
            return Err(Error::damaged("the volume is too small for a boot sector"));
        }
        let mut bytes = [0; LENGTH];
        device.read_exact_at(offset, &mut bytes)?;
        BootSector::parse(View::new(&bytes, "NTFS boot sector", offset))
    }

    /// Decodes a boot sector.
    pub fn parse(view: View<'_>) -> Result<BootSector> {
        if view.slice(3, 8)? != b"NTFS    " {
            return Err(view.damaged(3, "the name `NTFS` is missing"));
        }
        let sector_size = u32::from(view.u16_le(0x0B)?);
        if !sector_size.is_power_of_two() || !(256..=4096).contains(&sector_size) {
            return Err(view.damaged(0x0B, "impossible sector size"));
        }
        let per_cluster = match view.u8(0x0D)? {
            count @ 1..=128 => u32::from(count),
            // Larger clusters: the negative exponent of two.
            exponent => 1u32
                .checked_shl(256u32.saturating_sub(u32::from(exponent)))
                .unwrap_or(0),
        };
        let cluster_size = per_cluster
            .checked_mul(sector_size)
            .filter(|&size| size.is_power_of_two() && (256..=2 << 20).contains(&size))
            .ok_or_else(|| view.damaged(0x0D, "impossible cluster size"))?;
        let sectors = view.u64_le(0x28)?;
        if sectors == 0 || sectors > 1 << 54 {
            return Err(view.damaged(0x28, "impossible volume size"));
        }
        let record_size = record_size(view.u8(0x40)?, cluster_size)
            .ok_or_else(|| view.damaged(0x40, "impossible file record size"))?;
        Ok(BootSector {
            sector_size,
            cluster_size,
            sectors,
            mft: Lcn(view.u64_le(0x30)?),
            mirror: Lcn(view.u64_le(0x38)?),
            record_size,
            serial: view.u64_le(0x48)?,
        })
    }

    /// Clusters of the volume.
    pub fn clusters(&self) -> u64 {
        self.bytes()
            .checked_div(u64::from(self.cluster_size))
            .unwrap_or(0)
    }

    /// Bytes of the volume.
    pub fn bytes(&self) -> u64 {
        self.sectors.saturating_mul(u64::from(self.sector_size))
    }
}

/// The size of file records: a count of clusters, or the negative exponent of two of a size in bytes.
fn record_size(code: u8, cluster_size: u32) -> Option<u32> {
    let size = if code < 128 {
        u32::from(code).checked_mul(cluster_size)?
    } else {
        1u32.checked_shl(256u32.checked_sub(u32::from(code))?)?
    };
    (size.is_power_of_two() && (512..=64 << 10).contains(&size)).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(change: impl Fn(&mut [u8; 512])) -> Result<BootSector> {
        let mut bytes = [0u8; 512];
        bytes[3..11].copy_from_slice(b"NTFS    ");
        bytes[0x0B..0x0D].copy_from_slice(&512u16.to_le_bytes());
        bytes[0x0D] = 8;
        bytes[0x28..0x30].copy_from_slice(&1000u64.to_le_bytes());
        bytes[0x40] = 0xF6;
        change(&mut bytes);
        BootSector::parse(View::new(&bytes, "boot", 0))
    }

    #[test]
    fn sizes_are_counts_or_negative_exponents() {
        let boot = sector(|_| ()).unwrap();
        assert_eq!(
            (boot.cluster_size, boot.record_size, boot.clusters()),
            (4096, 1024, 125)
        );
        assert_eq!(sector(|b| b[0x0D] = 128).unwrap().cluster_size, 64 << 10);
        assert_eq!(sector(|b| b[0x0D] = 0xF4).unwrap().cluster_size, 2 << 20);
        assert_eq!(sector(|b| b[0x40] = 1).unwrap().record_size, 4096);
        let wide = sector(|b| b[0x0B..0x0D].copy_from_slice(&4096u16.to_le_bytes())).unwrap();
        assert_eq!(wide.cluster_size, 32 << 10);
    }

    #[test]
    fn impossible_sizes_are_damage() {
        for (at, value) in [
            (0x0D, 0),
            (0x0D, 3),
            (0x0D, 0xF0),
            (0x0D, 0x81),
            (0x40, 0),
            (0x40, 0xE0),
            (0x40, 3),
            (0x0C, 3),
        ] {
            assert!(sector(|b| b[at] = value).is_err(), "{at:#x} {value:#x}");
        }
        assert!(sector(|b| b[0x28..0x30].fill(0)).is_err());
        assert!(sector(|b| b[0x28..0x30].fill(0xFF)).is_err());
    }
}
