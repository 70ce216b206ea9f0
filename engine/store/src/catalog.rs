//! The catalog: the points of all machines. A point's file is named by its sequence number, time and id, never replaces another, and its
//! publication is the commit of a backup.
//!
//! What the names of files say is enough to find, order and list points; each record is read when it is asked for, and checked against its name.

mod forget;
mod guard;
mod listing;
mod machine;
mod missing;
mod moment;
mod records;
mod retention;
mod survey;
mod walkable;

pub use forget::{
    Accepted, ForgetOptions, Forgotten, accept_gone, forget, pinned, protect, retention_of,
    set_pin, shown_machine,
};
pub use guard::{Candidate, Guard, Protection, last, spelled as spelled_seconds};
pub use listing::PointNames;
pub use missing::gone;
pub use moment::{Moment, choose_time};
pub use retention::{MAX_NOTE, Pin, Retention};
pub use survey::{Survey, immutability};
pub use walkable::Walkable;

use crate::codec;
use crate::layout::{self, MACHINE_SCRATCH, PointFile};
use crate::names::PointName;
use crate::point::{Point, PointRecord};
use crate::session::publish_lock;
use crate::store::Store;
use cairn_base::folder::{Lock, join, optional, publish_bytes};
use cairn_base::{Error, Kind, LockMode, Result};
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
/// an error, and so is a machine's name that is damaged, and its record of what is pinned and forgotten. A folder of a machine that cannot be
/// listed is told behind all that can be read.
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
        let retention = retention::read(&**store.folder(), path, &found).err();
        for error in found.damaged.into_iter().chain(lost).chain(retention) {
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
    for path in listing::machine_folders(&**store.folder())? {
        match machine::spelled(store, &path) {
            Ok(name) => names.extend(name),
            Err(error) => errors.push(error),
        }
    }
    names.sort_by_cached_key(|name| name.to_lowercase());
    Ok((names, errors))
}

/// Writes the names of machines that are lost and that a point tells, and answers these; a machine that is backed up just now is left to that backup.
///
/// # Errors
/// As the folder reports.
pub fn mend_names(store: &Store) -> Result<Vec<String>> {
    let folder = &**store.folder();
    let mut mended = Vec::new();
    for path in listing::machine_folders(folder)? {
        if machine::read_name(folder, &path).is_ok() {
            continue;
        }
        let Ok(Some(name)) = machine::spelled(store, &path) else {
            continue;
        };
        match lock_machine(store, &name) {
            Ok(_lock) => {
                let _publish = publish_lock(folder)?;
                // They may have been forgotten meanwhile.
                if !listing::list(store, &path)?.points.is_empty() {
                    machine::keep_name(folder, &path, &name);
                }
            }
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
    match machine::spelled(store, &layout::machine_folder(machine)) {
        Err(error) if error.kind() == Kind::Damaged => Ok(None),
        found => found,
    }
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
        None => Err(no_points(machine)),
    }
}

fn no_points(machine: &str) -> Error {
    Error::not_found(format!("there is no point of the machine `{machine}`"))
        .advise("see `cairn points`")
}

/// Where a point lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The machine's folder, `points/<...>`.
    pub folder: String,
    /// What the name of the point's file says.
    pub file: PointFile,
}

/// The point a user names.
///
/// # Errors
/// [`Kind::NotFound`] if there is none, [`Kind::Invalid`] if a prefix fits several.
pub fn find(store: &Store, name: &PointName) -> Result<Point> {
    let found = locate(store, name)?;
    records::read_point(store, &found.folder, &found.file)
}

/// Where the point lies that a user names. It is not read.
///
/// # Errors
/// As [`find`].
pub fn locate(store: &Store, name: &PointName) -> Result<Located> {
    let (machine, file) = match name {
        PointName::Latest(machine) => {
            let latest = point_names(store, machine)?.latest()?.copied();
            (machine, latest.ok_or_else(|| no_points(machine))?)
        }
        PointName::At(machine, time) => {
            let names = point_names(store, machine)?;
            let file = names.at(time.seconds).copied();
            match (file, names.damaged.into_iter().next()) {
                (Some(file), _) => (machine, file),
                (None, Some(error)) => return Err(error),
                (None, None) => {
                    return Err(Error::not_found(format!(
                        "the machine `{machine}` has no point at {time}"
                    ))
                    .advise("see `cairn points`"));
                }
            }
        }
        PointName::Prefix(prefix) => return locate_prefix(store, prefix),
    };
    let folder = layout::machine_folder(machine);
    Ok(Located { folder, file })
}

fn locate_prefix(store: &Store, prefix: &str) -> Result<Located> {
    let folder = &**store.folder();
    let mut found = Vec::new();
    let mut unlisted = None;
    for path in listing::machine_folders(folder)? {
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
    let located = |path: &String, file: &PointFile| Located {
        folder: path.clone(),
        file: *file,
    };
    match (&found[..], unlisted) {
        ([(path, file)], None) => Ok(located(path, file)),
        // All digits are one point's, whatever lies where nobody can look.
        ([(path, file)], Some(_)) if *prefix == file.id.to_string() => Ok(located(path, file)),
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

/// The folders of all machines, in the order of their names.
///
/// # Errors
/// As the folder reports.
pub fn machine_folders(store: &Store) -> Result<Vec<String>> {
    folders_by_name(store)
}

/// The machines' folders in the order of the machines' names; those whose names are lost come first.
fn folders_by_name(store: &Store) -> Result<Vec<String>> {
    let folders = listing::machine_folders(&**store.folder())?;
    let named = folders.into_iter().map(|path| {
        let name = machine::spelled(store, &path).unwrap_or_default();
        (name.map(|name| name.to_lowercase()), path)
    });
    let mut named: Vec<_> = named.collect();
    named.sort_unstable();
    Ok(named.into_iter().map(|(_, path)| path).collect())
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

/// Numbers for a new point.
#[derive(Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Its own: above every point's, readable or not, there or forgotten.
    pub sequence: u64,
    /// The highest that a point had before.
    pub previous: u64,
    /// What is not as it should be.
    pub warning: Option<String>,
}

/// The numbers of the next point of a machine that has these points.
///
/// # Errors
/// As the folder reports; [`Kind::Invalid`] if there is no higher number.
pub fn next_numbers(store: &Store, machine: &str, names: &PointNames) -> Result<Numbers> {
    let path = layout::machine_folder(machine);
    let (forgotten, warning) = match retention::read(&**store.folder(), &path, names) {
        Ok(retention) => (retention.highest_forgotten(), None),
        // A number that is used twice does no harm; a machine that is not backed up does.
        Err(error) => (0, Some(error.to_string())),
    };
    let newest = names.points.last().map_or(0, |point| point.sequence);
    Ok(Numbers {
        sequence: names.next_sequence(forgotten)?,
        previous: newest.max(forgotten),
        warning,
    })
}

/// The next sequence number of a machine, as [`next_numbers`] has it.
///
/// # Errors
/// As [`next_numbers`].
pub fn next_sequence(store: &Store, machine: &str) -> Result<u64> {
    let names = point_names(store, machine)?;
    Ok(next_numbers(store, machine, &names)?.sequence)
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
        retention::found(folder, &path, || listing::list(store, &path))?;
        let scratch = join(&path, MACHINE_SCRATCH);
        publish_bytes(folder, &scratch, &path, &point.file().name(), &bytes)?;
        // Under the lock: whoever forgets a machine's last point takes its name away.
        machine::keep_name(folder, &path, &point.record.machine);
    }
    Ok(point)
}

#[cfg(test)]
mod tests;
