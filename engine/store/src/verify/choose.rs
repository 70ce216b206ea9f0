//! Which packs a verification reads.

use crate::index::PackRow;
use crate::proof::Proofs;
use crate::verify::options::{Depth, Pick, VerifyOptions};
use cairn_base::ids::random;
use cairn_base::{PackId, Result, Time};
use std::collections::HashSet;

/// The packs to be read, in order, and the seed by which they were drawn, if they were.
pub struct Chosen {
    /// In the order in which they are read.
    pub rows: Vec<PackRow>,
    /// What decided.
    pub seed: Option<u64>,
    /// Packs that were not met before and are not read now: their turn comes behind what waits already.
    pub met: Vec<PackId>,
}

/// Of the live packs `rows`, those that are due and picked. A `suspect` pack, of which damage is known, is always due.
///
/// # Errors
/// If the operating system has no randomness to give.
pub fn choose(
    rows: &[PackRow],
    proofs: &Proofs,
    suspects: &HashSet<PackId>,
    options: &VerifyOptions,
    now: Time,
) -> Result<Chosen> {
    let deep = options.depth == Depth::Deep;
    let proven = |row: &PackRow| {
        let proof = proofs.of(row.id, deep, now);
        proof.filter(|_| !suspects.contains(&row.id))
    };
    let is_due = |row: &&PackRow| match options.since {
        Some(since) => proven(row).is_none_or(|time| time < since),
        None => true,
    };
    let mut due: Vec<PackRow> = rows.iter().filter(is_due).copied().collect();
    let mut chosen_seed = None;
    let mut met = Vec::new();
    match options.pick {
        Pick::All => {}
        Pick::Sample { share, seed } => {
            let seed = match seed {
                Some(seed) => seed,
                None => u64::from_le_bytes(random()?),
            };
            chosen_seed = Some(seed);
            due.sort_by_cached_key(|row| lot(seed, row.id));
            let wanted = u128::from(bytes(&due)) * u128::from(share.min(MILLION));
            let wanted = wanted.div_ceil(u128::from(MILLION));
            up_to(&mut due, u64::try_from(wanted).unwrap_or(u64::MAX));
        }
        Pick::Slice(parts) => {
            // Packs that are known to be bad are read too, each time, and take no other one's turn.
            let (bad, mut good): (Vec<PackRow>, Vec<PackRow>) =
                due.into_iter().partition(|row| suspects.contains(&row.id));
            let wanted = bytes(rows).div_ceil(u64::from(parts.get()));
            let waits = |row: &PackRow| proofs.waits_since(row.id, deep, now);
            let is_new = |row: &PackRow| waits(row).is_none();
            // If all are, none is: then there was no slice before.
            let some_wait = rows.iter().any(|row| !is_new(row));
            let (mut new, mut old): (Vec<PackRow>, Vec<PackRow>) =
                good.drain(..).partition(|row| some_wait && is_new(row));
            // What was only met in a run goes before what was read in it.
            old.sort_by_key(|row| (waits(row), proven(row).is_some(), row.id));
            new.sort_by_key(|row| row.id);
            // What is new is read at once, but takes nobody's turn: so what was there comes to its own within so many runs.
            let all_new = rows.iter().filter(|row| is_new(row));
            met = all_new.map(|row| row.id).collect();
            up_to(&mut old, wanted);
            up_to(&mut new, wanted);
            due = new;
            due.extend(old);
            due.extend(bad);
            let read: HashSet<PackId> = due.iter().map(|row| row.id).collect();
            met.retain(|id| !read.contains(id));
        }
    }
    Ok(Chosen {
        rows: due,
        seed: chosen_seed,
        met,
    })
}

const MILLION: u32 = 1_000_000;

fn bytes(rows: &[PackRow]) -> u64 {
    rows.iter().map(|row| row.length).sum()
}

/// Leaves as many from the front as have `wanted` bytes together, one at least.
fn up_to(rows: &mut Vec<PackRow>, wanted: u64) {
    let mut sum = 0u64;
    rows.retain(|row| {
        let before = sum;
        sum = sum.saturating_add(row.length);
        before < wanted.max(1)
    });
}

