//! How many reads of the image a read of the disk takes: counted, because it decides the speed of a backup.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cairn_base::read_at::read_vec;
use cairn_base::{ReadAt, Result};
use cairn_disk::write::{DiskWriter, VhdWriter, VhdxOptions, VhdxWriter};
use cairn_disk::{FileSource, FormatHint, VirtualDisk, open_bytes};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counted {
    image: FileSource,
    reads: Arc<AtomicUsize>,
}

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.image.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.image.read_exact_at(offset, buffer)
    }
}

fn filled(writer: Box<dyn DiskWriter>, path: &Path) -> (Arc<dyn VirtualDisk>, Arc<AtomicUsize>) {
    for piece in 0..16u64 {
        writer
            .write_at(piece << 20, &vec![piece as u8 + 1; 1 << 20])
            .unwrap();
    }
    writer.finish().unwrap();
    let reads = Arc::new(AtomicUsize::new(0));
    let image = Counted {
        image: FileSource::open(path).unwrap(),
        reads: reads.clone(),
    };
    (
        open_bytes(Arc::new(image), FormatHint::Detect).unwrap(),
        reads,
    )
}

#[test]
fn large_reads_stay_large() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vhdx");
    let options = VhdxOptions {
        block_size: Some(1 << 20),
        ..VhdxOptions::default()
    };
    let writer = VhdxWriter::create(&path, 64 << 20, options).unwrap();
    let (disk, reads) = filled(Box::new(writer), &path);
    let count = |at: u64, length: usize| {
        reads.store(0, Ordering::Relaxed);
        let bytes = read_vec(&*disk, at, length).unwrap();
        assert_eq!(
            bytes[0],
            if at < 16 << 20 {
                (at >> 20) as u8 + 1
            } else {
                0
            }
        );
        reads.load(Ordering::Relaxed)
    };
    // The block table is read when it is needed, and once. Blocks that lie behind each other are one read; holes are none.
    assert_eq!(count(0, 16 << 20), 2);
    assert_eq!(count(0, 16 << 20), 1);
    assert_eq!(count((3 << 20) + 5, 4 << 20), 1);
    assert_eq!(count(20 << 20, 16 << 20), 0);
    assert_eq!(count(14 << 20, 16 << 20), 1);
}

#[test]
fn full_sector_bitmaps_are_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.vhd");
    let writer = VhdWriter::create(&path, 64 << 20, None).unwrap();
    let (disk, reads) = filled(Box::new(writer), &path);
    let count = |at: u64, length: usize| {
        reads.store(0, Ordering::Relaxed);
        read_vec(&*disk, at, length).unwrap();
        reads.load(Ordering::Relaxed)
    };
    // Two blocks: the table, their bitmaps and their data, then only their data; a bitmap lies between them.
    assert_eq!(count(0, 4 << 20), 5);
    assert_eq!(count(0, 4 << 20), 2);
    assert_eq!(count(1 << 20, 4 << 20), 4);
    assert_eq!(count(20 << 20, 16 << 20), 0);
}
