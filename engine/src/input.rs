//! Disks that are backed up.

use crate::view::image_facts;
use cairn_base::{Error, ReadAt, Result, Time};
use cairn_disk::{FormatHint, Identity, OpenOptions, VirtualDisk};
use cairn_store::{ChangeList, ChangeSource, Changes, DiskInput, ImageFacts, ImageState, Images};
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
        let images = images_of(&image);
        Ok(DiskImage {
            input: DiskInput {
                name: name.into(),
                facts: image_facts(&shown, &*image),
                source: image,
                changed: Some(Box::new(move || {
                    let changed = watched.changed()?;
                    Ok(changed.map(|file| {
                        format!(
                            "{} has another size or other times of change",
                            file.display()
                        )
                    }))
                })),
                changes: Some(ChangeSource::Images(images)),
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
    /// complete make a wrong point. They count instead of what the images of a differencing disk tell themselves.
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
        self.input.changes = Some(ChangeSource::Caller(Arc::new(changes)));
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

/// Bytes of disk about which an image is asked at once: 64 ranges of each block of 1 MiB take 4 MiB of memory.
const STEP: u64 = 4 << 30;

/// What the images of a disk tell of what changed.
fn images_of(image: &Arc<dyn VirtualDisk>) -> Images {
    let disk = image.clone();
    let chain = image.chain();
    // A chain in which another format lies in front of a VHDX is not relied on.
    let is_vhdx = chain.iter().all(|image| image.data_id.is_some());
    let states = chain.iter().filter(|_| is_vhdx).map(state_of);
    Images {
        states: states.collect(),
        held: Box::new(move |count, monitor| {
            let size = disk.size();
            let mut list = ChangeList::new(size);
            let mut at = 0;
            while at < size {
                if monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                let end = size.min(at.saturating_add(STEP));
                for range in disk.held(count, at..end)? {
                    list.add(range.start, range.end.saturating_sub(range.start), false)?;
                }
                at = end;
            }
            Ok(list.finish())
        }),
    }
}

/// What a later backup must find to take an image for unchanged: a VHDX in a file of which each write shows. A VHD has no id that
/// changes when it is written to, and its file's times alone are not relied on.
fn state_of(image: &Identity) -> Option<ImageState> {
    let file = image.file?;
    Some(ImageState {
        data_id: image.data_id?.to_windows(),
        write_id: image.write_id?.to_windows(),
        file_size: file.size,
        modified_ns: nanoseconds(file.modified)?,
        changed_ns: nanoseconds(image.settled?)?,
    })
}

/// Since 1970; `None` beyond what 64 bits can say: years that far away would all look the same.
fn nanoseconds(time: Time) -> Option<i64> {
    let seconds = time.seconds.checked_mul(1_000_000_000)?;
    seconds.checked_add(i64::from(time.nanos))
}

#[cfg(test)]
mod tests;
