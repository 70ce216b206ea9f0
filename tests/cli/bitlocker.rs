//! Encrypted volumes: what is told of them without a key, how keys are given, and that these are never shown.

use super::bench::{Answer, Bench, have, text, tool};
use super::mount::{Mounted, have_fuse};
use crate::command::cairn;
use maker::{
    KEPT, Looks, PLAIN_PASSWORD, Protect, RECOVERY, Recipe, id_of, make, noise, startup_key,
};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::Stdio;

#[allow(dead_code, reason = "the tests of the reader use all of it")]
#[path = "../../engine/guest/tests/bitlocker/maker.rs"]
mod maker;

const FILE: &str = "web01@latest:/disk0/p0/text";
const LENGTH: usize = 300_000;

/// `disk.raw`: a volume of NTFS with the file `text`, encrypted. `plain.raw`: the same, not encrypted. None if its tools are missing.
fn encrypted(bench: &Bench, protectors: &[Protect]) -> Option<()> {
    if !have(&["mkntfs", "ntfscp"]) {
        return None;
    }
    let plain = bench.path("plain.raw");
    fs::File::create(&plain).unwrap().set_len(16 << 20).unwrap();
    fs::write(bench.path("zeros"), vec![0; 3 << 20]).unwrap();
    fs::write(bench.path("text"), noise(21, LENGTH)).unwrap();
    tool(
        "mkntfs",
        &["-q", "-F", "-f", "-s", "512", "-c", "4096", text(&plain)],
    );
    for name in ["zeros", "text"] {
        tool(
            "ntfscp",
            &["-q", text(&plain), text(&bench.path(name)), name],
        );
    }
    let bytes = fs::read(&plain).unwrap();
    let kept = &bytes[KEPT.start as usize..KEPT.end as usize];
    if kept.iter().any(|byte| *byte != 0) {
        println!("SKIPPED: ntfscp put the files where BitLocker's own areas would be");
        return None;
    }
    let recipe = Recipe::new(Looks::Windows7, 0x8004).protect(protectors);
    fs::write(bench.path("disk.raw"), make(&recipe, &bytes)).unwrap();
    Some(())
}

/// Nothing of a key is in what is shown.
#[track_caller]
fn keeps_secrets(answer: &Answer) {
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&answer.stdout),
        answer.stderr
    );
    for secret in [PLAIN_PASSWORD, "471207", "177177", "wrong-password"] {
        assert!(!said.contains(secret), "{said}");
    }
}

const ALL: [Protect; 3] = [
    Protect::Password(PLAIN_PASSWORD),
    Protect::Recovery,
    Protect::Startup,
];

fn key_id(protect: Protect) -> String {
    // The first groups are little-endian.
    let id = id_of(protect);
    format!("{:02X}{:02X}{:02X}{:02X}-", id[3], id[2], id[1], id[0])
}

#[test]
fn what_protects_a_volume_is_told_without_a_key() {
    let bench = Bench::new();
    let Some(()) = encrypted(&bench, &ALL) else {
        return;
    };
    let document = bench.expect(0, &["disk", "--json", "disk.raw"]).json();
    let part = &document["partitions"][0];
    assert_eq!(
        (&part["content"], &part["file_system"]),
        (&"BitLocker".into(), &Value::Null)
    );
    let encryption = &part["encryption"];
    for (field, value) in [
        ("kind", "bitlocker"),
        ("method", "AES-XTS 128"),
        ("state", "encrypted"),
        ("layout", "Windows 7 or later"),
        ("created", "2019-07-04T07:02:26Z"),
        ("description", "MACHINE C: 11/22/2026"),
    ] {
        assert_eq!(encryption[field], value, "{field}");
    }
    assert_eq!(encryption["sector_size"], 512);
    let protectors = encryption["protectors"].as_array().unwrap();
    let kinds: Vec<&Value> = protectors.iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["password", "recovery_password", "startup_key"]);
    let id = protectors[1]["id"].as_str().unwrap();
    assert!(id.starts_with(&key_id(Protect::Recovery)), "{id}");
    assert!(part["error"].as_str().unwrap().contains(id), "{part}");

    let shown = bench.expect(0, &["disk", "disk.raw"]).text();
    assert!(
        shown.contains(&format!("recovery password, id {id}")),
        "{shown}"
    );
    fs::write(bench.path("keys"), RECOVERY).unwrap();
    let known = bench.expect(
        0,
        &["disk", "--json", "disk.raw", "--recovery-key-file", "keys"],
    );
    keeps_secrets(&known);
    let part = &known.json()["partitions"][0];
    assert_eq!(part["file_system"]["kind"], "ntfs");
    assert_eq!(
        (&part["error"], &part["encryption"]["kind"]),
        (&Value::Null, &"bitlocker".into())
    );
    let plain = bench.expect(0, &["disk", "--json", "plain.raw"]).json();
    assert_eq!(plain["partitions"][0]["encryption"], Value::Null);
}

