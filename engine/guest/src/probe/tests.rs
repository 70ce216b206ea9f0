//! What is told of devices that hold next to nothing, or anything.

use super::{Detected, detect, open_volume, volumes};
use cairn_base::{Kind, ReadAt};
use proptest::prelude::*;
use std::sync::Arc;

fn of(bytes: Vec<u8>) -> Detected {
    detect(&bytes).unwrap()
}

fn marked(marks: Marks<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 4 << 20];
    for (at, mark) in marks {
        bytes[*at..at + mark.len()].copy_from_slice(mark);
    }
    bytes
}

#[test]
fn nothing_and_something_unknown_are_told_apart() {
    assert_eq!(of(Vec::new()), Detected::Empty);
    assert_eq!(of(vec![0; 5000]), Detected::Empty);
    assert_eq!(of(vec![1; 5000]), Detected::Unknown);
    let empty = open_volume(Arc::new(vec![0u8; 5000])).err().unwrap();
    assert_eq!(empty.kind(), Kind::NotFound);
    let unknown = open_volume(Arc::new(vec![1u8; 5000])).err().unwrap();
    assert_eq!(unknown.kind(), Kind::Unsupported);
}

type Marks<'a> = &'a [(usize, &'a [u8])];

#[test]
fn marks_are_found_where_they_lie() {
    let cases: &[(&str, Marks<'_>)] = &[
        ("Linux swap", &[(4086, b"SWAPSPACE2")]),
        ("Linux swap", &[(65526, b"S1SUSPEND")]),
        (
            "LVM physical volume",
            &[(512, b"LABELONE"), (536, b"LVM2 001")],
        ),
        (
            "mdraid member",
            &[((4 << 20) - 0x2000, b"\xfc\x4e\x2b\xa9\x01\0\0\0")],
        ),
        ("ZFS", &[(0x2_0400, &0x00ba_b10cu64.to_le_bytes())]),
        ("ZFS", &[(0x2_0400, &0x00ba_b10cu64.to_be_bytes())]),
        ("UDF/ISO 9660", &[(0x8001, b"CD001")]),
        ("VMFS", &[(0x20_0000, b"\x5e\xf1\xab\x2f")]),
        ("APFS", &[(24, b"\x01\0\0\x80\0\0\0\0NXSB\0\x10\0\0")]),
        (
            "HFS+",
            &[(1024, b"H+\0\x04"), (1064, b"\0\0\x10\0\0\0\0\x09")],
        ),
        // What encrypts or holds a volume is told before what was there once.
        ("LUKS", &[(0, b"LUKS\xba\xbe\0\x02"), (1080, b"\x53\xef")]),
        ("XFS", &[(0, b"XFSB"), (0x4000, b"SKUL\xba\xbe")]),
    ];
    for (name, marks) in cases {
        assert_eq!(of(marked(marks)), Detected::Other(name), "{marks:?}");
    }
}

#[test]
fn a_disk_without_a_table_is_one_volume() {
    let disk: Arc<dyn ReadAt> = Arc::new(marked(&[(0, b"XFSB"), (510, b"\x55\xaa")]));
    let layout = volumes(&disk, None).unwrap();
    assert_eq!(layout.volumes.len(), 1);
    assert_eq!(
        (layout.volumes[0].number, layout.volumes[0].size),
        (0, 4 << 20)
    );
    assert!(
        layout.volumes[0]
            .open()
            .err()
            .unwrap()
            .to_string()
            .contains("XFS")
    );
}

proptest! {
    #[test]
    fn any_head_is_told(bytes in proptest::collection::vec(any::<u8>(), 0..3000), jump: bool) {
        let mut bytes = bytes;
        if jump && bytes.len() > 512 {
            bytes[0] = 0xeb;
            bytes[11..13].copy_from_slice(&[0, 2]);
            bytes[13] = 8;
            bytes[16] = 2;
            bytes[21] = 0xf8;
        }
        prop_assert!(!detect(&bytes).unwrap().name().is_empty());
    }
}
