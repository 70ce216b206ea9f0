//! Volumes of every shape: all sizes of clusters, sectors and file records, and what is cut into many pieces. Compared with ntfs-3g and with
//! The Sleuth Kit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_base::read_at::{check_range, read_vec};
use cairn_base::{Error, Kind, ReadAt, Result};
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::{EntryKind, Volume};
use ntfs_support::against::*;
use ntfs_support::made::*;
use ntfs_support::*;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Compares names, kinds, contents and named streams with what The Sleuth Kit finds; answers how many it told.
fn compare_with_sleuth(image: &Path) -> usize {
    if !have(&["fls", "icat"]) {
        return 0;
    }
    let Some(theirs) = sleuth::walk(image) else {
        return 0;
    };
    let volume = NtfsVolume::open(FileDisk::open(image)).unwrap();
    let ours = walk(&volume, &mut |what, error| panic!("{what}: {error}"));
    let our_names: BTreeSet<_> = ours.keys().collect();
    let their_names: BTreeSet<_> = theirs.keys().collect();
    let differ: Vec<_> = our_names
        .symmetric_difference(&their_names)
        .map(|name| String::from_utf8_lossy(name))
        .take(10)
        .collect();
    assert!(differ.is_empty(), "{}: {differ:?}", image.display());
    // Of very many small files not each is worth a process.
    let step = ours.len() / 500 + 1;
    for (number, (path, item)) in ours.iter().enumerate() {
        let told = &theirs[path];
        let name = String::from_utf8_lossy(path);
        assert_eq!(item.kind == EntryKind::Folder, told.is_folder, "{name}");
        let looked_at = item.size > 10_000 || number.is_multiple_of(step);
        if item.kind == EntryKind::File && looked_at {
            let theirs = sleuth::content(image, told);
            assert!(content(&volume, item).unwrap() == theirs, "{name}");
        }
    }
    ours.len()
}

/// FILE_ATTRIBUTE_COMPRESSED on the folder: new files inherit it.
fn compress(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let path = folder.to_str().unwrap();
    run(
        "setfattr",
        &[
            "-h",
            "-n",
            "system.ntfs_attrib_be",
            "-v",
            "0x00000800",
            path,
        ],
    );
}

fn text(length: usize) -> Vec<u8> {
    let lines = (0..).flat_map(|number: u32| format!("line {} of it\n", number % 977).into_bytes());
    lines.take(length).collect()
}

/// A little of everything, in clusters of `cluster` bytes.
fn fill(root: &Path, cluster: usize) {
    for size in [
        0,
        1,
        600,
        cluster - 1,
        cluster,
        cluster + 1,
        3 * cluster + 5,
    ] {
        fs::write(root.join(format!("of {size}")), noise(size as u64, size)).unwrap();
    }
    fs::create_dir(root.join("names")).unwrap();
    for number in 0..130 {
        let name = format!("names/one of the many names in this folder {number}");
        fs::write(root.join(name), format!("{number}")).unwrap();
    }
    for number in (0..130).step_by(7) {
        let name = format!("names/one of the many names in this folder {number}");
        fs::remove_file(root.join(name)).unwrap();
    }
    fs::hard_link(root.join("of 600"), root.join("names/a second name")).unwrap();
    fs::write(
        root.join("of 600:stream"),
        noise(8, 3 * cluster.min(65_536) + 1),
    )
    .unwrap();
    fs::write(root.join("of 600:short"), b"short").unwrap();
    fs::write(root.join("names:of a folder"), b"folders have them too").unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    let far = 20 * cluster as u64;
    sparse.write_all_at(b"here", far).unwrap();
    sparse.write_all_at(&noise(2, 5000), 2 * far + 17).unwrap();
    sparse.set_len(3 * far + 1).unwrap();
    // Interleaved writes make fragments.
    let one = File::create(root.join("fragments one")).unwrap();
    let two = File::create(root.join("fragments two")).unwrap();
    let piece = cluster.min(4096);
    for number in 0..30u64 {
        let at = number * cluster as u64;
        one.write_all_at(&noise(number, piece), at).unwrap();
        one.sync_all().unwrap();
        two.write_all_at(&noise(number + 1000, piece), 2 * at)
            .unwrap();
        two.sync_all().unwrap();
    }
    if cluster <= 4096 {
        fill_compressed(&root.join("packed"), 16 * cluster);
    }
}

