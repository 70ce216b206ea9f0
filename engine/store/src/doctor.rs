//! What state a store is in, and what to do about it: looks at everything, changes nothing, and goes on where something is damaged.
//!
//! No pack is read and no map is walked; that is what verification is for.

mod files;
mod findings;
mod sessions;

pub use files::{Condition, Copy};
pub use findings::{Finding, Severity};
pub use sessions::{Owner, SessionFacts};

use crate::catalog::each_point;
use crate::compact::litter::temporary;
use crate::header::Header;
use crate::policy::Policy;
use crate::proof::{ProofSummary, Proofs};
use crate::session::patient_lock;
use crate::store::Store;
use cairn_base::units::to_u64;
use cairn_base::{Clock, Error, Folder, PackId, PointId, Result, SegmentId, Space, Time};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What was found. Of a store that cannot be opened `contents` is missing.
#[derive(Debug, Default)]
pub struct Checkup {
    /// The copies of the header.
    pub headers: Vec<Copy>,
    /// The slots of the state.
    pub slots: Vec<Copy>,
    /// What the header says, if a copy of it can be read.
    pub identity: Option<Identity>,
    /// What is in it.
    pub contents: Option<Contents>,
    /// Who works with it, or did.
    pub sessions: Vec<SessionFacts>,
    /// Files that were being written when their writer died.
    pub temporary: Vec<String>,
    /// Room on its file system.
    pub space: Option<Space>,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
}

/// What was fixed when a store was made, but for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// 128 random bits that name the store.
    pub store: [u8; 16],
    /// When it was made.
    pub created: Time,
    /// Features a reader must know.
    pub read_flags: u64,
    /// Features a writer must know.
    pub write_flags: u64,
    /// How disks are cut.
    pub cut: String,
}

/// What is in a store that can be opened.
#[derive(Debug, Default)]
pub struct Contents {
    /// Generation of the state.
    pub generation: u64,
    /// Recovery points that can be read.
    pub points: u64,
    /// Live segments of the index.
    pub segments: u64,
    /// Live packs.
    pub packs: u64,
    /// Their length together in bytes.
    pub pack_bytes: u64,
    /// Live packs that are gone or cut short.
    pub missing: Vec<PackId>,
    /// Packs that nothing lists, with their lengths in bytes; none if that cannot be told.
    pub orphan_packs: Vec<(PackId, u64)>,
    /// Segments that nothing lists; none if that cannot be told.
    pub orphan_segments: Vec<SegmentId>,
    /// Packs that are to be deleted.
    pub condemned: Vec<PackId>,
    /// Packs whose chunks lie in others by now, and whose files are still there.
    pub replaced: Vec<PackId>,
    /// Places of chunks that are known to be damaged.
    pub known_damage: u64,
    /// When its packs were last proven good.
    pub proofs: ProofSummary,
    /// For how many seconds at least some pack was not read back.
    pub unverified_seconds: Option<i64>,
}

/// Looks at the store in `folder`.
///
/// # Errors
/// [`Kind::NotFound`](cairn_base::Kind::NotFound) if it is no store; [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it needs a newer
/// program to be read. Everything else is a finding.
pub fn examine(folder: &Arc<dyn Folder>, clock: &dyn Clock) -> Result<Checkup> {
    let mut checkup = Checkup::default();
    let here = &**folder;
    let header = files::headers(here, &mut checkup)?;
    files::slots(here, &mut checkup);
    // Names before the state: what was published in between is in the state read afterwards.
    let listed = files::list(here, &mut checkup.findings);
    let quiet = look_around(here, &mut checkup);
    match Store::open(folder.clone()) {
        Ok(store) => {
            let store = Arc::new(store);
            let mut points = HashSet::new();
            let looked = contents(
                &store,
                &listed,
                quiet,
                clock,
                &mut points,
                &mut checkup.findings,
            );
            match looked {
                Ok(contents) => {
                    let state = store.state();
                    let sessions = checkup.sessions.iter_mut();
                    sessions.for_each(|session| session.note_held(&state, &points));
                    checkup.contents = Some(contents);
                }
                Err(error) => checkup.findings.push(Finding::unreadable(&error)),
            }
        }
        Err(error) => checkup.findings.push(Finding::unreadable(&error)),
    }
    checkup.identity = header.map(|header| identity(&header, &mut checkup.findings));
    findings::judge(&mut checkup);
    Ok(checkup)
}

