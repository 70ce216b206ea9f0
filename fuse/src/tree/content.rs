//! Content: open files, read by position.

use crate::catalog::OpenPoint;
use crate::extents;
use crate::failure::{Failure, Result};
use crate::journal::Journal;
use crate::node::Node;
use crate::tree::{Label, Tree, disks};
use crate::writable::WritableDisk;
use cairn::{EntryKind, ReadAt};
use std::sync::Arc;

/// An open file. Shared by threads; reading it looks nothing up any more.
pub struct Content {
    reader: Arc<dyn ReadAt>,
    /// What is read, where it can be written to as well.
    pub(super) writer: Option<Arc<WritableDisk>>,
    lasting: bool,
    /// Keeps the point open while the file is, even when the catalog closes it.
    _point: Option<Arc<OpenPoint>>,
    label: Label,
    journal: Arc<Journal>,
}

impl Content {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.reader.size()
    }

    /// Whether it never changes but by what is written through the kernel, so that it may keep it from one opening to the next.
    pub fn lasting(&self) -> bool {
        self.lasting
    }

    /// Fills `buffer` from `offset` as far as the file goes, and says how far that was.
    ///
    /// # Errors
    /// Whatever reading reports; then nothing of the range is given, however little of it is unreadable.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = self.size().saturating_sub(offset);
        let length = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        match buffer.get_mut(..length) {
            Some(part) if length > 0 => {
                let read = self.reader.read_exact_at(offset, part);
                read.map_err(|error| self.label.note(&self.journal, error.into()))?;
                Ok(length)
            }
            _ => Ok(0),
        }
    }

    /// `SEEK_DATA`, see [`extents::seek_data`].
    ///
    /// # Errors
    /// [`Failure::BeyondEnd`] if no data follows.
    pub fn seek_data(&self, offset: u64) -> Result<u64> {
        extents::seek_data(&*self.reader, offset)
    }

    /// `SEEK_HOLE`, see [`extents::seek_hole`].
    ///
    /// # Errors
    /// [`Failure::BeyondEnd`] if `offset` is not before the end.
    pub fn seek_hole(&self, offset: u64) -> Result<u64> {
        extents::seek_hole(&*self.reader, offset)
    }
}

impl Tree {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Failure::IsAFolder`] for folders, [`Failure::Invalid`] for links and devices, what the volume reports else.
    pub fn open(&self, inode: u64) -> Result<Content> {
        self.noted(inode, self.find_content(inode))
    }

    fn find_content(&self, inode: u64) -> Result<Content> {
        let node = self.node(inode)?;
        let made = |reader: Arc<dyn ReadAt>, point: Option<Arc<OpenPoint>>| Content {
            reader,
            writer: None,
            lasting: point.is_some(),
            _point: point,
            label: self.label(&node),
            journal: self.journal.clone(),
        };
        match &node {
            Node::Raw(point, disk) => {
                let open = self.open_point(point)?;
                let writer = match &self.overlays {
                    Some(overlays) => Some(overlays.disk(point, *disk, &open)?),
                    None => None,
                };
                let reader: Arc<dyn ReadAt> = match &writer {
                    Some(writer) => writer.clone(),
                    None => disks::bytes_of(open.disk(*disk)?, None)?,
                };
                let lasting = writer.as_ref().is_none_or(|writer| writer.is_as_cached());
                Ok(Content {
                    writer,
                    lasting,
                    ..made(reader, Some(open))
                })
            }
            Node::View(point, disk, format) => {
                let open = self.open_point(point)?;
                let reader = disks::bytes_of(open.disk(*disk)?, Some(*format))?;
                Ok(made(reader, Some(open)))
            }
            Node::Entry(entry) => {
                let open = self.volume(&entry.tree)?;
                match open.volume.attributes(entry.id())?.kind {
                    EntryKind::File => {}
                    EntryKind::Folder => return Err(Failure::IsAFolder),
                    _ => return Err(Failure::Invalid),
                }
                Ok(made(open.volume.open(entry.id())?, Some(open.point)))
            }
            Node::RootError(_)
            | Node::MachineError(..)
            | Node::PastError(_)
            | Node::PointError(_)
            | Node::LettersNotes(_)
            | Node::PartitionsError(..)
            | Node::VolumeError(..)
            | Node::VolumeNotes(..) => {
                let text = self.error_text(&node)?.into_bytes();
                Ok(made(Arc::new(text), None))
            }
            Node::Latest(..) | Node::Letter(..) => Err(Failure::Invalid),
            Node::Root
            | Node::Machine(_)
            | Node::Point(_)
            | Node::Disks(_)
            | Node::Files(_)
            | Node::DiskFiles(..)
            | Node::Past(_)
            | Node::Unreadable(..) => Err(Failure::IsAFolder),
        }
    }

    /// Reads a file that is not open: [`open`](Tree::open) and [`Content::read`].
    ///
    /// # Errors
    /// As these.
    pub fn read(&self, inode: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.open(inode)?.read(offset, buffer)
    }
}
