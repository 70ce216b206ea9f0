//! The superblock: 1024 bytes at byte 1024, and copies of it in some block groups.

use super::checksum::crc32c;
use super::number::join;
use cairn_base::read_at::read_vec;
use cairn_base::units::{KIB, MIB, to_u64};
use cairn_base::{Error, ReadAt, Result, View};

const MAGIC: u16 = 0xef53;
const LENGTH: usize = 1024;
/// Where the primary superblock lies.
const PRIMARY_AT: u64 = 1024;

/// Feature bits that tell whether a reader understands the format (`s_feature_incompat`).
pub(super) mod incompat {
    pub const COMPRESSION: u32 = 0x1;
    pub const FILETYPE: u32 = 0x2;
    pub const RECOVER: u32 = 0x4;
    pub const JOURNAL_DEV: u32 = 0x8;
    pub const META_BG: u32 = 0x10;
    pub const EXTENTS: u32 = 0x40;
    pub const SIXTY_FOUR_BIT: u32 = 0x80;
    pub const MMP: u32 = 0x100;
    pub const FLEX_BG: u32 = 0x200;
    pub const EA_INODE: u32 = 0x400;
    pub const DIRDATA: u32 = 0x1000;
    pub const CSUM_SEED: u32 = 0x2000;
    pub const LARGEDIR: u32 = 0x4000;
    pub const INLINE_DATA: u32 = 0x8000;
    pub const ENCRYPT: u32 = 0x1_0000;
    pub const CASEFOLD: u32 = 0x2_0000;
    /// All that are read.
    pub const READ: u32 = FILETYPE
        | RECOVER
        | META_BG
        | EXTENTS
        | SIXTY_FOUR_BIT
        | MMP
        | FLEX_BG
        | EA_INODE
        | CSUM_SEED
        | LARGEDIR
        | INLINE_DATA
        | ENCRYPT
        | CASEFOLD;
}

/// Feature bits that matter for reading only here and there (`s_feature_ro_compat`).
pub(super) mod ro_compat {
    pub const SPARSE_SUPER: u32 = 0x1;
    pub const HUGE_FILE: u32 = 0x8;
    pub const GDT_CSUM: u32 = 0x10;
    pub const DIR_NLINK: u32 = 0x20;
    pub const EXTRA_ISIZE: u32 = 0x40;
    pub const BIGALLOC: u32 = 0x200;
    pub const METADATA_CSUM: u32 = 0x400;
    /// All that are known.
    pub const KNOWN: u32 = 0x1_ffff;
}

/// Feature bits that do not matter for reading (`s_feature_compat`).
pub(super) mod compat {
    pub const HAS_JOURNAL: u32 = 0x4;
    pub const DIR_INDEX: u32 = 0x20;
    pub const SPARSE_SUPER2: u32 = 0x200;
}

/// Where the journal lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Journal {
    None,
    /// In this inode.
    Inode(u32),
    /// On the device with this id.
    Device([u8; 16]),
}

/// What the superblock says, checked: every number can be relied on.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    /// Bytes of a block, 1024 to 65536.
    pub block_size: u32,
    /// log2 of it.
    pub block_shift: u32,
    pub blocks: u64,
    pub free_blocks: u64,
    /// First block of group 0: 1 with blocks of 1 KiB, otherwise 0.
    pub first_data_block: u32,
    pub blocks_per_group: u32,
    /// Blocks of a cluster, a power of two, 1 without bigalloc.
    pub cluster_blocks: u32,
    pub clusters_per_group: u32,
    pub groups: u32,
    pub inodes: u32,
    pub free_inodes: u32,
    pub inodes_per_group: u32,
    /// 128 to the block size, a power of two.
    pub inode_size: u32,
    pub first_inode: u32,
    /// 32 to 1024.
    pub descriptor_size: u32,
    pub reserved_gdt_blocks: u32,
    pub first_meta_bg: u32,
    pub backup_groups: [u32; 2],
    pub compat: u32,
    pub incompat: u32,
    pub ro_compat: u32,
    pub state: u16,
    pub hash_seed: [u32; 4],
    pub hash_version: u8,
    pub flags: u32,
    pub uuid: [u8; 16],
    pub label: Vec<u8>,
    /// The register every checksum of metadata starts from.
    pub checksum_seed: u32,
    pub journal: Journal,
}

