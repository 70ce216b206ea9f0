//! What `ldmtool` says of the same disks.

use super::maker::{Group, Scheme, guid_text};
use super::support::{assembled, every_kind, filled, have, shared};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What it prints, as JSON. That a file does not tell its sector size is a complaint of its own.
fn ldmtool(files: &[PathBuf], arguments: &[&str]) -> Value {
    let mut command = Command::new("ldmtool");
    for file in files {
        command.arg("-d").arg(file);
    }
    let output = command.args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let start = text.find(['{', '[']).unwrap_or(text.len());
    serde_json::from_str(&text[start..])
        .unwrap_or_else(|error| panic!("ldmtool {arguments:?}: {error}: {text}{complaint}"))
}

fn written(folder: &Path, group: &Group) -> (Vec<PathBuf>, Vec<Vec<u8>>) {
    let (disks, _) = filled(group);
    let files = (0..disks.len()).map(|number| folder.join(format!("disk{number}.raw")));
    let files: Vec<PathBuf> = files.collect();
    for (file, disk) in files.iter().zip(&disks) {
        std::fs::write(file, disk).unwrap();
    }
    (files, disks)
}

fn is(value: &Value, field: &str) -> u64 {
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field}: {value}"))
}

fn compare(group: &Group) {
    let folder = tempfile::tempdir().unwrap();
    let (files, disks) = written(folder.path(), group);
    let guid = guid_text(group.guid);
    assert_eq!(ldmtool(&files, &["scan"])[0], guid.as_str());
    let theirs = ldmtool(&files, &["show", "diskgroup", &guid]);
    assert_eq!(theirs["name"], group.name.as_str());
    let volumes = assembled(&shared(disks));
    let mut names: Vec<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
    let names_of = |value: &Value| {
        let list = value.as_array().unwrap().iter();
        let mut names: Vec<String> = list
            .map(|name| name.as_str().unwrap().to_string())
            .collect();
        names.sort();
        names
    };
    names.sort_unstable();
    assert_eq!(names, names_of(&theirs["volumes"]));
    let mut disks: Vec<&str> = group.disks.iter().map(|disk| disk.name.as_str()).collect();
    disks.sort_unstable();
    assert_eq!(disks, names_of(&theirs["disks"]));
    for ours in &volumes {
        let theirs = ldmtool(&files, &["show", "volume", &guid, &ours.name]);
        let kind = match ours.kind.name() {
            "RAID-5" => "RAID5",
            // A volume of several parts of one disk is called spanned there.
            "simple" if ours.pieces.len() > 1 => "spanned",
            name => name,
        };
        assert_eq!(theirs["type"], kind, "{theirs}");
        assert_eq!(
            theirs["guid"].as_str().unwrap_or(&ours.id.to_string()),
            ours.id.to_string()
        );
        assert_eq!(is(&theirs, "size") * 512, ours.size);
        assert_eq!(is(&theirs, "chunk-size") * 512, ours.chunk.unwrap_or(0));
        assert_eq!(theirs["hint"].as_str().unwrap_or(""), ours.hint);
        let parts = theirs["partitions"].as_array().unwrap();
        assert_eq!(parts.len(), ours.pieces.len(), "{theirs}");
        for (part, piece) in parts.iter().zip(&ours.pieces) {
            let name = part.as_str().unwrap();
            let part = ldmtool(&files, &["show", "partition", &guid, name]);
            let disk = ldmtool(
                &files,
                &["show", "disk", &guid, part["disk"].as_str().unwrap()],
            );
            assert_eq!(part["disk"], piece.disk.as_str());
            assert_eq!(is(&part, "size") * 512, piece.size);
            assert_eq!(
                (is(&part, "start") + is(&disk, "data-start")) * 512,
                piece.start
            );
            assert_eq!(disk["guid"], piece.disk_id.to_string().as_str());
            let file = files[piece.member.unwrap()].to_str().unwrap();
            assert_eq!(disk["device"], file, "{disk}");
        }
    }
}

#[test]
fn it_shows_the_same_volumes() {
    if !have(&["ldmtool"]) {
        return;
    }
    for scheme in [Scheme::Mbr, Scheme::Gpt] {
        for is_new in [false, true] {
            compare(&every_kind(scheme, is_new));
        }
    }
}
