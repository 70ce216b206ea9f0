//! The command `cairn` as its users run it: built once, then started as a process of its own.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The command, ready for arguments.
pub fn cairn() -> Command {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(BINARY.get_or_init(build));
    command.stdin(Stdio::null());
    command
}

/// Runs `cairn` to its end.
pub fn run(arguments: &[&str]) -> Output {
    cairn().args(arguments).output().expect("cairn starts")
}

/// Builds the command beside this test. Cargo builds it before the tests only when its own package has some.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("this test's path");
    // target/debug/deps/all-0123456789abcdef
    let target = test.ancestors().nth(3).expect("a target folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args(["build", "--offline", "--quiet", "--message-format=json"])
        .args(["--package", "cairn-cli", "--bin", "cairn", "--target-dir"])
        .arg(target)
        .stdin(Stdio::null());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let out = command.output().expect("cargo starts");
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "cairn does not build: {errors}");
    let messages = String::from_utf8_lossy(&out.stdout);
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the binary it built")
}

#[test]
fn it_tells_its_version_and_refuses_what_it_does_not_know() {
    let version = run(&["--version"]);
    assert!(version.status.success());
    let expected = format!("cairn {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&version.stdout), expected);

    let unknown = run(&["no-such-command"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(unknown.stdout.is_empty());
    assert!(!unknown.stderr.is_empty());
}
