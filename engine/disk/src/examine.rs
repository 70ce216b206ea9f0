//! What can be found out of an image: also of one that cannot be opened, or whose parents are not there.

use crate::check::{Check, Topic, is_of_image};
use crate::detect::{OpenOptions, open_file};
use crate::disk::{FormatHint, ImageFile, ImageInfo, VirtualDisk};
use crate::source::FileSource;
use crate::{vhd, vhdx};
use cairn_base::read_at::read_vec;
use cairn_base::{Error, Kind, ReadAt, Result};
use std::path::Path;
use std::sync::Arc;

/// An image as far as it could be opened.
pub struct Examined {
    file: Arc<FileSource>,
    hint: FormatHint,
    disk: Option<Arc<dyn VirtualDisk>>,
    failure: Option<Error>,
}

/// Opens the image at `path` as far as that goes.
///
/// # Errors
/// What [`FileSource::open`] says. Everything else is told by [`Examined::failure`].
pub fn examine(path: &Path, options: &OpenOptions) -> Result<Examined> {
    let file = Arc::new(FileSource::open(path)?);
    let (disk, failure) = match open_file(file.clone(), options) {
        Ok((disk, failure)) => (Some(disk), failure),
        Err(error) => (None, Some(error)),
    };
    Ok(Examined {
        file,
        hint: options.hint,
        disk,
        failure,
    })
}

impl Examined {
    /// The file that was asked for.
    pub fn file(&self) -> ImageFile {
        self.file.info()
    }

    /// What could be opened. If a parent is missing, it is made of the images that are there: reading what lies in others fails then, and counts
    /// as data among its extents.
    pub fn disk(&self) -> Option<&Arc<dyn VirtualDisk>> {
        self.disk.as_ref()
    }

    /// Why the image cannot be opened, or, where there is a [disk](Examined::disk), why its chain of parents is not whole.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// The images that could be opened: its own, then its parents.
    pub fn images(&self) -> Vec<ImageInfo> {
        self.disk
            .as_ref()
            .map(|disk| disk.images())
            .unwrap_or_default()
    }

    /// Walks all structures of all images that are there and tells `check` what is wrong. An image that cannot be opened because it is damaged is
    /// looked at as far as its headers go, and that it cannot be opened is a fault. A parent that is nowhere is a remark: this image is none the
    /// worse for it.
    ///
    /// # Errors
    /// Why not everything was looked at: an I/O error, an image of a kind that is not read, a parent that was changed or another file that is not
    /// opened, or [`Kind::Interrupted`]. What `check` was told until then, of the other images too, stays.
    pub fn check(&self, check: &mut Check<'_>) -> Result<()> {
        let path = self.file.path();
        let Some(disk) = &self.disk else {
            check.begin_image(Some(path));
            check_structures(&*self.file, self.hint, check).map_err(|error| error.at_path(path))?;
            return match &self.failure {
                Some(error) if is_of_image(error) => {
                    // It may be in an extent.
                    check.begin_file(error.path().or(Some(path)));
                    check.fault(Topic::Structure, error.offset(), || {
                        format!("the image cannot be opened: {}", error.reason())
                    });
                    Ok(())
                }
                Some(error) => Err(error.clone()),
                None => Ok(()),
            };
        };
        let checked = disk.check(check);
        if let Err(error) = &checked
            && error.kind() == Kind::Interrupted
        {
            return checked;
        }
        match &self.failure {
            Some(error) if error.kind() == Kind::NotFound => {
                check.begin_image(error.path().or(Some(path)));
                check.remark(Topic::Parent, None, || error.reason());
            }
            Some(error) if is_of_image(error) => {
                check.begin_image(error.path().or(Some(path)));
                check.fault(Topic::Parent, error.offset(), || error.reason());
            }
            Some(error) => return checked.and_then(|()| Err(error.clone())),
            None => {}
        }
        checked
    }
}

/// Walks what can be walked of an image that may not be one: the headers and footers of the format that the caller knows, or that is
/// to be seen, each copy by itself.
///
/// # Errors
/// What the image says when it is read.
pub fn check_structures(image: &dyn ReadAt, hint: FormatHint, check: &mut Check<'_>) -> Result<()> {
    let length = image.size().min(8);
    let start = read_vec(image, 0, usize::try_from(length).unwrap_or(0))?;
    let is_vhdx = start.starts_with(vhdx::SIGNATURE);
    match hint {
        FormatHint::Vhdx => vhdx::check_structures(image, check),
        FormatHint::Vhd => vhd::check_footers(image, check),
        FormatHint::Detect if is_vhdx => vhdx::check_structures(image, check),
        FormatHint::Detect if vhd::has_footer(image)? => vhd::check_footers(image, check),
        _ => Ok(()),
    }
}
