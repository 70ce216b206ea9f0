//! What NTFS keeps beside content, compared with what ntfs-3g gives for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_base::{ReadAt, Section};
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::{EntryKind, Volume};
use ntfs_support::made::*;
use ntfs_support::scripted::filled;
use ntfs_support::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// What ntfs-3g gives under the same names.
const NAMES: [&str; 11] = [
    "system.ntfs_acl",
    "system.ntfs_attrib",
    "system.ntfs_attrib_be",
    "system.ntfs_times",
    "system.ntfs_times_be",
    "system.ntfs_crtime",
    "system.ntfs_crtime_be",
    "system.ntfs_object_id",
    "system.ntfs_reparse_data",
    "system.ntfs_ea",
    "system.ntfs_dos_name",
];

/// The attribute `name` of everything below `folder`, by path from there: one call for all.
fn theirs(folder: &Path, name: &str) -> BTreeMap<Vec<u8>, String> {
    let script = "cd \"$1\"; find . -print0 | xargs -0 getfattr -h -e hex -n \"$2\" 2>/dev/null";
    let arguments = ["-c", script, "sh", folder.to_str().unwrap(), name];
    let output = Command::new("sh").args(arguments).output().unwrap();
    let (mut found, mut path) = (BTreeMap::new(), Vec::new());
    for line in output.stdout.split(|byte| *byte == b'\n') {
        if let Some(file) = line.strip_prefix(b"# file: ") {
            path = unescape(file);
        } else if let Some(value) = line.strip_prefix(name.as_bytes()) {
            let value = String::from_utf8(value.to_vec()).unwrap();
            let value = value.trim_start_matches("=0x").trim_start_matches('=');
            found.insert(path.clone(), value.trim_matches('"').to_string());
        }
    }
    found
}

