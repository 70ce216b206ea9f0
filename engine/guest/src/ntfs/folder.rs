//! Folders: finding a name in the B-tree, and telling all names.

use super::attribute::kind;
use super::cache::Cache;
use super::cluster::Vcn;
use super::entry::Entry;
use super::file_name::{FileName, NameView};
use super::index::{self, Entries, IndexEntry};
use super::mft::Mft;
use super::order::{self, Way};
use super::passing::is_passing;
use super::record::Reference;
use super::stream::Stream;
use super::upcase::UpCase;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, View};
use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

/// `$I30`, the index of names.
const I30: [u16; 4] = [0x24, 0x49, 0x33, 0x30];
/// No index of Windows is deeper than a handful of levels.
const MAX_DEPTH: usize = 32;
/// The longest map of used blocks that is read: eight million blocks.
const MAX_BITMAP: u64 = 1 << 20;
/// A resident index root is shorter than a file record.
const MAX_ROOT: u64 = 64 << 10;
/// After so many bad blocks a walk ends: a size that is a lie would keep it going for years.
const MAX_BAD: usize = 1 << 16;
/// Larger blocks, which Windows does not make, are not kept.
const MAX_KEPT_BLOCK: u64 = 16 << 10;
/// Bytes of the index that a walk reads at once.
const AHEAD: u64 = 64 << 10;
/// Bits of a cookie that hold the offset in a node.
const OFFSET_BITS: u32 = 20;

/// Blocks already mended, by folder and block.
pub type Blocks = Cache<(u64, u64), Arc<Vec<u8>>>;

/// An opened folder.
pub struct Folder {
    number: u64,
    root: Vec<u8>,
    block_size: u64,
    /// Bytes that one step of a block's number stands for.
    number_unit: u64,
    allocation: Option<Stream>,
    used: Option<Vec<u8>>,
    /// The first bad block that was met, told at the end of every later walk.
    damage: OnceLock<Error>,
}

/// A name that is told of a folder.
pub struct Listed<'a> {
    /// The file it names.
    pub file: Reference,
    /// The name, where it lies.
    pub name: NameView<'a>,
    /// The place behind it; never 0.
    pub cookie: u64,
}

/// A name found in a folder.
pub struct Found {
    /// The file it names.
    pub file: Reference,
    /// The name.
    pub name: FileName,
    /// The place behind it; never 0.
    pub cookie: u64,
}

impl Folder {
    /// Opens the folder `entry`.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if it is none.
    pub fn open(mft: &Mft, entry: &Entry) -> Result<Folder> {
        if !entry.is_folder() {
            return Err(Error::invalid("not a folder"));
        }
        let root = entry
            .value(mft, kind::INDEX_ROOT, &I30, MAX_ROOT)?
            .ok_or_else(|| Error::damaged(format!("folder {} has no index", entry.number)))?;
        let header = index::root_header(View::new(&root, "index root", 0))?;
        let block_size = u64::from(header.block_size);
        let allocation = entry.stream(mft, kind::INDEX_ALLOCATION, &I30)?;
        let used = match &allocation {
            Some(_) => entry.value(mft, kind::BITMAP, &I30, MAX_BITMAP)?,
            None => None,
        };
        let cluster = mft.clusters().size();
        Ok(Folder {
            number: entry.number,
            root,
            block_size,
            number_unit: if cluster <= block_size { cluster } else { 512 },
            allocation,
            used,
            damage: OnceLock::new(),
        })
    }

    /// Bytes of memory it holds, about.
    pub fn weight(&self) -> usize {
        let runs = self.allocation.as_ref().map_or(0, Stream::runs);
        let used = self.used.as_ref().map_or(0, Vec::len);
        runs.saturating_mul(16)
            .saturating_add(used)
            .saturating_add(self.root.len())
            .saturating_add(size_of::<Folder>())
    }

    fn blocks(&self) -> u64 {
        let size = self.allocation.as_ref().map_or(0, ReadAt::size);
        size.checked_div(self.block_size).unwrap_or(0)
    }

    /// Blocks that may hold names: what the map of used ones does not know is not used, whatever the size says.
    fn known_blocks(&self) -> u64 {
        let mapped = self.used.as_ref().map(|used| to_u64(used.len()));
        let bits = mapped.map_or(u64::MAX, |bytes| bytes.saturating_mul(8));
        self.blocks().min(bits)
    }

