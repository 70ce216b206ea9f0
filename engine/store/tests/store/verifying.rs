//! Verification: what each way of it finds, which packs it reads, and what it notes of them.

use crate::kit::{Kit, R, TestDisk, files_in, mixed, noise};
use crate::tidying::{copy_store, open, small_backups};
use crate::watched::WatchedFolder;
use cairn_base::{Clock, Folder, LocalFolder, Silent, SystemClock, Time};
use cairn_store::hash::checksum;
use cairn_store::pack::PackReader;
use cairn_store::verify::{Depth, Pick};
use cairn_store::{Proofs, Store, VerifyOptions, VerifyReport, verify_with};
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub fn at_depth(path: &Path, depth: Depth) -> VerifyReport {
    run(path, &VerifyOptions::at_depth(depth))
}

pub fn run(path: &Path, options: &VerifyOptions) -> VerifyReport {
    verify_with(&open(path), options, &Silent, &SystemClock).unwrap()
}

pub fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

pub fn packs(path: &Path) -> Vec<String> {
    files_in(path, "packs")
}

pub fn largest_pack(path: &Path) -> String {
    let length = |pack: &String| std::fs::metadata(path.join(pack)).unwrap().len();
    packs(path).into_iter().max_by_key(length).unwrap()
}

pub fn proofs(path: &Path) -> Proofs {
    Proofs::read(&LocalFolder::new(path)).unwrap()
}

/// What is said to be lost, without words.
pub fn lost(report: &VerifyReport) -> BTreeSet<String> {
    let damaged = report.damaged.iter();
    damaged
        .map(|d| format!("{:?}", (d.chunk, d.pack, &d.points, d.offset, d.length)))
        .collect()
}

#[test]
fn tags_name_the_same_damage_as_decoding() {
    let kit = Kit::new();
    kit.backup("m", TestDisk::new(mixed(4 * R, 1)));
    kit.backup("n", TestDisk::new(mixed(2 * R, 2)));
    let mut found = 0;
    for pack in packs(kit.path()) {
        let length = std::fs::metadata(kit.path().join(&pack)).unwrap().len();
        // In the header, all over the frames, in the table, in the footer.
        let places = (0..24).map(|n| 64 + n * (length - 300) / 24);
        for at in places.chain([3, length - 300, length - 2]) {
            let by = |depth| {
                let copy = copy_store(kit.path());
                flip(&copy.path().join(&pack), at);
                at_depth(copy.path(), depth)
            };
            let (tags, deep) = (by(Depth::Tags), by(Depth::Deep));
            assert!(!tags.is_clean(), "{pack} {at}");
            assert_eq!(lost(&tags), lost(&deep), "{pack} {at}");
            assert_eq!(tags.problems.len(), deep.problems.len(), "{pack} {at}");
            assert_eq!(tags.bad_packs, deep.bad_packs, "{pack} {at}");
            found += lost(&tags).len();
        }
    }
    assert!(found > 80, "{found}");
}

/// Damages a chunk and makes the tag of its frame, the table and the footer fit: as if the bytes had been wrong before they were written.
fn forge(kit: &Kit) {
    let pack = kit.path().join(largest_pack(kit.path()));
    let name = pack.file_name().unwrap().to_str().unwrap();
    let id = cairn_base::PackId::parse(name).unwrap();
    let folder = LocalFolder::new(kit.path());
    let reader = PackReader::open(&folder, kit.store.header().store, id).unwrap();
    let (mut toc, mut footer) = (reader.toc().clone(), *reader.footer());
    let mut bytes = std::fs::read(&pack).unwrap();
    let frame = toc.frames.iter_mut().find(|frame| frame.plain).unwrap();
    let start = frame.offset as usize;
    bytes[start + 5] ^= 1;
    frame.tag = kit
        .store
        .keys()
        .frame_tag(&bytes[start..start + frame.stored as usize]);
    let table = toc.encode();
    let at = footer.toc_offset as usize;
    bytes[at..at + table.len()].copy_from_slice(&table);
    footer.toc_checksum = checksum(&table);
    let end = footer.encode();
    let at = bytes.len() - end.len();
    bytes[at..].copy_from_slice(&end);
    std::fs::write(&pack, bytes).unwrap();
}

