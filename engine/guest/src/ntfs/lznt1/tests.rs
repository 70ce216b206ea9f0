use super::*;
use proptest::prelude::*;

/// The example of [MS-XCA] section 3.3.
const EXAMPLE: [u8; 59] = [
    0x38, 0xb0, 0x88, 0x46, 0x23, 0x20, 0x00, 0x20, 0x47, 0x20, 0x41, 0x00, 0x10, 0xa2, 0x47, 0x01,
    0xa0, 0x45, 0x20, 0x44, 0x00, 0x08, 0x45, 0x01, 0x50, 0x79, 0x00, 0xc0, 0x45, 0x20, 0x05, 0x24,
    0x13, 0x88, 0x05, 0xb4, 0x02, 0x4a, 0x44, 0xef, 0x03, 0x58, 0x02, 0x8c, 0x09, 0x16, 0x01, 0x48,
    0x45, 0x00, 0xbe, 0x00, 0x9e, 0x00, 0x04, 0x01, 0x18, 0x90, 0x00,
];

#[test]
fn the_specifications_example() {
    let expected: &[u8] = b"F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F# D E F# G F# D E F# G F# E D E A F# F# G A A G F# E D D E F# E D D\0";
    let mut output = vec![0xAA; 4096];
    decompress(&EXAMPLE, &mut output).unwrap();
    assert_eq!(&output[..expected.len()], expected);
    assert!(output[expected.len()..].iter().all(|&byte| byte == 0));
}

#[test]
fn plain_chunks_and_the_end() {
    let mut input = vec![0xFF, 0x3F];
    input.extend([7u8; 4096]);
    input.extend([0, 0, 1, 2, 3]);
    let mut output = vec![1; 3 * 4096];
    decompress(&input, &mut output).unwrap();
    assert!(output[..4096].iter().all(|&byte| byte == 7));
    assert!(output[4096..].iter().all(|&byte| byte == 0));
}

#[test]
fn nonsense_is_refused() {
    for bad in [
        &[0x01, 0x80, 0, 0][..],   // no signature
        &[0xFF, 0x3F, 1, 2],       // longer than its data
        &[0x02, 0xB0, 0x01, 0, 0], // copies from before the chunk
        &[0x01, 0xB0, 0x01, 0],    // half a token
    ] {
        assert!(decompress(bad, &mut vec![0; 4096]).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_input_ends(input in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut input = input;
        if let Some(high) = input.get_mut(1) {
            *high = 0xB0 | (*high & 1);
        }
        let _ = decompress(&input, &mut vec![0; 8192]);
    }
}