    fn is_used(&self, block: u64) -> bool {
        let Some(used) = &self.used else { return true };
        let byte = usize::try_from(block / 8).ok().and_then(|at| used.get(at));
        let bit = u32::try_from(block % 8).unwrap_or(0);
        byte.is_some_and(|byte| byte.checked_shr(bit).unwrap_or(0) & 1 == 1)
    }

    fn block(&self, blocks: &Blocks, block: u64) -> Result<Arc<Vec<u8>>> {
        let key = (self.number, block);
        if let Some(bytes) = blocks.get(&key) {
            return Ok(bytes);
        }
        let allocation = match &self.allocation {
            Some(allocation) if block < self.blocks() => allocation,
            _ => {
                return Err(Error::damaged(format!(
                    "folder {} points to block {block} of its index, which does not exist",
                    self.number
                )));
            }
        };
        let offset = block.saturating_mul(self.block_size);
        let length = usize::try_from(self.block_size).unwrap_or(0);
        let bytes = read_vec(allocation, offset, length)?;
        let bytes = self
            .mended(block, bytes)
            .map_err(|error| error.context(format!("folder {}", self.number)))?;
        if self.block_size <= MAX_KEPT_BLOCK {
            blocks.insert(key, bytes.clone(), length);
        }
        Ok(bytes)
    }

    /// Block `block`, of which these bytes were read.
    fn mended(&self, block: u64, mut bytes: Vec<u8>) -> Result<Arc<Vec<u8>>> {
        let offset = block.saturating_mul(self.block_size);
        let vcn = offset.checked_div(self.number_unit).unwrap_or(0);
        index::mend_block(&mut bytes, vcn, offset)?;
        Ok(Arc::new(bytes))
    }

    /// Reads the blocks in use from `first` on that lie side by side, as far as one read should go, and keeps the good ones; of the others it is told when
    /// their turn comes. Answers the block up to which it went.
    fn read_ahead(&self, blocks: &Blocks, first: u64) -> u64 {
        let most = AHEAD.checked_div(self.block_size).unwrap_or(0);
        let end = self.known_blocks().min(first.saturating_add(most));
        let unused = (first..end).find(|block| !self.is_used(*block));
        let end = unused.unwrap_or(end);
        let count = end.saturating_sub(first);
        let Some(allocation) = &self.allocation else {
            return first;
        };
        if count < 2 || self.block_size > MAX_KEPT_BLOCK {
            return first;
        }
        let offset = first.saturating_mul(self.block_size);
        let length = usize::try_from(self.block_size).unwrap_or(0);
        let all = usize::try_from(count).unwrap_or(0).saturating_mul(length);
        let bytes = read_vec(allocation, offset, all).unwrap_or_default();
        for (block, bytes) in (first..end).zip(bytes.chunks_exact(length.max(1))) {
            let key = (self.number, block);
            if let Ok(bytes) = self.mended(block, bytes.to_vec()) {
                blocks.insert(key, bytes, length);
            }
        }
        end
    }

    fn block_of(&self, vcn: Vcn) -> u64 {
        vcn.0
            .saturating_mul(self.number_unit)
            .checked_div(self.block_size)
            .unwrap_or(0)
    }

