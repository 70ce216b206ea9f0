//! A page of an overlay's map: where the bytes of 8,192 units are, and its slot in the map's file.

use cairn_base::{Error, Result, View};
use cairn_store::hash::checksum;
use std::ops::Range;

/// Bytes of the disk that are the overlay's own, or the base's, as a whole.
pub(super) const UNIT: u64 = 4096;
/// Units of a page: 32 MiB of the disk.
pub(super) const PAGE_UNITS: u64 = 8192;
/// A slot of a page in the map's file; each page has two.
pub(super) const SLOT_LEN: usize = 4096;
/// Two bits for each unit.
const STATES_LEN: usize = 2048;
/// Where they begin in a slot.
const STATES_AT: usize = 64;
/// Where the checksum stands, at the end of a slot and of a header.
pub(super) const SUM_AT: usize = 4080;
const MAGIC: &[u8; 8] = b"CAIRNOVP";

/// Where the bytes of a unit are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// In the base.
    Base,
    /// In the overlay's own file.
    Own,
    /// Nowhere: they are zeros.
    Zero,
}

impl State {
    fn bits(self) -> u8 {
        match self {
            State::Base => 0,
            State::Own => 1,
            State::Zero => 2,
        }
    }

    fn of_bits(bits: u8) -> Option<State> {
        match bits & 3 {
            0 => Some(State::Base),
            1 => Some(State::Own),
            2 => Some(State::Zero),
            _ => None,
        }
    }

    /// A byte that says it of four units.
    fn of_four(self) -> u8 {
        self.bits() * 0b0101_0101
    }
}

/// The states of a page's units. Most pages are all the same.
#[derive(Debug, Clone)]
pub(super) enum Page {
    All(State),
    Each(Box<[u8; STATES_LEN]>),
}

/// The byte and the shift of a unit of a page.
fn place(unit: u64) -> (usize, u32) {
    let byte = usize::try_from(unit / 4).unwrap_or(usize::MAX);
    (byte, u32::try_from(unit % 4 * 2).unwrap_or(0))
}

impl Page {
    /// The state of unit `unit` of the page.
    pub(super) fn get(&self, unit: u64) -> State {
        match self {
            Page::All(state) => *state,
            Page::Each(states) => {
                let (byte, shift) = place(unit);
                let byte = states.get(byte).copied().unwrap_or(0);
                // Three is refused where pages are decoded, and never made.
                State::of_bits(byte >> shift).unwrap_or(State::Base)
            }
        }
    }

    /// Says of the units `units` of the page where they are.
    pub(super) fn set(&mut self, units: Range<u64>, state: State) {
        if units.start == 0 && units.end >= PAGE_UNITS {
            *self = Page::All(state);
            return;
        }
        if let Page::All(now) = self {
            if *now == state {
                return;
            }
            *self = Page::Each(Box::new([now.of_four(); STATES_LEN]));
        }
        let Page::Each(states) = self else { return };
        for unit in units {
            let (byte, shift) = place(unit);
            if let Some(byte) = states.get_mut(byte) {
                *byte = (*byte & !(3 << shift)) | (state.bits() << shift);
            }
        }
    }

    /// Small again, if all units are the same.
    pub(super) fn shrink(&mut self) {
        let Page::Each(states) = self else { return };
        let first = states[0];
        if let Some(state) = State::of_bits(first)
            && state.of_four() == first
            && states.iter().all(|byte| *byte == first)
        {
            *self = Page::All(state);
        }
    }

    /// The slot of page `number` of the map of overlay `id`.
    pub(super) fn encode(&self, id: &[u8; 16], number: u64, sequence: u64) -> [u8; SLOT_LEN] {
        let mut slot = [0; SLOT_LEN];
        slot[..8].copy_from_slice(MAGIC);
        slot[8..24].copy_from_slice(id);
        slot[24..32].copy_from_slice(&number.to_le_bytes());
        slot[32..40].copy_from_slice(&sequence.to_le_bytes());
        let states = &mut slot[STATES_AT..STATES_AT + STATES_LEN];
        match self {
            Page::All(state) => states.fill(state.of_four()),
            Page::Each(each) => states.copy_from_slice(&each[..]),
        }
        let sum = checksum(&slot[..SUM_AT]);
        slot[SUM_AT..].copy_from_slice(&sum);
        slot
    }

    /// The page in a slot, and its sequence number; `None` if it was never written, or not to its end.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::Kind::Damaged) if what was written to its end is not a page of this map.
    pub(super) fn decode(slot: &[u8], id: &[u8; 16], number: u64) -> Result<Option<(Page, u64)>> {
        let view = View::new(slot, "page of an overlay's map", 0);
        let (Ok(bytes), Ok(sum)) = (view.slice(0, SUM_AT), view.array::<16>(SUM_AT)) else {
            return Ok(None);
        };
        if checksum(bytes) != sum {
            return Ok(None);
        }
        if view.array::<8>(0)? != *MAGIC
            || view.array::<16>(8)? != *id
            || view.u64_le(24)? != number
        {
            return Err(view.damaged(0, "it belongs elsewhere"));
        }
        let states = view.array::<STATES_LEN>(STATES_AT)?;
        if let Some(at) = states
            .iter()
            .position(|byte| byte & (byte >> 1) & 0x55 != 0)
        {
            return Err(view.damaged(STATES_AT.saturating_add(at), "unknown state of a unit"));
        }
        let mut page = Page::Each(Box::new(states));
        page.shrink();
        Ok(Some((page, view.u64_le(32)?)))
    }
}

