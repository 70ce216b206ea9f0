//! The catalog: the points of all machines. A point's file is named by its sequence number, time and id, never replaces another, and its
//! publication is the commit of a backup.
//!
//! What the names of files say is enough to find, order and list points; each record is read when it is asked for, and checked against its name.

mod listing;
mod machine;
mod moment;
mod records;

pub use listing::PointNames;
pub use moment::{Moment, choose_time};

use crate::codec;
use crate::layout::{self, MACHINE_SCRATCH, POINTS, PointFile};
use crate::names::PointName;
use crate::point::{Point, PointRecord};
use crate::session::publish_lock;
use crate::store::Store;
use cairn_base::folder::{Lock, join, optional, publish_bytes};
use cairn_base::{Error, Folder, Kind, LockMode, Result};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

/// Records read at a time: enough to keep processors busy, few enough for any number of points to take little memory.
const BATCH: usize = 2048;

/// The points found, oldest first, and what could not be read.
#[derive(Debug, Default)]
pub struct Listing {
    /// Points in the order of their sequence numbers.
    pub points: Vec<Point>,
    /// Files that are no whole points. They are never skipped in silence.
    pub damaged: Vec<Error>,
}

impl Listing {
    fn of(store: &Store, machine: Option<&str>) -> Result<Listing> {
        let mut listing = Listing::default();
        each_point(store, machine, &mut |found| {
            match found {
                Ok(point) => listing.points.push(point),
                Err(error) => listing.damaged.push(error),
            }
            ControlFlow::Continue(())
        })?;
        Ok(listing)
    }
}

/// Receives points, and what is none, until it breaks.
pub type PointSink<'a> = &'a mut dyn FnMut(Result<Point>) -> ControlFlow<()>;

/// The points of one machine.
///
/// # Errors
/// As the folder reports; single damaged files are in the listing.
pub fn machine_points(store: &Store, machine: &str) -> Result<Listing> {
    Listing::of(store, Some(machine))
}

/// The points of all machines, by machine and sequence number.
///
/// # Errors
/// As the folder reports; single damaged files are in the listing.
pub fn all_points(store: &Store) -> Result<Listing> {
    Listing::of(store, None)
}

