//! Stable inode numbers without a table of visited files.
//!
//! A number is a slot (24 bits) and a number within it (40 bits). A slot stands for a machine, a point, or the file
//! system on one partition; within it the guest's own entry number is used, so that walking any number of files costs
//! no memory and needs no bookkeeping of what the kernel has forgotten.
//!
//! A slot follows from a hash of what it stands for, so numbers are the same in every mount of the same store. Two that
//! fall on the same slot are told apart by taking the next free one; only these (one mount in thirty that visits a
//! thousand volumes has a pair) may have other numbers in the next mount. Within a mount a number never changes.

use crate::failure::{Failure, Result};
use cairn::{Error, Kind, PointId};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Bits of the number within a slot.
const NUMBER_BITS: u32 = 40;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;
/// Of a hash the slot takes the lower bits; the upper ones are the generation.
const GENERATION_SHIFT: u32 = 32;
/// Slots there are.
const SLOTS: u32 = 1 << 24;
/// The slot of the root and of what lies beside the machines.
pub const ROOT_SLOT: u32 = 0;
/// The slot of the disk image of an image mount.
pub const IMAGE_SLOT: u32 = 1;
const FIRST_SLOT: u32 = 2;
/// The root of the mount, as FUSE wants it.
pub const ROOT: u64 = 1;

/// Joins a slot and a number to an inode number.
pub fn join(slot: u32, number: u64) -> u64 {
    (u64::from(slot) << NUMBER_BITS) | (number & NUMBER_MASK)
}

/// Takes an inode number apart.
pub fn split(inode: u64) -> (u32, u64) {
    let slot = u32::try_from(inode >> NUMBER_BITS).unwrap_or(u32::MAX);
    (slot, inode & NUMBER_MASK)
}

/// Whether an entry's number has room beside a slot.
pub fn fits(number: u64) -> bool {
    number <= NUMBER_MASK
}

/// A point as the tree names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointKey {
    /// Its machine.
    pub machine: Arc<str>,
    /// Its id.
    pub id: PointId,
    /// When it was made, seconds since 1970.
    pub seconds: i64,
}

/// What a slot stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A machine.
    Machine(Arc<str>),
    /// A recovery point.
    Point(Arc<PointKey>),
    /// A file system (one tree of it, where it has several).
    Tree(TreeKey),
    /// An entry whose number has no room beside a slot.
    Large(TreeKey, u64),
}

/// One tree of a file system on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeKey {
    /// Slot of the point, or [`IMAGE_SLOT`].
    pub point: u32,
    /// Position of the disk in the point.
    pub disk: u16,
    /// Number of the partition.
    pub partition: u32,
    /// Sub-volume; 0 where there is one tree.
    pub tree: u64,
}

/// The slots in use.
#[derive(Default)]
pub struct Slots {
    owners: RwLock<HashMap<u32, Owner>>,
    /// What tells the image of an image mount from all others.
    image: [u8; 32],
}

impl Slots {
    /// Those of the mount of one image, told from others by `origin`, see [`cairn::DiskView::origin`]. If that is not known the mount itself is.
    pub fn of_image(origin: [u8; 32]) -> Slots {
        let mut image = origin;
        if origin == [0; 32] {
            let keys = std::hash::RandomState::new();
            for (part, number) in image.chunks_mut(8).zip(0u64..) {
                part.copy_from_slice(&keys.hash_one(number).to_le_bytes());
            }
        }
        Slots {
            image,
            ..Slots::default()
        }
    }

    /// How many there are.
    pub fn in_use(&self) -> usize {
        self.owners.read().len()
    }

    /// What a slot stands for.
    ///
    /// # Errors
    /// [`Failure::Stale`] if nothing of this mount does.
    pub fn owner(&self, slot: u32) -> Result<Owner> {
        let owners = self.owners.read();
        owners.get(&slot).cloned().ok_or(Failure::Stale)
    }

    /// What tells apart the things that may have had a slot in one mount or another: a handle that was given out for one of them is not taken for another.
    pub fn generation(&self, slot: u32) -> u64 {
        if slot == IMAGE_SLOT {
            let mut hash = Hash::new();
            return hash.add(b"image").add(&self.image).value() >> GENERATION_SHIFT;
        }
        match self.owner(slot) {
            Ok(owner) => self.hash(&owner) >> GENERATION_SHIFT,
            Err(_) => 0,
        }
    }

