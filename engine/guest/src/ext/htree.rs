//! The index of a large folder: a tree over the hashes of its names, hidden in its first block and in blocks that
//! look empty.

use super::dirent::{Shape, index_counts, shape, verify};
use super::hash::NameHash;
use super::superblock::Superblock;
use cairn_base::{Error, Result, View};

/// Blocks of names with the same hash that are looked into before the index is given up.
const MAX_LEAVES: usize = 256;
/// Levels below the root: two, three with `large_dir`.
const MAX_LEVELS: u8 = 3;

/// Gives the bytes of a block of the folder, with the offset on the device.
pub(super) type BlockOf<'a> = &'a dyn Fn(u64) -> Result<(super::blocks::Block, u64)>;

struct Node {
    /// Hash and block of the folder, ascending by hash.
    entries: Vec<(u32, u64)>,
    /// The one that is followed.
    index: usize,
}

impl Node {
    fn current(&self) -> Result<(u32, u64)> {
        self.entries
            .get(self.index)
            .copied()
            .ok_or_else(|| Error::damaged("folder index: an entry is missing"))
    }
}

/// What the root says of the index.
struct Root {
    hash: NameHash,
    levels: u8,
    node: Node,
}

/// The hash an indexed folder uses, from its first block.
pub(super) fn hash_of(sb: &Superblock, first: &View<'_>) -> Result<NameHash> {
    if shape(first)? != Shape::Index(32) {
        return Err(first.damaged(24, "no index root"));
    }
    NameHash::new(first.u8(28)?, sb.flags, sb.hash_seed)
        .ok_or_else(|| first.damaged(28, "the hash of names is not known"))
}

fn root(sb: &Superblock, seed: Option<u32>, view: &View<'_>, name: &[u8]) -> Result<(Root, u32)> {
    let hash = hash_of(sb, view)?;
    let levels = view.u8(30)?;
    if levels > MAX_LEVELS {
        return Err(view.damaged(30, "the index is too deep"));
    }
    if view.u8(31)? & 1 != 0 {
        return Err(view.damaged(31, "the index has unknown flags"));
    }
    let target = hash.of(name).0;
    let node = node(view, 32, seed, target)?;
    Ok((Root { hash, levels, node }, target))
}

fn node(view: &View<'_>, at: usize, seed: Option<u32>, target: u32) -> Result<Node> {
    if let Some(seed) = seed {
        verify(view, Shape::Index(at), seed)?;
    }
    let (_, count) = index_counts(view, at)?;
    let mut entries = Vec::with_capacity(count);
    for index in 0..count {
        let entry = view.part(at.saturating_add(index.saturating_mul(8)), 8, "index entry")?;
        // The first entry has no hash: the two counts lie in its place.
        let hash = if index == 0 { 0 } else { entry.u32_le(0)? };
        entries.push((hash, u64::from(entry.u32_le(4)? & 0x0fff_ffff)));
    }
    if !entries.is_sorted_by_key(|(hash, _)| *hash) {
        return Err(view.damaged(at, "the index is out of order"));
    }
    let index = entries
        .partition_point(|(hash, _)| *hash <= target)
        .saturating_sub(1);
    Ok(Node { entries, index })
}

/// Blocks of the folder that can hold `name`: `look` answers whether it found it there.
///
/// # Errors
/// Damaged if the index is: the caller then looks through the whole folder.
pub(super) fn search(
    sb: &Superblock,
    seed: Option<u32>,
    block_of: BlockOf<'_>,
    name: &[u8],
    look: &mut dyn FnMut(u64) -> Result<bool>,
) -> Result<()> {
    let (bytes, base) = block_of(0)?;
    let (root, target) = root(sb, seed, &View::new(&bytes, "folder index", base), name)?;
    // Which sign characters have is not recorded in old file systems: the index cannot be relied on then.
    if root.hash.signed && sb.flags & 3 == 0 && !name.is_ascii() {
        return Err(Error::damaged(
            "folder index: the kind of hash is not recorded",
        ));
    }
    let mut path = vec![root.node];
    let descend = |path: &mut Vec<Node>, target: u32| -> Result<()> {
        while path.len() <= usize::from(root.levels) {
            let (_, block) = path.last().map_or_else(
                || Err(Error::damaged("folder index: no root")),
                Node::current,
            )?;
            let (bytes, base) = block_of(block)?;
            let view = View::new(&bytes, "folder index", base);
            if shape(&view)? != Shape::Index(8) {
                return Err(view.damaged(0, "no index block"));
            }
            path.push(node(&view, 8, seed, target)?);
        }
        Ok(())
    };
    descend(&mut path, target)?;
    for _ in 0..MAX_LEAVES {
        let (_, leaf) = path.last().map_or_else(
            || Err(Error::damaged("folder index: no leaf")),
            Node::current,
        )?;
        if look(leaf)? {
            return Ok(());
        }
        // Names with the same hash may go on in the next leaf, which says so in the lowest bit of its hash.
        let next = loop {
            let Some(last) = path.last_mut() else {
                return Ok(());
            };
            last.index = last.index.saturating_add(1);
            match last.entries.get(last.index) {
                Some((hash, _)) => break *hash,
                None => path.pop(),
            };
        };
        if next & !1 != target {
            return Ok(());
        }
        // Leftmost from here down.
        descend(&mut path, 0)?;
    }
    Err(Error::damaged("folder index: too many names with one hash"))
}
