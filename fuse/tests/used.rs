//! Disks that can be written to, as they are used: by loop devices and hypervisors, and until the scratch folder is full. Skipped, saying so, where there is no
//! `/dev/fuse`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use shared::writable::{DISK, image, read, refused};
use shared::{PARTITIONS, fixture, noise, run};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

/// **[full]** When the scratch folder is full the writer gets ENOSPC; what was written before stays, and reading
/// and all other disks go on.
#[test]
fn a_full_scratch_is_the_writers_business() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: not root, who alone can make a small file system");
        return;
    }
    let small = tempdir().unwrap();
    let at = small.path().to_str().unwrap();
    let made = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "cairn-test", at])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("SKIPPED: nothing can be mounted here");
        return;
    }
    if let Some(mount) = image(small.path(), false) {
        let disk = mount.to_write(DISK);
        disk.write_all_at(&[7; 100_000], 0).unwrap();
        disk.sync_all().unwrap();
        let full = (1..40u64)
            .find_map(|piece| disk.write_all_at(&noise(1 << 20, piece), piece << 20).err());
        let full = full.expect("40 MiB do not fit into 2");
        assert_eq!(full.raw_os_error(), refused(Errno::NOSPC));
        assert!(read(&disk, 0, 100_000) == [7; 100_000]);
        let original = fs::read(&fixture().disk).unwrap();
        assert!(read(&disk, 90 << 20, 6 << 20) == original[90 << 20..]);
        assert_eq!(
            fs::read(mount.at("files/disk0/p1/etc/hostname")).unwrap(),
            b"web01\n"
        );
        // Room that is given back is room again.
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&disk, hole, 1 << 20, 60 << 20).unwrap();
        disk.write_all_at(&[9; 65_536], 2 << 20).unwrap();
        assert!(read(&disk, 2 << 20, 65_536) == [9; 65_536]);
        drop(disk);
        mount.end();
    }
    run("umount", &[at]);
}

/// The kernel's own ext4 on a loop device, written to, unmounted and mounted again.
#[test]
fn a_loop_device_on_it_takes_a_file_system() {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        println!("SKIPPED: not root, or no loop devices");
        return;
    }
    let scratch = tempdir().unwrap();
    let Some(mount) = image(scratch.path(), false) else {
        return;
    };
    let (start, length) = PARTITIONS[0];
    let (offset, limit) = ((start << 20).to_string(), (length << 20).to_string());
    let path = mount.at(DISK);
    let made = Command::new("losetup")
        .args(["-f", "--show", "-o", &offset, "--sizelimit", &limit])
        .arg(&path)
        .output();
    let Some(made) = made.ok().filter(|made| made.status.success()) else {
        println!("SKIPPED: no loop device can be set up here");
        return;
    };
    let device = String::from_utf8(made.stdout).unwrap().trim().to_string();
    let inside = tempdir().unwrap();
    let at = inside.path().to_str().unwrap();
    let bytes = noise(3_000_000, 8);
    let mounted = Command::new("mount")
        .args(["-t", "ext4", &device, at])
        .output()
        .unwrap();
    let able = mounted.status.success();
    if able {
        fs::write(inside.path().join("new"), &bytes).unwrap();
        fs::remove_file(inside.path().join("large")).unwrap();
        run("umount", &[at]);
        run("mount", &["-t", "ext4", &device, at]);
        assert!(fs::read(inside.path().join("new")).unwrap() == bytes);
        assert!(!inside.path().join("large").exists());
        run("umount", &[at]);
    } else {
        println!("SKIPPED: ext4 cannot be mounted here");
    }
    run("losetup", &["-d", &device]);
    if able {
        // The disk is what ext4 made of it, and sound; the recovery point is what it was.
        let part = scratch.path().join("part");
        let from = format!("if={}", path.display());
        run(
            "dd",
            &[
                &from,
                &format!("of={}", part.display()),
                "bs=1M",
                "skip=1",
                "count=64",
                "status=none",
            ],
        );
        run("e2fsck", &["-fn", part.to_str().unwrap()]);
        assert!(mount.at("files/disk0/p1/large").exists());
        assert!(!mount.at("files/disk0/p1/new").exists());
    }
    mount.end();
}

/// Opening for direct reading and writing at once, as hypervisors do.
#[test]
fn hypervisors_write_to_it() {
    let scratch = tempdir().unwrap();
    let Some(mount) = image(scratch.path(), false) else {
        return;
    };
    let path = mount.at(DISK);
    let opened = File::options()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
        .open(&path);
    opened.unwrap();
    for (cache, byte) in [
        ("none", "0x11"),
        ("writeback", "0x22"),
        ("directsync", "0x33"),
    ] {
        let path = path.to_str().unwrap();
        let write = format!("write -P {byte} 4M 300k");
        let read = format!("read -P {byte} 4M 300k");
        let said = run(
            "qemu-io",
            &[
                "-f",
                "raw",
                "-t",
                cache,
                "-c",
                &write,
                "-c",
                "flush",
                "-c",
                &read,
                "-c",
                "write -z -u 5M 64k",
                "-c",
                "discard 6M 1M",
                "-c",
                "read -P 0 5M 64k",
                "-c",
                "read -P 0 6M 1M",
                path,
            ],
        );
        assert!(!said.contains("failed"), "{said}");
        let seen = read_byte(path);
        assert_eq!(format!("{seen:#04x}"), byte);
    }
    mount.end();
}

fn read_byte(path: &str) -> u8 {
    read(&File::open(path).unwrap(), (4 << 20) + 12_345, 1)[0]
}
