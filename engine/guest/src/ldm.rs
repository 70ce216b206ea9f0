//! Dynamic disks of Windows: volumes of the Logical Disk Manager (LDM), which may lie on several disks.
//!
//! - [`guid`]: ids of disks, groups and volumes
//! - [`head`]: the private header, which says whose the disk is and where its database lies
//! - [`contents`]: the database's table of contents
//! - [`database`]: its header, and its records put together from fragments
//! - [`record`]: what a record says
//! - [`group`]: the disks of a group together: which copy of the database counts, and what its volumes are
//! - [`volume`]: a volume out of its components
//! - [`plex`]: a volume's components as something readable, with what lies on disks that are not there
//! - [`layout`]: bytes that are concatenated, striped, mirrored, or guarded by parity
//!
//! Nobody published the format. What is known of it stands in the LDM documentation of the Linux-NTFS project (pages
//! PRIVHEAD, TOCBLOCK, VMDB, VBLK), to which the names here refer. All numbers on disk are big-endian. In the private
//! header and the table of contents a sector is one of the disk; in the records it has 512 bytes whatever the disk's are.
//!
//! Every disk of a group has a whole copy of the database. Windows changes it in transactions; what was begun and not committed is
//! read as it was before.

mod contents;
mod database;
mod group;
mod guid;
mod head;
mod layout;
mod plex;
mod record;
mod volume;

pub use database::Database;
pub use group::{Assembled, Member, assemble};
pub use guid::Guid;
pub use plex::{Piece, Unread};
pub use record::{
    ComponentRecord, Configuration, DiskRecord, Layout, PartitionRecord, VolumeRecord,
};
pub use volume::{DynamicVolume, VolumeKind};

use crate::partition::{PartitionKind, PartitionTable, TableKind};
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result};
use head::Head;
use std::sync::Arc;

/// The type of partitions of a dynamic disk in a DOS table.
const DOS_TYPE: u8 = 0x42;
/// The GPT type of the partition with the database: 5808c8aa-7e8f-42e0-85d2-e1e90434cfb3.
const METADATA: [u8; 16] = [
    0xaa, 0xc8, 0x08, 0x58, 0x8f, 0x7e, 0xe0, 0x42, 0x85, 0xd2, 0xe1, 0xe9, 0x04, 0x34, 0xcf, 0xb3,
];
/// The GPT type of the partition with the data: af9b60a0-1431-4f62-bc68-3311714a69ad.
const DATA: [u8; 16] = [
    0xa0, 0x60, 0x9b, 0xaf, 0x31, 0x14, 0x62, 0x4f, 0xbc, 0x68, 0x33, 0x11, 0x71, 0x4a, 0x69, 0xad,
];
/// Bytes of each structure of fixed size.
const BLOCK: usize = 512;
/// Sector of the first private header of a disk with a DOS table.
const FIRST_HEAD: u64 = 6;
/// Sectors of the database as Windows makes it, and where in it a copy of the private header lies.
const DATABASE_SECTORS: u64 = 2048;
const SECOND_HEAD: u64 = 1856;

/// Whether a partition of this type belongs to LDM: what it holds is told by the database alone.
pub fn is_part(kind: PartitionKind) -> bool {
    match kind {
        PartitionKind::Byte(kind) => kind == DOS_TYPE,
        PartitionKind::Guid(kind) => kind == METADATA || kind == DATA,
    }
}

/// Reads the database of `disk`, whose partition table is `table`; `None` if the table does not say that it is a dynamic disk.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if no copy of a structure can be used,
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for a version that is not known; whatever the disk reports that may pass.
pub fn read(disk: &Arc<dyn ReadAt>, table: &PartitionTable) -> Result<Option<Database>> {
    let Some(places) = head_places(disk.size(), table)? else {
        return Ok(None);
    };
    let sector = u64::from(table.sector_size.max(512));
    let head = newest_head(disk.as_ref(), &places, sector)?;
    let mut failure = None;
    for contents in contents::read(disk.as_ref(), &head, sector)? {
        match database::read(disk.as_ref(), &head, &contents, sector) {
            Ok(database) => return Ok(Some(database)),
            Err(error) if error.is_momentary() => return Err(error),
            Err(error) => keep(&mut failure, error),
        }
    }
    let missing = || {
        Error::damaged(
            "the database of this dynamic disk has no table of contents that can be read",
        )
        .at_offset(head.config_start)
    };
    Err(failure.unwrap_or_else(missing))
}

