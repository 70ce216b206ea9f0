//! What a device holds, told by its content; and which volumes a disk has.
//!
//! - [`dynamic`]: volumes of dynamic disks, which may lie on several
//! - [`magic`]: the marks of everything that is recognised but not read

mod dynamic;
mod magic;
#[cfg(test)]
mod tests;

use crate::bitlocker::{self, BitLocker, BitLockerInfo, Keys};
use crate::exfat::{self, ExFatVolume};
use crate::ext::{self, ExtVolume};
use crate::fat::{self, CodePage, FatVolume};
use crate::ldm::{self, Database};
use crate::ntfs::NtfsVolume;
use crate::partition::{DeviceId, Partition, PartitionKind, PartitionTable, TableKind};
use crate::volume::Volume;
use cairn_base::{Error, Kind, ReadAt, Result};
use std::sync::Arc;

pub use dynamic::{DYNAMIC_NUMBERS, DynamicDisk, Groups, database, disk_id, dynamic_volumes};

/// What a partition holds whose content the database of a dynamic disk tells.
pub const PART_OF_DYNAMIC: &str = "part of a dynamic disk";

/// What a device holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// ext2, ext3 or ext4.
    Ext,
    /// ext whose superblock is gone, but a copy of it is there.
    ExtByBackup,
    /// NTFS.
    Ntfs,
    /// FAT12, FAT16 or FAT32.
    Fat,
    /// exFAT.
    ExFat,
    /// A volume that BitLocker encrypts.
    BitLocker,
    /// Something that is known by this name and not read.
    Other(&'static str),
    /// Something, but nothing that is known.
    Unknown,
    /// Nothing: the beginning reads as zeros.
    Empty,
}

impl Detected {
    /// Whether [`open_volume`] has a reader for it; of what BitLocker encrypts, for it as such.
    pub fn is_read(self) -> bool {
        matches!(
            self,
            Detected::Ext
                | Detected::ExtByBackup
                | Detected::Ntfs
                | Detected::Fat
                | Detected::ExFat
                | Detected::BitLocker
        )
    }

    /// What to call it.
    pub fn name(self) -> &'static str {
        match self {
            Detected::Ext | Detected::ExtByBackup => "ext2/3/4",
            Detected::Ntfs => "NTFS",
            Detected::Fat => "FAT",
            Detected::ExFat => "exFAT",
            Detected::BitLocker => "BitLocker",
            Detected::Other(name) => name,
            Detected::Unknown => "nothing that is known",
            Detected::Empty => "nothing",
        }
    }
}

/// Tells what `device` holds from its content.
///
/// # Errors
/// Whatever the device reports; damage only where nothing is recognised beside it.
pub fn detect(device: &dyn ReadAt) -> Result<Detected> {
    let head = magic::Head::read(device)?;
    // Encrypted and container formats first: they keep old superblocks of what they replaced in place.
    if bitlocker::is_bitlocker(head.bytes()) {
        return Ok(Detected::BitLocker);
    }
    if let Some(name) = magic::container(&head, device)? {
        return Ok(Detected::Other(name));
    }
    if head.at(3, b"NTFS    ") {
        return Ok(Detected::Ntfs);
    }
    if head.at(3, b"EXFAT   ") {
        return Ok(Detected::ExFat);
    }
    let mut damage = head.damage().cloned();
    let is_fat = fat::is_fat(head.view());
    // Two bytes are not enough where a file allocation table may have them.
    let is_ext = ext::is_ext(device).and_then(|is| Ok(is && (!is_fat || ext::is_likely(device)?)));
    match is_ext {
        Ok(true) => return Ok(Detected::Ext),
        Ok(false) => {}
        // Something else may be told by what can be read.
        Err(error) if error.kind() == Kind::Damaged => damage = Some(error),
        Err(error) => return Err(error),
    }
    if let Some(name) = magic::file_system(&head) {
        return Ok(Detected::Other(name));
    }
    // FAT has no mark, and what others write leaves its boot sector as it was: it comes behind everything that has one which cannot be there by chance.
    if is_fat {
        return Ok(Detected::Fat);
    }
    if let Some(name) = magic::other(&head, device)? {
        return Ok(Detected::Other(name));
    }
    if ext::has_backup(device)? {
        return Ok(Detected::ExtByBackup);
    }
    if fat::has_backup(device)? {
        return Ok(Detected::Fat);
    }
    if exfat::has_backup(device)? {
        return Ok(Detected::ExFat);
    }
    if let Some(damage) = damage {
        return Err(damage);
    }
    Ok(if head.is_zero() {
        Detected::Empty
    } else {
        Detected::Unknown
    })
}

/// How file systems are read where they do not say it themselves.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The encoding of FAT's 8.3 names and labels.
    pub code_page: CodePage,
    /// What opens volumes that are encrypted.
    pub keys: Arc<Keys>,
}

