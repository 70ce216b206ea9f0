//! What there was at one path.

use crate::catalog::Catalog;
use crate::failure::Result;
use crate::look::fold;
use crate::past::cell::Whole;
use crate::past::timeline::{DiskLine, Era, Problem, Timeline};
use crate::past::walk::{self, Seen, Walk};
use crate::paths::PastPath;
use cairn::{Attributes, EntryId, EntryKind, Error, PointFile, Silent, Time, same_content};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Names of a folder that are told; it may have had more over the years.
const NAMES: usize = 1 << 20;
/// Problems that are told one by one.
const PROBLEMS: usize = 1000;
/// The longest ending of a name that is taken for what kind of file it is.
const ENDING: usize = 16;
/// The name of the file that tells what could not be read.
const ERROR: &[u8] = b".error";

/// A version of a file.
#[derive(Debug, Clone)]
pub struct Version {
    /// `2026-11-20T02-00-00Z.odt`
    pub name: Vec<u8>,
    /// The first point that has it.
    pub point: PointFile,
    /// Position of the disk in that point.
    pub position: u16,
    /// Number of the partition.
    pub partition: u32,
    /// The file there.
    pub entry: EntryId,
    /// What is said of it there.
    pub attributes: Attributes,
}

/// What there was at one path.
#[derive(Debug)]
pub struct History {
    timeline: Arc<Timeline>,
    /// The contents that a file had there, by time: each one that is not the same as in the point before.
    pub versions: Vec<Version>,
    /// All names that a folder had there, sorted.
    pub names: Vec<Vec<u8>>,
    /// Whether names are compared without regard to case.
    pub ignores_case: bool,
    /// The file that tells what could not be read.
    pub error: Option<Vec<u8>>,
    problems: Vec<Problem>,
}

impl Whole for History {
    fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.timeline.is_whole()
    }
}

impl History {
    /// Finds out what there was.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn::Kind::NotFound) if no point has such a disk or partition. What cannot be read is told by [`explanation`](History::explanation).
    pub fn find(catalog: &Catalog, timeline: &Arc<Timeline>, path: &PastPath) -> Result<History> {
        let mut search = Search {
            name: path.names().last().copied().unwrap_or_default(),
            ..Search::default()
        };
        let names = path.names();
        match &*names {
            [] => {
                let disks = timeline.disks().iter();
                search.names = disks.map(|disk| (disk.name.clone().into(), None)).collect();
            }
            [disk] => search.partitions(catalog, &path.machine, line(timeline, disk)?),
            [disk, partition, inner @ ..] => {
                let line = line(timeline, disk)?;
                let partition = walk::partition(partition)
                    .ok_or_else(|| Error::not_found("there is no such partition"))?;
                let walk = Walk {
                    catalog,
                    machine: &path.machine,
                    partition,
                };
                search.partition = partition;
                let unread = walk.each(line.eras_of(partition).iter(), &mut |era, seen| {
                    search.look(era, seen, inner)?;
                    Ok(ControlFlow::Continue(()))
                });
                search.problems.extend(unread);
            }
        }
        Ok(search.end(timeline))
    }

    /// Whether it was found on this timeline.
    pub fn is_of(&self, timeline: &Arc<Timeline>) -> bool {
        Arc::ptr_eq(&self.timeline, timeline)
    }

    /// How much there is to remember.
    pub fn weight(&self) -> usize {
        self.versions.len().saturating_add(self.names.len())
    }

    /// The version of a name.
    pub fn version(&self, name: &[u8]) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// The name of a folder's child as it is spelled.
    pub fn child(&self, name: &[u8]) -> Option<&Vec<u8>> {
        let exact = self
            .names
            .binary_search_by(|known| known.as_slice().cmp(name));
        match exact {
            Ok(at) => self.names.get(at),
            Err(_) if self.ignores_case => {
                let wanted = fold(name);
                self.names.iter().find(|known| fold(known) == wanted)
            }
            Err(_) => None,
        }
    }

