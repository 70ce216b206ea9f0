//! Writing anew what is needed of packs, in the order in which restores read it.
//!
//! A frame of which everything is needed and wanted together is copied as it lies; of others the chunks are decoded, and packed into new frames.
//! Everything is checked against its id on the way, and the new packs are read back.

use crate::frame::{BuiltFrame, Decompressor};
use crate::pack::check::chunk_with_prefix;
use crate::pack::{FrameChecker, PackKind, TocChunk};
use crate::prune::examine::{Examined, FrameUse};
use crate::prune::order::Order;
use crate::prune::packing::Packing;
use crate::session::Session;
use crate::store::Store;
use cairn_base::error::unless_lost;
use cairn_base::{ChunkId, Error, Monitor, PackId, Result, Stage};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Decoded frames that are kept, because their chunks are wanted one after the other.
const FRAMES: usize = 64;

/// What was written anew.
#[derive(Debug, Default)]
pub struct Rewritten {
    /// Packs of which all that is needed lies in new packs now, authenticated and public.
    pub copied: Vec<PackId>,
    /// Bytes of the new packs.
    pub written: u64,
    /// Why packs stay as they are, in sentences.
    pub left: Vec<String>,
    /// Whether the time was over before all was copied.
    pub ended_early: bool,
}

/// What came of copying something.
enum Copied {
    Done,
    /// It is not what was written.
    Wrong,
    /// It cannot be read now, which says nothing of its bytes.
    Unread(Error),
}

/// A chunk that is to be copied: from which pack and frame, and which of its chunks.
#[derive(Clone, Copy)]
struct Item {
    order: u64,
    pack: usize,
    frame: usize,
    chunk: usize,
}

/// Copies what is needed of `packs` into new packs and publishes these. When it fails or is interrupted, what was published by then is there twice, and the
/// next prune finds the old packs emptier. So too when the time `is_over`, but that what was copied by then is public.
///
/// # Errors
/// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; as the folder reports. One pack that cannot be read is left as it is.
pub fn rewrite(
    store: &Store,
    session: &Session,
    packs: &[Examined],
    order: &Order,
    monitor: &dyn Monitor,
    is_over: &dyn Fn() -> bool,
) -> Result<Rewritten> {
    let mut rewriter = Rewriter::new(store, session, monitor, is_over)?;
    let mut unfinished = HashSet::new();
    for kind in [PackKind::Map, PackKind::Data] {
        let items = items(packs, kind, order);
        let left = rewriter.copy(packs, kind, &items)?;
        unfinished.extend(left.iter().map(|item| item.pack));
    }
    rewriter.done.written = rewriter.packing.finish()?;
    rewriter.done.ended_early = !unfinished.is_empty();
    unfinished.extend(&rewriter.failed);
    let copied = packs.iter().enumerate();
    rewriter.done.copied = copied
        .filter(|(number, _)| !unfinished.contains(number))
        .map(|(_, pack)| pack.id())
        .collect();
    Ok(rewriter.done)
}

/// What is needed of the packs of a kind, in the order in which it is written.
fn items(packs: &[Examined], kind: PackKind, order: &Order) -> Vec<Item> {
    let mut items = Vec::new();
    for (pack, examined) in packs.iter().enumerate() {
        if examined.row.kind != kind {
            continue;
        }
        for (frame, of) in examined.frames.iter().enumerate() {
            for (chunk, (toc, live)) in of.chunks.iter().enumerate() {
                if *live {
                    items.push(Item {
                        order: order.place(&toc.id),
                        pack,
                        frame,
                        chunk,
                    });
                }
            }
        }
    }
    // What no newest point has stays in the order in which it lay.
    items.sort_by_key(|item| item.order);
    items
}

