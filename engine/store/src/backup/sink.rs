//! Where new frames and map chunks go: packs of this session, and the index entries for them.

use crate::backup::region::{build_frame, must_store};
use crate::backup::run::BackupOptions;
use crate::backup::seal::Sealer;
use crate::claims::Writer;
use crate::frame::{BuiltFrame, Compressor, MAX_FRAME};
use crate::hash::ChunkKind;
use crate::index::{Entry, Place};
use crate::pack::write::TARGET;
use crate::pack::{PackKind, PackWriter, SealedPack};
use crate::publish::{merge_segments, publish};
use crate::session::Session;
use crate::store::Store;
use cairn_base::units::to_u64;
use cairn_base::{ChunkId, Kind, Result};
use std::collections::HashMap;

/// Entries that are merged at most while a backup is under way: about a second's work. The rest waits until its point is published.
const MERGED: u64 = 1 << 22;

/// Length at which packs are sealed while other processes wait for what is in them: not so short that they would be merged afterwards.
const SHARED_PACK: u64 = TARGET / 2;
/// Segments that may be there before those that were shared early are merged.
const SHARED_SEGMENTS: usize = 10;

struct OpenPack {
    number: usize,
    writer: PackWriter,
}

/// Takes what is new, in disk order.
pub struct Sink<'a, 'scope> {
    store: &'a Store,
    session: &'a Session,
    writer: &'a Writer,
    sealer: Sealer<'scope>,
    compressor: Compressor,
    data: Option<OpenPack>,
    map: Option<OpenPack>,
    waiting: Vec<(ChunkId, Vec<u8>)>,
    waiting_bytes: usize,
    /// Number of the next pack.
    packs: usize,
    entries: Vec<Entry>,
    checkpoint: usize,
    /// Length at which a pack is sealed.
    full: u64,
    /// Tasks that were written completely.
    pub taken: u64,
    /// Bytes that went into packs and segments.
    pub stored: u64,
    /// Chunks written.
    pub chunks: u64,
    /// What went wrong without harm.
    pub warnings: Vec<String>,
}

impl<'a, 'scope> Sink<'a, 'scope> {
    /// A sink for one session.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for a level zstd does not take.
    pub fn new(
        store: &'a Store,
        session: &'a Session,
        writer: &'a Writer,
        sealer: Sealer<'scope>,
        options: &BackupOptions,
    ) -> Result<Sink<'a, 'scope>> {
        Ok(Sink {
            store,
            session,
            writer,
            sealer,
            compressor: Compressor::new(options.level.first())?,
            data: None,
            map: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
            packs: 0,
            entries: Vec::new(),
            checkpoint: options.checkpoint,
            full: TARGET,
            taken: 0,
            stored: 0,
            chunks: 0,
            warnings: Vec::new(),
        })
    }