impl Superblock {
    pub fn has_incompat(&self, bit: u32) -> bool {
        self.incompat & bit != 0
    }

    pub fn has_ro_compat(&self, bit: u32) -> bool {
        self.ro_compat & bit != 0
    }

    pub fn has_compat(&self, bit: u32) -> bool {
        self.compat & bit != 0
    }

    pub fn metadata_csum(&self) -> bool {
        self.has_ro_compat(ro_compat::METADATA_CSUM)
    }

    /// First block of a group.
    pub fn group_start(&self, group: u32) -> u64 {
        u64::from(group)
            .saturating_mul(u64::from(self.blocks_per_group))
            .saturating_add(u64::from(self.first_data_block))
    }

    /// Block behind the last one of a group.
    pub fn group_end(&self, group: u32) -> u64 {
        self.group_start(group)
            .saturating_add(u64::from(self.blocks_per_group))
            .min(self.blocks)
    }

    /// Whether a group starts with a copy of the superblock.
    pub fn group_has_super(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.has_compat(compat::SPARSE_SUPER2) {
            return self.backup_groups.contains(&group);
        }
        if group == 1 || !self.has_ro_compat(ro_compat::SPARSE_SUPER) {
            return true;
        }
        group & 1 == 1 && [3, 5, 7].iter().any(|&base| is_power(group, base))
    }
}

fn is_power(number: u32, base: u32) -> bool {
    let mut power = base;
    while power < number {
        power = power.saturating_mul(base);
    }
    power == number
}

/// A superblock and how it was come by.
pub(super) struct Found {
    pub superblock: Superblock,
    /// Where it lay, if it is not the primary one.
    pub backup_at: Option<u64>,
    /// Whether its checksum was right, or it has none.
    pub checked: bool,
}

/// Whether the primary superblock is there: magic number and a block size that exists.
pub(super) fn has_primary(device: &dyn ReadAt) -> Result<bool> {
    let Some(bytes) = read_at(device, PRIMARY_AT)? else {
        return Ok(false);
    };
    let view = View::new(&bytes, "ext superblock", PRIMARY_AT);
    Ok(view.u16_le(0x38)? == MAGIC && view.u32_le(0x18)? <= 6)
}

/// Whether the sizes of groups in the primary superblock can be: bytes that have the magic number by chance do not.
pub(super) fn is_likely(device: &dyn ReadAt) -> Result<bool> {
    let Some(bytes) = read_at(device, PRIMARY_AT)? else {
        return Ok(false);
    };
    let view = View::new(&bytes, "ext superblock", PRIMARY_AT);
    // Blocks, or clusters of blocks, and inodes of a group have a bit each in one block.
    let most = 8192u32.checked_shl(view.u32_le(0x18)?).unwrap_or(0);
    let is_possible = |count: u32| (1..=most).contains(&count);
    Ok(is_possible(view.u32_le(0x24)?)
        && is_possible(view.u32_le(0x28)?)
        && view.u32_le(0x14)? <= 1
        && view.u32_le(0x4c)? <= 1)
}

/// The primary superblock, or a copy where it is damaged.
///
/// # Errors
/// Damaged where neither is usable; unsupported for features that are not read.
pub(super) fn find(device: &dyn ReadAt) -> Result<Found> {
    let primary = match read_at(device, PRIMARY_AT)? {
        Some(bytes) => parse(&bytes, PRIMARY_AT),
        None => Err(Error::damaged(
            "the device is too small for an ext file system",
        )),
    };
    match primary {
        Ok((superblock, true)) => Ok(Found {
            superblock,
            backup_at: None,
            checked: true,
        }),
        Err(error) if error.kind() == cairn_base::Kind::Unsupported => Err(error),
        Ok((superblock, false)) => Ok(match find_backup(device)? {
            Some(found) => found,
            None => Found {
                superblock,
                backup_at: None,
                checked: false,
            },
        }),
        Err(error) => find_backup(device)?.ok_or(error),
    }
}

