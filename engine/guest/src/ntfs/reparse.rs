//! `$REPARSE_POINT`: links, sockets and files whose content is stored in another way ([MS-FSCC] section 2.1.2).

mod link;
#[cfg(test)]
mod tests;

pub use link::link_target;

use super::attribute::units;
use super::name;
use crate::volume::EntryKind;
use cairn_base::{Error, Result, View};

/// The longest reparse point ([MS-FSCC] 2.1.2: 16 KiB of data and a header).
pub const MAX_BYTES: u64 = 17 << 10;

const MOUNT_POINT: u32 = 0xA000_0003;
const SYMLINK: u32 = 0xA000_000C;
const LX_SYMLINK: u32 = 0xA000_001D;
const AF_UNIX: u32 = 0x8000_0023;
const LX_FIFO: u32 = 0x8000_0024;
const LX_CHR: u32 = 0x8000_0025;
const LX_BLK: u32 = 0x8000_0026;
const RELATIVE: u32 = 1;

/// What the tag makes of the entry; nothing if it stays a file or folder.
pub fn kind_of(tag: u32) -> Option<EntryKind> {
    match tag {
        MOUNT_POINT | SYMLINK | LX_SYMLINK => Some(EntryKind::Symlink),
        AF_UNIX => Some(EntryKind::Socket),
        LX_FIFO => Some(EntryKind::Fifo),
        LX_CHR => Some(EntryKind::CharDevice),
        LX_BLK => Some(EntryKind::BlockDevice),
        _ => None,
    }
}

/// The tag of a reparse point.
pub fn tag(view: View<'_>) -> Result<u32> {
    view.u32_le(0)
}

/// The target of a link as the guest wrote it: the name made for people, else the one made for the kernel without
/// its `\??\`. Relative targets get `/` for `\`.
///
/// # Errors
/// [`Kind::Invalid`](cairn_base::Kind::Invalid) if it is no link.
pub fn target(view: View<'_>) -> Result<Vec<u8>> {
    let data = view.tail(8)?;
    match tag(view)? {
        LX_SYMLINK => Ok(data.tail(4)?.bytes().to_vec()),
        MOUNT_POINT => Ok(name::to_bytes(&best_name(data, 8)?)),
        SYMLINK => {
            let mut target = best_name(data, 12)?;
            if data.u32_le(8)? & RELATIVE != 0 {
                for unit in &mut target {
                    if *unit == u16::from(b'\\') {
                        *unit = u16::from(b'/');
                    }
                }
            }
            Ok(name::to_bytes(&target))
        }
        _ => Err(Error::invalid("not a link")),
    }
}

/// One of the two names: `at` is where its place stands, `buffer` where the names begin.
fn name_at(data: View<'_>, at: usize, buffer: usize) -> Result<Vec<u16>> {
    let offset = usize::from(data.u16_le(at)?);
    let length = usize::from(data.u16_le(at.saturating_add(2))?);
    Ok(units(data.tail(buffer)?.slice(offset, length)?))
}

/// `buffer` is where the names begin.
fn best_name(data: View<'_>, buffer: usize) -> Result<Vec<u16>> {
    let printed = name_at(data, 4, buffer)?;
    if !printed.is_empty() {
        return Ok(printed);
    }
    let mut substitute = name_at(data, 0, buffer)?;
    let prefix: Vec<u16> = r"\??\".encode_utf16().collect();
    if substitute.starts_with(&prefix) {
        substitute.drain(..prefix.len());
    }
    Ok(substitute)
}