#[test]
fn only_decoding_finds_what_was_written_wrong_and_it_stays_known() {
    let kit = Kit::new();
    kit.backup("m", TestDisk::new(noise(2 * R, 3)));
    forge(&kit);
    assert!(at_depth(kit.path(), Depth::Tags).is_clean());
    let deep = at_depth(kit.path(), Depth::Deep);
    assert_eq!(deep.damaged.len(), 1, "{deep:?}");
    // From now on the pack is decoded whenever it is read; and what is known is told by those that do not read it.
    for depth in [Depth::Quick, Depth::Tags, Depth::Deep] {
        let again = at_depth(kit.path(), depth);
        assert_eq!(lost(&again), lost(&deep), "{depth:?}");
    }
}

#[test]
fn each_way_finds_what_it_claims() {
    let kit = Kit::new();
    kit.backup("m", TestDisk::new(mixed(3 * R, 4)));
    let finds = |damage: &dyn Fn(&Path)| {
        [Depth::Quick, Depth::Tags, Depth::Deep].map(|depth| {
            let copy = copy_store(kit.path());
            damage(copy.path());
            !at_depth(copy.path(), depth).is_clean()
        })
    };
    let pack = largest_pack(kit.path());
    let segment = files_in(kit.path(), "index").remove(0);
    assert_eq!(finds(&|_| {}), [false; 3]);
    let gone = finds(&|path| std::fs::remove_file(path.join(&pack)).unwrap());
    assert_eq!(gone, [true; 3]);
    let cut = |path: &Path| {
        let bytes = std::fs::read(path.join(&pack)).unwrap();
        std::fs::write(path.join(&pack), &bytes[..bytes.len() - 1]).unwrap();
    };
    assert_eq!(finds(&cut), [true; 3]);
    let rotten = finds(&|path| flip(&path.join(&pack), 100_000));
    assert_eq!(rotten, [false, true, true]);
    // A page of entries: its chunks are not found by the walk, either.
    assert_eq!(finds(&|path| flip(&path.join(&segment), 100)), [true; 3]);
    // A pack that nothing reads but the check of all bytes: its table.
    let length = std::fs::metadata(kit.path().join(&pack)).unwrap().len();
    let table = finds(&|path| flip(&path.join(&pack), length - 200));
    assert_eq!(table, [false, true, true]);
}

#[test]
fn a_sample_reads_its_share_and_its_seed_is_told() {
    let kit = Kit::new();
    small_backups(&kit, 15);
    let sample = |path: &Path, share, seed| {
        let options = VerifyOptions {
            pick: Pick::Sample { share, seed },
            ..VerifyOptions::default()
        };
        run(path, &options)
    };
    let all = sample(kit.path(), 1_000_000, None);
    assert_eq!((all.checked_packs, all.packs), (30, 30));
    assert_eq!(all.checked_bytes, all.pack_bytes);
    let some = sample(kit.path(), 100_000, None);
    let pack = largest_pack(kit.path());
    let largest = std::fs::metadata(kit.path().join(&pack)).unwrap().len();
    let share = some.pack_bytes / 10;
    assert!((share..share + largest).contains(&some.checked_bytes));
    // A damaged pack is found by just the seeds that draw it; afterwards it is known to all.
    flip(&kit.path().join(&pack), 1000);
    let (mut missed, mut found) = (None, None);
    for seed in 0..10_000 {
        let copy = copy_store(kit.path());
        let report = sample(copy.path(), 100_000, Some(seed));
        assert_eq!(report.seed, Some(seed));
        if report.is_clean() {
            missed = Some(seed);
        } else {
            found = Some((copy, report));
        }
        if missed.is_some() && found.is_some() {
            break;
        }
    }
    let (copy, found) = found.unwrap();
    assert_eq!((found.damaged.len(), found.bad_packs.len()), (1, 1));
    assert!(pack.ends_with(&found.bad_packs[0].to_string()));
    let later = sample(copy.path(), 100_000, missed);
    assert_eq!(later.bad_packs, []);
    assert_eq!(lost(&later), lost(&found));
}

