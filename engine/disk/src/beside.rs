//! Files that belong to the same image: its extents, its external data file. They are opened by the names that the image gives, and only where it
//! may have files opened: see [`reach`](crate::reach).

use crate::reach::{self, Looked, Reach};
use crate::source::FileSource;
use cairn_base::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the files of one image lie.
pub(crate) struct Beside<'a>(Option<Folders<'a>>);

struct Folders<'a> {
    file: &'a FileSource,
    own: Vec<PathBuf>,
    extra: &'a [PathBuf],
    reach: &'a Reach,
}

impl<'a> Beside<'a> {
    /// Of an image that is no file: there are no others.
    pub(crate) const NOTHING: Beside<'static> = Beside(None);

    /// Of the image in `file`, whose folders `reach` is given; `extra` are folders (or files) that the caller names.
    pub(crate) fn of(
        file: &'a FileSource,
        extra: &'a [PathBuf],
        reach: &'a mut Reach,
    ) -> Beside<'a> {
        Beside(Some(Folders {
            file,
            own: reach.add_folders(file),
            extra,
            reach,
        }))
    }

    /// The image's own file, if it is one.
    pub(crate) fn own(&self) -> Option<&FileSource> {
        Some(self.0.as_ref()?.file)
    }

    /// Whether the caller said what the image is: then it may name any file.
    pub(crate) fn is_told(&self) -> bool {
        let folders = self.0.as_ref();
        folders.is_some_and(|folders| folders.reach.is_everywhere())
    }

    /// Opens the file that the image calls `name`; `what` it is says the error.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn_base::Kind::NotFound) if there is none, or none that may be opened;
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if the image is no file; what the operating system says otherwise.
    pub(crate) fn open(&self, name: &Path, what: &str) -> Result<Arc<FileSource>> {
        let shown = name.to_string_lossy();
        let shown = shown.escape_debug();
        let Some(folders) = &self.0 else {
            return Err(Error::unsupported(format!(
                "the image has its {what} `{shown}` in another file, and is no file itself"
            )));
        };
        let mut outside = Vec::new();
        for path in reach::places_of(name, &folders.own, folders.extra) {
            match folders.reach.open(&path)? {
                Looked::File(file) => return Ok(Arc::new(file)),
                Looked::Absent => {}
                Looked::Outside => outside.extend(reach::plain(&path)),
            }
        }
        Err(Error::not_found(format!(
            "the {what} `{shown}` of this image was not found; looked where the image says{}",
            reach::not_followed(&outside)
        ))
        .advise("name the folder in which it lies (`--parent DIR`)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Kind;
    use std::fs;

    #[test]
    fn files_beside_an_image_are_opened_and_no_others() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &str| temporary.path().join(name);
        for folder in ["own/sub", "other"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["own/image", "own/a", "own/sub/a", "other/b"] {
            fs::write(at(file), file).unwrap();
        }
        std::os::unix::fs::symlink(at("other/b"), at("own/link")).unwrap();
        let file = FileSource::open(&at("own/image")).unwrap();
        let open = |name: &Path, extra: &[PathBuf], is_everywhere| {
            let mut reach = Reach::new(extra, is_everywhere);
            let opened = Beside::of(&file, extra, &mut reach).open(name, "extent");
            opened.map(|file| file.path().to_path_buf())
        };
        let real = |name: &str| fs::canonicalize(at(name)).unwrap();
        for (name, found) in [("a", "own/a"), ("sub/a", "own/sub/a")] {
            assert_eq!(open(Path::new(name), &[], false).unwrap(), real(found));
            assert_eq!(
                open(&at("own").join(name), &[], false).unwrap(),
                real(found)
            );
        }
        for name in [at("other/b"), "../other/b".into(), "link".into()] {
            let error = open(&name, &[], false).unwrap_err();
            assert_eq!(error.kind(), Kind::NotFound, "{error}");
            assert!(error.to_string().contains("not followed"), "{error}");
            fs::canonicalize(open(&name, &[], true).unwrap()).unwrap();
        }
        for extra in [at("other"), at("other/b")] {
            let extra = [extra];
            assert_eq!(open(&at("gone/b"), &extra, false).unwrap(), real("other/b"));
            assert!(open(&at("gone/c"), &extra, false).is_err());
        }
        let error = Beside::NOTHING
            .open(Path::new("a"), "extent")
            .err()
            .unwrap();
        assert_eq!(error.kind(), Kind::Unsupported);
    }
}
