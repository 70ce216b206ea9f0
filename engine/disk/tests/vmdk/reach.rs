//! Files that are not opened because an image names them: who writes to a disk must not decide what is read.

use super::made::{all, descriptor, in_full, put, write};
use super::shared::run;
use cairn_base::Kind;
use cairn_disk::{FormatHint, OpenOptions, VirtualDisk, open, open_as, open_with};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const VICTIM: [u8; 4096] = [0x55; 4096];

fn open_in(path: &Path, folder: &Path) -> cairn_base::Result<Arc<dyn VirtualDisk>> {
    let options = OpenOptions {
        parents: vec![folder.to_path_buf()],
        ..OpenOptions::default()
    };
    open_with(path, &options)
}

fn flat(name: &str) -> Vec<u8> {
    let line = format!("RW 8 FLAT \"{name}\" 0");
    descriptor("monolithicFlat", "", &line).into_bytes()
}

#[test]
fn extents_elsewhere_are_opened_only_if_the_caller_says_so() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    fs::create_dir_all(folder.join("victim")).unwrap();
    fs::create_dir_all(folder.join("own/links")).unwrap();
    let victim = write(&folder.join("victim"), "v.raw", &VICTIM);
    let kept = folder.join("victim/kept");
    std::os::unix::fs::symlink(&victim, folder.join("own/link.raw")).unwrap();
    std::os::unix::fs::symlink(folder.join("victim"), folder.join("own/links/v")).unwrap();
    for name in [
        victim.to_str().unwrap(),
        "../victim/v.raw",
        r"..\victim\v.raw",
        "links/../../victim/v.raw",
        "link.raw",
        "links/v/v.raw",
    ] {
        let disk = write(&folder.join("own"), "disk.vmdk", &flat(name));
        let error = open(&disk).err().unwrap();
        let text = in_full(&error);
        assert_eq!(error.kind(), Kind::NotFound, "{name}: {text}");
        for said in ["not followed", "--parent DIR"] {
            assert!(text.contains(said), "{name}: {text}");
        }
        // Whether there is such a file is nothing to be learnt.
        if !name.contains("link") {
            fs::rename(&victim, &kept).unwrap();
            assert_eq!(in_full(&open(&disk).err().unwrap()), text, "{name}");
            fs::rename(&kept, &victim).unwrap();
        }
        for disk in [
            open_in(&disk, &folder.join("victim")),
            open_as(&disk, FormatHint::Vmdk),
        ] {
            assert_eq!(all(&*disk.unwrap()).unwrap(), VICTIM, "{name}");
        }
    }
}

#[test]
fn a_raw_disk_with_a_descriptor_has_nothing_opened() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    write(folder, "v.raw", &VICTIM);
    let text = flat("v.raw");
    // Its guest wrote a descriptor over all of it, or over its beginning.
    for name in [
        "disk.raw",
        "disk.img",
        "disk",
        "disk-flat.vmdk",
        "disk-f002.vmdk",
    ] {
        let disk = write(folder, name, &text);
        for error in [
            open(&disk).err().unwrap(),
            open_in(&disk, folder).err().unwrap(),
        ] {
            let text = in_full(&error);
            assert_eq!(error.kind(), Kind::Denied, "{text}");
            for said in ["v.raw", "not opened", "raw"] {
                assert!(text.contains(said), "{name}: no {said}: {text}");
            }
        }
        assert_eq!(
            all(&*open_as(&disk, FormatHint::Vmdk).unwrap()).unwrap(),
            VICTIM
        );
        let raw = open_as(&disk, FormatHint::Raw).unwrap();
        assert_eq!(raw.size(), text.len() as u64);
    }
    // Whatever it is called, none is so long.
    let mut bytes = text;
    bytes.resize(3 << 20, 0);
    let disk = write(folder, "disk.vmdk", &bytes);
    let error = open(&disk).err().unwrap();
    assert_eq!(error.kind(), Kind::Damaged, "{error}");
    assert!(in_full(&error).contains("raw"), "{error}");
}

#[test]
fn a_raw_disk_with_a_header_has_no_parent_opened() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let create = |name: &str, more: &[&str]| {
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "vmdk"]).args(more);
        run(command.arg(folder.join(name)).arg("4096"));
    };
    create("base.vmdk", &[]);
    run(Command::new("qemu-io")
        .args(["-f", "vmdk", "-c", "write -P 0x55 0 4096"])
        .arg(folder.join("base.vmdk")));
    create("child.vmdk", &["-b", "base.vmdk", "-F", "vmdk"]);
    assert_eq!(
        all(&*open(&folder.join("child.vmdk")).unwrap()).unwrap(),
        VICTIM
    );
    for name in ["disk.raw", "disk-flat.vmdk"] {
        let disk = folder.join(name);
        fs::copy(folder.join("child.vmdk"), &disk).unwrap();
        for error in [
            open(&disk).err().unwrap(),
            open_in(&disk, folder).err().unwrap(),
        ] {
            let text = in_full(&error);
            assert_eq!(error.kind(), Kind::Denied, "{text}");
            for said in ["base.vmdk", "not followed", "raw"] {
                assert!(text.contains(said), "{name}: no {said}: {text}");
            }
        }
        assert_eq!(
            all(&*open_as(&disk, FormatHint::Vmdk).unwrap()).unwrap(),
            VICTIM
        );
    }
    // The descriptor inside of a header names no other extents, whatever it says.
    let mut bytes = fs::read(folder.join("base.vmdk")).unwrap();
    write(folder, "v.raw", &VICTIM);
    bytes[512..21 * 512].fill(0);
    let own = flat("v.raw");
    put(&mut bytes, 512, &own);
    let disk = write(folder, "other.vmdk", &bytes);
    for hint in [FormatHint::Detect, FormatHint::Vmdk] {
        let error = open_as(&disk, hint).err().unwrap();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    }
}

#[test]
fn extents_of_parents_are_within_the_folders_of_the_chain() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    fs::create_dir_all(folder.join("sub")).unwrap();
    fs::create_dir_all(folder.join("victim")).unwrap();
    write(&folder.join("sub"), "flat.raw", &VICTIM);
    write(&folder.join("victim"), "v.raw", &VICTIM);
    let child = descriptor(
        "custom",
        "parentCID=12345678\nparentFileNameHint=\"sub/base.vmdk\"",
        "RW 8 ZERO",
    );
    let own = folder.join("own");
    fs::create_dir_all(&own).unwrap();
    fs::rename(folder.join("sub"), own.join("sub")).unwrap();
    let disk = write(&own, "child.vmdk", child.as_bytes());
    write(&own.join("sub"), "base.vmdk", &flat("flat.raw"));
    let opened = open(&disk).unwrap();
    assert_eq!(opened.files().len(), 3);
    write(&own.join("sub"), "base.vmdk", &flat("../../victim/v.raw"));
    let error = open(&disk).err().unwrap();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(in_full(&error).contains("not followed"), "{error}");
}
