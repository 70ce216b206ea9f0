//! Disks that can be written to, in real mounts. Skipped, saying so, where there is no `/dev/fuse`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn_fuse::mount_store;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate};
use rustix::io::Errno;
use shared::asked::LATEST;
use shared::mounted::as_nobody;
use shared::writable::{DISK, LENGTH, Mount, errno, image, options, read, refused};
use shared::{PARTITIONS, fixture, fuse_is_there, noise, run, store};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;
use tempfile::tempdir;

/// **[writable]** Mounted writable, `disks/*.raw` can be written to, by the one who mounted: mode 0600. What was written is read by everybody from then on, in this
/// mount and nowhere else; reading and writing past the page cache and memory maps see the same. The size stays: truncating is EPERM, writing
/// beyond the end EFBIG. `fallocate` makes holes and zeros, and reserves nothing. All else stays read-only: EROFS.
#[test]
fn disks_are_written_to() {
    let scratch = tempdir().unwrap();
    let Some(mount) = image(scratch.path(), false) else {
        return;
    };
    let original = fs::read(&fixture().disk).unwrap();
    let before = File::open(mount.at(DISK)).unwrap();
    assert_eq!(before.metadata().unwrap().mode() & 0o7777, 0o600);
    assert!(read(&before, 0, 4 << 20) == original[..4 << 20]);
    let disk = mount.to_write(DISK);
    let mut model = original.clone();
    // Whole pages and parts of pages, over data and holes, and at the very end.
    for (number, (offset, length)) in [
        (0u64, 512usize),
        (5000, 3),
        (1 << 20, 3 << 20),
        ((90 << 20) + 17, 100_000),
        (LENGTH - 777, 777),
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = noise(length, number as u64 + 50);
        disk.write_all_at(&bytes, offset).unwrap();
        model[offset as usize..][..length].copy_from_slice(&bytes);
        assert!(read(&before, offset, length) == bytes);
    }
    disk.sync_all().unwrap();
    assert!(fs::read(mount.at(DISK)).unwrap() == model);
    zeros_and_holes(&disk, &mut model);
    past_the_page_cache(&mount, &mut model);
    by_a_map(&mount, &mut model);
    assert!(fs::read(mount.at(DISK)).unwrap() == model);
    // Nowhere else: neither the image nor another mount of it.
    assert!(fs::read(&fixture().disk).unwrap() == original);
    let other = image(scratch.path(), false).unwrap();
    assert!(fs::read(other.at(DISK)).unwrap() == original);
    other.end();

    let open = |how: &mut fs::OpenOptions| errno(how.open(mount.at(DISK)));
    assert_eq!(
        open(File::options().write(true).truncate(true)),
        refused(Errno::PERM)
    );
    for size in [0, LENGTH - 1, LENGTH + 1] {
        assert_eq!(errno(disk.set_len(size)), refused(Errno::PERM));
    }
    disk.set_len(LENGTH).unwrap();
    assert_eq!(errno(disk.write_all_at(b"x", LENGTH)), refused(Errno::FBIG));
    assert_eq!(before.metadata().unwrap().len(), LENGTH);
    drop((disk, before));
    all_else_is_read_only(&mount);
    if let Some(output) = as_nobody(&format!("cat {}", mount.at(DISK).display())) {
        assert!(!output.status.success());
    }
    mount.end();
}

fn zeros_and_holes(disk: &File, model: &mut [u8]) {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for (mode, offset, length) in [
        (hole, (1 << 20) + 100, 2u64 << 20),
        (FallocateFlags::ZERO_RANGE, 65 << 20, 70_001),
        (
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            10,
            5,
        ),
        // A hole may reach beyond the end.
        (hole, LENGTH - 5000, 10_000),
    ] {
        fallocate(disk, mode, offset, length).unwrap();
        let end = (offset + length).min(LENGTH);
        model[offset as usize..end as usize].fill(0);
        assert!(
            read(disk, offset, (end - offset) as usize)
                .iter()
                .all(|byte| *byte == 0)
        );
    }
    let found = rustix::fs::seek(disk, SeekFrom::Hole(1 << 20)).unwrap();
    assert!(found <= (1 << 20) + 4096 + 100, "{found}");
    for mode in [FallocateFlags::empty(), FallocateFlags::KEEP_SIZE] {
        assert_eq!(fallocate(disk, mode, 0, 4096), Err(Errno::OPNOTSUPP));
    }
    let beyond = fallocate(disk, FallocateFlags::ZERO_RANGE, LENGTH - 1, 4096);
    assert_eq!(beyond, Err(Errno::FBIG));
}

