//! A node: up to 256 ids of children, in disk order.
//!
//! Bytes: 32 per child; the null id for a child that is all hole; null ids at the end are left off, so that a disk that
//! grows by holes keeps its nodes.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::map::shape::FANOUT;
use cairn_base::{ChunkId, Error, Result};

/// The children of a node, null ids at the end left off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    children: Vec<ChunkId>,
}

impl Node {
    /// A node of these children, at most 256.
    pub fn new(mut children: Vec<ChunkId>) -> Node {
        while children.last().is_some_and(ChunkId::is_null) {
            children.pop();
        }
        Node { children }
    }

    /// Child number `index`; the null id beyond the last that is not a hole.
    pub fn child(&self, index: usize) -> ChunkId {
        self.children.get(index).copied().unwrap_or(ChunkId::NULL)
    }

    /// Whether everything below is a hole.
    pub fn is_hole(&self) -> bool {
        self.children.is_empty()
    }

    /// Bytes of memory it takes, about.
    pub fn weight(&self) -> usize {
        self.children.len().saturating_mul(ChunkId::LEN)
    }

    /// The bytes that are hashed and stored.
    pub fn encode(&self) -> Vec<u8> {
        self.children.iter().flat_map(|id| id.0).collect()
    }

    /// Decodes a node.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is not a list of 1 to 256 ids that ends with one that is not null.
    pub fn decode(bytes: &[u8]) -> Result<Node> {
        let (ids, rest) = bytes.as_chunks::<{ ChunkId::LEN }>();
        if !rest.is_empty() || ids.is_empty() || ids.len() > FANOUT {
            return Err(Error::damaged(format!(
                "map node: {} bytes are no list of 1 to {FANOUT} ids",
                bytes.len()
            )));
        }
        let children: Vec<ChunkId> = ids.iter().map(|id| ChunkId(*id)).collect();
        if children.last().is_some_and(ChunkId::is_null) {
            return Err(Error::damaged("map node: ends with a null id"));
        }
        Ok(Node { children })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_holes_are_left_off() {
        let id = ChunkId([3; 32]);
        let node = Node::new(vec![ChunkId::NULL, id, ChunkId::NULL]);
        assert_eq!(node, Node::new(vec![ChunkId::NULL, id]));
        let bytes = node.encode();
        assert_eq!(bytes, [[0; 32], [3; 32]].concat());
        assert_eq!(Node::decode(&bytes).unwrap(), node);
        assert_eq!(node.child(1), id);
        assert!(node.child(2).is_null() && node.child(999).is_null());
        assert!(Node::new(vec![ChunkId::NULL; 4]).is_hole());
        for bad in [&[][..], &[0; 31], &[0; 32], &[1; 257 * 32]] {
            assert!(Node::decode(bad).is_err());
        }
    }
}
