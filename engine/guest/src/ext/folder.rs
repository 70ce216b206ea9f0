//! The names of a folder.

use super::blocks::Block;
use super::dirent::{Layout, Record, Shape, scan, shape, verify};
use super::group::Core;
use super::hash::NameHash;
use super::htree;
use super::inode::{AREA, Inode, flag};
use super::mapping::Mapping;
use super::nokey;

use super::superblock::{compat, incompat};
use super::xattr;
use cairn_base::units::to_u64;
use cairn_base::{Error, Result, View};
use std::borrow::Cow;
use std::ops::ControlFlow;

/// Blocks in a row that cannot be located before the rest of a damaged folder is given up.
const MAX_LOST: u32 = 1024;
/// A folder in an inode starts with its parent's number instead of `.` and `..`.
const INLINE_PARENT: usize = 4;

/// A name and the inode it stands for.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub bytes: Vec<u8>,
    pub inode: u32,
    /// What the record says it is, 0 if nothing.
    pub file_type: u8,
    /// Offset of the record in the folder.
    pub offset: u64,
}

/// Receives names with their offsets.
pub(super) type NameSink<'s> = &'s mut dyn FnMut(Name) -> ControlFlow<()>;

/// A folder being read.
pub(super) struct Folder<'a> {
    core: &'a Core,
    inode: &'a Inode,
    mapping: Mapping,
    layout: Layout,
    /// How names that are encrypted are hashed, for showing them.
    hash: Option<NameHash>,
}

