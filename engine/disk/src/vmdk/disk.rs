//! A VMDK as it is opened: the descriptor, wherever it lies, and its extents.

use super::descriptor::{Descriptor, ExtentKind, MAX_LENGTH};
use super::extents::{Extents, FileId, read_header};
use super::grains::File;
use super::header::{ESX, HOSTED};
use super::named::{BYTE_ORDER_MARK, Called, begins, called};
use crate::align::to_usize;
use crate::beside::Beside;
use crate::disk::{Format, Identity};
use crate::foreign;
use crate::layer::{Expected, Facts, Opened, ParentLink, ParentPlace};
use crate::property::{Property, Value};
use crate::reach;
use crate::runs::Place;
use crate::source::FileSource;
use crate::table::Share;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, ReadAt, Result};
use rustix::io::Errno;
use std::sync::Arc;

/// A CID that says nothing: newer ESXi keep a longer one elsewhere.
const LONG_CID: u32 = 0xffff_fffe;
/// Bytes of a file that tell whether it is a descriptor.
const LOOKED_AT: u64 = 512;

/// The CID of the VMDK in `image`, by which its children know it.
///
/// # Errors
/// What [`open`] says of header and descriptor.
pub(crate) fn content_id(image: &dyn ReadAt) -> Result<u32> {
    Ok(read_descriptor(image)?.0.cid)
}

/// Opens `image` without its parent. The files that it names are opened by `beside`.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) where header, descriptor and files contradict each other or the format;
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for what is required and not known; what `beside` says.
pub(crate) fn open(image: Arc<dyn ReadAt>, beside: &Beside<'_>, share: Share) -> Result<Opened> {
    let (descriptor, is_inside) = read_descriptor(&*image)?;
    let own = beside.own();
    let absent = match descriptor.parent_cid {
        Some(_) => Place::Parent,
        None => Place::Zeros,
    };
    let is_sparse = |kind: ExtentKind| matches!(kind, ExtentKind::Sparse | ExtentKind::VmfsSparse);
    let sparse = descriptor.extents.iter();
    let sparse = sparse.filter(|line| is_sparse(line.kind)).count();
    let mut extents = Extents::new(absent, sparse, share)?;
    let mut files: Vec<Arc<FileSource>> = Vec::new();
    for line in &descriptor.extents {
        let file = if line.kind == ExtentKind::Zero {
            None
        } else if is_inside {
            // Whatever it is called there: it may have been renamed since.
            let path = own.map(|own| own.path().to_path_buf());
            let bytes = image.clone();
            Some((File { bytes, path }, own.map(FileSource::file_id)))
        } else {
            Some(sibling(&line.name, beside, &mut files)?)
        };
        extents.add(line, file)?;
    }
    let mut warnings = extents.finish()?;
    warnings.extend(doubt(&descriptor));
    let parent = parent(&descriptor)?;
    extents.describe(properties(&descriptor, parent.as_ref()));
    Ok(Opened {
        facts: Facts {
            format: format(&descriptor),
            sector_size: 512,
            identity: Identity {
                disk_id: descriptor.uuid,
                ..Identity::default()
            },
            warnings,
        },
        layer: Box::new(extents),
        parent,
        files,
    })
}

fn properties(descriptor: &Descriptor, parent: Option<&ParentLink>) -> Vec<Property> {
    let extents = to_u64(descriptor.extents.len());
    let create_type = Value::Text(descriptor.create_type.clone());
    let mut properties = vec![
        Property::new("create_type", create_type),
        Property::new("cid", Value::Text(format!("{:08x}", descriptor.cid))),
        Property::new("extents", Value::Number(extents)),
    ];
    properties.extend(parent.into_iter().flat_map(ParentLink::properties));
    properties
}

/// The file of an extent, opened once however many extents lie in it.
fn sibling(
    name: &str,
    beside: &Beside<'_>,
    files: &mut Vec<Arc<FileSource>>,
) -> Result<(File, Option<FileId>)> {
    let place = ParentPlace::of(name).ok_or_else(|| {
        Error::damaged(format!(
            "the VMDK descriptor names an extent that is no file: `{}`",
            name.escape_debug()
        ))
    })?;
    if let Some(own) = beside.own() {
        let what = format!("Its extent `{}` was not opened", name.escape_debug());
        check_is_told(own, beside.is_told(), &what)?;
    }
    let opened = beside.open(place.path(), "extent").map_err(|error| {
        // No other error wants other advice.
        let is_short = [Errno::MFILE, Errno::NFILE].map(|code| Some(code.raw_os_error()));
        match is_short.contains(&reach::code_of(&error)) {
            true => error.advise("the disk has many files: let more be open at once (`ulimit -n`)"),
            false => error,
        }
    })?;
    let id = opened.file_id();
    if beside.own().map(FileSource::file_id) == Some(id) {
        return Err(Error::damaged(
            "the VMDK descriptor names its own file as an extent",
        ));
    }
    let known = files.iter().find(|file| file.file_id() == id);
    let file = match known {
        Some(known) => known.clone(),
        None => {
            files.push(opened.clone());
            opened
        }
    };
    let path = Some(file.path().to_path_buf());
    let bytes: Arc<dyn ReadAt> = file;
    Ok((File { bytes, path }, Some(id)))
}

