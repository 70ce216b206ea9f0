//! The file system of an unlocked volume. All is the file system's own but what is told of places: those are bytes of the encrypted volume, because whoever asks for them compares disks.

use super::reader::Reader;
use super::regions::How;
use crate::volume::{
    Attributes, DirEntry, DirSink, EntryId, Extent, ExtentSink, LinkTarget, Note, RangeSink,
    StreamInfo, Volume, VolumeInfo,
};
use cairn_base::{Error, ReadAt, Result};
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

/// Pieces that the extents of one entry are told in, at most: those of a file of 64 GiB of which every other chunk is encrypted.
const MAX_PIECES: u64 = 1 << 20;

/// A file system on a decrypted volume.
pub(super) struct UnlockedVolume {
    inner: Arc<dyn Volume>,
    told: OnceLock<Box<Told>>,
    /// What is to be said of the encryption.
    notes: Vec<Note>,
    reader: Arc<Reader>,
    mark: u32,
}

/// What the file system said of itself. It says something else once what it could not count for a moment was counted; it lends what it says,
/// so it keeps all of that itself, and there is no more of it here.
struct Told {
    by_inner: VolumeInfo,
    /// The same with what is to be said of the encryption.
    shown: VolumeInfo,
    next: OnceLock<Box<Told>>,
}

impl Told {
    fn new(by_inner: &VolumeInfo, notes: &[Note]) -> Told {
        let mut shown = by_inner.clone();
        shown.notes.extend(notes.iter().cloned());
        Told {
            by_inner: by_inner.clone(),
            shown,
            next: OnceLock::new(),
        }
    }
}

impl UnlockedVolume {
    /// `mark` tells bytes that are encrypted with this key from others.
    pub fn new(
        inner: Arc<dyn Volume>,
        reader: Arc<Reader>,
        notes: &[Note],
        mark: u32,
    ) -> UnlockedVolume {
        UnlockedVolume {
            inner,
            told: OnceLock::new(),
            notes: notes.to_vec(),
            reader,
            mark,
        }
    }
}

impl Volume for UnlockedVolume {
    fn info(&self) -> &VolumeInfo {
        let now = self.inner.info();
        let mut place = &self.told;
        loop {
            let told = place.get_or_init(|| Box::new(Told::new(now, &self.notes)));
            if told.by_inner == *now {
                return &told.shown;
            }
            place = &told.next;
        }
    }

    fn root(&self) -> EntryId {
        self.inner.root()
    }

    fn attributes(&self, id: EntryId) -> Result<Attributes> {
        self.inner.attributes(id)
    }

    fn lookup(&self, folder: EntryId, name: &[u8]) -> Result<Option<DirEntry>> {
        self.inner.lookup(folder, name)
    }

    fn read_dir(&self, folder: EntryId, after: u64, sink: DirSink<'_>) -> Result<()> {
        self.inner.read_dir(folder, after, sink)
    }

    fn parent(&self, id: EntryId) -> Result<Option<EntryId>> {
        self.inner.parent(id)
    }

    fn open(&self, id: EntryId) -> Result<Arc<dyn ReadAt>> {
        self.inner.open(id)
    }

    fn streams(&self, id: EntryId) -> Result<Vec<StreamInfo>> {
        self.inner.streams(id)
    }

    fn open_stream(&self, id: EntryId, name: &[u8]) -> Result<Arc<dyn ReadAt>> {
        self.inner.open_stream(id, name)
    }

    fn read_link(&self, id: EntryId) -> Result<Vec<u8>> {
        self.inner.read_link(id)
    }

    fn xattrs(&self, id: EntryId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.inner.xattrs(id)
    }

    fn xattr(&self, id: EntryId, name: &[u8]) -> Result<Option<Vec<u8>>> {
        self.inner.xattr(id, name)
    }

    fn listed_xattrs(&self, id: EntryId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.inner.listed_xattrs(id)
    }

    fn link_target(&self, id: EntryId) -> Result<LinkTarget> {
        self.inner.link_target(id)
    }

    /// What lies in areas of BitLocker reads as zeros and has no place. What is encrypted is marked so: equal bytes under another key, or under none, are another content.
    ///
    /// Unsupported where there are more than a million of pieces that are encrypted or not.
    fn extents(&self, id: EntryId, sink: ExtentSink<'_>) -> Result<()> {
        let mut pieces = 0u64;
        self.inner.extents(id, &mut |extent| {
            for (at, piece) in self.reader.pieces(extent.place.clone()) {
                pieces = pieces.saturating_add(1);
                if pieces > MAX_PIECES {
                    return ControlFlow::Break(());
                }
                if piece.how == How::Zeros {
                    continue;
                }
                let mut reading = extent.reading;
                match piece.how {
                    How::Encrypted => reading.packing ^= self.mark,
                    How::Untold => reading.packing ^= !self.mark,
                    How::Plain | How::Patched | How::Zeros => {}
                }
                let inside = at.saturating_sub(extent.place.start);
                let told = sink(Extent {
                    place: piece.place..piece.place.saturating_add(piece.length),
                    stream: extent.stream,
                    offset: extent.offset.saturating_add(inside),
                    reading,
                });
                if told.is_break() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        if pieces > MAX_PIECES {
            let what = "the content lies in more than 1,048,576 pieces that BitLocker has encrypted or not";
            return Err(Error::unsupported(what));
        }
        Ok(())
    }

    /// Without what is free in the volume's beginning: that lies elsewhere.
    fn free_space(&self, sink: RangeSink<'_>) -> Result<()> {
        let moved = self.reader.regions.moved();
        self.inner.free_space(&mut |range| {
            let start = range.start.max(moved);
            if start < range.end {
                sink(start..range.end)
            } else {
                ControlFlow::Continue(())
            }
        })
    }
}
