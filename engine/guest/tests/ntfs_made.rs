//! NTFS volumes made here with mkntfs and filled through ntfs-3g, then compared with what ntfs-3g shows.

mod ntfs_support;

use cairn_base::ReadAt;
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::{EntryKind, Volume};
use ntfs_support::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A mount by ntfs-3g, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    /// Nothing if FUSE does not work here.
    fn new(image: &Path, folder: &Path, options: &str) -> Option<Mount> {
        let point = folder.join("mnt");
        fs::create_dir_all(&point).unwrap();
        let output = std::process::Command::new("ntfs-3g")
            .args([
                image.to_str().unwrap(),
                point.to_str().unwrap(),
                "-o",
                options,
            ])
            .output()
            .unwrap();
        if output.status.success() {
            return Some(Mount(point));
        }
        println!(
            "SKIPPED: ntfs-3g cannot mount: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

fn make(folder: &Path, size: u64, options: &[&str]) -> PathBuf {
    let image = folder.join("volume.ntfs");
    File::create(&image).unwrap().set_len(size).unwrap();
    let mut arguments = vec!["-F", "-Q", "-q", "-p", "0", "-H", "0", "-S", "0"];
    arguments.extend(options);
    arguments.push(image.to_str().unwrap());
    run("mkntfs", &arguments);
    image
}

/// Bytes that no compressor makes much of, different for each `seed`.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

/// Every path under `root` as ntfs-3g shows it.
fn host_walk(root: &Path) -> BTreeMap<Vec<u8>, PathBuf> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                todo.push(path.clone());
            }
            let mut key = vec![b'/'];
            key.extend_from_slice(path.strip_prefix(root).unwrap().as_os_str().as_bytes());
            found.insert(key, path);
        }
    }
    found
}

/// Compares kinds, sizes, times, link counts, targets and contents.
fn compare(volume: &NtfsVolume, mount: &Mount) -> usize {
    let mut ours = walk(volume, &mut |what, error| panic!("{what}: {error}"));
    ours.retain(|_, item| item.stream.is_none());
    let theirs = host_walk(&mount.0);
    let our_names: BTreeSet<_> = ours.keys().collect();
    let their_names: BTreeSet<_> = theirs.keys().collect();
    let differ: Vec<_> = our_names
        .symmetric_difference(&their_names)
        .take(10)
        .collect();
    assert!(differ.is_empty(), "{differ:?}");
    for (path, item) in &ours {
        let host = &theirs[path];
        let (parent, last) = path.split_at(path.iter().rposition(|&byte| byte == b'/').unwrap());
        let parent = ours.get(parent).map_or(volume.root(), |parent| parent.id);
        let found = volume.lookup(parent, &last[1..]).unwrap().unwrap();
        assert_eq!(
            (found.id, found.kind, found.name.as_slice()),
            (item.id, item.kind, &last[1..])
        );
        let name = host.display();
        let metadata = fs::symlink_metadata(host).unwrap();
        let attributes = item.attributes.as_ref().unwrap();
        assert_eq!(attributes.modified.seconds, metadata.mtime(), "{name}");
        assert_eq!(
            i64::from(attributes.modified.nanos),
            metadata.mtime_nsec(),
            "{name}"
        );
        assert_eq!(attributes.accessed.seconds, metadata.atime(), "{name}");
        assert_eq!(attributes.changed.seconds, metadata.ctime(), "{name}");
        assert_eq!(item.id.number, metadata.ino(), "{name}");
        let kind = metadata.file_type();
        if kind.is_symlink() {
            assert_eq!(item.kind, EntryKind::Symlink, "{name}");
            let target = fs::read_link(host).unwrap().into_os_string().into_vec();
            assert_eq!(item.target.as_ref(), Some(&target), "{name}");
        } else if kind.is_dir() {
            assert_eq!(item.kind, EntryKind::Folder, "{name}");
        } else if kind.is_file() {
            assert_eq!(item.kind, EntryKind::File, "{name}");
            assert_eq!(item.size, metadata.len(), "{name}");
            assert_eq!(u64::from(attributes.links), metadata.nlink(), "{name}");
            assert!(
                content(volume, item).unwrap() == fs::read(host).unwrap(),
                "{name}: content"
            );
        }
    }
    ours.len()
}

