//! NTFS images that others made, compared with their manifests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::{EntryId, EntryKind, Volume};
use ntfs_support::*;
use serde_json::Value;
use std::collections::BTreeMap;

fn path_bytes(file: &Value) -> Vec<u8> {
    file["path"].as_str().unwrap().as_bytes().to_vec()
}

fn lookup_path(volume: &NtfsVolume, path: &[u8]) -> Option<EntryId> {
    let mut id = volume.root();
    for part in path[1..].split(|&byte| byte == b'/') {
        id = volume.lookup(id, part).unwrap()?.id;
    }
    Some(id)
}

/// The file system's own files are not listed: found by name, compared by size.
fn check_system(volume: &NtfsVolume, file: &Value, problems: &mut Vec<String>) {
    let path = path_bytes(file);
    let mut cut = path.splitn(2, |&byte| byte == b':');
    let (path, stream) = (cut.next().unwrap(), cut.next());
    let Some(id) = lookup_path(volume, path) else {
        problems.push(format!("{file}: not found"));
        return;
    };
    let attributes = volume.attributes(id).unwrap();
    if file["kind"] == "system-dir" {
        assert_eq!(attributes.kind, EntryKind::Folder);
        return;
    }
    let size = match stream {
        None => attributes.size,
        Some(name) => {
            let streams = volume.streams(id).unwrap();
            streams
                .iter()
                .find(|stream| stream.name == name)
                .map_or(u64::MAX, |stream| stream.size)
        }
    };
    if file["size"]
        .as_u64()
        .is_some_and(|expected| expected != size)
    {
        problems.push(format!("{file}: size {size}"));
    }
}

fn check_file(
    volume: &NtfsVolume,
    file: &Value,
    item: &Item,
    contents: &mut Vec<(String, Vec<u8>)>,
    problems: &mut Vec<String>,
) {
    let mut bad = |what: String| problems.push(format!("{}: {what}", file["path"]));
    let kind = match file["kind"].as_str().unwrap() {
        "dir" => EntryKind::Folder,
        _ if file["reparse"]
            .as_str()
            .is_some_and(|tag| tag.starts_with("0c0000a0")) =>
        {
            EntryKind::Symlink
        }
        // A link as Interix and ntfs-3g write it.
        _ if file["reparse"].is_null() && file["target"].is_string() => EntryKind::Symlink,
        _ => EntryKind::File,
    };
    if item.kind != kind {
        bad(format!("kind {:?}", item.kind));
    }
    if let Some(attributes) = &item.attributes {
        if Some(attributes.modified.seconds) != file["mtime"].as_i64() {
            bad(format!("mtime {}", attributes.modified.seconds));
        }
        if attributes.kind != item.kind {
            bad("the folder and the record disagree on the kind".into());
        }
    }
    if kind == EntryKind::Symlink {
        let target = String::from_utf8(item.target.clone().unwrap()).unwrap();
        let mut target = target.replace('\\', "/");
        if target.get(1..2) == Some(":") {
            target.drain(..2);
        }
        if file["target"].as_str() != Some(&target) {
            bad(format!("target {target}"));
        }
        return;
    }
    if kind == EntryKind::File && file["size"].as_u64() != Some(item.size) {
        bad(format!("size {}", item.size));
    }
    if let Some(hash) = file["sha256"].as_str().filter(|_| kind == EntryKind::File) {
        match content(volume, item) {
            Ok(bytes) => contents.push((format!("{hash} {}", file["path"]), bytes)),
            Err(error) => bad(format!("{error}")),
        }
    }
}

fn check_volume(volume: &NtfsVolume, files: &[&Value]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut errors = Vec::new();
    let mut items: BTreeMap<Vec<u8>, Item> = walk(volume, &mut |what, error| {
        errors.push(format!("{what}: {error}"))
    });
    problems.extend(errors);
    let mut contents = Vec::new();
    for file in files {
        if file["kind"].as_str().unwrap().starts_with("system") {
            check_system(volume, file, &mut problems);
            continue;
        }
        match items.remove(&path_bytes(file)) {
            Some(item) => check_file(volume, file, &item, &mut contents, &mut problems),
            // Named by one tool only: deleted names, index anomalies.
            None if file["not_listed_by"].to_string().contains("ntfs-3g") => {}
            None => problems.push(format!("{file}: not listed")),
        }
    }
    problems.extend(
        items
            .keys()
            .map(|path| format!("{}: not in the manifest", String::from_utf8_lossy(path))),
    );
    let (labels, bytes): (Vec<_>, Vec<_>) = contents.into_iter().unzip();
    for (label, hash) in labels.iter().zip(sha256(&bytes)) {
        if !label.starts_with(&hash) {
            problems.push(format!("{label}: content {hash}"));
        }
    }
    problems
}

#[test]
fn every_image_is_read_as_its_manifest_says() {
    let Some(folder) = images() else { return };
    if !have(&["zstd", "qemu-img", "sha256sum"]) {
        return;
    }
    let index: Value =
        serde_json::from_slice(&std::fs::read(folder.join("INDEX.json")).unwrap()).unwrap();
    let mut volumes = 0;
    let mut problems = Vec::new();
    for entry in index.as_array().unwrap() {
        if !entry["fs"].to_string().contains("\"ntfs\"") {
            continue;
        }
        let name = entry["image"].as_str().unwrap();
        let manifest = folder.join(entry["manifest"].as_str().unwrap());
        let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
        let temporary = tempfile::tempdir().unwrap();
        let image = unpack(
            &folder.join(entry["packed"].as_str().unwrap()),
            temporary.path(),
        );
        let format = manifest["container_format"].as_str().unwrap();
        let disk = FileDisk::open(&raw(image, format, temporary.path()));
        for part in manifest["partitions"].as_array().unwrap() {
            if part["fs"] != "ntfs" {
                continue;
            }
            let volume = open_part(
                disk.clone(),
                part["start"].as_u64().unwrap(),
                part["size"].as_u64().unwrap(),
            );
            let files: Vec<&Value> = manifest["files"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|file| file["fs_index"] == part["index"])
                .collect();
            let info = volume.info();
            assert_eq!(info.uuid, part["blkid"]["UUID"].as_str().unwrap(), "{name}");
            // blkid escapes blanks and whatever is not ASCII.
            let label = part["blkid"]["LABEL"]
                .as_str()
                .unwrap_or("")
                .replace('\\', "");
            assert!(
                info.label == label || label.contains("M-"),
                "{name}: {}",
                info.label
            );
            println!(
                "{name}: {} entries, clean {}, {:?}",
                files.len(),
                info.clean,
                info.notes
            );
            let found = check_volume(&volume, &files);
            problems.extend(
                found
                    .into_iter()
                    .map(|problem| format!("{name}: {problem}")),
            );
            volumes += 1;
        }
    }
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
    assert!(volumes >= 10, "only {volumes} volumes");
}
