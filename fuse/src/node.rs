//! What there is in the tree, and the inode number of each.

use crate::failure::{Failure, Result};
use crate::inode::{self, Hash, IMAGE_SLOT, Owner, PointKey, ROOT_SLOT, Slots, TreeKey};
use crate::paths::{PastPath, Paths};
use cairn::{EntryId, Error, Kind, ViewFormat};
use std::sync::Arc;

/// Where the kind stands in the number of a node that the mount itself makes.
const KIND_SHIFT: u32 = 36;
const DISK_SHIFT: u32 = 24;
const DISK_MASK: u64 = 0xfff;
const PARTITION_MASK: u64 = 0xff_ffff;
/// The rest of a number: a hash of a name.
const NAME_MASK: u64 = (1 << KIND_SHIFT) - 1;
/// In a machine's slot numbers from here on are paths below `versions`, and the upper half of these their files of problems.
const PAST: u64 = 2 << PAST_SHIFT;
const PAST_ERROR: u64 = 3 << PAST_SHIFT;
const PAST_SHIFT: u32 = 38;
const PAST_MASK: u64 = (1 << PAST_SHIFT) - 1;

/// A point, or the disk image of an image mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointRef {
    /// Its slot.
    pub slot: u32,
    /// Which point; none for an image.
    pub key: Option<Arc<PointKey>>,
}

/// A guest's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRef {
    /// The slot of its tree.
    pub slot: u32,
    /// Its tree.
    pub tree: TreeKey,
    /// Its number in the tree.
    pub number: u64,
}

impl EntryRef {
    /// Its id for the volume.
    pub fn id(&self) -> EntryId {
        EntryId {
            tree: self.tree.tree,
            number: self.number,
        }
    }
}

/// What an inode number stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// `/` of a store.
    Root,
    /// `/<id>.error`: machines whose points cannot be read. A hash of the name.
    RootError(u64),
    /// `/<machine>`
    Machine(Arc<str>),
    /// `/<machine>/latest`. A hash of what it points to, so that another target is another inode.
    Latest(Arc<str>, u64),
    /// `/<machine>/<id>.error`: a point that cannot be read. A hash of the name.
    MachineError(Arc<str>, u64),
    /// `/<machine>/<time>`, or `/` of an image.
    Point(PointRef),
    /// `point.error`: why the point cannot be opened.
    PointError(PointRef),
    /// `disks`
    Disks(PointRef),
    /// `disks/<disk>.raw`
    Raw(PointRef, u16),
    /// `disks/<disk>.vhd`, `disks/<disk>.vhdx`
    View(PointRef, u16, ViewFormat),
    /// `files`
    Files(PointRef),
    /// `files/C:`: the volume that Windows gives this letter.
    Letter(PointRef, u8),
    /// `files/letters.notes`: what a user should know of the letters.
    LettersNotes(PointRef),
    /// `files/<disk>`
    DiskFiles(PointRef, u16),
    /// `files/<disk>/partitions.error`: why the partitions cannot be found.
    PartitionsError(PointRef, u16),
    /// `files/<disk>/p<N>`, empty because the file system cannot be read.
    Unreadable(PointRef, u16, u32),
    /// `files/<disk>/p<N>.error`: why.
    VolumeError(PointRef, u16, u32),
    /// `files/<disk>/p<N>.notes`: what a user should know of the file system.
    VolumeNotes(PointRef, u16, u32),
    /// `/<machine>/versions`, and all folders below.
    Past(PastPath),
    /// `.error` in one of these: what could not be read.
    PastError(PastPath),
    /// A guest's entry; its root is `files/<disk>/p<N>`.
    Entry(EntryRef),
}

/// The kinds of nodes within a slot of the mount's own. They are part of inode numbers: add, never renumber.
mod kind {
    pub const SELF: u64 = 0;
    pub const LATEST: u64 = 1;
    pub const ERROR: u64 = 2;
    pub const DISKS: u64 = 3;
    pub const RAW: u64 = 4;
    pub const FILES: u64 = 5;
    pub const DISK_FILES: u64 = 6;
    pub const PARTITIONS_ERROR: u64 = 7;
    pub const UNREADABLE: u64 = 8;
    pub const VOLUME_ERROR: u64 = 9;
    pub const VOLUME_NOTES: u64 = 10;
    pub const LETTER: u64 = 11;
    pub const LETTERS_NOTES: u64 = 12;
}

