//! What `cairn disk` says of images, against what others say of them.

use super::bench::{Bench, has_fields, have, text, tool};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;

/// An image of a disk of `size` bytes of noise and nothing, made by qemu-img.
pub fn made(bench: &Bench, name: &str, format: &str, options: &str) -> PathBuf {
    let raw = bench.noise("noise.raw", 71, 3 * MIB);
    let file = File::options().write(true).open(&raw).unwrap();
    file.set_len(40 * MIB).unwrap();
    let image = bench.path(name);
    let arguments = ["convert", "-f", "raw", "-O", format, "-o", options];
    tool(
        "qemu-img",
        &[&arguments[..], &[text(&raw), text(&image)]].concat(),
    );
    image
}

pub fn spoil(path: &Path, at: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// What the document always has.
const FIELDS: &[(&str, &str)] = &[
    ("image", "string"),
    ("format", "string"),
    ("size", "bytes"),
    ("allocated_bytes", "bytes"),
    ("sector_size", "bytes"),
    ("images", "array"),
    ("file", "object"),
    ("complete", "bool"),
    ("error", "null"),
    ("partition_table", "object"),
    ("partitions", "array"),
    ("dynamic", "null"),
    ("letter_notes", "array"),
    ("warnings", "array"),
    ("check", "object"),
];

/// Bytes that qemu-img says are data.
fn mapped(image: &Path, format: &str) -> u64 {
    let map = ["map", "--output=json", "-f", format, text(image)];
    let map: Value = serde_json::from_str(&tool("qemu-img", &map)).unwrap();
    let data = map.as_array().unwrap().iter();
    let data = data.filter(|range| range["data"] == true);
    data.map(|range| range["length"].as_u64().unwrap()).sum()
}

/// Nothing is remarked of a VHD, and of a VHDX that QEMU leaves room in front of its blocks.
#[track_caller]
fn only_room_is_left(document: &Value, format: &str) {
    let found = document["check"]["findings"].as_array().unwrap().iter();
    let topics: Vec<&Value> = found.map(|found| &found["topic"]).collect();
    assert_eq!(topics.is_empty(), format == "vpc", "{topics:?}");
    let is_room = |topic: &&Value| **topic == "unreferenced";
    assert!(topics.iter().all(is_room), "{topics:?}");
}

#[test]
fn it_says_what_qemu_and_libvhdi_say() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) {
        return;
    }
    for (name, format, options, block) in [
        (
            "a.vhd",
            "vpc",
            "subformat=dynamic,force_size=on",
            Some(2 * MIB),
        ),
        ("b.vhd", "vpc", "subformat=fixed,force_size=on", None),
        (
            "a.vhdx",
            "vhdx",
            "subformat=dynamic,block_size=1M",
            Some(MIB),
        ),
        (
            "b.vhdx",
            "vhdx",
            "subformat=fixed,block_size=8M",
            Some(8 * MIB),
        ),
    ] {
        let image = made(&bench, name, format, options);
        let document = bench.expect(0, &["disk", "--check", "--json", name]).json();
        has_fields(&document, FIELDS);
        let info = ["info", "--output=json", "-f", format, text(&image)];
        let info: Value = serde_json::from_str(&tool("qemu-img", &info)).unwrap();
        assert_eq!(document["size"], info["virtual-size"], "{name}");
        let own = &document["images"][0];
        assert_eq!(own["files"][0]["size"], fs::metadata(&image).unwrap().len());
        assert_eq!(
            own["files"][0]["allocated_bytes"], info["actual-size"],
            "{name}"
        );
        assert_eq!(own["block_size"].as_u64(), block, "{name}");
        if format == "vhdx" {
            assert_eq!(info["cluster-size"].as_u64(), block, "{name}");
            tool("qemu-img", &["check", "-f", format, text(&image)]);
        }
        let data = mapped(&image, format);
        let allocated = document["allocated_bytes"].as_u64().unwrap();
        // Holes of the file within blocks are known here as well.
        assert!(
            (3 * MIB..=data).contains(&allocated),
            "{name}: {allocated} {data}"
        );
        assert_eq!(document["check"]["sound"], true, "{name}: {document}");
        assert_eq!(document["check"]["faults"], 0, "{name}: {document}");
        only_room_is_left(&document, format);
        if have(&["vhdiinfo"]) {
            let said = tool("vhdiinfo", &[text(&image)]);
            // Of a VHDX it shows the DataWriteGuid.
            let id = if format == "vhdx" {
                "data_id"
            } else {
                "disk_id"
            };
            let id = own[id].as_str().unwrap();
            assert!(said.to_lowercase().contains(id), "{name}: {id}\n{said}");
        }
        let shown = bench.expect(0, &["disk", name]).text();
        assert!(shown.contains(&format!("({} bytes)", 40 * MIB)), "{shown}");
        assert!(shown.contains("no partition table"), "{shown}");
    }
}