    fn root_view(&self) -> View<'_> {
        View::new(&self.root, "index root", 0)
    }

    /// The entry called `name`: the exact one, else one that differs by case.
    ///
    /// Where the tree cannot be read, or is not in the order that `upcase` says, all blocks that can be read are searched.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is not found and the tree is damaged; what the disk reports,
    /// likewise.
    pub fn find(&self, blocks: &Blocks, upcase: &UpCase, name: &[u16]) -> Result<Option<Found>> {
        let error = match self.descend(blocks, upcase, name) {
            Ok(None) => match self.check_way(blocks, upcase, name) {
                Ok(true) => return Ok(None),
                Ok(false) => None,
                Err(error) if is_passing(&error) => return Err(error),
                Err(error) => Some(error),
            },
            Err(error) if !is_passing(&error) => Some(error),
            other => return other,
        };
        let mut found: Option<Found> = None;
        let mut is_exact = false;
        let walked = self.walk(blocks, 0, &mut |listed| {
            let (loose, exact) = upcase.collate(name.iter().copied(), listed.name.units());
            if exact == Ordering::Equal || (loose == Ordering::Equal && found.is_none()) {
                found = Some(listed.to_found());
            }
            is_exact = exact == Ordering::Equal;
            match is_exact {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match (found, walked, error) {
            // The exact one may be where nothing could be read.
            (_, Err(error), _) if is_passing(&error) && !is_exact => Err(error),
            (Some(found), ..) => Ok(Some(found)),
            (None, Err(error), _) | (None, Ok(()), Some(error)) => Err(error),
            (None, Ok(()), None) => Ok(None),
        }
    }

    /// Whether names are in order in all nodes on the way to where `name`, which was not found, would be, and within
    /// what the nodes above leave to them: else it may be elsewhere.
    fn check_way(&self, blocks: &Blocks, upcase: &UpCase, name: &[u16]) -> Result<bool> {
        if upcase.is_substitute() {
            return Ok(false);
        }
        let mut within = (None, None);
        let mut bytes: Arc<Vec<u8>>;
        let mut entries = index::root_entries(self.root_view())?;
        for _ in 0..MAX_DEPTH {
            match order::check(entries, upcase, name, &mut within)? {
                Way::Astray => return Ok(false),
                Way::End => return Ok(true),
                Way::Below(vcn) => bytes = self.block(blocks, self.block_of(vcn))?,
            }
            entries = index::block_entries(&bytes)?;
        }
        Ok(false)
    }

    fn descend(&self, blocks: &Blocks, upcase: &UpCase, name: &[u16]) -> Result<Option<Found>> {
        let mut best = None;
        let mut child = search(
            0,
            index::root_entries(self.root_view())?,
            upcase,
            name,
            &mut best,
        )?;
        for _ in 0..MAX_DEPTH {
            let Some(vcn) = child else {
                return Ok(best);
            };
            let block = self.block_of(vcn);
            let bytes = self.block(blocks, block)?;
            let entries = index::block_entries(&bytes)?;
            child = search(block.saturating_add(1), entries, upcase, name, &mut best)?;
        }
        Err(Error::damaged(format!(
            "the index of folder {} runs in a circle",
            self.number
        )))
    }

    /// Tells `sink` every name behind the cookie `after`: first those of the root node, then those of the blocks
    /// in use, in the order they are stored, which is not that of the alphabet. So a walk goes on at once wherever
    /// it was left, circles are impossible, and a bad block hides its own names only.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged), or what the disk reports of a bad sector, after all names that can
    /// be read were told; at once what may go well another time.
    pub fn walk(
        &self,
        blocks: &Blocks,
        after: u64,
        sink: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let (mut node, mut skip) = position(after);
        if node == 0 {
            match index::root_entries(self.root_view()) {
                Ok(entries) => {
                    if self.tell(0, entries, skip, sink).is_break() {
                        return Ok(());
                    }
                }
                Err(error) => self.note(error),
            }
            node = 1;
            skip = 0;
        }
        let mut bad = 0usize;
        // What was read ahead, and is bad or was driven out since, is not read ahead again.
        let mut ahead = 0u64;
        for block in node.saturating_sub(1)..self.known_blocks() {
            if self.is_used(block) {
                if block >= ahead && blocks.get(&(self.number, block)).is_none() {
                    ahead = self.read_ahead(blocks, block);
                }
                let bytes = self.block(blocks, block);
                let entries = bytes.as_ref().map_err(Error::clone);
                match entries.and_then(|bytes| index::block_entries(bytes)) {
                    Ok(entries) => {
                        let node = block.saturating_add(1);
                        if self.tell(node, entries, skip, sink).is_break() {
                            return Ok(());
                        }
                    }
                    Err(error) if !is_passing(&error) => {
                        self.note(error);
                        bad = bad.saturating_add(1);
                        if bad >= MAX_BAD {
                            break;
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
            skip = 0;
        }
        match self.damage.get() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn tell(
        &self,
        node: u64,
        entries: Entries<'_>,
        skip: usize,
        sink: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for entry in entries {
            if let Some(vcn) = entry.as_ref().ok().and_then(|entry| entry.child) {
                self.check_child(self.block_of(vcn));
            }
            let listed = match entry {
                Ok(entry) if entry.is_end => break,
                Ok(entry) if entry.next <= skip => continue,
                Ok(entry) => listed(node, &entry),
                Err(error) => Err(error),
            };
            match listed {
                Ok(listed) => sink(listed)?,
                Err(error) => self.note(error),
            }
        }
        ControlFlow::Continue(())
    }

    /// A block of the tree that the map does not know is not told: what would be in it is missing.
    fn check_child(&self, block: u64) {
        if block >= self.known_blocks() || !self.is_used(block) {
            self.note(Error::damaged(format!(
                "block {block} is a part of its index, but not marked as used"
            )));
        }
    }

    fn note(&self, error: Error) {
        // Only the first is kept.
        let _ = self
            .damage
            .set(error.context(format!("folder {} lacks names", self.number)));
    }
}

/// Looks for `name` in a node; answers the block to go on in. `best` is what was found so far.
fn search(
    node: u64,
    entries: Entries<'_>,
    upcase: &UpCase,
    name: &[u16],
    best: &mut Option<Found>,
) -> Result<Option<Vcn>> {
    for entry in entries {
        let entry = entry?;
        if entry.is_end {
            return Ok(entry.child);
        }
        let candidate = listed(node, &entry)?;
        let (loose, exact) = upcase.collate(name.iter().copied(), candidate.name.units());
        if exact == Ordering::Equal {
            *best = Some(candidate.to_found());
            return Ok(None);
        }
        if best.is_none() && loose == Ordering::Equal {
            *best = Some(candidate.to_found());
        }
        if exact == Ordering::Less {
            return Ok(entry.child);
        }
    }
    Err(Error::damaged("a node of a folder's index has no end"))
}

fn listed<'a>(node: u64, entry: &IndexEntry<'a>) -> Result<Listed<'a>> {
    Ok(Listed {
        file: entry.file,
        name: NameView::parse(entry.key)?,
        cookie: cookie(node, entry.next),
    })
}

impl Listed<'_> {
    /// A copy that needs no node.
    pub fn to_found(&self) -> Found {
        Found {
            file: self.file,
            name: self.name.to_name(),
            cookie: self.cookie,
        }
    }
}

/// Node 0 is the root, node n + 1 is block n; offsets are never 0.
fn cookie(node: u64, offset: usize) -> u64 {
    let offset = to_u64(offset);
    node.checked_shl(OFFSET_BITS).unwrap_or(0) | offset
}

fn position(cookie: u64) -> (u64, usize) {
    let offset = cookie & 0xF_FFFF;
    (
        cookie.checked_shr(OFFSET_BITS).unwrap_or(0),
        usize::try_from(offset).unwrap_or(usize::MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::super::cluster::Clusters;
    use super::super::run_list::RunList;
    use super::*;
    use cairn_base::Kind;

    /// A folder without a readable root, whose blocks are said to take `size` bytes, all of them in a hole.
    fn folder(size: u64, used: Option<Vec<u8>>) -> Folder {
        let clusters = Clusters::new(Arc::new(vec![0; 1 << 16]), 4096, 1 << 40);
        let mut runs = RunList::new();
        runs.push(None, 1 << 40).unwrap();
        Folder {
            number: 5,
            root: Vec::new(),
            block_size: 4096,
            number_unit: 4096,
            allocation: Some(Stream::new(clusters, Arc::new(runs), size, size)),
            used,
            damage: OnceLock::new(),
        }
    }

    #[test]
    fn a_walk_ends_whatever_size_is_claimed() {
        for used in [None, Some(vec![0xFF; 3]), Some(vec![0; 9])] {
            let folder = folder(1 << 52, used);
            let blocks = Blocks::new(1 << 20, 4);
            let walked = folder.walk(&blocks, 0, &mut |_| ControlFlow::Continue(()));
            assert_eq!(walked.unwrap_err().kind(), Kind::Damaged);
        }
        let bits = folder(1 << 52, Some(vec![0xFF; 3])).known_blocks();
        assert_eq!(bits, 24);
        assert_eq!(folder(8 << 10, Some(vec![0xFF; 3])).known_blocks(), 2);
    }
}