/// A pack's lot: another order for every seed.
fn lot(seed: u64, pack: PackId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&pack.0);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::PackKind;
    use std::num::NonZeroU32;

    fn rows(count: u8) -> Vec<PackRow> {
        let row = |n: u8| PackRow {
            id: PackId([n; 16]),
            length: 100,
            kind: PackKind::Data,
        };
        (0..count).map(row).collect()
    }

    fn numbers(rows: &[PackRow]) -> Vec<u8> {
        rows.iter().map(|row| row.id.0[0]).collect()
    }

    fn at(seconds: i64) -> Time {
        Time::from_seconds(seconds)
    }

    fn pick(rows: &[PackRow], proofs: &Proofs, options: VerifyOptions) -> Vec<u8> {
        let chosen = choose(rows, proofs, &HashSet::new(), &options, at(1000)).unwrap();
        numbers(&chosen.rows)
    }

    #[test]
    fn since_leaves_out_what_was_proven_in_the_same_way() {
        let rows = rows(5);
        let mut proofs = Proofs::default();
        proofs.prove(rows[1].id, at(100), true);
        proofs.prove(rows[2].id, at(500), true);
        proofs.prove(rows[3].id, at(500), false);
        proofs.prove(rows[4].id, at(5000), true);
        let mut options = VerifyOptions {
            since: Some(at(500)),
            ..VerifyOptions::default()
        };
        assert_eq!(pick(&rows, &proofs, options), [0, 1, 4]);
        options.depth = Depth::Deep;
        assert_eq!(pick(&rows, &proofs, options), [0, 1, 3, 4]);
        let suspects = HashSet::from([rows[2].id]);
        let chosen = choose(&rows, &proofs, &suspects, &options, at(1000)).unwrap();
        assert_eq!(numbers(&chosen.rows), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_sample_has_its_share_and_follows_from_its_seed() {
        let rows = rows(200);
        let options = |share, seed| VerifyOptions {
            pick: Pick::Sample { share, seed },
            ..VerifyOptions::default()
        };
        let none = Proofs::default();
        let sample = |share, seed| pick(&rows, &none, options(share, Some(seed)));
        assert_eq!(sample(50_000, 1).len(), 10);
        assert_eq!(sample(50_000, 1), sample(50_000, 1));
        assert_ne!(sample(50_000, 1), sample(50_000, 2));
        assert_eq!(sample(1, 1).len(), 1);
        assert_eq!(sample(1_000_000, 1).len(), 200);
        let drawn = || {
            let chosen = choose(&rows, &none, &HashSet::new(), &options(50_000, None), at(0));
            chosen.unwrap().seed.unwrap()
        };
        assert_ne!(drawn(), drawn());
        assert!(pick(&[], &none, options(50_000, Some(1))).is_empty());
    }

    #[test]
    fn n_slices_read_every_pack_once_the_oldest_first() {
        for parts in [1, 3, 7, 20, 1000] {
            let rows = rows(20);
            let mut proofs = Proofs::default();
            let options = VerifyOptions {
                pick: Pick::Slice(NonZeroU32::new(parts).unwrap()),
                ..VerifyOptions::default()
            };
            let mut read: Vec<u8> = Vec::new();
            for night in 0..i64::from(parts) {
                let none = HashSet::new();
                let chosen = choose(&rows, &proofs, &none, &options, at(night)).unwrap();
                let slice = numbers(&chosen.rows);
                let met = chosen.met.iter();
                met.for_each(|pack| proofs.meet(*pack, at(night)));
                if read.len() < 20 {
                    read.extend(&slice);
                }
                for number in slice {
                    proofs.prove(PackId([number; 16]), at(night), false);
                }
            }
            read.truncate(20);
            read.sort_unstable();
            assert_eq!(read, (0..20).collect::<Vec<u8>>(), "{parts}");
        }
        // What is new comes first, and takes nobody's turn.
        let mut proofs = Proofs::default();
        let rows = rows(10);
        for row in &rows[..9] {
            proofs.prove(row.id, at(100 - i64::from(row.id.0[0])), false);
        }
        let options = VerifyOptions {
            pick: Pick::Slice(NonZeroU32::new(5).unwrap()),
            ..VerifyOptions::default()
        };
        assert_eq!(pick(&rows, &proofs, options), [9, 8, 7]);
    }

    /// Packs come each night, small ones become a large one, and whenever one begins to count, as many nights later as there are slices
    /// everything was read that was there and still is.
    #[test]
    fn n_slices_read_what_was_there_whatever_comes() {
        for (parts, coming) in [(3u32, 1u8), (5, 2), (7, 4), (7, 0)] {
            let mut rows = rows(40);
            let mut proofs = Proofs::default();
            let options = VerifyOptions {
                pick: Pick::Slice(NonZeroU32::new(parts).unwrap()),
                ..VerifyOptions::default()
            };
            let mut nights: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            for night in 1..i64::from(parts) * 4 {
                let there = numbers(&rows);
                let now = at(night);
                let chosen = choose(&rows, &proofs, &HashSet::new(), &options, now).unwrap();
                let most = 2 * bytes(&rows).div_ceil(u64::from(parts)) + 1000;
                assert!(bytes(&chosen.rows) <= most, "{parts} {night}");
                chosen.met.iter().for_each(|pack| proofs.meet(*pack, now));
                for row in &chosen.rows {
                    proofs.prove(row.id, now, false);
                }
                nights.push((there, numbers(&chosen.rows)));
                for _ in 0..coming {
                    let id = rows.iter().map(|row| row.id.0[0]).max().unwrap() + 1;
                    let row = rows[0];
                    let id = PackId([id; 16]);
                    rows.push(PackRow { id, ..row });
                }
                if night % 3 == 0 && coming > 0 {
                    let place = usize::try_from(night).unwrap() % (rows.len() - 2);
                    let length = rows[place].length + rows[place + 1].length;
                    let id = rows.iter().map(|row| row.id.0[0]).max().unwrap() + 1;
                    let id = PackId([id; 16]);
                    let row = PackRow {
                        id,
                        length,
                        ..rows[0]
                    };
                    rows.drain(place..place + 2);
                    rows.push(row);
                }
                proofs.retain(|pack| rows.iter().any(|row| row.id == *pack));
            }
            for window in nights.windows(parts as usize) {
                let read: HashSet<u8> = window.iter().flat_map(|(_, read)| read.clone()).collect();
                let last = &window[window.len() - 1].0;
                let lasting = window[0].0.iter().filter(|pack| last.contains(pack));
                for pack in lasting {
                    assert!(read.contains(pack), "{parts} {coming}: {pack}");
                }
            }
        }
    }
}