struct Rewriter<'a> {
    store: &'a Store,
    monitor: &'a dyn Monitor,
    is_over: &'a dyn Fn() -> bool,
    packing: Packing<'a>,
    decompressor: Decompressor,
    checker: FrameChecker,
    /// Decoded frames by pack and frame, and the order in which they were decoded.
    decoded: HashMap<(usize, usize), Vec<u8>>,
    recent: Vec<(usize, usize)>,
    /// Packs of which something could not be copied.
    failed: HashSet<usize>,
    done: Rewritten,
}

impl<'a> Rewriter<'a> {
    fn new(
        store: &'a Store,
        session: &'a Session,
        monitor: &'a dyn Monitor,
        is_over: &'a dyn Fn() -> bool,
    ) -> Result<Rewriter<'a>> {
        Ok(Rewriter {
            store,
            monitor,
            is_over,
            packing: Packing::new(store, session)?,
            decompressor: Decompressor::default(),
            checker: FrameChecker::default(),
            decoded: HashMap::new(),
            recent: Vec::new(),
            failed: HashSet::new(),
            done: Rewritten::default(),
        })
    }

    /// Answers what is left when the time is over.
    fn copy<'i>(
        &mut self,
        packs: &[Examined],
        kind: PackKind,
        items: &'i [Item],
    ) -> Result<&'i [Item]> {
        let mut rest = items;
        while let [item, ..] = rest {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            if (self.is_over)() {
                break;
            }
            let Some((examined, of)) = frame_of(packs, item) else {
                break;
            };
            let whole = whole_frame(of, rest);
            let taken = whole.unwrap_or(1);
            let (now, later) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
            rest = later;
            if self.failed.contains(&item.pack) {
                continue;
            }
            let copied = if whole.is_some() {
                self.as_it_lies(examined, of, kind)
            } else {
                self.chunk(examined, of, item, kind)
            };
            match copied? {
                Copied::Done => {
                    let bytes = now.iter().filter_map(|item| chunk_of(packs, item));
                    self.monitor.advance(Stage::Rewrite, bytes.sum());
                }
                Copied::Wrong => self.leave(
                    item.pack,
                    format!(
                        "the pack {} stays as it is: something in it is not what was written; run `cairn verify --repair`",
                        examined.id()
                    ),
                ),
                Copied::Unread(error) => self.leave(
                    item.pack,
                    format!(
                        "the pack {} stays as it is: it cannot be read now: {error}",
                        examined.id()
                    ),
                ),
            }
        }
        self.packing.close(kind)?;
        Ok(rest)
    }

    /// Something of a pack cannot be copied: it stays. What of it was copied already is there twice.
    fn leave(&mut self, pack: usize, why: String) {
        if self.failed.insert(pack) {
            self.done.left.push(why);
        }
    }

    /// Copies a frame of which everything is needed.
    fn as_it_lies(&mut self, examined: &Examined, of: &FrameUse, kind: PackKind) -> Result<Copied> {
        let chunks: Vec<TocChunk> = of.chunks.iter().map(|(chunk, _)| *chunk).collect();
        let keys = self.store.keys();
        let found = match self.checker.check(keys, &examined.pack, &of.frame, &chunks) {
            Ok(found) => found,
            Err(error) => return Ok(Copied::Unread(error)),
        };
        for chunk in &found.bad_chunks {
            self.store.note_damaged(chunk, &[examined.id()]);
        }
        let mut stored = Vec::new();
        // Read again: what is written is what the tag says, whatever was read before.
        let read = examined.pack.stored(keys, &of.frame, &mut stored);
        match unless_lost(read) {
            Ok(Some(true)) if found.is_clean() => {}
            Ok(_) => return Ok(Copied::Wrong),
            Err(error) => return Ok(Copied::Unread(error)),
        }
        let built = BuiltFrame {
            stored,
            plain: of.frame.plain,
            raw_length: usize::try_from(of.frame.raw).unwrap_or(usize::MAX),
            tag: of.frame.tag,
            chunks: chunks.iter().map(|c| (c.id, c.length)).collect(),
        };
        self.packing.frame(&built, kind)?;
        Ok(Copied::Done)
    }

    /// Takes one chunk out of its frame.
    fn chunk(
        &mut self,
        examined: &Examined,
        of: &FrameUse,
        item: &Item,
        kind: PackKind,
    ) -> Result<Copied> {
        let Some((chunk, _)) = of.chunks.get(item.chunk) else {
            return Ok(Copied::Wrong);
        };
        let range = range_in(of, item.chunk);
        if let Err(error) = self.unpack(examined, of, (item.pack, item.frame)) {
            return Ok(Copied::Unread(error));
        }
        let key = (item.pack, item.frame);
        let bytes = self.decoded.get(&key).and_then(|plain| plain.get(range));
        let keys = self.store.keys();
        let good = bytes.filter(|bytes| {
            chunk_with_prefix(keys, kind, &chunk.id.prefix(), bytes) == Some(chunk.id)
        });
        let Some(bytes) = good else {
            self.store.note_damaged(&chunk.id, &[examined.id()]);
            return Ok(Copied::Wrong);
        };
        self.packing.chunk(chunk.id, bytes, kind)?;
        Ok(Copied::Done)
    }

    /// Sees to it that the frame is decoded, as far as it can be. An error if it cannot be read now.
    fn unpack(&mut self, examined: &Examined, of: &FrameUse, key: (usize, usize)) -> Result<()> {
        if self.decoded.contains_key(&key) {
            return Ok(());
        }
        if self.recent.len() >= FRAMES {
            let oldest = self.recent.remove(0);
            self.decoded.remove(&oldest);
        }
        let mut stored = Vec::new();
        // Chunks are checked one by one: of a frame that was damaged some may be good.
        let read = examined
            .pack
            .stored(self.store.keys(), &of.frame, &mut stored);
        let read = unless_lost(read)?;
        let mut plain = Vec::new();
        if read.is_some() {
            let raw = usize::try_from(of.frame.raw).unwrap_or(usize::MAX);
            if of.frame.plain {
                plain = stored;
            } else if self
                .decompressor
                .decompress(&stored, raw, &mut plain)
                .is_err()
            {
                plain.clear();
            }
        }
        self.decoded.insert(key, plain);
        self.recent.push(key);
        Ok(())
    }
}

