//! The points of a machine as the names of their files tell them.

use crate::layout::{self, POINTS, PointFile};
use crate::store::Store;
use cairn_base::folder::{join, optional};
use cairn_base::{Error, Folder, Result};

/// The points of a machine by the names of their files: nothing was read but the list of names.
#[derive(Debug, Default)]
pub struct PointNames {
    /// Oldest first: in the order of their sequence numbers.
    pub points: Vec<PointFile>,
    /// Files that are not named like points. They are never skipped in silence.
    pub damaged: Vec<Error>,
    /// Their names.
    pub(super) strays: Vec<String>,
    /// One of them, for messages, that may be a point whose name was changed.
    renamed: Option<String>,
    /// The highest sequence number, of renamed files too where it can be read.
    highest: u64,
}

impl PointNames {
    /// The one with the highest sequence number that is no import.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a file has lost its name: it may be the latest.
    pub fn latest(&self) -> Result<Option<&PointFile>> {
        match &self.renamed {
            Some(path) => Err(Error::damaged(
                "which point is the latest is not known, because a file has lost its name",
            )
            .at_path(path)
            .advise("give it its name back, or name the point by its time")),
            None => Ok(self.points.iter().rev().find(|point| !point.import)),
        }
    }

    /// The one of that second.
    pub fn at(&self, seconds: i64) -> Option<&PointFile> {
        self.points.iter().find(|point| point.seconds == seconds)
    }

    /// The next sequence number: above every point's, readable or not, and above `forgotten`, the highest that was forgotten.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if there is no higher number.
    pub fn next_sequence(&self, forgotten: u64) -> Result<u64> {
        let next = self.highest.max(forgotten).checked_add(1);
        next.ok_or_else(|| Error::invalid("the machine's points have used up their numbers"))
    }
}

/// The folders of machines, sorted.
pub(super) fn machine_folders(folder: &dyn Folder) -> Result<Vec<String>> {
    let mut names = folder.list(POINTS)?;
    names.sort();
    let ours = names.iter().filter(|name| is_machine_folder(name));
    Ok(ours.map(|name| join(POINTS, name)).collect())
}

/// Whether this may be the name of a machine's folder.
pub(super) fn is_machine_folder(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The points in a machine's folder; none if it is not there.
pub(super) fn list(store: &Store, path: &str) -> Result<PointNames> {
    let folder = &**store.folder();
    let mut found = PointNames::default();
    for name in optional(folder.list(path))?.unwrap_or_default() {
        if let Some(file) = PointFile::parse(&name) {
            found.highest = found.highest.max(file.sequence);
            found.points.push(file);
            continue;
        }
        if layout::is_beside_points(&name) {
            continue;
        }
        let full = folder.describe(&join(path, &name));
        if layout::may_be_renamed_point(&name) {
            let number = name.split('-').next().and_then(|first| first.parse().ok());
            found.highest = found.highest.max(number.unwrap_or(0));
            found.renamed.get_or_insert_with(|| full.clone());
        }
        let error = Error::damaged("a file among the recovery points is not named like one");
        found.damaged.push(
            error
                .at_path(full)
                .advise("if it was renamed, give it its name back; if it is not ours, remove it"),
        );
        found.strays.push(name);
    }
    found.points.sort_unstable();
    Ok(found)
}

/// A machine's folder that cannot be listed.
pub(super) fn unlisted(store: &Store, path: &str, error: Error) -> Error {
    error
        .context("the recovery points of a machine cannot be listed")
        .at_path(store.folder().describe(path))
        .advise("look at the disk and its messages, and at who may read the folder; then run this again")
}
