//! What a mount stands on, which it must not lie over: whoever serves it would wait for himself, and nothing could end that.

use cairn::{Error, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files and folders of this machine that serving a mount needs.
#[derive(Debug, Clone, Default)]
pub struct Ground {
    /// A store's folder, or the files of an image: the mount lies neither over them nor in them.
    pub source: Vec<PathBuf>,
    /// The folder for scratch files, which need not be there yet. Those in it are not looked up by folders in between.
    pub scratch: Option<PathBuf>,
}

impl Ground {
    /// Refuses a mountpoint that would cover something of it.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn::Kind::Invalid) with advice. A mountpoint that is not there is left to mounting.
    pub fn check(&self, mountpoint: &Path) -> Result<()> {
        let Ok(place) = mountpoint.canonicalize() else {
            return Ok(());
        };
        let covered = |path: &&PathBuf| lies_in(&there_is(path), &place);
        let all = self.source.iter().chain(&self.scratch);
        let holds = |path: &&PathBuf| lies_in(&place, &there_is(path));
        let found = all
            .clone()
            .find(covered)
            .or_else(|| self.source.iter().find(holds));
        let Some(found) = found else { return Ok(()) };
        let why = format!(
            "cannot mount there: it would cover what it needs of {}",
            found.display()
        );
        Err(Error::invalid(why)
            .at_path(mountpoint)
            .advise("mount on an empty folder beside it"))
    }
}

/// The path without links, or what is there of the folders above it.
fn there_is(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let found = path.ancestors().find_map(|at| at.canonicalize().ok());
    found.unwrap_or(path)
}

/// Whether `path` is `folder` or lies in it, also where another path leads to the same folder: what is mounted on that may show here.
fn lies_in(path: &Path, folder: &Path) -> bool {
    let id = |at: &Path| at.metadata().map(|found| (found.dev(), found.ino())).ok();
    let wanted = id(folder);
    path.ancestors()
        .any(|at| at == folder || wanted.is_some() && id(at) == wanted)
}
