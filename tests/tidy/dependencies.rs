//! Every dependency says why it is here, and every crate takes the workspace's lints.

use super::files::{Finding, Repository};
use super::packages::Package;

pub fn check(repository: &Repository, packages: &[Package]) -> Vec<Finding> {
    let mut found = match repository.get("Cargo.toml") {
        Some(root) => reasons(root.text()),
        None => vec![Finding::new("Cargo.toml", 1, "missing")],
    };
    for package in packages.iter().filter(|package| package.member) {
        let text = repository
            .get(&package.manifest)
            .map_or("", |file| file.text());
        if !section(text, "lints").any(|(_, line)| line.replace(' ', "") == "workspace=true") {
            let reason = "the section `[lints]` with `workspace = true` is missing";
            found.push(Finding::new(&package.manifest, 1, reason));
        }
    }
    found
}

/// The lines of a section of a Cargo.toml, each with its number.
fn section<'a>(text: &'a str, name: &str) -> impl Iterator<Item = (usize, &'a str)> {
    let head = format!("[{name}]");
    let lines = (1..).zip(text.lines().map(str::trim));
    lines
        .skip_while(move |(_, line)| *line != head)
        .skip(1)
        .take_while(|(_, line)| !line.starts_with('['))
}

/// The dependencies of the workspace that have no sentence above them. Our own crates may share one.
fn reasons(text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut comment = String::new();
    for (at, line) in section(text, "workspace.dependencies") {
        if let Some(part) = line.strip_prefix('#') {
            comment.push_str(part.trim());
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            // An empty line, or the rest of a value of several lines.
            if line.is_empty() {
                comment.clear();
            }
            continue;
        };
        let sentence = comment.ends_with('.') && comment.contains(' ');
        if !value.contains("path") && !sentence {
            let reason = format!(
                "dependency `{}` has no sentence above it saying why it is here",
                name.trim()
            );
            found.push(Finding::new("Cargo.toml", at, reason));
        }
        comment.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_without_a_reason_rings() {
        let text = "[workspace]\n[workspace.dependencies]\n# Why it\n# is here.\na = \"1\"\nb = \"1\"\n# c\nc = \"1\"\n\
                    d = { path = \"d\" }\n[profile.dev]\ne = 1\n";
        let lines: Vec<usize> = reasons(text).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [6, 8]);
    }

    #[test]
    fn a_crate_without_lints_rings() {
        let member = |folder: &str| Package {
            manifest: format!("{folder}/Cargo.toml"),
            member: true,
            ..Package::default()
        };
        let repository = Repository::of(&[
            ("Cargo.toml", ""),
            ("a/Cargo.toml", "[package]\n[lints]\nworkspace = true\n"),
            (
                "b/Cargo.toml",
                "[package]\nedition.workspace = true\n[dependencies]\nworkspace = true\n",
            ),
        ]);
        let found = check(&repository, &[member("a"), member("b")]);
        assert_eq!(
            found.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(),
            ["b/Cargo.toml"]
        );
    }
}
