//! What processes that were killed leave to those that come after them, and what of that a failure of the power takes away again.

use crate::acts::read;
use crate::disk::End;
use crate::machine::Lie;
use crate::world::{How, World, noise};
use cairn_base::Folder;
use cairn_store::catalog::all_points;
use cairn_store::publish::{merge_everything, publish_lists_and};
use cairn_store::state::State;
use cairn_store::{Session, SessionKind, layout};
use std::collections::HashSet;
use std::sync::Arc;

fn with_points(count: u64) -> World {
    let mut world = World::new(Lie::None);
    world.init().unwrap();
    for number in 0..count {
        let bytes = noise(30_000, 300 + number);
        world.backup("m", &bytes, &How::default()).unwrap();
    }
    world
}

/// Its publication was done, all but the removal of the manifest; and somebody has merged its segment since.
#[test]
fn a_segment_that_a_slot_still_lists_is_not_swept() {
    let world = with_points(1);
    let folder: Arc<dyn Folder> = Arc::new(world.machine.clone());
    let store = world.store().unwrap();
    let [row] = store.state().segments[..] else {
        panic!("more segments than one");
    };
    let dead = Session::begin(folder.clone(), SessionKind::Write, &[]).unwrap();
    dead.announce(&[], row.segment()).unwrap();
    let merging = Session::begin(folder, SessionKind::Write, &[]).unwrap();
    merge_everything(&store, &merging).unwrap();
    let world = world.on(world.machine.copy());
    drop(world.store().unwrap().writer().unwrap());
    let paths = world.machine.paths();
    assert!(
        State::listed(&world.machine)
            .unwrap()
            .unwrap()
            .contains(&row.segment())
    );
    assert!(paths.contains(&layout::segment(row.segment())), "{paths:?}");
    assert!(
        !paths.iter().any(|path| path.starts_with("sessions/")),
        "{paths:?}"
    );
}

/// A point whose file was removed, but not durably, may come back: then what it needs must be there.
#[test]
fn what_a_killed_forget_left_is_whole_or_gone_whatever_a_prune_does() {
    for call in 0.. {
        let mut world = with_points(2);
        world.machine.die_at(call);
        let done = world.forget("m", &[1]);
        let mut world = world.on(world.machine.copy());
        world.prune().unwrap();
        for end in [End::Synced, End::Journal, End::Anything] {
            let after = world.on(world.machine.after(end, call));
            let store = after.store().unwrap();
            for point in all_points(&store).unwrap().points {
                read(&store, &point).unwrap();
            }
        }
        if done.is_ok() {
            break;
        }
    }
}

/// A pack that was to be removed, or was, but not durably, goes with the next prune; if it comes back something lists it.
#[test]
fn a_pack_that_a_killed_prune_was_about_to_remove_goes_with_the_next() {
    for call in 0.. {
        let mut world = with_points(2);
        world.forget("m", &[1]).unwrap();
        world.machine.die_at(call);
        let done = world.prune();
        let mut world = world.on(world.machine.copy());
        for _ in 0..2 {
            world.prune().unwrap();
        }
        for end in [End::Killed, End::Synced] {
            let after = world.on(world.machine.after(end, call));
            let store = after.store().unwrap();
            let live = store.live_packs();
            let mut known: HashSet<String> = live.iter().map(|row| layout::pack(row.id)).collect();
            if end != End::Killed {
                // What comes back is still on the list.
                known.extend(store.state().replaced_packs().map(layout::pack));
            }
            let mut paths = after.machine.paths();
            paths.retain(|path| path.starts_with("packs/") && !known.contains(path));
            assert_eq!(paths, [""; 0], "killed at call {call}, {end:?}");
        }
        if done.is_ok() {
            break;
        }
    }
}

/// Files that nothing lists any more, and those that were being written.
#[test]
fn a_prune_leaves_no_file_that_a_killed_process_left() {
    let world = with_points(1);
    let store = world.store().unwrap();
    let merging = Session::begin(store.folder().clone(), SessionKind::Write, &[]).unwrap();
    for _ in 0..2 {
        merge_everything(&store, &merging).unwrap();
    }
    drop(merging);
    for name in ["locks/state.0.new", "locks/proofs.new"] {
        drop(world.machine.create(name).unwrap());
    }
    let home = layout::machine_folder("m");
    for name in [layout::MACHINE_SCRATCH, layout::MACHINE_RETENTION_SCRATCH] {
        drop(world.machine.create(&format!("{home}/{name}")).unwrap());
    }
    // Killed when the new state was in its place, before the segments were swept.
    let before = world.machine.paths();
    publish_lists_and(&store, &mut |_| {}).unwrap();
    let swept = world.machine.paths();
    let gone = before.iter().find(|path| !swept.contains(path)).unwrap();
    assert!(gone.starts_with("index/"));
    drop(world.machine.create(gone).unwrap());
    let mut world = world.on(world.machine.copy());
    world.prune().unwrap();
    let paths = world.machine.paths();
    assert!(!paths.contains(gone), "{paths:?}");
    let new = |path: &&String| path.ends_with("new");
    assert_eq!(paths.iter().filter(new).collect::<Vec<_>>(), [""; 0]);
}
