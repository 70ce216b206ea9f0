//! The repository's files, each read once.

use super::source::Source;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A broken rule, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub path: String,
    pub line: usize,
    pub reason: String,
}

impl Finding {
    pub fn new(path: &str, line: usize, reason: impl Into<String>) -> Finding {
        Finding {
            path: path.to_string(),
            line,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.reason)
    }
}

/// One file.
pub struct File {
    /// Relative to the repository, with `/`.
    pub path: String,
    /// `None` when the file is not UTF-8.
    pub text: Option<String>,
    pub executable: bool,
    /// For Rust sources.
    pub source: Option<Source>,
}

impl File {
    pub fn new(path: &str, text: &str) -> File {
        let source = path.ends_with(".rs").then(|| Source::parse(text));
        File {
            path: path.to_string(),
            text: Some(text.to_string()),
            executable: false,
            source,
        }
    }

    /// The text, empty for a binary file.
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }
}

/// All files.
pub struct Repository {
    /// An absolute path; empty for the repositories that tests make up.
    pub root: String,
    /// Sorted by path.
    pub files: Vec<File>,
}

impl Repository {
    /// Reads what git tracks and what it would track; without git, everything outside build folders.
    pub fn read(root: &Path) -> io::Result<Repository> {
        let root = root.canonicalize()?;
        let mut paths = match listed_by_git(&root) {
            Some(paths) => paths,
            None => walk(&root)?,
        };
        paths.sort();
        paths.dedup();
        let mut files = Vec::new();
        for path in paths {
            let full = root.join(&path);
            // A tracked file may have been removed a moment ago; a link is not a file of ours.
            let Ok(facts) = fs::symlink_metadata(&full) else {
                continue;
            };
            if !facts.is_file() {
                continue;
            }
            let mut file = match String::from_utf8(fs::read(&full)?) {
                Ok(text) => File::new(&path, &text),
                Err(_) => File {
                    path,
                    text: None,
                    executable: false,
                    source: None,
                },
            };
            file.executable = facts.permissions().mode() & 0o111 == 0o111;
            files.push(file);
        }
        Ok(Repository {
            root: root.display().to_string(),
            files,
        })
    }

    /// A repository of the given files, for the tests of the rules.
    pub fn of(files: &[(&str, &str)]) -> Repository {
        let mut files: Vec<File> = files
            .iter()
            .map(|(path, text)| File::new(path, text))
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Repository {
            root: String::new(),
            files,
        }
    }

    pub fn get(&self, path: &str) -> Option<&File> {
        let at = self
            .files
            .binary_search_by(|file| file.path.as_str().cmp(path))
            .ok()?;
        self.files.get(at)
    }

    /// Every Rust source.
    pub fn sources(&self) -> impl Iterator<Item = (&File, &Source)> {
        self.files
            .iter()
            .filter_map(|file| Some((file, file.source.as_ref()?)))
    }

    /// `path` relative to the repository.
    pub fn relative(&self, path: &str) -> Option<String> {
        Some(
            path.strip_prefix(&self.root)?
                .trim_start_matches('/')
                .to_string(),
        )
    }
}

fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    // The owner of a checkout may be another user than the one that tests it.
    let out = Command::new("git")
        .args(["-c", "safe.directory=*", "-c", "core.quotePath=false", "-C"])
        .arg(root)
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let list = String::from_utf8(out.stdout).ok()?;
    let paths: Vec<String> = list
        .split('\0')
        .filter(|p| !p.is_empty())
        .map(String::from)
        .collect();
    (out.status.success() && paths.iter().any(|p| p == "Cargo.toml")).then_some(paths)
}

fn walk(root: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() {
                name.clone()
            } else {
                format!("{folder}/{name}")
            };
            let kind = entry.file_type()?;
            if kind.is_file() {
                found.push(path);
            } else if kind.is_dir() && name != ".git" && name != "target" {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

#[test]
fn git_and_a_walk_see_the_same_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let Some(mut listed) = listed_by_git(root) else {
        println!("SKIPPED: this is not a git checkout, or git is not installed");
        return;
    };
    let mut walked = walk(root).unwrap();
    for list in [&mut listed, &mut walked] {
        list.retain(|path| path.starts_with("tests/tidy") && root.join(path).is_file());
        list.sort();
        list.dedup();
    }
    assert!(listed.len() > 10, "{listed:?}");
    assert_eq!(listed, walked);
}
