//! What can be done with a store, and how it may end while something else is done.

use crate::world::{DOOMED, Known, Ticking, back_up, create, open, read};
use cairn_base::read_at::read_vec;
use cairn_base::{Folder, Kind, LocalFolder, ReadAt, Silent};
use cairn_store::catalog::{
    self, ForgetOptions, Pin, Protection, Survey, all_points, latest, machines, set_pin,
};
use cairn_store::compact::tidy_up;
use cairn_store::doctor::{Finding, Severity, examine};
use cairn_store::publish::merge_segments;
use cairn_store::{
    ChunkReader, Depth, PruneOptions, Session, SessionKind, Store, StoredDisk, Tree, VerifyOptions,
    layout, prune, repair, stats, verify_with,
};
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Init,
    /// Of machine `m`; each merges small packs and segments at its end, if nobody else does.
    BackUpM,
    BackUpN,
    /// A new machine.
    BackUpNew,
    /// A point of a machine of its own, with a time of the past.
    Import,
    /// Segments, as far as they can be, and small packs.
    Merge,
    /// All points that are known, in a session.
    Read,
    /// What is the latest point now.
    ReadLatest,
    VerifyQuick,
    VerifyTags,
    VerifyFull,
    /// What `verify --repair` does: a full verification, and a repair if anything is wrong.
    VerifyRepair,
    Repair,
    Prune,
    /// Of one point of a machine of its own, and in vain of another one that is pinned.
    Forget,
    /// Pins the point that is forgotten next, and lets go of it.
    Pin,
    Doctor,
    Points,
    Stats,
}

/// Among what the others run.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// What was reported before.
    pub known: &'a [Known],
    /// Points that may be forgotten meanwhile, but for the last one.
    pub doomed: &'a [Known],
    /// Whether they are.
    pub forgets: bool,
    /// How often it was done before.
    pub times: usize,
    /// Whether another backup of the same machine may run.
    pub busy: bool,
    /// Whether packs are damaged, within their parity, so that a repair has something to do.
    pub hurt: bool,
}

pub const ALL: [Operation; 19] = [
    Operation::Init,
    Operation::BackUpM,
    Operation::BackUpN,
    Operation::BackUpNew,
    Operation::Import,
    Operation::Merge,
    Operation::Read,
    Operation::ReadLatest,
    Operation::VerifyQuick,
    Operation::VerifyTags,
    Operation::VerifyFull,
    Operation::VerifyRepair,
    Operation::Repair,
    Operation::Prune,
    Operation::Forget,
    Operation::Pin,
    Operation::Doctor,
    Operation::Points,
    Operation::Stats,
];

impl Operation {
    /// The machine it backs up.
    pub fn machine(self) -> Option<&'static str> {
        match self {
            Operation::BackUpM => Some("m"),
            Operation::BackUpN => Some("n"),
            Operation::BackUpNew => Some("new"),
            Operation::Import => Some("import"),
            _ => None,
        }
    }

    /// Whether it repairs what is damaged.
    pub fn repairs(self) -> bool {
        [Operation::VerifyRepair, Operation::Repair].contains(&self)
    }

    /// Does it: with the store that others use too, or with one of its own. Answers the point it made, if it made one. Panics if it
    /// fails in a way that nothing explains.
    pub fn run(
        self,
        path: &Path,
        shared: Option<&Arc<Store>>,
        around: Around<'_>,
    ) -> Option<Known> {
        let Around {
            known, busy, hurt, ..
        } = around;
        let store = || shared.cloned().unwrap_or_else(|| open(path).unwrap());
        if let Some(machine) = self.machine() {
            let import = self == Operation::Import;
            return match back_up(&store(), machine, import) {
                Ok(made) => {
                    assert!(hurt || made.0.record.warnings.is_empty());
                    Some(made)
                }
                Err(error) => {
                    assert!(busy && error.kind() == Kind::Busy, "{error}");
                    None
                }
            };
        }
        match self {
            Operation::Init => {
                let error = create(path).map(|_| ()).unwrap_err();
                assert_eq!(error.kind(), Kind::Exists);
            }
            Operation::Read => {
                read_known(&store(), known);
                read_doomed(&store(), &around);
            }
            Operation::ReadLatest => read_latest(&store(), known),
            Operation::Merge => merge(&store(), hurt),
            Operation::VerifyQuick => assert!(look(&store(), Depth::Quick) || hurt),
            Operation::VerifyTags => assert!(look(&store(), Depth::Tags) || hurt),
            Operation::VerifyFull => assert!(look(&store(), Depth::Deep) || hurt),
            Operation::VerifyRepair => {
                let store = store();
                if !look(&store, Depth::Deep) {
                    assert!(hurt);
                    mend(&store);
                }
            }
            Operation::Repair => mend(&store()),
            Operation::Prune => give_back(&store()),
            Operation::Forget => forget(&store(), &around),
            Operation::Pin => pin(&store(), &around),
            Operation::Doctor => examine_all(path, hurt),
            Operation::Points => {
                let store = store();
                let listing = all_points(&store).unwrap();
                assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
                let is_listed = |(point, _): &Known| listing.points.contains(point);
                assert!(known.iter().all(is_listed));
                let (names, failed) = machines(&store).unwrap();
                assert!(
                    names.len() >= 2 && failed.is_empty(),
                    "{names:?} {failed:?}"
                );
            }
            _ => {
                let found = stats(&store(), &Ticking).unwrap();
                assert!(found.points >= known.len() as u64);
            }
        }
        None
    }
}

