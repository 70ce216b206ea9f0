//! Tables to which more than one entry of the table above leads. Each is about another part of the disk, so none of these can be right; and a walk
//! that followed all entries would take as long as they claim, and not as the file is large.

use cairn_base::units::to_u64;
use cairn_base::{Error, Result};

/// So many are told apart from those that are right.
const MOST: usize = 4096;

/// The places of such tables, ascending.
pub(crate) struct Twice(Vec<u64>);

impl Twice {
    /// Those among all tables of an image of `format`, which lie at `places`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if they are more than 4096.
    pub(crate) fn of(mut places: Vec<u64>, format: &str) -> Result<Twice> {
        places.sort_unstable();
        let groups = places.chunk_by(|one, next| one == next);
        let shared = groups.filter(|group| group.len() > 1);
        let mut count: u64 = 0;
        let mut found = Vec::new();
        for place in shared.filter_map(|group| group.first()) {
            count = count.saturating_add(1);
            if found.len() < MOST {
                found.push(*place);
            }
        }
        match count > to_u64(MOST) {
            true => Err(Error::damaged(format!(
                "{count} tables of the {format} are each said to be about more than one part of the disk"
            ))),
            false => Ok(Twice(found)),
        }
    }

    /// Whether the table at `place` is one of them.
    pub(crate) fn holds(&self, place: u64) -> bool {
        self.0.binary_search(&place).is_ok()
    }

    /// Refuses the table at `place`, which is called `what`, if it is one of them.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged), naming it and its place.
    pub(crate) fn check(&self, what: std::fmt::Arguments<'_>, place: u64) -> Result<()> {
        match self.holds(place) {
            true => Err(Error::damaged(format!(
                "{what} is said to be about more than one part of the disk"
            ))
            .at_offset(place)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_occur_again_are_found() {
        let twice = Twice::of(vec![5, 9, 7, 5, 9, 9, 8], "X").unwrap();
        assert_eq!(twice.0, [5, 9]);
        assert!(twice.holds(5) && !twice.holds(7) && !twice.holds(0));
        let error = twice.check(format_args!("table 3"), 9).unwrap_err();
        assert_eq!(error.offset(), Some(9));
        twice.check(format_args!("table 3"), 8).unwrap();
        assert!(!Twice::of(Vec::new(), "X").unwrap().holds(0));
        let pairs = |count: u64| Twice::of((0..count * 2).map(|at| at / 2).collect(), "X");
        assert!(pairs(4096).is_ok());
        let error = pairs(4097).err().unwrap();
        assert!(error.to_string().contains("4097"), "{error}");
    }
}
