//! Prunes that have little time: they end, and what they did by then is done.

use crate::kit::{Kit, R, files_in};
use crate::pruning::{exact, forget, pruned};
use crate::pruning_rounds::Twice;
use crate::tidying::small_backups;
use cairn_base::{Clock, Silent, Time};
use cairn_store::{PruneOptions, PruneReport, prune_with};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock that goes on by a second whenever it is asked how much time has passed.
struct Asked(AtomicU64);

impl Clock for Asked {
    fn now(&self) -> Time {
        Time::from_seconds(1_900_000_000)
    }

    fn ticks(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// A prune that may ask the clock so often; answers how often it did.
fn pruned_within(kit: &Kit, questions: u64) -> (PruneReport, u64) {
    let options = PruneOptions {
        max_time: Some(Duration::from_secs(questions)),
        ..exact()
    };
    let clock = Asked(AtomicU64::new(0));
    let report = prune_with(&kit.reopen(), &options, &Silent, &clock).unwrap();
    (report, clock.0.into_inner())
}

#[test]
fn what_was_copied_when_the_time_was_over_need_not_be_copied_again() {
    let twice = Twice::new();
    let needed = 3 * R as u64;
    let (mut written, mut early, mut partly) = (0, 0, 0);
    // It looks at the clock before each frame: there are some 350 in both packs.
    for questions in (100..).step_by(50) {
        let (report, asked) = pruned_within(&twice.kit, questions);
        // Once the time is over it is asked a few times more, and nothing is begun.
        assert!(asked <= questions + 20, "{asked} of {questions}");
        assert_eq!(report.left, [""; 0]);
        twice.reads();
        written += report.written_bytes;
        partly += usize::from(report.written_bytes > 0 && report.rewritten_packs < 2);
        match report.ended_early {
            Some(why) => assert_eq!(why, "its time was over"),
            None => break,
        }
        assert!(report.unused_bytes > 0);
        early += 1;
    }
    assert!(early > 2 && partly > 0, "{early} {partly}");
    // No chunk of data was copied twice.
    assert!(
        (needed..needed + needed / 20).contains(&written),
        "{written} of {needed}"
    );
    let again = pruned(&twice.kit);
    let work = again.dead_packs + again.rewritten_packs + again.deleted_packs;
    assert_eq!((work, again.unused_bytes), (0, 0), "{again:?}");
}

#[test]
fn however_little_time_there_is_some_packs_go() {
    let kit = Kit::new();
    let points = small_backups(&kit, 50);
    forget(&kit, &points.iter().collect::<Vec<_>>());
    assert_eq!(files_in(kit.path(), "packs").len(), 100);
    for left in [36, 0] {
        let (report, _) = pruned_within(&kit, 0);
        assert_eq!(files_in(kit.path(), "packs").len(), left, "{report:?}");
        assert_eq!(report.ended_early.is_some(), left > 0);
    }
}
