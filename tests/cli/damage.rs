//! What is broken is named: in an image exit code 1, in the store exit code 4.

use super::bench::{Bench, has_fields, have, text, tool};
use std::fs;
use std::path::PathBuf;

fn flip(path: &PathBuf, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn largest_pack(bench: &Bench) -> PathBuf {
    let packs = bench.store_files("packs");
    packs
        .into_iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap()
}

#[test]
fn a_damaged_image_is_no_damaged_store() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) {
        return;
    }
    let image = bench.path("a.vhdx");
    tool(
        "qemu-img",
        &["create", "-q", "-f", "vhdx", text(&image), "10M"],
    );
    // [MS-VHDX] 2.2.2: the two headers lie at 64 and 128 KiB.
    flip(&image, (64 << 10) + 8);
    flip(&image, (128 << 10) + 8);
    let refused = bench.expect(1, &["backup", "store", "--machine", "m", "a.vhdx"]);
    assert!(refused.stderr.contains("header"), "{}", refused.stderr);
    assert!(refused.stderr.contains("a.vhdx"), "{}", refused.stderr);
    bench.expect(1, &["backup", "store", "--machine", "m", "nowhere.raw"]);
    assert!(bench.points().is_empty());
    bench.expect(0, &["verify", "store"]);
}

#[test]
fn one_bit_of_a_pack_is_found_and_named() {
    let bench = Bench::without_parity();
    let bytes = fs::read(bench.noise("a.raw", 31, 6 << 20)).unwrap();
    let point = bench.backup("m", &["C=a.raw"]);
    bench.noise("b.raw", 32, 1 << 20);
    bench.backup("other", &["b.raw"]);
    let pack = largest_pack(&bench);
    flip(&pack, 3 << 20);

    let report = bench.expect(4, &["verify", "store", "--json"]).json();
    let damaged = report["damaged"].as_array().unwrap();
    assert_eq!(damaged.len(), 1, "{report}");
    let lost = &damaged[0];
    has_fields(
        lost,
        &[
            ("chunk", "string"),
            ("pack", "string"),
            ("points", "array"),
            ("disk", "string"),
            ("offset", "bytes"),
            ("length", "bytes"),
        ],
    );
    assert_eq!(lost["pack"], pack.file_name().unwrap().to_str().unwrap());
    assert_eq!(lost["points"][0], point["point"]);
    assert_eq!(lost["disk"], "C");
    let number = |name: &str| usize::try_from(lost[name].as_u64().unwrap()).unwrap();
    let (offset, length) = (number("offset"), number("length"));
    // Incompressible data lies in the pack as it lay on the disk, a little later.
    assert!(
        offset < 3 << 20 && offset + length > (3 << 20) - (64 << 10),
        "{lost}"
    );

    let told = bench.expect(4, &["verify", "store"]).text();
    for part in [lost["chunk"].as_str().unwrap(), "m@", &offset.to_string()] {
        assert!(told.contains(part), "`{part}` is not named in {told}");
    }

    // Nothing wrong is served, nothing half is left behind.
    let refused = bench.expect(4, &["restore", "store", "m@latest", "--to", "out"]);
    assert!(
        refused.stderr.contains(lost["chunk"].as_str().unwrap()),
        "{}",
        refused.stderr
    );
    assert!(fs::read_dir(bench.path("out")).unwrap().next().is_none());
    let served = bench.expect(4, &["cat", "store", "m@latest:/C"]).stdout;
    assert!(bytes.starts_with(&served) && served.len() <= offset);
    // The neighbour is whole.
    let other = bench
        .expect(0, &["cat", "store", "other@latest:/disk0"])
        .stdout;
    assert!(other == fs::read(bench.path("b.raw")).unwrap());
}

