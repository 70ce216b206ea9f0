//! The catalog: the points of all machines. A point's file is named by its sequence number and id, never replaces
//! another, and its publication is the commit of a backup.

use crate::codec;
use crate::layout::{self, POINTS};
use crate::names::{PointName, check_machine, is_disk_name};
use crate::point::{Point, PointRecord};
use crate::session::publish_lock;
use crate::store::Store;
use cairn_base::folder::{Lock, join, optional, publish_bytes, read_small};
use cairn_base::{Error, Folder, Kind, LockMode, PointId, Result, Time};

/// The points found, oldest first, and what could not be read.
#[derive(Debug, Default)]
pub struct Listing {
    /// Points in the order of their sequence numbers.
    pub points: Vec<Point>,
    /// Files that are no whole points. They are never skipped in silence.
    pub damaged: Vec<Error>,
}

/// The points of one machine.
///
/// # Errors
/// As the folder reports; single damaged files are in the listing.
pub fn machine_points(store: &Store, machine: &str) -> Result<Listing> {
    let mut listing = read_folder(store, &layout::machine_folder(machine))?;
    listing.points.sort_by_key(|point| point.record.sequence);
    Ok(listing)
}

/// The points of all machines, by machine and sequence number.
///
/// # Errors
/// As the folder reports; single damaged files are in the listing.
pub fn all_points(store: &Store) -> Result<Listing> {
    let mut all = Listing::default();
    for path in machine_folders(&**store.folder())? {
        let found = read_folder(store, &path)?;
        all.points.extend(found.points);
        all.damaged.extend(found.damaged);
    }
    all.points.sort_by(|a, b| {
        let key = |p: &Point| (p.record.machine.to_lowercase(), p.record.sequence);
        key(a).cmp(&key(b))
    });
    Ok(all)
}

/// The names of all machines, sorted. A machine's folder with nothing but damaged points is named in the errors.
///
/// # Errors
/// As the folder reports.
pub fn machines(store: &Store) -> Result<(Vec<String>, Vec<Error>)> {
    let mut names = Vec::new();
    let mut errors = Vec::new();
    for path in machine_folders(&**store.folder())? {
        let files = point_files(&**store.folder(), &path)?;
        let mut failed = None;
        let mut name = None;
        // Newest first: any whole point tells the name.
        for (_, id, file) in files.iter().rev() {
            match read_point(store, &path, file, *id) {
                Ok(point) => {
                    name = Some(point.record.machine);
                    break;
                }
                Err(error) => failed = Some(error),
            }
        }
        names.extend(name.clone());
        if name.is_none() {
            errors.extend(failed);
        }
    }
    names.sort_by_key(|name| name.to_lowercase());
    Ok((names, errors))
}

/// The latest point of a machine: the highest sequence number that is not an import.
///
/// # Errors
/// [`Kind::NotFound`] if the machine has none; [`Kind::Damaged`] if a newer one cannot be read (the point before
/// it is not what was asked for).
pub fn latest(store: &Store, machine: &str) -> Result<Point> {
    let path = layout::machine_folder(machine);
    for (_, id, file) in point_files(&**store.folder(), &path)?.iter().rev() {
        let point = read_point(store, &path, file, *id)?;
        if !point.record.import {
            return Ok(point);
        }
    }
    Err(no_points(machine))
}

fn no_points(machine: &str) -> Error {
    Error::not_found(format!("there is no point of the machine `{machine}`"))
        .advise("see `cairn points`")
}

