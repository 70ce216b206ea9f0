//! Reading chunks: place, stored bytes, plain bytes, and the check against the id before anything is given out.

mod frames;
mod healed;
mod kept;

use crate::cache::Cache;
use crate::frame::Decompressor;
use crate::hash::ChunkKind;
use crate::index::Place;
use crate::layout;
use crate::map::Leaf;
use crate::map::node::Node;
use crate::mistake::{self, Mistake};
use crate::store::Store;
use cairn_base::units::to_u64;
use cairn_base::{ChunkId, Error, Kind, PackId, ReadAt, Result};
use frames::MapFrames;
use healed::HealedPacks;
use kept::Buffers;
use parking_lot::Mutex;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// What an entry of a cache costs besides its bytes, about.
const OVERHEAD: usize = 128;
/// Open pack files kept at most.
const OPEN_PACKS: usize = 256;

/// How often a chunk that cannot be read is looked for again in a newer state.
const ATTEMPTS: usize = 5;

/// Decoded nodes and leaves of maps that are kept, in bytes.
const MAP_CACHE: usize = 16 << 20;

/// The plain bytes of a chunk, authenticated: a part of a decoded frame that others share.
#[derive(Clone)]
pub struct Plain {
    frame: Arc<Vec<u8>>,
    within: Range<usize>,
}

impl Deref for Plain {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.frame.get(self.within.clone()).unwrap_or_default()
    }
}

impl Plain {
    /// What is used again and is a small part of its frame gets memory of its own, so that it does not keep the rest alive.
    fn renew(plain: Arc<Plain>) -> (Arc<Plain>, usize) {
        let weight = plain.len() + OVERHEAD;
        if plain.len() * 2 < plain.frame.len() {
            (Arc::new(plain.to_vec().into()), weight)
        } else {
            (plain, weight)
        }
    }
}

impl From<Vec<u8>> for Plain {
    fn from(bytes: Vec<u8>) -> Plain {
        Plain {
            within: 0..bytes.len(),
            frame: Arc::new(bytes),
        }
    }
}

/// A chunk that is wanted: what it is, its id, and the length the map names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its id.
    pub id: ChunkId,
    /// Its length in bytes; maps do not tell that of their own chunks.
    pub length: Option<u32>,
}

/// Reads chunks of one store for many threads.
pub struct ChunkReader {
    store: Arc<Store>,
    packs: Cache<PackId, Arc<dyn ReadAt>>,
    healed: HealedPacks,
    chunks: Cache<ChunkId, Plain>,
    frames: MapFrames,
    nodes: Cache<ChunkId, Node>,
    leaves: Cache<ChunkId, Leaf>,
    tools: Mutex<Vec<Tools>>,
    buffers: Buffers,
}

/// What one thread decodes with; kept, because both are costly to make.
#[derive(Default)]
struct Tools {
    decompressor: Decompressor,
    stored: Vec<u8>,
}

/// Says what is lost with a chunk, unless it only cannot be read now.
fn lost(error: Error, what: &'static str) -> Error {
    let now = "a part of a disk's map cannot be read now";
    let what = if error.is_momentary() { now } else { what };
    error.context(what)
}

/// Where a frame begins in its pack, if the pack has all of it.
fn offset_in(file: &dyn ReadAt, place: &Place) -> Result<u64> {
    let offset = u64::from(place.offset);
    if offset.saturating_add(u64::from(place.stored)) > file.size() {
        return Err(Error::damaged("a pack is shorter than its index says"));
    }
    Ok(offset)
}

/// Where a chunk was looked for in vain.
#[derive(Default)]
struct Bad {
    /// Packs whose bytes are not the chunk's, or cannot be read.
    packs: Vec<PackId>,
    /// Whether a failure says nothing of the bytes.
    momentary: bool,
}

