//! Reading every pack: each frame against its tag, each chunk against its id, and whether the index knows it.

use crate::contents::unindexed;
use crate::damage::DamageList;
use crate::index::PackRow;
use crate::pack::{FrameChecker, PackReader};
use crate::store::Store;
use crate::verify::VerifyReport;
use cairn_base::{ChunkId, Error, Monitor, PackId, Result, Stage};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Chunks that lie in some pack with bytes that are not theirs: pack and why, by pack and id.
#[derive(Default)]
pub struct BadChunks {
    chunks: HashMap<ChunkId, HashSet<PackId>>,
    /// Places that give the chunk only with the help of parity: nothing is lost.
    restorable: HashMap<ChunkId, HashSet<PackId>>,
    /// Packs that cannot be read at all, and why.
    pub packs: HashMap<PackId, String>,
}

impl BadChunks {
    /// The places, as a list that is kept.
    pub fn list(&self) -> DamageList {
        let mut list = DamageList::default();
        for (id, packs) in self.chunks.iter().chain(&self.restorable) {
            for pack in packs {
                list.add((id.prefix(), *pack));
            }
        }
        list
    }

    /// Whether the chunk's place in this pack is bad.
    pub fn hits(&self, id: &ChunkId, pack: PackId) -> bool {
        self.packs.contains_key(&pack)
            || self
                .chunks
                .get(id)
                .is_some_and(|packs| packs.contains(&pack))
    }
}

/// Reads every pack, with all processors. One that was replaced meanwhile does not count: those that hold its chunks now are
/// read instead.
///
/// # Errors
/// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request.
pub fn check_packs(
    store: &Arc<Store>,
    missing: &HashSet<PackId>,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
) -> Result<BadChunks> {
    let check = Check {
        store,
        monitor,
        bytes: AtomicU64::new(0),
        found: Mutex::default(),
        problems: Mutex::default(),
        replaced: AtomicBool::new(false),
    };
    let mut seen = missing.clone();
    let mut rows = store.live_packs();
    rows.retain(|row| seen.insert(row.id));
    monitor.begin(Stage::VerifyPacks, rows.iter().map(|row| row.length).sum());
    while !rows.is_empty() {
        check.all(&rows);
        if monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        rows.clear();
        if check.replaced.swap(false, Ordering::Relaxed) {
            rows = store.live_packs();
            rows.retain(|row| seen.insert(row.id));
        }
    }
    monitor.finish(Stage::VerifyPacks);
    report.checked_bytes = check.bytes.into_inner();
    report.problems.extend(check.problems.into_inner());
    Ok(check.found.into_inner())
}

/// What the threads share.
struct Check<'a> {
    store: &'a Store,
    monitor: &'a dyn Monitor,
    bytes: AtomicU64,
    found: Mutex<BadChunks>,
    problems: Mutex<Vec<String>>,
    /// A pack was replaced before it was read.
    replaced: AtomicBool,
}

impl Check<'_> {
    fn all(&self, rows: &[PackRow]) {
        let next = AtomicUsize::new(0);
        let threads = std::thread::available_parallelism()
            .map_or(2, usize::from)
            .min(16)
            .min(rows.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut checker = FrameChecker::default();
                    while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if self.monitor.stop_requested() {
                            return;
                        }
                        self.one(row.id, &mut checker);
                    }
                });
            }
        });
    }

    fn one(&self, id: PackId, checker: &mut FrameChecker) {
        let checked = check_pack(self.store, id, checker, self.monitor);
        let clean = matches!(&checked, Ok(findings) if findings.is_clean());
        if !clean && matches!(self.store.is_still_live(id), Ok(false)) {
            self.replaced.store(true, Ordering::Relaxed);
            return;
        }
        let restorable = !clean && self.is_restorable(id, checker);
        match checked {
            Ok(findings) if restorable && !findings.bad.is_empty() => {
                self.bytes.fetch_add(findings.bytes, Ordering::Relaxed);
                self.say_restorable(id);
                let mut found = self.found.lock();
                for chunk in findings.bad {
                    found.restorable.entry(chunk).or_default().insert(id);
                }
            }
            Err(_) if restorable => self.say_restorable(id),
            Ok(findings) => {
                self.bytes.fetch_add(findings.bytes, Ordering::Relaxed);
                let said = describe(self.store, id, &findings);
                self.problems.lock().extend(said);
                let mut found = self.found.lock();
                for chunk in findings.bad {
                    found.chunks.entry(chunk).or_default().insert(id);
                }
            }
            Err(error) => {
                self.problems.lock().push(error.to_string());
                self.found.lock().packs.insert(id, error.to_string());
            }
        }
    }
}

impl Check<'_> {
    /// Whether the pack's parity gives everything that should be in it.
    fn is_restorable(&self, id: PackId, checker: &mut FrameChecker) -> bool {
        let store = self.store;
        let opened = PackReader::open_healed(&**store.folder(), store.header().store, id);
        opened.is_ok_and(|(pack, _)| {
            let mut frames = pack.frames();
            frames
                .all(|(frame, chunks)| checker.check(store.keys(), &pack, frame, chunks).is_clean())
        })
    }

    fn say_restorable(&self, id: PackId) {
        let path = self.store.folder().describe(&crate::layout::pack(id));
        self.problems.lock().push(format!(
            "the pack {path} is damaged; its parity restores all of it: run `cairn verify --repair`"
        ));
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
    /// Sectors of its parity that are damaged.
    bad_parity: usize,
}

impl PackFindings {
    fn is_clean(&self) -> bool {
        self.bad.is_empty() && self.unindexed == 0 && self.bad_frames == 0 && self.bad_parity == 0
    }
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
    if findings.bad_parity > 0 {
        said.push(format!(
            "{} sectors of the parity of the pack {path} are damaged: run `cairn verify --repair`",
            findings.bad_parity
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
    checker: &mut FrameChecker,
    monitor: &dyn Monitor,
) -> Result<PackFindings> {
    let pack = PackReader::open(&**store.folder(), store.header().store, id)?;
    let mut findings = PackFindings {
        bad_parity: pack.damaged_parity()?,
        ..PackFindings::default()
    };
    for (frame, chunks) in pack.frames() {
        if monitor.stop_requested() {
            break;
        }
        let found = checker.check(store.keys(), &pack, frame, chunks);
        findings.bad_frames += u64::from(found.bad_frame);
        findings.bad.extend(found.bad_chunks);
        findings.unindexed += unindexed(&store.index(), id, frame, chunks);
        findings.bytes += u64::from(frame.stored);
        monitor.advance(Stage::VerifyPacks, u64::from(frame.stored));
    }
    Ok(findings)
}
