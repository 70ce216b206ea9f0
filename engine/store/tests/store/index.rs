//! Segments of several blocks: looked up, merged, damaged in each of their parts.

use crate::kit::noise;
use cairn_base::mapped::install_guard;
use cairn_base::{ChunkId, Folder, Kind, LocalFolder, PackId, SegmentId};
use cairn_store::index::block::{BLOCK_LEN, Blocks};
use cairn_store::index::check::{SegmentDamage, check_segment};
use cairn_store::index::merge::merge;
use cairn_store::index::packs::names;
use cairn_store::index::{Entry, IndexSet, PackRow, Place, Segment, write_segment};
use cairn_store::layout;
use cairn_store::pack::PackKind;
use std::collections::{BTreeSet, HashSet};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

const STORE: [u8; 16] = [1; 16];

struct Made {
    temp: tempfile::TempDir,
    ids: Vec<ChunkId>,
    id: SegmentId,
}

fn ids(count: usize, seed: u64) -> Vec<ChunkId> {
    noise(count * 32, seed)
        .chunks_exact(32)
        .map(|id| ChunkId(id.try_into().unwrap()))
        .collect()
}

fn pack(number: u32) -> PackId {
    PackId(noise(16, 1000 + u64::from(number)).try_into().unwrap())
}

/// Where the chunk lies: what it is follows from the id.
fn place(id: &ChunkId, packs: u32) -> Place {
    let word = u32::from_le_bytes(id.0[28..].try_into().unwrap());
    Place {
        pack: pack(word % packs),
        offset: word >> 1,
        stored: word >> 10,
        plain: word & 1 == 1,
        at: word >> 15,
        length: word >> 16,
    }
}

fn rows(packs: u32) -> Vec<PackRow> {
    (0..packs)
        .map(|number| PackRow {
            id: pack(number),
            length: u64::from(number),
            kind: PackKind::Data,
        })
        .collect()
}

fn publish(folder: &dyn Folder, ids: &[ChunkId], packs: u32) -> SegmentId {
    let places: Vec<_> = (0..packs).map(pack).collect();
    let entries = ids
        .iter()
        .map(|id| {
            let place = place(id, packs);
            let number = places.iter().position(|p| *p == place.pack).unwrap();
            Entry::new(id.prefix(), number as u32, &place)
        })
        .collect();
    for path in ["scratch", layout::INDEX] {
        folder.create_folder(path).unwrap();
    }
    let made = write_segment(folder, "scratch", STORE, &rows(packs), entries).unwrap();
    folder
        .publish(&made.path, &layout::segment(made.id))
        .unwrap();
    assert_eq!(made.entries, ids.len() as u64);
    made.id
}

impl Made {
    fn new(count: usize, seed: u64) -> Made {
        Made::of(ids(count, seed))
    }

    fn of(ids: Vec<ChunkId>) -> Made {
        let temp = tempfile::tempdir().unwrap();
        let id = publish(&LocalFolder::new(temp.path()), &ids, 300);
        Made { temp, ids, id }
    }

    fn path(&self) -> PathBuf {
        self.temp.path().join(layout::segment(self.id))
    }

    fn open(&self, mapped: bool) -> cairn_base::Result<Arc<Segment>> {
        let folder = LocalFolder::new(self.temp.path());
        let folder = if mapped {
            folder
        } else {
            folder.without_maps()
        };
        Segment::open(&folder, STORE, self.id).map(Arc::new)
    }

    fn flip(&self, at: u64) {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path())
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }
}

fn set(segments: &[Arc<Segment>]) -> IndexSet {
    IndexSet::new(segments.to_vec(), HashSet::new())
}

fn one(segment: &Arc<Segment>) -> IndexSet {
    set(std::slice::from_ref(segment))
}

fn damage(change: impl FnOnce(&mut SegmentDamage)) -> SegmentDamage {
    let mut damage = SegmentDamage::default();
    change(&mut damage);
    damage
}

fn check(segment: &Segment) -> SegmentDamage {
    check_segment(segment, true, &|| false).unwrap()
}

#[test]
fn all_that_is_there_is_found_and_nothing_else() {
    for count in [1, 127, 128, 20_000, 63_881, 150_000] {
        let made = Made::new(count, 1);
        for mapped in [true, false] {
            let segment = made.open(mapped).unwrap();
            assert_eq!(segment.entries(), count as u64);
            assert_eq!(segment.length(), made.path().metadata().unwrap().len());
            let index = one(&segment);
            // Twice: the second time on trust.
            for id in made
                .ids
                .iter()
                .chain(&made.ids)
                .step_by(if mapped { 1 } else { 7 })
            {
                let wanted = place(id, 300);
                assert_eq!(index.places(id).unwrap(), [wanted]);
                assert!(index.holds(id, wanted.length).unwrap());
                assert!(!index.holds(id, wanted.length + 1).unwrap());
            }
            for id in ids(20_000, 2) {
                assert_eq!(index.places(&id).unwrap(), []);
                assert!(!index.holds(&id, 1).unwrap());
            }
            assert_eq!(check(&segment), SegmentDamage::default());
            let packs: Vec<_> = index.packs().map(|row| row.unwrap()).collect();
            let mut expected = rows(300);
            expected.sort_by_key(|row| row.id);
            assert_eq!(packs, expected);
        }
    }
}

