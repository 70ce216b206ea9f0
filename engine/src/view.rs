//! What a disk shows: its bytes, its partitions, and the volumes on them. The same for a disk of a recovery point and for
//! an image on this machine.
//!
//! - [`together`]: volumes that lie on several disks

mod together;

pub(crate) use together::{Neighbour, Together};

use cairn_base::{Error, Kind, ReadAt, Result, Time};
use cairn_disk::{OpenOptions, ViewFormat, ViewOptions, VirtualDisk};
use cairn_guest::ldm::{self, DynamicVolume};
use cairn_guest::{Detected, DeviceId, Note, ReadOptions, Volume, probe};
use cairn_store::hash::checksum;
use parking_lot::Mutex;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// What is recognised by these names holds no files of its own.
const NO_FILES: &[&str] = &["Linux swap", "Microsoft Reserved"];

/// A disk and what is on it. Shared by threads; partitions and volumes are looked at when they are first asked for.
pub struct DiskView {
    name: String,
    disk: Arc<dyn ReadAt>,
    sector_size: Option<u32>,
    warnings: Vec<String>,
    /// What opens volumes that are encrypted.
    volumes: Remembered<Vec<Arc<VolumeView>>>,
    /// The disks of its point, and its position among them.
    together: (Arc<Together>, usize),
    /// What ids of images of it are made from, and when they were made.
    origin: (Vec<u8>, Time),
    /// Whether that changes when the disk's bytes do.
    is_told_apart: bool,
    files: Vec<PathBuf>,
    reading: ReadOptions,
    /// As VHD and as VHDX.
    images: [OnceLock<Arc<dyn ReadAt>>; 2],
}

/// A partition that holds a file system, or something that could not be read as one.
pub struct VolumeView {
    number: u32,
    start: u64,
    size: u64,
    pieces: Vec<(usize, Range<u64>)>,
    found: probe::FoundVolume,
    reading: ReadOptions,
    opened: Remembered<Arc<dyn Volume>>,
    /// Whether what may be wrong was taken.
    told: AtomicBool,
}

/// Something that is found out once. A failure is remembered too, unless it may pass.
struct Remembered<T> {
    found: OnceLock<Result<T>>,
    /// Held by the one who finds it out.
    finding: Mutex<()>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Remembered<T> {
        Remembered {
            found: OnceLock::new(),
            finding: Mutex::default(),
        }
    }
}

impl<T> Remembered<T> {
    /// What was found, if it was.
    fn known(&self) -> Option<&T> {
        self.found.get()?.as_ref().ok()
    }

    fn get(&self, find: impl FnOnce() -> Result<T>) -> Result<&T> {
        if let Some(found) = self.found.get() {
            return found.as_ref().map_err(Error::clone);
        }
        let _finding = self.finding.lock();
        let found = match self.found.get() {
            Some(found) => found,
            None => {
                let found = find();
                if let Err(error) = &found
                    && error.kind().may_pass()
                {
                    return Err(error.clone());
                }
                self.found.get_or_init(|| found)
            }
        };
        found.as_ref().map_err(Error::clone)
    }
}

impl DiskView {
    /// A view of `disk` under a name. `sector_size` is the logical one, if it is known.
    pub fn new(
        name: impl Into<String>,
        disk: Arc<dyn ReadAt>,
        sector_size: Option<u32>,
    ) -> DiskView {
        let name = name.into();
        let alone = Neighbour {
            name: name.clone(),
            disk: disk.clone(),
            sector_size,
        };
        DiskView {
            origin: (name.clone().into_bytes(), Time::default()),
            is_told_apart: false,
            name,
            disk,
            sector_size,
            together: (Arc::new(Together::new(vec![alone])), 0),
            warnings: Vec::new(),
            volumes: Remembered::default(),
            files: Vec::new(),
            reading: ReadOptions::default(),
            images: Default::default(),
        }
    }

    /// The same, whose file systems are read as `options` say. Before its volumes are asked for.
    pub fn with_read_options(mut self, options: ReadOptions) -> DiskView {
        self.reading = options;
        self
    }

    /// The same, known to be of a certain origin, by which it is told from all others, and of a certain time.
    pub(crate) fn of_origin(mut self, parts: &[&[u8]], time: Time) -> DiskView {
        self.origin = (parts.concat(), time);
        self.is_told_apart = true;
        self
    }

