//! copy: paths that meet at the target, in one job.

use super::bench::{Answer, Bench, have, text, tool};
use super::copy::{image_of, shell};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// A machine `m` whose disk is an ext4 file system made from a folder that `script` fills.
pub fn guest(bench: &Bench, script: &str) -> Option<()> {
    if !have(&["bash", "mke2fs"]) {
        return None;
    }
    fs::create_dir(bench.path("tree")).unwrap();
    shell(&format!("cd \"$1\"; {script}"), &bench.path("tree"));
    image_of(bench, "tree", "whole.raw", "24m");
    bench.backup("m", &["whole.raw"]);
    Some(())
}

/// Copies paths of the latest point of `m`.
#[track_caller]
fn copy(bench: &Bench, code: i32, paths: &[&str], rest: &[&str]) -> Answer {
    let at = |path: &&str| format!("m@latest:/disk0/p0/{path}");
    let paths: Vec<String> = paths.iter().map(at).collect();
    let mut arguments = vec!["copy", "store", "--json"];
    arguments.extend(paths.iter().map(String::as_str));
    arguments.extend_from_slice(rest);
    bench.expect(code, &arguments)
}

fn read(bench: &Bench, name: &str) -> String {
    String::from_utf8(fs::read(bench.path(name)).unwrap_or_default()).unwrap()
}

fn mode(bench: &Bench, name: &str) -> u32 {
    let known = fs::metadata(bench.path(name)).unwrap();
    known.permissions().mode() & 0o7777
}

#[test]
fn a_second_name_never_gets_the_content_of_what_replaced_the_first() {
    let bench = Bench::new();
    let script = "mkdir -p a b/a c d/a; echo X > a/f; ln a/f c/g; ln a/f c/h; echo other > b/a/f; echo third > d/a/f";
    let Some(()) = guest(&bench, script) else {
        return;
    };
    let how = ["out", "--on-conflict", "overwrite", "--verify"];
    // Replaced once, and twice, so that the number of the first inode may be in use again.
    let once = &["b/a/f"][..];
    let twice = &["b/a/f", "d/a/f"][..];
    for between in [once, twice, twice, twice, twice] {
        let paths = [&["a/f"], between, &["c/g", "c/h"]].concat();
        copy(&bench, 0, &paths, &how);
        assert_eq!(read(&bench, "out/g"), "X\n");
        assert_ne!(read(&bench, "out/f"), "X\n");
        let number = |name: &str| fs::metadata(bench.path(name)).unwrap().ino();
        assert_eq!(number("out/g"), number("out/h"));
        assert_ne!(number("out/g"), number("out/f"));
        fs::remove_dir_all(bench.path("out")).unwrap();
    }
}

#[test]
fn of_files_of_one_name_the_last_one_stays() {
    let bench = Bench::new();
    let script = "mkdir -p b/a d/a e/a; for n in b d e; do yes $n | head -c 300000 > $n/a/f; done";
    let Some(()) = guest(&bench, script) else {
        return;
    };
    for round in 0..5 {
        for verify in [&[][..], &["--verify"]] {
            let out = format!("out{round}{}", verify.len());
            let how = [&[&out[..], "--on-conflict", "overwrite"], verify].concat();
            let report = copy(&bench, 0, &["b/a/f", "d/a/f", "e/a/f"], &how).json();
            assert!(read(&bench, &format!("{out}/f")).starts_with("e\ne\n"));
            assert_eq!(report["verified"], 3 * verify.len());
        }
    }
}

#[test]
fn a_mark_of_the_guest_is_a_file_like_any_other() {
    let bench = Bench::new();
    let script = "mkdir -p one two; echo theirs > one/.cairn-copy-unfinished; touch two/.cairn-copy-unfinished; touch two/x";
    let Some(()) = guest(&bench, script) else {
        return;
    };
    for how in [&["--verify"][..], &["--resume"], &["--on-conflict", "skip"]] {
        copy(&bench, 0, &["one", "two"], &[&["out"], how].concat());
        let mark = |folder: &str| read(&bench, &format!("out/{folder}/.cairn-copy-unfinished"));
        assert_eq!(mark("one"), "theirs\n");
        assert!(bench.path("out/two/.cairn-copy-unfinished").exists());
    }
}

#[test]
fn a_copy_that_gives_other_names_is_not_gone_on_with() {
    let bench = Bench::new();
    let Some(()) = guest(&bench, "mkdir a; echo 1 > a/f") else {
        return;
    };
    fs::create_dir_all(bench.path("out/a")).unwrap();
    fs::write(bench.path("out/a/mine"), "mine\n").unwrap();
    let how = ["out", "--resume", "--on-conflict", "rename"];
    let refused = copy(&bench, 2, &["a"], &how);
    assert!(refused.stderr.contains("rename"), "{}", refused.stderr);
    assert!(!bench.path("out/a/f").exists() && !bench.path("out/a (2)").exists());
}

#[test]
fn one_bad_folder_above_stops_nothing_else() {
    let bench = Bench::new();
    let script = "mkdir -p a b/c d; echo 1 > a/f; echo 2 > b/c/f; echo 3 > d/f; chmod 750 d";
    let Some(()) = guest(&bench, script) else {
        return;
    };
    fs::create_dir_all(bench.path("out/disk0/p0")).unwrap();
    fs::write(bench.path("out/disk0/p0/b"), "mine\n").unwrap();
    let named = copy(&bench, 3, &["a", "b/c/f", "d"], &["out", "--parents"]);
    assert!(named.stderr.contains("disk0/p0/b"), "{}", named.stderr);
    assert_eq!(named.json()["files"], 2);
    assert_eq!(read(&bench, "out/disk0/p0/a/f"), "1\n");
    assert_eq!(read(&bench, "out/disk0/p0/b"), "mine\n");
    assert_eq!(mode(&bench, "out/disk0/p0/d"), 0o750);
}

