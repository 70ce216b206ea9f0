//! Files that hold the same bytes at the same places of the disk, and yet are not the same: what lies there is read otherwise.

use super::*;

/// Writes `to` over the only place where `from` lies.
fn patch(image: &Path, from: &[u8], to: &[u8]) {
    let mut bytes = fs::read(image).unwrap();
    let mut places = bytes.windows(from.len()).enumerate();
    let at = places.find(|(_, part)| *part == from).unwrap().0;
    assert!(!places.any(|(_, part)| part == from));
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(image, bytes).unwrap();
}

/// The attributes of data in the record of a file on NTFS, by their names: where each header begins.
fn data_attributes(bytes: &[u8], file: &str) -> Vec<(String, usize)> {
    let file: Vec<u8> = file.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let short = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
    let long = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let is_its = |at: &usize| {
        let record = &bytes[*at..*at + 1024];
        record.starts_with(b"FILE") && record.windows(file.len()).any(|part| part == file)
    };
    let records: Vec<usize> = (0..bytes.len()).step_by(1024).filter(is_its).collect();
    assert_eq!(records.len(), 1);
    let mut at = records[0] + short(records[0] + 0x14);
    let mut found = Vec::new();
    while long(at) != u32::MAX {
        if long(at) == 0x80 {
            let name = at + short(at + 10);
            let units = (0..usize::from(bytes[at + 9])).map(|unit| short(name + 2 * unit) as u16);
            let name = String::from_utf16(&units.collect::<Vec<u16>>()).unwrap();
            found.push((name, at));
        }
        at += long(at + 4) as usize;
    }
    found
}

