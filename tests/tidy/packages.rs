//! The packages and their targets, as cargo sees them.

use super::files::Repository;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// One package of the repository.
#[derive(Debug, Default)]
pub struct Package {
    pub name: String,
    /// The path of its Cargo.toml, relative to the repository.
    pub manifest: String,
    /// Whether it is a member of the workspace in the root.
    pub member: bool,
    pub targets: Vec<Target>,
    pub dependencies: Vec<Dependency>,
}

/// A library, binary, test, bench, example or build script.
#[derive(Debug, Default)]
pub struct Target {
    /// Its first file, relative to the repository.
    pub root: String,
    /// Whether it is built only to test, bench or show.
    pub proof: bool,
}

/// A dependency of any kind.
#[derive(Debug, Default)]
pub struct Dependency {
    pub name: String,
    pub line: usize,
}

impl Package {
    /// The package's folder, relative to the repository; empty for the root.
    pub fn folder(&self) -> &str {
        self.manifest
            .trim_end_matches("Cargo.toml")
            .trim_end_matches('/')
    }
}

/// Every package with a Cargo.toml in the repository, members of the workspace or not.
pub fn read(repository: &Repository) -> Result<Vec<Package>, String> {
    let mut packages = describe(repository, "Cargo.toml")?;
    packages
        .iter_mut()
        .for_each(|package| package.member = true);
    for file in &repository.files {
        let manifest = file.path == "Cargo.toml" || file.path.ends_with("/Cargo.toml");
        if manifest
            && file.path != "Cargo.toml"
            && !packages.iter().any(|p| p.manifest == file.path)
        {
            // Outside the workspace: fuzz targets are, because they need another compiler.
            packages.extend(describe(repository, &file.path)?);
        }
    }
    Ok(packages)
}

fn describe(repository: &Repository, manifest: &str) -> Result<Vec<Package>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
            "--manifest-path",
        ])
        .arg(Path::new(&repository.root).join(manifest))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !out.status.success() {
        return Err(format!(
            "{manifest}: {}",
            String::from_utf8_lossy(&out.stderr)
        ));
    }
    let all: Value = serde_json::from_slice(&out.stdout).map_err(|error| error.to_string())?;
    let packages = all["packages"].as_array().into_iter().flatten();
    Ok(packages
        .filter_map(|package| parse(repository, package))
        .collect())
}

fn parse(repository: &Repository, package: &Value) -> Option<Package> {
    let manifest = repository.relative(package["manifest_path"].as_str()?)?;
    let text = repository.get(&manifest).map_or("", |file| file.text());
    let targets = package["targets"].as_array()?.iter().filter_map(|target| {
        let proof = target["kind"]
            .as_array()?
            .iter()
            .any(|kind| matches!(kind.as_str(), Some("test" | "bench" | "example")));
        Some(Target {
            root: repository.relative(target["src_path"].as_str()?)?,
            proof,
        })
    });
    let dependencies = package["dependencies"]
        .as_array()?
        .iter()
        .filter_map(|dependency| {
            let name = dependency["name"].as_str()?.to_string();
            let line = text
                .lines()
                .position(|line| line.starts_with(&name))
                .map_or(1, |at| at + 1);
            Some(Dependency { name, line })
        });
    Some(Package {
        name: package["name"].as_str()?.to_string(),
        targets: targets.collect(),
        dependencies: dependencies.collect(),
        manifest,
        member: false,
    })
}

#[test]
fn cargo_describes_this_package() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let repository = Repository::read(root).unwrap();
    let packages = read(&repository).unwrap();
    let this = packages
        .iter()
        .find(|package| package.name == "cairn-tests")
        .unwrap();
    assert_eq!((this.folder(), this.member), ("tests", true));
    assert_eq!(this.targets.len(), 1);
    assert_eq!(this.targets[0].root, "tests/main.rs");
    assert!(this.targets[0].proof);
    assert!(
        this.dependencies
            .iter()
            .any(|d| d.name == "serde_json" && d.line > 1)
    );
}
