//! What cannot be read just now is not lost: nobody says so, and nobody writes it down.

use crate::damage::data_pack;
use crate::flaky::{FlakyFolder, Why};
use crate::kit::{Kit, R, TestDisk, files, files_in, noise, open_disk};
use crate::parity::footer;
use cairn_base::read_at::read_vec;
use cairn_base::{LocalFolder, Silent};
use cairn_store::damage::DamageList;
use cairn_store::{ChunkReader, Point, RepairReport, Store, StoredDisk, Tree, repair, verify};
use std::ops::Range;
use std::sync::Arc;

/// A damaged sector, which parity restores.
const BAD: usize = 50_000;

struct Hurt {
    kit: Kit,
    bytes: Vec<u8>,
    point: Point,
    /// The damaged pack, as the store names it.
    pack: String,
    /// Where its first table of checksums and its parity begin.
    parity: Range<u64>,
}

fn hurt() -> Hurt {
    let kit = Kit::with_parity(10);
    let bytes = noise(2 * R, 3);
    let point = kit.backup("m", TestDisk::new(bytes.clone()));
    let path = data_pack(&kit);
    let mut whole = std::fs::read(&path).unwrap();
    whole[BAD] ^= 1;
    std::fs::write(&path, whole).unwrap();
    let shape = footer(&path).shape().unwrap().unwrap();
    let pack = path.strip_prefix(kit.path()).unwrap();
    Hurt {
        pack: pack.to_str().unwrap().to_string(),
        parity: shape.tables()[0]..shape.parity_at(),
        kit,
        bytes,
        point,
    }
}

fn flaky(
    hurt: &Hurt,
    why: Why,
    rule: impl FnMut(&str, Range<u64>) -> bool + Send + 'static,
) -> (FlakyFolder, Arc<Store>) {
    let folder = FlakyFolder::new(hurt.kit.path(), why, rule);
    let store = Store::open(Arc::new(folder.clone())).unwrap();
    (folder, Arc::new(store))
}

fn listed(kit: &Kit) -> DamageList {
    DamageList::read(&LocalFolder::new(kit.path())).unwrap()
}

/// Reads of the pack that begin in its parity, where `only` says so.
fn in_parity(
    hurt: &Hurt,
    only: fn(&Range<u64>, u64) -> bool,
) -> impl FnMut(&str, Range<u64>) -> bool + use<> {
    let (pack, parity) = (hurt.pack.clone(), hurt.parity.clone());
    move |path, range| path == pack && only(&parity, range.start)
}

#[test]
fn a_reader_that_fails_for_a_while_reads_on() {
    let places: [fn(&Range<u64>, u64) -> bool; 2] = [
        |parity, at| at >= parity.start,
        |parity, at| at >= parity.end,
    ];
    for why in [Why::TooMany, Why::Sector] {
        for place in places {
            let hurt = hurt();
            let (folder, store) = flaky(&hurt, why, in_parity(&hurt, place));
            let disk = open_disk(&store, &hurt.point, "disk0");
            let error = read_vec(&disk, 0, hurt.bytes.len()).unwrap_err();
            // A disk that does not give a sector may never do so again.
            assert_eq!(error.is_momentary(), why == Why::TooMany, "{error}");
            folder.rest(true);
            // The same reader, which had opened the pack before.
            assert!(read_vec(&disk, 0, hurt.bytes.len()).unwrap() == hurt.bytes);
        }
    }
}

#[test]
fn a_verification_that_cannot_read_a_pack_says_so_and_nothing_more() {
    for number in 0..4 {
        let hurt = hurt();
        let (pack, parity) = (hurt.pack.clone(), hurt.parity.clone());
        let mut tables = 0;
        let rule = move |path: &str, range: Range<u64>| {
            tables += u64::from(path == pack && range.start == parity.start);
            path == pack
                && match number {
                    0 => range.is_empty(),
                    1 => range.start >= parity.end,
                    2 => range.contains(&(BAD as u64)),
                    // The third time the table is read, to see whether all can be restored.
                    _ => tables > 2 && range.start >= parity.start,
                }
        };
        let (folder, store) = flaky(&hurt, Why::TooMany, rule);
        let report = verify(&store, false, &Silent).unwrap();
        assert!(report.damaged.is_empty(), "{number}: {report:?}");
        let unread = |what: &String| what.contains("could not be read now");
        let unread = report.problems.iter().filter(|what| unread(what)).count();
        assert_eq!(
            (unread, report.problems.len()),
            (1, 1),
            "{number}: {report:?}"
        );
        assert!(listed(&hurt.kit).is_empty(), "{number}");
        // What is known stays known of what cannot be read.
        folder.rest(true);
        verify(&store, false, &Silent).unwrap();
        let known = listed(&hurt.kit);
        assert_eq!(known.len(), 1);
        folder.rest(false);
        verify(&store, false, &Silent).unwrap();
        assert_eq!(listed(&hurt.kit), known);
    }
}

