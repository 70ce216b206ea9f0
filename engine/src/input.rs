//! Disks that are backed up.

use crate::view::image_facts;
use cairn_base::{ReadAt, Result};
use cairn_disk::{FormatHint, VirtualDisk};
use cairn_store::{DiskInput, ImageFacts};
use std::path::Path;
use std::sync::Arc;

/// A disk to back up: an image of this machine, or anything that can be read.
pub struct DiskImage {
    input: DiskInput,
    warnings: Vec<String>,
}

impl DiskImage {
    /// An image file or block device; what it is decides its content.
    ///
    /// # Errors
    /// As [`cairn_disk::open`].
    pub fn open(name: impl Into<String>, path: &Path) -> Result<DiskImage> {
        DiskImage::open_as(name, path, FormatHint::Detect)
    }

    /// As [`open`](DiskImage::open), where the format is known.
    ///
    /// # Errors
    /// As [`cairn_disk::open_as`].
    pub fn open_as(name: impl Into<String>, path: &Path, hint: FormatHint) -> Result<DiskImage> {
        let image: Arc<dyn VirtualDisk> = cairn_disk::open_as(path, hint)?;
        let warnings = image.warnings().to_vec();
        let shown = path.display().to_string();
        let watched = image.clone();
        Ok(DiskImage {
            input: DiskInput {
                name: name.into(),
                facts: image_facts(&shown, &*image),
                source: image,
                changed: Some(Box::new(move || {
                    let changed = watched.changed()?;
                    Ok(changed.then(|| format!("{shown} has another size or time of change")))
                })),
            },
            warnings,
        })
    }

    /// Anything that can be read by position: a snapshot of a hypervisor, a volume, a buffer.
    pub fn from_reader(name: impl Into<String>, source: Arc<dyn ReadAt>) -> DiskImage {
        DiskImage {
            input: DiskInput {
                name: name.into(),
                source,
                facts: ImageFacts {
                    format: "raw".to_string(),
                    sector_size: 512,
                    ..ImageFacts::default()
                },
                changed: None,
            },
            warnings: Vec::new(),
        }
    }

    /// Its name in the point.
    pub fn name(&self) -> &str {
        &self.input.name
    }

    /// Size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.input.source.size()
    }

    /// What a user should know although the image can be read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn source(&self) -> &dyn ReadAt {
        &*self.input.source
    }

    pub(crate) fn into_input(self) -> DiskInput {
        self.input
    }
}