/// Files of units of `unit` bytes: short ones, odd last units, holes, what cannot be compressed.
fn fill_compressed(folder: &Path, unit: usize) {
    compress(folder);
    for size in [10, 900, unit - 1, unit, unit + 1, 2 * unit + 777, 5 * unit] {
        fs::write(folder.join(format!("text of {size}")), text(size)).unwrap();
        fs::write(folder.join(format!("noise of {size}")), noise(3, size)).unwrap();
    }
    let mixed = [
        text(unit + 100),
        noise(4, 3 * unit),
        vec![0; 3 * unit],
        text(unit / 2),
        noise(5, 50),
    ];
    fs::write(folder.join("mixed"), mixed.concat()).unwrap();
    fs::write(folder.join("zeros"), vec![0; 4 * unit + 9]).unwrap();
    let holes = File::create(folder.join("holes")).unwrap();
    holes.write_all_at(&text(unit + 5), 0).unwrap();
    holes
        .write_all_at(&text(unit + 5), 5 * unit as u64 + 100)
        .unwrap();
    holes
        .write_all_at(&noise(6, unit), 9 * unit as u64)
        .unwrap();
    holes.set_len(12 * unit as u64 + 3).unwrap();
}

fn check_shape(size: u64, options: &[&str], cluster: usize) {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), size, options);
    {
        let options = "streams_interface=windows,compression";
        let Some(mount) = Mount::new(&image, folder.path(), options) else {
            return;
        };
        fill(&mount.0, cluster);
    }
    let count = compare_image(&image, folder.path()).unwrap();
    assert!(count > 120, "{count}");
    let told = compare_with_sleuth(&image);
    println!("{options:?}: {count} entries, {told} of them told by The Sleuth Kit");
}

#[test]
fn small_clusters_are_read() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    for cluster in [512usize, 1024, 2048, 4096] {
        check_shape(48 << 20, &["-c", &cluster.to_string()], cluster);
    }
}

#[test]
fn large_clusters_are_read() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    for cluster in (13..=21).map(|bits| 1usize << bits) {
        let size = (cluster as u64 * 1600).max(64 << 20);
        check_shape(size, &["-c", &cluster.to_string()], cluster);
    }
}

#[test]
fn large_sectors_and_records_are_read() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    for (sector, cluster) in [
        ("1024", 1024usize),
        ("2048", 2048),
        ("2048", 8192),
        ("4096", 4096),
        ("4096", 65_536),
        ("4096", 1 << 20),
    ] {
        let size = (cluster as u64 * 1600).max(64 << 20);
        check_shape(size, &["-s", sector, "-c", &cluster.to_string()], cluster);
    }
}

/// The numbers of attributes of each type in the record of `name`, as its attribute list tells them.
fn listed(bytes: &[u8], cluster: usize, record_size: usize, name: &str) -> Vec<u32> {
    let volume = open_bytes(bytes);
    let id = name.split('/').fold(volume.root(), |folder, name| {
        let found = volume.lookup(folder, name.as_bytes()).unwrap();
        found.unwrap().id
    });
    let table = volume.lookup(volume.root(), b"$MFT").unwrap().unwrap().id;
    let table = volume.open(table).unwrap();
    let at = id.number * record_size as u64;
    let mut record = read_vec(&table, at, record_size).unwrap();
    // The update sequence.
    let kept = usize::from(record[4]);
    for sector in 0..record_size / 512 {
        let two = [record[kept + 2 + 2 * sector], record[kept + 3 + 2 * sector]];
        record[512 * sector + 510..512 * sector + 512].copy_from_slice(&two);
    }
    let mut place = usize::from(record[20]);
    let long = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap()) as usize;
    while long(place) != 0x20 {
        assert!(
            long(place) < 0x20,
            "{name} has no attribute list: the test is void"
        );
        place += long(place + 4);
    }
    let list = if record[place + 8] == 0 {
        let value = place + usize::from(record[place + 20]);
        record[value..value + long(place + 16)].to_vec()
    } else {
        let runs = usize::from(record[place + 32]);
        let mut decoded = cairn_guest::ntfs::decoders::RunList::new();
        let view = cairn_base::View::new(&record[place + runs..], "runs", 0);
        decoded.decode(view).unwrap();
        let mut list = Vec::new();
        let mut vcn = 0;
        while let Some(run) = decoded.at(cairn_guest::ntfs::decoders::Vcn(vcn)) {
            let start = run.lcn.unwrap().0 as usize * cluster;
            list.extend(&bytes[start..start + run.clusters as usize * cluster]);
            vcn += run.clusters;
        }
        list.truncate(long(place + 48));
        list
    };
    let view = cairn_base::View::new(&list, "attribute list", 0);
    let entries = cairn_guest::ntfs::decoders::parse_attribute_list(view).unwrap();
    entries.iter().map(|entry| entry.kind).collect()
}

