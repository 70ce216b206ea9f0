//! Which files were added, removed and changed between two points, disk by disk and volume by volume.

use crate::compare::content::{Place, Places};
use crate::compare::walk::Walk;
use crate::point::PointView;
use crate::view::{DiskView, VolumeView};
use cairn_base::{Error, Kind, Monitor, Result};
use cairn_guest::EntryKind;
use cairn_store::{ChangeList, Changes, Detail, StoredDisk, difference};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// It is in the newer point only.
    Added,
    /// It is in the older point only.
    Removed,
    /// It is in both, and not the same.
    Changed,
}

/// What of an entry changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Bytes of the file or of its named streams; the target of a link.
    Content,
    /// Its length.
    Size,
    /// When its content was changed last.
    Modified,
    /// When anything of it was changed last.
    Changed,
    /// Permissions, and the attributes of Windows.
    Mode,
    /// Owner and group.
    Owner,
    /// The number of a device.
    Device,
    /// Names and lengths of named streams.
    Streams,
}

/// An entry that is not the same in two points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// As `cairn cat` takes it, without the first slash: `disk0/p1/etc/passwd`.
    pub path: Vec<u8>,
    /// What became of it.
    pub how: How,
    /// What it is; a disk or volume counts as a folder.
    pub kind: EntryKind,
    /// Its size in bytes in the older and in the newer point, where it is a file or link there.
    pub sizes: [Option<u64>; 2],
    /// What changed; empty if it was added or removed.
    pub parts: Vec<Part>,
}

/// What is told.
#[derive(Debug)]
pub enum Found {
    /// A difference.
    Change(FileChange),
    /// Something could not be compared: its path, and why. Everything else is.
    Problem(Vec<u8>, Error),
}

/// Receives what is found, in the order of paths, folder by folder, until it breaks.
pub type FileSink<'a> = &'a mut dyn FnMut(Found) -> ControlFlow<()>;

/// Tells which entries were added, removed or changed, on the disk `only` or on all. Disks are matched by name, volumes by partition, entries by path. A file is changed if
/// its size, times (but for the last read), mode or owner differ, or its content. Content is compared without reading it where it lies at the same place and
/// nothing of that place changed on the disk; a volume of which no byte changed is not looked into at all. Of a folder that is in both, times do not count.
/// Memory does not depend on the number of files.
///
/// # Errors
/// [`Kind::NotFound`] if none of the points has the disk `only`; [`Kind::Interrupted`] on request; as the store reports when maps are compared. What cannot be read
/// below that is told to the sink.
pub fn changed_files(
    older: &PointView,
    newer: &PointView,
    only: Option<&str>,
    monitor: &dyn Monitor,
    sink: FileSink<'_>,
) -> Result<()> {
    let name = |disk: &Arc<DiskView>| disk.name().to_lowercase();
    let all = older.disks().iter().chain(newer.disks());
    let mut names: BTreeSet<String> = all.map(name).collect();
    if let Some(only) = only.map(str::to_lowercase) {
        names.retain(|name| *name == only);
        if names.is_empty() {
            return Err(Error::not_found(format!(
                "none of the recovery points has a disk `{only}`"
            )));
        }
    }
    for wanted in names {
        let find = |point: &PointView| {
            let mut disks = point.disks().iter().zip(point.stored());
            let found = disks.find(|(disk, _)| name(disk) == wanted);
            found.map(|(disk, stored)| (disk.clone(), stored.clone()))
        };
        let ended = match (find(older), find(newer)) {
            (Some((old, before)), Some((new, after))) => {
                let changes = changed_list(&before, &after, monitor)?;
                let disks = Disks {
                    old: Some(&old),
                    new: Some(&new),
                    changes: Some(&changes),
                    monitor,
                };
                disks.compare(sink)?
            }
            (old, new) => {
                let disks = Disks {
                    old: old.as_ref().map(|(disk, _)| &**disk),
                    new: new.as_ref().map(|(disk, _)| &**disk),
                    changes: None,
                    monitor,
                };
                disks.compare(sink)?
            }
        };
        if ended.is_break() {
            break;
        }
    }
    Ok(())
}

