use super::*;
use cairn_base::Kind;
use proptest::prelude::*;

/// A header as QEMU writes it, of an extent of 5 GiB.
fn hosted() -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, HOSTED);
    put(VERSION, &1u32.to_le_bytes());
    put(FLAGS, &(HAS_NEWLINES | HAS_REDUNDANT).to_le_bytes());
    put(CAPACITY, &10_485_760u64.to_le_bytes());
    put(GRAIN, &128u64.to_le_bytes());
    put(DESCRIPTOR, &1u64.to_le_bytes());
    put(DESCRIPTOR_SIZE, &20u64.to_le_bytes());
    put(TABLE_ENTRIES, &512u32.to_le_bytes());
    put(REDUNDANT, &21u64.to_le_bytes());
    put(DIRECTORY, &663u64.to_le_bytes());
    put(NEWLINES, b"\n \r\n");
    bytes
}

fn esx() -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..4].copy_from_slice(ESX);
    let fields = [1u32, 3, 8_388_608, 1, 4, 2048];
    for (at, field) in (4..).step_by(4).zip(fields) {
        bytes[at..at + 4].copy_from_slice(&field.to_le_bytes());
    }
    bytes
}

fn with(at: usize, field: &[u8]) -> Result<Header> {
    let mut bytes = hosted();
    bytes[at..at + field.len()].copy_from_slice(field);
    Header::parse(&bytes, 0)
}

#[test]
fn what_is_said_is_read() {
    let expected = Header {
        format: "VMDK",
        size: 5 << 30,
        grain: 65536,
        table_entries: 512,
        directory: Directory::At(663 * 512),
        redundant: Some(21 * 512),
        descriptor: Some(512..21 * 512),
        has_zeroed_grains: false,
        is_compressed: false,
        is_unclean: false,
    };
    let found = Header::parse(&hosted(), 0).unwrap();
    assert_eq!(found, expected);
    assert_eq!((found.tables(), found.table_span()), (160, 32 << 20));
    let zeroed = with(FLAGS, &5u32.to_le_bytes()).unwrap();
    assert!(zeroed.has_zeroed_grains && zeroed.redundant.is_none());
    assert!(with(UNCLEAN, &[1]).unwrap().is_unclean);
    assert_eq!(
        with(DIRECTORY, &[0xff; 8]).unwrap().directory,
        Directory::InFooter
    );
    assert_eq!(with(DESCRIPTOR, &[0; 8]).unwrap().descriptor, None);
    let mut stream = hosted();
    stream[FLAGS + 2] = 3;
    stream[COMPRESSION] = 1;
    assert!(Header::parse(&stream, 0).unwrap().is_compressed);
    let esx = Header::parse(&esx(), 0).unwrap();
    assert_eq!((esx.size, esx.grain, esx.tables()), (4 << 30, 512, 2048));
    assert_eq!((esx.directory, esx.length()), (Directory::At(2048), 2048));
}

#[test]
fn what_cannot_be_is_refused() {
    let number = |value: u64| value.to_le_bytes();
    for (at, field) in [
        (0, &b"KDMW"[..]),
        (NEWLINES, b"\n \n\n"),
        (CAPACITY, &number(0)),
        (CAPACITY, &number(u64::MAX)),
        (CAPACITY, &number((MAX_SIZE >> 9) + 1)),
        (GRAIN, &number(0)),
        (GRAIN, &number(4)),
        (GRAIN, &number(129)),
        (GRAIN, &number(1 << 18)),
        (GRAIN, &number(1 << 63)),
        (TABLE_ENTRIES, &[0; 4]),
        (TABLE_ENTRIES, &513u32.to_le_bytes()),
        (DESCRIPTOR, &number(u64::MAX)),
        (DESCRIPTOR, &number(u64::MAX >> 9)),
        (DESCRIPTOR_SIZE, &number(0)),
        (DESCRIPTOR_SIZE, &number(2049)),
        (COMPRESSION, &[1, 0]),
    ] {
        let error = with(at, field).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{at} {field:?}: {error}");
    }
    for (at, field) in [
        (VERSION, &4u32.to_le_bytes()[..]),
        (FLAGS, &(1u32 << 18).to_le_bytes()),
        (COMPRESSION, &[2, 0]),
        // 2^48 sectors.
        (CAPACITY, &number(1 << 48)),
    ] {
        let error = with(at, field).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{at} {field:?}: {error}");
    }
    for (at, field) in [(4, 2u32), (12, 0), (16, 0), (16, 3), (24, 2047)] {
        let mut bytes = esx();
        bytes[at..at + 4].copy_from_slice(&field.to_le_bytes());
        assert!(Header::parse(&bytes, 0).is_err(), "{at} {field}");
    }
    // A directory that lies nowhere is not followed, so that its copy can be used.
    let nowhere = with(DIRECTORY, &number(u64::MAX - 1)).unwrap();
    assert_eq!(nowhere.directory, Directory::At(u64::MAX));
    for length in 0..80 {
        assert!(Header::parse(&hosted()[..length.min(79)], 0).is_err() || length >= 79);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), is_esx: bool) {
        let mut bytes = bytes;
        let _ = Header::parse(&bytes, 0);
        if bytes.len() >= 80 {
            let magic = if is_esx { ESX } else { HOSTED };
            bytes[..4].copy_from_slice(magic);
            bytes[4..8].copy_from_slice(&1u32.to_le_bytes());
            if let Ok(header) = Header::parse(&bytes, u64::MAX) {
                prop_assert!(header.tables() <= MAX_TABLES);
                prop_assert!(header.size <= MAX_SIZE && header.grain.is_power_of_two());
            }
        }
    }
}
