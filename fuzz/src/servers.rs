//! What clients of a server of disks send.

use cairn::nbd::serve_stream;
use cairn::{NbdExport, Overlay, ReadAt, Silent};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of each disk.
const SIZE: usize = 100_000;
/// Replies that are taken, in bytes: reads of everything, over and over, are nothing new.
const ENOUGH: usize = 64 << 20;

/// Takes replies and counts their bytes.
struct Counted<'a>(&'a AtomicUsize);

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        if before > ENOUGH {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A conversation: taken for one if a disk was agreed on and a request was read, or the client went away politely.
pub fn nbd(bytes: &[u8]) -> bool {
    let base: Arc<dyn ReadAt> = Arc::new(vec![7u8; SIZE]);
    let overlay = Arc::new(Overlay::temporary(base.clone(), None).unwrap());
    let exports = vec![
        NbdExport::fixed("disk0", "cannot be written to", base.clone()),
        NbdExport::writable("disk1", "can be", overlay.clone()),
    ];
    let replies = AtomicUsize::new(0);
    let ended = serve_stream(exports, bytes, Counted(&replies), &Silent);
    // Whatever was asked for, what lies below is as it was, and what lies above can be read.
    let mut now = vec![0; SIZE];
    base.read_exact_at(0, &mut now).unwrap();
    assert!(now.iter().all(|byte| *byte == 7));
    overlay.read_exact_at(0, &mut now).unwrap();
    ended.is_ok()
}
