//! copy --format: archives that the tools of others unpack.

use super::bench::{Bench, have, text, tool};
use super::copy::{everything, same, shell};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn unpack(tool_name: &str, arguments: &[&str], to: &Path) {
    fs::create_dir(to).unwrap();
    let all = [arguments, &["-C", text(to)]].concat();
    tool(tool_name, &all);
}

#[test]
fn a_tar_is_unpacked_by_gnu_tar_as_it_was() {
    let bench = Bench::new();
    let Some(()) = everything(&bench) else { return };
    bench.expect(
        0,
        &[
            "copy",
            "store",
            "m@latest:/disk0/p0",
            "--format",
            "tar",
            "a.tar",
        ],
    );
    let archive = bench.path("a.tar");
    // Holes take no space in it.
    assert!(fs::metadata(&archive).unwrap().len() < 12 << 20);
    let how = [
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--numeric-owner",
        "-xpf",
        text(&archive),
    ];
    unpack("tar", &how, &bench.path("x"));
    same(&bench.path("tree"), &bench.path("x/p0"));
    let space = |name: &str| fs::metadata(bench.path(name)).unwrap().blocks() * 512;
    assert!(space("x/p0/holes/far") < 1 << 20 && space("x/p0/holes/only") < 1 << 20);
    let number = |name: &str| fs::metadata(bench.path(name)).unwrap().ino();
    assert_eq!(number("x/p0/big"), number("x/p0/deep/a/hard2"));
    if have(&["bsdtar"]) {
        unpack(
            "bsdtar",
            &[
                "--numeric-owner",
                "--acls",
                "--xattrs",
                "-xpf",
                text(&archive),
            ],
            &bench.path("y"),
        );
        same(&bench.path("tree"), &bench.path("y/p0"));
    }
}

#[test]
fn nothing_is_replaced_unasked_and_nothing_half_is_left() {
    let bench = Bench::new();
    let Some(()) = everything(&bench) else { return };
    let archive = bench.path("a.tar");
    fs::write(&archive, "mine\n").unwrap();
    bench.expect(
        1,
        &[
            "copy",
            "store",
            "m@latest:/disk0/p0/big",
            "--format",
            "tar",
            "a.tar",
        ],
    );
    bench.expect(
        0,
        &[
            "copy",
            "store",
            "m@latest:/disk0/p0/big",
            "--format",
            "tar",
            "a.tar",
            "--force",
        ],
    );
    assert_eq!(tool("tar", &["-tf", text(&archive)]), "big\n");
    assert_eq!(shell("ls -A \"$1\" | grep partial", &bench.folder), "");
}

#[test]
fn a_stream_has_many_paths_and_ends_where_its_reader_does() {
    let bench = Bench::new();
    let Some(()) = everything(&bench) else { return };
    let at = |path: &str| format!("m@latest:/disk0/p0/{path}");
    let (one, two) = (at("small/100"), at("links"));
    let stream = bench.expect(0, &["copy", "store", &one, &two, "--format", "tar", "-"]);
    fs::write(bench.path("b.tar"), &stream.stdout).unwrap();
    assert!(
        stream.stderr.contains("2 files, 1 folders, 2 links"),
        "{}",
        stream.stderr
    );
    let names = tool("tar", &["-tf", text(&bench.path("b.tar"))]);
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["100", "links/", "links/good", "links/hard", "links/long"]
    );
    // Two of one name.
    let named = bench.expect(
        3,
        &["copy", "store", &one, &one, "--format", "tar", "c.tar"],
    );
    assert!(named.stderr.contains("`100`"), "{}", named.stderr);
    let rename = ["copy", "store", &one, &one, "--on-conflict", "rename"];
    bench.expect(0, &[&rename[..], &["--format", "tar", "d.tar"]].concat());
    assert_eq!(
        tool("tar", &["-tf", text(&bench.path("d.tar"))]),
        "100\n100 (2)\n"
    );
    bench.expect(
        2,
        &[
            "copy", "store", &one, "--format", "tar", "--resume", "e.tar",
        ],
    );
}

/// The lines that tell content, kind, mode and links: what a zip archive keeps.
fn kept(folder: &Path) -> Vec<String> {
    let script = r#"cd "$1"; find . -mindepth 1 -name lost+found -prune -o -name nodes -prune -o -type f -printf '%P %m %s %Ts\n' -o -type l -printf '%P %l\n' | LC_ALL=C sort
        find . -mindepth 1 -name lost+found -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum"#;
    shell(script, folder).lines().map(str::to_string).collect()
}

