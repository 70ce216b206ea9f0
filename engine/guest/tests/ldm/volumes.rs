//! The bytes of volumes of every kind, whole and with disks missing.

use super::maker::{Group, SECTOR, Scheme, gpt};
use super::support::{
    Broken, Sparse, assembled, bytes, dynamic_disks, every_kind, failure, filled, have, noise,
    notes, shared, volume,
};
use cairn_base::{Kind, ReadAt};
use cairn_guest::ldm::VolumeKind;
use cairn_guest::probe::{DYNAMIC_NUMBERS, PART_OF_DYNAMIC, dynamic_volumes, volumes};
use cairn_guest::{Detected, open_volume};
use proptest::prelude::*;
use std::process::Command;
use std::sync::{Arc, OnceLock};

#[test]
fn every_kind_has_the_bytes_that_were_put_there() {
    for (scheme, is_new) in [(Scheme::Mbr, false), (Scheme::Gpt, true)] {
        let group = every_kind(scheme, is_new);
        let (disks, contents) = filled(&group);
        let found = assembled(&shared(disks));
        assert_eq!(found.len(), contents.len());
        for (volume, content) in found.iter().zip(&contents) {
            assert!(bytes(volume) == *content, "{}", volume.name);
            assert_eq!(notes(volume), "", "{}", volume.name);
            assert_eq!(volume.group_name, "WEB01Dg0");
        }
        let kinds: Vec<VolumeKind> = found.iter().map(|volume| volume.kind).collect();
        assert_eq!(
            kinds,
            [
                VolumeKind::Simple,
                VolumeKind::Simple,
                VolumeKind::Spanned,
                VolumeKind::Striped,
                VolumeKind::Mirrored,
                VolumeKind::Raid5
            ]
        );
        assert_eq!(found[0].hint, "D:");
        assert_eq!(found[2].disks(), ["Disk1", "Disk3"]);
    }
}

/// In another order of the disks it is the same.
#[test]
fn disks_may_come_in_any_order() {
    let (mut disks, contents) = filled(&every_kind(Scheme::Gpt, true));
    disks.rotate_left(1);
    let found = assembled(&shared(disks));
    for (volume, content) in found.iter().zip(&contents) {
        assert!(bytes(volume) == *content, "{}", volume.name);
    }
}

#[test]
fn a_missing_disk_is_named_and_costs_only_what_needs_it() {
    let group = every_kind(Scheme::Mbr, true);
    let (disks, contents) = filled(&group);
    for missing in 0..3 {
        let mut left = disks.clone();
        left.remove(missing);
        let found = assembled(&shared(left));
        for (at, content) in contents.iter().enumerate() {
            let (volume, made) = (&found[at], &group.volumes[at]);
            let extents = made.components.iter().flat_map(|one| &one.extents);
            let needs_it = extents.clone().any(|extent| extent.disk == missing);
            let copes = matches!(volume.kind, VolumeKind::Mirrored | VolumeKind::Raid5);
            if !needs_it || copes {
                assert!(
                    bytes(volume) == *content,
                    "{} without {missing}",
                    volume.name
                );
                assert_eq!(notes(volume).contains("missing"), needs_it, "{volume:?}");
                continue;
            }
            let error = failure(volume);
            let disk = &group.disks[missing];
            assert_eq!(error.kind(), Kind::NotFound);
            assert!(
                error.to_string().contains(&format!("`{}`", disk.name)),
                "{error}"
            );
            let id = super::maker::guid_text(disk.guid);
            assert!(error.to_string().contains(&id), "{error}");
        }
    }
    // Two of three are too many for all but what lies on the third.
    let found = assembled(&shared(vec![disks[1].clone()]));
    assert!(bytes(volume(&found, "Extended1")) == contents[1]);
    assert!(bytes(volume(&found, "Mirror1")) == contents[4]);
    let error = failure(volume(&found, "Raid1")).to_string();
    assert!(
        error.contains("2 columns") && error.contains("missing"),
        "{error}"
    );
}

#[test]
fn what_one_disk_cannot_read_comes_from_the_others() {
    let group = every_kind(Scheme::Gpt, true);
    let (disks, contents) = filled(&group);
    let disks = shared(disks);
    for (name, at) in [("Mirror1", 4), ("Raid1", 5)] {
        let made = &group.volumes[at];
        for extent in made.components.iter().flat_map(|one| &one.extents) {
            let start = (group.data_start() + extent.start) * SECTOR as u64 + 3000;
            let mut some = disks.clone();
            some[extent.disk] = Arc::new(Broken {
                disk: some[extent.disk].clone(),
                range: start..start + 200_000,
            });
            let found = assembled(&some);
            assert!(bytes(volume(&found, name)) == contents[at], "{name}");
            let error = volume(&assembled(&some[extent.disk..=extent.disk]), name)
                .device
                .clone();
            assert_eq!(error.is_err(), name == "Raid1");
        }
    }
}

