//! A disk of a recovery point, readable at any offset.

use crate::hash::ChunkKind;
use crate::index::Place;
use crate::map::{Leaf, Part, REGION};
use crate::read::Wanted;
use crate::region::RegionReader;
use crate::tree::{Spot, Tree};
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{ChunkId, Error, ReadAt, Result};
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A disk of a recovery point. Every byte it gives out was authenticated against the map.
pub struct StoredDisk {
    tree: Tree,
    /// Where the last read ended: a read that begins there is part of a sequential one.
    last_end: AtomicU64,
    /// Bytes that were read one after the other up to there.
    run: AtomicU64,
    /// The system knows of the regions before this one that they are read soon.
    announced: AtomicU64,
}

/// A read of this many bytes reads frames to their end: what follows is probably wanted next.
const LARGE: u64 = 64 << 10;
/// So does a read that begins this close to where one ended.
const NEAR: u64 = 1 << 20;
/// Who has read so much in one piece goes on: what comes next may lie in many packs, and is asked for ahead.
const LONG: u64 = 1 << 20;

/// How a disk is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Here and there: no more is decoded than is asked for.
    Random,
    /// One piece after the other: frames are decoded to their end.
    Sequential,
}

impl StoredDisk {
    /// The disk whose map is `tree`.
    pub fn new(tree: Tree) -> StoredDisk {
        StoredDisk {
            tree,
            last_end: AtomicU64::new(u64::MAX),
            run: AtomicU64::new(0),
            announced: AtomicU64::new(0),
        }
    }

