//! What an image holds, by its first and last bytes, and how it is opened without its parents.

use crate::align::to_usize;
use crate::beside::Beside;
use crate::disk::{Format, FormatHint};
use crate::foreign;
use crate::layer::Opened;
use crate::table::Share;
use crate::vhd::footer::{DiskType, Footer};
use crate::{qcow2, vdi, vhd, vhdx, vmdk};
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, ReadAt, Result};
use std::sync::Arc;

/// The version of what came before QCOW2, which is another format with the same magic.
const OLD_VERSION: &[u8] = &1u32.to_be_bytes();

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
    /// A QCOW2.
    Qcow2,
    /// A VDI.
    Vdi,
}

impl Found {
    /// The container, as far as it can be told without more reading.
    pub(crate) fn format(&self) -> Format {
        match self {
            Found::Raw => Format::Raw,
            Found::Vhdx => Format::VhdxDynamic,
            Found::Vmdk => Format::VmdkSparse,
            Found::Qcow2 => Format::Qcow2,
            Found::Vdi => Format::VdiDynamic,
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
            Found::Qcow2 => Some(qcow2::open(image, share, beside)?),
            Found::Vdi => Some(vdi::open(image, share)?),
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
        FormatHint::Qcow2 => Ok(Found::Qcow2),
        FormatHint::Vdi => Ok(Found::Vdi),
        FormatHint::Vmdk => Ok(Found::Vmdk),
    }
}

/// What `image` holds, by its content alone.
///
/// # Errors
/// As [`detect`](crate::detect()).
pub(crate) fn find(image: &dyn ReadAt) -> Result<Found> {
    if image.size() == 0 {
        return Err(Error::unsupported(
            "the image is empty: it has no bytes, which is no image of any format, and nothing to keep if it is a raw disk",
        ));
    }
    let length = image.size().min(to_u64(foreign::HEAD));
    let head = read_vec(image, 0, to_usize(length)?)?;
    if head.starts_with(vhdx::SIGNATURE) {
        return Ok(Found::Vhdx);
    }
    if let Some(found) = by_start(&head) {
        check_end(image, &found)?;
        return Ok(found);
    }
    if let Some((footer, warnings)) = vhd::find_footer(image)? {
        return Ok(Found::Vhd(footer, warnings));
    }
    foreign::refuse(&head)?;
    Ok(Found::Raw)
}

/// What the first bytes of an image say that it is.
fn by_start(head: &[u8]) -> Option<Found> {
    let at = |offset: usize, signature: &[u8]| {
        let rest = head.get(offset..).unwrap_or_default();
        rest.starts_with(signature)
    };
    match () {
        () if at(0, qcow2::MAGIC) && !at(4, OLD_VERSION) => Some(Found::Qcow2),
        () if at(vdi::SIGNATURE_AT, vdi::SIGNATURE) => Some(Found::Vdi),
        () if vmdk::begins(head) => Some(Found::Vmdk),
        () => None,
    }
}

/// Refuses what begins like `found` and ends like a VHD: the guest of a fixed VHD can write what it begins with, and that of a QCOW2, VDI or VMDK
/// what it ends with, so either may be what the other one's guest made it look like.
fn check_end(image: &dyn ReadAt, found: &Found) -> Result<()> {
    match vhd::find_footer(image) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(Error::new(
            Kind::Denied,
            format!(
                "the image begins like a {} and ends like a VHD",
                found.format()
            ),
        )
        .advise("say which of them it is")),
        // A footer that holds nothing is what a guest wrote there.
        Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Unsupported) => Ok(()),
        Err(error) => Err(error),
    }
}