    /// Whether `owner` would get this slot if nothing else had it.
    pub fn is_first_choice(&self, owner: &Owner, slot: u32) -> bool {
        self.first_choice(owner) == slot
    }

    /// Whether a tree of this point would get this slot if nothing else had it; the point needs none for that.
    pub fn is_tree_of(slot: u32, point: &PointId, disk: u16, partition: u32) -> bool {
        let key = TreeKey {
            point: 0,
            disk,
            partition,
            tree: 0,
        };
        let mut hash = Hash::new();
        add_tree(hash.add(b"tree"), Some(point), &key);
        spread(hash.value()) == slot
    }

    /// The slot of `owner`.
    ///
    /// # Errors
    /// [`Kind::Full`] if sixteen million are in use.
    pub fn claim(&self, owner: &Owner) -> Result<u32> {
        let start = self.first_choice(owner);
        if let Some(slot) = Slots::find(&self.owners.read(), start, owner).known() {
            return Ok(slot);
        }
        let mut owners = self.owners.write();
        match Slots::find(&owners, start, owner) {
            Found::Known(slot) => Ok(slot),
            Found::Free(slot) => {
                owners.insert(slot, owner.clone());
                Ok(slot)
            }
            Found::Nowhere => Err(Error::new(
                Kind::Full,
                "this mount has shown more volumes than it has numbers for",
            )
            .advise("unmount and mount again")
            .into()),
        }
    }

    fn find(owners: &HashMap<u32, Owner>, start: u32, owner: &Owner) -> Found {
        let mut slot = start;
        for _ in FIRST_SLOT..SLOTS {
            match owners.get(&slot) {
                Some(held) if held == owner => return Found::Known(slot),
                Some(_) => slot = wrap(slot.saturating_add(1)),
                None => return Found::Free(slot),
            }
        }
        Found::Nowhere
    }

    /// Where the search begins: from what the owner is, never from the order in which things were visited.
    fn first_choice(&self, owner: &Owner) -> u32 {
        spread(self.hash(owner))
    }

    fn hash(&self, owner: &Owner) -> u64 {
        let point = |key: &TreeKey| match self.owner(key.point) {
            _ if key.point == IMAGE_SLOT => Some(PointId(self.image)),
            Ok(Owner::Point(point)) => Some(point.id),
            _ => None,
        };
        let mut hash = Hash::new();
        match owner {
            Owner::Machine(name) => hash.add(b"machine").add(name.as_bytes()),
            Owner::Point(key) => hash.add(b"point").add(&key.id.0),
            Owner::Tree(key) => add_tree(hash.add(b"tree"), point(key).as_ref(), key),
            Owner::Large(key, number) => {
                add_tree(hash.add(b"large"), point(key).as_ref(), key).add(&number.to_le_bytes())
            }
        };
        hash.value()
    }
}

fn add_tree<'a>(hash: &'a mut Hash, point: Option<&PointId>, key: &TreeKey) -> &'a mut Hash {
    if let Some(id) = point {
        hash.add(&id.0);
    }
    hash.add(&key.disk.to_le_bytes())
        .add(&key.partition.to_le_bytes())
        .add(&key.tree.to_le_bytes())
}

fn spread(hash: u64) -> u32 {
    let spread = hash.checked_rem(u64::from(SLOTS)).unwrap_or(0);
    wrap(u32::try_from(spread).unwrap_or(FIRST_SLOT))
}

enum Found {
    Known(u32),
    Free(u32),
    Nowhere,
}

impl Found {
    fn known(self) -> Option<u32> {
        match self {
            Found::Known(slot) => Some(slot),
            Found::Free(_) | Found::Nowhere => None,
        }
    }
}

fn wrap(slot: u32) -> u32 {
    if (FIRST_SLOT..SLOTS).contains(&slot) {
        slot
    } else {
        FIRST_SLOT
    }
}

/// FNV-1a with a final mix: small, and the same in every build, which the standard hasher does not promise.
pub struct Hash(u64);

impl Hash {
    /// Nothing added yet.
    #[expect(
        clippy::new_without_default,
        reason = "an empty hash is no useful value"
    )]
    pub fn new() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    /// Adds bytes and their length.
    pub fn add(&mut self, bytes: &[u8]) -> &mut Hash {
        let length = cairn::units::to_u64(bytes.len()).to_le_bytes();
        for byte in bytes.iter().chain(&length) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// The hash.
    pub fn value(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }
}

#[cfg(test)]
mod tests;
