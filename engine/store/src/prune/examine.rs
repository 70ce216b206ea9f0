//! Looking into packs before they go: the table of contents decides what is in one, the index only what is needed.

use crate::contents::places;
use crate::index::{Numbered, PackRow, Place};
use crate::layout;
use crate::pack::check::chunk_with_prefix;
use crate::pack::{PackKind, PackReader, TocChunk, TocFrame};
use crate::prune::mark::Marked;
use crate::read::ChunkReader;
use crate::store::Store;
use cairn_base::{ChunkId, PackId, Result};

/// A frame, and which of its chunks are needed.
#[derive(Debug)]
pub struct FrameUse {
    /// The frame.
    pub frame: TocFrame,
    /// Its chunks; whether each is needed from here.
    pub chunks: Vec<(TocChunk, bool)>,
}

/// A pack that may go once what is needed of it lies elsewhere.
pub struct Examined {
    /// The pack.
    pub row: PackRow,
    /// Its file, open.
    pub pack: PackReader,
    /// What is in it.
    pub frames: Vec<FrameUse>,
}

/// What came of looking into a pack.
pub enum Verdict {
    /// It may go.
    May(Box<Examined>),
    /// It stays; a sentence says why.
    Stays(String),
    /// The time was over before all of it was looked at.
    Unfinished,
}

/// Looks into packs.
pub struct Examiner<'a> {
    store: &'a Store,
    marked: &'a Marked,
    reader: &'a ChunkReader,
}

impl<'a> Examiner<'a> {
    /// By these marks; other copies are read with `reader`.
    pub fn new(store: &'a Store, marked: &'a Marked, reader: &'a ChunkReader) -> Examiner<'a> {
        Examiner {
            store,
            marked,
            reader,
        }
    }

    /// Reads a pack's table of contents. The pack may go only if the index knows all that is in it, so that nothing needed was overlooked, and if every
    /// chunk that is needed and is to be had elsewhere was read there and authenticated just now. Ends when the time `is_over`.
    pub fn examine(&self, row: &PackRow, is_over: &dyn Fn() -> bool) -> Verdict {
        let folder = &**self.store.folder();
        let path = folder.describe(&layout::pack(row.id));
        let pack = match PackReader::open(folder, self.store.header().store, row.id) {
            Ok(pack) => pack,
            Err(error) => return Verdict::Stays(format!("{path} cannot be read: {error}")),
        };
        if (pack.footer().length, pack.footer().kind) != (row.length, row.kind) {
            return Verdict::Stays(format!("{path} is not the pack that the index knows"));
        }
        let mut frames = Vec::new();
        for (frame, chunks) in pack.frames() {
            if is_over() {
                return Verdict::Unfinished;
            }
            let mut used = Vec::new();
            for ((id, place), chunk) in places(row.id, frame.offset, frame, chunks).zip(chunks) {
                match self.chunk(row, &id, &place) {
                    Ok(Some(live)) => used.push((*chunk, live)),
                    Ok(None) => {
                        return Verdict::Stays(format!(
                            "the index does not know all that is in {path}; run `cairn verify --repair`"
                        ));
                    }
                    Err(error) => return Verdict::Stays(format!("{path} stays: {error}")),
                }
            }
            frames.push(FrameUse {
                frame: *frame,
                chunks: used,
            });
        }
        Verdict::May(Box::new(Examined {
            row: *row,
            pack,
            frames,
        }))
    }

    /// Whether the chunk at this place of the pack is needed from there; `None` if the index does not know it.
    fn chunk(&self, row: &PackRow, id: &ChunkId, place: &Place) -> Result<Option<bool>> {
        let (found, failed) = self.marked.index().numbered(id);
        failed?;
        let own: Vec<&Numbered> = found.iter().filter(|at| at.place == *place).collect();
        let [first, ..] = &own[..] else {
            return Ok(None);
        };
        let is_marked = |at: &Numbered| self.marked.has(at.segment, at.entry);
        if own.iter().any(|at| is_marked(at)) {
            return Ok(Some(true));
        }
        // A copy is dropped only after another one was read.
        let length = place.length;
        let mut others = found
            .iter()
            .filter(|at| is_marked(at) && at.place.length == length)
            .peekable();
        if others.peek().is_none() || others.any(|at| self.is_good(row.kind, id, &at.place)) {
            return Ok(Some(false));
        }
        // It may have been copied since it was marked, and the pack where it was marked be gone.
        let now = self.store.index().places(id).unwrap_or_default();
        let mut now = now
            .iter()
            .filter(|place| place.length == length && place.pack != row.id);
        if let Some(good) = now.find(|place| self.is_good(row.kind, id, place)) {
            // From now on that is the one that is needed: its pack may be looked into next, and must not rely on this one in its turn.
            for at in found.iter().filter(|at| at.place == *good) {
                self.marked.set(at);
            }
            return Ok(Some(false));
        }
        // From now on this is the one that is needed.
        self.marked.set(first);
        Ok(Some(true))
    }

    /// Whether the bytes at a place are the chunk's; if not, the place is known to be damaged from now on.
    fn is_good(&self, kind: PackKind, id: &ChunkId, place: &Place) -> bool {
        let mut plain = Vec::new();
        let end = place.at.saturating_add(place.length);
        let read = self.reader.frame(place, end, &mut plain);
        let start = usize::try_from(place.at).unwrap_or(usize::MAX);
        let bytes = plain.get(start..).unwrap_or_default();
        let good = read.is_ok()
            && chunk_with_prefix(self.store.keys(), kind, &id.prefix(), bytes) == Some(*id);
        let passes = matches!(&read, Err(error) if error.is_momentary());
        // What is not live any more is no damage.
        if !good && !passes && self.store.is_still_live(place.pack).unwrap_or(false) {
            self.store.note_damaged(id, &[place.pack]);
        }
        good
    }
}

impl Examined {
    /// Its id.
    pub fn id(&self) -> PackId {
        self.row.id
    }

    /// Bytes of its chunks that are needed.
    pub fn needed_bytes(&self) -> u64 {
        let chunks = self.frames.iter().flat_map(|frame| &frame.chunks);
        chunks
            .filter(|(_, live)| *live)
            .map(|(chunk, _)| u64::from(chunk.length))
            .fold(0, u64::saturating_add)
    }

    /// Whether anything of it is needed.
    pub fn is_needed(&self) -> bool {
        let mut chunks = self.frames.iter().flat_map(|frame| &frame.chunks);
        chunks.any(|(_, live)| *live)
    }
}
