//! The footer, "Hard Disk Footer Format": the last sector of the file, and the first one of a dynamic disk.

use super::{SECTOR, checksum};
use crate::guid::Guid;
use cairn_base::{Error, Result, View};

/// Bytes of a footer. Virtual PC before 2004 wrote one byte less.
pub const SIZE: usize = 512;
/// How a footer begins.
pub const COOKIE: &[u8; 8] = b"conectix";

const DATA_OFFSET: usize = 16;
const VERSION: usize = 12;
const TIMESTAMP: usize = 24;
const CREATOR: usize = 28;
const CREATOR_VERSION: usize = 32;
const CREATOR_OS: usize = 36;
const ORIGINAL_SIZE: usize = 40;
const CURRENT_SIZE: usize = 48;
const GEOMETRY: usize = 56;
const DISK_TYPE: usize = 60;
const CHECKSUM: usize = 64;
const UNIQUE_ID: usize = 68;

/// "Disk Type".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskType {
    /// 2: all bytes are there.
    Fixed,
    /// 3: blocks are allocated as they are written.
    Dynamic,
    /// 4: what is not allocated is read from a parent.
    Differencing,
}

/// "Disk Geometry".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// At most 65,535.
    pub cylinders: u16,
    /// At most 16.
    pub heads: u8,
    /// Sectors per track, at most 255.
    pub sectors: u8,
}

impl Geometry {
    /// The most that can be said; it stands for anything larger too.
    pub const MAX: Geometry = Geometry {
        cylinders: 65535,
        heads: 16,
        sectors: 255,
    };

    /// Bytes it covers.
    pub fn bytes(&self) -> u64 {
        // At most 2^16 * 2^8 * 2^8 * 2^9.
        u64::from(self.cylinders)
            .saturating_mul(u64::from(self.heads))
            .saturating_mul(u64::from(self.sectors))
            .saturating_mul(SECTOR)
    }

    /// The geometry the appendix "CHS Calculation" gives a disk of `size` bytes.
    pub fn of(size: u64) -> Geometry {
        let total = size.checked_div(SECTOR).unwrap_or(0).min(65535 * 16 * 255);
        let per = |count: u64, unit: u64| count.checked_div(unit).unwrap_or(0);
        let (sectors, heads, tracks);
        if total >= 65535 * 16 * 63 {
            (sectors, heads, tracks) = (255, 16, per(total, 255));
        } else {
            let of_17 = per(total, 17);
            let heads_17 = of_17
                .saturating_add(1023)
                .checked_div(1024)
                .unwrap_or(0)
                .max(4);
            if of_17 < heads_17.saturating_mul(1024) && heads_17 <= 16 {
                (sectors, heads, tracks) = (17, heads_17, of_17);
            } else if per(total, 31) < 16 * 1024 {
                (sectors, heads, tracks) = (31, 16, per(total, 31));
            } else {
                (sectors, heads, tracks) = (63, 16, per(total, 63));
            }
        }
        Geometry {
            cylinders: u16::try_from(per(tracks, heads)).unwrap_or(u16::MAX),
            heads: u8::try_from(heads).unwrap_or(16),
            sectors,
        }
    }
}

/// What a footer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Where the dynamic header lies, in bytes; all ones in a fixed disk.
    pub data_offset: u64,
    /// Seconds since 2000-01-01T00:00:00Z.
    pub timestamp: u32,
    /// Who made the file: `vpc `, `win `, `qem2`, ...
    pub creator: [u8; 4],
    /// Bytes of the virtual disk.
    pub current_size: u64,
    /// For the BIOS of old.
    pub geometry: Geometry,
    /// Fixed, dynamic or differencing.
    pub disk_type: DiskType,
    /// The disk's own id; a differencing child names it.
    pub unique_id: Guid,
    /// Whether the checksum is right. [`parse`](Footer::parse) leaves the judgement to its caller, who may have another copy.
    pub checksum_holds: bool,
}

