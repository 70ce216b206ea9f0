//! The DOS partition table: four entries at byte 446 of sector 0, the signature 55 AA at its end, and a chain of
//! tables inside an extended partition. Read as `block/partitions/msdos.c` of Linux does.

use super::{DeviceId, Partition, PartitionKind, PartitionTable, TableKind};
use cairn_base::read_at::read_vec;
use cairn_base::{ReadAt, Result, View};
use std::collections::HashSet;

/// Linux stops at 256 minors a disk.
const MAX_NUMBER: u32 = 255;
/// Tables of a chain without a partition in them that are followed, as in Linux.
const MAX_EMPTY_LINKS: u32 = 100;

const SECTOR: usize = 512;
const ENTRIES_AT: usize = 446;
const PROTECTIVE: u8 = 0xee;

/// One 16-byte entry.
#[derive(Debug, Clone, Copy)]
struct Entry {
    boot_flag: u8,
    kind: u8,
    /// In sectors; of a logical partition, relative to its table.
    start: u32,
    sectors: u32,
}

impl Entry {
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

/// A sector with the signature of a boot sector.
pub(super) struct BootSector {
    bytes: Vec<u8>,
    entries: [Entry; 4],
    signature: u32,
}

impl BootSector {
    /// Sector 0, if the disk is large enough and it has the signature 55 AA.
    pub(super) fn read(disk: &dyn ReadAt) -> Result<Option<BootSector>> {
        BootSector::read_at(disk, 0)
    }

    fn read_at(disk: &dyn ReadAt, at: u64) -> Result<Option<BootSector>> {
        if at.checked_add(512).is_none_or(|end| end > disk.size()) {
            return Ok(None);
        }
        BootSector::parse(read_vec(disk, at, SECTOR)?, at)
    }

    fn parse(bytes: Vec<u8>, at: u64) -> Result<Option<BootSector>> {
        let view = View::new(&bytes, "partition table", at);
        if view.u16_le(510)? != 0xaa55 {
            return Ok(None);
        }
        let entry = |index: usize| -> Result<Entry> {
            let view = view.part(
                ENTRIES_AT.saturating_add(index.saturating_mul(16)),
                16,
                "partition entry",
            )?;
            Ok(Entry {
                boot_flag: view.u8(0)?,
                kind: view.u8(4)?,
                start: view.u32_le(8)?,
                sectors: view.u32_le(12)?,
            })
        };
        let entries = [entry(0)?, entry(1)?, entry(2)?, entry(3)?];
        let signature = view.u32_le(440)?;
        Ok(Some(BootSector {
            bytes,
            entries,
            signature,
        }))
    }

    /// Whether an entry announces a GPT: type EE at sector 1 (UEFI 5.2.3).
    pub(super) fn is_protective(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.kind == PROTECTIVE && entry.start == 1)
    }

    /// Whether the four entries can be a table: flags 00 or 80, no protective entry, and, where the sector is also
    /// the boot sector of a volume, entries that fit the disk.
    pub(super) fn is_table(&self, disk_size: u64, sector_size: u32) -> bool {
        let flags = self
            .entries
            .iter()
            .all(|e| matches!(e.boot_flag, 0x00 | 0x80));
        let protective = self.entries.iter().any(|e| e.kind == PROTECTIVE);
        let used: Vec<&Entry> = self.entries.iter().filter(|e| e.sectors != 0).collect();
        if !flags || protective || used.is_empty() {
            return false;
        }
        if !self.is_volume_boot_sector() {
            return true;
        }
        let sectors = disk_size.checked_div(u64::from(sector_size)).unwrap_or(0);
        used.iter().all(|e| {
            e.kind != 0
                && e.start != 0
                && u64::from(e.start).saturating_add(u64::from(e.sectors)) <= sectors
        })
    }

    /// Whether it starts with a jump and names a file system in the places of NTFS, exFAT, FAT12/16 and FAT32.
    fn is_volume_boot_sector(&self) -> bool {
        let at = |offset: usize, magic: &[u8]| {
            self.bytes
                .get(offset..)
                .is_some_and(|tail| tail.starts_with(magic))
        };
        (at(0, &[0xeb]) || at(0, &[0xe9]))
            && (at(3, b"NTFS    ") || at(3, b"EXFAT   ") || at(54, b"FAT") || at(82, b"FAT32"))
    }

