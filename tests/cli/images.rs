//! Names and formats of disk images.

use super::bench::{Bench, have, same_disk, text, tool};
use std::fs;

#[test]
fn disks_are_named_by_their_place_or_by_the_caller() {
    let bench = Bench::new();
    bench.noise("a.raw", 11, 1 << 20);
    bench.noise("C=b.raw", 12, 2 << 20);
    bench.backup("m", &["a.raw", "data=a.raw", "./C=b.raw"]);
    let points = bench.points();
    let disks: Vec<_> = points[0]["disks"].as_array().unwrap().iter().collect();
    let names: Vec<_> = disks
        .iter()
        .map(|disk| disk["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["disk0", "data", "disk2"]);
    assert_eq!(disks[2]["size"], 2 << 20);
    // `latest` is no name of a disk, so this is a path, and there is nothing there.
    bench.expect(1, &["backup", "store", "--machine", "m", "latest=a.raw"]);
    // A path with a folder in front of `=` needs no `./`.
    fs::create_dir(bench.path("sub")).unwrap();
    fs::rename(bench.path("C=b.raw"), bench.path("sub/C=b.raw")).unwrap();
    bench.backup("m", &["sub/C=b.raw"]);
    assert_eq!(bench.points().len(), 2);
}

/// A file, QEMU's name of its format, how it is made, and what the point says that it was.
const FORMATS: &[(&str, &str, &str, &str)] = &[
    ("fixed.vhd", "vpc", "subformat=fixed,force_size=on", "VHD"),
    (
        "dynamic.vhd",
        "vpc",
        "subformat=dynamic,force_size=on",
        "VHD",
    ),
    ("fixed.vhdx", "vhdx", "subformat=fixed", "VHDX"),
    ("dynamic.vhdx", "vhdx", "subformat=dynamic", "VHDX"),
    ("a.qcow2", "qcow2", "cluster_size=4k", "QCOW2"),
    ("parts.qcow2", "qcow2", "extended_l2=on", "QCOW2"),
    ("fixed.vdi", "vdi", "static=on", "VDI"),
    ("dynamic.vdi", "vdi", "static=off", "VDI"),
    ("sparse.vmdk", "vmdk", "subformat=monolithicSparse", "VMDK"),
    ("flat.vmdk", "vmdk", "subformat=twoGbMaxExtentFlat", "VMDK"),
    (
        "stream.vmdk",
        "vmdk",
        "subformat=streamOptimized",
        "VMDK-STREAM-OPTIMIZED",
    ),
];

#[test]
fn every_format_gives_the_same_disk() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) {
        return;
    }
    // 10 MiB of data, 30 of nothing, and a size that VHD's geometry does not divide.
    let raw = bench.noise("disk.raw", 13, 10 << 20);
    fs::OpenOptions::new()
        .write(true)
        .open(&raw)
        .unwrap()
        .set_len((40 << 20) + 512 * 7)
        .unwrap();
    bench.backup("m", &["disk.raw"]);
    for (name, format, options, shown) in FORMATS.iter().copied() {
        let image = bench.path(name);
        tool(
            "qemu-img",
            &[
                "convert",
                "-f",
                "raw",
                "-O",
                format,
                "-o",
                options,
                text(&raw),
                text(&image),
            ],
        );
        let point = bench.backup(name, &[name]);
        assert_eq!(point["new_bytes"], 0, "{name}");
        let listed = bench.points();
        let mine = listed.iter().find(|p| p["point"] == point["point"]);
        let known_as = &mine.unwrap()["disks"][0]["format"];
        let known_as = known_as.as_str().unwrap().to_uppercase();
        assert!(known_as.contains(shown), "{known_as}");
        let back = bench.path(&format!("from-{name}"));
        bench.expect(
            0,
            &[
                "restore",
                "store",
                &format!("{name}@latest"),
                "--to",
                text(&back),
            ],
        );
        let restored = back.join("disk0.raw");
        // VHDX counts in sectors as raw does; qemu-img may round VHD up: the rest must be zeros.
        same_disk(&raw, "raw", &restored);
    }
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let bench = Bench::new();
    if !have(&["qemu-img"]) {
        return;
    }
    for (format, shown) in [("qed", "QED"), ("parallels", "Parallels")] {
        let (name, image) = (format!("a.{format}"), bench.path(&format!("a.{format}")));
        tool(
            "qemu-img",
            &["create", "-q", "-f", format, text(&image), "10M"],
        );
        let refused = bench.expect(1, &["backup", "store", "--machine", "m", &name]);
        for said in [shown, "qemu-img convert"] {
            assert!(refused.stderr.contains(said), "{}", refused.stderr);
        }
    }
    // A differencing disk needs its parent.
    let (base, child) = (bench.path("base.vhd"), bench.path("child.vhd"));
    tool(
        "qemu-img",
        &["create", "-q", "-f", "vpc", text(&base), "10M"],
    );
    let mut bytes = fs::read(&base).unwrap();
    // [VHD] footer: the type at byte 60, the checksum over the rest at byte 64; a copy of the footer comes first.
    for at in [0, bytes.len() - 512] {
        bytes[at + 63] = 4;
        bytes[at + 64..at + 68].fill(0);
        let sum: u32 = bytes[at..at + 512]
            .iter()
            .map(|byte| u32::from(*byte))
            .sum();
        bytes[at + 64..at + 68].copy_from_slice(&(!sum).to_be_bytes());
    }
    fs::write(&child, bytes).unwrap();
    let refused = bench.expect(1, &["backup", "store", "--machine", "m", "child.vhd"]);
    assert!(
        refused.stderr.contains("differencing"),
        "{}",
        refused.stderr
    );
    assert!(bench.points().is_empty());
}
