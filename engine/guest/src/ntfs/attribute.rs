//! Attribute headers, resident and non-resident.

use super::cluster::Vcn;
use super::run_list::RunList;
use crate::volume::Reading;
use cairn_base::{Error, Result, View};
use std::ops::Range;

/// Attribute types (`$AttrDef`).
pub mod kind {
    /// `$STANDARD_INFORMATION`.
    pub const STANDARD_INFORMATION: u32 = 0x10;
    /// `$ATTRIBUTE_LIST`.
    pub const ATTRIBUTE_LIST: u32 = 0x20;
    /// `$FILE_NAME`.
    pub const FILE_NAME: u32 = 0x30;
    /// `$OBJECT_ID`.
    pub const OBJECT_ID: u32 = 0x40;
    /// `$SECURITY_DESCRIPTOR`.
    pub const SECURITY_DESCRIPTOR: u32 = 0x50;
    /// `$VOLUME_NAME`.
    pub const VOLUME_NAME: u32 = 0x60;
    /// `$VOLUME_INFORMATION`.
    pub const VOLUME_INFORMATION: u32 = 0x70;
    /// `$DATA`.
    pub const DATA: u32 = 0x80;
    /// `$INDEX_ROOT`.
    pub const INDEX_ROOT: u32 = 0x90;
    /// `$INDEX_ALLOCATION`.
    pub const INDEX_ALLOCATION: u32 = 0xA0;
    /// `$BITMAP`.
    pub const BITMAP: u32 = 0xB0;
    /// `$REPARSE_POINT`.
    pub const REPARSE_POINT: u32 = 0xC0;
    /// `$EA`.
    pub const EA: u32 = 0xE0;
    /// Ends the attributes of a record.
    pub const END: u32 = 0xFFFF_FFFF;
}

/// The method in the low byte of the flags: 0 none, 1 LZNT1.
pub const FLAG_COMPRESSION_MASK: u16 = 0x00FF;
/// The stream is encrypted (EFS).
pub const FLAG_ENCRYPTED: u16 = 0x4000;
/// The stream may have holes.
pub const FLAG_SPARSE: u16 = 0x8000;

/// One attribute of a record, its header decoded.
#[derive(Debug, Clone)]
pub struct Attribute {
    /// One of [`kind`].
    pub kind: u32,
    /// Empty for most.
    pub name: Vec<u16>,
    /// Compressed, encrypted, sparse.
    pub flags: u16,
    /// Unique in its record.
    pub id: u16,
    /// Where the value is.
    pub body: Body,
}

/// Where an attribute's value is.
#[derive(Debug, Clone)]
pub enum Body {
    /// In the record itself, at these bytes of it.
    Resident(Range<usize>),
    /// In clusters.
    NonResident(NonResident),
}

/// The header of an attribute in clusters, or of one part of it.
#[derive(Debug, Clone)]
pub struct NonResident {
    /// First cluster of the attribute that this part maps.
    pub first: Vcn,
    /// Last cluster that this part maps; -1 if none.
    pub last: i64,
    /// The encoded runs, as bytes of the record.
    pub runs: Range<usize>,
    /// Binary logarithm of the clusters of a compression unit; 0 if not compressed.
    pub unit: u8,
    /// Sizes; only the part with `first` 0 has them.
    pub sizes: Sizes,
}

/// The lengths of an attribute in clusters, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes {
    /// Reserved for it, holes included.
    pub allocated: u64,
    /// Of its content.
    pub data: u64,
    /// From here on it reads as zeros, whatever the clusters hold.
    pub initialized: u64,
    /// Really occupied, for compressed and sparse streams.
    pub compressed: Option<u64>,
}

impl Attribute {
    /// Decodes the attribute in `view`, which is cut to its length and lies at `start` of its record.
    pub fn parse(view: View<'_>, start: usize) -> Result<Attribute> {
        let kind = view.u32_le(0)?;
        let name_length = usize::from(view.u8(9)?);
        let flags = view.u16_le(12)?;
        let name = if name_length == 0 {
            Vec::new()
        } else {
            units(view.slice(usize::from(view.u16_le(10)?), name_length.saturating_mul(2))?)
        };
        let body = if view.u8(8)? == 0 {
            let length = usize::try_from(view.u32_le(16)?).unwrap_or(usize::MAX);
            let offset = usize::from(view.u16_le(20)?);
            view.slice(offset, length)?;
            let from = start.saturating_add(offset);
            Body::Resident(from..from.saturating_add(length))
        } else {
            Body::NonResident(non_resident(view, start, flags)?)
        };
        Ok(Attribute {
            kind,
            name,
            flags,
            id: view.u16_le(14)?,
            body,
        })
    }

