//! What is gone without a record of it, and whether everything that a deletion must look at can be looked at.

use crate::catalog::listing::{self, PointNames};
use crate::catalog::{BATCH, machine, records, retention};
use crate::layout::{self, POINTS};
use crate::point::Point;
use crate::policy::Policy;
use crate::store::Store;
use cairn_base::{Error, Result};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What is missing among the points, in sentences: each point says which one was there before it, and a machine's record says which ones were
/// forgotten. That the newest ones are missing cannot be told, nor what only another one that is missing says. Also whether what holds for
/// all points is lost.
///
/// # Errors
/// As the folder reports.
pub fn gone(store: &Store, points: &[Point]) -> Result<Vec<String>> {
    let mut told: HashMap<String, BTreeSet<u64>> = HashMap::new();
    for point in points.iter().filter(|point| point.record.previous > 0) {
        let path = layout::machine_folder(&point.record.machine);
        told.entry(path).or_default().insert(point.record.previous);
    }
    let policy = Policy::read(&**store.folder()).err();
    let mut gone: Vec<String> = policy.iter().map(ToString::to_string).collect();
    for path in listing::machine_folders(&**store.folder())? {
        // Before the points: a new machine gets its first point, and then its name.
        let named = machine::read_name(&**store.folder(), &path).is_ok();
        // One that cannot be listed is told with the points.
        let Ok(names) = listing::list(store, &path) else {
            continue;
        };
        let told = told.remove(&path).unwrap_or_default();
        gone.extend(gone_in(store, &path, named, &names, &told));
    }
    Ok(gone)
}

/// What to do about what is gone.
const WAY_OUT: &str = "put it back from a copy of the store if there is one; if not, `cairn forget STORE --machine NAME --accept-gone` records that it is gone for good";

/// The sequence numbers of points whose files have lost their names, and how many such files do not tell.
pub(super) fn strays(store: &Store, path: &str, found: &PointNames) -> (HashSet<u64>, usize) {
    let mut numbers = HashSet::new();
    let mut unknown = 0usize;
    for name in &found.strays {
        match records::read_sequence(store, path, name) {
            Some(number) => drop(numbers.insert(number)),
            None => unknown = unknown.saturating_add(1),
        }
    }
    (numbers, unknown)
}

/// What is gone in a machine's folder with these points, which say that those of `told` were there; `named`: the machine has a name.
fn gone_in(
    store: &Store,
    path: &str,
    named: bool,
    names: &PointNames,
    told: &BTreeSet<u64>,
) -> Vec<String> {
    let folder = &**store.folder();
    // After the list: what was forgotten since is recorded by now. A record that cannot be read is told by whoever lists the points.
    let retention = retention::read(folder, path, names);
    let shown = folder.describe(path);
    // Those that are there and cannot be read, or have lost their names, are told as that.
    let (strays, unknown) = strays(store, path, names);
    let mut there: HashSet<u64> = names.points.iter().map(|file| file.sequence).collect();
    there.extend(strays);
    let unless = match unknown {
        0 => "",
        _ => {
            ", unless it is one of the files there that are not named like points and cannot be read"
        }
    };
    let mut gone = Vec::new();
    if let Ok(retention) = retention {
        let missing = |number: &&u64| !there.contains(number) && !retention.is_forgotten(**number);
        gone.extend(told.iter().filter(missing).map(|number| format!(
            "the recovery point number {number} in {shown} is gone, and nothing says that it was forgotten{unless}: {WAY_OUT}"
        )));
    }
    if named && names.points.is_empty() && names.damaged.is_empty() {
        gone.push(format!(
            "all recovery points in {shown} are gone: {WAY_OUT}"
        ));
    }
    gone
}

/// Reads every point, and answers what keeps anybody from deleting chunks: a point, a machine's record or a file among them that cannot be
/// read, a point that is gone without a record of it, anything among the machines that is none. Empty: what `sink` got is all there is.
/// The caller holds the publish lock.
///
/// # Errors
/// As the folder reports.
pub fn check_walkable(store: &Store, sink: &mut dyn FnMut(Point)) -> Result<Vec<Error>> {
    let folder = &**store.folder();
    let mut problems = Vec::new();
    for name in folder.list(POINTS)? {
        if !listing::is_machine_folder(&name) {
            let path = folder.describe(&cairn_base::folder::join(POINTS, &name));
            let error = Error::damaged("something among the machines is none").at_path(path);
            problems.push(
                error.advise(
                    "if it was renamed, give it its name back; if it is not ours, remove it",
                ),
            );
        }
    }
    for path in listing::machine_folders(folder)? {
        let names = match listing::list(store, &path) {
            Ok(names) => names,
            Err(error) => {
                problems.push(listing::unlisted(store, &path, error));
                continue;
            }
        };
        problems.extend(names.damaged.iter().cloned());
        problems.extend(retention::read(folder, &path, &names).err());
        let mut told = BTreeSet::new();
        let files: Vec<_> = names.points.iter().map(|file| (&*path, *file)).collect();
        for batch in files.chunks(BATCH) {
            for found in records::read_points(store, batch) {
                match found {
                    Ok(point) => {
                        told.extend(Some(point.record.previous).filter(|number| *number > 0));
                        sink(point);
                    }
                    Err(error) => problems.push(error),
                }
            }
        }
        let named = machine::read_name(folder, &path).is_ok();
        let gone = gone_in(store, &path, named, &names, &told);
        problems.extend(gone.into_iter().map(Error::damaged));
    }
    Ok(problems)
}