impl From<Keys> for ReadOptions {
    /// The usual ones, with these keys.
    fn from(keys: Keys) -> ReadOptions {
        ReadOptions {
            keys: Arc::new(keys),
            ..ReadOptions::default()
        }
    }
}

/// Opens the file system on `device`. No key is known.
///
/// # Errors
/// As [`open_volume_with`].
pub fn open_volume(device: Arc<dyn ReadAt>) -> Result<Arc<dyn Volume>> {
    open_volume_with(device, &ReadOptions::default())
}

/// Opens the file system on `device`, read as `options` say; one that is encrypted, with one of their keys.
///
/// # Errors
/// Not found if the device is empty; unsupported, naming it, for what is recognised but not read, and for what is
/// not known; damaged where the file system is; denied if it is encrypted and no key fits, saying which would.
pub fn open_volume_with(device: Arc<dyn ReadAt>, options: &ReadOptions) -> Result<Arc<dyn Volume>> {
    let detected = detect(device.as_ref())?;
    open_detected(device, detected, options)
}

fn open_detected(
    device: Arc<dyn ReadAt>,
    detected: Detected,
    options: &ReadOptions,
) -> Result<Arc<dyn Volume>> {
    if detected != Detected::BitLocker {
        return open_plain(device, detected, options);
    }
    let unlocked = BitLocker::open(device)?.unlock(&options.keys)?;
    let within = detect(&*unlocked.device())?;
    let volume = open_plain(unlocked.device(), within, options)
        .map_err(|error| error.context("BitLocker was unlocked, and what is on it is not read"))?;
    Ok(unlocked.volume(volume))
}

fn open_plain(
    device: Arc<dyn ReadAt>,
    detected: Detected,
    options: &ReadOptions,
) -> Result<Arc<dyn Volume>> {
    match detected {
        // Only within another one.
        Detected::BitLocker => Err(Error::unsupported(
            "a BitLocker volume within a BitLocker volume is not read",
        )),
        Detected::Ext | Detected::ExtByBackup => Ok(Arc::new(ExtVolume::open(device)?)),
        Detected::Ntfs => Ok(Arc::new(NtfsVolume::open(device)?)),
        Detected::Fat => Ok(Arc::new(FatVolume::open(device, options.code_page)?)),
        Detected::ExFat => Ok(Arc::new(ExFatVolume::open(device)?)),
        Detected::Other(name) => Err(unread(name)),
        Detected::Unknown => Err(Error::unsupported("no file system that is known")),
        Detected::Empty => Err(Error::not_found(
            "the volume is empty: it starts with zeros",
        )),
    }
}

/// The refusal of what is known by this name.
fn unread(name: &'static str) -> Error {
    let refusal = Error::unsupported(format!("{name} is recognised but not read"));
    match name {
        "Storage Spaces" => refusal.advise(
            "restore all disks of the pool, or serve them, and attach them to a Windows that has Storage Spaces",
        ),
        PART_OF_DYNAMIC => refusal.advise("look at the volumes of the disk group instead"),
        _ => refusal,
    }
}

/// A partition, a whole disk, or a volume of dynamic disks, that can hold a file system.
#[derive(Clone)]
pub struct FoundVolume {
    /// The partition's number as the guest's kernel counts it; 0 for a disk without partitions; of a dynamic volume
    /// [`DYNAMIC_NUMBERS`] and more.
    pub number: u32,
    /// Offset on the disk in bytes; 0 for a dynamic volume that is more than one piece of one disk.
    pub start: u64,
    /// Length in bytes, as far as the disk has it.
    pub size: u64,
    /// The partition's type, if it is one.
    pub kind: Option<PartitionKind>,
    /// The partition's name (GPT) or that of the dynamic volume, empty if none.
    pub name: String,
    /// What Windows tells it by: one id of a partition, and of a dynamic volume its GUID in both orders in which Windows may have written it down.
    pub device_ids: Vec<DeviceId>,
    /// What is known of it if it is a dynamic volume.
    pub dynamic: Option<Arc<ldm::DynamicVolume>>,
    /// What it holds, or why that cannot be told.
    pub detected: Result<Detected>,
    device: Arc<dyn ReadAt>,
}

impl FoundVolume {
    /// Opens its file system. No key is known.
    ///
    /// # Errors
    /// As [`open_volume_with`].
    pub fn open(&self) -> Result<Arc<dyn Volume>> {
        self.open_with(&ReadOptions::default())
    }

    /// Opens its file system, read as `options` say. If looking what it holds failed in a way that may pass, that is tried again.
    ///
    /// # Errors
    /// As [`open_volume_with`].
    pub fn open_with(&self, options: &ReadOptions) -> Result<Arc<dyn Volume>> {
        match &self.detected {
            Ok(detected) => open_detected(self.device.clone(), *detected, options),
            Err(error) if error.kind().may_pass() => open_volume_with(self.device.clone(), options),
            Err(error) => Err(error.clone()),
        }
    }

