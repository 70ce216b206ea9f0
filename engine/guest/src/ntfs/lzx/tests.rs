use super::*;
use proptest::prelude::*;

/// What wimlib 1.13 makes of [`text`].
const TEXT: [u8; 60] = [
    0x16, 0x20, 0x00, 0xf3, 0x00, 0x00, 0x00, 0x00, 0x23, 0x00, 0x22, 0x00, 0x85, 0x09, 0x78, 0xf6,
    0x61, 0x1f, 0x1f, 0x11, 0xfd, 0x7e, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x21, 0x00,
    0xe2, 0x0c, 0xdf, 0xe7, 0xb0, 0x7d, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x07, 0x21,
    0x9f, 0xd3, 0xfc, 0x7d, 0x78, 0x21, 0xcb, 0x26, 0x1f, 0x8d, 0x00, 0xd0,
];

/// What it makes of [`calls`].
const CALLS: [u8; 132] = [
    0x11, 0x20, 0x00, 0xe4, 0x00, 0x00, 0x03, 0x00, 0x00, 0x15, 0x20, 0x00, 0xfb, 0x5c, 0x68, 0x77,
    0x87, 0x36, 0xee, 0x4f, 0xe8, 0xd0, 0x7a, 0x74, 0x0a, 0x1d, 0x28, 0x94, 0x20, 0x50, 0xe7, 0x70,
    0xdc, 0x71, 0x42, 0x24, 0x4a, 0x85, 0x28, 0x15, 0xa9, 0x50, 0xa5, 0x42, 0x17, 0x0a, 0x42, 0x27,
    0x80, 0x84, 0x00, 0x00, 0x00, 0x00, 0x0c, 0x08, 0x00, 0x0c, 0x40, 0x81, 0xdb, 0xde, 0xfd, 0x7e,
    0x82, 0xf9, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x1f, 0x02, 0xff, 0xff, 0xe7, 0xfc,
    0x78, 0xcb, 0x8d, 0xa5, 0xfe, 0xdc, 0xb4, 0xf1, 0x5a, 0x50, 0x7a, 0x64, 0x17, 0x59, 0x2a, 0x22,
    0x35, 0x2f, 0x73, 0x3e, 0x49, 0x46, 0x0c, 0xcb, 0x3d, 0x4f, 0xf8, 0x13, 0x49, 0xf9, 0xa1, 0x71,
    0xaa, 0xef, 0x4c, 0x30, 0x60, 0x56, 0xec, 0x77, 0x8f, 0x9f, 0x6c, 0x0b, 0x1b, 0xa9, 0x05, 0x7a,
    0xe2, 0x42, 0x90, 0x9e,
];

fn text() -> Vec<u8> {
    let mut text = b"abcabcabcabc".repeat(30);
    text.extend(b"the end");
    text
}

/// Calls of x86, the last one backwards.
fn calls() -> Vec<u8> {
    let mut calls = Vec::new();
    for number in 0..30u32 {
        calls.push(0xE8);
        calls.extend((number * 37).to_le_bytes());
        calls.extend(b"push");
    }
    calls.extend(b"\xe8\xff\xff\xff\xff tail of it");
    calls
}

#[test]
fn what_another_implementation_packed() {
    for (packed, expected) in [(&TEXT[..], text()), (&CALLS, calls())] {
        let mut output = vec![0xAA; expected.len()];
        decompress(packed, &mut output).unwrap();
        assert_eq!(output, expected);
    }
}

/// Bits as the decoder wants them, and whole bytes behind.
fn written(bits: &str, bytes: &[u8]) -> Vec<u8> {
    let digits: Vec<char> = bits.chars().filter(|digit| *digit != ' ').collect();
    let mut input = Vec::new();
    for word in digits.chunks(16) {
        let number = word
            .iter()
            .fold(0u16, |number, digit| number << 1 | u16::from(*digit == '1'));
        input.extend((number << (16 - word.len())).to_le_bytes());
    }
    input.extend(bytes);
    input
}

/// An uncompressed block of `content`, whose header fills a word with padding.
fn plain(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for distance in [1u32, 2, 3] {
        bytes.extend(distance.to_le_bytes());
    }
    bytes.extend(content);
    if content.len() % 2 == 1 {
        bytes.push(0);
    }
    written(&format!("011 0 {:016b}", content.len()), &bytes)
}

#[test]
fn blocks_that_are_not_compressed() {
    for content in [&b"odd"[..], b"even", &[7; 4001]] {
        let mut output = vec![0; content.len()];
        decompress(&plain(content), &mut output).unwrap();
        assert_eq!(output, content);
        // Two of them: the second begins behind the padding of the first.
        let mut twice = vec![0; 2 * content.len()];
        decompress(&plain(content).repeat(2), &mut twice).unwrap();
        assert_eq!(twice, content.repeat(2));
    }
    // The default size says 32 KiB in one bit.
    let mut whole = written("011 1", &[1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    whole.extend([9; MAX_CONTENT]);
    let mut output = vec![0; MAX_CONTENT];
    decompress(&whole, &mut output).unwrap();
    assert!(output.iter().all(|&byte| byte == 9));
    assert!(decompress(&whole, &mut output[1..]).is_err());
}

#[test]
fn calls_are_relative_again_but_for_the_last_ten_bytes() {
    let mut output = vec![0u8; 40];
    output[5] = 0xE8;
    output[6..10].copy_from_slice(&1000i32.to_le_bytes());
    output[12] = 0xE8;
    output[13..17].copy_from_slice(&(-12i32).to_le_bytes());
    output[20] = 0xE8;
    output[21..25].copy_from_slice(&FILE_SIZE.to_le_bytes());
    output[30] = 0xE8;
    output[31..35].copy_from_slice(&1000i32.to_le_bytes());
    restore_calls(&mut output);
    let target = |at: usize| i32::from_le_bytes(output[at..at + 4].try_into().unwrap());
    assert_eq!((target(6), target(13)), (995, FILE_SIZE - 12));
    assert_eq!((target(21), target(31)), (FILE_SIZE, 1000));
    for length in 0..12 {
        restore_calls(&mut vec![0xE8; length]);
    }
}

#[test]
fn what_ends_early_or_contradicts_itself_is_refused() {
    for (packed, content) in [(&TEXT[..], text()), (&CALLS, calls())] {
        let mut output = vec![0; content.len()];
        // The encoder ends with a word that nobody needs.
        for length in 0..packed.len() {
            match decompress(&packed[..length], &mut output) {
                Ok(()) => assert!(length + 6 > packed.len() && output == content, "{length}"),
                Err(error) => assert_eq!(error.kind(), cairn_base::Kind::Damaged),
            }
        }
        assert!(decompress(packed, &mut output[1..]).is_err());
    }
    assert!(decompress(&TEXT, &mut vec![0; MAX_CONTENT + 1]).is_err());
    for bits in ["000 0 0000000000000001", "001 0 0000000000000000", "100 1"] {
        assert!(
            decompress(&written(bits, &[0; 64]), &mut [0; 40]).is_err(),
            "{bits}"
        );
    }
}

proptest! {
    #[test]
    fn any_input_ends(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decompress(&input, &mut vec![0; 3000]);
    }

    #[test]
    fn any_change_ends(at in 0..CALLS.len(), byte in any::<u8>(), cut in 0..CALLS.len()) {
        let mut input = CALLS.to_vec();
        input[at] = byte;
        let _ = decompress(&input, &mut vec![0; calls().len()]);
        let _ = decompress(&input[..cut], &mut vec![0; calls().len()]);
    }
}
