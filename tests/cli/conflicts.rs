//! copy: what is in the way at the target, and what would lead out of it.

use super::bench::{Answer, Bench, have, text, tool};
use super::copy::{everything, image_of, shell};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

/// Copies paths of the latest point of `m`.
#[track_caller]
fn copy(bench: &Bench, code: i32, paths: &[&str], rest: &[&str]) -> Answer {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| format!("m@latest:/disk0/p0/{path}"))
        .collect();
    let mut arguments = vec!["copy", "store", "--json"];
    arguments.extend(paths.iter().map(String::as_str));
    arguments.extend_from_slice(rest);
    bench.expect(code, &arguments)
}

#[test]
fn many_paths_go_into_one_folder_and_conflicts_as_asked() {
    let bench = Bench::new();
    let Some(()) = everything(&bench) else { return };
    let copy = |code: i32, paths: &[&str], rest: &[&str]| copy(&bench, code, paths, rest);
    copy(0, &["small/100", "deep/a", "links/hard", "big"], &["out"]);
    let names = shell("ls -A \"$1\"", &bench.path("out"));
    assert_eq!(
        names.lines().collect::<Vec<_>>(),
        ["100", "a", "big", "hard"]
    );
    let number = |name: &str| fs::metadata(bench.path(name)).unwrap().ino();
    assert_eq!(number("out/big"), number("out/hard"));
    assert_eq!(number("out/big"), number("out/a/hard2"));
    // What is there stays and is named; the rest comes.
    let mine = |name: &str| fs::write(bench.path(name), "mine\n").unwrap();
    let is_mine = |name: &str| fs::read(bench.path(name)).unwrap() == b"mine\n";
    fs::remove_file(bench.path("out/100")).unwrap();
    mine("out/100");
    let named = copy(3, &["small/100", "small/1"], &["out"]);
    assert!(named.stderr.contains("out/100"), "{}", named.stderr);
    assert!(is_mine("out/100") && bench.path("out/1").exists());
    let skipped = copy(
        0,
        &["small/100", "small/4096"],
        &["out", "--on-conflict", "skip"],
    )
    .json();
    assert_eq!(
        (&skipped["skipped"], &skipped["files"]),
        (&1.into(), &1.into())
    );
    let renamed = copy(
        0,
        &["small/100", "deep/a"],
        &["out", "--on-conflict", "rename"],
    )
    .json();
    assert_eq!(renamed["renamed"], 2);
    assert!(is_mine("out/100") && bench.path("out/a (2)/b/c").is_dir());
    assert_eq!(fs::metadata(bench.path("out/100 (2)")).unwrap().len(), 100);
    copy(0, &["small/100"], &["out", "--on-conflict", "overwrite"]);
    assert_eq!(fs::metadata(bench.path("out/100")).unwrap().len(), 100);
    // Within folders too, and nothing that is only there goes.
    fs::remove_file(bench.path("out/a/hard2")).unwrap();
    mine("out/a/hard2");
    mine("out/a/b/mine");
    copy(0, &["deep/a"], &["out", "--on-conflict", "overwrite"]);
    assert!(!is_mine("out/a/hard2") && is_mine("out/a/b/mine"));
}

#[test]
fn paths_of_one_name_and_paths_that_lead_nowhere_are_named() {
    let bench = Bench::new();
    let Some(()) = everything(&bench) else { return };
    let at = |path: &str| format!("m@latest:/disk0/p0/{path}");
    let copy = |code: i32, paths: &[&str], rest: &[&str]| copy(&bench, code, paths, rest);
    let named = copy(3, &["small/100", "deep", "small/100"], &["two"]);
    assert!(named.stderr.contains("two/100"), "{}", named.stderr);
    copy(
        0,
        &["small/100", "small/1", "deep/a/b"],
        &["above", "--parents"],
    );
    assert!(bench.path("above/disk0/p0/small/100").exists());
    assert!(bench.path("above/disk0/p0/deep/a/b/c").is_dir());
    // Addresses that lead nowhere are named.
    let named = copy(3, &["small/100", "small/none"], &["three"]);
    assert!(named.stderr.contains("none"), "{}", named.stderr);
    bench.expect(2, &["copy", "store", "four"]);
    bench.expect(
        2,
        &[
            "copy",
            "store",
            "m@latest:/disk0",
            &at("big"),
            "--format",
            "tar",
            "--json",
            "-",
        ],
    );
}

