//! Two disks of a Windows machine: `C:` on one with a GPT, `D:` on one with a DOS table; made with mkntfs, filled through ntfs-3g.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use it"
)]

use super::made::{by_guid, by_place, system};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;
/// Where `C:` begins on its disk.
pub const C_START: u64 = 2 * MIB;
/// Where `D:` begins on its disk.
pub const D_START: u64 = MIB;
/// The unique GUID of the partition `C:`, as tools print it, and as it lies on the disk.
const C_UUID: &str = "11223344-5566-7788-99AA-BBCCDDEEFF00";
pub const C_GUID: [u8; 16] = [
    0x44, 0x33, 0x22, 0x11, 0x66, 0x55, 0x88, 0x77, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0,
];
/// The signature of the disk with `D:`.
pub const D_SIGNATURE: u32 = 0xcafe_0123;
/// What the mount manager calls `D:`.
pub const D_NAME: &str = "01234567-89ab-cdef-0123-456789abcdef";

const MOUNT_POINT: u32 = 0xa000_0003;
const SYMLINK: u32 = 0xa000_000c;

/// The two disks.
pub struct Windows {
    /// `p2` is `C:`.
    pub system: PathBuf,
    /// `p1` is `D:`.
    pub data: PathBuf,
}

/// A volume that is mounted by ntfs-3g, until it is dropped.
pub struct Mounted(pub PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // A program that another test is starting may have what is open here, for a moment.
        let is_gone = (0..100).any(|_| {
            let out = Command::new("umount").arg(&self.0).output();
            let is_gone = out.is_ok_and(|out| out.status.success());
            if !is_gone {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            is_gone
        });
        assert!(is_gone || std::thread::panicking());
    }
}

/// Mounts a volume, for writing unless `ro`; nothing where that cannot be done.
pub fn mount(volume: &Path, ro: bool) -> Option<Mounted> {
    let point = volume.with_extension("mnt");
    fs::create_dir_all(&point).unwrap();
    let options = if ro { "ro" } else { "rw" };
    let out = Command::new("ntfs-3g")
        .arg(volume)
        .arg(&point)
        .args(["-o", options])
        .output()
        .unwrap();
    if out.status.success() {
        return Some(Mounted(point));
    }
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    println!("SKIPPED: ntfs-3g cannot mount: {why}");
    None
}

/// Whether what is needed is here; says so if not.
pub fn tools() -> bool {
    for tool in ["mkntfs", "ntfs-3g", "sfdisk", "setfattr", "umount"] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/bin")
            .output();
        if !found.is_ok_and(|out| out.status.success()) {
            println!("SKIPPED: the tool `{tool}` is not installed");
            return false;
        }
    }
    let there = Path::new("/dev/fuse").exists();
    if !there {
        println!("SKIPPED: no /dev/fuse");
    }
    there
}

fn run(program: &str, arguments: &[&str]) {
    let out = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/bin")
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{program} {arguments:?}: {why}");
}

/// The registry of `C:`: it has letters of both disks, of one that is not there, and of a drive for discs.
pub fn registry() -> Vec<u8> {
    let name = format!(r"\??\Volume{{{}}}", D_NAME.to_uppercase());
    system(&[
        (r"\DosDevices\C:", by_guid(C_GUID)),
        (&name, by_place(D_SIGNATURE, D_START)),
        (r"\DosDevices\D:", by_place(D_SIGNATURE, D_START)),
        (r"\DosDevices\E:", by_place(0x1234_5678, D_START)),
        (
            r"\DosDevices\F:",
            b"\\\0?\0?\0\\\0S\0C\0S\0I\0#\0C\0d\0".to_vec(),
        ),
    ])
}

/// An empty volume of `mib` MiB.
pub fn volume(folder: &Path, name: &str, mib: u64) -> PathBuf {
    let path = folder.join(name);
    File::create(&path).unwrap().set_len(mib * MIB).unwrap();
    let arguments = ["-F", "-Q", "-q", "-p", "0", "-H", "0", "-S", "0"];
    run(
        "mkntfs",
        &[&arguments[..], &[path.to_str().unwrap()]].concat(),
    );
    path
}

/// The bytes of a symbolic link.
pub fn symlink(target: &str, relative: bool) -> Vec<u8> {
    reparse(SYMLINK, Some(u32::from(relative)), target)
}

/// The bytes of a junction.
pub fn junction(target: &str) -> Vec<u8> {
    reparse(MOUNT_POINT, None, target)
}

