//! Packs that are written anew: in rounds, with one that cannot be read among them.

use crate::flaky::{FlakyFolder, Why};
use crate::kit::{Kit, R, TestDisk, files_in, noise};
use crate::pruning::{exact, forget, pruned};
use cairn_base::{PackId, Silent};
use cairn_store::damage::DamageList;
use cairn_store::pack::PackKind;
use cairn_store::{Point, PruneReport, Store, layout, prune, verify};
use std::collections::HashSet;
use std::sync::Arc;

/// What a prune leaves free besides what a round writes.
const SPARE: u64 = 128 << 20;

fn data_packs(kit: &Kit) -> HashSet<PackId> {
    let packs = kit.reopen().live_packs();
    let data = packs.iter().filter(|row| row.kind == PackKind::Data);
    data.map(|row| row.id).collect()
}

/// Noise of so many regions.
fn regions(seeds: &[u64]) -> Vec<u8> {
    seeds.iter().flat_map(|seed| noise(R, *seed)).collect()
}

/// Two packs, of each of which something is needed, and some chunks that lie in both.
pub struct Twice {
    pub kit: Kit,
    /// The older pack, of which a third is needed, if what lies in both is taken from the other one.
    older: PackId,
    /// The newer pack, of which a quarter is needed.
    newer: PackId,
    points: Vec<(Point, Vec<u8>)>,
}

impl Twice {
    pub fn new() -> Twice {
        let kit = Kit::new();
        let first = kit.backup("m", TestDisk::new(regions(&[1, 2, 3])));
        let older = *data_packs(&kit).iter().next().unwrap();
        let path = kit.path().join(layout::pack(older));
        let away = kit.path().join("away");
        std::fs::rename(&path, &away).unwrap();
        // What lay in it is stored once more.
        let second = kit.backup("n", TestDisk::new(regions(&[1, 4, 5, 6, 7, 8, 9, 10])));
        std::fs::rename(&away, &path).unwrap();
        std::fs::remove_file(kit.path().join("damage")).ok();
        let newer: Vec<PackId> = data_packs(&kit)
            .into_iter()
            .filter(|id| *id != older)
            .collect();
        assert_eq!(newer.len(), 1);
        let points = [("m", [1, 2]), ("n", [1, 4])].map(|(machine, seeds)| {
            let bytes = regions(&seeds);
            (kit.backup(machine, TestDisk::new(bytes.clone())), bytes)
        });
        forget(&kit, &[&first]);
        forget(&kit, &[&second]);
        Twice {
            older,
            newer: newer[0],
            points: points.to_vec(),
            kit,
        }
    }

    fn prune_through(&self, folder: FlakyFolder) -> PruneReport {
        let store = Arc::new(Store::open(Arc::new(folder)).unwrap());
        prune(&store, &exact(), &Silent).unwrap()
    }

    pub fn reads(&self) {
        for (point, bytes) in &self.points {
            assert!(self.kit.read(point).unwrap() == *bytes);
        }
        let report = verify(&self.kit.reopen(), false, &Silent).unwrap();
        assert!(report.is_clean(), "{report:?}");
    }

    fn damage(&self) -> DamageList {
        DamageList::read(&**self.kit.store.folder()).unwrap()
    }
}

#[test]
fn what_an_earlier_round_copied_is_no_damage_in_a_later_one() {
    let twice = Twice::new();
    // Room for one pack, so that each is a round of its own, the emptier one first.
    let folder = FlakyFolder::with_free(twice.kit.path(), SPARE + (10 << 20));
    let report = twice.prune_through(folder);
    // Those of data, and those of maps.
    assert_eq!(report.rewritten_packs, 4, "{report:?}");
    assert_eq!(report.left, [""; 0]);
    assert_eq!(report.ended_early, None);
    assert!(twice.damage().is_empty(), "{:?}", twice.damage());
    twice.reads();
    // Nothing lies there twice: three regions, of which one was in both packs.
    let written = 3 * R as u64;
    assert!(
        (written..written + written / 20).contains(&report.written_bytes),
        "{report:?}"
    );
    let again = pruned(&twice.kit);
    let work = again.dead_packs + again.rewritten_packs + again.deleted_packs;
    assert_eq!((work, again.unused_bytes), (0, 0), "{again:?}");
}

#[test]
fn a_pack_of_which_a_frame_cannot_be_read_stays_and_the_others_are_written_anew() {
    for why in [Why::TooMany, Why::Sector] {
        let twice = Twice::new();
        let bad = layout::pack(twice.newer);
        let file = bad.clone();
        let folder = FlakyFolder::new(twice.kit.path(), why, move |path, range| {
            path == file && range.start >= 64 && range.end < 7 * R as u64
        });
        let report = twice.prune_through(folder);
        assert_eq!(report.left.len(), 1, "{why:?}: {report:?}");
        assert!(
            report.left[0].contains(&twice.newer.to_string()),
            "{report:?}"
        );
        assert_eq!(report.rewritten_packs, 3, "{why:?}: {report:?}");
        let packs = files_in(twice.kit.path(), "packs");
        assert!(packs.contains(&bad));
        assert!(!packs.contains(&layout::pack(twice.older)));
        // What cannot be read just now says nothing of the bytes.
        assert_eq!(twice.damage().is_empty(), why == Why::TooMany);
        for (point, bytes) in &twice.points {
            assert!(twice.kit.read(point).unwrap() == *bytes);
        }
        let report = pruned(&twice.kit);
        assert_eq!(report.rewritten_packs, 1, "{why:?}: {report:?}");
        twice.reads();
    }
}
