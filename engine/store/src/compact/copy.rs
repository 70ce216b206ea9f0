//! Copying packs: the stored bytes of every frame, as they are.

use crate::contents::places;
use crate::frame::BuiltFrame;
use crate::index::{Entry, PackRow};
use crate::pack::{FrameChecker, PackReader, PackWriter, SealedPack, TocChunk, TocFrame};
use crate::session::Session;
use crate::store::Store;
use cairn_base::{Error, Monitor, PackId, Result};

/// What was copied, and not published yet.
pub struct Copies<'a> {
    store: &'a Store,
    session: &'a Session,
    monitor: &'a dyn Monitor,
    packs: Vec<SealedPack>,
    entries: Vec<Entry>,
    replaced: Vec<PackId>,
    stored: Vec<u8>,
}

impl<'a> Copies<'a> {
    /// Nothing yet; copies are written in the session's folder.
    pub fn new(store: &'a Store, session: &'a Session, monitor: &'a dyn Monitor) -> Copies<'a> {
        Copies {
            store,
            session,
            monitor,
            packs: Vec::new(),
            entries: Vec::new(),
            replaced: Vec::new(),
            stored: Vec::new(),
        }
    }

    /// The new packs, the entries that refer to them by position, and the packs that they replace.
    pub fn finish(self) -> (Vec<SealedPack>, Vec<Entry>, Vec<PackId>) {
        (self.packs, self.entries, self.replaced)
    }

    /// Copies packs of one kind into one new pack, which is then read back and checked in full.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a frame is not what it was a moment ago, or its copy is not;
    /// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; as the folder reports. Then nothing may be published.
    pub fn copy(&mut self, sources: &[PackRow], checker: &mut FrameChecker) -> Result<()> {
        let Some(first) = sources.first() else {
            return Ok(());
        };
        let folder = &**self.store.folder();
        let store = self.store.header().store;
        let header = self.store.header();
        let mut writer = PackWriter::create(folder, &self.session.scratch(), header, first.kind)?;
        for row in sources {
            let pack = PackReader::open(folder, store, row.id)?;
            for (frame, chunks) in pack.frames() {
                if self.monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                self.copy_frame(&pack, frame, chunks, &mut writer)?;
            }
            self.replaced.push(row.id);
        }
        let sealed = writer.seal()?;
        let copy = PackReader::open_at(folder, store, sealed.id, &sealed.path)?;
        for (frame, chunks) in copy.frames() {
            let found = checker.check(self.store.keys(), &copy, frame, chunks)?;
            if !found.is_clean() {
                return Err(changed(&copy, frame));
            }
        }
        self.packs.push(sealed);
        Ok(())
    }

    fn copy_frame(
        &mut self,
        pack: &PackReader,
        frame: &TocFrame,
        chunks: &[TocChunk],
        writer: &mut PackWriter,
    ) -> Result<()> {
        if !pack.stored(self.store.keys(), frame, &mut self.stored)? {
            return Err(changed(pack, frame));
        }
        let built = BuiltFrame {
            stored: std::mem::take(&mut self.stored),
            plain: frame.plain,
            raw_length: usize::try_from(frame.raw).unwrap_or(usize::MAX),
            tag: frame.tag,
            chunks: chunks.iter().map(|c| (c.id, c.length)).collect(),
        };
        let placed = writer.append(&built)?;
        self.stored = built.stored;
        let number = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        let places = places(placed.pack, placed.offset, frame, chunks);
        self.entries
            .extend(places.map(|(id, place)| Entry::new(id.prefix(), number, &place)));
        Ok(())
    }
}

fn changed(pack: &PackReader, frame: &TocFrame) -> Error {
    Error::damaged("a frame is not what was written")
        .with_id(pack.footer().pack)
        .at_offset(u64::from(frame.offset))
}
