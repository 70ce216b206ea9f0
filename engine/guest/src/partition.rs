//! Partition tables: which ranges of a disk are partitions, numbered as the guest's Linux kernel numbers them.
//!
//! - [`gpt`]: the GUID partition table (UEFI specification, chapter 5)
//! - [`mbr`]: the DOS partition table with its chain of logical partitions
//!
//! Where formats leave room, this does what the Linux kernel does (`block/partitions/`): the same disk then shows
//! the same numbers inside and outside of the guest. It is milder in one thing: damage that leaves a table readable
//! is a warning, not the end of it.

mod gpt;
mod mbr;
#[cfg(test)]
mod tests;

pub use gpt::guid_text;

use cairn_base::{ReadAt, Result, Section};
use std::sync::Arc;

/// What sort of table a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableKind {
    /// No table: the whole disk may be one file system.
    None,
    /// A DOS table in sector 0.
    Mbr,
    /// A GUID table.
    Gpt,
}

/// The type of a partition, as its table says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartitionKind {
    /// The type byte of a DOS table.
    Byte(u8),
    /// The type GUID, in the byte order of the disk.
    Guid([u8; 16]),
}

impl std::fmt::Display for PartitionKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PartitionKind::Byte(byte) => write!(f, "{byte:02x}"),
            PartitionKind::Guid(guid) => f.write_str(&gpt::guid_text(guid)),
        }
    }
}

/// What tells a volume from all others, as the mount manager of Windows records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceId {
    /// A partition of a DOS table: the disk's signature, and where the partition begins, in bytes of the disk.
    Place {
        /// The signature in the first sector.
        signature: u32,
        /// Offset in bytes.
        start: u64,
    },
    /// The unique GUID of a partition of a GPT, or of a volume over several disks, in the byte order of the disk.
    Guid([u8; 16]),
}

/// Types of GPT partitions on disks of Windows, in the byte order of the disk, and what they are called.
const GPT_NAMES: &[(&[u8; 16], &str)] = &[
    (
        b"\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b",
        "EFI system",
    ),
    (
        b"\x16\xe3\xc9\xe3\x5c\x0b\xb8\x4d\x81\x7d\xf9\x2d\xf0\x02\x15\xae",
        "Microsoft Reserved",
    ),
    (
        b"\xa2\xa0\xd0\xeb\xe5\xb9\x33\x44\x87\xc0\x68\xb6\xb7\x26\x99\xc7",
        "basic data",
    ),
    (
        b"\xa4\xbb\x94\xde\xd1\x06\x40\x4d\xa1\x6a\xbf\xd5\x01\x79\xd6\xac",
        "Windows Recovery",
    ),
    (
        b"\xaa\xc8\x08\x58\x8f\x7e\xe0\x42\x85\xd2\xe1\xe9\x04\x34\xcf\xb3",
        "LDM metadata",
    ),
    (
        b"\xa0\x60\x9b\xaf\x31\x14\x62\x4f\xbc\x68\x33\x11\x71\x4a\x69\xad",
        "LDM data",
    ),
    (
        b"\x8f\xaf\x5c\xe7\x80\xf6\xee\x4c\xaf\xa3\xb0\x01\xe5\x6e\xfc\x2d",
        "Storage Spaces",
    ),
    (
        b"\xc5\x43\x8d\x55\xac\xa1\xc0\x43\xaa\xc8\xd1\x47\x2b\x29\x23\xd1",
        "Storage Replica",
    ),
];

