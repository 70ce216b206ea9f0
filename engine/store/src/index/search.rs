//! Searching in something sorted that is dear to look at, from a guess. Keys are halves of hashes, so they lie evenly, and a guess
//! by proportion is off by one page, or a few entries: that is two cache lines instead of nine. Where they do not
//! lie evenly the search takes twice as many steps as one by halves.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use cairn_base::Result;

/// Where `key` lies among `count` places that are spread evenly over `from..to`.
pub fn guess(key: u64, from: u64, to: u64, count: u64) -> u64 {
    let above = u128::from(key.saturating_sub(from));
    let width = u128::from(to.saturating_sub(from));
    above
        .saturating_mul(u128::from(count))
        .checked_div(width)
        .and_then(|place| u64::try_from(place).ok())
        .unwrap_or(0)
}

/// The first of `count` sorted places that is not below what is looked for; `count` if all are. `below` tells of a place whether
/// it is.
///
/// # Errors
/// Those of `below`.
pub fn first_not_below(
    count: u64,
    guess: u64,
    mut below: impl FnMut(u64) -> Result<bool>,
) -> Result<u64> {
    // All before `low` are below, nothing from `high` on is.
    let (mut low, mut high) = (0, count);
    let (mut probe, mut step) = (guess.min(count.saturating_sub(1)), 1u64);
    while low < high {
        if below(probe)? {
            low = probe.saturating_add(1);
            probe = probe.saturating_add(step);
        } else {
            high = probe;
            probe = probe.saturating_sub(step);
        }
        if probe < low || probe >= high {
            // Between two places that were looked at: from here on by halves.
            probe = low.midpoint(high);
        } else {
            step = step.saturating_mul(2);
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_a_plain_search_finds(keys in proptest::collection::vec(0u64..500, 0..300), key in 0u64..510, guess: u64) {
            let mut keys = keys;
            keys.sort_unstable();
            let expected = keys.partition_point(|k| *k < key);
            let mut steps = 0;
            for guess in [guess, guess % 300, super::guess(key, 0, 500, keys.len() as u64)] {
                steps = 0;
                let found = first_not_below(keys.len() as u64, guess, |at| {
                    steps += 1;
                    Ok(keys[at as usize] < key)
                });
                prop_assert_eq!(found.unwrap(), expected as u64);
            }
            prop_assert!(steps <= 24, "{} steps", steps);
        }
    }

    #[test]
    fn guesses_lie_where_they_should() {
        assert_eq!(guess(50, 0, 100, 10), 5);
        assert_eq!(guess(0, 10, 100, 10), 0);
        assert_eq!(guess(5, 5, 5, 10), 0);
        assert_eq!(guess(u64::MAX, 0, u64::MAX, u64::MAX), u64::MAX);
        let failing = first_not_below(3, 1, |_| Err(cairn_base::Error::damaged("x")));
        assert!(failing.is_err());
    }
}
