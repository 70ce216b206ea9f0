//! Verification: what each way of it finds, which packs it reads, and what it notes of them.

use crate::kit::{Kit, R, TestClock, TestDisk, files_in, mixed, noise};
use crate::tidying::{copy_store, open, small_backups, tidy_at};
use cairn_base::{Clock, Folder, LocalFolder, Monitor, Silent, Stage, SystemClock, Time};
use cairn_store::hash::checksum;
use cairn_store::pack::PackReader;
use cairn_store::verify::{Depth, Pick};
use cairn_store::{Proofs, Store, VerifyOptions, VerifyReport, stats, verify_with};
use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroU64};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn at_depth(path: &Path, depth: Depth) -> VerifyReport {
    run(path, &VerifyOptions::at_depth(depth))
}

fn run(path: &Path, options: &VerifyOptions) -> VerifyReport {
    verify_with(&open(path), options, &Silent, &SystemClock).unwrap()
}

fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

fn packs(path: &Path) -> Vec<String> {
    files_in(path, "packs")
}

fn largest_pack(path: &Path) -> String {
    let length = |pack: &String| std::fs::metadata(path.join(pack)).unwrap().len();
    packs(path).into_iter().max_by_key(length).unwrap()
}

fn proofs(path: &Path) -> Proofs {
    Proofs::read(&LocalFolder::new(path)).unwrap()
}

/// What is said to be lost, without words.
fn lost(report: &VerifyReport) -> BTreeSet<String> {
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
    assert!(found > 100, "{found}");
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
    let sample = |share, seed| {
        let options = VerifyOptions {
            pick: Pick::Sample { share, seed },
            ..VerifyOptions::default()
        };
        run(kit.path(), &options)
    };
    let all = sample(1_000_000, None);
    assert_eq!((all.checked_packs, all.packs), (30, 30));
    assert_eq!(all.checked_bytes, all.pack_bytes);
    let some = sample(100_000, None);
    let largest = packs(kit.path())
        .iter()
        .map(|pack| std::fs::metadata(kit.path().join(pack)).unwrap().len())
        .max();
    let share = some.pack_bytes / 10;
    assert!((share..share + largest.unwrap()).contains(&some.checked_bytes));
    // A damaged pack is found by just the seeds that draw it; afterwards it is known to all.
    let pack = largest_pack(kit.path());
    flip(&kit.path().join(&pack), 1000);
    let (mut missed, mut seed) = (0, 0);
    let found = loop {
        let report = sample(100_000, Some(seed));
        assert_eq!(report.seed, Some(seed));
        if !report.is_clean() {
            break report;
        }
        missed += 1;
        seed += 1;
    };
    assert!(missed > 0 && found.damaged.len() == 1, "{found:?}");
    assert_eq!(found.bad_packs.len(), 1);
    assert!(pack.ends_with(&found.bad_packs[0].to_string()));
    assert!((0..seed).all(|seed| lost(&sample(100_000, Some(seed))) == lost(&found)));
}

#[test]
fn what_was_proven_since_is_not_read_again() {
    let kit = Kit::new();
    small_backups(&kit, 8);
    let clock = TestClock::at(2_000_000_000);
    let at = |since: i64, depth| {
        let options = VerifyOptions {
            depth,
            since: Some(Time::from_seconds(since)),
            ..VerifyOptions::default()
        };
        verify_with(&open(kit.path()), &options, &Silent, &clock).unwrap()
    };
    let begun = 2_000_000_000;
    assert_eq!(at(begun, Depth::Tags).checked_packs, 16);
    assert_eq!(at(begun, Depth::Tags).checked_packs, 0);
    assert_eq!(at(begun, Depth::Deep).checked_packs, 16);
    assert_eq!(at(begun, Depth::Deep).checked_packs, 0);
    let later = clock.now().seconds;
    assert_eq!(at(later, Depth::Tags).checked_packs, 16);
    // What is new is due, and what is damaged stays due.
    kit.backup("n", TestDisk::new(noise(5000, 9)));
    assert_eq!(at(begun, Depth::Tags).checked_packs, 2);
    let pack = kit.path().join(largest_pack(kit.path()));
    flip(&pack, 1000);
    let found = at(clock.now().seconds, Depth::Tags);
    assert_eq!(found.damaged.len(), 1);
    for _ in 0..2 {
        let again = at(begun, Depth::Tags);
        assert_eq!((again.checked_packs, lost(&again)), (1, lost(&found)));
    }
    flip(&pack, 1000);
    assert!(at(begun, Depth::Tags).is_clean());
    assert_eq!(at(begun, Depth::Tags).checked_packs, 0);
}

