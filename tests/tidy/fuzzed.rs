//! `fuzz/README.md` says of every decoder which fuzz target reaches it: in a table `| file | decoder | targets |`.

use super::files::{Finding, Repository};
use super::lexer::Kind;
use super::source::Source;
use std::collections::BTreeSet;

const README: &str = "fuzz/README.md";
const BEGINNINGS: [&str; 3] = ["decode", "parse", "from_bytes"];

/// A row: its line, file, decoders and targets.
struct Row<'a> {
    line: usize,
    file: &'a str,
    decoders: Vec<&'a str>,
    targets: &'a str,
}

pub fn check(repository: &Repository) -> Vec<Finding> {
    let Some(readme) = repository.get(README) else {
        return vec![Finding::new(
            README,
            1,
            "missing: it says which target reaches which decoder",
        )];
    };
    let rows: Vec<Row<'_>> = (1..).zip(readme.text().lines()).filter_map(row).collect();
    let mut found = Vec::new();
    for (file, source) in repository.sources() {
        if !file.path.starts_with("engine/")
            || !file.path.contains("/src/")
            || file.path.ends_with("/tests.rs")
        {
            continue;
        }
        for (name, line) in decoders(source) {
            let stands = |row: &Row<'_>| row.file == file.path && row.decoders.contains(&&name[..]);
            if !rows.iter().any(stands) {
                let reason = format!("{README} does not say which fuzz target reaches `{name}`");
                found.push(Finding::new(&file.path, line, reason));
            }
        }
    }
    found.extend(rows.iter().flat_map(|row| stale(repository, row)));
    found
}

fn row((line, text): (usize, &str)) -> Option<Row<'_>> {
    let cells: Vec<&str> = text.split('|').map(str::trim).collect();
    let ["", file, decoders, targets, ""] = cells[..] else {
        return None;
    };
    file.ends_with(".rs").then(|| Row {
        line,
        file,
        decoders: decoders.split(", ").collect(),
        targets,
    })
}

/// Records, and functions that are called what decoders are called, outside tests.
fn decoders(source: &Source) -> BTreeSet<(String, usize)> {
    let mut found = BTreeSet::new();
    if source.all_test {
        return found;
    }
    let tokens = &source.tokens;
    for (at, token) in tokens.iter().enumerate() {
        if source.in_test[at] || token.kind != Kind::Word {
            continue;
        }
        let before = |back: usize| at.checked_sub(back).map(|at| &tokens[at]);
        let is_function = before(1).is_some_and(|token| token.is("fn"))
            && BEGINNINGS.iter().any(|word| token.text.starts_with(word));
        let is_record = before(1).is_some_and(|token| token.is("for"))
            && before(2).is_some_and(|token| token.is("Record"))
            && before(3).is_some_and(|token| token.is("impl"));
        if is_function || is_record {
            found.insert((token.text.clone(), token.line));
        }
    }
    found
}

/// What a row says that is not so.
fn stale(repository: &Repository, row: &Row<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let source = repository
        .get(row.file)
        .and_then(|file| file.source.as_ref());
    let known = source.map(decoders).unwrap_or_default();
    for decoder in &row.decoders {
        if !known.iter().any(|(name, _)| name == decoder) {
            let reason = format!("{} has no decoder `{decoder}`", row.file);
            found.push(Finding::new(README, row.line, reason));
        }
    }
    if row.targets.starts_with("none: ") {
        return found;
    }
    for target in row.targets.split(", ") {
        if repository
            .get(&format!("fuzz/fuzz_targets/{target}.rs"))
            .is_none()
        {
            let reason = format!("there is no fuzz target `{target}`");
            found.push(Finding::new(README, row.line, reason));
        }
    }
    found
}

#[test]
fn a_decoder_without_a_target_rings() {
    let source =
        "fn parse() {}\nimpl Record for A {}\n#[cfg(test)]\nmod tests { fn decode() {} }\n";
    let rows = "| file | decoder | targets |\n| engine/x/src/a.rs | parse, gone | a, b |\n";
    let repository = Repository::of(&[
        (README, rows),
        ("engine/x/src/a.rs", source),
        ("fuzz/fuzz_targets/a.rs", ""),
    ]);
    let found: Vec<String> = check(&repository).iter().map(Finding::to_string).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("`A`"), "{found:?}");
    assert!(found[1].contains("`gone`"), "{found:?}");
    assert!(found[2].contains("`b`"), "{found:?}");
}
