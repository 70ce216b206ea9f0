use super::*;
use cairn_base::Kind;
use proptest::prelude::*;

fn sample(sequence: u64) -> Header {
    Header {
        sequence,
        file_write_id: Guid([1; 16]),
        data_write_id: Guid([2; 16]),
        log_id: Guid::NIL,
        log_version: 0,
        log_length: 1 << 20,
        log_offset: 1 << 20,
    }
}

fn image(first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 18];
    bytes[64 << 10..][..first.len()].copy_from_slice(first);
    bytes[128 << 10..][..second.len()].copy_from_slice(second);
    bytes
}

#[test]
fn the_newer_header_counts() {
    let (old, new) = (sample(7).encode(), sample(8).encode());
    assert_eq!(current(&image(&old, &new)).unwrap(), (sample(8), None));
    assert_eq!(current(&image(&new, &old)).unwrap(), (sample(8), None));
    assert_eq!(current(&image(&new, &new)).unwrap(), (sample(8), None));
    let other = Header {
        log_id: Guid([3; 16]),
        ..sample(8)
    };
    assert_eq!(
        current(&image(&new, &other.encode())).unwrap_err().kind(),
        Kind::Damaged
    );
}

#[test]
fn one_bad_header_is_a_warning_and_two_are_an_error() {
    let good = sample(1).encode();
    let mut bad = sample(2).encode();
    bad[4095] ^= 1;
    for image in [image(&good, &bad), image(&bad, &good)] {
        let (header, warning) = current(&image).unwrap();
        assert_eq!(header, sample(1));
        assert!(warning.unwrap().contains("checksum"));
    }
    assert_eq!(
        current(&image(&bad, &bad)).unwrap_err().kind(),
        Kind::Damaged
    );
    assert!(current(&vec![0u8; 100]).is_err());
}

#[test]
fn the_log_lies_in_whole_mib_of_the_file() {
    let used = Header {
        log_id: Guid([1; 16]),
        ..sample(1)
    };
    assert_eq!(used.log_range(2 << 20).unwrap(), 1 << 20..2 << 20);
    for bad in [
        Header {
            log_length: 0,
            ..used
        },
        Header {
            log_length: 4096,
            ..used
        },
        Header {
            log_offset: 0,
            ..used
        },
        Header {
            log_offset: 1 << 40,
            ..used
        },
        Header {
            log_offset: u64::MAX,
            ..used
        },
    ] {
        assert_eq!(bad.log_range(2 << 20).unwrap_err().kind(), Kind::Damaged);
        let empty = Header {
            log_id: Guid::NIL,
            ..bad
        };
        assert!(empty.log_range(2 << 20).unwrap().is_empty() || bad.log_length == 0);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..128), sound: bool, size: u64) {
        bytes.resize(SIZE, 0);
        if sound {
            bytes[..4].copy_from_slice(SIGNATURE);
            bytes[66..68].copy_from_slice(&[1, 0]);
            seal(&mut bytes);
        }
        let parsed = Header::parse(&bytes, 0);
        prop_assert_eq!(parsed.is_ok(), sound);
        if let Ok(header) = parsed {
            let _ = header.log_range(size);
        }
    }
}
