//! Damaged databases, old ones, and such as were being changed.

use super::maker::{Group, SECTOR, Scheme, contents, summed};
use super::records::volume_record;
use super::support::{
    assembled, bytes, dynamic_disks, every_kind, failure, filled, notes, read, shared, volume,
};
use cairn_base::{Kind, ReadAt};
use cairn_guest::probe::{dynamic_volumes, volumes};
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};

fn disk(bytes: &[u8]) -> Arc<dyn ReadAt> {
    Arc::new(bytes.to_vec())
}

/// One simple volume on one disk.
fn simple(scheme: Scheme) -> (Group, Vec<u8>, Vec<u8>) {
    let mut group = Group::new(scheme, true, 1);
    group.add("Volume1", 2, 0, &[(0, 1000)]);
    let (mut disks, mut contents) = filled(&group);
    (group, disks.remove(0), contents.remove(0))
}

#[test]
fn any_copy_of_a_header_or_a_table_of_contents_is_enough() {
    for scheme in [Scheme::Mbr, Scheme::Gpt] {
        let (group, whole, content) = simple(scheme);
        let start = group.database_at(0);
        let mut heads = vec![start + 1856 * SECTOR, start + 2047 * SECTOR];
        if scheme == Scheme::Mbr {
            heads.push(6 * SECTOR);
        }
        let tables = [1, 2, 2045, 2046].map(|sector| start + sector * SECTOR);
        for copies in [heads, tables.to_vec()] {
            for left in &copies {
                let mut bytes_left = whole.clone();
                for at in copies.iter().filter(|at| *at != left) {
                    bytes_left[at + 100] ^= 1;
                }
                let found = assembled(&[disk(&bytes_left)]);
                assert!(bytes(&found[0]) == content);
                let database = read(&disk(&bytes_left)).unwrap().unwrap();
                assert_eq!(database.warnings, [""; 0]);
                // Without a good one a bad one has to do, and is told.
                bytes_left[left + 9] ^= 1;
                let database = read(&disk(&bytes_left)).unwrap().unwrap();
                assert!(
                    database.warnings[0].contains("checksum"),
                    "{:?}",
                    database.warnings
                );
            }
            let mut none = whole.clone();
            copies.iter().for_each(|at| none[at + 3] = b'x');
            let error = read(&disk(&none)).unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged);
            // It is still a disk with partitions, and says what is wrong.
            let layout = volumes(&disk(&none), None).unwrap();
            assert!(
                layout.table.warnings[0].contains("dynamic disk"),
                "{:?}",
                layout.table.warnings
            );
            let last = layout.volumes.last().unwrap();
            assert_eq!(last.open().err().unwrap().kind(), Kind::Damaged);
        }
    }
}

/// A newer table of contents leads to another configuration than the older one.
#[test]
fn the_newest_whole_table_of_contents_counts() {
    let (mut group, mut bytes, _) = simple(Scheme::Mbr);
    let start = group.database_at(0);
    group.volumes[0].name = "Newer1".to_string();
    let mut newer = bytes.clone();
    group.database(0, &mut newer);
    let (from, to) = (start + 17 * SECTOR, start + 800 * SECTOR);
    let length = 20 * SECTOR;
    bytes[to..to + length].copy_from_slice(&newer[from..from + length]);
    let mut table = contents(group.sequence + 1, 1481);
    table[0x24 + 10..0x24 + 18].copy_from_slice(&800u64.to_be_bytes());
    bytes[start + 2 * SECTOR..][..SECTOR].copy_from_slice(&summed(table));
    assert_eq!(assembled(&[disk(&bytes)])[0].name, "Newer1");
    bytes[start + 2 * SECTOR + 12] = 1;
    assert_eq!(assembled(&[disk(&bytes)])[0].name, "Volume1");
    // One that leads nowhere is passed over.
    let mut table = contents(group.sequence + 1, 1481);
    table[0x24 + 10..0x24 + 18].copy_from_slice(&900u64.to_be_bytes());
    bytes[start + 2 * SECTOR..][..SECTOR].copy_from_slice(&summed(table));
    assert_eq!(assembled(&[disk(&bytes)])[0].name, "Volume1");
}

#[test]
fn a_change_counts_when_it_is_committed() {
    let (mut group, mut bytes, _) = simple(Scheme::Gpt);
    let old = group.volumes.remove(0);
    let mut new = old.clone();
    (new.id, new.name) = (0x999, "After1".to_string());
    for (mark, volume) in [(1, &old), (2, &new)] {
        let mut record = volume_record(volume);
        record[1] = mark;
        group.more.push(record);
    }
    for (status, name, sequence) in [(2, "Volume1", 41), (3, "After1", 42)] {
        group.status = status;
        group.database(0, &mut bytes);
        let found = assembled(&[disk(&bytes)]);
        let names: Vec<&str> = found.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(names, [name]);
        let database = read(&disk(&bytes)).unwrap().unwrap();
        assert_eq!(database.sequence, sequence);
        let warnings = database.warnings.join("\n");
        assert!(warnings.contains("was under way"), "{warnings}");
    }
}

