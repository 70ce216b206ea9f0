//! The header ("Header"): sizes, the L1 table, and what a reader must know.

use super::MAGIC;
use cairn_base::units::to_u64;
use cairn_base::{Error, Result, View};

/// Bytes of the header of version 2.
pub const SIZE_2: usize = 72;
/// Bytes of the header of version 3, at least.
pub const SIZE_3: usize = 104;

const VERSION: usize = 4;
const BACKING_OFFSET: usize = 8;
const BACKING_SIZE: usize = 16;
const CLUSTER_BITS: usize = 20;
const DISK_SIZE: usize = 24;
const CRYPT_METHOD: usize = 32;
const L1_SIZE: usize = 36;
const L1_OFFSET: usize = 40;
const INCOMPATIBLE: usize = 72;
const AUTOCLEAR: usize = 88;
const LENGTH: usize = 100;
const COMPRESSION: usize = 104;

/// Bits of `incompatible_features`.
pub mod incompatible {
    /// Reference counts may be wrong.
    pub const DIRTY: u64 = 1;
    /// Any structure may be wrong.
    pub const CORRUPT: u64 = 1 << 1;
    /// The guest's clusters lie in another file.
    pub const DATA_FILE: u64 = 1 << 2;
    /// Clusters are not compressed by zlib.
    pub const COMPRESSION: u64 = 1 << 3;
    /// L2 entries have 128 bits.
    pub const EXTENDED_L2: u64 = 1 << 4;
    /// All that are known.
    pub const ALL: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2;
}

/// The bit of `autoclear_features` that says that the external data file is the disk as it is.
pub const RAW_DATA_FILE: u64 = 1 << 1;

/// The smallest cluster has 512 bytes; QEMU opens none of more than 2 MiB.
const MIN_CLUSTER_BITS: u32 = 9;
const MAX_CLUSTER_BITS: u32 = 21;
/// Extended L2 entries divide clusters of at least 16 KiB.
const MIN_EXTENDED_BITS: u32 = 14;
/// Bytes of an L1 table, at most: QEMU opens no larger ones.
pub(super) const MAX_L1: u64 = 32 << 20;
/// Bytes of a backing file's name, at most.
const MAX_NAME: u32 = 1023;

/// By what clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Deflate without a header (RFC 1951).
    Zlib,
    /// A zstd frame (RFC 8878).
    Zstd,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// A cluster has 2 to the power of this many bytes: 9 to 21.
    pub cluster_bits: u32,
    /// Bytes of the virtual disk: not 0, a multiple of 512.
    pub disk_size: u64,
    /// Where the active L1 table begins: at a cluster.
    pub l1_offset: u64,
    /// Entries of the L1 table that the disk needs.
    pub l1_entries: u64,
    /// See [`incompatible`]; 0 in version 2.
    pub incompatible: u64,
    /// Bits that whoever does not know them clears when it writes; 0 in version 2.
    pub autoclear: u64,
    /// Bytes of the header: the extensions begin there.
    pub length: usize,
    /// By what compressed clusters are.
    pub compression: Compression,
    /// Where the backing file's name stands, within the first cluster, and its bytes.
    pub backing: Option<(usize, usize)>,
}

impl Header {
    /// Parses the header at the beginning of `head`, the first cluster or as much of it as the file has.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for other versions, larger clusters, encryption, other ways of compression, and disks of no bytes;
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for what no QCOW2 can say. Unknown incompatible features are the caller's business.
    pub fn parse(head: &[u8]) -> Result<Header> {
        let view = View::new(head, "QCOW2 header", 0);
        if view.slice(0, MAGIC.len())? != MAGIC {
            return Err(view.damaged(0, "the image does not begin with `QFI\\xfb`"));
        }
        let version = view.u32_be(VERSION)?;
        if !matches!(version, 2 | 3) {
            return Err(Error::unsupported(format!(
                "QCOW images of version {version} are not read, only 2 and 3"
            ))
            .at_offset(to_u64(VERSION)));
        }
        let cluster_bits = view.u32_be(CLUSTER_BITS)?;
        check_cluster_bits(&view, cluster_bits)?;
        check_encryption(view.u32_be(CRYPT_METHOD)?)?;
        let (incompatible, autoclear) = match version {
            2 => (0, 0),
            _ => (view.u64_be(INCOMPATIBLE)?, view.u64_be(AUTOCLEAR)?),
        };
        if incompatible & incompatible::EXTENDED_L2 != 0 && cluster_bits < MIN_EXTENDED_BITS {
            return Err(view.damaged(
                CLUSTER_BITS,
                "extended L2 entries need clusters of at least 16 KiB",
            ));
        }
        let length = header_length(&view, version, cluster_bits)?;
        let mut header = Header {
            version,
            cluster_bits,
            disk_size: view.u64_be(DISK_SIZE)?,
            l1_offset: view.u64_be(L1_OFFSET)?,
            l1_entries: 0,
            incompatible,
            autoclear,
            length,
            compression: compression(&view, length, incompatible)?,
            backing: backing(&view, cluster_bits)?,
        };
        header.l1_entries = header.check_l1(&view)?;
        Ok(header)
    }

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Whether an incompatible feature is in use.
    pub fn has(&self, feature: u64) -> bool {
        self.incompatible & feature != 0
    }