#[test]
fn content_and_folders_in_many_records_are_put_together() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 32 << 20, &["-c", "512", "-z", "2"]);
    {
        let options = "streams_interface=windows,compression";
        let Some(mount) = Mount::new(&image, folder.path(), options) else {
            return;
        };
        let root = &mount.0;
        compress(&root.join("packed"));
        fs::create_dir(root.join("many")).unwrap();
        // Fill the volume and leave holes of seven clusters: whatever comes then is in pieces.
        let mut made = 0;
        while fs::write(root.join(format!("filler {made}")), [1; 3500]).is_ok() {
            made += 1;
        }
        for number in (0..=made).step_by(2) {
            fs::remove_file(root.join(format!("filler {number}"))).unwrap();
        }
        assert!(made > 5000, "{made}");
        fs::write(root.join("plain"), noise(1, 4 << 20)).unwrap();
        fs::write(root.join("packed/file"), text(2 << 20)).unwrap();
        for number in 0..2000 {
            let name = format!(
                "many/{number} {}",
                "with a name that takes room. ".repeat(4)
            );
            File::create(root.join(name)).unwrap();
        }
    }
    let bytes = fs::read(&image).unwrap();
    let count = |name: &str, kind: u32| {
        let kinds = listed(&bytes, 512, 1024, name);
        kinds.iter().filter(|listed| **listed == kind).count()
    };
    let parts = [("plain", 0x80), ("packed/file", 0x80), ("many", 0xA0)];
    let parts = parts.map(|(name, kind)| count(name, kind));
    assert!(parts.iter().all(|&parts| parts > 1), "{parts:?}");
    assert!(compare_image(&image, folder.path()).unwrap() > 4500);
    assert!(compare_with_sleuth(&image) > 4500 || !have(&["fls", "icat"]));
}

#[test]
fn a_folder_of_20_000_names_agrees_with_the_sleuth_kit() {
    if !have(&TOOLS) || !have(&["fls"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 96 << 20, &["-c", "1024"]);
    {
        let Some(mount) = Mount::new(&image, folder.path(), "streams_interface=none") else {
            return;
        };
        fs::create_dir(mount.0.join("many")).unwrap();
        for number in 0..20_000u32 {
            let name = format!("many/{:05} of them", (number * 7919) % 20_000);
            File::create(mount.0.join(name)).unwrap();
        }
    }
    let Some(theirs) = sleuth::walk(&image) else {
        return;
    };
    let volume = NtfsVolume::open(FileDisk::open(&image)).unwrap();
    let ours = walk(&volume, &mut |what, error| panic!("{what}: {error}"));
    assert_eq!(ours.len(), 20_001);
    assert!(ours.keys().eq(theirs.keys()));
}

/// What the valid data length leaves out is zeros, in plain, sparse and compressed streams.
#[test]
fn behind_the_valid_data_are_zeros() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 32 << 20, &[]);
    {
        let Some(mount) = Mount::new(&image, folder.path(), "compression") else {
            return;
        };
        compress(&mount.0.join("packed"));
        fs::write(mount.0.join("plain"), noise(1, 300_000)).unwrap();
        fs::write(mount.0.join("packed/text"), text(300_000)).unwrap();
        let sparse = File::create(mount.0.join("sparse")).unwrap();
        sparse.write_all_at(&noise(2, 100_000), 200_000).unwrap();
    }
    let mut bytes = fs::read(&image).unwrap();
    let mft = u64::from_le_bytes(bytes[0x30..0x38].try_into().unwrap()) as usize * 4096;
    let volume = open_bytes(&bytes);
    let packed = volume.lookup(volume.root(), b"packed").unwrap().unwrap().id;
    let numbers = [
        volume
            .lookup(volume.root(), b"plain")
            .unwrap()
            .unwrap()
            .id
            .number,
        volume
            .lookup(volume.root(), b"sparse")
            .unwrap()
            .unwrap()
            .id
            .number,
        volume.lookup(packed, b"text").unwrap().unwrap().id.number,
    ];
    for valid in [0u64, 1, 65_536, 131_071, 250_000, 299_999] {
        for number in numbers {
            let record = mft + number as usize * 1024;
            let mut at = record + usize::from(bytes[record + 20]);
            while bytes[at] != 0x80 {
                at += usize::from(bytes[at + 4]);
            }
            bytes[at + 56..at + 64].copy_from_slice(&valid.to_le_bytes());
        }
        let changed = folder.path().join("changed.ntfs");
        fs::write(&changed, &bytes).unwrap();
        assert_eq!(
            compare_image(&changed, folder.path()).unwrap(),
            4,
            "{valid}"
        );
    }
}

