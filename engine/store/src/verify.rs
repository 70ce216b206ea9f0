//! Verification: that every point can be restored.
//!
//! Quick: every chunk that any point refers to is in the index with the right length, in a pack that is there with its sealed
//! length; all maps are read. Full: besides, every frame of every pack is read, checked against its tag, decoded, and every
//! chunk checked against its id.

pub mod packs;
pub mod points;

use crate::catalog::all_points;
use crate::damage::{DamageList, NOWHERE};
use crate::index::check::check_segment;
use crate::session::{Session, SessionKind};
use crate::store::Store;
use cairn_base::{ChunkId, Error, Monitor, PackId, PointId, Result};
use packs::{BadChunks, check_packs};
use points::walk_points;
use std::collections::HashSet;
use std::sync::Arc;

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
    /// Stored bytes read and checked; 0 for a quick one.
    pub checked_bytes: u64,
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

/// Verifies the store. Damage is in the report; an error means that the verification itself could not be done.
///
/// # Errors
/// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; as the folder reports.
pub fn verify(store: &Arc<Store>, quick: bool, monitor: &dyn Monitor) -> Result<VerifyReport> {
    let session = Session::begin(store.folder().clone(), SessionKind::Read, &[])?;
    let mut report = VerifyReport::default();
    let unreadable = store.unreadable_damage();
    let before = store.damage_before();
    // A full verification writes that list anew.
    let warnings = store
        .warnings()
        .iter()
        .filter(|w| quick || Some(*w) != unreadable.as_ref());
    report.problems.extend(warnings.cloned());
    if let Some(warning) = session.warning() {
        monitor.warn(warning);
    }
    // Points before state, the reverse of the write order: what they refer to is in the index read afterwards.
    let listing = all_points(store)?;
    store.refresh()?;
    report
        .problems
        .extend(listing.damaged.iter().map(ToString::to_string));
    check_index(store, quick, monitor, &mut report)?;
    let (missing, _damage_named_already) = store.missing_packs()?;
    for id in &missing {
        let path = store.folder().describe(&crate::layout::pack(*id));
        report
            .problems
            .push(format!("the pack {path} is missing or cut short"));
    }
    let bad = if quick {
        BadChunks::default()
    } else {
        check_packs(store, &missing, monitor, &mut report)?
    };
    walk_points(store, &listing.points, &missing, &bad, monitor, &mut report)?;
    let kept = if quick {
        store.keep_damage()
    } else {
        list(store, &missing, &bad, &report).and_then(|found| store.replace_damage(found, &before))
    };
    if let Err(error) = kept {
        monitor.warn(&format!("what is damaged could not be noted: {error}"));
    }
    Ok(report)
}

/// All that was found to be damaged.
fn list(
    store: &Store,
    missing: &HashSet<PackId>,
    bad: &BadChunks,
    report: &VerifyReport,
) -> Result<DamageList> {
    let mut list = bad.list();
    let mut packs = missing.clone();
    packs.extend(bad.packs.keys());
    store.list_packs(&packs, &mut list)?;
    for damage in &report.damaged {
        if let Some(chunk) = damage.chunk.filter(|_| damage.pack.is_none()) {
            list.add((chunk.prefix(), NOWHERE));
        }
    }
    Ok(list)
}

/// Checks every segment: all of it, or, if `quick`, all but the pages of entries.
fn check_index(
    store: &Store,
    quick: bool,
    monitor: &dyn Monitor,
    report: &mut VerifyReport,
) -> Result<()> {
    for segment in store.index().segments() {
        let damage = check_segment(segment, !quick, &|| monitor.stop_requested());
        let said = damage.describe().into_iter();
        let of = segment.path();
        report
            .problems
            .extend(said.map(|what| format!("the index segment {of}: {what}")));
    }
    if monitor.stop_requested() {
        return Err(Error::interrupted());
    }
    Ok(())
}
