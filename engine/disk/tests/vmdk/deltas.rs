//! Parents of deltas: found by their names, known by their CIDs.

use super::made::{all, in_full};
use super::shared::run;
use cairn_base::Kind;
use cairn_disk::{Format, OpenOptions, VirtualDisk, open, open_chain, open_with};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const SIZE: usize = 3 << 20;

/// `base.vmdk`, `middle.vmdk` above it and `child.vmdk` above that, and what the child shows.
fn chain(folder: &Path) -> Vec<u8> {
    let mut expected = vec![0; SIZE];
    let names = ["base.vmdk", "middle.vmdk", "child.vmdk"];
    for (level, name) in names.into_iter().enumerate() {
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "vmdk"]);
        if level > 0 {
            command.args(["-b", names[level - 1], "-F", "vmdk"]);
        }
        run(command.arg(folder.join(name)).arg(SIZE.to_string()));
        let (at, length, byte) = (level * 100_352, 300_032, level as u8 + 1);
        write(
            &folder.join(name),
            &format!("write -P {byte} {at} {length}"),
        );
        expected[at..at + length].fill(byte);
    }
    expected
}

fn write(image: &Path, script: &str) {
    run(Command::new("qemu-io")
        .args(["-f", "vmdk", "-c", script])
        .arg(image));
}

fn with_parents(path: &Path, folder: &Path) -> cairn_base::Result<Arc<dyn VirtualDisk>> {
    let options = OpenOptions {
        parents: vec![folder.to_path_buf()],
        ..OpenOptions::default()
    };
    open_with(path, &options)
}

#[test]
fn a_chain_is_one_disk() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let expected = chain(folder);
    let disk = open(&folder.join("child.vmdk")).unwrap();
    assert_eq!(disk.format(), Format::VmdkDifferencing);
    assert!(all(&*disk).unwrap() == expected);
    assert_eq!(disk.files().len(), 3);
    assert_eq!(disk.warnings(), [] as [String; 0]);
    // Without files, too.
    let bytes = |name: &str| -> Arc<dyn cairn_base::ReadAt> {
        Arc::new(fs::read(folder.join(name)).unwrap())
    };
    let open = |parents: &[&str]| {
        let parents = parents.iter().map(|name| bytes(name)).collect();
        open_chain(bytes("child.vmdk"), parents, cairn_disk::FormatHint::Detect)
    };
    assert!(all(&*open(&["middle.vmdk", "base.vmdk"]).unwrap()).unwrap() == expected);
    assert_eq!(open(&["middle.vmdk"]).err().unwrap().kind(), Kind::NotFound);
    assert_eq!(
        open(&["base.vmdk", "middle.vmdk"]).err().unwrap().kind(),
        Kind::Denied
    );
    assert_eq!(
        open(&["middle.vmdk", "base.vmdk", "base.vmdk"])
            .err()
            .unwrap()
            .kind(),
        Kind::Invalid
    );
}

#[test]
fn a_parent_that_was_changed_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    chain(folder);
    let cid = |name: &str| {
        let text = fs::read(folder.join(name)).unwrap();
        let text = String::from_utf8_lossy(&text[512..1024]).into_owned();
        let line = text.lines().find(|line| line.starts_with("CID=")).unwrap();
        line.replace("CID=", "")
    };
    let before = cid("base.vmdk");
    write(&folder.join("base.vmdk"), "write -P 9 0 512");
    let after = cid("base.vmdk");
    assert_ne!(before, after);
    let error = open(&folder.join("child.vmdk")).err().unwrap();
    let text = in_full(&error);
    assert_eq!(error.kind(), Kind::Denied, "{text}");
    for said in ["changed since", &before, &after, "base.vmdk", "middle.vmdk"] {
        assert!(text.contains(said), "no {said}: {text}");
    }
    // QEMU refuses to read what is not the child's own, too.
    let read = Command::new("qemu-io")
        .args(["-r", "-f", "vmdk", "-c", "read 2M 512"])
        .arg(folder.join("middle.vmdk"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&read.stdout) + String::from_utf8_lossy(&read.stderr);
    assert!(text.contains("failed"), "{text}");
}

