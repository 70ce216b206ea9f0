use super::*;
use crate::vhdx::header::seal;
use cairn_base::Kind;
use proptest::prelude::*;

const LOG: u64 = 1 << 20;
const ID: Guid = Guid([4; 16]);

fn header() -> Header {
    Header {
        sequence: 1,
        file_write_id: Guid::NIL,
        data_write_id: Guid::NIL,
        log_id: ID,
        log_version: 0,
        log_length: 1 << 20,
        log_offset: LOG,
    }
}

/// An entry that zeroes 8 KiB at 4 MiB and writes a sector of `byte` at 5 MiB.
fn entry(sequence: u64, tail: u32, byte: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(b"loge\0\0\0\0");
    for field in [8192u32, tail] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&ID.to_windows());
    for field in [3u64 << 20, 6 << 20] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(b"zero\0\0\0\0");
    for field in [8192, 4 << 20, sequence] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(b"desc");
    bytes.extend_from_slice(&[byte; 12]);
    for field in [5 << 20, sequence] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.resize(4096, 0);
    bytes.extend_from_slice(b"data");
    bytes.extend_from_slice(&((sequence >> 32) as u32).to_le_bytes());
    bytes.resize(8188, byte);
    bytes.extend_from_slice(&(sequence as u32).to_le_bytes());
    seal(&mut bytes);
    bytes
}

fn image(entries: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut image = vec![0; 8 << 20];
    for (at, bytes) in entries {
        for (index, byte) in bytes.iter().enumerate() {
            image[(LOG + (at + index as u64) % (1 << 20)) as usize] = *byte;
        }
    }
    image
}

fn numbers(image: &[u8]) -> Result<Vec<u64>> {
    let entries = active_sequence(&image.to_vec(), &header())?;
    Ok(entries.iter().map(|entry| entry.sequence).collect())
}

#[test]
fn the_newest_valid_sequence_is_found() {
    // Left over from before, then the active one, which begins in the middle of what follows each other.
    let bytes = image(&[
        (0, entry(5, 0, 1)),
        (8192, entry(6, 0, 1)),
        (40960, entry(20, 40960, 2)),
        (49152, entry(21, 40960, 3)),
        (57344, entry(22, 49152, 4)),
        (65536, entry(24, 65536 + 8192, 5)),
    ]);
    assert_eq!(numbers(&bytes).unwrap(), [21, 22]);
    let entries = active_sequence(&bytes, &header()).unwrap();
    assert_eq!(
        entries[1].changes[0],
        Change::Zero(4 << 20..(4 << 20) + 8192)
    );
    let sector = Sector {
        offset: 5 << 20,
        from: LOG + 57344 + 4096,
        leading: [4; 8],
        trailing: [4; 4],
    };
    assert_eq!(entries[1].changes[1], Change::Data(sector));
}

#[test]
fn a_sequence_may_go_round_the_ring() {
    let end = 1 << 20;
    let bytes = image(&[
        (end - 12288, entry(7, end as u32 - 12288, 1)),
        (end - 4096, entry(8, end as u32 - 12288, 2)),
        (4096, entry(9, end as u32 - 12288, 3)),
    ]);
    assert_eq!(numbers(&bytes).unwrap(), [7, 8, 9]);
    // The sector of the second entry lies at the ring's start.
    let entries = active_sequence(&bytes, &header()).unwrap();
    assert!(matches!(&entries[1].changes[1], Change::Data(sector) if sector.from == LOG));
}

#[test]
fn a_torn_tail_leaves_the_entries_before_it() {
    let torn = |at: usize| {
        let mut last = entry(7, 0, 3);
        last[at..].fill(0xEE);
        image(&[(0, entry(5, 0, 1)), (8192, entry(6, 0, 2)), (16384, last)])
    };
    for at in [0, 64, 4095, 4096, 8191] {
        assert_eq!(numbers(&torn(at)).unwrap(), [5, 6], "torn at {at}");
    }
}

#[test]
fn a_log_in_use_without_a_valid_sequence_is_damage() {
    for at in [8, 16, 24, 64, 90, 4096, 5000, 8190] {
        let mut bytes = entry(5, 0, 1);
        bytes[at] ^= 0x11;
        assert!(numbers(&image(&[(0, bytes)])).is_err(), "byte {at}");
    }
    // Valid by itself, but the entry it names as the first one is not there.
    assert!(numbers(&image(&[(0, entry(5, 8192, 1))])).is_err());
    // Nothing of it was written, or what is there is left over from another log.
    assert!(numbers(&image(&[])).unwrap().is_empty());
    let other = Header {
        log_id: Guid([5; 16]),
        ..header()
    };
    let left_over = image(&[(0, entry(5, 0, 1))]);
    assert!(active_sequence(&left_over, &other).unwrap().is_empty());
    let empty = Header {
        log_id: Guid::NIL,
        ..header()
    };
    assert!(active_sequence(&image(&[]), &empty).unwrap().is_empty());
}

#[test]
fn a_log_of_too_much_is_refused() {
    let mut image = vec![0; 8 << 20];
    let wide = Header {
        log_length: 4 << 20,
        ..header()
    };
    let count = MAX_CHANGES as u32 + 1;
    let mut bytes = entry(5, 0, 1)[..64].to_vec();
    let length = (64 + 32 * count).next_multiple_of(4096);
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    bytes[24..28].copy_from_slice(&count.to_le_bytes());
    bytes[48..56].fill(0);
    let zero = &entry(5, 0, 1)[64..96];
    for _ in 0..count {
        bytes.extend_from_slice(zero);
    }
    bytes.resize(length as usize, 0);
    seal(&mut bytes);
    image[LOG as usize..][..bytes.len()].copy_from_slice(&bytes);
    let error = active_sequence(&image, &wide).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    // It is not so much as listed.
    assert!(Entry::parse(&bytes, LOG, ID).is_none());
    let long = Header {
        log_length: 17 << 20,
        ..header()
    };
    let error = active_sequence(&vec![0u8; 20 << 20], &long).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
}

#[test]
fn a_file_that_was_cut_off_is_damage() {
    let mut bytes = image(&[(0, entry(5, 0, 1))]);
    bytes.truncate((2 << 20) + 5000);
    assert_eq!(numbers(&bytes).unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn entries_made_to_overlap_end_soon() {
    // Each sector claims to begin an entry of the whole log.
    let mut head = entry(5, 0, 1)[..64].to_vec();
    head[8..12].copy_from_slice(&(1u32 << 20).to_le_bytes());
    let heads: Vec<_> = (0..256)
        .map(|sector| (sector * 4096, head.clone()))
        .collect();
    let error = numbers(&image(&heads)).unwrap_err();
    assert!(error.to_string().contains("overlap"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_panic(noise in proptest::collection::vec((0usize..8192, any::<u8>()), 0..8), sealed: bool) {
        let mut bytes = entry(5, 0, 1);
        for (at, byte) in noise {
            // Mostly the fields.
            bytes[if at < 6000 { at % 128 } else { at }] = byte;
        }
        if sealed {
            seal(&mut bytes);
        }
        let _ = Entry::parse(&bytes, 0, ID);
        let _ = numbers(&image(&[(0, bytes)]));
    }
}
