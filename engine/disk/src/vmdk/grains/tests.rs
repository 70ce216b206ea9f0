use super::*;
use cairn_base::Kind;
use std::sync::Arc;

const SPAN: u64 = 512 << 12;

/// An extent of two and a half tables with grains of 4 KiB: directory at sector 2, its copy at 3, tables from 4 on, their copies behind them, then
/// grains. The first table says that grain 1 is zeros and grain 2 is there; the second is absent.
fn image() -> (Vec<u8>, Header) {
    let mut bytes = vec![0; 64 << 10];
    let mut put = |at: usize, value: u32| {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    for (directory, table) in [(1024, 4u32), (1536, 12)] {
        put(directory, table);
        put(directory + 8, table + 4);
        put(table as usize * 512 + 4, 1);
        put(table as usize * 512 + 8, 40);
        // The last grain is cut off.
        put((table as usize + 4) * 512 + 255 * 4, 127);
    }
    let header = Header {
        format: "VMDK",
        size: 2 * SPAN + 255 * 4096 + 512,
        grain: 4096,
        table_entries: 512,
        directory: Directory::At(1024),
        redundant: Some(1536),
        descriptor: None,
        has_zeroed_grains: true,
        is_compressed: false,
        is_unclean: false,
    };
    (bytes, header)
}

fn open(bytes: Vec<u8>, header: Header) -> Result<(Grains, Option<String>)> {
    let file = File {
        bytes: Arc::new(bytes),
        path: None,
    };
    Grains::open(file, header, 0, Arc::new(Tables::new(4)), Share::ALL)
}

fn walked(grains: &Grains, range: Range<u64>) -> Vec<(u64, Grain, Range<u64>)> {
    let mut found = Vec::new();
    let walked = grains.walk(range, Detail::Exact, |number, grain, part| {
        found.push((number, grain, part));
        Ok(())
    });
    walked.unwrap();
    found
}

#[test]
fn grains_are_told_in_order() {
    let (bytes, header) = image();
    let size = header.size;
    let (grains, warning) = open(bytes, header).unwrap();
    assert_eq!(warning, None);
    assert_eq!(
        walked(&grains, 4000..3 * 4096 + 1),
        [
            (0, Grain::Absent, 4000..4096),
            (1, Grain::Zeros, 4096..8192),
            (2, Grain::At(40 * 512), 8192..12288),
            (3, Grain::Absent, 12288..12289),
        ]
    );
    // A table that is not there is one piece.
    assert_eq!(
        walked(&grains, SPAN + 5..2 * SPAN - 5),
        [(512, Grain::Absent, SPAN + 5..2 * SPAN - 5)]
    );
    let all = walked(&grains, 0..size);
    assert_eq!(all.len(), 512 + 1 + 256);
    let mut at = 0;
    for (number, _, part) in &all {
        assert_eq!(part.start, at);
        assert_eq!(part.start / 4096, *number);
        at = part.end;
    }
    assert_eq!(at, size);
    let last = 1024 + 255;
    assert_eq!(grains.find(last).unwrap(), Grain::At(127 * 512));
    assert_eq!(grains.grain_length(last), 512);
    grains.check(last, 127 * 512).unwrap();
    assert_eq!(
        grains.check(2, 127 * 512).unwrap_err().kind(),
        Kind::Damaged
    );
}

#[test]
fn what_is_lost_in_one_is_in_the_other() {
    let (good, header) = image();
    let size = header.size;
    let expected = walked(&open(good.clone(), header.clone()).unwrap().0, 0..size);
    for (at, value) in [
        (1024, 0u32),
        (1024, 1),
        (1032, 0xffff_ffff),
        (4 * 512 + 8, 0xffff_ffff),
        (4 * 512 + 8, 0),
        (4 * 512 + 8, 2),
    ] {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let (grains, warning) = open(bytes, header.clone()).unwrap();
        assert_eq!(walked(&grains, 0..size), expected, "{at} {value}");
        assert_eq!(warning.is_some(), at < 2048, "{warning:?}");
    }
    for (directory, redundant, fine) in [
        (Directory::At(u64::MAX), Some(1536), true),
        (Directory::At(0), Some(1536), true),
        (Directory::At(1024), Some(u64::MAX - 3), true),
        (Directory::At(1024), None, true),
        (Directory::At(u64::MAX), Some(u64::MAX), false),
        (Directory::At(64 << 10), None, false),
        (Directory::InFooter, None, false),
    ] {
        let header = Header {
            directory,
            redundant,
            ..header.clone()
        };
        match open(good.clone(), header) {
            Ok((grains, _)) => {
                assert!(fine);
                assert_eq!(walked(&grains, 0..size), expected);
            }
            Err(error) => {
                assert!(!fine, "{error}");
                assert_eq!(error.kind(), Kind::Damaged);
            }
        }
    }
}
