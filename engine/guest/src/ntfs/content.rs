//! Where the content of a file is: in its main stream, beside it, or not on the volume.

use super::attribute::kind;
use super::entry::Entry;
use super::mft::Mft;
use super::nature::Nature;
use super::stream::Resident;
use super::wof::{self, Algorithm, WofStream};
use super::{reparse, tag};
use cairn_base::{Error, ReadAt, Result, View};
use std::sync::Arc;

/// How the content of a file follows from what is stored: the highest byte of `packing` in
/// [`Reading`](crate::volume::Reading).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// It is the main stream.
    Main,
    /// It is the stream `WofCompressedData`, compressed.
    Packed(Algorithm),
    /// There is a reparse point that says something else.
    Other,
}

impl Form {
    /// A number for it, 0 for [`Form::Main`].
    pub fn number(self) -> u8 {
        match self {
            Form::Main => 0,
            Form::Packed(Algorithm::Xpress4K) => 1,
            Form::Packed(Algorithm::Lzx) => 2,
            Form::Packed(Algorithm::Xpress8K) => 3,
            Form::Packed(Algorithm::Xpress16K) => 4,
            Form::Other => 0xFF,
        }
    }
}

/// Opens the content of `entry`, whose nature is given.
///
/// # Errors
/// [`Kind::Invalid`](cairn_base::Kind::Invalid) for what has no content;
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it, or a part of it, is not on the volume, or in a form that
/// is not read: the error names the reparse tag. Nothing that is missing reads as zeros.
pub fn open(mft: &Mft, entry: &Entry, nature: &Nature) -> Result<Arc<dyn ReadAt>> {
    nature.check_kind()?;
    if nature.tag == 0 {
        return main(mft, entry);
    }
    if nature.tag == tag::WOF {
        return compressed(mft, entry);
    }
    // Windows marks what is not wholly there; of what was not fetched, or was given back, there is a hole.
    if tag::may_be_fetched(nature.tag)
        && !nature.is_offline()
        && entry.is_allocated(mft, kind::DATA, &[])?
    {
        return main(mft, entry);
    }
    let (reason, advice) = tag::reason(nature.tag);
    Err(Error::unsupported(reason).advise(advice))
}

fn main(mft: &Mft, entry: &Entry) -> Result<Arc<dyn ReadAt>> {
    let content = entry.open(mft, kind::DATA, &[])?;
    Ok(content.unwrap_or_else(|| Arc::new(Resident::new(Vec::new()))))
}

/// The algorithm by which the file `entry`, whose tag is WOF's, is compressed.
fn algorithm(mft: &Mft, entry: &Entry) -> Result<Algorithm> {
    let point = entry
        .value(mft, kind::REPARSE_POINT, &[], reparse::MAX_BYTES)?
        .unwrap_or_default();
    Algorithm::parse(View::new(&point, "reparse point", 0))
}

fn compressed(mft: &Mft, entry: &Entry) -> Result<Arc<dyn ReadAt>> {
    let algorithm = algorithm(mft, entry)?;
    let size = entry
        .first(mft, kind::DATA, &[])?
        .map_or(0, |main| main.attribute.size());
    let packed = entry.open(mft, kind::DATA, &wof::stream_name())?;
    let packed = packed.ok_or_else(|| {
        Error::damaged(format!(
            "the file is compressed by Windows (WOF), but its stream `{}` is missing",
            wof::STREAM
        ))
    })?;
    Ok(Arc::new(WofStream::new(packed, size, algorithm)?))
}

/// What the reparse point of `entry` makes of its content.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if there is one that cannot be found.
pub fn form(mft: &Mft, entry: &Entry) -> Result<Form> {
    let Some(point) = entry.value(mft, kind::REPARSE_POINT, &[], reparse::MAX_BYTES)? else {
        return Ok(Form::Main);
    };
    let view = View::new(&point, "reparse point", 0);
    match reparse::tag(view)? {
        tag::WOF => Ok(Algorithm::parse(view).map_or(Form::Other, Form::Packed)),
        _ => Ok(Form::Other),
    }
}
