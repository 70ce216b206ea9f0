//! An unlocked volume as bytes, on which any file system can lie.

use super::cipher::SectorCipher;
use super::regions::{How, Piece, Regions};
use cairn_base::read_at::{check_range, clip};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use std::ops::Range;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes of a sector, at most.
const MAX_SECTOR: usize = 4096;
/// Pieces that are looked at, and ranges of data that are told, when it is asked where data are; what comes behind them is told as data. A map of what is encrypted on
/// write may have some hundred million pieces.
const MAX_PIECES: usize = 1 << 16;

/// The decrypted bytes of a volume. Reads go straight into the caller's buffer and are decrypted there, by any number of threads, without a lock and without memory of
/// their own but for a sector or two.
pub(super) struct Reader {
    pub device: Arc<dyn ReadAt>,
    pub regions: Regions,
    /// None if nothing is encrypted.
    pub cipher: Option<SectorCipher>,
    /// What the first sector of Vista's volumes has instead of the place of BitLocker's metadata: the cluster of the MFT's mirror.
    pub mirror: u64,
}

impl Reader {
    /// Reads a piece, which ends where `buffer` does.
    fn read(&self, piece: Piece, offset: u64, buffer: &mut [u8]) -> Result<()> {
        match piece.how {
            How::Zeros => buffer.fill(0),
            How::Plain => self.device.read_exact_at(piece.place, buffer)?,
            How::Encrypted => self.decrypt(piece.place, buffer)?,
            How::Untold => {
                let what = "BitLocker's map of what is encrypted does not tell of this place";
                return Err(Error::damaged(what).at_offset(piece.place));
            }
            How::Patched => {
                self.device.read_exact_at(piece.place, buffer)?;
                let fields: [(u64, &[u8]); 2] =
                    [(3, b"NTFS    "), (56, &self.mirror.to_le_bytes())];
                for (at, field) in fields {
                    for (place, byte) in (at..).zip(field) {
                        let place = place.checked_sub(offset);
                        let place = place.and_then(|place| usize::try_from(place).ok());
                        if let Some(to) = place.and_then(|place| buffer.get_mut(place)) {
                            *to = *byte;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads what lies at `place` of the device and is encrypted.
    fn decrypt(&self, mut place: u64, mut buffer: &mut [u8]) -> Result<()> {
        let Some(cipher) = &self.cipher else {
            return Err(Error::damaged("there is no key for what is encrypted").at_offset(place));
        };
        let unit = self.regions.sector();
        let length = usize::try_from(unit).unwrap_or(MAX_SECTOR).min(MAX_SECTOR);
        while !buffer.is_empty() {
            let skipped = place.checked_rem(unit).unwrap_or(0);
            let sectors = buffer
                .len()
                .saturating_sub(buffer.len().checked_rem(length).unwrap_or(0));
            if skipped == 0 && sectors > 0 {
                let (whole, rest) = buffer.split_at_mut(sectors);
                self.device.read_exact_at(place, whole)?;
                cipher.decrypt(place, whole);
                (buffer, place) = (rest, place.saturating_add(to_u64(sectors)));
                continue;
            }
            let mut room = Zeroizing::new([0u8; MAX_SECTOR]);
            let sector = room.get_mut(..length).unwrap_or_default();
            let start = place.saturating_sub(skipped);
            self.device.read_exact_at(start, sector)?;
            cipher.decrypt(start, sector);
            let skipped = usize::try_from(skipped).unwrap_or(0);
            let found = sector.get(skipped..).unwrap_or_default();
            let count = found.len().min(buffer.len());
            let (head, rest) = buffer.split_at_mut(count);
            for (to, from) in head.iter_mut().zip(found) {
                *to = *from;
            }
            (buffer, place) = (rest, place.saturating_add(to_u64(count)));
            if count == 0 {
                return Err(Error::damaged("a sector has no bytes").at_offset(place));
            }
        }
        Ok(())
    }

    /// The pieces of a range.
    pub fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = (u64, Piece)> {
        let range = clip(range, self.regions.size());
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let piece = self.regions.piece(at, range.end);
            let found = (at, piece);
            at = at.saturating_add(piece.length);
            Some(found)
        })
    }
}

/// Adds what lies behind the others, to the last one where they touch.
fn add(data: &mut Vec<Range<u64>>, range: Range<u64>) {
    match data.last_mut() {
        Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
        _ if range.is_empty() => {}
        _ => data.push(range),
    }
}

impl ReadAt for Reader {
    fn size(&self) -> u64 {
        self.regions.size()
    }

    fn read_exact_at(&self, offset: u64, mut buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        let range = offset..offset.saturating_add(to_u64(buffer.len()));
        for (at, piece) in self.pieces(range) {
            let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
            let (head, rest) = buffer.split_at_mut(length.min(buffer.len()));
            self.read(piece, at, head)?;
            buffer = rest;
        }
        Ok(())
    }

    /// What is encrypted is data, holes of the device too: zeros there are no zeros any more when they are decrypted.
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size());
        let mut data = Vec::new();
        for (number, (at, piece)) in self.pieces(range.clone()).enumerate() {
            if number.max(data.len()) >= MAX_PIECES {
                add(&mut data, at..range.end);
                break;
            }
            match piece.how {
                How::Zeros => {}
                How::Encrypted | How::Patched | How::Untold => {
                    add(&mut data, at..at.saturating_add(piece.length));
                }
                How::Plain => {
                    let end = piece.place.saturating_add(piece.length);
                    for found in self.device.data_extents(piece.place..end)? {
                        let shown =
                            |place: u64| at.saturating_add(place.saturating_sub(piece.place));
                        add(&mut data, shown(found.start)..shown(found.end));
                    }
                }
            }
        }
        Ok(data)
    }

    fn will_need(&self, range: Range<u64>) {
        let moved = self.regions.moved();
        let range = clip(range, self.size());
        if range.start < moved {
            let piece = self.regions.piece(range.start, range.end.min(moved));
            self.device
                .will_need(piece.place..piece.place.saturating_add(piece.length));
        }
        if range.end > moved {
            self.device.will_need(range.start.max(moved)..range.end);
        }
    }
}