impl ChunkReader {
    /// A reader whose cache of plain chunks holds `cache_bytes`.
    pub fn new(store: Arc<Store>, cache_bytes: usize) -> ChunkReader {
        ChunkReader {
            store,
            packs: Cache::new(OPEN_PACKS),
            healed: HealedPacks::default(),
            chunks: Cache::new(cache_bytes),
            frames: MapFrames::default(),
            nodes: Cache::new(MAP_CACHE / 2),
            leaves: Cache::new(MAP_CACHE / 2),
            tools: Mutex::new(Vec::new()),
            buffers: Buffers::default(),
        }
    }

    /// The store it reads.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// A chunk that was read before, from the cache.
    pub fn cached(&self, id: &ChunkId) -> Option<Plain> {
        let plain = self.chunks.get(id, Plain::renew)?;
        Some((*plain).clone())
    }

    /// One chunk, from the cache or the store, authenticated.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if no place of it gives bytes that hash to its id.
    pub fn chunk(&self, kind: ChunkKind, wanted: Wanted) -> Result<Plain> {
        if let Some(bytes) = self.cached(&wanted.id)
            && wanted
                .length
                .is_none_or(|length| bytes.len() == usize::try_from(length).unwrap_or(usize::MAX))
        {
            return Ok(bytes);
        }
        let plain = Plain::from(self.chunk_uncached(kind, wanted)?);
        let weight = plain.len() + OVERHEAD;
        self.chunks
            .insert(wanted.id, Arc::new(plain.clone()), weight);
        Ok(plain)
    }

    /// A node of a map.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it cannot be read.
    pub fn node(&self, id: ChunkId, level: u8) -> Result<Arc<Node>> {
        if let Some(node) = self.nodes.get(&id, |node| {
            let weight = node.weight();
            (node, weight)
        }) {
            return Ok(node);
        }
        let wanted = Wanted { id, length: None };
        let bytes = self
            .chunk_uncached(ChunkKind::Node(level), wanted)
            .map_err(|e| lost(e, "a node of a disk's map is lost"))?;
        let node = Arc::new(Node::decode(&bytes).map_err(|e| e.with_id(id))?);
        self.nodes.insert(id, node.clone(), node.weight());
        Ok(node)
    }

    /// The leaf of a region of `length` bytes.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it cannot be read, or is not the leaf of such a region.
    pub fn leaf(&self, id: ChunkId, length: u64) -> Result<Arc<Leaf>> {
        if let Some(leaf) = self.leaves.get(&id, |leaf| {
            let weight = leaf.weight();
            (leaf, weight)
        }) && leaf.length() == length
        {
            return Ok(leaf);
        }
        let wanted = Wanted { id, length: None };
        let bytes = self
            .chunk_uncached(ChunkKind::Leaf, wanted)
            .map_err(|e| lost(e, "a leaf of a disk's map is lost"))?;
        let leaf = Arc::new(Leaf::decode(&bytes, length).map_err(|e| e.with_id(id))?);
        self.leaves.insert(id, leaf.clone(), leaf.weight());
        Ok(leaf)
    }

    /// One chunk from the store, authenticated; every place is tried, the state read again, and then parity, before it is called lost.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if no place of it gives bytes that hash to its id.
    pub fn chunk_uncached(&self, kind: ChunkKind, wanted: Wanted) -> Result<Vec<u8>> {
        let mut generation = self.store.generation();
        let mut failed = Bad::default();
        let mut read = self.try_places(kind, wanted, &mut failed);
        let mut unsure = None;
        // What we know may be outdated: a merge of packs may have moved it. Another thread may have read the newer state
        // already, and meanwhile there may be a still newer one.
        for _ in 0..ATTEMPTS {
            if read.is_ok() {
                break;
            }
            match self.store.refresh_since(generation) {
                Ok(true) => {}
                // If the state cannot be read just now, there is nothing newer to go by, and parity may help all the same.
                failed => {
                    unsure = failed.err().filter(Error::is_momentary);
                    break;
                }
            }
            generation = self.store.generation();
            read = self.try_places(kind, wanted, &mut failed);
        }
        // A pack that was replaced meanwhile is no damage, nor is a failure that passes.
        let live = |pack: &PackId| self.store.is_still_live(*pack).unwrap_or(false);
        failed.packs.retain(live);
        let certain = !failed.momentary && unsure.is_none();
        let lost = matches!(&read, Err(error) if !error.is_momentary()) && certain;
        if lost || !failed.packs.is_empty() {
            self.store.note_damaged(&wanted.id, &failed.packs);
        }
        // Listed all the same: what is stored anew needs no parity.
        let error = match read {
            Ok(bytes) => return Ok(bytes),
            Err(error) => match self.heal(kind, wanted) {
                Ok(Some(bytes)) => return Ok(bytes),
                // What says nothing of the bytes goes before what says that they are lost.
                _ if error.is_momentary() => error,
                Ok(None) => unsure.unwrap_or(error),
                Err(passing) => passing,
            },
        };
        // Whatever went wrong below: it is this chunk that is not to be had.
        Err(error.with_id(wanted.id))
    }

