//! What keeps a check from following claims for longer than the file is large: L2 tables to which one L1 table leads twice, and how much of
//! tables is looked at.

use super::user::{Owner, Use, Visitor};
use crate::align::to_usize;
use crate::check::Topic;
use cairn_base::Result;
use cairn_base::units::to_u64;
use std::cell::Cell;

/// Of the L2 tables of all snapshots so much is looked at, however small the file is.
const LEAST_SHARED: u64 = 1 << 30;

/// The clusters of a file to which more than one entry of an L1 table leads. Each entry is about another part of the disk.
pub(super) struct Again {
    /// Their numbers, ascending.
    clusters: Vec<u32>,
    /// A bit for each: an entry that leads there was seen.
    seen: Vec<u64>,
}

impl Again {
    /// Those among `clusters`, of which there are at most 4 Mi: 16 MiB.
    pub(super) fn among(mut clusters: Vec<u32>) -> Again {
        clusters.sort_unstable();
        let groups = clusters.chunk_by(|one, next| one == next);
        let groups = groups.filter(|group| group.len() > 1);
        let clusters: Vec<u32> = groups.filter_map(|group| group.first().copied()).collect();
        Again {
            seen: vec![0; clusters.len().div_ceil(64)],
            clusters,
        }
    }

    /// An entry leads to `cluster`: whether another one did before.
    ///
    /// # Errors
    /// None on systems of 64 bits.
    pub(super) fn meets(&mut self, cluster: u64) -> Result<bool> {
        let found = u32::try_from(cluster).ok();
        let found = found.and_then(|cluster| self.clusters.binary_search(&cluster).ok());
        let Some(index) = found else {
            return Ok(false);
        };
        let bit = 1u64 << (to_u64(index) & 63);
        let word = to_usize(to_u64(index) >> 6)?;
        let Some(word) = self.seen.get_mut(word) else {
            return Ok(false);
        };
        let was_seen = *word & bit != 0;
        *word |= bit;
        Ok(was_seen)
    }
}

/// How many bytes of tables of a kind are looked at in one walk, all of them together.
pub(super) struct Budget {
    left: Cell<u64>,
    is_spent: Cell<bool>,
}

impl Budget {
    /// So many bytes.
    pub(super) fn of(bytes: u64) -> Budget {
        Budget {
            left: Cell::new(bytes),
            is_spent: Cell::new(false),
        }
    }

    /// Takes the bytes of one more table; if they are not there any more, `spent` is called the first time, and nothing more is to be looked at.
    pub(super) fn takes(&self, bytes: u64, spent: impl FnOnce()) -> bool {
        let left = self.left.get().checked_sub(bytes);
        if let Some(left) = left.filter(|_| !self.is_spent.get()) {
            self.left.set(left);
            return true;
        }
        if !self.is_spent.replace(true) {
            spent();
        }
        false
    }

    /// Whether a table was not looked at.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent.get()
    }
}

/// What of the tables of snapshots is looked at.
pub(super) struct Budgets {
    l1: Budget,
    l2: Budget,
}

impl Budgets {
    /// Those of a file of `size` bytes. Each snapshot has an L1 table of its own, so together they are smaller; L2 tables may be shared, and looked
    /// at for each snapshot.
    pub(super) fn of(size: u64) -> Budgets {
        Budgets {
            l1: Budget::of(size),
            l2: Budget::of(size.max(LEAST_SHARED)),
        }
    }

    /// Whether the L1 table `owner` of so many bytes, as is written at `written_at`, is looked at; the first one that is not is a fault.
    pub(super) fn take_l1(
        &self,
        owner: Owner,
        bytes: u64,
        written_at: u64,
        visitor: &mut dyn Visitor,
    ) -> bool {
        self.l1.takes(bytes, || {
            visitor.wrong(Topic::Overlap, written_at, &|| {
                format!("{owner} and those of the snapshots before it are larger together than the file: it and what follows is not looked at")
            });
        })
    }

