//! What a prune is going to do: which packs nothing needs, and which are worth writing anew.

use crate::index::PackRow;
use crate::index::merge::each_entry;
use crate::index::packs::PackRows;
use crate::prune::mark::Marked;
use cairn_base::{PackId, Result};
use std::collections::{BTreeMap, HashMap, HashSet};

/// How much of a pack is needed. Bytes are plain bytes of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The pack.
    pub row: PackRow,
    /// Entries that the index has for it.
    pub chunks: u64,
    /// Of them, needed.
    pub live_chunks: u64,
    /// Bytes of all chunks.
    pub bytes: u64,
    /// Of them, needed.
    pub live_bytes: u64,
}

impl Usage {
    fn of(row: PackRow) -> Usage {
        Usage {
            row,
            chunks: 0,
            live_chunks: 0,
            bytes: 0,
            live_bytes: 0,
        }
    }

    /// What of the file's length is needed, as far as plain bytes tell, in bytes.
    pub fn live_length(&self) -> u64 {
        let live = u128::from(self.row.length).saturating_mul(u128::from(self.live_bytes));
        let live = live.checked_div(u128::from(self.bytes)).unwrap_or(0);
        u64::try_from(live).unwrap_or(self.row.length)
    }

    /// What of the file's length nothing needs, in bytes.
    pub fn waste(&self) -> u64 {
        self.row.length.saturating_sub(self.live_length())
    }
}

/// How much of each pack that look-ups answer is needed, and how many entries there are of each that they do not answer.
pub type Usages = (BTreeMap<PackId, Usage>, HashMap<PackId, u64>);

/// Counts for each pack what of it is needed. Reads the index once, in its order; 80 bytes of memory a pack.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a part of the index cannot be read: then nothing may be deleted.
pub fn usage(marked: &Marked) -> Result<Usages> {
    let index = marked.index();
    let mut packs: BTreeMap<PackId, Usage> = BTreeMap::new();
    let mut hidden: HashMap<PackId, u64> = HashMap::new();
    for (number, segment) in index.segments().iter().enumerate() {
        let mut rows = Vec::new();
        for row in PackRows::new(segment) {
            rows.push(Usage::of(row?));
        }
        let mut entry_number = 0u64;
        each_entry(segment, &mut |entry| {
            let at = usize::try_from(entry.pack_number()).unwrap_or(usize::MAX);
            if let Some(usage) = rows.get_mut(at) {
                let live = u64::from(marked.has(number, entry_number));
                let length = u64::from(entry.chunk_length());
                usage.chunks = usage.chunks.saturating_add(1);
                usage.live_chunks = usage.live_chunks.saturating_add(live);
                usage.bytes = usage.bytes.saturating_add(length);
                usage.live_bytes = usage.live_bytes.saturating_add(live.saturating_mul(length));
            }
            entry_number = entry_number.saturating_add(1);
        })?;
        for usage in rows {
            if index.hidden().contains(&usage.row.id) {
                let entries = hidden.entry(usage.row.id).or_default();
                *entries = entries.saturating_add(usage.chunks);
                continue;
            }
            let sum = packs.entry(usage.row.id).or_insert(Usage::of(usage.row));
            sum.chunks = sum.chunks.saturating_add(usage.chunks);
            sum.live_chunks = sum.live_chunks.saturating_add(usage.live_chunks);
            sum.bytes = sum.bytes.saturating_add(usage.bytes);
            sum.live_bytes = sum.live_bytes.saturating_add(usage.live_bytes);
        }
    }
    Ok((packs, hidden))
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Packs that nothing needs.
    pub dead: Vec<Usage>,
    /// Packs of which little is needed: that is copied, the emptiest first.
    pub rewrite: Vec<Usage>,
    /// What of all packs is needed, in bytes of files.
    pub live: u64,
    /// What nothing needs and stays all the same.
    pub waste_left: u64,
}

