//! What a volume says of itself, second copies, broken chains, code pages: on small volumes, patched byte by byte.

use crate::support::{have, shell};
use crate::trees::{blank, noise, on_volume, timeless};
use cairn_base::{Error, Kind, ReadAt, Result};
use cairn_guest::fat::{CodePage, FatVolume};
use cairn_guest::{DirEntry, Volume, open_volume, probe};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

const TOOLS: [&str; 2] = ["mkfs.fat", "mcopy"];

/// A volume with `folder/File` (10,000 bytes), and something else in the root.
fn made(options: &str, size: u64) -> Option<Vec<u8>> {
    if !have(&TOOLS) {
        return None;
    }
    let scratch = tempfile::tempdir().unwrap();
    let image = blank(scratch.path(), size);
    let folder = scratch.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("A File"), noise(5, 10_000)).unwrap();
    shell(&format!(
        "mkfs.fat {options} '{0}' && TZ=UTC MTOOLS_SKIP_CHECK=1 mcopy -s -i '{0}' '{1}' ::",
        image.display(),
        folder.display()
    ))
    .unwrap();
    Some(std::fs::read(image).unwrap())
}

fn of(bytes: &[u8]) -> Arc<dyn Volume> {
    open_volume(Arc::new(bytes.to_vec()) as Arc<dyn ReadAt>).unwrap()
}

