//! Damaged images that others made: an error or the part that can be read, in bounded time.

use crate::support::{FileDisk, images, unpack, walk};
use cairn_base::ReadAt;
use cairn_guest::exfat::ExFatVolume;
use cairn_guest::fat::FatVolume;
use cairn_guest::{CodePage, EntryKind, Volume, open_volume};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Everything there is, whatever fails. Answers entries and errors.
pub fn exercise(volume: &dyn Volume) -> (usize, usize) {
    let _ = volume.info();
    let mut errors = 0;
    let items = walk(volume, false, 20_000, &mut |_, _| errors += 1);
    let mut read = 0u64;
    let mut buffer = vec![0; 1 << 20];
    for item in items.values() {
        let _ = volume.parent(item.id);
        let mut told = 0u64;
        let _ = volume.extents(item.id, &mut |extent| {
            assert!(extent.place.start < extent.place.end);
            told += 1;
            if told < 100_000 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        let Ok(file) = volume.open(item.id) else {
            errors += usize::from(item.kind == EntryKind::File);
            continue;
        };
        let _ = file.data_extents(0..u64::MAX);
        let mut at = 0;
        while at < file.size() && read < 256 << 20 {
            let length = (file.size() - at).min(buffer.len() as u64) as usize;
            if file.read_exact_at(at, &mut buffer[..length]).is_err() {
                errors += 1;
                break;
            }
            at += length as u64;
            read += length as u64;
        }
        let last = file.size().saturating_sub(9);
        let _ = file.read_exact_at(last, &mut buffer[..(file.size() - last) as usize]);
    }
    let mut before = 0;
    let _ = volume.free_space(&mut |range| {
        assert!(before <= range.start && range.start < range.end);
        before = range.end;
        ControlFlow::Continue(())
    });
    (items.len(), errors)
}

/// As whatever it is taken for, and as both.
pub fn exercise_all(device: &Arc<dyn ReadAt>) -> String {
    let mut told = Vec::new();
    let fat = FatVolume::open(device.clone(), CodePage::default());
    let exfat = ExFatVolume::open(device.clone());
    let found = open_volume(device.clone());
    let fat = fat.map(|volume| Arc::new(volume) as Arc<dyn Volume>);
    let exfat = exfat.map(|volume| Arc::new(volume) as Arc<dyn Volume>);
    for volume in [fat, exfat, found] {
        told.push(match volume {
            Ok(volume) => format!("{:?} {:?}", exercise(&*volume), volume.info().notes),
            Err(error) => error.to_string(),
        });
    }
    told.join("; ")
}

/// Runs in a thread of its own, which must end.
pub fn in_time(name: &str, work: impl FnOnce() -> String + Send + 'static) -> String {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || sender.send(work()));
    let told = match receiver.recv_timeout(Duration::from_secs(60)) {
        Ok(told) => told,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{name}: no end after 60 s"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{name}: panicked"),
    };
    thread.join().unwrap().unwrap();
    told
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.ends_with(".zst") && name.contains("fat")
}

#[test]
fn damaged_images_end_in_time() {
    let Some(folder) = images() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let all = std::fs::read_dir(folder.join("malformed")).unwrap();
    let mut packed: Vec<_> = all
        .map(|entry| entry.unwrap().path())
        .filter(|path| is_ours(path))
        .collect();
    packed.sort();
    assert!(packed.len() > 20, "{packed:?}");
    for packed in packed {
        let path = unpack(&packed, scratch.path()).unwrap();
        let name = packed.file_name().unwrap().to_str().unwrap().to_string();
        let device = FileDisk::open(&path);
        let told = in_time(&name, move || exercise_all(&device));
        println!("{name}: {told}");
        std::fs::remove_file(path).unwrap();
    }
}