/// Written past the page cache, read through it and back.
fn past_the_page_cache(mount: &Mount, model: &mut [u8]) {
    let temp = tempdir().unwrap();
    let bytes = noise(256 << 10, 77);
    let source = temp.path().join("source");
    fs::write(&source, &bytes).unwrap();
    let disk = mount.at(DISK);
    let (disk, source) = (disk.to_str().unwrap(), source.to_str().unwrap());
    let cached = File::open(disk).unwrap();
    // It is in the cache before it is written past it.
    read(&cached, 8 << 20, 1 << 20);
    let to = format!("of={disk}");
    let from = format!("if={source}");
    run(
        "dd",
        &[
            &from,
            &to,
            "bs=64k",
            "seek=128",
            "oflag=direct",
            "conv=notrunc",
            "status=none",
        ],
    );
    model[8 << 20..][..bytes.len()].copy_from_slice(&bytes);
    assert!(read(&cached, 8 << 20, bytes.len()) == bytes);
    // And the other way round.
    mount
        .to_write(DISK)
        .write_all_at(b"through the cache", 8 << 20)
        .unwrap();
    model[8 << 20..][..17].copy_from_slice(b"through the cache");
    let (copy, from) = (temp.path().join("copy"), format!("if={disk}"));
    let to = format!("of={}", copy.display());
    run(
        "dd",
        &[
            &from,
            &to,
            "bs=64k",
            "skip=128",
            "count=4",
            "iflag=direct",
            "status=none",
        ],
    );
    assert!(fs::read(copy).unwrap() == model[8 << 20..][..bytes.len()]);
}

/// Written through a memory map, by a program that has them.
fn by_a_map(mount: &Mount, model: &mut [u8]) {
    let script = "import mmap, sys
with open(sys.argv[1], 'r+b') as disk:
    shown = mmap.mmap(disk.fileno(), 1 << 20, offset=16 << 20)
    shown[4090:4100] = b'by the map'
    shown.flush()";
    let path = mount.at(DISK);
    match Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .output()
    {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("SKIPPED: no python3 to map the disk");
        }
        done => {
            let done = done.unwrap();
            assert!(done.status.success(), "{done:?}");
            model[(16 << 20) + 4090..][..10].copy_from_slice(b"by the map");
            assert_eq!(
                read(&File::open(&path).unwrap(), (16 << 20) + 4090, 10),
                b"by the map"
            );
        }
    }
}

fn all_else_is_read_only(mount: &Mount) {
    let read_only = refused(Errno::ROFS);
    for path in [
        "disks/disk0.vhd",
        "disks/disk0.vhdx",
        "files/disk0/p1/tool",
        "files/disk0/p3.error",
    ] {
        let path = mount.at(path);
        assert_eq!(
            errno(File::options().write(true).open(&path)),
            read_only,
            "{path:?}"
        );
        assert_eq!(errno(fs::remove_file(&path)), read_only);
        assert_eq!(errno(fs::rename(&path, mount.at("disks/other"))), read_only);
        assert_eq!(
            errno(fs::set_permissions(
                &path,
                std::os::unix::fs::PermissionsExt::from_mode(0o777)
            )),
            read_only
        );
        assert_eq!(
            rustix::fs::access(&path, rustix::fs::Access::WRITE_OK),
            Err(Errno::ROFS)
        );
    }
    let disk = mount.at(DISK);
    assert_eq!(
        rustix::fs::access(&disk, rustix::fs::Access::WRITE_OK),
        Ok(())
    );
    assert_eq!(errno(fs::remove_file(&disk)), read_only);
    assert_eq!(errno(fs::rename(&disk, mount.at("disks/other"))), read_only);
    assert_eq!(
        errno(fs::set_permissions(
            &disk,
            std::os::unix::fs::PermissionsExt::from_mode(0o777)
        )),
        read_only
    );
    assert_eq!(
        errno(std::os::unix::fs::chown(&disk, Some(1), None)),
        read_only
    );
    let flags = rustix::fs::XattrFlags::empty();
    assert_eq!(
        rustix::fs::setxattr(&disk, "user.x", b"y", flags),
        Err(Errno::ROFS)
    );
    assert_eq!(rustix::fs::removexattr(&disk, "user.x"), Err(Errno::ROFS));
    for folder in ["", "disks", "files", "files/disk0/p1/etc"] {
        let new = mount.at(folder).join("new");
        assert_eq!(errno(fs::create_dir(&new)), read_only);
        assert_eq!(errno(File::create(&new)), read_only);
        assert_eq!(errno(std::os::unix::fs::symlink("x", &new)), read_only);
        assert_eq!(errno(fs::hard_link(&disk, &new)), read_only);
        assert!(!new.exists());
    }
    assert_eq!(
        errno(fs::remove_dir(mount.at("files/disk0/p1/etc/deep"))),
        read_only
    );
}

