//! What is called `.vmdk` and begins like none: a raw disk, a part of one, or an image whose header is gone.

use super::made::{GRAIN, descriptor, put, put_u64, sample, stream, write};
use super::shared::run;
use cairn_base::Kind;
use cairn_base::read_at::read_vec;
use cairn_disk::{Format, FormatHint, open, open_as};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The first bytes of a disk with a partition table or a boot sector.
fn disk(size: usize) -> Vec<u8> {
    let mut bytes = sample(size, 3);
    bytes[..512].fill(0);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

/// Refused, with advice how to have it taken as a raw disk all the same; and then it is.
fn refused(path: &Path, what: &str) {
    let opened = open(path);
    assert!(opened.is_err(), "{what}");
    let error = opened.err().unwrap();
    assert_eq!(error.kind(), Kind::Damaged, "{what}: {error}");
    assert_eq!(error.path(), Some(path), "{what}: {error}");
    assert!(
        error.to_string().contains("--format raw"),
        "{what}: {error}"
    );
    let told = open_as(path, FormatHint::Raw).unwrap();
    assert_eq!(told.format(), Format::Raw, "{what}");
    assert!(told.warnings().is_empty(), "{what}");
}

#[test]
fn a_raw_disk_is_read_and_its_name_remarked_on() {
    let work = tempfile::tempdir().unwrap();
    let bytes = disk(1 << 20);
    for (name, said) in [
        ("a.vmdk", Some("called `.vmdk`, and holds a raw disk")),
        (
            "a-000001.VMDK",
            Some("called `.vmdk`, and holds a raw disk"),
        ),
        ("a-flat.vmdk", None),
        ("a-rdm.vmdk", None),
        ("a-rdmp.vmdk", None),
        ("a-f001.vmdk", Some("a part of a disk")),
        ("a-pt.vmdk", Some("a part of a disk")),
        ("a.raw", None),
    ] {
        let path = write(work.path(), name, &bytes);
        let found = open(&path).unwrap();
        assert_eq!(found.format(), Format::Raw, "{name}");
        assert_eq!(read_vec(&*found, 0, bytes.len()).unwrap(), bytes, "{name}");
        let warnings = found.warnings();
        assert_eq!(
            warnings.len(),
            usize::from(said.is_some()),
            "{name}: {warnings:?}"
        );
        assert!(
            warnings.iter().all(|text| text.contains(said.unwrap())),
            "{warnings:?}"
        );
        assert_eq!(found.images()[0].warnings, warnings, "{name}");
        let told = open_as(&path, FormatHint::Raw).unwrap();
        assert!(told.warnings().is_empty(), "{name}");
        let error = open_as(&path, FormatHint::Vmdk).err().unwrap();
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(error.to_string().contains("does not begin like"), "{error}");
    }
    // Of flat extents nothing is known beforehand: such a disk may be empty.
    for name in ["b-flat.vmdk", "b-f001.vmdk"] {
        open(&write(work.path(), name, &[0; 4096])).unwrap();
    }
}

#[test]
fn an_image_whose_beginning_is_gone_is_no_raw_disk() {
    let work = tempfile::tempdir().unwrap();
    let raw = write(work.path(), "raw", &sample(40 << 20, 5));
    for format in ["monolithicSparse", "streamOptimized"] {
        let image = work.path().join("a.vmdk");
        run(Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "vmdk", "-o"])
            .arg(format!("subformat={format}"))
            .args([&raw, &image]));
        let good = fs::read(&image).unwrap();
        for lost in [4, 512, 4096, 128 << 10] {
            let mut bytes = good.clone();
            bytes[..lost].fill(0);
            let path = write(work.path(), "b.vmdk", &bytes);
            refused(&path, &format!("{format}: {lost} bytes"));
        }
    }
    refused(&write(work.path(), "c.vmdk", &[0; 4096]), "nothing");
    refused(&write(work.path(), "c-s001.vmdk", &[1; 4096]), "a part");
    refused(&write(work.path(), "c-delta.vmdk", &[1; 70_000]), "a delta");
    refused(&write(work.path(), "c-ctk.vmdk", &[1; 100]), "short");
}

#[test]
fn remains_of_an_image_speak_against_a_boot_sector() {
    let work = tempfile::tempdir().unwrap();
    let mut bytes = disk(1 << 20);
    let text = descriptor("monolithicSparse", "", "RW 2048 SPARSE \"x\"");
    put(&mut bytes, 512, text.as_bytes());
    refused(&write(work.path(), "a.vmdk", &bytes), "a descriptor");
    // Another name, and it is what a guest may have written.
    assert!(
        open(&write(work.path(), "a.img", &bytes))
            .unwrap()
            .warnings()
            .is_empty()
    );
    let (mut bytes, _) = stream(&sample(7 * GRAIN, 2));
    bytes[..512].copy_from_slice(&disk(512)[..512]);
    bytes[512..128 * 512].fill(0);
    refused(&write(work.path(), "a.vmdk", &bytes), "a footer");
}

#[test]
fn a_backing_file_of_such_a_name_is_taken_in_the_same_way() {
    let work = tempfile::tempdir().unwrap();
    let child = work.path().join("child.qcow2");
    for (name, bytes, is_read) in [
        ("base.vmdk", disk(1 << 20), true),
        ("gone.vmdk", vec![0; 1 << 20], false),
        ("gone.vhdx", disk(1 << 20), false),
        ("flat.raw", vec![0; 1 << 20], true),
    ] {
        write(work.path(), name, &bytes);
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", name])
            .arg(&child)
            .current_dir(work.path()));
        // Where the child says that it is raw it is.
        let told = open(&child).unwrap();
        assert!(told.warnings().is_empty());
        // Without the extension that says so.
        let mut image = fs::read(&child).unwrap();
        let at = image
            .windows(4)
            .position(|four| four == [0xe2, 0x79, 0x2a, 0xca]);
        put(&mut image, at.unwrap(), b"none");
        let guessed = write(work.path(), "guessed.qcow2", &image);
        let found = open(&guessed);
        assert_eq!(found.is_ok(), is_read, "{name}");
        match found {
            Ok(found) => {
                let is_vmdk = name.contains("vmdk");
                assert_eq!(found.warnings().len(), usize::from(is_vmdk), "{name}");
                assert_eq!(read_vec(&*found, 0, 1 << 20).unwrap(), bytes);
            }
            Err(error) => {
                assert_eq!(error.kind(), Kind::Damaged);
                assert!(error.to_string().contains("-F raw"), "{error}");
            }
        }
    }
}

#[test]
fn a_se_sparse_file_is_refused_by_its_name() {
    let work = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; 8192];
    put_u64(&mut bytes, 0, 0xcafe_babe);
    put_u64(&mut bytes, 8, 0x2_0000_0001);
    for name in ["a-sesparse.vmdk", "a.vmdk", "a-flat.vmdk", "a.img"] {
        let path = write(work.path(), name, &bytes);
        let error = open(&path).err().unwrap();
        assert_eq!(error.kind(), Kind::Unsupported, "{name}: {error}");
        assert!(error.to_string().contains("seSparse"), "{name}: {error}");
    }
}
