//! Damaged images: an error or the part that can be read, in bounded time.

use crate::support::{FileDisk, images, unpack, walk};
use cairn_guest::probe::volumes;
use cairn_guest::{EntryKind, Volume};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// Names, targets and first bytes of everything, whatever fails.
fn exercise(volume: &dyn Volume) -> (usize, usize) {
    let mut errors = 0;
    let items = walk(volume, false, 20_000, &mut |_, _| errors += 1);
    for item in items.values() {
        let _ = volume.xattrs(item.id);
        match item.kind {
            EntryKind::Symlink => {
                let _ = volume.read_link(item.id);
            }
            EntryKind::File => {
                let Ok(file) = volume.open(item.id) else {
                    continue;
                };
                let mut buffer = vec![0; 1 << 16];
                for at in [0, file.size() / 2, file.size().saturating_sub(1 << 16)] {
                    let length = (file.size() - at).min(1 << 16) as usize;
                    let _ = file.read_exact_at(at, &mut buffer[..length]);
                }
                let _ = file.data_extents(0..u64::MAX);
            }
            _ => {}
        }
    }
    let _ = volume.free_space(&mut |_| std::ops::ControlFlow::Continue(()));
    (items.len(), errors)
}

fn try_image(path: &Path) -> String {
    let layout = match volumes(&FileDisk::open(path), None) {
        Ok(layout) => layout,
        Err(error) => return error.to_string(),
    };
    let mut told = Vec::new();
    for volume in &layout.volumes {
        let is_ext = volume
            .detected
            .as_ref()
            .is_ok_and(|d| d.name() == "ext2/3/4");
        told.push(match volume.open() {
            Ok(volume) if is_ext => {
                format!("{:?} {:?}", exercise(volume.as_ref()), volume.info().notes)
            }
            Ok(_) => "another reader's".to_string(),
            Err(error) => error.to_string(),
        });
    }
    told.join("; ")
}

#[test]
fn damaged_images_end_in_time() {
    let Some(folder) = images() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let mut names: Vec<_> = std::fs::read_dir(folder.join("malformed"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            let table = name.starts_with("mut_gpt") || name.starts_with("mut_mbr");
            let ext = name.starts_with("e2fsprogs") || name.contains("ext4");
            name.ends_with(".zst") && (ext || table)
        })
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for packed in names {
        let path = unpack(&packed, scratch.path()).unwrap();
        let (sender, receiver) = mpsc::channel();
        let image = path.clone();
        let thread = std::thread::spawn(move || sender.send(try_image(&image)));
        let name = packed.file_name().unwrap().to_str().unwrap();
        match receiver.recv_timeout(Duration::from_secs(20)) {
            Ok(told) => println!("{name}: {told}"),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{name}: no end after 20 s"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{name}: panicked"),
        }
        thread.join().unwrap().unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
