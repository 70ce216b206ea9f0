//! ls, cat and copy, on an ext4 partition that mke2fs filled.

use super::bench::{Bench, have, text, tool};
use crate::command::cairn;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::process::Stdio;

/// A GPT disk `disk.raw` whose partition 1 is ext4 with the folder `tree`. `None` where a tool is missing.
pub fn filled(bench: &Bench) -> Option<()> {
    if !have(&["mke2fs", "sgdisk", "dd"]) {
        return None;
    }
    let tree = bench.path("tree");
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::create_dir_all(tree.join("var/log")).unwrap();
    fs::write(tree.join("etc/hostname"), "web01\n").unwrap();
    fs::write(tree.join("etc/grüße x:y"), "names are bytes\n").unwrap();
    fs::set_permissions(tree.join("etc/hostname"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("hostname", tree.join("etc/link")).unwrap();
    bench.noise("tree/var/log/big", 9, 3_000_000);
    let (part, disk) = (bench.path("part.img"), bench.path("disk.raw"));
    tool(
        "mke2fs",
        &["-q", "-t", "ext4", "-d", text(&tree), text(&part), "16m"],
    );
    fs::File::create(&disk).unwrap().set_len(20 << 20).unwrap();
    tool(
        "sgdisk",
        &["-o", "-n", "1:2048:+16M", "-t", "1:8300", text(&disk)],
    );
    let (from, to) = (format!("if={}", text(&part)), format!("of={}", text(&disk)));
    tool(
        "dd",
        &[&from, &to, "bs=1M", "seek=1", "conv=notrunc", "status=none"],
    );
    Some(())
}

/// Where the partition of [`filled`] begins on the disk.
pub const START: u64 = 1 << 20;

/// Where the block `number` of a file or folder of the guest of [`filled`] lies in its partition. Needs `debugfs`.
pub fn block_of(bench: &Bench, path: &str, number: u64) -> u64 {
    let part = bench.path("part.img");
    let ask = |question: &str| tool("debugfs", &["-R", question, text(&part)]);
    let block: u64 = ask(&format!("bmap {path} {number}"))
        .trim()
        .parse()
        .unwrap();
    let told = ask("stats -h");
    let size = told
        .lines()
        .find_map(|line| line.strip_prefix("Block size:"));
    let size: u64 = size.unwrap().trim().parse().unwrap();
    block * size
}

/// The names in `/var` are lost in the guest of [`filled`]. Needs `debugfs`.
pub fn lose_names(bench: &Bench) {
    let at = START + block_of(bench, "/var", 0);
    let disk = bench.path("disk.raw");
    let disk = fs::OpenOptions::new().write(true).open(disk).unwrap();
    disk.write_all_at(&[0x55; 1024], at).unwrap();
}

#[test]
fn folders_are_listed_and_files_written_out() {
    let bench = Bench::new();
    let Some(()) = filled(&bench) else { return };
    bench.backup("web01", &["disk.raw"]);
    let ls = |address: &str| bench.expect(0, &["ls", "store", address]).lines();
    assert_eq!(ls("web01@latest"), ["disk0"]);
    assert_eq!(ls("web01@latest:/disk0"), ["p1"]);
    assert_eq!(ls("web01@latest:/disk0/p1"), ["etc", "lost+found", "var"]);
    assert_eq!(
        ls("web01@latest:/disk0/p1/etc/"),
        ["grüße x:y", "hostname", "link"]
    );
    assert_eq!(ls("web01@latest:/disk0/p1/etc/hostname"), ["hostname"]);
    let long = bench.expect(0, &["ls", "-l", "store", "web01@latest:/disk0/p1/etc"]);
    assert!(long.text().contains("-rw-r-----"), "{}", long.text());
    assert!(long.text().contains("link -> hostname"));

    let json = |address: &str| bench.expect(0, &["ls", "--json", "store", address]).json();
    assert_eq!(json("web01@latest")[0]["size"], 20 << 20);
    assert_eq!(json("web01@latest:/disk0")[0]["content"], "ext4");
    let etc = json("web01@latest:/disk0/p1/etc");
    assert_eq!(etc[1]["name"], "hostname");
    assert_eq!(etc[1]["kind"], "file");
    assert_eq!(etc[1]["size"], 6);
    assert_eq!(etc[2]["target"], "hostname");

    let cat = |address: &str| bench.expect(0, &["cat", "store", address]).stdout;
    assert_eq!(cat("web01@latest:/disk0/p1/etc/hostname"), b"web01\n");
    assert_eq!(
        cat("web01@latest:/disk0/p1/etc/grüße x:y"),
        b"names are bytes\n"
    );
    let big = fs::read(bench.path("tree/var/log/big")).unwrap();
    assert!(cat("web01@latest:/disk0/p1/var/log/big") == big);
    assert!(cat("web01@latest:/disk0") == fs::read(bench.path("disk.raw")).unwrap());

    let absent = [
        "web01@latest:/disk0/p1/nothing",
        "web01@latest:/disk0/p2",
        "web01@latest:/disk9",
    ];
    for address in absent {
        assert!(
            bench
                .expect(1, &["cat", "store", address])
                .stdout
                .is_empty()
        );
        bench.expect(1, &["ls", "store", address]);
    }
    bench.expect(2, &["cat", "store", "web01@latest"]);
}

#[test]
fn copies_carry_content_links_and_modes_and_replace_nothing_unasked() {
    let bench = Bench::new();
    let Some(()) = filled(&bench) else { return };
    bench.backup("web01", &["disk.raw"]);
    let copied = bench
        .expect(
            0,
            &["copy", "store", "web01@latest:/disk0/p1", "out", "--json"],
        )
        .json();
    assert_eq!(copied["files"], 3);
    assert_eq!(copied["links"], 1);
    tool(
        "diff",
        &[
            "-r",
            "--no-dereference",
            "-x",
            "lost+found",
            text(&bench.path("tree")),
            text(&bench.path("out")),
        ],
    );
    let meta = |name: &str| fs::metadata(bench.path(name)).unwrap();
    let (there, here) = (meta("tree/etc/hostname"), meta("out/etc/hostname"));
    assert_eq!(there.permissions().mode(), here.permissions().mode());
    let seconds = |time: std::time::SystemTime| {
        time.duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    assert_eq!(
        seconds(there.modified().unwrap()),
        seconds(here.modified().unwrap())
    );

    let from = "web01@latest:/disk0/p1/etc/hostname";
    fs::write(bench.path("mine"), "mine\n").unwrap();
    bench.expect(1, &["copy", "store", from, "mine"]);
    assert_eq!(fs::read(bench.path("mine")).unwrap(), b"mine\n");
    bench.expect(0, &["copy", "store", from, "mine", "--force"]);
    assert_eq!(fs::read(bench.path("mine")).unwrap(), b"web01\n");
    fs::create_dir(bench.path("into")).unwrap();
    bench.expect(0, &["copy", "store", from, "into"]);
    assert_eq!(fs::read(bench.path("into/hostname")).unwrap(), b"web01\n");
    bench.expect(2, &["copy", "store", "web01@latest:/disk0", "whole"]);
}

#[test]
fn what_cannot_be_copied_is_named_and_the_rest_is_copied() {
    let bench = Bench::new();
    let Some(()) = filled(&bench) else { return };
    if !have(&["debugfs"]) {
        return;
    }
    lose_names(&bench);
    bench.backup("m", &["disk.raw"]);
    let copied = bench.expect(3, &["copy", "store", "m@latest:/disk0/p1", "out"]);
    assert!(copied.stderr.contains("out/var"), "{}", copied.stderr);
    assert_eq!(
        fs::read(bench.path("out/etc/hostname")).unwrap(),
        b"web01\n"
    );
    assert!(!bench.path("out/var/log").exists());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let bench = Bench::new();
    bench.noise("a.raw", 8, 8 << 20);
    bench.backup("m", &["a.raw"]);
    let mut command = cairn();
    command.current_dir(&bench.folder);
    command
        .args(["cat", "store", "m@latest:/disk0"])
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    pipe.read_exact(&mut [0; 10]).unwrap();
    drop(pipe);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_copy_that_cannot_begin_fails_and_one_that_replaces_is_whole() {
    let bench = Bench::new();
    let Some(()) = filled(&bench) else { return };
    bench.backup("web01", &["disk.raw"]);
    let from = "web01@latest:/disk0/p1/etc/hostname";
    bench.expect(1, &["copy", "store", from, "no/such/folder/x"]);
    fs::write(bench.path("old"), "what was there").unwrap();
    bench.expect(1, &["copy", "store", from, "old"]);
    assert_eq!(fs::read(bench.path("old")).unwrap(), b"what was there");
    bench.expect(0, &["copy", "--force", "store", from, "old"]);
    assert_eq!(fs::read(bench.path("old")).unwrap(), b"web01\n");
    assert!(!bench.path("").read_dir().unwrap().any(|e| {
        let name = e.unwrap().file_name();
        name.to_string_lossy().ends_with(".partial")
    }));
    bench.expect(
        2,
        &[
            "restore",
            "store",
            "web01@latest",
            "--to",
            "-",
            "--format",
            "vhdx",
        ],
    );
}
