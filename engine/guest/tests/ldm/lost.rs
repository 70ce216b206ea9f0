//! Databases that have lost records, contradict themselves or tell of more than there can be: nothing is shown in place of what is not known.

use super::maker::{Component, Extent, Group, SECTOR, Scheme, Volume};
use super::records::{partition_record, volume_record};
use super::support::{
    Broken, assembled, assembled_beside, bytes, dynamic_disks, failure, filled, notes, shared,
    volume,
};
use cairn_base::{Error, Kind, ReadAt, Result};
use cairn_guest::ldm::{Guid, Unread};
use cairn_guest::probe::{disk_id, dynamic_volumes, volumes};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A simple volume and one striped over both disks.
fn two() -> Group {
    let mut group = Group::new(Scheme::Gpt, true, 2);
    group.add("Volume1", 2, 0, &[(0, 1000)]);
    group.add("Stripe1", 1, 128, &[(0, 1280), (1, 1280)]);
    group
}

/// Whether a text says all of this.
#[track_caller]
fn says(text: &str, sentences: &[&str]) {
    for sentence in sentences {
        assert!(text.contains(sentence), "{sentence}: {text}");
    }
}

/// The one sentence of what is wrong with a group.
fn damage(disks: &[Arc<dyn ReadAt>]) -> String {
    let found = assembled_beside(disks, &[]).damage;
    let told: Vec<usize> = found.iter().map(|(member, _)| *member).collect();
    assert_eq!(told, (0..disks.len()).collect::<Vec<_>>());
    found[0].1.to_string()
}

#[test]
fn of_records_that_contradict_each_other_none_is_believed() {
    let mut group = two();
    let (mut disks, contents) = filled(&group);
    assert!(
        assembled_beside(&shared(disks.clone()), &[])
            .damage
            .is_empty()
    );
    // Another place for the second column.
    let component = &group.volumes[1].components[0];
    let mut extent = component.extents[1].clone();
    extent.start += 64;
    let other = partition_record(component, &extent, "Disk2-02", group.disks[1].id);
    group.more.push(other);
    for (index, disk) in disks.iter_mut().enumerate() {
        group.database(index, disk);
    }
    let disks = shared(disks);
    let found = assembled(&disks);
    assert!(bytes(volume(&found, "Volume1")) == contents[0]);
    let error = failure(volume(&found, "Stripe1"));
    assert_eq!(error.kind(), Kind::Damaged);
    says(&error.to_string(), &["should have 2 partitions, and 1"]);
    says(&damage(&disks), &["have the same number"]);
    // One that is there twice as it is costs nothing.
    let mut group = two();
    group.more.push(volume_record(&group.volumes[0]));
    let (disks, contents) = filled(&group);
    let found = assembled(&shared(disks));
    assert!(bytes(volume(&found, "Volume1")) == contents[0]);
    assert_eq!(found.len(), 2);
}

#[test]
fn parts_of_two_records_make_none() {
    let mut group = two();
    group.volumes[0].name = "a name that does not fit into one block ".repeat(4);
    let (mut disks, contents) = filled(&group);
    let mut group = group.clone();
    let name = group.volumes[0].name.clone();
    group.volumes[0].name = name.replace('o', "0");
    // The parts of the one that was changed lie behind the others, under the same number.
    let (other, _) = filled(&group);
    for index in 0..2 {
        let start = group.database_at(index) + 18 * SECTOR;
        let is_part = |disk: &[u8], at: usize| disk[at + 14..at + 16] == [0, 3];
        let of = |disk: &[u8]| -> Vec<usize> {
            let places = (start..start + 8192).step_by(128);
            places.filter(|at| is_part(disk, *at)).collect()
        };
        let from = of(&other[index]);
        assert_eq!(from.len(), 3);
        let blocks = disks[index][start..].chunks(128);
        let free = start
            + 128
                * blocks
                    .take_while(|block| block.starts_with(b"VBLK"))
                    .count();
        for (number, at) in from.into_iter().enumerate() {
            let block = other[index][at..at + 128].to_vec();
            disks[index][free + number * 128..][..128].copy_from_slice(&block);
        }
    }
    let disks = shared(disks);
    let found = assembled(&disks);
    assert!(bytes(volume(&found, "Stripe1")) == contents[1]);
    let names = [&name, &group.volumes[0].name];
    assert!(found.iter().all(|volume| !names.contains(&&volume.name)));
    // Its component is there, and names it.
    let lost = found.iter().find(|volume| volume.number == 0x400).unwrap();
    let error = failure(lost).to_string();
    says(&error, &["volume number 1024", "is lost"]);
    says(&damage(&disks), &["does not go with the others"]);
}