impl Footer {
    /// Reads a footer of 512 bytes (or 511, of old) that lay at `base`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is none, [`Kind::Unsupported`](cairn_base::Kind::Unsupported)
    /// for another version or disk type.
    pub fn parse(bytes: &[u8], base: u64) -> Result<Footer> {
        let view = View::new(bytes, "VHD footer", base);
        if view.slice(0, COOKIE.len())? != COOKIE {
            return Err(view.damaged(0, "does not begin with `conectix`"));
        }
        let checksum_holds = view.u32_be(CHECKSUM)? == checksum(bytes, CHECKSUM);
        let version = view.u32_be(VERSION)?;
        if version >> 16 != 1 {
            return Err(Error::unsupported(format!(
                "VHD of version {}.{} is not read",
                version >> 16,
                version & 0xffff
            ))
            .at_offset(base));
        }
        let disk_type = match view.u32_be(DISK_TYPE)? {
            2 => DiskType::Fixed,
            3 => DiskType::Dynamic,
            4 => DiskType::Differencing,
            other => {
                return Err(
                    Error::unsupported(format!("VHD disk type {other} is not read"))
                        .at_offset(base),
                );
            }
        };
        Ok(Footer {
            data_offset: view.u64_be(DATA_OFFSET)?,
            timestamp: view.u32_be(TIMESTAMP)?,
            creator: view.array(CREATOR)?,
            current_size: view.u64_be(CURRENT_SIZE)?,
            geometry: Geometry {
                cylinders: view.u16_be(GEOMETRY)?,
                heads: view.u8(GEOMETRY.saturating_add(2))?,
                sectors: view.u8(GEOMETRY.saturating_add(3))?,
            },
            disk_type,
            unique_id: Guid(view.array(UNIQUE_ID)?),
            checksum_holds,
        })
    }

    /// The footer as it is written, with its checksum. Feature bit 2 is reserved and always set; original size and
    /// current size are the same.
    pub fn encode(&self) -> [u8; SIZE] {
        let disk_type: u32 = match self.disk_type {
            DiskType::Fixed => 2,
            DiskType::Dynamic => 3,
            DiskType::Differencing => 4,
        };
        let geometry = [
            &self.geometry.cylinders.to_be_bytes()[..],
            &[self.geometry.heads, self.geometry.sectors],
        ]
        .concat();
        let mut bytes = [0; SIZE];
        let mut put = |at: usize, field: &[u8]| {
            for (to, from) in bytes.iter_mut().skip(at).zip(field) {
                *to = *from;
            }
        };
        put(0, COOKIE);
        put(8, &2u32.to_be_bytes());
        put(VERSION, &0x0001_0000u32.to_be_bytes());
        put(DATA_OFFSET, &self.data_offset.to_be_bytes());
        put(TIMESTAMP, &self.timestamp.to_be_bytes());
        put(CREATOR, &self.creator);
        put(CREATOR_VERSION, &0x000a_0000u32.to_be_bytes());
        put(CREATOR_OS, b"Wi2k");
        put(ORIGINAL_SIZE, &self.current_size.to_be_bytes());
        put(CURRENT_SIZE, &self.current_size.to_be_bytes());
        put(GEOMETRY, &geometry);
        put(DISK_TYPE, &disk_type.to_be_bytes());
        put(UNIQUE_ID, &self.unique_id.0);
        let sum = checksum(&bytes, CHECKSUM);
        for (to, from) in bytes.iter_mut().skip(CHECKSUM).zip(sum.to_be_bytes()) {
            *to = from;
        }
        bytes
    }

    /// Whether `qemu-img` would take the geometry for the size of a file of this creator (`block/vpc.c`).
    pub fn others_use_geometry(&self) -> bool {
        let exact: [&[u8]; 6] = [b"win ", b"qem2", b"d2v ", b"CTXS", b"tap", b"wa"];
        self.geometry != Geometry::MAX && !exact.iter().any(|name| self.creator.starts_with(name))
    }
}

#[cfg(test)]
mod tests;
