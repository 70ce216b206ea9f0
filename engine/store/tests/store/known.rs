//! Packs whose table of contents is lost, and an index that knows all that lay in them, or not quite: nothing is taken away that
//! may be more than is known.

use crate::kit::{Kit, files_in, noise};
use crate::parity::footer;
use crate::watched::WatchedFolder;
use cairn_base::{PackId, Silent};
use cairn_store::frame::BuiltFrame;
use cairn_store::hash::ChunkKind;
use cairn_store::index::{Entry, Place};
use cairn_store::pack::{PackKind, PackWriter};
use cairn_store::publish::{publish, publish_segment};
use cairn_store::{RepairReport, Session, SessionKind, Store, layout, repair, verify};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Publishes a pack of plain frames with chunks of these lengths, and entries of those that `is_known` says.
fn make(kit: &Kit, frames: &[&[usize]], is_known: impl Fn(usize) -> bool) -> (PackId, PathBuf) {
    let (store, folder) = (&kit.store, kit.store.folder());
    let session = Session::begin(folder.clone(), SessionKind::Write, &[]).unwrap();
    let scratch = session.scratch();
    let mut writer =
        PackWriter::create(&**folder, &scratch, store.header(), PackKind::Data).unwrap();
    let (mut entries, mut number) = (Vec::new(), 0);
    for lengths in frames {
        let mut stored = Vec::new();
        let mut chunks = Vec::new();
        for length in *lengths {
            let bytes = noise(*length, 1000 + number as u64 + chunks.len() as u64);
            chunks.push((
                store.keys().chunk_id(ChunkKind::Data, &bytes),
                *length as u32,
            ));
            stored.extend(bytes);
        }
        let frame = BuiltFrame {
            plain: true,
            raw_length: stored.len(),
            tag: store.keys().frame_tag(&stored),
            chunks,
            stored,
        };
        let placed = writer.append(&frame).unwrap();
        let mut at = 0;
        for (id, length) in &frame.chunks {
            let place = Place {
                pack: placed.pack,
                offset: placed.offset,
                stored: frame.stored.len() as u32,
                plain: true,
                at,
                length: *length,
            };
            if is_known(number) {
                entries.push(Entry::new(id.prefix(), 0, &place));
            }
            at += length;
            number += 1;
        }
    }
    let sealed = writer.seal().unwrap();
    let id = sealed.id;
    publish(store, &session, &[sealed], entries).unwrap();
    (id, kit.path().join(layout::pack(id)))
}

fn flip(path: &Path, at: &[u64]) {
    let mut bytes = std::fs::read(path).unwrap();
    for at in at {
        bytes[*at as usize] ^= 0x40;
    }
    std::fs::write(path, bytes).unwrap();
}

fn mend(kit: &Kit) -> RepairReport {
    repair(&kit.reopen(), &Silent).unwrap()
}

/// What is lost of a pack besides its table of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Nothing,
    Footer,
    BothFooters,
    BothFootersAndTheFirstTable,
}

#[test]
fn a_table_that_is_lost_is_replaced_by_what_is_known_for_sure() {
    use Lost::{BothFooters, BothFootersAndTheFirstTable, Footer, Nothing};
    for parity in [0, 1, 25] {
        for lost in [Nothing, Footer, BothFooters, BothFootersAndTheFirstTable] {
            // All; not the last frame; not the last chunk of a frame. Each is less than a sector.
            for unknown in [usize::MAX, 2, 1] {
                let what = format!("{parity} % {lost:?} {unknown}");
                let kit = Kit::with_parity(parity);
                let frames: [&[usize]; 2] = [&[9000, 300], &[400]];
                let (_, path) = make(&kit, &frames, |number| number != unknown);
                let of = footer(&path);
                let length = std::fs::metadata(&path).unwrap().len();
                // A sector of the table and all of its parity.
                flip(&path, &[of.toc_offset + 20]);
                let shape = of.shape().unwrap();
                if let Some(shape) = &shape {
                    for number in 0..shape.parity_of(0) {
                        flip(&path, &[shape.parity_range(0, number).start + 5]);
                    }
                }
                if lost != Nothing {
                    flip(&path, &[length - 100]);
                }
                if let Some(shape) = &shape
                    && lost != Nothing
                    && lost != Footer
                {
                    flip(&path, &[of.parity_offset + 50]);
                    if lost == BothFootersAndTheFirstTable {
                        flip(&path, &[shape.tables()[0]]);
                    }
                }
                let report = mend(&kit);
                let is_sure =
                    unknown == usize::MAX && (parity == 0 || lost != BothFootersAndTheFirstTable);
                assert_eq!(
                    report.repaired.len(),
                    usize::from(is_sure),
                    "{what}: {report:?}"
                );
                assert_eq!(
                    report.left.len(),
                    usize::from(!is_sure),
                    "{what}: {report:?}"
                );
                assert_eq!(path.exists(), !is_sure, "{what}");
                // As often as it is tried.
                assert_eq!(mend(&kit).repaired.len(), 0, "{what}");
                assert_eq!(path.exists(), !is_sure, "{what}");
            }
        }
    }
}

