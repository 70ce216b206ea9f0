//! A VHDX as a virtual disk.

use super::bat::{Bat, HEADERS};
use super::metadata::Metadata;
use super::{SIGNATURE, header, locator, log, region};
use crate::disk::{Format, Identity, VirtualDisk};
use crate::runs::extents_or_all;
use cairn_base::read_at::{check_range, clip, read_vec};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// A VHDX without a parent.
pub struct Vhdx {
    image: Arc<dyn ReadAt>,
    bat: Bat,
    size: u64,
    sector_size: u32,
    format: Format,
    identity: Identity,
    warnings: Vec<String>,
}

/// Opens `image`.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for a differencing disk, a log that must be replayed, and
/// anything required that is not known; [`Kind::Damaged`](cairn_base::Kind::Damaged) where the file contradicts the
/// specification.
pub fn open(image: Arc<dyn ReadAt>) -> Result<Vhdx> {
    if read_vec(&*image, 0, SIGNATURE.len())? != SIGNATURE {
        return Err(Error::damaged("the image does not begin with `vhdxfile`").at_offset(0));
    }
    let (header, header_warning) = header::current(&*image)?;
    refuse_unfinished(&*image, &header)?;
    let (regions, region_warning) = region::find(&*image)?;
    let metadata = Metadata::read(&*image, &regions.metadata)?;
    if let Some((base, bytes)) = &metadata.parent {
        let parent = locator::parent_path(bytes, *base)
            .ok()
            .flatten()
            .unwrap_or_else(|| "(its name cannot be read)".into());
        return Err(Error::unsupported(format!(
            "this is a differencing disk: it holds only what differs from its parent `{parent}`"
        ))
        .advise("merge it into its parent first (Hyper-V: Merge-VHD)"));
    }
    let reserved = vec![
        HEADERS,
        header.log_range(image.size())?,
        regions.bat.clone(),
        regions.metadata.clone(),
    ];
    Ok(Vhdx {
        bat: Bat::open(image.clone(), &regions.bat, &metadata, reserved)?,
        image,
        size: metadata.disk_size,
        sector_size: metadata.logical_sector,
        format: if metadata.leave_allocated {
            Format::VhdxFixed
        } else {
            Format::VhdxDynamic
        },
        identity: Identity {
            disk_id: Some(metadata.disk_id),
            data_id: Some(header.data_write_id),
            file: None,
        },
        warnings: header_warning.into_iter().chain(region_warning).collect(),
    })
}

/// Refuses a file whose log holds changes that have not reached their places: tables read without them would be those of
/// some earlier moment. Entries that change nothing do not count.
fn refuse_unfinished(image: &dyn ReadAt, header: &header::Header) -> Result<()> {
    let entries = log::active_sequence(image, header).map_err(|e| {
        e.advise("attach the disk once where it was used (Hyper-V, Windows), so that its log is dealt with there")
    })?;
    let changes = entries
        .iter()
        .fold(0usize, |sum, e| sum.saturating_add(e.changes.len()));
    let grown = entries.iter().any(|e| e.last_size > image.size());
    if changes == 0 && !grown {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "the VHDX was not closed: its log holds {changes} changes that must be replayed first"
    ))
    .advise("attach the disk once in Windows or Hyper-V, or run `qemu-img check -r all` on a copy of it"))
}

impl ReadAt for Vhdx {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let end = offset.saturating_add(to_u64(buffer.len()));
        self.bat.runs(offset..end)?.read(&*self.image, buffer)
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size);
        extents_or_all(range.clone(), self.bat.runs(range), &*self.image)
    }

    fn will_need(&self, range: Range<u64>) {
        if let Ok(runs) = self.bat.runs(clip(range, self.size)) {
            runs.will_need(&*self.image);
        }
    }
}

impl VirtualDisk for Vhdx {
    fn format(&self) -> Format {
        self.format
    }
    fn sector_size(&self) -> u32 {
        self.sector_size
    }
    fn identity(&self) -> Identity {
        self.identity
    }
    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
