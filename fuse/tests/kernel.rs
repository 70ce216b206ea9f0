//! Files in real mounts. Skipped, saying so, where there is no `/dev/fuse`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn::DiskView;
use cairn_fuse::{MountOptions, Unmounted, mount_image};
use rustix::fs::SeekFrom;
use shared::mounted::{Image, image, image_of, listing};
use shared::{fixture, run};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// **[entries]** Below `p<N>` every entry has the type, mode, owner, size, modification time, link target, device
/// number and content that the guest's own kernel would show.
#[test]
fn the_tree_is_the_one_that_was_copied_in() {
    let Some(image) = image() else { return };
    let source = listing(&fixture().source);
    let mut shown = listing(&image.at("files/disk0/p1"));
    shown
        .remove(Path::new("lost+found"))
        .expect("mke2fs makes lost+found");
    assert_eq!(
        source.keys().collect::<Vec<_>>(),
        shown.keys().collect::<Vec<_>>()
    );
    for (path, wanted) in &source {
        let found = &shown[path];
        let facts = |of: &fs::Metadata| (of.mode(), of.uid(), of.gid(), of.rdev(), of.mtime());
        assert_eq!(facts(found), facts(wanted), "{path:?}");
        let there = image.at("files/disk0/p1").join(path);
        let here = fixture().source.join(path);
        if wanted.is_symlink() {
            assert_eq!(
                fs::read_link(&there).unwrap(),
                fs::read_link(&here).unwrap()
            );
            assert_eq!(found.len(), wanted.len(), "{path:?}");
        } else if wanted.is_file() {
            assert_eq!(
                (found.len(), found.nlink()),
                (wanted.len(), wanted.nlink()),
                "{path:?}"
            );
            assert!(
                fs::read(&there).unwrap() == fs::read(&here).unwrap(),
                "{path:?}"
            );
        }
    }
    assert!(source.values().any(|entry| entry.file_type().is_fifo()));
    // GNU find, which skips folders that claim to hold none, sees the same.
    let seen = run(
        "find",
        &[
            image.at("files/disk0/p1").to_str().unwrap(),
            "-name",
            "file number*",
        ],
    );
    assert_eq!(seen.lines().count(), 700);
}

/// **[times]** Times are told to the nanosecond, as far as the guest's file system keeps them, also before 1970 and
/// after 2038.
#[test]
fn times_of_any_century_arrive() {
    let temp = tempdir().unwrap();
    let disk = temp.path().join("times.raw");
    fs::copy(&fixture().disk, &disk).unwrap();
    // What `mke2fs -d` leaves out is set by its own tool, the extra bits and nanoseconds too.
    let place = format!(
        "{}?offset={}",
        disk.display(),
        shared::PARTITIONS[0].0 << 20
    );
    for command in [
        "set_inode_field /etc/hostname mtime @-152389434",
        "set_inode_field /tool mtime @4102542245",
    ] {
        run("debugfs", &["-w", "-R", command, &place]);
    }
    let Some(image) = image_of(&disk) else { return };
    let time = |path: &str| {
        let metadata = fs::metadata(image.at("files/disk0/p1").join(path)).unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    };
    let wanted = |path: &str| {
        let said = run("debugfs", &["-R", &format!("stat /{path}"), &place]);
        let line = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("mtime: 0x"))
            .unwrap()
            .to_string();
        let (seconds, extra) = line.split(' ').next().unwrap().split_once(':').unwrap();
        let low = i64::from(u32::from_str_radix(seconds, 16).unwrap() as i32);
        let extra = i64::from_str_radix(extra, 16).unwrap();
        (low + ((extra & 3) << 32), extra >> 2)
    };
    for (path, seconds) in [("etc/hostname", -152_389_434), ("tool", 4_102_542_245)] {
        assert_eq!(time(path), wanted(path), "{path}");
        assert_eq!(time(path).0, seconds, "{path}");
    }
    assert_eq!(time("large").0, 1_000_000_000);
}

