//! A disk whose bytes lie in one image, or in a differencing image and its parents.

use crate::align::to_usize;
use crate::check::Check;
use crate::disk::{Format, FoundBy, Identity, ImageInfo, VirtualDisk};
use crate::layer::{Facts, Layer, Opened};
use crate::runs::{Detail, Place};
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, ReadAt, Result};
use std::ops::Range;
use std::path::PathBuf;

/// So many blocks are looked at in one step when a large range is asked about, divided by the number of levels: with 64 pieces of a block
/// on each level that is 24 MiB of pieces at most.
const STEP: u64 = 8192;
/// After so many extents the rest of the range counts as data.
const MAX_EXTENTS: usize = 1 << 20;

/// The disk. Reading goes from the child to its parents; no thread keeps another one waiting.
pub(crate) struct Stack {
    /// The child first.
    levels: Vec<Level>,
    /// Those of all levels.
    warnings: Vec<String>,
    /// Whether the last image has a parent that is not there.
    is_cut: bool,
}

struct Level {
    layer: Box<dyn Layer>,
    facts: Facts,
    /// The image's file, for messages.
    path: Option<PathBuf>,
}

/// A piece of the disk that may hold data.
#[derive(Debug, Clone)]
struct Piece {
    /// Bytes of the disk.
    range: Range<u64>,
    level: usize,
    /// Where it lies in the level's image; `None` if that was not looked for.
    place: Option<u64>,
}

impl Stack {
    /// `images`, the child first, each the parent of the one before it, with the files they lie in.
    pub(crate) fn new(images: Vec<(Opened, Option<PathBuf>)>) -> Result<Stack> {
        if images.is_empty() {
            return Err(Error::invalid("a disk of no image was asked for"));
        }
        let mut warnings: Vec<String> = Vec::new();
        let mut levels: Vec<Level> = Vec::new();
        for (opened, path) in images {
            let of_image = opened.facts.warnings.iter();
            if levels.is_empty() {
                warnings.extend(of_image.cloned());
            } else {
                let name = path.as_ref().map(|path| path.display().to_string());
                let name = name.unwrap_or_else(|| "a parent".to_string());
                warnings.extend(of_image.map(|warning| format!("{name}: {warning}")));
            }
            levels.push(Level {
                layer: opened.layer,
                facts: opened.facts,
                path,
            });
        }
        Ok(Stack {
            levels,
            warnings,
            is_cut: false,
        })
    }

    /// The same, known to lack the parent of the last image: what lies in that is data, as far as can be known, and cannot be read.
    pub(crate) fn without_parents(self) -> Stack {
        Stack {
            is_cut: true,
            ..self
        }
    }

    /// What the child says of itself; there is one.
    fn facts(&self) -> Option<&Facts> {
        self.levels.first().map(|level| &level.facts)
    }

    /// The pieces of `range` that are not known to be zeros, in order. If `lenient`, a part that lies where it cannot
    /// lie counts as a piece.
    fn pieces(&self, range: Range<u64>, detail: Detail, lenient: bool) -> Result<Vec<Piece>> {
        let count = self.levels.len();
        let (mut pieces, mut open) = self.look_down(count, range, detail, lenient)?;
        if self.is_cut && lenient {
            pieces.extend(open.drain(..).map(|range| Piece {
                range,
                level: count,
                place: None,
            }));
        }
        if let Some(range) = open.first()
            && self.is_cut
        {
            return Err(Error::not_found(
                "this part of the disk lies in a parent that is not there",
            )
            .at_offset(range.start));
        }
        if !open.is_empty() {
            return Err(Error::damaged(
                "a part of the disk is said to lie in a parent, and the last image of the chain has none",
            ));
        }
        if count > 1 || self.is_cut {
            pieces.sort_unstable_by_key(|piece| piece.range.start);
        }
        Ok(pieces)
    }

    /// As [`pieces`](Stack::pieces), of the first `images` images alone and in no order, with what these leave to the ones below, in order.
    fn look_down(
        &self,
        images: usize,
        range: Range<u64>,
        detail: Detail,
        lenient: bool,
    ) -> Result<(Vec<Piece>, Vec<Range<u64>>)> {
        let mut pieces = Vec::new();
        // What the levels above leave to the ones below.
        let mut open = vec![range];
        for (index, level) in self.levels.iter().enumerate().take(images) {
            let mut below: Vec<Range<u64>> = Vec::new();
            let mut rest = &*open;
            while !rest.is_empty() {
                let count = together(rest, level.layer.block_size());
                let (group, behind) = rest.split_at_checked(count).unwrap_or((rest, &[]));
                rest = behind;
                level.look_up(index, group, detail, lenient, &mut pieces, &mut below)?;
            }
            open = below;
            if open.is_empty() {
                break;
            }
        }
        Ok((pieces, open))
    }