    /// Writes a frame of data.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn data_frame(&mut self, frame: &BuiltFrame) -> Result<()> {
        self.write(PackKind::Data, frame)
    }

    /// Takes a chunk of a map that must be stored.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn map_chunk(&mut self, id: ChunkId, bytes: Vec<u8>) -> Result<()> {
        if self.waiting_bytes + bytes.len() > MAX_FRAME {
            self.flush_map()?;
        }
        self.waiting_bytes += bytes.len();
        self.waiting.push((id, bytes));
        Ok(())
    }

    /// Takes a node of a map, which is stored unless it is already.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn node(&mut self, _kind: ChunkKind, id: ChunkId, bytes: Vec<u8>) -> Result<()> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if must_store(self.store, self.writer, &id, length) {
            self.map_chunk(id, bytes)
        } else {
            Ok(())
        }
    }

    fn flush_map(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        let raw_length = std::mem::take(&mut self.waiting_bytes);
        let parts: Vec<&[u8]> = waiting.iter().map(|(_, bytes)| &bytes[..]).collect();
        let chunks = waiting
            .iter()
            .map(|(id, bytes)| (*id, u32::try_from(bytes.len()).unwrap_or(u32::MAX)))
            .collect();
        let keys = self.store.keys();
        let frame = build_frame(keys, &mut self.compressor, &parts, chunks, raw_length)?;
        self.write(PackKind::Map, &frame)
    }

    fn write(&mut self, kind: PackKind, frame: &BuiltFrame) -> Result<()> {
        let slot = match kind {
            PackKind::Data => &mut self.data,
            PackKind::Map => &mut self.map,
        };
        let mut pack = match slot.take() {
            Some(pack) => pack,
            None => {
                let writer = PackWriter::create(
                    &**self.store.folder(),
                    &self.session.scratch(),
                    self.store.header(),
                    kind,
                )?;
                let number = self.packs;
                self.packs += 1;
                OpenPack { number, writer }
            }
        };
        let placed = pack.writer.append(frame)?;
        let number = u32::try_from(pack.number).unwrap_or(u32::MAX);
        let mut at = 0u32;
        for (id, length) in &frame.chunks {
            let place = Place {
                pack: placed.pack,
                offset: placed.offset,
                stored: u32::try_from(frame.stored.len()).unwrap_or(u32::MAX),
                plain: frame.plain,
                at,
                length: *length,
            };
            self.entries.push(Entry::new(id.prefix(), number, &place));
            at = at.saturating_add(*length);
        }
        self.stored += to_u64(frame.stored.len());
        self.chunks += to_u64(frame.chunks.len());
        if pack.writer.holds(self.full) {
            self.sealer.seal(pack.number, pack.writer)?;
        } else {
            match kind {
                PackKind::Data => self.data = Some(pack),
                PackKind::Map => self.map = Some(pack),
            }
        }
        if self.entries.len() >= self.writer.share(self.checkpoint) {
            self.publish()?;
        }
        Ok(())
    }

    /// Seals everything and makes it public under one segment.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn publish(&mut self) -> Result<()> {
        // What waits for its frame goes along. It is taken first, so that a publication within ends.
        self.flush_map()?;
        for pack in [self.data.take(), self.map.take()].into_iter().flatten() {
            self.sealer.seal(pack.number, pack.writer)?;
        }
        let packs = self.sealer.wait()?;
        if packs.is_empty() {
            self.writer.published(self.taken);
            return Ok(());
        }
        self.publish_packs(packs)?;
        self.writer.published(self.taken);
        // Somebody waits for what comes next: merging can wait.
        if self.writer.is_wanted(u64::MAX) {
            return Ok(());
        }
        self.merge_segments()
    }

    /// Makes public what is sealed already, for other processes that may be about to store the same.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn share(&mut self) -> Result<()> {
        self.full = SHARED_PACK;
        let packs = self.sealer.ready()?;
        if packs.is_empty() {
            return Ok(());
        }
        self.publish_packs(packs)?;
        if self.store.index().segments().len() > SHARED_SEGMENTS {
            self.merge_segments()?;
        }
        Ok(())
    }

    /// Makes these packs public, with the entries that name them.
    fn publish_packs(&mut self, mut packs: Vec<(usize, SealedPack)>) -> Result<()> {
        packs.sort_by_key(|(number, _)| *number);
        let low = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let numbers: HashMap<u32, u32> = packs
            .iter()
            .enumerate()
            .map(|(new, (old, _))| (low(*old), low(new)))
            .collect();
        let packs: Vec<SealedPack> = packs.into_iter().map(|(_, pack)| pack).collect();
        let mut entries = Vec::new();
        self.entries.retain(|entry| {
            let number = numbers.get(&entry.pack_number());
            entries.extend(number.map(|number| entry.with_pack(*number)));
            number.is_none()
        });
        self.stored += to_u64(entries.len()) * 33;
        let prefixes: Vec<[u8; 16]> = entries.iter().map(|entry| entry.prefix).collect();
        publish(self.store, self.session, &packs, entries)?;
        for prefix in &prefixes {
            self.writer.release(prefix);
        }
        Ok(())
    }

    fn merge_segments(&mut self) -> Result<()> {
        // What is public is safe whether or not segments can be merged.
        match merge_segments(self.store, self.session, MERGED) {
            Err(error) if error.kind() == Kind::Interrupted => Err(error),
            Err(error) => {
                self.warnings
                    .push(format!("index segments could not be merged: {error}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}