    /// Its map.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    fn leaf_at(&self, region: u64) -> Result<Option<Arc<Leaf>>> {
        match self.tree.locate(region)? {
            Spot::Leaf(id) => self.tree.leaf(region, id).map(Some),
            Spot::HoleUntil(_) => Ok(None),
        }
    }

    /// A long read in one piece is in `region`: the system is told of this region and the next one, each once.
    fn announce(&self, region: u64) {
        let end = region.saturating_add(2).min(self.tree.shape().regions());
        let known = self.announced.swap(end, Ordering::Relaxed);
        // It may have begun anew elsewhere.
        let from = if known > end {
            region
        } else {
            known.max(region)
        };
        for region in from..end {
            // What fails is told when it is read.
            if let Ok(Some(leaf)) = self.leaf_at(region) {
                RegionReader::new(&self.tree).will_need(&leaf);
            }
        }
    }

    /// Fills `out` with the bytes `range` of a region.
    fn fill(&self, leaf: &Leaf, range: Range<usize>, out: &mut [u8], how: How) -> Result<()> {
        let mut walk = leaf
            .parts()
            .skip_while(|part| part.end() <= range.start)
            .peekable();
        let mut ahead = None;
        while let Some(part) = walk.peek().copied() {
            if part.start >= range.end {
                break;
            }
            let Some(id) = part.extent.chunk else {
                copy_part(&part, &range, out, None)?;
                walk.next();
                continue;
            };
            if let Some(bytes) = self.tree.reader().cached(&id)
                && bytes.len() == part.length()
            {
                copy_part(&part, &range, out, Some(&bytes))?;
                walk.next();
                continue;
            }
            let group = self.group(&mut walk, &range, how, &mut ahead);
            let filled = match &group[..] {
                [] => Err(Error::damaged("no place of a chunk is known")),
                group => self.fill_group(group, &range, out),
            };
            if filled.is_err() {
                // The quick way failed: take the careful one, which tries every place and re-reads the state.
                self.fill_carefully(&group, part, &range, out)?;
                if group.is_empty() {
                    walk.next();
                }
            }
        }
        Ok(())
    }

    /// Takes from `walk` the chunks that lie together in the frame of the first one, as far as they are wanted (or follow closely
    /// in a sequential read), with their places. What was looked up and lies in another frame is left in `ahead`.
    fn group(
        &self,
        walk: &mut Peekable<impl Iterator<Item = Part>>,
        range: &Range<usize>,
        how: How,
        ahead: &mut Option<(ChunkId, Vec<Place>)>,
    ) -> Vec<(Part, Place)> {
        let index = self.tree.reader().store().index();
        let mut group: Vec<(Part, Place)> = Vec::new();
        while let Some(part) = walk.peek().copied() {
            let Some(id) = part.extent.chunk else { break };
            if part.start >= range.end && how != How::Sequential {
                break;
            }
            // What cannot be looked up here is left to the careful way, and so is a chunk of another length under the same prefix.
            let known = ahead.take().filter(|(of, _)| *of == id);
            let places = match known {
                Some((_, places)) => places,
                None => match index.places_to_read(&id) {
                    Ok(places) => places,
                    Err(_) => break,
                },
            };
            let place = places.iter().copied().find(|place| {
                place.length == part.extent.length
                    && group.last().is_none_or(|(_, last)| {
                        (place.pack, place.offset) == (last.pack, last.offset)
                            && place.at >= last.at.saturating_add(last.length)
                    })
            });
            let Some(place) = place else {
                *ahead = Some((id, places));
                break;
            };
            group.push((part, place));
            walk.next();
        }
        group
    }

    fn fill_group(
        &self,
        group: &[(Part, Place)],
        range: &Range<usize>,
        out: &mut [u8],
    ) -> Result<()> {
        let reader = self.tree.reader();
        let Some((_, last)) = group.last() else {
            return Ok(());
        };
        let end = last.at.saturating_add(last.length);
        if let Some(whole) = in_one_piece(group, range) {
            let plain = out.get_mut(whole).unwrap_or_default();
            reader.frame_into(last, plain)?;
            return self.check_in_place(group, plain);
        }
        let wanted: u64 = group.iter().map(|(_, place)| u64::from(place.length)).sum();
        // What is most of what was decoded is kept as it is; of less, copies are kept, and the memory is used again.
        if wanted.saturating_mul(2) >= u64::from(end) {
            let mut plain = Vec::new();
            reader.frame(last, end, &mut plain)?;
            let good = self.check_group(group, range, &plain, out)?;
            reader.keep_frame(plain, good);
        } else {
            let mut buffer = reader.borrow();
            let short = || Error::damaged("a frame is longer than any can be");
            let length = usize::try_from(end).unwrap_or(usize::MAX);
            let plain = buffer.get_mut(..length).ok_or_else(short)?;
            reader.frame_into(last, plain)?;
            let good = self.check_group(group, range, plain, out)?;
            reader.keep_copies(plain, good);
            reader.give_back(buffer);
        }
        Ok(())
    }

    /// Authenticates the chunks of a group, whose frame begins with `plain`, and copies what is wanted of them. Answers where they lie.
    fn check_group(
        &self,
        group: &[(Part, Place)],
        range: &Range<usize>,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<Vec<(ChunkId, Range<usize>)>> {
        let mut good = Vec::with_capacity(group.len());
        for (part, place) in group {
            let Some(id) = part.extent.chunk else {
                continue;
            };
            let start = usize::try_from(place.at).unwrap_or(usize::MAX);
            let within = start..start.saturating_add(part.length());
            let bytes = plain.get(within.clone()).unwrap_or_default();
            self.tree
                .reader()
                .authenticate(ChunkKind::Data, id, place, bytes)?;
            copy_part(part, range, out, Some(bytes))?;
            good.push((id, within));
        }
        Ok(good)
    }

    /// Authenticates the chunks of a group that were decoded where they belong.
    fn check_in_place(&self, group: &[(Part, Place)], mut plain: &[u8]) -> Result<()> {
        for (part, place) in group {
            let (bytes, rest) = plain.split_at_checked(part.length()).unwrap_or_default();
            if let Some(id) = part.extent.chunk {
                let reader = self.tree.reader();
                reader.authenticate(ChunkKind::Data, id, place, bytes)?;
            }
            plain = rest;
        }
        Ok(())
    }

    /// Each chunk of a group on its own; `first` is taken alone where there is no group.
    fn fill_carefully(
        &self,
        group: &[(Part, Place)],
        first: Part,
        range: &Range<usize>,
        out: &mut [u8],
    ) -> Result<()> {
        let parts: Vec<Part> = match group {
            [] => vec![first],
            group => group.iter().map(|(part, _)| *part).collect(),
        };
        // What was only read ahead is nobody's concern.
        for part in parts.iter().filter(|part| part.start < range.end) {
            if let Some(id) = part.extent.chunk {
                let length = Some(part.extent.length);
                let bytes = self
                    .tree
                    .reader()
                    .chunk(ChunkKind::Data, Wanted { id, length })?;
                copy_part(part, range, out, Some(&bytes))?;
            }
        }
        Ok(())
    }
}

