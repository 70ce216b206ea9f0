//! Verification: that every point can be restored.
//!
//! Quick: every chunk that any point refers to is in the index with the right length, in a pack that is there with its sealed
//! length; all maps are read. By tags: besides, the whole index and the stored bytes of packs are read, and each frame is compared
//! with its tag. Deep: besides, each frame is decoded, and every chunk compared with its id. When a pack was last found good is noted.

pub mod choose;
pub mod ledger;
pub mod options;
pub mod pace;
pub mod packs;
pub mod points;
pub mod tags;

use crate::catalog::{all_points, gone};
use crate::damage::NOWHERE;
use crate::index::block::BLOCK_LEN;
use crate::index::check::check_segment;
use crate::point::Point;
use crate::proof::Proofs;
use crate::session::{Session, SessionKind};
use crate::store::{DamageWatch, Store};
use cairn_base::units::to_u64;
use cairn_base::{
    ChunkId, Clock, Error, Kind, Monitor, PackId, PointId, Result, SystemClock, Time,
};
use choose::choose;
use ledger::Ledger;
pub use options::{Depth, Pick, VerifyOptions};
use pace::Pace;
use packs::{Reading, Readings, check_packs};
use points::walk_points;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// A part of a disk that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The chunk that is lost; of a map's node or leaf when a whole part of the disk is.
    pub chunk: Option<ChunkId>,
    /// The pack it lies in, if that is known.
    pub pack: Option<PackId>,
    /// The points concerned.
    pub points: Vec<PointId>,
    /// The disk concerned.
    pub disk: String,
    /// Offset on the disk in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// What is wrong.
    pub why: String,
}

/// What a verification found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// When it began.
    pub begun: Time,
    /// Stored bytes read and checked; 0 for a quick one.
    pub checked_bytes: u64,
    /// Packs read.
    pub checked_packs: u64,
    /// How long these were read for.
    pub reading: Duration,
    /// How long all of it took.
    pub took: Duration,
    /// Live packs.
    pub packs: u64,
    /// Their length together in bytes.
    pub pack_bytes: u64,
    /// What decided which packs were read, if they were drawn.
    pub seed: Option<u64>,
    /// Packs that are gone, or in which something is not as it should be.
    pub bad_packs: Vec<PackId>,
    /// Bytes of disks whose maps were walked.
    pub walked_bytes: u64,
    /// Points that were walked.
    pub points: u64,
    /// What cannot be restored.
    pub damaged: Vec<Damage>,
    /// Problems with the store's own files that concern no particular part of a disk.
    pub problems: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty() && self.problems.is_empty()
    }
}

/// Verifies the store in a usual way: `quick`, or else deep, all packs. See [`verify_with`].
///
/// # Errors
/// As [`verify_with`].
pub fn verify(store: &Arc<Store>, quick: bool, monitor: &dyn Monitor) -> Result<VerifyReport> {
    let depth = if quick { Depth::Quick } else { Depth::Deep };
    verify_with(
        store,
        &VerifyOptions::at_depth(depth),
        monitor,
        &SystemClock,
    )
}

