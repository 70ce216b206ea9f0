//! Drive letters of Windows, and where links of Windows lead to in the mount.
//!
//! A relative target is the same in the mount. What leads to a volume, be it by its letter, by its name or as the link's own, becomes a path relative to the link: up
//! to the machine's folder, and down to the volume in the same point. So it is right in `files`, and in `versions`, where the same link lies as many
//! folders below the machine's.
//!
//! Which volumes there are only all disks of the machine tell, and one of them may hang. So nobody waits for that without end: until it is known, a link that leads to
//! a volume has a size that is none, which the kernel keeps for no longer than a second, and no target.

use crate::catalog::OpenPoint;
use crate::failure::{Failure, Result};
use crate::inode::{Owner, TreeKey};
use crate::node::{Node, PointRef};
use crate::stat::Stat;
use crate::tree::{OpenVolume, Tree};
use cairn::{
    Attributes, EntryId, EntryKind, Error, Kind, LinkTarget, MachineLayout, MachineVolume, Time,
    Volume,
};
use std::sync::Arc;

/// The file that says what there is to know of the letters.
const NOTES: &str = "letters.notes";
/// FILE_ATTRIBUTE_REPARSE_POINT: links of Windows have it.
const REPARSE_POINT: u32 = 0x400;
/// Folders above a link; Windows has no path that is so deep.
const MAX_DEPTH: usize = 1 << 15;
/// The longest target that the kernel takes.
const LONGEST: usize = 4095;

impl Tree {
    /// The target of a symbolic link: a guest's as the guest wrote it, but for those of Windows, which become paths in the mount.
    ///
    /// # Errors
    /// [`Failure::Invalid`] for anything else.
    pub fn readlink(&self, inode: u64) -> Result<Vec<u8>> {
        self.noted(inode, self.find_target(inode))
    }

    fn find_target(&self, inode: u64) -> Result<Vec<u8>> {
        match self.node(inode)? {
            Node::Latest(machine, _) => {
                let points = self.catalog()?.points(&machine)?;
                let latest = points.latest.as_ref().ok_or_else(|| {
                    Error::not_found(format!("the machine `{machine}` has no latest point"))
                })?;
                Ok(latest.time().folder_name().into_bytes())
            }
            Node::Letter(point, letter) => self.letter_target(&point, letter),
            Node::Entry(entry) => {
                let open = self.volume(&entry.tree)?;
                let target = self.guest_target(&entry.tree, &open, entry.id())?;
                let what = "which volume the link leads to";
                target.ok_or_else(|| match open.point.layout_soon() {
                    None => unknown(what),
                    Some(_) => unsure(what),
                })
            }
            _ => Err(Failure::Invalid),
        }
    }

    /// The letters of a point's volumes, each as a link to its volume; none yet if a disk hangs.
    pub(super) fn letters(&self, point: &PointRef, names: &mut Vec<(String, Node)>) -> Result<()> {
        let Some(layout) = self.open_point(point)?.layout_soon() else {
            return Ok(());
        };
        for (letter, _) in layout.letters() {
            let byte = u8::try_from(letter).map_err(|_| Failure::Invalid)?;
            names.push((format!("{letter}:"), Node::Letter(point.clone(), byte)));
        }
        if !layout.notes().is_empty() {
            names.push((NOTES.to_string(), Node::LettersNotes(point.clone())));
        }
        Ok(())
    }

    /// The node of a letter's name, or of what there is to know of letters.
    pub(super) fn letter_called(&self, point: &PointRef, name: &str) -> Result<Option<Node>> {
        if name == NOTES {
            let layout = self.known_layout(point)?;
            return Ok((!layout.notes().is_empty()).then(|| Node::LettersNotes(point.clone())));
        }
        let [letter @ b'A'..=b'Z', b':'] = name.as_bytes() else {
            return Ok(None);
        };
        let layout = self.known_layout(point)?;
        let found = layout.letter(*letter);
        Ok(found.map(|_| Node::Letter(point.clone(), *letter)))
    }

    /// Whether a name that is not in `files` never will be: only letters, and what there is to know of them, may come.
    pub(super) fn knows_all_letters(&self, point: &PointRef, name: &[u8]) -> bool {
        let may_come = name.ends_with(b":") || name.eq_ignore_ascii_case(NOTES.as_bytes());
        !may_come
            || self
                .known_layout(point)
                .is_ok_and(|layout| layout.is_final())
    }

    /// What the disks of a point are together.
    ///
    /// # Errors
    /// [`Kind::Io`] while a disk does not answer.
    pub(super) fn known_layout(&self, point: &PointRef) -> Result<Arc<MachineLayout>> {
        let layout = self.open_point(point)?.layout_soon();
        layout.ok_or_else(|| unknown("which drive letters there are"))
    }

    /// Where the link of a letter leads to, from `files`.
    pub(super) fn letter_target(&self, point: &PointRef, letter: u8) -> Result<Vec<u8>> {
        let layout = self.known_layout(point)?;
        let volume = layout.letter(letter).ok_or(Failure::Stale)?;
        Ok(volume.path().as_bytes().to_vec())
    }

    /// What is said of a guest's entry. Of a link of Windows the size is that of its target in the mount; of one whose target is not known yet
    /// it is that of the longest, which the kernel keeps for no longer than a second.
    pub(super) fn guest_stat(
        &self,
        inode: u64,
        tree: &TreeKey,
        open: &OpenVolume,
        id: EntryId,
        mut attributes: Attributes,
    ) -> Result<Stat> {
        let is_link = attributes.kind == EntryKind::Symlink;
        let mut is_known = true;
        if is_link && attributes.dos_flags & REPARSE_POINT != 0 {
            match self.guest_target(tree, open, id) {
                Ok(Some(target)) => attributes.size = cairn::units::to_u64(target.len()),
                // The kernel cuts targets off at the size that it was told: none is longer.
                Ok(None) => {
                    attributes.size = cairn::units::to_u64(LONGEST);
                    is_known = false;
                }
                Err(Failure::Engine(error)) if error.kind().may_pass() => return Err(error.into()),
                // Why is told to whoever asks for the target.
                Err(_) => {}
            }
        }
        let stat = self.entry_stat(inode, attributes)?;
        Ok(Stat {
            lasting: stat.lasting && is_known,
            ..stat
        })
    }

