//! Chunks of which something was found out a short time ago, so that it need not be asked of the index again.
//!
//! Points of a machine are much the same: whoever walks them one after the other meets nearly every chunk of a changed leaf, and nearly every leaf of a changed
//! node, again. To find that in memory costs a twentieth of a look-up. What is forgotten is only looked up once more.

use cairn_base::ChunkId;
use cairn_base::units::to_u64;
use parking_lot::Mutex;

/// Most chunks that are remembered, at 20 bytes each.
const MOST: u64 = 1 << 20;
/// Parts that are locked one by one.
const SHARDS: u64 = 256;

/// A prefix of an id, and a length.
type Slot = ([u8; 16], u32);
/// No chunk is so long.
const EMPTY: Slot = ([0; 16], u32::MAX);

/// A bounded memory of chunks: each has one place, which the last one that belongs there takes.
pub struct Recent {
    shards: Vec<Mutex<Vec<Slot>>>,
}

impl Recent {
    /// For a walk that may meet so many chunks.
    pub fn new(chunks: u64) -> Recent {
        let each = chunks.clamp(SHARDS, MOST).div_ceil(SHARDS);
        let each = usize::try_from(each).unwrap_or(1);
        Recent {
            shards: (0..SHARDS).map(|_| Mutex::new(vec![EMPTY; each])).collect(),
        }
    }

    fn place(&self, id: &ChunkId) -> Option<(&Mutex<Vec<Slot>>, u64)> {
        // Not the part by which the index is sorted, so that any store fills all of it.
        let [.., shard, a, b, c, d] = id.prefix();
        let key = u64::from(u32::from_le_bytes([a, b, c, d]));
        Some((self.shards.get(usize::from(shard))?, key))
    }

    /// Whether this chunk, of this length, was put in and is remembered.
    pub fn has(&self, id: &ChunkId, length: u32) -> bool {
        let Some((shard, key)) = self.place(id) else {
            return false;
        };
        let shard = shard.lock();
        let slot = slot(&shard, key).and_then(|at| shard.get(at));
        slot == Some(&(id.prefix(), length))
    }

    /// Remembers a chunk. `length` is that of a chunk of data, 0 for one of a map.
    pub fn put(&self, id: &ChunkId, length: u32) {
        let Some((shard, key)) = self.place(id) else {
            return;
        };
        let mut shard = shard.lock();
        if let Some(slot) = slot(&shard, key).and_then(|at| shard.get_mut(at)) {
            *slot = (id.prefix(), length);
        }
    }
}

fn slot(shard: &[Slot], key: u64) -> Option<usize> {
    let at = key.checked_rem(to_u64(shard.len()))?;
    usize::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ChunkId {
        ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    #[test]
    fn remembers_what_was_put_in_and_nothing_else() {
        for chunks in [0, 1000, 1 << 16] {
            let recent = Recent::new(chunks);
            let mut known = 0;
            for number in 0..1000 {
                assert!(!recent.has(&id(number), 5) && !recent.has(&ChunkId::NULL, 5));
                recent.put(&id(number), 5);
                assert!(recent.has(&id(number), 5) && !recent.has(&id(number), 6));
            }
            for number in 0..2000 {
                let has = recent.has(&id(number), 5);
                assert!(number < 1000 || !has);
                known += usize::from(has);
            }
            // Those that share a place push each other out.
            let least = [100, 500, 950][usize::from(chunks >= 1000) + usize::from(chunks > 1000)];
            assert!(known >= least, "{known} of {chunks}");
        }
        assert!(!Recent::new(0).has(&ChunkId::NULL, 0));
    }

    #[test]
    fn its_memory_is_bounded() {
        let slots = |chunks| -> usize {
            let recent = Recent::new(chunks);
            recent.shards.iter().map(|shard| shard.lock().len()).sum()
        };
        assert_eq!((slots(0), slots(u64::MAX)), (256, 1 << 20));
        assert_eq!(size_of::<Slot>(), 20);
    }
}