/// Reads the points of one machine, or of all, and tells them by machine and sequence number, a few at a time. Whatever is no whole point is told as
/// an error, and so is a machine's name that is damaged. A folder of a machine that cannot be listed is told behind all that can be read.
///
/// # Errors
/// As the folder reports; of one machine also if its own folder cannot be listed.
pub fn each_point(store: &Store, machine: Option<&str>, sink: PointSink<'_>) -> Result<()> {
    let folders = match machine {
        Some(machine) => vec![layout::machine_folder(machine)],
        None => folders_by_name(store)?,
    };
    let mut files = Vec::new();
    let mut unlisted = Vec::new();
    for path in &folders {
        let found = match listing::list(store, path) {
            Ok(found) => found,
            Err(error) if machine.is_some() => return Err(error),
            Err(error) => {
                unlisted.push(listing::unlisted(store, path, error));
                continue;
            }
        };
        let name = machine::read_name(&**store.folder(), path).err();
        let lost = name.filter(|error| error.kind() != Kind::NotFound);
        for error in found.damaged.into_iter().chain(lost) {
            if sink(Err(error)).is_break() {
                return Ok(());
            }
        }
        files.extend(found.points.into_iter().map(|file| (path.as_str(), file)));
    }
    for batch in files.chunks(BATCH) {
        for found in records::read_points(store, batch) {
            // What is gone was forgotten between the listing and the reading.
            let gone = matches!(&found, Err(error) if error.kind() == Kind::NotFound);
            if !gone && sink(found).is_break() {
                return Ok(());
            }
        }
    }
    for error in unlisted {
        if sink(Err(error)).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// The points of a machine as the names of their files tell them. No record is read.
///
/// # Errors
/// As the folder reports; files with other names are in the listing.
pub fn point_names(store: &Store, machine: &str) -> Result<PointNames> {
    listing::list(store, &layout::machine_folder(machine))
}

/// The point of a machine in this file.
///
/// # Errors
/// [`Kind::NotFound`] if it is gone, [`Kind::Damaged`] if it is not whole or not what its name says.
pub fn read_point(store: &Store, machine: &str, file: &PointFile) -> Result<Point> {
    records::read_point(store, &layout::machine_folder(machine), file)
}

/// The names of all machines, sorted. A machine whose name and points are all lost is named in the errors.
///
/// # Errors
/// As the folder reports.
pub fn machines(store: &Store) -> Result<(Vec<String>, Vec<Error>)> {
    let mut names = Vec::new();
    let mut errors = Vec::new();
    for path in machine_folders(&**store.folder())? {
        match spelled(store, &path) {
            Ok(name) => names.extend(name),
            Err(error) => errors.push(error),
        }
    }
    names.sort_by_cached_key(|name| name.to_lowercase());
    Ok((names, errors))
}

/// What is missing among the points, in sentences: each point says which one was there before it, and this version forgets none.
/// That the newest ones are missing cannot be told, nor what only another one that is missing says.
///
/// # Errors
/// As the folder reports.
pub fn gone(store: &Store, points: &[Point]) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    let mut told: HashMap<String, BTreeSet<u64>> = HashMap::new();
    for point in points.iter().filter(|point| point.record.previous > 0) {
        let path = layout::machine_folder(&point.record.machine);
        told.entry(path).or_default().insert(point.record.previous);
    }
    for path in machine_folders(&**store.folder())? {
        // One that cannot be listed is told with the points.
        let Ok(found) = listing::list(store, &path) else {
            continue;
        };
        let shown = store.folder().describe(&path);
        // Those that are there and cannot be read, or have lost their names, are told as that.
        let (strays, unknown) = strays(store, &path, &found);
        let mut there: HashSet<u64> = found.points.iter().map(|file| file.sequence).collect();
        there.extend(strays);
        let told = told.remove(&path).unwrap_or_default();
        for number in told.into_iter().filter(|number| !there.contains(number)) {
            let unless = match unknown {
                0 => "",
                _ => {
                    ", unless it is one of the files there that are not named like points and cannot be read"
                }
            };
            gone.push(format!(
                "the recovery point number {number} in {shown} is gone, and nothing says that it was forgotten{unless}: put it back from a copy of the store if there is one"
            ));
        }
        let named = machine::read_name(&**store.folder(), &path).is_ok();
        if named && found.points.is_empty() && found.damaged.is_empty() {
            gone.push(format!(
                "all recovery points in {shown} are gone: put them back from a copy of the store if there is one"
            ));
        }
    }
    Ok(gone)
}

/// The sequence numbers of points whose files have lost their names, and how many such files do not tell.
fn strays(store: &Store, path: &str, found: &PointNames) -> (HashSet<u64>, usize) {
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

/// Writes the names of machines that are lost and that a point tells, and answers these; a machine that is backed up just now is left to that backup.
///
/// # Errors
/// As the folder reports.
pub fn mend_names(store: &Store) -> Result<Vec<String>> {
    let folder = &**store.folder();
    let mut mended = Vec::new();
    for path in machine_folders(folder)? {
        if machine::read_name(folder, &path).is_ok() {
            continue;
        }
        let Ok(Some(name)) = spelled(store, &path) else {
            continue;
        };
        match lock_machine(store, &name) {
            Ok(_lock) => machine::keep_name(folder, &path, &name),
            Err(error) if error.kind() == Kind::Busy => continue,
            Err(error) => return Err(error),
        }
        if machine::read_name(folder, &path).is_ok() {
            mended.push(name);
        }
    }
    Ok(mended)
}

/// A machine's name as it is spelled; none if there is no point of the machine that can be read.
///
/// # Errors
/// As the folder reports.
pub fn machine_name(store: &Store, machine: &str) -> Result<Option<String>> {
    match spelled(store, &layout::machine_folder(machine)) {
        Err(error) if error.kind() == Kind::Damaged => Ok(None),
        found => found,
    }
}

/// The name of the machine in the folder `path`: from its own file, or else from a point, the newest first.
fn spelled(store: &Store, path: &str) -> Result<Option<String>> {
    let mut failed = match machine::read_name(&**store.folder(), path) {
        Ok(name) => return Ok(Some(name)),
        Err(error) => Some(error).filter(|error| error.kind() != Kind::NotFound),
    };
    let found = listing::list(store, path)?;
    for file in found.points.iter().rev() {
        match records::read_point(store, path, file) {
            Ok(point) => return Ok(Some(point.record.machine)),
            Err(error) => failed = Some(error),
        }
    }
    // Of damage, what tells most: a point, then a file that may be one, then the name.
    if found.points.is_empty()
        && let Some(stray) = found.damaged.into_iter().next()
    {
        return Err(stray);
    }
    failed.map_or(Ok(None), Err)
}

/// The latest point of a machine: the highest sequence number that is not an import.
///
/// # Errors
/// [`Kind::NotFound`] if the machine has none; [`Kind::Damaged`] if it cannot be read (the point before it is not what was asked for), or
/// if a file that may be it has lost its name.
pub fn latest(store: &Store, machine: &str) -> Result<Point> {
    latest_of(store, machine, &point_names(store, machine)?)
}

/// As [`latest`], of points that were listed already.
///
/// # Errors
/// As [`latest`].
pub fn latest_of(store: &Store, machine: &str, names: &PointNames) -> Result<Point> {
    match names.latest()? {
        Some(file) => read_point(store, machine, file),
        None => Err(
            Error::not_found(format!("there is no point of the machine `{machine}`"))
                .advise("see `cairn points`"),
        ),
    }
}

/// The point a user names.
///
/// # Errors
/// [`Kind::NotFound`] if there is none, [`Kind::Invalid`] if a prefix fits several.
pub fn find(store: &Store, name: &PointName) -> Result<Point> {
    match name {
        PointName::Latest(machine) => latest(store, machine),
        PointName::At(machine, time) => {
            let names = point_names(store, machine)?;
            let file = names.at(time.seconds).copied();
            match (file, names.damaged.into_iter().next()) {
                (Some(file), _) => read_point(store, machine, &file),
                (None, Some(error)) => Err(error),
                (None, None) => Err(Error::not_found(format!(
                    "the machine `{machine}` has no point at {time}"
                ))
                .advise("see `cairn points`")),
            }
        }
        PointName::Prefix(prefix) => find_prefix(store, prefix),
    }
}

fn find_prefix(store: &Store, prefix: &str) -> Result<Point> {
    let folder = &**store.folder();
    let mut found = Vec::new();
    let mut unlisted = None;
    for path in machine_folders(folder)? {
        let names = match optional(folder.list(&path)) {
            Ok(names) => names.unwrap_or_default(),
            Err(error) => {
                unlisted.get_or_insert_with(|| listing::unlisted(store, &path, error));
                continue;
            }
        };
        for name in names {
            // Most names are put aside before they are taken apart.
            let fits = name
                .rsplit('-')
                .next()
                .is_some_and(|id| id.starts_with(prefix));
            if let Some(file) = fits.then(|| PointFile::parse(&name)).flatten() {
                found.push((path.clone(), file));
            }
        }
    }
    match (&found[..], unlisted) {
        ([(path, file)], None) => records::read_point(store, path, file),
        // All digits are one point's, whatever lies where nobody can look.
        ([(path, file)], Some(_)) if *prefix == file.id.to_string() => {
            records::read_point(store, path, file)
        }
        ([] | [_], Some(error)) => Err(error
            .context("whether another point's id begins so is not known")
            .advise("write all digits of the id, or name the point by its machine and time")),
        ([], None) => Err(
            Error::not_found(format!("no point's id begins with {prefix}"))
                .advise("see `cairn points`"),
        ),
        _ => Err(Error::invalid(format!(
            "the ids of {} points begin with {prefix}",
            found.len()
        ))
        .advise("write more digits")),
    }
}

/// The machines' folders in the order of the machines' names; those whose names are lost come first.
fn folders_by_name(store: &Store) -> Result<Vec<String>> {
    let folders = machine_folders(&**store.folder())?;
    let named = folders.into_iter().map(|path| {
        let name = spelled(store, &path).unwrap_or_default();
        (name.map(|name| name.to_lowercase()), path)
    });
    let mut named: Vec<_> = named.collect();
    named.sort_unstable();
    Ok(named.into_iter().map(|(_, path)| path).collect())
}

fn machine_folders(folder: &dyn Folder) -> Result<Vec<String>> {
    let mut names = folder.list(POINTS)?;
    names.sort();
    let is_ours = |name: &&String| name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit());
    Ok(names
        .iter()
        .filter(is_ours)
        .map(|name| join(POINTS, name))
        .collect())
}

/// The lock under which one backup of a machine runs.
///
/// # Errors
/// [`Kind::Busy`] if another backup of the machine runs.
pub fn lock_machine(store: &Store, machine: &str) -> Result<Box<dyn Lock>> {
    let folder = &**store.folder();
    folder.create_folder(&layout::machine_folder(machine))?;
    folder
        .lock(&layout::machine_lock(machine), LockMode::Exclusive, false)?
        .ok_or_else(|| {
            Error::new(
                Kind::Busy,
                format!("another backup of the machine `{machine}` runs"),
            )
            .advise("wait until it has finished")
        })
}

/// The next sequence number of a machine: above every point's, readable or not.
///
/// # Errors
/// As the folder reports; [`Kind::Invalid`] if there is no higher number.
pub fn next_sequence(store: &Store, machine: &str) -> Result<u64> {
    point_names(store, machine)?.next_sequence()
}

/// Publishes a point: the commit. The caller holds the machine's lock; everything the point refers to is public and durable.
///
/// # Errors
/// As the folder reports.
pub fn publish_point(store: &Store, record: PointRecord) -> Result<Point> {
    let folder = &**store.folder();
    let bytes = codec::seal(&record)?;
    let id = store.keys().point_id(&bytes);
    let point = Point { id, record };
    let path = layout::machine_folder(&point.record.machine);
    {
        let _publish = publish_lock(folder)?;
        // What the point refers to may be known by a state that somebody else has renamed into place and not made durable.
        folder.sync_folder("")?;
        let scratch = join(&path, MACHINE_SCRATCH);
        publish_bytes(folder, &scratch, &path, &point.file().name(), &bytes)?;
    }
    machine::keep_name(folder, &path, &point.record.machine);
    Ok(point)
}

#[cfg(test)]
mod tests;