    /// The table this sector begins. Without a known sector size 512 is taken, or 4096 where only that finds the
    /// chain of logical partitions.
    pub(super) fn table(&self, disk: &dyn ReadAt, known: Option<u32>) -> Result<PartitionTable> {
        let mut sector_size = known.unwrap_or(512);
        if known.is_none()
            && let Some(extended) = self
                .entries
                .iter()
                .find(|e| e.sectors != 0 && e.is_extended())
        {
            let chain_at = |size: u64| -> Result<bool> {
                let at = u64::from(extended.start).saturating_mul(size);
                Ok(BootSector::read_at(disk, at)?.is_some())
            };
            if !chain_at(512)? && chain_at(4096)? {
                sector_size = 4096;
            }
        }
        let mut reader = Reader {
            disk,
            sector: u64::from(sector_size),
            signature: self.signature,
            partitions: Vec::new(),
            warnings: Vec::new(),
            next: 5,
        };
        for (number, entry) in (1u32..).zip(&self.entries) {
            if entry.sectors == 0 {
                continue;
            }
            let start = u64::from(entry.start).saturating_mul(reader.sector);
            let size = u64::from(entry.sectors).saturating_mul(reader.sector);
            reader.add(number, start, size, entry.kind);
            if entry.is_extended() {
                reader.logical(start, size)?;
            }
        }
        reader.partitions.sort_by_key(|partition| partition.number);
        Ok(PartitionTable {
            kind: TableKind::Mbr,
            partitions: reader.partitions,
            disk_id: format!("{:08x}", self.signature),
            sector_size,
            warnings: reader.warnings,
        })
    }
}

struct Reader<'a> {
    disk: &'a dyn ReadAt,
    sector: u64,
    signature: u32,
    partitions: Vec<Partition>,
    warnings: Vec<String>,
    /// Number of the next logical partition.
    next: u32,
}

impl Reader<'_> {
    fn add(&mut self, number: u32, start: u64, size: u64, kind: u8) {
        let mut partition = Partition {
            number,
            start,
            size,
            available: 0,
            kind: PartitionKind::Byte(kind),
            name: String::new(),
            id: format!("{:08x}-{number:02x}", self.signature),
            device_id: DeviceId::Place {
                signature: self.signature,
                start,
            },
        };
        partition.clip(self.disk.size(), &mut self.warnings);
        self.partitions.push(partition);
    }

    /// Follows the chain of tables inside the extended partition at `first`.
    fn logical(&mut self, first: u64, first_size: u64) -> Result<()> {
        let (mut here, mut here_size) = (first, first_size);
        let mut seen = HashSet::new();
        let mut empty_links = 0u32;
        loop {
            if !seen.insert(here) {
                self.warnings
                    .push("the chain of logical partitions is a loop".to_string());
                return Ok(());
            }
            let Some(sector) = BootSector::read_at(self.disk, here)? else {
                self.warnings
                    .push(format!("no table of logical partitions at byte {here}"));
                return Ok(());
            };
            empty_links = empty_links.saturating_add(1);
            for (index, entry) in sector.entries.iter().enumerate() {
                if entry.sectors == 0 || entry.is_extended() {
                    continue;
                }
                let offset = u64::from(entry.start).saturating_mul(self.sector);
                let size = u64::from(entry.sectors).saturating_mul(self.sector);
                let start = here.saturating_add(offset);
                // The third and fourth entry sometimes hold garbage.
                let inside = offset.saturating_add(size) <= here_size
                    && start >= first
                    && start.saturating_add(size) <= first.saturating_add(first_size);
                if index >= 2 && !inside {
                    continue;
                }
                if self.next > MAX_NUMBER {
                    self.warnings
                        .push("more logical partitions than Linux counts".to_string());
                    return Ok(());
                }
                self.add(self.next, start, size, entry.kind);
                self.next = self.next.saturating_add(1);
                empty_links = 0;
            }
            let Some(link) = sector
                .entries
                .iter()
                .find(|e| e.sectors != 0 && e.is_extended())
            else {
                return Ok(());
            };
            if empty_links > MAX_EMPTY_LINKS {
                self.warnings
                    .push("the chain of logical partitions is too long".to_string());
                return Ok(());
            }
            here = first.saturating_add(u64::from(link.start).saturating_mul(self.sector));
            here_size = u64::from(link.sectors).saturating_mul(self.sector);
        }
    }
}
