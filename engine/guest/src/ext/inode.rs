//! Inodes: what is known of an entry, without its name.

use super::checksum::crc32c;
use super::group::Core;
use super::number::{join, low16, size_of};
use super::superblock::{incompat, ro_compat};
use cairn_base::units::to_u64;
use cairn_base::{Error, Result, Time, View};

/// The root folder's inode.
pub(super) const ROOT: u32 = 2;
/// Bytes of the oldest form of an inode.
pub(super) const OLD_SIZE: usize = 128;
/// Where the 60 bytes of block pointers (or content) lie, and how many they are.
const AREA_AT: usize = 0x28;
/// Bytes of the area for block pointers.
pub(super) const AREA: usize = 60;

/// `i_flags`.
pub(super) mod flag {
    pub const COMPRESSED: u32 = 0x4;
    pub const ENCRYPTED: u32 = 0x800;
    pub const INDEXED: u32 = 0x1000;
    pub const HUGE_FILE: u32 = 0x4_0000;
    pub const EXTENTS: u32 = 0x8_0000;
    pub const EA_INODE: u32 = 0x20_0000;
    pub const INLINE_DATA: u32 = 0x1000_0000;
    pub const CASEFOLD: u32 = 0x4000_0000;
}

/// The type bits of `i_mode`.
pub(super) mod format {
    pub const MASK: u16 = 0o170_000;
    pub const FIFO: u16 = 0o010_000;
    pub const CHAR: u16 = 0o020_000;
    pub const FOLDER: u16 = 0o040_000;
    pub const BLOCK: u16 = 0o060_000;
    pub const FILE: u16 = 0o100_000;
    pub const SYMLINK: u16 = 0o120_000;
    pub const SOCKET: u16 = 0o140_000;
}

/// One inode.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub number: u32,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub flags: u32,
    pub links: u16,
    /// Bytes allocated.
    pub allocated: u64,
    pub generation: u32,
    /// Block of the extended attributes outside, 0 for none.
    pub acl_block: u64,
    pub accessed: Time,
    pub changed: Time,
    pub modified: Time,
    pub created: Option<Time>,
    /// Block pointers, extents, a short link's target or content.
    pub area: [u8; AREA],
    /// Everything behind the fields: where extended attributes and content lie.
    pub tail: Vec<u8>,
    /// Offset of `tail` on the device.
    pub tail_at: u64,
    /// The raw access time: the checksum of the value where the inode holds an extended attribute.
    pub value_hash: u32,
    /// The raw modification time: the owner where it holds an extended attribute of Lustre.
    pub value_owner: u32,
    /// The register the checksums of this inode's own blocks start from.
    pub seed: u32,
}

impl Inode {
    pub fn has(&self, bits: u32) -> bool {
        self.flags & bits != 0
    }

    pub fn format(&self) -> u16 {
        self.mode & format::MASK
    }

    pub fn is_folder(&self) -> bool {
        self.format() == format::FOLDER
    }
}

/// Reads inode `number`, whatever it is.
///
/// # Errors
/// Not found if it is not in use; damaged if its checksum is wrong or it lies nowhere.
pub(super) fn load(core: &Core, number: u32) -> Result<Inode> {
    let sb = &core.sb;
    let index = number
        .checked_sub(1)
        .filter(|_| number <= sb.inodes)
        .ok_or_else(|| Error::not_found(format!("there is no inode {number}")))?;
    let group = index.checked_div(sb.inodes_per_group).unwrap_or(0);
    let slot = index.checked_rem(sb.inodes_per_group).unwrap_or(0);
    let table = core.descriptor(group)?.inode_table;
    let byte = u64::from(slot).saturating_mul(u64::from(sb.inode_size));
    let block = table.saturating_add(byte >> sb.block_shift);
    let within =
        size_of(u32::try_from(byte & u64::from(sb.block_size.saturating_sub(1))).unwrap_or(0));
    // Neighbours are asked for next, mostly: an aligned run of the table is read at once.
    let run = (0x4000u64 >> sb.block_shift).max(1);
    let ahead = run
        .saturating_sub(1)
        .saturating_sub(block & run.saturating_sub(1));
    let bytes = core.blocks.block_ahead(block, ahead, "inode table")?;
    let view = View::new(&bytes, "inode table", core.blocks.offset(block));
    let view = view.part(within, size_of(sb.inode_size), "inode")?;
    parse(core, number, &view)
}

