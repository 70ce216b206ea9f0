//! Links of Windows: what they lead to, beside what ntfs-3g makes of the same ones.

use crate::disks::{C_START, D_NAME, junction, mount, symlink, windows};
use cairn_base::{ReadAt, Section};
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::{EntryId, EntryKind, LinkTarget, Volume};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn find(volume: &dyn Volume, path: &str) -> EntryId {
    path.split('/').fold(volume.root(), |at, name| {
        let found = volume.lookup(at, name.as_bytes()).unwrap();
        found.unwrap_or_else(|| panic!("{path}: {name}")).id
    })
}

fn text(names: &[Vec<u8>]) -> String {
    String::from_utf8(names.join(&b'/')).unwrap()
}

#[test]
fn links_lead_where_ntfs_3g_says() {
    let folder = tempfile::tempdir().unwrap();
    let Some(made) = windows(folder.path(), &|_, _| {}) else {
        return;
    };
    let disk: Arc<dyn ReadAt> = Arc::new(fs::read(&made.system).unwrap());
    let part = Section::new(disk, C_START, 24 << 20).unwrap();
    let volume = NtfsVolume::open(Arc::new(part)).unwrap();
    let Some(theirs) = mount(&folder.path().join("c.ntfs"), true) else {
        return;
    };
    // Where a link leads to on its volume: ntfs-3g takes the letter of another volume for its own where such a path is there.
    let led = |path: &str| -> PathBuf {
        let there = theirs.0.join(path).canonicalize().unwrap();
        let top = theirs.0.canonicalize().unwrap();
        there.strip_prefix(top).unwrap().to_path_buf()
    };
    let mut compared = 0;
    for path in [
        "Documents and Settings",
        "Users/ann/rel",
        "Users/ann/deep/rel",
        "Users/ann/deep/rooted",
        "Users/ann/case",
    ] {
        let id = find(&volume, path);
        assert_eq!(volume.attributes(id).unwrap().kind, EntryKind::Symlink);
        let from_root = match volume.link_target(id).unwrap() {
            LinkTarget::Letter(b'C', names) | LinkTarget::Rooted(names) => text(&names),
            LinkTarget::Relative(names) => {
                let target = text(&names);
                // A relative one is the same text.
                let told = fs::read_link(theirs.0.join(path)).unwrap();
                assert_eq!(told, Path::new(&target), "{path}");
                led(path).to_str().unwrap().to_string()
            }
            other => panic!("{path}: {other:?}"),
        };
        let ours = find(&volume, &from_root);
        assert_eq!(ours, find(&volume, led(path).to_str().unwrap()), "{path}");
        compared += 1;
    }
    assert_eq!(compared, 5);
    for (path, target) in [
        (
            "Users/ann/data",
            LinkTarget::Letter(b'D', vec![b"Data".to_vec()]),
        ),
        (
            "Users/ann/volume",
            LinkTarget::Named(D_NAME.to_string(), vec![]),
        ),
        (
            "Users/ann/server",
            LinkTarget::Elsewhere(b"/??/UNC/server/share/x".to_vec()),
        ),
    ] {
        assert_eq!(volume.link_target(find(&volume, path)).unwrap(), target);
    }
    // For people and for copies it is what stands there.
    let written = volume.read_link(find(&volume, "Users/ann/data")).unwrap();
    assert_eq!(written, br"D:\Data");
}

#[test]
fn reparse_points_of_tests_are_whole() {
    for point in [symlink("a", true), junction(r"\??\C:\a")] {
        let length = u16::from_le_bytes([point[4], point[5]]);
        assert_eq!(usize::from(length) + 8, point.len());
    }
}
