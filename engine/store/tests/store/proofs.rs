//! The record of what was proven good: what is read because of it, how it comes through interruptions and damage.

use crate::kit::{Kit, R, TestClock, TestDisk, noise};
use crate::tidying::{copy_store, open, small_backups, tidy_at};
use crate::verifying::{at_depth, flip, largest_pack, lost, packs, proofs, run};
use cairn_base::{Clock, Monitor, Silent, Stage, SystemClock, Time};
use cairn_store::hash::checksum;
use cairn_store::verify::ledger::Ledger;
use cairn_store::verify::{Depth, Pick};
use cairn_store::{Store, VerifyOptions, stats, verify_with};
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

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

#[test]
fn slices_come_to_what_is_old_though_something_is_new_each_time() {
    let kit = Kit::new();
    small_backups(&kit, 8);
    let nights = 5;
    let options = VerifyOptions {
        pick: Pick::Slice(NonZeroU32::new(nights).unwrap()),
        ..VerifyOptions::default()
    };
    let clock = TestClock::at(2_000_000_000);
    let at_first: BTreeSet<String> = packs(kit.path()).into_iter().collect();
    for night in 0..u64::from(nights) {
        verify_with(&open(kit.path()), &options, &Silent, &clock).unwrap();
        // More than a slice.
        let new = kit.backup(
            "new",
            crate::kit::TestDisk::new(crate::kit::noise(900_000, 500 + night)),
        );
        assert!(new.record.stats.stored > 800_000);
    }
    let proofs = proofs(kit.path());
    for pack in &at_first {
        let id = cairn_base::PackId::parse(pack.rsplit('/').next().unwrap()).unwrap();
        let there = kit.path().join(pack).exists();
        assert!(!there || proofs.of(id, false, Time::from_seconds(i64::MAX)).is_some());
    }
    // Being met is no proof.
    let told = stats(&open(kit.path()), &clock).unwrap().proofs;
    assert!(told.unproven_packs > 0, "{told:?}");
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
            let advice = match depth {
                Depth::Deep => format!("--deep --since {}", Time::from_seconds(2_000_000_000)),
                _ => format!("--since {}", Time::from_seconds(2_000_000_000)),
            };
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
        told.iter()
            .any(|w| w.contains("is damaged") && w.contains("--repair")),
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
                    let ledger = Ledger::new(&store);
                    ledger.proven(row, SystemClock.now(), false);
                    ledger.keep(true).unwrap();
                }
            });
        }
    });
    assert_eq!(proofs(kit.path()).len(), rows.len());
}
