//! The parents of a differencing disk: found where the child says, known by their ids, never guessed.
//!
//! A parent is looked for where the child's relative paths lead from its folder, then at its absolute paths, then under
//! the same names in the child's folder and in those that the caller names, and at last among all images of these
//! folders: files are renamed, ids are not. Whatever the file is called, only one that has the id counts, and only where the image
//! may have files opened: see [`reach`](crate::reach).

use crate::disk::FoundBy;
use crate::guid::Guid;
use crate::known::Known;
use crate::layer::{Expected, Opened, ParentLink, ParentPlace, time_of_vhd};
use crate::reach::{self, Reach};
use crate::source::FileSource;
use crate::table::Share;
use crate::{vhd, vhdx};
use cairn_base::{Error, Kind, ReadAt, Result, Time};
use rustix::io::Errno;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Images of a chain. Hyper-V makes at most 50 checkpoints, XenServer chains of 30. What a read costs grows with them.
const MAX_IMAGES: usize = 64;
/// Places that a message names.
const SHOWN: usize = 3;
/// FAT keeps times of change to two seconds.
const INEXACT: i64 = 2;

/// An image of a chain, and the file it lies in.
pub(crate) struct Member {
    pub(crate) opened: Opened,
    pub(crate) file: Arc<FileSource>,
    pub(crate) found: FoundBy,
}

/// `child` and its parents, each behind its child, as far as they are there; and why not all are. `extra` are folders to look in (or files) besides the child's own; `reach` is
/// what may be opened, besides what lies in the folders of the chain.
///
/// # Errors
/// [`Kind::NotFound`] if a parent is nowhere; [`Kind::Damaged`] if the only file that could be it is another one or was
/// changed, if sizes differ, if the chain goes in a circle, or if a child is a VHD by its first sector alone;
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
        let opened = open_parent(&link.expected, file.clone(), share)
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
        let parent = open_parent(&link.expected, image, Share::of_level(chain.len()))?;
        check_sizes(youngest, &parent)?;
        chain.push(parent);
    }
    match chain.last().and_then(|oldest| oldest.parent.as_ref()) {
        Some(link) => Err(link.not_there(&[], &[])),
        None => Ok(chain),
    }
}

fn open_parent(expected: &Expected, image: Arc<dyn ReadAt>, share: Share) -> Result<Opened> {
    match expected {
        Expected::Vhdx(_) => vhdx::open(image, share),
        Expected::Vhd { .. } => match vhd::find_footer(&*image)? {
            Some((footer, warnings)) => vhd::open(image, &footer, warnings, share),
            None => Err(Error::damaged("the image has no VHD footer")),
        },
    }
}

/// Refuses to look for the parent of what is a VHD by its first sector alone, unless the caller said that it is one.
fn check_is_told(link: &ParentLink, file: &FileSource, reach: &Reach) -> Result<()> {
    let is_vhd = matches!(link.expected, Expected::Vhd { .. });
    if reach.is_everywhere() || !is_vhd || !vhd::is_by_copy(file)? {
        return Ok(());
    }
    Err(Error::damaged(format!(
        "the image is a differencing VHD by its first sector alone, which the guest of a raw disk can write: there is no good \
         footer at its end. Its parent {} was not followed",
        link.names()
    ))
    .at_path(file.path())
    .advise("say that it is a VHD if it is one, or that it is raw"))
}

/// A VHDX has the size of its parent. XenServer makes the child of a VHD larger when a disk grows; what the parent does not
/// reach is zeros. No child is smaller.
fn check_sizes(child: &Opened, parent: &Opened) -> Result<()> {
    let (size, of_parent) = (child.layer.size(), parent.layer.size());
    let may_grow =
        matches!(&child.parent, Some(link) if matches!(link.expected, Expected::Vhd { .. }));
    if of_parent == size || (may_grow && of_parent < size) {
        return Ok(());
    }
    Err(Error::damaged(format!(
        "the differencing disk has {size} bytes, and its parent {of_parent}"
    )))
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
        let found = match self.reach.find(path) {
            Ok(None) => {
                outside.extend(reach::plain(path));
                return Ok(None);
            }
            Ok(Some(real)) => FileSource::open(&real),
            Err(error) => Err(error),
        };
        let file = match found {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) if code_of(&error) == Some(Errno::NOTDIR.raw_os_error()) => return Ok(None),
            file => file?,
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
        // What the caller names first: there it should be.
        for folder in self.extra.iter().chain(&self.folders) {
            known.add(folder, is_image_name, |path| self.open(path))?;
        }
        Ok(known.of(self.link.expected.ids()))
    }

    /// A file of a folder, if it may and can be opened.
    fn open(&self, path: &Path) -> Result<Option<FileSource>> {
        let real = self.reach.find(path);
        match real.and_then(|real| real.map(|real| FileSource::open(&real)).transpose()) {
            Err(error) if is_short_of_something(&error) => Err(error),
            file => Ok(file.ok().flatten()),
        }
    }
}

/// Whether no file could have been opened: then nothing is known of it.
fn is_short_of_something(error: &Error) -> bool {
    let errors = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    code_of(error).is_some_and(|code| errors.map(Errno::raw_os_error).contains(&code))
}