    /// The same as one of several disks of a machine, at this position among them.
    pub(crate) fn among(mut self, together: &Arc<Together>, position: usize) -> DiskView {
        self.together = (together.clone(), position);
        self
    }

    /// A view of a disk image of this machine, called `disk0`: nothing is stored.
    ///
    /// # Errors
    /// As [`cairn_disk::open`].
    pub fn open_image(path: &Path) -> Result<DiskView> {
        DiskView::open_image_with(path, &OpenOptions::default())
    }

    /// As [`open_image`](DiskView::open_image), where the format is known, or where parents of differencing disks lie.
    ///
    /// # Errors
    /// As [`cairn_disk::open_with`].
    pub fn open_image_with(path: &Path, options: &OpenOptions) -> Result<DiskView> {
        let image = cairn_disk::open_with(path, options)?;
        let (warnings, files) = (image.warnings().to_vec(), image.files());
        let identity = image.identity();
        let id = identity.disk_id.unwrap_or_default();
        let file = identity.file.map(|stamp| (stamp.size, stamp.modified));
        let (size, time) = file.unwrap_or_default();
        let stamp = [
            size.to_le_bytes(),
            time.seconds.to_le_bytes(),
            u64::from(time.nanos).to_le_bytes(),
        ]
        .concat();
        let full = path.canonicalize();
        let full = full.as_deref().unwrap_or(path).as_os_str();
        // A raw file does not know its sectors: let the partition table tell.
        let sector_size = (image.format() != cairn_disk::Format::Raw).then(|| image.sector_size());
        let mut view = DiskView::new("disk0", image, sector_size)
            .of_origin(&[&id.0, &stamp, full.as_encoded_bytes()], time);
        view.warnings = warnings;
        view.files = files;
        view.is_told_apart = path.metadata().is_ok_and(|found| found.is_file());
        Ok(view)
    }

    /// Its name in the point.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.disk.size()
    }

    /// The whole disk's bytes; holes show in its extents.
    pub fn disk(&self) -> &Arc<dyn ReadAt> {
        &self.disk
    }

    /// Whether it can be shown as an image of this format: its size and its sectors decide.
    pub fn can_show(&self, format: ViewFormat) -> bool {
        format.takes(self.size(), self.sectors())
    }

    /// The disk as an image that is made as it is read, see [`cairn_disk::view()`]: for programs that know such images and not raw
    /// disks. Its ids follow from the point and the disk's name, so that it is always the same file.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it cannot be shown so.
    pub fn show_as(&self, format: ViewFormat) -> Result<Arc<dyn ReadAt>> {
        let [vhd, vhdx] = &self.images;
        let made = match format {
            ViewFormat::Vhd => vhd,
            ViewFormat::Vhdx => vhdx,
        };
        if let Some(made) = made.get() {
            return Ok(made.clone());
        }
        let (seed, time) = &self.origin;
        let options = ViewOptions {
            sector_size: self.sectors(),
            seed,
            time: *time,
        };
        let image = cairn_disk::view(self.disk.clone(), format, &options)?;
        Ok(made.get_or_init(|| image).clone())
    }

    /// What tells this disk, as it is now, from all others: for an image its id, the size and the last change of its file, and its path
    /// (FORMAT.md, section 23). All zeros if nothing does: of a block device only the path is known.
    pub fn origin(&self) -> [u8; 32] {
        let (seed, _) = &self.origin;
        let mut id = [0; 32];
        if self.is_told_apart {
            id[..16].copy_from_slice(&checksum(seed));
        }
        id
    }

    /// Bytes of a logical sector: 512, unless it is known better.
    fn sectors(&self) -> u32 {
        self.sector_size.unwrap_or(512)
    }

    /// What a user should know although the disk can be read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The files of this machine that it is read from, if it was opened as an image: its own and those of its parents.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Its volumes by number: partitions, and behind them the volumes of dynamic disks of which a part lies on this disk and on none before it in
    /// the point. Empty partitions are not among them, nor are those that belong to a dynamic disk, unless its database is [damaged](VolumeView::layout_damage): all of them where it
    /// cannot be read, the first where it has lost records.
    ///
    /// # Errors
    /// Whatever reading the partition table reports; remembered, so that it is told again, unless it may pass.
    pub fn volumes(&self) -> Result<&[Arc<VolumeView>]> {
        let found = self.volumes.get(|| {
            let layout = probe::volumes(&self.disk, self.sector_size)?;
            // Nothing is remembered of a disk that could not be looked at as a whole for a reason that may pass.
            if let Some(Err(error)) = &layout.dynamic
                && error.kind().may_pass()
            {
                return Err(error.clone());
            }
            let (together, position) = &self.together;
            let spread = match &layout.dynamic {
                Some(Ok(_)) => Some(together.volumes()?),
                Some(Err(_)) | None => None,
            };
            let mut damage = spread.and_then(|spread| spread.damage.get(position));
            let mut volumes: Vec<Arc<VolumeView>> = Vec::new();
            for mut found in layout.volumes {
                let end = found.start.saturating_add(found.size);
                let mut pieces = vec![(*position, found.start..end)];
                match found.detected {
                    Ok(Detected::Empty) => continue,
                    Ok(Detected::Other(probe::PART_OF_DYNAMIC)) => {
                        let Some(damage) = damage.take() else {
                            continue;
                        };
                        // It stands for what cannot be told. Where volumes lie in it they tell themselves.
                        found.detected = Err(damage.clone());
                        pieces.clear();
                    }
                    _ => {}
                }
                volumes.push(Arc::new(VolumeView::new(found, pieces, &self.reading)));
            }
            if let Some(spread) = spread {
                let all = spread.volumes.iter();
                for spread in all.filter(|spread| spread.home == *position) {
                    if !matches!(spread.found.detected, Ok(Detected::Empty)) {
                        let (found, pieces) = (spread.found.clone(), spread.pieces.clone());
                        volumes.push(Arc::new(VolumeView::new(found, pieces, &self.reading)));
                    }
                }
            }
            Ok(volumes)
        })?;
        Ok(found)
    }

    /// The volume of the partition with this number; 0 is a disk without partitions.
    ///
    /// # Errors
    /// As [`volumes`](DiskView::volumes).
    pub fn volume(&self, number: u32) -> Result<Option<&Arc<VolumeView>>> {
        Ok(self
            .volumes()?
            .iter()
            .find(|volume| volume.number == number))
    }
}