/// **[scratch]** What is written lies in the scratch folder, in files that are made when something is first written to a disk and have no name, so that they
/// are gone with the mount, however it ends. With `--keep` they stay, and the next mount with that folder shows the disks as they were left; two mounts
/// cannot use one kept disk at a time: the first that opens it, if only to read it, has it until it is unmounted, and opening it in others is EBUSY. Who opens a kept disk reads what
/// others have left in it meanwhile; who had it open before they wrote gets EBUSY for writing. What was not synced before a crash may be lost.
#[test]
fn what_is_written_is_gone_or_kept() {
    let scratch = tempdir().unwrap();
    let folder = scratch.path().join("made");
    let Some(mount) = image(&folder, false) else {
        return;
    };
    assert!(fs::read(mount.at(DISK)).unwrap() == fs::read(&fixture().disk).unwrap());
    let disk = mount.to_write(DISK);
    assert!(!folder.exists());
    disk.write_all_at(b"gone tomorrow", 0).unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    drop(disk);
    mount.end();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);

    let mount = image(&folder, true).unwrap();
    assert_ne!(read(&File::open(mount.at(DISK)).unwrap(), 0, 4), b"gone");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    mount
        .to_write(DISK)
        .write_all_at(b"here tomorrow", 0)
        .unwrap();
    assert!(fs::read_dir(&folder).unwrap().count() > 0);
    let other = image(&folder, true).unwrap();
    assert_eq!(errno(File::open(other.at(DISK))), refused(Errno::BUSY));
    other.end();
    mount.end();

    let mount = image(&folder, true).unwrap();
    assert_eq!(
        read(&File::open(mount.at(DISK)).unwrap(), 0, 13),
        b"here tomorrow"
    );
    // It was only read here, and is closed.
    let other = image(&folder, true).unwrap();
    assert_eq!(errno(File::open(other.at(DISK))), refused(Errno::BUSY));
    mount.end();
    assert_eq!(
        read(&File::open(other.at(DISK)).unwrap(), 0, 13),
        b"here tomorrow"
    );
    other.end();
    // Without the wish to keep it is left alone.
    let mount = image(&folder, false).unwrap();
    assert_ne!(read(&File::open(mount.at(DISK)).unwrap(), 0, 4), b"here");
    mount.end();
    others_write_meanwhile();
}

/// A mount that has read the base finds what another one has kept since.
fn others_write_meanwhile() {
    let scratch = tempdir().unwrap();
    let mount = image(scratch.path(), true).unwrap();
    let early = mount.to_write(DISK);
    read(&early, 0, 1 << 20);
    let other = image(scratch.path(), true).unwrap();
    let disk = other.to_write(DISK);
    disk.write_all_at(b"by another", 5000).unwrap();
    drop(disk);
    other.end();
    assert_eq!(
        errno(early.write_all_at(b"mixed", 9000)),
        refused(Errno::BUSY)
    );
    drop(early);
    let disk = mount.to_write(DISK);
    assert_eq!(read(&disk, 5000, 10), b"by another");
    disk.write_all_at(b"in turn", 9000).unwrap();
    assert_eq!(read(&disk, 9000, 7), b"in turn");
    drop(disk);
    mount.end();
}

/// **[overlay]** Each disk of each point has an overlay of its own. `files/`, `.vhd` and `.vhdx` go on showing the recovery point, not what was
/// written.
#[test]
fn points_and_disks_do_not_mix() {
    if !fuse_is_there() {
        return;
    }
    let (temp, scratch, folder) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let made = store(temp.path());
    let mounted = mount_store(made, folder.path(), &options(scratch.path(), false)).unwrap();
    let mount = Mount { mounted, folder };
    let original = fs::read(&fixture().disk).unwrap();
    let (one, other) = (
        format!("{LATEST}/{DISK}"),
        format!("web01/2026-11-19T02-00-00Z/{DISK}"),
    );
    let image = |path: &str| format!("{LATEST}/disks/disk0.{path}");
    let shown = ["vhd", "vhdx"].map(|it| fs::read(mount.at(&image(it))).unwrap());
    // The first partition: its files were there, and are still.
    let start = PARTITIONS[0].0 << 20;
    let disk = mount.to_write(&one);
    disk.write_all_at(&noise(4 << 20, 3), start).unwrap();
    disk.sync_all().unwrap();
    assert!(read(&disk, start, 4 << 20) == noise(4 << 20, 3));
    assert!(fs::read(mount.at(&other)).unwrap() == original);
    let hostname = format!("{LATEST}/files/disk0/p1/etc/hostname");
    assert_eq!(fs::read(mount.at(&hostname)).unwrap(), b"web01\n");
    for (it, before) in ["vhd", "vhdx"].into_iter().zip(shown) {
        assert!(fs::read(mount.at(&image(it))).unwrap() == before);
    }
    drop(disk);
    // Closed, it is still what was written.
    let disk = File::open(mount.at(&one)).unwrap();
    assert!(read(&disk, start, 4 << 20) == noise(4 << 20, 3));
    assert!(read(&disk, 0, 4096) == original[..4096]);
    drop(disk);
    mount.end();
}