    /// Tries all places, those that are known to be damaged last. Packs whose bytes are not the chunk's are added to `bad`.
    fn try_places(&self, kind: ChunkKind, wanted: Wanted, bad: &mut Bad) -> Result<Vec<u8>> {
        let id = wanted.id;
        let (mut places, mut failed) = self.store.index().readable_places(&id);
        bad.momentary = failed.as_ref().is_some_and(Error::is_momentary);
        places.sort_by_key(|place| self.store.is_bad(&id, place));
        for place in places {
            if wanted.length.is_some_and(|length| length != place.length) {
                continue;
            }
            let read = self.pack(place.pack).and_then(|file| match kind {
                ChunkKind::Data => self.read_place(&*file, kind, id, &place),
                ChunkKind::Leaf | ChunkKind::Node(_) => {
                    self.read_map_place(&*file, kind, id, &place)
                }
            });
            match read {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    if error.is_momentary() {
                        bad.momentary = true;
                    } else if !bad.packs.contains(&place.pack) {
                        bad.packs.push(place.pack);
                    }
                    failed = failed.filter(Error::is_momentary).or(Some(error));
                }
            }
        }
        Err(match failed {
            Some(error) => error.with_id(id),
            None => Error::damaged("a chunk is not in the store").with_id(id),
        })
    }

    /// A chunk from a place in `file`, authenticated.
    fn read_place(
        &self,
        file: &dyn ReadAt,
        kind: ChunkKind,
        id: ChunkId,
        place: &Place,
    ) -> Result<Vec<u8>> {
        let bytes = self.bytes_at(file, id, place)?;
        self.authenticate(kind, id, place, &bytes)?;
        Ok(bytes)
    }

    /// What lies at a place in `file`, whatever it is.
    fn bytes_at(&self, file: &dyn ReadAt, id: ChunkId, place: &Place) -> Result<Vec<u8>> {
        let end = place.at.saturating_add(place.length);
        let mut plain = Vec::new();
        if place.plain && end <= place.stored {
            // Nothing before it is needed.
            let own = Place {
                offset: place.offset.saturating_add(place.at),
                stored: place.length,
                at: 0,
                ..*place
            };
            let read = self.read_frame(file, &own, place.length, &mut plain);
            return read.map(|()| plain).map_err(|e| self.at_place(place, e));
        }
        let read = self.read_frame(file, place, end, &mut plain);
        read.map_err(|e| self.at_place(place, e))?;
        let start = usize::try_from(place.at).unwrap_or(usize::MAX);
        if start > plain.len() {
            return Err(self.damaged(place, id, "a frame is shorter than its index says"));
        }
        Ok(plain.split_off(start))
    }

    /// Whether `bytes`, read from `place`, are the chunk `id`.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if not.
    pub fn authenticate(
        &self,
        kind: ChunkKind,
        id: ChunkId,
        place: &Place,
        bytes: &[u8],
    ) -> Result<()> {
        if self.store.keys().chunk_id(kind, bytes) == id
            || mistake::is_made(Mistake::ChunksUnchecked)
        {
            Ok(())
        } else {
            Err(self.damaged(place, id, "a chunk's bytes do not match its id"))
        }
    }

    fn damaged(&self, place: &Place, id: ChunkId, what: &'static str) -> Error {
        let path = self.store.folder().describe(&layout::pack(place.pack));
        Error::damaged(what)
            .at_path(path)
            .at_offset(u64::from(place.offset))
            .with_id(id)
            .advise("run `cairn verify` to learn what else is concerned")
    }

    /// The first `end` plain bytes of the frame at `place`, not authenticated.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if the frame cannot be read or decoded.
    pub fn frame(&self, place: &Place, end: u32, plain: &mut Vec<u8>) -> Result<()> {
        let file = self.pack(place.pack);
        let result = file.and_then(|file| self.read_frame(&*file, place, end, plain));
        result.map_err(|e| self.at_place(place, e))
    }

    /// As [`frame`](ChunkReader::frame), into `plain`: as many bytes as it is long.
    ///
    /// # Errors
    /// As [`frame`](ChunkReader::frame).
    pub fn frame_into(&self, place: &Place, plain: &mut [u8]) -> Result<()> {
        let read = self.pack(place.pack).and_then(|file| {
            if place.plain {
                let offset = offset_in(&*file, place)?;
                if to_u64(plain.len()) > u64::from(place.stored) {
                    return Err(Error::damaged("a frame is shorter than its index says"));
                }
                return file.read_exact_at(offset, plain);
            }
            self.unpack(&*file, place, &mut |decompressor, stored| {
                decompressor.decompress_into(stored, plain)
            })
        });
        read.map_err(|e| self.at_place(place, e))
    }

    fn at_place(&self, place: &Place, error: Error) -> Error {
        let path = self.store.folder().describe(&layout::pack(place.pack));
        error.at_path(path).at_offset(u64::from(place.offset))
    }

    fn read_frame(
        &self,
        file: &dyn ReadAt,
        place: &Place,
        end: u32,
        plain: &mut Vec<u8>,
    ) -> Result<()> {
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        if place.plain {
            let offset = offset_in(file, place)?;
            plain.resize(size(end.min(place.stored)), 0);
            return file.read_exact_at(offset, plain);
        }
        self.unpack(file, place, &mut |decompressor, stored| {
            decompressor.decompress(stored, size(end), plain)
        })
    }

    /// All plain bytes of a compressed frame, not authenticated.
    fn read_whole_frame(
        &self,
        file: &dyn ReadAt,
        place: &Place,
        plain: &mut Vec<u8>,
    ) -> Result<()> {
        self.unpack(file, place, &mut |decompressor, stored| {
            decompressor.decompress_all(stored, plain)
        })
    }

    /// Reads a compressed frame, and hands its stored bytes on to be decoded.
    fn unpack(
        &self,
        file: &dyn ReadAt,
        place: &Place,
        how: &mut dyn FnMut(&mut Decompressor, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let offset = offset_in(file, place)?;
        let mut tools = self.tools.lock().pop().unwrap_or_default();
        let length = usize::try_from(place.stored).unwrap_or(usize::MAX);
        // It only ever grows, because what is added is cleared first.
        if tools.stored.len() < length {
            tools.stored.resize(length, 0);
        }
        let result = match tools.stored.get_mut(..length) {
            Some(stored) => file
                .read_exact_at(offset, stored)
                .and_then(|()| how(&mut tools.decompressor, stored)),
            None => Err(Error::damaged("a frame is longer than memory")),
        };
        self.tools.lock().push(tools);
        result
    }

    /// The file of a pack, open.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it is missing.
    pub fn pack(&self, id: PackId) -> Result<Arc<dyn ReadAt>> {
        if let Some(file) = self.packs.get(&id, |file| (file, 1)) {
            return Ok((*file).clone());
        }
        let file = self.store.folder().open(&layout::pack(id)).map_err(|e| {
            if e.kind() == Kind::NotFound {
                Error::damaged("a pack of the store is missing")
                    .with_id(id)
                    .caused_by(e)
            } else {
                e
            }
        })?;
        self.packs.insert(id, Arc::new(file.clone()), 1);
        Ok(file)
    }
}