fn assert_unread(report: &RepairReport, what: &str) {
    assert!(report.repaired.is_empty(), "{what}: {report:?}");
    assert_eq!(report.left.len(), 1, "{what}: {report:?}");
    assert!(
        report.left[0].contains("could not be read now"),
        "{report:?}"
    );
    assert!(!report.left[0].contains("cannot be restored"), "{report:?}");
}

#[test]
fn a_repair_leaves_what_it_cannot_read_now() {
    let places: [fn(&Range<u64>, u64) -> bool; 4] = [
        |parity, at| at >= parity.start,
        |parity, at| at >= parity.end,
        |_, at| at <= BAD as u64,
        |parity, at| at > BAD as u64 && at < parity.start,
    ];
    for (number, place) in places.into_iter().enumerate() {
        let hurt = hurt();
        let (folder, store) = flaky(&hurt, Why::TooMany, in_parity(&hurt, place));
        let before = files(hurt.kit.path());
        assert_unread(&repair(&store, &Silent).unwrap(), &format!("{number}"));
        assert_eq!(files(hurt.kit.path()), before);
        folder.rest(true);
        mends(&hurt, &store);
    }
}

/// One pack is written anew, and all is well.
fn mends(hurt: &Hurt, store: &Arc<Store>) {
    let report = repair(store, &Silent).unwrap();
    assert_eq!(
        (report.repaired.len(), report.left.len()),
        (1, 0),
        "{report:?}"
    );
    let verified = verify(&hurt.kit.reopen(), false, &Silent).unwrap();
    assert!(verified.is_clean());
    assert!(hurt.kit.read(&hurt.point).unwrap() == hurt.bytes);
}

#[test]
fn a_new_pack_that_cannot_be_read_back_stops_no_other_one() {
    for why in [Why::TooMany, Why::Sector] {
        let hurt = hurt();
        for name in files_in(hurt.kit.path(), "packs") {
            let path = hurt.kit.path().join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[70] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }
        let count = files_in(hurt.kit.path(), "packs").len();
        assert_eq!(count, 2);
        let mut first = None;
        let rule = move |path: &str, range: Range<u64>| {
            let is_new = path.starts_with("sessions/") && path.len() == 93;
            is_new && !range.is_empty() && first.get_or_insert(path.to_string()) == path
        };
        let (folder, store) = flaky(&hurt, why, rule);
        let report = repair(&store, &Silent).unwrap();
        assert_eq!(
            (report.repaired.len(), report.left.len()),
            (1, 1),
            "{report:?}"
        );
        assert!(files_in(hurt.kit.path(), "sessions").is_empty());
        folder.rest(true);
        mends(&hurt, &store);
        assert_eq!(files_in(hurt.kit.path(), "packs").len(), count);
    }
}

#[test]
fn an_index_that_cannot_be_read_now_loses_nothing() {
    for from_the_start in [true, false] {
        let hurt = hurt();
        let index = |path: &str, _: Range<u64>| path.starts_with("index/");
        let folder = FlakyFolder::new(hurt.kit.path(), Why::TooMany, index);
        folder.rest(!from_the_start);
        let store = Arc::new(Store::open(Arc::new(folder.clone())).unwrap());
        let lost = |what: &String| what.contains("is lost");
        assert!(!store.warnings().iter().any(lost), "{:?}", store.warnings());
        folder.rest(false);
        let before = files(hurt.kit.path());
        let reader = Arc::new(ChunkReader::new(store.clone(), 1 << 20));
        let tree = Tree::new(reader, hurt.point.disk("disk0").unwrap());
        let read = tree.and_then(|tree| read_vec(&StoredDisk::new(tree), 0, hurt.bytes.len()));
        let error = read.unwrap_err();
        assert!(error.is_momentary(), "{from_the_start}: {error}");
        match verify(&store, false, &Silent) {
            Ok(report) => {
                assert!(
                    report.damaged.is_empty() && !report.is_clean(),
                    "{report:?}"
                );
                assert!(!report.problems.iter().any(lost), "{report:?}");
            }
            Err(error) => assert!(error.is_momentary(), "{error}"),
        }
        match repair(&store, &Silent) {
            Ok(report) => assert!(
                report.repaired.is_empty() && !report.left.is_empty(),
                "{report:?}"
            ),
            Err(error) => assert!(error.is_momentary(), "{error}"),
        }
        store.keep_damage().unwrap();
        assert!(listed(&hurt.kit).is_empty(), "{from_the_start}");
        let mut after = files(hurt.kit.path());
        after.retain(|path| path != "damage" && path != "proofs");
        assert_eq!(after, before);
        folder.rest(true);
        let disk = open_disk(&store, &hurt.point, "disk0");
        assert!(read_vec(&disk, 0, hurt.bytes.len()).unwrap() == hurt.bytes);
    }
}
