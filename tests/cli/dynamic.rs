//! Dynamic disks of Windows: what `cairn disk` says of one, files of volumes over several, and what is told where a database is damaged.

use super::bench::{Answer, Bench, have, text, tool};
use crate::maker::{Group, SECTOR, Scheme, guid_text};
use serde_json::Value;
use std::fs;

/// A file system of so many sectors with the file `text` in it.
fn files(bench: &Bench, sectors: u64, bytes: &[u8]) -> Vec<u8> {
    let (source, image) = (bench.path("source"), bench.path("image"));
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("text"), bytes).unwrap();
    fs::write(&image, vec![0; sectors as usize * SECTOR]).unwrap();
    let arguments = ["-q", "-t", "ext4", "-F", "-d", text(&source), text(&image)];
    tool("mke2fs", &arguments);
    fs::read(&image).unwrap()
}

/// Two disks, `a.raw` and `b.raw`: a simple volume on the first, another one striped over both.
fn made(bench: &Bench, scheme: Scheme, bytes: &[u8]) -> (Group, Vec<Vec<u8>>) {
    let mut group = Group::new(scheme, true, 2);
    group.add("Volume1", 2, 0, &[(0, 4000)]).hint = "E:".to_string();
    group.add("Stripe1", 1, 128, &[(0, 6400), (1, 6400)]);
    let sizes = group.volumes.iter().map(|volume| volume.size);
    let contents: Vec<Vec<u8>> = sizes.map(|size| files(bench, size, bytes)).collect();
    write(bench, &group, &contents);
    (group, contents)
}

fn write(bench: &Bench, group: &Group, contents: &[Vec<u8>]) {
    let parts: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    for (name, disk) in ["a.raw", "b.raw"].iter().zip(group.write(&parts)) {
        fs::write(bench.path(name), disk).unwrap();
    }
}

#[test]
fn a_disk_tells_its_group_and_volumes() {
    let bench = Bench::new();
    if !have(&["mke2fs"]) {
        return;
    }
    for scheme in [Scheme::Mbr, Scheme::Gpt] {
        let (group, _) = made(&bench, scheme, b"a file\n");
        let document = bench.expect(0, &["disk", "--json", "a.raw"]).json();
        let dynamic = &document["dynamic"];
        assert_eq!(dynamic["group"], "WEB01Dg0");
        assert_eq!(dynamic["group_id"], guid_text(group.guid).as_str());
        assert_eq!(dynamic["disk"], "Disk1");
        assert_eq!(
            dynamic["disks"][1]["id"],
            guid_text(group.disks[1].guid).as_str()
        );
        let volumes = dynamic["volumes"].as_array().unwrap();
        let told: Vec<(&Value, &Value, u64)> = volumes
            .iter()
            .map(|volume| {
                (
                    &volume["name"],
                    &volume["kind"],
                    volume["size"].as_u64().unwrap(),
                )
            })
            .collect();
        let (simple, striped) = (Value::from("simple"), Value::from("striped"));
        let (one, two) = (Value::from("Volume1"), Value::from("Stripe1"));
        let wanted = [(&one, &simple, 4000 * 512), (&two, &striped, 12800 * 512)];
        assert_eq!(told, wanted);
        assert_eq!(volumes[0]["file_system"]["kind"], "ext4");
        assert_eq!(volumes[0]["letter"], "E:");
        assert_eq!(volumes[1]["chunk_bytes"], 65536);
        assert_eq!(volumes[1]["pieces"][1]["start"], Value::Null);
        let error = volumes[1]["error"].as_str().unwrap();
        assert!(
            error.contains("`Disk2`") && error.contains("missing"),
            "{error}"
        );
        let parts = document["partitions"].as_array().unwrap().iter();
        let mut names = parts.map(|part| (&part["type_name"], &part["content"]));
        let data = if scheme == Scheme::Mbr {
            "LDM"
        } else {
            "LDM data"
        };
        assert!(names.any(|(kind, held)| kind == data && held == "part of a dynamic disk"));
        let shown = bench.expect(0, &["disk", "a.raw"]).text();
        for line in [
            "dynamic disk Disk1 (d15c0000-",
            "p2024 2.0 MiB simple volume `Volume1` on Disk1, was E:: ext2/3/4",
            "striped volume `Stripe1` on Disk1, Disk2, chunks of 64.0 KiB: striped volume",
            "on Disk2: another disk",
        ] {
            assert!(shown.contains(line), "{line}\n{shown}");
        }
    }
    // A database that cannot be read is told, and hides nothing else.
    let at = bench.path("b.raw");
    let mut bytes = fs::read(&at).unwrap();
    for sector in [34 + 1856, 34 + 2047] {
        bytes[sector * SECTOR] = b'x';
    }
    fs::write(&at, bytes).unwrap();
    let told = bench.expect(3, &["disk", "--json", "b.raw"]);
    assert!(told.stderr.contains("private header"), "{}", told.stderr);
    assert_eq!(told.json()["dynamic"], Value::Null);
}

