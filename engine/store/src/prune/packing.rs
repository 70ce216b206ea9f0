//! Writing new packs: chunks one after the other become frames, frames packs. Each is read back before it is published.

use crate::backup::region::build_frame;
use crate::contents::places;
use crate::frame::{BuiltFrame, Compressor, MAX_FRAME};
use crate::index::Entry;
use crate::pack::{FrameChecker, PackKind, PackReader, PackWriter, SealedPack, TocChunk, TocFrame};
use crate::publish::{merge_many, publish};
use crate::session::Session;
use crate::store::Store;
use cairn_base::{ChunkId, Error, Result};

/// Packs that are published together: what an interruption loses at most.
const TOGETHER: usize = 8;
/// zstd level of new frames: that of a backup.
const LEVEL: i32 = 3;

/// Chunks that become one frame.
#[derive(Default)]
struct Open {
    bytes: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
    ends: Vec<usize>,
}

/// Packs in the making, those of one kind at a time.
pub struct Packing<'a> {
    store: &'a Store,
    session: &'a Session,
    compressor: Compressor,
    checker: FrameChecker,
    writer: Option<PackWriter>,
    open: Open,
    sealed: Vec<SealedPack>,
    entries: Vec<Entry>,
    written: u64,
}

impl<'a> Packing<'a> {
    /// None yet; they are written in the session's folder.
    ///
    /// # Errors
    /// If there is no memory for compressing.
    pub fn new(store: &'a Store, session: &'a Session) -> Result<Packing<'a>> {
        Ok(Packing {
            store,
            session,
            compressor: Compressor::new(LEVEL)?,
            checker: FrameChecker::default(),
            writer: None,
            open: Open::default(),
            sealed: Vec::new(),
            entries: Vec::new(),
            written: 0,
        })
    }

    /// Adds a chunk to the frame that is being filled. Its bytes were authenticated.
    ///
    /// # Errors
    /// As the folder reports; then the whole work must be given up.
    pub fn chunk(&mut self, id: ChunkId, bytes: &[u8], kind: PackKind) -> Result<()> {
        if self.open.bytes.len() + bytes.len() > MAX_FRAME {
            self.close_frame(kind)?;
        }
        self.open.bytes.extend_from_slice(bytes);
        self.open.ends.push(self.open.bytes.len());
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.open.chunks.push((id, length));
        Ok(())
    }

    /// Adds a frame as it lay elsewhere.
    ///
    /// # Errors
    /// As [`chunk`](Packing::chunk).
    pub fn frame(&mut self, built: &BuiltFrame, kind: PackKind) -> Result<()> {
        self.close_frame(kind)?;
        self.append(built, kind)
    }

    /// Ends the packs of a kind.
    ///
    /// # Errors
    /// As [`chunk`](Packing::chunk).
    pub fn close(&mut self, kind: PackKind) -> Result<()> {
        self.close_frame(kind)?;
        self.close_pack()
    }

    /// Publishes what is not public yet. Answers the bytes of all new packs.
    ///
    /// # Errors
    /// As [`chunk`](Packing::chunk).
    pub fn finish(mut self) -> Result<u64> {
        self.publish()?;
        Ok(self.written)
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
        self.written = self.written.saturating_add(sealed.length);
        self.sealed.push(sealed);
        if self.sealed.len() >= TOGETHER {
            self.publish()?;
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<()> {
        let packs = std::mem::take(&mut self.sealed);
        let entries = std::mem::take(&mut self.entries);
        publish(self.store, self.session, &packs, entries)?;
        // Nobody else can: a prune holds the merge lock, and publishes for hours where much is copied.
        merge_many(self.store, self.session)
    }
}