#[test]
fn an_empty_segment_holds_nothing() {
    let made = Made::of(Vec::new());
    let segment = made.open(true).unwrap();
    assert_eq!(one(&segment).places(&ids(1, 3)[0]).unwrap(), []);
    assert_eq!(check(&segment), SegmentDamage::default());
}

#[test]
fn equal_keys_are_found_over_the_ends_of_pages_and_blocks() {
    // One key again and again, so that it fills pages before and behind the end of the first block; and runs of one prefix.
    let mut ids = ids(70_000, 4);
    ids.sort();
    let key = ids[63_700];
    for (number, id) in ids[63_700..64_300].iter_mut().enumerate() {
        id.0[..8].copy_from_slice(&key.0[..8]);
        let high = (number / 150) as u64;
        id.0[8..16].copy_from_slice(&high.to_be_bytes());
    }
    let made = Made::of(ids.clone());
    for mapped in [true, false] {
        let index = set(&[made.open(mapped).unwrap()]);
        for run in ids[63_700..64_300].chunks(150) {
            let places: HashSet<Place> = index.places(&run[0]).unwrap().into_iter().collect();
            let expected: HashSet<Place> = run.iter().map(|id| place(id, 300)).collect();
            assert_eq!(places, expected);
            assert!(
                index
                    .holds(&run[149], place(&run[149], 300).length)
                    .unwrap()
            );
        }
        let mut absent = key;
        absent.0[8] = 0xff;
        assert_eq!(index.places(&absent).unwrap(), []);
        for id in ids[..63_700].iter().chain(&ids[64_300..]).step_by(97) {
            assert_eq!(index.places(id).unwrap(), [place(id, 300)]);
        }
    }
}

#[test]
fn damage_that_costs_only_time_is_survived_and_named() {
    let made = Made::new(140_000, 5);
    let blocks = Blocks {
        pages: 140_000u64.div_ceil(127),
    };
    let length = made.path().metadata().unwrap().len();
    let keys = (length - 256 - 3 * 8, damage(|d| d.keys = true));
    // Without its fences a block's filter cannot be read either.
    let fences = (blocks.fences_at(1) + 900, damage(|d| d.fences = 1));
    let filter = (blocks.fences_at(1) + 4096 + 900, damage(|d| d.filters = 1));
    for (at, expected) in [keys, fences, filter] {
        made.flip(at);
        for mapped in [true, false] {
            let segment = made.open(mapped).unwrap();
            let index = one(&segment);
            for id in made.ids.iter().step_by(199) {
                assert_eq!(index.places(id).unwrap(), [place(id, 300)]);
            }
            for id in ids(300, 6) {
                assert_eq!(index.places(&id).unwrap(), []);
            }
            assert_eq!(check(&segment), expected);
            assert_eq!(check_segment(&segment, false, &|| false).unwrap(), expected);
        }
        made.flip(at);
    }
}

#[test]
fn damage_that_hides_chunks_is_an_error_where_they_are_looked_for() {
    let made = Made::new(140_000, 7);
    let table_at = made.open(true).unwrap().footer().table_at;
    let page = (BLOCK_LEN + 5 * 4096 + 700, damage(|d| d.pages = 1));
    let table = (table_at + 4096 + 100, damage(|d| d.table_pages = 1));
    for (at, expected) in [page, table] {
        made.flip(at);
        for mapped in [true, false] {
            let segment = made.open(mapped).unwrap();
            let index = one(&segment);
            let mut lost = 0;
            for id in &made.ids {
                match index.places(id) {
                    Ok(places) => assert_eq!(places, [place(id, 300)]),
                    Err(error) => {
                        assert_eq!(error.kind(), Kind::Damaged);
                        assert!(
                            error.path().is_some() && error.offset().is_some(),
                            "{error}"
                        );
                        assert!(index.holds(id, 1).is_err());
                        lost += 1;
                    }
                }
            }
            // A page of 127 entries; all that lie in 127 of 300 packs.
            assert!(
                lost == 127 || expected.table_pages == 1 && lost > 50_000,
                "{lost}"
            );
            assert_eq!(check(&segment), expected);
            assert_eq!(
                index.packs().filter(Result::is_err).count() as u64,
                expected.table_pages
            );
            // It is never said of a pack that it is not named where that is not known.
            for number in 0..300 {
                assert!(names(&segment, pack(number)).unwrap_or(true), "{number}");
            }
        }
        made.flip(at);
    }
}

