//! `disks`: each disk as a raw file, and as the images it can be.

use crate::failure::Result;
use crate::node::{self, Node, PointRef};
use crate::stat::{BLOCK, Stat};
use crate::tree::Tree;
use cairn::{DiskView, EntryKind, ReadAt, ViewFormat};
use std::sync::Arc;

/// Mode of what is in `disks`: it holds every file of the guest, whatever their own modes say.
const DISK_MODE: u32 = 0o400;
/// That of a disk that can be written to.
const WRITABLE_MODE: u32 = 0o600;

impl Tree {
    /// What is in `disks`: no more is found out than the names of the disks, their sizes and sectors.
    pub(super) fn disk_files(&self, point: &PointRef) -> Result<Vec<(String, Node)>> {
        let mut names = Vec::new();
        for (position, disk) in self.open_point(point)?.disks().iter().enumerate() {
            let at = node::disk_position(position)?;
            let name = disk.name();
            names.push((format!("{name}.raw"), Node::Raw(point.clone(), at)));
            for format in ViewFormat::ALL.into_iter().filter(|it| disk.can_show(*it)) {
                let node = Node::View(point.clone(), at, format);
                names.push((format!("{name}.{}", format.extension()), node));
            }
        }
        Ok(names)
    }

    /// The file of that name in `disks`.
    pub(super) fn disk_called(&self, point: &PointRef, name: &str) -> Result<Option<Node>> {
        let Some((disk, extension)) = name.rsplit_once('.') else {
            return Ok(None);
        };
        let Some(at) = self.position(point, disk)? else {
            return Ok(None);
        };
        if extension == "raw" {
            return Ok(Some(Node::Raw(point.clone(), at)));
        }
        let open = self.open_point(point)?;
        let disk = open.disk(at)?;
        let format = ViewFormat::ALL
            .into_iter()
            .find(|it| it.extension() == extension && disk.can_show(*it));
        Ok(format.map(|format| Node::View(point.clone(), at, format)))
    }

    /// What is said of a disk as a file: raw without a format.
    pub(super) fn disk_stat(
        &self,
        inode: u64,
        point: &PointRef,
        position: u16,
        format: Option<ViewFormat>,
    ) -> Result<Stat> {
        let open = self.open_point(point)?;
        let disk = open.disk(position)?;
        let size = bytes_of(disk, format)?.size();
        let data = open.allocated(position);
        let stat = |mode: u32, allocated: u64| {
            let mode = self.look.private(mode);
            let mut stat = Stat::made(inode, EntryKind::File, mode, size, self.time(point));
            // A file without blocks is taken for one large hole, by GNU tar for example, and not read. Samples may have missed all there is.
            stat.attributes.allocated = allocated.max(BLOCK).min(size);
            stat
        };
        let overlays = match (&self.overlays, format) {
            (Some(overlays), None) => overlays,
            // An image has its headers and tables beside what the disk has.
            _ => {
                let made = size.saturating_sub(disk.size());
                return Ok(stat(DISK_MODE, data.saturating_add(made)).for_good());
            }
        };
        let written = overlays.written(point, position, &open)?;
        // Less than all of it if there was a hole: there may still be one.
        let most = if data < size {
            size.saturating_sub(BLOCK)
        } else {
            size
        };
        let mut stat = stat(WRITABLE_MODE, data.saturating_add(written.bytes).min(most));
        if let Some(last) = written.last {
            stat.attributes.modified = last;
            stat.attributes.changed = last;
        }
        Ok(stat)
    }
}

/// The bytes of a disk as a file: raw without a format.
pub(super) fn bytes_of(disk: &DiskView, format: Option<ViewFormat>) -> Result<Arc<dyn ReadAt>> {
    Ok(match format {
        None => disk.disk().clone(),
        Some(format) => disk.show_as(format)?,
    })
}
