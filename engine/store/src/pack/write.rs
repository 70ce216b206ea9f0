//! Writing a pack: frames as they come, then the rest at once.

use crate::frame::BuiltFrame;
use crate::hash::checksum;
use crate::header::Header;
use crate::pack::footer::{FOOTER_LEN, Footer};
use crate::pack::head::{HEAD_LEN, Head, PackKind};
use crate::pack::toc::{Toc, TocChunk, TocFrame};
use crate::parity::Encoder;
use cairn_base::folder::{Folder, NewFile};
use cairn_base::ids::random;
use cairn_base::units::to_u64;
use cairn_base::{PackId, Result};

/// A pack is sealed when its frames reach this many bytes.
pub const TARGET: u64 = 64 << 20;
/// A pack is sealed when it holds this many chunks, so that its table of contents stays small whatever a guest writes.
pub const MAX_CHUNKS: usize = 1 << 16;
/// The kernel is asked to begin writing after this many bytes.
const WRITE_BACK: u64 = 8 << 20;

/// A pack being written in the folder of a session.
pub struct PackWriter {
    head: Head,
    path: String,
    file: Box<dyn NewFile>,
    toc: Toc,
    at: u64,
    handed_over: u64,
    parity: Option<Encoder>,
    percent: u32,
}

/// A pack whose bytes are complete and durable, but whose name is not yet public.
#[derive(Debug, Clone)]
pub struct SealedPack {
    /// Its id.
    pub id: PackId,
    /// What it holds.
    pub kind: PackKind,
    /// Where it lies for now.
    pub path: String,
    /// Its length in bytes.
    pub length: u64,
}

/// Where a frame went.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// Which pack.
    pub pack: PackId,
    /// Offset in it, in bytes.
    pub offset: u32,
}

impl PackWriter {
    /// Begins a pack of the store with this header in `session_folder`.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn create(
        folder: &dyn Folder,
        session_folder: &str,
        header: &Header,
        kind: PackKind,
    ) -> Result<PackWriter> {
        let head = Head {
            kind,
            pack: PackId(random()?),
            store: header.store,
        };
        let path = format!("{session_folder}/{}", head.pack);
        let mut writer = PackWriter {
            head,
            file: folder.create_large(&path)?,
            path,
            toc: Toc::default(),
            at: to_u64(HEAD_LEN),
            handed_over: 0,
            parity: (header.parity > 0).then(|| Encoder::new(header.parity)),
            percent: header.parity,
        };
        writer.write(&head.encode())?;
        Ok(writer)
    }

    /// Writes bytes that parity protects.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.append(bytes)?;
        match &mut self.parity {
            Some(parity) => parity.push(bytes),
            None => Ok(()),
        }
    }

    /// Its id.
    pub fn id(&self) -> PackId {
        self.head.pack
    }

    /// Where it is written.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// As the file reports; the pack must then be abandoned.
    pub fn append(&mut self, frame: &BuiltFrame) -> Result<Placed> {
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        // Cannot wrap: the pack is sealed long before 4 GiB.
        let offset = u32::try_from(self.at).unwrap_or(u32::MAX);
        self.write(&frame.stored)?;
        self.toc.frames.push(TocFrame {
            offset,
            stored: number(frame.stored.len()),
            plain: frame.plain,
            raw: number(frame.raw_length),
            chunks: number(frame.chunks.len()),
            tag: frame.tag,
        });
        self.toc
            .chunks
            .extend(frame.chunks.iter().map(|(id, length)| TocChunk {
                id: *id,
                length: *length,
            }));
        self.at += to_u64(frame.stored.len());
        if self.at - self.handed_over >= WRITE_BACK {
            self.file.start_write_back();
            self.handed_over = self.at;
        }
        Ok(Placed {
            pack: self.head.pack,
            offset,
        })
    }

    /// Whether it is time to seal.
    pub fn is_full(&self) -> bool {
        self.holds(TARGET)
    }

    /// Whether it should be sealed, if packs of at least `bytes` are wanted.
    pub fn holds(&self, bytes: u64) -> bool {
        self.at >= bytes || self.toc.chunks.len() >= MAX_CHUNKS
    }

    /// Writes the table of contents, the parity and the footer, and makes the file durable.
    ///
    /// # Errors
    /// As the file reports; the pack must then be abandoned.
    pub fn seal(mut self) -> Result<SealedPack> {
        let toc = self.toc.encode();
        self.write(&toc)?;
        let toc_end = self.at + to_u64(toc.len());
        let area = match self.parity.take() {
            Some(parity) => Some(parity.finish(self.head.pack)?),
            None => None,
        };
        let parity_length = area.as_ref().map_or(0, |area| area.length);
        let length = toc_end + parity_length + to_u64(FOOTER_LEN);
        let footer = Footer {
            kind: self.head.kind,
            pack: self.head.pack,
            store: self.head.store,
            toc_offset: self.at,
            toc_length: to_u64(toc.len()),
            toc_checksum: checksum(&toc),
            parity_offset: toc_end,
            parity_length,
            percent: self.percent,
            length,
        };
        let footer = footer.encode();
        if let Some(area) = area {
            self.file.append(&footer)?;
            self.file.append(&area.table)?;
            self.file.append(&vec![0; area.padding])?;
            self.file.append(&area.parity)?;
            self.file.append(&area.table)?;
        }
        self.file.append(&footer)?;
        self.file.sync()?;
        Ok(SealedPack {
            id: self.head.pack,
            kind: self.head.kind,
            path: self.path,
            length,
        })
    }
}
