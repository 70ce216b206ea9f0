//! Images that others made, against the lists that independent tools made of them.

use crate::support::{FileDisk, Item, check_extents, images, read_all, unpack, walk};
use cairn_base::{ReadAt, Section};
use cairn_guest::{EntryKind, Volume, open_volume};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_file(volume: &dyn Volume, file: &Value, item: &Item, wrong: &mut Vec<String>) {
    let mut bad = |what: String| wrong.push(format!("{}: {what}", file["path"]));
    let kind = match file["kind"].as_str().unwrap() {
        "dir" => EntryKind::Folder,
        _ => EntryKind::File,
    };
    let attributes = item.attributes.as_ref().unwrap();
    if item.kind != kind || attributes.kind != kind {
        bad(format!("{:?} {:?}", item.kind, attributes.kind));
    }
    let difference = file["mtime"].as_i64().unwrap() - attributes.modified.seconds;
    // The lists of exFAT have the guest's local time, where we heed the time zone that stands beside it.
    let is_zone = volume.info().file_system == "exfat"
        && difference % 900 == 0
        && difference.abs() <= 14 * 3600;
    if difference != 0 && !is_zone {
        bad(format!(
            "mtime {} and not {}",
            attributes.modified.seconds, file["mtime"]
        ));
    }
    if kind == EntryKind::Folder {
        return;
    }
    if Some(attributes.size) != file["size"].as_u64() {
        bad(format!("size {}", attributes.size));
    }
    let content = volume.open(item.id).unwrap();
    let mut bytes = Vec::new();
    match read_all(&*content, |piece| bytes.extend_from_slice(piece)) {
        Ok(()) => check_extents(&*content, &bytes),
        Err(error) => bad(error.to_string()),
    }
    if let Some(hash) = file["sha256"].as_str()
        && hex(&Sha256::digest(&bytes)) != hash
    {
        bad("content".to_string());
    }
}

/// What fsck.fat lists of the image `fat32_small`.
const SMALL: [&[u8]; 3] = [b"/test", b"/test/1.TXT", b"/test/2.TXT"];

fn check_volume(volume: &dyn Volume, files: &[&Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut items: BTreeMap<Vec<u8>, Item> = walk(volume, true, 100_000, &mut |path, error| {
        wrong.push(format!("{}: {error}", String::from_utf8_lossy(path)));
    });
    for file in files {
        match items.remove(file["path"].as_str().unwrap().as_bytes()) {
            Some(item) => check_file(volume, file, &item, &mut wrong),
            None => wrong.push(format!("{file}: not listed")),
        }
    }
    // The Sleuth Kit does not list a folder whose name Linux wrote one letter too long, and takes FAT32 of so few clusters for nothing at all,
    // of which fsck.fat and we list the same.
    let known = |path: &[u8]| path.len() == 257 || files.is_empty() && SMALL.contains(&path);
    let more = items.keys().filter(|path| !known(path));
    let more = more.map(|path| String::from_utf8_lossy(path));
    wrong.extend(more.map(|path| format!("{path}: not in the manifest")));
    wrong
}

/// A label as blkid writes it: what is not ASCII, or is blank, in other letters.
fn check_facts(volume: &dyn Volume, part: &Value, wrong: &mut Vec<String>) {
    let info = volume.info();
    let told = &part["blkid"];
    if told["UUID"] != info.uuid.as_str() {
        wrong.push(format!("id {} and not {}", info.uuid, told["UUID"]));
    }
    let label = told["LABEL"].as_str().unwrap_or("").replace('\\', "");
    if !label.contains("M-") && info.label != label {
        wrong.push(format!("label `{}` and not `{label}`", info.label));
    }
    let kind = match told["VERSION"].as_str().unwrap() {
        "1.0" => "exfat".to_string(),
        version => version.to_lowercase(),
    };
    if info.file_system != kind {
        wrong.push(format!("{} and not {kind}", info.file_system));
    }
}

fn check_image(folder: &Path, entry: &Value, scratch: &Path) -> (usize, Vec<String>) {
    let manifest = json(&folder.join(entry["manifest"].as_str().unwrap()));
    let parts = manifest["partitions"].as_array().unwrap().iter();
    let parts: Vec<&Value> = parts
        .filter(|part| part["fs"] == "vfat" || part["fs"] == "exfat")
        .collect();
    if parts.is_empty() {
        return (0, Vec::new());
    }
    // A differencing image needs its parent, which qemu-img does not read: those are read by the tests of `cairn`.
    if !entry["parent"].is_null() {
        return (0, Vec::new());
    }
    let Some(path) = unpack(&folder.join(entry["packed"].as_str().unwrap()), scratch) else {
        return (0, Vec::new());
    };
    let disk = FileDisk::open(&path);
    let mut wrong = Vec::new();
    for part in &parts {
        let (start, size) = (
            part["start"].as_u64().unwrap(),
            part["size"].as_u64().unwrap(),
        );
        let device: Arc<dyn ReadAt> = Arc::new(Section::new(disk.clone(), start, size).unwrap());
        let volume = open_volume(device).unwrap();
        let files = manifest["files"].as_array().unwrap().iter();
        let files: Vec<&Value> = files
            .filter(|file| file["fs_index"] == part["index"])
            .collect();
        check_facts(&*volume, part, &mut wrong);
        wrong.extend(check_volume(&*volume, &files));
        let info = volume.info();
        println!(
            "{}: {} entries, {} clean {}, {:?}",
            entry["image"],
            files.len(),
            info.file_system,
            info.clean,
            info.notes
        );
    }
    std::fs::remove_file(path).unwrap();
    let name = entry["image"].as_str().unwrap();
    let wrong = wrong.iter().map(|what| format!("{name}: {what}"));
    (parts.len(), wrong.collect())
}

#[test]
fn every_image_agrees_with_its_manifest() {
    let Some(folder) = images() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let index = json(&folder.join("INDEX.json"));
    let (mut volumes, mut wrong) = (0, Vec::new());
    for entry in index.as_array().unwrap() {
        let (count, found) = check_image(&folder, entry, scratch.path());
        volumes += count;
        wrong.extend(found);
    }
    let shown: Vec<&String> = wrong.iter().take(40).collect();
    assert!(wrong.is_empty(), "{} wrong: {shown:#?}", wrong.len());
    assert!(volumes >= 15, "only {volumes} volumes");
}
