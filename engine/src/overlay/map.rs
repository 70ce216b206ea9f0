//! An overlay's map: pages that are read when they are first needed, changed in memory, and written back.

use super::page::{PAGE_UNITS, Page, SLOT_LEN, State, UNIT, newest};
use super::scratch::Scratch;
use cairn_base::Result;
use cairn_base::units::to_u64;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Pages in memory at most, about 2 KiB each: changed ones up to half of that, then they are written back.
const MAX_PAGES: usize = 16 << 10;
/// Length of the header before the first page.
pub(super) const HEAD_LEN: u64 = 4096;

/// Where the bytes of a disk's units are.
pub(super) struct Map {
    file: Arc<dyn Scratch>,
    id: [u8; 16],
    pages: Mutex<Pages>,
    max_pages: usize,
}

#[derive(Default)]
struct Pages {
    entries: HashMap<u64, Entry>,
    changed: usize,
}

struct Entry {
    page: Page,
    /// Which slot holds it as it was last written, and its number there; 0 if it never was.
    slot: usize,
    sequence: u64,
    /// Counts the changes.
    version: u64,
    is_changed: bool,
}

/// A changed page, as it was when it was looked at.
pub(super) struct Changed {
    number: u64,
    page: Page,
    version: u64,
    slot: usize,
    sequence: u64,
}

/// The parts of `units` page by page: the page's number, and its units.
fn by_page(units: Range<u64>) -> impl Iterator<Item = (u64, Range<u64>)> {
    let mut next = units.start;
    std::iter::from_fn(move || {
        if next >= units.end {
            return None;
        }
        let number = next / PAGE_UNITS;
        let first = number.saturating_mul(PAGE_UNITS);
        let end = units.end.min(first.saturating_add(PAGE_UNITS));
        let inside = next - first..end - first;
        next = end;
        Some((number, inside))
    })
}

/// Length of the file of the map of a disk of `size` bytes.
pub(super) fn file_length(size: u64) -> u64 {
    offset(size.div_ceil(UNIT).div_ceil(PAGE_UNITS), 0)
}

fn offset(number: u64, slot: usize) -> u64 {
    let slots = number.saturating_mul(2).saturating_add(to_u64(slot));
    HEAD_LEN.saturating_add(slots.saturating_mul(to_u64(SLOT_LEN)))
}

impl Map {
    pub(super) fn new(file: Arc<dyn Scratch>, id: [u8; 16]) -> Map {
        Map {
            file,
            id,
            pages: Mutex::default(),
            max_pages: MAX_PAGES,
        }
    }

    /// The same map with less memory.
    #[cfg(test)]
    pub(super) fn with_max_pages(mut self, max_pages: usize) -> Map {
        self.max_pages = max_pages;
        self
    }

    #[cfg(test)]
    pub(super) fn file(&self) -> &Arc<dyn Scratch> {
        &self.file
    }

    #[cfg(test)]
    pub(super) fn id(&self) -> [u8; 16] {
        self.id
    }

    fn load(&self, number: u64) -> Result<Entry> {
        let mut slots = vec![0; 2 * SLOT_LEN];
        self.file.read(offset(number, 0), &mut slots)?;
        let (page, sequence, slot) =
            newest(&slots, &self.id, number)?.unwrap_or((Page::All(State::Base), 0, 1));
        Ok(Entry {
            page,
            slot,
            sequence,
            version: 0,
            is_changed: false,
        })
    }

    fn entry<'a>(&self, pages: &'a mut Pages, number: u64) -> Result<&'a mut Entry> {
        use std::collections::hash_map::Entry as Place;
        if !pages.entries.contains_key(&number) && pages.entries.len() >= self.max_pages {
            pages.entries.retain(|_, entry| entry.is_changed);
        }
        match pages.entries.entry(number) {
            Place::Occupied(found) => Ok(found.into_mut()),
            Place::Vacant(empty) => Ok(empty.insert(self.load(number)?)),
        }
    }

    /// Where the units `units` are, in order, each run as long as can be.
    ///
    /// # Errors
    /// As the map's file reports.
    pub(super) fn runs(&self, units: Range<u64>) -> Result<Vec<(Range<u64>, State)>> {
        let mut runs: Vec<(Range<u64>, State)> = Vec::new();
        let mut push = |units: Range<u64>, state: State| match runs.last_mut() {
            Some((last, same)) if *same == state => last.end = units.end,
            _ => runs.push((units, state)),
        };
        let mut pages = self.pages.lock();
        for (number, inside) in by_page(units) {
            let first = number.saturating_mul(PAGE_UNITS);
            let entry = self.entry(&mut pages, number)?;
            if let Page::All(state) = entry.page {
                push(first + inside.start..first + inside.end, state);
                continue;
            }
            for unit in inside {
                push(first + unit..first + unit + 1, entry.page.get(unit));
            }
        }
        Ok(runs)
    }

    /// Where one unit is.
    ///
    /// # Errors
    /// As the map's file reports.
    pub(super) fn state(&self, unit: u64) -> Result<State> {
        let mut pages = self.pages.lock();
        let entry = self.entry(&mut pages, unit / PAGE_UNITS)?;
        Ok(entry.page.get(unit % PAGE_UNITS))
    }

    /// Says of units where they are from now on.
    ///
    /// # Errors
    /// As the map's file reports; then some of the pages may have been changed.
    pub(super) fn set(&self, units: Range<u64>, state: State) -> Result<()> {
        let mut pages = self.pages.lock();
        for (number, inside) in by_page(units) {
            let entry = self.entry(&mut pages, number)?;
            if matches!(entry.page, Page::All(now) if now == state) {
                continue;
            }
            entry.page.set(inside, state);
            entry.version += 1;
            if !entry.is_changed {
                entry.is_changed = true;
                pages.changed += 1;
            }
        }
        Ok(())
    }

    /// Whether so many pages are changed that they should be written back.
    pub(super) fn is_full(&self) -> bool {
        self.pages.lock().changed > self.max_pages / 2
    }

    /// The changed pages as they are now.
    pub(super) fn changed(&self) -> Vec<Changed> {
        let mut pages = self.pages.lock();
        let changed = pages.entries.iter_mut().filter(|(_, e)| e.is_changed);
        changed
            .map(|(number, entry)| {
                entry.page.shrink();
                Changed {
                    number: *number,
                    page: entry.page.clone(),
                    version: entry.version,
                    slot: 1 - entry.slot.min(1),
                    sequence: entry.sequence.saturating_add(1),
                }
            })
            .collect()
    }

    /// Writes pages beside what they were before. One caller at a time, from [`changed`](Map::changed) to [`settle`](Map::settle).
    ///
    /// # Errors
    /// As the map's file reports.
    pub(super) fn write(&self, changed: &[Changed]) -> Result<()> {
        for page in changed {
            let slot = page.page.encode(&self.id, page.number, page.sequence);
            self.file.write(offset(page.number, page.slot), &slot)?;
        }
        Ok(())
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// As the map's file reports.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync()
    }

    /// Takes note that pages stand in the file.
    pub(super) fn settle(&self, changed: &[Changed]) {
        let mut pages = self.pages.lock();
        let mut settled = 0;
        for page in changed {
            let Some(entry) = pages.entries.get_mut(&page.number) else {
                continue;
            };
            (entry.slot, entry.sequence) = (page.slot, page.sequence);
            if entry.version == page.version {
                entry.is_changed = false;
                settled += 1;
            }
        }
        pages.changed = pages.changed.saturating_sub(settled);
    }
}
