//! A disk as a VHD or VHDX file that is nowhere stored: its bytes are made as they are read.
//!
//! Every block has a place of its own in the file, whether it holds data or not. So the length of the file follows from the disk's
//! size alone, and no byte depends on more of the disk than its own block: opening costs nothing, and an entry of the block table is found out
//! when it is read. Blocks without data are not there as far as the table goes, and their places are holes.
//! What the file consists of is the writers' business, see [`write`](crate::write).

mod image;
mod present;

use crate::guid::Guid;
use crate::vhd::made as vhd;
use crate::vhdx::made as vhdx;
use cairn_base::{Error, ReadAt, Result, Time};
use image::{Entries, Image};
use std::sync::Arc;

/// What a disk can be shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViewFormat {
    /// A dynamic VHD with blocks of 2 MiB.
    Vhd,
    /// A dynamic VHDX.
    Vhdx,
}

impl ViewFormat {
    /// All there are.
    pub const ALL: [ViewFormat; 2] = [ViewFormat::Vhd, ViewFormat::Vhdx];

    /// How names of such files end, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            ViewFormat::Vhd => "vhd",
            ViewFormat::Vhdx => "vhdx",
        }
    }

    /// Whether a disk of `size` bytes with logical sectors of `sector_size` bytes can be shown so. A VHD has at most 2040 GiB, and
    /// only sectors of 512 bytes; a VHDX has at most 64 TiB. A disk of no bytes is shown as neither.
    pub fn takes(self, size: u64, sector_size: u32) -> bool {
        let largest = match self {
            ViewFormat::Vhd => crate::vhd::MAX_SIZE,
            ViewFormat::Vhdx => crate::vhdx::MAX_SIZE,
        };
        let sectors = sector_size == 512 || (sector_size == 4096 && self == ViewFormat::Vhdx);
        (1..=largest).contains(&size) && sectors
    }
}

/// How a disk is to be shown.
#[derive(Debug, Clone, Copy)]
pub struct ViewOptions<'a> {
    /// Bytes of a logical sector, 512 or 4096.
    pub sector_size: u32,
    /// What the file's ids are made from: the same seed, the same ids.
    pub seed: &'a [u8],
    /// When the file was made, as far as it says so. A VHD knows the years from 2000 to 2136.
    pub time: Time,
}

/// `disk` as a file in `format`: the same bytes for the same disk and options, at every time. A size that is not made of whole sectors is
/// rounded up to them with zeros.
///
/// Costs next to nothing: nothing of the disk is looked at. What is read later costs what the disk's bytes there cost, and the block
/// table what [`data_extents`](ReadAt::data_extents) costs for the blocks in question; where that says that a part is
/// [`Damaged`](cairn_base::Kind::Damaged), its blocks are there, so that reading them tells the same.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for what [`ViewFormat::takes`] rules out.
pub fn view(
    disk: Arc<dyn ReadAt>,
    format: ViewFormat,
    options: &ViewOptions<'_>,
) -> Result<Arc<dyn ReadAt>> {
    if !format.takes(disk.size(), options.sector_size) {
        return Err(Error::unsupported(format!(
            "no {} has {} bytes in sectors of {}",
            format.extension().to_uppercase(),
            disk.size(),
            options.sector_size
        )));
    }
    let id = |purpose| Guid::from_seed(purpose, options.seed);
    let image = match format {
        ViewFormat::Vhd => {
            let made = vhd::Made::new(disk.size())?;
            let layout = made.layout()?;
            let blocks = layout.fixed()?;
            let rest = made.rest(id("vhd unique id"), options.time.seconds, blocks.end);
            Image::new(
                disk,
                blocks,
                layout.prefix,
                made.table(),
                Entries::Vhd,
                rest.into(),
                made.file_size(blocks.end),
            )
        }
        ViewFormat::Vhdx => {
            let made = vhdx::Made::new(disk.size(), options.sector_size, None)?;
            let blocks = made.layout().fixed()?;
            let ids = vhdx::Ids {
                disk: id("vhdx virtual disk id"),
                file_write: id("vhdx file write id"),
                data_write: id("vhdx data write id"),
            };
            let entries = Entries::Vhdx {
                ratio: made.ratio(),
            };
            Image::new(
                disk,
                blocks,
                Vec::new(),
                made.table(),
                entries,
                made.rest(&ids),
                blocks.end,
            )
        }
    };
    Ok(Arc::new(image))
}

#[cfg(test)]
mod tests;
