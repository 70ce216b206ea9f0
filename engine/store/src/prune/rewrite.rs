//! Writing anew what is needed of packs, in the order in which restores read it.
//!
//! A frame of which everything is needed and wanted together is copied as it lies; of others the chunks are decoded, and packed into new frames.
//! Everything is checked against its id on the way, and the new packs are read back.

use crate::backup::region::build_frame;
use crate::contents::places;
use crate::frame::{BuiltFrame, Compressor, Decompressor, MAX_FRAME};
use crate::index::Entry;
use crate::pack::check::chunk_with_prefix;
use crate::pack::{FrameChecker, PackKind, PackReader, PackWriter, SealedPack, TocChunk, TocFrame};
use crate::prune::examine::{Examined, FrameUse};
use crate::prune::order::Order;
use crate::publish::publish;
use crate::session::Session;
use crate::store::Store;
use cairn_base::error::unless_lost;
use cairn_base::{ChunkId, Error, Monitor, PackId, Result, Stage};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Packs that are published together: what an interruption loses at most.
const TOGETHER: usize = 8;
/// Decoded frames that are kept, because their chunks are wanted one after the other.
const FRAMES: usize = 64;
/// zstd level of new frames: that of a backup.
const LEVEL: i32 = 3;

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
    rewriter.publish()?;
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

/// Chunks that become one frame.
#[derive(Default)]
struct Open {
    bytes: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
    ends: Vec<usize>,
}

struct Rewriter<'a> {
    store: &'a Store,
    session: &'a Session,
    monitor: &'a dyn Monitor,
    is_over: &'a dyn Fn() -> bool,
    compressor: Compressor,
    decompressor: Decompressor,
    checker: FrameChecker,
    writer: Option<PackWriter>,
    open: Open,
    sealed: Vec<SealedPack>,
    entries: Vec<Entry>,
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
            session,
            monitor,
            is_over,
            compressor: Compressor::new(LEVEL)?,
            decompressor: Decompressor::default(),
            checker: FrameChecker::default(),
            writer: None,
            open: Open::default(),
            sealed: Vec::new(),
            entries: Vec::new(),
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
        self.close_frame(kind)?;
        self.close_pack()?;
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
        self.close_frame(kind)?;
        let built = BuiltFrame {
            stored,
            plain: of.frame.plain,
            raw_length: usize::try_from(of.frame.raw).unwrap_or(usize::MAX),
            tag: of.frame.tag,
            chunks: chunks.iter().map(|c| (c.id, c.length)).collect(),
        };
        self.append(&built, kind)?;
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
        if self.open.bytes.len() + range.len() > MAX_FRAME {
            self.close_frame(kind)?;
        }
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
        self.open.bytes.extend_from_slice(bytes);
        self.open.ends.push(self.open.bytes.len());
        self.open.chunks.push((chunk.id, chunk.length));
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

    fn close_frame(&mut self, kind: PackKind) -> Result<()> {
        let open = std::mem::take(&mut self.open);
        if open.chunks.is_empty() {
            return Ok(());
        }
        let mut start = 0;
        let mut parts = Vec::new();
        for end in &open.ends {
            parts.push(open.bytes.get(start..*end).unwrap_or_default());
            start = *end;
        }
        let keys = self.store.keys();
        let length = open.bytes.len();
        let built = build_frame(keys, &mut self.compressor, &parts, open.chunks, length)?;
        self.append(&built, kind)
    }

    fn append(&mut self, built: &BuiltFrame, kind: PackKind) -> Result<()> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => PackWriter::create(
                &**self.store.folder(),
                &self.session.scratch(),
                self.store.header(),
                kind,
            )?,
        };
        let placed = writer.append(built)?;
        let frame = TocFrame {
            offset: placed.offset,
            stored: u32::try_from(built.stored.len()).unwrap_or(u32::MAX),
            plain: built.plain,
            raw: u32::try_from(built.raw_length).unwrap_or(u32::MAX),
            chunks: u32::try_from(built.chunks.len()).unwrap_or(u32::MAX),
            tag: built.tag,
        };
        let chunks = built.chunks.iter();
        let chunks: Vec<TocChunk> = chunks
            .map(|(id, length)| TocChunk {
                id: *id,
                length: *length,
            })
            .collect();
        let number = u32::try_from(self.sealed.len()).unwrap_or(u32::MAX);
        let placed = places(placed.pack, placed.offset, &frame, &chunks);
        self.entries
            .extend(placed.map(|(id, place)| Entry::new(id.prefix(), number, &place)));
        let full = writer.is_full();
        self.writer = Some(writer);
        if full { self.close_pack() } else { Ok(()) }
    }

    fn close_pack(&mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let sealed = writer.seal()?;
        let folder = &**self.store.folder();
        let store = self.store.header().store;
        let copy = PackReader::open_at(folder, store, sealed.id, &sealed.path)?;
        for (frame, chunks) in copy.frames() {
            let mut found = self
                .checker
                .check(self.store.keys(), &copy, frame, chunks)?;
            if !found.is_clean() {
                // A read that fails is told as that; what is wrong twice is wrong.
                copy.stored(self.store.keys(), frame, &mut Vec::new())?;
                found = self
                    .checker
                    .check(self.store.keys(), &copy, frame, chunks)?;
            }
            if !found.is_clean() {
                return Err(
                    Error::damaged("a pack is not what was just written into it")
                        .at_path(folder.describe(&sealed.path))
                        .advise("check the disk of the store"),
                );
            }
        }
        self.done.written = self.done.written.saturating_add(sealed.length);
        self.sealed.push(sealed);
        if self.sealed.len() >= TOGETHER {
            self.publish()?;
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<()> {
        let packs = std::mem::take(&mut self.sealed);
        let entries = std::mem::take(&mut self.entries);
        publish(self.store, self.session, &packs, entries)
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
