//! Partition tables of images that others made, against the lists of the kernel, `blkid` and The Sleuth Kit.

use crate::images::manifest;
use crate::support::{FileDisk, images, unpack};
use cairn_guest::probe::{Layout, volumes};
use cairn_guest::{PartitionTable, TableKind};
use serde_json::Value;

/// Disks cut off behind their table, whose lists say what the protective DOS table says: here the GPT is read.
const CUT_OFF: [&str; 3] = [
    "fox-it__dissect.volume__gpt.bin",
    "fox-it__dissect.volume__gpt_4k.bin",
    "fox-it__dissect.volume__gpt_hybrid.bin",
];

#[test]
fn every_table_agrees_with_its_manifest() {
    let Some(folder) = images() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_str().unwrap().ends_with(".manifest.json") {
            continue;
        }
        let list = manifest(&path);
        let name = list["image"].as_str().unwrap();
        let size = list["virtual_size"].as_u64().unwrap_or(u64::MAX);
        if list["parent"].is_string() || size > 2 << 30 {
            continue;
        }
        let Some(image) = unpack(
            &folder.join(list["packed_file"].as_str().unwrap()),
            scratch.path(),
        ) else {
            continue;
        };
        let layout = volumes(&FileDisk::open(&image), None).unwrap();
        let table = &layout.table;
        std::fs::remove_file(image).unwrap();
        println!(
            "{name}: {:?} {:?} {:?}",
            table.kind,
            table.warnings,
            layout
                .volumes
                .iter()
                .map(|v| (v.number, v.detected.as_ref().map(|d| d.name())))
                .collect::<Vec<_>>()
        );
        if CUT_OFF.contains(&name) {
            assert_eq!(table.kind, TableKind::Gpt, "{name}");
            continue;
        }
        if name == "msuhanov__dfir_ntfs__mbr-4096-p1e0.bin" {
            // The list takes 512 bytes for a sector; only with 4096 the partitions fill the disk.
            let places: Vec<_> = table.partitions.iter().map(|p| (p.start, p.size)).collect();
            assert_eq!(
                (table.sector_size, places),
                (4096, vec![(4096, 512_000), (516_096, 532_480)])
            );
            continue;
        }
        let parts: Vec<Value> = list["partitions"].as_array().cloned().unwrap_or_default();
        match list["partition_table"].as_str() {
            Some("dos") => assert_eq!(table.kind, TableKind::Mbr, "{name}"),
            Some("gpt") => assert_eq!(table.kind, TableKind::Gpt, "{name}"),
            // Recognised, not read.
            Some("bsd") | None => {
                assert_eq!(table.kind, TableKind::None, "{name}");
                continue;
            }
            Some(other) => panic!("{name}: {other}"),
        }
        same_places(name, table, &parts);
        compared += same_content(name, &layout, &parts);
    }
    assert!(compared > 0);
}

fn same_places(name: &str, table: &PartitionTable, parts: &[Value]) {
    let mut ours: Vec<(u64, u64, String)> = table
        .partitions
        .iter()
        .map(|p| {
            (
                p.start,
                p.size,
                p.kind
                    .to_string()
                    .to_uppercase()
                    .trim_start_matches('0')
                    .to_string(),
            )
        })
        .collect();
    let mut theirs: Vec<(u64, u64, String)> = parts
        .iter()
        .map(|p| {
            let kind = p["type"].as_str().unwrap_or("").to_uppercase();
            let kind = kind.trim_start_matches('0').to_string();
            (
                p["start"].as_u64().unwrap(),
                p["size"].as_u64().unwrap(),
                kind,
            )
        })
        .collect();
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs, "{name}");
}

fn same_content(name: &str, layout: &Layout, parts: &[Value]) -> usize {
    let mut compared = 0;
    for part in parts {
        let (Some(fs), Some(start)) = (part["fs"].as_str(), part["start"].as_u64()) else {
            continue;
        };
        let volume = layout.volumes.iter().find(|v| v.start == start).unwrap();
        let detected = volume.detected.clone().unwrap().name().to_lowercase();
        let same = match fs {
            "vfat" => detected.starts_with("fat"),
            fs if fs.starts_with("ext") => detected == "ext2/3/4",
            fs => detected == fs,
        };
        assert!(same, "{name}: {fs} is taken for {detected}");
        compared += 1;
    }
    compared
}

#[test]
fn what_is_not_read_is_named() {
    let Some(folder) = images() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let expected = [
        ("util-linux__util-linux__luks2.img", "LUKS"),
        ("util-linux__util-linux__lvm2.img", "LVM physical volume"),
        ("log2timeline__dfvfs__lvm.raw", "LVM physical volume"),
        ("util-linux__util-linux__mdraid-1.img", "mdraid member"),
        ("util-linux__util-linux__swap1.img", "Linux swap"),
        ("util-linux__util-linux__udf-hdd-win7.img", "UDF/ISO 9660"),
        ("util-linux__util-linux__vmfs.img", "VMFS"),
        ("util-linux__util-linux__xfs-v5.img", "XFS"),
        ("fox-it__dissect.btrfs__btrfs-default.bin", "btrfs"),
        (
            "SecurityRonin__refs-forensic__refs_boot_superblock.bin",
            "ReFS",
        ),
        ("fox-it__dissect.volume__apm.bin", "Apple partition map"),
        ("fox-it__dissect.volume__bsd.bin", "BSD disk label"),
    ];
    for (image, name) in expected {
        let packed = folder.join(format!("{image}.zst"));
        if !packed.exists() {
            println!("SKIPPED: {image} is not here");
            continue;
        }
        let path = unpack(&packed, scratch.path()).unwrap();
        let layout = volumes(&FileDisk::open(&path), None).unwrap();
        let [whole] = &layout.volumes[..] else {
            panic!("{image}: {:?}", layout.table)
        };
        assert_eq!(whole.number, 0);
        assert_eq!(whole.detected.clone().unwrap().name(), name, "{image}");
        let error = whole.open().err().unwrap();
        assert_eq!(error.kind(), cairn_base::Kind::Unsupported);
        assert!(error.to_string().contains(name), "{error}");
        std::fs::remove_file(path).unwrap();
    }
}
