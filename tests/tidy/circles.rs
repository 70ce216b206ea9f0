//! The modules of a crate do not import each other in circles.
//!
//! A module is the first component of a path below the crate's root. What a crate's first file re-exports counts as its
//! module: `crate::View` is an edge to `view`. The first file itself and tests are exempt.

use super::files::{Finding, Repository};
use super::source::{ModuleItem, NamedPath, Source};
use super::tree::{Node, Tree};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// From a module to the modules it names, each with the first place where it does.
type Edges = BTreeMap<String, BTreeMap<String, (String, usize)>>;

pub fn check(repository: &Repository, trees: &[Tree]) -> Vec<Finding> {
    let libraries = trees.iter().filter(|tree| !tree.proof);
    libraries
        .flat_map(|tree| report(&edges(repository, tree)))
        .collect()
}

fn edges(repository: &Repository, tree: &Tree) -> Edges {
    let mut edges = Edges::new();
    let Some(root) = repository
        .get(&tree.root)
        .and_then(|file| file.source.as_ref())
    else {
        return edges;
    };
    let modules: BTreeSet<String> = root
        .modules()
        .into_iter()
        .filter(|m| !m.test)
        .map(|m| m.name)
        .collect();
    let exports = exports(root, &modules);
    for node in tree
        .nodes
        .iter()
        .filter(|node| !node.test && !node.module.is_empty())
    {
        let Some(source) = repository
            .get(&node.file)
            .and_then(|file| file.source.as_ref())
        else {
            continue;
        };
        let inline = source.modules();
        for path in source
            .paths()
            .iter()
            .filter(|path| !source.in_test[path.at])
        {
            let Some(name) = below_root(node, source, &inline, path) else {
                continue;
            };
            let to = if modules.contains(&name) {
                Some(&name)
            } else {
                exports.get(&name)
            };
            if let (Some(to), Some(from)) = (to, node.module.first())
                && to != from
            {
                let place = (node.file.clone(), path.line);
                edges
                    .entry(from.clone())
                    .or_default()
                    .entry(to.clone())
                    .or_insert(place);
            }
        }
    }
    edges
}

/// The names that the first file re-exports, and the module each comes from.
fn exports(root: &Source, modules: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in root.paths() {
        let mut segments = path
            .segments
            .iter()
            .skip_while(|s| *s == "crate" || *s == "self");
        if let (Some(name), Some(module)) = (path.bound, segments.next())
            && modules.contains(module)
            && name != "*"
        {
            found.insert(name, module.clone());
        }
    }
    found
}

/// The first name below the crate's root that `path` names, if it leads there.
fn below_root(
    node: &Node,
    source: &Source,
    inline: &[ModuleItem],
    path: &NamedPath,
) -> Option<String> {
    let mut segments = path.segments.iter().peekable();
    if segments.next_if(|first| *first == "crate").is_some() {
        return segments.next().cloned();
    }
    let mut depth = node.module.len() + source.inline_modules(inline, path.at).len();
    segments.next_if(|first| *first == "self");
    while segments.next_if(|first| *first == "super").is_some() {
        depth = depth.checked_sub(1)?;
    }
    if depth == 0 {
        segments.next().cloned()
    } else {
        None
    }
}

/// One finding for each set of modules that reach each other: a shortest circle in it, line by line.
fn report(edges: &Edges) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for start in edges.keys() {
        if told.contains(start.as_str()) {
            continue;
        }
        let Some(circle) = shortest_circle(edges, start) else {
            continue;
        };
        let reached = reach(edges, start);
        let members: Vec<&str> = reached
            .iter()
            .copied()
            .filter(|member| reach(edges, member).contains(start.as_str()))
            .collect();
        let steps: Vec<String> = circle
            .windows(2)
            .filter_map(|pair| {
                let (file, line) = edges.get(pair[0])?.get(pair[1])?;
                Some(format!("`{}` uses `{}` at {file}:{line}", pair[0], pair[1]))
            })
            .collect();
        if let Some((file, line)) = edges.get(circle[0]).and_then(|to| to.get(circle[1])) {
            let reason = format!(
                "circle of the modules {}, for example: {}",
                members.join(", "),
                steps.join("; ")
            );
            found.push(Finding::new(file, *line, reason));
        }
        told.extend(members);
    }
    found
}

fn reach<'a>(edges: &'a Edges, start: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![start];
    while let Some(module) = open.pop() {
        for to in edges.get(module).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(to.as_str()) {
                open.push(to);
            }
        }
    }
    seen
}

fn shortest_circle<'a>(edges: &'a Edges, start: &'a str) -> Option<Vec<&'a str>> {
    let mut open = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = open.pop_front() {
        let last = way.last()?;
        for to in edges.get(*last).into_iter().flat_map(BTreeMap::keys) {
            let longer = [way.as_slice(), &[to.as_str()]].concat();
            if to == start {
                return Some(longer);
            }
            if seen.insert(to) {
                open.push_back(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tree::walk;
    use super::*;

    fn run(files: &[(&str, &str)]) -> Vec<String> {
        let repository = Repository::of(files);
        let trees = [walk(&repository, "a/src/lib.rs", false)];
        check(&repository, &trees)
            .iter()
            .map(Finding::to_string)
            .collect()
    }

    #[test]
    fn a_circle_of_three_is_found_with_its_lines() {
        let found = run(&[
            (
                "a/src/lib.rs",
                "mod x; mod y; mod z; mod free; pub use z::Zed;",
            ),
            ("a/src/x.rs", "\nuse crate::{y::B, free::F};"),
            ("a/src/y.rs", "mod inner;"),
            // The re-export hides the module `z`.
            ("a/src/y/inner.rs", "fn f() { crate::Zed::new() }"),
            ("a/src/z.rs", "\n\nuse super::x::A;"),
            ("a/src/free.rs", ""),
        ]);
        assert_eq!(
            found,
            [
                "a/src/x.rs:2: circle of the modules x, y, z, for example: `x` uses `y` at a/src/x.rs:2; \
              `y` uses `z` at a/src/y/inner.rs:1; `z` uses `x` at a/src/z.rs:3"
            ]
        );
    }

    #[test]
    fn downward_edges_children_and_tests_are_fine() {
        let found = run(&[
            ("a/src/lib.rs", "mod x; mod y;"),
            (
                "a/src/x.rs",
                "use crate::y::B; mod part; use self::part::P;",
            ),
            (
                "a/src/x/part.rs",
                "use super::Whole; use super::super::y::B;",
            ),
            (
                "a/src/y.rs",
                "#[cfg(test)] mod tests { use crate::x::A; }\n#[cfg(test)] mod more;",
            ),
            ("a/src/y/more.rs", "use crate::x::A;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