/// Where a disk differs between two points, by the maps alone.
///
/// # Errors
/// As [`difference`].
pub(crate) fn changed_list(
    old: &StoredDisk,
    new: &StoredDisk,
    monitor: &dyn Monitor,
) -> Result<Changes> {
    let mut changes = ChangeList::new(new.tree().shape().size());
    let mut refused = Ok(());
    difference(old, new, Detail::Chunks, monitor, &mut |change| {
        let length = change.range.end.saturating_sub(change.range.start);
        refused = changes.add(change.range.start, length, change.zero);
        if refused.is_err() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    refused?;
    Ok(changes.finish())
}

/// A disk in two points.
struct Disks<'a> {
    old: Option<&'a DiskView>,
    new: Option<&'a DiskView>,
    changes: Option<&'a Changes>,
    monitor: &'a dyn Monitor,
}

impl Disks<'_> {
    fn compare(&self, sink: FileSink<'_>) -> Result<ControlFlow<()>> {
        let Some(name) = self.new.or(self.old).map(DiskView::name) else {
            return Ok(ControlFlow::Continue(()));
        };
        if self.changes.is_some_and(|changes| changes.bytes() == 0)
            && self.old.map(DiskView::size) == self.new.map(DiskView::size)
            && !self.shows_more()
        {
            return Ok(ControlFlow::Continue(()));
        }
        let path = name.as_bytes();
        if let Some(how) = one_sided(self.old.is_some(), self.new.is_some())
            && sink(Found::Change(whole(path, how))).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        let mut volumes = Vec::new();
        for disk in [self.old, self.new] {
            match disk.map_or(Ok(&[][..]), DiskView::volumes) {
                Ok(found) => volumes.push(found),
                Err(error) => return Ok(sink(Found::Problem(path.to_vec(), error))),
            }
        }
        let numbers: BTreeSet<u32> = volumes
            .iter()
            .copied()
            .flatten()
            .map(|v| v.number())
            .collect();
        for number in numbers {
            let of = |side: usize| -> Option<&Arc<VolumeView>> {
                let mut all = volumes.get(side)?.iter();
                all.find(|volume| volume.number() == number)
            };
            if self.volume(path, of(0), of(1), sink)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether there are volumes that lie on other disks too: that this one is the same says nothing of them.
    fn shows_more(&self) -> bool {
        let disks = [self.old, self.new].into_iter().flatten();
        let mut volumes = disks.flat_map(|disk| disk.volumes().unwrap_or_default());
        volumes.any(|volume| volume.place().is_none())
    }

    /// Whether no byte of the volume changed, and its disks tell what it is in both points.
    fn is_same(&self, old: Option<&Arc<VolumeView>>, new: Option<&Arc<VolumeView>>) -> bool {
        let (Some(old), Some(new), Some(changes)) = (old, new, self.changes) else {
            return false;
        };
        let Some(place) = new.place() else {
            return false;
        };
        old.place().as_ref() == Some(&place)
            && old.layout_damage().is_none()
            && new.layout_damage().is_none()
            && changes.within(place).next().is_none()
    }

    fn volume(
        &self,
        disk: &[u8],
        old: Option<&Arc<VolumeView>>,
        new: Option<&Arc<VolumeView>>,
        sink: FileSink<'_>,
    ) -> Result<ControlFlow<()>> {
        let Some(any) = new.or(old) else {
            return Ok(ControlFlow::Continue(()));
        };
        if self.is_same(old, new) {
            return Ok(ControlFlow::Continue(()));
        }
        let path = [disk, b"/", any.folder_name().as_bytes()].concat();
        if let Some(how) = one_sided(old.is_some(), new.is_some())
            && sink(Found::Change(whole(&path, how))).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        let open = |volume: Option<&Arc<VolumeView>>| volume.map(|v| v.open()).transpose();
        let (before, after) = match (open(old), open(new)) {
            (Ok(before), Ok(after)) => (before, after),
            (Err(error), _) | (_, Err(error)) => {
                return Ok(sink(Found::Problem(path, error)));
            }
        };
        for (point, volume) in [("older", old), ("newer", new)] {
            for defect in volume.iter().flat_map(|volume| volume.defects()) {
                let path = String::from_utf8_lossy(&path);
                self.monitor
                    .warn(&format!("/{path} of the {point} point: {defect}"));
            }
        }
        let places = match (&before, &after, old, new, self.old, self.new) {
            (Some(before), Some(after), Some(old), Some(new), Some(a), Some(b)) => Some(Places {
                old: Place {
                    volume: &**before,
                    disk: &**a.disk(),
                    start: old.start(),
                },
                new: Place {
                    volume: &**after,
                    disk: &**b.disk(),
                    start: new.start(),
                },
                // Of a volume on several disks they say nothing.
                changes: self
                    .changes
                    .filter(|_| old.place().and(new.place()).is_some()),
                monitor: self.monitor,
            }),
            _ => None,
        };
        let mut walk = Walk::new(
            [before.as_deref(), after.as_deref()],
            places,
            self.monitor,
            sink,
        );
        walk.run(path)
    }
}

/// What became of something that is on one side only.
fn one_sided(old: bool, new: bool) -> Option<How> {
    match (old, new) {
        (true, false) => Some(How::Removed),
        (false, true) => Some(How::Added),
        _ => None,
    }
}

fn whole(path: &[u8], how: How) -> FileChange {
    FileChange {
        path: path.to_vec(),
        how,
        kind: EntryKind::Folder,
        sizes: [None; 2],
        parts: Vec::new(),
    }
}

/// Whether nothing can be done any more.
pub(super) fn ends(error: &Error) -> bool {
    error.kind() == Kind::Interrupted
}