/// Two machines: one with links where the other one has a folder and a file.
fn hostile(bench: &Bench, outside: &Path) {
    fs::create_dir(outside).unwrap();
    fs::write(outside.join("passwd"), "mine\n").unwrap();
    for (name, machine) in [("first", "a"), ("second", "b")] {
        let tree = bench.path(name);
        fs::create_dir_all(tree.join("top")).unwrap();
        if machine == "a" {
            symlink(outside, tree.join("top/link")).unwrap();
            symlink(outside.join("passwd"), tree.join("top/file")).unwrap();
        } else {
            fs::create_dir(tree.join("top/link")).unwrap();
            fs::write(tree.join("top/link/passwd"), "theirs\n").unwrap();
            fs::write(tree.join("top/link/new"), "theirs\n").unwrap();
            fs::write(tree.join("top/file"), "theirs\n").unwrap();
        }
        image_of(bench, name, &format!("{name}.raw"), "16m");
        bench.backup(machine, &[&format!("{name}.raw")]);
    }
}

#[test]
fn links_of_a_guest_lead_nobody_out_of_the_target() {
    let bench = Bench::new();
    if !have(&["mke2fs"]) {
        return;
    }
    let outside = bench.path("outside");
    hostile(&bench, &outside);
    let top = ["a@latest:/disk0/p0/top", "b@latest:/disk0/p0/top"];
    let link = ["a@latest:/disk0/p0/top/link", "b@latest:/disk0/p0/top/link"];
    for (number, how) in ["fail", "skip", "overwrite", "rename", "resume"]
        .iter()
        .enumerate()
    {
        let how: &[&str] = match *how {
            "resume" => &["--resume"],
            policy => &["--on-conflict", policy],
        };
        for (kind, paths) in [("top", top), ("link", link)] {
            let target = format!("{kind}{number}");
            let out = bench.run(&[&["copy", "store"], &paths[..], &[&target], how].concat());
            assert!([Some(0), Some(3)].contains(&out.status.code()));
            assert_eq!(fs::read(outside.join("passwd")).unwrap(), b"mine\n");
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{target}");
        }
    }
    // The link of the first one is still that, and the file of the second one took the place of the other link.
    assert!(bench.path("top2/top/link").is_symlink());
    assert_eq!(fs::read(bench.path("top2/top/file")).unwrap(), b"theirs\n");
    assert!(!bench.path("top2/top/file").is_symlink());
    // A new name has no link to follow either.
    assert_eq!(
        fs::read(bench.path("link3/link (2)/new")).unwrap(),
        b"theirs\n"
    );
    // Links that were there before are the user's, but not followed below the target.
    fs::create_dir(bench.path("own")).unwrap();
    symlink(&outside, bench.path("own/link")).unwrap();
    let copy = [
        "copy",
        "store",
        link[1],
        "own",
        "--on-conflict",
        "overwrite",
    ];
    bench.expect(1, &copy);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn names_that_are_one_at_the_target_are_told() {
    let bench = Bench::new();
    if !have(&["mke2fs", "mkfs.vfat", "mount", "umount"]) {
        return;
    }
    fs::create_dir(bench.path("tree")).unwrap();
    for (name, content) in [
        ("Report", "1\n"),
        ("report", "2\n"),
        ("a:b", "3\n"),
        ("plain", "4\n"),
    ] {
        fs::write(bench.path("tree").join(name), content).unwrap();
    }
    image_of(&bench, "tree", "whole.raw", "16m");
    bench.backup("m", &["whole.raw"]);
    let fat = bench.path("fat.img");
    fs::File::create(&fat).unwrap().set_len(16 << 20).unwrap();
    tool("mkfs.vfat", &[text(&fat)]);
    let at = bench.path("fat");
    fs::create_dir(&at).unwrap();
    let mounted = Command::new("mount")
        .args(["-o", "loop", text(&fat), text(&at)])
        .output();
    if !mounted.is_ok_and(|out| out.status.success()) {
        println!("SKIPPED: images cannot be mounted here");
        return;
    }
    let copies: Vec<_> = ["fail", "overwrite", "skip", "rename"]
        .iter()
        .map(|how| {
            let target = format!("fat/{how}");
            let out = bench.run(&[
                "copy",
                "store",
                "m@latest:/disk0/p0",
                &target,
                "--on-conflict",
                how,
            ]);
            let read = |name: &str| fs::read(bench.path(&target).join(name)).unwrap_or_default();
            let errors = String::from_utf8(out.stderr).unwrap();
            (
                *how,
                out.status.code(),
                errors,
                [read("report"), read("report (2)"), read("plain")],
            )
        })
        .collect();
    tool("umount", &[text(&at)]);
    for (how, code, errors, [report, other, plain]) in copies {
        assert_eq!(code, Some(3), "{how}: {errors}");
        assert!(errors.contains("a:b"), "{how}: {errors}");
        assert_eq!(plain, b"4\n");
        assert!(report == b"1\n" || report == b"2\n");
        if how == "rename" {
            assert!(other == b"1\n" || other == b"2\n");
            assert_ne!(other, report);
        } else {
            assert!(
                errors.to_lowercase().contains("report was not copied"),
                "{how}: {errors}"
            );
        }
    }
}
