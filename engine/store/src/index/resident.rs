//! The part of a block that look-ups touch whether or not the chunk is there: fences and filter, 80 KiB, of a map as they lie;
//! where there is no map a bounded number of them is held in memory.

use crate::cache::Cache;
use crate::index::block;
use crate::index::page::{self, PAGE_LEN, PageName};
use cairn_base::Result;
use std::sync::{Arc, LazyLock};

/// Bytes of fences and filters that this process holds of all segments that are not mapped: of 21 million chunks.
const MAX_HELD: usize = 28 << 20;
/// The same of pages of pack tables: 127 packs each.
const MAX_TABLES: usize = 4 << 20;

/// One opened segment and one of its blocks, or one of its pages.
pub type Key = (u64, u64);

static HELD: LazyLock<Cache<Key, Loaded>> = LazyLock::new(|| Cache::new(MAX_HELD));
static TABLES: LazyLock<Cache<Key, Vec<u8>>> = LazyLock::new(|| Cache::new(MAX_TABLES));

/// Fences and filter of a block, in memory.
pub struct Loaded {
    bytes: Vec<u8>,
    fences: bool,
    filter: bool,
}

enum Bytes<'a> {
    InPlace(&'a [u8]),
    Loaded(Arc<Loaded>),
}

/// Fences and filter of a block, as far as they are good.
pub struct Resident<'a> {
    bytes: Bytes<'a>,
    fences: bool,
    filter: bool,
}

/// Which of them are good. `bytes` are the page of fences `name` and what follows.
pub fn check(bytes: &[u8], name: PageName) -> (bool, bool) {
    let (page, rest) = bytes.split_at(bytes.len().min(PAGE_LEN));
    let fences = page::check(page, name).is_ok();
    let filter = fences
        && block::filter_record(page)
            .is_some_and(|record| rest.get(..record.length()).is_some_and(|f| record.check(f)));
    (fences, filter)
}

impl<'a> Resident<'a> {
    /// Of a map; which parts are good is known.
    pub fn in_place(bytes: &'a [u8], fences: bool, filter: bool) -> Resident<'a> {
        Resident {
            bytes: Bytes::InPlace(bytes),
            fences,
            filter,
        }
    }

    /// From what this process holds, or else by `load`, which gives the bytes. What cannot be read counts as damaged.
    pub fn held(
        key: Key,
        name: PageName,
        load: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Resident<'static> {
        let weigh = |loaded: Arc<Loaded>| {
            let weight = loaded.bytes.len();
            (loaded, weight)
        };
        let loaded = HELD.get(&key, weigh).or_else(|| {
            let bytes = load().ok()?;
            let (fences, filter) = check(&bytes, name);
            let loaded = Arc::new(Loaded {
                bytes,
                fences,
                filter,
            });
            HELD.insert(key, loaded.clone(), loaded.bytes.len());
            Some(loaded)
        });
        match loaded {
            Some(loaded) => Resident {
                fences: loaded.fences,
                filter: loaded.filter,
                bytes: Bytes::Loaded(loaded),
            },
            None => Resident::in_place(&[], false, false),
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::InPlace(bytes) => bytes,
            Bytes::Loaded(loaded) => &loaded.bytes,
        }
    }

    /// Fence `number`; `None` if they are damaged.
    pub fn fence(&self, number: u64) -> Option<u64> {
        self.fences
            .then(|| block::fence(self.bytes(), number))
            .flatten()
    }

    /// Whether the block may hold `key`: always, if its filter is damaged.
    pub fn may_hold(&self, key: u64) -> bool {
        if !self.filter {
            return true;
        }
        let Some((page, rest)) = self.bytes().split_at_checked(PAGE_LEN) else {
            return true;
        };
        block::filter_record(page).is_none_or(|record| {
            rest.get(..record.length())
                .is_none_or(|prints| record.may_hold(prints, key))
        })
    }
}

/// A page of a pack table from what this process holds, or else by `load`, which gives it checked.
///
/// # Errors
/// Those of `load`.
pub fn held_table(key: Key, load: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<Vec<u8>>> {
    if let Some(page) = TABLES.get(&key, |page| (page, PAGE_LEN)) {
        return Ok(page);
    }
    let page = Arc::new(load()?);
    TABLES.insert(key, page.clone(), PAGE_LEN);
    Ok(page)
}