/// Where the chunks of a group belong in what is read, if they begin their frame, follow each other there as in the region, and all are wanted to their ends: then they
/// are decoded to where they belong. They are not kept, so that who reads everything does not push out what others use.
fn in_one_piece(group: &[(Part, Place)], range: &Range<usize>) -> Option<Range<usize>> {
    let (first, _) = group.first()?;
    let start = first.start.checked_sub(range.start)?;
    let mut end = start;
    let mut at = 0;
    for (part, place) in group {
        let follows = part.start - range.start == end && place.at == at;
        if !follows || part.end() > range.end {
            return None;
        }
        end += part.length();
        at = at.checked_add(place.length)?;
    }
    Some(start..end)
}

/// Copies what of `part` lies in `range` to where it belongs in `out`; `None` is zeros.
fn copy_part(
    part: &Part,
    range: &Range<usize>,
    out: &mut [u8],
    bytes: Option<&[u8]>,
) -> Result<()> {
    let start = part.start.max(range.start);
    let end = part.end().min(range.end);
    if start >= end {
        return Ok(());
    }
    let short = || Error::damaged("a chunk is shorter than the map says");
    let to = out
        .get_mut(start - range.start..end - range.start)
        .ok_or_else(short)?;
    match bytes {
        Some(bytes) => to.copy_from_slice(
            bytes
                .get(start - part.start..end - part.start)
                .ok_or_else(short)?,
        ),
        None => to.fill(0),
    }
    Ok(())
}

impl ReadAt for StoredDisk {
    fn size(&self) -> u64 {
        self.tree.shape().size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        let last_end = self.last_end.load(Ordering::Relaxed);
        // Requests of one sequential reader arrive by several threads, and so a little out of order.
        let how = if to_u64(buffer.len()) >= LARGE || last_end.abs_diff(offset) <= NEAR {
            How::Sequential
        } else {
            How::Random
        };
        let length = to_u64(buffer.len());
        if last_end.abs_diff(offset) > NEAR {
            self.run.store(length, Ordering::Relaxed);
        } else if self.run.fetch_add(length, Ordering::Relaxed) >= LONG {
            self.announce(offset / REGION);
        }
        let mut offset = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let region = offset / REGION;
            let within = offset % REGION;
            let length = usize::try_from(REGION - within)
                .unwrap_or(usize::MAX)
                .min(rest.len());
            let (out, later) = rest.split_at_mut(length);
            match self.leaf_at(region)? {
                None => out.fill(0),
                Some(leaf) => {
                    let start = usize::try_from(within).unwrap_or(usize::MAX);
                    self.fill(&leaf, start..start + length, out, how)
                        .map_err(|e| {
                            e.context("a part of the disk cannot be read")
                                .at_offset(offset)
                        })?;
                }
            }
            offset += to_u64(length);
            rest = later;
        }
        self.last_end.store(offset, Ordering::Relaxed);
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size());
        let mut extents: Vec<Range<u64>> = Vec::new();
        let mut region = range.start / REGION;
        while region < self.tree.shape().regions() && region * REGION < range.end {
            match self.tree.locate(region)? {
                Spot::HoleUntil(next) => region = next,
                Spot::Leaf(id) => {
                    let base = region * REGION;
                    let leaf = self.tree.leaf(region, id)?;
                    for part in leaf.parts() {
                        let start = (base + to_u64(part.start)).max(range.start);
                        let end = (base + to_u64(part.end())).min(range.end);
                        if part.extent.chunk.is_none() || start >= end {
                            continue;
                        }
                        match extents.last_mut() {
                            Some(last) if last.end == start => last.end = end,
                            _ => extents.push(start..end),
                        }
                    }
                    region += 1;
                }
            }
        }
        Ok(extents)
    }
}
