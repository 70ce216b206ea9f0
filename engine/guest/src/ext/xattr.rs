//! Extended attributes: behind the fields of the inode, in a block outside, and large values in inodes of their own.

use super::acl;
use super::checksum::crc32c;
use super::content::Content;
use super::group::Core;
use super::inode::{self, Inode, flag};
use super::number::{low32, size_of};
use super::superblock::incompat;
use cairn_base::{Error, ReadAt, Result, View};
use std::sync::Arc;

const MAGIC: u32 = 0xea02_0000;
const ENTRY: usize = 16;
const BLOCK_HEADER: usize = 32;
/// Bytes of all values of one inode together, at most; Linux itself hands out no value above 64 KiB.
const MAX_VALUES: u64 = 16 << 20;

/// Name prefixes by index (`fs/ext4/xattr.h`).
mod index {
    pub const USER: u8 = 1;
    pub const ACL_ACCESS: u8 = 2;
    pub const ACL_DEFAULT: u8 = 3;
    pub const TRUSTED: u8 = 4;
    pub const SECURITY: u8 = 6;
    pub const SYSTEM: u8 = 7;
    pub const RICHACL: u8 = 8;
    pub const HURD: u8 = 10;
}

/// One attribute as it lies on disk.
struct Entry<'a> {
    index: u8,
    name: &'a [u8],
    value_offset: usize,
    /// Inode that holds the value, 0 for a value that lies here.
    value_inode: u32,
    value_size: u32,
    /// Where the values' offsets count from.
    values: View<'a>,
}

/// Tells `each` the attributes in `entries`; a word of zeros ends them.
fn scan<'a>(
    entries: View<'a>,
    values: View<'a>,
    each: &mut dyn FnMut(Entry<'a>) -> Result<()>,
) -> Result<()> {
    let mut at = 0usize;
    while at.saturating_add(4) <= entries.len() && entries.u32_le(at)? != 0 {
        let view = entries.tail(at)?;
        let length = usize::from(view.u8(0)?);
        each(Entry {
            index: view.u8(1)?,
            name: view.slice(ENTRY, length)?,
            value_offset: usize::from(view.u16_le(2)?),
            value_inode: view.u32_le(4)?,
            value_size: view.u32_le(8)?,
            values,
        })?;
        at = at
            .saturating_add(ENTRY)
            .saturating_add(length)
            .saturating_add(3)
            & !3;
    }
    Ok(())
}

/// The attributes behind the inode's fields, if there are any.
fn in_inode(inode: &Inode) -> Result<Option<View<'_>>> {
    let view = View::new(&inode.tail, "attributes in an inode", inode.tail_at);
    if view.len() < 4 || view.u32_le(0)? != MAGIC {
        return Ok(None);
    }
    view.tail(4).map(Some)
}

/// Checks the header of the block outside.
fn check_block(core: &Core, number: u64, view: &View<'_>) -> Result<()> {
    if view.u32_le(0)? != MAGIC || view.u32_le(8)? != 1 {
        return Err(view.damaged(0, "no attributes"));
    }
    if core.sb.metadata_csum() {
        let sum = crc32c(core.sb.checksum_seed, &number.to_le_bytes());
        let sum = crc32c(crc32c(sum, view.slice(0, 16)?), &[0; 4]);
        if crc32c(sum, view.tail(20)?.bytes()) != view.u32_le(16)? {
            return Err(view.damaged(16, "the checksum is wrong"));
        }
    }
    Ok(())
}

/// All attributes of `inode`: full name and value.
pub(super) fn list(core: &Arc<Core>, inode: &Inode) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut total = 0u64;
    let mut add = |entry: Entry<'_>| -> Result<()> {
        let Some(name) = full_name(entry.index, entry.name) else {
            return Ok(());
        };
        // What lies in the inode comes first and counts.
        if found.iter().any(|(known, _)| *known == name) {
            return Ok(());
        }
        total = total.saturating_add(u64::from(entry.value_size));
        if total > MAX_VALUES {
            return Err(Error::damaged(format!(
                "the extended attributes of inode {} are larger than 16 MiB",
                inode.number
            )));
        }
        let mut value = value_of(core, inode, &entry)?;
        if matches!(entry.index, index::ACL_ACCESS | index::ACL_DEFAULT) {
            value = acl::to_attribute(&value, entry.values.base())?;
        }
        found.push((name, value));
        Ok(())
    };
    if let Some(view) = in_inode(inode)? {
        scan(view, view, &mut add)?;
    }
    if inode.acl_block != 0 {
        let bytes = core.blocks.block(inode.acl_block, "extended attributes")?;
        let view = View::new(
            &bytes,
            "extended attributes",
            core.blocks.offset(inode.acl_block),
        );
        check_block(core, inode.acl_block, &view)?;
        scan(view.tail(BLOCK_HEADER)?, view, &mut add)?;
    }
    Ok(found)
}

/// The content that a file or folder kept in its inode has behind the area of its block pointers.
pub(super) fn inline_data(_core: &Core, inode: &Inode) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    if let Some(view) = in_inode(inode)? {
        scan(view, view, &mut |entry| {
            if entry.index == index::SYSTEM && entry.name == b"data" && entry.value_inode == 0 {
                data = local_value(&entry)?.to_vec();
            }
            Ok(())
        })?;
    }
    Ok(data)
}

/// The name as programs see it; `None` for those that Linux keeps to itself.
fn full_name(kind: u8, name: &[u8]) -> Option<Vec<u8>> {
    let prefix: &[u8] = match kind {
        index::USER => b"user.",
        index::TRUSTED => b"trusted.",
        index::SECURITY => b"security.",
        index::SYSTEM if name == b"data" => return None,
        index::SYSTEM => b"system.",
        index::HURD => b"gnu.",
        index::ACL_ACCESS => return Some(b"system.posix_acl_access".to_vec()),
        index::ACL_DEFAULT => return Some(b"system.posix_acl_default".to_vec()),
        index::RICHACL => return Some(b"system.richacl".to_vec()),
        _ => return None,
    };
    Some([prefix, name].concat())
}

fn local_value<'a>(entry: &Entry<'a>) -> Result<&'a [u8]> {
    if entry.value_size == 0 {
        return Ok(&[]);
    }
    entry
        .values
        .slice(entry.value_offset, size_of(entry.value_size))
}

fn value_of(core: &Arc<Core>, owner: &Inode, entry: &Entry<'_>) -> Result<Vec<u8>> {
    if entry.value_inode == 0 || !core.sb.has_incompat(incompat::EA_INODE) {
        return local_value(entry).map(<[u8]>::to_vec);
    }
    let holder = inode::load(core, entry.value_inode)?;
    let damaged = |why: &str| {
        Error::damaged(format!(
            "inode {} with an extended attribute of inode {}: {why}",
            holder.number, owner.number
        ))
    };
    if !holder.has(flag::EA_INODE) || holder.size != u64::from(entry.value_size) {
        return Err(damaged("it holds something else"));
    }
    let value = if holder.has(flag::INLINE_DATA) {
        super::content::inline(&holder, &inline_data(core, &holder)?)?
    } else {
        let content = Content::new(core.clone(), &holder);
        let mut value = vec![0; size_of(low32(content.size()))];
        content.read_exact_at(0, &mut value)?;
        value
    };
    // Lustre kept the owner in place of the checksum.
    let lustre = holder.value_owner == owner.number && holder.generation == owner.generation;
    if crc32c(core.sb.checksum_seed, &value) != holder.value_hash && !lustre {
        return Err(damaged("the checksum of the value is wrong"));
    }
    Ok(value)
}