/// The id of a dynamic disk as its private header tells it, which may be there where the database cannot be read; `None` if it is not.
///
/// # Errors
/// What the disk reports that says nothing of it: a sector that is lost is not told.
pub fn disk_id(disk: &Arc<dyn ReadAt>, table: &PartitionTable) -> Result<Option<Guid>> {
    let Ok(Some(places)) = head_places(disk.size(), table) else {
        return Ok(None);
    };
    let sector = u64::from(table.sector_size.max(512));
    match newest_head(disk.as_ref(), &places, sector) {
        Ok(head) => Ok(head.is_whole.then_some(head.disk_id)),
        Err(error) if error.kind().may_pass() && error.is_momentary() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Where private headers may lie, in bytes; `None` if the disk is not dynamic.
fn head_places(size: u64, table: &PartitionTable) -> Result<Option<Vec<u64>>> {
    let sector = u64::from(table.sector_size.max(512));
    let of_kind = |kind: PartitionKind| {
        let mut parts = table.partitions.iter();
        parts.find(|part| part.kind == kind)
    };
    let places = match table.kind {
        TableKind::None => None,
        TableKind::Mbr => of_kind(PartitionKind::Byte(DOS_TYPE)).map(|_| {
            let sectors = size.checked_div(sector).unwrap_or(0);
            let from_end = |back: u64| sectors.saturating_sub(back).saturating_mul(sector);
            vec![
                FIRST_HEAD.saturating_mul(sector),
                from_end(1),
                from_end(DATABASE_SECTORS.saturating_sub(SECOND_HEAD)),
            ]
        }),
        TableKind::Gpt => match (
            of_kind(PartitionKind::Guid(METADATA)),
            of_kind(PartitionKind::Guid(DATA)),
        ) {
            (Some(part), _) => {
                let end = part.start.saturating_add(part.size);
                Some(vec![
                    end.saturating_sub(sector),
                    part.start
                        .saturating_add(SECOND_HEAD.saturating_mul(sector)),
                ])
            }
            (None, Some(part)) => {
                return Err(Error::damaged(
                    "this disk has a partition with the data of dynamic volumes, and none with the database that says where they lie",
                )
                .at_offset(part.start));
            }
            (None, None) => None,
        },
    };
    Ok(places)
}

/// Keeps the first of several failures, but rather one that may pass: then there may be more to find another time.
fn keep(kept: &mut Option<Error>, failure: Error) {
    let passes = |error: &Error| error.kind().may_pass();
    if kept
        .as_ref()
        .is_none_or(|kept| !passes(kept) && passes(&failure))
    {
        *kept = Some(failure);
    }
}

/// A structure of 512 bytes; `None` if it lies beyond the disk's end or cannot be read, in which case the failure is kept.
fn block(disk: &dyn ReadAt, at: u64, failure: &mut Option<Error>) -> Result<Option<Vec<u8>>> {
    let end = at.checked_add(512);
    if end.is_none_or(|end| end > disk.size()) {
        return Ok(None);
    }
    match read_vec(disk, at, BLOCK) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_momentary() => Err(error),
        Err(error) => {
            keep(failure, error);
            Ok(None)
        }
    }
}

/// The newest of the copies whose checksum is right; if there is none, the newest of the others.
fn newest_head(disk: &dyn ReadAt, places: &[u64], sector: u64) -> Result<Head> {
    let mut best: Option<Head> = None;
    let mut failure = None;
    for &at in places {
        let Some(bytes) = block(disk, at, &mut failure)? else {
            continue;
        };
        let head = match Head::parse(&bytes, at, sector, disk.size()) {
            Ok(Some(head)) => head,
            Ok(None) => continue,
            Err(error) => {
                keep(&mut failure, error);
                continue;
            }
        };
        let rank = |head: &Head| (head.is_whole, head.sequence);
        if best.as_ref().is_none_or(|best| rank(best) < rank(&head)) {
            best = Some(head);
        }
    }
    let missing = || {
        let first = places.first().copied().unwrap_or(0);
        Error::damaged("this is a dynamic disk, and no copy of its private header can be found")
            .at_offset(first)
    };
    match (best, failure) {
        (Some(best), _) if best.is_whole => Ok(best),
        // A better copy may be read another time.
        (Some(_), Some(failure)) if failure.kind().may_pass() => Err(failure),
        (Some(best), _) => Ok(best),
        (None, failure) => Err(failure.unwrap_or_else(missing)),
    }
}

/// Whether the four bytes at 8 are the sum of all the others.
fn sums_up(bytes: &[u8]) -> bool {
    let Some((before, rest)) = bytes.split_at_checked(8) else {
        return false;
    };
    let Some((stored, after)) = rest.split_first_chunk::<4>() else {
        return false;
    };
    let all = before.iter().chain(after);
    let sum = all.fold(0u32, |sum, &byte| sum.wrapping_add(u32::from(byte)));
    sum == u32::from_be_bytes(*stored)
}
