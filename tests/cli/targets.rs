//! copy: targets and users that cannot do what the guest's system could.

use super::bench::{Bench, have, text, tool};
use super::copy::image_of;
use super::overlap::guest;
use crate::command::cairn;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A file system that does not care for case, mounted as long as this lives.
struct Windows(PathBuf);

impl Windows {
    fn new(bench: &Bench, at: &str) -> Option<Windows> {
        if !have(&["mkntfs", "lowntfs-3g", "umount"]) {
            return None;
        }
        let (image, at) = (bench.path("target.img"), bench.path(at));
        fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        tool("mkntfs", &["-F", "-q", text(&image)]);
        fs::create_dir_all(&at).unwrap();
        let how = [text(&image), text(&at), "-o", "ignore_case"];
        let mounted = Command::new("lowntfs-3g").args(how).output();
        if !mounted.is_ok_and(|out| out.status.success()) {
            println!("SKIPPED: images cannot be mounted here");
            return None;
        }
        Some(Windows(at))
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        tool("umount", &[text(&self.0)]);
    }
}

#[test]
fn of_names_that_are_one_at_the_target_none_is_lost_without_a_word() {
    let bench = Bench::new();
    let script = "mkdir d; for n in $(seq 150); do echo upper $n > d/FileN$n; echo lower $n > d/filen$n; done";
    let Some(()) = guest(&bench, script) else {
        return;
    };
    let Some(mounted) = Windows::new(&bench, "win") else {
        return;
    };
    for how in ["overwrite", "skip", "fail"] {
        let target = format!("win/{how}");
        let from = "m@latest:/disk0/p0/d";
        let copy = [
            "copy",
            "store",
            from,
            &target,
            "--json",
            "--on-conflict",
            how,
        ];
        let report = bench.expect(3, &copy).json();
        let named = report["failed"].as_array().unwrap();
        let named = named.iter().filter(|line| {
            let line = line.as_str().unwrap();
            line.contains("another spelling") || how == "fail" && line.contains("is there already")
        });
        assert_eq!(named.count(), 150, "{how}: {report}");
        assert_eq!(report["skipped"], 0);
        assert_eq!(report["files"], 150);
        assert_eq!(fs::read_dir(bench.path(&target)).unwrap().count(), 150);
    }
    drop(mounted);
}

#[test]
fn a_copy_goes_on_where_a_file_cannot_have_a_second_name() {
    let bench = Bench::new();
    let script = "mkdir -p d/other; echo 1 > d/a; ln d/a d/other/b; ln d/a d/other/c";
    let Some(()) = guest(&bench, script) else {
        return;
    };
    // A name in another file system.
    let Some(mounted) = Windows::new(&bench, "out/other") else {
        return;
    };
    fs::write(bench.path("out/.cairn-copy-unfinished"), "").unwrap();
    let from = "m@latest:/disk0/p0/d";
    let copy = ["copy", "store", from, "out", "--json", "--resume"];
    let first = bench.expect(3, &copy);
    assert!(first.stderr.contains("file of its own"), "{}", first.stderr);
    fs::write(bench.path("out/.cairn-copy-unfinished"), "").unwrap();
    let again = bench.expect(3, &copy);
    assert_eq!(again.json()["already"], 3, "{}", again.stderr);
    assert!(
        !again.stderr.contains("is there already"),
        "{}",
        again.stderr
    );
    assert!(again.stderr.contains("file of its own"), "{}", again.stderr);
    drop(mounted);
}

/// Runs cairn as a user who may nothing, in a folder that is his; none where that cannot be done.
fn as_nobody(bench: &Bench, arguments: &[&str]) -> Option<Output> {
    tool("chown", &["-R", "65534:65534", text(&bench.folder)]);
    let mut command = cairn();
    command.current_dir(&bench.folder).args(arguments);
    let out = command.uid(65534).gid(65534).output();
    if out.is_err() {
        println!("SKIPPED: cairn cannot be run as another user");
    }
    out.ok()
}

fn is_root() -> bool {
    let root = tool("id", &["-u"]).trim() == "0";
    if !root {
        println!("SKIPPED: only root can become another user");
    }
    root
}

