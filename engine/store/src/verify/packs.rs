//! Reading packs: each frame against its tag, where that is asked for each chunk against its id, and whether the index knows it.

use crate::contents::unindexed;
use crate::damage::DamageList;
use crate::index::PackRow;
use crate::layout;
use crate::pack::check::FrameFindings;
use crate::pack::{FrameChecker, PackReader, TocChunk, TocFrame};
use crate::store::Store;
use crate::verify::VerifyReport;
use crate::verify::ledger::Ledger;
use crate::verify::pace::Pace;
use crate::verify::tags::TagChecker;
use cairn_base::error::unless_lost;
use cairn_base::units::to_u64;
use cairn_base::{ChunkId, Clock, Error, Kind, Monitor, PackId, Result, Stage};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
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
    /// Places that were found to be bad earlier, in packs that are not read now.
    known: DamageList,
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

    /// Adds what is known to be damaged in packs that were not `read`.
    pub fn add_known(&mut self, known: &DamageList, read: &HashSet<PackId>) {
        self.known.merge(known);
        self.known.retain(
            |(_, pack)| !read.contains(pack),
            |pack| !read.contains(pack),
        );
    }

    /// Whether the chunk's place in this pack is bad.
    pub fn hits(&self, id: &ChunkId, pack: PackId) -> bool {
        self.packs.contains_key(&pack)
            || self.known.has(&id.prefix(), pack)
            || self
                .chunks
                .get(id)
                .is_some_and(|packs| packs.contains(&pack))
    }
}

/// Which packs are read, and how.
pub struct Reading<'a> {
    /// The packs, in the order in which they are begun.
    pub rows: Vec<PackRow>,
    /// Packs that are not read although they may be live: those that were not chosen, and those that are gone.
    pub left_out: HashSet<PackId>,
    /// Whether chunks are decoded and compared with their ids.
    pub deep: bool,
    /// Packs of which that is done in any case: their tags may match what was wrong when it was written.
    pub suspects: HashSet<PackId>,
    /// What is proven is told here.
    pub ledger: &'a Ledger<'a>,
    /// How fast may be read.
    pub pace: &'a Pace<'a>,
    /// When it was read.
    pub clock: &'a dyn Clock,
}

/// What came of it.
#[derive(Default)]
pub struct Readings {
    /// The packs that were read to their ends, or could not be read.
    pub packs: HashSet<PackId>,
    /// What of them is damaged.
    pub bad: BadChunks,
    /// Whether it was stopped on request before all were read.
    pub interrupted: bool,
}

/// Reads packs, with all processors. One that was replaced meanwhile does not count: those that hold its chunks now are
/// read instead.
pub fn check_packs(
    store: &Arc<Store>,
    reading: &Reading<'_>,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
) -> Readings {
    let check = Check {
        store,
        monitor,
        reading,
        packs: Mutex::default(),
        bytes: AtomicU64::new(0),
        found: Mutex::default(),
        problems: Mutex::default(),
        bad_packs: Mutex::default(),
        replaced: AtomicBool::new(false),
    };
    let mut seen = reading.left_out.clone();
    let mut rows = reading.rows.clone();
    rows.retain(|row| seen.insert(row.id));
    monitor.begin(Stage::VerifyPacks, rows.iter().map(|row| row.length).sum());
    while !rows.is_empty() && !monitor.stop_requested() {
        check.all(&rows);
        rows.clear();
        if check.replaced.swap(false, Ordering::Relaxed) {
            rows = store.live_packs();
            rows.retain(|row| seen.insert(row.id));
        }
    }
    monitor.finish(Stage::VerifyPacks);
    let packs = check.packs.into_inner();
    report.checked_packs = to_u64(packs.len());
    report.checked_bytes = check.bytes.into_inner();
    report.problems.extend(check.problems.into_inner());
    report.bad_packs.extend(check.bad_packs.into_inner());
    Readings {
        packs,
        bad: check.found.into_inner(),
        interrupted: monitor.stop_requested(),
    }
}

/// What the threads share.
struct Check<'a> {
    store: &'a Store,
    monitor: &'a dyn Monitor,
    reading: &'a Reading<'a>,
    packs: Mutex<HashSet<PackId>>,
    bytes: AtomicU64,
    found: Mutex<BadChunks>,
    problems: Mutex<Vec<String>>,
    bad_packs: Mutex<Vec<PackId>>,
    /// A pack was replaced before it was read.
    replaced: AtomicBool,
}