/// `getfattr` writes odd characters as a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((&first, more)) = rest.split_first() {
        let digits = more.get(..3).filter(|_| first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares every attribute of every entry; answers how many values are the same.
fn compare(volume: &NtfsVolume, mount: &Mount) -> usize {
    let items = walk(volume, &mut |_, _| {});
    let mut all: BTreeMap<Vec<u8>, _> = items
        .into_iter()
        .filter(|(_, item)| item.stream.is_none())
        .map(|(path, item)| (path[1..].to_vec(), item.id))
        .collect();
    all.insert(b".".to_vec(), volume.root());
    let mut same = 0;
    for name in NAMES {
        let theirs = theirs(&mount.0, name);
        for (path, id) in &all {
            let ours = volume.xattr(*id, name.as_bytes());
            let ours = ours.unwrap_or_else(|error| panic!("{name}: {error}"));
            let ours = ours.map(|value| hex(&value)).unwrap_or_default();
            let other = theirs.get(path).cloned().unwrap_or_default();
            let shown = String::from_utf8_lossy(path);
            // Where there is no descriptor ntfs-3g makes one up. Further names of a file have no 8.3 form of their own.
            if (name == "system.ntfs_acl" && ours.is_empty())
                || (name == "system.ntfs_dos_name" && other.is_empty())
            {
                continue;
            }
            assert_eq!(ours, other, "{shown}: {name}");
            same += usize::from(!ours.is_empty());
        }
    }
    for (path, id) in &all {
        let all = volume.xattrs(*id).unwrap();
        let shown = String::from_utf8_lossy(path);
        for (name, value) in &all {
            let single = volume.xattr(*id, name).unwrap();
            assert_eq!(single.as_ref(), Some(value), "{shown}");
        }
        let has = |wanted: &str| all.iter().any(|(name, _)| name == wanted.as_bytes());
        assert!(!has("user.cairn.left_out"), "{shown}: {all:?}");
        assert_eq!(has("system.ntfs_acl"), has("user.cairn.sddl"), "{shown}");
        assert_eq!(has("system.ntfs_reparse_data"), has("user.cairn.reparse"));
        assert!(has("user.cairn.created"), "{shown}");
    }
    same
}

#[test]
fn every_image_gives_what_ntfs_3g_gives() {
    let Some(folder) = images() else { return };
    if !have(&[
        "zstd", "qemu-img", "ntfs-3g", "umount", "getfattr", "find", "xargs",
    ]) {
        return;
    }
    let index = fs::read(folder.join("INDEX.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let (mut volumes, mut values) = (0, 0);
    for entry in index.as_array().unwrap() {
        if !entry["fs"].to_string().contains("\"ntfs\"") {
            continue;
        }
        let name = entry["image"].as_str().unwrap();
        let manifest = fs::read(folder.join(entry["manifest"].as_str().unwrap())).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let temporary = tempfile::tempdir().unwrap();
        let packed = folder.join(entry["packed"].as_str().unwrap());
        let image = unpack(&packed, temporary.path());
        let format = manifest["container_format"].as_str().unwrap();
        let disk = FileDisk::open(&raw(image, format, temporary.path()));
        for part in manifest["partitions"].as_array().unwrap() {
            if part["fs"] != "ntfs" {
                continue;
            }
            let (start, size) = (
                part["start"].as_u64().unwrap(),
                part["size"].as_u64().unwrap(),
            );
            let alone = temporary.path().join("alone.ntfs");
            cut_out(&Section::new(disk.clone(), start, size).unwrap(), &alone);
            let volume = open_part(disk.clone(), start, size);
            let options = "ro,norecover,streams_interface=none";
            let Some(mount) = Mount::new(&alone, temporary.path(), options) else {
                println!("SKIPPED: {name}");
                continue;
            };
            let same = compare(&volume, &mount);
            println!("{name}: {same} values are the same");
            volumes += 1;
            values += same;
        }
    }
    assert!(
        volumes >= 8 && values > 2000,
        "{volumes} volumes, {values} values"
    );
}

/// What is no zeros of `from`, as a file of its own.
fn cut_out(from: &dyn ReadAt, to: &Path) {
    let file = File::create(to).unwrap();
    file.set_len(0).unwrap();
    file.set_len(from.size()).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < from.size() {
        let length = (from.size() - at).min(1 << 20) as usize;
        from.read_exact_at(at, &mut buffer[..length]).unwrap();
        if buffer[..length].iter().any(|byte| *byte != 0) {
            file.write_all_at(&buffer[..length], at).unwrap();
        }
        at += length as u64;
    }
}

/// Everything that ntfs-3g can set.
const EVERYTHING: &str = r#"
write('plain', 'x')
write('listed', 'x')
put('listed', 'acl', descriptor(ANN, USERS, acl(ace(0, 0, 0x1f01ff, ANN), ace(0, 0, 0x120089, USERS), ace(0, 0, 0x1f01ff, SY)),
    acl(ace(2, 0xc0, 0x10000, WD))))
for n in range(600):
    write('many %d' % n, '')
    put('many %d' % n, 'acl', descriptor(BA, SY, acl(ace(0, 0, 0x1f01ff, sid(5, 21, 9, 9, 9, n)))))
os.mkdir('folder')
put('folder', 'acl', descriptor(BA, BA, acl(ace(0, 3, 0x1f01ff, BA), ace(0, 3, 0x1200a9, sid(5, 11))), control=0x9404))
write('hidden', 'x')
put('hidden', 'attrib_be', struct.pack('>I', 0x2127))
for name, time in ('old', 5), ('new', 0x0300000000000001):
    write(name, 'x')
    put(name, 'times_be', struct.pack('>QQQ', time, time + 1, time + 2))
write('linux', 'x')
put('linux', 'ea', ea((b'$LXUID', struct.pack('<I', 1000)), (b'$LXGID', struct.pack('<I', 1001)), (b'$LXMOD', struct.pack('<I', 0o100751)), (b'NOTE', b'hello')))
write('moved', 'x')
put('moved', 'object_id', bytes(range(64)))
write('tracked', 'x')
put('tracked', 'object_id', bytes(range(16, 32)))
os.mkfifo('fifo', 0o640)
os.mknod('null', 0o20666, os.makedev(1, 3))
write('long name', 'x')
put('long name', 'dos_name', b'LONGNA~1')
"#;

#[test]
fn everything_that_ntfs_3g_sets_is_read() {
    let Some((_folder, volume, mount)) = filled(EVERYTHING) else {
        return;
    };
    let same = compare(&volume, &mount);
    assert!(same > 600 * 7, "{same}");
    let find = |name: &str| volume.lookup(volume.root(), name.as_bytes());
    let id = |name: &str| find(name).unwrap().unwrap().id;
    let text = |name: &str, what: &str| {
        let value = volume.xattr(id(name), format!("user.cairn.{what}").as_bytes());
        value
            .unwrap()
            .map(|value| String::from_utf8(value).unwrap())
    };
    let mode = |name: &str| volume.attributes(id(name)).unwrap().mode;
    let who = "S-1-5-21-1-2-3-1001";
    let group = "S-1-5-21-1-2-3-513";
    let listed = format!(
        "O:{who}G:{group}D:(A;;FA;;;{who})(A;;FR;;;{group})(A;;FA;;;SY)S:(AU;SAFA;SD;;;WD)"
    );
    assert_eq!(text("listed", "sddl").unwrap(), listed);
    assert_eq!(mode("listed"), 0o740);
    let folder = "O:BAG:BAD:PAI(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;AU)";
    assert_eq!(text("folder", "sddl").unwrap(), folder);
    assert_eq!(mode("folder"), 0o775);
    for number in [0, 17, 599] {
        let sddl = text(&format!("many {number}"), "sddl").unwrap();
        assert_eq!(sddl, format!("O:BAG:SYD:(A;;FA;;;S-1-5-21-9-9-9-{number})"));
        assert_eq!(mode(&format!("many {number}")), 0);
    }
    let hidden = "readonly hidden system archive temporary not_content_indexed";
    assert_eq!(text("hidden", "attributes").unwrap(), hidden);
    assert_eq!(
        text("old", "created").unwrap(),
        "1601-01-01T00:00:00.0000005Z"
    );
    assert_eq!(
        text("new", "accessed").unwrap(),
        "2286-01-09T23:30:11.3783811Z"
    );
    let linux = volume.attributes(id("linux")).unwrap();
    assert_eq!((linux.uid, linux.gid, linux.mode), (1000, 1001, 0o751));
    assert_eq!(text("linux", "ea.NOTE").unwrap(), "hello");
    let born = "03020100-0504-0706-0809-0a0b0c0d0e0f";
    assert_eq!(text("moved", "object_id").unwrap(), born);
    assert_eq!(volume.attributes(id("fifo")).unwrap().kind, EntryKind::Fifo);
    let fifo = "IO_REPARSE_TAG_LX_FIFO 0x80000024";
    assert_eq!(text("fifo", "reparse").unwrap(), fifo);
    let null = volume.attributes(id("null")).unwrap();
    assert_eq!(
        (null.kind, null.device),
        (EntryKind::CharDevice, Some((1, 3)))
    );
    // Nothing of it is what programs that copy would take along.
    assert!(volume.listed_xattrs(id("linux")).unwrap().is_empty());
    assert!(
        volume
            .xattr(id("plain"), b"user.cairn.object_id")
            .unwrap()
            .is_none()
    );
}

/// Linux passes no value of more than 64 KiB: such a one is named, and told to whoever asks for it alone.
#[test]
fn a_value_that_is_too_long_is_named() {
    let Some((_folder, volume, _mount)) = filled(
        "write('f', 'x'); put('f', 'acl', descriptor(ANN, USERS, acl(*[ace(0, 0, 0x1f01ff, sid(5, 21, 1234567890, 1234567890, 1234567890, n)) for n in range(1500)])))",
    ) else {
        return;
    };
    let id = volume.lookup(volume.root(), b"f").unwrap().unwrap().id;
    let all = volume.xattrs(id).unwrap();
    let value = |wanted: &str| {
        let mut all = all.iter();
        all.find(|(name, _)| name == wanted.as_bytes())
            .map(|(_, value)| value.clone())
    };
    assert_eq!(
        value("system.ntfs_acl").unwrap().len(),
        20 + 28 + 28 + 8 + 1500 * 36
    );
    assert_eq!(value("user.cairn.sddl"), None);
    let sddl = volume.xattr(id, b"user.cairn.sddl").unwrap().unwrap();
    assert!(sddl.len() > 64 << 10 && sddl.ends_with(b"-1499)"));
    let named = String::from_utf8(value("user.cairn.left_out").unwrap()).unwrap();
    assert_eq!(named, format!("user.cairn.sddl: {} bytes\n", sddl.len()));
}

/// Where `$SDS` or its copy is damaged the other one is read; where both are, that is named and nothing else is lost.
#[test]
fn a_damaged_descriptor_is_read_from_its_copy_or_named() {
    let Some((folder, ..)) = filled(
        "write('f', 'x'); put('f', 'acl', descriptor(ANN, USERS, acl(ace(0, 0, 0x1f01ff, ANN), ace(0, 0, 0x123, sid(5, 77, 777777)))))",
    ) else {
        return;
    };
    let image = folder.path().join("volume.ntfs");
    let mut bytes = fs::read(&image).unwrap();
    let mark: Vec<u8> = [77u32, 777_777]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    let open =
        |bytes: &[u8]| NtfsVolume::open(Arc::new(bytes.to_vec()) as Arc<dyn ReadAt>).unwrap();
    let look = |bytes: &[u8], name: &[u8]| {
        let volume = open(bytes);
        let id = volume.lookup(volume.root(), b"f").unwrap().unwrap().id;
        (volume.xattr(id, name), volume.attributes(id).unwrap().mode)
    };
    let sound = look(&bytes, b"user.cairn.sddl").0.unwrap().unwrap();
    let places: Vec<usize> = (0..bytes.len() - 8)
        .filter(|at| bytes[*at..at + 8] == mark)
        .collect();
    assert_eq!(places.len(), 2, "a descriptor and its copy");
    for (number, at) in places.into_iter().enumerate() {
        // The whole entry before the SID: header, descriptor, lists.
        bytes[at - 120..at + 8].fill(0);
        let (sddl, mode) = look(&bytes, b"user.cairn.sddl");
        if number == 0 {
            assert_eq!((sddl.unwrap().unwrap(), mode), (sound.clone(), 0o700));
            continue;
        }
        assert_eq!(sddl.unwrap_err().kind(), cairn_base::Kind::Damaged);
        assert_eq!(mode, 0o500);
        let left_out = look(&bytes, b"user.cairn.left_out").0.unwrap().unwrap();
        let left_out = String::from_utf8(left_out).unwrap();
        assert!(
            left_out.contains("system.ntfs_acl: ") && left_out.lines().count() == 2,
            "{left_out}"
        );
        let volume = open(&bytes);
        let id = volume.lookup(volume.root(), b"f").unwrap().unwrap().id;
        assert!(volume.xattrs(id).unwrap().len() > 10);
    }
}
