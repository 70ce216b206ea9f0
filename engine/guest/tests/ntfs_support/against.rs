//! Volumes as another implementation shows them: ntfs-3g's mount.

use super::made::{Mount, host_walk};
use super::{FileDisk, content, walk};
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::{EntryKind, Volume};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Compares kinds, sizes, times, link counts, targets and contents.
pub fn compare(volume: &NtfsVolume, mount: &Mount) -> usize {
    let mut ours = walk(volume, &mut |what, error| panic!("{what}: {error}"));
    ours.retain(|_, item| item.stream.is_none());
    let theirs = host_walk(&mount.0);
    let our_names: BTreeSet<_> = ours.keys().collect();
    let their_names: BTreeSet<_> = theirs.keys().collect();
    let differ: Vec<_> = our_names
        .symmetric_difference(&their_names)
        .take(10)
        .collect();
    assert!(differ.is_empty(), "{differ:?}");
    for (path, item) in &ours {
        let host = &theirs[path];
        let (parent, last) = path.split_at(path.iter().rposition(|&byte| byte == b'/').unwrap());
        let parent = ours.get(parent).map_or(volume.root(), |parent| parent.id);
        let found = volume.lookup(parent, &last[1..]).unwrap().unwrap();
        assert_eq!(
            (found.id, found.kind, found.name.as_slice()),
            (item.id, item.kind, &last[1..])
        );
        let name = host.display();
        let metadata = fs::symlink_metadata(host).unwrap();
        let attributes = item.attributes.as_ref().unwrap();
        assert_eq!(attributes.modified.seconds, metadata.mtime(), "{name}");
        assert_eq!(
            i64::from(attributes.modified.nanos),
            metadata.mtime_nsec(),
            "{name}"
        );
        assert_eq!(attributes.accessed.seconds, metadata.atime(), "{name}");
        assert_eq!(attributes.changed.seconds, metadata.ctime(), "{name}");
        assert_eq!(item.id.number, metadata.ino(), "{name}");
        let kind = metadata.file_type();
        if kind.is_symlink() {
            assert_eq!(item.kind, EntryKind::Symlink, "{name}");
            let target = fs::read_link(host).unwrap().into_os_string().into_vec();
            assert_eq!(item.target.as_ref(), Some(&target), "{name}");
        } else if kind.is_dir() {
            assert_eq!(item.kind, EntryKind::Folder, "{name}");
        } else if kind.is_file() {
            assert_eq!(item.kind, EntryKind::File, "{name}");
            assert_eq!(item.size, metadata.len(), "{name}");
            assert_eq!(u64::from(attributes.links), metadata.nlink(), "{name}");
            assert!(
                content(volume, item).unwrap() == fs::read(host).unwrap(),
                "{name}: content"
            );
        }
    }
    ours.len()
}

/// A mount for reading; everything that was written is in the image already.
pub fn compare_image(image: &Path, folder: &Path) -> Option<usize> {
    let volume = NtfsVolume::open(FileDisk::open(image)).unwrap();
    assert!(volume.info().clean, "{:?}", volume.info().notes);
    let mount = Mount::new(image, folder, "ro,streams_interface=none")?;
    let count = compare(&volume, &mount);
    check_free_space(&volume, &mount);
    Some(count)
}

fn check_free_space(volume: &NtfsVolume, mount: &Mount) {
    let output = std::process::Command::new("stat")
        .args(["-f", "-c", "%f %S", mount.0.to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    assert_eq!(volume.info().free, numbers[0] * numbers[1]);
}