#[test]
fn partitions_are_those_that_sfdisk_made() {
    let bench = Bench::new();
    if !have(&["sfdisk", "mke2fs", "blkid"]) {
        return;
    }
    let disk = bench.path("disk.raw");
    File::create(&disk).unwrap().set_len(64 * MIB).unwrap();
    let script = bench.path("script");
    fs::write(
        &script,
        "label: gpt\nstart=2048, size=65536, name=\"system disk\"\nstart=70000, size=20000\n",
    )
    .unwrap();
    let input = File::open(&script).unwrap();
    let made = Command::new("sfdisk")
        .env("PATH", super::bench::search_path())
        .args(["-q", text(&disk)])
        .stdin(input)
        .status();
    assert!(made.unwrap().success());
    let offset = format!("offset={}", 2048 * 512);
    tool(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-L",
            "root of it",
            "-E",
            &offset,
            text(&disk),
            "32M",
        ],
    );
    let told: Value = serde_json::from_str(&tool("sfdisk", &["--json", text(&disk)])).unwrap();
    let table = &told["partitiontable"];
    let document = bench.expect(0, &["disk", "--json", "disk.raw"]).json();
    let lower = |value: &Value| value.as_str().unwrap().to_lowercase();
    assert_eq!(document["partition_table"]["kind"], table["label"]);
    assert_eq!(
        lower(&document["partition_table"]["disk_id"]),
        lower(&table["id"])
    );
    let ours = document["partitions"].as_array().unwrap();
    let theirs = table["partitions"].as_array().unwrap();
    assert_eq!(ours.len(), theirs.len());
    for (our, their) in ours.iter().zip(theirs) {
        assert_eq!(our["start"], their["start"].as_u64().unwrap() * 512);
        assert_eq!(our["size"], their["size"].as_u64().unwrap() * 512);
        assert_eq!(lower(&our["type"]), lower(&their["type"]));
        assert_eq!(lower(&our["id"]), lower(&their["uuid"]));
        assert_eq!(our["name"].as_str(), their["name"].as_str().or(Some("")));
    }
    let offset = (2048 * 512).to_string();
    let seen = tool("blkid", &["-p", "-O", &offset, "-o", "export", text(&disk)]);
    let system = &ours[0]["file_system"];
    for (name, value) in [("LABEL", "label"), ("UUID", "id"), ("TYPE", "kind")] {
        let line = format!("{name}={}", system[value].as_str().unwrap());
        // blkid escapes spaces.
        assert!(seen.replace('\\', "").contains(&line), "{line}\n{seen}");
    }
    assert_eq!(ours[1]["content"], "nothing");
    let shown = bench.expect(0, &["disk", "disk.raw"]).text();
    assert!(shown.contains("`system disk`: ext2/3/4"), "{shown}");
}

