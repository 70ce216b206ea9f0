//! The private header: whose a dynamic disk is, and where its data and its database lie (page PRIVHEAD).

use super::guid::Guid;
use super::sums_up;
use cairn_base::{Error, Result, View};

const SIGNATURE: &[u8; 8] = b"PRIVHEAD";
/// Windows 2000 to 10 write 2.11 and 2.12.
const MAJOR: u16 = 2;

/// A private header. Offsets and lengths are in bytes of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Whether its checksum is right.
    pub is_whole: bool,
    /// Larger in a newer one.
    pub sequence: u64,
    pub disk_id: Guid,
    pub group_id: Guid,
    pub group_name: String,
    /// Where what partitions of the database are relative to begins.
    pub data_start: u64,
    pub data_size: u64,
    pub config_start: u64,
    pub config_size: u64,
    /// Where it says that the two tables of contents are, in sectors of the database.
    pub contents: [u64; 2],
}

impl Head {
    /// The header in `bytes`, which lay at `at` of a disk of `disk_size` bytes; `None` if there is none.
    pub fn parse(bytes: &[u8], at: u64, sector: u64, disk_size: u64) -> Result<Option<Head>> {
        let view = View::new(bytes, "private header", at);
        if view.slice(0, 8)? != SIGNATURE {
            return Ok(None);
        }
        let (major, minor) = (view.u16_be(12)?, view.u16_be(14)?);
        if major != MAJOR {
            let what = format!("private header of a dynamic disk of version {major}.{minor}");
            return Err(Error::unsupported(what).at_offset(at));
        }
        let bytes_at = |offset: usize| -> Result<u64> {
            let sectors = view.u64_be(offset)?;
            let bytes = sectors.checked_mul(sector);
            bytes.ok_or_else(|| view.damaged(offset, "lies beyond the end of any disk"))
        };
        let head = Head {
            is_whole: sums_up(bytes),
            sequence: view.u64_be(0x18)?,
            disk_id: guid(&view, 0x30, "the id of the disk is none")?,
            group_id: guid(&view, 0xb0, "the id of the disk group is none")?,
            group_name: text(view.slice(0xf0, 31)?),
            data_start: bytes_at(0x11b)?,
            data_size: bytes_at(0x123)?,
            config_start: bytes_at(0x12b)?,
            config_size: bytes_at(0x133)?,
            contents: [view.u64_be(0x13b)?, view.u64_be(0x143)?],
        };
        let end = head.config_start.checked_add(head.config_size);
        if end.is_none_or(|end| end > disk_size) || head.config_size == 0 {
            return Err(view.damaged(0x12b, "the database lies beyond the end of the disk"));
        }
        Ok(Some(head))
    }
}

fn guid(view: &View<'_>, offset: usize, why: &str) -> Result<Guid> {
    let found = Guid::of_text(&text(view.slice(offset, 64)?));
    found.ok_or_else(|| view.damaged(offset, why))
}

/// Text up to the first zero.
pub(super) fn text(bytes: &[u8]) -> String {
    let length = bytes.iter().take_while(|&&byte| byte != 0).count();
    tame(bytes.get(..length).unwrap_or_default())
}

/// Text in which nothing plays with the screen that it is shown on: names go into messages.
pub(super) fn tame(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let tame = |c: char| match c.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => c,
    };
    text.chars().map(tame).collect()
}
