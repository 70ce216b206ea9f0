//! The snapshot table ("Snapshots"), as far as a check needs it: where the L1 tables of snapshots lie.

use super::header::Header;
use super::roots;
use super::user::Visitor;
use crate::align::to_usize;
use crate::check::Topic;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{ReadAt, Result, View};

/// Snapshots of an image, at most: QEMU opens no more.
const MAX_SNAPSHOTS: u64 = 65_536;
/// Bytes of the fixed part of an entry.
const ENTRY: u64 = 40;
/// Bytes of the extra data that version 3 must have: sizes of the VM's state and of the disk.
const EXTRA_3: u64 = 16;
/// Bytes of the extra data, at most: QEMU opens no more.
const MAX_EXTRA: u64 = 1024;

/// What an entry leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u64,
    /// Where the entry begins in the file.
    pub(super) written_at: u64,
}

/// What there is of a snapshot table.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Where it lies (offset, bytes), if there is one.
    pub(super) table: Option<(u64, u64)>,
    /// Its entries in order.
    pub(super) list: Vec<Snapshot>,
}

/// The `count` entries at `offset`: as many as are in the file. What is wrong is told
/// to `visitor`.
///
/// # Errors
/// What the image says when it is read.
pub(super) fn read(
    image: &dyn ReadAt,
    header: &Header,
    (offset, count): (u64, u64),
    visitor: &mut dyn Visitor,
) -> Result<Snapshots> {
    if count == 0 {
        return Ok(Snapshots::default());
    }
    if count > MAX_SNAPSHOTS {
        visitor.wrong(Topic::Structure, roots::SNAPSHOT_COUNT, &|| {
            format!(
                "{count} snapshots are said, of at most {MAX_SNAPSHOTS}: they are not looked at"
            )
        });
        return Ok(Snapshots::default());
    }
    let mut found = Vec::new();
    let mut at = offset;
    for number in 1..=count {
        let end = at.checked_add(ENTRY).filter(|end| *end <= image.size());
        if end.is_none() {
            visitor.wrong(Topic::Outside, roots::SNAPSHOTS, &|| {
                format!("entry {number} of the snapshot table lies at byte {at}, beyond the end of the file")
            });
            break;
        }
        let bytes = read_vec(image, at, to_usize(ENTRY)?)?;
        let view = View::new(&bytes, "QCOW2 snapshot", at);
        let extra = u64::from(view.u32_be(36)?);
        if extra > MAX_EXTRA || header.version > 2 && extra < EXTRA_3 {
            visitor.wrong(Topic::Structure, at.saturating_add(36), &|| {
                format!("snapshot {number} is said to have {extra} bytes of extra data, and not {EXTRA_3} to {MAX_EXTRA}")
            });
        }
        found.push(Snapshot {
            l1_offset: view.u64_be(0)?,
            l1_entries: view.u32_be(8)?.into(),
            written_at: at,
        });
        let names = u64::from(view.u16_be(12)?).saturating_add(view.u16_be(14)?.into());
        let length = ENTRY.saturating_add(extra).saturating_add(names);
        at = at.saturating_add(length.next_multiple_of(8));
        if to_u64(found.len()).is_multiple_of(1024) {
            visitor.advance(ENTRY)?;
        }
    }
    let length = at.min(image.size()).saturating_sub(offset);
    Ok(Snapshots {
        table: Some((offset, length)).filter(|_| length > 0),
        list: found,
    })
}
