//! The parent of a differencing disk: what it is known by, what it is opened as, and what is said if it is another one.

use crate::beside::Beside;
use crate::disk::FormatHint;
use crate::guid::Guid;
use crate::layer::{Expected, Opened, ParentLink, ParentPlace, time_of_vhd};
use crate::reach::{self, Reach};
use crate::source::FileSource;
use crate::table::Share;
use crate::{content, qcow2, raw, vdi, vhd, vhdx, vmdk};
use cairn_base::{Error, Kind, ReadAt, Result, Time};
use std::path::PathBuf;
use std::sync::Arc;

/// FAT keeps times of change to two seconds.
const INEXACT: i64 = 2;

/// Opens `image`, which is the parent that is `expected`; other files that belong to it by `beside`.
///
/// # Errors
/// As [`content::find_as`] and [`Found::open`](content::Found::open).
pub(crate) fn open(
    expected: &Expected,
    image: Arc<dyn ReadAt>,
    share: Share,
    beside: &Beside<'_>,
) -> Result<Opened> {
    let found = content::find_as(&*image, expected.format())?;
    let opened = found.open(image.clone(), share, beside)?;
    Ok(opened.unwrap_or_else(|| raw::open(image)))
}

/// Refuses to look for the parent of what is a VHD by its first sector alone, or a QCOW2 or VMDK and not called like one, unless the caller said that it
/// is one.
///
/// # Errors
/// [`Kind::Denied`] if it is.
pub(crate) fn check_is_told(link: &ParentLink, file: &FileSource, reach: &Reach) -> Result<()> {
    if matches!(link.expected, Expected::Vmdk(_)) {
        let what = format!("Its parent {} was not followed", link.names());
        return vmdk::check_is_told(file, reach.is_everywhere(), &what);
    }
    if link.expected.is_by_name() {
        let what = format!("Its backing file {} was not followed", link.names());
        return qcow2::check_is_told(file, reach.is_everywhere(), &what);
    }
    let is_vhd = matches!(link.expected, Expected::Vhd { .. });
    if reach.is_everywhere() || !is_vhd || !vhd::is_by_copy(file)? {
        return Ok(());
    }
    Err(Error::new(Kind::Denied, format!(
        "the image is a differencing VHD by its first sector alone, which the guest of a raw disk can write: there is no good \
         footer at its end. Its parent {} was not followed",
        link.names()
    ))
    .at_path(file.path())
    .advise("say that it is a VHD if it is one, or that it is raw"))
}

/// A VHDX has the size of its parent. XenServer makes the child of a VHD larger when a disk grows, VirtualBox that of a VDI, QEMU that of a VMDK; what the parent does
/// not reach is zeros. No child of these is smaller. A parent that is known by its name has any size, and what lies behind the child's end
/// is not read.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) for other sizes.
pub(crate) fn check_sizes(child: &Opened, parent: &Opened) -> Result<()> {
    let (size, of_parent) = (child.layer.size(), parent.layer.size());
    let expected = child.parent.as_ref().map(|link| &link.expected);
    let fits = match expected {
        Some(Expected::Named { .. }) => true,
        Some(Expected::Vhd { .. } | Expected::Vdi { .. } | Expected::Vmdk(_)) => of_parent <= size,
        Some(Expected::Vhdx(_)) | None => of_parent == size,
    };
    if fits {
        return Ok(());
    }
    Err(Error::damaged(format!(
        "the differencing disk has {size} bytes, and its parent {of_parent}"
    )))
}

impl Expected {
    /// What the parent is to be opened as.
    fn format(&self) -> FormatHint {
        match self {
            Expected::Vhd { .. } => FormatHint::Vhd,
            Expected::Vhdx(_) => FormatHint::Vhdx,
            Expected::Vdi { .. } => FormatHint::Vdi,
            Expected::Vmdk(_) => FormatHint::Vmdk,
            Expected::Named { format } => format.unwrap_or_default(),
        }
    }

    /// Whether the parent's content decides what it is opened as: then a guest that writes to it may have decided that.
    pub(crate) fn is_guessed(&self) -> bool {
        self.format() == FormatHint::Detect
    }

    /// Whether there is nothing to know the parent by but its name.
    pub(crate) fn is_by_name(&self) -> bool {
        matches!(self, Expected::Named { .. })
    }