    /// Where what is looked at in one step that begins at `at` ends: behind `at`, and where a block does.
    fn step_end(&self, at: u64) -> u64 {
        let blocks = STEP.checked_div(to_u64(self.levels.len())).unwrap_or(1);
        // Behind the end of a parent nothing is asked of it.
        let ends = self.levels.iter().filter(|level| at < level.layer.size());
        let ends = ends.map(|level| level.layer.step_end(at, blocks.max(1)));
        ends.min().unwrap_or(u64::MAX).max(at.saturating_add(512))
    }

    /// What `each` appends for parts of `range`, of a bounded number of blocks each.
    fn in_steps(
        &self,
        range: Range<u64>,
        each: impl Fn(Range<u64>, &mut Vec<Range<u64>>) -> Result<()>,
    ) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size());
        let mut extents = Vec::new();
        let mut at = range.start;
        while at < range.end {
            if extents.len() > MAX_EXTENTS {
                append(&mut extents, at..range.end);
                break;
            }
            let end = self.step_end(at).min(range.end);
            each(at..end, &mut extents)?;
            at = end;
        }
        Ok(extents)
    }

    /// The extents of `range`, appended to `extents`.
    fn extend(&self, range: Range<u64>, extents: &mut Vec<Range<u64>>) -> Result<()> {
        for piece in self.pieces(range.clone(), Detail::Rough, true)? {
            let (Some(place), Some(level)) = (piece.place, self.levels.get(piece.level)) else {
                append(extents, piece.range);
                continue;
            };
            // Holes of the image file are holes of the disk.
            let length = piece.range.end.saturating_sub(piece.range.start);
            let image = level.layer.image();
            let found = image
                .data_extents(place..place.saturating_add(length))
                .map_err(|error| level.name(error))?;
            for data in found {
                let shifted = |at: u64| piece.range.start.saturating_add(at.saturating_sub(place));
                // The same holes may be those of many blocks.
                if extents.len() >= MAX_EXTENTS {
                    append(extents, shifted(data.start)..range.end);
                    return Ok(());
                }
                append(extents, shifted(data.start)..shifted(data.end));
            }
        }
        Ok(())
    }
}

/// Appends `part`, which lies so many bytes behind the beginning of a run.
fn push(
    level: usize,
    part: Range<u64>,
    (place, skipped): (Place, u64),
    pieces: &mut Vec<Piece>,
    below: &mut Vec<Range<u64>>,
) {
    let place = match place {
        Place::Zeros => return,
        Place::Parent => return append(below, part),
        Place::Image(place) => Some(place.saturating_add(skipped)),
        Place::Somewhere => None,
    };
    pieces.push(Piece {
        range: part,
        level,
        place,
    });
}

/// Appends an extent, joined with the last one where it touches that.
fn append(extents: &mut Vec<Range<u64>>, extent: Range<u64>) {
    match extents.last_mut() {
        Some(last) if last.end == extent.start => last.end = extent.end,
        _ => extents.push(extent),
    }
}

/// How many of the first of `open`, which are in order, are looked up at once: as long as one begins in the block in which the one before
/// it ends. So each block is looked up once, however many pieces of it are asked for, and none that nobody asks for.
fn together(open: &[Range<u64>], block_size: u64) -> usize {
    let block = |at: u64| at.checked_div(block_size).unwrap_or(0);
    let joined = open.iter().zip(open.iter().skip(1));
    let joined =
        joined.take_while(|(one, next)| block(one.end.saturating_sub(1)) == block(next.start));
    joined.count().saturating_add(1)
}

