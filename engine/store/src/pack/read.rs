//! Reading a sealed pack as a whole: for verification and recovery. Single frames are read without it.

use crate::hash::{Keys, checksum};
use crate::layout;
use crate::pack::footer::{FOOTER_LEN, Footer};
use crate::pack::head::{HEAD_LEN, Head};
use crate::pack::heal::Healed;
use crate::pack::toc::{MAX_TOC, Toc, TocChunk, TocFrame};
use crate::parity::Restorer;
use cairn_base::error::unless_lost;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, Folder, PackId, ReadAt, Result};
use std::sync::Arc;

/// An open pack whose header, footer and table of contents agree.
pub struct PackReader {
    file: Arc<dyn ReadAt>,
    path: String,
    toc: Toc,
    footer: Footer,
}

impl PackReader {
    /// Opens a published pack.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn_base::Kind::NotFound) if it is gone,
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if its frame of structures does not check.
    pub fn open(folder: &dyn Folder, store: [u8; 16], id: PackId) -> Result<PackReader> {
        PackReader::open_at(folder, store, id, &layout::pack(id))
    }

    /// Opens a sealed pack that lies at `path`: one that is not public yet.
    ///
    /// # Errors
    /// As [`PackReader::open`].
    pub fn open_at(
        folder: &dyn Folder,
        store: [u8; 16],
        id: PackId,
        path: &str,
    ) -> Result<PackReader> {
        let shown = folder.describe(path);
        let file = folder.open(path)?;
        Self::check(file, store, id, shown.clone(), true).map_err(|e| e.at_path(shown).with_id(id))
    }

    /// Opens a published pack whose header is lost: the footer says the same.
    ///
    /// # Errors
    /// As [`PackReader::open`].
    pub fn open_headless(folder: &dyn Folder, store: [u8; 16], id: PackId) -> Result<PackReader> {
        let path = layout::pack(id);
        let shown = folder.describe(&path);
        let file = folder.open(&path)?;
        Self::check(file, store, id, shown.clone(), false).map_err(|e| e.at_path(shown).with_id(id))
    }

    /// Opens a published pack through its parity: sectors that are damaged are computed from the others.
    ///
    /// # Errors
    /// As [`PackReader::open`], and [`Kind::Damaged`](cairn_base::Kind::Damaged) if its parity cannot restore its structures.
    pub fn open_healed(
        folder: &dyn Folder,
        store: [u8; 16],
        id: PackId,
    ) -> Result<(PackReader, Arc<Healed>)> {
        let path = layout::pack(id);
        let shown = folder.describe(&path);
        let opened = folder.open(&path).and_then(|file| {
            let healed = Arc::new(Healed::new(file, store, id)?);
            let pack = Self::check(healed.clone(), store, id, shown.clone(), true)?;
            Ok((pack, healed))
        });
        opened.map_err(|e| e.at_path(shown).with_id(id))
    }

    fn check(
        file: Arc<dyn ReadAt>,
        store: [u8; 16],
        id: PackId,
        path: String,
        with_head: bool,
    ) -> Result<PackReader> {
        let size = file.size();
        let Some(footer_at) = size
            .checked_sub(to_u64(FOOTER_LEN))
            .filter(|at| *at >= to_u64(HEAD_LEN))
        else {
            return Err(Error::damaged(format!(
                "a pack of {size} bytes is too short"
            )));
        };
        let footer = Footer::decode(&read_vec(&file, footer_at, FOOTER_LEN)?, size)?;
        let head = if with_head {
            Head::decode(&read_vec(&file, 0, HEAD_LEN)?)?
        } else {
            Head {
                kind: footer.kind,
                pack: footer.pack,
                store: footer.store,
            }
        };
        if (head.pack, head.store, head.kind) != (footer.pack, footer.store, footer.kind)
            || head.pack != id
            || head.store != store
        {
            return Err(Error::damaged("a pack lies under another pack's name")
                .advise("it belongs to another store, or files were swapped"));
        }
        let length = usize::try_from(footer.toc_length)
            .ok()
            .filter(|_| footer.toc_length <= MAX_TOC)
            .ok_or_else(|| Error::damaged("the table of contents is impossibly long"))?;
        let toc = read_vec(&file, footer.toc_offset, length)?;
        if checksum(&toc) != footer.toc_checksum {
            return Err(
                Error::damaged("the checksum of the table of contents does not match")
                    .at_offset(footer.toc_offset),
            );
        }
        let toc = Toc::decode(&toc, footer.toc_offset)?;
        Ok(PackReader {
            file,
            path,
            toc,
            footer,
        })
    }

    /// Its frames, in order, each with its chunks.
    pub fn frames(&self) -> impl Iterator<Item = (&TocFrame, &[TocChunk])> {
        let mut chunks = self.toc.chunks.as_slice();
        self.toc.frames.iter().map(move |frame| {
            let count = usize::try_from(frame.chunks).unwrap_or(0).min(chunks.len());
            let (inside, later) = chunks.split_at(count);
            chunks = later;
            (frame, inside)
        })
    }

    /// What is in it.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// Its footer.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// How many sectors of its parity are damaged. Looks at the parity alone.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the footer's numbers cannot be; if something cannot be read now.
    pub fn damaged_parity(&self) -> Result<usize> {
        let Some(shape) = self.footer.shape()? else {
            return Ok(0);
        };
        let sectors = Restorer::new(self.file.clone(), self.footer.pack, shape)
            .and_then(|restorer| restorer.damaged_parity())
            .map_err(|e| e.at_path(&self.path))?;
        let copy = self.footer.parity_offset;
        let copy = unless_lost(read_vec(&self.file, copy, FOOTER_LEN))?;
        let copy_is_bad = copy != Some(self.footer.encode());
        Ok(sectors.saturating_add(usize::from(copy_is_bad)))
    }

    /// Fills `buffer` from `offset` of the file.
    ///
    /// # Errors
    /// What the file reports.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(offset, buffer);
        read.map_err(|e| e.at_path(&self.path))
    }

    /// Reads the stored bytes of a frame into `stored`; whether they are what was written, by the frame's tag.
    ///
    /// # Errors
    /// What the file reports.
    pub fn stored(&self, keys: &Keys, frame: &TocFrame, stored: &mut Vec<u8>) -> Result<bool> {
        stored.resize(usize::try_from(frame.stored).unwrap_or(usize::MAX), 0);
        self.file
            .read_exact_at(u64::from(frame.offset), stored)
            .map_err(|e| e.at_path(&self.path))?;
        Ok(keys.frame_tag(stored) == frame.tag)
    }
}
