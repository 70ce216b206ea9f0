//! A VHDX as it is opened: header, log, regions, metadata, block table.

use super::bat::{Bat, Parts};
use super::check::{self, LogState};
use super::entry::HEADERS;
use super::metadata::Metadata;
use super::{SIGNATURE, header, locator, log, region, replay};
use crate::align::to_usize;
use crate::disk::{Format, Identity};
use crate::guid::Guid;
use crate::layer::{Facts, Opened};
use crate::table::Share;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::sync::Arc;

/// Opens `image` without its parent. Changes in its log are replayed in memory.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for anything required that is not known;
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) where the file contradicts the specification.
pub(crate) fn open(image: Arc<dyn ReadAt>, share: Share) -> Result<Opened> {
    let (header, header_warning) = read_header(&*image)?;
    let most = share.of(log::MAX_CHANGES);
    let entries = log::sequence_of(&*image, &header, most).map_err(|e| {
        e.advise("attach the disk once where it was used (Hyper-V, Windows), so that its log is dealt with there")
    })?;
    let is_unused = !header.log_id.is_nil() && entries.is_empty();
    let log_warning = is_unused.then(|| {
        "the VHDX says that its log is in use, and the log holds nothing: it is taken for empty"
            .to_string()
    });
    let log_range = header.log_range(image.size())?;
    let file = image.clone();
    let image = replay::over(image, &entries);
    let (regions, region_warning) = region::find(&*image)?;
    let metadata = Metadata::read(&*image, &regions.metadata)?;
    let parent = match &metadata.parent {
        Some((base, bytes)) => Some(locator::parse(bytes, *base)?),
        None => None,
    };
    let log = LogState::of(&header, &entries);
    let parts = Parts {
        properties: check::properties(&*file, &header, log, &metadata, parent.as_ref())?,
        file,
        image,
        regions,
        log: log_range,
    };
    let format = match (&parent, metadata.leave_allocated) {
        (Some(_), _) => Format::VhdxDifferencing,
        (None, true) => Format::VhdxFixed,
        (None, false) => Format::VhdxDynamic,
    };
    Ok(Opened {
        facts: Facts {
            format,
            sector_size: metadata.logical_sector,
            identity: Identity {
                disk_id: Some(metadata.disk_id),
                data_id: Some(header.data_write_id),
                write_id: header.log_id.is_nil().then_some(header.file_write_id),
                ..Identity::default()
            },
            warnings: header_warning
                .into_iter()
                .chain(log_warning)
                .chain(region_warning)
                .collect(),
        },
        layer: Box::new(Bat::open(parts, &metadata, share)?),
        parent,
    })
}

/// The DataWriteGuid of the VHDX in `image`, by which its children know it.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is no VHDX or has no header that can be used.
pub(crate) fn known_as(image: &dyn ReadAt) -> Result<Guid> {
    Ok(read_header(image)?.0.data_write_id)
}

fn read_header(image: &dyn ReadAt) -> Result<(header::Header, Option<String>)> {
    let length = to_usize(image.size().min(to_u64(SIGNATURE.len())))?;
    if read_vec(image, 0, length)? != SIGNATURE {
        return Err(Error::damaged("the image does not begin with `vhdxfile`").at_offset(0));
    }
    if image.size() < HEADERS.end {
        return Err(Error::damaged(format!(
            "the VHDX has {} bytes, fewer than its headers take",
            image.size()
        ))
        .advise("the file may have been cut off while it was copied"));
    }
    header::current(image)
}
