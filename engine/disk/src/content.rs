//! What an image holds, by its first and last bytes, and how it is opened without its parents.

use crate::align::to_usize;
use crate::beside::Beside;
use crate::disk::{Format, FormatHint};
use crate::foreign;
use crate::layer::Opened;
use crate::table::Share;
use crate::vhd::footer::{self, DiskType, Footer};
use crate::{vhd, vhdx, vmdk};
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::sync::Arc;

/// What was found in an image.
pub(crate) enum Found {
    /// Nothing: all of it is the disk.
    Raw,
    /// The footer that counts, and what is to be said about it.
    Vhd(Footer, Vec<String>),
    /// A VHDX.
    Vhdx,
    /// A VMDK, or a part of one.
    Vmdk,
}

impl Found {
    /// The container, as far as it can be told without more reading.
    pub(crate) fn format(&self) -> Format {
        match self {
            Found::Raw => Format::Raw,
            Found::Vhdx => Format::VhdxDynamic,
            Found::Vmdk => Format::VmdkSparse,
            Found::Vhd(footer, _) => match footer.disk_type {
                DiskType::Fixed => Format::VhdFixed,
                DiskType::Dynamic => Format::VhdDynamic,
                DiskType::Differencing => Format::VhdDifferencing,
            },
        }
    }

    /// Opens `image`, in which this was found; `None` if it is raw. Other files that belong to it are opened by `beside`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) where the image contradicts its format,
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for what is required and not known, and what `beside` says.
    pub(crate) fn open(
        self,
        image: Arc<dyn ReadAt>,
        share: Share,
        beside: &Beside<'_>,
    ) -> Result<Option<Opened>> {
        Ok(match self {
            Found::Raw => None,
            Found::Vhd(footer, warnings) => Some(vhd::open(image, &footer, warnings, share)?),
            Found::Vhdx => Some(vhdx::open(image, share)?),
            Found::Vmdk => Some(vmdk::open(image, beside, share)?),
        })
    }
}

/// What `image` holds, if it is what `hint` says.
///
/// # Errors
/// As [`find`], and [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is said to be a VHD and has no footer.
pub(crate) fn find_as(image: &dyn ReadAt, hint: FormatHint) -> Result<Found> {
    match hint {
        FormatHint::Detect => find(image),
        FormatHint::Raw => Ok(Found::Raw),
        FormatHint::Vhdx => Ok(Found::Vhdx),
        FormatHint::Vhd => match vhd::find_footer(image)? {
            Some((footer, warnings)) => Ok(Found::Vhd(footer, warnings)),
            None => Err(Error::damaged("the image has no VHD footer")),
        },
        FormatHint::Vmdk => Ok(Found::Vmdk),
        FormatHint::Qcow2 | FormatHint::Vdi => {
            Err(Error::unsupported("images of this format are not read"))
        }
    }
}

/// What `image` holds, by its content alone.
///
/// # Errors
/// As [`detect`](crate::detect()).
pub(crate) fn find(image: &dyn ReadAt) -> Result<Found> {
    if image.size() == 0 {
        return Err(Error::damaged("the image is empty"));
    }
    let length = image.size().min(to_u64(foreign::HEAD));
    let head = read_vec(image, 0, to_usize(length)?)?;
    if head.starts_with(vhdx::SIGNATURE) {
        return Ok(Found::Vhdx);
    }
    let footer = vhd::find_footer(image);
    // What a VMDK ends with may be its guest's, who may keep VHD files; and a fixed VHD begins with what its guest wrote.
    let is_whole = |footer: &Footer| {
        let end = footer.current_size.checked_add(to_u64(footer::SIZE));
        footer.disk_type == DiskType::Fixed && end == Some(image.size())
    };
    let is_vhd = matches!(&footer, Ok(Some((footer, _))) if is_whole(footer));
    if vmdk::begins(&head) && !is_vhd {
        return Ok(Found::Vmdk);
    }
    if let Some((footer, warnings)) = footer? {
        return Ok(Found::Vhd(footer, warnings));
    }
    foreign::refuse(&head)?;
    Ok(Found::Raw)
}
