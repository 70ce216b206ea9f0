//! Drive letters in addresses: a Windows machine of two disks.

use super::bench::Bench;
use crate::disks::{C_GUID, C_START, D_SIGNATURE, D_START, Windows, mount, windows};
use crate::made;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A SYSTEM hive that gives `letter` to the second disk's volume.
fn hive(letter: char) -> Vec<u8> {
    let place = made::by_place(D_SIGNATURE, D_START);
    let name = format!(r"\DosDevices\{letter}:");
    made::system(&[(r"\DosDevices\C:", made::by_guid(C_GUID)), (&name, place)])
}

/// A point of `pc` with the disks `sys` and `data`.
fn backed_up(bench: &Bench) -> Option<()> {
    let Windows { .. } = windows(&bench.folder, &|_, _| {})?;
    let disks = ["sys=system.raw", "data=data.raw"];
    bench.backup("pc", &disks);
    Some(())
}

#[test]
fn a_letter_is_as_good_as_disk_and_partition() {
    let bench = Bench::new();
    if backed_up(&bench).is_none() {
        return;
    }
    let listed = bench.expect(0, &["ls", "store", "pc@latest"]);
    assert_eq!(listed.lines(), ["sys", "data", "C:", "D:"]);
    let listed = bench.expect(0, &["ls", "-l", "store", "pc@latest"]).text();
    assert!(listed.contains("C: -> sys/p2\n"), "{listed}");
    let json = bench
        .expect(0, &["ls", "--json", "store", "pc@latest"])
        .json();
    assert_eq!(json[3]["name"], "D:");
    assert_eq!(json[3]["kind"], "letter");
    assert_eq!(json[3]["target"], "data/p1");
    for address in [
        "pc@latest:C:/Users/ann/notes.txt",
        "pc@latest:c:/users/ANN/notes.txt",
        r"pc@latest:C:\Users\ann\notes.txt",
        "pc@latest:/C:/Users/ann/notes.txt",
        "pc@latest:/sys/p2/Users/ann/notes.txt",
    ] {
        let out = bench.expect(0, &["cat", "store", address]);
        assert_eq!(out.text(), "ann's notes", "{address}");
    }
    for root in ["pc@latest:D:", "pc@latest:D:/", r"pc@latest:D:\"] {
        let out = bench.expect(0, &["ls", "store", root]);
        assert!(out.lines().contains(&"Data".to_string()), "{root}");
    }
    let out = bench.expect(0, &["ls", "-l", "store", "pc@latest:C:/Users/ann"]);
    assert!(
        out.text().contains(r"data -> D:\Data"),
        "as the guest wrote it"
    );
    let out = bench.expect(1, &["cat", "store", "pc@latest:X:/a"]);
    assert!(out.stderr.contains("no volume `X:`") && out.stderr.contains("C:, D:"));
}

#[test]
fn copies_go_by_letters_too() {
    let bench = Bench::new();
    if backed_up(&bench).is_none() {
        return;
    }
    bench.expect(
        0,
        &["copy", "store", r"pc@latest:C:\Users\ann\notes.txt", "one"],
    );
    assert_eq!(
        fs::read_to_string(bench.path("one")).unwrap(),
        "ann's notes"
    );
    let addresses = [
        "pc@latest:D:/Data/table.txt",
        "pc@latest:/sys/p2/Users/ann/notes.txt",
    ];
    bench.expect(
        0,
        &[
            "copy",
            "--parents",
            "store",
            addresses[0],
            addresses[1],
            "many",
        ],
    );
    for (path, content) in [
        ("many/D/Data/table.txt", "a table"),
        ("many/sys/p2/Users/ann/notes.txt", "ann's notes"),
    ] {
        assert_eq!(fs::read_to_string(bench.path(path)).unwrap(), content);
    }
}

#[test]
fn an_image_tells_the_letters_it_knows() {
    let bench = Bench::new();
    if backed_up(&bench).is_none() {
        return;
    }
    let told = bench.expect(0, &["disk", "system.raw"]).text();
    assert!(told.contains("p2   C: 24.0 MiB"), "{told}");
    let json = bench.expect(0, &["disk", "--json", "system.raw"]).json();
    assert_eq!(json["partitions"][1]["letters"][0], "C:");
    assert_eq!(
        json["partitions"][0]["letters"].as_array().unwrap().len(),
        0
    );
}

