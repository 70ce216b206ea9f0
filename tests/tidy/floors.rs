//! The floors: a crate sees only crates on lower floors, never its neighbours; the doors see only the façade; nothing
//! sees the proofs.

use super::files::{Finding, Repository};
use super::packages::Package;

/// Folder, package, and what it may see of ours.
const FLOORS: [(&str, &str, &[&str]); 8] = [
    ("engine/base", "cairn-base", &[]),
    ("engine/store", "cairn-store", &["cairn-base"]),
    ("engine/disk", "cairn-disk", &["cairn-base"]),
    ("engine/guest", "cairn-guest", &["cairn-base"]),
    (
        "engine/vault",
        "cairn-vault",
        &["cairn-base", "cairn-store", "cairn-disk", "cairn-guest"],
    ),
    (
        "engine",
        "cairn",
        &[
            "cairn-base",
            "cairn-store",
            "cairn-disk",
            "cairn-guest",
            "cairn-vault",
        ],
    ),
    ("fuse", "cairn-fuse", &["cairn"]),
    ("tools", "cairn-cli", &["cairn", "cairn-fuse"]),
];

/// These may see any floor.
const PROOFS: [&str; 3] = ["benches", "fuzz", "tests"];

/// Whether the package with the manifest in `folder` may use `other`; both are ours.
fn may_see(folder: &str, other: &str) -> bool {
    if PROOFS.contains(&folder) {
        return FLOORS.iter().any(|(_, name, _)| *name == other);
    }
    FLOORS
        .iter()
        .any(|(of, name, sees)| *of == folder && (*name == other || sees.contains(&other)))
}

fn is_ours(name: &str) -> bool {
    name == "cairn" || name.starts_with("cairn-")
}

pub fn check(repository: &Repository, packages: &[Package]) -> Vec<Finding> {
    let mut found = Vec::new();
    for package in packages {
        let folder = package.folder();
        let known = PROOFS.contains(&folder)
            || FLOORS
                .iter()
                .any(|(of, name, _)| *of == folder && *name == package.name);
        if !known {
            let reason = format!(
                "floors: package `{}` in `{folder}` stands on no floor",
                package.name
            );
            found.push(Finding::new(&package.manifest, 1, reason));
            continue;
        }
        for dependency in &package.dependencies {
            if is_ours(&dependency.name) && !may_see(folder, &dependency.name) {
                let reason = format!(
                    "floors: `{}` may not depend on `{}`",
                    package.name, dependency.name
                );
                found.push(Finding::new(&package.manifest, dependency.line, reason));
            }
        }
    }
    for (file, source) in repository.sources() {
        let Some(package) = owner(packages, &file.path) else {
            continue;
        };
        for path in source.paths() {
            let Some(first) = path.segments.first() else {
                continue;
            };
            let other = first.replace('_', "-");
            let same = package.name == other;
            if is_ours(&other) && !same && !may_see(package.folder(), &other) {
                let reason = format!("floors: `{}` may not use `{first}`", package.name);
                found.push(Finding::new(&file.path, path.line, reason));
            }
        }
    }
    found
}

/// The package whose folder is the nearest above `path`.
pub fn owner<'a>(packages: &'a [Package], path: &str) -> Option<&'a Package> {
    packages
        .iter()
        .filter(|package| {
            path.strip_prefix(package.folder())
                .is_some_and(|rest| rest.starts_with('/'))
        })
        .max_by_key(|package| package.folder().len())
}

#[cfg(test)]
mod tests {
    use super::super::packages::Dependency;
    use super::*;

    fn package(name: &str, folder: &str, on: &[&str]) -> Package {
        let dependencies = on
            .iter()
            .map(|name| Dependency {
                name: name.to_string(),
                line: 7,
            })
            .collect();
        Package {
            name: name.into(),
            manifest: format!("{folder}/Cargo.toml"),
            dependencies,
            ..Package::default()
        }
    }

    #[test]
    fn a_neighbour_a_higher_floor_and_a_proof_are_refused() {
        let packages = [
            package("cairn-base", "engine/base", &["cairn-disk"]),
            package(
                "cairn-disk",
                "engine/disk",
                &["cairn-base", "cairn-guest", "zstd"],
            ),
            package(
                "cairn",
                "engine",
                &["cairn-base", "cairn-disk", "cairn-tests"],
            ),
            package("cairn-fuse", "fuse", &["cairn", "cairn-store"]),
            package("cairn-cli", "tools", &["cairn", "cairn-fuse"]),
            package("cairn-tests", "tests", &["cairn", "cairn-disk"]),
            package("cairn-odd", "engine/odd", &[]),
        ];
        let found = check(&Repository::of(&[]), &packages);
        let reasons: Vec<String> = found.iter().map(|f| f.to_string()).collect();
        assert_eq!(
            reasons,
            [
                "engine/base/Cargo.toml:7: floors: `cairn-base` may not depend on `cairn-disk`",
                "engine/disk/Cargo.toml:7: floors: `cairn-disk` may not depend on `cairn-guest`",
                "engine/Cargo.toml:7: floors: `cairn` may not depend on `cairn-tests`",
                "fuse/Cargo.toml:7: floors: `cairn-fuse` may not depend on `cairn-store`",
                "engine/odd/Cargo.toml:1: floors: package `cairn-odd` in `engine/odd` stands on no floor",
            ]
        );
    }

    #[test]
    fn a_source_that_looks_past_the_facade_is_refused() {
        let packages = [
            package("cairn", "engine", &[]),
            package("cairn-fuse", "fuse", &[]),
        ];
        let repository = Repository::of(&[
            ("engine/src/lib.rs", "pub use cairn_base::Time;"),
            (
                "fuse/src/lib.rs",
                "use cairn::Time;\nfn f() -> cairn_base::Time { todo }",
            ),
        ]);
        let found = check(&repository, &packages);
        assert_eq!(
            found,
            [Finding::new(
                "fuse/src/lib.rs",
                2,
                "floors: `cairn-fuse` may not use `cairn_base`"
            )]
        );
    }
}