/// A disk on which some bytes cannot be read.
struct Scratched {
    bytes: Vec<u8>,
    from: u64,
    to: u64,
}

impl ReadAt for Scratched {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        if offset < self.to && offset + buffer.len() as u64 > self.from {
            return Err(Error::new(Kind::Io, "a bad sector").at_offset(offset));
        }
        self.bytes.read_exact_at(offset, buffer)
    }
}

#[test]
fn a_lost_start_of_the_file_table_is_taken_from_its_mirror() {
    if !have(&TOOLS) {
        return;
    }
    let files = |root: &Path| {
        for number in 0..50u64 {
            fs::write(root.join(format!("{number}")), noise(number, 3000)).unwrap();
        }
    };
    let Some((bytes, mft)) = patchable(files) else {
        return;
    };
    let mut zeroed = bytes.clone();
    zeroed[mft..mft + 4096].fill(0);
    let mut foreign = bytes.clone();
    foreign[mft..mft + 4096].copy_from_slice(&noise(1, 4096));
    let scratched = Scratched {
        bytes,
        from: mft as u64,
        to: mft as u64 + 4096,
    };
    let disks: [Arc<dyn ReadAt>; 3] = [Arc::new(zeroed), Arc::new(foreign), Arc::new(scratched)];
    for disk in disks {
        let volume = NtfsVolume::open(disk).unwrap();
        let items = walk(&volume, &mut |what, error| panic!("{what}: {error}"));
        assert_eq!(items.len(), 50);
        for number in 0..50u64 {
            let item = &items[format!("/{number}").as_bytes()];
            assert!(content(&volume, item).unwrap() == noise(number, 3000));
        }
        let notes = &volume.info().notes;
        assert!(
            notes.iter().any(|note| note.text.contains("mirror")),
            "{notes:?}"
        );
    }
}

#[test]
fn short_names_and_names_that_are_no_utf16_are_found() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    let Some((mut bytes, _)) = patchable(|root| {
        fs::write(root.join("half \u{F123} of a pair"), b"half").unwrap();
        let long = root.join("a rather long name.text");
        fs::write(&long, b"short").unwrap();
        let path = long.to_str().unwrap();
        run(
            "setfattr",
            &["-n", "system.ntfs_dos_name", "-v", "ARATHE~1.TEX", path],
        );
    }) else {
        return;
    };
    // In its record, and in the folder.
    let units: Vec<u8> = "half \u{F123}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let places: Vec<usize> = (0..bytes.len() - units.len())
        .filter(|&at| bytes[at..].starts_with(&units))
        .collect();
    assert_eq!(places.len(), 2);
    for place in places {
        bytes[place + 10..place + 12].copy_from_slice(&0xD834u16.to_le_bytes());
    }
    let volume = open_bytes(&bytes);
    let items = walk(&volume, &mut |what, error| panic!("{what}: {error}"));
    let name = b"half \xED\xA0\xB4 of a pair";
    let names: Vec<&[u8]> = items.keys().map(|path| &path[1..]).collect();
    assert_eq!(names, [&b"a rather long name.text"[..], name]);
    for (name, expected) in [
        (&name[..], &b"half"[..]),
        (b"HALF \xED\xA0\xB4 OF A PAIR", b"half"),
        (b"a rather long name.text", b"short"),
        (b"ARATHE~1.TEX", b"short"),
        (b"arathe~1.tex", b"short"),
    ] {
        let found = volume.lookup(volume.root(), name).unwrap().unwrap();
        let file = volume.open(found.id).unwrap();
        assert_eq!(read_vec(&file, 0, file.size() as usize).unwrap(), expected);
        assert_eq!(volume.attributes(found.id).unwrap().links, 1);
    }
}