/// **[links]** Symbolic links of Linux are given as the guest wrote them. An absolute one leads out of the mount: it means the
/// path on the guest, and on this machine something else.
#[test]
fn links_are_the_guests() {
    let Some(image) = image() else { return };
    assert_eq!(
        fs::read_link(image.at("files/disk0/p1/away")).unwrap(),
        Path::new("/absolute/Ä")
    );
    assert_eq!(
        fs::read(image.at("files/disk0/p1/link")).unwrap(),
        b"web01\n"
    );
    assert!(fs::read(image.at("files/disk0/p1/away")).is_err());
}

/// **[parallel]** Any number of threads read at once, the same file or others. What hangs on one volume does not keep
/// others from being answered.
#[test]
fn many_threads_read_at_once() {
    let Some(image) = image() else { return };
    let source = fs::read(fixture().source.join("large")).unwrap();
    let disk = fs::read(&fixture().disk).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (image, source, disk) = (&image, &source, &disk);
            scope.spawn(move || {
                let file = File::open(image.at("files/disk0/p1/large")).unwrap();
                let raw = File::open(image.at("disks/disk0.raw")).unwrap();
                let mut buffer = vec![0; 100_000];
                for round in 0..40 {
                    let offset = (thread * 611_953 + round * 1_299_709) % 4_900_000;
                    file.read_exact_at(&mut buffer, offset).unwrap();
                    assert!(buffer[..] == source[offset as usize..][..100_000]);
                    let offset = (thread * 15_485_863 + round * 32_452_843) % (95 << 20);
                    raw.read_exact_at(&mut buffer, offset).unwrap();
                    assert!(buffer[..] == disk[offset as usize..][..100_000]);
                    let many = image.at("files/disk0/p1/many");
                    let name = format!("file number {:04}", (thread * 87 + round) % 700);
                    fs::read(many.join(name)).unwrap();
                }
            });
        }
    });
    hangs_alone();
}

/// A disk that never answers reads beyond its start, until it is released.
struct Hanging {
    released: std::sync::Arc<AtomicBool>,
}

impl cairn::ReadAt for Hanging {
    fn size(&self) -> u64 {
        1 << 30
    }
    fn read_exact_at(&self, _: u64, _: &mut [u8]) -> cairn::Result<()> {
        while !self.released.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(cairn::Error::new(cairn::Kind::Io, "released"))
    }
}

/// Many more requests hang than there are threads that listen; what does not need the disk is answered.
fn hangs_alone() {
    let folder = tempdir().unwrap();
    let released = std::sync::Arc::new(AtomicBool::new(false));
    let disk = std::sync::Arc::new(Hanging {
        released: released.clone(),
    });
    let options = MountOptions {
        threads: 2,
        ..MountOptions::default()
    };
    let mounted = mount_image(DiskView::new("disk0", disk, None), folder.path(), &options).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..30 {
            let raw = folder.path().join("disks/disk0.raw");
            scope.spawn(move || {
                let mut byte = [0];
                File::open(raw)
                    .unwrap()
                    .read_exact_at(&mut byte, 0)
                    .unwrap_err();
            });
        }
        std::thread::sleep(Duration::from_millis(200));
        let started = Instant::now();
        for _ in 0..20 {
            assert_eq!(
                fs::read_dir(folder.path().join("files")).unwrap().count(),
                1
            );
        }
        assert!(started.elapsed() < Duration::from_secs(10));
        released.store(true, Ordering::Relaxed);
    });
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Cleanly);
}

