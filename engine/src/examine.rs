//! What a disk image is: its container, its chain of parents, how the disk is divided, and what its parts hold; and what is wrong with
//! it. Images are only read.

use crate::machine::MachineView;
use crate::view::DiskView;
use cairn_base::{Error, Kind, Monitor, ReadAt, Result, Stage};
use cairn_disk::{
    Check, Count, Examined, Finding, Format, ImageFile, ImageInfo, OpenOptions, Severity,
    VirtualDisk,
};
use cairn_guest::ldm::{Database, DynamicVolume};
use cairn_guest::probe::{self, DynamicDisk, FoundVolume, Layout};
use cairn_guest::{BitLockerInfo, Detected, Note, Partition, ReadOptions, TableKind, VolumeInfo};
use std::path::Path;
use std::sync::Arc;

/// Extents are asked for in so many bytes of disk: few enough that a file of any holes is told exactly.
const STEP: u64 = 4 << 30;

/// What an image is.
#[derive(Debug, Clone)]
pub struct DiskReport {
    /// The file that was asked for.
    pub file: ImageFile,
    /// The images that could be opened: its own, then its parents. None if the image itself cannot be.
    pub images: Vec<ImageInfo>,
    /// Why the image cannot be opened; or, where there are images, why there are not all: a parent is missing, or was changed.
    pub failure: Option<Error>,
    /// What a user should know of the images although they can be read. Sentences.
    pub warnings: Vec<String>,
    /// Bytes of the disk that may hold something other than zeros; `None` if that cannot be told because an image is missing, or cannot be read:
    /// that is a warning.
    pub allocated: Option<u64>,
    /// How the disk is divided, or why that cannot be told; `None` if there is no disk.
    pub division: Option<Result<Division>>,
}

/// How a disk is divided.
#[derive(Debug, Clone)]
pub struct Division {
    /// What sort of table it has.
    pub table: TableKind,
    /// The disk's own id by its table; empty if none.
    pub disk_id: String,
    /// Bytes of a logical sector that the table was read with.
    pub sector_size: u32,
    /// What is wrong with the table. Sentences.
    pub warnings: Vec<String>,
    /// The partitions by number; where there is no table, one part of number 0 that is the whole disk.
    pub parts: Vec<Part>,
    /// What a dynamic disk says of its group; `None` if it is none, or if that cannot be read, which is a warning.
    pub dynamic: Option<Dynamic>,
    /// What a user should know of the drive letters: why some may be missing or old, and whose they are where there is more than one Windows.
    pub letter_notes: Vec<Note>,
}

/// A dynamic disk of Windows and its group.
#[derive(Debug, Clone)]
pub struct Dynamic {
    /// What the disk says.
    pub database: Database,
    /// The volumes that lie on this disk, by number, and what they hold as far as that can be told without other disks.
    pub volumes: Vec<(Arc<DynamicVolume>, Part)>,
}

/// A partition, or a whole disk without any.
#[derive(Debug, Clone)]
pub struct Part {
    /// As the guest's kernel counts it; 0 is a disk without partitions.
    pub number: u32,
    /// Offset on the disk in bytes.
    pub start: u64,
    /// Bytes, as the table says.
    pub size: u64,
    /// The type: a byte of a DOS table in hexadecimal, or a GUID. Empty if it is no partition.
    pub kind: String,
    /// What partitions of this type are called, as far as disks of Windows have them.
    pub kind_name: Option<&'static str>,
    /// The name (GPT), empty if none.
    pub name: String,
    /// Its unique id as Linux prints it (PARTUUID), empty if none.
    pub id: String,
    /// The drive letters that Windows on this disk gives it.
    pub letters: Vec<char>,
    /// What it seems to hold; `None` for the DOS container of logical partitions.
    pub content: Option<Result<Detected>>,
    /// How it is encrypted, or why that cannot be told; `None` if it is not, by anything that is looked into.
    pub encryption: Option<Result<BitLockerInfo>>,
    /// Its file system, where it is one that is read, or why it cannot be.
    pub volume: Option<Result<VolumeInfo>>,
}

/// What is wrong with an image, and what is remarkable.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// Whether no fault was found.
    pub is_sound: bool,
    /// What was found, no more than [`KEPT`](cairn_disk::check::KEPT) of a class for each image.
    pub findings: Vec<Finding>,
    /// How much was found, by image, severity and class.
    pub counts: Vec<Count>,
    /// Why not everything was looked at: an I/O error, an image of a kind that is not read, a file that is not opened, or that the user asked to stop.
    pub failure: Option<Error>,
}

impl CheckReport {
    /// How many of this severity were found.
    pub fn count(&self, severity: Severity) -> u64 {
        let counts = self.counts.iter();
        let counts = counts.filter(|count| count.severity == severity);
        counts.fold(0, |sum, count| sum.saturating_add(count.found))
    }
}

/// An image that was opened as far as that goes.
pub struct DiskExamination(Examined);

