//! Leaves and nodes that lie together in compressed frames.

use crate::damage::flip;
use crate::kit::{Kit, R, TestDisk, noise, open_disk};
use cairn_base::{ChunkId, Kind, ReadAt};
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

/// Bytes that compress, each chunk another one.
fn letters(length: usize, seed: u64) -> Vec<u8> {
    let noise = noise(length, seed);
    noise.into_iter().map(|byte| b'a' + byte % 16).collect()
}

#[test]
fn frames_are_the_same_bytes_whatever_part_of_them_a_read_begins_and_ends_in() {
    let kit = Kit::with(CutParameters::Fixed { size: 32 << 10 });
    let content = letters(2 * R, 2);
    let point = kit.backup("m", TestDisk::new(content.clone()));
    let chunk = 32 << 10;
    for (start, length) in [
        (0, 2 * R),
        (0, 4 * chunk),
        (chunk, 4 * chunk),
        (chunk / 2, 9 * chunk),
        (3 * chunk, 6 * chunk + 1),
        (4 * chunk - 1, 8 * chunk + 2),
        (R - 5 * chunk, 10 * chunk),
        (2 * R - 4 * chunk, 4 * chunk),
    ] {
        let disk = open_disk(&kit.reopen(), &point, "disk0");
        for _ in 0..2 {
            let mut bytes = vec![0xee; length];
            disk.read_exact_at(start as u64, &mut bytes).unwrap();
            assert!(
                bytes == content[start..start + length],
                "{length} from {start}"
            );
        }
    }
}

#[test]
fn damage_in_a_frame_that_a_read_wants_whole_fails_the_read_and_no_other_chunk() {
    let kit = Kit::with(CutParameters::Fixed { size: 32 << 10 });
    let content = letters(R, 3);
    let point = kit.backup("m", TestDisk::new(content.clone()));
    let ids = {
        let disk = open_disk(&kit.store, &point, "disk0");
        let Spot::Leaf(id) = disk.tree().locate(0).unwrap() else {
            panic!("the region has no leaf");
        };
        let leaf = disk.tree().leaf(0, id).unwrap();
        let ids = leaf.parts().map(|part| part.extent.chunk);
        ids.collect::<Option<Vec<ChunkId>>>().unwrap()
    };
    let place = kit.store.index().places(&ids[4]).unwrap()[0];
    assert!(!place.plain && place.at == 0, "{place:?}");
    // In the third of its four chunks.
    flip(
        &kit.path().join(layout::pack(place.pack)),
        u64::from(place.offset) + u64::from(place.stored) * 5 / 8,
    );
    let chunk = 32 << 10;
    let disk = open_disk(&kit.reopen(), &point, "disk0");
    let mut bytes = vec![0xee; 12 * chunk];
    let error = disk.read_exact_at(0, &mut bytes).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    // Before it in its frame, and in the frames beside it.
    for good in [0..4, 4..6, 8..12] {
        let range = good.start * chunk..good.end * chunk;
        let mut bytes = vec![0xee; range.len()];
        disk.read_exact_at(range.start as u64, &mut bytes).unwrap();
        assert!(bytes == content[range], "{good:?}");
    }
}