#[test]
fn a_volume_over_two_disks_is_listed_read_searched_and_compared() {
    let bench = Bench::new();
    if !have(&["mke2fs"]) {
        return;
    }
    let bytes = fs::read(bench.noise("noise", 8, 700_000)).unwrap();
    let (group, mut contents) = made(&bench, Scheme::Gpt, &bytes);
    let number = |at: usize| format!("p{}", 1000 + group.volumes[at].id);
    bench.backup("web01", &["a.raw", "b.raw"]);
    let listed = bench
        .expect(0, &["ls", "--json", "store", "web01@latest:/disk0"])
        .json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[0]["name"], number(0).as_str());
    assert_eq!(listed[1]["name"], number(1).as_str());
    assert_eq!(listed[1]["dynamic"]["disks"][1], "Disk2");
    assert_eq!(listed[1]["content"], "ext4");
    let long = bench
        .expect(0, &["ls", "-l", "store", "web01@latest:/disk0"])
        .text();
    assert!(
        long.contains("(striped volume `Stripe1` on Disk1, Disk2)"),
        "{long}"
    );
    let none = bench
        .expect(0, &["ls", "store", "web01@latest:/disk1"])
        .text();
    assert_eq!(none, "");
    let path = format!("web01@latest:/disk0/{}/text", number(1));
    assert!(bench.expect(0, &["cat", "store", &path]).stdout == bytes);
    // A change that lies on the second disk alone.
    let start = contents[1]
        .windows(4096)
        .position(|piece| *piece == bytes[..4096]);
    let chunk = 128 * SECTOR;
    let odd = (start.unwrap() / chunk + 1) | 1;
    contents[1][odd * chunk + 9] ^= 1;
    let before = fs::read(bench.path("a.raw")).unwrap();
    write(&bench, &group, &contents);
    assert!(fs::read(bench.path("a.raw")).unwrap() == before);
    bench.backup("web01", &["a.raw", "b.raw"]);
    let first = bench.points()[0]["point"].as_str().unwrap().to_string();
    let changed = bench.expect(0, &["diff", "store", &first, "web01@latest", "--files"]);
    let wanted = format!("disk0/{}/text", number(1));
    assert!(changed.text().contains(&wanted), "{}", changed.text());
    assert!(
        changed.text().contains("0 removed, 1 changed"),
        "{}",
        changed.text()
    );
    // What the file of the simple volume holds never changed.
    let found = bench
        .expect(0, &["find", "store", "web01", "--name", "text", "--json"])
        .json();
    let versions = found.as_array().unwrap().len();
    assert!(bench.expect(0, &["cat", "store", &path]).stdout != bytes);
    // Without the second disk only the simple volume is there.
    bench.backup("web01", &["a.raw"]);
    let listed = bench.expect(0, &["ls", "store", "web01@latest:/disk0"]);
    assert_eq!(listed.lines(), [number(0), number(1)]);
    assert!(listed.stderr.contains("disk `Disk2`"), "{}", listed.stderr);
    let simple = format!("web01@latest:/disk0/{}/text", number(0));
    assert!(bench.expect(0, &["cat", "store", &simple]).stdout == bytes);
    let refused = bench.expect(1, &["cat", "store", &path]);
    assert!(refused.stderr.contains("is missing"), "{}", refused.stderr);
    assert!(versions >= 2, "{found}");
}

