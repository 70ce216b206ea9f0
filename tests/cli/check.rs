//! What `cairn disk --check` says of QCOW2, VDI and VMDK, and of what it does not open.

use super::bench::{Bench, have, text, tool};
use super::disk::{made, spoil};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

const MIB: u64 = 1 << 20;

/// The number at `at` of an image.
fn number<const N: usize>(image: &Path, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    let file = File::open(image).unwrap();
    file.read_exact_at(&mut bytes, at).unwrap();
    bytes
}

/// The one finding of this severity and topic: file and offset.
#[track_caller]
fn one(document: &Value, severity: &str, topic: &str) -> (String, u64) {
    let found = document["check"]["findings"].as_array().unwrap().iter();
    let mut found = found.filter(|one| one["severity"] == severity && one["topic"] == topic);
    let one = found.next().unwrap_or_else(|| panic!("{document}"));
    assert!(found.next().is_none(), "{document}");
    (
        text(Path::new(one["file"].as_str().unwrap())).to_string(),
        one["offset"].as_u64().unwrap(),
    )
}

#[test]
fn damage_of_qcow2_vdi_and_vmdk_is_named_where_it_is_written() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) {
        return;
    }
    let place =
        |image: &Path, at: u64| u64::from_be_bytes(number(image, at)) & 0x00ff_ffff_ffff_fe00;
    let image = made(&bench, "a.qcow2", "qcow2", "cluster_size=64k");
    bench.expect(0, &["disk", "--check", "a.qcow2"]);
    let good = fs::read(&image).unwrap();
    let table = place(&image, place(&image, 40));
    // A leak: the first cluster is no longer referred to.
    spoil(&image, table, &[0; 8]);
    let document = bench
        .expect(0, &["disk", "--check", "--json", "a.qcow2"])
        .json();
    assert_eq!(document["check"]["sound"], true);
    let counts = place(&image, place(&image, 48));
    let (file, at) = one(&document, "remark", "references");
    assert_eq!(file, "a.qcow2");
    assert!((counts..counts + MIB / 16).contains(&at), "{at}");
    // Two clusters in one place.
    fs::write(&image, good).unwrap();
    let first: [u8; 8] = number(&image, table);
    spoil(&image, table + 8, &first);
    let shown = bench.expect(4, &["disk", "--check", "a.qcow2"]).text();
    let said = format!(
        "fault: a.qcow2: byte {}: cluster 1 of the disk and cluster 0",
        table + 8
    );
    assert!(shown.contains(&said), "{shown}");
    let document = bench
        .expect(4, &["disk", "--check", "--json", "a.qcow2"])
        .json();
    assert_eq!(
        one(&document, "fault", "overlap"),
        ("a.qcow2".to_string(), table + 8)
    );
    assert_eq!(document["check"]["error"], Value::Null);
    let image = made(&bench, "a.vdi", "vdi", "static=off");
    let table = u64::from(u32::from_le_bytes(number(&image, 340)));
    let first: [u8; 4] = number(&image, table);
    spoil(&image, table + 4, &first);
    let document = bench
        .expect(4, &["disk", "--check", "--json", "a.vdi"])
        .json();
    assert_eq!(
        one(&document, "fault", "overlap"),
        ("a.vdi".to_string(), table + 4)
    );
    let image = made(&bench, "a.vmdk", "vmdk", "subformat=twoGbMaxExtentSparse");
    let extent = bench.path("a-s001.vmdk");
    let directory = u64::from_le_bytes(number(&extent, 56)) * 512;
    let table = u64::from(u32::from_le_bytes(number(&extent, directory))) * 512;
    spoil(&extent, table, &0x7fff_fff0u32.to_le_bytes());
    let document = bench
        .expect(4, &["disk", "--check", "--json", text(&image)])
        .json();
    let (file, at) = one(&document, "fault", "outside");
    assert!(file.ends_with("a-s001.vmdk"), "{file}");
    assert_eq!(at, table);
}

#[test]
fn what_is_refused_is_no_damage_and_ends_with_1() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) {
        return;
    }
    bench.noise("base.raw", 5, MIB);
    let base = bench.path("base.raw");
    // A QCOW2 by its content alone: a guest may have written it.
    let image = bench.path("disk.img");
    let create = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        text(&base),
        text(&image),
    ];
    tool("qemu-img", &create);
    let answer = bench.expect(1, &["disk", "--check", "disk.img"]);
    assert!(
        answer
            .stderr
            .contains("which the guest of a raw disk can write"),
        "{}",
        answer.stderr
    );
    let told = answer.text();
    assert!(told.contains("not everything was checked"), "{told}");
    let document = bench
        .expect(1, &["disk", "--check", "--json", "disk.img"])
        .json();
    assert_eq!(document["check"]["sound"], Value::Null);
    assert!(document["check"]["error"].is_string(), "{document}");
    // A folder in place of a backing file, and of an extent.
    let image = bench.path("b.qcow2");
    tool(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-u",
            "-F",
            "raw",
            "-b",
            "folder",
            text(&image),
            "1M",
        ],
    );
    fs::create_dir(bench.path("folder")).unwrap();
    bench.expect(1, &["disk", "--check", "b.qcow2"]);
    made(&bench, "c.vmdk", "vmdk", "subformat=monolithicFlat");
    fs::remove_file(bench.path("c-flat.vmdk")).unwrap();
    fs::create_dir(bench.path("c-flat.vmdk")).unwrap();
    for arguments in [&["disk", "c.vmdk"][..], &["disk", "--check", "c.vmdk"]] {
        let answer = bench.expect(1, arguments);
        assert!(answer.stderr.contains("c-flat.vmdk"), "{}", answer.stderr);
    }
}

#[test]
fn an_image_of_no_bytes_is_no_damage() {
    let bench = Bench::new();
    fs::write(bench.path("empty"), b"").unwrap();
    let answer = bench.expect(1, &["disk", "--check", "empty"]);
    assert!(
        answer.stderr.contains("the image is empty"),
        "{}",
        answer.stderr
    );
    bench.expect(0, &["disk", "--check", "--raw", "empty"]);
}