#[test]
fn a_record_that_is_lost_costs_only_its_volume() {
    let mut group = Group::new(Scheme::Mbr, true, 1);
    group.add("Volume1", 2, 0, &[(0, 1000)]);
    group.add(
        &"a name that does not fit into one block ".repeat(3),
        2,
        0,
        &[(0, 1000)],
    );
    group.add("Volume3", 2, 0, &[(0, 1000)]);
    let (mut disks, contents) = filled(&group);
    assert!(bytes(&assembled(&[disk(&disks[0])])[1]) == contents[1]);
    let start = group.database_at(0) + 18 * SECTOR;
    // The blocks with the parts of the long record, the last first, and its component's.
    for (spoilt, complaint) in [(5, "are missing"), (0, "no block")] {
        let bytes_of = &mut disks[0];
        let is_part = |at: &usize| bytes_of[at + 14..at + 16] == [0, 2];
        let mut parts = (start..start + 8192).step_by(128).filter(is_part);
        let first = parts.next().unwrap();
        let at = if spoilt == 5 { first } else { start };
        bytes_of[at..at + 4].copy_from_slice(b"none");
        let found = assembled(&[disk(bytes_of)]);
        assert!(bytes(volume(&found, "Volume3")) == contents[2]);
        let warnings = read(&disk(bytes_of)).unwrap().unwrap().warnings.join("\n");
        assert!(warnings.contains(complaint), "{warnings}");
        assert!(warnings.contains("should have 3 volumes"), "{warnings}");
    }
}

