//! Backing files of all formats and sizes.

use super::kit::Dice;
use super::kit::{Made, check_with_qemu, difference, img, io, open_in, read_all, refusal, sample};
use cairn_base::Kind;
use cairn_base::read_at::read_vec;
use cairn_disk::{FormatHint, open, open_as, open_chain};
use std::fs;
use std::sync::Arc;

/// Makes the format of the backing file one that nobody said.
fn without_format(path: &std::path::Path) {
    let mut bytes = fs::read(path).unwrap();
    let magic = 0xe279_2acau32.to_be_bytes();
    let at = bytes.windows(4).position(|word| word == magic).unwrap();
    bytes[at..at + 4].copy_from_slice(&0x1234_5678u32.to_be_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn backing_files_of_all_formats_and_sizes() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path();
    let size = 5 << 20;
    sample(&folder.join("base.raw"), size, 5);
    for (format, name, options) in [
        ("raw", "base.raw", ""),
        ("qcow2", "base.qcow2", ""),
        ("vpc", "base.vhd", "force_size=on"),
        ("vpc", "base-fixed.vhd", "subformat=fixed,force_size=on"),
        ("vhdx", "base.vhdx", ""),
        ("vdi", "base.vdi", ""),
        ("vdi", "base-fixed.vdi", "static=on"),
    ] {
        if format != "raw" {
            let options: Vec<&str> = match options {
                "" => Vec::new(),
                options => vec!["-o", options],
            };
            let arguments = ["convert", "-f", "raw", "-O", format];
            img(
                folder,
                &[&arguments[..], &options, &["base.raw", name]].concat(),
            );
        }
        for size in ["1M", "5M", "8389120"] {
            let arguments = ["create", "-q", "-f", "qcow2", "-b", name, "-F", format];
            img(folder, &[&arguments[..], &["middle.qcow2", size]].concat());
            let arguments = ["create", "-q", "-f", "qcow2", "-b", "middle.qcow2"];
            let more = ["-F", "qcow2", "-o", "cluster_size=4k", "top.qcow2", "7M"];
            img(folder, &[&arguments[..], &more].concat());
            let (middle, top) = (folder.join("middle.qcow2"), folder.join("top.qcow2"));
            io(&middle, "qcow2", &["write -P 9 100k 50k".to_string()]);
            let commands = [
                "write -P 8 120k 512",
                "write -z 512k 64k",
                "write -P 7 6M 512",
            ];
            io(&top, "qcow2", &commands.map(String::from));
            let what = format!("{name} {size}");
            let disk = open(&top).unwrap();
            let expected = check_with_qemu(&*disk, &top, "qcow2", &what);
            let found = read_all(&*disk, &mut Dice(1));
            assert_eq!(difference(&found, &expected), None, "{what}");
            let files = [folder.join("middle.qcow2"), folder.join(name)];
            assert_eq!(
                disk.files()[1..],
                files.map(|path| fs::canonicalize(path).unwrap())
            );
            // The same by their content.
            without_format(&middle);
            without_format(&top);
            let disk = open(&top).unwrap();
            let found = read_all(&*disk, &mut Dice(2));
            assert_eq!(difference(&found, &expected), None, "{what}");
        }
    }
}

#[test]
fn names_are_followed_and_ids_are_not_needed() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path();
    fs::create_dir_all(folder.join("sub/deep")).unwrap();
    fs::create_dir(folder.join("other")).unwrap();
    fs::write(folder.join("sub/base.raw"), [3; 8192]).unwrap();
    fs::write(folder.join("other/moved.raw"), [4; 8192]).unwrap();
    let absolute = folder.join("sub/base.raw");
    let absolute = absolute.to_str().unwrap();
    let child = folder.join("child.qcow2");
    let shows = |disk: &dyn cairn_disk::VirtualDisk| read_vec(disk, 5000, 1).unwrap()[0];
    for name in [
        "sub/base.raw",
        "./sub/deep/../base.raw",
        absolute,
        "file:sub/base.raw",
    ] {
        Made::new(1 << 20).backing(name, Some("raw")).write(&child);
        let disk = open(&child).unwrap();
        assert_eq!(shows(&*disk), 3, "{name}");
        assert_eq!(read_vec(&*disk, 8192, 100).unwrap(), [0; 100]);
        assert_eq!(disk.changed().unwrap(), None);
    }
    let file = format!("file://{absolute}");
    Made::new(1 << 20).backing(&file, Some("raw")).write(&child);
    assert_eq!(shows(&*open(&child).unwrap()), 3);
    // Moved away it is found where the caller says, by its name.
    Made::new(1 << 20)
        .backing("/gone/moved.raw", Some("raw"))
        .write(&child);
    assert_eq!(refusal(&child).kind(), Kind::NotFound);
    for parents in ["other", "other/moved.raw"] {
        assert_eq!(
            shows(&*open_in(&child, &[folder.join(parents)]).unwrap()),
            4
        );
    }
    let error = open_in(&child, &[folder.join("sub")]).err().unwrap();
    assert!(error.to_string().contains("moved.raw"), "{error}");
    // Images without names, given by the caller.
    let base: Arc<dyn cairn_base::ReadAt> = Arc::new(vec![6u8; 8192]);
    let image: Arc<dyn cairn_base::ReadAt> = Arc::new(fs::read(&child).unwrap());
    let disk = open_chain(image.clone(), vec![base], FormatHint::Detect).unwrap();
    assert_eq!(shows(&*disk), 6);
    let error = open_chain(image, Vec::new(), FormatHint::Detect)
        .err()
        .unwrap();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
}