impl VolumeView {
    fn new(
        found: probe::FoundVolume,
        pieces: Vec<(usize, Range<u64>)>,
        reading: &ReadOptions,
    ) -> VolumeView {
        VolumeView {
            number: found.number,
            start: found.start,
            size: found.size,
            pieces,
            found,
            reading: reading.clone(),
            opened: Remembered::default(),
            told: AtomicBool::new(false),
        }
    }

    /// The partition's number as the guest's kernel counts it; 0 is a disk without partitions; from
    /// [`DYNAMIC_NUMBERS`](crate::DYNAMIC_NUMBERS) on it is a volume of dynamic disks.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// `p1`, `p2`, ...; `p0` is a disk without partitions.
    pub fn folder_name(&self) -> String {
        format!("p{}", self.number)
    }

    /// Offset on the disk in bytes; 0 if it is not one piece of it.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Where on the disk it lies, if it is one piece of it.
    pub fn place(&self) -> Option<Range<u64>> {
        match (&self.found.dynamic, self.pieces.as_slice()) {
            (Some(volume), _) if volume.place().is_none() => None,
            (_, [(_, range)]) => Some(range.clone()),
            _ => None,
        }
    }

    /// The parts of disks that it is made of, as far as they are there: positions of disks in the point, and ranges in bytes.
    pub fn pieces(&self) -> &[(usize, Range<u64>)] {
        &self.pieces
    }