/// Verifies the store. Damage is in the report; an error means that the verification itself could not be done. Notes which packs were
/// proven good, and what is damaged.
///
/// # Errors
/// [`Kind::Interrupted`] on request: what was found wrong until then was told to `monitor`, and the error says how to go on; as the folder reports.
pub fn verify_with(
    store: &Arc<Store>,
    options: &VerifyOptions,
    monitor: &dyn Monitor,
    clock: &dyn Clock,
) -> Result<VerifyReport> {
    let session = Session::begin(store.folder().clone(), SessionKind::Read, &[])?;
    let started = clock.ticks();
    let mut report = VerifyReport {
        begun: clock.now(),
        ..VerifyReport::default()
    };
    let unreadable = store.unreadable_damage();
    let watch = store.watch_damage();
    let before = watch.before();
    // One that reads everything writes that list anew.
    let warnings = store
        .warnings()
        .iter()
        .filter(|w| !options.is_full() || Some(*w) != unreadable.as_ref());
    report.problems.extend(warnings.cloned());
    if let Some(warning) = session.warning() {
        monitor.warn(warning);
    }
    let points = list_points(store, &mut report)?;
    let pace = Pace::new(options.limit, clock);
    check_index(store, options, &pace, monitor, &mut report)
        .map_err(|error| resumable(error, options, &report, monitor))?;
    let missing = find_missing(store, &mut report)?;
    let suspects = before.packs_with_damage();
    let timing = (clock, &pace);
    let mut read = read_packs(
        store,
        options,
        &missing,
        suspects,
        timing,
        monitor,
        &mut report,
    )?;
    read.bad.add_known(before, &read.packs);
    let walked = if read.interrupted {
        Err(Error::interrupted())
    } else {
        walk_points(store, &points, &missing, &read.bad, monitor, &mut report)
    };
    tell_healed(store, &read, &mut report);
    let known = Known {
        watch: &watch,
        unreadable: unreadable.is_some(),
        full: options.is_full() && matches!(walked, Ok(true)),
    };
    if let Err(error) = known.keep(store, &missing, &read, &report) {
        monitor.warn(&format!("what is damaged could not be noted: {error}"));
    }
    // It was to be written anew, and could not be.
    if options.is_full() {
        report.problems.extend(store.unreadable_damage());
    }
    walked.map_err(|error| resumable(error, options, &report, monitor))?;
    report.took = clock.ticks().saturating_sub(started);
    Ok(report)
}

/// The points; what is wrong with the others is reported.
fn list_points(store: &Store, report: &mut VerifyReport) -> Result<Vec<Point>> {
    // Points before state, the reverse of the write order: what they refer to is in the index read afterwards.
    let listing = all_points(store)?;
    store.refresh()?;
    let damaged = listing.damaged.iter().map(ToString::to_string);
    report.problems.extend(damaged);
    report.problems.extend(gone(store, &listing.points)?);
    Ok(listing.points)
}

/// Names packs that were not read as a whole, and of which something could be read only with the help of their parity.
fn tell_healed(store: &Store, read: &Readings, report: &mut VerifyReport) {
    for id in store.healed_packs() {
        let live = store.is_still_live(id).unwrap_or(true);
        if live && !read.packs.contains(&id) && !report.bad_packs.contains(&id) {
            let path = store.folder().describe(&crate::layout::pack(id));
            report.problems.push(format!(
                "the pack {path} is damaged; its parity gave what was needed of it: run `cairn verify --repair`"
            ));
            report.bad_packs.push(id);
        }
    }
}

/// Live packs that are gone or cut short.
fn find_missing(store: &Store, report: &mut VerifyReport) -> Result<HashSet<PackId>> {
    let (missing, _damage_named_already) = store.missing_packs()?;
    for id in &missing {
        let path = store.folder().describe(&crate::layout::pack(*id));
        report
            .problems
            .push(format!("the pack {path} is missing or cut short: put it back from a copy of the store if there is one; `cairn verify --repair` saves what is left of it"));
        report.bad_packs.push(*id);
    }
    Ok(missing)
}

