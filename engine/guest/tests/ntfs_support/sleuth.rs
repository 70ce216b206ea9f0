//! What The Sleuth Kit finds on a volume.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// A name that `fls` tells, by path; named streams stand at `path:name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// As `icat` takes it: record, type and number of the attribute.
    pub address: String,
    /// A folder.
    pub is_folder: bool,
}

/// Everything that is not deleted and not the file system's own. Nothing if The Sleuth Kit cannot read the volume, which is said.
pub fn walk(image: &Path) -> Option<BTreeMap<Vec<u8>, Told>> {
    let output = Command::new("fls")
        .args(["-f", "ntfs", "-r", "-p", "-u", image.to_str().unwrap()])
        .output()
        .unwrap();
    if !output.status.success() {
        println!(
            "SKIPPED: The Sleuth Kit cannot read {}: {}",
            image.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        return None;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let (head, path) = line.split_once(":\t").unwrap();
        let (kind, address) = head.split_once(' ').unwrap();
        // Streams of folders are told again as those of `.` in them.
        if path.starts_with('$') || path.contains("/.:") {
            continue;
        }
        let told = Told {
            address: address.to_string(),
            is_folder: kind.ends_with('d'),
        };
        found.insert(format!("/{path}").into_bytes(), told);
    }
    Some(found)
}

/// The content of what `walk` told.
pub fn content(image: &Path, told: &Told) -> Vec<u8> {
    let output = Command::new("icat")
        .args(["-f", "ntfs", image.to_str().unwrap(), &told.address])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "icat {}: {}",
        told.address,
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