    /// What is known of it if it is a volume of dynamic disks.
    pub fn dynamic(&self) -> Option<&DynamicVolume> {
        self.found.dynamic.as_deref()
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What Windows tells it by: any of these.
    pub fn device_ids(&self) -> &[DeviceId] {
        &self.found.device_ids
    }

    /// Why it cannot be put together from its disks, where that is damage: the database of a dynamic disk cannot be read, or has lost records. That a disk was not given is none.
    pub fn layout_damage(&self) -> Option<&Error> {
        let error = match (&self.found.dynamic, self.found.kind) {
            (Some(volume), _) => volume
                .device
                .as_ref()
                .err()
                .and(self.found.detected.as_ref().err()),
            (None, Some(kind)) if ldm::is_part(kind) => self.found.detected.as_ref().err(),
            (None, _) => None,
        };
        error.filter(|error| error.kind() != Kind::NotFound && !error.kind().may_pass())
    }

    /// Whether it may be a volume of Windows, by what it seems to hold: NTFS, or what BitLocker encrypts, which is opened to tell.
    ///
    /// # Errors
    /// What may pass of what was reported when it was opened to tell, which is done too where looking at it failed in such a way. That no key fits is none.
    pub fn is_of_windows(&self) -> Result<bool> {
        let opened = match &self.found.detected {
            Ok(Detected::Ntfs) => return Ok(true),
            Ok(Detected::BitLocker) => self.open().map(|_| true),
            // It may have passed since: what is opened is looked at again.
            Err(error) if error.kind().may_pass() => {
                self.open().map(|files| files.info().file_system == "ntfs")
            }
            _ => return Ok(false),
        };
        match opened {
            Err(error) if error.kind().may_pass() && error.kind() != Kind::Denied => Err(error),
            opened => Ok(opened.unwrap_or(false)),
        }
    }

    /// Why nothing is known of what BitLocker encrypts here: no key opens it. None of all else.
    pub fn locked(&self) -> Option<Error> {
        let error = match &self.found.detected {
            Ok(Detected::BitLocker) => self.open().err(),
            Err(error) if error.kind().may_pass() => self.open().err(),
            _ => None,
        };
        error.filter(|error| error.kind() == Kind::Denied)
    }

    /// What the partition seems to hold, without opening it.
    pub fn content(&self) -> &'static str {
        match &self.found.detected {
            Ok(detected) => detected.name(),
            Err(_) => "unreadable",
        }
    }

    /// Whether it is known to hold nothing that has files: swap space, say. What is encrypted, and file systems that are not read, may have some.
    pub fn holds_no_files(&self) -> bool {
        matches!(&self.found.detected, Ok(Detected::Other(name)) if NO_FILES.contains(name))
            || matches!(&self.found.detected, Ok(Detected::Empty))
    }

    /// Its file system, opened once. [`notes`](VolumeView::notes) say what a user should know of it: above all whether what it shows may be old,
    /// missing or wrong.
    ///
    /// # Errors
    /// Why it cannot be read: damaged, not a file system that is known, or encrypted and none of the keys fits. Remembered, so that it is told again, unless it may pass.
    pub fn open(&self) -> Result<Arc<dyn Volume>> {
        self.opened
            .get(|| self.found.open_with(&self.reading))
            .cloned()
    }

    /// What a user should know of it: of the disks it lies on, and of its file system if that was opened.
    pub fn notes(&self) -> Vec<Note> {
        let of_disks = self.found.dynamic.iter().flat_map(|volume| &volume.notes);
        let opened = self.opened.known();
        let of_files = opened.into_iter().flat_map(|volume| &volume.info().notes);
        of_disks.chain(of_files).cloned().collect()
    }

    /// Why what the volume shows may be old, missing or wrong: told to the first who asks once it is open, to nobody after that.
    pub fn take_defects(&self) -> Vec<String> {
        if self.opened.known().is_none() {
            return Vec::new();
        }
        // Asked often: no write where there is nothing new.
        if self.told.load(Ordering::Relaxed) || self.told.swap(true, Ordering::Relaxed) {
            return Vec::new();
        }
        self.defects()
    }

    /// Why what it shows may be old, missing or wrong, as far as that is known. Sentences.
    pub fn defects(&self) -> Vec<String> {
        let defects = self.notes().into_iter().filter(|note| note.is_defect);
        defects.map(|note| note.text).collect()
    }
}

/// The facts of an image that a point keeps.
pub(crate) fn image_facts(path: &str, image: &dyn VirtualDisk) -> cairn_store::ImageFacts {
    let identity = image.identity();
    let stamp = identity.file;
    cairn_store::ImageFacts {
        format: image.format().to_string(),
        path: path.to_string(),
        identity: identity
            .disk_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        sector_size: image.sector_size(),
        file_size: stamp.map_or(0, |stamp| stamp.size),
        modified_ns: stamp.map_or(0, |stamp| {
            stamp
                .modified
                .seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(i64::from(stamp.modified.nanos))
        }),
    }
}
