use super::*;
use proptest::prelude::*;

/// Some bytes of a table of code words: where, and what. The others are 0.
fn table(bytes: &[(usize, u8)]) -> Vec<u8> {
    let mut table = vec![0; TABLE];
    for &(at, byte) in bytes {
        table[at] = byte;
    }
    table
}

#[test]
fn the_specifications_examples() {
    // [MS-XCA] section 3.2: the alphabet, and the end of it.
    let mut input = vec![0; TABLE];
    input[48] = 0x50;
    input[49..59].fill(0x55);
    input[59] = 0x45;
    input[60] = 0x44;
    input[61] = 0x04;
    input[128] = 0x04;
    input.extend([0xd8, 0x52, 0x3e, 0xd7, 0x94, 0x11, 0x5b, 0xe9, 0x19, 0x5f]);
    input.extend([0xf9, 0xd6, 0x7c, 0xdf, 0x8d, 0x04, 0, 0, 0, 0]);
    let mut output = [0; 26];
    decompress(&input, &mut output).unwrap();
    assert_eq!(&output, b"abcdefghijklmnopqrstuvwxyz");
    // A hundred times "abc": a length of two bytes more.
    let mut input = table(&[(48, 0x30), (49, 0x23), (128, 0x02), (143, 0x20)]);
    input.extend([0xa8, 0xdc, 0x00, 0x00, 0xff, 0x26, 0x01]);
    let mut output = [0; 300];
    decompress(&input, &mut output).unwrap();
    assert_eq!(output[..], *b"abc".repeat(100));
}

/// What wimlib 1.13 makes of [`text`], without the zeros of the table.
const PACKED: [u8; 11] = [
    0x82, 0x17, 0x1a, 0x57, 0xac, 0x3f, 0xff, 0x61, 0x01, 0x00, 0x00,
];

fn text() -> Vec<u8> {
    let mut text = b"abcabcabcabc".repeat(30);
    text.extend(b"the end");
    text
}

fn packed() -> Vec<u8> {
    let mut packed = table(&[
        (16, 0x04),
        (48, 0x30),
        (49, 0x44),
        (50, 0x34),
        (52, 0x04),
        (55, 0x04),
        (58, 0x03),
        (128, 0x03),
        (143, 0x30),
    ]);
    packed.extend(PACKED);
    packed
}

#[test]
fn lengths_of_every_width_are_read() {
    let mut output = vec![0xAA; text().len()];
    decompress(&packed(), &mut output).unwrap();
    assert_eq!(output, text());
}

#[test]
fn what_ends_early_or_contradicts_itself_is_refused() {
    let packed = packed();
    let mut output = vec![0; text().len()];
    assert!(decompress(&packed[..200], &mut output).is_err());
    // The encoder ends with a word that nobody needs.
    for length in TABLE..packed.len() {
        match decompress(&packed[..length], &mut output) {
            Ok(()) => assert!(length + 4 > packed.len() && output == text(), "{length}"),
            Err(error) => assert_eq!(error.kind(), cairn_base::Kind::Damaged),
        }
    }
    assert!(decompress(&packed, &mut [0; 30]).is_err());
    assert!(decompress(&packed, &mut vec![0; MAX_CONTENT + 1]).is_err());
    let mut impossible = packed;
    impossible[0] = 0x11;
    assert!(decompress(&impossible, &mut output).is_err());
}

proptest! {
    #[test]
    fn any_input_ends(
        tail in proptest::collection::vec(any::<u8>(), 0..400),
        length in 0usize..5000,
    ) {
        let mut input = packed();
        input.truncate(TABLE);
        input.extend(tail);
        let _ = decompress(&input, &mut vec![0; length]);
    }

    #[test]
    fn any_table_ends(input in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = decompress(&input, &mut vec![0; 4096]);
    }
}
