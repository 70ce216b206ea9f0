//! Dynamic disks of Windows: what `cairn disk` says of one, and files of volumes over several.

use super::bench::{Bench, have, text, tool};
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