#[test]
fn notes_of_letters_are_told_of_an_image() {
    let bench = Bench::new();
    let more = |c: &Path, _: &Path| {
        let config = c.join("Windows.old/System32/config");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("SYSTEM"), hive('D')).unwrap();
    };
    if windows(&bench.folder, &more).is_none() {
        return;
    }
    let told = "There is another Windows in disk0/p2/Windows.old; the drive letters are those of the one in disk0/p2/Windows.";
    let text = bench.expect(0, &["disk", "system.raw"]).text();
    assert!(text.contains(&format!("drive letters: {told}\n")), "{text}");
    let json = bench.expect(0, &["disk", "--json", "system.raw"]).json();
    assert_eq!(json["letter_notes"], serde_json::json!([told]));
    let json = bench.expect(0, &["disk", "--json", "data.raw"]).json();
    assert_eq!(json["letter_notes"], serde_json::json!([]));
}

#[test]
fn files_are_found_by_letters() {
    let bench = Bench::new();
    if backed_up(&bench).is_none() {
        return;
    }
    let found = |patterns: &[&str]| {
        let mut arguments = vec!["find", "store", "pc", "--plain"];
        for pattern in patterns {
            arguments.extend(["--path", pattern]);
        }
        let mut lines = bench.expect(0, &arguments).lines();
        for line in &mut lines {
            *line = line.split_once(":/").unwrap().1.to_string();
        }
        lines
    };
    for pattern in [
        "C:/Users/ann/n*.txt",
        "/c:/users/ANN/notes.txt",
        r"C:\Users\ann\n*.txt",
        "C:*notes.txt",
    ] {
        assert_eq!(
            found(&[pattern]),
            ["sys/p2/Users/ann/notes.txt"],
            "{pattern}"
        );
    }
    assert_eq!(found(&["D:/*.txt"]), ["data/p1/Data/table.txt"]);
    assert_eq!(
        found(&["D:/*.txt", "/sys/*/notes.txt"]),
        ["data/p1/Data/table.txt", "sys/p2/Users/ann/notes.txt"]
    );
    assert!(found(&["X:/*"]).is_empty());
    // In the next point the second disk, which is as it was, has another letter.
    let volume = bench.path("c.ntfs");
    let mounted = mount(&volume, false).unwrap();
    let config = mounted.0.join("Windows/System32/config/SYSTEM");
    fs::write(config, hive('G')).unwrap();
    drop(mounted);
    let image = OpenOptions::new()
        .write(true)
        .open(bench.path("system.raw"));
    image
        .unwrap()
        .write_all_at(&fs::read(volume).unwrap(), C_START)
        .unwrap();
    bench.backup("pc", &["sys=system.raw", "data=data.raw"]);
    let points = |pattern: &str| {
        let out = bench.expect(0, &["find", "store", "pc", "--json", "--path", pattern]);
        let all = out.json();
        let all = all.as_array().unwrap().iter();
        all.map(|found| {
            let times = (
                found["first"]["time"].clone(),
                found["last"]["time"].clone(),
            );
            (times.0 == times.1, found["points"].as_u64().unwrap())
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(points("C:/Users/ann/notes.txt"), [(false, 2)]);
    assert_eq!(points("D:/Data/table.txt"), [(true, 1)]);
    assert_eq!(points("G:/Data/table.txt"), [(true, 1)]);
    assert_eq!(points("/data/p1/Data/table.txt"), [(false, 2)]);
}

#[test]
fn names_of_guests_in_warnings_do_not_play_with_the_screen() {
    let bench = Bench::new();
    let more = |c: &Path, _: &Path| {
        for (folder, hive) in [
            ("Old\u{1b}[31m", hive('D')),
            ("Bad\u{1b}[32m", b"regf and no more".to_vec()),
        ] {
            let config = c.join(folder).join("System32/config");
            fs::create_dir_all(&config).unwrap();
            fs::write(config.join("SYSTEM"), hive).unwrap();
        }
    };
    if windows(&bench.folder, &more).is_none() {
        return;
    }
    bench.backup("pc", &["sys=system.raw", "data=data.raw"]);
    let bad = "Windows in sys/p2/Bad?[32m says";
    for (arguments, all) in [
        (
            &["find", "store", "pc", "--path", "C:/Users/ann/n*"][..],
            &[bad][..],
        ),
        (
            &["cat", "store", "pc@latest:C:/Users/ann/notes.txt"],
            &[bad],
        ),
        (
            &["ls", "-l", "store", "pc@latest"],
            &[bad, "another Windows in sys/p2/Old?[31m;"],
        ),
    ] {
        let told = bench.expect(3, arguments).stderr;
        assert!(all.iter().all(|said| told.contains(said)), "{told}");
        assert!(!told.contains('\u{1b}'), "{told:?}");
    }
}