/// **[holes]** `SEEK_HOLE` and `SEEK_DATA` tell the holes of disks and of guests' files; a hole reads as zeros. The
/// allocated blocks of a disk of more than 1 GiB are judged from 256 samples; no disk with a hole in a sample shows as
/// fully allocated.
#[test]
fn holes_show() {
    let Some(image) = image() else { return };
    let sparse = File::open(image.at("files/disk0/p1/sparse")).unwrap();
    let seek = |to| rustix::fs::seek(&sparse, to);
    assert_eq!(seek(SeekFrom::Data(0)), Ok(4 << 20));
    assert_eq!(seek(SeekFrom::Hole(4 << 20)), Ok((4 << 20) + 8192));
    assert_eq!(seek(SeekFrom::Data(5 << 20)), Ok(20 << 20));
    assert_eq!(seek(SeekFrom::Data(21 << 20)), Err(rustix::io::Errno::NXIO));
    assert_eq!(seek(SeekFrom::Hole(0)), Ok(0));
    assert!(sparse.metadata().unwrap().blocks() < 100);
    let mut zeros = vec![1; 1 << 20];
    sparse.read_exact_at(&mut zeros, 10 << 20).unwrap();
    assert!(zeros.iter().all(|byte| *byte == 0));
    // The disk: the last 7 MiB but for the second partition table.
    let raw = File::open(image.at("disks/disk0.raw")).unwrap();
    assert!(raw.metadata().unwrap().blocks() < (96 << 20) / 512);
    let hole = rustix::fs::seek(&raw, SeekFrom::Hole(83 << 20)).unwrap();
    assert!(hole < 95 << 20, "{hole}");
    // `cp` finds them too.
    let copy = image.folder.path().with_extension("copy");
    let source = image.at("files/disk0/p1/sparse");
    run("cp", &[source.to_str().unwrap(), copy.to_str().unwrap()]);
    let copied = fs::metadata(&copy).unwrap();
    assert!(fs::read(&copy).unwrap() == fs::read(fixture().source.join("sparse")).unwrap());
    fs::remove_file(&copy).unwrap();
    assert!(
        copied.blocks() * 512 < 1 << 20,
        "{} blocks",
        copied.blocks()
    );
}