/// The point a user names.
///
/// # Errors
/// [`Kind::NotFound`] if there is none, [`Kind::Invalid`] if a prefix fits several.
pub fn find(store: &Store, name: &PointName) -> Result<Point> {
    match name {
        PointName::Latest(machine) => latest(store, machine),
        PointName::At(machine, time) => {
            let listing = machine_points(store, machine)?;
            let found = listing
                .points
                .into_iter()
                .find(|point| point.record.seconds == time.seconds);
            match (found, listing.damaged.into_iter().next()) {
                (Some(point), _) => Ok(point),
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
    for path in machine_folders(folder)? {
        for (_, id, file) in point_files(folder, &path)? {
            if id.to_string().starts_with(prefix) {
                found.push((path.clone(), id, file));
            }
        }
    }
    match &found[..] {
        [(path, id, file)] => read_point(store, path, file, *id),
        [] => Err(
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

/// Sequence number, id and file name of every point in a machine's folder, oldest first.
fn point_files(folder: &dyn Folder, path: &str) -> Result<Vec<(u64, PointId, String)>> {
    let names = optional(folder.list(path))?.unwrap_or_default();
    let mut files: Vec<_> = names
        .into_iter()
        .filter_map(|name| {
            layout::parse_point_name(&name).map(|(sequence, id)| (sequence, id, name))
        })
        .collect();
    files.sort();
    Ok(files)
}

fn read_folder(store: &Store, path: &str) -> Result<Listing> {
    let mut listing = Listing::default();
    for name in optional(store.folder().list(path))?.unwrap_or_default() {
        if layout::parse_point_name(&name).is_none() && name != "lock" && name != "new" {
            let full = store.folder().describe(&join(path, &name));
            listing.damaged.push(
                Error::damaged("a file among the recovery points is not named like one")
                    .at_path(full)
                    .advise(
                        "if it was renamed, give it its name back; if it is not ours, remove it",
                    ),
            );
        }
    }
    for (_, id, file) in point_files(&**store.folder(), path)? {
        match read_point(store, path, &file, id) {
            Ok(point) => listing.points.push(point),
            // Forgotten between the listing and the reading.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => listing.damaged.push(error),
        }
    }
    Ok(listing)
}

fn read_point(store: &Store, path: &str, file: &str, id: PointId) -> Result<Point> {
    let folder = &**store.folder();
    let full = join(path, file);
    let bytes = read_small(folder, &full, codec::MAX_FILE)?;
    let whole = || -> Result<Point> {
        let record: PointRecord = codec::open(&bytes)?;
        let expected = layout::point_name(record.sequence, id);
        if store.keys().point_id(&bytes) != id || expected != file {
            return Err(Error::damaged(
                "a point's record is not the one it was named for",
            ));
        }
        // Names become names of files: a record that was tampered with must not lead elsewhere.
        check_machine(&record.machine)
            .map_err(|e| Error::damaged("an impossible name").caused_by(e))?;
        if let Some(disk) = record.disks.iter().find(|disk| !is_disk_name(&disk.name)) {
            return Err(Error::damaged(format!(
                "`{}` cannot be a disk's name",
                disk.name
            )));
        }
        if layout::machine_folder(&record.machine) != path {
            return Err(Error::damaged("a point lies in another machine's folder"));
        }
        Ok(Point { id, record })
    };
    whole().map_err(|e| {
        e.context("a recovery point cannot be read")
            .at_path(folder.describe(&full))
            .with_id(id)
    })
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
    let files = point_files(&**store.folder(), &layout::machine_folder(machine))?;
    files
        .last()
        .map_or(0, |(sequence, ..)| *sequence)
        .checked_add(1)
        .ok_or_else(|| Error::invalid("the machine's points have used up their numbers"))
}

/// When a new point is said to have been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time of the point.
    pub time: Time,
    /// Whether it is an import.
    pub import: bool,
    /// Whether the clock is behind the latest point.
    pub clock_went_back: bool,
}

/// Decides the time of a new point. A taken second moves to the next free one; a time that the user asks for must be free.
///
/// # Errors
/// [`Kind::Exists`] if the time asked for is taken.
pub fn choose_time(points: &[Point], asked: Option<Time>, now: Time) -> Result<Moment> {
    let taken = |seconds: i64| points.iter().any(|p| p.record.seconds == seconds);
    let latest = points
        .iter()
        .rev()
        .find(|p| !p.record.import)
        .map(|p| p.record.seconds);
    let mut seconds = asked.unwrap_or(now).seconds;
    if asked.is_some() && taken(seconds) {
        return Err(Error::new(
            Kind::Exists,
            format!(
                "the machine has a point at {} already",
                Time::from_seconds(seconds)
            ),
        )
        .advise("choose another --time"));
    }
    let asked_behind = latest.is_some_and(|latest| seconds < latest);
    while taken(seconds) {
        seconds = seconds.saturating_add(1);
    }
    // Several backups in one second move to the next ones: that is no clock that went back.
    let behind = latest.is_some_and(|latest| seconds < latest);
    Ok(Moment {
        time: Time::from_seconds(seconds),
        import: asked.is_some() && asked_behind,
        clock_went_back: asked.is_none() && behind,
    })
}

/// Publishes a point: the commit. The caller holds the machine's lock; everything the point refers to is public and durable.
///
/// # Errors
/// As the folder reports.
pub fn publish_point(store: &Store, record: PointRecord) -> Result<Point> {
    let folder = &**store.folder();
    let bytes = codec::seal(&record)?;
    let id = store.keys().point_id(&bytes);
    let path = layout::machine_folder(&record.machine);
    let _publish = publish_lock(folder)?;
    let scratch = join(&path, "new");
    let name = layout::point_name(record.sequence, id);
    publish_bytes(folder, &scratch, &path, &name, &bytes)?;
    Ok(Point { id, record })
}

#[cfg(test)]
mod tests;
