//! What is rare on a guest's disk, and how it is shown when the guest's own owners, modes and names are not wanted. Real mounts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn_fuse::{Look, MountOptions, Unmounted};
use shared::mounted::{Image, as_nobody, image_with};
use shared::odd::{END, HUGE, LATIN, long_name, odd};
use shared::run;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn shown(look: Look, allow_other: bool) -> Option<Image> {
    let options = MountOptions {
        allow_other,
        look,
        ..MountOptions::default()
    };
    image_with(odd(), &options)
}

impl Guest for Image {
    fn file(&self, path: impl AsRef<Path>) -> PathBuf {
        self.at("files/disk0/p0").join(path)
    }
}

trait Guest {
    fn file(&self, path: impl AsRef<Path>) -> PathBuf;
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: not root, who alone can make such files");
    }
    root
}

/// **[odd-names]** Names are bytes: one that is not UTF-8 is shown as the guest has it, and one of 255 bytes too.
///
/// **[large-files]** Files of more than 4 GiB have their length, their holes and their bytes, at any offset.
#[test]
fn odd_names_and_huge_files() {
    let Some(image) = shown(Look::default(), false) else {
        return;
    };
    assert_eq!(
        fs::read(image.file(OsStr::from_bytes(LATIN))).unwrap(),
        b"latin"
    );
    assert_eq!(fs::read(image.file(long_name())).unwrap(), b"long");
    let names: Vec<_> = fs::read_dir(image.file(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(names.iter().any(|name| name.as_bytes() == LATIN));
    assert!(names.iter().any(|name| *name == *long_name()));
    let huge = File::open(image.file("huge")).unwrap();
    let facts = huge.metadata().unwrap();
    assert_eq!(facts.len(), HUGE);
    assert!(facts.blocks() < 1000, "{} blocks", facts.blocks());
    let mut bytes = [0xee; 12];
    huge.read_exact_at(&mut bytes, (4 << 30) - 6).unwrap();
    assert_eq!(&bytes, b"\0\0\0middle\0\0\0");
    let mut end = [0; END.len()];
    huge.read_exact_at(&mut end, HUGE - END.len() as u64)
        .unwrap();
    assert_eq!(end, END);
    assert_eq!(huge.read_at(&mut end, HUGE).unwrap(), 0);
}

/// **[special]** Devices, FIFOs and sockets of the guest are shown and lead nowhere: opening a device is refused with EACCES, nobody listens at a socket
/// (ECONNREFUSED), and a FIFO has nobody at its other end. Whoever waits there holds nobody up, and set-user-id bits and capabilities give nothing to whoever runs such a file.
#[test]
fn devices_sockets_and_pipes_lead_nowhere() {
    let Some(image) = shown(Look::default(), false) else {
        return;
    };
    let errno = |error: std::io::Error| {
        error
            .raw_os_error()
            .map(rustix::io::Errno::from_raw_os_error)
    };
    let socket = UnixStream::connect(image.file("socket")).unwrap_err();
    assert_eq!(errno(socket), Some(rustix::io::Errno::CONNREFUSED));
    assert!(
        fs::metadata(image.file("socket"))
            .unwrap()
            .file_type()
            .is_socket()
    );
    let fifo = image.file("fifo");
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut reader = File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(&fifo)
        .unwrap();
    assert_eq!(reader.read(&mut [0; 9]).unwrap(), 0);
    drop(reader);
    let writer = File::options()
        .write(true)
        .custom_flags(nonblocking)
        .open(&fifo);
    assert_eq!(errno(writer.unwrap_err()), Some(rustix::io::Errno::NXIO));
    // Somebody waits at the FIFO: others read on, and the mount ends.
    let mut waiting = Command::new("cat")
        .arg(&fifo)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..20 {
        assert_eq!(fs::read(image.file("Docs/same")).unwrap(), b"small");
    }
    if is_root() {
        let zero = fs::metadata(image.file("zero")).unwrap();
        assert!(zero.file_type().is_char_device());
        assert_eq!(
            (zero.rdev(), zero.mode() & 0o777),
            (rustix::fs::makedev(1, 5), 0o666)
        );
        for device in ["zero", "disk"] {
            let opened = File::open(image.file(device)).unwrap_err();
            assert_eq!(errno(opened), Some(rustix::io::Errno::ACCESS), "{device}");
        }
    }
    assert_eq!(
        fs::metadata(image.file("tool")).unwrap().mode() & 0o7777,
        0o6751
    );
    let nosuid = run(
        "findmnt",
        &["-n", "-o", "OPTIONS", image.folder.path().to_str().unwrap()],
    );
    assert!(
        nosuid.split(',').any(|option| option.trim() == "nosuid"),
        "{nosuid}"
    );
    let ended = image.mounted.unmount().unwrap();
    assert!(matches!(ended, Unmounted::Cleanly | Unmounted::StillInUse));
    waiting.kill().unwrap();
    waiting.wait().unwrap();
}

/// **[lists]** Access control lists are shown as `system.posix_acl_access` and `system.posix_acl_default`, and where the kernel decides by modes it decides by them too.
/// `security.*` is shown to all, `trusted.*` to root, as Linux has it.
#[test]
fn access_control_lists_are_shown_and_heeded() {
    let Some(image) = shown(Look::default(), true) else {
        return;
    };
    if !is_root() || as_nobody("true").is_none() {
        return;
    }
    let list = |path: &str| run("getfacl", &["-n", "-p", image.file(path).to_str().unwrap()]);
    let listed = list("listed");
    for line in [
        "user:65534:r--",
        "group:4321:rw-",
        "mask::rw-",
        "other::---",
    ] {
        assert!(
            listed.lines().any(|shown| shown == line),
            "{line}: {listed}"
        );
    }
    assert!(list("Docs").contains("default:user:65534:r-x"));
    // The user nobody has the list's word, and nothing else.
    let nobody = |command: &str| as_nobody(command).unwrap();
    let cat = |path: &str| nobody(&format!("cat '{}'", image.file(path).display()));
    assert_eq!(cat("listed").stdout, b"for nobody too");
    assert!(!cat("secret/key").status.success());
    let get = |path: &str, name: &str| {
        let mut value = [0u8; 100];
        let length = rustix::fs::getxattr(image.file(path), name, &mut value[..])?;
        Ok::<_, rustix::io::Errno>(value[..length].to_vec())
    };
    assert_eq!(get("tool", "trusted.note").unwrap(), b"for root");
    assert_eq!(get("tool", "security.capability").unwrap().len(), 20);
    let value = |name: &str| {
        let command = format!(
            "getfattr --only-values -n {name} '{}'",
            image.file("Docs/same").display()
        );
        nobody(&command.replace("Docs/same", "tool"))
    };
    assert!(value("security.capability").status.success());
    assert!(!value("trusted.note").status.success());
}

/// **[overrides]** `uid` and `gid` replace the owners of all guests' entries. `permissive` lets everybody read files and folders, and search folders and run what
/// anybody can run; then `umask` takes its bits. What is shown is what the kernel decides by; access control lists are neither shown nor heeded then. With `permissive`
/// `disks/*.raw` and `versions` can be read by all who may look.
#[test]
fn owners_and_modes_are_as_they_were_asked_for() {
    let facts = |image: &Image, path: &str| {
        let facts = fs::metadata(image.file(path)).unwrap();
        (facts.mode() & 0o7777, facts.uid(), facts.gid())
    };
    let owned = Look {
        uid: Some(1000),
        gid: Some(1001),
        umask: Some(0o027),
        ..Look::default()
    };
    let Some(image) = shown(owned, false) else {
        return;
    };
    assert_eq!(facts(&image, "secret/key"), (0o600, 1000, 1001));
    assert_eq!(facts(&image, "tool"), (0o6750, 1000, 1001));
    assert_eq!(facts(&image, ""), (0o750, 1000, 1001));
    drop(image);

    let permissive = Look {
        permissive: true,
        ..Look::default()
    };
    let image = shown(permissive, true).unwrap();
    assert_eq!(facts(&image, "secret").0, 0o755);
    assert_eq!(facts(&image, "secret/key").0, 0o644);
    assert_eq!(facts(&image, "tool").0, 0o6755);
    let mut list = [0u8; 1000];
    let length = rustix::fs::listxattr(image.file("listed"), &mut list[..]).unwrap();
    assert!(!list[..length].starts_with(b"system.posix_acl"));
    if as_nobody("true").is_none() {
        return;
    }
    for path in [
        image.file("secret/key"),
        image.file("listed"),
        image.at("disks/disk0.raw"),
    ] {
        let read = as_nobody(&format!("head -c 5 '{}'", path.display())).unwrap();
        assert!(read.status.success() && read.stdout.len() == 5, "{path:?}");
    }
    drop(image);
    // Not for everybody after all: the mask takes what was given.
    let private = Look {
        permissive: true,
        umask: Some(0o077),
        ..Look::default()
    };
    let image = shown(private, true).unwrap();
    let read = as_nobody(&format!("cat '{}'", image.file("Docs/same").display()));
    assert!(!read.unwrap().status.success());
    assert_eq!(facts(&image, "secret/key").0, 0o600);
}

/// **[ignore-case]** With `ignore_case` a name that is not there in these letters means the only one that differs from it in case, below `p<N>` and in the
/// folders that the mount makes. Where several do, and none is exactly so, there is no such name. Names that are not UTF-8 are compared by the letters of ASCII. A
/// name that is not found costs a look at the whole folder.
#[test]
fn names_in_other_letters_are_found() {
    let look = Look {
        ignore_case: true,
        ..Look::default()
    };
    let Some(image) = shown(look, false) else {
        return;
    };
    let read = |path: &str| fs::read(image.at(path)).ok();
    for path in [
        "files/disk0/p0/Docs/ReadMe.TXT",
        "files/disk0/p0/docs/README.txt",
        "FILES/Disk0/P0/DOCS/readme.txt",
    ] {
        assert_eq!(read(path).as_deref(), Some(&b"one"[..]), "{path}");
    }
    assert_eq!(
        read("files/disk0/p0/docs/inner/grüsse").as_deref(),
        Some(&b"hello"[..])
    );
    assert_eq!(
        read("files/disk0/p0/docs/Same").as_deref(),
        Some(&b"big"[..])
    );
    assert_eq!(
        read("files/disk0/p0/docs/same").as_deref(),
        Some(&b"small"[..])
    );
    assert_eq!(read("files/disk0/p0/docs/SAME"), None);
    assert_eq!(read("files/disk0/p0/docs/readme"), None);
    let latin = image.file(OsStr::from_bytes(&LATIN.to_ascii_uppercase()));
    assert_eq!(fs::read(latin).unwrap(), b"latin");
    assert!(image.at("Disks/DISK0.RAW").exists());
    drop(image);
    let exact = shown(Look::default(), false).unwrap();
    assert!(!exact.at("files/disk0/p0/docs").exists() && !exact.at("FILES").exists());
}
