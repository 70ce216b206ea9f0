//! Walks every volume of a disk image, or of the disks of a point, through the library: all names, and the attributes of each entry. What `compare/guest_ntfs.py` measures
//! beside other ways.
//!
//! usage: walk_volume IMAGE, or walk_volume STORE MACHINE@POINT; prints `entries`, `seconds` and `peak_mib` of this process.

use cairn::{DirEntry, DiskView, EntryKind, Store, Volume};
use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Names that are held of a folder.
const BATCH: usize = 1024;

/// Number of entries below the root.
fn walk(volume: &dyn Volume) -> cairn::Result<u64> {
    let mut open = vec![volume.root()];
    let mut count = 0;
    let mut batch: Vec<DirEntry> = Vec::with_capacity(BATCH);
    while let Some(folder) = open.pop() {
        let mut after = 0;
        loop {
            volume.read_dir(folder, after, &mut |entry| {
                batch.push(entry);
                if batch.len() < BATCH {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            let is_last = batch.len() < BATCH;
            for entry in batch.drain(..) {
                after = entry.cookie;
                let attributes = volume.attributes(entry.id)?;
                if attributes.kind == EntryKind::Folder {
                    open.push(entry.id);
                }
                count += 1;
            }
            if is_last {
                break;
            }
        }
    }
    Ok(count)
}

/// The most memory that this process had, in MiB, where the system tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let started = Instant::now();
    let (_point, disks) = match &arguments[..] {
        [image] => (
            None,
            vec![Arc::new(DiskView::open_image(Path::new(image))?)],
        ),
        [store, name] => {
            let store = Store::open(Path::new(store))?;
            let point = store.open_point(&store.find_point(name)?)?;
            let disks = point.disks().to_vec();
            (Some(point), disks)
        }
        _ => return Err("usage: walk_volume IMAGE, or walk_volume STORE MACHINE@POINT".into()),
    };
    let mut entries = 0;
    for disk in disks {
        for volume in disk.volumes()? {
            if !volume.holds_no_files() {
                entries += walk(&*volume.open()?)?;
            }
        }
    }
    println!("entries {entries}");
    println!("seconds {:.4}", started.elapsed().as_secs_f64());
    if let Some(peak) = peak() {
        println!("peak_mib {peak}");
    }
    Ok(())
}