#[test]
fn a_pack_that_is_gone_is_not_forgotten_if_there_was_more_in_it_than_is_known() {
    for parity in [0, 3] {
        let kit = Kit::with_parity(parity);
        let (id, path) = make(&kit, &[&[9000], &[8000]], |_| false);
        let whole = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let report = mend(&kit);
        assert_eq!(
            (report.repaired.len(), report.left.len()),
            (0, 1),
            "{report:?}"
        );
        assert!(kit.reopen().state().replaced.is_empty());
        // It comes back: the index learns of all.
        std::fs::write(&path, whole).unwrap();
        assert_eq!(mend(&kit).repaired.len(), 1);
        assert!(path.exists() && kit.reopen().live_packs().iter().any(|row| row.id == id));
        assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    }
}

#[test]
fn a_frame_that_goes_on_behind_what_is_known_ends_no_repair() {
    let kit = Kit::new();
    let (id, path) = make(&kit, &[&[9000, 300], &[5000]], |number| number != 1);
    let (_, other) = make(&kit, &[&[7000]], |_| true);
    flip(&other, &[10]);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 200]).unwrap();
    let report = mend(&kit);
    // The other one is mended, and of this one what is known has a new place.
    assert_eq!(
        (report.repaired.len(), report.left.len()),
        (2, 1),
        "{report:?}"
    );
    assert!(path.exists() && !other.exists());
    let new = report.repaired.iter().find(|done| done.pack == Some(id));
    let new = kit
        .path()
        .join(layout::pack(new.unwrap().new_pack.unwrap()));
    assert_eq!(footer(&new).toc_offset, 64 + 9000 + 5000);
}

#[test]
fn a_pack_that_is_swept_while_it_is_read_is_not_indexed() {
    for direct in [true, false] {
        let kit = Kit::new();
        let (id, path) = make(&kit, &[&[9000]], |_| true);
        let (other, _) = make(&kit, &[&[8000]], |_| true);
        if direct {
            let store = kit.reopen();
            let folder = store.folder().clone();
            let session = Session::begin(folder, SessionKind::Write, &[]).unwrap();
            let rows = store.live_packs();
            std::fs::remove_file(&path).unwrap();
            let before = store.generation();
            let gone = publish_segment(&store, &session, &rows, Vec::new()).unwrap();
            assert_eq!(gone.into_iter().collect::<Vec<_>>(), [id]);
            drop(session);
            assert_eq!(kit.reopen().generation(), before);
            assert!(files_in(kit.path(), "sessions").is_empty());
            continue;
        }
        for name in files_in(kit.path(), "index") {
            std::fs::remove_file(kit.path().join(name)).unwrap();
        }
        let folder = WatchedFolder::new(kit.path());
        folder.on_create(move || std::fs::remove_file(&path).unwrap());
        let store = Arc::new(Store::open(Arc::new(folder.clone())).unwrap());
        let report = repair(&store, &Silent).unwrap();
        let known: Vec<PackId> = kit.reopen().live_packs().iter().map(|row| row.id).collect();
        assert_eq!(known, [other], "{report:?}");
        assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
        // The names of packs are durable before a segment says that they are there.
        let log = folder.log();
        let at = |what: &str| log.iter().rposition(|line| line.starts_with(what)).unwrap();
        let home = format!("sync {}", layout::pack_folder(other));
        assert!(at(&home) < at("publish index/"), "{log:?}");
    }
}