type Variables<'a> = &'a [(&'a str, &'a str)];

/// Shows the file, with something on standard input and in the environment.
fn cat(
    bench: &Bench,
    arguments: &[&str],
    line: &str,
    variables: Variables<'_>,
) -> (Option<i32>, Answer) {
    let mut command = cairn();
    command
        .current_dir(&bench.folder)
        .args(["cat", "store", FILE]);
    command.args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut input = running.stdin.take().unwrap();
    input.write_all(line.as_bytes()).unwrap();
    drop(input);
    let out = running.wait_with_output().unwrap();
    let answer = Answer {
        stdout: out.stdout,
        stderr: String::from_utf8(out.stderr).unwrap(),
    };
    keeps_secrets(&answer);
    (out.status.code(), answer)
}

/// A store with the encrypted disk, and files with its keys.
fn stored(bench: &Bench) -> Option<()> {
    encrypted(bench, &ALL)?;
    bench.backup("web01", &["disk.raw"]);
    fs::write(bench.path("keys"), format!("# of web01\r\n{RECOVERY}\r\n")).unwrap();
    fs::write(bench.path("word"), format!("{PLAIN_PASSWORD}\n")).unwrap();
    fs::write(bench.path("key.BEK"), startup_key()).unwrap();
    Some(())
}

#[test]
fn keys_are_given_in_many_ways_and_never_shown() {
    let bench = Bench::new();
    let Some(()) = stored(&bench) else { return };
    for how in [
        ["--recovery-key", RECOVERY],
        ["--recovery-key-file", "keys"],
        ["--password-file", "word"],
        ["--startup-key", "key.BEK"],
    ] {
        let found = bench.expect(0, &["cat", "store", FILE, how[0], how[1]]);
        assert!(found.stdout == noise(21, LENGTH), "{how:?}");
        assert_eq!(found.stderr, "", "{how:?}");
    }
    let typed = |arguments, line, variables| cat(&bench, arguments, line, variables);
    let (password, recovery) = (format!("{PLAIN_PASSWORD}\n"), format!("{RECOVERY}\r\n"));
    let none: &[(&str, &str)] = &[];
    for (arguments, line, variables) in [
        (&["--password"][..], &*password, none),
        (&["--recovery-key", "-"][..], &*recovery, none),
        (&[][..], "", &[("CAIRN_RECOVERY_KEY", RECOVERY)][..]),
        (
            &[][..],
            "",
            &[("CAIRN_VOLUME_PASSWORD", PLAIN_PASSWORD)][..],
        ),
    ] {
        let (code, answer) = typed(arguments, line, variables);
        assert_eq!(code, Some(0), "{arguments:?} {}", answer.stderr);
        assert!(answer.stdout == noise(21, LENGTH));
    }
}

#[test]
fn keys_that_are_wrong_or_none_are_refused() {
    let bench = Bench::new();
    let Some(()) = stored(&bench) else { return };
    let typed = |arguments, line| cat(&bench, arguments, line, &[]);
    let wanted = [key_id(Protect::Recovery), key_id(Protect::Startup)];
    for (arguments, line) in [(&["--password"][..], "wrong-password\n"), (&[][..], "")] {
        let (code, answer) = typed(arguments, line);
        assert_eq!((code, answer.stdout.len()), (Some(1), 0));
        assert!(
            wanted.iter().all(|id| answer.stderr.contains(id)),
            "{}",
            answer.stderr
        );
        let why = match line {
            "" => "no key was given",
            _ => "the password that was given does not fit",
        };
        assert!(answer.stderr.contains(why), "{}", answer.stderr);
    }
    // Nor is known what drive letters a Windows on it gives.
    let letter = bench.expect(1, &["cat", "store", "web01@latest:C:/text"]);
    let listed = bench.expect(0, &["ls", "-l", "store", "web01@latest"]);
    for said in [letter.stderr, listed.stderr] {
        assert!(
            said.contains("disk0/p0") && said.contains(&wanted[0]),
            "{said}"
        );
    }
    // What is no key at all is a mistake of the user's.
    let mistyped = RECOVERY.replace("422125", "422126");
    for (arguments, line) in [
        (&["--recovery-key", &*mistyped][..], ""),
        (&["--startup-key", "word"][..], ""),
        (&["--recovery-key-file", "word"][..], ""),
        (&["--password"][..], ""),
    ] {
        assert_eq!(typed(arguments, line).0, Some(2), "{arguments:?}");
    }
}