/// Writes so many bytes into a field of 8 bytes; never over the end of a sector, where NTFS keeps other bytes.
fn put_long(bytes: &mut [u8], at: usize, value: u64) {
    assert!(at % 512 <= 502);
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// An NTFS image with `files` of 128 KiB each, of which the first has a stream `side` of 64 KiB.
fn ntfs(temp: &Path, files: &[&str]) -> std::path::PathBuf {
    let image = temp.join("disk.raw");
    fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
    run("mkntfs", &["-F", "-q", "-c", "4096", text(&image)]);
    let file = temp.join("file");
    for (name, seed) in files.iter().zip(1..) {
        fs::write(&file, noise(128 << 10, seed)).unwrap();
        run("ntfscp", &["-q", text(&image), text(&file), name]);
    }
    fs::write(&file, noise(64 << 10, 99)).unwrap();
    let stream = ["-q", "-N", "side", text(&image), text(&file), files[0]];
    run("ntfscp", &stream);
    image
}

/// Whether the entry at a path has the same content in two points, asked for alone.
fn same(points: [&PointView; 2], path: &str) -> bool {
    let volumes = points.map(|point| point.disks()[0].volume(0).unwrap().unwrap().clone());
    let ids = [0, 1].map(|at: usize| {
        cairn::walk::resolve(&*volumes[at].open().unwrap(), path.as_bytes()).unwrap()
    });
    let [old, new] = [0, 1].map(|at: usize| VolumeOf {
        point: points[at],
        disk: 0,
        volume: &volumes[at],
    });
    same_content(old, new, ids, &Silent).unwrap()
}

/// Contents that changed, and all problems.
fn changed(older: &PointView, newer: &PointView) -> Vec<String> {
    let (changes, problems) = compare(older, newer);
    assert!(problems.is_empty(), "{problems:?}");
    let changes = changes
        .iter()
        .filter(|change| change.parts.contains(&Part::Content));
    changes.map(path).collect()
}

#[test]
fn data_that_moved_beside_a_hole_is_another_content() {
    if !have(&["mke2fs", "debugfs"]) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let tree = temp.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for (name, seed) in [("moves", 1), ("stays", 2)] {
        let file = fs::File::create(tree.join(name)).unwrap();
        file.write_all_at(&noise(64 << 10, seed), 0).unwrap();
        file.set_len(128 << 10).unwrap();
    }
    let image = temp.path().join("disk.raw");
    let options = [
        "-q",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-O",
        "^metadata_csum",
        "-d",
    ];
    let arguments = [&options[..], &[text(&tree), text(&image), "8M"]].concat();
    run("mke2fs", &arguments);
    let store = Store::create(&temp.path().join("store")).unwrap();
    let older = backup(&store, "m", &image);
    // The extent of the data: its first block in the file, its length, where it lies. As after `fallocate --insert-range`.
    let place = run("debugfs", &["-R", "bmap /moves 0", text(&image)]);
    let place: u32 = place.trim().parse().unwrap();
    let extent = |first: u32| {
        let parts = [
            &first.to_le_bytes()[..],
            &[16, 0, 0, 0],
            &place.to_le_bytes(),
        ];
        parts.concat()
    };
    patch(&image, &extent(0), &extent(16));
    let newer = backup(&store, "m", &image);
    let read = |point: &PointView| {
        let volume = point.disks()[0].volume(0).unwrap().unwrap().open().unwrap();
        let file = cairn::walk::resolve(&*volume, b"moves").unwrap();
        let mut bytes = vec![0; 128 << 10];
        let file = volume.open(file).unwrap();
        file.read_exact_at(0, &mut bytes).unwrap();
        bytes
    };
    let zeros = vec![0; 64 << 10];
    assert!(read(&older) == [noise(64 << 10, 1), zeros.clone()].concat());
    assert!(read(&newer) == [zeros, noise(64 << 10, 1)].concat());
    assert_eq!(changed(&older, &newer), ["moves"]);
    assert!(!same([&older, &newer], "moves") && same([&older, &newer], "stays"));
}

#[test]
fn bytes_that_became_valid_are_another_content() {
    if !have(&["mkntfs", "ntfscp"]) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let image = ntfs(temp.path(), &["first.bin", "second.bin", "third.bin"]);
    let store = Store::create(&temp.path().join("store")).unwrap();
    // Only the first 4 KiB and some bytes of these are valid, behind them lies what was there before.
    let mut bytes = fs::read(&image).unwrap();
    let whole = bytes.clone();
    for (file, stream) in [("first.bin", "side"), ("second.bin", "")] {
        let attributes = data_attributes(&bytes, file);
        let (_, at) = attributes.iter().find(|(name, _)| name == stream).unwrap();
        put_long(&mut bytes, at + 0x38, 5000);
    }
    fs::write(&image, &bytes).unwrap();
    let older = backup(&store, "m", &image);
    fs::write(&image, &whole).unwrap();
    let newer = backup(&store, "m", &image);
    assert_eq!(changed(&older, &newer), ["first.bin", "second.bin"]);
    for (name, wanted) in [
        ("first.bin", false),
        ("second.bin", false),
        ("third.bin", true),
    ] {
        assert_eq!(same([&older, &newer], name), wanted, "{name}");
    }
}

/// A stream that got another name, in a file whose size and time are what they were: for a search it is another version, as for a comparison.
#[test]
fn streams_are_told_apart_by_their_names() {
    if !have(&["mkntfs", "ntfscp"]) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let image = ntfs(temp.path(), &["first.bin", "second.bin"]);
    let store = Store::create(&temp.path().join("store")).unwrap();
    let older = backup(&store, "m", &image);
    let mut bytes = fs::read(&image).unwrap();
    let attributes = data_attributes(&bytes, "first.bin");
    let (_, at) = attributes.iter().find(|(name, _)| name == "side").unwrap();
    let name = at + usize::from(bytes[at + 10]);
    assert_eq!(bytes[name], b's');
    bytes[name] = b't';
    fs::write(&image, &bytes).unwrap();
    let newer = backup(&store, "m", &image);
    assert_eq!(changed(&older, &newer), ["first.bin"]);
    assert!(!same([&older, &newer], "first.bin") && same([&older, &newer], "second.bin"));
    let mut found = Vec::new();
    let criteria = Criteria::default();
    find_files(&store, "m", None, &criteria, &Silent, &mut |event| {
        match event {
            FindEvent::Found(version) => found.push(String::from_utf8(version.path).unwrap()),
            other => panic!("{other:?}"),
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let count = |name: &str| found.iter().filter(|path| path.ends_with(name)).count();
    assert_eq!((count("first.bin"), count("second.bin")), (2, 1));
}