/// A page as it was last written: the newer of its two slots, and which that is.
///
/// # Errors
/// [`Kind::Damaged`](crate::Kind::Damaged) as [`Page::decode`] says, and if neither slot is whole although the page was written before.
pub(super) fn newest(
    slots: &[u8],
    id: &[u8; 16],
    number: u64,
) -> Result<Option<(Page, u64, usize)>> {
    let (first, second) = slots
        .split_at_checked(SLOT_LEN)
        .ok_or_else(|| Error::damaged("a page of an overlay's map is cut short"))?;
    let mut found: Option<(Page, u64, usize)> = None;
    for (at, slot) in [first, second].into_iter().enumerate() {
        if let Some((page, sequence)) = Page::decode(slot, id, number)?
            && found.as_ref().is_none_or(|(_, best, _)| sequence > *best)
        {
            found = Some((page, sequence, at));
        }
    }
    // The first slot is written first, and never both at a time: so one of them is whole from then on.
    if found.is_none() && second.iter().any(|byte| *byte != 0) {
        return Err(Error::damaged(
            "both copies of a page of an overlay's map are damaged",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use proptest::prelude::*;

    const ID: [u8; 16] = [7; 16];

    fn state(number: u8) -> State {
        State::of_bits(number % 3).unwrap()
    }

    proptest! {
        #[test]
        fn states_are_kept_and_come_back(
            sets in proptest::collection::vec((0..PAGE_UNITS, 1..PAGE_UNITS, any::<u8>()), 0..20),
        ) {
            let mut page = Page::All(State::Base);
            let mut model = vec![State::Base; PAGE_UNITS as usize];
            for (start, length, number) in sets {
                let end = (start + length).min(PAGE_UNITS);
                page.set(start..end, state(number));
                model[start as usize..end as usize].fill(state(number));
            }
            let slot = page.encode(&ID, 3, 9);
            let (back, sequence) = Page::decode(&slot, &ID, 3).unwrap().unwrap();
            prop_assert_eq!(sequence, 9);
            for (unit, expected) in (0..).zip(model) {
                prop_assert_eq!(page.get(unit), expected);
                prop_assert_eq!(back.get(unit), expected);
            }
        }

        #[test]
        fn no_slot_panics(bytes in proptest::collection::vec(any::<u8>(), 0..SLOT_LEN + 10)) {
            prop_assert!(Page::decode(&bytes, &ID, 0).unwrap().is_none());
        }
    }

    #[test]
    fn bytes_of_a_slot_stay_as_written_down() {
        let mut page = Page::All(State::Base);
        page.set(1..2, State::Own);
        page.set(6..8, State::Zero);
        let slot = page.encode(&ID, 0x0102, 0x0304);
        assert_eq!(&slot[..8], b"CAIRNOVP");
        assert_eq!(slot[8..24], ID);
        assert_eq!(slot[24..32], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(slot[32..40], [4, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(slot[64..67], [0b0000_0100, 0b1010_0000, 0]);
        assert_eq!(slot[4080..], checksum(&slot[..4080]));
    }

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let old = Page::All(State::Own).encode(&ID, 5, 1);
        let mut torn = Page::All(State::Zero).encode(&ID, 5, 2);
        torn[3000] ^= 1;
        let (page, sequence, at) = newest(&[torn, old].concat(), &ID, 5).unwrap().unwrap();
        assert_eq!((page.get(0), sequence, at), (State::Own, 1, 1));
        let whole = Page::All(State::Zero).encode(&ID, 5, 2);
        let (page, sequence, at) = newest(&[whole, old].concat(), &ID, 5).unwrap().unwrap();
        assert_eq!((page.get(0), sequence, at), (State::Zero, 2, 0));
        assert!(newest(&[0; 2 * SLOT_LEN], &ID, 5).unwrap().is_none());
        // The very first one.
        let begun = newest(&[torn, [0; SLOT_LEN]].concat(), &ID, 5).unwrap();
        assert!(begun.is_none());
    }

    #[test]
    fn a_page_without_a_whole_slot_is_damage() {
        let mut slots = [
            Page::All(State::Own).encode(&ID, 5, 1),
            Page::All(State::Zero).encode(&ID, 5, 2),
        ];
        slots[0][3000] ^= 1;
        slots[1][3000] ^= 1;
        let found = newest(&slots.concat(), &ID, 5);
        assert_eq!(found.unwrap_err().kind(), Kind::Damaged);
        let found = newest(&[[0; SLOT_LEN], slots[1]].concat(), &ID, 5);
        assert_eq!(found.unwrap_err().kind(), Kind::Damaged);
    }

    #[test]
    fn what_belongs_elsewhere_is_damage() {
        let slot = Page::All(State::Own).encode(&ID, 5, 1);
        assert_eq!(
            Page::decode(&slot, &ID, 6).unwrap_err().kind(),
            Kind::Damaged
        );
        assert_eq!(
            Page::decode(&slot, &[8; 16], 5).unwrap_err().kind(),
            Kind::Damaged
        );
        let mut unknown = slot;
        unknown[STATES_AT] = 0b1100;
        let sum = checksum(&unknown[..SUM_AT]);
        unknown[SUM_AT..].copy_from_slice(&sum);
        assert_eq!(
            Page::decode(&unknown, &ID, 5).unwrap_err().kind(),
            Kind::Damaged
        );
    }
}