/// Encrypting a volume changes every byte of it, and no file.
#[test]
fn files_are_found_copied_and_compared() {
    let bench = Bench::new();
    let Some(()) = encrypted(&bench, &[Protect::Tpm, Protect::Recovery]) else {
        return;
    };
    bench.backup("web01", &["plain.raw"]);
    let before = bench.points()[0]["point"].as_str().unwrap().to_string();
    fs::rename(bench.path("disk.raw"), bench.path("plain.raw")).unwrap();
    bench.backup("web01", &["plain.raw"]);
    fs::write(bench.path("keys"), RECOVERY).unwrap();
    let with = |arguments: &[&str]| {
        let answer = bench.expect(0, &[arguments, &["--recovery-key-file", "keys"]].concat());
        keeps_secrets(&answer);
        answer
    };
    let listed = with(&["ls", "store", "web01@latest:/disk0/p0"]).lines();
    assert!(listed.contains(&"text".to_string()), "{listed:?}");
    let volume = with(&["ls", "--json", "store", "web01@latest:/disk0"]).json();
    assert_eq!(
        (&volume[0]["content"], &volume[0]["error"]),
        (&"ntfs".into(), &Value::Null)
    );
    let found = with(&["find", "store", "web01", "--name", "text", "--json"]).json();
    assert_eq!(
        (found.as_array().unwrap().len(), &found[0]["points"]),
        (1, &2.into()),
        "{found}"
    );
    let changed = with(&[
        "diff",
        "store",
        &before,
        "web01@latest",
        "--files",
        "--json",
    ])
    .json();
    assert_eq!(changed, Value::Array(Vec::new()));
    with(&["copy", "store", FILE, "back"]);
    assert!(fs::read(bench.path("back")).unwrap() == noise(21, LENGTH));

    let locked = bench.expect(3, &["find", "store", "web01", "--name", "text", "--json"]);
    assert!(
        locked.stderr.contains(&key_id(Protect::Recovery)),
        "{}",
        locked.stderr
    );
    let listed = bench
        .expect(0, &["ls", "--json", "store", "web01@latest:/disk0"])
        .json();
    assert_eq!(listed[0]["content"], "BitLocker");
    let error = listed[0]["error"].as_str().unwrap();
    assert!(error.contains(&key_id(Protect::Recovery)), "{error}");
}

#[test]
fn a_mount_shows_what_its_keys_open() {
    let bench = Bench::new();
    if !have_fuse() {
        return;
    }
    let Some(()) = encrypted(&bench, &[Protect::Recovery]) else {
        return;
    };
    bench.backup("web01", &["disk.raw"]);
    fs::write(bench.path("keys"), RECOVERY).unwrap();
    for (source, above) in [("store", "web01/latest/"), ("disk.raw", "")] {
        let files = |name: &str| format!("{above}files/disk0/{name}");
        let mounted = Mounted::with(&bench, source, &["--recovery-key-file", "keys"]);
        assert!(mounted.read(&files("p0/text")) == noise(21, LENGTH));
        assert!(!mounted.folder.join(files("p0.error")).exists());
        mounted.end();
        let locked = Mounted::new(&bench, source);
        let error = String::from_utf8(locked.read(&files("p0.error"))).unwrap();
        assert!(error.contains(&key_id(Protect::Recovery)), "{error}");
        assert_eq!(
            fs::read_dir(locked.folder.join(files("p0")))
                .unwrap()
                .count(),
            0
        );
        locked.end();
    }
}
