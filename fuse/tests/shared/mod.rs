//! A small disk with an ext4, an NTFS and an unreadable partition, made by the tools of these file systems.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

pub mod asked;
pub mod days;
#[path = "../../../engine/guest/tests/windows/disks.rs"]
pub mod disks;
#[path = "../../../engine/guest/tests/windows/made.rs"]
pub mod made;
pub mod mounted;
pub mod nfs;
pub mod odd;
pub mod writable;

use cairn::{BackupOptions, DiskImage, Point, Silent, Store, Time};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// Start and length of the partitions, in MiB.
pub const PARTITIONS: [(u64, u64); 4] = [(1, 64), (65, 16), (81, 4), (85, 4)];
const DISK: u64 = 96;

/// What the tests look at.
pub struct Fixture {
    /// What `mke2fs -d` copied to partition 1.
    pub source: PathBuf,
    /// The whole disk, raw.
    pub disk: PathBuf,
}

/// Whether anything can be mounted and unmounted here; says so if not.
pub fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("SKIPPED: not root, who alone may mount and unmount anything");
    }
    is_root
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Waits for what happens in its own time; a minute at most.
pub fn until(what: &str, is: impl Fn() -> bool) {
    for _ in 0..600 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("still not so after a minute: {what}");
}

/// Bytes without a pattern that repeats soon.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The fixture, made once for a test program.
pub fn fixture() -> &'static Fixture {
    static MADE: OnceLock<Fixture> = OnceLock::new();
    MADE.get_or_init(|| {
        let name = std::env::current_exe().unwrap();
        let name = name.file_name().unwrap().to_str().unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuse-{name}"));
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).unwrap();
        make(&folder)
    })
}

fn make(folder: &Path) -> Fixture {
    let source = folder.join("source");
    make_source(&source);
    let (ext, ntfs) = (folder.join("ext4.img"), folder.join("ntfs.img"));
    File::create(&ext)
        .unwrap()
        .set_len(PARTITIONS[0].1 * MIB)
        .unwrap();
    run(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-F",
            "-L",
            "linux",
            "-d",
            text(&source),
            text(&ext),
        ],
    );
    make_ntfs(folder, &ntfs);
    let disk = folder.join("disk.raw");
    let whole = File::create(&disk).unwrap();
    whole.set_len(DISK * MIB).unwrap();
    let mut script = String::from("label: gpt\n");
    for (start, length) in PARTITIONS {
        script.push_str(&format!("start={start}MiB, size={length}MiB\n"));
    }
    let commands = folder.join("sfdisk");
    fs::write(&commands, script).unwrap();
    let sfdisk = format!("sfdisk -q {} < {}", text(&disk), text(&commands));
    run("sh", &["-c", &sfdisk]);
    copy_into(&whole, &ext, PARTITIONS[0].0 * MIB);
    copy_into(&whole, &ntfs, PARTITIONS[1].0 * MIB);
    // Partition 3 holds nothing that is known; partition 4 holds nothing.
    whole
        .write_all_at(&noise(1 << 20, 3), PARTITIONS[2].0 * MIB)
        .unwrap();
    Fixture { source, disk }
}

fn copy_into(whole: &File, part: &Path, offset: u64) {
    for (number, block) in fs::read(part).unwrap().chunks(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            whole
                .write_all_at(block, offset + number as u64 * 4096)
                .unwrap();
        }
    }
}

