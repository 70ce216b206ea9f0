//! Everything good of one pack: read from it as it is, or through its parity; each chunk is authenticated before it counts.

use crate::backup::region::build_frame;
use crate::frame::{BuiltFrame, Compressor, Decompressor, MAX_FRAME};
use crate::hash::Keys;
use crate::index::{Entry, Place};
use crate::pack::check::chunk_with_prefix;
use crate::pack::{FrameChecker, Healed, PackKind, PackReader, PackWriter, SealedPack};
use crate::repair::plan::{FramePlan, Want};
use crate::session::Session;
use crate::store::Store;
use cairn_base::error::unless_lost;
use cairn_base::{ChunkId, Error, Kind, Monitor, ReadAt, Result};
use std::sync::Arc;

/// Level of frames that are compressed anew.
const LEVEL: i32 = 3;

/// A pack that is to be mended: where its bytes may be had.
pub struct Patient {
    /// What it holds.
    pub kind: PackKind,
    /// As it is, if there is anything.
    pub raw: Option<Arc<dyn ReadAt>>,
    /// Through its parity, if it has any that can be found.
    pub healed: Option<Arc<Healed>>,
    /// What should be in it.
    pub frames: Vec<FramePlan>,
}

/// What became of a pack that was to be written anew.
pub enum Written {
    /// Nothing of it is wanted.
    Nothing,
    /// It was written and checks. The entries of its chunks.
    Pack(SealedPack, Vec<Entry>),
    /// What was written does not check, or could not be read back: it counts for nothing.
    Bad(Error),
}