/// A mount for reading; everything that was written is in the image already.
fn compare_image(image: &Path, folder: &Path) -> Option<usize> {
    let volume = NtfsVolume::open(FileDisk::open(image)).unwrap();
    assert!(volume.info().clean, "{:?}", volume.info().notes);
    let mount = Mount::new(image, folder, "ro,streams_interface=none")?;
    let count = compare(&volume, &mount);
    check_free_space(&volume, &mount);
    Some(count)
}

fn check_free_space(volume: &NtfsVolume, mount: &Mount) {
    let output = std::process::Command::new("stat")
        .args(["-f", "-c", "%f %S", mount.0.to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    assert_eq!(volume.info().free, numbers[0] * numbers[1]);
}

const TOOLS: [&str; 4] = ["mkntfs", "ntfs-3g", "umount", "stat"];

#[test]
fn many_kinds_of_files_are_read_as_ntfs_3g_reads_them() {
    if !have(&TOOLS) {
        return;
    }
    for (size, options) in [
        (256 << 20, &["-c", "4096"][..]),
        (256 << 20, &["-c", "512"]),
        (256 << 20, &["-c", "65536"]),
        (256 << 20, &["-s", "4096", "-c", "4096"]),
        (4 << 30, &["-c", "131072"]),
        (4 << 30, &["-c", "2097152"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let image = make(folder.path(), size, options);
        {
            let Some(mount) = Mount::new(
                &image,
                folder.path(),
                "streams_interface=windows,compression",
            ) else {
                return;
            };
            fill(&mount.0);
        }
        let count = compare_image(&image, folder.path()).unwrap();
        assert!(count > 350, "{count}");
        println!("{options:?}: {count} entries");
    }
}

fn fill(root: &Path) {
    for size in [
        0usize, 1, 500, 700, 1000, 4095, 4096, 4097, 65_536, 1_000_001,
    ] {
        fs::write(
            root.join(format!("of {size} bytes")),
            noise(size as u64, size),
        )
        .unwrap();
    }
    // Names in several scripts, of the longest sort, and such as Windows does not like.
    for name in [
        "größe.txt",
        "файл",
        "文件夹",
        "ملف",
        "😀 emoji",
        "e\u{301}",
        "x".repeat(255).as_str(),
        "con:".trim_end_matches(':'),
        "trailing.",
        "a b  c",
    ] {
        fs::write(root.join(name), name).unwrap();
    }
    // Names that differ by case only.
    fs::create_dir(root.join("case")).unwrap();
    for name in ["readme", "README", "ReadMe", "Readme2"] {
        fs::write(root.join("case").join(name), name).unwrap();
    }
    // Holes: in front, within, behind.
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(&noise(1, 70_000), 1 << 20).unwrap();
    sparse.write_all_at(&noise(2, 70_000), 6 << 20).unwrap();
    sparse.set_len(9_000_001).unwrap();
    File::create(root.join("only a hole"))
        .unwrap()
        .set_len(5 << 20)
        .unwrap();
    // Hard links and links.
    fs::create_dir_all(root.join("deep/er/and/deeper")).unwrap();
    fs::hard_link(root.join("of 1000 bytes"), root.join("deep/er/second name")).unwrap();
    std::os::unix::fs::symlink("of 1000 bytes", root.join("link")).unwrap();
    std::os::unix::fs::symlink("../größe.txt", root.join("deep/linkü")).unwrap();
    // Many names for one file: needs an attribute list.
    fs::write(root.join("popular"), noise(3, 3000)).unwrap();
    fs::create_dir(root.join("names")).unwrap();
    for number in 0..60 {
        fs::hard_link(
            root.join("popular"),
            root.join(format!("names/one of the many names of the file {number}")),
        )
        .unwrap();
    }
    // Interleaved writes make fragments; enough of them need several records.
    let one = File::create(root.join("fragments one")).unwrap();
    let two = File::create(root.join("fragments two")).unwrap();
    for number in 0..400u64 {
        one.write_all_at(&noise(number, 9000), number * 9000)
            .unwrap();
        one.sync_all().unwrap();
        two.write_all_at(&noise(number + 1000, 5000), number * 30_000)
            .unwrap();
        two.sync_all().unwrap();
    }
    fs::create_dir(root.join("some")).unwrap();
    for number in 0..400 {
        fs::write(
            root.join(format!("some/file {number:04}")),
            format!("content {number}"),
        )
        .unwrap();
    }
    for number in (0..400).step_by(3) {
        fs::remove_file(root.join(format!("some/file {number:04}"))).unwrap();
    }
    fs::write(root.join("link target:a stream"), noise(5, 40_000)).unwrap();
    fs::write(
        root.join("case:stream of a folder"),
        b"folders have them too",
    )
    .unwrap();
}

#[test]
fn named_streams_are_found_by_any_case() {
    if !have(&TOOLS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 16 << 20, &[]);
    {
        let Some(mount) = Mount::new(&image, folder.path(), "streams_interface=windows") else {
            return;
        };
        fs::write(mount.0.join("file"), b"main").unwrap();
        for (name, size) in [("small", 10), ("LARGE", 300_000), ("пот", 5)] {
            fs::write(
                mount.0.join(format!("file:{name}")),
                noise(size as u64, size),
            )
            .unwrap();
        }
        fs::create_dir(mount.0.join("folder")).unwrap();
        fs::write(mount.0.join("folder:info"), b"of a folder").unwrap();
    }
    let volume = NtfsVolume::open(FileDisk::open(&image)).unwrap();
    let file = volume.lookup(volume.root(), b"FILE").unwrap().unwrap().id;
    let mut streams = volume.streams(file).unwrap();
    streams.sort_by(|left, right| left.size.cmp(&right.size));
    let names: Vec<_> = streams
        .iter()
        .map(|stream| (stream.size, String::from_utf8(stream.name.clone()).unwrap()))
        .collect();
    assert_eq!(
        names,
        [
            (5, "пот".to_string()),
            (10, "small".into()),
            (300_000, "LARGE".into())
        ]
    );
    let read = |name: &str| {
        let source = volume.open_stream(file, name.as_bytes()).unwrap();
        cairn_base::read_at::read_vec(&source, 0, source.size() as usize).unwrap()
    };
    assert_eq!(read("large"), noise(300_000, 300_000));
    assert_eq!(read("Small"), noise(10, 10));
    assert!(volume.open_stream(file, b"none").is_err());
    assert!(volume.open_stream(file, b"").is_err());
    let inner = volume.lookup(volume.root(), b"folder").unwrap().unwrap().id;
    assert_eq!(volume.streams(inner).unwrap().len(), 1);
    assert_eq!(volume.open_stream(inner, b"INFO").unwrap().size(), 11);
}

#[test]
fn a_large_folder_is_walked_in_any_pieces() {
    if !have(&TOOLS) {
        return;
    }
    const NAMES: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 128 << 20, &[]);
    {
        let Some(mount) = Mount::new(&image, folder.path(), "streams_interface=none") else {
            return;
        };
        fs::create_dir(mount.0.join("many")).unwrap();
        for number in 0..NAMES {
            File::create(
                mount
                    .0
                    .join(format!("many/name number {}", (number * 7919) % NAMES)),
            )
            .unwrap();
        }
    }
    let volume = NtfsVolume::open(FileDisk::open(&image)).unwrap();
    let many = volume.lookup(volume.root(), b"many").unwrap().unwrap().id;
    let mut expected = BTreeSet::new();
    for number in 0..NAMES {
        let name = format!("name number {number}").into_bytes();
        assert_eq!(volume.lookup(many, &name).unwrap().unwrap().name, name);
        expected.insert(name);
    }
    assert!(volume.lookup(many, b"Name Number 77").unwrap().is_some());
    assert!(volume.lookup(many, b"name number x").unwrap().is_none());
    assert!(volume.lookup(many, b"name number 20000").unwrap().is_none());
    // In pieces of 1, 2, 3 ... names, going on behind the last.
    let mut met = BTreeSet::new();
    let (mut after, mut piece) = (0, 1);
    loop {
        let mut told = 0;
        volume
            .read_dir(many, after, &mut |entry| {
                assert!(entry.cookie != 0);
                assert!(met.insert(entry.name), "told twice");
                after = entry.cookie;
                told += 1;
                if told == piece {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
        if told < piece {
            break;
        }
        piece += 1;
    }
    assert_eq!(met, expected);
    // A cookie that was never given ends or goes on, nothing else.
    for cookie in [1, 17, u64::MAX, 1 << 20, (1 << 20) | 3] {
        volume
            .read_dir(many, cookie, &mut |_| ControlFlow::Continue(()))
            .unwrap();
    }
    assert_eq!(volume.parent(many).unwrap(), Some(volume.root()));
    assert!(compare_image(&image, folder.path()).unwrap() > NAMES);
}

#[test]
fn compressed_files_are_read_as_ntfs_3g_reads_them() {
    if !have(&TOOLS) || !have(&["setfattr"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 64 << 20, &[]);
    {
        let Some(mount) = Mount::new(&image, folder.path(), "compression") else {
            return;
        };
        let packed = mount.0.join("packed");
        fs::create_dir(&packed).unwrap();
        // FILE_ATTRIBUTE_COMPRESSED on the folder: new files inherit it.
        run(
            "setfattr",
            &[
                "-h",
                "-n",
                "system.ntfs_attrib_be",
                "-v",
                "0x00000800",
                packed.to_str().unwrap(),
            ],
        );
        let text: Vec<u8> = (0..60_000u32)
            .flat_map(|number| format!("line {} of the text\n", number % 977).into_bytes())
            .collect();
        fs::write(packed.join("text"), &text).unwrap();
        fs::write(packed.join("noise"), noise(9, 300_000)).unwrap();
        fs::write(packed.join("short"), &text[..5000]).unwrap();
        fs::write(packed.join("zeros"), vec![0u8; 500_000]).unwrap();
        let mut mixed = text[..100_000].to_vec();
        mixed.extend(noise(10, 200_000));
        mixed.extend(vec![0; 200_000]);
        mixed.extend(&text[..77_777]);
        fs::write(packed.join("mixed"), mixed).unwrap();
    }
    let volume = NtfsVolume::open(FileDisk::open(&image)).unwrap();
    let packed = volume.lookup(volume.root(), b"packed").unwrap().unwrap().id;
    let text = volume.lookup(packed, b"text").unwrap().unwrap().id;
    let attributes = volume.attributes(text).unwrap();
    assert!(
        attributes.dos_flags & 0x800 != 0 && attributes.allocated < attributes.size / 2,
        "{attributes:?}"
    );
    compare_image(&image, folder.path()).unwrap();
}

#[test]
fn a_bad_boot_sector_and_bad_first_records_have_substitutes() {
    if !have(&TOOLS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 8 << 20, &["-L", "my label"]);
    let original = fs::read(&image).unwrap();
    let open = |bytes: Vec<u8>| NtfsVolume::open(Arc::new(bytes) as Arc<dyn ReadAt>);
    let volume = open(original.clone()).unwrap();
    assert!(
        volume.info().clean && volume.info().notes.is_empty(),
        "{:?}",
        volume.info()
    );
    assert_eq!(volume.info().label, "my label");

    let mut bytes = original.clone();
    bytes[..512].fill(0);
    let volume = open(bytes).unwrap();
    assert!(
        !volume.info().clean && volume.info().notes[0].contains("backup"),
        "{:?}",
        volume.info()
    );

    let mft = u64::from_le_bytes(original[0x30..0x38].try_into().unwrap()) as usize * 4096;
    for record in 0..4 {
        let mut bytes = original.clone();
        bytes[mft + record * 1024 + 510] ^= 0xFF;
        let volume = open(bytes).unwrap();
        assert_eq!(volume.info().label, "my label");
        if record != 1 {
            assert!(
                volume
                    .info()
                    .notes
                    .iter()
                    .any(|note| note.contains("mirror")),
                "{record}: {:?}",
                volume.info()
            );
        }
    }
    // Neither the first record nor its mirror.
    let mirror = u64::from_le_bytes(original[0x38..0x40].try_into().unwrap()) as usize * 4096;
    let mut bytes = original;
    bytes[mft] = 0;
    bytes[mirror] = 0;
    assert_eq!(open(bytes).err().unwrap().kind(), cairn_base::Kind::Damaged);
}

#[test]
fn a_torn_record_spoils_its_own_file_only() {
    if !have(&TOOLS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 8 << 20, &[]);
    {
        let Some(mount) = Mount::new(&image, folder.path(), "streams_interface=none") else {
            return;
        };
        for name in ["one", "two", "three"] {
            fs::write(mount.0.join(name), name).unwrap();
        }
    }
    let mut bytes = fs::read(&image).unwrap();
    let volume = NtfsVolume::open(Arc::new(bytes.clone()) as Arc<dyn ReadAt>).unwrap();
    let two = volume.lookup(volume.root(), b"two").unwrap().unwrap().id;
    let mft = u64::from_le_bytes(bytes[0x30..0x38].try_into().unwrap()) as usize * 4096;
    bytes[mft + two.number as usize * 1024 + 511] ^= 1;
    let volume = NtfsVolume::open(Arc::new(bytes) as Arc<dyn ReadAt>).unwrap();
    let mut errors = Vec::new();
    let items = walk(&volume, &mut |_, error| errors.push(error));
    assert_eq!(items.len(), 3);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].kind(), cairn_base::Kind::Damaged);
    assert_eq!(
        volume.open(two).err().unwrap().kind(),
        cairn_base::Kind::Damaged
    );
    assert_eq!(content(&volume, &items[&b"/three"[..]]).unwrap(), b"three");
}

#[test]
fn a_file_table_in_many_pieces_is_put_together() {
    if !have(&TOOLS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 12 << 20, &["-c", "512", "-z", "1"]);
    {
        let Some(mount) = Mount::new(&image, folder.path(), "streams_interface=none") else {
            return;
        };
        // Fill, make small gaps, fill again: the table can grow only into the gaps.
        let fill = |prefix: &str, length: usize| {
            let mut made = 0;
            while fs::write(mount.0.join(format!("{prefix}{made}")), vec![b'x'; length]).is_ok() {
                made += 1;
            }
            let _ = fs::remove_file(mount.0.join(format!("{prefix}{made}")));
            made
        };
        let first = fill("f", 1500);
        for number in (0..first).step_by(2) {
            fs::remove_file(mount.0.join(format!("f{number}"))).unwrap();
        }
        fill("g", 1100);
        for number in (1..first).step_by(2) {
            fs::remove_file(mount.0.join(format!("f{number}"))).unwrap();
        }
        assert!(fill("h", 0) > 1000);
    }
    let bytes = fs::read(&image).unwrap();
    let mft = u64::from_le_bytes(bytes[0x30..0x38].try_into().unwrap()) as usize * 512;
    let attributes = usize::from(bytes[mft + 20]);
    let length =
        u32::from_le_bytes(bytes[mft + attributes + 4..][..4].try_into().unwrap()) as usize;
    assert_eq!(
        bytes[mft + attributes + length],
        0x20,
        "the table has no attribute list: the test is void"
    );
    assert!(compare_image(&image, folder.path()).unwrap() > 3000);
}

#[test]
fn hundreds_of_names_need_a_list_outside_the_record() {
    if !have(&TOOLS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 16 << 20, &[]);
    {
        let Some(mount) = Mount::new(&image, folder.path(), "streams_interface=none") else {
            return;
        };
        fs::write(mount.0.join("file"), noise(1, 5000)).unwrap();
        for number in 0..700 {
            fs::hard_link(
                mount.0.join("file"),
                mount
                    .0
                    .join(format!("another name, a long one, {number:04}")),
            )
            .unwrap();
        }
    }
    let volume = NtfsVolume::open(FileDisk::open(&image)).unwrap();
    let file = volume.lookup(volume.root(), b"FILE").unwrap().unwrap().id;
    assert_eq!(volume.attributes(file).unwrap().links, 701);
    assert_eq!(volume.parent(file).unwrap(), Some(volume.root()));
    assert_eq!(compare_image(&image, folder.path()).unwrap(), 701);
}

/// A volume with a few files; its bytes and where its file records are.
fn patchable(fill: impl Fn(&Path)) -> Option<(Vec<u8>, usize)> {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 8 << 20, &[]);
    {
        let mount = Mount::new(&image, folder.path(), "streams_interface=none")?;
        fill(&mount.0);
    }
    let bytes = fs::read(&image).unwrap();
    let mft = u64::from_le_bytes(bytes[0x30..0x38].try_into().unwrap()) as usize * 4096;
    Some((bytes, mft))
}

fn open_bytes(bytes: &[u8]) -> NtfsVolume {
    NtfsVolume::open(Arc::new(bytes.to_vec()) as Arc<dyn ReadAt>).unwrap()
}

fn record_of(bytes: &[u8], mft: usize, name: &str) -> usize {
    let volume = open_bytes(bytes);
    let entry = volume
        .lookup(volume.root(), name.as_bytes())
        .unwrap()
        .unwrap();
    mft + entry.id.number as usize * 1024
}

#[test]
fn a_torn_index_block_hides_its_own_names_only() {
    if !have(&TOOLS) {
        return;
    }
    let Some((mut bytes, _)) = patchable(|root| {
        fs::create_dir(root.join("folder")).unwrap();
        for number in 0..300 {
            fs::write(root.join(format!("folder/name {number}")), b"x").unwrap();
        }
    }) else {
        return;
    };
    let blocks: Vec<usize> = (0..bytes.len())
        .step_by(4096)
        .filter(|&at| {
            let names: Vec<u8> = "name ".encode_utf16().flat_map(u16::to_le_bytes).collect();
            &bytes[at..at + 4] == b"INDX"
                && bytes[at..at + 4096]
                    .windows(10)
                    .any(|window| window == names)
        })
        .collect();
    assert!(blocks.len() > 3);
    bytes[blocks[1] + 1023] ^= 1;
    let volume = open_bytes(&bytes);
    let folder = volume.lookup(volume.root(), b"folder").unwrap().unwrap().id;
    let mut names = BTreeSet::new();
    for _ in 0..2 {
        // Told at the end, each time.
        let error = volume
            .read_dir(folder, 0, &mut |entry| {
                names.insert(entry.name);
                ControlFlow::Continue(())
            })
            .unwrap_err();
        assert_eq!(error.kind(), cairn_base::Kind::Damaged);
    }
    assert!(names.len() > 200 && names.len() < 300, "{}", names.len());
    for number in 0..300 {
        let name = format!("name {number}").into_bytes();
        let found = volume.lookup(folder, &name);
        assert_eq!(
            found.is_ok_and(|found| found.is_some()),
            names.contains(&name),
            "{number}"
        );
    }
}

#[test]
fn encrypted_and_stale_files_are_listed_and_refused() {
    if !have(&TOOLS) {
        return;
    }
    let Some((mut bytes, mft)) = patchable(|root| {
        for name in ["secret", "stale", "good"] {
            fs::write(root.join(name), name).unwrap();
        }
    }) else {
        return;
    };
    let secret = record_of(&bytes, mft, "secret");
    let stale = record_of(&bytes, mft, "stale");
    let mut at = usize::from(bytes[secret + 20]);
    while bytes[secret + at] != 0x80 {
        at += usize::from(bytes[secret + at + 4]);
    }
    bytes[secret + at + 13] |= 0x40;
    bytes[stale + 16] = bytes[stale + 16].wrapping_add(1);
    let volume = open_bytes(&bytes);
    let mut ids = BTreeMap::new();
    volume
        .read_dir(volume.root(), 0, &mut |entry| {
            ids.insert(entry.name, entry.id);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(ids.len(), 3);
    let secret = ids[&b"secret"[..]];
    assert_eq!(volume.attributes(secret).unwrap().size, 6);
    assert_eq!(
        volume.open(secret).err().unwrap().kind(),
        cairn_base::Kind::Unsupported
    );
    let error = volume.lookup(volume.root(), b"stale").unwrap_err();
    assert_eq!(error.kind(), cairn_base::Kind::Damaged);
    assert!(volume.open(ids[&b"good"[..]]).is_ok());
}

#[test]
fn a_hibernated_or_dirty_volume_is_not_clean() {
    if !have(&TOOLS) {
        return;
    }
    let Some((mut bytes, mft)) = patchable(|root| {
        let mut image = vec![0u8; 8192];
        image[..4].copy_from_slice(b"hibr");
        fs::write(root.join("hiberfil.sys"), image).unwrap();
    }) else {
        return;
    };
    let info = open_bytes(&bytes).info().clone();
    assert!(
        !info.clean && info.notes.iter().any(|note| note.contains("hibernated")),
        "{info:?}"
    );
    let volume_record = mft + 3 * 1024;
    let mut at = usize::from(bytes[volume_record + 20]);
    while bytes[volume_record + at] != 0x70 {
        at += usize::from(bytes[volume_record + at + 4]);
    }
    let value = usize::from(bytes[volume_record + at + 20]);
    bytes[volume_record + at + value + 10] |= 1;
    let info = open_bytes(&bytes).info().clone();
    assert!(
        info.notes.iter().any(|note| note.contains("dirty")),
        "{info:?}"
    );
}

#[test]
fn the_file_systems_own_files_are_found_but_not_listed() {
    if !have(&TOOLS) {
        return;
    }
    let Some((bytes, _)) = patchable(|_| ()) else {
        return;
    };
    let volume = open_bytes(&bytes);
    assert!(walk(&volume, &mut |_, error| panic!("{error}")).is_empty());
    for name in ["$MFT", "$bitmap", "$Extend", "$UpCase"] {
        let found = volume
            .lookup(volume.root(), name.as_bytes())
            .unwrap()
            .unwrap();
        assert!(found.id.number < 16, "{name}");
    }
    let mft = volume.lookup(volume.root(), b"$MFT").unwrap().unwrap().id;
    assert!(volume.open(mft).unwrap().size() >= 16 << 10);
    assert_eq!(
        volume.open(volume.root()).err().unwrap().kind(),
        cairn_base::Kind::Invalid
    );
    let missing = cairn_guest::EntryId::new(1 << 40);
    assert_eq!(
        volume.attributes(missing).unwrap_err().kind(),
        cairn_base::Kind::NotFound
    );
}

#[test]
fn many_threads_read_at_once() {
    if !have(&TOOLS) {
        return;
    }
    let Some((bytes, _)) = patchable(|root| {
        for number in 0..300u64 {
            fs::write(
                root.join(format!("file {number}")),
                noise(number, 100 * number as usize),
            )
            .unwrap();
        }
    }) else {
        return;
    };
    let volume = open_bytes(&bytes);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let volume = &volume;
            scope.spawn(move || {
                for number in (0..300u64).map(|number| (number * (2 * thread + 7)) % 300) {
                    let name = format!("FILE {number}");
                    let id = volume
                        .lookup(volume.root(), name.as_bytes())
                        .unwrap()
                        .unwrap()
                        .id;
                    let source = volume.open(id).unwrap();
                    let read =
                        cairn_base::read_at::read_vec(&source, 0, source.size() as usize).unwrap();
                    assert!(read == noise(number, 100 * number as usize));
                }
            });
        }
    });
}
