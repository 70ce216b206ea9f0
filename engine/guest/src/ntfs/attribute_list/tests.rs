use super::*;
use proptest::prelude::*;

fn entry(kind: u32, name: &str, first: u64, record: u64, id: u16) -> Vec<u8> {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut bytes = vec![0u8; (26 + name.len()).next_multiple_of(8)];
    bytes[..4].copy_from_slice(&kind.to_le_bytes());
    let length = bytes.len() as u16;
    bytes[4..6].copy_from_slice(&length.to_le_bytes());
    bytes[6] = (name.len() / 2) as u8;
    bytes[7] = 26;
    bytes[8..16].copy_from_slice(&first.to_le_bytes());
    bytes[16..24].copy_from_slice(&record.to_le_bytes());
    bytes[24..26].copy_from_slice(&id.to_le_bytes());
    bytes[26..26 + name.len()].copy_from_slice(&name);
    bytes
}

#[test]
fn entries_say_where_parts_are() {
    let bytes = [
        entry(0x80, "", 0, 5 | 2 << 48, 1),
        entry(0x80, "ads", 9, 77, 3),
    ]
    .concat();
    let list = parse(View::new(&bytes, "list", 0)).unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(
        list[0].record,
        Reference {
            number: 5,
            sequence: 2
        }
    );
    assert_eq!((list[1].first, list[1].id, list[1].kind), (Vcn(9), 3, 0x80));
    assert_eq!(String::from_utf16(&list[1].name).unwrap(), "ads");
}

#[test]
fn entries_that_cannot_be_are_damage() {
    let mut short = entry(0x80, "", 0, 5, 1);
    short[4] = 8;
    assert!(parse(View::new(&short, "list", 0)).is_err());
    let mut outside = entry(0x80, "ads", 0, 5, 1);
    outside[7] = 200;
    assert!(parse(View::new(&outside, "list", 0)).is_err());
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(View::new(&bytes, "list", 0));
    }
}