#[test]
fn slices_cover_the_store() {
    let kit = Kit::new();
    small_backups(&kit, 15);
    let options = VerifyOptions {
        pick: Pick::Slice(NonZeroU32::new(7).unwrap()),
        ..VerifyOptions::default()
    };
    let clock = TestClock::at(2_000_000_000);
    let slice = |store: &Arc<Store>| verify_with(store, &options, &Silent, &clock).unwrap();
    let largest = std::fs::metadata(kit.path().join(largest_pack(kit.path())));
    let largest = largest.unwrap().len();
    let mut nights = 0;
    while proofs(kit.path()).len() < 30 {
        let report = slice(&open(kit.path()));
        let most = report.pack_bytes.div_ceil(7) + largest;
        assert!(report.checked_bytes < most, "{report:?}");
        nights += 1;
    }
    assert!(nights <= 7, "{nights}");
    let before = stats(&open(kit.path()), &clock).unwrap().proofs;
    assert_eq!((before.unproven_packs, before.unproven_bytes), (0, 0));
    for _ in 0..7 {
        slice(&open(kit.path()));
    }
    let after = stats(&open(kit.path()), &clock).unwrap().proofs;
    assert!(after.oldest > before.newest, "{before:?} {after:?}");
}

/// Asks to stop when a number of pieces was read.
struct StopAfter {
    pieces: AtomicU64,
    warnings: Mutex<Vec<String>>,
}

impl StopAfter {
    fn new(pieces: u64) -> StopAfter {
        StopAfter {
            pieces: AtomicU64::new(pieces),
            warnings: Mutex::default(),
        }
    }
}

impl Monitor for StopAfter {
    fn advance(&self, stage: Stage, _amount: u64) {
        if stage == Stage::VerifyPacks {
            let less = |left: u64| Some(left.saturating_sub(1));
            let _ = self
                .pieces
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        }
    }
    fn warn(&self, warning: &str) {
        self.warnings.lock().unwrap().push(warning.to_string());
    }
    fn stop_requested(&self) -> bool {
        self.pieces.load(Ordering::SeqCst) == 0
    }
}

#[test]
fn what_is_interrupted_goes_on_where_it_stopped() {
    let kit = Kit::new();
    // Two packs of several pieces, and many small ones.
    kit.backup("large", TestDisk::new(noise(R, 30)));
    kit.backup("large", TestDisk::new(noise(R, 31)));
    small_backups(&kit, 4);
    let all = packs(kit.path()).len() as u64;
    for depth in [Depth::Tags, Depth::Deep] {
        let mut recorded = BTreeSet::new();
        for pieces in 1.. {
            let copy = copy_store(kit.path());
            let clock = TestClock::at(2_000_000_000);
            let mut options = VerifyOptions::at_depth(depth);
            let monitor = StopAfter::new(pieces);
            let ended = verify_with(&open(copy.path()), &options, &monitor, &clock);
            let done = proofs(copy.path()).len() as u64;
            let Err(error) = ended else {
                assert_eq!(done, all);
                break;
            };
            let told = error.to_string();
            assert!(told.contains("stopped on request"), "{told}");
            let advice = format!("--since {}", Time::from_seconds(2_000_000_000));
            assert!(told.contains(&advice), "{told}");
            recorded.insert(done);
            options.since = Some(Time::from_seconds(2_000_000_000));
            let rest = verify_with(&open(copy.path()), &options, &Silent, &clock).unwrap();
            assert!(rest.is_clean());
            assert_eq!(rest.checked_packs, all - done, "{depth:?} {pieces}");
            assert_eq!(proofs(copy.path()).len() as u64, all);
        }
        assert!(recorded.len() > 4, "{depth:?} {recorded:?}");
    }
}

#[test]
fn damage_found_before_an_interruption_is_told_and_kept() {
    let kit = Kit::new();
    small_backups(&kit, 6);
    for pack in packs(kit.path()) {
        flip(&kit.path().join(pack), 100);
    }
    let monitor = StopAfter::new(9);
    let options = VerifyOptions::default();
    let error = verify_with(&open(kit.path()), &options, &monitor, &SystemClock).unwrap_err();
    assert_eq!(error.kind(), cairn_base::Kind::Interrupted);
    let told = monitor.warnings.lock().unwrap().clone();
    assert!(
        told.iter().any(|w| w.contains("not what was written")),
        "{told:?}"
    );
    assert!(!open(kit.path()).known_damage().is_empty());
    assert_eq!(proofs(kit.path()).len(), 0);
}

