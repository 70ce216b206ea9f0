//! Reading whole regions of a stored disk, once: few large reads, frames decoded where their bytes belong, nothing kept.
//!
//! A region that was written to day after day lies in many packs, and in each of them in one place. So it is read in the order of the packs: each frame is
//! decoded once, and frames that follow each other are one read, wherever in the region their chunks belong.

use crate::frame::Decompressor;
use crate::hash::ChunkKind;
use crate::index::Place;
use crate::map::{Leaf, Part, REGION};
use crate::mistake::{self, Mistake};
use crate::read::Wanted;
use crate::tree::{Spot, Tree};
use cairn_base::units::to_u64;
use cairn_base::{AlignedBuffer, ChunkId, Error, PackId, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Frames that follow each other in a pack are read together, up to this many bytes.
const RUN: u64 = 512 << 10;
/// Reads begin and end at multiples of this, in aligned memory, so that what is not in the page cache can be read past it.
const BLOCK: u64 = 4096;
/// Shorter reads go through the page cache, and are announced.
const SHORT: u64 = 128 << 10;
/// What lies between two frames and is not wanted is read with them if it is at most so much: that is cheaper than a second read.
const GAP: u64 = 128 << 10;

/// Reads regions of one disk; one per thread, it keeps what it decodes with.
pub struct RegionReader {
    tree: Tree,
    decompressor: Decompressor,
    /// Stored bytes of some frames, as they lie in their pack.
    stored: AlignedBuffer,
    /// A frame of which only a part is wanted.
    plain: Vec<u8>,
}

/// What a region is made of.
pub enum RegionMap {
    /// Chunks, and maybe holes.
    Leaf(Arc<Leaf>),
    /// Zeros, as are all regions up to this one.
    ZerosUntil(u64),
}

/// What is read of the packs for a region.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RegionReads {
    /// The reads, in their order.
    pub reads: Vec<RegionRead>,
    /// Chunks of which the index knows no place.
    pub lost: u64,
}

/// One read of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionRead {
    /// The pack.
    pub pack: PackId,
    /// What is read of it, in bytes.
    pub range: Range<u64>,
    /// The chunks that it brings, by their numbers in the leaf.
    pub chunks: Vec<usize>,
}

