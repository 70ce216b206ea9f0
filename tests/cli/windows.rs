//! Drive letters in addresses: a Windows machine of two disks.

use super::bench::Bench;
use crate::disks::{Windows, windows};
use std::fs;

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
