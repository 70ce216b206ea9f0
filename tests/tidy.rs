//! The house rules, kept by an ordinary test: it reads every file of the repository once and names file, line and reason.
//!
//! Each rule is a file in `tidy/`, and has a test of its own on a snippet that breaks it. Exceptions stand in a table
//! in the rule's file, each with its reason.

mod banned;
mod circles;
mod dependencies;
mod files;
mod floors;
mod forgotten;
mod format;
mod fuzzed;
mod length;
mod lexer;
mod packages;
mod scripts;
mod source;
mod top_level;
mod tree;

use files::{Finding, Repository};
use std::path::Path;

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package lies in a folder of the repository");
    let repository = Repository::read(root).expect("the repository can be read");
    let packages = packages::read(&repository).expect("cargo describes the packages");
    let trees: Vec<tree::Tree> = packages
        .iter()
        .flat_map(|package| tree::of_package(&repository, package))
        .collect();

    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(top_level::check(&repository));
    findings.extend(floors::check(&repository, &packages));
    findings.extend(dependencies::check(&repository, &packages));
    findings.extend(circles::check(&repository, &trees));
    findings.extend(forgotten::check(&repository, &trees));
    findings.extend(banned::check(&repository));
    findings.extend(length::check(&repository));
    findings.extend(scripts::check(&repository));
    findings.extend(format::check(&repository));
    findings.extend(fuzzed::check(&repository));
    findings.sort();
    findings.dedup();

    let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(
        list.is_empty(),
        "{} findings:\n{}",
        list.len(),
        list.join("\n")
    );
}
