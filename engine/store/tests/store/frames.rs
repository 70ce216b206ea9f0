//! Leaves and nodes that lie together in compressed frames.

use crate::damage::flip;
use crate::kit::{Kit, R, TestDisk, noise};
use cairn_base::{ChunkId, Kind};
use cairn_store::hash::ChunkKind;
use cairn_store::index::Place;
use cairn_store::read::Wanted;
use cairn_store::tree::Spot;
use cairn_store::{ChunkReader, CutParameters, Store, Tree, layout};
use std::sync::Arc;

/// A store cut on a grid, where leaves compress, with the leaves of a disk and their places.
fn leaves() -> cairn_base::Result<(Kit, Vec<(ChunkId, Place)>)> {
    let kit = Kit::with(CutParameters::Fixed { size: 32 << 10 });
    let point = kit.backup("m", TestDisk::new(noise(12 * R, 1)));
    let reader = Arc::new(ChunkReader::new(kit.store.clone(), 0));
    let tree = Tree::new(reader, &point.record.disks[0])?;
    let mut leaves = Vec::new();
    for region in 0..12 {
        let spot = tree.locate(region)?;
        assert!(matches!(spot, Spot::Leaf(_)), "{spot:?}");
        if let Spot::Leaf(id) = spot {
            let place = kit.store.index().places(&id)?[0];
            assert!(!place.plain && place.offset == 64, "{place:?}");
            leaves.push((id, place));
        }
    }
    Ok((kit, leaves))
}

fn read(reader: &ChunkReader, id: ChunkId) -> cairn_base::Result<Vec<u8>> {
    let wanted = Wanted { id, length: None };
    reader.chunk_uncached(ChunkKind::Leaf, wanted)
}

fn fresh(kit: &Kit) -> (Arc<Store>, ChunkReader) {
    let store = kit.reopen();
    (store.clone(), ChunkReader::new(store, 0))
}

#[test]
fn each_is_read_in_any_order() {
    let (kit, leaves) = leaves().unwrap();
    let expected: Vec<Vec<u8>> = {
        // Each by itself.
        let alone = leaves.iter().map(|(id, _)| read(&fresh(&kit).1, *id));
        alone.map(Result::unwrap).collect()
    };
    for step in [1, 5, 7, 11] {
        let (_, reader) = fresh(&kit);
        for turn in 0..24 {
            let at = turn * step % 12;
            assert_eq!(read(&reader, leaves[at].0).unwrap(), expected[at]);
        }
    }
}

#[test]
fn damage_in_a_frame_takes_no_more_than_what_lies_behind_it() {
    let (kit, leaves) = leaves().unwrap();
    let (_, last) = leaves[11];
    // In what the last leaf alone is made of: ids do not compress.
    flip(
        &kit.path().join(layout::pack(last.pack)),
        u64::from(last.offset) + u64::from(last.stored) * 11 / 12,
    );
    for backwards in [false, true] {
        let (_, reader) = fresh(&kit);
        for turn in 0..12 {
            let at = if backwards { 11 - turn } else { turn };
            let found = read(&reader, leaves[at].0);
            if at < 11 {
                assert_eq!(found.unwrap().len(), leaves[at].1.length as usize);
            } else {
                assert_eq!(found.unwrap_err().kind(), Kind::Damaged);
            }
        }
    }
}
