//! Files of FAT volumes: through every command that shows files, in the code page that is asked for, and on differencing images of others.

use super::bench::{Bench, have, text, tool};
use super::mount::Mounted;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A disk `disk.raw` of FAT12, with a file whose 8.3 name begins with the byte 9D: Ø in code page 850, Ł in 852, Э in 866, ¥ in 437.
fn made(bench: &Bench) -> Option<()> {
    if !have(&["mkfs.fat", "mcopy"]) {
        return None;
    }
    let disk = bench.path("disk.raw");
    fs::write(bench.path("Q.TXT"), "in any letters\n").unwrap();
    fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    tool("mkfs.fat", &["-F", "12", text(&disk)]);
    tool(
        "mcopy",
        &["-i", text(&disk), text(&bench.path("Q.TXT")), "::"],
    );
    let mut bytes = fs::read(&disk).unwrap();
    let name = b"Q       TXT";
    let at = bytes.windows(11).position(|part| part == name).unwrap();
    bytes[at] = 0x9D;
    fs::write(&disk, bytes).unwrap();
    Some(())
}

#[test]
fn names_are_in_the_code_page_that_is_asked_for() {
    let bench = Bench::new();
    let Some(()) = made(&bench) else { return };
    bench.backup("m", &["disk.raw"]);
    let lines = |arguments: &[&str]| bench.expect(0, arguments).lines();
    let root = "m@latest:/disk0/p0";
    assert_eq!(lines(&["ls", "store", root]), ["¥.TXT"]);
    for (page, letter) in [("437", "¥"), ("850", "Ø"), ("cp852", "Ł"), ("866", "Э")] {
        let page = ["--code-page", page];
        let of = |arguments: &[&str]| lines(&[arguments, &page].concat());
        let name = format!("{letter}.TXT");
        assert_eq!(of(&["ls", "store", root]), [&*name]);
        let file = format!("{root}/{name}");
        assert_eq!(of(&["cat", "store", &file]), ["in any letters"]);
        let found = of(&["find", "store", "m", "--name", &name]);
        assert!(found.len() == 1 && found[0].ends_with(&name), "{found:?}");
        of(&["copy", "store", &file, "copied"]);
        let copied = bench.path("copied");
        assert_eq!(fs::read_to_string(&copied).unwrap(), "in any letters\n");
        fs::remove_file(copied).unwrap();
    }
    bench.expect(2, &["ls", "store", root, "--code-page", "65001"]);
    if have(&["fusermount3"]) {
        let mounted = Mounted::with(&bench, "disk.raw", &["--code-page", "850"]);
        let inside = mounted.folder.join("files/disk0/p0");
        let names: Vec<_> = fs::read_dir(inside)
            .unwrap()
            .map(|name| name.unwrap().file_name())
            .collect();
        assert_eq!(names, ["Ø.TXT"]);
    }
}

#[test]
fn a_volume_on_a_differencing_image_is_as_its_manifest_says() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/images"));
    if !folder.is_dir() {
        println!("SKIPPED: there is no folder {}", folder.display());
        return;
    }
    for kind in ["vhd", "vhdx"] {
        let bench = Bench::new();
        let name = format!("log2timeline__dfvfs__fat-differential.{kind}");
        for image in [&name, &format!("log2timeline__dfvfs__fat-parent.{kind}")] {
            let (from, to) = (folder.join(format!("{image}.zst")), bench.path(image));
            tool("zstd", &["-d", "-q", "-o", text(&to), text(&from)]);
        }
        let manifest = fs::read(folder.join(format!("{name}.manifest.json"))).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        bench.run(&["backup", "store", "--machine", "m", &name]);
        bench.run(&["copy", "store", "m@latest:/disk0/p1", "out"]);
        let mut expected = BTreeMap::new();
        for file in manifest["files"].as_array().unwrap() {
            let hash = file["sha256"].as_str().unwrap_or("").to_string();
            let path = file["path"].as_str().unwrap().to_string();
            expected.insert(path, (file["mtime"].as_i64().unwrap(), hash));
        }
        assert!(expected.len() > 4);
        let mut copied = copied(&bench.path("out"));
        if kind == "vhd" {
            // The manifest has what libvhdi 20210425 gives for it, which goes on in the child where a run of sectors ends within a byte of the bitmap.
            let file = "/System Volume Information/WPSettings.dat";
            assert!(copied.remove(file).is_some() && expected.remove(file).is_some());
        }
        assert_eq!(copied, expected, "{name}");
    }
}

/// Time and hash of everything in a folder.
fn copied(root: &Path) -> BTreeMap<String, (i64, String)> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let about = fs::metadata(&path).unwrap();
            let hash = if about.is_dir() {
                open.push(path.clone());
                String::new()
            } else {
                tool("sha256sum", &[text(&path)])[..64].to_string()
            };
            let name = format!("/{}", text(path.strip_prefix(root).unwrap()));
            found.insert(name, (about.mtime(), hash));
        }
    }
    found
}
