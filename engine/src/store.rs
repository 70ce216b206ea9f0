//! The store as a front-end sees it.

mod retention;

pub use retention::{ForgetPlan, OfMachine, PinnedPoint};

use crate::input::DiskImage;
use crate::point::PointView;
use cairn_base::{Folder, LocalFolder, Monitor, Result, SessionId, SystemClock};
use cairn_guest::ReadOptions;
use cairn_store::catalog::{self, Listing, PointNames, PointSink};
use cairn_store::doctor::Checkup;
use cairn_store::layout::PointFile;
use cairn_store::policy::Policy;
use cairn_store::store::RemovedSession;
use cairn_store::{
    BackupOptions, ChunkReader, CutParameters, Locality, Point, PointName, PruneOptions,
    PruneReport, RepairReport, StoreStats, Usage, UsageOptions, VerifyOptions, VerifyReport,
};
use std::path::Path;
use std::sync::Arc;

/// Plain chunks kept in memory by everything that reads one store, in bytes.
const CHUNK_CACHE: usize = 64 << 20;

/// A store of recovery points. Cheap to clone; shared by threads.
#[derive(Clone)]
pub struct Store {
    inner: Arc<cairn_store::Store>,
    reader: Arc<ChunkReader>,
    reading: ReadOptions,
}

impl Store {
    /// Makes a store in the folder `path`, which is made if it is not there and must be empty.
    ///
    /// # Errors
    /// [`Kind::Exists`](crate::Kind::Exists) if there is a store or anything else; as the operating system reports.
    pub fn create(path: &Path) -> Result<Store> {
        Store::create_with(path, CutParameters::default())
    }

    /// As [`create`](Store::create), with other cut parameters; they cannot be changed later.
    ///
    /// # Errors
    /// As [`create`](Store::create), and [`Kind::Invalid`](crate::Kind::Invalid) for impossible parameters.
    pub fn create_with(path: &Path, cut: CutParameters) -> Result<Store> {
        Store::create_with_parity(path, cut, 0)
    }

    /// As [`create_with`](Store::create_with); packs get `parity` percent of parity, so that damaged sectors can be repaired. It cannot be changed later.
    ///
    /// # Errors
    /// As [`create_with`](Store::create_with), and [`Kind::Invalid`](crate::Kind::Invalid) for more than 25 percent.
    pub fn create_with_parity(path: &Path, cut: CutParameters, parity: u32) -> Result<Store> {
        Store::create_immutable(path, cut, parity, 0)
    }

