//! What stays of decoded frames: their chunks in the cache, and their memory for the next one.

use crate::frame::MAX_FRAME;
use crate::read::{ChunkReader, OVERHEAD, Plain};
use cairn_base::ChunkId;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// Buffers that wait to be used again: as many as threads are likely to read at once.
const BUFFERS: usize = 16;

/// Buffers of [`MAX_FRAME`] bytes each.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl ChunkReader {
    /// Keeps a decoded frame for the sake of its authenticated chunks, without copying them.
    pub fn keep_frame(&self, frame: Vec<u8>, chunks: Vec<(ChunkId, Range<usize>)>) {
        let weight = frame.len() / chunks.len().max(1) + OVERHEAD;
        let frame = Arc::new(frame);
        for (id, within) in chunks {
            let frame = frame.clone();
            self.chunks
                .insert(id, Arc::new(Plain { frame, within }), weight);
        }
    }

    /// Keeps copies of authenticated chunks of one decoded frame.
    pub fn keep_copies(&self, frame: &[u8], chunks: Vec<(ChunkId, Range<usize>)>) {
        for (id, within) in chunks {
            let bytes = frame.get(within).unwrap_or_default().to_vec();
            let weight = bytes.len() + OVERHEAD;
            self.chunks.insert(id, Arc::new(bytes.into()), weight);
        }
    }

    /// Memory for the largest frame, holding anything; [`give_back`](ChunkReader::give_back) saves the next one clearing it.
    pub fn borrow(&self) -> Vec<u8> {
        let spare = self.buffers.0.lock().pop();
        spare.unwrap_or_else(|| vec![0; MAX_FRAME])
    }

    /// Gives back what was borrowed.
    pub fn give_back(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers.0.lock();
        if buffers.len() < BUFFERS {
            buffers.push(buffer);
        }
    }
}
