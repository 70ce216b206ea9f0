//! A real block device, where the system lets us make one: a loop device over a file.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cairn_base::read_at::read_vec;
use cairn_base::{Error, Kind};
use cairn_disk::write::{DiskWriter, RawWriter};
use cairn_disk::{Format, open};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop device that goes when this goes.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Option<Loop> {
        let output = Command::new("losetup")
            .args(["--find", "--show", "--sector-size", "4096"])
            .arg(file)
            .output()
            .ok()?;
        let name = String::from_utf8(output.stdout).ok()?;
        output
            .status
            .success()
            .then(|| Loop(PathBuf::from(name.trim())))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
    }
}

fn restore(device: &Path, size: u64) -> Result<RawWriter, Error> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(device)
        .unwrap();
    RawWriter::onto(file, device, size, true)
}

#[test]
fn a_device_is_read_and_old_data_on_it_do_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("device");
    std::fs::write(&file, vec![0xEE; 8 << 20]).unwrap();
    let Some(device) = Loop::over(&file) else {
        println!("SKIPPED: no loop device can be made here");
        return;
    };
    let disk = open(&device.0).unwrap();
    assert_eq!((disk.format(), disk.size()), (Format::Raw, 8 << 20));
    assert_eq!(disk.sector_size(), 4096);
    assert_eq!(read_vec(&*disk, (8 << 20) - 3, 3).unwrap(), [0xEE; 3]);
    assert_eq!(disk.changed().unwrap(), None);

    let too_large = restore(&device.0, (8 << 20) + 1).err().unwrap();
    assert_eq!(too_large.kind(), Kind::Invalid);
    // A size and places that no device's sectors fit.
    let size = (6 << 20) + 700;
    let writer = Box::new(restore(&device.0, size).unwrap());
    writer.write_at(3 << 20, &[7; 5001]).unwrap();
    writer.write_at(100, &[8; 10]).unwrap();
    let written = writer.finish().unwrap();
    assert_eq!((written.disk_size, written.file_size), (size, 8 << 20));
    let mut expected = vec![0; size as usize];
    expected[3 << 20..][..5001].fill(7);
    expected[100..110].fill(8);
    // What the disk does not cover is left alone.
    expected.resize(8 << 20, 0xEE);
    assert!(read_vec(&*open(&device.0).unwrap(), 0, 8 << 20).unwrap() == expected);
}