/// A flag by which a field more follows.
#[test]
fn fields_that_lead_beyond_their_record_are_noticed() {
    let group = two();
    let (mut disks, _) = filled(&group);
    for (index, disk) in disks.iter_mut().enumerate() {
        let start = group.database_at(index) + 18 * SECTOR;
        let database = &mut disk[start..start + 8192];
        let at = database.windows(8).position(|part| part == b"\x07Volume1");
        // Behind the flags: the kind, the length, and the number in three bytes.
        database[at.unwrap() - 9] |= 0x08;
    }
    let disks = shared(disks);
    let found = assembled(&disks);
    let lost = found.iter().find(|volume| volume.number == 0x400).unwrap();
    assert_eq!(failure(lost).kind(), Kind::Damaged);
    assert_eq!(lost.home(), Some(0));
    says(&damage(&disks), &["longer than it says"]);
}

#[test]
fn names_do_not_play_with_the_screen() {
    let mut group = two();
    group.name = "WEB\u{1b}[2J".to_string();
    group.volumes[0].name = "Volume\u{1b}[2J1".to_string();
    let (disks, contents) = filled(&group);
    let found = assembled(&shared(disks));
    assert_eq!(found[0].name, "Volume\u{fffd}[2J1");
    assert_eq!(found[0].group_name, "WEB\u{fffd}[2J");
    assert!(bytes(&found[0]) == contents[0]);
}

#[test]
fn volumes_on_the_same_bytes_are_told() {
    let mut group = two();
    group.add("Volume3", 2, 0, &[(1, 1000)]);
    let place = group.volumes[1].components[0].extents[1].start;
    group.volumes[2].components[0].extents[0].start = place + 1279;
    let (disks, contents) = filled(&group);
    let found = assembled(&shared(disks));
    for (name, other) in [("Stripe1", "`Volume3`"), ("Volume3", "`Stripe1`")] {
        let volume = volume(&found, name);
        assert!(volume.notes.iter().any(|note| note.is_defect), "{name}");
        says(&notes(volume), &["the same bytes", other]);
    }
    let first = volume(&found, "Volume1");
    assert!(bytes(first) == contents[0] && first.notes.is_empty());
}

#[test]
fn a_header_with_a_wrong_checksum_is_a_doubt_of_the_volumes_on_its_disk() {
    let mut group = two();
    group.add("Volume3", 2, 0, &[(1, 1000)]);
    let (mut disks, _) = filled(&group);
    let start = group.database_at(0);
    for sector in [1856, 2047] {
        disks[0][start + sector * SECTOR + 9] ^= 1;
    }
    let found = assembled(&shared(disks));
    for (name, is_told) in [("Volume1", true), ("Stripe1", true), ("Volume3", false)] {
        let told = &volume(&found, name).notes;
        let defects: Vec<String> = told
            .iter()
            .filter(|note| note.is_defect)
            .map(ToString::to_string)
            .collect();
        let has = defects.iter().any(|text| text.contains("`disk0` is wrong"));
        assert_eq!(has, is_told, "{name}: {defects:?}");
    }
}

