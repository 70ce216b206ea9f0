//! Which files of this machine a chain of images may have opened. Whoever writes to an image, the guest of a raw disk above all, must not
//! decide what is read.
//!
//! An image that is known by its content alone reaches the files in its own folder, and below it, and what the caller names; links are
//! followed first. What lies elsewhere is not so much as looked for, so that no answer tells whether it is there. The folder of a block device is
//! not its own: all devices lie there.

use crate::source::FileSource;
use cairn_base::{Error, Kind, Result};
use rustix::io::Errno;
use std::path::{Component, Path, PathBuf};

/// Places that a message names.
const SHOWN: usize = 3;

/// What became of a file that an image names.
pub(crate) enum Looked {
    /// It is open.
    File(FileSource),
    /// There is no such file.
    Absent,
    /// It lies outside: nobody looked whether it is there.
    Outside,
}

/// What may be opened.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Whether that is everything: the caller knows what the image is.
    is_everywhere: bool,
    /// Folders and files, as they are named and without links.
    roots: Vec<PathBuf>,
}

impl Reach {
    /// What the caller names; everything, if `is_everywhere`.
    pub(crate) fn new(named: &[PathBuf], is_everywhere: bool) -> Reach {
        let mut reach = Reach {
            is_everywhere,
            roots: Vec::new(),
        };
        for path in named {
            reach.add(path);
        }
        reach
    }

    /// Whether an image may name any file.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.is_everywhere
    }

    /// From here on only the folders of the chain so far, those of images that are added, and what the caller names: what comes next is an
    /// image whose format nobody said.
    pub(crate) fn confine(&mut self) {
        self.is_everywhere = false;
    }

    /// Adds the folders of an image that is part of the chain; those in which its parent, and other files of it, are to be looked for.
    pub(crate) fn add_folders(&mut self, file: &FileSource) -> Vec<PathBuf> {
        if file.is_device() {
            return match self.is_everywhere {
                true => folders(file.path()),
                false => Vec::new(),
            };
        }
        let folders = folders(file.path());
        for folder in &folders {
            self.add(folder);
        }
        folders
    }

    fn add(&mut self, path: &Path) {
        let real = std::fs::canonicalize(path).ok();
        for root in plain(path).into_iter().chain(real) {
            if !self.roots.contains(&root) {
                self.roots.push(root);
            }
        }
    }

    fn holds(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| path.starts_with(root))
    }

    /// What is to be opened for `path`; `None` if it lies, or leads, outside.
    ///
    /// # Errors
    /// What the operating system says of a path that lies inside.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<PathBuf>> {
        if self.is_everywhere {
            return Ok(Some(path.to_path_buf()));
        }
        let Some(path) = plain(path).filter(|path| self.holds(path)) else {
            return Ok(None);
        };
        let real = std::fs::canonicalize(&path)
            .map_err(|error| Error::io("cannot look for the file", &path, error))?;
        Ok(Some(real).filter(|real| self.holds(real)))
    }
}

impl Reach {
    /// Opens `path`, if it may be opened.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] for a folder, a pipe or the like; what the operating system says, but that there is no such file.
    pub(crate) fn open(&self, path: &Path) -> Result<Looked> {
        let opened = match self.find(path) {
            Ok(None) => return Ok(Looked::Outside),
            Ok(Some(real)) => FileSource::open(&real),
            Err(error) => Err(error),
        };
        match opened {
            Err(error) if is_absent(&error) => Ok(Looked::Absent),
            // Whoever called the command did not name it.
            Err(error) if error.kind() == Kind::Invalid => Err(Error::unsupported(
                "the image names this as a file of its own or as its parent, and it is neither a regular file nor a block device",
            )
            .at_path(error.path().unwrap_or(path))),
            file => Ok(Looked::File(file?)),
        }
    }
}

fn is_absent(error: &Error) -> bool {
    let is_no_folder = || code_of(error) == Some(Errno::NOTDIR.raw_os_error());
    error.kind() == Kind::NotFound || is_no_folder()
}

/// What the system said, if it did.
pub(crate) fn code_of(error: &Error) -> Option<i32> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<std::io::Error>()?.raw_os_error()
}

/// Where the file that an image calls `name` may lie, in the order in which to look: from `folders`, those of the image, on, or from the root on if
/// that is what it says; then, under its own name, in the folders of `extra`, or one of `extra` itself if it is called so. There is
/// nothing to know it by but its name: so it is looked for nowhere else.
pub(crate) fn places_of(name: &Path, folders: &[PathBuf], extra: &[PathBuf]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = match name.is_absolute() {
        true => vec![name.to_path_buf()],
        false => folders.iter().map(|folder| folder.join(name)).collect(),
    };
    for place in extra {
        let own = name.file_name().unwrap_or_default();
        match place.is_dir() {
            true => paths.push(place.join(own)),
            false if place.file_name() == Some(own) => paths.push(place.clone()),
            false => {}
        }
    }
    paths
}

/// Paths that an image names and that were not followed, for messages; nothing if there are none.
pub(crate) fn not_followed(outside: &[PathBuf]) -> String {
    let shown: Vec<String> = outside
        .iter()
        .take(SHOWN)
        .map(|path| format!("`{}`", path.to_string_lossy().escape_debug()))
        .collect();
    match shown.len() {
        0 => String::new(),
        _ => format!(
            "; the disk says {}, outside of its folder, which was not followed",
            shown.join(", ")
        ),
    }
}

/// Folders of an image: of its name, and, if that is a link, of the file itself.
pub(crate) fn folders(image: &Path) -> Vec<PathBuf> {
    let folder = |path: &Path| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut folders = vec![folder(image)];
    if let Ok(file) = std::fs::canonicalize(image) {
        let real = folder(&file);
        if !folders.contains(&real) {
            folders.push(real);
        }
    }
    folders
}

/// `path` from the root on and without dots, by its letters alone.
pub(crate) fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in std::path::absolute(path).ok()?.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn inside_by_its_letters_and_without_links() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &str| temporary.path().join(name);
        for folder in ["own/sub", "other"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["own/image", "own/sub/a", "other/b"] {
            fs::write(at(file), file).unwrap();
        }
        symlink(at("other"), at("own/out")).unwrap();
        symlink("sub", at("own/in")).unwrap();
        symlink(at("own"), at("alias")).unwrap();
        let file = FileSource::open(&at("alias/image")).unwrap();
        let mut reach = Reach::default();
        assert_eq!(reach.find(&at("own/sub/a")).unwrap(), None);
        assert_eq!(reach.add_folders(&file).len(), 2);
        for (path, is_inside) in [
            ("own/sub/a", true),
            ("alias/sub/a", true),
            ("own/in/a", true),
            ("other/../own/sub/a", true),
            ("own/out/b", false),
            ("own/sub/../../other/b", false),
            ("own/../other/nothing", false),
            ("other/b", false),
        ] {
            let found = reach.find(&at(path)).unwrap();
            assert_eq!(found.is_some(), is_inside, "{path}: {found:?}");
        }
        assert!(reach.find(&at("own/nothing")).is_err());
        let named = Reach::new(&[at("other/b")], false);
        assert!(named.find(&at("other/b")).unwrap().is_some());
        assert!(named.find(&at("other")).unwrap().is_none());
        let all = Reach::new(&[], true);
        assert!(all.find(&at("other/b")).unwrap().is_some());
    }
}
