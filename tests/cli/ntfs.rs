//! Copies of what NTFS keeps beside content: onto NTFS all of it, elsewhere what there is a place for; and what listings and the mount tell of it.

use super::bench::{Bench, have, text, tool};
use super::mount::{Mounted, have_fuse};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TOOLS: [&str; 6] = [
    "mkntfs", "ntfs-3g", "umount", "python3", "getfattr", "setfattr",
];

/// A volume mounted by ntfs-3g; unmounted at the end.
struct Ntfs(PathBuf);

impl Ntfs {
    fn new(bench: &Bench, image: &str, at: &str, options: &str) -> Option<Ntfs> {
        let (image, at) = (bench.path(image), bench.path(at));
        if !image.exists() {
            fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
            tool("mkntfs", &["-F", "-Q", "-q", text(&image)]);
        }
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("ntfs-3g")
            .args([text(&image), text(&at), "-o", options])
            .output();
        if !mounted.is_ok_and(|out| out.status.success()) {
            println!("SKIPPED: images cannot be mounted here");
            return None;
        }
        Some(Ntfs(at))
    }
}

impl Drop for Ntfs {
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

/// Fills the folder in `sys.argv[1]`, a volume mounted with `streams_interface=windows`.
const FILL: &str = r#"
import os, struct, sys
os.chdir(sys.argv[1])
def sid(authority, *numbers):
    head = struct.pack('<BB', 1, len(numbers)) + struct.pack('>HI', 0, authority)
    return head + b''.join(struct.pack('<I', n) for n in numbers)
def ace(kind, flags, mask, who):
    return struct.pack('<BBHI', kind, flags, len(who) + 8, mask) + who
def acl(*aces):
    body = b''.join(aces)
    return struct.pack('<BBHHH', 2, 0, len(body) + 8, len(aces), 0) + body
def descriptor(owner, group, dacl, sacl=b''):
    at, head = 20, []
    for part in (owner, group, sacl, dacl):
        head.append(at if part else 0)
        at += len(part)
    return struct.pack('<BBHIIII', 1, 0, 0x9404 | (0x10 if sacl else 0), *head) + owner + group + sacl + dacl
def ea(*pairs):
    out = b''
    for name, value in pairs:
        body = struct.pack('<BBH', 0, len(name), len(value)) + name + b'\0' + value
        body += b'\0' * ((-len(body) - 4) % 4)
        out += struct.pack('<I', len(body) + 4) + body
    return out
def link(tag, target, relative):
    units = target.encode('utf-16le')
    names = struct.pack('<HHHH', 0, len(units), len(units) + 2, len(units))
    names += struct.pack('<I', 1 if relative else 0) if tag == 0xa000000c else b''
    data = names + units + b'\0\0' + units + b'\0\0'
    return struct.pack('<IHH', tag, len(data), 0) + data
BA, SY, WD, ANN = sid(5, 32, 544), sid(5, 18), sid(1, 0), sid(5, 21, 1, 2, 3, 1001)
put = lambda path, name, value: os.setxattr(path, 'system.ntfs_' + name, value)
def write(path, value=b'content\n'): open(path, 'wb').write(value)
os.makedirs('all/sub/deep')
os.chdir('all')
write('plain')
write('streams')
for name, size in ('Zone.Identifier', 26), ('empty', 0), ('grüße ö', 700), ('long', 60000):
    write('streams:' + name, bytes(n * 7 % 251 for n in range(size)))
write('sub:of a folder', b'folders have them too')
write('listed')
put('listed', 'acl', descriptor(ANN, BA, acl(ace(1, 0, 2, ANN), ace(0, 0, 0x1f01ff, ANN), ace(0, 0, 0x1200a9, WD)), acl(ace(2, 0xc0, 0x10000, WD))))
put('sub', 'acl', descriptor(BA, SY, acl(ace(0, 3, 0x1f01ff, BA), ace(0, 11, 0x10000000, sid(3, 0)))))
write('flags')
put('flags', 'attrib_be', struct.pack('>I', 0x2127))
put('sub/deep', 'attrib_be', struct.pack('>I', 6))
write('linux')
put('linux', 'ea', ea((b'$LXUID', struct.pack('<I', 1000)), (b'NOTE', b'hello')))
write('tracked')
put('tracked', 'object_id', bytes(range(64)))
os.mkdir('junction')
put('junction', 'reparse_data', link(0xa0000003, '\\??\\C:\\Users', False))
write('relative', b'')
put('relative', 'attrib_be', struct.pack('>I', 0x22))
put('relative', 'reparse_data', link(0xa000000c, 'sub\\deep', True))
os.symlink('plain', 'interix')
write('sub/both')
write('sub/both:second', b'a stream')
put('sub/both', 'acl', descriptor(SY, SY, acl(ace(0, 0, 0x1f01ff, SY))))
put('sub/both', 'attrib_be', struct.pack('>I', 0x21))
for path, time in ('plain', 5), ('linux', 0x0300000000000001), ('sub/deep', 1234567890123), ('sub', 0x01d0000000000003), ('sub/both', 116444735999999999):
    put(path, 'times_be', struct.pack('>QQQ', time, time + 1, time + 2))
if len(sys.argv) > 2: write('streams:huge', bytes(n % 253 for n in range(200000)))
"#;

/// A machine `pc` whose disk is a volume with everything.
fn everything(bench: &Bench, more: &[&str]) -> Option<()> {
    if !have(&TOOLS) || !have_fuse() {
        return None;
    }
    let source = Ntfs::new(bench, "pc.raw", "source", "streams_interface=windows")?;
    let arguments = [&["-c", FILL, text(&source.0)], more].concat();
    tool("python3", &arguments);
    drop(source);
    bench.backup("pc", &["pc.raw"]);
    Some(())
}

/// The descriptor of `listed`.
const SDDL: &str = "O:S-1-5-21-1-2-3-1001G:BAD:PAI(D;;DC;;;S-1-5-21-1-2-3-1001)(A;;FA;;;S-1-5-21-1-2-3-1001)(A;;0x1200a9;;;WD)S:(AU;SAFA;SD;;;WD)";

const NAMES: [&str; 7] = [
    "system.ntfs_acl",
    "system.ntfs_attrib_be",
    "system.ntfs_times_be",
    "system.ntfs_object_id",
    "system.ntfs_reparse_data",
    "system.ntfs_ea",
    "user",
];

/// All attributes of everything below `folder`, as getfattr writes them, by path and name; of times all but the last, which nobody can set.
fn attributes(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for name in NAMES {
        let which = if name == "user" { "-d" } else { "-n" };
        let name = if name == "user" { "" } else { name };
        let script = "cd \"$1\"; find . -print0 | xargs -0 getfattr -h -e hex $2 $3 2>/dev/null";
        let out = Command::new("sh")
            .args(["-c", script, "sh", text(folder), which, name])
            .output()
            .unwrap();
        let mut path = String::new();
        for line in String::from_utf8(out.stdout).unwrap().lines() {
            if let Some(file) = line.strip_prefix("# file: ") {
                path = file.to_string();
            } else if let Some((name, value)) = line.split_once('=') {
                let kept = if name.ends_with("times_be") {
                    50
                } else {
                    value.len()
                };
                found.insert(format!("{path} {name}"), value[..kept].to_string());
            }
        }
    }
    found
}

#[test]
fn a_copy_to_ntfs_keeps_all_that_ntfs_keeps() {
    let bench = Bench::new();
    let Some(()) = everything(&bench, &[]) else {
        return;
    };
    // Attributes of the original, through ntfs-3g.
    let (source, target) = ("ro", "streams_interface=xattr");
    let Some(original) = Ntfs::new(&bench, "pc.raw", "source", source) else {
        return;
    };
    let Some(copy) = Ntfs::new(&bench, "fresh.raw", "target", target) else {
        return;
    };
    let from = "pc@latest:/disk0/p0/all";
    let report = bench
        .expect(0, &["copy", "store", from, "target/all", "--json"])
        .json();
    let notes = report["notes"].as_array().unwrap();
    assert!(
        notes.len() == 1 && notes[0].to_string().contains("8.3 names"),
        "{report}"
    );
    let (ours, theirs) = (
        attributes(&copy.0.join("all")),
        attributes(&original.0.join("all")),
    );
    assert!(theirs.len() >= 45, "{:?}", theirs.keys());
    for name in [
        "streams user.long",
        "sub user.of a folder",
        "tracked system.ntfs_object_id",
        "junction system.ntfs_reparse_data",
        "linux system.ntfs_ea",
    ] {
        assert!(theirs.contains_key(name), "{name}: {:?}", theirs.keys());
    }
    let differ: Vec<_> = theirs
        .iter()
        .filter(|(name, value)| ours.get(*name) != Some(value))
        .map(|(name, _)| name)
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
    assert_eq!(ours.len(), theirs.len());
    // Once more: everything is there already, and stays as it is.
    fs::write(bench.path("target/all/.cairn-copy-unfinished"), "").unwrap();
    let again = bench.expect(
        0,
        &["copy", "store", from, "target/all", "--json", "--resume"],
    );
    assert_eq!(again.json()["already"], 10, "{}", again.stderr);
    let again = attributes(&copy.0.join("all"));
    let differ: Vec<_> = theirs
        .iter()
        .filter(|(name, value)| again.get(*name) != Some(value))
        .map(|(name, _)| name)
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn long_streams_come_to_where_they_are_files_and_are_named_elsewhere() {
    let bench = Bench::new();
    let Some(()) = everything(&bench, &["huge"]) else {
        return;
    };
    let from = "pc@latest:/disk0/p0/all";
    let huge: Vec<u8> = (0..200_000u32).map(|n| (n % 253) as u8).collect();
    let cat = [
        "cat",
        "store",
        "pc@latest:/disk0/p0/all/streams",
        "--stream",
        "huge",
    ];
    assert!(bench.expect(0, &cat).stdout == huge);
    {
        let how = "streams_interface=windows";
        let Some(target) = Ntfs::new(&bench, "files.raw", "target", how) else {
            return;
        };
        bench.expect(0, &["copy", "store", from, "target/all"]);
        assert!(fs::read(target.0.join("all/streams:huge")).unwrap() == huge);
        let folder = fs::read(target.0.join("all/sub:of a folder")).unwrap();
        assert_eq!(folder, b"folders have them too");
    }
    // Streams as attributes, and no streams at all: what is too long is named, and no file of that name is made.
    for (how, lost) in [
        ("streams_interface=xattr", 1),
        ("streams_interface=none", 7),
    ] {
        let image = format!("{how}.raw");
        let Some(target) = Ntfs::new(&bench, &image, "target", how) else {
            return;
        };
        let report = bench
            .expect(3, &["copy", "store", from, "target/all", "--json"])
            .json();
        let failed = report["failed"].as_array().unwrap();
        assert_eq!(failed.len(), lost, "{how}: {report}");
        let named = failed
            .iter()
            .filter(|line| line.to_string().contains("`huge`"));
        assert_eq!(named.count(), 1, "{how}: {report}");
        let names = fs::read_dir(target.0.join("all")).unwrap();
        let odd = names.filter(|name| {
            name.as_ref()
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .contains(':')
        });
        assert_eq!(odd.count(), 0, "{how}");
    }
}

/// Whether the file system of the tests has attributes that users may set; says so if not.
fn takes_attributes(bench: &Bench) -> bool {
    fs::write(bench.path("probe"), "").unwrap();
    let probe = Command::new("setfattr")
        .args(["-n", "user.probe", "-v", "1", "probe"])
        .current_dir(&bench.folder)
        .status();
    let takes = probe.unwrap().success();
    if !takes {
        println!("SKIPPED: there are no extended attributes here");
    }
    takes
}

/// An extended attribute, if it is there.
fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let out = Command::new("getfattr")
        .args(["-h", "--only-values", "-n", name, text(path)])
        .output()
        .unwrap();
    out.status.success().then_some(out.stdout)
}

#[test]
fn a_copy_elsewhere_keeps_streams_and_names_the_rest_once() {
    let bench = Bench::new();
    let Some(()) = everything(&bench, &["huge"]) else {
        return;
    };
    if !takes_attributes(&bench) {
        return;
    }
    let get = |path: &str, name: &str| attribute(&bench.path(path), name);
    let from = "pc@latest:/disk0/p0/all";
    let report = bench
        .expect(3, &["copy", "store", from, "out", "--json"])
        .json();
    let failed = report["failed"].as_array().unwrap();
    let lines: Vec<String> = failed.iter().map(ToString::to_string).collect();
    // Too long for Linux, or for what has a block for all attributes of a file.
    assert!(
        lines
            .iter()
            .any(|line| line.contains("`huge`") && line.contains("cairn cat --stream")),
        "{report}"
    );
    assert!(
        lines
            .iter()
            .all(|line| line.contains("streams is not complete")),
        "{report}"
    );
    let notes = report["notes"].as_array().unwrap();
    assert!(
        notes.len() == 1 && notes[0].to_string().contains("access lists"),
        "{report}"
    );
    let zone: Vec<u8> = (0..26u32).map(|n| (n * 7 % 251) as u8).collect();
    assert_eq!(
        get("out/streams", "user.ntfs.streams.Zone.Identifier"),
        Some(zone)
    );
    assert_eq!(
        get("out/sub", "user.ntfs.streams.of a folder").unwrap(),
        b"folders have them too"
    );
    assert_eq!(
        get("out/sub/both", "user.ntfs.streams.second").unwrap(),
        b"a stream"
    );
    assert_eq!(get("out/listed", "system.ntfs_acl"), None);
}

/// GNU tar gives streams back; zip has no place for them, which is told.
#[test]
fn archives_keep_streams_where_they_can() {
    let bench = Bench::new();
    let Some(()) = everything(&bench, &[]) else {
        return;
    };
    if !takes_attributes(&bench) {
        return;
    }
    let from = "pc@latest:/disk0/p0/all";
    bench.expect(0, &["copy", "store", from, "--format", "tar", "a.tar"]);
    let zone: Vec<u8> = (0..26u32).map(|n| (n * 7 % 251) as u8).collect();
    fs::create_dir(bench.path("untarred")).unwrap();
    let extract = ["-x", "--xattrs", "-f", "a.tar", "-C", "untarred"];
    let done = Command::new("tar")
        .args(extract)
        .current_dir(&bench.folder)
        .output()
        .unwrap();
    assert!(
        fs::read(bench.path("untarred/all/plain")).unwrap() == b"content\n",
        "{done:?}"
    );
    let name = "user.ntfs.streams.Zone.Identifier";
    let kept = attribute(&bench.path("untarred/all/streams"), name);
    assert!(
        kept == Some(zone) || String::from_utf8_lossy(&done.stderr).contains("No space left"),
        "{done:?}"
    );
    let zip = bench.expect(3, &["copy", "store", from, "--format", "zip", "a.zip"]);
    assert!(zip.stderr.contains("no place in a zip"), "{}", zip.stderr);
}

#[test]
fn listings_and_the_mount_tell_everything() {
    let bench = Bench::new();
    let Some(()) = everything(&bench, &["huge"]) else {
        return;
    };
    let at = "pc@latest:/disk0/p0/all";
    let list = bench.expect(0, &["ls", "-l", "--json", "store", at]).json();
    let of = |name: &str| {
        let mut entries = list.as_array().unwrap().iter();
        entries.find(|entry| entry["name"] == name).unwrap().clone()
    };
    let plain = of("plain");
    assert_eq!(plain["created"], "1601-01-01T00:00:00.0000005Z");
    assert_eq!(plain["modified"], "1601-01-01T00:00:00.0000006Z");
    assert_eq!(plain["accessed"], "1601-01-01T00:00:00.0000007Z");
    let streams = of("streams")["streams"].as_array().unwrap().clone();
    let size = |name: &str| streams.iter().find(|s| s["name"] == name).unwrap()["size"].clone();
    assert_eq!(
        (size("huge"), size("empty"), size("grüße ö")),
        (200_000.into(), 0.into(), 700.into())
    );
    assert_eq!(of("listed")["sddl"], SDDL);
    assert_eq!(of("listed")["mode"], "0555");
    assert_eq!(
        of("flags")["dos_attributes"],
        serde_json::json!([
            "readonly",
            "hidden",
            "system",
            "archive",
            "temporary",
            "not_content_indexed"
        ])
    );
    assert_eq!(
        of("tracked")["object_id"],
        "03020100-0504-0706-0809-0a0b0c0d0e0f"
    );
    let junction = of("junction")["reparse_tag"].clone();
    assert_eq!(
        junction,
        serde_json::json!({"name": "IO_REPARSE_TAG_MOUNT_POINT", "number": "0xA0000003"})
    );
    let attributes = of("linux")["extended_attributes"]
        .as_array()
        .unwrap()
        .clone();
    let note = attributes.iter().find(|one| one["name"] == "NOTE").unwrap();
    assert_eq!(
        (&note["value"], &note["size"]),
        (&"hello".into(), &5.into())
    );
    assert_eq!(of("linux")["uid"], 1000);
    // Without -l it stays short.
    let short = bench.expect(0, &["ls", "--json", "store", at]).json();
    assert!(
        short[0].get("sddl").is_none() && short[0].get("streams").is_none(),
        "{short}"
    );
}

#[test]
fn the_mount_tells_what_it_does_not_list() {
    let bench = Bench::new();
    let Some(()) = everything(&bench, &[]) else {
        return;
    };
    let mounted = Mounted::new(&bench, "pc.raw");
    let root = mounted.folder.join("files/disk0/p0/all");
    let value = |path: &str, name: &str| {
        let value = attribute(&root.join(path), name).unwrap();
        String::from_utf8(value).unwrap()
    };
    assert_eq!(value("listed", "user.cairn.sddl"), SDDL);
    assert_eq!(
        value("sub", "user.ntfs.streams.of a folder"),
        "folders have them too"
    );
    let listed = Command::new("getfattr")
        .args(["-h", "-m", "-", text(&root.join("sub"))])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(
        listed
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .count(),
        1,
        "{listed}"
    );
    mounted.end();
}
