//! An image file that counts what is asked of it.

use cairn_base::{ReadAt, Result};
use cairn_disk::{FileSource, FormatHint, VirtualDisk, open_bytes};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was asked of an image file.
#[derive(Default)]
pub struct Work {
    reads: AtomicU64,
    bytes: AtomicU64,
    looks: AtomicU64,
}

impl Work {
    /// Number of reads, bytes read, and questions for holes, since the last time.
    pub fn take(&self) -> (u64, u64, u64) {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        (take(&self.reads), take(&self.bytes), take(&self.looks))
    }
}

struct Counted {
    image: FileSource,
    work: Arc<Work>,
}

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.image.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.work.reads.fetch_add(1, Ordering::Relaxed);
        let length = buffer.len() as u64;
        self.work.bytes.fetch_add(length, Ordering::Relaxed);
        self.image.read_exact_at(offset, buffer)
    }
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.work.looks.fetch_add(1, Ordering::Relaxed);
        self.image.data_extents(range)
    }
}

/// Opens the image at `path` by its content.
pub fn opened(path: &Path) -> (Arc<dyn VirtualDisk>, Arc<Work>) {
    let work = Arc::new(Work::default());
    let image = Counted {
        image: FileSource::open(path).unwrap(),
        work: work.clone(),
    };
    let disk = open_bytes(Arc::new(image), FormatHint::Detect).unwrap();
    (disk, work)
}