/// What the system said, if it did.
fn code_of(error: &Error) -> Option<i32> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<std::io::Error>()?.raw_os_error()
}

/// Whether a file is called like a VHD or VHDX.
pub(crate) fn is_image_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["vhd", "vhdx", "avhd", "avhdx"]
            .iter()
            .any(|name| extension.eq_ignore_ascii_case(name))
    })
}

impl Expected {
    /// Whether `image`, whose file was changed at `modified`, is the parent; what was found instead if not.
    fn compare(&self, image: &dyn ReadAt, modified: Option<Time>) -> Result<Result<(), Found>> {
        match self {
            Expected::Vhdx(ids) => {
                let id = vhdx::known_as(image)?;
                Ok(if ids.contains(&id) {
                    Ok(())
                } else {
                    Err(Found::Id(id))
                })
            }
            Expected::Vhd { id, modified: then } => {
                let Some((footer, _)) = vhd::find_footer(image)? else {
                    return Err(Error::damaged("the image has no VHD footer"));
                };
                if footer.unique_id != *id {
                    return Ok(Err(Found::Id(footer.unique_id)));
                }
                // Windows says nothing (0), others the file's time of change or that of the footer. A device has none.
                let modified = modified.filter(|time| *time != Time::default());
                let said = *then != 0 && *then != footer.timestamp;
                Ok(match modified {
                    Some(time) if said && !is_same(time, *then) => Err(Found::Time(time)),
                    _ => Ok(()),
                })
            }
        }
    }

    /// The ids of which the parent has one.
    fn ids(&self) -> &[Guid] {
        match self {
            Expected::Vhd { id, .. } => std::slice::from_ref(id),
            Expected::Vhdx(ids) => ids,
        }
    }

    /// Why nobody can tell whether `file`, the parent, was changed since the child was made.
    fn doubt(&self, file: &FileSource) -> Result<Option<String>> {
        let Expected::Vhd { modified, .. } = self else {
            return Ok(None);
        };
        let name = file.path().display();
        if *modified == 0 {
            return Ok(Some(format!(
                "the differencing disk does not say when its parent {name} was changed last: whether it was changed since cannot be told"
            )));
        }
        let time = file.stamp().modified;
        let is_of_footer =
            vhd::find_footer(file)?.is_some_and(|(footer, _)| footer.timestamp == *modified);
        let is_unclear = is_of_footer && time != Time::default() && !is_same(time, *modified);
        Ok(is_unclear.then(|| {
            format!(
                "the differencing disk names the time in the footer of its parent {name}, whose file was changed at {time}: whether that was \
                 before the differencing disk was made or since cannot be told"
            )
        }))
    }

    /// The error that says what was expected and what was found.
    fn mismatch(&self, found: &Found) -> Error {
        match (self, found) {
            (Expected::Vhd { modified, .. }, Found::Time(time)) => {
                let then = time_of_vhd(*modified);
                Error::damaged(format!(
                    "the parent of the differencing disk was changed since: expected the time of change {then}, found {time}"
                ))
                .advise(format!(
                    "if it was copied and not changed, give it that time again: touch -d {then} FILE"
                ))
            }
            (expected, found) => Error::damaged(format!(
                "the parent of the differencing disk was changed since, or is another disk: expected the id {expected}, found {found}"
            ))
            .advise("name the folder in which the right one lies (`--parent DIR`)"),
        }
    }
}

/// What a file has that is not the parent.
#[derive(Debug)]
enum Found {
    Id(Guid),
    Time(Time),
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Found::Id(id) => write!(f, "{id}"),
            Found::Time(time) => write!(f, "{time}"),
        }
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Expected::Vhd { id, .. } => write!(f, "{id}"),
            Expected::Vhdx(ids) => {
                let ids: Vec<String> = ids.iter().map(Guid::to_string).collect();
                f.write_str(&ids.join(" or "))
            }
        }
    }
}

fn is_same(time: Time, seconds: u32) -> bool {
    time.seconds
        .abs_diff(time_of_vhd(seconds).seconds)
        .le(&INEXACT.unsigned_abs())
}

impl ParentLink {
    /// Names by which the parent goes, for messages.
    pub(crate) fn names(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for name in self.places.iter().filter_map(ParentPlace::name) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        match names.len() {
            0 => "(it has no name)".to_string(),
            _ => format!("`{}`", names.join("` or `")),
        }
    }

    /// `extra` is where it was looked for besides, `outside` where it was not.
    fn not_there(&self, extra: &[PathBuf], outside: &[PathBuf]) -> Error {
        let looked: Vec<String> = extra
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        let also = match looked.len() {
            0 => String::new(),
            _ => format!(" and {}", looked.join(", ")),
        };
        let shown: Vec<String> = outside
            .iter()
            .take(SHOWN)
            .map(|path| format!("`{}`", path.to_string_lossy().escape_debug()))
            .collect();
        let not_followed = match shown.len() {
            0 => String::new(),
            _ => format!(
                "; the disk says {}, outside of its folder, which was not followed",
                shown.join(", ")
            ),
        };
        Error::not_found(format!(
            "the parent {} of this differencing disk, known by the id {}, was not found; looked where the disk says, beside it{also}{not_followed}",
            self.names(),
            self.expected
        ))
        .advise("name the folder in which it lies (`--parent DIR`)")
    }
}