/// A whole copy that does not know the last change is not believed: volumes may be no more where it says.
#[test]
fn a_damaged_copy_of_the_newest_change_counts_more_than_a_whole_older_one() {
    let mut group = two();
    let (older, _) = filled(&group);
    group.sequence += 1;
    group.volumes[0].name = "Other1".to_string();
    let (mut disks, contents) = filled(&group);
    disks[1] = older[1].clone();
    let start = group.database_at(0) + 18 * SECTOR;
    let database = &disks[0][start..start + 8192];
    let stripes = database.windows(8).position(|part| part == b"\x07Stripe1");
    let block = start + stripes.unwrap() / 128 * 128;
    disks[0][block..block + 4].copy_from_slice(b"none");
    let disks = shared(disks);
    let found = assembled(&disks);
    assert!(bytes(volume(&found, "Other1")) == contents[0]);
    let lost = found.iter().find(|volume| volume.number == 0x420).unwrap();
    let advice = "another one that knows the newest change may be whole";
    says(&failure(lost).to_string(), &["is lost", advice]);
    says(&damage(&disks), &["`disk0`", advice]);
}

#[test]
fn a_disk_with_data_and_without_a_database_is_damaged() {
    let mut group = Group::new(Scheme::Gpt, true, 1);
    group.add("Volume1", 2, 0, &[(0, 1000)]).components[0].extents[0].start = 0;
    let (disks, _) = filled(&group);
    let mut disk = disks[0].clone();
    // NTFS, by its first sector.
    let at = group.data_start() as usize * SECTOR;
    disk[at + 3..at + 11].copy_from_slice(b"NTFS    ");
    let parts = [(
        0xa060_9baf_3114_624f_bc68_3311_714a_69ad,
        group.data_start(),
        20_000,
    )];
    super::maker::gpt(&mut disk, 5, &parts);
    let layout = volumes(&(Arc::new(disk) as Arc<dyn ReadAt>), None).unwrap();
    let error = layout.volumes[0].open().err().unwrap();
    assert_eq!(error.kind(), Kind::Damaged);
    says(&error.to_string(), &["none with the database"]);
    assert!(layout.dynamic.unwrap().is_err());
}

#[test]
fn a_disk_that_cannot_be_read_is_told_from_one_that_was_not_given() {
    let group = two();
    let (disks, _) = filled(&group);
    let disks = shared(disks);
    let second = Guid(group.disks[1].guid.to_be_bytes());
    assert_eq!(disk_id(&disks[1], None).unwrap(), Some(second));
    let unread = |disk_id| Unread {
        name: "spare".to_string(),
        disk_id,
        error: Error::damaged("no signature"),
    };
    let of = |unread: &[Unread]| {
        let found = assembled_beside(&disks[..1], unread).volumes;
        failure(volume(&found, "Stripe1"))
    };
    let error = of(&[unread(None), unread(Some(second))]);
    assert_eq!(error.kind(), Kind::Damaged);
    says(
        &error.to_string(),
        &["`Disk2`", "was given as `spare`", "no signature"],
    );
    let error = of(&[unread(None)]);
    assert_eq!(error.kind(), Kind::Damaged);
    says(
        &error.to_string(),
        &["may be `spare`, which was given", "no signature"],
    );
    // Another disk says nothing of this one.
    let error = of(&[unread(Some(Guid::default()))]);
    assert_eq!(error.kind(), Kind::NotFound);
    says(&error.to_string(), &["is missing", "was not given"]);
    // What lies on it alone is shown where it may be here, and only there.
    let mut group = two();
    group.add("Volume3", 2, 0, &[(1, 1000)]);
    let disks = shared(filled(&group).0);
    for (unread, home) in [(vec![unread(None)], Some(0)), (vec![], None)] {
        let found = assembled_beside(&disks[..1], &unread).volumes;
        assert_eq!(volume(&found, "Volume3").home(), home);
    }
}