/// Decides. Packs of `exempt` are left alone. Packs are written anew, the emptiest first, until what nothing needs is at most `max_unused`
/// thousandths of what is needed, or `max_rewrite` bytes would be copied.
pub fn plan(
    packs: &BTreeMap<PackId, Usage>,
    exempt: &HashSet<PackId>,
    max_unused: u64,
    max_rewrite: u64,
) -> Plan {
    let mut plan = Plan::default();
    let mut partial = Vec::new();
    for usage in packs.values() {
        plan.live = plan.live.saturating_add(usage.live_length());
        if exempt.contains(&usage.row.id) {
            continue;
        }
        if usage.live_chunks == 0 {
            plan.dead.push(*usage);
        } else if usage.waste() > 0 {
            plan.waste_left = plan.waste_left.saturating_add(usage.waste());
            partial.push(*usage);
        }
    }
    // By the share that is needed; shares are compared without dividing.
    partial.sort_by(|a, b| {
        let left = u128::from(a.live_bytes).saturating_mul(u128::from(b.bytes));
        let right = u128::from(b.live_bytes).saturating_mul(u128::from(a.bytes));
        left.cmp(&right).then(a.row.id.cmp(&b.row.id))
    });
    let allowed = u128::from(plan.live).saturating_mul(u128::from(max_unused)) / 1000;
    let allowed = u64::try_from(allowed).unwrap_or(u64::MAX);
    let mut copied = 0u64;
    for usage in partial {
        copied = copied.saturating_add(usage.live_length());
        if plan.waste_left <= allowed || copied > max_rewrite {
            break;
        }
        plan.waste_left = plan.waste_left.saturating_sub(usage.waste());
        plan.rewrite.push(usage);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::PackKind;
    use proptest::prelude::*;

    fn pack(id: u8, length: u64, bytes: u64, live_bytes: u64) -> (PackId, Usage) {
        let id = PackId([id; 16]);
        let row = PackRow {
            id,
            length,
            kind: PackKind::Data,
        };
        let usage = Usage {
            row,
            chunks: bytes,
            live_chunks: live_bytes,
            bytes,
            live_bytes,
        };
        (id, usage)
    }

    #[test]
    fn the_emptiest_are_written_anew_until_little_is_wasted() {
        let packs = BTreeMap::from([
            pack(1, 1000, 2000, 0),
            pack(2, 1000, 2000, 200),
            pack(3, 1000, 2000, 1000),
            pack(4, 1000, 2000, 1980),
            pack(5, 1000, 2000, 2000),
        ]);
        let ids = |list: &[Usage]| list.iter().map(|u| u.row.id.0[0]).collect::<Vec<_>>();
        let all = plan(&packs, &HashSet::new(), 0, u64::MAX);
        assert_eq!(
            (ids(&all.dead), ids(&all.rewrite)),
            (vec![1], vec![2, 3, 4])
        );
        assert_eq!((all.live, all.waste_left), (100 + 500 + 990 + 1000, 0));
        let some = plan(&packs, &HashSet::new(), 50, u64::MAX);
        assert_eq!((ids(&some.rewrite), some.waste_left), (vec![2, 3], 10));
        let bounded = plan(&packs, &HashSet::new(), 0, 599);
        assert_eq!((ids(&bounded.rewrite), bounded.waste_left), (vec![2], 510));
        let exempt = HashSet::from([PackId([1; 16]), PackId([2; 16])]);
        let without = plan(&packs, &exempt, 0, u64::MAX);
        assert_eq!(
            (ids(&without.dead), ids(&without.rewrite)),
            (vec![], vec![3, 4])
        );
    }

    proptest! {
        #[test]
        fn what_is_left_is_within_what_is_allowed(
            shares in proptest::collection::vec((1u64..1 << 27, 0u64..=100), 0..60),
            max_unused in 0u64..300,
        ) {
            let packs: BTreeMap<_, _> = (0u8..).zip(&shares)
                .map(|(id, (length, share))| pack(id, *length, 100, *share))
                .collect();
            let plan = plan(&packs, &HashSet::new(), max_unused, u64::MAX);
            prop_assert!(u128::from(plan.waste_left) * 1000 <= u128::from(plan.live) * u128::from(max_unused));
            prop_assert_eq!(plan.dead.len(), shares.iter().filter(|(_, share)| *share == 0).count());
        }
    }
}
