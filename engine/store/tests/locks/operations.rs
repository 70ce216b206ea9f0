//! What can be done with a store, and how it may end while something else is done.

use crate::world::{Known, Ticking, back_up, create, open, read};
use cairn_base::read_at::read_vec;
use cairn_base::{Kind, ReadAt, Silent};
use cairn_store::catalog::{all_points, latest, machines};
use cairn_store::{
    ChunkReader, Session, SessionKind, Store, StoredDisk, Tree, repair, stats, verify,
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
    /// All points that are known, in a session.
    Read,
    /// What is the latest point now.
    ReadLatest,
    VerifyQuick,
    VerifyFull,
    /// Whoever merges just now keeps it away.
    Repair,
    Points,
    Stats,
}

pub const ALL: [Operation; 11] = [
    Operation::Init,
    Operation::BackUpM,
    Operation::BackUpN,
    Operation::BackUpNew,
    Operation::Read,
    Operation::ReadLatest,
    Operation::VerifyQuick,
    Operation::VerifyFull,
    Operation::Repair,
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
            _ => None,
        }
    }

    /// Does it: with the store that others use too, or with one of its own. Answers the point it made, if it made one. Panics if it
    /// fails in a way that nothing explains; `busy`: another backup of its machine may run.
    pub fn run(
        self,
        path: &Path,
        shared: Option<&Arc<Store>>,
        known: &[Known],
        busy: bool,
    ) -> Option<Known> {
        let store = || shared.cloned().unwrap_or_else(|| open(path).unwrap());
        if let Some(machine) = self.machine() {
            return match back_up(&store(), machine) {
                Ok(made) => {
                    assert_eq!(made.0.record.warnings, [] as [String; 0]);
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
                let store = store();
                let ids: Vec<_> = known.iter().map(|(point, _)| point.id).collect();
                let folder = store.folder().clone();
                let session = Session::begin(folder, SessionKind::Read, &ids).unwrap();
                assert!(session.is_registered(), "{:?}", session.warning());
                known.iter().for_each(|point| read(&store, point).unwrap());
            }
            Operation::ReadLatest => read_latest(&store(), known),
            Operation::VerifyQuick | Operation::VerifyFull => {
                let quick = self == Operation::VerifyQuick;
                let report = verify(&store(), quick, &Silent).unwrap();
                assert!(report.is_clean(), "{report:?}");
            }
            Operation::Repair => match repair(&store(), &Silent) {
                Ok(report) => assert!(
                    report.repaired.is_empty() && report.left.is_empty(),
                    "{report:?}"
                ),
                Err(error) => assert_eq!(error.kind(), Kind::Busy, "{error}"),
            },
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
