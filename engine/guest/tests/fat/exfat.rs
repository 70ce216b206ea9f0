//! exFAT volumes made with mkfs.exfat and filled through exfat-fuse, compared with what it and The Sleuth Kit read from them.

use crate::support::{FileDisk, have, shell};
use crate::trees::{
    Tree, blank, by_sleuth_kit, compare, files, noise, on_host, on_volume, timeless,
};
use cairn_base::{Kind, ReadAt};
use cairn_guest::exfat::ExFatVolume;
use cairn_guest::{EntryId, Volume, open_volume};
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TOOLS: [&str; 5] = [
    "mkfs.exfat",
    "mount.exfat-fuse",
    "losetup",
    "umount",
    "tsk_recover",
];

/// A mount by exfat-fuse, unmounted when dropped.
pub struct Mount(pub PathBuf, String);

impl Mount {
    /// Nothing if loop devices or FUSE do not work here: exfat-fuse wants a block device.
    pub fn new(image: &Path, scratch: &Path) -> Option<Mount> {
        let point = scratch.join("mnt");
        fs::create_dir_all(&point).unwrap();
        let device = match shell(&format!("losetup -f --show '{}'", image.display())) {
            Ok(device) => device.trim().to_string(),
            Err(why) => {
                println!("SKIPPED: no loop device: {why}");
                return None;
            }
        };
        let mount = format!("TZ=UTC mount.exfat-fuse {device} '{}'", point.display());
        match shell(&mount) {
            Ok(_) => Some(Mount(point, device)),
            Err(why) => {
                println!("SKIPPED: exfat-fuse cannot mount: {why}");
                let _ = shell(&format!("losetup -d {device}"));
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A program that another test is starting may have what is open here, for a moment.
        for _ in 0..100 {
            let umount = std::process::Command::new("umount").arg(&self.0).output();
            if umount.is_ok_and(|output| output.status.success()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // The device goes, and what was written to it is in the image, once exfat-fuse has ended: a little later than its mount.
        let ended = format!(
            "losetup -d {0}; for wait in $(seq 200); do losetup {0} >/dev/null 2>&1 || break; sleep 0.05; done",
            self.1
        );
        let _ = shell(&ended);
    }
}

pub fn make(scratch: &Path, size: u64, options: &str) -> PathBuf {
    let image = blank(scratch, size);
    shell(&format!("mkfs.exfat {options} '{}'", image.display())).unwrap();
    image
}

fn open(image: &Path) -> ExFatVolume {
    ExFatVolume::open(FileDisk::open(image)).unwrap()
}

/// Files of many names, lengths and depths; some in pieces.
fn fill(root: &Path, cluster: usize) {
    let sub = root.join("A folder with a name that takes more than one entry/deeper");
    fs::create_dir_all(&sub).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for index in 0..12u64 {
        fs::write(root.join(format!("hole {index}")), noise(index, cluster)).unwrap();
    }
    let names = [
        "a",
        "exactly fifteen",
        "sixteen letters.",
        "Ärger mit Umlauten.txt",
        "日本語のファイル名.txt",
        "😀 beyond the first plane",
        &"y".repeat(255),
    ];
    for (index, name) in names.iter().enumerate() {
        let name = name.trim_end_matches('.');
        let length = [0, 1, cluster - 1, cluster, cluster * 3 + 7][index % 5];
        fs::write(root.join(name), noise(index as u64, length)).unwrap();
        fs::write(sub.join(name), noise(index as u64 + 100, index)).unwrap();
    }
    for index in 0..300 {
        fs::write(
            sub.join(format!("one of three hundred, number {index}")),
            [index as u8],
        )
        .unwrap();
    }
    for index in [1, 3, 5, 8, 9] {
        fs::remove_file(root.join(format!("hole {index}"))).unwrap();
    }
    fs::write(root.join("pieces"), noise(77, cluster * 9 + 5)).unwrap();
    // Two that grow in turns.
    let growing: Vec<File> = ["first", "second"]
        .map(|name| File::create(root.join(name)).unwrap())
        .into();
    for step in 0..20u64 {
        for (index, file) in growing.iter().enumerate() {
            let bytes = noise(step * 2 + index as u64, cluster);
            file.write_all_at(&bytes, step * cluster as u64).unwrap();
        }
    }
    let long = File::create(root.join("longer than what was written")).unwrap();
    long.set_len(cluster as u64 * 5 + 3).unwrap();
    long.write_all_at(b"here", 9).unwrap();
}

fn check(options: &str, size: u64) -> Option<()> {
    let scratch = tempfile::tempdir().unwrap();
    let image = make(scratch.path(), size, &format!("-L 'Größe' {options}"));
    let cluster = open(&image).info().block_size as usize;
    let theirs: Tree = {
        let mount = Mount::new(&image, scratch.path())?;
        fill(&mount.0, cluster);
        on_host(&mount.0)
    };
    let again: Tree = on_host(&Mount::new(&image, scratch.path())?.0);
    compare(
        &timeless(theirs),
        &timeless(again.clone()),
        "exfat-fuse before and after",
    );
    let volume = open(&image);
    let ours = on_volume(&volume);
    compare(&ours, &again, &format!("exfat-fuse, {options}"));
    let info = volume.info();
    assert_eq!(
        (&*info.label, info.clean),
        ("Größe", true),
        "{:?}",
        info.notes
    );
    assert_eq!(info.defects().count(), 0, "{:?}", info.notes);
    let found = volume.lookup(volume.root(), "äRGER MIT uMLAUTEN.txt".as_bytes());
    assert_eq!(
        found.unwrap().unwrap().name,
        "Ärger mit Umlauten.txt".as_bytes()
    );
    let kit = by_sleuth_kit(&image, scratch.path(), "exfat");
    compare(
        &files(timeless(ours)),
        &files(timeless(kit)),
        &format!("The Sleuth Kit, {options}"),
    );
    check_free(&volume, &image);
    Some(())
}

/// exfatprogs counts clusters in use, too.
fn check_free(volume: &ExFatVolume, image: &Path) {
    let info = volume.info();
    let told = shell(&format!("dump.exfat '{}'", image.display())).unwrap();
    let line = told.lines().find(|line| line.starts_with("Free Clusters"));
    let clusters: u64 = line
        .unwrap()
        .split_whitespace()
        .last()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(info.free, clusters * u64::from(info.block_size), "{told}");
    let mut sum = 0;
    volume
        .free_space(&mut |range| {
            sum += range.end - range.start;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(sum, info.free);
}

#[test]
fn volumes_of_every_cluster_size_are_read_as_exfat_fuse_does() {
    if !have(&TOOLS) {
        return;
    }
    for (cluster, size) in [
        ("512", 24 << 20),
        ("4K", 40 << 20),
        ("32K", 64 << 20),
        ("128K", 128 << 20),
    ] {
        if check(&format!("-c {cluster}"), size).is_none() {
            return;
        }
    }
}

#[test]
fn a_folder_of_many_files_is_read_as_exfat_fuse_does() {
    if !have(&TOOLS) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let image = make(scratch.path(), 64 << 20, "-c 512");
    let Some(mount) = Mount::new(&image, scratch.path()) else {
        return;
    };
    let folder = mount.0.join("many");
    fs::create_dir(&folder).unwrap();
    for index in 0..4000 {
        fs::write(
            folder.join(format!("File number {index}")),
            index.to_string(),
        )
        .unwrap();
    }
    let theirs = on_host(&mount.0);
    drop(mount);
    let volume = open(&image);
    compare(
        &timeless(on_volume(&volume)),
        &timeless(theirs),
        "4000 files",
    );
    let many = volume.lookup(volume.root(), b"MANY").unwrap().unwrap();
    let file = volume
        .lookup(many.id, b"file NUMBER 3999")
        .unwrap()
        .unwrap();
    // A volume that is opened anew knows no folder.
    let anew = open(&image);
    assert_eq!(anew.parent(file.id).unwrap(), Some(many.id));
    assert_eq!(anew.parent(many.id).unwrap(), Some(anew.root()));
}

/// The bytes of a volume with one file in a folder.
pub fn small() -> Option<Vec<u8>> {
    let scratch = tempfile::tempdir().unwrap();
    let image = make(scratch.path(), 2 << 20, "-b 64K -c 4K");
    let mount = Mount::new(&image, scratch.path())?;
    fs::create_dir(mount.0.join("folder")).unwrap();
    fs::write(mount.0.join("folder/File"), noise(5, 10_000)).unwrap();
    drop(mount);
    Some(fs::read(&image).unwrap())
}

fn of(bytes: &[u8]) -> Arc<dyn Volume> {
    open_volume(Arc::new(bytes.to_vec()) as Arc<dyn ReadAt>).unwrap()
}

/// Where the bytes of the only entry of that type and name lie.
fn find(bytes: &[u8], kind: u8, name: &str) -> usize {
    let wanted: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let at = bytes
        .windows(wanted.len())
        .position(|part| part == wanted)
        .unwrap();
    let mut at = at / 32 * 32;
    while bytes[at] != kind {
        at -= 32;
    }
    at
}

fn defects(volume: &dyn Volume) -> String {
    volume.info().defects().collect::<Vec<_>>().join(" ")
}

#[test]
fn damage_is_told_and_read_around() {
    if !have(&TOOLS) {
        return;
    }
    let Some(sound) = small() else { return };
    // The main boot region: its backup is used, whether the sector is gone or only its sum is wrong.
    for (at, told) in [(4, "backup is used"), (0x300, "backup is used"), (112, "")] {
        let mut bytes = sound.clone();
        bytes[at] ^= 0xFF;
        let volume = of(&bytes);
        assert_eq!(defects(&*volume).is_empty(), told.is_empty(), "{at}");
        assert!(
            defects(&*volume).contains(told),
            "{at}: {}",
            defects(&*volume)
        );
        assert_eq!(timeless(on_volume(&*volume)).len(), 2);
    }
    let mut both = sound.clone();
    both[0x300] ^= 1;
    both[0x300 + 12 * 512] ^= 1;
    assert!(defects(&*of(&both)).contains("so is its backup"));
    // What the guest says of the volume.
    let mut state = sound.clone();
    state[106] |= 6;
    let told = defects(&*of(&state));
    assert!(
        told.contains("in use") && told.contains("could not read"),
        "{told}"
    );
    assert!(!of(&state).info().clean);
    // The up-case table.
    let mut upcase = sound.clone();
    let entry = upcase
        .chunks(32)
        .position(|entry| entry[0] == 0x82 && entry[20] != 0)
        .unwrap();
    upcase[entry * 32 + 4] ^= 1;
    let volume = of(&upcase);
    assert!(
        defects(&*volume).contains("capital letters"),
        "{}",
        defects(&*volume)
    );
    assert!(volume.lookup(volume.root(), b"FOLDER").unwrap().is_some());
}

#[test]
fn a_file_whose_entries_have_a_wrong_checksum_harms_no_other() {
    if !have(&TOOLS) {
        return;
    }
    let Some(mut bytes) = small() else { return };
    let sound = bytes.clone();
    let at = find(&bytes, 0x85, "File");
    bytes[at + 2] ^= 1;
    let volume = of(&bytes);
    let folder = volume.lookup(volume.root(), b"folder").unwrap().unwrap();
    let mut names = Vec::new();
    volume
        .read_dir(folder.id, 0, &mut |entry| {
            names.push(entry);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(names.len(), 1);
    assert_eq!(volume.lookup(folder.id, b"absent").unwrap(), None);
    let file = volume.lookup(folder.id, b"file").unwrap().unwrap();
    assert_eq!(file.id, names[0].id);
    assert_eq!(volume.attributes(file.id).unwrap().size, 10_000);
    // What may be another file's content is not given out as this one's.
    let error = volume.open(file.id).err().unwrap();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("`File`"), "{error}");
    assert!(
        volume
            .extents(file.id, &mut |_| ControlFlow::Continue(()))
            .is_err()
    );
    // In a folder of which that is so there may be other names than are found; those that are have checksums of their own.
    let mut bytes = sound;
    let at = find(&bytes, 0x85, "folder");
    bytes[at + 2] ^= 1;
    let volume = of(&bytes);
    assert_eq!(volume.lookup(volume.root(), b"absent").unwrap(), None);
    let folder = volume.lookup(volume.root(), b"folder").unwrap().unwrap();
    let error = volume.lookup(folder.id, b"absent").unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("`folder`"), "{error}");
    let file = volume.lookup(folder.id, b"file").unwrap().unwrap();
    assert!(read(&*volume, file.id) == noise(5, 10_000));
}

fn read(volume: &dyn Volume, file: EntryId) -> Vec<u8> {
    let content = volume.open(file).unwrap();
    let mut bytes = vec![0; content.size() as usize];
    content.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

/// The hash of a name is not needed: not where it is wrong, and not where it cannot be told whether it is.
#[test]
fn a_wrong_hash_of_a_name_hides_nothing() {
    if !have(&TOOLS) {
        return;
    }
    let Some(mut bytes) = small() else { return };
    let at = find(&bytes, 0x85, "File");
    bytes[at + 32 + 4] ^= 1;
    resum_set(&mut bytes, at);
    let volume = of(&bytes);
    assert_eq!(defects(&*volume), "");
    let folder = volume.lookup(volume.root(), b"folder").unwrap().unwrap();
    assert_eq!(on_volume(&*volume).len(), 2);
    assert_eq!(volume.lookup(folder.id, b"absent").unwrap(), None);
    let file = volume.lookup(folder.id, b"FILE").unwrap().unwrap();
    assert!(read(&*volume, file.id) == noise(5, 10_000));
}

#[test]
fn behind_the_valid_length_a_file_is_zeros() {
    if !have(&TOOLS) {
        return;
    }
    let Some(mut bytes) = small() else { return };
    let at = find(&bytes, 0x85, "File");
    bytes[at + 32 + 8..at + 32 + 16].copy_from_slice(&5000u64.to_le_bytes());
    resum_set(&mut bytes, at);
    let volume = of(&bytes);
    let folder = volume.lookup(volume.root(), b"folder").unwrap().unwrap();
    let file = volume.lookup(folder.id, b"file").unwrap().unwrap();
    let content = volume.open(file.id).unwrap();
    let mut read = vec![1; 10_000];
    content.read_exact_at(0, &mut read).unwrap();
    let mut expected = noise(5, 10_000);
    expected[5000..].fill(0);
    assert!(read == expected);
    let only = 0..5000;
    assert_eq!(
        content.data_extents(0..10_000).unwrap(),
        std::slice::from_ref(&only)
    );
    let mut valid = 0;
    volume
        .extents(file.id, &mut |extent| {
            valid = extent.reading.valid;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(valid, 5000);
}

#[test]
fn of_two_tables_the_one_that_is_active_counts() {
    if !have(&TOOLS) {
        return;
    }
    let Some(mut bytes) = small() else { return };
    let number =
        |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (table, length, heap) = (number(&bytes, 80), number(&bytes, 84), number(&bytes, 88));
    // There must be room for a second one behind the first.
    let room = (heap - table) / 2;
    assert!(room >= 1 && length >= 1);
    bytes[84..88].copy_from_slice(&room.to_le_bytes());
    bytes[110] = 2;
    bytes[106] |= 1;
    let (from, to) = (table as usize * 512, (table + room) as usize * 512);
    let first = bytes[from..from + room as usize * 512].to_vec();
    bytes[to..to + first.len()].copy_from_slice(&first);
    bytes[from + 16..to].fill(0);
    // The map of clusters that goes with it.
    let map = bytes
        .chunks(32)
        .position(|entry| entry[0] == 0x81 && entry[20] != 0)
        .unwrap();
    bytes[map * 32 + 1] = 1;
    resum(&mut bytes);
    let volume = of(&bytes);
    assert_eq!(defects(&*volume), "");
    assert_eq!(on_volume(&*volume).len(), 2);
    assert!(volume.info().free > 0);
}

/// Makes the checksum of the file's entries at `at` right.
fn resum_set(bytes: &mut [u8], at: usize) {
    let count = 1 + usize::from(bytes[at + 1]);
    let mut sum = 0u16;
    for (place, byte) in bytes[at..at + count * 32].iter().enumerate() {
        if ![2, 3].contains(&place) {
            sum = sum.rotate_right(1).wrapping_add(u16::from(*byte));
        }
    }
    bytes[at + 2..at + 4].copy_from_slice(&sum.to_le_bytes());
}

/// Makes the checksum of the main boot region right.
fn resum(bytes: &mut [u8]) {
    let mut sum = 0u32;
    for (at, byte) in bytes[..11 * 512].iter().enumerate() {
        if ![106, 107, 112].contains(&at) {
            sum = sum.rotate_right(1).wrapping_add(u32::from(*byte));
        }
    }
    for place in bytes[11 * 512..12 * 512].chunks_mut(4) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}