impl PartitionKind {
    /// What partitions of this type are called, as far as disks of Windows have them.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            PartitionKind::Byte(0x42) => Some("LDM"),
            PartitionKind::Byte(0x27) => Some("Windows Recovery"),
            PartitionKind::Byte(_) => None,
            PartitionKind::Guid(guid) => {
                let found = GPT_NAMES.iter().find(|(known, _)| *known == guid);
                found.map(|(_, name)| *name)
            }
        }
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// As the guest's kernel counts it: MBR primary 1-4, logical from 5; GPT entry from 1.
    pub number: u32,
    /// Offset of the first byte on the disk.
    pub start: u64,
    /// Length in bytes, as the table says; may reach beyond the disk's end.
    pub size: u64,
    /// Bytes of it that the disk really has; 0 if it starts beyond the end.
    pub available: u64,
    /// The type.
    pub kind: PartitionKind,
    /// The name (GPT), empty if none.
    pub name: String,
    /// Its unique id as Linux prints it (PARTUUID).
    pub id: String,
    /// Its unique id as Windows records it.
    pub device_id: DeviceId,
}

impl Partition {
    /// Whether this is the DOS container of logical partitions, which holds no file system itself.
    pub fn is_container(&self) -> bool {
        matches!(self.kind, PartitionKind::Byte(0x05 | 0x0f | 0x85))
    }

    /// The partition's bytes, as far as the disk has them.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if `disk` is not the disk the table was read from.
    pub fn open(&self, disk: &Arc<dyn ReadAt>) -> Result<Section> {
        let start = if self.available == 0 { 0 } else { self.start };
        Section::new(disk.clone(), start, self.available)
    }

    /// Clips to `disk_size` as the kernel does, with a warning.
    fn clip(&mut self, disk_size: u64, warnings: &mut Vec<String>) {
        let left = disk_size.saturating_sub(self.start);
        self.available = self.size.min(left);
        if left == 0 {
            warnings.push(format!(
                "partition {} starts beyond the end of the disk",
                self.number
            ));
        } else if self.available < self.size {
            warnings.push(format!(
                "partition {} ends beyond the end of the disk",
                self.number
            ));
        }
    }
}

/// The partitions of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionTable {
    /// What sort of table it is.
    pub kind: TableKind,
    /// The partitions, by number.
    pub partitions: Vec<Partition>,
    /// The disk's own id: the GUID, or the signature of a DOS table in hexadecimal; empty if none.
    pub disk_id: String,
    /// Bytes of a logical sector that the table was read with.
    pub sector_size: u32,
    /// What is wrong with it. Sentences.
    pub warnings: Vec<String>,
}

impl PartitionTable {
    fn none(sector_size: u32) -> PartitionTable {
        PartitionTable {
            kind: TableKind::None,
            partitions: Vec::new(),
            disk_id: String::new(),
            sector_size,
            warnings: Vec::new(),
        }
    }

    /// Reads the table of `disk`. `sector_size` is the size of a logical sector where the disk image tells it (VHDX);
    /// otherwise 512 and then 4096 are tried.
    ///
    /// # Errors
    /// Only what the disk itself reports: a damaged table is [`TableKind::None`] with warnings.
    pub fn read(disk: &Arc<dyn ReadAt>, sector_size: Option<u32>) -> Result<PartitionTable> {
        let sizes: &[u32] = match &sector_size {
            Some(size) => std::slice::from_ref(size),
            None => &[512, 4096],
        };
        let first = sizes.first().copied().unwrap_or(512);
        let Some(boot) = mbr::BootSector::read(disk.as_ref())? else {
            return Ok(PartitionTable::none(first));
        };
        let mut warnings = Vec::new();
        if boot.is_protective() {
            for &size in sizes {
                if let Some(table) = gpt::read(disk.as_ref(), size, &mut warnings)? {
                    return Ok(table);
                }
            }
            // The kernel does not read a DOS table with a protective entry either.
            warnings
                .push("the protective partition table has no readable GPT behind it".to_string());
            return Ok(PartitionTable {
                warnings,
                ..PartitionTable::none(first)
            });
        }
        if !boot.is_table(disk.size(), first) {
            return Ok(PartitionTable::none(first));
        }
        boot.table(disk.as_ref(), sector_size)
    }
}