/// What a thread checks with; kept, because it is costly to make.
#[derive(Default)]
struct Tools {
    tags: TagChecker,
    frames: FrameChecker,
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
                    let mut tools = Tools::default();
                    while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if self.monitor.stop_requested() {
                            return;
                        }
                        self.one(row, &mut tools);
                    }
                });
            }
        });
    }

    fn one(&self, row: &PackRow, tools: &mut Tools) {
        let begun = self.reading.clock.now();
        let decoded = self.reading.deep || self.reading.suspects.contains(&row.id);
        let checked = self.pack(row.id, decoded, tools);
        match &checked {
            Ok(findings) if findings.is_clean() => {
                self.reading.ledger.proven(row, begun, decoded);
            }
            // Not read to its end: it is as if it had not been begun.
            Err(error) if error.kind() == Kind::Interrupted => return,
            _ if matches!(self.store.is_still_live(row.id), Ok(false)) => {
                self.replaced.store(true, Ordering::Relaxed);
                return;
            }
            // It says nothing of the pack: neither good nor damaged, and due again.
            Err(error) if error.is_momentary() => {
                let what = format!("{error}; run `cairn verify` again");
                self.problems.lock().push(what);
                return;
            }
            _ => {
                self.reading.ledger.damaged(row.id);
                self.bad_packs.lock().push(row.id);
            }
        }
        let judged = match checked {
            Ok(findings) => {
                self.bytes.fetch_add(findings.bytes, Ordering::Relaxed);
                if findings.is_clean() {
                    Ok(())
                } else {
                    self.judge(row, &findings, None, tools)
                }
            }
            Err(error) => self.judge(row, &PackFindings::default(), Some(&error), tools),
        };
        match judged {
            Ok(()) => drop(self.packs.lock().insert(row.id)),
            // It is damaged, but whether anything is lost cannot be told now: what was known of it stays known.
            Err(error) => {
                let path = self.store.folder().describe(&layout::pack(row.id));
                self.problems.lock().push(format!(
                    "the pack {path} is damaged, and its parity could not be read now: {error}; run `cairn verify` again"
                ));
            }
        }
    }

    /// Something is wrong with a pack: what of it parity restores is told, and kept apart from what is lost.
    fn judge(
        &self,
        row: &PackRow,
        findings: &PackFindings,
        error: Option<&Error>,
        tools: &mut Tools,
    ) -> Result<()> {
        let path = self.store.folder().describe(&layout::pack(row.id));
        let parity = if error.is_some() || !findings.bad.is_empty() {
            self.through_parity(row, error.is_some(), &mut tools.frames)?
        } else {
            None
        };
        let mut said = Vec::new();
        let mut found = self.found.lock();
        match (error, &parity) {
            (Some(error), None) => {
                said.push(format!(
                    "{error}; `cairn verify --repair` saves what can be had"
                ));
                found.packs.insert(row.id, error.to_string());
            }
            (error, parity) => {
                let nothing = HashSet::new();
                let given = parity.as_ref().map(|parity| &parity.lost);
                let listed = parity.as_ref().map_or(&nothing, |parity| &parity.damaged);
                let mut lost = 0usize;
                for chunk in findings.bad.iter().chain(listed) {
                    let is_lost = given.is_none_or(|lost| lost.contains(chunk));
                    let places = if is_lost {
                        &mut found.chunks
                    } else {
                        &mut found.restorable
                    };
                    let new = places.entry(*chunk).or_default().insert(row.id);
                    lost += usize::from(is_lost && new);
                }
                let restores = parity.is_some();
                said.extend(findings.describe(&path, error, lost, restores));
            }
        }
        drop(found);
        self.problems.lock().extend(said);
        Ok(())
    }

    /// What the pack's parity gives, if its structures can be had through it. If `headless`, they cannot without, and the frames that are not
    /// what was written are looked for as well. An error if something cannot be read now.
    fn through_parity(
        &self,
        row: &PackRow,
        headless: bool,
        checker: &mut FrameChecker,
    ) -> Result<Option<ThroughParity>> {
        let (store, folder) = (self.store, &**self.store.folder());
        self.reading
            .pace
            .take(row.length, &|| self.monitor.stop_requested());
        let opened = PackReader::open_healed(folder, store.header().store, row.id);
        let file = folder.open(&layout::pack(row.id));
        let (Some((pack, _)), Some(file)) = (unless_lost(opened)?, unless_lost(file)?) else {
            return Ok(None);
        };
        let mut found = ThroughParity::default();
        let mut stored = Vec::new();
        for (frame, chunks) in pack.frames() {
            let checked = checker.check(store.keys(), &pack, frame, chunks)?;
            found.lost.extend(checked.bad_chunks);
            if headless {
                stored.resize(usize::try_from(frame.stored).unwrap_or(usize::MAX), 0);
                let read = file.read_exact_at(u64::from(frame.offset), &mut stored);
                if read.is_err() || store.keys().frame_tag(&stored) != frame.tag {
                    found.damaged.extend(chunks.iter().map(|chunk| chunk.id));
                }
            }
        }
        Ok(Some(found))
    }

    /// Checks a pack. An error if its own structures do not check, and [`Kind::Interrupted`] on request.
    fn pack(&self, id: PackId, decoded: bool, tools: &mut Tools) -> Result<PackFindings> {
        let (store, monitor) = (self.store, self.monitor);
        let stop = || monitor.stop_requested();
        let pack = PackReader::open(&**store.folder(), store.header().store, id)?;
        let frames = pack.frames().map(|(frame, _)| u64::from(frame.stored));
        let around = pack.footer().length.saturating_sub(frames.sum());
        self.reading.pace.take(around, &stop);
        let mut findings = PackFindings {
            bad_parity: pack.damaged_parity()?,
            ..PackFindings::default()
        };
        let index = store.index();
        let Tools {
            tags,
            frames: checker,
        } = tools;
        // Why it cannot be read to its end now.
        let failed = RefCell::new(None);
        let mut before = |bytes| {
            self.reading.pace.take(bytes, &stop);
            if stop() || failed.borrow().is_some() {
                return ControlFlow::Break(());
            }
            monitor.advance(Stage::VerifyPacks, bytes);
            ControlFlow::Continue(())
        };
        let mut note = |frame: &TocFrame, chunks: &[TocChunk], is_good: bool| {
            // What does not match its tag is read once more: then it is certain, and the chunks tell how much of it is lost.
            let checked = if is_good {
                Ok(FrameFindings::default())
            } else {
                checker.check(store.keys(), &pack, frame, chunks)
            };
            match checked.and_then(|found| Ok((found, unindexed(&index, id, frame, chunks)?))) {
                Ok((found, unindexed)) => {
                    findings.bad_frames += u64::from(found.bad_frame);
                    findings.bad.extend(found.bad_chunks);
                    findings.unindexed += unindexed;
                    findings.bytes += u64::from(frame.stored);
                }
                Err(error) => *failed.borrow_mut() = Some(error),
            }
        };
        let ended = if decoded {
            pack.frames().try_for_each(|(frame, chunks)| {
                before(u64::from(frame.stored))?;
                note(frame, chunks, false);
                ControlFlow::Continue(())
            })
        } else {
            tags.check(store.keys(), &pack, &mut before, &mut note)
        };
        if let Some(error) = failed.into_inner() {
            return Err(error);
        }
        if ended.is_break() {
            return Err(Error::interrupted());
        }
        monitor.advance(Stage::VerifyPacks, around);
        findings.bytes += around;
        Ok(findings)
    }
}

