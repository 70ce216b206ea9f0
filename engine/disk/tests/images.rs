//! Images that other programs made: every disk must read as independent tools read it, and damaged ones must be refused
//! or read, soon and without a panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shared;

use cairn_base::Kind;
use cairn_disk::{OpenOptions, VirtualDisk, open, open_with};
use serde_json::Value;
use shared::{check_extents, foreign_images, sha256, unpack};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An image whose manifest was made with libvhdi alone (20210425), which reads a sector from a differencing VHD that the child's bitmap (one bit a sector, the
/// highest bit first; VHD specification, "Block Allocation Table and Data Blocks") leaves to the parent, where a run ends inside a byte of the bitmap. Sector 186
/// is all of `WPSettings.dat`: the 12 bytes that the parent has, and not zeros. What the manifest says, and what it is.
const SECTOR_OF_THE_PARENT: [&str; 3] = [
    "log2timeline__dfvfs__fat-differential.vhd",
    "79f1d5f809a97916a61cb0d6f0e6c42665cb92eb7cb410eeb5d599c06e46f177",
    "f4b61a33ee2f7e8c19f737792a4107e46340026a9a829e4169b751901cc3ef02",
];

/// A dynamic disk that was made a differencing one by hand: the checksums of its header and of both its footers are those from before.
const EDITED: &str = "log2timeline__dfvfs__image-differential.vhd";

fn packed(folder: &Path) -> Vec<PathBuf> {
    let mut images: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "zst"))
        .collect();
    images.sort();
    images
}

/// The child at `path` is not opened without its parent, which is found beside it, and moved to a folder `elsewhere` of `work` under its own name.
fn parents_are_looked_for(path: &Path, folder: &Path, parent: &str, work: &Path) {
    // Both were renamed since the child was made: the parent is found by its id, or by its own name.
    let error = open(path).err().unwrap();
    assert_eq!(error.kind(), Kind::NotFound, "{parent}: {error}");
    let (_, own) = parent.rsplit_once("__").unwrap();
    assert!(error.to_string().contains(own), "{parent}: {error}");
    let file = unpack(&folder.join(format!("{parent}.zst")), work);
    open(path).unwrap();
    let elsewhere = work.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::rename(&file, elsewhere.join(own)).unwrap();
    assert!(open(path).is_err(), "{parent}");
}

/// Its container and its id are what the manifest says.
fn check_format(disk: &dyn VirtualDisk, name: &str, manifest: &Value, container: &str) {
    let format = disk.format().to_string();
    let kind = container.split('-').next().unwrap();
    assert!(
        format.starts_with(kind),
        "{name}: {format} is not {container}"
    );
    if kind == "vhd" {
        assert_eq!(format, container, "{name}");
        let id = disk
            .identity()
            .disk_id
            .unwrap()
            .to_string()
            .replace('-', "");
        assert_eq!(
            Some(id.as_str()),
            manifest["vhd"]["unique_id"].as_str(),
            "{name}"
        );
    }
}

