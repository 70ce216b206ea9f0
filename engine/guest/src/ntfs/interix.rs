//! Special files as Interix and ntfs-3g write them: a small system file with a magic word.

use super::attribute::units;
use super::name;
use cairn_base::{Result, View};

/// The longest such file: the magic word and a path of 4096 units.
pub const MAX_BYTES: u64 = 8 + 2 * 4096;

/// What a special file stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Special {
    /// A symbolic link and its target.
    Link(Vec<u8>),
    /// A character device, major and minor.
    Char(u32, u32),
    /// A block device, major and minor.
    Block(u32, u32),
}

/// Decodes the content of a system file; nothing if it is an ordinary file.
pub fn parse(view: View<'_>) -> Result<Option<Special>> {
    if view.len() < 8 {
        return Ok(None);
    }
    let number = |at: usize| -> Result<u32> { Ok(u32::try_from(view.u64_le(at)?).unwrap_or(0)) };
    match &view.array::<8>(0)? {
        b"IntxLNK\x01" => Ok(Some(Special::Link(name::to_bytes(&units(
            view.tail(8)?.bytes(),
        ))))),
        b"IntxCHR\0" if view.len() == 24 => Ok(Some(Special::Char(number(8)?, number(16)?))),
        b"IntxBLK\0" if view.len() == 24 => Ok(Some(Special::Block(number(8)?, number(16)?))),
        _ => Ok(None),
    }
}