#[test]
fn what_is_no_file_or_no_format_is_refused_by_name() {
    let work = tempfile::tempdir().unwrap();
    let child = work.path().join("child.qcow2");
    for name in [
        r#"json:{"driver":"nbd","host":"example"}"#,
        "nbd://example/disk",
        "https://example/a.raw",
        "rbd:pool/image",
    ] {
        Made::new(1 << 20).backing(name, Some("raw")).write(&child);
        let error = refusal(&child);
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        let scheme = name.split(':').next().unwrap();
        assert!(error.to_string().contains(scheme), "{error}");
        Made::new(1 << 20).data_file(name).write(&child);
        assert!(refusal(&child).to_string().contains(scheme));
    }
    Made::new(1 << 20)
        .backing("base", Some("qed"))
        .write(&child);
    assert!(refusal(&child).to_string().contains("`qed`"));
    fs::write(work.path().join("base"), [1; 4096]).unwrap();
    // What is called like an image and is none is not taken for a raw disk, unless that is said.
    fs::write(work.path().join("base.qcow2"), [1; 4096]).unwrap();
    Made::new(1 << 20).backing("base.qcow2", None).write(&child);
    let error = refusal(&child);
    assert_eq!(error.kind(), Kind::Damaged, "{error}");
    Made::new(1 << 20)
        .backing("base.qcow2", Some("raw"))
        .write(&child);
    open(&child).unwrap();
    // A format that is said is not looked for: what is no VHDX is none.
    Made::new(1 << 20)
        .backing("base", Some("vhdx"))
        .write(&child);
    assert_eq!(refusal(&child).kind(), Kind::Damaged);
}

#[test]
fn circles_and_endless_chains_end() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(format!("{name}.qcow2"));
    for (name, backing) in [("a", "a"), ("b", "c"), ("c", "b")] {
        for format in [Some("qcow2"), None] {
            let backing = format!("{backing}.qcow2");
            Made::new(1 << 20)
                .backing(&backing, format)
                .write(&at(name));
            if name == "c" || name == "a" {
                let error = refusal(&at(name));
                assert_eq!(error.kind(), Kind::Damaged, "{error}");
                assert!(error.to_string().contains("circle"), "{error}");
            }
        }
    }
    for number in 0..70 {
        let backing = format!("n{}.qcow2", number + 1);
        let made = Made::new(1 << 20).backing(&backing, Some("qcow2"));
        made.write(&at(&format!("n{number}")));
    }
    fs::write(at("n70"), [5; 4096]).unwrap();
    assert_eq!(refusal(&at("n0")).kind(), Kind::Unsupported);
    Made::new(1 << 20)
        .backing("n70.qcow2", Some("raw"))
        .write(&at("n69"));
    let disk = open_as(&at("n7"), FormatHint::Qcow2).unwrap();
    assert_eq!(disk.files().len(), 64);
    assert_eq!(read_vec(&*disk, 4095, 2).unwrap(), [5, 0]);
}
