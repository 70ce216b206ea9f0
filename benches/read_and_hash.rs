//! Reads what is allocated of a raw image and hashes it in pieces, on all processors, and does nothing else: what no backup of an
//! unchanged disk can be faster than.
//!
//! `cargo run --release -p cairn-benches --example read_and_hash -- IMAGE PIECE`, PIECE in bytes, at most 1 MiB.
#![expect(clippy::expect_used, reason = "a floor that fails may say so and end")]

use rustix::fs::{SeekFrom, seek};
use std::fs::File;
use std::hint::black_box;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Read at once: it stays in the processor's cache.
const READ: usize = 1 << 20;

/// The allocated ranges, cut to what is read at once.
fn reads(file: &File) -> Vec<Range<u64>> {
    let size = file.metadata().expect("the image's size").len();
    let mut reads = Vec::new();
    let mut at = 0;
    while at < size
        && let Ok(start) = seek(file, SeekFrom::Data(at))
    {
        at = seek(file, SeekFrom::Hole(start)).expect("a hole, if only at the end");
        let steps = (start..at).step_by(READ);
        reads.extend(steps.map(|step| step..at.min(step + READ as u64)));
    }
    reads
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: read_and_hash IMAGE PIECE";
    let image = arguments.next().expect(usage);
    let piece: usize = arguments.next().expect(usage).parse().expect(usage);
    assert!((1..=READ).contains(&piece), "{usage}");
    let file = File::open(image).expect("the image");
    let reads = reads(&file);
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut buffer = vec![0; READ];
                while let Some(range) = reads.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let bytes = &mut buffer[..(range.end - range.start) as usize];
                    file.read_exact_at(bytes, range.start)
                        .expect("the image's bytes");
                    for part in bytes.chunks(piece) {
                        black_box(blake3::keyed_hash(&[1; 32], part));
                    }
                }
            });
        }
    });
}
