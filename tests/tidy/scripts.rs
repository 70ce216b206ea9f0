//! Scripts say who runs them, can be run, and stop at the first failure.

use super::files::{File, Finding, Repository};

pub fn check(repository: &Repository) -> Vec<Finding> {
    repository.files.iter().flat_map(script).collect()
}

fn script(file: &File) -> Vec<Finding> {
    let first = file.text().lines().next().unwrap_or_default();
    let shebang = first
        .strip_prefix("#!")
        .map(str::trim)
        .filter(|rest| rest.starts_with('/'));
    let shell = file.path.ends_with(".sh") || shebang.is_some_and(|by| by.ends_with("sh"));
    let mut found = Vec::new();
    let mut alarm = |line: usize, reason: &str| found.push(Finding::new(&file.path, line, reason));
    if shell && shebang.is_none() {
        alarm(1, "a shell script begins with `#!`");
    }
    if shebang.is_some() && !file.executable {
        alarm(1, "a script has the run bit");
    }
    if shell && !file.text().lines().any(|line| line.starts_with("set -eu")) {
        alarm(1, "a shell script has `set -eu`");
    }
    found
}

#[test]
fn a_careless_script_rings() {
    let run = |path: &str, text: &str, executable: bool| {
        let mut file = File::new(path, text);
        file.executable = executable;
        script(&file).len()
    };
    assert_eq!(
        run(
            "a.sh",
            "#!/usr/bin/env bash\n# why\nset -euo pipefail\n",
            true
        ),
        0
    );
    assert_eq!(run("a.sh", "#!/bin/sh\nset -eu\n", false), 1);
    assert_eq!(run("a.sh", "#!/bin/sh\necho set -eu\n", true), 1);
    assert_eq!(run("a.sh", "set -eu\n", true), 1);
    assert_eq!(run(".ci/run", "#!/usr/bin/env bash\n", false), 2);
    assert_eq!(run("a.rs", "#![cfg(test)]\n", false), 0);
}
