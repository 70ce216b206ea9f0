//! The parents of a differencing disk: found where the child says, known by their ids, never guessed.
//!
//! A parent is looked for where the child's relative paths lead from its folder, then at its absolute paths, then under
//! the same names in the child's folder and in those that the caller names, and at last among all images of these
//! folders: files are renamed, ids are not (but those of VMDK are not looked for: see [`vmdk`](crate::vmdk)). Whatever the file is called, only one that has the id counts, and only where the image
//! may have files opened: see [`reach`](crate::reach).

use crate::beside::Beside;
use crate::disk::{Format, FoundBy};
use crate::known::Known;
use crate::layer::{Opened, ParentLink, ParentPlace};
use crate::named;
use crate::parent::{self, check_is_told, check_sizes};
use crate::reach::{self, Looked, Reach};
use crate::source::FileSource;
use crate::table::Share;
use cairn_base::{Error, ReadAt, Result};
use rustix::io::Errno;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Images of a chain. Hyper-V makes at most 50 checkpoints, XenServer chains of 30. What a read costs grows with them.
const MAX_IMAGES: usize = 64;

/// An image of a chain, and the file it lies in.
pub(crate) struct Member {
    pub(crate) opened: Opened,
    pub(crate) file: Arc<FileSource>,
    pub(crate) found: FoundBy,
}

/// `child` and its parents, each behind its child, as far as they are there; and why not all are. `extra` are folders to look in (or files) besides the child's own; `reach` is
/// what may be opened, besides what lies in the folders of the chain. Behind a parent whose format only its content tells, what lies elsewhere is not
/// opened, whatever the caller said of the child: a guest may have written to it that it is such an image.
///
/// # Errors
/// [`Kind::NotFound`] if a parent is nowhere; [`Kind::Denied`] if the only file that could be it is another one or was
/// changed, or if a child is a VHD by its first sector alone; [`Kind::Damaged`] if sizes differ or the chain goes in a circle;
/// [`Kind::Unsupported`] if it has more than 64 images.
pub(crate) fn with_parents(
    child: Opened,
    file: Arc<FileSource>,
    extra: &[PathBuf],
    reach: Reach,
) -> (Vec<Member>, Result<()>) {
    let mut chain = vec![Member {
        opened: child,
        file,
        found: FoundBy::Caller,
    }];
    let end = add_parents(&mut chain, extra, reach);
    (chain, end)
}

fn add_parents(chain: &mut Vec<Member>, extra: &[PathBuf], mut reach: Reach) -> Result<()> {
    let mut known = Known::default();
    while let Some(youngest) = chain.last()
        && let Some(link) = &youngest.opened.parent
    {
        let path = youngest.file.path().to_path_buf();
        if chain.len() >= MAX_IMAGES {
            return Err(Error::unsupported(format!(
                "the differencing disk has more than {MAX_IMAGES} parents"
            ))
            .at_path(path));
        }
        check_is_told(link, &youngest.file, &reach)?;
        let folders = reach.add_folders(&youngest.file);
        let search = Search {
            link,
            child: &path,
            folders,
            extra,
            reach: &reach,
        };
        let (file, found) = search.find(&mut known)?;
        if chain
            .iter()
            .any(|member| member.file.file_id() == file.file_id())
        {
            return Err(Error::damaged(
                "the chain of parents goes in a circle: this image is a parent of itself",
            )
            .at_path(file.path()));
        }
        let share = Share::of_level(chain.len());
        if link.expected.is_guessed() {
            reach.confine();
        }
        let beside = Beside::of(&file, extra, &mut reach);
        let opened = parent::open(&link.expected, file.clone(), share, &beside)
            .and_then(|mut parent| {
                let warning = check_is_found(link, &parent, &file)?;
                parent.facts.warnings.extend(warning);
                Ok(parent)
            })
            .and_then(|parent| check_sizes(&youngest.opened, &parent).map(|()| parent))
            .map_err(|error| {
                let what = format!("the parent of {} cannot be used", path.display());
                error.at_path(file.path()).context(what)
            })?;
        let doubt = link.expected.doubt(&file)?;
        if let Some(youngest) = chain.last_mut() {
            youngest.opened.facts.warnings.extend(doubt);
            // It may be large, and is of no more use.
            youngest.opened.parent = None;
        }
        chain.push(Member {
            opened,
            file,
            found,
        });
    }
    Ok(())
}

/// `images`, the child first, as far as they are each other's parents.
///
/// # Errors
/// As [`with_parents`], and [`Kind::Invalid`] if there are too few or too many.
pub(crate) fn of_images(child: Opened, parents: Vec<Arc<dyn ReadAt>>) -> Result<Vec<Opened>> {
    let mut chain = vec![child];
    for image in parents {
        let Some(youngest) = chain.last() else { break };
        let Some(link) = &youngest.parent else {
            return Err(Error::invalid("a disk without a parent was given one"));
        };
        if let Err(found) = link.expected.compare(&*image, None)? {
            return Err(link.expected.mismatch(&found));
        }
        let share = Share::of_level(chain.len());
        let parent = parent::open(&link.expected, image, share, &Beside::NOTHING)?;
        check_sizes(youngest, &parent)?;
        chain.push(parent);
    }
    match chain.last().and_then(|oldest| oldest.parent.as_ref()) {
        Some(link) => Err(link.not_there(&[], &[])),
        None => Ok(chain),
    }
}

/// Where a parent is looked for.
struct Search<'a> {
    link: &'a ParentLink,
    /// The child's file, and its folders.
    child: &'a Path,
    folders: Vec<PathBuf>,
    extra: &'a [PathBuf],
    reach: &'a Reach,
}