/// The hash that tells nodes of one kind in one folder apart.
pub fn name_hash(name: &[u8]) -> u64 {
    Hash::new().add(name).value() & NAME_MASK
}

impl Node {
    /// The node with this inode number, where `paths` knows it if it is one below `versions`. `image` says that the mount shows an image.
    ///
    /// # Errors
    /// [`Failure::Stale`] if there is none.
    pub fn find(inode: u64, image: bool, slots: &Slots, paths: &Paths) -> Result<Node> {
        let (slot, number) = inode::split(inode);
        let (kind, rest) = (number >> KIND_SHIFT, number & NAME_MASK);
        match (slot, image) {
            (ROOT_SLOT, true) if inode == inode::ROOT => Ok(Node::Point(image_point())),
            (IMAGE_SLOT, true) => in_point(image_point(), kind, rest),
            (ROOT_SLOT, false) if inode == inode::ROOT => Ok(Node::Root),
            (ROOT_SLOT, false) if kind == kind::ERROR => Ok(Node::RootError(rest)),
            (ROOT_SLOT | IMAGE_SLOT, _) => Err(Failure::Stale),
            _ => match slots.owner(slot)? {
                Owner::Machine(machine) => match kind {
                    kind::SELF => Ok(Node::Machine(machine)),
                    kind::LATEST => Ok(Node::Latest(machine, rest)),
                    kind::ERROR => Ok(Node::MachineError(machine, rest)),
                    _ if number >= PAST_ERROR => {
                        Ok(Node::PastError(paths.get(slot, number & PAST_MASK)?))
                    }
                    _ if number >= PAST => Ok(Node::Past(paths.get(slot, number & PAST_MASK)?)),
                    _ => Err(Failure::Stale),
                },
                Owner::Point(key) => {
                    let point = PointRef {
                        slot,
                        key: Some(key),
                    };
                    in_point(point, kind, rest)
                }
                Owner::Tree(tree) => Ok(Node::Entry(EntryRef { slot, tree, number })),
                Owner::Large(tree, number) => Ok(Node::Entry(EntryRef { slot, tree, number })),
            },
        }
    }

    /// Its inode number.
    ///
    /// # Errors
    /// As [`Slots::claim`].
    pub fn inode(&self, slots: &Slots) -> Result<u64> {
        let own = |slot: u32, kind: u64, rest: u64| inode::join(slot, (kind << KIND_SHIFT) | rest);
        let machine = |name: &Arc<str>| slots.claim(&Owner::Machine(name.clone()));
        Ok(match self {
            Node::Root => inode::ROOT,
            Node::RootError(hash) => own(ROOT_SLOT, kind::ERROR, *hash),
            Node::Machine(name) => own(machine(name)?, kind::SELF, 0),
            Node::Latest(name, hash) => own(machine(name)?, kind::LATEST, *hash),
            Node::MachineError(name, hash) => own(machine(name)?, kind::ERROR, *hash),
            Node::Past(past) => inode::join(machine(&past.machine)?, PAST | past.number()),
            Node::PastError(past) => {
                inode::join(machine(&past.machine)?, PAST_ERROR | past.number())
            }
            Node::Point(point) if point.key.is_none() => inode::ROOT,
            Node::Point(point) => own(point.slot, kind::SELF, 0),
            Node::PointError(point) => own(point.slot, kind::ERROR, 0),
            Node::Disks(point) => own(point.slot, kind::DISKS, 0),
            Node::Raw(point, disk) => own(point.slot, kind::RAW, place(*disk, 0)),
            Node::View(point, disk, format) => {
                own(point.slot, kind::RAW, place(*disk, number_of(*format)))
            }
            Node::Files(point) => own(point.slot, kind::FILES, 0),
            Node::Letter(point, letter) => own(point.slot, kind::LETTER, u64::from(*letter)),
            Node::LettersNotes(point) => own(point.slot, kind::LETTERS_NOTES, 0),
            Node::DiskFiles(point, disk) => own(point.slot, kind::DISK_FILES, place(*disk, 0)),
            Node::PartitionsError(point, disk) => {
                own(point.slot, kind::PARTITIONS_ERROR, place(*disk, 0))
            }
            Node::Unreadable(point, disk, partition) => {
                own(point.slot, kind::UNREADABLE, place(*disk, *partition))
            }
            Node::VolumeError(point, disk, partition) => {
                own(point.slot, kind::VOLUME_ERROR, place(*disk, *partition))
            }
            Node::VolumeNotes(point, disk, partition) => {
                own(point.slot, kind::VOLUME_NOTES, place(*disk, *partition))
            }
            Node::Entry(entry) => entry_inode(slots, entry.slot, &entry.tree, entry.id())?,
        })
    }
}

