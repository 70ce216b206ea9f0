//! Volumes with many files: what a walk reads and holds, and where it goes on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_base::read_at::check_range;
use cairn_base::{Error, Kind, ReadAt, Result};
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::{DirEntry, EntryId, EntryKind, Volume};
use ntfs_support::made::*;
use ntfs_support::*;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::{ControlFlow, Range};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const MIB: u64 = 1 << 20;
/// Names in the large folder.
const NAMES: u64 = 200_000;

/// The memory of a process is measured: so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A line of what the system says of this process, in bytes.
fn status(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Asserts that `work` takes no more than so many bytes of memory more than there were, where the system tells.
fn within<T>(most: u64, work: impl FnOnce() -> T) -> T {
    // The peak begins anew.
    let is_measured = fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = status("VmRSS:");
    let outcome = work();
    match (before, status("VmHWM:")) {
        (Some(before), Some(peak)) if is_measured => {
            let took = peak.saturating_sub(before);
            assert!(took < most, "took {took} bytes of memory, not {most}");
        }
        _ => println!("SKIPPED: the system does not tell the memory of a process"),
    }
    outcome
}

/// A disk that counts what is read of it, and of which a part cannot be read.
struct Watched {
    disk: Arc<dyn ReadAt>,
    bad: Range<u64>,
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl Watched {
    fn new(disk: Arc<dyn ReadAt>, bad: Range<u64>) -> Arc<Watched> {
        Arc::new(Watched {
            disk,
            bad,
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Reads and bytes since it was last asked.
    fn take(&self) -> (u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (take(&self.reads), take(&self.bytes))
    }
}

impl ReadAt for Watched {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        if offset < self.bad.end && offset + buffer.len() as u64 > self.bad.start {
            return Err(Error::new(Kind::Io, "the sector cannot be read"));
        }
        self.disk.read_exact_at(offset, buffer)
    }
}

/// At most `count` names behind `after`.
fn some(volume: &NtfsVolume, folder: EntryId, after: u64, count: usize) -> Vec<DirEntry> {
    let mut found = Vec::new();
    let sink = &mut |entry| {
        found.push(entry);
        match found.len() < count {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    volume.read_dir(folder, after, sink).unwrap();
    found
}

/// What is told of each name, without holding it: how many there are, and a sum over them.
fn listed(volume: &NtfsVolume, folder: EntryId) -> (u64, u64) {
    let (mut count, mut sum) = (0, 0u64);
    let sink = &mut |entry: DirEntry| {
        count += 1;
        let name = entry.name.iter().map(|byte| u64::from(*byte));
        sum = sum.wrapping_add(name.sum::<u64>() * entry.id.number);
        ControlFlow::Continue(())
    };
    volume.read_dir(folder, 0, sink).unwrap();
    (count, sum)
}

/// A name for each number, in an order that is not that of the numbers.
fn name(number: u64) -> String {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    format!("{mixed:06x} report of branch {number}.txt")
}

/// A volume with a folder `many` of so many empty files.
fn many(image: &Path, folder: &Path, count: u64) -> Option<()> {
    let mount = Mount::new(image, folder, "streams_interface=none,noatime")?;
    fs::create_dir(mount.0.join("many")).unwrap();
    for number in 0..count {
        File::create(mount.0.join("many").join(name(number))).unwrap();
    }
    Some(())
}

/// Compares what was listed with what ntfs-3g lists, and of every thousandth what is known of it.
fn compare(volume: &NtfsVolume, mount: &Mount, listed: &[DirEntry]) {
    let mut theirs = BTreeMap::new();
    for entry in fs::read_dir(mount.0.join("many")).unwrap() {
        let entry = entry.unwrap();
        theirs.insert(entry.file_name().as_bytes().to_vec(), entry.ino());
    }
    assert_eq!(theirs.len() as u64, NAMES);
    for entry in listed {
        assert_eq!(theirs.get(&entry.name), Some(&entry.id.number));
    }
    for entry in listed.iter().step_by(1000) {
        let name = std::ffi::OsStr::from_bytes(&entry.name);
        let metadata = fs::metadata(mount.0.join("many").join(name)).unwrap();
        let attributes = volume.attributes(entry.id).unwrap();
        assert_eq!(attributes.kind, EntryKind::File);
        assert_eq!(attributes.size, metadata.len());
        assert_eq!(attributes.modified.seconds, metadata.mtime());
        assert_eq!(i64::from(attributes.modified.nanos), metadata.mtime_nsec());
    }
}

#[test]
fn a_folder_of_200_000_names_is_listed_without_being_held() {
    if !have(&TOOLS) {
        return;
    }
    let _alone = ALONE.lock();
    let temp = tempfile::tempdir().unwrap();
    let image = make(temp.path(), 512 << 20, &[]);
    let Some(()) = many(&image, temp.path(), NAMES) else {
        return;
    };
    let disk = Watched::new(FileDisk::open(&image), 0..0);
    let volume = NtfsVolume::open(disk.clone()).unwrap();
    let folder = volume.lookup(volume.root(), b"many").unwrap().unwrap().id;
    // No more than the caches hold, and nothing more once they are full.
    let first = within(40 * MIB, || listed(&volume, folder));
    assert_eq!(first.0, NAMES);
    let again = within(8 * MIB, || listed(&volume, folder));
    assert_eq!(again, first);

    // From any place it goes on at once, also if nothing is known of the volume yet.
    let all = some(&volume, folder, 0, usize::MAX);
    assert_eq!(all.len() as u64, NAMES);
    for at in (0..all.len() - 40).step_by(7919) {
        let next = some(&volume, folder, all[at].cookie, 40);
        assert_eq!(next, all[at + 1..at + 41]);
    }
    disk.take();
    let anew = NtfsVolume::open(disk.clone()).unwrap();
    let middle = all.len() / 2;
    let (opened, _) = disk.take();
    let next = some(&anew, folder, all[middle].cookie, 40);
    let (reads, bytes) = disk.take();
    assert_eq!(next, all[middle + 1..middle + 41]);
    assert!(reads < 100, "{reads} reads, {opened} to open the volume");
    assert!(bytes < MIB, "{bytes} bytes");
    assert!(some(&volume, folder, all[all.len() - 1].cookie, 1).is_empty());

    let mount = Mount::new(&image, temp.path(), "ro,streams_interface=none").unwrap();
    compare(&volume, &mount, &all);
    // A name is found without the others being looked at.
    disk.take();
    for number in (0..NAMES).step_by(9973) {
        let wanted = name(number).to_uppercase();
        let found = anew.lookup(folder, wanted.as_bytes()).unwrap().unwrap();
        assert_eq!(found.name, name(number).into_bytes());
    }
    let (reads, _) = disk.take();
    assert!(reads < 21 * 8, "{reads} reads for 21 names");
}

/// A volume with 3000 files in one folder, in its memory, and where its file records begin.
fn thousands() -> Option<(Vec<u8>, usize)> {
    let temp = tempfile::tempdir().unwrap();
    let image = make(temp.path(), 16 << 20, &[]);
    many(&image, temp.path(), 3000)?;
    let bytes = fs::read(&image).unwrap();
    let mft = u64::from_le_bytes(bytes[0x30..0x38].try_into().unwrap()) as usize * 4096;
    Some((bytes, mft))
}

/// All names, and what is known of each or why it is not.
fn walked(volume: &NtfsVolume) -> BTreeMap<Vec<u8>, Result<u64>> {
    let folder = volume.lookup(volume.root(), b"many").unwrap().unwrap().id;
    let names = some(volume, folder, 0, usize::MAX);
    let known = |entry: &DirEntry| Ok(volume.attributes(entry.id)?.size);
    names
        .into_iter()
        .map(|entry| (entry.name.clone(), known(&entry)))
        .collect()
}

#[test]
fn a_walk_reads_the_file_table_in_large_pieces_and_once() {
    if !have(&TOOLS) {
        return;
    }
    let _alone = ALONE.lock();
    let Some((bytes, _)) = thousands() else {
        return;
    };
    let disk = Watched::new(Arc::new(bytes), 0..0);
    let volume = NtfsVolume::open(disk.clone()).unwrap();
    disk.take();
    let found = walked(&volume);
    assert_eq!(found.len(), 3000);
    assert!(found.values().all(|known| known.is_ok()));
    // 3 MiB of records and 400 KiB of names: a read for each record would be 3000.
    let (reads, bytes) = disk.take();
    assert!(reads < 150, "{reads} reads");
    assert!(bytes < 8 * MIB, "{bytes} bytes");
    // What is known is not read again.
    walked(&volume);
    let (reads, _) = disk.take();
    assert!(reads < 20, "{reads} reads the second time");
}

#[test]
fn what_is_near_a_bad_record_is_read_as_ever() {
    if !have(&TOOLS) {
        return;
    }
    let _alone = ALONE.lock();
    let Some((good, mft)) = thousands() else {
        return;
    };
    let sound = walked(&open_bytes(&good));
    let number = |bytes: &[u8], name: &str| {
        let volume = open_bytes(bytes);
        let folder = volume.lookup(volume.root(), b"many").unwrap().unwrap().id;
        let found = volume.lookup(folder, name.as_bytes()).unwrap().unwrap();
        found.id.number as usize
    };
    // Written in part: that record alone.
    let torn = number(&good, &name(1500));
    let mut bytes = good.clone();
    bytes[mft + torn * 1024 + 511] ^= 1;
    let found = walked(&open_bytes(&bytes));
    assert_eq!(found.len(), 3000);
    let bad: Vec<_> = found.iter().filter(|(_, known)| known.is_err()).collect();
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].0, name(1500).as_bytes());
    let error = bad[0].1.clone().unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);

    // A sector that cannot be read: the records in it, and no others, however much is read at once.
    let at = (mft + torn * 1024) as u64 / 512 * 512;
    let disk = Watched::new(Arc::new(good), at..at + 512);
    let volume = NtfsVolume::open(disk).unwrap();
    for _ in 0..2 {
        let found = walked(&volume);
        assert_eq!(found.len(), 3000);
        for (name, known) in &found {
            match known {
                Ok(size) => assert_eq!(sound[name].as_ref().unwrap(), size),
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Io, "{error}");
                    assert_eq!(*name, crate::name(1500).into_bytes());
                }
            }
        }
        assert_eq!(found.values().filter(|known| known.is_err()).count(), 1);
    }
}

#[test]
fn a_walk_by_many_threads_finds_what_one_finds() {
    if !have(&TOOLS) {
        return;
    }
    let _alone = ALONE.lock();
    let Some((bytes, _)) = thousands() else {
        return;
    };
    let alone = listed_with_sizes(&open_bytes(&bytes));
    let volume = open_bytes(&bytes);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    assert_eq!(listed_with_sizes(&volume), alone);
                }
            });
        }
    });
}

fn listed_with_sizes(volume: &NtfsVolume) -> BTreeMap<Vec<u8>, u64> {
    let found = walked(volume).into_iter();
    found.map(|(name, size)| (name, size.unwrap())).collect()
}
