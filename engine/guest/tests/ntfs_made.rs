//! NTFS volumes made here with mkntfs and filled through ntfs-3g, then compared with what ntfs-3g shows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may panic"
)]

mod ntfs_support;

use cairn_base::ReadAt;
use cairn_guest::Volume;
use cairn_guest::ntfs::NtfsVolume;
use ntfs_support::against::*;
use ntfs_support::made::*;
use ntfs_support::*;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

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
    streams.sort_by_key(|stream| stream.size);
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