impl Level {
    /// Looks up the ranges of `group`: what may hold data goes to `pieces`, what lies in a parent to `below`.
    fn look_up(
        &self,
        index: usize,
        group: &[Range<u64>],
        detail: Detail,
        lenient: bool,
        pieces: &mut Vec<Piece>,
        below: &mut Vec<Range<u64>>,
    ) -> Result<()> {
        // A parent may be smaller than its child: there is nothing behind its end.
        let size = self.layer.size();
        let clipped = || group.iter().map(|range| clip(range.clone(), size));
        let start = group.first().map_or(0, |range| range.start);
        let hull = clip(start..group.last().map_or(0, |range| range.end), size);
        if hull.is_empty() {
            return Ok(());
        }
        let runs = match self.layer.runs(hull.clone(), detail) {
            Err(error) if lenient && error.kind() == Kind::Damaged => {
                let wanted = clipped().filter(|range| !range.is_empty());
                pieces.extend(wanted.map(|range| Piece {
                    range,
                    level: index,
                    place: None,
                }));
                return Ok(());
            }
            runs => runs.map_err(|error| self.name(error))?,
        };
        let mut wanted = clipped().peekable();
        let mut at = hull.start;
        for run in runs.pieces() {
            let found = at..at.saturating_add(run.length);
            at = found.end;
            while let Some(range) = wanted.peek() {
                let part = range.start.max(found.start)..range.end.min(found.end);
                if !part.is_empty() {
                    let skipped = part.start.saturating_sub(found.start);
                    push(index, part, (run.place, skipped), pieces, below);
                }
                // The next run may hold the rest of it.
                if range.end > found.end {
                    break;
                }
                wanted.next();
            }
        }
        Ok(())
    }

    fn info(&self) -> ImageInfo {
        let block_size = self.layer.block_size();
        ImageInfo {
            format: self.facts.format,
            files: Vec::new(),
            found: FoundBy::Caller,
            disk_size: self.layer.size(),
            block_size: (block_size != u64::MAX).then_some(block_size),
            sector_size: self.facts.sector_size,
            identity: self.facts.identity,
            properties: self.layer.properties(),
            warnings: self.facts.warnings.clone(),
        }
    }

    fn name(&self, error: Error) -> Error {
        match &self.path {
            Some(path) => error.at_path(path),
            None => error,
        }
    }
}

impl ReadAt for Stack {
    fn size(&self) -> u64 {
        self.levels.first().map_or(0, |level| level.layer.size())
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        let mut at = offset;
        let mut rest = buffer;
        let end = offset.saturating_add(to_u64(rest.len()));
        for piece in self.pieces(offset..end, Detail::Exact, false)? {
            let gap = to_usize(piece.range.start.saturating_sub(at))?.min(rest.len());
            let (zeros, behind) = rest.split_at_mut(gap);
            zeros.fill(0);
            let length = piece.range.end.saturating_sub(piece.range.start);
            let (part, behind) = behind.split_at_mut(to_usize(length)?.min(behind.len()));
            match (piece.place, self.levels.get(piece.level)) {
                (Some(place), Some(level)) => {
                    let image = level.layer.image();
                    image
                        .read_exact_at(place, part)
                        .map_err(|error| level.name(error))?;
                }
                // An exact piece has a place.
                _ => part.fill(0),
            }
            (at, rest) = (piece.range.end, behind);
        }
        rest.fill(0);
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.in_steps(range, |part, extents| self.extend(part, extents))
    }

    fn will_need(&self, range: Range<u64>) {
        let range = clip(range, self.size());
        let end = range.end.min(self.step_end(range.start));
        for piece in self
            .pieces(range.start..end, Detail::Rough, true)
            .unwrap_or_default()
        {
            if let (Some(place), Some(level)) = (piece.place, self.levels.get(piece.level)) {
                let length = piece.range.end.saturating_sub(piece.range.start);
                let image = level.layer.image();
                image.will_need(place..place.saturating_add(length));
            }
        }
    }
}

impl VirtualDisk for Stack {
    fn format(&self) -> Format {
        self.facts().map_or(Format::Raw, |facts| facts.format)
    }
    fn sector_size(&self) -> u32 {
        self.facts().map_or(512, |facts| facts.sector_size)
    }
    fn identity(&self) -> Identity {
        self.facts().map(|facts| facts.identity).unwrap_or_default()
    }
    fn chain(&self) -> Vec<Identity> {
        self.levels
            .iter()
            .map(|level| level.facts.identity)
            .collect()
    }
    fn held(&self, images: usize, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.in_steps(range, |part, held| {
            // What lies where it cannot lie is held: it is for the reader to be told.
            let (_, open) = self.look_down(images, part.clone(), Detail::Rough, true)?;
            let mut at = part.start;
            for below in open {
                if at < below.start {
                    append(held, at..below.start);
                }
                at = below.end;
            }
            if at < part.end {
                append(held, at..part.end);
            }
            Ok(())
        })
    }
    fn warnings(&self) -> &[String] {
        &self.warnings
    }
    fn images(&self) -> Vec<ImageInfo> {
        self.levels.iter().map(Level::info).collect()
    }
    fn check(&self, check: &mut Check<'_>) -> Result<()> {
        let mut failure = None;
        for level in &self.levels {
            check.begin_image(level.path.as_deref());
            // What keeps one image from being looked at says nothing of the others.
            match level.layer.check(check).map_err(|error| level.name(error)) {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