fn number(bytes: &[u8], at: usize, length: usize) -> usize {
    bytes[at..at + length]
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// Where the table begins, how long it is, and where clusters begin, of a volume of FAT32 or FAT16 with sectors of 512 bytes and two tables.
fn layout(bytes: &[u8]) -> (usize, usize, usize) {
    let reserved = number(bytes, 14, 2) * 512;
    let table = match number(bytes, 22, 2) {
        0 => number(bytes, 36, 4),
        short => short,
    } * 512;
    (
        reserved,
        table,
        reserved + table * 2 + number(bytes, 17, 2) * 32,
    )
}

fn lookup(volume: &dyn Volume, path: &[&str]) -> DirEntry {
    let mut folder = volume.root();
    let mut found = None;
    for name in path {
        let entry = volume.lookup(folder, name.as_bytes()).unwrap().unwrap();
        folder = entry.id;
        found = Some(entry);
    }
    found.unwrap()
}

fn defects(volume: &dyn Volume) -> String {
    volume.info().defects().collect::<Vec<_>>().join(" ")
}

fn read(volume: &dyn Volume) -> Result<Vec<u8>> {
    let file = volume.open(lookup(volume, &["folder", "a file"]).id)?;
    let mut bytes = vec![0; file.size() as usize];
    file.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

/// The number of the first cluster of the file, and where its entry lies.
fn first_cluster(bytes: &[u8]) -> (usize, usize) {
    let volume = of(bytes);
    let entry = lookup(&*volume, &["folder", "A File"]).id.number as usize * 32;
    (number(bytes, entry + 26, 2), entry)
}

#[test]
fn marks_of_a_volume_that_was_in_use_are_told() {
    let wide = made("-F 32 -s 1", 40 << 20);
    let narrow = made("-F 16 -s 1", 8 << 20);
    let (Some(wide), Some(narrow)) = (wide, narrow) else {
        return;
    };
    // (volume, where, which bit, told, still clean)
    let cases = [
        (&wide, layout(&wide).0 + 7, 0x08, "in use", false),
        (&wide, layout(&wide).0 + 7, 0x04, "could not read", true),
        (&narrow, layout(&narrow).0 + 3, 0x80, "in use", false),
        (&narrow, layout(&narrow).0 + 3, 0x40, "could not read", true),
        (&wide, 65, 0x01, "in use", false),
        (&narrow, 37, 0x01, "in use", false),
    ];
    for (sound, at, bit, told, clean) in cases {
        assert_eq!(defects(&*of(sound)), "");
        assert!(of(sound).info().clean);
        let mut bytes = sound.clone();
        bytes[at] ^= bit;
        let volume = of(&bytes);
        assert!(
            defects(&*volume).contains(told),
            "{at}: {}",
            defects(&*volume)
        );
        assert_eq!(volume.info().clean, clean, "{at}");
        assert!(read(&*volume).unwrap() == noise(5, 10_000));
    }
}

#[test]
fn the_backup_of_a_boot_sector_is_used() {
    for options in ["-F 32 -s 1", "-F 32 -S 4096 -s 1"] {
        let Some(mut bytes) = made(options, 300 << 20) else {
            return;
        };
        bytes[..512].fill(0);
        let disk: Arc<dyn ReadAt> = Arc::new(bytes);
        let found = probe::volumes(&disk, None).unwrap();
        let volume = found.volumes[0].open().unwrap();
        assert!(defects(&*volume).contains("backup is used"), "{options}");
        assert!(read(&*volume).unwrap() == noise(5, 10_000), "{options}");
    }
}

/// A disk of which some bytes cannot be read.
struct Failing(Vec<u8>, Range<u64>);

impl ReadAt for Failing {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        if offset < self.1.end && self.1.start < offset + buffer.len() as u64 {
            return Err(Error::damaged("a bad sector").at_offset(offset));
        }
        self.0.read_exact_at(offset, buffer)
    }
}

#[test]
fn the_copy_of_a_table_is_used_where_the_first_cannot_be_read() {
    for (options, size) in [("-F 12 -s 8", 12), ("-F 16 -s 1", 12), ("-F 32 -s 1", 40)] {
        let Some(bytes) = made(options, size << 20) else {
            return;
        };
        let free = of(&bytes).info().free;
        let (start, length, _) = layout(&bytes);
        let bad = start as u64..(start + length) as u64;
        let volume = open_volume(Arc::new(Failing(bytes.clone(), bad.clone()))).unwrap();
        assert!(read(&*volume).unwrap() == noise(5, 10_000), "{options}");
        assert_eq!(volume.info().free, free, "{options}");
        assert_eq!(defects(&*volume), "", "{options}");
        if options.starts_with("-F 32") {
            // The other one is not kept up to date: it must not be used.
            let mut alone = bytes;
            alone[40] = 0x80;
            let volume = open_volume(Arc::new(Failing(alone, bad))).unwrap();
            assert!(defects(&*volume).contains("table cannot be read"));
            assert_eq!(read(&*volume).unwrap_err().kind(), Kind::Damaged);
        }
    }
}

#[test]
fn without_mirroring_the_active_table_is_read() {
    let Some(mut bytes) = made("-F 32 -s 1", 40 << 20) else {
        return;
    };
    let free = of(&bytes).info().free;
    let (start, length, _) = layout(&bytes);
    bytes[40] = 0x81;
    bytes[start + 8..start + length].fill(0);
    let volume = of(&bytes);
    assert!(read(&*volume).unwrap() == noise(5, 10_000));
    assert_eq!(volume.info().free, free);
}

#[test]
fn a_count_of_free_clusters_that_is_wrong_is_not_believed() {
    let Some(mut bytes) = made("-F 32 -s 1", 40 << 20) else {
        return;
    };
    let free = of(&bytes).info().free;
    let info = number(&bytes, 48, 2) * 512;
    assert_eq!(&bytes[info..info + 4], b"RRaA");
    assert_eq!(number(&bytes, info + 488, 4) as u64 * 512, free);
    bytes[info + 488..info + 496].fill(0x11);
    assert_eq!(of(&bytes).info().free, free);
}

#[test]
fn what_breaks_a_chain_is_told_with_file_and_cluster() {
    let Some(sound) = made("-F 32 -s 1", 40 << 20) else {
        return;
    };
    let (table, ..) = layout(&sound);
    let (first, entry) = first_cluster(&sound);
    let third = first + 2;
    let cases: [(u32, &str); 5] = [
        (first as u32, "a second time"),
        (third as u32, "a second time"),
        (0, "free"),
        (0x0FFF_FFF7, "bad"),
        (0x00FF_FFFF, "does not exist"),
    ];
    for (link, told) in cases {
        let mut bytes = sound.clone();
        bytes[table + third * 4..table + third * 4 + 4].copy_from_slice(&link.to_le_bytes());
        let volume = of(&bytes);
        let error = read(&*volume).unwrap_err();
        let text = format!("{error:?}");
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(text.contains(told) && text.contains("AFILE~1"), "{text}");
        assert!(
            text.contains(&format!(
                "cluster {}",
                third.min(first + usize::from(link != first as u32) * 2)
            )),
            "{text}"
        );
        // What lies before is read.
        let file = volume
            .open(lookup(&*volume, &["folder", "a file"]).id)
            .unwrap();
        let mut start = vec![0; 1536];
        file.read_exact_at(0, &mut start).unwrap();
        assert!(start == noise(5, 10_000)[..1536], "{told}");
        assert_eq!(
            file.read_exact_at(1536, &mut [0]).unwrap_err().kind(),
            Kind::Damaged
        );
    }
    let mut bytes = sound.clone();
    bytes[table + third * 4..table + third * 4 + 4].copy_from_slice(&[0xFF; 4]);
    let text = format!("{:?}", read(&*of(&bytes)).unwrap_err());
    assert!(text.contains("ends before number 3"), "{text}");
    let mut bytes = sound;
    bytes[entry + 26] = 0;
    bytes[entry + 27] = 0;
    let text = format!("{:?}", read(&*of(&bytes)).unwrap_err());
    assert!(
        text.contains("cluster 0 does not exist") && text.contains("AFILE~1"),
        "{text}"
    );
}

#[test]
fn folders_that_lie_in_each_other_do_no_harm() {
    let Some(mut bytes) = made("-F 32 -s 1", 40 << 20) else {
        return;
    };
    // The folder holds itself, by another name.
    let folder = lookup(&*of(&bytes), &["folder"]).id.number as usize * 32;
    let (_, entry) = first_cluster(&bytes);
    let cluster = bytes[folder + 26..folder + 28].to_vec();
    bytes[entry + 26..entry + 28].copy_from_slice(&cluster);
    bytes[entry + 11] = 0x10;
    let volume = of(&bytes);
    let again = lookup(&*volume, &["folder", "a file", "a file", "a file"]);
    assert_eq!(again.id, lookup(&*volume, &["folder", "a file"]).id);
    let (entries, _) = crate::malformed::exercise(&*volume);
    assert!(entries > 2);
}

/// A folder's entry.
fn slot(name: &[u8; 11], attributes: u8, case: u8) -> [u8; 32] {
    let mut slot = [0; 32];
    slot[..11].copy_from_slice(name);
    slot[11] = attributes;
    slot[12] = case;
    slot
}

/// A small volume of FAT12 with these entries in its root.
fn rooted(slots: &[[u8; 32]]) -> Vec<u8> {
    let mut bytes = vec![0; 360 << 10];
    bytes[..3].copy_from_slice(&[0xEB, 0x3C, 0x90]);
    bytes[11..24].copy_from_slice(&[0, 2, 2, 1, 0, 2, 112, 0, 0xD0, 2, 0xFD, 2, 0]);
    bytes[510..512].copy_from_slice(&[0x55, 0xAA]);
    for table in [512, 3 * 512] {
        bytes[table..table + 3].copy_from_slice(&[0xFD, 0xFF, 0xFF]);
    }
    for (index, slot) in slots.iter().enumerate() {
        let at = 5 * 512 + index * 32;
        bytes[at..at + 32].copy_from_slice(slot);
    }
    bytes
}

fn names(volume: &dyn Volume) -> Vec<String> {
    let mut names = Vec::new();
    volume
        .read_dir(volume.root(), 0, &mut |entry| {
            names.push(String::from_utf8(entry.name).unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
    names
}

#[test]
fn names_are_shown_by_the_code_page_that_is_asked_for() {
    let slots = [
        slot(b"\x8E\x99\x9A     TXT", 0x20, 0),
        slot(b"\x05A      TXT", 0x20, 0x18),
        slot(b"\xE5GONE   TXT", 0x20, 0),
        slot(b"MY LABEL   ", 0x08, 0),
        slot(b"A/B     C\0D", 0x20, 0),
        slot(b"\x93\xFA\x96{    TXT", 0x20, 0),
    ];
    let device: Arc<dyn ReadAt> = Arc::new(rooted(&slots));
    let open = |page: u16| FatVolume::open(device.clone(), CodePage::new(page).unwrap()).unwrap();
    let volume = open(437);
    assert_eq!(volume.info().file_system, "fat12");
    assert_eq!(volume.info().label, "MY LABEL");
    assert_eq!(volume.info().uuid, "");
    assert_eq!(volume.info().size, 360 << 10);
    assert_eq!(
        names(&volume),
        ["ÄÖÜ.TXT", "σa.txt", "A\u{F02F}B.C\u{F000}D", "ô·û{.TXT"]
    );
    let found = volume.lookup(volume.root(), "äöü.txt".as_bytes()).unwrap();
    assert_eq!(found.unwrap().name, "ÄÖÜ.TXT".as_bytes());
    let hidden = volume.lookup(volume.root(), "a\u{F02F}b.c\u{F000}d".as_bytes());
    assert!(hidden.unwrap().is_some());
    assert_eq!(names(&open(866))[1], "хa.txt");
    assert_eq!(names(&open(932))[3], "日本.TXT");
    assert_eq!(names(&open(1252))[0], "Ž™š.TXT");
    let disk = probe::volumes(&device, None).unwrap();
    let options = probe::ReadOptions {
        code_page: CodePage::new(852).unwrap(),
        ..Default::default()
    };
    let other = disk.volumes[0].open_with(&options).unwrap();
    assert_eq!(names(&*other)[0], "ÄÖÜ.TXT");
    assert_eq!(names(&*other)[1], "ňa.txt");
}

#[test]
fn a_root_folder_that_is_full_is_read_whole() {
    let slots: Vec<[u8; 32]> = (0..112)
        .map(|index| {
            let name = format!("FILE{index:04}TXT");
            slot(name.as_bytes().try_into().unwrap(), 0x20, 0)
        })
        .collect();
    let volume = of(&rooted(&slots));
    assert_eq!(names(&*volume).len(), 112);
    assert_eq!(timeless(on_volume(&*volume)).len(), 112);
}

/// A sparse disk: pieces in zeros.
struct Sparse(Vec<(u64, Vec<u8>)>, u64);

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.1
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        cairn_base::read_at::check_range(self.1, offset, buffer.len())?;
        buffer.fill(0);
        for (start, bytes) in &self.0 {
            let from = offset.max(*start);
            let to = (offset + buffer.len() as u64).min(start + bytes.len() as u64);
            if from < to {
                buffer[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }
}

#[test]
fn a_volume_of_two_tib_with_a_file_of_four_gib_is_read() {
    let mut boot = vec![0; 512];
    boot[..3].copy_from_slice(&[0xEB, 0x58, 0x90]);
    boot[11..17].copy_from_slice(&[0, 2, 64, 32, 0, 1]);
    boot[21] = 0xF8;
    boot[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    let sectors = (u32::MAX / 64 / 128) + 1;
    boot[36..40].copy_from_slice(&sectors.to_le_bytes());
    boot[44] = 2;
    boot[510..512].copy_from_slice(&[0x55, 0xAA]);
    let (table, heap) = (32 * 512u64, (32 + u64::from(sectors)) * 512);
    // The file has every second cluster at the volume's end, backwards in pieces of two.
    let count = 131_072u32;
    let clusters = (u32::MAX - 32 - sectors) / 64;
    let at = |index: u32| clusters - 9 - index * 3 / 2 * 2 + index % 2;
    let mut links = vec![0u8; 4 * clusters as usize + 8];
    let mut link = |from: u32, to: u32| {
        links[from as usize * 4..from as usize * 4 + 4].copy_from_slice(&to.to_le_bytes());
    };
    link(1, u32::MAX);
    link(2, u32::MAX);
    for index in 0..count {
        link(
            at(index),
            if index + 1 < count {
                at(index + 1)
            } else {
                u32::MAX
            },
        );
    }
    let mut entry = slot(b"LARGE   BIN", 0x20, 0);
    entry[20..22].copy_from_slice(&((at(0) >> 16) as u16).to_le_bytes());
    entry[26..28].copy_from_slice(&(at(0) as u16).to_le_bytes());
    entry[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
    let place = |index: u32| heap + u64::from(at(index) - 2) * 32768;
    let pieces = vec![
        (0, boot),
        (table, links),
        (heap, entry.to_vec()),
        (place(count - 1) + 32766, vec![7]),
        (place(70_000) + 5, vec![8, 9]),
    ];
    let disk: Arc<dyn ReadAt> = Arc::new(Sparse(pieces, u64::from(u32::MAX) * 512));
    let volume = open_volume(disk).unwrap();
    assert_eq!(volume.info().file_system, "fat32");
    assert_eq!(volume.info().free, u64::from(clusters - 1 - count) * 32768);
    let found = lookup(&*volume, &["large.bin"]);
    assert!(found.id.number < 1 << 40);
    let file = volume.open(found.id).unwrap();
    assert_eq!(file.size(), u64::from(u32::MAX));
    let read = |at: u64| {
        let mut bytes = [0; 2];
        file.read_exact_at(at, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(read(u64::from(u32::MAX) - 2), [0, 7]);
    assert_eq!(read(70_000 * 32768 + 5), [8, 9]);
    assert_eq!(read(70_000 * 32768 + 4), [0, 8]);
    assert_eq!(read(0), [0, 0]);
}

#[test]
fn others_that_look_like_fat_are_told_apart() {
    let Some(bytes) = made("-F 32 -s 1", 40 << 20) else {
        return;
    };
    let told = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        probe::detect(&bytes).unwrap().name()
    };
    assert_eq!(told(&|_| ()), "FAT");
    assert_eq!(
        told(&|b| b[3..11].copy_from_slice(b"-FVE-FS-")),
        "BitLocker"
    );
    let guid = b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01";
    let to_go = |b: &mut Vec<u8>| {
        b[3..11].copy_from_slice(b"MSWIN4.1");
        b[0x1A8..0x1B8].copy_from_slice(guid);
    };
    assert_eq!(told(&to_go), "BitLocker");
    assert_eq!(told(&|b| b[3..11].copy_from_slice(b"NTFS    ")), "NTFS");
    assert_eq!(
        told(&|b| b[0x1_0040..0x1_0048].copy_from_slice(b"_BHRfS_M")),
        "btrfs"
    );
    // No boot sector, and no backup of one.
    let gone = |b: &mut Vec<u8>| {
        b[..512].fill(0);
        b[6 * 512..7 * 512].fill(0);
    };
    assert_ne!(told(&gone), "FAT");
    // As other programs leave it in a table of partitions.
    assert_eq!(told(&|b| b[446..462].fill(0x80)), "FAT");
}
