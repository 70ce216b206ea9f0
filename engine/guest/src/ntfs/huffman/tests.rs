use super::*;
use proptest::prelude::*;

/// The words of a code by the definition: lengths first, then symbols, each the number after the last.
fn words(lengths: &[u8]) -> Vec<(u16, u8, u16)> {
    let mut order: Vec<usize> = (0..lengths.len()).filter(|&at| lengths[at] > 0).collect();
    order.sort_by_key(|&at| (lengths[at], at));
    let (mut word, mut last, mut found) = (0u32, 0u8, Vec::new());
    for symbol in order {
        word <<= lengths[symbol] - last;
        last = lengths[symbol];
        found.push((word as u16, last, symbol as u16));
        word += 1;
    }
    found
}

/// Words put behind each other as the decoder wants them.
fn written(words: &[(u16, u8, u16)]) -> Vec<u8> {
    let mut text = String::new();
    for (word, length, _) in words {
        text.push_str(&format!("{word:0width$b}", width = usize::from(*length)));
    }
    while !text.len().is_multiple_of(16) {
        text.push('0');
    }
    let words = text.as_bytes().chunks(16).map(|bits| {
        let bits = std::str::from_utf8(bits).unwrap();
        u16::from_str_radix(bits, 2).unwrap()
    });
    words.flat_map(u16::to_le_bytes).collect()
}

fn check(lengths: &[u8]) {
    let words = words(lengths);
    let input = written(&words);
    for quick in [1, 6, 11] {
        let code = Code::new(lengths, quick).unwrap();
        let mut bits = Bits::new(&input);
        for (_, _, symbol) in &words {
            assert_eq!(code.symbol(&mut bits).unwrap(), *symbol);
        }
        assert!(!bits.overrun());
    }
}

#[test]
fn every_word_of_a_code_means_its_symbol() {
    check(&[1, 1]);
    check(&[2, 1, 3, 3]);
    check(&[0, 4, 0, 4, 2, 2, 2, 3]);
    // One word of each length, and two of the longest.
    let mut long: Vec<u8> = (1..=16).collect();
    long.push(16);
    check(&long);
    check(&[9; 512]);
}

#[test]
fn codes_that_cannot_be_are_refused() {
    for bad in [&[1u8, 1, 1][..], &[1], &[2, 2, 2], &[17, 1], &[1, 16]] {
        assert!(Code::new(bad, 6).is_err(), "{bad:?}");
    }
    let empty = Code::new(&[0; 20], 6).unwrap();
    assert!(empty.symbol(&mut Bits::new(&[1, 2, 3, 4])).is_err());
}

#[test]
fn repeats_overlap_what_they_write() {
    let mut output = *b"ab..........";
    repeat(&mut output, 2, 2, 7).unwrap();
    assert_eq!(&output, b"ababababa...");
    repeat(&mut output, 9, 1, 3).unwrap();
    assert_eq!(&output, b"ababababaaaa");
    for (filled, distance, length) in [(2, 3, 1), (2, 0, 1), (11, 1, 2), (12, 1, usize::MAX)] {
        assert!(repeat(&mut output, filled, distance, length).is_err());
    }
}

proptest! {
    #[test]
    fn any_code_decodes_anything(
        splits in proptest::collection::vec(any::<u16>(), 0..300),
        input in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        // A code comes from splitting words in two.
        let mut lengths = vec![1u8, 1];
        for split in splits {
            let at = usize::from(split) % lengths.len();
            if lengths[at] < 16 {
                lengths[at] += 1;
                lengths.push(lengths[at]);
            }
        }
        check(&lengths);
        let code = Code::new(&lengths, 10).unwrap();
        let mut bits = Bits::new(&input);
        while !bits.overrun() {
            prop_assert!(usize::from(code.symbol(&mut bits).unwrap()) < lengths.len());
        }
    }

    #[test]
    fn any_lengths_end(lengths in proptest::collection::vec(0u8..19, 0..40)) {
        let _ = Code::new(&lengths, 7);
    }
}
