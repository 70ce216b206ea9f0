//! A QCOW2 as it is opened: header, extensions, other files, L1 table.

use super::clusters::Clusters;
use super::compressed::Compressed;
use super::extensions::Extensions;
use super::header::{Header, RAW_DATA_FILE, incompatible};
use super::names;
use super::space::Space;
use super::tables::Tables;
use crate::align::to_usize;
use crate::beside::Beside;
use crate::disk::{Format, Identity};
use crate::layer::{Expected, Facts, Opened, ParentLink, ParentPlace};
use crate::place::Places;
use crate::runs::Place;
use crate::source::FileSource;
use crate::table::Share;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, Kind, ReadAt, Result};
use std::sync::Arc;

/// Bytes of the start of the file that tell how large a cluster is.
const START: u64 = 512;

/// Opens `image` without its backing file; the external data file, if there is one, by `beside`.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for encryption and other things required that are not known, by name;
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) where the file contradicts the specification; what `beside` says.
pub(crate) fn open(image: Arc<dyn ReadAt>, share: Share, beside: &Beside<'_>) -> Result<Opened> {
    let start = image.size().min(START);
    let header = Header::parse(&read_vec(&*image, 0, to_usize(start)?)?)?;
    // At most 2 MiB, and only now.
    let length = image.size().min(header.cluster_size());
    let head = read_vec(&*image, 0, to_usize(length)?)?;
    let extensions = Extensions::parse(&head, &header)?;
    let unknown = header.incompatible & !incompatible::ALL;
    if unknown != 0 {
        return Err(Error::unsupported(format!(
            "the QCOW2 needs features that are not known: {}",
            extensions.name_features(unknown)
        ))
        .at_offset(72)
        .advise("convert it with a version of `qemu-img` that knows them"));
    }
    let parent = parent(&head, &header, &extensions)?;
    let data_file = data_file(&header, &extensions, beside)?;
    if parent.is_some() && data_file.is_some() && header.autoclear & RAW_DATA_FILE != 0 {
        return Err(Error::damaged(
            "the QCOW2 says that its external data file is the whole disk, and that it has a backing file",
        )
        .at_offset(88));
    }
    let absent = match parent {
        Some(_) => Place::Parent,
        None => Place::Zeros,
    };
    let tables = Arc::new(Tables::open(image.clone(), &header, share)?);
    let (data, reserved): (Arc<dyn ReadAt>, _) = match &data_file {
        Some(file) => (file.clone(), Vec::new()),
        None => {
            let l1_end = header.l1_entries.saturating_mul(8);
            let l1 = header.l1_offset..header.l1_offset.saturating_add(l1_end);
            (image.clone(), vec![0..header.cluster_size(), l1])
        }
    };
    let places = Places {
        format: "QCOW2",
        size: data.size(),
        reserved,
    };
    let space = Space {
        data,
        compressed: Compressed::new(image, tables.clone(), share)?,
        disk_size: header.disk_size,
    };
    Ok(Opened {
        layer: Box::new(Clusters {
            tables,
            space,
            places,
            absent,
            of_parent: parent.iter().flat_map(ParentLink::properties).collect(),
        }),
        facts: Facts {
            format: Format::Qcow2,
            sector_size: 512,
            identity: Identity::default(),
            warnings: warnings(&header),
        },
        parent,
        files: data_file.into_iter().collect(),
    })
}

fn warnings(header: &Header) -> Vec<String> {
    let mut warnings = Vec::new();
    if header.has(incompatible::DIRTY) {
        warnings.push(
            "the QCOW2 was not closed (its dirty bit is set): it may be in use, and its reference counts may be wrong, which reading does not \
             need"
                .to_string(),
        );
    }
    if header.has(incompatible::CORRUPT) {
        warnings.push(
            "the QCOW2 is marked corrupt: QEMU found its tables contradictory, and what is read may be wrong; `qemu-img check` tells more"
                .to_string(),
        );
    }
    warnings
}

/// The backing file, by its name.
fn parent(head: &[u8], header: &Header, extensions: &Extensions) -> Result<Option<ParentLink>> {
    let Some((offset, length)) = header.backing else {
        return Ok(None);
    };
    let name = head.get(offset..offset.saturating_add(length));
    let name = name.ok_or_else(|| {
        Error::damaged("the name of the QCOW2's backing file lies beyond the end of the file")
            .at_offset(8)
    })?;
    let path = names::file(name, "backing file")?;
    let format = names::format(extensions.backing_format.as_deref().unwrap_or_default())?;
    let place = match path.is_absolute() {
        true => ParentPlace::Absolute(path),
        false => ParentPlace::Relative(path),
    };
    Ok(Some(ParentLink {
        expected: Expected::Named { format },
        places: vec![place],
    }))
}

/// Refuses to open other files because a QCOW2 names them, if nobody said that it is one and its file is not called so; `what` is not done then, a
/// sentence. The guest of a raw disk can write a header, but not rename its file; the disks of others may lie beside it.
///
/// # Errors
/// [`Kind::Denied`].
pub(crate) fn check_is_told(file: &FileSource, is_told: bool, what: &str) -> Result<()> {
    let extension = file.path().extension();
    if is_told || extension.is_some_and(|extension| extension.eq_ignore_ascii_case("qcow2")) {
        return Ok(());
    }
    Err(Error::new(Kind::Denied, format!(
        "the image is a QCOW2 by its content alone, which the guest of a raw disk can write: its file is not called like one (`.qcow2`). {what}"
    ))
    .at_path(file.path())
    .advise("say that it is a QCOW2 if it is one (`--format qcow2`), or that it is raw"))
}

fn data_file(
    header: &Header,
    extensions: &Extensions,
    beside: &Beside<'_>,
) -> Result<Option<Arc<FileSource>>> {
    if !header.has(incompatible::DATA_FILE) {
        return Ok(None);
    }
    let Some(name) = &extensions.data_file else {
        return Err(Error::unsupported(
            "the QCOW2 has its data in another file, and does not say in which",
        )
        .advise("convert it with `qemu-img convert --image-opts driver=qcow2,file.filename=IMAGE,data-file.driver=file,data-file.filename=FILE`"));
    };
    let path = names::file(name, "external data file")?;
    if let Some(own) = beside.own() {
        let what = format!(
            "Its external data file `{}` was not opened",
            path.to_string_lossy().escape_debug()
        );
        check_is_told(own, beside.is_told(), &what)?;
    }
    beside.open(&path, "external data file").map(Some)
}