#[test]
fn damage_is_named_and_ends_with_4() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) {
        return;
    }
    let image = made(&bench, "a.vhdx", "vhdx", "block_size=1M");
    let before = fs::read(&image).unwrap();
    // The region table says where the block table is (2.2.3).
    let bytes = &before[192 << 10..];
    let is_table = |at: &usize| bytes[*at..*at + 4] == 0x2dc2_7766u32.to_le_bytes();
    let at = (16..16 + 64).step_by(32).find(is_table).unwrap();
    let table = u64::from_le_bytes(bytes[at + 16..at + 24].try_into().unwrap());
    let first = before[usize::try_from(table).unwrap()..][..8].to_vec();
    spoil(&image, table + 8, &first);
    spoil(&image, 64 << 10 | 100, b"x");
    let shown = bench.expect(4, &["disk", "--check", "a.vhdx"]);
    let header = format!("fault: a.vhdx: byte {}: ", (64 << 10) + 4);
    assert!(shown.text().contains(&header), "{}", shown.text());
    let entry = format!(
        "fault: a.vhdx: byte {}: block 1 and block 0 share",
        table + 8
    );
    assert!(shown.text().contains(&entry), "{}", shown.text());
    assert!(
        shown.text().contains("checked: 2 faults"),
        "{}",
        shown.text()
    );
    // Without being asked to check it only warns.
    bench.expect(3, &["disk", "a.vhdx"]);
    // More than anybody reads: counted.
    let many: Vec<u8> = (0..30u64).flat_map(|_| 5u64.to_le_bytes()).collect();
    spoil(&image, table + 64, &many);
    let document = bench
        .expect(4, &["disk", "--check", "--json", "a.vhdx"])
        .json();
    let counts = document["check"]["counts"].as_array().unwrap();
    let states = counts
        .iter()
        .find(|count| count["topic"] == "state")
        .unwrap();
    assert_eq!(states["found"], 30);
    let shown = bench.expect(4, &["disk", "--check", "a.vhdx"]).text();
    assert!(
        shown.contains("14 more of the kind `state` of a.vhdx"),
        "{shown}"
    );
    // What cannot be opened is looked at as far as it goes.
    spoil(&image, 128 << 10 | 100, b"x");
    let document = bench
        .expect(4, &["disk", "--check", "--json", "a.vhdx"])
        .json();
    assert_eq!(document["format"], Value::Null);
    assert_eq!(document["check"]["faults"], 3);
    bench.expect(1, &["disk", "a.vhdx"]);
    bench.expect(1, &["disk", "nothing.vhdx"]);
}

#[test]
fn a_format_that_is_given_is_believed() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) {
        return;
    }
    let image = made(&bench, "a.vhd", "vpc", "subformat=fixed,force_size=on");
    let size = fs::metadata(&image).unwrap().len();
    for arguments in [&["--format", "raw"][..], &["--raw"]] {
        let arguments = [&["disk", "--json", "a.vhd"], arguments].concat();
        let document = bench.expect(0, &arguments).json();
        assert_eq!(
            (&document["format"], &document["size"]),
            (&"raw".into(), &size.into())
        );
    }
    let document = bench.expect(0, &["disk", "--json", "--format", "VHD", "a.vhd"]);
    assert_eq!(document.json()["format"], "vhd-fixed");
    bench.expect(1, &["disk", "--format", "vhdx", "a.vhd"]);
    bench.expect(2, &["disk", "--format", "floppy", "a.vhd"]);
    bench.expect(2, &["disk", "--format", "raw", "--raw", "a.vhd"]);
    // Of several disks, one.
    let machine = ["backup", "store", "--machine", "m", "C=a.vhd", "D=a.vhd"];
    bench.expect(0, &[&machine[..], &["--format", "D=raw"]].concat());
    let disks = bench.points()[0]["disks"].clone();
    assert_eq!(
        (&disks[0]["size"], &disks[1]["size"]),
        (&(40 * MIB).into(), &size.into())
    );
    bench.expect(2, &[&machine[..], &["--format", "E=raw"]].concat());
    bench.expect(2, &[&machine[..], &["--format", "D=floppy"]].concat());
    let jobs = r#"[{"machine": "n", "disks": ["C=a.vhd", "a.vhd"], "format": ["vhd", "C=raw"]}]"#;
    fs::write(bench.path("jobs.json"), jobs).unwrap();
    bench.expect(0, &["backup", "store", "--jobs", "jobs.json"]);
    let listed = bench.points();
    let point = listed.iter().find(|point| point["machine"] == "n").unwrap();
    assert_eq!(point["disks"][0]["size"], size);
    assert_eq!(point["disks"][1]["size"], 40 * MIB);
}

