//! The 32-byte entries of folders, one after the other, wherever the folder lies.

use super::chain::Chain;
use super::heap::Heap;
use super::table::Table;
use crate::ntfs::cache::Cache;
use cairn_base::units::to_u64;
use cairn_base::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of an entry.
pub const SLOT: u64 = 32;
/// Bytes of a folder that are read and kept as one piece, at most.
const PIECE: u64 = 16 << 10;
/// Pieces kept: 8 MiB at most.
const PIECES: usize = 512;

/// Pieces of folders, read once.
pub struct Shelf {
    heap: Heap,
    /// The root folder of FAT12 and FAT16, which lies before the clusters.
    region: Range<u64>,
    pieces: Cache<u64, Arc<Vec<u8>>>,
}

/// Where a folder's entries lie.
pub enum Place {
    /// In the volume's region for the root folder.
    Region,
    /// In clusters.
    Clusters {
        /// Which.
        chain: Arc<Chain>,
        /// Entries that there are, unless one ends the folder before; 0 if nothing says so.
        least: u64,
        /// Entries that there can be: no more are looked at.
        most: u64,
    },
}

/// A piece of a folder and where it lies on the volume.
struct Piece {
    bytes: Arc<Vec<u8>>,
    start: u64,
}

impl Shelf {
    /// For folders in clusters and in `region` (bytes of the volume, empty if there is none).
    pub fn new(heap: Heap, region: Range<u64>) -> Shelf {
        Shelf {
            heap,
            region,
            pieces: Cache::of_count(PIECES),
        }
    }

    /// The piece that holds byte `position` of the volume.
    fn piece(&self, position: u64) -> Result<Piece> {
        let all = if self.region.contains(&position) {
            self.region.clone()
        } else {
            let cluster = self
                .heap
                .cluster_at(position)
                .ok_or_else(|| Error::not_found("no folder lies there").at_offset(position))?;
            let start = self.heap.place(cluster);
            start..start.saturating_add(self.heap.size())
        };
        let skipped = position.saturating_sub(all.start) / PIECE;
        let start = all.start.saturating_add(skipped.saturating_mul(PIECE));
        if let Some(bytes) = self.pieces.get(&start) {
            return Ok(Piece { bytes, start });
        }
        let length = all.end.saturating_sub(start).min(PIECE);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.heap.read(start, &mut bytes)?;
        let bytes = Arc::new(bytes);
        self.pieces.insert(start, bytes.clone(), 0);
        Ok(Piece { bytes, start })
    }

    /// The entry at byte `position` of the volume, which is a multiple of 32.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn_base::Kind::NotFound) where no folder can lie.
    pub fn at(&self, position: u64) -> Result<[u8; 32]> {
        let piece = self.piece(position)?;
        slice(&piece, position)
            .ok_or_else(|| Error::not_found("no folder lies there").at_offset(position))
    }

    /// The cluster in which byte `position` lies; none in the region of the root folder.
    pub fn cluster_at(&self, position: u64) -> Option<u32> {
        self.heap.cluster_at(position)
    }
}

fn slice(piece: &Piece, position: u64) -> Option<[u8; 32]> {
    let at = usize::try_from(position.checked_sub(piece.start)?).ok()?;
    piece.bytes.get(at..)?.first_chunk().copied()
}

/// An entry as it lies in a folder.
pub struct Slot {
    /// Its bytes.
    pub bytes: [u8; 32],
    /// Its number in the folder.
    pub index: u64,
    /// Where it lies on the volume, in bytes.
    pub position: u64,
    /// The cluster it lies in, if this is the first entry that was read from it.
    pub entered: Option<u32>,
}

/// Goes over the entries of a folder.
pub struct Slots<'a> {
    shelf: &'a Shelf,
    table: &'a Table,
    place: &'a Place,
    index: u64,
    piece: Option<Piece>,
    /// The number of the entry that the piece begins with.
    first: u64,
}

impl<'a> Slots<'a> {
    /// From entry `index` on.
    pub fn new(shelf: &'a Shelf, table: &'a Table, place: &'a Place, index: u64) -> Slots<'a> {
        Slots {
            shelf,
            table,
            place,
            index,
            piece: None,
            first: 0,
        }
    }

    /// The next entry; nothing behind the last one that has room.
    ///
    /// # Errors
    /// Damaged where the folder's chain is broken, or where it is longer than a folder can be. [`skip`](Slots::skip) goes on behind it.
    pub fn advance(&mut self) -> Result<Option<Slot>> {
        let mut entered = None;
        let skipped = self.index.saturating_sub(self.first).saturating_mul(SLOT);
        let held = self
            .piece
            .as_ref()
            .is_some_and(|piece| skipped < to_u64(piece.bytes.len()));
        if !held || self.index < self.first {
            self.piece = None;
            let Some(position) = self.position()? else {
                return Ok(None);
            };
            let piece = self.shelf.piece(position)?;
            let back = position.saturating_sub(piece.start) / SLOT;
            self.first = self.index.saturating_sub(back);
            self.piece = Some(piece);
            entered = self.shelf.cluster_at(position);
        }
        let Some(piece) = &self.piece else {
            return Ok(None);
        };
        let skipped = self.index.saturating_sub(self.first).saturating_mul(SLOT);
        let position = piece.start.saturating_add(skipped);
        let Some(bytes) = slice(piece, position) else {
            return Ok(None);
        };
        let index = self.index;
        self.index = index.saturating_add(1);
        Ok(Some(Slot {
            bytes,
            index,
            position,
            entered,
        }))
    }

    /// Where the next entry lies.
    fn position(&self) -> Result<Option<u64>> {
        let at = self.index.saturating_mul(SLOT);
        match self.place {
            Place::Region => {
                let region = &self.shelf.region;
                let position = region.start.saturating_add(at);
                Ok((position < region.end).then_some(position))
            }
            Place::Clusters { chain, least, most } => {
                let heap = self.table.heap();
                let cluster = at.checked_div(heap.size()).unwrap_or(0);
                let cluster = u32::try_from(cluster).unwrap_or(u32::MAX);
                let Some(run) = chain.run(self.table, cluster)? else {
                    return if self.index < *least {
                        Err(Error::damaged(format!(
                            "the folder has room for {least} entries, but its chain of clusters ends after {}",
                            self.index
                        )))
                    } else {
                        Ok(None)
                    };
                };
                if self.index >= *most {
                    return Err(Error::damaged(format!(
                        "the folder goes on behind entry {most}, where it must have ended"
                    )));
                }
                let within = at & heap.size().saturating_sub(1);
                Ok(Some(heap.place(run.cluster).saturating_add(within)))
            }
        }
    }

    /// Goes on behind the piece that could not be read.
    pub fn skip(&mut self) {
        let piece = match self.place {
            Place::Region => PIECE,
            Place::Clusters { .. } => PIECE.min(self.table.heap().size()),
        };
        let entries = (piece / SLOT).max(1);
        let pieces = self.index.checked_div(entries).unwrap_or(0);
        self.index = pieces.saturating_add(1).saturating_mul(entries);
        self.piece = None;
    }
}