#[test]
fn parents_are_looked_for_by_their_names_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let expected = chain(folder);
    let elsewhere = folder.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let child = folder.join("child.vmdk");
    // Renamed: no other image is tried, whatever its CID.
    fs::rename(folder.join("base.vmdk"), folder.join("renamed.vmdk")).unwrap();
    let error = open(&child).err().unwrap();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert!(in_full(&error).contains("base.vmdk"), "{error}");
    fs::rename(folder.join("renamed.vmdk"), elsewhere.join("base.vmdk")).unwrap();
    assert!(open(&child).is_err());
    let disk = with_parents(&child, &elsewhere).unwrap();
    assert!(all(&*disk).unwrap() == expected);
    let named = with_parents(&child, &elsewhere.join("base.vmdk")).unwrap();
    assert!(all(&*named).unwrap() == expected);
}

#[test]
fn a_parent_may_be_smaller_and_no_circle() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let mut expected = chain(folder);
    let grown = folder.join("grown.vmdk");
    run(Command::new("qemu-img")
        .args([
            "create",
            "-q",
            "-f",
            "vmdk",
            "-b",
            "child.vmdk",
            "-F",
            "vmdk",
        ])
        .arg(&grown)
        .arg((SIZE + (1 << 20)).to_string()));
    write(&grown, &format!("write -P 5 {} 512", SIZE + 1024));
    expected.resize(SIZE + (1 << 20), 0);
    expected[SIZE + 1024..SIZE + 1536].fill(5);
    assert!(all(&*open(&grown).unwrap()).unwrap() == expected);
    // The base says that the child is its parent.
    let base = folder.join("base.vmdk");
    let replace = |path: &Path, from: &str, to: &str| {
        let mut bytes = fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&bytes[512..21 * 512]).into_owned();
        assert!(text.contains(from), "{text}");
        let text = text.trim_end_matches('\0').replacen(from, to, 1);
        bytes[512..21 * 512].fill(0);
        bytes[512..512 + text.len()].copy_from_slice(text.as_bytes());
        fs::write(path, bytes).unwrap();
    };
    let cid = {
        let bytes = fs::read(folder.join("child.vmdk")).unwrap();
        let text = String::from_utf8_lossy(&bytes[512..1024]).into_owned();
        let line = text.lines().find(|line| line.starts_with("CID=")).unwrap();
        line["CID=".len()..].to_string()
    };
    let circle = format!("parentCID={cid}\nparentFileNameHint=\"child.vmdk\"");
    replace(&base, "parentCID=ffffffff", &circle);
    let error = open(&folder.join("child.vmdk")).err().unwrap();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(in_full(&error).contains("circle"), "{error}");
    // And larger than its child it may not be.
    let larger = folder.join("larger.vmdk");
    run(Command::new("qemu-img")
        .args(["create", "-q", "-f", "vmdk"])
        .arg(&larger)
        .arg("9M"));
    let bytes = fs::read(&larger).unwrap();
    let text = String::from_utf8_lossy(&bytes[512..1024]).into_owned();
    let line = text.lines().find(|line| line.starts_with("CID=")).unwrap();
    let of_larger = format!("parent{line}\nparentFileNameHint=\"larger.vmdk\"");
    replace(&base, &circle, &of_larger);
    let error = open(&base).err().unwrap();
    assert!(in_full(&error).contains("bytes, and its parent"), "{error}");
}

#[test]
fn a_cid_that_says_nothing_is_told() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let line = "RW 8 FLAT \"flat.bin\" 0";
    fs::write(folder.join("flat.bin"), [3; 4096]).unwrap();
    let base = super::made::descriptor("monolithicFlat", "", line);
    fs::write(
        folder.join("base.vmdk"),
        base.replace("12345678", "fffffffe"),
    )
    .unwrap();
    let more = "parentCID=fffffffe\nparentFileNameHint=\"base.vmdk\"";
    let child = super::made::descriptor("custom", more, "RW 8 ZERO");
    fs::write(folder.join("child.vmdk"), child).unwrap();
    let disk = open(&folder.join("child.vmdk")).unwrap();
    assert!(
        disk.warnings()[0].contains("cannot be told"),
        "{:?}",
        disk.warnings()
    );
    // Zeros are the child's own.
    assert_eq!(all(&*disk).unwrap(), [0; 4096]);
}
