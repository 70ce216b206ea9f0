//! Reading every pack: each frame against its tag, each chunk against its id, and whether the index knows it.

use crate::frame::Decompressor;
use crate::hash::ChunkKind;
use crate::index::Place;
use crate::pack::{PackKind, PackReader, TocChunk, TocFrame};
use crate::store::Store;
use crate::verify::VerifyReport;
use cairn_base::{ChunkId, Error, Monitor, PackId, Result, Stage};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Chunks that lie in some pack with bytes that are not theirs: pack and why, by pack and id.
#[derive(Default)]
pub struct BadChunks {
    chunks: HashMap<ChunkId, HashSet<PackId>>,
    /// Packs that cannot be read at all, and why.
    pub packs: HashMap<PackId, String>,
}

impl BadChunks {
    /// Whether the chunk's place in this pack is bad.
    pub fn hits(&self, id: &ChunkId, pack: PackId) -> bool {
        self.packs.contains_key(&pack)
            || self
                .chunks
                .get(id)
                .is_some_and(|packs| packs.contains(&pack))
    }
}

/// Reads every pack, with all processors.
///
/// # Errors
/// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request.
pub fn check_packs(
    store: &Arc<Store>,
    missing: &HashSet<PackId>,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
) -> Result<BadChunks> {
    let rows: Vec<_> = store
        .index()
        .packs()
        // What of the tables is damaged was named already.
        .filter_map(Result::ok)
        .filter(|row| !missing.contains(&row.id))
        .collect();
    monitor.begin(Stage::VerifyPacks, rows.iter().map(|row| row.length).sum());
    let next = AtomicUsize::new(0);
    let checked = AtomicU64::new(0);
    let found: Mutex<BadChunks> = Mutex::default();
    let problems: Mutex<Vec<String>> = Mutex::default();
    let threads = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(16);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut scratch = Scratch::default();
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if monitor.stop_requested() {
                        return;
                    }
                    match check_pack(store, row.id, &mut scratch, monitor) {
                        Ok(findings) => {
                            checked.fetch_add(findings.bytes, Ordering::Relaxed);
                            problems.lock().extend(describe(store, row.id, &findings));
                            let mut found = found.lock();
                            for id in findings.bad {
                                found.chunks.entry(id).or_default().insert(row.id);
                            }
                        }
                        Err(error) => {
                            problems.lock().push(error.to_string());
                            found.lock().packs.insert(row.id, error.to_string());
                        }
                    }
                }
            });
        }
    });
    monitor.finish(Stage::VerifyPacks);
    if monitor.stop_requested() {
        return Err(Error::interrupted());
    }
    report.checked_bytes = checked.into_inner();
    report.problems.extend(problems.into_inner());
    Ok(found.into_inner())
}

#[derive(Default)]
struct Scratch {
    decompressor: Decompressor,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl Scratch {
    /// Whether the first `end` plain bytes of the frame in `stored` could be had.
    fn decode(&mut self, frame: &TocFrame, end: usize) -> bool {
        if frame.plain {
            self.plain.clone_from(&self.stored);
            return self.plain.len() >= end;
        }
        self.decompressor
            .decompress(&self.stored, end, &mut self.plain)
            .is_ok()
    }
}

/// What the check of a pack found.
#[derive(Default)]
struct PackFindings {
    bytes: u64,
    bad: Vec<ChunkId>,
    /// Chunks that the index does not have at their place.
    unindexed: u64,
    /// Frames whose tag does not match; their chunks may be good all the same.
    bad_frames: u64,
}

/// What is wrong with a pack, in sentences.
fn describe(store: &Store, id: PackId, findings: &PackFindings) -> Vec<String> {
    let path = store.folder().describe(&crate::layout::pack(id));
    let mut said = Vec::new();
    if findings.bad_frames > 0 {
        said.push(format!(
            "{} frames of the pack {path} are not what was written: {} chunks are lost",
            findings.bad_frames,
            findings.bad.len()
        ));
    } else if !findings.bad.is_empty() {
        said.push(format!(
            "{} chunks in the pack {path} are damaged",
            findings.bad.len()
        ));
    }
    if findings.unindexed > 0 {
        said.push(format!(
            "the index does not know where {} chunks of the pack {path} lie",
            findings.unindexed
        ));
    }
    said
}

/// Checks every frame and chunk of a pack. An error if the pack's own structures do not check.
fn check_pack(
    store: &Store,
    id: PackId,
    scratch: &mut Scratch,
    monitor: &dyn Monitor,
) -> Result<PackFindings> {
    let pack = PackReader::open(&**store.folder(), store.header().store, id)?;
    let mut findings = PackFindings::default();
    let mut chunks = pack.toc().chunks.as_slice();
    for frame in &pack.toc().frames {
        if monitor.stop_requested() {
            break;
        }
        let count = usize::try_from(frame.chunks).unwrap_or(0).min(chunks.len());
        let (inside, later) = chunks.split_at(count);
        chunks = later;
        check_frame(store, &pack, frame, inside, scratch, &mut findings);
        findings.bytes += u64::from(frame.stored);
        monitor.advance(Stage::VerifyPacks, u64::from(frame.stored));
    }
    Ok(findings)
}

fn check_frame(
    store: &Store,
    pack: &PackReader,
    frame: &TocFrame,
    chunks: &[TocChunk],
    scratch: &mut Scratch,
    findings: &mut PackFindings,
) {
    let tag = pack.stored(store.keys(), frame, &mut scratch.stored);
    if !matches!(tag, Ok(true)) {
        findings.bad_frames += 1;
    }
    let readable = tag.is_ok();
    let whole = readable && scratch.decode(frame, usize::try_from(frame.raw).unwrap_or(usize::MAX));
    let index = store.index();
    let mut at = 0u32;
    for chunk in chunks {
        let end = at.saturating_add(chunk.length);
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        // Of a damaged frame the chunks before the damage may still be good.
        let decoded = whole || readable && scratch.decode(frame, size(end));
        let bytes = scratch.plain.get(size(at)..size(end));
        let kind = pack.footer().kind;
        if !decoded || !bytes.is_some_and(|bytes| is_chunk(store, kind, chunk.id, bytes)) {
            findings.bad.push(chunk.id);
        }
        let place = Place {
            pack: pack.footer().pack,
            offset: frame.offset,
            stored: frame.stored,
            plain: frame.plain,
            at,
            length: chunk.length,
        };
        if !index.places(&chunk.id).unwrap_or_default().contains(&place) {
            findings.unindexed += 1;
        }
        at = end;
    }
}

/// Whether the bytes are those of the chunk. A map's chunk may be a leaf or a node of any level.
fn is_chunk(store: &Store, kind: PackKind, id: ChunkId, bytes: &[u8]) -> bool {
    let keys = store.keys();
    match kind {
        PackKind::Data => keys.chunk_id(ChunkKind::Data, bytes) == id,
        PackKind::Map => std::iter::once(ChunkKind::Leaf)
            .chain((1..=crate::hash::MAX_LEVEL).map(ChunkKind::Node))
            .any(|kind| keys.chunk_id(kind, bytes) == id),
    }
}