impl RegionRead {
    /// Bytes.
    pub fn length(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

impl RegionReads {
    /// Adds the next read. What goes on where the one before ended, or nearly, is no new one.
    fn add(&mut self, read: RegionRead) {
        if let Some(last) = self.reads.last_mut()
            && last.pack == read.pack
            && let Some(gap) = read.range.start.checked_sub(last.range.end)
            && gap <= GAP
        {
            last.range.end = read.range.end;
            last.chunks.extend(read.chunks);
        } else {
            self.reads.push(read);
        }
    }
}

/// A chunk that is wanted.
struct Piece {
    id: ChunkId,
    /// Its number in the leaf.
    number: usize,
    part: Part,
    /// Where it is looked for first.
    place: Option<Place>,
}

/// Pieces that lie in one frame, in its order.
struct Group {
    pieces: Range<usize>,
    /// Of the first piece.
    place: Place,
    /// Plain bytes of the frame up to the end of the last piece.
    end: u32,
}

impl Group {
    fn stored(&self) -> Range<u64> {
        let start = u64::from(self.place.offset);
        start..start.saturating_add(u64::from(self.place.stored))
    }

    /// Whether this frame lies right behind `before` in the same pack, or nearly.
    fn follows(&self, before: &Group) -> bool {
        let gap = self.stored().start.checked_sub(before.stored().end);
        self.place.pack == before.place.pack && gap.is_some_and(|gap| gap <= GAP)
    }
}

impl RegionReader {
    /// A reader of the disk with this map.
    pub fn new(tree: &Tree) -> RegionReader {
        RegionReader {
            tree: tree.clone(),
            decompressor: Decompressor::default(),
            stored: AlignedBuffer::new(0),
            plain: Vec::new(),
        }
    }

    /// What a region is made of.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if that part of the map is lost.
    pub fn map(&self, region: u64) -> Result<RegionMap> {
        let map = self.tree.locate(region).and_then(|spot| match spot {
            Spot::HoleUntil(next) => Ok(RegionMap::ZerosUntil(next)),
            Spot::Leaf(id) => self.tree.leaf(region, id).map(RegionMap::Leaf),
        });
        map.map_err(|e| {
            let start = region.saturating_mul(REGION);
            e.context(format!(
                "the map of the disk from byte {start} on cannot be read"
            ))
        })
    }

    /// Where the first chunk of a region lies: its pack and the offset in it. `None` if that cannot be told.
    pub fn first_place(&self, leaf: &Leaf) -> Option<(PackId, u32)> {
        let extent = leaf.extents.iter().find(|extent| extent.chunk.is_some())?;
        let places = self
            .tree
            .reader()
            .store()
            .index()
            .places_to_read(&extent.chunk?);
        let place = places
            .ok()?
            .into_iter()
            .find(|place| place.length == extent.length)?;
        Some((place.pack, place.offset))
    }

    /// Which extents of `leaf` are chunks that `bytes`, the region as somebody else has it, do not have. As long as the
    /// list of extents; holes are never missing.
    pub fn missing(&self, leaf: &Leaf, bytes: &[u8]) -> Vec<bool> {
        let keys = self.tree.reader().store().keys();
        leaf.parts()
            .map(|part| match part.extent.chunk {
                None => false,
                Some(id) => bytes
                    .get(part.range())
                    .is_none_or(|bytes| keys.chunk_id(ChunkKind::Data, bytes) != id),
            })
            .collect()
    }

    /// Reads the chunks of a region's leaf that are `wanted` (by their number in it) to where they belong in `out`, which
    /// is as long as the region. All other bytes of `out`, holes among them, stay as they are. Every chunk is authenticated.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) naming the disk's bytes if a chunk is lost; then `out` holds anything.
    pub fn read(
        &mut self,
        region: u64,
        leaf: &Leaf,
        wanted: &dyn Fn(usize) -> bool,
        out: &mut [u8],
    ) -> Result<()> {
        let pieces = self.look_up(leaf, wanted);
        let groups = groups(&pieces);
        let mut rest = &groups[..];
        let mut first = true;
        while !rest.is_empty() {
            let (run, later) = rest.split_at(run_length(rest));
            if first {
                self.announce(later);
                first = false;
            }
            let read = self.read_run(run);
            for group in run {
                let pieces = pieces.get(group.pieces.clone()).unwrap_or_default();
                let decoded = match &read {
                    Ok(base) => self.decode(*base, group, pieces, out).is_ok(),
                    Err(_) => false,
                };
                if !decoded {
                    self.carefully(region, pieces, out)?;
                }
            }
            rest = later;
        }
        // What the index does not know, at least as it is known here.
        let lost = pieces.iter().filter(|piece| piece.place.is_none());
        for piece in lost {
            self.carefully(region, std::slice::from_ref(piece), out)?;
        }
        Ok(())
    }

    fn look_up(&self, leaf: &Leaf, wanted: &dyn Fn(usize) -> bool) -> Vec<Piece> {
        let index = self.tree.reader().store().index();
        let mut pieces = Vec::with_capacity(leaf.extents.len());
        let mut last: Option<Place> = None;
        for (number, part) in leaf.parts().enumerate() {
            let Some(id) = part.extent.chunk.filter(|_| wanted(number)) else {
                continue;
            };
            // A failure is left to the careful way.
            let mut places = index.places_to_read(&id).unwrap_or_default();
            places.retain(|place| place.length == part.extent.length);
            // Best in the frame at hand, or at least in the same pack.
            let near = places
                .iter()
                .find(|place| last.is_some_and(|last| same_frame(&last, place)))
                .or_else(|| {
                    let same_pack = |place: &&Place| last.is_some_and(|l| l.pack == place.pack);
                    places.iter().find(same_pack)
                })
                .or(places.first());
            last = near.copied().or(last);
            pieces.push(Piece {
                id,
                number,
                part,
                place: near.copied(),
            });
        }
        by_place(&mut pieces);
        pieces
    }

    /// Tells the system that a region is read soon, wherever in the packs it lies.
    pub fn will_need(&self, leaf: &Leaf) {
        for read in self.reads(leaf).reads {
            // What cannot be opened is told when it is read.
            if let Ok(pack) = self.tree.reader().pack(read.pack) {
                pack.will_need(read.range);
            }
        }
    }

    /// What whoever reads this region reads of the packs.
    pub fn reads(&self, leaf: &Leaf) -> RegionReads {
        let pieces = self.look_up(leaf, &|_| true);
        let groups = groups(&pieces);
        let mut found = RegionReads::default();
        let mut rest = &groups[..];
        while !rest.is_empty() {
            let (run, later) = rest.split_at(run_length(rest));
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                let of = run
                    .iter()
                    .filter_map(|group| pieces.get(group.pieces.clone()));
                found.add(RegionRead {
                    pack: first.place.pack,
                    range: first.stored().start..last.stored().end,
                    chunks: of.flatten().map(|piece| piece.number).collect(),
                });
            }
            rest = later;
        }
        let lost = pieces.iter().filter(|piece| piece.place.is_none()).count();
        found.lost = to_u64(lost);
        found
    }

    /// Tells the system which short pieces are read next, so that a store that is not in memory is read ahead.
    fn announce(&self, groups: &[Group]) {
        let mut rest = groups;
        while let Some(first) = rest.first() {
            let count = rest
                .windows(2)
                .take_while(|pair| matches!(pair, [a, b] if b.follows(a)))
                .count()
                .saturating_add(1);
            let (run, later) = rest.split_at(count.min(rest.len()));
            let (start, end) = (
                first.stored().start,
                run.last().map_or(0, |last| last.stored().end),
            );
            if end.saturating_sub(start) < SHORT
                && let Ok(pack) = self.tree.reader().pack(first.place.pack)
            {
                pack.will_need(start..end);
            }
            rest = later;
        }
    }

    /// Reads the frames of `run`, which follow each other, into `stored`. Answers where in the pack its first byte lies.
    fn read_run(&mut self, run: &[Group]) -> Result<u64> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(0);
        };
        let pack = self.tree.reader().pack(first.place.pack)?;
        let end = last.stored().end;
        if end > pack.size() {
            return Err(Error::damaged("a pack is shorter than its index says"));
        }
        let start = first.stored().start;
        let start = start.saturating_sub(start % BLOCK);
        let end = end.next_multiple_of(BLOCK).min(pack.size());
        // At most RUN, or a single frame, of which the index can say that it has up to 8 MiB.
        let length = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        if self.stored.len() < length {
            self.stored =
                AlignedBuffer::new(length.max(usize::try_from(RUN + 2 * BLOCK).unwrap_or(0)));
        }
        if let Some(stored) = self.stored.get_mut(..length) {
            pack.read_exact_at(start, stored)?;
        }
        Ok(start)
    }

    /// Decodes a frame, of which `stored` has the bytes and begins at `base`, and checks its pieces.
    fn decode(&mut self, base: u64, group: &Group, pieces: &[Piece], out: &mut [u8]) -> Result<()> {
        let short = || Error::damaged("a frame is shorter than its index says");
        let within = group.stored();
        let start = usize::try_from(within.start.saturating_sub(base)).unwrap_or(usize::MAX);
        let end = usize::try_from(within.end.saturating_sub(base)).unwrap_or(usize::MAX);
        let stored = self.stored.get(start..end).ok_or_else(short)?;
        let whole = usize::try_from(group.end).unwrap_or(usize::MAX);
        let plain = if group.place.plain {
            Some(stored)
        } else if let Some(target) = in_one_piece(pieces) {
            let out = out.get_mut(target).ok_or_else(short)?;
            self.decompressor.decompress_into(stored, out)?;
            None
        } else {
            self.decompressor
                .decompress(stored, whole, &mut self.plain)?;
            Some(&self.plain[..])
        };
        let keys = self.tree.reader().store().keys();
        for piece in pieces {
            let out = out.get_mut(piece.part.range()).ok_or_else(short)?;
            if let Some(plain) = plain {
                let at = piece.place.map_or(0, |place| place.at);
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                let bytes = plain
                    .get(at..at.saturating_add(piece.part.length()))
                    .ok_or_else(short)?;
                out.copy_from_slice(bytes);
            }
            if keys.chunk_id(ChunkKind::Data, out) != piece.id
                && !mistake::is_made(Mistake::ChunksUnchecked)
            {
                return Err(Error::damaged("a chunk's bytes do not match its id"));
            }
        }
        Ok(())
    }

    /// Each piece on its own: every place is tried, and the state read again, before it is called lost.
    fn carefully(&self, region: u64, pieces: &[Piece], out: &mut [u8]) -> Result<()> {
        for piece in pieces {
            let wanted = Wanted {
                id: piece.id,
                length: Some(piece.part.extent.length),
            };
            let read = self.tree.reader().chunk_uncached(ChunkKind::Data, wanted);
            let start = region
                .saturating_mul(REGION)
                .saturating_add(to_u64(piece.part.start));
            let bytes = read.map_err(|e| {
                let length = piece.part.length();
                let what = if e.is_momentary() {
                    "cannot be read now"
                } else {
                    "are lost"
                };
                e.context(format!(
                    "{length} bytes of the disk from byte {start} on {what}"
                ))
            })?;
            match out.get_mut(piece.part.range()) {
                Some(out) if out.len() == bytes.len() => out.copy_from_slice(&bytes),
                _ => return Err(Error::damaged("a chunk is shorter than the map says")),
            }
        }
        Ok(())
    }
}

