//! A VHD: which footer counts, and what lies behind it.

use super::SECTOR;
use super::blocks::Blocks;
use super::check;
use super::dynamic::{self, DynamicHeader};
use super::footer::{self, DiskType, Footer};
use super::locator;
use crate::check::Check;
use crate::disk::{Format, Identity};
use crate::layer::{Facts, Layer, Opened};
use crate::property::Property;
use crate::runs::{Detail, Place, Runs};
use crate::table::Share;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// The largest disk a dynamic VHD can say: 2^32 sectors. Hyper-V stops at 2040 GiB.
const MAX_DYNAMIC: u64 = (1 << 32) * SECTOR;

/// A fixed VHD: its disk is the beginning of the file.
struct Fixed {
    image: Arc<dyn ReadAt>,
    size: u64,
    properties: Vec<Property>,
}

/// The footer that counts, and what is to be said about it. `None` if `image` holds nothing that begins like one.
///
/// The one at the end counts; a dynamic disk's copy at the start stands in for it when it is damaged or cut off.
///
/// Some programs write wrong checksums. A footer whose checksum does not hold is believed, with a warning, if its copy
/// says the same, or if it says that the disk is fixed and exactly as large as the file without it: then
/// nothing is guessed, and then the dynamic header, of which there is no copy, is believed with a wrong checksum too. Otherwise it is an error and not a raw disk: the last sector of a raw disk is part of it (a GPT
/// ends there), and begins with `conectix` only by somebody's intent.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if there is no copy left whose checksum holds, and what [`Footer::parse`] says.
pub fn find_footer(image: &dyn ReadAt) -> Result<Option<(Footer, Vec<String>)>> {
    let size = image.size();
    let end = at_end(image)?;
    let start = footer_at(image, Some(0), 512)?;
    let mut warnings = Vec::new();
    if holds(&end) {
        if let Some(Ok(found)) = &end
            && found.disk_type != DiskType::Fixed
            && !holds(&start)
        {
            warnings.push("the copy of the VHD footer at the start of the file is damaged".into());
        }
        return end.transpose().map(|found| found.map(|f| (f, warnings)));
    }
    if holds(&start) {
        warnings.push(
            "the VHD footer at the end of the file is damaged or missing; its copy is used".into(),
        );
        return start.transpose().map(|found| found.map(|f| (f, warnings)));
    }
    match (start, end) {
        (copy, Some(Ok(found))) if is_believable(&found, copy.as_ref(), size) => {
            warnings.push("the checksum of the VHD footer does not hold".into());
            Ok(Some((found, warnings)))
        }
        (None, None) => Ok(None),
        (Some(Err(error)), _) | (_, Some(Err(error))) => Err(error),
        _ => Err(Error::damaged(
            "the checksum of the VHD footer does not hold, and there is no good copy",
        )
        .advise("say that the image is raw if it is a raw disk")),
    }
}

/// Whether the copy of the footer at the start of `image` is all there is to say that it is a VHD. The guest of a raw disk can write that as it
/// writes any boot sector.
///
/// # Errors
/// What the image says when it is read.
pub(crate) fn is_by_copy(image: &dyn ReadAt) -> Result<bool> {
    let start = footer_at(image, Some(0), 512)?;
    Ok(holds(&start) && !holds(&at_end(image)?))
}

/// What begins like a footer at the end of `image`.
fn at_end(image: &dyn ReadAt) -> Result<Option<Result<Footer>>> {
    let size = image.size();
    match footer_at(image, size.checked_sub(512), 512)? {
        // Virtual PC before 2004 wrote 511 bytes.
        None => footer_at(image, size.checked_sub(511), 511),
        end => Ok(end),
    }
}

/// What begins like a footer at `offset`, if the image reaches so far.
fn footer_at(
    image: &dyn ReadAt,
    offset: Option<u64>,
    length: usize,
) -> Result<Option<Result<Footer>>> {
    let is_inside = |at: &u64| at.saturating_add(to_u64(length)) <= image.size();
    let Some(offset) = offset.filter(is_inside) else {
        return Ok(None);
    };
    let bytes = read_vec(image, offset, length)?;
    let begins = bytes.starts_with(footer::COOKIE);
    Ok(begins.then(|| Footer::parse(&bytes, offset)))
}