impl DiskExamination {
    /// Opens the image at `path`, a file or a block device.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if it is neither; what the operating system says.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<DiskExamination> {
        cairn_disk::examine(path, options).map(DiskExamination)
    }

    /// What the image is. `monitor` is told how much of the disk was looked at ([`Stage::Check`]). File systems are read as `options` say.
    ///
    /// # Errors
    /// [`Kind::Interrupted`](cairn_base::Kind::Interrupted).
    pub fn report(&self, options: &ReadOptions, monitor: &dyn Monitor) -> Result<DiskReport> {
        let disk = self.0.disk();
        let is_whole = self.0.failure().is_none();
        let mut warnings = disk
            .map(|disk| disk.warnings().to_vec())
            .unwrap_or_default();
        let whole = disk.filter(|_| is_whole);
        let allocated = match whole.map(|disk| allocated(&**disk, monitor)) {
            Some(Err(error)) if error.kind() == Kind::Interrupted => return Err(error),
            Some(Err(error)) => {
                warnings.push(format!("what is allocated cannot be told: {error}"));
                None
            }
            Some(Ok(sum)) => Some(sum),
            None => None,
        };
        Ok(DiskReport {
            file: self.0.file(),
            images: self.0.images(),
            failure: self.0.failure().cloned(),
            warnings,
            allocated,
            division: disk.map(|disk| division(disk, options)),
        })
    }

    /// Walks all structures of all its images. What was found stays although not everything could be looked at: see [`CheckReport::failure`].
    pub fn check(&self, monitor: &dyn Monitor) -> CheckReport {
        let mut check = Check::new(monitor);
        let failure = self.0.check(&mut check).err();
        CheckReport {
            is_sound: check.is_sound(),
            findings: check.findings().to_vec(),
            counts: check.counts().to_vec(),
            failure,
        }
    }
}

/// Bytes of the disk that may hold something other than zeros.
fn allocated(disk: &dyn ReadAt, monitor: &dyn Monitor) -> Result<u64> {
    let size = disk.size();
    monitor.begin(Stage::Check, size);
    let (mut at, mut sum) = (0u64, 0u64);
    while at < size {
        if monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        let end = at.saturating_add(STEP).min(size);
        for extent in disk.data_extents(at..end)? {
            sum = sum.saturating_add(extent.end.saturating_sub(extent.start));
        }
        monitor.advance(Stage::Check, end.saturating_sub(at));
        at = end;
    }
    monitor.finish(Stage::Check);
    Ok(sum)
}

fn division(disk: &Arc<dyn VirtualDisk>, options: &ReadOptions) -> Result<Division> {
    // A raw file does not know its sectors: the partition table tells.
    let is_told = disk.format() != Format::Raw;
    let sector_size = is_told.then(|| disk.sector_size());
    let bytes: Arc<dyn ReadAt> = disk.clone();
    let Layout {
        table,
        volumes,
        dynamic,
    } = probe::volumes(&bytes, sector_size)?;
    let whole = volumes.iter().filter(|_| table.kind == TableKind::None);
    let whole = whole.map(|volume| part(None, Some(volume), options));
    let divided = table.partitions.iter().map(|partition| {
        let volume = volumes
            .iter()
            .find(|volume| volume.number == partition.number);
        part(Some(partition), volume, options)
    });
    let mut parts: Vec<Part> = whole.chain(divided).collect();
    let mut dynamic = match dynamic {
        Some(Ok(database)) => Some(of_group(&bytes, database, options)),
        Some(Err(_)) | None => None,
    };
    let view = DiskView::new("disk0", bytes, sector_size).with_read_options(options.clone());
    let letters = MachineView::new(vec![Arc::new(view)]).layout();
    let of_group = dynamic.iter_mut().flat_map(|group| &mut group.volumes);
    for part in parts.iter_mut().chain(of_group.map(|(_, part)| part)) {
        part.letters = letters.letters_of(0, part.number);
    }
    Ok(Division {
        table: table.kind,
        disk_id: table.disk_id,
        sector_size: table.sector_size,
        warnings: table.warnings,
        parts,
        dynamic,
        letter_notes: letters.notes().to_vec(),
    })
}

fn of_group(disk: &Arc<dyn ReadAt>, database: Database, options: &ReadOptions) -> Dynamic {
    let own = [DynamicDisk {
        name: "this disk".to_string(),
        disk: disk.clone(),
        database,
    }];
    let found = probe::dynamic_volumes(&own, &[]).volumes.into_iter();
    let volumes = found.filter_map(|(_, found)| {
        let volume = found.dynamic.clone()?;
        Some((volume, part(None, Some(&found), options)))
    });
    let volumes = volumes.collect();
    let [own] = own;
    Dynamic {
        database: own.database,
        volumes,
    }
}

fn part(
    partition: Option<&Partition>,
    volume: Option<&FoundVolume>,
    options: &ReadOptions,
) -> Part {
    let opened = volume.filter(|volume| matches!(&volume.detected, Ok(held) if held.is_read()));
    Part {
        number: match partition {
            Some(partition) => partition.number,
            None => volume.map_or(0, |volume| volume.number),
        },
        start: match partition {
            Some(partition) => partition.start,
            None => volume.map_or(0, |volume| volume.start),
        },
        size: match partition {
            Some(partition) => partition.size,
            None => volume.map_or(0, |volume| volume.size),
        },
        kind: partition
            .map(|partition| partition.kind.to_string())
            .unwrap_or_default(),
        kind_name: partition.and_then(|partition| partition.kind.name()),
        name: partition
            .map(|partition| partition.name.clone())
            .unwrap_or_default(),
        id: partition
            .map(|partition| partition.id.clone())
            .unwrap_or_default(),
        letters: Vec::new(),
        content: volume.map(|volume| volume.detected.clone()),
        encryption: volume.and_then(FoundVolume::bitlocker),
        volume: opened.map(|volume| volume.open_with(options).map(|found| found.info().clone())),
    }
}