/// The descriptor in `image`, and whether that is an extent itself.
fn read_descriptor(image: &dyn ReadAt) -> Result<(Descriptor, bool)> {
    let length = image.size().min(to_u64(HOSTED.len()));
    let head = read_vec(image, 0, to_usize(length)?)?;
    if head == HOSTED {
        return Ok((descriptor_inside(image)?, true));
    }
    if head == ESX {
        return Err(part("an ESX sparse extent (COWD)"));
    }
    let start = image.size().min(LOOKED_AT);
    let start = read_vec(image, 0, to_usize(start)?)?;
    foreign::refuse(&start)?;
    if !begins(&start) {
        return Err(Error::damaged(
            "the image does not begin like a VMDK: with `KDMV`, `COWD` or `# Disk DescriptorFile`",
        )
        .at_offset(0));
    }
    if image.size() > MAX_LENGTH {
        return Err(Error::damaged(format!(
            "the image begins like a VMDK descriptor, and has {} bytes: a descriptor has no more than {MAX_LENGTH}",
            image.size()
        ))
        .at_offset(0)
        .advise("say that the image is raw if it is a raw disk"));
    }
    let text = read_vec(image, 0, to_usize(image.size())?)?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
    Ok((Descriptor::parse(until_zero(text))?, false))
}

/// The descriptor inside of a sparse extent.
fn descriptor_inside(image: &dyn ReadAt) -> Result<Descriptor> {
    let header = read_header(image)?;
    let Some(range) = header.descriptor else {
        return Err(part("a sparse extent without a descriptor"));
    };
    if range.end > image.size() {
        return Err(
            Error::damaged("the descriptor of the VMDK lies beyond the end of the file")
                .at_offset(range.start)
                .advise("the file may have been cut off while it was copied"),
        );
    }
    let length = range.end.saturating_sub(range.start);
    let bytes = read_vec(image, range.start, to_usize(length)?)?;
    // All of it is room in a part of a split disk.
    let text = until_zero(&bytes);
    if text.trim_ascii().is_empty() {
        return Err(part("a sparse extent without a descriptor"));
    }
    let name = |error: Error| error.at_offset(range.start);
    let descriptor = Descriptor::parse(text).map_err(name)?;
    let is_one = matches!(descriptor.extents.as_slice(), [line] if line.kind == ExtentKind::Sparse);
    if !is_one {
        return Err(name(Error::unsupported(
            "the descriptor inside of a sparse extent names other extents, which is not read",
        )));
    }
    Ok(descriptor)
}

/// What stands before the first zero. Behind it is room to grow, in which QEMU leaves the end of a longer descriptor that it was before.
fn until_zero(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.get(..end.unwrap_or(bytes.len())).unwrap_or(bytes)
}

fn part(what: &str) -> Error {
    Error::unsupported(format!(
        "the file is {what}, which is a part of a disk and does not say which parts come before it, or what it is a delta of"
    ))
    .advise("name the file with the descriptor, a text beside it that ends in `.vmdk`")
}

fn format(descriptor: &Descriptor) -> Format {
    let has = |kind| descriptor.extents.iter().any(|line| line.kind == kind);
    let is_sparse = has(ExtentKind::Sparse) || has(ExtentKind::VmfsSparse);
    if descriptor.parent_cid.is_some() {
        Format::VmdkDifferencing
    } else if descriptor.create_type == "streamOptimized" {
        Format::VmdkStreamOptimized
    } else if is_sparse && descriptor.extents.len() > 1 {
        Format::VmdkSplit
    } else if is_sparse {
        Format::VmdkSparse
    } else {
        Format::VmdkFlat
    }
}

fn parent(descriptor: &Descriptor) -> Result<Option<ParentLink>> {
    let (Some(cid), Some(hint)) = (descriptor.parent_cid, &descriptor.parent_hint) else {
        return Ok(None);
    };
    let place = ParentPlace::of(hint).ok_or_else(|| {
        Error::damaged(format!(
            "the VMDK names a parent that is no file: `{}`",
            hint.escape_debug()
        ))
    })?;
    Ok(Some(ParentLink {
        expected: Expected::Vmdk(cid),
        places: vec![place],
    }))
}

/// Why nobody can tell whether the parent was changed.
fn doubt(descriptor: &Descriptor) -> Option<String> {
    (descriptor.parent_cid == Some(LONG_CID)).then(|| {
        format!(
            "the VMDK knows its parent by the CID {LONG_CID:08x}, which many disks have: whether the parent was changed since cannot be told"
        )
    })
}

/// Refuses to open other files because a VMDK names them, if nobody said that it is one and its file is not called so; `what` is not done then, a
/// sentence. The guest of a raw disk can write a header or a descriptor, but not rename its file; and it may be the guest of a flat extent.
///
/// # Errors
/// [`Kind::Denied`].
pub(crate) fn check_is_told(file: &FileSource, is_told: bool, what: &str) -> Result<()> {
    if is_told || called(file.path()) == Some(Called::Image) {
        return Ok(());
    }
    Err(Error::new(Kind::Denied, format!(
        "the image is a VMDK by its content alone, which the guest of a raw disk can write: its file is not called like one (`.vmdk`, and not \
         like an extent that guests write to). {what}"
    ))
    .at_path(file.path())
    .advise("say that it is a VMDK if it is one, or that it is raw"))
}