/// What `doctor` does.
fn examine_all(path: &Path, hurt: bool) {
    let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(path));
    let checkup = examine(&folder, &Ticking).unwrap();
    let bad = |finding: &&Finding| finding.severity == Severity::Damage;
    let damage: Vec<_> = checkup.findings.iter().filter(bad).collect();
    assert!(hurt || damage.is_empty(), "{damage:?}");
    assert!(checkup.contents.is_some());
}

/// All points that are known, in a session.
fn read_known(store: &Arc<Store>, known: &[Known]) {
    let points: Vec<_> = known.iter().map(|(point, _)| point).collect();
    let folder = store.folder().clone();
    let session = Session::begin(folder, SessionKind::Read, &points).unwrap();
    assert!(session.is_registered(), "{:?}", session.warning());
    known.iter().for_each(|point| read(store, point).unwrap());
}

/// Whoever has a point open reads on, whether it is forgotten meanwhile or not.
fn read_doomed(store: &Arc<Store>, around: &Around<'_>) {
    for point in around.doomed {
        match Session::begin(store.folder().clone(), SessionKind::Read, &[&point.0]) {
            Ok(_session) => read(store, point).unwrap(),
            Err(error) => assert!(around.forgets && error.kind() == Kind::NotFound, "{error}"),
        }
    }
}

/// Forgets the next of the doomed points, if nobody pins it just now, and not the last one.
fn forget(store: &Arc<Store>, around: &Around<'_>) {
    let [.., (pinned, _)] = around.doomed else {
        panic!("nobody is doomed");
    };
    let (point, _) = &around.doomed[around.times];
    let permit = store.writer().unwrap();
    let survey = Survey::of(store, &layout::machine_folder(DOOMED)).unwrap();
    let wanted = [point.id, pinned.id].into_iter().collect();
    let options = ForgetOptions::default();
    let done = catalog::forget(store, &permit, &survey, &wanted, &options, &Ticking).unwrap();
    assert!(done.forgotten.iter().all(|file| file.id == point.id));
    let mut kept = done.kept.iter();
    assert!(kept.any(|(file, _)| file.id == pinned.id), "{done:?}");
    let mut reasons = done.kept.iter().flat_map(|(_, reasons)| reasons);
    assert!(
        reasons.all(|why| *why == Protection::Pinned(None)),
        "{done:?}"
    );
}

fn pin(store: &Arc<Store>, around: &Around<'_>) {
    let (point, _) = &around.doomed[around.times];
    let home = layout::machine_folder(DOOMED);
    for pin in [Some(Pin::default()), None] {
        let permit = store.writer().unwrap();
        match set_pin(store, &permit, &home, point.id, pin) {
            Ok(_) => {}
            Err(error) => assert!(around.forgets && error.kind() == Kind::NotFound, "{error}"),
        }
    }
}

/// Whether nothing is wrong.
fn look(store: &Arc<Store>, depth: Depth) -> bool {
    let options = VerifyOptions::at_depth(depth);
    let report = verify_with(store, &options, &Silent, &Ticking).unwrap();
    if !report.is_clean() {
        println!("{depth:?}: {report:?}");
    }
    // Whatever is damaged, nothing is lost.
    assert!(report.damaged.is_empty(), "{report:?}");
    report.is_clean()
}

/// Repairs it; refused if another merges or repairs just then.
fn mend(store: &Arc<Store>) {
    match repair(store, &Silent) {
        Ok(report) => assert_eq!(report.left, [] as [String; 0]),
        Err(error) => assert_eq!(error.kind(), Kind::Busy, "{error}"),
    }
}

/// Whoever merges just now keeps it away.
fn give_back(store: &Arc<Store>) {
    let options = PruneOptions {
        max_unused: 0,
        ..PruneOptions::default()
    };
    match prune(store, &options, &Silent) {
        Ok(report) => assert_eq!(report.lost, 0, "{report:?}"),
        Err(error) => assert_eq!(error.kind(), Kind::Busy, "{error}"),
    }
}

fn merge(store: &Arc<Store>, hurt: bool) {
    let _permit = store.writer().unwrap();
    let session = Session::begin(store.folder().clone(), SessionKind::Write, &[]).unwrap();
    merge_segments(store, &session, u64::MAX).unwrap();
    let warnings = tidy_up(store, &session, &Silent);
    assert!(hurt || warnings.is_empty(), "{warnings:?}");
}

/// The latest points, whoever made them.
fn read_latest(store: &Arc<Store>, known: &[Known]) {
    for machine in ["m", "n"] {
        let point = latest(store, machine).unwrap();
        assert_eq!(point.record.machine, machine);
        match known.iter().find(|(of, _)| of.id == point.id) {
            Some(known) => read(store, known).unwrap(),
            // Whose bytes are not known here is read all the same.
            None => {
                let reader = Arc::new(ChunkReader::new(store.clone(), 1 << 20));
                let disk = StoredDisk::new(Tree::new(reader, &point.record.disks[0]).unwrap());
                read_vec(&disk, 0, disk.size() as usize).unwrap();
            }
        }
    }
}