/// What is complained of, and what causes it.
type Spoilt = (&'static str, fn(&mut Group));

#[test]
fn what_contradicts_itself_is_refused() {
    let cases: &[Spoilt] = &[
        ("begins at byte", |group| {
            group.volumes[2].components[0].extents[1].offset += 1
        }),
        ("beyond the end of its disk", |group| {
            group.volumes[2].components[0].extents[1].start = 1 << 30;
        }),
        ("columns", |group| {
            group.volumes[2].components[0].extents[1].column = 7
        }),
        ("chunks of no bytes", |group| {
            group.volumes[2].components[0].chunk = 0
        }),
        ("needs", |group| group.volumes[2].size += 128),
        ("does not know the disk", |group| group.disks[2].id = 0x77),
        ("less than 3 columns", |group| {
            group.volumes[2].components[0].extents.pop();
            group.volumes[2].components[0].layout = 3;
        }),
        ("has no components", |group| {
            group.volumes[2].components.clear()
        }),
    ];
    for (complaint, spoil) in cases {
        let mut group = Group::new(Scheme::Gpt, true, 3);
        group.add("Volume1", 2, 0, &[(0, 1000)]);
        group.mirror("Mirror1", 1000, &[0, 1]);
        let layout = if *complaint == "begins at byte" { 2 } else { 1 };
        group.add("Spoilt1", layout, 64, &[(0, 640), (2, 640)]);
        let (mut disks, contents) = filled(&group);
        spoil(&mut group);
        let is_unknown = group.disks[2].id == 0x77;
        for (index, disk) in disks.iter_mut().enumerate() {
            group.database(index, disk);
            if is_unknown {
                // The record of the disk has another number than its partition says.
                let text = 0x102u64.to_be_bytes();
                let range = group.database_at(index)..group.database_at(index) + (1 << 20);
                let found = disk[range.clone()]
                    .windows(3)
                    .position(|bytes| bytes == [2, 1, 2]);
                assert!(found.is_none(), "{text:?}");
                let found = disk[range.clone()]
                    .windows(3)
                    .position(|bytes| bytes == [1, 0x77, 1]);
                disk[range.start + found.unwrap() + 1] = 0x78;
            }
        }
        let found = assembled(&shared(disks));
        assert!(bytes(volume(&found, "Volume1")) == contents[0]);
        assert!(bytes(volume(&found, "Mirror1")) == contents[1]);
        let error = failure(volume(&found, "Spoilt1"));
        assert!(
            error.to_string().contains(complaint),
            "{complaint}: {error}"
        );
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
    }
}

/// What was away while the others went on is told, and not read where there is something else.
#[test]
fn a_disk_that_was_away_is_noticed() {
    let mut group = every_kind(Scheme::Mbr, true);
    let (mut disks, contents) = filled(&group);
    // Disk 2 stays at change 41, and what it has of the mirror and of the RAID-5 is of then.
    group.sequence += 1;
    for index in [0, 2] {
        group.database(index, &mut disks[index]);
    }
    for (volume, component) in [(4, 0), (5, 0)] {
        for extent in &group.volumes[volume].components[component].extents {
            let start = (group.data_start() + extent.start) as usize * SECTOR;
            let length = extent.size as usize * SECTOR;
            if extent.disk == 1 {
                disks[1][start..start + length].fill(0xee);
            }
        }
    }
    let found = assembled(&shared(disks.clone()));
    for at in [0, 2, 4, 5] {
        assert!(bytes(&found[at]) == contents[at], "{}", found[at].name);
    }
    for at in [3, 4, 5] {
        assert!(
            notes(&found[at]).contains("knows change 41"),
            "{}",
            notes(&found[at])
        );
    }
    let defects = |name: &str| {
        let found = volume(&found, name);
        found.notes.iter().any(|note| note.is_defect)
    };
    assert!(defects("Stripe1") && defects("Extended1"));
    assert!(!defects("Mirror1") && !defects("Raid1") && !defects("Volume1"));
    // Alone it is all there is.
    let alone = assembled(&shared(vec![disks.swap_remove(1)]));
    assert!(bytes(volume(&alone, "Mirror1")) != contents[4]);
}

/// Of copies that say they are equally new, those that more disks have count.
#[test]
fn most_disks_decide() {
    let mut group = every_kind(Scheme::Gpt, true);
    let (mut disks, _) = filled(&group);
    group.volumes[0].name = "Another1".to_string();
    group.database(0, &mut disks[0]);
    let found = assembled(&shared(disks));
    assert_eq!(found[0].name, "Volume1");
    let told = notes(volume(&found, "Stripe1"));
    assert!(told.contains("otherwise than the others"), "{told}");
}

#[test]
fn parts_that_are_marked_are_not_read() {
    let mut group = every_kind(Scheme::Mbr, false);
    let (mut disks, contents) = filled(&group);
    group.volumes[4].components[0].state = "STALE".to_string();
    group.volumes[5].components[0].extents[2].flags = 0x8;
    for (index, disk) in disks.iter_mut().enumerate() {
        group.database(index, disk);
    }
    for (at, component, part) in [(4, 0, 0), (5, 0, 2)] {
        let extent = &group.volumes[at].components[component].extents[part];
        let start = (group.data_start() + extent.start) as usize * SECTOR;
        disks[extent.disk][start..start + extent.size as usize * SECTOR].fill(0xee);
    }
    let found = assembled(&shared(disks.clone()));
    for at in [4, 5] {
        assert!(bytes(&found[at]) == contents[at], "{}", found[at].name);
        assert!(
            notes(&found[at]).contains("not up to date"),
            "{}",
            notes(&found[at])
        );
    }
    // Without the good half there is nothing to show.
    disks.remove(2);
    let error = failure(volume(&assembled(&shared(disks)), "Mirror1"));
    assert!(error.to_string().contains("not up to date"), "{error}");
}

/// Everything that can be asked of disks of any content.
fn look(disks: &[Arc<dyn ReadAt>]) {
    for disk in disks {
        let _layout = volumes(disk, None).unwrap();
    }
    let dynamic = disks
        .iter()
        .filter(|disk| matches!(read(disk), Ok(Some(_))));
    let dynamic: Vec<Arc<dyn ReadAt>> = dynamic.cloned().collect();
    for (_, found) in dynamic_volumes(&dynamic_disks(&dynamic), &[]).volumes {
        let device = found.device();
        let size = device.size();
        for at in [0, size / 2, size.saturating_sub(5000)] {
            let length = (size - at).min(5000);
            let _read = cairn_base::read_at::read_vec(&**device, at, length as usize);
            let _extents = device.data_extents(at..at + length);
        }
    }
}

fn small() -> &'static Vec<Vec<u8>> {
    static MADE: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    MADE.get_or_init(|| filled(&every_kind(Scheme::Mbr, true)).0)
}

/// A disk with a few bytes changed.
struct Changed(&'static [u8], Vec<(u64, u8)>);

impl ReadAt for Changed {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> cairn_base::Result<()> {
        cairn_base::read_at::check_range(self.size(), offset, buffer.len())?;
        buffer.copy_from_slice(&self.0[offset as usize..][..buffer.len()]);
        for (at, byte) in &self.1 {
            if let Some(place) = at
                .checked_sub(offset)
                .and_then(|at| buffer.get_mut(at as usize))
            {
                *place = *byte;
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_bytes_are_harmless(
        changes in proptest::collection::vec((0usize..5, 0u64..9000, any::<u8>()), 1..12),
    ) {
        let made = small();
        let start = made[0].len() as u64 - 2048 * SECTOR as u64;
        // The first sectors, the tables of contents, the database, and the headers.
        let places = [0, start, start + 17 * SECTOR as u64, start + 18 * SECTOR as u64, start + 1856 * SECTOR as u64];
        let change = |(place, at, byte): &(usize, u64, u8)| (places[*place] + at % 9000, *byte);
        let changes: Vec<(u64, u8)> = changes.iter().map(change).collect();
        let first: Arc<dyn ReadAt> = Arc::new(Changed(&made[0], changes));
        look(&[first, Arc::new(Changed(&made[1], Vec::new()))]);
    }
}
