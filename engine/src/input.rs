//! Disks that are backed up.

use crate::view::image_facts;
use cairn_base::{ReadAt, Result};
use cairn_disk::{FormatHint, OpenOptions, VirtualDisk};
use cairn_store::{Changes, DiskInput, ImageFacts};
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
        let options = OpenOptions {
            hint,
            ..OpenOptions::default()
        };
        DiskImage::open_with(name, path, &options)
    }

    /// As [`open`](DiskImage::open), where the format is known, or where parents of differencing disks lie.
    ///
    /// # Errors
    /// As [`cairn_disk::open_with`].
    pub fn open_with(
        name: impl Into<String>,
        path: &Path,
        options: &OpenOptions,
    ) -> Result<DiskImage> {
        let image: Arc<dyn VirtualDisk> = cairn_disk::open_with(path, options)?;
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
                    Ok(changed.map(|file| {
                        format!("{} has another size or time of change", file.display())
                    }))
                })),
                changes: None,
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
                changes: None,
            },
            warnings: Vec::new(),
        }
    }

    /// Tells what changed on the disk since the point that [`BackupOptions::base`](crate::BackupOptions::base) names: only
    /// that is read then, with the chunks around it, and a thousandth of the rest, to check it. [`Changes`] that are not
    /// complete make a wrong point.
    ///
    /// ```
    /// use cairn::{BackupOptions, Change, Changes, DiskImage, Silent, Store};
    /// # use std::sync::Arc;
    /// # fn main() -> cairn::Result<()> {
    /// # let temp = tempfile::tempdir().unwrap();
    /// # let store = Store::create(&temp.path().join("store"))?;
    /// # let mut now = vec![7u8; 64 << 20];
    /// # let before = DiskImage::from_reader("disk0", Arc::new(now.clone()));
    /// # store.backup(vec![before], &BackupOptions::new("web01"), &Silent)?;
    /// # now[4096..8192].fill(8);
    /// # let disk = DiskImage::from_reader("disk0", Arc::new(now));
    /// let written = Change { range: 4096..8192, zero: false };
    /// let disk = disk.with_changes(Changes::new(64 << 20, [written])?);
    /// let mut options = BackupOptions::new("web01");
    /// options.base = Some(store.find_point("web01@latest")?.id);
    /// let point = store.backup(vec![disk], &options, &Silent)?;
    /// # assert!(point.record.stats.read < 5 << 20);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_changes(mut self, changes: Changes) -> DiskImage {
        self.input.changes = Some(Arc::new(changes));
        self
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

    pub(crate) fn into_input(self) -> DiskInput {
        self.input
    }
}
