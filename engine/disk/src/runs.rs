//! Where the bytes of a range of a virtual disk lie in its image: few, large, contiguous runs.

use crate::bits::Bits;
use std::ops::{ControlFlow, Range};

/// Where a piece of a virtual disk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: it is zeros.
    Zeros,
    /// From this offset of the image on.
    Image(u64),
    /// In the parent of a differencing disk, at the same offset of the disk.
    Parent,
    /// Somewhere. Only where no more was asked than what may hold data.
    Somewhere,
}

/// A piece of a virtual disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Bytes.
    pub(crate) length: u64,
    /// Where they lie.
    pub(crate) place: Place,
}

/// The pieces of one range in order, neighbours joined.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<Run>);

/// How exactly pieces are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// For reading.
    Exact,
    /// To know what may hold data: few pieces, with little reading.
    Rough,
}

/// A block of which so many pieces lie here and there counts as one piece where rough ones will do.
const ROUGH_PIECES: usize = 64;

impl Runs {
    /// Appends a piece; joins it with the last where both are of one kind or it goes on where that ends.
    pub(crate) fn push(&mut self, length: u64, place: Place) {
        if length == 0 {
            return;
        }
        if let Some(last) = self.0.last_mut() {
            let goes_on = match (last.place, place) {
                (Place::Image(before), Place::Image(after)) => {
                    before.checked_add(last.length) == Some(after)
                }
                (before, after) => before == after,
            };
            if goes_on {
                last.length = last.length.saturating_add(length);
                return;
            }
        }
        self.0.push(Run { length, place });
    }

    /// Appends the bytes `part` of a block whose first byte lies at `data` of the image: sectors of `sector` bytes
    /// whose bit in `bits` is set lie there, the others at `clear`.
    pub(crate) fn push_sectors(
        &mut self,
        bits: &Bits<'_>,
        part: &Range<u64>,
        sector: u64,
        (data, clear): (u64, Place),
        detail: Detail,
    ) {
        let mut pieces = Runs::default();
        let first = part.start.checked_div(sector).unwrap_or(0);
        let sectors = first..part.end.div_ceil(sector.max(1));
        bits.runs(sectors, |first, count, set| {
            // Clipped to the part asked for, which need not begin or end with a sector.
            let from = first.saturating_mul(sector).max(part.start);
            let to = first.saturating_add(count).saturating_mul(sector);
            let length = to.min(part.end).saturating_sub(from);
            let place = if set {
                Place::Image(data.saturating_add(from))
            } else {
                clear
            };
            pieces.push(length, place);
            // One more than would be kept says as much as all of them.
            match detail == Detail::Rough && pieces.0.len() > ROUGH_PIECES {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        if detail == Detail::Rough && pieces.0.len() > ROUGH_PIECES {
            self.push(part.end.saturating_sub(part.start), Place::Somewhere);
            return;
        }
        for piece in pieces.0 {
            self.push(piece.length, piece.place);
        }
    }

    /// The pieces.
    pub(crate) fn pieces(&self) -> &[Run] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::Order;

    fn run(length: u64, place: Place) -> Run {
        Run { length, place }
    }

    #[test]
    fn neighbours_become_one_piece() {
        let mut runs = Runs::default();
        for (length, place) in [
            (2, Place::Zeros),
            (3, Place::Zeros),
            (0, Place::Image(1)),
            (2, Place::Image(1)),
            (2, Place::Image(3)),
            (1, Place::Image(0)),
            (1, Place::Parent),
            (4, Place::Parent),
        ] {
            runs.push(length, place);
        }
        assert_eq!(
            runs.pieces(),
            [
                run(5, Place::Zeros),
                run(4, Place::Image(1)),
                run(1, Place::Image(0)),
                run(5, Place::Parent)
            ]
        );
    }

    #[test]
    fn sectors_are_clipped_and_many_pieces_are_one() {
        let bitmap = [0b0101_0101; 32];
        let bits = Bits::new(&bitmap, 0, Order::HighFirst);
        let mut runs = Runs::default();
        let place = (1000, Place::Parent);
        runs.push_sectors(&bits, &(100..1700), 512, place, Detail::Rough);
        assert_eq!(
            runs.pieces(),
            [
                run(412, Place::Parent),
                run(512, Place::Image(1512)),
                run(512, Place::Parent),
                run(164, Place::Image(2536))
            ]
        );
        let all = 0..256 * 512;
        for (detail, pieces) in [(Detail::Rough, 1), (Detail::Exact, 256)] {
            let mut runs = Runs::default();
            runs.push_sectors(&bits, &all, 512, place, detail);
            assert_eq!(runs.pieces().len(), pieces);
            let length: u64 = runs.pieces().iter().map(|run| run.length).sum();
            assert_eq!(length, all.end);
        }
    }
}
