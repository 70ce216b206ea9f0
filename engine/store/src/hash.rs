//! Ids and checksums: BLAKE3, keyed by what the bytes are, so that a guest cannot make data that passes for a map.

use cairn_base::{ChunkId, PointId};

/// What a chunk holds. Each kind has its own key, so equal bytes of two kinds have different ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkKind {
    /// Bytes of a disk.
    Data,
    /// A leaf of a map: one region.
    Leaf,
    /// A node of a map, level 1 (children are leaves) to [`MAX_LEVEL`].
    Node(u8),
}

/// Highest level of a map's node; the largest disk needs four.
pub const MAX_LEVEL: u8 = 5;

/// The keys of one store, all derived from the id key in its header.
#[derive(Clone)]
pub struct Keys {
    data: [u8; 32],
    leaf: [u8; 32],
    nodes: [[u8; 32]; 5],
    frame: [u8; 32],
    point: [u8; 32],
}

impl Keys {
    /// Derives all keys from the store's id key (BLAKE3 `derive_key`, one context string each).
    pub fn derive(id_key: &[u8; 32]) -> Keys {
        let node = |level: u8| {
            let mut material = [0u8; 33];
            let (key, last) = material.split_at_mut(32);
            key.copy_from_slice(id_key);
            last.fill(level);
            blake3::derive_key("cairn store v1 map node id", &material)
        };
        Keys {
            data: blake3::derive_key("cairn store v1 data chunk id", id_key),
            leaf: blake3::derive_key("cairn store v1 map leaf id", id_key),
            nodes: [node(1), node(2), node(3), node(4), node(5)],
            frame: blake3::derive_key("cairn store v1 frame tag", id_key),
            point: blake3::derive_key("cairn store v1 point id", id_key),
        }
    }

    /// The id of a chunk's plain bytes.
    pub fn chunk_id(&self, kind: ChunkKind, bytes: &[u8]) -> ChunkId {
        let key = match kind {
            ChunkKind::Data => &self.data,
            ChunkKind::Leaf => &self.leaf,
            ChunkKind::Node(level) => self
                .nodes
                .get(usize::from(level.saturating_sub(1)))
                .unwrap_or(&self.frame),
        };
        ChunkId(*blake3::keyed_hash(key, bytes).as_bytes())
    }

    /// The tag of a frame's stored bytes: 16 bytes, checked without decoding.
    pub fn frame_tag(&self, stored: &[u8]) -> [u8; 16] {
        first_half(blake3::keyed_hash(&self.frame, stored))
    }

    /// The id of a point's record.
    pub fn point_id(&self, record: &[u8]) -> PointId {
        PointId(*blake3::keyed_hash(&self.point, record).as_bytes())
    }
}

/// The checksum in our structures: the first 16 bytes of BLAKE3.
pub fn checksum(bytes: &[u8]) -> [u8; 16] {
    first_half(blake3::hash(bytes))
}

fn first_half(hash: blake3::Hash) -> [u8; 16] {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_own_ids() {
        let keys = Keys::derive(&[7; 32]);
        let other = Keys::derive(&[8; 32]);
        let kinds = [
            ChunkKind::Data,
            ChunkKind::Leaf,
            ChunkKind::Node(1),
            ChunkKind::Node(2),
            ChunkKind::Node(MAX_LEVEL),
        ];
        let mut ids: Vec<_> = kinds.iter().map(|k| keys.chunk_id(*k, b"same")).collect();
        ids.extend(kinds.iter().map(|k| other.chunk_id(*k, b"same")));
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