/// **[xattr]** Extended attributes are those of the guest. A named stream of NTFS, of a file or a folder, is the attribute `user.ntfs.streams.<name>`; one of more than 64 KiB,
/// which Linux cannot pass on, is listed, and reading it fails with E2BIG: `cairn cat --stream` writes it out. Streams are all that NTFS lists, so that `cp -a`, `rsync -X` and `tar --xattrs` take
/// along what would be lost, and nothing else. Whoever asks by name gets what ntfs-3g gives under the same names, byte for byte: `system.ntfs_acl`,
/// `system.ntfs_attrib`, `system.ntfs_times`, `system.ntfs_crtime` (these three also with `_be`), `system.ntfs_object_id`, `system.ntfs_reparse_data`, `system.ntfs_ea` and `system.ntfs_dos_name`; and as text
/// `user.cairn.sddl`, `user.cairn.attributes`, `user.cairn.created`, `user.cairn.modified`, `user.cairn.accessed`, `user.cairn.changed`, `user.cairn.reparse`, `user.cairn.object_id`, each attribute of
/// `$EA` as `user.cairn.ea.<name>`, and `user.cairn.left_out`, which names what of all this is damaged or too long.
#[test]
fn attributes_and_streams_arrive() {
    let Some(image) = image() else { return };
    let get = |path: &str, name: &str| {
        let mut value = vec![0; 70_000];
        let length = rustix::fs::getxattr(image.at(path), name, &mut value[..])?;
        Ok::<_, rustix::io::Errno>(value[..length].to_vec())
    };
    let list = |path: &str| {
        let mut names = vec![0; 1000];
        let length = rustix::fs::listxattr(image.at(path), &mut names[..]).unwrap();
        let names = String::from_utf8(names[..length].to_vec()).unwrap();
        names
            .split_terminator('\0')
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    if rustix::process::geteuid().is_root() {
        assert_eq!(get("files/disk0/p1/tool", "user.note").unwrap(), b"kept");
        assert_eq!(list("files/disk0/p1/tool"), ["user.note"]);
    }
    let report = "files/disk0/p2/Report.TXT";
    let mut streams = list(report);
    streams.sort();
    assert_eq!(
        streams,
        [
            "user.ntfs.streams.Zone.Identifier",
            "user.ntfs.streams.huge"
        ]
    );
    assert_eq!(
        get(report, "user.ntfs.streams.Zone.Identifier").unwrap(),
        b"[ZoneTransfer]"
    );
    let huge = get(report, "user.ntfs.streams.huge");
    assert_eq!(huge, Err(rustix::io::Errno::TOOBIG));
    for none in [
        "user.ntfs.streams.none",
        "user.Zone.Identifier",
        "user.cairn.reparse",
    ] {
        assert_eq!(get(report, none), Err(rustix::io::Errno::NODATA), "{none}");
    }
    assert_eq!(
        get("disks/disk0.raw", "user.none"),
        Err(rustix::io::Errno::NODATA)
    );
    // Not listed, but told.
    let (attributes, raw) = ("user.cairn.attributes", "system.ntfs_attrib_be");
    assert_eq!(get(report, attributes).unwrap(), b"archive");
    assert_eq!(get(report, raw).unwrap(), [0, 0, 0, 0x20]);
    assert_eq!(get(report, "system.ntfs_times_be").unwrap().len(), 32);
    assert!(get(report, "user.cairn.sddl").unwrap().starts_with(b"O:"));
    let mut small = [0u8; 3];
    let name = "user.ntfs.streams.Zone.Identifier";
    let error = rustix::fs::getxattr(image.at(report), name, &mut small[..]);
    assert_eq!(error, Err(rustix::io::Errno::RANGE));
}

/// **[ntfs-modes]** The mode of a file or folder of NTFS is what its access list comes to: entries in their order, the owner's and those of OWNER RIGHTS for the owner, the group's for the group,
/// those of Everyone, Authenticated Users and Users for all three; entries of anybody else, with conditions, or only for what is inherited count for none. Owner and group are 0. Without a list a
/// folder has 0555 and a file 0444; where it is damaged both have 0500. Where the Windows Subsystem for Linux has kept owner, group, mode or device of an entry, these are shown.
#[test]
fn modes_of_ntfs_are_those_of_its_access_lists() {
    let Some(image) = image() else { return };
    let report = image.at("files/disk0/p2/Report.TXT");
    let mut sddl = vec![0; 10_000];
    let length = rustix::fs::getxattr(&report, "user.cairn.sddl", &mut sddl[..]).unwrap();
    let sddl = String::from_utf8(sddl[..length].to_vec()).unwrap();
    let facts = fs::metadata(&report).unwrap();
    // What `ntfscp` writes inherits nothing: everybody may everything.
    let everybody = sddl.contains("(A;;FA;;;WD)") || sddl.contains("(A;OICI;FA;;;WD)");
    assert!(everybody, "{sddl}");
    assert_eq!(
        (facts.mode() & 0o7777, facts.uid(), facts.gid()),
        (0o777, 0, 0)
    );
}

/// Numbers that the kernel shows are the same in two mounts.
#[test]
fn inode_numbers_are_the_same_in_two_mounts() {
    let (Some(one), Some(other)) = (image(), image()) else {
        return;
    };
    let numbers = |image: &Image| -> BTreeMap<PathBuf, u64> {
        let found = listing(image.folder.path());
        found
            .into_iter()
            .map(|(path, metadata)| (path, metadata.ino()))
            .collect()
    };
    let found = numbers(&one);
    assert!(found.len() > 700);
    assert_eq!(found, numbers(&other));
}

/// One reader keeps several threads decoding only if the kernel reads ahead far enough.
#[test]
fn the_kernel_reads_ahead_of_those_who_read_in_order() {
    let Some(image) = image() else { return };
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root may say how far the kernel reads ahead");
        return;
    }
    let device = fs::metadata(image.at("")).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    match fs::read_to_string(&setting) {
        Ok(kib) => assert_eq!(kib.trim(), "8192"),
        Err(error) => println!("SKIPPED: {setting}: {error}"),
    }
}