/// Takes packs apart and puts what is good into new ones.
pub struct Mender<'a> {
    store: &'a Store,
    session: &'a Session,
    monitor: &'a dyn Monitor,
    checker: FrameChecker,
    compressor: Compressor,
    decompressor: Decompressor,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl<'a> Mender<'a> {
    /// New packs are written in the session's folder.
    ///
    /// # Errors
    /// If there is no compressor to be had.
    pub fn new(
        store: &'a Store,
        session: &'a Session,
        monitor: &'a dyn Monitor,
    ) -> Result<Mender<'a>> {
        Ok(Mender {
            store,
            session,
            monitor,
            checker: FrameChecker::default(),
            compressor: Compressor::new(LEVEL)?,
            decompressor: Decompressor::default(),
            stored: Vec::new(),
            plain: Vec::new(),
        })
    }

    /// The chunks of a pack that it does not give, and the number of those that it does.
    ///
    /// # Errors
    /// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; if the pack cannot be read now, which says nothing of what it gives.
    pub fn survey(&mut self, patient: &Patient) -> Result<(Vec<Want>, usize)> {
        let (mut lost, mut good) = (Vec::new(), 0);
        for frame in &patient.frames {
            let (built, bad) = self.frame(patient, frame, &|_| true)?;
            good += built.iter().map(|frame| frame.chunks.len()).sum::<usize>();
            lost.extend(bad);
        }
        Ok((lost, good))
    }

    /// Writes the good chunks that `keep` wants into a new pack, reads that back and checks it.
    /// The entries are those of pack `number` of a segment. What is not good now, whatever it was when the pack was surveyed, is added to `lost`.
    ///
    /// # Errors
    /// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; as the folder reports of what is written.
    pub fn write(
        &mut self,
        patient: &Patient,
        keep: &dyn Fn(&Want) -> bool,
        number: u32,
        lost: &mut Vec<Want>,
    ) -> Result<Written> {
        let folder = &**self.store.folder();
        let header = self.store.header();
        let mut writer: Option<PackWriter> = None;
        let mut entries = Vec::new();
        for frame in &patient.frames {
            let (good, bad) = match self.frame(patient, frame, keep) {
                Ok(found) => found,
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                Err(error) => {
                    if let Some(unfinished) = &writer {
                        self.discard(unfinished.path())?;
                    }
                    return Ok(Written::Bad(error));
                }
            };
            lost.extend(bad);
            for built in good {
                if writer.is_none() {
                    let scratch = self.session.scratch();
                    writer = Some(PackWriter::create(folder, &scratch, header, patient.kind)?);
                }
                if let Some(writer) = &mut writer {
                    append(writer, &built, number, &mut entries)?;
                }
            }
        }
        let Some(writer) = writer else {
            return Ok(Written::Nothing);
        };
        let sealed = writer.seal()?;
        match self.read_back(&sealed) {
            Ok(()) => Ok(Written::Pack(sealed, entries)),
            Err(error) if error.kind() == Kind::Interrupted => Err(error),
            Err(error) => {
                self.discard(&sealed.path)?;
                Ok(Written::Bad(error))
            }
        }
    }

    /// Checks all of a pack that was just written.
    fn read_back(&mut self, sealed: &SealedPack) -> Result<()> {
        let (folder, of) = (&**self.store.folder(), self.store.header().store);
        let copy = PackReader::open_at(folder, of, sealed.id, &sealed.path)?;
        let keys = self.store.keys();
        for (frame, chunks) in copy.frames() {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            // If it cannot be read, that is what went wrong.
            copy.stored(keys, frame, &mut self.stored)?;
            let found = self.checker.check(keys, &copy, frame, chunks)?;
            if !found.is_clean() {
                return Err(
                    Error::damaged("a frame is not what was written a moment ago")
                        .with_id(sealed.id)
                        .at_offset(u64::from(frame.offset)),
                );
            }
        }
        Ok(())
    }

    /// Makes room: what counts for nothing need not wait for the end of the session.
    fn discard(&self, path: &str) -> Result<()> {
        self.store.folder().remove(path)
    }

    /// What of a frame is good and wanted, as one or more frames, and what is not good.
    fn frame(
        &mut self,
        patient: &Patient,
        frame: &FramePlan,
        keep: &dyn Fn(&Want) -> bool,
    ) -> Result<(Vec<BuiltFrame>, Vec<Want>)> {
        if self.monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        for whole in [true, false] {
            if !self.load(patient, frame, whole)? {
                continue;
            }
            let tag = self.store.keys().frame_tag(&self.stored);
            let Some(raw) = frame.raw().filter(|_| frame.tag.is_none_or(|t| t == tag)) else {
                continue;
            };
            // A plain frame that goes on behind its chunks is no frame.
            if frame.plain && frame.stored != raw || !self.decode(frame, raw) {
                continue;
            }
            let Some(chunks) = names(self.store.keys(), patient.kind, frame, &self.plain) else {
                continue;
            };
            if !frame.chunks.iter().all(keep) {
                break;
            }
            let built = BuiltFrame {
                stored: self.stored.clone(),
                plain: frame.plain,
                raw_length: usize::try_from(raw).unwrap_or(usize::MAX),
                tag,
                chunks,
            };
            return Ok((vec![built], Vec::new()));
        }
        self.piecemeal(patient, frame, keep)
    }

    /// Each chunk on its own: of a damaged frame those before the damage may be good.
    fn piecemeal(
        &mut self,
        patient: &Patient,
        frame: &FramePlan,
        keep: &dyn Fn(&Want) -> bool,
    ) -> Result<(Vec<BuiltFrame>, Vec<Want>)> {
        let (mut good, mut lost) = (Vec::new(), Vec::new());
        for want in &frame.chunks {
            match self.chunk(patient, frame, want)? {
                Some(found) if keep(want) => good.push(found),
                Some(_) => {}
                None => lost.push(*want),
            }
        }
        let mut built = Vec::new();
        let mut rest = &good[..];
        while !rest.is_empty() {
            let mut length = 0;
            let count = rest
                .iter()
                .take_while(|(_, bytes)| {
                    length += bytes.len();
                    length <= MAX_FRAME
                })
                .count();
            let (now, later) = rest.split_at(count.max(1));
            let parts: Vec<&[u8]> = now.iter().map(|(_, bytes)| &bytes[..]).collect();
            let number = |bytes: &Vec<u8>| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let chunks = now.iter().map(|(id, bytes)| (*id, number(bytes))).collect();
            let raw = parts.iter().map(|part| part.len()).sum();
            let keys = self.store.keys();
            built.push(build_frame(
                keys,
                &mut self.compressor,
                &parts,
                chunks,
                raw,
            )?);
            rest = later;
        }
        Ok((built, lost))
    }

    fn chunk(
        &mut self,
        patient: &Patient,
        frame: &FramePlan,
        want: &Want,
    ) -> Result<Option<(ChunkId, Vec<u8>)>> {
        let Some(end) = want.at.checked_add(want.length) else {
            return Ok(None);
        };
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        for as_it_is in [true, false] {
            if !self.load(patient, frame, as_it_is)? || !self.decode(frame, end) {
                continue;
            }
            let Some(bytes) = self.plain.get(size(want.at)..size(end)) else {
                continue;
            };
            if let Some(id) = name(self.store.keys(), patient.kind, want, bytes) {
                return Ok(Some((id, bytes.to_vec())));
            }
        }
        Ok(None)
    }

    /// Reads the stored bytes of a frame, as they are or through parity, if they can be had. An error if they cannot be read now.
    fn load(&mut self, patient: &Patient, frame: &FramePlan, as_it_is: bool) -> Result<bool> {
        let length = usize::try_from(frame.stored).unwrap_or(usize::MAX);
        let offset = u64::from(frame.offset);
        let through: Option<&dyn ReadAt> = match (&patient.raw, &patient.healed) {
            (Some(raw), _) if as_it_is => Some(&**raw),
            (_, Some(healed)) if !as_it_is => Some(&**healed),
            _ => None,
        };
        let Some(file) = through else {
            return Ok(false);
        };
        if offset.saturating_add(u64::from(frame.stored)) > file.size() {
            return Ok(false);
        }
        self.stored.resize(length, 0);
        let read = unless_lost(file.read_exact_at(offset, &mut self.stored))?;
        Ok(read.is_some())
    }

    /// The first `end` plain bytes of what was loaded, if they can be had.
    fn decode(&mut self, frame: &FramePlan, end: u32) -> bool {
        let Ok(end) = usize::try_from(end) else {
            return false;
        };
        if frame.plain {
            self.plain.clone_from(&self.stored);
            return self.plain.len() >= end;
        }
        let decoded = self
            .decompressor
            .decompress(&self.stored, end, &mut self.plain);
        decoded.is_ok()
    }
}