#[test]
fn a_damaged_record_of_proofs_costs_only_work() {
    let kit = Kit::new();
    small_backups(&kit, 4);
    let options = VerifyOptions {
        since: Some(Time::from_seconds(0)),
        ..VerifyOptions::default()
    };
    assert_eq!(run(kit.path(), &options).checked_packs, 8);
    assert_eq!(run(kit.path(), &options).checked_packs, 0);
    let path = kit.path().join("proofs");
    let whole = std::fs::read(&path).unwrap();
    let cut = &whole[..whole.len() / 2];
    let mut rotten = whole.clone();
    rotten[40] ^= 1;
    let damages: [Option<&[u8]>; 5] = [None, Some(cut), Some(b""), Some(&[0; 99]), Some(&rotten)];
    for damage in damages {
        match damage {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let counted = stats(&open(kit.path()), &SystemClock).unwrap();
        assert_eq!(counted.proofs.unproven_packs, 8);
        assert_eq!(counted.proofs_lost.is_some(), damage.is_some());
        let report = run(kit.path(), &options);
        assert!(report.is_clean() && report.checked_packs == 8, "{report:?}");
        assert_eq!(run(kit.path(), &options).checked_packs, 0);
        assert_eq!(proofs(kit.path()).len(), 8);
    }
}

#[test]
fn a_record_of_a_newer_version_is_not_written_over() {
    let kit = Kit::new();
    small_backups(&kit, 2);
    at_depth(kit.path(), Depth::Tags);
    let path = kit.path().join("proofs");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 99;
    let end = bytes.len() - 16;
    let sum = checksum(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum);
    std::fs::write(&path, &bytes).unwrap();
    let monitor = StopAfter::new(u64::MAX);
    let options = VerifyOptions::default();
    let report = verify_with(&open(kit.path()), &options, &monitor, &SystemClock).unwrap();
    assert!(report.is_clean() && report.checked_packs == 4);
    assert_eq!(monitor.warnings.lock().unwrap().len(), 2);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_record_that_cannot_be_written_is_a_warning() {
    let kit = Kit::new();
    small_backups(&kit, 2);
    std::fs::create_dir(kit.path().join("locks/proofs.new")).unwrap();
    let monitor = StopAfter::new(u64::MAX);
    let options = VerifyOptions::default();
    let report = verify_with(&open(kit.path()), &options, &monitor, &SystemClock).unwrap();
    assert!(report.is_clean());
    let told = monitor.warnings.lock().unwrap().clone();
    assert!(
        told.len() == 1 && told[0].contains("could not be noted"),
        "{told:?}"
    );
    assert!(!kit.path().join("proofs").exists());
}

#[test]
fn packs_that_were_replaced_leave_the_record_and_new_ones_are_not_in_it() {
    let kit = Kit::new();
    small_backups(&kit, 16);
    at_depth(kit.path(), Depth::Deep);
    assert_eq!(proofs(kit.path()).len(), 32);
    tidy_at(kit.path());
    assert_eq!(packs(kit.path()).len(), 2);
    let summary = || stats(&open(kit.path()), &SystemClock).unwrap().proofs;
    assert_eq!(summary().unproven_packs, 2);
    at_depth(kit.path(), Depth::Tags);
    assert_eq!(proofs(kit.path()).len(), 2);
    assert!(summary().is_complete());
}

#[test]
fn two_at_once_lose_nothing_of_each_other() {
    let kit = Kit::new();
    small_backups(&kit, 12);
    let rows = open(kit.path()).live_packs();
    // Each proves another half, as slices of two nights would.
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (kit, rows) = (&kit, &rows);
            scope.spawn(move || {
                let store = open(kit.path());
                for row in rows.iter().skip(half).step_by(2) {
                    let ledger = cairn_store::verify::ledger::Ledger::new(&store);
                    ledger.proven(row, SystemClock.now(), false);
                    ledger.keep(true).unwrap();
                }
            });
        }
    });
    assert_eq!(proofs(kit.path()).len(), rows.len());
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
