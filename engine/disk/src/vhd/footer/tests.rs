use super::*;
use cairn_base::Kind;
use proptest::prelude::*;

fn sample() -> Footer {
    Footer {
        data_offset: 512,
        timestamp: 77,
        creator: *b"win ",
        current_size: 64 << 20,
        geometry: Geometry::of(64 << 20),
        disk_type: DiskType::Dynamic,
        unique_id: Guid([9; 16]),
        checksum_holds: true,
    }
}

#[test]
fn there_and_back() {
    let bytes = sample().encode();
    assert_eq!(Footer::parse(&bytes, 0).unwrap(), sample());
    // A footer of Virtual PC before 2004: the last byte is reserved anyway.
    assert_eq!(Footer::parse(&bytes[..511], 0).unwrap(), sample());
    for at in 0..SIZE {
        let mut bytes = bytes;
        bytes[at] ^= 1;
        let parsed = Footer::parse(&bytes, 0);
        assert!(
            parsed.is_err() || !parsed.unwrap().checksum_holds,
            "byte {at}"
        );
    }
}

#[test]
fn other_versions_and_types_are_refused() {
    let mut bytes = sample().encode();
    bytes[VERSION + 1] = 2;
    assert_eq!(
        Footer::parse(&bytes, 0).unwrap_err().kind(),
        Kind::Unsupported
    );
    let mut bytes = sample().encode();
    bytes[DISK_TYPE + 3] = 6;
    assert_eq!(
        Footer::parse(&bytes, 0).unwrap_err().kind(),
        Kind::Unsupported
    );
}

#[test]
fn geometry_is_that_of_others() {
    // From images made by Hyper-V and QEMU.
    let chs = |cylinders, heads, sectors| Geometry {
        cylinders,
        heads,
        sectors,
    };
    assert_eq!(Geometry::of(4194304), chs(120, 4, 17));
    assert_eq!(Geometry::of(136365211648), chs(65278, 16, 255));
    assert_eq!(Geometry::of(2040 << 30), Geometry::MAX);
    assert_eq!(chs(121, 4, 17).bytes(), 4212736);
    let mut footer = sample();
    assert!(!footer.others_use_geometry());
    footer.creator = *b"vpc ";
    assert!(footer.others_use_geometry());
    footer.geometry = Geometry::MAX;
    assert!(!footer.others_use_geometry());
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), cookie: bool) {
        if cookie && bytes.len() >= 16 {
            bytes[..8].copy_from_slice(COOKIE);
            bytes[12..16].copy_from_slice(&[0, 1, 0, 0]);
        }
        if let Ok(footer) = Footer::parse(&bytes, 5) {
            footer.geometry.bytes();
            footer.encode();
        }
    }
}