    /// Bits of the number of entries of an L2 table, which is a cluster.
    pub fn l2_bits(&self) -> u32 {
        let of_entry = if self.has(incompatible::EXTENDED_L2) {
            4
        } else {
            3
        };
        self.cluster_bits.saturating_sub(of_entry)
    }

    /// Bytes of the disk that one entry of the L1 table is about: at most 512 GiB.
    pub fn l1_covers(&self) -> u64 {
        1u64 << self.cluster_bits.saturating_add(self.l2_bits())
    }

    /// The number of entries that the L1 table must have.
    fn check_l1(&self, view: &View<'_>) -> Result<u64> {
        if self.disk_size == 0 {
            return Err(Error::unsupported(
                "the QCOW2 is a disk of 0 bytes, which holds nothing that could be read",
            )
            .at_offset(to_u64(DISK_SIZE)));
        }
        if !self.disk_size.is_multiple_of(512) {
            let why = format!(
                "a disk of {} bytes is said, which is not a number of sectors of 512",
                self.disk_size
            );
            return Err(view.damaged(DISK_SIZE, &why));
        }
        let entries = u64::from(view.u32_be(L1_SIZE)?);
        if entries.saturating_mul(8) > MAX_L1 {
            return Err(view.damaged(L1_SIZE, "an L1 table of more than 32 MiB is said"));
        }
        let needed = self.disk_size.div_ceil(self.l1_covers());
        if entries < needed {
            let why = format!(
                "the L1 table has {entries} entries, and a disk of {} bytes needs {needed}",
                self.disk_size
            );
            return Err(view.damaged(L1_SIZE, &why));
        }
        if !self.l1_offset.is_multiple_of(self.cluster_size()) {
            return Err(view.damaged(L1_OFFSET, "the L1 table does not begin with a cluster"));
        }
        Ok(needed)
    }
}

fn check_cluster_bits(view: &View<'_>, bits: u32) -> Result<()> {
    match bits {
        MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS => Ok(()),
        0..MIN_CLUSTER_BITS => {
            Err(view.damaged(CLUSTER_BITS, "clusters of less than 512 bytes are said"))
        }
        _ => Err(Error::unsupported(format!(
            "QCOW2 images with clusters of 2^{bits} bytes are not read, only up to 2 MiB"
        ))
        .at_offset(to_u64(CLUSTER_BITS))),
    }
}

fn check_encryption(method: u32) -> Result<()> {
    let name = match method {
        0 => return Ok(()),
        1 => "AES".to_string(),
        2 => "LUKS".to_string(),
        other => format!("method {other}"),
    };
    Err(Error::unsupported(format!(
        "the QCOW2 is encrypted ({name}), which is not read"
    ))
    .at_offset(to_u64(CRYPT_METHOD))
    .advise("decrypt it with `qemu-img convert --object secret,...`"))
}

fn header_length(view: &View<'_>, version: u32, cluster_bits: u32) -> Result<usize> {
    if version == 2 {
        return Ok(SIZE_2);
    }
    let length = view.u32_be(LENGTH)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length < SIZE_3 || to_u64(length) > 1 << cluster_bits {
        let why =
            format!("a length of {length} bytes is said, of at least {SIZE_3} in one cluster");
        return Err(view.damaged(LENGTH, &why));
    }
    Ok(length)
}

/// "Additional fields": the type stands there if the header reaches so far, and is not 0 if and only if the feature is in use.
fn compression(view: &View<'_>, length: usize, incompatible: u64) -> Result<Compression> {
    let kind = match length > COMPRESSION {
        true => view.u8(COMPRESSION)?,
        false => 0,
    };
    let is_other = incompatible & incompatible::COMPRESSION != 0;
    match (kind, is_other) {
        (0, false) => Ok(Compression::Zlib),
        (1, true) => Ok(Compression::Zstd),
        (0, true) | (_, false) => Err(view.damaged(
            COMPRESSION,
            &format!("compression type {kind} contradicts the incompatible feature bit 3"),
        )),
        (other, true) => Err(Error::unsupported(format!(
            "QCOW2 images with compression type {other} are not read, only zlib and zstd"
        ))
        .at_offset(to_u64(COMPRESSION))),
    }
}

fn backing(view: &View<'_>, cluster_bits: u32) -> Result<Option<(usize, usize)>> {
    let offset = view.u64_be(BACKING_OFFSET)?;
    if offset == 0 {
        return Ok(None);
    }
    let size = view.u32_be(BACKING_SIZE)?;
    if size == 0 {
        return Ok(None);
    }
    let end = offset.saturating_add(u64::from(size));
    if size > MAX_NAME || end > 1 << cluster_bits {
        let why = format!(
            "a backing file's name of {size} bytes at offset {offset} is said, of at most {MAX_NAME} in the first cluster"
        );
        return Err(view.damaged(BACKING_OFFSET, &why));
    }
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    Ok(Some((number(offset), number(u64::from(size)))))
}

#[cfg(test)]
mod tests;