#[test]
fn a_damaged_footer_loses_the_segment() {
    let made = Made::new(1000, 8);
    let length = made.path().metadata().unwrap().len();
    for at in [length - 1, length - 100, length - 250] {
        made.flip(at);
        assert_eq!(made.open(true).err().unwrap().kind(), Kind::Damaged);
        assert_eq!(made.open(false).err().unwrap().kind(), Kind::Damaged);
        made.flip(at);
    }
    let file = OpenOptions::new().write(true).open(made.path()).unwrap();
    file.set_len(length - 4096).unwrap();
    assert_eq!(made.open(true).err().unwrap().kind(), Kind::Damaged);
    file.set_len(100).unwrap();
    assert_eq!(made.open(false).err().unwrap().kind(), Kind::Damaged);
}

#[test]
fn what_changes_after_it_was_checked_is_never_taken_for_absence() {
    let made = Made::new(70_000, 9);
    let segment = made.open(true).unwrap();
    let index = one(&segment);
    for id in &made.ids {
        assert_eq!(index.places(id).unwrap().len(), 1);
    }
    let mut sorted = made.ids.clone();
    sorted.sort();
    // The prefix of the 11th entry of page 3, and fence 100 of the first block, under the map.
    for (at, id) in [
        (3 * 4096 + 32 + 10 * 32 + 3, sorted[3 * 127 + 10]),
        (503 * 4096 + 72 + 800 + 2, sorted[100 * 127 + 5]),
    ] {
        made.flip(at);
        match index.places(&id) {
            Ok(places) => assert_eq!(places, [place(&id, 300)]),
            Err(error) => assert_eq!(error.kind(), Kind::Damaged),
        }
        made.flip(at);
    }
}

#[test]
fn pages_that_are_lost_after_they_were_checked_are_an_error() {
    install_guard();
    let made = Made::new(140_000, 10);
    let segment = made.open(true).unwrap();
    let index = one(&segment);
    for id in &made.ids {
        assert_eq!(index.places(id).unwrap().len(), 1);
    }
    // From the middle of the second block on nothing is left: neither pages nor fences nor filters.
    let file = OpenOptions::new().write(true).open(made.path()).unwrap();
    file.set_len(BLOCK_LEN + 100 * 4096).unwrap();
    let mut sorted = made.ids.clone();
    sorted.sort();
    for (number, id) in sorted.iter().enumerate() {
        match index.places(id) {
            Ok(places) => assert_eq!(places, [place(id, 300)], "{number}"),
            Err(error) => assert!(matches!(error.kind(), Kind::Damaged | Kind::Io), "{error}"),
        }
    }
    assert!(index.places(sorted.last().unwrap()).is_err());
    assert!(check(&segment).pages > 400);
}

#[test]
fn merged_segments_hold_what_their_sources_held_once() {
    let temp = tempfile::tempdir().unwrap();
    let folder = LocalFolder::new(temp.path());
    let all = ids(150_000, 11);
    // The third has some of the second's places again, and other packs.
    let parts = [
        (0..100_000, 300),
        (100_000..140_000, 130),
        (130_000..150_000, 130),
        (0..0, 5),
    ];
    let sources: Vec<Arc<Segment>> = parts
        .iter()
        .map(|(range, packs)| {
            let id = publish(&folder, &all[range.clone()], *packs);
            Arc::new(Segment::open(&folder, STORE, id).unwrap())
        })
        .collect();
    let merged = merge(&folder, "scratch", STORE, &sources, &HashSet::new()).unwrap();
    assert_eq!(merged.entries, 150_000);
    folder
        .publish(&merged.path, &layout::segment(merged.id))
        .unwrap();
    let segment = Arc::new(Segment::open(&folder, STORE, merged.id).unwrap());
    assert_eq!(check(&segment), SegmentDamage::default());
    let (before, after) = (set(&sources), one(&segment));
    for id in all.iter().step_by(7) {
        let old: HashSet<Place> = before.places(id).unwrap().into_iter().collect();
        assert_eq!(
            after
                .places(id)
                .unwrap()
                .into_iter()
                .collect::<HashSet<_>>(),
            old
        );
    }
    let packs: Vec<PackId> = after.packs().map(|row| row.unwrap().id).collect();
    let expected: BTreeSet<PackId> = (0..300).map(pack).collect();
    assert_eq!(packs, expected.into_iter().collect::<Vec<_>>());
    assert_eq!(before.packs().count(), 300);
}