/// The inode number of the entry `id`, met in `tree`, whose slot is `slot`.
///
/// # Errors
/// As [`Slots::claim`].
pub fn entry_inode(slots: &Slots, slot: u32, tree: &TreeKey, id: EntryId) -> Result<u64> {
    if id.tree == tree.tree
        && inode::fits(id.number)
        && !matches!(slots.owner(slot)?, Owner::Large(..))
    {
        return Ok(inode::join(slot, id.number));
    }
    let key = TreeKey {
        tree: id.tree,
        ..*tree
    };
    if inode::fits(id.number) {
        return Ok(inode::join(slots.claim(&Owner::Tree(key))?, id.number));
    }
    Ok(inode::join(slots.claim(&Owner::Large(key, id.number))?, 0))
}

/// The point of an image mount.
pub fn image_point() -> PointRef {
    PointRef {
        slot: IMAGE_SLOT,
        key: None,
    }
}

/// The position of a disk, where it can be part of an inode number.
///
/// # Errors
/// [`Kind::Unsupported`] beyond 4,096 disks.
pub fn disk_position(position: usize) -> Result<u16> {
    u16::try_from(position)
        .ok()
        .filter(|disk| u64::from(*disk) <= DISK_MASK)
        .ok_or_else(|| {
            Error::new(
                Kind::Unsupported,
                "the mount shows 4096 disks of a point, not more",
            )
            .into()
        })
}

fn place(disk: u16, partition: u32) -> u64 {
    ((u64::from(disk) & DISK_MASK) << DISK_SHIFT) | (u64::from(partition) & PARTITION_MASK)
}

/// What tells the forms of a disk apart, where a partition's number stands elsewhere; 0 is the raw disk.
fn number_of(format: ViewFormat) -> u32 {
    match format {
        ViewFormat::Vhd => 1,
        ViewFormat::Vhdx => 2,
    }
}

fn format_of(number: u32) -> Result<ViewFormat> {
    let known = ViewFormat::ALL
        .into_iter()
        .find(|format| number_of(*format) == number);
    known.ok_or(Failure::Stale)
}

fn in_point(point: PointRef, kind: u64, rest: u64) -> Result<Node> {
    let disk = u16::try_from((rest >> DISK_SHIFT) & DISK_MASK).map_err(|_| Failure::Stale)?;
    let partition = u32::try_from(rest & PARTITION_MASK).map_err(|_| Failure::Stale)?;
    Ok(match kind {
        kind::SELF => Node::Point(point),
        kind::ERROR => Node::PointError(point),
        kind::DISKS => Node::Disks(point),
        kind::RAW if partition == 0 => Node::Raw(point, disk),
        kind::RAW => Node::View(point, disk, format_of(partition)?),
        kind::FILES => Node::Files(point),
        kind::DISK_FILES => Node::DiskFiles(point, disk),
        kind::PARTITIONS_ERROR => Node::PartitionsError(point, disk),
        kind::UNREADABLE => Node::Unreadable(point, disk, partition),
        kind::VOLUME_ERROR => Node::VolumeError(point, disk, partition),
        kind::VOLUME_NOTES => Node::VolumeNotes(point, disk, partition),
        kind::LETTER => Node::Letter(point, u8::try_from(rest).map_err(|_| Failure::Stale)?),
        kind::LETTERS_NOTES => Node::LettersNotes(point),
        _ => return Err(Failure::Stale),
    })
}

#[cfg(test)]
mod tests;