/// A copy that fails for a moment says more than one that is lost.
#[test]
fn what_may_pass_is_told_rather_than_what_stays() {
    let mut group = Group::new(Scheme::Gpt, true, 2);
    group.mirror("Mirror1", 1000, &[0, 1]);
    let (disks, _) = filled(&group);
    let disks = shared(disks);
    let place = (group.data_start() as usize * SECTOR) as u64;
    let lost: Arc<dyn ReadAt> = Arc::new(Broken {
        disk: disks[0].clone(),
        range: place..place + (1 << 20),
    });
    let hung: Arc<dyn ReadAt> = Arc::new(Hung {
        disk: disks[1].clone(),
        range: place..place + (1 << 20),
    });
    for pair in [[lost.clone(), hung.clone()], [hung, lost]] {
        let found = assembled(&pair);
        let device = found[0].device.clone().unwrap();
        let error = device.read_exact_at(0, &mut [0; 512]).unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{error}");
    }
}

/// A disk that cannot read a range now.
struct Hung {
    disk: Arc<dyn ReadAt>,
    range: Range<u64>,
}

impl ReadAt for Hung {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        if self.range.contains(&offset) {
            return Err(Error::new(Kind::Busy, "not now"));
        }
        self.disk.read_exact_at(offset, buffer)
    }
}

/// A disk that counts the bytes that are read.
struct Counting(Vec<u8>, AtomicU64);

impl ReadAt for Counting {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.1.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.0.read_exact_at(offset, buffer)
    }
}

/// Volumes of 64 sectors each, all on the same ones.
fn hostile(count: u64, components: u64) -> Vec<u8> {
    let mut group = Group::new(Scheme::Mbr, true, 1);
    group.database = 32 << 10;
    group.disks[0].sectors = 20 << 11;
    let component = |id: u64| Component {
        id,
        state: "ACTIVE".to_string(),
        flags: 0,
        layout: 2,
        chunk: 0,
        extents: vec![Extent {
            id: id + 1,
            flags: 0,
            disk: 0,
            start: 8,
            offset: 0,
            size: 64,
            column: 0,
        }],
    };
    let volume = |number: u64| {
        let id = 0x1000 + number * (1 + components * 2);
        Volume {
            id,
            name: format!("V{number}"),
            guid: u128::from(id),
            hint: String::new(),
            size: 64,
            components: (0..components)
                .map(|index| component(id + 1 + index * 2))
                .collect(),
        }
    };
    group.volumes = (0..count).map(volume).collect();
    group.write(&[]).remove(0)
}

/// As many volumes as fit into the largest database that is read.
#[test]
fn a_database_of_too_many_volumes_is_bounded_and_told() {
    let made = hostile(42_000, 1);
    let disk = Arc::new(Counting(made, AtomicU64::new(0)));
    let shared: Arc<dyn ReadAt> = disk.clone();
    let disks = dynamic_disks(&[shared]);
    let of_database = disk.1.swap(0, Ordering::Relaxed);
    assert!(of_database < 20 << 20, "{of_database}");
    let database = &disks[0].database;
    let kept = &database.configuration;
    assert_eq!((kept.volumes.len(), kept.components.len()), (2000, 2000));
    says(&database.warnings.join("\n"), &["more than 2000 volumes"]);
    let found = dynamic_volumes(&disks, &[]);
    assert_eq!(found.volumes.len(), 2000);
    says(&found.damage[0].1.to_string(), &["more than 2000 volumes"]);
    // Each of 32 KiB is looked at a few times, whatever it says.
    let of_volumes = disk.1.load(Ordering::Relaxed);
    assert!(of_volumes < 2000 * (1 << 20), "{of_volumes}");
}

/// A mirror of as many components as fit.
#[test]
fn a_volume_of_too_many_components_is_bounded_and_told() {
    let disks = shared(vec![hostile(1, 60_000)]);
    let found = assembled(&disks);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].pieces.len(), 32);
    says(&notes(&found[0]), &["only the first 32 are read"]);
    assert!(found[0].device.is_ok());
}
