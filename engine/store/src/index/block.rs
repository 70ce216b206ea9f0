//! Blocks: what a segment consists of. A block is up to 503 pages of entries, their fences on one page, and their filter,
//! so that it is written in one piece, and looked at in two places: fences with filter (80 KiB), and one page.
//!
//! Body of the page of fences: the filter's record (40 bytes), then for each page of entries the first 8 bytes of its first
//! prefix. The filter follows, with zeros up to a multiple of 4 KiB. A full block always has the same length.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::index::filter::{FilterRecord, RECORD_LEN, filter_key};
use crate::index::fuse::FuseBuilder;
use crate::index::page::{self, BODY_LEN, PAGE_LEN, PAGE_ROWS, PageKind, PageName};
use crate::index::place::Entry;
use cairn_base::units::to_u64;
use cairn_base::{Error, Result, SegmentId};
use zerocopy::{FromBytes, IntoBytes};

/// Pages of entries in a full block: as many as have their fences on one page.
pub const BLOCK_PAGES: u64 = 503;
const _: () = assert!(RECORD_LEN + 503 * 8 == BODY_LEN);
/// Entries in a full block.
pub const BLOCK_ENTRIES: usize = 503 * PAGE_ROWS;
/// Pages that a filter takes at most.
pub const FILTER_PAGES: u64 = 19;
/// Bytes of a full block.
pub const BLOCK_LEN: u64 = (BLOCK_PAGES + 1 + FILTER_PAGES) * 4096;

/// Where the parts of a segment of so many pages of entries lie. Offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// Pages of entries in the segment.
    pub pages: u64,
}

impl Blocks {
    /// Number of blocks.
    pub fn count(&self) -> u64 {
        self.pages.div_ceil(BLOCK_PAGES)
    }

    /// Pages of entries in block `block`.
    pub fn pages_in(&self, block: u64) -> u64 {
        let before = block.saturating_mul(BLOCK_PAGES);
        self.pages.saturating_sub(before).min(BLOCK_PAGES)
    }

    /// Where page `page` of the entries lies.
    pub fn page_at(&self, page: u64) -> u64 {
        let block = page.checked_div(BLOCK_PAGES).unwrap_or(0);
        let within = page.checked_rem(BLOCK_PAGES).unwrap_or(0);
        block
            .saturating_mul(BLOCK_LEN)
            .saturating_add(within.saturating_mul(to_u64(PAGE_LEN)))
    }

    /// Where the fences of a block lie; its filter follows.
    pub fn fences_at(&self, block: u64) -> u64 {
        let pages = self.pages_in(block).saturating_mul(to_u64(PAGE_LEN));
        block.saturating_mul(BLOCK_LEN).saturating_add(pages)
    }

    /// The least and the greatest length of all blocks together; `None` if no file is that long.
    pub fn length_bounds(&self) -> Option<(u64, u64)> {
        let Some(last) = self.count().checked_sub(1) else {
            return Some((0, 0));
        };
        let parts = self.pages_in(last).checked_add(1)?.checked_mul(4096)?;
        let least = last.checked_mul(BLOCK_LEN)?.checked_add(parts)?;
        Some((least, least.checked_add(FILTER_PAGES.checked_mul(4096)?)?))
    }
}

/// Makes blocks, one after the other, in memory that is used again.
#[derive(Default)]
pub struct BlockBuilder {
    keys: Vec<u64>,
    fuse: FuseBuilder,
}

