use super::*;
use cairn_base::Kind;

/// A header of version 3 of a disk of 1 GiB in clusters of 64 KiB.
fn good() -> Vec<u8> {
    let mut head = vec![0; 512];
    head[..4].copy_from_slice(MAGIC);
    put32(&mut head, VERSION, 3);
    put32(&mut head, CLUSTER_BITS, 16);
    put64(&mut head, DISK_SIZE, 1 << 30);
    put32(&mut head, L1_SIZE, 2);
    put64(&mut head, L1_OFFSET, 3 << 16);
    put32(&mut head, 96, 4);
    put32(&mut head, LENGTH, 112);
    head
}

fn put32(head: &mut [u8], at: usize, value: u32) {
    head[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn put64(head: &mut [u8], at: usize, value: u64) {
    head[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

#[test]
fn a_good_header() {
    let header = Header::parse(&good()).unwrap();
    assert_eq!(header.l1_entries, 2);
    assert_eq!(header.l1_covers(), 512 << 20);
    assert_eq!((header.length, header.backing), (112, None));
    assert_eq!(header.compression, Compression::Zlib);
    let mut old = good();
    put32(&mut old, VERSION, 2);
    // What version 2 does not have is not looked at.
    old[SIZE_2..].fill(0xff);
    let header = Header::parse(&old).unwrap();
    assert_eq!((header.version, header.length), (2, SIZE_2));
    assert_eq!((header.incompatible, header.autoclear), (0, 0));
}

#[test]
fn fields_out_of_range_are_refused_with_their_place() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(usize, Kind, Change); 19] = [
        (0, Kind::Damaged, |head| head[3] = 0),
        (VERSION, Kind::Unsupported, |head| put32(head, VERSION, 1)),
        (VERSION, Kind::Unsupported, |head| put32(head, VERSION, 4)),
        (CLUSTER_BITS, Kind::Damaged, |head| {
            put32(head, CLUSTER_BITS, 8)
        }),
        (CLUSTER_BITS, Kind::Unsupported, |head| {
            put32(head, CLUSTER_BITS, 22)
        }),
        (CLUSTER_BITS, Kind::Unsupported, |head| {
            put32(head, CLUSTER_BITS, u32::MAX)
        }),
        (CRYPT_METHOD, Kind::Unsupported, |head| {
            put32(head, CRYPT_METHOD, 1)
        }),
        (CRYPT_METHOD, Kind::Unsupported, |head| {
            put32(head, CRYPT_METHOD, 9)
        }),
        (DISK_SIZE, Kind::Unsupported, |head| {
            put64(head, DISK_SIZE, 0)
        }),
        (DISK_SIZE, Kind::Damaged, |head| put64(head, DISK_SIZE, 513)),
        (L1_SIZE, Kind::Damaged, |head| put64(head, DISK_SIZE, !511)),
        (L1_SIZE, Kind::Damaged, |head| put32(head, L1_SIZE, 1)),
        (L1_SIZE, Kind::Damaged, |head| {
            put32(head, L1_SIZE, (4 << 20) + 1)
        }),
        (L1_OFFSET, Kind::Damaged, |head| put64(head, L1_OFFSET, 512)),
        (LENGTH, Kind::Damaged, |head| put32(head, LENGTH, 96)),
        (LENGTH, Kind::Damaged, |head| {
            put32(head, LENGTH, (1 << 16) + 8)
        }),
        (COMPRESSION, Kind::Damaged, |head| head[COMPRESSION] = 1),
        (COMPRESSION, Kind::Damaged, |head| head[79] = 8),
        (COMPRESSION, Kind::Unsupported, |head| {
            (head[79], head[COMPRESSION]) = (8, 2)
        }),
    ];
    for (case, (at, kind, change)) in cases.into_iter().enumerate() {
        let mut head = good();
        change(&mut head);
        let error = Header::parse(&head).unwrap_err();
        assert_eq!(error.kind(), kind, "{case}: {error}");
        assert_eq!(error.offset(), Some(at as u64), "{case}: {error}");
    }
    for length in 0..SIZE_3 {
        assert!(Header::parse(&good()[..length]).is_err(), "{length}");
    }
}

#[test]
fn extended_entries_need_large_clusters() {
    let mut head = good();
    head[79] = 16;
    put32(&mut head, L1_SIZE, 4);
    let header = Header::parse(&head).unwrap();
    assert_eq!((header.l2_bits(), header.l1_entries), (12, 4));
    put32(&mut head, CLUSTER_BITS, 13);
    put32(&mut head, L1_SIZE, 1000);
    assert_eq!(Header::parse(&head).unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn names_lie_in_the_first_cluster() {
    for (offset, size, fine) in [
        (200u64, 1023u32, true),
        (200, 1024, false),
        ((1 << 16) - 5, 5, true),
        ((1 << 16) - 5, 6, false),
        (u64::MAX, 5, false),
    ] {
        let mut head = good();
        put64(&mut head, BACKING_OFFSET, offset);
        put32(&mut head, BACKING_SIZE, size);
        assert_eq!(Header::parse(&head).is_ok(), fine, "{offset} {size}");
    }
}
