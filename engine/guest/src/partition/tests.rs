//! Tables made here, against what the tools and the kernel say of such disks, and bytes that nobody wrote.

use super::{PartitionKind, PartitionTable, TableKind};
use cairn_base::ReadAt;
use proptest::prelude::*;
use std::process::{Command, Stdio};
use std::sync::Arc;

fn read(bytes: Vec<u8>, sector: Option<u32>) -> PartitionTable {
    let disk: Arc<dyn ReadAt> = Arc::new(bytes);
    PartitionTable::read(&disk, sector).unwrap()
}

/// A disk of `size` bytes with `script` told to a tool; `None` where that is not installed.
fn partitioned(size: u64, tool: &[&str], script: &str) -> Option<Vec<u8>> {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(size)
        .unwrap();
    let child = Command::new(tool[0])
        .args(&tool[1..])
        .arg(&image)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        println!("SKIPPED: {} is not installed", tool[0]);
        return None;
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    Some(std::fs::read(image).unwrap())
}

fn places(table: &PartitionTable) -> Vec<(u32, u64, u64)> {
    table
        .partitions
        .iter()
        .map(|p| (p.number, p.start, p.size))
        .collect()
}

const DOS: &str = "label: dos\nlabel-id: 0x12345678\nstart=2048, size=2048, type=83\nstart=6144, size=12000, type=5\n\
    start=8192, size=1000, type=82\nstart=12288, size=1000, type=83\nstart=16384, size=1000, type=7\n";