impl BlockBuilder {
    /// Appends block `block` of a segment to `out`: its pages, fences and filter. The entries are sorted, not empty, and at most
    /// [`BLOCK_ENTRIES`]; only the last block of a segment has fewer.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if no filter can be built.
    pub fn encode(
        &mut self,
        segment: SegmentId,
        block: u64,
        entries: &[Entry],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let start = out.len();
        let mut body = [0; BODY_LEN];
        let (place, fences) = body.split_at_mut(RECORD_LEN);
        let mut number = block.saturating_mul(BLOCK_PAGES);
        for (rows, fence) in entries.chunks(PAGE_ROWS).zip(fences.chunks_exact_mut(8)) {
            let name = PageName {
                segment,
                kind: PageKind::Entries,
                number,
            };
            page::encode(name, rows.len(), rows.as_bytes(), out);
            number = number.saturating_add(1);
            let first = rows.first().map_or(0, |entry| filter_key(&entry.prefix));
            fence.copy_from_slice(&first.to_be_bytes());
        }
        self.keys.clear();
        self.keys
            .extend(entries.iter().map(|e| filter_key(&e.prefix)));
        self.keys.dedup();
        let (shape, prints) = self.fuse.build(&self.keys)?;
        if to_u64(prints.len()) > FILTER_PAGES.saturating_mul(to_u64(PAGE_LEN)) {
            return Err(Error::invalid("an index filter is larger than its place"));
        }
        place.copy_from_slice(FilterRecord::new(shape, prints).as_bytes());
        let name = PageName {
            segment,
            kind: PageKind::Fences,
            number: block,
        };
        page::encode(name, entries.chunks(PAGE_ROWS).len(), &body, out);
        out.extend_from_slice(prints);
        // Where chunks lie in several places there are fewer keys than entries, and the filter is smaller: what follows a full
        // block still begins where every reader looks for it.
        let end = if entries.len() >= BLOCK_ENTRIES {
            start.saturating_add(usize::try_from(BLOCK_LEN).unwrap_or(0))
        } else {
            out.len().next_multiple_of(PAGE_LEN)
        };
        out.resize(end.max(out.len()), 0);
        Ok(())
    }
}

/// The record of the filter on a page of fences that was checked.
pub fn filter_record(page: &[u8]) -> Option<&FilterRecord> {
    let (record, _) = FilterRecord::ref_from_prefix(page::body(page)).ok()?;
    Some(record)
}

/// Fence `number` on a page of fences that was checked: the key of that page's first entry.
pub fn fence(page: &[u8], number: u64) -> Option<u64> {
    let (_, fences) = page::body(page).split_at_checked(RECORD_LEN)?;
    let at = usize::try_from(number).ok()?.checked_mul(8)?;
    let bytes = fences.get(at..at.checked_add(8)?)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::place::Place;
    use cairn_base::PackId;

    fn entries(count: u64) -> Vec<Entry> {
        let place = Place {
            pack: PackId([0; 16]),
            offset: 64,
            stored: 9,
            plain: false,
            at: 0,
            length: 9,
        };
        (0..count)
            .map(|i| {
                let mut prefix = [0; 16];
                prefix[..8].copy_from_slice(&(i * 0x1_0000_0001).to_be_bytes());
                Entry::new(prefix, 0, &place)
            })
            .collect()
    }

    #[test]
    fn a_full_block_has_its_length_and_others_lie_where_they_should() {
        for count in [1u64, 127, 128, 40_000, 63_881] {
            let mut bytes = vec![];
            let mut builder = BlockBuilder::default();
            let segment = SegmentId([1; 16]);
            builder
                .encode(segment, 0, &entries(count), &mut bytes)
                .unwrap();
            let blocks = Blocks {
                pages: count.div_ceil(127),
            };
            let (least, most) = blocks.length_bounds().unwrap();
            let length = to_u64(bytes.len());
            assert!((least..=most).contains(&length));
            assert_eq!(blocks.count(), 1);
            let at = usize::try_from(blocks.fences_at(0)).unwrap();
            let page = &bytes[at..at + PAGE_LEN];
            let name = PageName {
                segment: SegmentId([1; 16]),
                kind: PageKind::Fences,
                number: 0,
            };
            page::check(page, name).unwrap();
            let last = blocks.pages - 1;
            assert_eq!(fence(page, last).unwrap(), last * 127 * 0x1_0000_0001);
            let record = filter_record(page).unwrap();
            let prints = &bytes[at + PAGE_LEN..at + PAGE_LEN + record.length()];
            assert!(record.check(prints));
            if count == 63_881 {
                assert_eq!(length, BLOCK_LEN);
            }
        }
    }

    #[test]
    fn no_filter_of_a_block_is_larger_than_its_place() {
        let keys: Vec<u64> = (0..63_881).collect();
        let mut builder = FuseBuilder::default();
        for count in (1..63_881).step_by(177).chain([44_999, 45_000, 63_881]) {
            let (_, prints) = builder.build(&keys[..count]).unwrap();
            assert!(to_u64(prints.len()) <= FILTER_PAGES * 4096, "{count}");
        }
    }

    #[test]
    fn impossible_sizes_have_no_bounds() {
        assert_eq!(Blocks { pages: 0 }.length_bounds(), Some((0, 0)));
        assert_eq!(Blocks { pages: u64::MAX }.length_bounds(), None);
        let blocks = Blocks { pages: u64::MAX };
        assert_eq!(blocks.page_at(u64::MAX), u64::MAX);
    }
}