/// Chooses packs, reads them, and notes what was proven, also if it is interrupted.
fn read_packs(
    store: &Arc<Store>,
    options: &VerifyOptions,
    missing: &HashSet<PackId>,
    suspects: HashSet<PackId>,
    (clock, pace): (&dyn Clock, &Pace<'_>),
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
) -> Result<Readings> {
    let mut rows = store.live_packs();
    report.packs = to_u64(rows.len());
    let lengths = rows.iter().map(|row| row.length);
    report.pack_bytes = lengths.fold(0, u64::saturating_add);
    // What is not there takes nobody's turn.
    rows.retain(|row| !missing.contains(&row.id));
    if options.depth == Depth::Quick {
        return Ok(Readings::default());
    }
    let (proofs, unreadable) = Proofs::read_or_none(&**store.folder());
    if let Some(warning) = unreadable {
        monitor.warn(&warning);
    }
    let chosen = choose(&rows, &proofs, &suspects, options, report.begun)?;
    report.seed = chosen.seed;
    let ledger = Ledger::new(store);
    ledger.met(&chosen.met, report.begun);
    let picked: HashSet<PackId> = chosen.rows.iter().map(|row| row.id).collect();
    let others = rows.iter().map(|row| row.id);
    let mut left_out: HashSet<PackId> = others.filter(|id| !picked.contains(id)).collect();
    for id in missing {
        ledger.damaged(*id);
        left_out.insert(*id);
    }
    let reading = Reading {
        rows: chosen.rows,
        left_out,
        deep: options.depth == Depth::Deep,
        suspects,
        ledger: &ledger,
        pace,
        clock,
    };
    let began = clock.ticks();
    let read = check_packs(store, &reading, monitor, report);
    report.reading = clock.ticks().saturating_sub(began);
    if let Err(error) = ledger.keep(true) {
        monitor.warn(&format!("what was verified could not be noted: {error}"));
    }
    Ok(read)
}

/// Tells what was found before an interruption, and how to go on.
fn resumable(
    error: Error,
    options: &VerifyOptions,
    report: &VerifyReport,
    monitor: &dyn Monitor,
) -> Error {
    for problem in &report.problems {
        monitor.warn(problem);
    }
    if error.kind() != Kind::Interrupted {
        return error;
    }
    let count = report.checked_packs;
    if options.depth == Depth::Quick {
        return error.advise("run it again");
    }
    let noted = format!("{count} packs were read, and that is noted");
    error.advise(match (options.since, options.pick) {
        (None, Pick::All) => {
            let deep = match options.depth {
                Depth::Deep => "--deep ",
                _ => "",
            };
            format!(
                "{noted}; to go on with the others, run `cairn verify STORE {deep}--since {}`",
                report.begun
            )
        }
        (_, Pick::Sample { .. }) => format!("{noted}; to read others, run it again"),
        _ => format!("{noted}; to go on with the others, run the same again"),
    })
}

/// What was known to be damaged, and what becomes of it.
struct Known<'a> {
    watch: &'a DamageWatch<'a>,
    /// The list on disk cannot be made out.
    unreadable: bool,
    /// Everything was read: what was not found is not there any more.
    full: bool,
}

impl Known<'_> {
    /// Notes what was found.
    fn keep(
        &self,
        store: &Store,
        missing: &HashSet<PackId>,
        read: &Readings,
        report: &VerifyReport,
    ) -> Result<()> {
        let nowhere = report.damaged.iter().any(|damage| damage.pack.is_none());
        let nothing_new = read.packs.is_empty() && missing.is_empty() && !nowhere;
        if !self.full && (self.unreadable || nothing_new) {
            return store.keep_damage();
        }
        let mut found = read.bad.list();
        let mut packs = missing.clone();
        packs.extend(read.bad.packs.keys());
        store.list_packs(&packs, &mut found)?;
        for damage in &report.damaged {
            if let Some(chunk) = damage.chunk.filter(|_| damage.pack.is_none()) {
                found.add((chunk.prefix(), NOWHERE));
            }
        }
        if report.damaged.len() >= points::MAX_LISTED {
            found.note_more();
        }
        // What lies in packs that were read was found again, or is good now. After all were read, what lies in packs that are not
        // there any more, or nowhere, was found again too; one that could not be read for the moment keeps what was known of it.
        let live = store.live_packs();
        let live: HashSet<PackId> = live.iter().map(|row| row.id).collect();
        let is_other =
            |pack: &PackId| !read.packs.contains(pack) && (!self.full || live.contains(pack));
        let mut others = self.watch.before().clone();
        others.retain(|(_, pack)| is_other(pack), is_other);
        found.merge(&others);
        store.replace_damage(found, self.watch)
    }
}

/// Checks every segment: all of it, or, if it is quick, all but the pages of entries.
fn check_index(
    store: &Store,
    options: &VerifyOptions,
    pace: &Pace<'_>,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
) -> Result<()> {
    let all = options.depth != Depth::Quick;
    let stop = || monitor.stop_requested();
    for segment in store.index().segments() {
        let block = if all {
            BLOCK_LEN.min(segment.length())
        } else {
            0
        };
        // Asked before each block.
        let damage = check_segment(segment, all, &|| {
            pace.take(block, &stop);
            stop()
        });
        let of = segment.path();
        let said = match damage {
            Ok(damage) => damage.describe(),
            Err(error) => vec![format!("it could not be read now: {error}")],
        };
        report.problems.extend(
            said.iter()
                .map(|what| format!("the index segment {of}: {what}")),
        );
    }
    if stop() {
        return Err(Error::interrupted());
    }
    Ok(())
}
