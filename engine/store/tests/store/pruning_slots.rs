//! A slot of the state that is lost while packs are condemned: what comes back in its place deletes nothing.

use crate::kit::{Kit, R, TestDisk, noise};
use crate::pruning::{PrunesWhileReading, disk, exact, forget, pruned};
use cairn_base::{Kind, Monitor, Silent, Stage};
use cairn_store::{prune, verify};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Loses the newest slot of the state.
fn lose_newest(path: &Path) {
    let store = crate::tidying::open(path);
    let slot = format!("state.{}", store.generation() % 2);
    std::fs::remove_file(path.join(slot)).unwrap();
}

/// Stops when all is marked.
#[derive(Default)]
struct StopsThen(AtomicBool);

impl Monitor for StopsThen {
    fn finish(&self, stage: Stage) {
        self.0.fetch_or(stage == Stage::Mark, Ordering::SeqCst);
    }

    fn stop_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Loses the newest slot when all is marked.
struct LosesThen(PathBuf);

impl Monitor for LosesThen {
    fn finish(&self, stage: Stage) {
        if stage == Stage::Mark {
            lose_newest(&self.0);
        }
    }
}

#[test]
fn what_was_needed_again_stays_when_the_slot_that_said_so_is_lost() {
    let kit = Kit::new();
    let bytes = disk(1);
    let old = kit.backup("other", TestDisk::new(bytes.clone()));
    let dead = kit.backup("dead", TestDisk::new(noise(R, 9)));
    let disk = PrunesWhileReading {
        bytes: bytes.clone(),
        forgotten: old,
        kit: &kit,
    };
    // A backup that began before relies on what was condemned meanwhile.
    let waiting = disk.run().waiting_packs;
    assert!(waiting > 0);
    let points = cairn_store::catalog::all_points(&kit.reopen())
        .unwrap()
        .points;
    let new = points.iter().find(|point| point.record.machine == "new");
    let new = new.unwrap().clone();
    forget(&kit, &[&dead]);
    // It is needed again; the older slot still says that it is condemned.
    let stopped = prune(&kit.reopen(), &exact(), &StopsThen::default());
    assert_eq!(stopped.unwrap_err().kind(), Kind::Interrupted);
    assert_eq!(kit.reopen().state().condemned.len(), 0);
    let report = prune(
        &kit.reopen(),
        &exact(),
        &LosesThen(kit.path().to_path_buf()),
    );
    let report = report.unwrap();
    assert_eq!(report.dead_packs, 2, "{report:?}");
    assert!(kit.read(&new).unwrap() == bytes, "{report:?}");
    // What came back waits until it was looked at.
    assert_eq!((report.deleted_packs, report.waiting_packs), (2, waiting));
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    assert_eq!(pruned(&kit).revived_packs, waiting);
    assert!(kit.read(&new).unwrap() == bytes);
    let quiet = pruned(&kit);
    let work = quiet.dead_packs + quiet.deleted_packs + quiet.waiting_packs;
    assert_eq!(work + quiet.revived_packs, 0, "{quiet:?}");
}