#[test]
fn folders_above_are_those_of_the_guest() {
    let bench = Bench::new();
    let script = "mkdir -p priv/deep two; chmod 700 priv; chmod 711 priv/deep; echo 1 > priv/deep/key; echo 2 > priv/other; echo 3 > two/x
        touch -d '2024-05-06 07:08:09' priv/deep priv";
    let Some(()) = guest(&bench, script) else {
        return;
    };
    let report = copy(&bench, 0, &["priv/deep/key"], &["out", "--parents"]).json();
    assert_eq!(report["files"], 1);
    for (name, expected) in [("priv", 0o700), ("priv/deep", 0o711)] {
        assert_eq!(mode(&bench, &format!("out/disk0/p0/{name}")), expected);
        let made = fs::metadata(bench.path(&format!("out/disk0/p0/{name}"))).unwrap();
        let there = fs::metadata(bench.path(&format!("tree/{name}"))).unwrap();
        assert_eq!(made.mtime(), there.mtime());
    }
    // What is asked for twice is made once.
    for how in [&[][..], &["--verify"]] {
        let out = format!("again{}", how.len());
        let paths = ["priv/deep/key", "priv", "two/x"];
        let report = copy(&bench, 0, &paths, &[&[&out[..], "--parents"], how].concat()).json();
        assert_eq!(report["files"], 3);
        assert_eq!(report["failed"], Value::Array(Vec::new()));
        let at = |name: &str| format!("{out}/disk0/p0/{name}");
        assert_eq!(mode(&bench, &at("priv")), 0o700);
        assert_eq!(read(&bench, &at("priv/other")), "2\n");
        let left = shell("find \"$1\" -name '.cairn-*'", &bench.path(&out));
        assert_eq!(left, "");
    }
    // The user's own folder keeps its permissions.
    fs::create_dir_all(bench.path("own/disk0/p0/priv")).unwrap();
    copy(&bench, 0, &["priv/other"], &["own", "--parents"]);
    assert_eq!(mode(&bench, "own/disk0/p0/priv"), 0o755);
}

#[test]
fn a_dot_at_the_end_is_no_name() {
    let bench = Bench::new();
    let Some(()) = guest(&bench, "mkdir x; echo 1 > x/f") else {
        return;
    };
    fs::create_dir(bench.path("into")).unwrap();
    copy(&bench, 0, &["x/."], &["into"]);
    assert_eq!(read(&bench, "into/x/f"), "1\n");
    copy(&bench, 0, &["."], &["into"]);
    assert_eq!(read(&bench, "into/p0/x/f"), "1\n");
}

#[test]
fn an_archive_that_is_being_written_is_not_swept() {
    let bench = Bench::new();
    if !have(&["mke2fs"]) {
        return;
    }
    fs::create_dir(bench.path("tree")).unwrap();
    bench.noise("tree/large", 5, 40 << 20);
    fs::write(bench.path("tree/small"), "1\n").unwrap();
    image_of(&bench, "tree", "whole.raw", "64m");
    bench.backup("m", &["whole.raw"]);
    fs::create_dir(bench.path("out")).unwrap();
    // As long as a name may be.
    let name = format!("out/{}.tar", "x".repeat(236));
    let from = "m@latest:/disk0/p0/large";
    let mut writer = bench.start(&["copy", "store", from, "--format", "tar", &name]);
    let partial = || !shell("ls -A \"$1\" | grep '^.cairn-'", &bench.path("out")).is_empty();
    super::bench::eventually("it begins", || !writer.is_alive() || partial());
    writer.signal_if_alive("STOP");
    copy(&bench, 0, &["small"], &["out", "--resume"]);
    writer.signal_if_alive("CONT");
    let (status, answer) = writer.end();
    assert_eq!(status.code(), Some(0), "{}", answer.stderr);
    let listed = tool("tar", &["-tf", text(&bench.path(&name))]);
    assert_eq!(listed, "large\n");
    assert!(!partial());
}

#[test]
fn what_killed_copies_left_is_swept_whatever_it_is() {
    let bench = Bench::new();
    let Some(()) = guest(&bench, "mkdir a; echo 1 > a/f") else {
        return;
    };
    let script = r#"mkdir -p "$1/a"; cd "$1/a"; for n in 0 1 2 3; do echo x > .cairn-000000000000000$n.partial; done
        rm .cairn-000000000000000[12].partial; ln -s nowhere .cairn-0000000000000001.partial; mkfifo .cairn-0000000000000002.partial
        echo mine > .cairn-notes.partial; ln .cairn-0000000000000003.partial mine"#;
    shell(script, &bench.path("out"));
    copy(&bench, 0, &["a"], &["out", "--resume"]);
    let mut left: Vec<_> = shell("ls -A \"$1\"", &bench.path("out/a"))
        .lines()
        .map(str::to_string)
        .collect();
    left.sort();
    assert_eq!(left, [".cairn-notes.partial", "f", "mine"]);
}
