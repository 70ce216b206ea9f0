//! Headers, tables and clusters that cannot be: refused by name, or when the cluster is read, with its offset.

use super::kit::{CLUSTER, L1, L2, Made};
use super::shared::check_extents;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, Kind, ReadAt};
use cairn_disk::{FormatHint, VirtualDisk, open_bytes};
use std::io::Write;
use std::sync::Arc;

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;

fn opened(made: &Made) -> cairn_base::Result<Arc<dyn VirtualDisk>> {
    open_bytes(Arc::new(made.bytes.clone()), FormatHint::Detect)
}

fn error_of(made: &Made) -> Error {
    opened(made).err().unwrap()
}

#[test]
fn unknown_features_are_named() {
    let mut made = Made::new(1 << 20);
    made.put64(72, 1 << 5 | 1 << 40);
    let mut names = vec![0; 96];
    names[1] = 5;
    names[2..11].copy_from_slice(b"time warp");
    (names[48], names[49], names[50]) = (1, 40, b'x');
    let error = error_of(&made.extension(0x6803_f857, &names));
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(
        error.to_string().contains("`time warp` (bit 5), bit 40"),
        "{error}"
    );
}

#[test]
fn dirty_and_corrupt_images_are_read_with_a_warning() {
    for (bits, words) in [(1, "dirty"), (2, "corrupt")] {
        let mut made = Made::new(1 << 20).entry(0, 3 << 12 | COPIED);
        made.put64(72, bits);
        made.bytes.extend([5; CLUSTER]);
        let disk = opened(&made).unwrap();
        assert_eq!(disk.warnings().len(), 1);
        assert!(disk.warnings()[0].contains(words), "{:?}", disk.warnings());
        assert_eq!(read_vec(&*disk, 0, CLUSTER).unwrap(), [5; CLUSTER]);
    }
}

#[test]
fn a_cluster_that_cannot_be_is_refused_when_it_is_read() {
    let end = 4 * CLUSTER as u64;
    for (entry, place, said) in [
        (end | COPIED, Some(end), "beyond the end"),
        (1 << 55 | COPIED, Some(1 << 55), "beyond the end"),
        (CLUSTER as u64 | COPIED, Some(CLUSTER as u64), "headers"),
        (3 * CLUSTER as u64 + 512, None, "multiple"),
        (COMPRESSED | end, Some(end), "beyond the end"),
        (
            COMPRESSED | ((1 << 58) - 1),
            Some((1 << 58) - 1),
            "beyond the end",
        ),
        // Noise is no compressed data.
        (
            COMPRESSED | (3 * CLUSTER as u64),
            Some(3 * CLUSTER as u64),
            "decompressed",
        ),
    ] {
        let made = Made::new(1 << 20)
            .entry(1, entry)
            .entry(2, 3 << 12 | COPIED);
        let mut made = made;
        made.bytes.extend([0xF5; CLUSTER]);
        let disk = opened(&made).unwrap();
        let error = read_vec(&*disk, 5000, 100).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        assert_eq!(error.offset(), place, "{error}");
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.to_string().contains("cluster 1"), "{error}");
        // Its neighbours can be read, and it counts as data.
        assert_eq!(read_vec(&*disk, 8192, 4096).unwrap(), [0xF5; 4096]);
        assert_eq!(read_vec(&*disk, 0, 4096).unwrap(), [0; 4096]);
        let extents = disk.data_extents(0..1 << 20).unwrap();
        assert!(
            extents.iter().any(|extent| extent.contains(&5000)),
            "{extents:?}"
        );
    }
}

#[test]
fn l2_tables_that_cannot_be() {
    for place in [1 << 40, L2 as u64 + 512, 3 * CLUSTER as u64] {
        let mut made = Made::new(4 << 20);
        made.put64(L1, place);
        made.put64(L1 + 8, L2 as u64);
        let disk = opened(&made).unwrap();
        let error = read_vec(&*disk, 0, 1).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (Kind::Damaged, Some(place)));
        assert!(error.to_string().contains("L2 table 0"), "{error}");
        assert_eq!(read_vec(&*disk, 2 << 20, 1).unwrap(), [0]);
    }
    // An L1 table that is cut off.
    let mut made = Made::new(1 << 20);
    made.put64(40, 1 << 40);
    assert_eq!(error_of(&made).kind(), Kind::Damaged);
    let mut made = Made::new(1 << 20);
    made.bytes.truncate(L1 + 4);
    assert_eq!(error_of(&made).kind(), Kind::Damaged);
}

