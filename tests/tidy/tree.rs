//! The tree of modules of each target, walked from its first file as the compiler does.

use super::files::Repository;
use super::packages::Package;

/// A target's modules.
pub struct Tree {
    /// The target's first file.
    pub root: String,
    /// Whether the target is a test, bench or example.
    pub proof: bool,
    /// Every file that the compiler reaches from the first, itself included.
    pub nodes: Vec<Node>,
}

/// A file as a module.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    pub file: String,
    /// The module's path, empty for the first file.
    pub module: Vec<String>,
    /// Whether it is compiled only for tests.
    pub test: bool,
}

/// The trees of all targets of a package.
pub fn of_package(repository: &Repository, package: &Package) -> Vec<Tree> {
    package
        .targets
        .iter()
        .map(|target| walk(repository, &target.root, target.proof))
        .collect()
}

/// The tree that begins with the file `root`.
pub fn walk(repository: &Repository, root: &str, proof: bool) -> Tree {
    let mut tree = Tree {
        root: root.to_string(),
        proof,
        nodes: Vec::new(),
    };
    let mut open = vec![Node {
        file: root.to_string(),
        module: Vec::new(),
        test: false,
    }];
    while let Some(node) = open.pop() {
        if repository.get(&node.file).is_none() || tree.nodes.contains(&node) {
            continue;
        }
        open.extend(children(repository, &node));
        tree.nodes.push(node);
    }
    tree.nodes.sort_by(|a, b| a.file.cmp(&b.file));
    tree
}

fn children(repository: &Repository, node: &Node) -> Vec<Node> {
    let Some(source) = repository
        .get(&node.file)
        .and_then(|file| file.source.as_ref())
    else {
        return Vec::new();
    };
    let modules = source.modules();
    let (folder, name) = node.file.rsplit_once('/').unwrap_or(("", &node.file));
    let owns_folder = node.module.is_empty() || name == "mod.rs";
    let own = if owns_folder {
        folder.to_string()
    } else {
        format!("{folder}/{}", name.trim_end_matches(".rs"))
    };
    let mut found = Vec::new();
    for item in modules.iter().filter(|item| item.body.is_none()) {
        let inline = source.inline_modules(&modules, item.at);
        let base = [std::slice::from_ref(&own), inline.as_slice()]
            .concat()
            .join("/");
        let candidates = match &item.path {
            // A path is seen from the file's own folder, inside inline modules from theirs.
            Some(path) if inline.is_empty() => vec![join(folder, path)],
            Some(path) => vec![join(&base, path)],
            None => vec![
                join(&base, &format!("{}.rs", item.name)),
                join(&base, &format!("{}/mod.rs", item.name)),
            ],
        };
        let module = [
            node.module.as_slice(),
            &inline,
            std::slice::from_ref(&item.name),
        ]
        .concat();
        let test = node.test || item.test;
        found.extend(candidates.into_iter().map(|file| Node {
            file,
            module: module.clone(),
            test,
        }));
    }
    found
}

/// `folder/path` with `..` taken away.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn the_tree_is_walked_as_the_compiler_does() {
    let repository = Repository::of(&[
        (
            "a/src/lib.rs",
            "mod b; #[cfg(test)] mod tests; #[path = \"../other/x.rs\"] mod x;",
        ),
        ("a/src/b.rs", "mod c { mod d; } mod e;"),
        ("a/src/b/c/d.rs", ""),
        ("a/src/b/e/mod.rs", "mod f;"),
        ("a/src/b/e/f.rs", ""),
        ("a/src/tests.rs", ""),
        ("a/src/lost.rs", ""),
        ("a/other/x.rs", ""),
    ]);
    let tree = walk(&repository, "a/src/lib.rs", false);
    let seen: Vec<_> = tree
        .nodes
        .iter()
        .map(|n| (n.file.as_str(), n.module.join("::"), n.test))
        .collect();
    assert_eq!(
        seen,
        [
            ("a/other/x.rs", "x".to_string(), false),
            ("a/src/b.rs", "b".to_string(), false),
            ("a/src/b/c/d.rs", "b::c::d".to_string(), false),
            ("a/src/b/e/f.rs", "b::e::f".to_string(), false),
            ("a/src/b/e/mod.rs", "b::e".to_string(), false),
            ("a/src/lib.rs", String::new(), false),
            ("a/src/tests.rs", "tests".to_string(), true),
        ]
    );
}