fn parse(core: &Core, number: u32, view: &View<'_>) -> Result<Inode> {
    let sb = &core.sb;
    let not_in_use = || Error::not_found(format!("inode {number} is not in use"));
    if view.bytes().iter().all(|&byte| byte == 0) {
        return Err(not_in_use());
    }
    let generation = view.u32_le(0x64)?;
    let seed = crc32c(
        crc32c(sb.checksum_seed, &number.to_le_bytes()),
        &generation.to_le_bytes(),
    );
    let extra = extra_size(view)?;
    if sb.metadata_csum() {
        verify(view, seed, extra)?;
    }
    let mode = view.u16_le(0)?;
    let links = view.u16_le(0x1a)?;
    if links == 0 {
        return Err(not_in_use());
    }
    let flags = view.u32_le(0x20)?;
    let large = mode & format::MASK == format::FILE || sb.has_incompat(incompat::LARGEDIR);
    let size = join(view.u32_le(4)?, if large { view.u32_le(0x6c)? } else { 0 });
    let wide = sb.has_incompat(incompat::SIXTY_FOUR_BIT);
    let acl_high = if wide {
        u32::from(view.u16_le(0x76)?)
    } else {
        0
    };
    let times = Times { view, extra };
    let tail = view.tail(OLD_SIZE)?;
    Ok(Inode {
        number,
        mode,
        uid: u32::from(view.u16_le(2)?) | (u32::from(view.u16_le(0x78)?) << 16),
        gid: u32::from(view.u16_le(0x18)?) | (u32::from(view.u16_le(0x7a)?) << 16),
        size,
        flags,
        links,
        allocated: allocated(core, view, flags)?,
        generation,
        acl_block: join(view.u32_le(0x68)?, acl_high),
        accessed: times.at(8, 0x8c)?,
        changed: times.at(0xc, 0x84)?,
        modified: times.at(0x10, 0x88)?,
        created: if times.has(0x90) {
            Some(times.at(0x90, 0x94)?)
        } else {
            None
        },
        area: view.array(AREA_AT)?,
        // Attributes start behind the fields that this inode says it has.
        tail: tail.bytes().get(extra..).unwrap_or_default().to_vec(),
        tail_at: tail.base().saturating_add(to_u64(extra)),
        value_hash: view.u32_le(8)?,
        value_owner: view.u32_le(0x10)?,
        seed,
    })
}

/// Bytes of fields behind the first 128, 0 for inodes without.
fn extra_size(view: &View<'_>) -> Result<usize> {
    if view.len() <= OLD_SIZE {
        return Ok(0);
    }
    let extra = usize::from(view.u16_le(0x80)?);
    if extra.saturating_add(OLD_SIZE) > view.len() || extra & 3 != 0 {
        return Err(view.damaged(0x80, "the size of its extra fields is impossible"));
    }
    Ok(extra)
}

fn verify(view: &View<'_>, seed: u32, extra: usize) -> Result<()> {
    let zero = [0u8; 2];
    let mut sum = crc32c(seed, view.slice(0, 0x7c)?);
    sum = crc32c(crc32c(sum, &zero), view.slice(0x7e, 2)?);
    let mut stored = u32::from(view.u16_le(0x7c)?);
    let mut mask = 0xffff;
    if view.len() > OLD_SIZE {
        sum = crc32c(sum, view.slice(0x80, 2)?);
        if extra >= 4 {
            sum = crc32c(sum, &zero);
            stored |= u32::from(view.u16_le(0x82)?) << 16;
            mask = u32::MAX;
        } else {
            sum = crc32c(sum, view.slice(0x82, 2)?);
        }
        sum = crc32c(sum, view.tail(0x84)?.bytes());
    }
    if sum & mask == stored {
        Ok(())
    } else {
        Err(view.damaged(0x7c, "the checksum is wrong"))
    }
}

/// `i_blocks` counts 512 bytes, or blocks for huge files.
fn allocated(core: &Core, view: &View<'_>, flags: u32) -> Result<u64> {
    let low = view.u32_le(0x1c)?;
    if !core.sb.has_ro_compat(ro_compat::HUGE_FILE) {
        return Ok(u64::from(low).saturating_mul(512));
    }
    let count = join(low, u32::from(view.u16_le(0x74)?));
    let unit = if flags & flag::HUGE_FILE != 0 {
        u64::from(core.sb.block_size)
    } else {
        512
    };
    Ok(count.saturating_mul(unit))
}

struct Times<'a> {
    view: &'a View<'a>,
    extra: usize,
}

impl Times<'_> {
    /// Whether the field at `offset` is one this inode has.
    fn has(&self, offset: usize) -> bool {
        offset.saturating_add(4) <= OLD_SIZE.saturating_add(self.extra)
    }

    /// Signed seconds, widened by two bits of the extra field, whose other 30 are nanoseconds.
    fn at(&self, seconds: usize, extra: usize) -> Result<Time> {
        let base = i64::from(self.view.i32_le(seconds)?);
        if !self.has(extra) {
            return Ok(Time::from_seconds(base));
        }
        let extra = self.view.u32_le(extra)?;
        Ok(Time {
            seconds: base.saturating_add(i64::from(extra & 3) << 32),
            nanos: (extra >> 2).min(999_999_999),
        })
    }
}

/// The device number of a device node: 16 bits in the first word, or 32 in the second.
pub(super) fn device_number(inode: &Inode) -> Result<(u32, u32)> {
    let view = View::new(&inode.area, "device number", 0);
    let old = view.u32_le(0)?;
    if old != 0 {
        let old = u32::from(low16(old));
        return Ok((old >> 8, old & 0xff));
    }
    let new = view.u32_le(4)?;
    Ok(((new >> 8) & 0xfff, (new & 0xff) | ((new >> 12) & 0xf_ff00)))
}