    /// What the file `.error` says.
    pub fn explanation(&self) -> String {
        let mut problems: Vec<&Problem> = self.timeline.problems().iter().collect();
        problems.extend(&self.problems);
        problems.sort_by_key(|problem| problem.seconds);
        let mut text = String::from(
            "Not everything could be looked at. There may be versions and names that are not shown here.\n",
        );
        for problem in problems.iter().take(PROBLEMS) {
            let time = Time::from_seconds(problem.seconds).folder_name();
            text.push_str(&format!("{time}: {}.\n", problem.text));
        }
        let more = problems.len().saturating_sub(PROBLEMS);
        if more > 0 {
            text.push_str(&format!("And {more} more.\n"));
        }
        text
    }
}

fn line<'t>(timeline: &'t Timeline, disk: &[u8]) -> Result<&'t DiskLine> {
    let gone = || Error::not_found("no point of the machine has such a disk").into();
    timeline.disk(disk).ok_or_else(gone)
}

/// Names by what they are compared by; with the name as it is spelled, where that is another.
type Spelled = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Adds a name if it is known already, or if there are fewer than `most`. Whether it is among them now.
fn add_name(names: &mut Spelled, most: usize, name: Vec<u8>, ignores_case: bool) -> bool {
    let (key, spelled) = match ignores_case {
        // The newest spelling is the one that is shown.
        true => (fold(&name), Some(name)),
        false => (name, None),
    };
    if names.len() >= most && !names.contains_key(&key) {
        return false;
    }
    names.insert(key, spelled);
    true
}

/// What was found so far.
#[derive(Default)]
struct Search<'a> {
    /// The last name of the path.
    name: &'a [u8],
    partition: u32,
    versions: Vec<Version>,
    names: Spelled,
    ignores_case: bool,
    problems: Vec<Problem>,
    /// The last point in which there was a file, and the file.
    last: Option<(Arc<Seen>, EntryId)>,
}

