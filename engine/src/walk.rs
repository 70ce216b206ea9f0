//! Finding entries by path.

use cairn_base::{Error, Kind, Result};
use cairn_guest::{DirEntry, EntryId, EntryKind, Volume};
use std::ops::ControlFlow;

/// The entry at `path` (relative to the volume's root, `/` between names, empty names and `.` skipped). Symbolic links
/// are not followed: they belong to the guest, whose paths mean nothing here.
///
/// # Errors
/// [`Kind::NotFound`] if a name on the way is not there or is no folder.
pub fn resolve(volume: &dyn Volume, path: &[u8]) -> Result<EntryId> {
    let mut at = volume.root();
    let mut kind = EntryKind::Folder;
    for name in path.split(|byte| *byte == b'/') {
        if name.is_empty() || name == b"." {
            continue;
        }
        let missing = || {
            Error::new(
                Kind::NotFound,
                format!(
                    "there is no `{}` in `{}`",
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(path)
                ),
            )
        };
        if kind != EntryKind::Folder {
            return Err(missing());
        }
        let entry = volume.lookup(at, name)?.ok_or_else(missing)?;
        at = entry.id;
        kind = entry.kind;
    }
    Ok(at)
}

/// The folders above the entry at `path`, which [`resolve`] takes: the root, and so on down to the one in which it lies. None above the root.
///
/// # Errors
/// As [`resolve`].
pub fn above(volume: &dyn Volume, path: &[u8]) -> Result<Vec<EntryId>> {
    let names = path.split(|byte| *byte == b'/');
    let names: Vec<&[u8]> = names
        .filter(|name| !name.is_empty() && *name != b".")
        .collect();
    let depths = 0..names.len();
    depths
        .map(|depth| resolve(volume, &names.get(..depth).unwrap_or_default().join(&b'/')))
        .collect()
}

/// All names in a folder that can be read, and why the rest cannot. For interactive use: a very large folder is better walked with [`Volume::read_dir`].
pub fn list(volume: &dyn Volume, folder: EntryId) -> (Vec<DirEntry>, Result<()>) {
    let mut entries = Vec::new();
    let read = volume.read_dir(folder, 0, &mut |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    });
    (entries, read)
}
