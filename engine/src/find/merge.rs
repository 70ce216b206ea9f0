//! What is found in a volume, merged with what was found in it before.

use crate::compare::content::Places;
use crate::find::criteria::{Called, Criteria};
use crate::find::versions::{Reader, Version, Versions, Writer, order};
use crate::find::walk::Walk;
use cairn_base::{Error, Kind, Monitor, Result};
use cairn_guest::{Attributes, DirEntry, EntryKind, Volume};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What was found before, and what is found now.
pub struct Merge<'a> {
    /// What is looked for.
    pub criteria: &'a Criteria,
    /// Can end it.
    pub monitor: &'a dyn Monitor,
    /// Where.
    pub volume: &'a dyn Volume,
    /// Its drive letters.
    pub letters: &'a [u8],
    /// The volume as it was in the stand before, and as it is; none if that is not known.
    pub places: Option<Places<'a>>,
    /// The number of this stand of the volume.
    pub row: u32,
    /// What was found before and now.
    pub writer: Writer,
    /// What could not be read.
    pub problems: Vec<(Vec<u8>, Error)>,
}

/// Problems told of one stand of a volume; one that is damaged all over need not fill the memory.
const MAX_PROBLEMS: usize = 1000;

impl Merge<'_> {
    /// Looks through the volume, whose path is `path`, and merges with `old`.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] on request; as [`Writer::add`].
    pub fn run(&mut self, path: Vec<u8>, old: &mut Versions) -> Result<()> {
        let mut old = old.read()?;
        let called = Called {
            length: path.len(),
            letters: self.letters,
        };
        let mut walk = Walk::new(self.volume, path);
        let folds = self.criteria.ignore_case || self.volume.info().ignores_case;
        loop {
            if self.monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            let entry = match walk.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => {
                    self.problem(walk.path(), error)?;
                    continue;
                }
            };
            let path = walk.path();
            if self.criteria.fits_name(path, called, folds) {
                match self.volume.attributes(entry.id) {
                    Ok(attributes) if self.criteria.fits(&attributes) => {
                        self.found(path, &entry, &attributes, &mut old)?;
                    }
                    Ok(_) => {}
                    Err(error) => self.problem(path, error)?,
                }
            }
            if entry.kind == EntryKind::Folder && !self.criteria.may_be_below(path, called, folds) {
                walk.pass_over();
            }
        }
        while let Some(version) = old.next()? {
            self.writer.add(&version)?;
        }
        Ok(())
    }

    fn found(
        &mut self,
        path: &[u8],
        entry: &DirEntry,
        attributes: &Attributes,
        old: &mut Reader<'_>,
    ) -> Result<()> {
        let mut version = Version {
            path: path.to_vec(),
            id: entry.id,
            kind: attributes.kind,
            size: attributes.size,
            modified: (attributes.modified.seconds, attributes.modified.nanos),
            stands: (self.row, self.row),
        };
        while let Some(known) = old.peek() {
            match order(&known.path, path) {
                Ordering::Greater => break,
                Ordering::Equal if self.goes_on(known, &version)? => {
                    version.stands.0 = known.stands.0;
                    old.next()?;
                }
                _ => {
                    if let Some(known) = old.next()? {
                        self.writer.add(&known)?;
                    }
                }
            }
        }
        self.writer.add(&version)
    }

    /// Whether a version that was found before is this one.
    fn goes_on(&mut self, old: &Version, new: &Version) -> Result<bool> {
        let (Some(places), true) = (&self.places, old.stands.1.saturating_add(1) == self.row)
        else {
            return Ok(false);
        };
        if old.kind != new.kind {
            return Ok(false);
        }
        let unchanged = (old.size, old.modified) == (new.size, new.modified);
        let same = match new.kind {
            EntryKind::Folder => Ok(true),
            EntryKind::File if unchanged => same_content(places, old, new),
            EntryKind::Symlink if unchanged => self.same_target(places, old, new),
            _ => Ok(unchanged),
        };
        match same {
            Err(error) => {
                // It cannot be said; it counts as another version.
                self.problem(&new.path, error)?;
                Ok(false)
            }
            same => same,
        }
    }

    fn same_target(&self, places: &Places<'_>, old: &Version, new: &Version) -> Result<bool> {
        let before = places.old.volume.read_link(old.id)?;
        Ok(before == self.volume.read_link(new.id)?)
    }

    fn problem(&mut self, path: &[u8], error: Error) -> Result<()> {
        if error.kind() == Kind::Interrupted {
            return Err(error);
        }
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push((path.to_vec(), error));
        }
        Ok(())
    }
}

/// Whether a file is the same in both, with its named streams. Only streams of the same names and lengths can be compared by their bytes.
fn same_content(places: &Places<'_>, old: &Version, new: &Version) -> Result<bool> {
    let streams = |volume: &dyn Volume, version: &Version| {
        let streams = volume.streams(version.id)?.into_iter();
        Ok::<BTreeMap<_, _>, Error>(streams.map(|stream| (stream.name, stream.size)).collect())
    };
    if streams(places.old.volume, old)? != streams(places.new.volume, new)? {
        return Ok(false);
    }
    places.same_content([old.id, new.id], new.size)
}