#[test]
fn chunks_that_lie_in_many_places_make_no_shorter_blocks() {
    // As when several processes store the same chunks at the same time: few keys, so the filters are small.
    let mut all = ids(150_000, 15);
    for number in 0..all.len() {
        let prefix = all[number / 5 * 5].prefix();
        all[number].0[..16].copy_from_slice(&prefix);
    }
    let made = Made::of(all);
    for mapped in [true, false] {
        let segment = made.open(mapped).unwrap();
        assert_eq!(check(&segment), SegmentDamage::default());
        let index = one(&segment);
        for copies in made.ids.chunks(5).step_by(11) {
            let found = index.places(&copies[0]).unwrap();
            assert_eq!(found.len(), 5);
            assert!(copies.iter().all(|id| found.contains(&place(id, 300))));
        }
    }
}

#[test]
fn replaced_packs_are_left_out_of_a_merge() {
    let temp = tempfile::tempdir().unwrap();
    let folder = LocalFolder::new(temp.path());
    let all = ids(3000, 14);
    let sources: Vec<Arc<Segment>> = [(0..1000, 30), (1000..2000, 30), (2000..3000, 2)]
        .into_iter()
        .map(|(range, packs)| {
            let id = publish(&folder, &all[range], packs);
            Arc::new(Segment::open(&folder, STORE, id).unwrap())
        })
        .collect();
    let dropped: HashSet<PackId> = [0, 1, 7, 29].map(pack).into_iter().collect();
    let merged = merge(&folder, "scratch", STORE, &sources, &dropped).unwrap();
    folder
        .publish(&merged.path, &layout::segment(merged.id))
        .unwrap();
    let segment = Arc::new(Segment::open(&folder, STORE, merged.id).unwrap());
    assert_eq!(check(&segment), SegmentDamage::default());
    let (before, after, mut left) = (set(&sources), one(&segment), 0);
    for id in &all {
        let mut old = before.places(id).unwrap();
        old.retain(|place| !dropped.contains(&place.pack));
        assert_eq!(after.places(id).unwrap(), old);
        left += old.len();
    }
    assert_eq!(segment.entries(), left as u64);
    let packs: Vec<PackId> = after.packs().map(|row| row.unwrap().id).collect();
    for id in (0..30).map(pack) {
        let kept = !dropped.contains(&id);
        assert_eq!(names(&segment, id).unwrap(), kept, "{id}");
        assert_eq!(packs.contains(&id), kept, "{id}");
    }
    assert!(!names(&segment, PackId([0; 16])).unwrap());
    assert!(!names(&segment, PackId([255; 16])).unwrap());
    let every: HashSet<PackId> = (0..30).map(pack).collect();
    let merged = merge(&folder, "scratch", STORE, &sources, &every).unwrap();
    assert_eq!(merged.entries, 0);
}

#[test]
fn a_merge_that_meets_damage_leaves_nothing_behind() {
    let made = Made::new(70_000, 12);
    let other = Made::new(1000, 13);
    let table_at = made.open(true).unwrap().footer().table_at;
    let folder = LocalFolder::new(made.temp.path());
    for at in [9 * 4096 + 50, table_at + 50] {
        made.flip(at);
        let sources = [other.open(true).unwrap(), made.open(true).unwrap()];
        let error = merge(&folder, "scratch", STORE, &sources, &HashSet::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(error.path().is_some());
        assert_eq!(
            std::fs::read_dir(made.temp.path().join("scratch"))
                .unwrap()
                .count(),
            0
        );
        made.flip(at);
    }
    // Damage that costs only time is left behind.
    made.flip(503 * 4096 + 50);
    let sources = [other.open(true).unwrap(), made.open(true).unwrap()];
    let merged = merge(&folder, "scratch", STORE, &sources, &HashSet::new()).unwrap();
    folder
        .publish(&merged.path, &layout::segment(merged.id))
        .unwrap();
    let segment = Segment::open(&folder, STORE, merged.id).unwrap();
    assert_eq!(check(&segment), SegmentDamage::default());
    assert_eq!(segment.entries(), 71_000);
}

#[test]
fn entries_that_name_no_pack_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let folder = LocalFolder::new(temp.path());
    let id = ids(1, 14)[0];
    let entry = Entry::new(id.prefix(), 3, &place(&id, 1));
    folder.create_folder("scratch").unwrap();
    let error = write_segment(&folder, "scratch", STORE, &rows(3), vec![entry]).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let twice = [rows(1), rows(1)].concat();
    assert!(write_segment(&folder, "scratch", STORE, &twice, Vec::new()).is_err());
}