/// Images that others made, beside the checkout.
fn foreign(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        println!("SKIPPED: there is no folder {}", folder.display());
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut images: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "zst"))
        .collect();
    images.sort();
    images
}

fn unpack(bench: &Bench, packed: &Path) -> PathBuf {
    let image = bench.path(packed.file_stem().unwrap().to_str().unwrap());
    tool(
        "zstd",
        &[
            "-d",
            "-q",
            "-f",
            "--sparse",
            "-o",
            text(&image),
            text(packed),
        ],
    );
    image
}

const FOREIGN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/images");
/// Images whose checksums do not hold: somebody edited their footers.
const EDITED: [&str; 2] = [
    "log2timeline__dfvfs__image.vhd",
    "log2timeline__dfvfs__image-differential.vhd",
];

#[test]
fn images_of_others_are_what_their_manifests_say_and_sound() {
    let folder = Path::new(FOREIGN);
    let (mut images, mut partitions) = (0, 0);
    for packed in foreign(folder) {
        let bench = Bench::new();
        let image = unpack(&bench, &packed);
        let name = image.file_name().unwrap().to_str().unwrap();
        let manifest = fs::read(folder.join(format!("{name}.manifest.json"))).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        if let Some(parent) = manifest["parent"].as_str() {
            let lonely = bench.run(&["disk", "--json", name]);
            assert_eq!(lonely.status.code(), Some(3), "{name}");
            unpack(&bench, &folder.join(format!("{parent}.zst")));
        }
        let answer = bench.run(&["disk", "--check", "--json", name]);
        let code = answer.status.code().unwrap();
        let document: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
        if EDITED.contains(&name) {
            assert_eq!(code, 4, "{name}");
            continue;
        }
        let container = manifest["container_format"].as_str().unwrap();
        let is_read = ["raw", "vhd", "vhdx"]
            .iter()
            .any(|kind| container.starts_with(kind));
        if !is_read && code == 1 {
            continue;
        }
        assert!(matches!(code, 0 | 3), "{name}: {code} {document}");
        assert_eq!(document["check"]["faults"], 0, "{name}: {document}");
        assert_eq!(document["size"], manifest["virtual_size"], "{name}");
        if let Some(chs) = manifest["vhd"]["chs"].as_array() {
            let said = &document["images"][0]["properties"];
            let said = ["cylinders", "heads", "sectors_per_track"].map(|name| &said[name]);
            assert_eq!(said.as_slice(), chs.iter().collect::<Vec<_>>(), "{name}");
        }
        for theirs in manifest["partitions"].as_array().into_iter().flatten() {
            let ours = document["partitions"].as_array().unwrap();
            let ours = ours.iter().find(|ours| ours["start"] == theirs["start"]);
            let Some(label) = theirs["blkid"]["UUID"].as_str() else {
                continue;
            };
            let system = ours
                .map(|ours| &ours["file_system"])
                .filter(|it| it.is_object());
            if let Some(system) = system {
                let id = system["id"].as_str().unwrap().to_lowercase();
                assert_eq!(id, label.to_lowercase(), "{name}");
                partitions += 1;
            }
        }
        images += 1;
    }
    let is_there = folder.is_dir();
    assert!(
        !is_there || images > 50 && partitions > 10,
        "{images} {partitions}"
    );
}

#[test]
fn damaged_images_of_others_end_in_an_answer() {
    let bench = Bench::new();
    for packed in foreign(&Path::new(FOREIGN).join("malformed")) {
        let image = unpack(&bench, &packed);
        for arguments in [&["disk", "--check", "--json"][..], &["disk"]] {
            let answer = bench.run(&[arguments, &[text(&image)]].concat());
            let code = answer.status.code();
            let errors = String::from_utf8_lossy(&answer.stderr);
            assert!(matches!(code, Some(0 | 1 | 3 | 4)), "{packed:?}: {errors}");
            assert!(!errors.contains("panicked"), "{packed:?}: {errors}");
        }
        fs::remove_file(image).unwrap();
    }
}
