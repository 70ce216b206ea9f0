//! Which files of this machine a QCOW2 may have opened: who writes to a disk must not decide what is read.

use super::kit::{CLUSTER, Made, open_in, refusal};
use cairn_base::Kind;
use cairn_base::read_at::read_vec;
use cairn_disk::{FormatHint, VirtualDisk, open, open_as};
use std::fs;
use std::os::unix::fs::symlink;

fn shows_victim(disk: &dyn VirtualDisk) -> bool {
    read_vec(disk, 0, 4).unwrap() == *b"VICT"
}

#[test]
fn what_lies_elsewhere_is_read_only_if_the_caller_says_so() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    for name in ["victim", "tenant"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let victim = folder.join("victim/v.raw");
    fs::write(&victim, b"VICT".repeat(2048)).unwrap();
    let kept = folder.join("victim/kept");
    let disk = folder.join("tenant/disk.qcow2");
    symlink(&victim, folder.join("tenant/link.raw")).unwrap();
    symlink(folder.join("victim"), folder.join("tenant/links")).unwrap();
    let absolute = victim.to_str().unwrap().to_string();
    for name in [
        absolute.as_str(),
        &format!("file:{absolute}"),
        "../victim/v.raw",
        "link.raw",
        "links/v.raw",
    ] {
        let backing = |format| Made::new(1 << 20).backing(name, format);
        let data = Made::new(1 << 20).data_file(name).entry(0, 1 << 63);
        for image in [backing(Some("raw")), backing(None), data] {
            image.write(&disk);
            let error = refusal(&disk);
            let text = error.to_string();
            assert_eq!(error.kind(), Kind::NotFound, "{name}: {text}");
            for said in ["not followed", "--parent DIR"] {
                assert!(text.contains(said), "{name}: {text}");
            }
            // Whether there is such a file is nothing to be learnt.
            if !name.contains("link") {
                fs::rename(&victim, &kept).unwrap();
                assert_eq!(refusal(&disk).to_string(), text, "{name}");
                fs::rename(&kept, &victim).unwrap();
            }
            let parents = [folder.join("victim")];
            assert!(shows_victim(&*open_in(&disk, &parents).unwrap()), "{name}");
            let parents = [victim.clone()];
            if name.ends_with("v.raw") {
                assert!(shows_victim(&*open_in(&disk, &parents).unwrap()), "{name}");
            }
            let told = open_as(&disk, FormatHint::Qcow2).unwrap();
            assert!(shows_victim(&*told), "{name}");
            assert!(!shows_victim(&*open_as(&disk, FormatHint::Raw).unwrap()));
        }
    }
}

/// The disks of others may lie in the same folder.
#[test]
fn a_raw_disk_with_a_header_gets_nothing_of_what_lies_beside_it() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    fs::write(folder.join("v.raw"), b"VICT".repeat(2048)).unwrap();
    let parents = [folder.to_path_buf()];
    for format in [Some("raw"), None] {
        let backing = Made::new(1 << 20).backing("v.raw", format);
        let data = Made::new(1 << 20).data_file("v.raw").entry(0, 1 << 63);
        for image in [backing, data] {
            for name in ["disk.raw", "disk", "disk.img"] {
                let disk = folder.join(name);
                image.write(&disk);
                for error in [open(&disk), open_in(&disk, &parents)] {
                    let error = error.err().unwrap();
                    assert_eq!(error.kind(), Kind::Denied, "{error}");
                    assert!(error.to_string().contains("--format qcow2"), "{error}");
                }
                assert!(shows_victim(&*open_as(&disk, FormatHint::Qcow2).unwrap()));
            }
            let disk = folder.join("disk.QCOW2");
            image.write(&disk);
            assert!(shows_victim(&*open(&disk).unwrap()));
        }
    }
}

/// The guest of the raw disk `base` has written a QCOW2 into it that names a file of somebody else.
#[test]
fn a_guest_that_writes_a_header_into_its_raw_disk_gets_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    fs::create_dir_all(folder.join("own")).unwrap();
    let victim = folder.join("victim");
    fs::write(&victim, b"VICT".repeat(2048)).unwrap();
    let victim = victim.to_str().unwrap();
    let (base, top) = (folder.join("own/base"), folder.join("own/top.qcow2"));
    let backing = Made::new(1 << 20).backing(victim, Some("raw"));
    let data = Made::new(1 << 20).data_file(victim).entry(0, 1 << 63);
    for written in [backing, data] {
        written.write(&base);
        // The format of the backing file is said: nothing is looked for in it.
        Made::new(1 << 20).backing("base", Some("raw")).write(&top);
        for disk in [open(&top), open_as(&top, FormatHint::Qcow2)] {
            assert_eq!(read_vec(&*disk.unwrap(), 0, 4).unwrap(), *b"QFI\xfb");
        }
        // It is not said: then what it is its content says, and what it names has to lie beside it, whatever was said of the child.
        Made::new(1 << 20).backing("base", None).write(&top);
        for error in [open(&top), open_as(&top, FormatHint::Qcow2)] {
            let error = error.err().unwrap();
            assert_eq!(error.kind(), Kind::Denied, "{error}");
            assert!(
                format!("{error}").contains("by its content alone"),
                "{error}"
            );
        }
        // Said to be a QCOW2 by somebody who knows.
        Made::new(1 << 20)
            .backing("base", Some("qcow2"))
            .write(&top);
        assert!(open(&top).is_err());
        assert!(shows_victim(&*open_as(&top, FormatHint::Qcow2).unwrap()));
    }
}

#[test]
fn what_begins_like_one_format_and_ends_like_another_is_neither() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    // A fixed VHD whose guest has written a QCOW2 header, and a QCOW2 whose guest has written a VHD's footer.
    let raw = folder.join("a.raw");
    fs::write(&raw, vec![0; 1 << 20]).unwrap();
    let arguments = ["convert", "-f", "raw", "-O", "vpc", "-o"];
    let options = ["subformat=fixed,force_size=on", "a.raw", "a.vhd"];
    super::kit::img(folder, &[&arguments[..], &options].concat());
    let image = folder.join("a.vhd");
    let mut bytes = fs::read(&image).unwrap();
    let made = Made::new(1 << 20).entry(0, (3 * CLUSTER as u64) | (1 << 63));
    bytes[..made.bytes.len()].copy_from_slice(&made.bytes);
    fs::write(&image, &bytes).unwrap();
    let error = refusal(&image);
    assert_eq!(error.kind(), Kind::Denied);
    for said in ["qcow2", "VHD", "say which"] {
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!(open_as(&image, FormatHint::Vhd).unwrap().size(), 1 << 20);
    assert_eq!(open_as(&image, FormatHint::Qcow2).unwrap().size(), 1 << 20);
    // What only begins like a footer says nothing.
    let length = bytes.len();
    bytes[length - 500..].fill(7);
    fs::write(&image, &bytes).unwrap();
    assert_eq!(open(&image).unwrap().format().to_string(), "qcow2");
}