/// A clock on which time passes only by waiting.
#[derive(Default)]
struct Patient(AtomicU64);

impl Clock for Patient {
    fn now(&self) -> Time {
        Time::from_seconds(2_000_000_000)
    }
    fn ticks(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }
    fn wait(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap();
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

#[test]
fn a_limit_is_kept() {
    let kit = Kit::new();
    kit.backup("m", TestDisk::new(noise(3 * R, 8)));
    for depth in [Depth::Tags, Depth::Deep] {
        let clock = Patient::default();
        let limit = 100_000;
        let options = VerifyOptions {
            limit: NonZeroU64::new(limit),
            ..VerifyOptions::at_depth(depth)
        };
        let report = verify_with(&open(kit.path()), &options, &Silent, &clock).unwrap();
        assert!(report.is_clean() && report.checked_bytes > 3 * R as u64);
        let allowed = limit * (clock.ticks().as_secs() + 1);
        // All but the last piece was paid for before it was read.
        assert!(report.checked_bytes <= allowed + (2 << 20), "{depth:?}");
        // Two threads that wait let this clock run twice as fast at most; the index is paid for by whole blocks.
        assert!(
            allowed < 3 * (report.checked_bytes + (4 << 20)),
            "{depth:?}"
        );
    }
}

#[test]
fn nothing_is_noted_by_those_who_read_nothing() {
    let kit = Kit::new();
    small_backups(&kit, 2);
    at_depth(kit.path(), Depth::Quick);
    assert!(!kit.path().join("proofs").exists());
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(kit.path()));
    assert!(Proofs::read(&*folder).unwrap().is_empty());
}

#[test]
fn a_sector_of_zeros_is_damage_of_its_chunks_only() {
    let kit = Kit::new();
    kit.backup("m", TestDisk::new(noise(2 * R, 12)));
    let pack = kit.path().join(largest_pack(kit.path()));
    let file = std::fs::OpenOptions::new().write(true).open(&pack).unwrap();
    file.write_all_at(&[0; 4096], 3_000_000).unwrap();
    let tags = at_depth(kit.path(), Depth::Tags);
    let deep = at_depth(kit.path(), Depth::Deep);
    assert!((1..=3).contains(&tags.damaged.len()), "{tags:?}");
    assert_eq!(lost(&tags), lost(&deep));
}

#[test]
fn a_pack_that_cannot_be_opened_for_the_moment_is_neither_good_nor_damaged() {
    let kit = Kit::new();
    small_backups(&kit, 2);
    let pack = largest_pack(kit.path());
    let mut met = 0;
    for at in 0.. {
        let copy = copy_store(kit.path());
        let folder = WatchedFolder::new(copy.path());
        let store = Arc::new(Store::open(Arc::new(folder.clone())).unwrap());
        let path = copy.path().join(&pack);
        // Its name leads round in a circle: the system refuses, which says nothing of the bytes.
        folder.before(at, move || {
            let circle = path.with_extension("circle");
            std::os::unix::fs::symlink(&path, &circle).unwrap();
            // At once, so that no thread finds nothing under that name.
            std::fs::rename(&circle, &path).unwrap();
        });
        let options = VerifyOptions::default();
        let ended = verify_with(&store, &options, &Silent, &SystemClock);
        if folder.waits() {
            break;
        }
        drop(store);
        assert!(open(copy.path()).known_damage().is_empty(), "{at}");
        let Ok(report) = ended else {
            continue;
        };
        assert_eq!(report.bad_packs, [], "{at}");
        if !report.is_clean() {
            met += 1;
            assert_eq!(proofs(copy.path()).len(), 3, "{at}");
        }
    }
    assert!(met > 0);
}