    /// The target of a guest's link, as it is right in the mount; nothing while it is not known which volume it leads to.
    pub(super) fn guest_target(
        &self,
        tree: &TreeKey,
        open: &OpenVolume,
        id: EntryId,
    ) -> Result<Option<Vec<u8>>> {
        let volume = &*open.volume;
        let target = match volume.link_target(id)? {
            LinkTarget::Posix(target) => return Ok(Some(target)),
            LinkTarget::Elsewhere(target) => target,
            LinkTarget::Relative(names) => relative(volume, id, &names)?,
            LinkTarget::Rooted(names) => {
                let disk = open.point.disk(tree.disk)?.name();
                let place = format!("{disk}/p{}", tree.partition);
                self.path_to(tree, volume, id, &place, &names)?
            }
            LinkTarget::Letter(letter, names) => {
                match place(&open.point, |layout| layout.letter(letter)) {
                    Place::Unknown => return Ok(None),
                    Place::At(place) => self.path_to(tree, volume, id, &place, &names)?,
                    Place::Nowhere => elsewhere(&format!("{}:", char::from(letter)), &names),
                }
            }
            LinkTarget::Named(guid, names) => {
                match place(&open.point, |layout| layout.named(&guid)) {
                    Place::Unknown => return Ok(None),
                    Place::At(place) => self.path_to(tree, volume, id, &place, &names)?,
                    Place::Nowhere => elsewhere(&format!("Volume{{{guid}}}"), &names),
                }
            }
        };
        if target.len() > LONGEST {
            return Err(Failure::LongPath);
        }
        Ok(Some(target))
    }

    /// The path from a link to `names` below the volume at `place`.
    fn path_to(
        &self,
        tree: &TreeKey,
        volume: &dyn Volume,
        link: EntryId,
        place: &str,
        names: &[Vec<u8>],
    ) -> Result<Vec<u8>> {
        // `p1`, the disk's folder, and then `files`.
        let up = depth(volume, link)?.saturating_add(2);
        let (up, down) = match self.slots.owner(tree.point) {
            // The point, and the machine.
            Ok(Owner::Point(key)) => {
                let time = Time::from_seconds(key.seconds).folder_name();
                (up.saturating_add(2), format!("{time}/files/"))
            }
            _ => (up, String::new()),
        };
        let mut path = b"../".repeat(up);
        path.extend_from_slice(down.as_bytes());
        path.extend_from_slice(place.as_bytes());
        for name in names {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        Ok(path)
    }
}

/// Where a volume that a link names is found.
enum Place {
    /// At this path below `files`.
    At(String),
    /// There is no such volume.
    Nowhere,
    /// That cannot be told just now.
    Unknown,
}

fn place(point: &OpenPoint, find: impl Fn(&MachineLayout) -> Option<&MachineVolume>) -> Place {
    let Some(layout) = point.layout_soon() else {
        return Place::Unknown;
    };
    match find(&layout) {
        Some(volume) => Place::At(volume.path().to_string()),
        None if layout.is_final() => Place::Nowhere,
        None => Place::Unknown,
    }
}

/// That something is not known because a disk answered with a failure that may pass.
fn unsure(what: &str) -> Failure {
    let what = format!("{what} cannot be told: a disk of the machine could not be read just now");
    let error = Error::new(Kind::Io, what);
    error
        .advise("`letters.notes` says why; it is tried again")
        .into()
}

/// That something is not known because a disk does not answer.
fn unknown(what: &str) -> Failure {
    let what = format!("{what} cannot be told: a disk of the machine does not answer");
    Error::new(Kind::Io, what).into()
}

/// The target of a link to what is not there, as Windows' kernel has it.
fn elsewhere(volume: &str, names: &[Vec<u8>]) -> Vec<u8> {
    let mut path = format!("/??/{volume}").into_bytes();
    for name in names {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// A relative target: as it stands, but no higher than the volume's root, where Windows stays.
fn relative(volume: &dyn Volume, link: EntryId, names: &[Vec<u8>]) -> Result<Vec<u8>> {
    const ABOVE: &[u8] = b"..";
    let (mut up, mut down): (usize, Vec<&[u8]>) = (0, Vec::new());
    for name in names {
        if name != ABOVE {
            down.push(name);
        } else if down.pop().is_none() {
            up = up.saturating_add(1);
        }
    }
    if up > 0 {
        up = up.min(depth(volume, link)?);
    }
    let above = std::iter::repeat_n(ABOVE, up);
    let path: Vec<&[u8]> = above.chain(down).collect();
    Ok(match path.is_empty() {
        true => b".".to_vec(),
        false => path.join(&b'/'),
    })
}

/// How many folders lie between a volume's root and an entry.
fn depth(volume: &dyn Volume, entry: EntryId) -> Result<usize> {
    let root = volume.root();
    let mut at = entry;
    for depth in 0..MAX_DEPTH {
        let above = volume.parent(at)?;
        at = above.ok_or_else(|| Error::damaged("it is not known where the link lies"))?;
        if at == root {
            return Ok(depth);
        }
    }
    Err(Error::damaged("the link lies in folders that lie in each other").into())
}
