//! Every promise in SEMANTICS.md is quoted, word for word, by a test that keeps it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Words with one space between them.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn mark(paragraph: &str) -> Option<&str> {
    paragraph
        .strip_prefix("**[")?
        .split_once("]**")
        .map(|(mark, _)| mark)
}

/// The paragraphs with a mark, by their marks.
fn marked<'a>(paragraphs: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for paragraph in paragraphs.map(plain) {
        if let Some(mark) = mark(&paragraph) {
            let again = found.insert(mark.to_string(), paragraph.clone());
            assert!(again.is_none(), "[{mark}] is there twice");
        }
    }
    found
}

/// The doc comments that stand directly above a `#[test]`, paragraph by paragraph.
fn quoted(source: &str) -> Vec<String> {
    let (mut paragraphs, mut comment) = (Vec::new(), String::new());
    for line in source.lines() {
        if let Some(text) = line.trim().strip_prefix("///") {
            comment.push_str(text);
            comment.push('\n');
        } else {
            if line.trim() == "#[test]" {
                paragraphs.extend(comment.split("\n\n").map(str::to_string));
            }
            comment.clear();
        }
    }
    paragraphs
}

#[test]
fn every_promise_is_quoted_by_its_test() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(here.join("SEMANTICS.md")).unwrap();
    let promised = marked(document.split("\n\n"));
    assert!(promised.len() >= 25, "SEMANTICS.md was not understood");
    let mut quotes = Vec::new();
    for file in fs::read_dir(here.join("tests")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            quotes.extend(quoted(&fs::read_to_string(path).unwrap()));
        }
    }
    assert_eq!(marked(quotes.iter().map(String::as_str)), promised);
}