#[test]
fn damaged_sectors_are_read_right_with_a_warning_and_repaired() {
    let bench = Bench::new();
    let bytes = fs::read(bench.noise("a.raw", 41, 6 << 20)).unwrap();
    bench.backup("m", &["a.raw"]);
    let pack = largest_pack(&bench);
    for at in [70, 1 << 20, 3 << 20, 5 << 20] {
        flip(&pack, at);
    }
    let read = bench.expect(3, &["cat", "store", "m@latest:/disk0"]);
    assert!(read.stdout == bytes);
    assert!(read.stderr.contains("verify --repair"), "{}", read.stderr);
    let found = bench.expect(4, &["verify", "store", "--json"]).json();
    assert_eq!(found["damaged"].as_array().unwrap().len(), 0, "{found}");
    let report = bench
        .expect(0, &["verify", "store", "--repair", "--json"])
        .json();
    let repaired = &report["repaired"][0];
    assert_eq!(
        repaired["pack"],
        pack.file_name().unwrap().to_str().unwrap()
    );
    assert!(
        repaired["new_pack"].is_string() && !pack.exists(),
        "{report}"
    );
    assert!(bench.expect(0, &["cat", "store", "m@latest:/disk0"]).stdout == bytes);
    let again = bench.expect(0, &["verify", "store", "--repair"]).text();
    assert!(!again.contains("repaired"), "{again}");
}

#[test]
fn a_lost_state_and_index_are_made_anew() {
    let bench = Bench::new();
    let bytes = fs::read(bench.noise("a.raw", 42, 3 << 20)).unwrap();
    bench.backup("m", &["a.raw"]);
    for file in bench.store_files("index") {
        fs::remove_file(file).unwrap();
    }
    for slot in ["state.0", "state.1"] {
        fs::remove_file(bench.path("store").join(slot)).unwrap();
    }
    bench.expect(1, &["cat", "store", "m@latest:/disk0"]);
    let told = bench.expect(3, &["verify", "store", "--repair"]).text();
    assert!(told.contains("repaired: "), "{told}");
    assert!(bench.expect(0, &["cat", "store", "m@latest:/disk0"]).stdout == bytes);
    bench.expect(0, &["verify", "store"]);
    bench.backup("m", &["a.raw"]);
}

#[test]
fn a_pack_that_is_gone_is_found_without_reading_and_stored_anew() {
    let bench = Bench::new();
    bench.noise("a.raw", 33, 6 << 20);
    bench.backup("m", &["a.raw"]);
    fs::remove_file(largest_pack(&bench)).unwrap();
    let quick = bench
        .expect(4, &["verify", "store", "--quick", "--json"])
        .json();
    assert!(!quick["damaged"].as_array().unwrap().is_empty());
    // The next backup sees the same bytes, stores them, and with them the old point is whole again.
    let code = bench
        .run(&["backup", "store", "--machine", "m", "a.raw"])
        .status
        .code();
    assert_eq!(code, Some(3));
    let points = bench.points();
    assert_eq!(points.len(), 2);
    let first = points.iter().find(|point| point["sequence"] == 1).unwrap();
    let address = format!("{}:/disk0", first["point"].as_str().unwrap());
    let back = bench.expect(0, &["cat", "store", &address]).stdout;
    assert!(back == fs::read(bench.path("a.raw")).unwrap());
}

#[test]
fn a_point_that_cannot_be_read_hides_no_other() {
    let bench = Bench::new();
    bench.noise("a.raw", 34, 1 << 20);
    bench.backup("m", &["a.raw"]);
    bench.backup("other", &["a.raw"]);
    let listed = bench.points();
    let id = listed.iter().find(|p| p["machine"] == "m").unwrap()["point"]
        .as_str()
        .unwrap();
    let files = bench.store_files("points");
    let file = files.iter().find(|path| text(path).ends_with(id)).unwrap();
    flip(file, 60);
    let points = bench.expect(4, &["points", "store", "--json"]);
    assert_eq!(points.json().as_array().unwrap().len(), 1);
    assert!(points.stderr.contains(&id[..12]), "{}", points.stderr);
    bench.expect(4, &["verify", "store"]);
    bench.expect(0, &["cat", "store", "other@latest:/disk0"]);
}