/// A mirror of three, one of them striped, none of which Windows makes, but the format has them.
#[test]
fn a_mirror_may_have_components_of_any_layout() {
    let mut group = Group::new(Scheme::Mbr, true, 3);
    group.mirror("Mirror1", 2560, &[0, 1]);
    let striped = group.component(0x440, 1, 64, &[(0, 1280), (2, 1280)]);
    group.volumes[0].components.push(striped);
    let (disks, contents) = filled(&group);
    for only in 0..3 {
        let mut components = group.clone();
        for (index, component) in components.volumes[0].components.iter_mut().enumerate() {
            component.flags = if index == only { 0 } else { 0x2 };
        }
        let mut disks = disks.clone();
        for (index, disk) in disks.iter_mut().enumerate() {
            components.database(index, disk);
        }
        let found = assembled(&shared(disks));
        assert!(bytes(&found[0]) == contents[0], "component {only}");
        assert!(notes(&found[0]).contains("not up to date"));
    }
}

#[test]
fn a_file_system_over_several_disks_is_read() {
    if !have(&["mke2fs", "mkntfs", "ntfscp"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = noise(99, 4000);
    std::fs::create_dir(folder.path().join("root")).unwrap();
    std::fs::write(folder.path().join("root/text"), &text).unwrap();
    let image = |name: &str, size: u64, commands: &[&[&str]]| {
        let path = folder.path().join(name);
        std::fs::write(&path, vec![0; size as usize * SECTOR]).unwrap();
        for command in commands {
            let output = Command::new(command[0])
                .args(&command[1..])
                .current_dir(folder.path())
                .output()
                .unwrap();
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?}: {complaint}");
        }
        std::fs::read(&path).unwrap()
    };
    let mut group = Group::new(Scheme::Gpt, true, 3);
    group.add("Stripe1", 1, 128, &[(0, 5120), (1, 5120), (2, 5120)]);
    group.add("Raid1", 3, 128, &[(0, 8192), (1, 8192), (2, 8192)]);
    let ext: &[&str] = &["mke2fs", "-q", "-t", "ext4", "-d", "root", "ext"];
    let ntfs: &[&[&str]] = &[
        &["mkntfs", "-q", "-F", "-Q", "ntfs"],
        &["ntfscp", "-f", "ntfs", "root/text", "text"],
    ];
    let contents = [image("ext", 15360, &[ext]), image("ntfs", 16384, ntfs)];
    let mut disks = group.write(&[&contents[0], &contents[1]]);
    let whole = assembled(&shared(disks.clone()));
    disks.remove(1);
    let degraded = assembled(&shared(disks));
    for found in [&whole[0], &whole[1], &degraded[1]] {
        let volume = open_volume(found.device.clone().unwrap()).unwrap();
        let entry = volume.lookup(volume.root(), b"text").unwrap().unwrap();
        let file = volume.open(entry.id).unwrap();
        let read = cairn_base::read_at::read_vec(&*file, 0, text.len()).unwrap();
        assert!(read == text, "{}", found.name);
    }
}

#[test]
fn the_layout_of_a_disk_tells_that_it_is_dynamic() {
    for (scheme, parts) in [(Scheme::Mbr, vec![1]), (Scheme::Gpt, vec![1, 3])] {
        let (disks, contents) = filled(&every_kind(scheme, true));
        let disks = shared(disks);
        let layout = volumes(&disks[1], None).unwrap();
        assert_eq!(layout.dynamic.unwrap().unwrap().group_name, "WEB01Dg0");
        let covered = layout
            .volumes
            .iter()
            .filter(|found| matches!(found.detected, Ok(Detected::Other(PART_OF_DYNAMIC))));
        let numbers: Vec<u32> = covered.map(|found| found.number).collect();
        assert_eq!(numbers, parts);
        // Each volume comes once, with the first disk that has a part of it, by the number that the database gives it.
        let found = dynamic_volumes(&dynamic_disks(&disks), &[]).volumes;
        let homes: Vec<usize> = found.iter().map(|(home, _)| *home).collect();
        assert_eq!(homes, [0, 1, 0, 0, 1, 0]);
        let numbers: Vec<u32> = found.iter().map(|(_, found)| found.number).collect();
        assert!(
            numbers.is_sorted() && numbers[0] == DYNAMIC_NUMBERS + 0x400,
            "{numbers:?}"
        );
        let alone = dynamic_volumes(&dynamic_disks(&disks[..1]), &[]).volumes;
        let first = alone[0].1.device();
        assert!(cairn_base::read_at::read_vec(&**first, 0, 2_048_000).unwrap() == contents[0]);
        assert!(
            alone[1].1.open().is_err() && alone.len() == 4,
            "{}",
            alone.len()
        );
    }
}

/// What else Windows divides disks into is named by the types of partitions where the content does not tell.
#[test]
fn other_partitions_of_windows_are_named() {
    let mut disk = vec![0; 4096 * SECTOR];
    disk[446..462].copy_from_slice(&[0, 0, 2, 0, 0xee, 0, 0, 0, 1, 0, 0, 0, 0xff, 0x0f, 0, 0]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let parts = [
        (0x8faf_5ce7_80f6_ee4c_afa3_b001_e56e_fc2d, 64, 127),
        (0x16e3_c9e3_5c0b_b84d_817d_f92d_f002_15ae, 128, 191),
        (0xc543_8d55_aca1_c043_aac8_d147_2b29_23d1, 192, 255),
        (0xa4bb_94de_d106_404d_a16a_bfd5_0179_d6ac, 256, 319),
        (0xa2a0_d0eb_e5b9_3344_87c0_68b6_b726_99c7, 320, 383),
        (0xa2a0_d0eb_e5b9_3344_87c0_68b6_b726_99c7, 384, 447),
    ];
    gpt(&mut disk, 77, &parts);
    for sector in [128, 192, 256, 320] {
        disk[sector * SECTOR..][..900].fill(0x5a);
    }
    disk[384 * SECTOR + 4096..][..8].copy_from_slice(b"SPACEDB ");
    let disk: Arc<dyn ReadAt> = Arc::new(disk);
    let layout = volumes(&disk, None).unwrap();
    let told = layout.volumes.iter().map(|found| {
        let kind = found.kind.unwrap().name().unwrap();
        (kind, found.detected.as_ref().unwrap().name())
    });
    let told: Vec<(&str, &str)> = told.collect();
    let wanted = [
        ("Storage Spaces", "Storage Spaces"),
        ("Microsoft Reserved", "Microsoft Reserved"),
        ("Storage Replica", "Storage Replica"),
        ("Windows Recovery", "nothing that is known"),
        ("basic data", "nothing that is known"),
        ("basic data", "Storage Spaces"),
    ];
    assert_eq!(told, wanted);
    assert!(layout.dynamic.is_none());
    let refused = layout.volumes[0].open().err().unwrap();
    assert_eq!(refused.kind(), Kind::Unsupported);
    assert!(
        refused.to_string().contains("disks of the pool"),
        "{refused}"
    );
}

/// Disks, and what the volumes on them hold.
type Made = (Vec<Arc<dyn ReadAt>>, Vec<Vec<u8>>);

/// Volumes with holes, on disks that know theirs.
fn with_holes() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let group = every_kind(Scheme::Gpt, true);
        let (_, mut contents) = filled(&group);
        for (index, content) in contents.iter_mut().enumerate() {
            let pieces = content.chunks_mut(300_000).enumerate();
            let empty = pieces.filter(|(number, _)| (number + index) % 3 != 0);
            empty.for_each(|(_, piece)| piece.fill(0));
        }
        let parts: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let disks = group.write(&parts).into_iter();
        let disks = disks.map(|disk| -> Arc<dyn ReadAt> { Arc::new(Sparse(disk)) });
        (disks.collect(), contents)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_range_reads_right_and_holes_are_zeros(
        at in 0usize..6, missing in 0usize..4, start in 0u64..2_100_000, length in 0u64..900_000,
    ) {
        let (disks, contents) = with_holes();
        let mut disks = disks.clone();
        if missing < 3 && at >= 4 {
            disks.remove(missing);
        }
        let found = assembled(&disks);
        let device = found[at].device.as_ref().unwrap();
        let start = start.min(device.size());
        let end = start.saturating_add(length).min(device.size());
        let read = cairn_base::read_at::read_vec(&**device, start, (end - start) as usize).unwrap();
        prop_assert!(read == contents[at][start as usize..end as usize]);
        let mut from = start;
        let extents = device.data_extents(start..end).unwrap();
        let last = std::iter::once(end..end);
        for extent in extents.iter().cloned().chain(last) {
            prop_assert!(from <= extent.start && extent.start <= extent.end && extent.end <= end);
            let hole = &read[(from - start) as usize..(extent.start - start) as usize];
            prop_assert!(hole.iter().all(|byte| *byte == 0));
            from = extent.end;
        }
        let whole = device.data_extents(0..device.size()).unwrap();
        let told: u64 = whole.iter().map(|extent| extent.end - extent.start).sum();
        prop_assert!(told < device.size(), "no holes");
        device.will_need(start..end);
    }
}