fn frame_of<'p>(packs: &'p [Examined], item: &Item) -> Option<(&'p Examined, &'p FrameUse)> {
    let examined = packs.get(item.pack)?;
    Some((examined, examined.frames.get(item.frame)?))
}

fn chunk_of(packs: &[Examined], item: &Item) -> Option<u64> {
    let (_, of) = frame_of(packs, item)?;
    let (chunk, _) = of.chunks.get(item.chunk)?;
    Some(u64::from(chunk.length))
}

/// The number of items at the start of `rest` if they are all chunks of this frame, in its order.
fn whole_frame(of: &FrameUse, rest: &[Item]) -> Option<usize> {
    let count = of.chunks.len();
    let (first, items) = (rest.first()?, rest.get(..count)?);
    let same = |(number, item): (usize, &Item)| {
        (item.pack, item.frame, item.chunk) == (first.pack, first.frame, number)
    };
    items.iter().enumerate().all(same).then_some(count)
}

/// Where a chunk of a frame lies in its plain bytes.
fn range_in(of: &FrameUse, chunk: usize) -> Range<usize> {
    let length = |c: &TocChunk| usize::try_from(c.length).unwrap_or(0);
    let before = of.chunks.iter().take(chunk);
    let start: usize = before.map(|(chunk, _)| length(chunk)).sum();
    let own = of.chunks.get(chunk).map_or(0, |(chunk, _)| length(chunk));
    start..start.saturating_add(own)
}

/// What is needed of packs.
pub fn needed_chunks(packs: &[Examined]) -> impl Iterator<Item = ChunkId> + '_ {
    let frames = packs.iter().flat_map(|pack| &pack.frames);
    let chunks = frames.flat_map(|frame| &frame.chunks);
    let needed = chunks.filter(|(_, live)| *live);
    needed.map(|(chunk, _)| chunk.id)
}