/// A valid copy of the superblock in the places `mke2fs` puts them: the start of groups 1, 3, 5, 7, 9, 25, 27 of
/// every block size, with groups of the usual size.
pub(super) fn find_backup(device: &dyn ReadAt) -> Result<Option<Found>> {
    for shift in 10..=16u32 {
        let block = 1u64 << shift;
        let group = block.saturating_mul(8).saturating_mul(block);
        let first = if shift == 10 { KIB } else { 0 };
        for number in [1u16, 3, 5, 7, 9, 25, 27] {
            let at = u64::from(number)
                .saturating_mul(group)
                .saturating_add(first);
            let Some(bytes) = read_at(device, at)? else {
                break;
            };
            let view = View::new(&bytes, "ext superblock copy", at);
            // A copy names its own group, but in the oldest revision: file content that looks like one does not.
            let names_group = view.u16_le(0x5a)? == number || view.u32_le(0x4c)? == 0;
            if view.u16_le(0x38)? != MAGIC
                || !names_group
                || view.u32_le(0x18)?.saturating_add(10) != shift
            {
                continue;
            }
            if let Ok((superblock, true)) = parse(&bytes, at) {
                return Ok(Some(Found {
                    superblock,
                    backup_at: Some(at),
                    checked: true,
                }));
            }
        }
    }
    Ok(None)
}

fn read_at(device: &dyn ReadAt, at: u64) -> Result<Option<Vec<u8>>> {
    if at
        .checked_add(to_u64(LENGTH))
        .is_none_or(|end| end > device.size())
    {
        return Ok(None);
    }
    read_vec(device, at, LENGTH).map(Some)
}

/// The superblock in `bytes`, and whether its checksum is right (or it has none).
fn parse(bytes: &[u8], at: u64) -> Result<(Superblock, bool)> {
    let view = View::new(bytes, "ext superblock", at);
    if view.u16_le(0x38)? != MAGIC {
        return Err(view.damaged(0x38, "no magic number"));
    }
    let revision = view.u32_le(0x4c)?;
    let old = revision == 0;
    let feature = |offset| if old { Ok(0) } else { view.u32_le(offset) };
    let (compat, incompat, ro) = (feature(0x5c)?, feature(0x60)?, feature(0x64)?);
    let has_checksum = ro & ro_compat::METADATA_CSUM != 0;
    let checked = !has_checksum || crc32c(!0, view.slice(0, 0x3fc)?) == view.u32_le(0x3fc)?;
    if checked {
        refuse_unknown(incompat)?;
    }

    let block_shift = view.u32_le(0x18)?.saturating_add(10);
    if block_shift > 16 {
        return Err(view.damaged(0x18, "the block size is impossible"));
    }
    let block_size = 1u32 << block_shift;
    let wide = incompat & incompat::SIXTY_FOUR_BIT != 0;
    let high = |offset| if wide { view.u32_le(offset) } else { Ok(0) };
    let uuid: [u8; 16] = view.array(0x68)?;
    let checksum_seed = if incompat & incompat::CSUM_SEED != 0 {
        view.u32_le(0x270)?
    } else {
        crc32c(!0, &uuid)
    };
    let mut superblock = Superblock {
        block_size,
        block_shift,
        blocks: join(view.u32_le(4)?, high(0x150)?),
        free_blocks: join(view.u32_le(0xc)?, high(0x158)?),
        first_data_block: view.u32_le(0x14)?,
        blocks_per_group: view.u32_le(0x20)?,
        cluster_blocks: 1,
        clusters_per_group: view.u32_le(0x20)?,
        groups: 0,
        inodes: view.u32_le(0)?,
        free_inodes: view.u32_le(0x10)?,
        inodes_per_group: view.u32_le(0x28)?,
        inode_size: if old {
            128
        } else {
            u32::from(view.u16_le(0x58)?)
        },
        first_inode: if old { 11 } else { view.u32_le(0x54)? },
        descriptor_size: if wide {
            u32::from(view.u16_le(0xfe)?)
        } else {
            32
        },
        reserved_gdt_blocks: u32::from(view.u16_le(0xce)?),
        first_meta_bg: view.u32_le(0x104)?,
        backup_groups: words(&view, 0x24c)?,
        compat,
        incompat,
        ro_compat: ro,
        state: view.u16_le(0x3a)?,
        hash_seed: words(&view, 0xec)?,
        hash_version: view.u8(0xfc)?,
        flags: view.u32_le(0x160)?,
        uuid,
        label: text(view.slice(0x78, 16)?),
        checksum_seed,
        journal: journal(&view, compat)?,
    };
    check_geometry(&view, &mut superblock)?;
    Ok((superblock, checked))
}