fn reparse(tag: u32, flags: Option<u32>, target: &str) -> Vec<u8> {
    let utf16 =
        |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let substitute = utf16(target);
    let printed = utf16(target.strip_prefix(r"\??\").unwrap_or(target));
    // Each name has a zero behind it in a junction.
    let gap: &[u8] = if flags.is_none() { &[0, 0] } else { &[] };
    let mut data = Vec::new();
    for number in [
        0,
        substitute.len(),
        substitute.len() + gap.len(),
        printed.len(),
    ] {
        data.extend((number as u16).to_le_bytes());
    }
    data.extend(flags.into_iter().flat_map(u32::to_le_bytes));
    data.extend([&substitute, gap, &printed, gap].concat());
    let mut point = tag.to_le_bytes().to_vec();
    point.extend((data.len() as u16).to_le_bytes());
    point.extend([0, 0]);
    point.extend(data);
    point
}

/// Makes an empty file or folder at `path` a link.
pub fn make_link(path: &Path, is_folder: bool, point: &[u8]) {
    if is_folder {
        fs::create_dir(path).unwrap();
    } else {
        File::create(path).unwrap();
    }
    let hex: String = point.iter().map(|byte| format!("{byte:02x}")).collect();
    let value = format!("0x{hex}");
    let path = path.to_str().unwrap();
    run(
        "setfattr",
        &["-h", "-n", "system.ntfs_reparse_data", "-v", &value, path],
    );
}

/// The disks in `folder`; nothing where a tool is missing. `more` puts more on `C:` and `D:`.
pub fn windows(folder: &Path, more: &dyn Fn(&Path, &Path)) -> Option<Windows> {
    if !tools() {
        return None;
    }
    let (c, d) = (volume(folder, "c.ntfs", 24), volume(folder, "d.ntfs", 16));
    {
        let (c, d) = (mount(&c, false)?, mount(&d, false)?);
        fill_system(&c.0);
        fill_data(&d.0);
        more(&c.0, &d.0);
    }
    let system = disk(
        folder,
        "system.raw",
        28,
        &format!("label: gpt\nstart=1MiB, size=1MiB\nstart=2MiB, size=24MiB, uuid={C_UUID}\n"),
        (&c, C_START),
    );
    let data = disk(
        folder,
        "data.raw",
        18,
        &format!("label: dos\nlabel-id: {D_SIGNATURE:#x}\nstart=2048, size=32768, type=7\n"),
        (&d, D_START),
    );
    Some(Windows { system, data })
}

fn fill_system(c: &Path) {
    fs::create_dir_all(c.join("Windows/System32/config")).unwrap();
    fs::write(c.join("Windows/System32/config/SYSTEM"), registry()).unwrap();
    fs::create_dir_all(c.join("Users/ann/deep/er")).unwrap();
    fs::write(c.join("Users/ann/notes.txt"), "ann's notes").unwrap();
    let name = format!(r"\??\Volume{{{D_NAME}}}\");
    for (path, is_folder, point) in [
        ("Documents and Settings", true, junction(r"\??\C:\Users")),
        ("Users/ann/data", true, junction(r"\??\D:\Data")),
        ("Users/ann/volume", true, junction(&name)),
        ("Users/ann/rel", false, symlink("notes.txt", true)),
        ("Users/ann/deep/rel", false, symlink(r"..\notes.txt", true)),
        (
            "Users/ann/deep/rooted",
            false,
            symlink(r"\Users\ann\notes.txt", true),
        ),
        (
            "Users/ann/deep/er/high",
            true,
            symlink(r"..\..\..\..\..\..\Users\ann", true),
        ),
        (
            "Users/ann/case",
            false,
            symlink(r"\??\c:\USERS\Ann\NOTES.txt", false),
        ),
        (
            "Users/ann/above",
            true,
            junction(r"\??\C:\..\..\Users\.\ann\..\ann"),
        ),
        (
            "Users/ann/server",
            true,
            symlink(r"\??\UNC\server\share\x", false),
        ),
        ("Users/ann/nowhere", true, junction(r"\??\X:\dir")),
        (
            "Users/ann/unknown",
            true,
            junction(r"\??\Volume{99999999-89ab-cdef-0123-456789abcdef}\"),
        ),
    ] {
        make_link(&c.join(path), is_folder, &point);
    }
}

fn fill_data(d: &Path) {
    fs::create_dir(d.join("Data")).unwrap();
    fs::write(d.join("Data/table.txt"), "a table").unwrap();
    make_link(&d.join("Data/back"), true, &junction(r"\??\C:\Users\ann"));
}

fn disk(folder: &Path, name: &str, mib: u64, script: &str, volume: (&Path, u64)) -> PathBuf {
    let path = folder.join(name);
    let file = File::create(&path).unwrap();
    file.set_len(mib * MIB).unwrap();
    let commands = folder.join("sfdisk");
    fs::write(&commands, script).unwrap();
    let (at, from) = (path.to_str().unwrap(), commands.to_str().unwrap());
    run("sh", &["-c", &format!("sfdisk -q {at} < {from}")]);
    for (number, block) in (0u64..).zip(fs::read(volume.0).unwrap().chunks(4096)) {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, volume.1 + number * 4096).unwrap();
        }
    }
    path
}