    /// Whether `image`, whose file was changed at `modified`, is the parent; what was found instead if not.
    ///
    /// # Errors
    /// What keeps `image` from being the parent at all, and what it says when it is read.
    pub(crate) fn compare(
        &self,
        image: &dyn ReadAt,
        modified: Option<Time>,
    ) -> Result<Result<(), Found>> {
        match self {
            Expected::Named { .. } => Ok(Ok(())),
            Expected::Vdi { id, modified } => {
                let (found, found_modified) = vdi::known_as(image)?;
                Ok(if found != *id {
                    Err(Found::Id(found))
                } else if !modified.is_nil() && found_modified != *modified {
                    Err(Found::Modified(found_modified))
                } else {
                    Ok(())
                })
            }
            Expected::Vmdk(cid) => {
                let found = vmdk::content_id(image)?;
                Ok(if found == *cid {
                    Ok(())
                } else {
                    Err(Found::Cid(found))
                })
            }
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

    /// The ids of which the parent has one; none if no other has the name that it has.
    pub(crate) fn ids(&self) -> &[Guid] {
        match self {
            Expected::Vhd { id, .. } | Expected::Vdi { id, .. } => std::slice::from_ref(id),
            Expected::Vhdx(ids) => ids,
            Expected::Named { .. } | Expected::Vmdk(_) => &[],
        }
    }

    /// Why nobody can tell whether `file`, the parent, was changed since the child was made.
    ///
    /// # Errors
    /// What the file says when it is read.
    pub(crate) fn doubt(&self, file: &FileSource) -> Result<Option<String>> {
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

    /// The error that says what was expected and what was found: neither image is damaged, and together they are no disk.
    pub(crate) fn mismatch(&self, found: &Found) -> Error {
        match (self, found) {
            (Expected::Vhd { modified, .. }, Found::Time(time)) => {
                let then = time_of_vhd(*modified);
                refused(format!(
                    "the parent of the differencing disk was changed since: expected the time of change {then}, found {time}"
                ))
                .advise(format!(
                    "if it was copied and not changed, give it that time again: touch -d {then} FILE"
                ))
            }
            (Expected::Vdi { modified, .. }, Found::Modified(found)) => refused(format!(
                "the parent of the differencing disk was changed since: expected the modification id {modified}, found {found}"
            )),
            (expected, found) => refused(format!(
                "the parent of the differencing disk was changed since, or is another disk: expected the id {expected}, found {found}"
            ))
            .advise("name the folder in which the right one lies (`--parent DIR`)"),
        }
    }
}

fn refused(why: String) -> Error {
    Error::new(Kind::Denied, why)
}

/// What a file has that is not the parent.
#[derive(Debug)]
pub(crate) enum Found {
    /// Another id.
    Id(Guid),
    /// Another CID.
    Cid(u32),
    /// Another time of change of its file.
    Time(Time),
    /// Another id of its last change.
    Modified(Guid),
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Found::Id(id) | Found::Modified(id) => write!(f, "{id}"),
            Found::Cid(cid) => write!(f, "{cid:08x}"),
            Found::Time(time) => write!(f, "{time}"),
        }
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Expected::Vhd { id, .. } | Expected::Vdi { id, .. } => write!(f, "{id}"),
            Expected::Vmdk(cid) => write!(f, "{cid:08x}"),
            Expected::Named { .. } => f.write_str("its name"),
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
    pub(crate) fn not_there(&self, extra: &[PathBuf], outside: &[PathBuf]) -> Error {
        let looked: Vec<String> = extra
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        let also = match looked.len() {
            0 => String::new(),
            _ => format!(" and {}", looked.join(", ")),
        };
        let not_followed = reach::not_followed(outside);
        let names = self.names();
        let text = match self.expected.is_by_name() {
            true => format!(
                "the parent {names} of this disk was not found; looked where the disk says{also}{not_followed}"
            ),
            false => format!(
                "the parent {names} of this differencing disk, known by the id {}, was not found; looked where the disk says, beside it{also}{not_followed}",
                self.expected
            ),
        };
        Error::not_found(text).advise("name the folder in which it lies (`--parent DIR`)")
    }
}