/// The id of a chunk's bytes, if they are what is wanted.
fn name(keys: &Keys, kind: PackKind, want: &Want, bytes: &[u8]) -> Option<ChunkId> {
    let found = chunk_with_prefix(keys, kind, &want.prefix, bytes)?;
    want.id.is_none_or(|id| id == found).then_some(found)
}

/// The chunks of a decoded frame, if all are what is wanted.
fn names(
    keys: &Keys,
    kind: PackKind,
    frame: &FramePlan,
    plain: &[u8],
) -> Option<Vec<(ChunkId, u32)>> {
    let mut chunks = Vec::with_capacity(frame.chunks.len());
    for want in &frame.chunks {
        let start = usize::try_from(want.at).ok()?;
        let end = usize::try_from(want.at.checked_add(want.length)?).ok()?;
        let id = name(keys, kind, want, plain.get(start..end)?)?;
        chunks.push((id, want.length));
    }
    Some(chunks)
}

fn append(
    writer: &mut PackWriter,
    frame: &BuiltFrame,
    number: u32,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    let placed = writer.append(frame)?;
    let mut at = 0u32;
    for (id, length) in &frame.chunks {
        let place = Place {
            pack: placed.pack,
            offset: placed.offset,
            stored: u32::try_from(frame.stored.len()).unwrap_or(u32::MAX),
            plain: frame.plain,
            at,
            length: *length,
        };
        entries.push(Entry::new(id.prefix(), number, &place));
        at = at.saturating_add(*length);
    }
    Ok(())
}