fn identity(header: &Header, findings: &mut Vec<Finding>) -> Identity {
    if !header.writable() {
        findings.push(Finding::read_only(header.unknown_flags().1));
    }
    Identity {
        store: header.store,
        created: Time::from_seconds(header.created),
        read_flags: header.read_flags,
        write_flags: header.write_flags,
        cut: format!("{:?}", header.cut),
    }
}

/// Looks at sessions, temporary files and the file system; whether nobody published meanwhile.
fn look_around(folder: &dyn Folder, checkup: &mut Checkup) -> bool {
    // So that no session is taken for dead in the moment between the making of its file and its lock.
    let publish = patient_lock(folder);
    if let Err(error) = &publish {
        checkup.findings.push(Finding::no_publish_lock(error));
    }
    let quiet = publish.is_ok();
    let mut note = |error: Error| checkup.findings.push(Finding::unreadable(&error));
    match sessions::look(folder, quiet) {
        Ok(found) => checkup.sessions = found,
        Err(error) => note(error),
    }
    if quiet {
        match temporary(folder) {
            Ok(found) => checkup.temporary = found,
            Err(error) => note(error),
        }
    }
    match folder.space() {
        Ok(space) => checkup.space = space,
        Err(error) => note(error),
    }
    quiet
}

fn contents(
    store: &Arc<Store>,
    listed: &files::Listed,
    quiet: bool,
    clock: &dyn Clock,
    points: &mut HashSet<PointId>,
    findings: &mut Vec<Finding>,
) -> Result<Contents> {
    let mut found = Contents {
        generation: store.generation(),
        segments: to_u64(store.index().segments().len()),
        known_damage: to_u64(store.known_damage().len()),
        ..Contents::default()
    };
    findings.extend(store.warnings().iter().map(Finding::damaged_part));
    each_point(store, None, &mut |point| {
        match point {
            Ok(point) => drop(points.insert(point.id)),
            Err(error) => findings.push(Finding::damaged_part(&error.to_string())),
        }
        ControlFlow::Continue(())
    })?;
    found.points = to_u64(points.len());
    let policy = Policy::read(&**store.folder()).err();
    findings.extend(policy.iter().map(Finding::damaged_part));
    let (missing, damage) = store.missing_packs()?;
    findings.extend(damage.iter().map(Finding::damaged_part));
    found.missing = missing.into_iter().collect();
    found.missing.sort_unstable();
    let rows = store.live_packs();
    found.packs = to_u64(rows.len());
    found.pack_bytes = rows.iter().map(|row| row.length).sum();
    let state = store.state();
    found.condemned = state.condemned_packs().collect();
    let there: HashSet<PackId> = listed.packs.iter().copied().collect();
    let replaced = state.replaced_packs().filter(|id| there.contains(id));
    found.replaced = replaced.collect();
    // Where a part of the index is lost, nobody knows what it named.
    if quiet && store.has_all_segments() && damage.is_empty() {
        let (packs, segments) = files::orphans(store, listed)?;
        (found.orphan_packs, found.orphan_segments) = (packs, segments);
    }
    let (proofs, lost) = Proofs::read_or_none(&**store.folder());
    findings.extend(lost.as_deref().map(Finding::lost_proofs));
    let now = clock.now();
    found.proofs = proofs.summary(rows.iter().map(|row| (row.id, row.length)), now);
    let made = Time::from_seconds(store.header().created);
    found.unverified_seconds = found.proofs.unverified_seconds(made, now);
    Ok(found)
}
