//! Images that others made, against the lists that independent tools made of them.

use crate::support::{FileDisk, check_extents, images, read_all, unpack, walk};
use cairn_base::{ReadAt, Section};
use cairn_guest::{EntryId, EntryKind, Volume, open_volume};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// A manifest; names that are not UTF-8 have their bytes moved to U+F700.
pub fn manifest(path: &Path) -> Value {
    let text = std::fs::read_to_string(path)
        .unwrap()
        .replace("\\udc", "\\uf7");
    serde_json::from_str(&text).unwrap()
}

/// A name as the manifests write it.
fn text(name: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = name;
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(good) => {
                text.push_str(good);
                break;
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                text.push_str(std::str::from_utf8(good).unwrap());
                text.push(char::from_u32(0xf700 + u32::from(bad[0])).unwrap());
                rest = &bad[1..];
            }
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_ext_image_agrees_with_its_manifest() {
    let Some(folder) = images() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let mut manifests: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".manifest.json"))
        .collect();
    manifests.sort();
    let (mut volumes, mut entries) = (0, 0);
    let mut wrong = Vec::new();
    for path in manifests {
        let list = manifest(&path);
        let parts: Vec<Value> = list["partitions"].as_array().cloned().unwrap_or_default();
        let is_ext = |part: &&Value| part["fs"].as_str().is_some_and(|fs| fs.starts_with("ext"));
        if list["parent"].is_string() || !parts.iter().any(|part| is_ext(&part)) {
            continue;
        }
        let packed = folder.join(list["packed_file"].as_str().unwrap());
        let Some(image) = unpack(&packed, scratch.path()) else {
            continue;
        };
        let disk = FileDisk::open(&image);
        for part in parts.iter().filter(is_ext) {
            let start = part["start"].as_u64().unwrap();
            let size = part["size"].as_u64().unwrap().min(disk.size() - start);
            let device = Arc::new(Section::new(disk.clone(), start, size).unwrap());
            let volume = open_volume(device).unwrap();
            assert_eq!(
                volume.info().file_system,
                part["fs"].as_str().unwrap(),
                "{path:?}"
            );
            assert_eq!(
                volume.info().uuid,
                part["blkid"]["UUID"].as_str().unwrap_or_default()
            );
            let files: Vec<&Value> = list["files"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|file| file["fs_index"] == part["index"])
                .collect();
            let name = list["image"].as_str().unwrap();
            let truncated = part["truncated"] == true;
            entries += compare(name, volume.as_ref(), &files, truncated, &mut wrong);
            volumes += 1;
        }
        std::fs::remove_file(image).unwrap();
    }
    println!("{volumes} volumes with {entries} entries compared");
    assert!(volumes > 0);
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(60)].join("\n")
    );
}

fn compare(
    image: &str,
    volume: &dyn Volume,
    files: &[&Value],
    truncated: bool,
    wrong: &mut Vec<String>,
) -> usize {
    let mut errors = BTreeMap::new();
    let items = walk(volume, true, usize::MAX, &mut |path, error| {
        errors.insert(text(path), error.to_string());
    });
    let mut seen = BTreeSet::new();
    let found: BTreeMap<String, _> = items
        .iter()
        .map(|(path, item)| (text(path), item))
        .collect();
    for file in files {
        let path = file["path"].as_str().unwrap();
        let mut bad = |what: &str, is: String, should: &Value| {
            wrong.push(format!(
                "{image}:{path}: {what} is {is}, should be {should}"
            ));
        };
        let lenient = file["only_in"].is_array() || file["only_in"].is_string();
        let Some(item) = found.get(path) else {
            if !lenient {
                wrong.push(format!("{image}:{path}: not found"));
            }
            continue;
        };
        seen.insert(path.to_string());
        let Ok(attributes) = &item.attributes else {
            wrong.push(format!("{image}:{path}: {}", errors[path]));
            continue;
        };
        let kind = kind_name(attributes.kind);
        if file["kind"] != kind {
            bad("kind", kind.to_string(), &file["kind"]);
            continue;
        }
        if file["mode"].is_string() && file["mode"] != format!("0o{:o}", attributes.mode) {
            bad("mode", format!("0o{:o}", attributes.mode), &file["mode"]);
        }
        if file["mtime"].is_number() && file["mtime"] != attributes.modified.seconds {
            bad(
                "mtime",
                attributes.modified.seconds.to_string(),
                &file["mtime"],
            );
        }
        if file["nlink"].is_number() && file["nlink"] != attributes.links {
            bad("nlink", attributes.links.to_string(), &file["nlink"]);
        }
        if file["inode"].is_number() && file["inode"] != item.id.number {
            bad("inode", item.id.number.to_string(), &file["inode"]);
        }
        if kind == "symlink" && file["target"].is_string() {
            let target = text(&volume.read_link(item.id).unwrap());
            if file["target"] != target {
                bad("target", target, &file["target"]);
            }
        }
        if kind == "file" {
            if file["size"] != attributes.size {
                bad("size", attributes.size.to_string(), &file["size"]);
            }
            let sum = digest(volume, item.id);
            if file["sha256"].is_string() && file["sha256"] != sum {
                bad("sha256", sum, &file["sha256"]);
            }
        }
        if file["xattrs"].is_object() {
            let xattrs: serde_json::Map<String, Value> = volume
                .xattrs(item.id)
                .unwrap()
                .into_iter()
                .map(|(name, value)| (text(&name), Value::from(&sha256(&value)[..16])))
                .collect();
            if file["xattrs"] != Value::Object(xattrs.clone()) {
                bad("xattrs", format!("{xattrs:?}"), &file["xattrs"]);
            }
        }
    }
    if !truncated {
        for path in found.keys().filter(|path| !seen.contains(*path)) {
            wrong.push(format!("{image}:{path}: not in the manifest"));
        }
    }
    for (path, error) in errors {
        wrong.push(format!("{image}:{path}: {error}"));
    }
    files.len()
}

fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Folder => "dir",
        EntryKind::Symlink => "symlink",
        EntryKind::CharDevice => "char",
        EntryKind::BlockDevice => "block",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
    }
}

/// The SHA-256 of a file's content, or why it cannot be read.
fn digest(volume: &dyn Volume, id: EntryId) -> String {
    let content = match volume.open(id) {
        Ok(content) => content,
        Err(error) => return error.to_string(),
    };
    let mut whole = Vec::new();
    if let Err(error) = read_all(content.as_ref(), |part| whole.extend_from_slice(part)) {
        return error.to_string();
    }
    check_extents(content.as_ref(), &whole);
    sha256(&whole)
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
