//! Disks that are easily made and changed, and stores in folders that vanish.

use cairn_base::read_at::{check_range, read_vec};
use cairn_base::{Clock, Error, Folder, LocalFolder, Monitor, ReadAt, Result, Silent, Time};
use cairn_store::map::REGION;
use cairn_store::{
    BackupOptions, Change, ChangeSource, Changes, ChunkReader, CutParameters, DiskInput,
    ImageFacts, Point, Store, StoredDisk, Tree, backup,
};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

pub const R: usize = REGION as usize;

/// A clock that goes on by a minute whenever it is asked.
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn at(seconds: i64) -> TestClock {
        TestClock(AtomicI64::new(seconds))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Time {
        Time::from_seconds(self.0.fetch_add(60, Ordering::Relaxed))
    }
}

/// A disk in memory that says which parts are allocated and counts what is read.
pub struct TestDisk {
    pub bytes: Vec<u8>,
    pub extents: Option<Vec<Range<u64>>>,
    pub fail_at: Option<u64>,
    pub read: AtomicU64,
}

impl TestDisk {
    pub fn new(bytes: Vec<u8>) -> TestDisk {
        TestDisk {
            bytes,
            extents: None,
            fail_at: None,
            read: AtomicU64::new(0),
        }
    }
}

impl ReadAt for TestDisk {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        if self
            .fail_at
            .is_some_and(|at| at < offset + buffer.len() as u64)
        {
            return Err(Error::new(cairn_base::Kind::Io, "a sector cannot be read"));
        }
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.bytes.read_exact_at(offset, buffer)
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        match &self.extents {
            None => self.bytes.data_extents(range),
            Some(extents) => Ok(extents
                .iter()
                .map(|e| e.start.max(range.start)..e.end.min(range.end))
                .filter(|e| !e.is_empty())
                .collect()),
        }
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// Bytes that compress well, with zeros in between.
pub fn mixed(length: usize, seed: u64) -> Vec<u8> {
    let mut out = noise(length, seed);
    for (index, part) in out.chunks_mut(100_000).enumerate() {
        match index % 4 {
            0 => part.fill(0),
            1 => {
                for (i, byte) in part.iter_mut().enumerate() {
                    *byte = b"lorem ipsum dolor sit amet "[(i + index) % 27];
                }
            }
            _ => {}
        }
    }
    out
}

pub struct Kit {
    pub temp: tempfile::TempDir,
    pub store: Arc<Store>,
    pub clock: TestClock,
}

impl Kit {
    pub fn new() -> Kit {
        Kit::with(CutParameters::default())
    }

    pub fn with(cut: CutParameters) -> Kit {
        let temp = tempfile::tempdir().unwrap();
        let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(temp.path()));
        let clock = TestClock::at(1_800_000_000);
        let store = Arc::new(Store::create(folder, cut, &clock).unwrap());
        Kit { temp, store, clock }
    }

    /// A store whose packs have so much parity, in percent.
    pub fn with_parity(percent: u32) -> Kit {
        let temp = tempfile::tempdir().unwrap();
        let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(temp.path()));
        let clock = TestClock::at(1_800_000_000);
        let made = Store::create_with(folder, CutParameters::default(), percent, &clock);
        let store = Arc::new(made.unwrap());
        Kit { temp, store, clock }
    }

    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Opens the store anew, as another process would.
    pub fn reopen(&self) -> Arc<Store> {
        let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(self.path()));
        Arc::new(Store::open(folder).unwrap())
    }

    pub fn backup(&self, machine: &str, disk: TestDisk) -> Point {
        self.try_backup(machine, disk, &Silent).unwrap()
    }

    pub fn try_backup(
        &self,
        machine: &str,
        disk: TestDisk,
        monitor: &dyn Monitor,
    ) -> Result<Point> {
        let options = BackupOptions::new(machine);
        let disks = [input("disk0", disk)];
        backup(&self.store, &disks, &options, monitor, &self.clock).map(|report| report.point)
    }

    /// Backs up a disk of which only these ranges changed since `base`; `true`: to zeros.
    pub fn changed(
        &self,
        machine: &str,
        base: &Point,
        disk: Arc<dyn ReadAt>,
        ranges: &[(Range<u64>, bool)],
    ) -> Result<Point> {
        let change = |(range, zero): &(Range<u64>, bool)| Change {
            range: range.clone(),
            zero: *zero,
        };
        let changes = Changes::new(disk.size(), ranges.iter().map(change))?;
        let disks = [DiskInput {
            source: disk,
            changes: Some(caller(changes)),
            ..input("disk0", TestDisk::new(vec![]))
        }];
        let options = BackupOptions {
            base: Some(base.id),
            ..BackupOptions::new(machine)
        };
        backup(&self.store, &disks, &options, &Silent, &self.clock).map(|report| report.point)
    }

    pub fn read(&self, point: &Point) -> Result<Vec<u8>> {
        let disk = open_disk(&self.reopen(), point, "disk0");
        read_vec(&disk, 0, disk.size() as usize)
    }
}

/// What a caller tells.
pub fn caller(changes: Changes) -> ChangeSource {
    ChangeSource::Caller(Arc::new(changes))
}

pub fn input(name: &str, disk: TestDisk) -> DiskInput {
    DiskInput {
        name: name.to_string(),
        source: Arc::new(disk),
        facts: ImageFacts::default(),
        changed: None,
        changes: None,
    }
}

pub fn open_disk(store: &Arc<Store>, point: &Point, name: &str) -> StoredDisk {
    let reader = Arc::new(ChunkReader::new(store.clone(), 8 << 20));
    StoredDisk::new(Tree::new(reader, point.disk(name).unwrap()).unwrap())
}

/// Every file below a folder, by its path relative to it.
pub fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(root).unwrap();
                found.push(relative.to_str().unwrap().to_string());
            }
        }
    }
    found.sort();
    found
}

pub fn files_in(root: &Path, folder: &str) -> Vec<String> {
    let prefix = format!("{folder}/");
    files(root)
        .into_iter()
        .filter(|f| f.starts_with(&prefix))
        .collect()
}
