//! Packs of data without data: header, table of contents and footer are real, and between them is a hole of the file.

use cairn_base::{ChunkId, PackId};
use cairn_store::hash::checksum;
use cairn_store::pack::footer::{FOOTER_LEN, Footer};
use cairn_store::pack::head::{HEAD_LEN, Head};
use cairn_store::pack::write::{MAX_CHUNKS, TARGET};
use cairn_store::pack::{PackKind, SealedPack, Toc, TocChunk, TocFrame};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A pack that is being made.
pub struct HollowPack {
    /// Its id.
    pub id: PackId,
    path: String,
    toc: Toc,
    at: u64,
}

impl HollowPack {
    /// An empty one, to be made in a folder of the store.
    pub fn new(scratch: String, id: PackId) -> HollowPack {
        HollowPack {
            path: format!("{scratch}/{id}"),
            id,
            toc: Toc::default(),
            at: HEAD_LEN as u64,
        }
    }

    /// A frame with this tag, of `raw` plain bytes that take `stored`; its offset.
    pub fn append(
        &mut self,
        chunks: &[(ChunkId, u32)],
        stored: u32,
        raw: u32,
        tag: [u8; 16],
    ) -> u32 {
        let offset = self.at as u32;
        self.toc.frames.push(TocFrame {
            offset,
            stored,
            plain: false,
            raw,
            chunks: chunks.len() as u32,
            tag,
        });
        let rows = chunks.iter().map(|(id, length)| TocChunk {
            id: *id,
            length: *length,
        });
        self.toc.chunks.extend(rows);
        self.at += u64::from(stored);
        offset
    }

    /// Whether it is time to seal.
    pub fn is_full(&self) -> bool {
        self.at >= TARGET || self.toc.chunks.len() >= MAX_CHUNKS
    }

    /// Writes the file, below the store's own folder.
    pub fn seal(self, place: &Path, store: [u8; 16]) -> SealedPack {
        let (kind, pack) = (PackKind::Data, self.id);
        let toc = self.toc.encode();
        let toc_end = self.at + toc.len() as u64;
        let length = toc_end + FOOTER_LEN as u64;
        let footer = Footer {
            kind,
            pack,
            store,
            toc_offset: self.at,
            toc_length: toc.len() as u64,
            toc_checksum: checksum(&toc),
            parity_offset: toc_end,
            parity_length: 0,
            percent: 0,
            length,
        };
        let head = Head { kind, pack, store };
        let file = File::create_new(place.join(&self.path)).unwrap();
        file.write_all_at(&head.encode(), 0).unwrap();
        file.write_all_at(&toc, self.at).unwrap();
        file.write_all_at(&footer.encode(), toc_end).unwrap();
        SealedPack {
            id: pack,
            kind,
            path: self.path,
            length,
        }
    }
}
