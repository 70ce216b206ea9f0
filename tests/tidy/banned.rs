//! Words and shapes that do not pass: unfinished work, names that mean nothing, tests that cannot fail, unsafe code.

use super::files::{File, Finding, Repository};
use super::source::Source;

/// Left-over notes; written in two parts, so that this file does not break its own rule.
const NOTES: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];
/// Module names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 5] = ["misc", "util", "utils", "common", "helpers"];
/// Where unsafe code is allowed: the memory map and its guard.
const UNSAFE: [&str; 1] = ["engine/base/src/mapped.rs"];

pub fn check(repository: &Repository) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in &repository.files {
        found.extend(notes(file));
        if let Some(source) = &file.source {
            found.extend(names(file, source));
            found.extend(shapes(file, source));
        }
    }
    found
}

fn notes(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    if file.path.ends_with("Cargo.lock") {
        return found;
    }
    for (at, line) in file.text().lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
        if let Some(word) = words.find(|word| NOTES.contains(word)) {
            found.push(Finding::new(
                &file.path,
                at + 1,
                format!("a left-over {word}"),
            ));
        }
    }
    found
}

fn names(file: &File, source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut parts = file.path.trim_end_matches(".rs").split('/');
    if let Some(part) = parts.find(|part| EMPTY_NAMES.contains(part)) {
        found.push(Finding::new(
            &file.path,
            1,
            format!("`{part}` says nothing about what is inside"),
        ));
    }
    for module in source.modules() {
        if EMPTY_NAMES.contains(&module.name.as_str()) {
            let reason = format!(
                "the module's name `{}` says nothing about what is inside",
                module.name
            );
            found.push(Finding::new(&file.path, module.line, reason));
        }
    }
    for path in source.paths() {
        if path.segments == ["crate", "*"] {
            found.push(Finding::new(
                &file.path,
                path.line,
                "`use crate::*` hides what depends on what",
            ));
        }
    }
    found
}

fn shapes(file: &File, source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let is = |at: usize, text: &str| source.tokens.get(at).is_some_and(|token| token.is(text));
    for (at, token) in source.tokens.iter().enumerate() {
        let mut alarm = |reason: &str| found.push(Finding::new(&file.path, token.line, reason));
        if token.is("unsafe") && !UNSAFE.contains(&file.path.as_str()) {
            alarm("unsafe code outside the modules that may have it");
        }
        if !is(at + 1, "!") {
            continue;
        }
        if token.is(concat!("to", "do")) || token.is("unimplemented") {
            alarm("unfinished: a macro that panics instead of doing the work");
        }
        let begins = at == 0 || [";", "{", "}"].iter().any(|mark| is(at - 1, mark));
        if token.is("matches") && begins && is(source.after_group(at + 2), ";") {
            alarm("a bare `matches!` proves nothing: assert it");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(path: &str, text: &str) -> Vec<(usize, String)> {
        check(&Repository::of(&[(path, text)]))
            .into_iter()
            .map(|f| (f.line, f.reason))
            .collect()
    }

    #[test]
    fn left_over_notes_ring() {
        for note in NOTES {
            assert_eq!(run("README.md", &format!("\nsee {note}: this"))[0].0, 2);
        }
        assert!(run("README.md", "mktemp -d /tmp/a.XXXXXX").is_empty());
    }

    #[test]
    fn unfinished_macros_ring() {
        assert_eq!(run("a.rs", "fn f() {\n unimplemented!() }")[0].0, 2);
        assert_eq!(
            run("a.rs", &format!("fn f() {{ {}!() }}", concat!("to", "do"))).len(),
            1
        );
        assert!(run("a.rs", "// unimplemented!()\nfn f() {}").is_empty());
    }

    #[test]
    fn empty_names_ring() {
        assert_eq!(run("a/src/lib.rs", "\nmod helpers;")[0].0, 2);
        assert_eq!(run("a/src/util.rs", "").len(), 1);
        assert_eq!(run("a/src/misc/b.rs", "").len(), 1);
    }

    #[test]
    fn a_glob_of_the_crate_rings() {
        assert_eq!(run("a.rs", "\nuse crate::*;")[0].0, 2);
        assert_eq!(run("a.rs", "use crate::{*};").len(), 1);
        assert!(run("a.rs", "use super::*; use crate::a::*;").is_empty());
    }

    #[test]
    fn a_bare_matches_rings() {
        assert_eq!(
            run("a.rs", "fn f() { let x = 1;\n matches!(x, 1); }")[0].0,
            2
        );
        assert!(run("a.rs", "fn f() -> bool { matches!(1, 1) }").is_empty());
        assert!(
            run(
                "a.rs",
                "fn f() { assert!(matches!(1, 1)); let y = matches!(2, 2); }"
            )
            .is_empty()
        );
    }

    #[test]
    fn unsafe_rings_outside_its_place() {
        assert_eq!(run("a.rs", "fn f() { unsafe { g() } }").len(), 1);
        assert!(run("engine/base/src/mapped.rs", "fn f() { unsafe { g() } }").is_empty());
    }
}
