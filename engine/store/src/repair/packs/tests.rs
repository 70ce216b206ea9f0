//! Disks that die while a pack is mended.

use super::*;
use crate::backup::{BackupOptions, DiskInput, backup};
use crate::cut::CutParameters;
use crate::point::ImageFacts;
use crate::session::SessionKind;
use cairn_base::{Error, Folder, Kind, LocalFolder, ReadAt, Silent, SystemClock};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A disk that dies after so many reads.
struct Dying(Arc<dyn ReadAt>, AtomicUsize);

impl ReadAt for Dying {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let left = self.1.load(Ordering::Relaxed);
        if left == 0 {
            return Err(Error::new(Kind::Io, "the disk is dead"));
        }
        self.1.store(left - 1, Ordering::Relaxed);
        self.0.read_exact_at(offset, buffer)
    }
}

#[test]
fn a_pack_that_cannot_be_read_a_second_time_is_not_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(temp.path()));
    let cut = CutParameters::default();
    let store = Arc::new(Store::create(folder.clone(), cut, &SystemClock).unwrap());
    let mut bytes = vec![0; 3 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let disk = DiskInput {
        name: "disk0".to_string(),
        source: Arc::new(bytes),
        facts: ImageFacts::default(),
        changed: None,
        changes: None,
    };
    backup(
        &store,
        &[disk],
        &BackupOptions::new("m"),
        &Silent,
        &SystemClock,
    )
    .unwrap();
    let row = store
        .live_packs()
        .into_iter()
        .max_by_key(|row| row.length)
        .unwrap();
    let session = Session::begin(folder, SessionKind::Write, &[]).unwrap();
    let known = plan::known(&store, &HashSet::new());
    let frames = Opened::new(&store, &row)
        .unwrap()
        .table
        .unwrap()
        .toc()
        .frames
        .len();
    assert!(frames > 8);
    // Dead from the start, in the middle of the second reading, and not at all.
    for (reads, replaced) in [
        (frames, false),
        (frames + frames / 2, false),
        (2 * frames, true),
    ] {
        let mut opened = Opened::new(&store, &row).unwrap();
        let file = opened.raw.take().unwrap();
        opened.raw = Some(Arc::new(Dying(file, AtomicUsize::new(reads))));
        opened.healed = None;
        let mut mender = Mender::new(&store, &session, &Silent).unwrap();
        let reader = ChunkReader::new(store.clone(), 0);
        let (mut batch, mut report) = (Batch::default(), RepairReport::default());
        let fault = Fault::Damaged;
        let case = Case {
            store: &store,
            row,
            fault,
            known: &known,
            sound: &HashSet::new(),
        };
        case.mend(opened, &mut mender, &reader, &mut batch, &mut report)
            .unwrap();
        assert_eq!(batch.replaced.contains(&row.id), replaced, "{reads}");
        assert_eq!(
            (batch.packs.len(), report.left.len()),
            if replaced { (1, 0) } else { (0, 1) }
        );
    }
}