impl Search<'_> {
    fn find(&self, known: &mut Known) -> Result<(Arc<FileSource>, FoundBy)> {
        let mut seen = HashSet::new();
        let mut refused: Option<Error> = None;
        let mut outside: Vec<PathBuf> = Vec::new();
        for (path, found) in self.named() {
            match self.look_at(&path, &mut seen, &mut outside) {
                Ok(Some(file)) => return Ok((file, found)),
                Ok(None) => {}
                Err(error) if is_short_of_something(&error) => return Err(error),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        for path in self.listed(known)? {
            match self.look_at(&path, &mut seen, &mut Vec::new()) {
                Ok(Some(file)) => return Ok((file, FoundBy::Id)),
                Ok(None) => {}
                Err(error) if is_short_of_something(&error) => return Err(error),
                // The parent by its id, and changed.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        let what = format!("the parent of {} cannot be used", self.child.display());
        Err(match refused {
            Some(error) => error.context(what),
            None => self
                .link
                .not_there(self.extra, &outside)
                .at_path(self.child),
        })
    }

    /// The file at `path`, if it is the parent; `None` if there is none, or it was looked at before, or lies where nothing may be
    /// opened: that is added to `outside`.
    fn look_at(
        &self,
        path: &Path,
        seen: &mut HashSet<(u64, u64)>,
        outside: &mut Vec<PathBuf>,
    ) -> Result<Option<Arc<FileSource>>> {
        let file = match self.reach.open(path)? {
            Looked::File(file) => file,
            Looked::Absent => return Ok(None),
            Looked::Outside => {
                outside.extend(reach::plain(path));
                return Ok(None);
            }
        };
        if !seen.insert(file.file_id()) {
            return Ok(None);
        }
        let modified = Some(file.stamp().modified);
        match self.link.expected.compare(&file, modified) {
            Ok(Ok(())) => Ok(Some(Arc::new(file))),
            Ok(Err(found)) => Err(self.link.expected.mismatch(&found).at_path(path)),
            Err(error) => Err(error.at_path(path)),
        }
    }

    /// Files by the names that the child gives, the likeliest first.
    fn named(&self) -> Vec<(PathBuf, FoundBy)> {
        let folders = &self.folders;
        if self.link.expected.is_by_name() {
            let mut paths = Vec::new();
            for place in &self.link.places {
                let name = match place {
                    ParentPlace::Relative(path) | ParentPlace::Absolute(path) => path,
                    ParentPlace::Name(name) => Path::new(name),
                };
                let placed = match name.is_absolute() {
                    true => 1,
                    false => folders.len(),
                };
                let places = reach::places_of(name, folders, self.extra);
                let found = |at: usize| match at < placed {
                    true => FoundBy::Path,
                    false => FoundBy::Name,
                };
                let places = places.into_iter().enumerate();
                paths.extend(places.map(|(at, path)| (path, found(at))));
            }
            return paths;
        }
        let mut paths = Vec::new();
        for place in &self.link.places {
            match place {
                ParentPlace::Relative(path) => {
                    paths.extend(folders.iter().map(|folder| folder.join(path)));
                }
                ParentPlace::Absolute(path) => paths.push(path.clone()),
                ParentPlace::Name(_) => {}
            }
        }
        let placed = paths.len();
        for folder in folders.iter().chain(self.extra) {
            let names = self.link.places.iter().filter_map(ParentPlace::name);
            paths.extend(names.map(|name| folder.join(name)));
        }
        // A file may be named instead of its folder.
        paths.extend(self.extra.iter().filter(|path| !path.is_dir()).cloned());
        let found = |at: usize| match at < placed {
            true => FoundBy::Path,
            false => FoundBy::Name,
        };
        // Without the dots of `.\base.vhd`.
        let paths = paths.iter().enumerate();
        paths
            .map(|(at, path)| (path.components().collect(), found(at)))
            .collect()
    }

    /// Images in the folders that have the parent's id.
    fn listed(&self, known: &mut Known) -> Result<Vec<PathBuf>> {
        if self.link.expected.ids().is_empty() {
            return Ok(Vec::new());
        }
        // What the caller names first: there it should be.
        for folder in self.extra.iter().chain(&self.folders) {
            known.add(folder, named::has_id, |path| self.open(path))?;
        }
        Ok(known.of(self.link.expected.ids()))
    }

    /// A file of a folder, if it may and can be opened, to see its id. It is opened anew if it is the parent.
    fn open(&self, path: &Path) -> Result<Option<FileSource>> {
        let real = self.reach.find(path);
        match real.and_then(|real| real.map(|real| FileSource::open_to_look(&real)).transpose()) {
            Err(error) if is_short_of_something(&error) => Err(error),
            file => Ok(file.ok().flatten()),
        }
    }
}

/// Whether no file could have been opened: then nothing is known of it.
fn is_short_of_something(error: &Error) -> bool {
    let errors = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    reach::code_of(error).is_some_and(|code| errors.map(Errno::raw_os_error).contains(&code))
}

/// Refuses a parent whose format nobody said, in which nothing was found, and that is called like an image; what is to be said of one that is taken as a raw disk.
fn check_is_found(link: &ParentLink, parent: &Opened, file: &FileSource) -> Result<Option<String>> {
    let is_raw = parent.facts.format == Format::Raw;
    match link.expected.is_guessed() && is_raw {
        true => named::check_raw(file).map_err(|error| {
            error.advise("say in the child that it is raw if it is (`qemu-img rebase -u -F raw`)")
        }),
        false => Ok(None),
    }
}