#[test]
fn the_last_cluster_of_the_file_may_be_cut_off() {
    let mut made = Made::new(1 << 20).entry(0, 3 << 12 | COPIED);
    made.bytes.extend([5; 1000]);
    let disk = opened(&made).unwrap();
    let bytes = read_vec(&*disk, 0, 8192).unwrap();
    assert_eq!(bytes[..1000], [5; 1000]);
    assert_eq!(bytes[1000..], [0; 7192]);
    assert_eq!(disk.data_extents(0..1 << 20).unwrap(), [0..1000]);
    check_extents(&*disk);
}

#[test]
fn compressed_clusters_take_no_more_than_a_cluster() {
    let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(&vec![7; 16 << 20]).unwrap();
    let bomb = writer.finish().unwrap();
    // As many sectors as the entry can say.
    let mut made = Made::new(1 << 20).entry(0, COMPRESSED | 15 << 58 | (3 * CLUSTER as u64));
    made.bytes.extend(&bomb);
    let disk = opened(&made).unwrap();
    assert_eq!(read_vec(&*disk, 0, 4096).unwrap(), [7; 4096]);
    assert_eq!(read_vec(&*disk, 100, 50).unwrap(), [7; 50]);
    // A zstd frame says how large it is, and is not believed.
    let frame = zstd::bulk::compress(&vec![7; 16 << 20], 3).unwrap();
    let mut made = Made::new(1 << 20).entry(0, COMPRESSED | 15 << 58 | (3 * CLUSTER as u64));
    (made.bytes[79], made.bytes[104]) = (8, 1);
    made.put32(100, 112);
    made.bytes.extend(&frame);
    let disk = opened(&made).unwrap();
    assert_eq!(read_vec(&*disk, 0, 4096).unwrap_err().kind(), Kind::Damaged);
    assert_eq!(read_vec(&*disk, 4096, 4096).unwrap(), [0; 4096]);
}

#[test]
fn a_large_l1_table_of_wild_entries_is_walked_soon() {
    // 2 EiB: 4 Mi entries of 512 GiB, of which 128 Ki are in the file.
    let mut made = Made::new(2 << 20);
    made.put32(20, 21);
    let entries = 128u64 << 10;
    made.put64(24, entries << 39);
    made.put32(36, entries as u32);
    made.put64(40, 2 << 20);
    made.bytes.resize(3 << 20, 0);
    for entry in 0..entries as usize {
        made.put64((2 << 20) + 8 * entry, 1 << 50 | entry as u64);
    }
    let disk = opened(&made).unwrap();
    let extents = disk.data_extents(0..u64::MAX).unwrap();
    assert_eq!(extents, [0..disk.size()]);
    assert!(read_vec(&*disk, disk.size() - 1, 1).is_err());
    assert!(disk.read_exact_at(disk.size(), &mut [0]).is_err());
}

#[test]
fn an_external_data_file_has_each_cluster_where_the_disk_has_it() {
    let work = tempfile::tempdir().unwrap();
    std::fs::write(work.path().join("data"), [6; 3 * CLUSTER]).unwrap();
    let made = Made::new(1 << 20).data_file("data");
    let made = made.entry(0, COPIED).entry(1, CLUSTER as u64 | COPIED);
    let made = made
        .entry(2, CLUSTER as u64 | COPIED)
        .entry(3, 3 << 12 | COPIED);
    let image = made
        .entry(4, COMPRESSED | 512)
        .write(&work.path().join("image.qcow2"));
    let disk = cairn_disk::open(&image).unwrap();
    assert_eq!(read_vec(&*disk, 0, 8192).unwrap(), [6; 8192]);
    for at in [2, 3, 4] {
        let error = read_vec(&*disk, at * 4096, 1).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
    }
    // It cannot be the whole disk, and have another one below.
    let mut made = Made::new(1 << 20)
        .data_file("data")
        .backing("data", Some("raw"));
    made.put64(88, 2);
    let error = cairn_disk::open(&made.write(&image)).err().unwrap();
    assert_eq!((error.kind(), error.offset()), (Kind::Damaged, Some(88)));
}