impl<'a> Folder<'a> {
    /// # Errors
    /// Invalid if `inode` is not a folder.
    pub fn new(core: &'a Core, inode: &'a Inode) -> Result<Folder<'a>> {
        if !inode.is_folder() {
            return Err(Error::invalid(format!(
                "inode {} is not a folder",
                inode.number
            )));
        }
        let encrypted = inode.has(flag::ENCRYPTED);
        let mut folder = Folder {
            core,
            inode,
            mapping: Mapping::of(inode, core.sb.metadata_csum()),
            layout: Layout {
                file_type: core.sb.has_incompat(incompat::FILETYPE),
                hashed: encrypted && inode.has(flag::CASEFOLD),
            },
            hash: None,
        };
        if encrypted {
            folder.hash = folder.shown_hash();
        }
        Ok(folder)
    }

    /// The hash Linux puts in front of encrypted names: only in folders that it reads by their hashes.
    fn shown_hash(&self) -> Option<NameHash> {
        let sb = &self.core.sb;
        let indexed = self.inode.has(flag::INDEXED);
        let single = self.inode.size >> sb.block_shift == 1 || self.inode.has(flag::INLINE_DATA);
        if !sb.has_compat(compat::DIR_INDEX) || !(indexed || single) {
            return None;
        }
        if indexed {
            let (bytes, base) = self.block(0).ok()?;
            return htree::hash_of(sb, &View::new(&bytes, "folder index", base)).ok();
        }
        NameHash::new(sb.hash_version, sb.flags, sb.hash_seed)
    }

    /// Register for the checksums of this folder's blocks, `None` without.
    fn seed(&self) -> Option<u32> {
        self.core.sb.metadata_csum().then_some(self.inode.seed)
    }

    /// Block `logical` of the folder and its offset on the device.
    fn block(&self, logical: u64) -> Result<(Block, u64)> {
        let blocks = &self.core.blocks;
        if logical >= self.inode.size.div_ceil(u64::from(self.core.sb.block_size)) {
            return Err(Error::damaged(format!(
                "folder {} has no block {logical}",
                self.inode.number
            )));
        }
        let run = self.mapping.find(blocks, logical)?;
        let physical = run.physical.ok_or_else(|| {
            Error::damaged(format!(
                "folder {} has no block {logical}",
                self.inode.number
            ))
        })?;
        Ok((blocks.block(physical, "folder")?, blocks.offset(physical)))
    }

    /// Tells `sink` the names from the offset `from` on. What cannot be read is skipped and answered: the first
    /// damage that was met.
    ///
    /// # Errors
    /// Only what makes the whole folder unreadable.
    pub fn walk(&self, from: u64, sink: NameSink<'_>) -> Result<Option<Error>> {
        if self.inode.has(flag::INLINE_DATA) {
            return self.walk_inline(from, sink);
        }
        let core = self.core;
        let end = self.inode.size.div_ceil(u64::from(core.sb.block_size));
        let mut at = from >> core.sb.block_shift;
        let mut damage: Option<Error> = None;
        let (mut lost, mut visited) = (0u32, 0u64);
        while at < end {
            let run = match self.mapping.find(&core.blocks, at) {
                Ok(run) => run,
                Err(error) => {
                    damage.get_or_insert(error);
                    lost = lost.saturating_add(1);
                    if lost > MAX_LOST {
                        break;
                    }
                    at = at.saturating_add(1);
                    continue;
                }
            };
            let stop = run.end().min(end);
            // A hole holds no names.
            let Some(first) = run.physical else {
                at = stop.max(at.saturating_add(1));
                continue;
            };
            for (physical, logical) in (first..).zip(at..stop) {
                visited = visited.saturating_add(1);
                if visited > core.blocks.count() {
                    return Ok(Some(Error::damaged(
                        "a folder is larger than its file system",
                    )));
                }
                let more = stop.saturating_sub(logical).saturating_sub(1);
                let told = core
                    .blocks
                    .block_ahead(physical, more, "folder")
                    .and_then(|bytes| {
                        self.walk_block(&bytes, physical, logical, from, sink, &mut damage)
                    });
                match told {
                    Ok(ControlFlow::Break(())) => return Ok(damage),
                    Ok(ControlFlow::Continue(())) => {}
                    Err(error) => {
                        damage.get_or_insert(error);
                    }
                }
            }
            at = stop.max(at.saturating_add(1));
        }
        Ok(damage)
    }

    fn walk_block(
        &self,
        bytes: &[u8],
        physical: u64,
        logical: u64,
        from: u64,
        sink: NameSink<'_>,
        damage: &mut Option<Error>,
    ) -> Result<ControlFlow<()>> {
        let view = View::new(bytes, "folder", self.core.blocks.offset(physical));
        if let Some(seed) = self.seed() {
            let shape = if self.inode.has(flag::INDEXED) {
                shape(&view)?
            } else {
                Shape::Leaf
            };
            verify(&view, shape, seed)?;
        }
        let start = logical.saturating_mul(u64::from(self.core.sb.block_size));
        self.walk_records(&view, start, from, sink, damage)
    }

    fn walk_records(
        &self,
        view: &View<'_>,
        start: u64,
        from: u64,
        sink: NameSink<'_>,
        damage: &mut Option<Error>,
    ) -> Result<ControlFlow<()>> {
        scan(view, self.layout, &mut |record| {
            let offset = start.saturating_add(to_u64(record.offset));
            if offset < from || matches!(record.name, b"." | b"..") {
                return ControlFlow::Continue(());
            }
            let name = self.shown(&record);
            let impossible = record.inode > self.core.sb.inodes
                || name.is_empty()
                || name.iter().any(|byte| matches!(byte, 0 | b'/'));
            if impossible {
                damage.get_or_insert_with(|| {
                    view.damaged(record.offset, "an entry has an impossible name or inode")
                });
                return ControlFlow::Continue(());
            }
            sink(Name {
                bytes: name.into_owned(),
                inode: record.inode,
                file_type: record.file_type,
                offset,
            })
        })
    }

    /// The name as Linux shows it.
    fn shown<'r>(&self, record: &Record<'r>) -> Cow<'r, [u8]> {
        if !self.inode.has(flag::ENCRYPTED) {
            return Cow::Borrowed(record.name);
        }
        let hash = match (record.hash, &self.hash) {
            (Some(hash), _) => hash,
            (None, Some(hash)) => hash.of(record.name),
            (None, None) => (0, 0),
        };
        Cow::Owned(nokey::show(record.name, hash))
    }

    /// A folder in its inode: records in the area of the block pointers, more in the attribute `system.data`.
    fn walk_inline(&self, from: u64, sink: NameSink<'_>) -> Result<Option<Error>> {
        let mut damage = None;
        let more = xattr::inline_data(self.core, self.inode)?;
        let area = View::new(&self.inode.area, "folder in an inode", 0).tail(INLINE_PARENT)?;
        let tail = View::new(&more, "folder in an inode", 0);
        for (view, start) in [(area, INLINE_PARENT), (tail, AREA)] {
            match self.walk_records(&view, to_u64(start), from, sink, &mut damage) {
                Ok(ControlFlow::Break(())) => break,
                Ok(ControlFlow::Continue(())) => {}
                Err(error) => {
                    damage.get_or_insert(error);
                }
            }
        }
        Ok(damage)
    }

    /// The entry called `name`.
    ///
    /// # Errors
    /// Damaged if it is not found and not all of the folder could be read.
    pub fn lookup(&self, name: &[u8]) -> Result<Option<Name>> {
        if name.is_empty() || matches!(name, b"." | b"..") {
            return Ok(None);
        }
        let by_hash = self.inode.has(flag::INDEXED)
            && !self
                .inode
                .has(flag::INLINE_DATA | flag::ENCRYPTED | flag::CASEFOLD)
            && self.core.sb.has_compat(compat::DIR_INDEX);
        if by_hash && let Ok(found) = self.lookup_index(name) {
            return Ok(found);
        }
        let mut found = None;
        let damage = self.walk(0, &mut |entry| {
            if entry.bytes == name {
                found = Some(entry);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        match (found, damage) {
            (None, Some(damage)) => Err(damage),
            (found, _) => Ok(found),
        }
    }

    fn lookup_index(&self, name: &[u8]) -> Result<Option<Name>> {
        let mut found = None;
        let mut look = |leaf: u64| -> Result<bool> {
            let (bytes, base) = self.block(leaf)?;
            let view = View::new(&bytes, "folder", base);
            if let Some(seed) = self.seed() {
                verify(&view, Shape::Leaf, seed)?;
            }
            let _ = scan(&view, self.layout, &mut |record| {
                if record.name != name || record.inode > self.core.sb.inodes {
                    return ControlFlow::Continue(());
                }
                found = Some(Name {
                    bytes: record.name.to_vec(),
                    inode: record.inode,
                    file_type: record.file_type,
                    offset: (leaf << self.core.sb.block_shift)
                        .saturating_add(to_u64(record.offset)),
                });
                ControlFlow::Break(())
            })?;
            Ok(found.is_some())
        };
        htree::search(
            &self.core.sb,
            self.seed(),
            &|logical| self.block(logical),
            name,
            &mut look,
        )?;
        Ok(found)
    }

    /// The inode of the folder this one lies in.
    pub fn parent(&self) -> Result<u32> {
        if self.inode.has(flag::INLINE_DATA) {
            return View::new(&self.inode.area, "folder in an inode", 0).u32_le(0);
        }
        let (bytes, base) = self.block(0)?;
        let view = View::new(&bytes, "folder", base);
        let mut parent = None;
        let _ = scan(&view, self.layout, &mut |record| {
            if record.name == b".." {
                parent = Some(record.inode);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        parent.ok_or_else(|| view.damaged(0, "the folder does not name its parent"))
    }
}

/// The cookie of the name at `offset`.
pub(super) fn cookie(offset: u64) -> u64 {
    offset.saturating_add(1)
}
