//! What a prune leaves of the index: nothing that leads nowhere for ever, and nothing that is on its way out.

use crate::kit::{Kit, R, TestDisk, files_in, noise};
use crate::pruning::{disk, exact, forget, pruned};
use cairn_base::Silent;
use cairn_store::state::State;
use cairn_store::{layout, prune, verify};

/// The files of the index are those that the state lists, and no pack waits to be forgotten.
fn assert_quiet(kit: &Kit) {
    let state = kit.reopen().state();
    let rows = state.segments.iter();
    let mut listed: Vec<String> = rows.map(|row| layout::segment(row.segment())).collect();
    listed.sort();
    assert_eq!(files_in(kit.path(), "index"), listed);
    assert_eq!(state.replaced, [[0u8; 16]; 0]);
    assert_eq!(state.condemned.len(), 0);
}

#[test]
fn a_quiet_prune_leaves_nothing_on_its_way_out() {
    let kit = Kit::new();
    let kept = kit.backup("m", TestDisk::new(disk(1)));
    let gone = kit.backup("m", TestDisk::new(noise(4 * R, 9)));
    forget(&kit, &[&gone]);
    let report = pruned(&kit);
    assert!(report.deleted_packs > 0);
    assert_quiet(&kit);
    // Each slot for itself.
    let slots = State::slots(&**kit.store.folder()).unwrap().unwrap();
    assert!(slots.iter().all(|slot| slot.segments == slots[0].segments));
    assert_eq!(kit.read(&kept).unwrap(), disk(1));
    // And one that has nothing to do changes nothing.
    let before = kit.reopen().generation();
    pruned(&kit);
    assert_eq!(kit.reopen().generation(), before);
}

#[test]
fn what_many_prunes_left_in_the_index_is_cleared_away_together() {
    let kit = Kit::new();
    let kept = kit.backup("m", TestDisk::new(noise(8 * R, 1)));
    let live = kit.reopen().index().entries();
    let days: Vec<_> = (2..6)
        .map(|day| kit.backup("m", TestDisk::new(noise(R + R / 2, day))))
        .collect();
    let all = kit.reopen().index().entries();
    let mut rewritten = 0;
    for day in &days {
        forget(&kit, &[day]);
        let before = kit.reopen().index().entries();
        let report = prune(&kit.reopen(), &exact(), &Silent).unwrap();
        assert!(report.deleted_packs > 0);
        let now = kit.reopen().index().entries();
        // Each time less than a quarter of the index leads nowhere because of this prune alone.
        assert!((before - live) / 4 < live, "{before} of {all}");
        rewritten += usize::from(now < before);
        // Never more than a quarter of it in all.
        let answered: u64 = {
            let store = kit.reopen();
            let report = verify(&store, false, &Silent).unwrap();
            assert!(report.is_clean());
            let state = store.state();
            if state.replaced.is_empty() {
                now
            } else {
                live_entries(&kit)
            }
        };
        assert!(
            now * 3 <= answered * 4 + 4,
            "{now} entries, {answered} of them answered"
        );
    }
    assert!(rewritten >= 1);
    assert_eq!(kit.read(&kept).unwrap(), noise(8 * R, 1));
}

/// Entries of packs that look-ups answer.
fn live_entries(kit: &Kit) -> u64 {
    let store = kit.reopen();
    let packs = store.live_packs();
    let chunks = packs.iter().map(|row| {
        let pack =
            cairn_store::pack::PackReader::open(&**store.folder(), store.header().store, row.id);
        pack.unwrap().toc().chunks.len() as u64
    });
    chunks.sum()
}