#[test]
fn logical_partitions_count_from_five() {
    let Some(disk) = partitioned(16 << 20, &["sfdisk", "-q"], DOS) else {
        return;
    };
    let table = read(disk.clone(), None);
    assert_eq!(table.kind, TableKind::Mbr);
    assert_eq!(table.disk_id, "12345678");
    let sectors: Vec<_> = places(&table)
        .iter()
        .map(|(n, s, l)| (*n, s / 512, l / 512))
        .collect();
    assert_eq!(
        sectors,
        [
            (1, 2048, 2048),
            (2, 6144, 12000),
            (5, 8192, 1000),
            (6, 12288, 1000),
            (7, 16384, 1000)
        ]
    );
    assert!(table.partitions[1].is_container());
    assert_eq!(table.partitions[2].kind, PartitionKind::Byte(0x82));
    assert_eq!(table.partitions[2].id, "12345678-05");
    assert!(table.warnings.is_empty());

    // The second link leads back to the first table.
    let mut looped = disk.clone();
    let first = 6144 * 512;
    let second = 10240 * 512;
    let link = [0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    for at in [first, second] {
        assert_eq!(looped[at + 510], 0x55);
    }
    looped[second + 462..second + 478].copy_from_slice(&link);
    let table = read(looped, None);
    assert!(
        table.warnings.iter().any(|w| w.contains("loop")),
        "{:?}",
        table.warnings
    );

    // A flag that is neither 00 nor 80: no table.
    let mut flagged = disk;
    flagged[446 + 48] = 0x12;
    assert_eq!(read(flagged, None).kind, TableKind::None);
}

/// Commands of `fdisk`, which makes tables for any sector size.
const GUID: &str = "g\nn\n1\n2048\n4095\nn\n4\n8192\n9215\nx\nn\n1\nfirst ü\nu\n1\n\
    AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE\ni\n11111111-2222-3333-4455-66778899AABB\nr\nw\n";

#[test]
fn either_gpt_is_enough() {
    for sector in [512u32, 4096] {
        let Some(disk) = partitioned(64 << 20, &["fdisk", "-b", &sector.to_string()], GUID) else {
            return;
        };
        let unit = u64::from(sector);
        let expected = [(1, 2048 * unit, 2048 * unit), (4, 8192 * unit, 1024 * unit)];
        let table = read(disk.clone(), None);
        assert_eq!((table.kind, table.sector_size), (TableKind::Gpt, sector));
        assert_eq!(places(&table), expected);
        assert_eq!(table.partitions[0].name, "first ü");
        assert_eq!(
            table.partitions[0].id,
            "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
        );
        assert_eq!(table.disk_id, "11111111-2222-3333-4455-66778899aabb");
        assert_eq!(
            table.partitions[0].kind.to_string(),
            "0fc63daf-8483-4772-8e79-3d69d8477de4"
        );
        assert!(table.warnings.is_empty(), "{:?}", table.warnings);

        // One byte of the first header, or of its entries: the backup is used and that is said.
        for at in [sector as usize + 60, 2 * sector as usize + 5] {
            let mut bad = disk.clone();
            bad[at] ^= 1;
            let table = read(bad.clone(), None);
            assert_eq!(places(&table), expected);
            assert!(
                table.warnings.iter().any(|w| w.contains("checksum")),
                "{:?}",
                table.warnings
            );
            // The last sector too: nothing is left.
            let last = bad.len() - sector as usize;
            bad[last] ^= 1;
            let table = read(bad, None);
            assert_eq!(table.kind, TableKind::None);
            assert!(!table.warnings.is_empty());
        }

        // Without the protective entry Linux does not look for a GPT.
        let mut bare = disk.clone();
        bare[446..510].fill(0);
        assert_eq!(read(bare, None).kind, TableKind::None);

        // A disk cut off: what is beyond is clipped and told.
        let mut cut = disk;
        cut.truncate(8700 * sector as usize);
        let table = read(cut, Some(sector));
        assert_eq!(places(&table), expected);
        assert_eq!(table.partitions[1].available, (8700 - 8192) * unit);
        assert!(table.warnings.len() >= 2, "{:?}", table.warnings);
    }
}

#[test]
fn a_volume_is_no_table() {
    let mut sector = vec![0u8; 1 << 20];
    sector[..3].copy_from_slice(&[0xeb, 0x52, 0x90]);
    sector[3..11].copy_from_slice(b"NTFS    ");
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(read(sector.clone(), None).kind, TableKind::None);
    // Code of the boot loader where entries would be, with flags that could be.
    sector[446..510].copy_from_slice(&[0x80; 64]);
    assert_eq!(read(sector, None).kind, TableKind::None);
    assert_eq!(read(Vec::new(), None).kind, TableKind::None);
    assert_eq!(read(vec![0; 511], Some(4096)).kind, TableKind::None);
    assert_eq!(read(vec![0; 511], Some(0)).kind, TableKind::None);
}

proptest! {
    #[test]
    fn any_bytes_make_partitions_inside_the_disk(
        entries in proptest::collection::vec((prop_oneof![Just(0u8), Just(0x80)], any::<u8>(), 0u32..40, 0u32..40), 4 * 20),
        sector in prop_oneof![Just(None), Just(Some(512u32)), Just(Some(4096))],
        protective: bool,
    ) {
        let mut disk = vec![0u8; 20 * 512];
        for (table, entries) in disk.chunks_exact_mut(512).zip(entries.chunks_exact(4)) {
            table[510..].copy_from_slice(&[0x55, 0xaa]);
            for (place, (flag, kind, start, size)) in table[446..510].chunks_exact_mut(16).zip(entries) {
                place[0] = *flag;
                place[4] = if kind % 3 == 0 { 5 } else { *kind };
                place[8..12].copy_from_slice(&start.to_le_bytes());
                place[12..].copy_from_slice(&size.to_le_bytes());
            }
        }
        if protective {
            disk[446 + 4] = 0xee;
            disk[446 + 8..446 + 12].copy_from_slice(&1u32.to_le_bytes());
            disk[512..520].copy_from_slice(b"EFI PART");
        }
        let size = disk.len() as u64;
        let shared: Arc<dyn ReadAt> = Arc::new(disk);
        let table = PartitionTable::read(&shared, sector).unwrap();
        prop_assert!(table.partitions.len() <= 255);
        for partition in &table.partitions {
            prop_assert!(partition.available == 0 || partition.start + partition.available <= size);
            prop_assert_eq!(partition.open(&shared).unwrap().size(), partition.available);
        }
    }
}
