//! What is gone without a record of it.

use crate::catalog::listing::{self, PointNames};
use crate::catalog::retention::{self, Retention};
use crate::catalog::{machine, records};
use crate::layout;
use crate::point::Point;
use crate::policy::Policy;
use crate::store::Store;
use cairn_base::Result;
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
        // And after them: whoever forgets all points of a machine takes its name away first.
        let named = named && machine::read_name(&**store.folder(), &path).is_ok();
        let told = told.remove(&path).unwrap_or_default();
        // After the list: what was forgotten since is recorded by now. A record that cannot be read is told by whoever lists the points.
        let retention = retention::read(&**store.folder(), &path, &names).ok();
        gone.extend(gone_in(
            store,
            &path,
            named,
            &names,
            retention.as_ref(),
            &told,
        ));
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

/// What is gone in a machine's folder with these points, which say that those of `told` were there; `named`: the machine has a name. Without its
/// record nobody knows what may be absent.
pub(super) fn gone_in(
    store: &Store,
    path: &str,
    named: bool,
    names: &PointNames,
    retention: Option<&Retention>,
    told: &BTreeSet<u64>,
) -> Vec<String> {
    let shown = store.folder().describe(path);
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
    if let Some(retention) = retention {
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