fn holds(found: &Option<Result<Footer>>) -> bool {
    matches!(found, Some(Ok(footer)) if footer.checksum_holds)
}

/// Whether a footer at the end of a file of `size` bytes is to be believed although its checksum does not hold.
fn is_believable(found: &Footer, copy: Option<&Result<Footer>>, size: u64) -> bool {
    match found.disk_type {
        DiskType::Fixed => found.current_size.checked_add(to_u64(footer::SIZE)) == Some(size),
        DiskType::Dynamic | DiskType::Differencing => {
            matches!(copy, Some(Ok(copy)) if copy == found)
        }
    }
}

/// Opens `image`, in which `footer` was found, without its parent.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if headers or table contradict the specification or the file.
pub(crate) fn open(
    image: Arc<dyn ReadAt>,
    footer: &Footer,
    mut warnings: Vec<String>,
    share: Share,
) -> Result<Opened> {
    let size = footer.current_size;
    if footer.others_use_geometry() && footer.geometry.bytes() != size {
        warnings.push(format!(
            "the disk is taken to have the {size} bytes its footer says; programs that go by its cylinders, heads and \
             sectors see {}",
            footer.geometry.bytes()
        ));
    }
    let facts = |format, warnings| Facts {
        format,
        sector_size: 512,
        identity: Identity {
            disk_id: Some(footer.unique_id),
            ..Identity::default()
        },
        warnings,
    };
    let mut properties = check::properties(&*image, footer)?;
    if footer.disk_type == DiskType::Fixed {
        let layer = Fixed::open(image, size, properties)?;
        let facts = facts(Format::VhdFixed, warnings);
        return Ok(Opened::of_one_file(layer, facts, None));
    }
    if size > MAX_DYNAMIC {
        return Err(Error::damaged(format!(
            "the VHD says it has {size} bytes, more than any VHD can have"
        )));
    }
    let at = footer.data_offset;
    if at
        .checked_add(to_u64(dynamic::SIZE))
        .is_none_or(|end| end > image.size())
    {
        return Err(
            Error::damaged("the VHD's dynamic header lies beyond the end of the file")
                .at_offset(at),
        );
    }
    let bytes = read_vec(&*image, at, dynamic::SIZE)?;
    // Who wrote both footers with a checksum of his own will have written that of the header so.
    let header = match footer.checksum_holds || dynamic::checksum_holds(&bytes, at)? {
        true => DynamicHeader::parse(&bytes, at, size)?,
        false => {
            warnings.push("the checksum of the VHD dynamic header does not hold".into());
            DynamicHeader::parse_unsummed(&bytes, at, size)?
        }
    };
    let (format, parent, absent) = if footer.disk_type == DiskType::Differencing {
        let link = locator::parse(&*image, &bytes, at)?;
        properties.extend(link.properties());
        (Format::VhdDifferencing, Some(link), Place::Parent)
    } else {
        (Format::VhdDynamic, None, Place::Zeros)
    };
    let layer = Blocks::open(image, &header, at, size, absent, share, properties)?;
    Ok(Opened::of_one_file(layer, facts(format, warnings), parent))
}

impl Fixed {
    fn open(image: Arc<dyn ReadAt>, size: u64, properties: Vec<Property>) -> Result<Fixed> {
        let least = size.checked_add(511);
        if least.is_none_or(|least| least > image.size()) {
            return Err(Error::damaged(format!(
                "the VHD says it is a fixed disk of {size} bytes, and the file has only {}",
                image.size()
            ))
            .advise("the file may have been cut off while it was copied"));
        }
        Ok(Fixed {
            image,
            size,
            properties,
        })
    }
}

impl Layer for Fixed {
    fn size(&self) -> u64 {
        self.size
    }

    fn block_size(&self) -> u64 {
        u64::MAX
    }

    fn image(&self) -> &dyn ReadAt {
        &*self.image
    }

    fn runs(&self, range: Range<u64>, _detail: Detail) -> Result<Runs> {
        let mut runs = Runs::default();
        let length = range.end.saturating_sub(range.start);
        runs.push(length, Place::Image(range.start));
        Ok(runs)
    }

    fn properties(&self) -> Vec<Property> {
        self.properties.clone()
    }

    fn check(&self, check: &mut Check<'_>) -> Result<()> {
        check::check_fixed(&*self.image, self.size, check)
    }
}
