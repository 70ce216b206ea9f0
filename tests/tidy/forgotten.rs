//! Every Rust file is compiled: one that no `mod` line and no target reaches tests nothing and rots.

use super::files::{Finding, Repository};
use super::tree::Tree;
use std::collections::BTreeSet;

pub fn check(repository: &Repository, trees: &[Tree]) -> Vec<Finding> {
    let reached: BTreeSet<&str> = trees
        .iter()
        .flat_map(|tree| &tree.nodes)
        .map(|node| node.file.as_str())
        .collect();
    repository
        .sources()
        .filter(|(file, _)| !reached.contains(file.path.as_str()))
        .map(|(file, _)| {
            Finding::new(
                &file.path,
                1,
                "forgotten: no `mod` line and no target of a Cargo.toml reaches this file",
            )
        })
        .collect()
}

#[test]
fn a_forgotten_file_is_found() {
    let repository = Repository::of(&[
        ("a/src/lib.rs", "mod b;"),
        ("a/src/b.rs", ""),
        ("a/src/b/tests.rs", ""),
        ("a/tests/all.rs", "mod one; // mod two;"),
        ("a/tests/one.rs", ""),
        ("a/tests/two.rs", ""),
    ]);
    let trees =
        ["a/src/lib.rs", "a/tests/all.rs"].map(|root| super::tree::walk(&repository, root, false));
    let found: Vec<String> = check(&repository, &trees)
        .into_iter()
        .map(|f| f.path)
        .collect();
    assert_eq!(found, ["a/src/b/tests.rs", "a/tests/two.rs"]);
}