/// What a pack gives with the help of its parity.
#[derive(Default)]
struct ThroughParity {
    /// Chunks that it does not give.
    lost: HashSet<ChunkId>,
    /// Chunks in frames whose bytes are not what was written.
    damaged: HashSet<ChunkId>,
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

    /// What is wrong with the pack at `path`, in sentences, each with what to do. `lost` of its chunks cannot be had from it; `parity`: its
    /// parity `restores` the others. `error`: its own structures are damaged.
    fn describe(
        &self,
        path: &str,
        error: Option<&Error>,
        lost: usize,
        restores: bool,
    ) -> Vec<String> {
        let repair = "run `cairn verify --repair`";
        let mut said = Vec::new();
        let damaged = error.is_some() || !self.bad.is_empty();
        if lost > 0 {
            let others = if restores {
                "; its parity restores the others"
            } else {
                ""
            };
            said.push(format!(
                "the pack {path} is damaged: {lost} chunks of it are lost{others}: {repair}, and back the machines up: what is seen again is stored anew"
            ));
        } else if damaged {
            said.push(format!(
                "the pack {path} is damaged; its parity restores all of it: {repair}"
            ));
        } else if self.bad_frames > 0 {
            said.push(format!(
                "{} frames of the pack {path} are not what was written, but all chunks in them are good: {repair}",
                self.bad_frames
            ));
        }
        if self.bad_parity > 0 {
            said.push(format!(
                "{} sectors of the parity of the pack {path} are damaged: {repair}",
                self.bad_parity
            ));
        }
        if self.unindexed > 0 {
            said.push(format!(
                "the index does not know where {} chunks of the pack {path} lie: {repair}",
                self.unindexed
            ));
        }
        said
    }
}
