use super::*;
use cairn_base::Silent;
use proptest::prelude::*;

/// What `find_with` says of blocks at `places`, each of `length` units of 512 bytes, in a file of `units`: overlaps and free bytes.
fn found(bits: u64, units: u64, length: u64, places: &[u64]) -> (u64, u64, Vec<String>) {
    let mut check = Check::new(&Silent);
    let parts = [(0..512, "the header")];
    let territory = Territory {
        size: units * 512,
        unit: 512,
        parts: &parts,
    };
    let free = find_with(bits, &mut check, &territory, |claims, _| {
        for (number, place) in (0..).zip(places) {
            let range = place * 512..(place + length) * 512;
            claims.add(Owner::Numbered("block", number), range, 4 * number);
        }
        Ok(())
    })
    .unwrap();
    let counts = check.counts().iter().map(|count| count.found);
    let words = check.findings().iter();
    let words = words.map(|found| format!("{} {}", found.offset.unwrap(), found.what));
    (counts.sum(), free, words.collect())
}

#[test]
fn both_of_an_overlap_are_named() {
    let (count, free, words) = found(BITS, 20, 3, &[1, 7, 9, 16]);
    assert_eq!((count, free), (1, (20 - 1 - 3 - 5 - 3) * 512));
    assert_eq!(
        words,
        ["8 block 2 and block 1 share bytes of the file: block 2 lies at byte 4608"]
    );
    let (count, _, words) = found(BITS, 20, 3, &[0]);
    assert_eq!(count, 1);
    assert!(words[0].contains("block 0 and the header"), "{words:?}");
    let (count, _, words) = found(BITS, 20, 3, &[5; 100]);
    assert_eq!((count, to_u64(words.len())), (99, KEPT));
}

#[test]
fn parts_over_parts_are_found_and_spare_room_is_not_free() {
    let mut check = Check::new(&Silent);
    let parts = [(0..1000, "the header"), (900..2000, "the table")];
    let territory = Territory {
        size: 4096,
        unit: 512,
        parts: &parts,
    };
    let free = find_overlaps(&mut check, &territory, |claims, _| {
        claims.spare(2048..3072);
        claims.add(Owner::Part("the rest"), 2560..3072, 0);
        Ok(())
    });
    assert_eq!(free.unwrap(), 1024);
    let [found] = check.findings() else { panic!() };
    assert_eq!(
        found.what,
        "the header and the table share bytes of the file"
    );
}

/// What is said of two blocks in one place if the walk with this number, counted from 1, ends behind the first `until` of them.
fn interrupted(walk: u32, until: usize) -> Vec<String> {
    let mut check = Check::new(&Silent);
    let parts = [(0..512, "the header")];
    let territory = Territory {
        size: 200 * 512,
        unit: 512,
        parts: &parts,
    };
    let walks = std::cell::Cell::new(0);
    let outcome = find_with(128, &mut check, &territory, |claims, _| {
        walks.set(walks.get() + 1);
        for (number, at) in (0u64..).zip([5u64, 5, 150]) {
            if walks.get() == walk && number == until as u64 {
                return Err(cairn_base::Error::interrupted());
            }
            claims.add(
                Owner::Numbered("block", number),
                at * 512..(at + 1) * 512,
                4 * number,
            );
        }
        Ok(())
    });
    assert_eq!(outcome.unwrap_err().kind(), cairn_base::Kind::Interrupted);
    let words = check.findings().iter().map(|found| found.what.clone());
    words.collect()
}

#[test]
fn what_was_found_is_told_although_a_later_walk_ends_early() {
    let named = "block 1 and block 0 share bytes of the file: block 1 lies at byte 2560";
    let nameless = "block 1 at byte 2560 shares bytes of the file with something else";
    // 200 units with 128 bits are four walks, and a fifth for the names.
    assert!(interrupted(1, 1).is_empty());
    assert_eq!(interrupted(1, 2), [nameless]);
    assert_eq!(interrupted(2, 0), [nameless]);
    assert_eq!(interrupted(5, 0), [nameless]);
    assert_eq!(interrupted(5, 2), [named]);
}

proptest! {
    /// However few bits there are, the same is found as with one bit for each unit, and as by comparing all pairs.
    #[test]
    fn passes_find_what_one_pass_finds(
        places in proptest::collection::vec(1u64..1000, 0..40),
        length in 1u64..20,
        bits in prop_oneof![Just(64u64), Just(128), Just(192), Just(1024)],
    ) {
        let units = 1020;
        let (count, free, words) = found(bits, units, length, &places);
        let mut taken = vec![false; 1020];
        taken[0] = true;
        let mut expected = 0;
        for (index, place) in places.iter().enumerate() {
            expected += u64::from(places[..index].iter().any(|other| place.abs_diff(*other) < length));
            taken[usize::try_from(*place).unwrap()..][..usize::try_from(length).unwrap()].fill(true);
        }
        prop_assert_eq!(count, expected);
        prop_assert_eq!(free, 512 * to_u64(taken.iter().filter(|taken| !**taken).count()));
        prop_assert!(words.iter().all(|word| word.contains(" and block ")), "{:?}", words);
    }
}