/// Two disks, on which nothing but a volume striped over both lies, from the first byte of their data.
fn striped(bench: &Bench, scheme: Scheme) -> Group {
    let mut group = Group::new(scheme, true, 2);
    group.add("Stripe1", 1, 128, &[(0, 6400), (1, 6400)]);
    for extent in &mut group.volumes[0].components[0].extents {
        extent.start = 0;
    }
    let content = files(bench, group.volumes[0].size, b"a file\n");
    write(bench, &group, &[content]);
    group
}

/// Spoils the private headers of a disk, so that nothing tells its id.
fn behead(bench: &Bench, group: &Group, disk: usize) {
    let at = bench.path(["a.raw", "b.raw"][disk]);
    let mut bytes = fs::read(&at).unwrap();
    let start = group.database_at(disk);
    let mut heads = vec![start + 1856 * SECTOR, start + 2047 * SECTOR];
    if group.scheme == Scheme::Mbr {
        heads.push(6 * SECTOR);
    }
    heads.into_iter().for_each(|at| bytes[at] = b'x');
    fs::write(&at, bytes).unwrap();
}

/// Spoils the record of this kind and name in the database of a disk.
fn spoil(bench: &Bench, group: &Group, disk: usize, kind: u8, name: &str) {
    let at = bench.path(["a.raw", "b.raw"][disk]);
    let mut bytes = fs::read(&at).unwrap();
    let start = group.database_at(disk) + 18 * SECTOR;
    let mut places = (start..start + (64 << 10)).step_by(128);
    let is_it = |at: &usize| {
        let block = &bytes[*at..at + 128];
        let has_name = |block: &[u8]| {
            block
                .windows(name.len())
                .any(|part| part == name.as_bytes())
        };
        block.starts_with(b"VBLK") && block[19] == kind && has_name(block)
    };
    let found = places.find(is_it).unwrap();
    bytes[found..found + 4].copy_from_slice(b"none");
    fs::write(&at, bytes).unwrap();
}

#[track_caller]
fn says(answer: &Answer, sentences: &[&str]) {
    for sentence in sentences {
        assert!(
            answer.stderr.contains(sentence),
            "{sentence}\n{}",
            answer.stderr
        );
    }
}

#[test]
fn what_lies_on_a_disk_whose_database_is_lost_is_not_guessed() {
    let bench = Bench::new();
    if !have(&["mke2fs"]) {
        return;
    }
    for (scheme, part) in [(Scheme::Mbr, "p1"), (Scheme::Gpt, "p3")] {
        let group = striped(&bench, scheme);
        behead(&bench, &group, 0);
        let machine = format!("{scheme:?}").to_lowercase();
        bench.backup(&machine, &["a.raw", "b.raw"]);
        let at = |path: &str| format!("{machine}@latest:/disk0{path}");
        for form in [
            &["ls", "store"][..],
            &["ls", "-l", "store"],
            &["ls", "--json", "store"],
        ] {
            let first = at("");
            let listed = bench.expect(3, &[form, &[first.as_str()]].concat());
            says(&listed, &[&format!("disk0/{part}: "), "private header"]);
        }
        // Its first chunk begins like a file system, whose next ones lie elsewhere.
        let refused = bench.expect(1, &["cat", "store", &at(&format!("/{part}/text"))]);
        says(&refused, &["private header"]);
        let found = bench.run(&["find", "store", &machine, "--name", "text"]);
        assert_eq!(found.status.code(), Some(3), "{found:?}");
        assert!(found.stdout.is_empty(), "{found:?}");
        let told = bench.expect(3, &["disk", "--json", "a.raw"]);
        let document = told.json();
        let of_part = document["partitions"].as_array().unwrap().iter();
        let mut of_part = of_part.filter(|found| part == format!("p{}", found["number"]));
        let error = of_part.next().unwrap()["error"].as_str().unwrap();
        assert!(error.contains("private header"), "{error}");
    }
}