#[test]
fn every_disk_reads_as_others_read_it() {
    let Some(folder) = foreign_images() else {
        return;
    };
    let (mut differencing, mut dirty, mut edited) = (0, 0, 0);
    let (mut seen, mut compared) = (BTreeMap::new(), BTreeMap::new());
    for image in packed(&folder) {
        let work = tempfile::tempdir().unwrap();
        let name = image.file_stem().unwrap().to_str().unwrap().to_string();
        let manifest =
            std::fs::read_to_string(folder.join(format!("{name}.manifest.json"))).unwrap();
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        let container = manifest["container_format"].as_str().unwrap();
        *seen.entry(container.to_string()).or_insert(0) += 1;
        let path = unpack(&image, work.path());
        if let Some(parent) = manifest["parent"].as_str() {
            parents_are_looked_for(&path, &folder, parent, work.path());
            differencing += 1;
        }
        let options = OpenOptions {
            parents: vec![work.path().join("elsewhere")],
            ..OpenOptions::default()
        };
        let disk = open_with(&path, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        dirty += usize::from(name.contains("dirtylog"));
        if name == EDITED {
            let warnings = disk.warnings().join("; ");
            assert!(warnings.contains("dynamic header"), "{warnings}");
            edited += 1;
        }
        check_format(&*disk, &name, &manifest, container);
        assert_eq!(
            Some(disk.size()),
            manifest["virtual_size"].as_u64(),
            "{name}"
        );
        match manifest["raw_sha256"].as_str() {
            Some(hash) => {
                let [of, told, is] = SECTOR_OF_THE_PARENT;
                let hash = if (&*name, hash) == (of, told) {
                    is
                } else {
                    hash
                };
                assert_eq!(sha256(&*disk).unwrap(), hash, "{name}");
                *compared.entry(container.to_string()).or_insert(0) += 1;
            }
            // The one disk of 127 GiB holds nothing.
            None => assert_eq!(disk.data_extents(0..u64::MAX).unwrap(), [], "{name}"),
        }
        check_extents(&*disk);
        assert_eq!(disk.changed().unwrap(), None);
    }
    check_counts(&manifests(&folder), &seen, &compared);
    assert_eq!((differencing, dirty, edited), (3, 1, 1));
}

/// Asserts that each manifest had its image seen, and its hash compared.
fn check_counts(
    manifests: &BTreeMap<String, usize>,
    seen: &BTreeMap<String, usize>,
    compared: &BTreeMap<String, usize>,
) {
    // No manifest is without its image, and as many of each kind are there as once were.
    assert_eq!(seen, manifests);
    for (container, least) in [
        ("raw", 90),
        ("vhd-differencing", 2),
        ("vhd-dynamic", 3),
        ("vhd-fixed", 2),
        ("vhdx", 9),
    ] {
        let found = seen.get(container).copied().unwrap_or(0);
        assert!(found >= least, "{container}: {found}");
        // All but the one that holds nothing, of which there is no hash.
        let left_out = match container {
            "vhd-dynamic" => 1,
            _ => 0,
        };
        assert_eq!(
            compared.get(container),
            Some(&(found - left_out)),
            "{container}"
        );
    }
}

/// How many manifests there are, by the containers that they name.
fn manifests(folder: &Path) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .to_str()
            .is_some_and(|name| name.ends_with(".manifest.json"))
        {
            let manifest: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            let container = manifest["container_format"].as_str().unwrap();
            *found.entry(container.to_string()).or_insert(0) += 1;
        }
    }
    found
}

#[test]
fn damaged_images_are_refused_or_read() {
    let Some(folder) = foreign_images() else {
        return;
    };
    let folder = folder.join("malformed");
    // What can still be read in full, and what cannot.
    let readable = [
        "mut_vhdx_region1_badcrc",
        "mut_vhd_nofooter",
        "mut_vhd_footer_badsum",
    ];
    let refused = [
        "mut_vhdx_bothhdr_badcrc",
        "mut_vhdx_bothregion_badcrc",
        "mut_vhdx_region_off_huge",
        "mut_vhdx_region_overlap",
        "mut_vhdx_region_count_huge",
        "mut_vhdx_blocksize0",
        "mut_vhdx_blocksize_2g",
        "mut_vhdx_virtsize_max",
        "mut_vhdx_virtsize_64t",
        "mut_vhdx_sector0",
        "mut_vhdx_sector3",
        "mut_vhdx_md_off",
        "mut_vhdx_md_sig",
        "mut_vhdx_bat_self",
        "mut_vhdx_bat_partial_nodiff",
        "mut_vhdx_trunc_0",
        "mut_vhdx_trunc_1",
        "mut_vhdx_trunc_65536",
        "mut_vhdx_trunc_65636",
        "mut_vhdx_trunc_196608",
        "mut_vhdx_trunc_2097157",
        "mut_vhdx_trunc_8388607",
        "mut_vhdx_log_off",
        "mut_vhdx_log_len0",
        "mut_vhdx_version2",
        "mut_vhd_blk0",
        "mut_vhd_batoff",
        "mut_vhd_dataoff",
        "mut_vhd_size_huge",
        "mut_vhd_bat_beyond",
    ];
    let mut seen = 0;
    for image in packed(&folder) {
        let work = tempfile::tempdir().unwrap();
        let path = unpack(&image, work.path());
        let name = path.file_stem().unwrap().to_str().unwrap();
        let start = Instant::now();
        let outcome = open(&path).and_then(|disk| {
            disk.data_extents(0..u64::MAX)?;
            if !readable.contains(&name) {
                // A disk of any size may come of it: its first GiB will do.
                let mut buffer = vec![0; 4 << 20];
                let mut at = 0;
                while at < disk.size().min(1 << 30) {
                    let length = (disk.size() - at).min(buffer.len() as u64) as usize;
                    disk.read_exact_at(at, &mut buffer[..length])?;
                    at += length as u64;
                }
            } else {
                sha256(&*disk)?;
                assert!(
                    !disk.warnings().is_empty(),
                    "{name}: says nothing of the damage"
                );
            }
            Ok(())
        });
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{name}: {:?}",
            start.elapsed()
        );
        println!("{name}: {outcome:?}");
        if readable.contains(&name) {
            outcome.unwrap();
            seen += 1;
        } else if refused.contains(&name) {
            assert_ne!(outcome.unwrap_err().kind(), Kind::Io, "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, readable.len() + refused.len(), "an image is gone");
}
