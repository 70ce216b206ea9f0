//! The top level holds what the design lists, and nothing else.

use super::files::{Finding, Repository};
use std::collections::BTreeSet;

const FOLDERS: [&str; 7] = ["engine", "fuse", "tools", "benches", "fuzz", "tests", ".ci"];
const FILES: [&str; 7] = [
    "Cargo.toml",
    "Cargo.lock",
    "clippy.toml",
    "rustfmt.toml",
    "README.md",
    "CHANGELOG.md",
    ".gitignore",
];

pub fn check(repository: &Repository) -> Vec<Finding> {
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for file in &repository.files {
        let (name, allowed) = match file.path.split_once('/') {
            Some((folder, _)) => (folder, FOLDERS.contains(&folder)),
            None => (
                file.path.as_str(),
                FILES.contains(&file.path.as_str()) || file.path.starts_with("LICENSE"),
            ),
        };
        if !allowed && told.insert(name.to_string()) {
            found.push(Finding::new(
                &file.path,
                1,
                format!("`{name}` does not belong on the top level"),
            ));
        }
    }
    found
}

#[test]
fn a_stranger_on_the_top_level_rings() {
    let repository = Repository::of(&[
        ("Cargo.toml", ""),
        ("LICENSE-MIT", ""),
        ("docs/a.md", ""),
        ("docs/b.md", ""),
        ("engine/a.md", ""),
        ("notes.txt", ""),
    ]);
    let found: Vec<String> = check(&repository).into_iter().map(|f| f.path).collect();
    assert_eq!(found, ["docs/a.md", "notes.txt"]);
}