#[track_caller]
fn same_lines<T: AsRef<str> + PartialEq>(one: &[T], other: &[T]) {
    let text = |lines: &[T]| {
        lines
            .iter()
            .map(|l| l.as_ref().to_string())
            .collect::<Vec<_>>()
    };
    let (one, other) = (text(one), text(other));
    let only = |a: &[String], b: &[String]| {
        a.iter()
            .filter(|line| !b.contains(line))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert!(
        one == other,
        "{:?}\n{:?}",
        only(&one, &other),
        only(&other, &one)
    );
}

#[test]
fn a_zip_is_unpacked_by_others_as_far_as_it_can_hold() {
    let bench = Bench::new();
    let Some(()) = everything(&bench) else { return };
    let named = bench.expect(
        3,
        &[
            "copy",
            "store",
            "m@latest:/disk0/p0",
            "--format",
            "zip",
            "a.zip",
        ],
    );
    for lost in ["pipe", "extended attributes", "further names"] {
        assert!(named.stderr.contains(lost), "{}", named.stderr);
    }
    let archive = bench.path("a.zip");
    if have(&["unzip"]) {
        tool("unzip", &["-tq", text(&archive)]);
        // -K keeps the bits for other users than the owner.
        tool(
            "unzip",
            &["-qK", text(&archive), "-d", text(&bench.path("u"))],
        );
        // Its own times begin in 1980.
        let before = |line: &&String| !line.starts_with("small/0 ");
        let (tree, out) = (kept(&bench.path("tree")), kept(&bench.path("u/p0")));
        let (tree, out): (Vec<_>, Vec<_>) = (
            tree.iter().filter(before).collect(),
            out.iter().filter(before).collect(),
        );
        same_lines(&tree, &out);
    }
    if have(&["bsdtar"]) {
        unpack("bsdtar", &["-xpf", text(&archive)], &bench.path("b"));
        let (tree, out) = (kept(&bench.path("tree")), kept(&bench.path("b/p0")));
        let early = |line: &&String| !line.starts_with("small/0 ");
        let (tree, out): (Vec<_>, Vec<_>) = (
            tree.iter().filter(early).collect(),
            out.iter().filter(early).collect(),
        );
        same_lines(&tree, &out);
    }
}

#[test]
fn a_sparse_file_has_a_telling_name_for_tools_that_do_not_know_it() {
    let bench = Bench::new();
    let Some(()) = everything(&bench) else { return };
    let from = "m@latest:/disk0/p0/holes";
    bench.expect(0, &["copy", "store", from, "--format", "tar", "a.tar"]);
    let bytes = fs::read(bench.path("a.tar")).unwrap();
    // Names in headers, as tools see them that pass over records.
    let names: Vec<String> = bytes
        .chunks(512)
        .filter(|block| block.get(257..262) == Some(b"ustar") && block[156] == b'0')
        .map(|block| String::from_utf8_lossy(&block[..100]).into_owned())
        .map(|name| name.trim_end_matches('\0').to_string())
        .collect();
    assert!(
        names.contains(&"holes/GNUSparseFile.0/far".to_string()),
        "{names:?}"
    );
    assert!(!names.contains(&"holes/far".to_string()), "{names:?}");
    let listed = tool("tar", &["-tf", text(&bench.path("a.tar"))]);
    assert!(
        listed.contains("holes/far\n") && !listed.contains("Sparse"),
        "{listed}"
    );
}

#[test]
fn an_archive_that_nobody_read_to_its_end_is_a_failure() {
    use std::io::Read;
    let bench = Bench::new();
    if !have(&["mke2fs"]) {
        return;
    }
    fs::create_dir(bench.path("tree")).unwrap();
    bench.noise("tree/large", 5, 8 << 20);
    super::copy::image_of(&bench, "tree", "whole.raw", "24m");
    bench.backup("m", &["whole.raw"]);
    let mut command = crate::command::cairn();
    command.current_dir(&bench.folder);
    command.args([
        "copy",
        "store",
        "m@latest:/disk0/p0",
        "--format",
        "tar",
        "-",
    ]);
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    pipe.read_exact(&mut [0; 10]).unwrap();
    drop(pipe);
    let out = child.wait_with_output().unwrap();
    let errors = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{errors}");
    assert!(errors.contains("not complete"), "{errors}");
}
