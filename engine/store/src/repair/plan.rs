//! What a pack holds: by its own table of contents, or by the index.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::index::merge::each_entry;
use crate::index::packs::PackRows;
use crate::index::{Entry, PackRow};
use crate::pack::PackReader;
use crate::pack::footer::{FOOTER_LEN, Footer};
use crate::pack::head::HEAD_LEN;
use crate::pack::toc::{CHUNK_RECORD, FRAME_RECORD};
use crate::parity::Shape;
use crate::store::Store;
use cairn_base::units::to_u64;
use cairn_base::{ChunkId, PackId};
use std::collections::{HashMap, HashSet};

/// A chunk that should be in a frame.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    /// The first half of its id.
    pub prefix: [u8; 16],
    /// All of it, where it is known.
    pub id: Option<ChunkId>,
    /// Offset in the plain frame.
    pub at: u32,
    /// Length in bytes.
    pub length: u32,
}

/// A frame that should be in a pack.
#[derive(Debug)]
pub struct FramePlan {
    /// Offset in the pack.
    pub offset: u32,
    /// Stored bytes.
    pub stored: u32,
    /// Whether they are the plain bytes.
    pub plain: bool,
    /// Their tag, where it is known.
    pub tag: Option<[u8; 16]>,
    /// The chunks, by their offsets.
    pub chunks: Vec<Want>,
}

impl FramePlan {
    /// Plain bytes, if the chunks follow each other from the start.
    pub fn raw(&self) -> Option<u32> {
        let mut end = 0u32;
        for want in &self.chunks {
            if want.at != end {
                return None;
            }
            end = end.checked_add(want.length)?;
        }
        Some(end)
    }

    fn end(&self) -> u64 {
        u64::from(self.offset).saturating_add(u64::from(self.stored))
    }
}

/// By the pack's own table.
pub fn of_toc(pack: &PackReader) -> Vec<FramePlan> {
    let plan = |(frame, chunks): (&crate::pack::TocFrame, &[crate::pack::TocChunk])| {
        let mut next = 0u32;
        let wants = chunks.iter().map(|chunk| {
            let at = next;
            next = next.saturating_add(chunk.length);
            Want {
                prefix: chunk.id.prefix(),
                id: Some(chunk.id),
                at,
                length: chunk.length,
            }
        });
        FramePlan {
            chunks: wants.collect(),
            offset: frame.offset,
            stored: frame.stored,
            plain: frame.plain,
            tag: Some(frame.tag),
        }
    };
    pack.frames().map(plan).collect()
}

/// By entries of the index.
pub fn of_entries(pack: PackId, entries: &[Entry]) -> Vec<FramePlan> {
    let mut places: Vec<_> = entries
        .iter()
        .map(|entry| (entry.place(pack), entry.prefix))
        .collect();
    places.sort_by_key(|(place, prefix)| {
        let frame = (place.offset, place.stored, place.plain);
        (frame, place.at, place.length, *prefix)
    });
    places.dedup();
    let mut frames: Vec<FramePlan> = Vec::new();
    for (place, prefix) in places {
        let want = Want {
            prefix,
            id: None,
            at: place.at,
            length: place.length,
        };
        match frames.last_mut() {
            Some(last)
                if (last.offset, last.stored, last.plain)
                    == (place.offset, place.stored, place.plain) =>
            {
                last.chunks.push(want);
            }
            _ => frames.push(FramePlan {
                offset: place.offset,
                stored: place.stored,
                plain: place.plain,
                tag: None,
                chunks: vec![want],
            }),
        }
    }
    frames
}

/// Where the parts of a pack end that holds just some frames. Any chunk or frame more, and they end further back: so who knows where they
/// do end knows whether these frames are all.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    frames: u64,
    toc: u64,
}

/// `None` if the frames do not follow each other, or chunks in them do not: then they are not all.
pub fn ends(frames: &[FramePlan]) -> Option<Ends> {
    let mut end = to_u64(HEAD_LEN);
    let mut toc = 8u64;
    for frame in frames {
        if u64::from(frame.offset) != end || frame.raw().is_none() {
            return None;
        }
        end = frame.end();
        let chunks = to_u64(frame.chunks.len()).saturating_mul(to_u64(CHUNK_RECORD));
        toc = toc
            .saturating_add(to_u64(FRAME_RECORD))
            .saturating_add(chunks);
    }
    Some(Ends {
        frames: end,
        toc: end.saturating_add(toc),
    })
}

impl Ends {
    /// Whether there is no room for more in a pack of this length, even if it has no parity.
    pub fn fill(self, length: u64) -> bool {
        self.toc.saturating_add(to_u64(FOOTER_LEN)) == length
    }

    /// Whether they are those that the pack's footer tells.
    pub fn are_told_by(self, footer: &Footer) -> bool {
        footer.toc_offset == self.frames && footer.parity_offset == self.toc
    }

    /// How a pack with so much parity would be protected; `None` if it would not be.
    pub fn shape(self, percent: u32) -> Option<Shape> {
        Shape::new(self.toc, percent).ok()
    }

    /// Whether a pack of this length, of which nothing else is known, may hold no more. With parity that can be told to a sector only.
    pub fn may_fill(self, length: u64, percent: u32) -> bool {
        let end = self.shape(percent).map(|shape| shape.end());
        self.fill(length) || end.map(|end| end.saturating_add(to_u64(FOOTER_LEN))) == Some(length)
    }
}

/// What the index says of some packs.
pub struct Known {
    /// Their entries.
    pub entries: HashMap<PackId, Vec<Entry>>,
    /// Whether every page of every segment could be read.
    pub complete: bool,
}

/// Walks the whole index for the entries of `packs`.
pub fn known(store: &Store, packs: &HashSet<PackId>) -> Known {
    let mut known = Known {
        entries: HashMap::new(),
        complete: store.has_all_segments(),
    };
    if packs.is_empty() {
        return known;
    }
    for segment in store.index().segments() {
        let mut numbers: HashMap<u32, PackId> = HashMap::new();
        for (number, row) in (0u32..).zip(PackRows::new(segment)) {
            match row {
                Ok(PackRow { id, .. }) if packs.contains(&id) => drop(numbers.insert(number, id)),
                Ok(_) => {}
                // The numbers behind it are not known.
                Err(_) => {
                    known.complete = false;
                    break;
                }
            }
        }
        if numbers.is_empty() {
            continue;
        }
        let walked = each_entry(segment, &mut |entry| {
            if let Some(pack) = numbers.get(&entry.pack_number()) {
                known.entries.entry(*pack).or_default().push(*entry);
            }
        });
        known.complete &= walked.is_ok();
    }
    known
}