fn same_frame(a: &Place, b: &Place) -> bool {
    (a.pack, a.offset) == (b.pack, b.offset)
}

/// Puts pieces into the order in which they lie: packs as they are met, each from its start to its end. What has no place comes last.
fn by_place(pieces: &mut [Piece]) {
    let mut packs: HashMap<PackId, usize> = HashMap::new();
    for place in pieces.iter().filter_map(|piece| piece.place) {
        let met = packs.len();
        packs.entry(place.pack).or_insert(met);
    }
    pieces.sort_by_key(|piece| {
        let place = piece.place.map(|place| {
            let met = packs.get(&place.pack).copied().unwrap_or(usize::MAX);
            (met, place.offset, place.at)
        });
        (place.is_none(), place)
    });
}

/// Puts pieces that lie in one frame together.
fn groups(pieces: &[Piece]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut last: Option<Place> = None;
    for (number, piece) in pieces.iter().enumerate() {
        let Some(place) = piece.place else {
            continue;
        };
        let after = number.saturating_add(1);
        let end = place.at.saturating_add(place.length);
        match groups.last_mut() {
            Some(group) if last.is_some_and(|last| same_frame(&last, &place)) => {
                group.pieces.end = after;
                group.end = end.max(group.end);
            }
            _ => groups.push(Group {
                pieces: number..after,
                place,
                end,
            }),
        }
        last = Some(place);
    }
    groups
}

/// How many of the first frames are read together; at least 1.
fn run_length(groups: &[Group]) -> usize {
    let start = groups.first().map_or(0, |group| group.stored().start);
    groups
        .windows(2)
        .take_while(|pair| {
            matches!(pair, [a, b] if b.follows(a) && b.stored().end.saturating_sub(start) <= RUN)
        })
        .count()
        .saturating_add(1)
        .min(groups.len())
}

/// Which bytes of the region the pieces are, if they are the head of a frame without gaps and lie side by side on the disk.
fn in_one_piece(pieces: &[Piece]) -> Option<Range<usize>> {
    let first = pieces.first()?;
    let (mut at, mut end) = (0, first.part.start);
    for piece in pieces {
        let place = piece.place?;
        if place.at != at || piece.part.start != end {
            return None;
        }
        at = place.at.saturating_add(place.length);
        end = piece.part.end();
    }
    Some(first.part.start..end)
}
