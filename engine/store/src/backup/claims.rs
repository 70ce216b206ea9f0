//! The chunks of this session that no published segment holds yet: who claims one first, stores it.

use cairn_base::ChunkId;
use parking_lot::Mutex;
use std::collections::HashSet;

const SHARDS: usize = 64;

/// Prefixes of the ids claimed, in shards, so that workers seldom meet.
pub struct Claims {
    shards: Vec<Mutex<HashSet<[u8; 16]>>>,
}

impl Default for Claims {
    fn default() -> Claims {
        Claims {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Claims {
    fn shard(&self, prefix: &[u8; 16]) -> Option<&Mutex<HashSet<[u8; 16]>>> {
        // Ids are uniform, so any byte will do; the last one is not what segments sort by.
        let [.., last] = *prefix;
        self.shards.get(usize::from(last) % SHARDS)
    }

    /// Claims a chunk; `false` if somebody has already.
    pub fn claim(&self, id: &ChunkId) -> bool {
        let prefix = id.prefix();
        self.shard(&prefix)
            .is_some_and(|shard| shard.lock().insert(prefix))
    }

    /// Whether the chunk is claimed.
    pub fn holds(&self, id: &ChunkId) -> bool {
        let prefix = id.prefix();
        self.shard(&prefix)
            .is_some_and(|shard| shard.lock().contains(&prefix))
    }

    /// Forgets a chunk that a published segment holds now.
    pub fn release(&self, prefix: &[u8; 16]) {
        if let Some(shard) = self.shard(prefix) {
            shard.lock().remove(prefix);
        }
    }
}
