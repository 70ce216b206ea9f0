use super::*;
use cairn_base::Kind;
use proptest::prelude::*;

fn sample() -> Metadata {
    Metadata {
        block_size: 8 << 20,
        leave_allocated: true,
        disk_size: 100 << 20,
        disk_id: Guid([5; 16]),
        logical_sector: 4096,
        physical_sector: 512,
        parent: None,
    }
}

fn read(bytes: Vec<u8>) -> Result<Metadata> {
    let end = bytes.len() as u64;
    Metadata::read(&bytes, &(0..end))
}

#[test]
fn there_and_back() {
    assert_eq!(read(sample().encode()).unwrap(), sample());
}

#[test]
fn impossible_values_are_damage() {
    for bad in [
        Metadata {
            block_size: 0,
            ..sample()
        },
        Metadata {
            block_size: 3 << 20,
            ..sample()
        },
        Metadata {
            block_size: 512 << 20,
            ..sample()
        },
        Metadata {
            logical_sector: 0,
            ..sample()
        },
        Metadata {
            physical_sector: 3,
            ..sample()
        },
        Metadata {
            disk_size: 512,
            ..sample()
        },
        Metadata {
            disk_size: (64 << 40) + 4096,
            ..sample()
        },
    ] {
        assert_eq!(
            read(bad.encode()).unwrap_err().kind(),
            Kind::Damaged,
            "{bad:?}"
        );
    }
}

#[test]
fn entries_are_checked() {
    let changed = |at: usize, byte: u8| {
        let mut bytes = sample().encode();
        bytes[at] = byte;
        read(bytes)
    };
    // Unknown and required; the same item twice is covered by the copy below.
    assert_eq!(changed(32, 0).unwrap_err().kind(), Kind::Unsupported);
    // Signature, count, offset, length, a missing item (unknown and not required any more).
    for (at, byte) in [(0, 0), (11, 0xff), (32 + 18, 0), (32 + 23, 1), (10, 4)] {
        assert_eq!(
            changed(at, byte).unwrap_err().kind(),
            Kind::Damaged,
            "byte {at}"
        );
    }
    let mut twice = sample().encode();
    twice.copy_within(32..64, 64);
    assert_eq!(read(twice).unwrap_err().kind(), Kind::Damaged);
    // An unknown item that is not required is passed over.
    let mut optional = sample().encode();
    optional[10] = 6;
    optional[32 * 6] = 1;
    assert_eq!(read(optional).unwrap(), sample());
}

proptest! {
    #[test]
    fn no_bytes_panic(noise in proptest::collection::vec((0usize..300, any::<u8>()), 0..20)) {
        let mut bytes = sample().encode();
        for (at, byte) in noise {
            // The table's entries and, from 200 on, the values.
            let at = if at < 200 { at } else { TABLE_SIZE + at - 200 };
            bytes[at] = byte;
        }
        let _ = read(bytes);
    }
}