    /// Whether this is the whole attribute or its first part, the one that knows the sizes.
    pub fn is_first(&self) -> bool {
        match &self.body {
            Body::Resident(_) => true,
            Body::NonResident(body) => body.first == Vcn(0),
        }
    }

    /// Length of the content in bytes; meaningful for the first part.
    pub fn size(&self) -> u64 {
        match &self.body {
            Body::Resident(range) => cairn_base::units::to_u64(range.len()),
            Body::NonResident(body) => body.sizes.data,
        }
    }

    /// How its content is read from its clusters; meaningful for the first part.
    pub fn reading(&self) -> Reading {
        let packed = self.flags & (FLAG_COMPRESSION_MASK | FLAG_ENCRYPTED);
        let (valid, unit) = match &self.body {
            Body::Resident(range) => (cairn_base::units::to_u64(range.len()), 0),
            Body::NonResident(body) => (body.sizes.initialized, body.unit),
        };
        // The unit matters to what is compressed only.
        let unit = if packed & FLAG_COMPRESSION_MASK == 0 {
            0
        } else {
            unit
        };
        Reading {
            valid,
            packing: u32::from_be_bytes([0, unit, 0, 0]) | u32::from(packed),
        }
    }

    /// Bytes occupied on the volume outside the file table.
    pub fn allocated(&self) -> u64 {
        match &self.body {
            Body::Resident(_) => 0,
            Body::NonResident(body) => body.sizes.compressed.unwrap_or(body.sizes.allocated),
        }
    }
}

impl NonResident {
    /// Appends this part's runs to `list`; `record` is the record the attribute lies in.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the part does not continue the list or maps another number
    /// of clusters than it says.
    pub fn append_to(&self, list: &mut RunList, record: View<'_>) -> Result<()> {
        if list.end() != self.first {
            return Err(Error::damaged(format!(
                "a stream's parts do not join: one ends at cluster {}, the next begins at {}",
                list.end().0,
                self.first.0
            )));
        }
        list.decode(record.part(self.runs.start, self.runs.len(), "run list")?)?;
        let end = i64::try_from(list.end().0).unwrap_or(i64::MAX);
        // Some writers leave the last cluster 0 in an attribute of one part.
        if self.last != 0 && self.last.checked_add(1) != Some(end) {
            return Err(Error::damaged(format!(
                "a run list ends at cluster {end} where its attribute says {}",
                self.last
            )));
        }
        Ok(())
    }
}

fn non_resident(view: View<'_>, start: usize, flags: u16) -> Result<NonResident> {
    let runs = usize::from(view.u16_le(32)?);
    if runs < 64 || runs > view.len() {
        return Err(view.damaged(32, "the run list lies outside the attribute"));
    }
    let first = Vcn(view.u64_le(16)?);
    let unit = view.u8(34)?;
    let sizes = if first == Vcn(0) {
        // The field exists only in compressed and sparse streams; else a name may stand in its place.
        let room = view.u8(9)? == 0 || view.u16_le(10)? >= 72;
        let packed = flags & (FLAG_COMPRESSION_MASK | FLAG_SPARSE) != 0 && runs >= 72 && room;
        Sizes {
            allocated: view.u64_le(40)?,
            data: view.u64_le(48)?,
            initialized: view.u64_le(56)?,
            compressed: if packed { Some(view.u64_le(64)?) } else { None },
        }
    } else {
        Sizes::default()
    };
    if sizes.data > i64::MAX.unsigned_abs() {
        return Err(view.damaged(48, "negative size"));
    }
    Ok(NonResident {
        first,
        last: view.i64_le(24)?,
        runs: start.saturating_add(runs)..start.saturating_add(view.len()),
        unit,
        sizes,
    })
}

/// Bytes as UTF-16 units.
pub fn units(bytes: &[u8]) -> Vec<u16> {
    bytes
        .chunks_exact(2)
        .filter_map(|pair| Some(u16::from_le_bytes(pair.try_into().ok()?)))
        .collect()
}