    /// Whether the L2 table `owner` is looked at; the first one that is not is remarked.
    pub(super) fn take_l2(
        &self,
        owner: Owner,
        bytes: u64,
        written_at: u64,
        visitor: &mut dyn Visitor,
    ) -> bool {
        self.l2.takes(bytes, || {
            visitor.passed_over(written_at, &|| {
                format!("{owner} and those of the snapshots before it are too large together: it and what follows is not looked at, and what only these refer to may be called leaked")
            });
        })
    }

    /// Whether a table was not looked at.
    pub(super) fn is_spent(&self) -> bool {
        self.l1.is_spent() || self.l2.is_spent()
    }
}

/// Looks at nothing, and asks another visitor whether to stop.
pub(super) struct Quiet<'a>(pub(super) &'a mut dyn Visitor);

impl Visitor for Quiet<'_> {
    fn uses(&mut self, _found: &Use) -> Result<()> {
        Ok(())
    }
    fn wrong(&mut self, _topic: Topic, _written_at: u64, _what: &dyn Fn() -> String) {}
    fn advance(&mut self, _bytes: u64) -> Result<()> {
        self.0.advance(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_is_none_again() {
        let mut again = Again::among(vec![9, 4, 7, 4, 9, 4]);
        let met = [4u64, 9, 7, 4, 4, 9, 7, 1 << 40].map(|at| again.meets(at).unwrap());
        assert_eq!(met, [false, false, false, true, true, true, false, false]);
        // More of them than a word has bits.
        let mut again = Again::among((0..400).map(|at| at / 2).collect());
        assert!((0..200).all(|at| !again.meets(at).unwrap()));
        assert!((0..200).all(|at| again.meets(at).unwrap()));
    }

    #[test]
    fn a_budget_is_spent_once() {
        let budget = Budget::of(10);
        let told = Cell::new(0);
        let takes = |bytes| budget.takes(bytes, || told.set(told.get() + 1));
        assert!(takes(4) && takes(6) && !budget.is_spent());
        assert!(!takes(1) && !takes(0) && budget.is_spent());
        assert_eq!(told.get(), 1);
    }
    #[derive(Default)]
    struct Told(Vec<String>);

    impl Visitor for Told {
        fn uses(&mut self, _found: &Use) -> Result<()> {
            Ok(())
        }
        fn wrong(&mut self, topic: Topic, written_at: u64, what: &dyn Fn() -> String) {
            self.0.push(format!("{topic} {written_at} {}", what()));
        }
        fn passed_over(&mut self, written_at: u64, what: &dyn Fn() -> String) {
            self.0.push(format!("passed over {written_at} {}", what()));
        }
        fn advance(&mut self, _bytes: u64) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn snapshots_have_l1_tables_of_their_own_and_may_share_the_others() {
        let mut told = Told::default();
        let budgets = Budgets::of(100);
        let of = super::super::user::Of;
        for snapshot in 1..=3 {
            let taken = budgets.take_l1(Owner::L1(of(snapshot)), 50, snapshot, &mut told);
            assert_eq!(taken, snapshot < 3);
        }
        assert!(budgets.is_spent());
        assert_eq!(told.0.len(), 1);
        assert!(
            told.0[0].starts_with("overlap 3 the L1 table of snapshot 3"),
            "{:?}",
            told.0
        );
        // Small files have much in common.
        let budgets = Budgets::of(100);
        let mut told = Told::default();
        let mut takes = |bytes| budgets.take_l2(Owner::L2(of(7), 5), bytes, 9, &mut told);
        assert!(takes(LEAST_SHARED) && !takes(1) && !takes(1) && budgets.is_spent());
        assert_eq!(told.0.len(), 1);
        assert!(
            told.0[0].starts_with("passed over 9 L2 table 5 of snapshot 7"),
            "{:?}",
            told.0
        );
    }
}
