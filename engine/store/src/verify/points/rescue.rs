//! Whether what seems to be lost is lost: it is read as a restore reads it, and only what that does not give is.

use crate::hash::ChunkKind;
use crate::map::Leaf;
use crate::map::node::Node;
use crate::read::{ChunkReader, Wanted};
use crate::recent::Recent;
use crate::store::Store;
use crate::tree::Tree;
use crate::verify::packs::BadChunks;
use crate::verify::points::is_loss;
use cairn_base::{ChunkId, Error, Kind, PackId, Result};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What was found out of so many chunks is remembered, so that each is asked for once.
const REMEMBERED: usize = 1 << 18;

/// Why a chunk is lost.
type Why = Arc<str>;
/// A part of a map, or why it is lost; `None` if it could not be looked at.
type Part<T> = std::result::Result<T, Option<Why>>;

/// Asks for chunks; remembers those that were not to be had.
pub(super) struct Rescue<'a> {
    store: &'a Arc<Store>,
    reader: Arc<ChunkReader>,
    missing: &'a HashSet<PackId>,
    bad: &'a BadChunks,
    /// Chunks that are not lost.
    whole: Recent,
    /// Of the chunks without a good place, of this length: whether they could be read all the same.
    tried: HashMap<(ChunkId, u32), bool>,
    /// Nodes and leaves that are lost.
    lost_maps: HashMap<ChunkId, Why>,
    /// How often something could not be looked at, and why at first.
    unsure: Option<(u64, String)>,
}

impl<'a> Rescue<'a> {
    pub fn new(
        store: &'a Arc<Store>,
        reader: Arc<ChunkReader>,
        missing: &'a HashSet<PackId>,
        bad: &'a BadChunks,
    ) -> Rescue<'a> {
        Rescue {
            store,
            reader,
            missing,
            bad,
            whole: Recent::new(store.index().entries()),
            tried: HashMap::new(),
            lost_maps: HashMap::new(),
            unsure: None,
        }
    }

    /// What could not be looked at, in a sentence.
    pub fn unsure(&self) -> Option<String> {
        let (count, error) = self.unsure.as_ref()?;
        Some(format!(
            "{count} parts of disks could not be looked at for now, so whether they are lost is not known: {error}; run `cairn verify` again"
        ))
    }

    /// A node of a map, or why it is lost.
    pub fn node(&mut self, tree: &Tree, id: ChunkId, level: u8) -> Result<Part<Arc<Node>>> {
        if let Some(why) = self.lost_maps.get(&id) {
            return Ok(Err(Some(why.clone())));
        }
        self.map_part(id, tree.node(id, level))
    }

    /// The leaf of a region of `length` bytes, or why it is lost.
    pub fn leaf(&mut self, id: ChunkId, length: u64) -> Result<Part<Arc<Leaf>>> {
        if let Some(why) = self.lost_maps.get(&id) {
            return Ok(Err(Some(why.clone())));
        }
        let leaf = self.reader.leaf(id, length);
        self.map_part(id, leaf)
    }

    fn map_part<T>(&mut self, id: ChunkId, read: Result<T>) -> Result<Part<T>> {
        let error = match read {
            Ok(part) => return Ok(Ok(part)),
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => error,
        };
        if !is_loss(&error) {
            self.note_unsure(&error);
            return Ok(Err(None));
        }
        let why: Why = error.to_string().into();
        if self.lost_maps.len() < REMEMBERED {
            self.lost_maps.insert(id, why.clone());
        }
        Ok(Err(Some(why)))
    }

    /// Why a chunk of data is lost, and the pack it should lie in; `None` if it is not.
    pub fn lost(&mut self, chunk: ChunkId, length: u32) -> Result<Option<(Option<PackId>, Why)>> {
        if self.whole.has(&chunk, length) {
            return Ok(None);
        }
        let (places, mut why) = match self.store.index().places_to_read(&chunk) {
            Ok(places) => (places, "the chunk is not in the store".to_string()),
            Err(error) => (Vec::new(), error.to_string()),
        };
        let mut pack = None;
        for place in places {
            pack = Some(place.pack);
            if place.length != length {
                why = "the chunk has another length in the index".to_string();
            } else if self.missing.contains(&place.pack) {
                why = "the pack is missing or cut short".to_string();
            } else if self.bad.hits(&chunk, place.pack) {
                why = match self.bad.packs.get(&place.pack) {
                    Some(why) => why.clone(),
                    None => "the chunk's stored bytes are damaged".to_string(),
                };
            } else {
                self.whole.put(&chunk, length);
                return Ok(None);
            }
        }
        let readable = match self.tried.get(&(chunk, length)) {
            Some(readable) => *readable,
            None => self.try_to_read(chunk, length)?,
        };
        Ok((!readable).then(|| (pack, why.into())))
    }

    /// Reads a chunk as a restore does: from any place of it, from a newer state, through parity.
    fn try_to_read(&mut self, chunk: ChunkId, length: u32) -> Result<bool> {
        let wanted = Wanted {
            id: chunk,
            length: Some(length),
        };
        let readable = match self.reader.chunk_uncached(ChunkKind::Data, wanted) {
            Ok(_) => true,
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) if is_loss(&error) => false,
            Err(error) => {
                self.note_unsure(&error);
                return Ok(true);
            }
        };
        if self.tried.len() < REMEMBERED {
            self.tried.insert((chunk, length), readable);
        }
        Ok(readable)
    }

    fn note_unsure(&mut self, error: &Error) {
        let (count, _) = self.unsure.get_or_insert_with(|| (0, error.to_string()));
        *count = count.saturating_add(1);
    }
}