#[test]
fn files_that_nobody_may_read_are_read_back_and_gone_on_with() {
    let bench = Bench::new();
    let script =
        "mkdir -p d/closed d/fixed; echo 1 > d/none; echo 2 > d/closed/f; echo 3 > d/fixed/f
        chmod 000 d/none d/closed/f d/closed; chmod 555 d/fixed; chmod 500 d";
    let Some(()) = guest(&bench, script) else {
        return;
    };
    if !is_root() {
        return;
    }
    let from = "m@latest:/disk0/p0/d";
    for how in ["--verify", "--resume"] {
        let Some(out) = as_nobody(&bench, &["copy", "store", from, "out", "--json", how]) else {
            return;
        };
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(0), "{how}: {errors}");
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let number = if how == "--verify" {
            "verified"
        } else {
            "already"
        };
        assert_eq!(report[number], 3, "{how}: {errors}");
        let mode = |name: &str| {
            let known = fs::metadata(bench.path(name)).unwrap();
            known.permissions().mode() & 0o777
        };
        let modes = ["out/d", "out"].map(|name| bench.path(name).exists().then(|| mode(name)));
        assert_eq!(modes, [None, Some(0o500)]);
        assert_eq!([mode("out/none"), mode("out/closed")], [0, 0]);
        assert_eq!([mode("out/fixed"), mode("out/fixed/f")], [0o555, 0o644]);
        // The next round goes on with what this one left.
        fs::write(bench.path("out/.cairn-copy-unfinished"), "").unwrap();
    }
}

#[test]
fn nobody_becomes_the_owner_of_a_program_that_acts_as_its_owner() {
    let bench = Bench::new();
    let script = "mkdir d; echo 1 > d/su; chmod 4755 d/su; echo 2 > d/group; chmod 2755 d/group; echo 3 > d/plain; chmod 755 d/plain";
    let Some(()) = guest(&bench, script) else {
        return;
    };
    if !is_root() {
        return;
    }
    let from = "m@latest:/disk0/p0/d";
    let Some(out) = as_nobody(&bench, &["copy", "store", from, "out"]) else {
        return;
    };
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(3), "{errors}");
    let mode = |name: &str| {
        let known = fs::metadata(bench.path(name)).unwrap();
        known.permissions().mode() & 0o7777
    };
    for name in ["su", "group", "plain"] {
        assert_eq!(mode(&format!("out/{name}")), 0o755, "{name}");
        assert_eq!(
            errors.contains(&format!("out/{name} ")),
            name != "plain",
            "{errors}"
        );
    }
    bench.expect(0, &["copy", "store", from, "mine"]);
    assert_eq!([mode("mine/su"), mode("mine/group")], [0o4755, 0o2755]);
}

#[test]
fn what_windows_keeps_beside_content_is_named_once() {
    let bench = Bench::new();
    if !have(&["mkntfs", "ntfscp", "mke2fs"]) {
        return;
    }
    let image = bench.path("pc.raw");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    tool("mkntfs", &["-F", "-q", text(&image)]);
    fs::write(bench.path("file"), "content\n").unwrap();
    for name in ["one.txt", "two.txt"] {
        let (image, file) = (text(&image), bench.path("file"));
        tool("ntfscp", &["-q", image, text(&file), name]);
    }
    bench.backup("pc", &["pc.raw"]);
    let at = |name: &str| format!("pc@latest:/disk0/p0/{name}");
    let (one, two) = (at("one.txt"), at("two.txt"));
    for rest in [&["out"][..], &["--format", "tar", "a.tar"]] {
        let copy = [&["copy", "store", "--json", &one, &two], rest].concat();
        let report = bench.expect(0, &copy).json();
        let notes = report["notes"].as_array().unwrap();
        assert_eq!(notes.len(), 1, "{report}");
        let note = notes[0].as_str().unwrap();
        assert!(
            note.contains("access lists") && note.contains("2 "),
            "{note}"
        );
    }
    fs::create_dir(bench.path("tree")).unwrap();
    fs::write(bench.path("tree/f"), "1\n").unwrap();
    image_of(&bench, "tree", "linux.raw", "16m");
    bench.backup("m", &["linux.raw"]);
    let linux = ["copy", "store", "--json", "m@latest:/disk0/p0/f", "out"];
    assert_eq!(
        bench.expect(0, &linux).json()["notes"],
        serde_json::json!([])
    );
}
