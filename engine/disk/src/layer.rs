//! One image of a disk that may consist of several: a differencing disk and its parents.

use crate::check::Check;
use crate::disk::{Format, FormatHint, Identity};
use crate::guid::Guid;
use crate::property::{Property, Value};
use crate::runs::{Detail, Runs};
use crate::source::FileSource;
use cairn_base::{ReadAt, Result, Time};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Says where each part of a disk lies in one image.
pub(crate) trait Layer: Send + Sync {
    /// Bytes of the disk, as this image has it.
    fn size(&self) -> u64;

    /// Bytes of a block: how much of the disk one entry of the image's table is about, at least. [`u64::MAX`] where there are no blocks.
    fn block_size(&self) -> u64;

    /// What holds the bytes: the image's file, or an address space of the layer's own in which all its files lie, and what is decoded as it
    /// is read.
    fn image(&self) -> &dyn ReadAt;

    /// Where a walk that begins at `at` ends if it looks at no more than `blocks` blocks that are there, the end of a block: further than so
    /// many blocks where many that are not there take one step.
    fn step_end(&self, at: u64, blocks: u64) -> u64 {
        let block = self.block_size().max(1);
        let next = at.checked_div(block).unwrap_or(0).saturating_add(blocks);
        next.saturating_mul(block)
    }

    /// Where `range`, which lies within the size, is to be read from.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for a block that lies where none can lie, or whose entry says what does not exist.
    fn runs(&self, range: Range<u64>, detail: Detail) -> Result<Runs>;

    /// What the image says of itself besides [`Facts`], in the order in which it is shown. Known since it was opened: nothing is read.
    ///
    /// The same things have the same names in all formats: `creator`, `creator_version`, `created` (a time), `physical_sector_bytes`, `log` (text:
    /// how the log or journal is), `log_entries`, `parent_id` (or several, as a list), `parent_paths` (a list).
    fn properties(&self) -> Vec<Property>;

    /// Walks all structures of the image and tells `check` what is wrong with them, one by one, with the offset in the file at which it is
    /// written: each copy of a header, and each entry of each table: states that do not exist, blocks outside of the file, misaligned, or over
    /// others ([`find_overlaps`](crate::claims::find_overlaps)); as a remark, bytes that nothing refers to. The content of blocks is not read.
    ///
    /// Bounded in memory whatever the image says. It calls [`Check::begin`], [`Check::advance`] every few thousand entries, and [`Check::finish`].
    ///
    /// # Errors
    /// Only what keeps it from going on: an I/O error, or that the user asked to stop. Damage is told to `check`
    /// ([`Check::take`] helps).
    fn check(&self, check: &mut Check<'_>) -> Result<()>;
}

/// What a [`VirtualDisk`](crate::VirtualDisk) says of itself.
pub(crate) struct Facts {
    pub(crate) format: Format,
    pub(crate) sector_size: u32,
    pub(crate) identity: Identity,
    pub(crate) warnings: Vec<String>,
}

/// An image that was opened, without the parent that it may have.
pub(crate) struct Opened {
    pub(crate) layer: Box<dyn Layer>,
    pub(crate) facts: Facts,
    /// Of a differencing disk.
    pub(crate) parent: Option<ParentLink>,
    /// Files that belong to the image besides its own, in the order in which it names them.
    pub(crate) files: Vec<Arc<FileSource>>,
}

impl Opened {
    /// An image that is one file.
    pub(crate) fn of_one_file(
        layer: impl Layer + 'static,
        facts: Facts,
        parent: Option<ParentLink>,
    ) -> Opened {
        Opened {
            layer: Box::new(layer),
            facts,
            parent,
            files: Vec::new(),
        }
    }
}

/// What a differencing disk says of its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParentLink {
    /// What it is known by.
    pub(crate) expected: Expected,
    /// Where it may be found, in the order in which to look.
    pub(crate) places: Vec<ParentPlace>,
}

/// A place that a differencing disk names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ParentPlace {
    /// From the child's folder on.
    Relative(PathBuf),
    /// From the root on.
    Absolute(PathBuf),
    /// A path of Windows, of which only the file's name means something here.
    Name(String),
}

/// By what a parent is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A VHD.
    Vhd {
        /// The unique id of its footer.
        id: Guid,
        /// When it was changed last, in seconds since 2000-01-01T00:00:00Z; 0 if that is not said.
        modified: u32,
    },
    /// A VHDX: its DataWriteGuid is one of these.
    Vhdx(Vec<Guid>),
    /// A VDI.
    Vdi {
        /// Its `uuidCreate`.
        id: Guid,
        /// Its `uuidModify` when the child was made; nil if that is not said.
        modified: Guid,
    },
    /// A VMDK: its CID.
    Vmdk(u32),
    /// By its name alone: whatever is called so is the parent.
    Named {
        /// What it is; found out by its content if that is not said.
        format: Option<FormatHint>,
    },
}

