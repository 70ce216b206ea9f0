//! Whether everything that a deletion must look at can be looked at.

use crate::catalog::listing::{self, PointNames};
use crate::catalog::missing::gone_in;
use crate::catalog::{BATCH, machine, records, retention};
use crate::layout::{POINTS, PointFile};
use crate::session::Root;
use crate::store::Store;
use cairn_base::folder::join;
use cairn_base::{Error, PointId, Result};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What a deletion has to know of a point.
#[derive(Debug, Clone)]
struct Known {
    previous: u64,
    roots: Vec<Root>,
}

/// Every point, by its machine's folder and its file. Points never change, so none is read twice.
#[derive(Debug, Clone, Default)]
pub struct Walkable {
    machines: BTreeMap<String, BTreeMap<PointFile, Known>>,
    /// Of each machine the points that were there when its folder was last made durable: what was gone by then is gone for good.
    durable: BTreeMap<String, BTreeSet<PointFile>>,
}

impl Walkable {
    /// Reads the points that are not known yet: what takes long, to be done before the publish lock is taken. What cannot be read is left to
    /// [`check`](Walkable::check), and told there.
    ///
    /// `for_good`: what is not there is made durable, whoever removed it.
    ///
    /// # Errors
    /// If the machines cannot be listed; as the folder reports.
    pub fn read(&mut self, store: &Store, for_good: bool) -> Result<()> {
        for path in listing::machine_folders(&**store.folder())? {
            if let Ok(names) = listing::list(store, &path) {
                if for_good {
                    self.make_durable(store, &path, &names)?;
                }
                let _told_later = self.learn(store, &path, &names);
            }
        }
        Ok(())
    }

    /// Lists all points anew, reads those that are not known, and leaves out those that are gone. Answers what keeps anybody from deleting chunks: a point, a
    /// machine's record or a file among them that cannot be read, a point that is gone without a record of it, anything among the machines that is none.
    /// Empty: these are all points that there are. The caller holds the publish lock.
    ///
    /// # Errors
    /// As the folder reports.
    pub fn check(&mut self, store: &Store, for_good: bool) -> Result<Vec<Error>> {
        let folder = &**store.folder();
        let mut problems = Vec::new();
        for name in folder.list(POINTS)? {
            if !listing::is_machine_folder(&name) {
                let path = folder.describe(&join(POINTS, &name));
                let error = Error::damaged("something among the machines is none").at_path(path);
                problems.push(error.advise(
                    "if it was renamed, give it its name back; if it is not ours, remove it",
                ));
            }
        }
        let paths = listing::machine_folders(folder)?;
        let here: HashSet<&String> = paths.iter().collect();
        self.machines.retain(|path, _| here.contains(path));
        for path in &paths {
            let names = match listing::list(store, path) {
                Ok(names) => names,
                Err(error) => {
                    problems.push(listing::unlisted(store, path, error));
                    continue;
                }
            };
            if for_good {
                self.make_durable(store, path, &names)?;
            }
            problems.extend(names.damaged.iter().cloned());
            let retention = match retention::read(folder, path, &names) {
                Ok(retention) => Some(retention),
                Err(error) => {
                    problems.push(error);
                    None
                }
            };
            problems.extend(self.learn(store, path, &names));
            let points = self.machines.get(path);
            let told = points.into_iter().flat_map(BTreeMap::values);
            let told = told.map(|point| point.previous);
            let told: BTreeSet<u64> = told.filter(|number| *number > 0).collect();
            let named = machine::read_name(folder, path).is_ok();
            let gone = gone_in(store, path, named, &names, retention.as_ref(), &told);
            problems.extend(gone.into_iter().map(Error::damaged));
        }
        Ok(problems)
    }

    /// Sees to it that the points of a machine that are not among these are gone for good: a process that removed one may have been killed before that was
    /// durable. Quick where none is gone since the last time.
    fn make_durable(&mut self, store: &Store, path: &str, names: &PointNames) -> Result<()> {
        let there: BTreeSet<PointFile> = names.points.iter().copied().collect();
        let before = self.durable.get(path);
        if before.is_none_or(|before| !before.is_subset(&there)) {
            store.folder().sync_folder(path)?;
        }
        self.durable.insert(path.to_string(), there);
        Ok(())
    }

    /// Makes these the points of a machine: reads those that are not known. Answers why some cannot be read.
    fn learn(&mut self, store: &Store, path: &str, names: &PointNames) -> Vec<Error> {
        let known = self.machines.entry(path.to_string()).or_default();
        let there: BTreeSet<&PointFile> = names.points.iter().collect();
        known.retain(|file, _| there.contains(file));
        let new = names.points.iter().filter(|file| !known.contains_key(file));
        let new: Vec<_> = new.map(|file| (path, *file)).collect();
        let mut failed = Vec::new();
        for batch in new.chunks(BATCH) {
            for ((_, file), read) in batch.iter().zip(records::read_points(store, batch)) {
                match read {
                    Ok(point) => {
                        let (previous, roots) = (point.record.previous, Root::all_of(&point));
                        let roots = roots.collect();
                        known.insert(*file, Known { previous, roots });
                    }
                    Err(error) => failed.push(error),
                }
            }
        }
        failed
    }

    /// Each point, and the maps of its disks.
    pub fn points(&self) -> impl Iterator<Item = (PointId, &[Root])> {
        let points = self.machines.values().flatten();
        points.map(|(file, known)| (file.id, &known.roots[..]))
    }
}
