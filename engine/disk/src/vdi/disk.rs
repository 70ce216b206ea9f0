//! A VDI as it is opened, and where its blocks lie.

use super::header::{self, FREE, Header, Kind, ZERO};
use crate::align::to_usize;
use crate::check::Check;
use crate::disk::{Format, Identity};
use crate::guid::Guid;
use crate::layer::{Expected, Facts, Layer, Opened, ParentLink};
use crate::place::Places;
use crate::property::{Property, Value};
use crate::runs::{Detail, Place, Runs};
use crate::table::{Share, Table, Width};
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;

/// Block table entries that are looked at in one step of a walk.
const STEP: u64 = 8192;
/// Before so many are read in a walk the file is asked whether they are a hole.
const MANY: u64 = 1024;

/// The blocks of a disk.
struct Blocks {
    image: Arc<dyn ReadAt>,
    header: Header,
    table: Table,
    places: Places,
    absent: Place,
    properties: Vec<Property>,
}

fn read_header(image: &dyn ReadAt) -> Result<Header> {
    let length = image.size().min(to_u64(header::SIZE));
    Header::parse(&read_vec(image, 0, to_usize(length)?)?)
}

/// By what its children know the VDI in `image`: its id, and the one that is another one as soon as it was written to.
///
/// # Errors
/// As [`Header::parse`].
pub(crate) fn known_as(image: &dyn ReadAt) -> Result<(Guid, Guid)> {
    let header = read_header(image)?;
    Ok((header.id, header.modified))
}

/// Opens `image` without its parent.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for versions that are not known;
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) where the file contradicts itself.
pub(crate) fn open(image: Arc<dyn ReadAt>, share: Share) -> Result<Opened> {
    let header = read_header(&*image)?;
    let table_at = header.table_offset;
    let table = Table::open(image.clone(), table_at, header.entries, Width::Le32, share)?;
    let parent = match header.kind {
        Kind::Dynamic | Kind::Fixed => None,
        Kind::Differencing if header.parent.is_nil() => {
            return Err(Error::damaged(
                "the VDI is a differencing disk and does not say of which parent",
            )
            .at_offset(424));
        }
        Kind::Differencing => Some(ParentLink {
            expected: Expected::Vdi {
                id: header.parent,
                modified: header.parent_modified,
            },
            // VirtualBox keeps in its own registry where the files of its disks lie.
            places: Vec::new(),
        }),
    };
    let places = Places {
        format: "VDI",
        size: image.size(),
        reserved: vec![
            0..to_u64(header::SIZE),
            table_at..table_at.saturating_add(header.entries.saturating_mul(4)),
        ],
    };
    let facts = Facts {
        format: match header.kind {
            Kind::Dynamic => Format::VdiDynamic,
            Kind::Fixed => Format::VdiFixed,
            Kind::Differencing => Format::VdiDifferencing,
        },
        sector_size: 512,
        identity: Identity {
            disk_id: Some(header.id).filter(|id| !id.is_nil()),
            ..Identity::default()
        },
        warnings: Vec::new(),
    };
    let mut properties = vec![Property::new("modification_id", Value::Id(header.modified))];
    properties.extend(parent.iter().flat_map(ParentLink::properties));
    let absent = match parent {
        Some(_) => Place::Parent,
        None => Place::Zeros,
    };
    let layer = Blocks {
        image,
        header,
        table,
        places,
        absent,
        properties,
    };
    Ok(Opened::of_one_file(layer, facts, parent))
}

impl Blocks {
    /// Refuses many entries that are a hole of the file: 0 is the first block, and no other.
    fn check_hole(&self, entries: Range<u64>) -> Result<()> {
        let count = entries.end.saturating_sub(entries.start);
        if count < MANY || !self.table.is_hole(&entries)? {
            return Ok(());
        }
        let at = entries.start.saturating_mul(4);
        Err(Error::damaged(format!(
            "the block table of the VDI is a hole of the file, which says of {count} blocks from {} on that they are the first one",
            entries.start
        ))
        .at_offset(self.header.table_offset.saturating_add(at)))
    }

    /// Refuses a block that is said to lie where one beside it does, as zeros over a part of the table say: one of them is not there.
    fn check_alone(&self, block: u64, entry: u64, beside: [Option<u64>; 2]) -> Result<()> {
        let is_place = entry != u64::from(FREE) && entry != u64::from(ZERO);
        if !is_place || !beside.contains(&Some(entry)) {
            return Ok(());
        }
        let at = block.saturating_mul(4);
        Err(Error::damaged(format!(
            "block {block} of the VDI and the one beside it are both said to be number {entry} of the file"
        ))
        .at_offset(self.header.table_offset.saturating_add(at)))
    }

    /// Where `part` of `block`, of which `bytes` belong to the disk, is.
    fn place(&self, block: u64, entry: u64, part: u64, bytes: u64) -> Result<Place> {
        if entry == u64::from(FREE) {
            return Ok(self.absent);
        }
        if entry == u64::from(ZERO) {
            return Ok(Place::Zeros);
        }
        let extra = u64::from(self.header.block_extra);
        let stride = u64::from(self.header.block_size).saturating_add(extra);
        let data = entry
            .saturating_mul(stride)
            .saturating_add(self.header.data_offset)
            .saturating_add(extra);
        self.places.check(block, data, bytes)?;
        Ok(Place::Image(data.saturating_add(part)))
    }
}

impl Layer for Blocks {
    fn size(&self) -> u64 {
        self.header.disk_size
    }

    fn block_size(&self) -> u64 {
        self.header.block_size.into()
    }

    fn image(&self) -> &dyn ReadAt {
        &*self.image
    }

    fn runs(&self, range: Range<u64>, detail: Detail) -> Result<Runs> {
        let size = self.block_size();
        let mut runs = Runs::default();
        let mut at = range.start;
        while at < range.end {
            let first = at.checked_div(size).unwrap_or(0);
            let end = range.end.div_ceil(size).min(first.saturating_add(STEP));
            if detail == Detail::Rough {
                self.check_hole(first..end)?;
            }
            let around = first.saturating_sub(1)..self.header.entries.min(end.saturating_add(1));
            let entries = self.table.entries(around.clone())?;
            let entry_of = |block: u64| {
                let index = usize::try_from(block.checked_sub(around.start)?).ok()?;
                entries.get(index).copied()
            };
            for block in first..end {
                let entry = entry_of(block);
                let entry =
                    entry.ok_or_else(|| Error::damaged("a block of the VDI has no entry"))?;
                let before = block.checked_sub(1).and_then(entry_of);
                self.check_alone(block, entry, [before, entry_of(block.saturating_add(1))])?;
                let start = block.saturating_mul(size);
                let bytes = size.min(self.header.disk_size.saturating_sub(start));
                let next = start.saturating_add(bytes).min(range.end);
                let place = self.place(block, entry, at.saturating_sub(start), bytes)?;
                runs.push(next.saturating_sub(at), place);
                at = next;
            }
        }
        Ok(runs)
    }

    fn properties(&self) -> Vec<Property> {
        self.properties.clone()
    }

    fn check(&self, check: &mut Check<'_>) -> Result<()> {
        super::check::check(&self.image, &self.header, check)
    }
}
