//! What lies where on an encrypted volume ("Virtual sector(s)"): its beginning is kept elsewhere, what BitLocker keeps for itself reads as zeros, and of the rest all or a part
//! is encrypted.

use super::conversion::Conversion;
use super::header::{Header, Layout};
use super::metadata::{Metadata, State};
use crate::volume::Note;
use cairn_base::read_at::joined;
use cairn_base::{Error, Result};
use std::ops::Range;

/// Bytes at the beginning of Vista's volumes that are not encrypted.
const VISTA_PLAIN: u64 = 0x2000;

/// How a piece is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// As zeros.
    Zeros,
    /// As it lies there.
    Plain,
    /// Decrypted.
    Encrypted,
    /// The first sector of Vista: as it lies there, but for two fields.
    Patched,
    /// Not at all: nothing tells whether it is encrypted.
    Untold,
}

/// A piece of the decrypted volume. Its ends are multiples of the sector size, but for those that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub how: How,
    /// Where it lies on the device, in bytes.
    pub place: u64,
    /// Not 0.
    pub length: u64,
}

/// The beginning of the volume.
enum Head {
    /// So many bytes are kept there.
    Kept { length: u64, place: u64 },
    /// Vista's lies where it is.
    Vista,
}

/// How much is encrypted.
enum Extent {
    All,
    Nothing,
    Before(u64),
    Chunks(Conversion),
}

/// Where everything lies.
pub(super) struct Regions {
    size: u64,
    sector: u64,
    head: Head,
    /// What BitLocker keeps for itself; ascending, not overlapping.
    own: Vec<Range<u64>>,
    extent: Extent,
}

/// The next multiple of `unit`, which is not 0.
pub(super) fn rounded_up(bytes: u64, unit: u64) -> u64 {
    bytes.checked_next_multiple_of(unit).unwrap_or(u64::MAX)
}

impl Regions {
    /// Of a volume of `size` bytes; a last sector that is not whole is not counted.
    ///
    /// # Errors
    /// Damaged if something lies where it cannot, unsupported if the volume's state is not known.
    pub fn new(
        size: u64,
        header: &Header,
        metadata: &Metadata,
        conversion: Option<Conversion>,
    ) -> Result<Regions> {
        let sector = header.sector_size;
        let size = size.saturating_sub(size.checked_rem(sector).unwrap_or(0));
        let mut own: Vec<Range<u64>> = Vec::new();
        let area = header.metadata_area(metadata.version);
        for offset in metadata.offsets {
            own.push(offset..offset.saturating_add(area));
        }
        let head = match metadata.beginning(sector)? {
            None => Head::Vista,
            Some(kept) => {
                let (place, length) = (kept.start, kept.end.saturating_sub(kept.start));
                if kept.end > size || length > size {
                    let what = "the beginning of the BitLocker volume is kept beyond its end";
                    return Err(Error::damaged(what).at_offset(place));
                }
                own.push(kept);
                Head::Kept { length, place }
            }
        };
        if metadata.state == State::ConvertingDirty && metadata.log > 0 {
            let start = metadata.encrypted;
            own.push(start..start.saturating_add(rounded_up(metadata.log, sector)));
        }
        if let Some(conversion) = &conversion {
            let up = |place: &Range<u64>| place.start..rounded_up(place.end, sector);
            own.extend(conversion.places.iter().map(up));
        }
        let odd = |offset: &u64| !offset.is_multiple_of(sector);
        let ends = own.iter().flat_map(|range| [range.start, range.end]);
        if let Some(offset) = ends.chain([metadata.encrypted]).find(odd) {
            let what = "a region of the BitLocker volume does not begin with a sector";
            return Err(Error::damaged(what).at_offset(offset));
        }
        let extent = match (conversion, metadata.state, metadata.encrypted) {
            (_, State::Unknown(number), _) => {
                let what =
                    format!("the BitLocker volume is in a state ({number}) that is not known");
                return Err(Error::unsupported(what));
            }
            (_, State::Decrypted, _) => Extent::Nothing,
            (Some(conversion), _, _) => Extent::Chunks(conversion),
            (None, _, 0) => Extent::All,
            (None, _, before) => Extent::Before(before),
        };
        let own = joined(own);
        Ok(Regions {
            size,
            sector,
            head,
            own,
            extent,
        })
    }

    /// Bytes of the volume.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of a sector.
    pub fn sector(&self) -> u64 {
        self.sector
    }

    /// Bytes at the volume's beginning that lie elsewhere.
    pub fn moved(&self) -> u64 {
        match self.head {
            Head::Kept { length, .. } => length,
            Head::Vista => 0,
        }
    }

    /// What is to be told of the map of what is encrypted, if there is one.
    pub fn notes(&self) -> &[Note] {
        match &self.extent {
            Extent::Chunks(conversion) => &conversion.notes,
            Extent::All | Extent::Nothing | Extent::Before(_) => &[],
        }
    }

    /// How many bytes from the beginning on are encrypted, where it is not all of them.
    pub fn encrypted_before(&self) -> Option<u64> {
        match self.extent {
            Extent::Before(end) => (end < self.size).then_some(end),
            Extent::Nothing => Some(0),
            Extent::All | Extent::Chunks(_) => None,
        }
    }

    /// The piece that begins at `offset`, and ends at `end` at most. `offset` must be below it, and `end` not beyond the volume.
    pub fn piece(&self, offset: u64, end: u64) -> Piece {
        match self.head {
            Head::Kept { length, place } if offset < length => {
                let length = length.min(end).saturating_sub(offset);
                let place = place.saturating_add(offset);
                self.by_extent(place, place.saturating_add(length))
            }
            Head::Vista if offset < VISTA_PLAIN => {
                let (how, until) = if offset < self.sector {
                    (How::Patched, self.sector)
                } else {
                    (How::Plain, VISTA_PLAIN.max(self.sector))
                };
                made(how, offset, until.min(end))
            }
            _ => {
                let next = self.own.partition_point(|range| range.end <= offset);
                match self.own.get(next) {
                    Some(range) if range.start <= offset => {
                        made(How::Zeros, offset, range.end.min(end))
                    }
                    Some(range) => self.by_extent(offset, range.start.min(end)),
                    None => self.by_extent(offset, end),
                }
            }
        }
    }

    fn by_extent(&self, place: u64, end: u64) -> Piece {
        match &self.extent {
            Extent::All => made(How::Encrypted, place, end),
            Extent::Nothing => made(How::Plain, place, end),
            Extent::Before(limit) if place < *limit => made(How::Encrypted, place, end.min(*limit)),
            Extent::Before(_) => made(How::Plain, place, end),
            Extent::Chunks(conversion) => match conversion.at(place, end) {
                (Some(true), end) => made(How::Encrypted, place, end),
                (Some(false), end) => made(How::Plain, place, end),
                (None, end) => made(How::Untold, place, end),
            },
        }
    }
}

fn made(how: How, place: u64, end: u64) -> Piece {
    Piece {
        how,
        place,
        // Whatever the tables say, who reads piece by piece comes to an end.
        length: end.saturating_sub(place).max(1),
    }
}

/// Whether a layout is Vista's, whose metadata are of version 1.
pub(super) fn fits(layout: Layout, version: u16) -> bool {
    (layout == Layout::Vista) == (version == 1)
}
