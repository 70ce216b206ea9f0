//! Images of folders by their ids: files are renamed, ids are not. Each folder and each file is looked at once for a whole chain.

use crate::guid::Guid;
use crate::source::FileSource;
use crate::{vdi, vhd, vhdx};
use cairn_base::{ReadAt, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Names of a folder that are looked at, and images of it that are opened.
const MAX_NAMES: usize = 100_000;
const MAX_LOOKED_INTO: usize = 2000;

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Known {
    folders: HashSet<PathBuf>,
    files: HashSet<(u64, u64)>,
    images: Vec<(Guid, PathBuf)>,
}

impl Known {
    /// Looks at the files of `folder` whose names are `wanted`, in order of their names. `open` opens one, or passes it over.
    ///
    /// # Errors
    /// What `open` says.
    pub(crate) fn add(
        &mut self,
        folder: &Path,
        wanted: fn(&Path) -> bool,
        open: impl Fn(&Path) -> Result<Option<FileSource>>,
    ) -> Result<()> {
        let Ok(real) = std::fs::canonicalize(folder) else {
            return Ok(());
        };
        if !self.folders.insert(real) {
            return Ok(());
        }
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Ok(());
        };
        let mut paths: Vec<PathBuf> = entries
            .take(MAX_NAMES)
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| wanted(path))
            .collect();
        paths.sort();
        paths.truncate(MAX_LOOKED_INTO);
        for path in paths {
            let Some(file) = open(&path)? else { continue };
            if self.files.insert(file.file_id())
                && let Some(id) = id_of(&file)
            {
                self.images.push((id, path));
            }
        }
        Ok(())
    }

    /// The files that have one of `ids`.
    pub(crate) fn of(&self, ids: &[Guid]) -> Vec<PathBuf> {
        let found = self.images.iter().filter(|(id, _)| ids.contains(id));
        found.map(|(_, path)| path.clone()).collect()
    }
}

/// By what a child knows `image`.
fn id_of(image: &dyn ReadAt) -> Option<Guid> {
    let of_vhdx = vhdx::known_as(image).ok();
    let of_vdi = || Some(vdi::known_as(image).ok()?.0);
    of_vhdx
        .or_else(of_vdi)
        .or_else(|| Some(vhd::find_footer(image).ok()??.0.unique_id))
}