impl Search<'_> {
    /// All partitions that a disk ever had.
    fn partitions(&mut self, catalog: &Catalog, machine: &Arc<str>, line: &DiskLine) {
        for era in &line.eras {
            let found = catalog.open_apart(machine, &era.point).and_then(|open| {
                let volumes = open.disk(era.position)?.volumes()?;
                Ok(volumes.iter().map(|volume| volume.folder_name()).collect())
            });
            match found {
                Ok(names) => {
                    let names: Vec<String> = names;
                    self.names
                        .extend(names.into_iter().map(|name| (name.into(), None)));
                }
                Err(crate::Failure::Gone(_)) => {}
                Err(failure) => self.problems.push(Problem::of(&era.point, &failure)),
            }
        }
    }

    fn problem(&mut self, era: &Era, text: String) {
        self.problems.push(Problem {
            seconds: era.point.seconds,
            text,
            may_hide: true,
        });
    }

    /// Looks at a path in a point.
    fn look(&mut self, era: &Era, seen: &Arc<Seen>, path: &[&[u8]]) -> Result<()> {
        let volume = seen.volume.open()?;
        self.ignores_case = volume.info().ignores_case;
        let Some((id, attributes)) = walk::resolve(&*volume, path)? else {
            return Ok(());
        };
        if attributes.kind != EntryKind::Folder {
            self.add_version(era, seen, id, attributes);
            return Ok(());
        }
        let mut full = false;
        volume.read_dir(id, 0, &mut |entry| {
            full = !add_name(&mut self.names, NAMES, entry.name, self.ignores_case);
            if full {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if full {
            self.problem(
                era,
                format!("of more than {NAMES} names the others are left out"),
            );
        }
        Ok(())
    }

    fn add_version(&mut self, era: &Era, seen: &Arc<Seen>, id: EntryId, attributes: Attributes) {
        let last = self.last.replace((seen.clone(), id));
        let same = match last
            .as_ref()
            .and_then(|(old, was)| Some((old.place()?, *was)))
        {
            None => Ok(false),
            Some((old, was)) => match seen.place() {
                Some(new) => same_content(old, new, [was, id], &Silent),
                None => Ok(false),
            },
        };
        let same = same.unwrap_or_else(|error| {
            // It may be the same: rather twice than not at all.
            self.problem(
                era,
                format!("it could not be compared with the version before: {error}"),
            );
            false
        });
        if same {
            return;
        }
        let mut name = era.point.time().folder_name().into_bytes();
        name.extend_from_slice(ending(self.name));
        self.versions.push(Version {
            name,
            point: era.point,
            position: era.position,
            partition: self.partition,
            entry: id,
            attributes,
        });
    }

    fn end(self, timeline: &Arc<Timeline>) -> History {
        let names = self.names.into_iter();
        let mut names: Vec<Vec<u8>> = names.map(|(key, name)| name.unwrap_or(key)).collect();
        names.sort_unstable();
        let mut history = History {
            timeline: timeline.clone(),
            versions: Vec::new(),
            names,
            ignores_case: self.ignores_case,
            error: None,
            problems: self.problems,
        };
        // Where a file was a folder at other times, its own names come first.
        let free = |history: &History, mut name: Vec<u8>| {
            while history.child(&name).is_some() {
                name.push(b'~');
            }
            name
        };
        if !(history.problems.is_empty() && timeline.problems().is_empty()) {
            history.error = Some(free(&history, ERROR.to_vec()));
        }
        for version in self.versions {
            let name = free(&history, version.name);
            history.versions.push(Version { name, ..version });
        }
        history
    }
}

/// The end of a name that says what kind of file it is, with its dot: `.odt`, `.tar.gz`; nothing if there is none.
fn ending(name: &[u8]) -> &[u8] {
    let Some(ending) = last_ending(name) else {
        return b"";
    };
    let rest = name.len().saturating_sub(ending.len());
    let before = name.get(..rest).and_then(last_ending);
    if before.is_some_and(|before| before.eq_ignore_ascii_case(b".tar")) {
        let start = rest.saturating_sub(b".tar".len());
        return name.get(start..).unwrap_or_default();
    }
    ending
}

fn last_ending(name: &[u8]) -> Option<&[u8]> {
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    let ending = name.get(dot..)?;
    let letters = ending.get(1..)?;
    let fits =
        (1..=ENDING).contains(&letters.len()) && letters.iter().all(u8::is_ascii_alphanumeric);
    (dot > 0 && fits).then_some(ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_known_need_no_room() {
        let mut names = Spelled::new();
        for (name, wanted) in [("a", true), ("B", true), ("c", false), ("b", true)] {
            let added = add_name(&mut names, 2, name.into(), true);
            assert_eq!(added, wanted, "{name}");
        }
        let spelled: Vec<_> = names.into_values().map(Option::unwrap).collect();
        assert_eq!(spelled, [b"a", b"b"]);
        let mut names = Spelled::new();
        for (name, wanted) in [("a", true), ("A", false), ("a", true)] {
            let added = add_name(&mut names, 1, name.into(), false);
            assert_eq!(added, wanted, "{name}");
        }
    }

    #[test]
    fn endings_are_kept_for_programs() {
        for (name, wanted) in [
            ("report.odt", ".odt"),
            ("a.b.c", ".c"),
            ("site.tar.gz", ".tar.gz"),
            ("site.TAR.zst", ".TAR.zst"),
            (".tar.gz", ".gz"),
            (".bashrc", ""),
            ("README", ""),
            ("dot.", ""),
            ("v1.2 final", ""),
            ("a.12345678901234567", ""),
            ("grüße.é", ""),
        ] {
            assert_eq!(ending(name.as_bytes()), wanted.as_bytes(), "{name}");
        }
    }
}