    /// What is known of its encryption without a key; none if it is not encrypted by BitLocker.
    ///
    /// # Errors
    /// As [`BitLocker::open`].
    pub fn bitlocker(&self) -> Option<Result<BitLockerInfo>> {
        let is = matches!(self.detected, Ok(Detected::BitLocker));
        is.then(|| Ok(BitLocker::open(self.device.clone())?.info()))
    }

    /// Its bytes.
    pub fn device(&self) -> &Arc<dyn ReadAt> {
        &self.device
    }
}

/// How a disk is divided, and what its parts hold.
#[derive(Clone)]
pub struct Layout {
    /// The partition table.
    pub table: PartitionTable,
    /// Every partition but the containers of logical ones; the whole disk where there are none.
    pub volumes: Vec<FoundVolume>,
    /// What a dynamic disk says of itself and of its group, or why that cannot be read.
    pub dynamic: Option<Result<Database>>,
}

/// Tells how `disk` is divided. `sector_size` is that of the disk image where it tells one.
///
/// # Errors
/// Whatever the disk reports about its first sectors; a partition that cannot be read says so itself.
pub fn volumes(disk: &Arc<dyn ReadAt>, sector_size: Option<u32>) -> Result<Layout> {
    let table = PartitionTable::read(disk, sector_size)?;
    let layout = layout(disk, table);
    // A DOS table does not tell its sector size: larger ones are taken where only they find something.
    if layout.table.kind == TableKind::Mbr && sector_size.is_none() && !layout.has_content() {
        let other = self::layout(disk, PartitionTable::read(disk, Some(4096))?);
        if other.has_content() {
            return Ok(other);
        }
    }
    Ok(layout)
}

impl Layout {
    fn has_content(&self) -> bool {
        self.volumes
            .iter()
            .any(|volume| matches!(volume.detected, Ok(held) if !matches!(held, Detected::Empty | Detected::Unknown)))
    }
}

fn layout(disk: &Arc<dyn ReadAt>, mut table: PartitionTable) -> Layout {
    let dynamic = ldm::read(disk, &table).transpose();
    match &dynamic {
        Some(Ok(database)) => table.warnings.extend(database.warnings.iter().cloned()),
        Some(Err(error)) => table.warnings.push(format!(
            "the volumes of this dynamic disk are not known: {error}"
        )),
        None => {}
    }
    let volumes = if table.kind == TableKind::None {
        vec![FoundVolume {
            number: 0,
            start: 0,
            size: disk.size(),
            kind: None,
            name: String::new(),
            device_ids: Vec::new(),
            dynamic: None,
            detected: detect(disk.as_ref()),
            device: disk.clone(),
        }]
    } else {
        let parts = table
            .partitions
            .iter()
            .filter(|partition| !partition.is_container());
        parts
            .map(|partition| found(disk, partition, dynamic.as_ref()))
            .collect()
    };
    Layout {
        table,
        volumes,
        dynamic,
    }
}

fn found(
    disk: &Arc<dyn ReadAt>,
    partition: &Partition,
    dynamic: Option<&Result<Database>>,
) -> FoundVolume {
    let nothing: Arc<dyn ReadAt> = Arc::new(Vec::new());
    let (device, detected) = match partition.open(disk) {
        _ if partition.available == 0 && partition.size > 0 => (
            nothing,
            Err(
                Error::damaged("the partition lies beyond the end of the disk")
                    .at_offset(partition.start),
            ),
        ),
        Ok(section) => {
            let device: Arc<dyn ReadAt> = Arc::new(section);
            (device.clone(), held(device.as_ref(), partition, dynamic))
        }
        Err(error) => (nothing, Err(error)),
    };
    FoundVolume {
        number: partition.number,
        start: partition.start,
        size: partition.available,
        kind: Some(partition.kind),
        name: partition.name.clone(),
        device_ids: vec![partition.device_id],
        dynamic: None,
        detected,
        device,
    }
}

/// What a partition holds. Where its content does not tell, its type may.
fn held(
    device: &dyn ReadAt,
    partition: &Partition,
    dynamic: Option<&Result<Database>>,
) -> Result<Detected> {
    // Never by its content: what looks like a file system may be one of several parts of one.
    if ldm::is_part(partition.kind) {
        return match dynamic {
            Some(Err(error)) => Err(error
                .clone()
                .context("what lies where on this part of a dynamic disk is not known")),
            Some(Ok(_)) | None => Ok(Detected::Other(PART_OF_DYNAMIC)),
        };
    }
    let detected = detect(device)?;
    let is_told = !matches!(detected, Detected::Unknown | Detected::Empty);
    match partition.kind.name() {
        _ if is_told => Ok(detected),
        Some(name @ "Storage Spaces") => Ok(Detected::Other(name)),
        Some(name @ ("Microsoft Reserved" | "Storage Replica"))
            if detected == Detected::Unknown =>
        {
            Ok(Detected::Other(name))
        }
        _ => Ok(detected),
    }
}