#[test]
fn volumes_whose_records_are_lost_are_named() {
    let bench = Bench::new();
    if !have(&["mke2fs"]) {
        return;
    }
    /// Records that are lost, and what is said of them.
    type Spoilt<'a> = (&'a [(u8, &'a str)], &'a [&'a str]);
    let spoilt: &[Spoilt<'_>] = &[
        (
            &[(0x32, "Volume1-01")],
            &["p2024: ", "should have 1 components", "`Volume1`"],
        ),
        (
            &[(0x51, "Volume1")],
            &["p2024: ", "volume number 1024", "`Volume1-01`"],
        ),
        (
            &[(0x33, "Disk1-01-1026")],
            &["p2024: ", "should have 1 partitions"],
        ),
        (
            &[(0x44, "Disk1")],
            &["p2024: ", "does not know the disk number 256"],
        ),
        (
            &[(0x51, "Volume1"), (0x32, "Volume1-01")],
            &["p1: ", "should have 2 volumes", "and has 1, 1,"],
        ),
    ];
    for (number, (records, sentences)) in spoilt.iter().enumerate() {
        let (group, _) = made(&bench, Scheme::Gpt, b"a file\n");
        // Both disks: each has a copy.
        for disk in 0..2 {
            for (kind, name) in *records {
                spoil(&bench, &group, disk, *kind, name);
            }
        }
        let machine = format!("web{number}");
        bench.backup(&machine, &["a.raw", "b.raw"]);
        let first = format!("{machine}@latest:/disk0");
        let listed = bench.expect(3, &["ls", "store", &first]);
        says(&listed, &["disk0/p1: ", "no block"]);
        says(&listed, sentences);
        let stripes = format!("{first}/p2056/text");
        if records[0].0 != 0x44 {
            let listed = bench.expect(3, &["ls", "store", &first]);
            assert_eq!(listed.lines().last().unwrap(), "p2056");
            assert_eq!(
                bench.expect(0, &["cat", "store", &stripes]).text(),
                "a file\n"
            );
        }
        let shown = bench.expect(3, &["disk", "a.raw"]);
        says(&shown, &["no block"]);
    }
    // The copy of one disk is enough.
    let (group, _) = made(&bench, Scheme::Gpt, b"a file\n");
    spoil(&bench, &group, 0, 0x51, "Volume1");
    bench.backup("whole", &["a.raw", "b.raw"]);
    let listed = bench.expect(0, &["ls", "store", "whole@latest:/disk0"]);
    assert_eq!(listed.lines(), ["p2024", "p2056"]);
    let simple = bench.expect(0, &["cat", "store", "whole@latest:/disk0/p2024/text"]);
    assert_eq!(simple.text(), "a file\n");
    assert_eq!(simple.stderr, "");
}

/// A volume whose record is lost in one point and there in the next, without a changed byte of its own.
#[test]
fn a_volume_that_can_be_read_again_is_searched_and_compared() {
    let bench = Bench::new();
    if !have(&["mke2fs"]) {
        return;
    }
    // The record comes back on both disks, or on the other one alone.
    for (machine, mended) in [("both", &[0, 1][..]), ("other", &[1])] {
        let mut group = Group::new(Scheme::Gpt, true, 2);
        group.add("Volume1", 2, 0, &[(0, 4000)]);
        let contents = [files(&bench, 4000, b"a file\n")];
        write(&bench, &group, &contents);
        let whole = ["a.raw", "b.raw"].map(|name| fs::read(bench.path(name)).unwrap());
        for disk in 0..2 {
            spoil(&bench, &group, disk, 0x51, "Volume1");
        }
        bench.backup(machine, &["a.raw", "b.raw"]);
        for disk in mended {
            fs::write(bench.path(["a.raw", "b.raw"][*disk]), &whole[*disk]).unwrap();
        }
        bench.backup(machine, &["a.raw", "b.raw"]);
        let file = format!("{machine}@latest:/disk0/p2024/text");
        assert_eq!(bench.expect(0, &["cat", "store", &file]).text(), "a file\n");
        let found = bench.expect(3, &["find", "store", machine, "--name", "text"]);
        assert!(
            found.text().contains("disk0/p2024/text"),
            "{}",
            found.text()
        );
        says(&found, &["disk0/p2024", "is lost"]);
        let points = bench.points();
        let mut of_machine = points.iter().filter(|point| point["machine"] == machine);
        let first = of_machine.next().unwrap()["point"].as_str().unwrap();
        let last = format!("{machine}@latest");
        let compared = bench.expect(3, &["diff", "store", first, &last, "--files"]);
        says(&compared, &["disk0/p2024", "is lost"]);
    }
}

#[test]
fn a_disk_that_was_given_is_not_called_missing() {
    let bench = Bench::new();
    if !have(&["mke2fs"]) {
        return;
    }
    for (is_headless, sentence) in [
        (false, "was given as `disk1`"),
        (true, "may be `disk1`, which was given"),
    ] {
        let (group, _) = made(&bench, Scheme::Gpt, b"a file\n");
        if is_headless {
            behead(&bench, &group, 1);
        } else {
            let at = bench.path("b.raw");
            let mut bytes = fs::read(&at).unwrap();
            let header = group.database_at(1) + 17 * SECTOR;
            bytes[header] = b'x';
            fs::write(&at, bytes).unwrap();
        }
        let machine = format!("web{is_headless}");
        bench.backup(&machine, &["a.raw", "b.raw"]);
        let first = format!("{machine}@latest:/disk0");
        let listed = bench.expect(3, &["ls", "store", &first]);
        assert_eq!(listed.lines(), ["p2024", "p2056"]);
        let why = if is_headless {
            "private header"
        } else {
            "no signature"
        };
        says(&listed, &["p2056: ", "`Disk2`", sentence, why]);
        assert!(!listed.stderr.contains("is missing"), "{}", listed.stderr);
        bench.backup(&machine, &["a.raw"]);
        let listed = bench.expect(0, &["ls", "store", &first]);
        says(&listed, &["`Disk2`", "is missing", "was not given"]);
    }
}

#[test]
fn a_copy_of_a_disk_shows_its_simple_volumes_too() {
    let bench = Bench::new();
    if !have(&["mke2fs"]) {
        return;
    }
    let (mut group, mut contents) = made(&bench, Scheme::Gpt, b"as it was\n");
    fs::copy(bench.path("a.raw"), bench.path("c.raw")).unwrap();
    // Since then the machine went on: another volume lies where the first one was.
    contents[0] = files(&bench, 4000, b"as it is\n");
    group.sequence += 1;
    group.volumes[0].name = "Other1".to_string();
    group.volumes[0].components[0].extents[0].start = 20_000;
    write(&bench, &group, &contents);
    let images = ["c.raw", "a.raw", "b.raw"];
    bench.backup("web01", &images);
    for (disk, numbers, text) in [
        (0, &["p2024"][..], "as it was\n"),
        (1, &["p2024", "p2056"], "as it is\n"),
    ] {
        let at = format!("web01@latest:/disk{disk}");
        let listed = bench.run(&["ls", "store", &at]);
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(listed.lines().collect::<Vec<_>>(), numbers);
        let file = bench.expect(0, &["cat", "store", &format!("{at}/p2024/text")]);
        assert_eq!(file.text(), text);
    }
    // Which of both the stripes belong to is told as a doubt.
    let listed = bench.expect(3, &["ls", "store", "web01@latest:/disk1"]);
    says(&listed, &["p2056: ", "`disk0`", "`disk1`", "both"]);
}