#[test]
fn a_point_that_was_renamed_is_named_and_no_other_is_taken_for_it() {
    let bench = Bench::new();
    bench.noise("a.raw", 35, 1 << 20);
    bench.backup("m", &["a.raw"]);
    let newest = bench.backup("m", &["a.raw"]);
    let id = newest["point"].as_str().unwrap();
    let files = bench.store_files("points");
    let file = files.iter().find(|path| text(path).ends_with(id)).unwrap();
    let other = format!("0000000009-{id}");
    fs::rename(file, file.with_file_name(&other)).unwrap();
    for command in ["stats", "verify"] {
        bench.expect(4, &[command, "store"]);
    }
    let points = bench.expect(4, &["points", "store", "--json"]);
    assert_eq!(points.json().as_array().unwrap().len(), 1);
    assert!(points.stderr.contains(&other), "{}", points.stderr);
    let refused = bench.expect(4, &["ls", "store", "m@latest"]);
    assert!(refused.stderr.contains(&other), "{}", refused.stderr);
    // A backup goes on, says so, and takes no number that may be in use.
    bench.expect(3, &["backup", "store", "--machine", "m", "a.raw"]);
    fs::rename(file.with_file_name(&other), file).unwrap();
    let numbers: Vec<_> = bench
        .points()
        .iter()
        .map(|p| p["sequence"].clone())
        .collect();
    assert_eq!(numbers, [1, 2, 10]);
    bench.expect(0, &["verify", "store"]);

    // The machine's name is found without its file, and written anew.
    fs::write(file.with_file_name("name"), "").unwrap();
    let points = bench.expect(4, &["points", "store"]);
    assert_eq!(points.lines().len(), 3);
    assert!(points.stderr.contains("/name"), "{}", points.stderr);
    let again = bench.backup("M", &["a.raw"]);
    assert_eq!(again["machine"], "m");
    assert_eq!(bench.expect(0, &["points", "store"]).lines().len(), 4);
}

#[test]
fn a_copy_that_meets_damage_says_so_and_keeps_what_it_was_to_replace() {
    let bench = Bench::without_parity();
    let Some(()) = super::browse::filled(&bench) else {
        return;
    };
    bench.backup("web01", &["disk.raw"]);
    let pack = largest_pack(&bench);
    // The large file is noise and most of the pack: its middle is the pack's middle.
    let middle = usize::try_from(fs::metadata(&pack).unwrap().len() / 2).unwrap();
    flip(&pack, middle);
    fs::write(bench.path("old"), "what was there").unwrap();
    let big = "web01@latest:/disk0/p1/var/log/big";
    let refused = bench.expect(4, &["copy", "--force", "store", big, "old"]);
    assert!(refused.stderr.contains("id "), "{}", refused.stderr);
    assert_eq!(fs::read(bench.path("old")).unwrap(), b"what was there");
    // In a folder the rest is copied, and the loss still counts as damage.
    bench.expect(4, &["copy", "store", "web01@latest:/disk0/p1/var", "var"]);
    assert!(bench.path("var/log").is_dir() && !bench.path("var/log/big").exists());
    bench.expect(4, &["cat", "store", big]);
}

#[test]
fn the_files_that_damage_hits_are_named() {
    let bench = Bench::without_parity();
    if !have(&["mke2fs"]) {
        return;
    }
    let tree = bench.path("tree");
    fs::create_dir_all(tree.join("etc")).unwrap();
    bench.noise("tree/etc/large", 61, 5 << 20);
    bench.noise("tree/small", 62, 5000);
    let image = bench.path("a.raw");
    tool(
        "mke2fs",
        &["-q", "-t", "ext4", "-d", text(&tree), text(&image), "16M"],
    );
    bench.backup("web01", &["a.raw"]);
    bench.backup("web01", &["a.raw"]);
    let pack = largest_pack(&bench);
    let middle = usize::try_from(fs::metadata(&pack).unwrap().len() / 2).unwrap();
    flip(&pack, middle);
    let report = bench.expect(4, &["verify", "store", "--json"]).json();
    let path = "/disk0/p0/etc/large";
    assert_eq!(report["damaged"][0]["path"], path, "{report}");
    let hit = &report["affected"][0];
    assert_eq!(
        (hit["machine"].as_str(), hit["kind"].as_str()),
        (Some("web01"), Some("file"))
    );
    assert_eq!(hit["path"], path);
    assert_eq!(hit["points"].as_array().unwrap().len(), 2);
    assert_eq!(hit["lost_bytes"], report["damaged"][0]["length"]);
    let told = bench.expect(4, &["verify", "store"]).text();
    assert!(
        told.contains("web01:/disk0/p0/etc/large has lost") && told.contains("2 points"),
        "{told}"
    );
    // What is named is what cannot be read, and nothing else.
    bench.expect(4, &["cat", "store", "web01@latest:/disk0/p0/etc/large"]);
    bench.expect(0, &["cat", "store", "web01@latest:/disk0/p0/small"]);
}