fn make_source(source: &Path) {
    fs::create_dir_all(source.join("etc/deep/er/still")).unwrap();
    fs::write(source.join("etc/hostname"), "web01\n").unwrap();
    fs::write(source.join("etc/deep/er/still/empty"), "").unwrap();
    fs::write(source.join("etc/private"), "for root\n").unwrap();
    fs::set_permissions(source.join("etc/private"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(source.join("tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(source.join("tool"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs::write(source.join("large"), noise(5_000_000, 1)).unwrap();
    fs::hard_link(source.join("large"), source.join("large too")).unwrap();
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.set_len(30 * MIB).unwrap();
    sparse.write_all_at(&noise(8192, 2), 4 * MIB).unwrap();
    sparse.write_all_at(&noise(4096, 4), 20 * MIB).unwrap();
    symlink("etc/hostname", source.join("link")).unwrap();
    symlink("/absolute/Ä", source.join("away")).unwrap();
    fs::write(source.join("Grüße 世界"), "hello").unwrap();
    fs::create_dir(source.join("many")).unwrap();
    for number in 0..700 {
        fs::write(
            source.join(format!("many/file number {number:04}")),
            number.to_string(),
        )
        .unwrap();
    }
    run("mkfifo", &[text(&source.join("fifo"))]);
    if rustix::process::geteuid().is_root() {
        run("mknod", &[text(&source.join("null")), "c", "1", "3"]);
        run("mknod", &[text(&source.join("block")), "b", "259", "70000"]);
        std::os::unix::fs::chown(source.join("etc/private"), Some(1234), Some(4321)).unwrap();
        run(
            "setfattr",
            &["-n", "user.note", "-v", "kept", text(&source.join("tool"))],
        );
    }
    for (name, time) in [
        ("etc/hostname", "1965-03-04 05:06:07.25 UTC"),
        ("tool", "2030-01-02 03:04:05.123456789 UTC"),
        ("large", "2001-09-09 01:46:40 UTC"),
    ] {
        run("touch", &["-d", time, text(&source.join(name))]);
    }
}

fn make_ntfs(folder: &Path, image: &Path) {
    File::create(image)
        .unwrap()
        .set_len(PARTITIONS[1].1 * MIB)
        .unwrap();
    run(
        "mkntfs",
        &[
            "-q",
            "-F",
            "-Q",
            "-L",
            "windows",
            "-s",
            "512",
            "-p",
            "0",
            "-H",
            "16",
            "-S",
            "63",
            text(image),
        ],
    );
    for (name, bytes) in [
        ("Report.TXT", b"windows says hello".to_vec()),
        ("data.bin", noise(300_000, 9)),
    ] {
        let file = folder.join(name);
        fs::write(&file, &bytes).unwrap();
        run(
            "ntfscp",
            &["-q", text(image), text(&file), &format!("/{name}")],
        );
    }
    let (short, long) = (folder.join("short"), folder.join("long"));
    fs::write(&short, "[ZoneTransfer]").unwrap();
    fs::write(&long, noise(70_000, 5)).unwrap();
    run(
        "ntfscp",
        &[
            "-q",
            "-N",
            "Zone.Identifier",
            text(image),
            text(&short),
            "/Report.TXT",
        ],
    );
    run(
        "ntfscp",
        &["-q", "-N", "huge", text(image), text(&long), "/Report.TXT"],
    );
}

/// Backs the fixture's disk up as a point of `machine`.
pub fn back_up(store: &Store, machine: &str, time: Option<&str>) -> Point {
    let disk = DiskImage::open("disk0", &fixture().disk).unwrap();
    let mut options = BackupOptions::new(machine);
    options.time = time.map(|time| Time::parse(time).unwrap());
    store.backup(vec![disk], &options, &Silent).unwrap()
}

/// A store with two points of `web01` and one of `db`.
pub fn store(folder: &Path) -> Store {
    let store = Store::create(&folder.join("store")).unwrap();
    back_up(&store, "web01", Some("2026-11-19T02:00:00Z"));
    back_up(&store, "web01", Some("2026-11-20T02:00:00Z"));
    back_up(&store, "db", Some("2026-11-20T03:00:00Z"));
    store
}

/// Whether FUSE can be used; says so if not.
pub fn fuse_is_there() -> bool {
    let there = Path::new("/dev/fuse").exists();
    if !there {
        println!("SKIPPED: no /dev/fuse");
    }
    there
}