fn journal(view: &View<'_>, compat: u32) -> Result<Journal> {
    Ok(match (compat & compat::HAS_JOURNAL, view.u32_le(0xe0)?) {
        (0, _) => Journal::None,
        (_, 0) => Journal::Device(view.array(0xd0)?),
        (_, inode) => Journal::Inode(inode),
    })
}

/// Numbers of 32 bits in a row.
fn words<const N: usize>(view: &View<'_>, at: usize) -> Result<[u32; N]> {
    let mut words = [0; N];
    for (index, word) in words.iter_mut().enumerate() {
        *word = view.u32_le(at.saturating_add(index.saturating_mul(4)))?;
    }
    Ok(words)
}

/// The bytes up to the first zero.
fn text(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .copied()
        .take_while(|&byte| byte != 0)
        .collect()
}

fn refuse_unknown(bits: u32) -> Result<()> {
    if bits & incompat::JOURNAL_DEV != 0 {
        return Err(Error::unsupported(
            "this is the journal of an ext file system, not a file system",
        ));
    }
    if bits & incompat::COMPRESSION != 0 {
        return Err(Error::unsupported("ext compression (e2compr) is not read"));
    }
    if bits & incompat::DIRDATA != 0 {
        return Err(Error::unsupported(
            "the ext feature dirdata (Lustre) is not read",
        ));
    }
    let unknown = bits & !incompat::READ;
    if unknown != 0 {
        return Err(Error::unsupported(format!(
            "ext incompatible feature {unknown:#x} is not known"
        )));
    }
    Ok(())
}

fn check_geometry(view: &View<'_>, sb: &mut Superblock) -> Result<()> {
    if sb.has_ro_compat(ro_compat::BIGALLOC) {
        let cluster_shift = view.u32_le(0x1c)?.saturating_add(10);
        let ratio = cluster_shift
            .checked_sub(sb.block_shift)
            .filter(|_| cluster_shift <= 29);
        let Some(ratio) = ratio else {
            return Err(view.damaged(0x1c, "the cluster size is impossible"));
        };
        sb.cluster_blocks = 1u32 << ratio;
        sb.clusters_per_group = view.u32_le(0x24)?;
    }
    let bits = sb.block_size.saturating_mul(8);
    // Linux and its tools count bitmaps in whole bytes.
    if sb.clusters_per_group == 0
        || sb.clusters_per_group & 7 != 0
        || sb.clusters_per_group > bits
        || sb.clusters_per_group.checked_mul(sb.cluster_blocks) != Some(sb.blocks_per_group)
    {
        return Err(view.damaged(0x20, "the size of the block groups is impossible"));
    }
    if sb.inodes_per_group == 0 || sb.inodes_per_group > bits {
        return Err(view.damaged(0x28, "the number of inodes in a group is impossible"));
    }
    let inode_size = sb.inode_size;
    if inode_size < 128 || inode_size > sb.block_size || !inode_size.is_power_of_two() {
        return Err(view.damaged(0x58, "the size of an inode is impossible"));
    }
    let descriptor = sb.descriptor_size;
    if !(32..=1024).contains(&descriptor) || !descriptor.is_power_of_two() {
        return Err(view.damaged(0xfe, "the size of a group descriptor is impossible"));
    }
    let expected_first = u32::from(sb.block_shift == 10 && sb.cluster_blocks == 1);
    if sb.first_data_block > 1 || (sb.first_data_block == 0 && expected_first == 1) {
        return Err(view.damaged(0x14, "the first data block is impossible"));
    }
    let covered = sb.blocks.saturating_sub(u64::from(sb.first_data_block));
    let groups = covered.div_ceil(u64::from(sb.blocks_per_group));
    sb.groups = match u32::try_from(groups) {
        Ok(groups) if groups > 0 => groups,
        _ => return Err(view.damaged(4, "the number of blocks is impossible")),
    };
    if sb.inodes == 0
        || u64::from(sb.inodes)
            > u64::from(sb.groups).saturating_mul(u64::from(sb.inodes_per_group))
    {
        return Err(view.damaged(0, "the number of inodes is impossible"));
    }
    if sb
        .blocks
        .checked_mul(u64::from(sb.block_size))
        .is_none_or(|size| size > u64::MAX - MIB)
    {
        return Err(view.damaged(4, "the number of blocks is impossible"));
    }
    Ok(())
}