    /// As [`create_with_parity`](Store::create_with_parity); points that were made less than `immutable` seconds ago cannot be forgotten.
    ///
    /// # Errors
    /// As [`create_with_parity`](Store::create_with_parity), and [`Kind::Invalid`](crate::Kind::Invalid) for more than ten years.
    pub fn create_immutable(
        path: &Path,
        cut: CutParameters,
        parity: u32,
        immutable: u64,
    ) -> Result<Store> {
        let policy = Policy { immutable };
        policy.check()?;
        LocalFolder::new(path).create_folder("")?;
        let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(path));
        let inner =
            cairn_store::Store::create_immutable(folder, cut, parity, policy, &SystemClock)?;
        Ok(Store::of(inner))
    }

    /// Opens the store in the folder `path`.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) if it is no store, [`Kind::Unsupported`](crate::Kind::Unsupported) if it needs a
    /// newer version, [`Kind::Damaged`](crate::Kind::Damaged) if it cannot be read.
    pub fn open(path: &Path) -> Result<Store> {
        let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(path));
        Ok(Store::of(cairn_store::Store::open(folder)?))
    }

    /// Whether the folder `path` holds a store, without opening it.
    pub fn is_store(path: &Path) -> bool {
        path.is_dir()
            && cairn_store::layout::HEADERS
                .iter()
                .any(|name| path.join(name).exists())
    }

    fn of(inner: cairn_store::Store) -> Store {
        let inner = Arc::new(inner);
        Store {
            reader: Arc::new(ChunkReader::new(inner.clone(), CHUNK_CACHE)),
            inner,
            reading: ReadOptions::default(),
        }
    }

    /// The same store, the file systems of whose points are read as `options` say.
    pub fn with_read_options(mut self, options: ReadOptions) -> Store {
        self.reading = options;
        self
    }

    /// What was found wrong, but not fatal, when it was opened.
    pub fn warnings(&self) -> &[String] {
        self.inner.warnings()
    }

    /// Where it lies, for messages.
    pub fn location(&self) -> String {
        self.inner.folder().describe("")
    }

    /// The folder of this machine that it lies in, if it does.
    pub fn place(&self) -> Option<&Path> {
        self.inner.folder().place()
    }

    /// Backs up disks as one recovery point of a machine.
    ///
    /// # Errors
    /// As [`cairn_store::backup()`]; nothing is lost, and nothing partial is listed.
    pub fn backup(
        &self,
        disks: Vec<DiskImage>,
        options: &BackupOptions,
        monitor: &dyn Monitor,
    ) -> Result<Point> {
        let disks: Vec<_> = disks.into_iter().map(DiskImage::into_input).collect();
        let report = cairn_store::backup(&self.inner, &disks, options, monitor, &SystemClock)?;
        Ok(report.point)
    }

    /// The points of one machine, or of all, oldest first; what cannot be read is named in the listing.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn points(&self, machine: Option<&str>) -> Result<Listing> {
        match machine {
            Some(machine) => catalog::machine_points(&self.inner, machine),
            None => catalog::all_points(&self.inner),
        }
    }

    /// Reads the points of one machine, or of all, and tells them oldest first, machine by machine, with what cannot be read. Takes little memory however
    /// many there are.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn each_point(&self, machine: Option<&str>, sink: PointSink<'_>) -> Result<()> {
        catalog::each_point(&self.inner, machine, sink)
    }

    /// The points of a machine by the names of their files, oldest first. Nothing else is read, however many there are; what a name says is checked when
    /// its point is read.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn point_names(&self, machine: &str) -> Result<PointNames> {
        catalog::point_names(&self.inner, machine)
    }

    /// The point of a machine in this file.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) if it is gone, [`Kind::Damaged`](crate::Kind::Damaged) if it is not whole or not what its name says.
    pub fn read_point(&self, machine: &str, file: &PointFile) -> Result<Point> {
        catalog::read_point(&self.inner, machine, file)
    }

    /// A machine's name as it is spelled; none if there is no such machine.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn machine_name(&self, machine: &str) -> Result<Option<String>> {
        catalog::machine_name(&self.inner, machine)
    }

    /// The names of all machines, and what could not be read.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn machines(&self) -> Result<(Vec<String>, Vec<crate::Error>)> {
        catalog::machines(&self.inner)
    }

    /// The point that a user names: `NAME@latest`, `NAME@<time>` or a unique prefix of an id.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) if there is none, [`Kind::Invalid`](crate::Kind::Invalid) if the name makes no sense.
    pub fn find_point(&self, name: &str) -> Result<Point> {
        catalog::find(&self.inner, &PointName::parse(name)?)
    }

    /// Opens a point for reading.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn open_point(&self, point: &Point) -> Result<PointView> {
        PointView::open(&self.inner, &self.reader, point, &self.reading)
    }

    /// Checks that every point can be restored, and notes which packs were proven good.
    ///
    /// # Errors
    /// Only if the check itself could not be done; damage is in the report.
    pub fn verify(&self, options: &VerifyOptions, monitor: &dyn Monitor) -> Result<VerifyReport> {
        cairn_store::verify_with(&self.inner, options, monitor, &SystemClock)
    }

    /// Gives back the space of what no point needs; backups, restores and mounts go on meanwhile.
    ///
    /// # Errors
    /// As [`cairn_store::prune`].
    pub fn prune(&self, options: &PruneOptions, monitor: &dyn Monitor) -> Result<PruneReport> {
        cairn_store::prune(&self.inner, options, monitor)
    }

    /// Removes the session of a process of another host, on the user's word that it has ended.
    ///
    /// # Errors
    /// As [`cairn_store::Store::remove_session`].
    pub fn remove_session(&self, id: SessionId) -> Result<RemovedSession> {
        self.inner.remove_session(id)
    }

    /// What state the store in the folder `path` is in, also where it cannot be opened. Changes nothing.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) if it is no store, [`Kind::Unsupported`](crate::Kind::Unsupported) if it needs a
    /// newer version.
    pub fn examine(path: &Path) -> Result<Checkup> {
        let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(path));
        cairn_store::doctor::examine(&folder, &SystemClock)
    }

    /// Writes anew what is damaged, as far as it can be had from parity, the index or other packs. To be opened again afterwards: what was wrong when it was opened
    /// may not be wrong any more.
    ///
    /// # Errors
    /// [`Kind::Busy`](crate::Kind::Busy) if another host writes or a backup merges packs just now; as the operating system reports.
    pub fn repair(&self, monitor: &dyn Monitor) -> Result<RepairReport> {
        cairn_store::repair(&self.inner, monitor)
    }

    /// Makes a store that lost both slots of its state one that can be opened again; `false` if it can be.
    ///
    /// # Errors
    /// [`Kind::Busy`](crate::Kind::Busy) if somebody writes to it; as the operating system reports.
    pub fn rebuild_state(path: &Path) -> Result<bool> {
        cairn_store::rebuild_state(&LocalFolder::new(path), &SystemClock)
    }

    /// What could be read only with the help of parity, in sentences: the packs should be repaired.
    pub fn healed(&self) -> Vec<String> {
        self.inner.healed()
    }

    /// What the store holds, in numbers.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn stats(&self) -> Result<StoreStats> {
        cairn_store::stats(&self.inner, &SystemClock)
    }

    /// What every point and every machine needs in the packs, exactly: the maps of all points are walked.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::Kind::Damaged) if a part of a map is lost; [`Kind::NotFound`](crate::Kind::NotFound) if a point that is asked for is not
    /// there; [`Kind::Interrupted`](crate::Kind::Interrupted) on request; as the operating system reports.
    pub fn usage(&self, options: &UsageOptions, monitor: &dyn Monitor) -> Result<Usage> {
        cairn_store::usage(&self.inner, options, monitor)
    }

    /// How scattered a point lies in the packs, as it would be restored now: its map is walked, and each of its chunks looked up.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) if it was forgotten meanwhile; [`Kind::Damaged`](crate::Kind::Damaged) if a part of its map is lost;
    /// [`Kind::Interrupted`](crate::Kind::Interrupted) on request; as the operating system reports.
    pub fn locality(&self, point: &Point, monitor: &dyn Monitor) -> Result<Locality> {
        cairn_store::locality(&self.inner, point, monitor)
    }
}
