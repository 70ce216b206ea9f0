//! Images that others made, whole and damaged, from the image file to the last file in it: each ends in content or in a
//! clear error, never in a panic, a hang, or memory out of proportion.
#![cfg(test)]

use cairn::{DiskView, EntryKind, Error, Result, Volume, VolumeView, walk};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// No image may take longer; most take milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Entries looked at in one volume, and bytes of each file: enough to meet every structure.
const MOST_ENTRIES: usize = 20_000;
const MOST_BYTES: u64 = 256 << 10;

fn images() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/images");
    if path.is_dir() {
        return Some(path);
    }
    println!("SKIPPED: the folder of foreign images is not beside the checkout");
    None
}

#[derive(Debug, Default)]
struct Seen {
    volumes: usize,
    entries: usize,
    errors: usize,
}

/// Looks at everything; errors are fine, as long as they say something.
fn look(path: &Path) -> Result<Seen> {
    let mut seen = Seen::default();
    let view = DiskView::open_image(path)?;
    for volume in view.volumes()? {
        seen.volumes += 1;
        if let Err(error) = look_at_volume(volume, &mut seen) {
            assert!(error.to_string().len() > 10, "{error}");
            seen.errors += 1;
        }
    }
    Ok(seen)
}

fn look_at_volume(view: &VolumeView, seen: &mut Seen) -> Result<()> {
    let volume = view.open()?;
    let mut waiting = vec![volume.root()];
    let mut found = 0;
    while let Some(folder) = waiting.pop() {
        let (entries, read) = walk::list(&*volume, folder);
        seen.errors += usize::from(read.is_err());
        for entry in entries {
            found += 1;
            if found > MOST_ENTRIES {
                return Ok(());
            }
            seen.entries += 1;
            assert!(
                !entry.name.is_empty() && !entry.name.contains(&b'/'),
                "{:?}",
                entry.name
            );
            if look_at_entry(&*volume, entry.id, entry.kind).is_err() {
                seen.errors += 1;
            }
            if entry.kind == EntryKind::Folder {
                waiting.push(entry.id);
            }
        }
    }
    Ok(())
}

fn look_at_entry(volume: &dyn Volume, id: cairn::EntryId, kind: EntryKind) -> Result<()> {
    let attributes = volume.attributes(id)?;
    assert!(attributes.links > 0);
    volume.xattrs(id)?;
    volume.streams(id)?;
    if kind == EntryKind::Symlink {
        volume.read_link(id)?;
    }
    if kind == EntryKind::File {
        let content = volume.open(id)?;
        content.data_extents(0..content.size())?;
        let mut at = 0;
        while at < content.size().min(MOST_BYTES) {
            let length = (content.size() - at).min(65536);
            content.read_exact_at(at, &mut vec![0; usize::try_from(length).unwrap()])?;
            at += length;
        }
    }
    Ok(())
}

fn unpack(packed: &Path, to: &Path) {
    let done = Command::new("zstd")
        .args(["-d", "-q", "-f", "--sparse"])
        .arg(packed)
        .arg("-o")
        .arg(to)
        .status()
        .expect("zstd is installed by tests/run.sh");
    assert!(done.success(), "{}", packed.display());
}

/// Looks at every image of a folder in a thread of its own. Answers how many could be opened and how many ended in an error.
fn look_at_all(folder: &Path) -> (usize, usize, Seen) {
    let temp = tempfile::tempdir().unwrap();
    let (mut opened, mut refused, mut total) = (0, 0, Seen::default());
    let mut packed: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    packed.retain(|path| path.extension().is_some_and(|e| e == "zst"));
    packed.sort();
    assert!(packed.len() > 90, "{}", packed.len());
    for image in packed {
        let target = temp.path().join(image.file_stem().unwrap());
        unpack(&image, &target);
        let (send, receive) = channel();
        let path = target.clone();
        let thread = std::thread::spawn(move || {
            let result: Result<Seen, Error> = look(&path);
            let _gone = send.send(result);
        });
        match receive.recv_timeout(PATIENCE) {
            Ok(Ok(seen)) => {
                opened += 1;
                total.volumes += seen.volumes;
                total.entries += seen.entries;
                total.errors += seen.errors;
            }
            Ok(Err(error)) => {
                assert!(error.to_string().len() > 10, "{}: {error}", image.display());
                refused += 1;
            }
            Err(RecvTimeoutError::Timeout) => panic!("{} hangs", image.display()),
            Err(RecvTimeoutError::Disconnected) => panic!("{} panics", image.display()),
        }
        thread.join().unwrap();
        std::fs::remove_file(&target).unwrap();
    }
    println!("{opened} images opened, {refused} refused: {total:?}");
    (opened, refused, total)
}

#[test]
fn whole_images_of_others() {
    let Some(images) = images() else { return };
    let (opened, refused, seen) = look_at_all(&images);
    // Refused: differencing disks, a dirty log, and the like.
    assert!(opened > 90 && refused < 12, "{opened} {refused}");
    assert!(seen.entries > 12_000, "{seen:?}");
}

#[test]
fn damaged_images_of_others() {
    let Some(images) = images() else { return };
    let (opened, refused, seen) = look_at_all(&images.join("malformed"));
    assert!(opened > 100 && refused > 20, "{opened} {refused}");
    assert!(seen.errors > 100, "{seen:?}");
}