impl ParentLink {
    /// `parent_id` and `parent_paths`, and when the parent was changed last, as a child says it.
    pub(crate) fn properties(&self) -> Vec<Property> {
        let mut properties = Vec::new();
        match &self.expected {
            Expected::Vhd { id, modified } => {
                properties.push(Property::new("parent_id", Value::Id(*id)));
                if *modified != 0 {
                    let time = Value::Time(time_of_vhd(*modified));
                    properties.push(Property::new("parent_changed", time));
                }
            }
            Expected::Vhdx(ids) => {
                // The second one is there while the parent is merged into, and nil otherwise.
                let told: Vec<&Guid> = ids.iter().filter(|id| !id.is_nil()).collect();
                let value = match told.as_slice() {
                    [id] => Value::Id(**id),
                    ids => Value::List(ids.iter().map(ToString::to_string).collect()),
                };
                properties.push(Property::new("parent_id", value));
            }
            Expected::Vdi { id, modified } => {
                properties.push(Property::new("parent_id", Value::Id(*id)));
                if !modified.is_nil() {
                    let value = Value::Id(*modified);
                    properties.push(Property::new("parent_modification_id", value));
                }
            }
            Expected::Vmdk(cid) => {
                let value = Value::Text(format!("{cid:08x}"));
                properties.push(Property::new("parent_cid", value));
            }
            Expected::Named { format } => {
                if let Some(format) = format {
                    let value = Value::Text(format.name().to_string());
                    properties.push(Property::new("parent_format", value));
                }
            }
        }
        let paths = self.places.iter().map(|place| match place {
            ParentPlace::Name(name) => name.clone(),
            ParentPlace::Relative(path) | ParentPlace::Absolute(path) => path.display().to_string(),
        });
        properties.push(Property::new("parent_paths", Value::List(paths.collect())));
        properties
    }
}

/// From 1970-01-01 to 2000-01-01, where time begins in VHD.
const EPOCH: i64 = 946_684_800;

/// A time of VHD: seconds since 2000-01-01T00:00:00Z.
pub(crate) fn time_of_vhd(seconds: u32) -> Time {
    Time::from_seconds(EPOCH.saturating_add(i64::from(seconds)))
}

/// Bytes of a path, with the zero at its end.
const MAX_PATH: usize = 4096;

impl ParentPlace {
    /// What a path that a child names means on this machine; `None` if it is empty, or longer than a path of Linux can be.
    pub(crate) fn of(text: &str) -> Option<ParentPlace> {
        if text.len() > MAX_PATH {
            return None;
        }
        let name = file_name(text)?;
        let has_drive = text.as_bytes().get(1) == Some(&b':');
        if text.starts_with('/') {
            return Some(ParentPlace::Absolute(PathBuf::from(text)));
        }
        if text.starts_with('\\') || has_drive {
            return Some(ParentPlace::Name(name.to_string()));
        }
        Some(ParentPlace::Relative(PathBuf::from(
            text.replace('\\', "/"),
        )))
    }

    /// The path that it is on this machine, or the name.
    pub(crate) fn path(&self) -> &Path {
        match self {
            ParentPlace::Name(name) => Path::new(name),
            ParentPlace::Relative(path) | ParentPlace::Absolute(path) => path,
        }
    }

    /// The file's name without folders.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            ParentPlace::Name(name) => Some(name.clone()),
            ParentPlace::Relative(path) | ParentPlace::Absolute(path) => {
                Some(path.file_name()?.to_string_lossy().into_owned())
            }
        }
    }
}

/// The last part of a path of Windows or Unix that names a file.
fn file_name(path: &str) -> Option<&str> {
    let name = path.rsplit(['\\', '/', ':']).next()?;
    (!matches!(name, "" | "." | "..") && !name.contains('\0')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_windows_and_unix() {
        let name = |text: &str| Some(ParentPlace::Name(text.into()));
        let relative = |text: &str| Some(ParentPlace::Relative(text.into()));
        for (text, expected) in [
            (r".\base.vhd", relative("./base.vhd")),
            (r"..\..\a b\base.vhdx", relative("../../a b/base.vhdx")),
            ("base.vhd", relative("base.vhd")),
            (r"C:\disks\base.vhd", name("base.vhd")),
            (r"C:base.vhd", name("base.vhd")),
            (r"\\?\C:\disks\base.vhd", name("base.vhd")),
            (r"\\server\share\base.vhd", name("base.vhd")),
            (
                "/dev/vg/base",
                Some(ParentPlace::Absolute("/dev/vg/base".into())),
            ),
            ("", None),
            (r"C:\disks\", None),
            (r"a\..", None),
            ("a\0b", None),
        ] {
            assert_eq!(ParentPlace::of(text), expected, "{text}");
        }
        assert_eq!(
            ParentPlace::of(r"..\x\base.vhd").unwrap().name().unwrap(),
            "base.vhd"
        );
    }
}
