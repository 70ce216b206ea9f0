use super::*;
use cairn_base::Kind;
use proptest::prelude::*;

fn point(fields: &[u32]) -> Vec<u8> {
    let mut point = 0x8000_0017u32.to_le_bytes().to_vec();
    point.extend([16, 0, 0, 0]);
    point.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    point
}

fn algorithm(fields: &[u32]) -> Result<Algorithm> {
    let point = point(fields);
    Algorithm::parse(View::new(&point, "reparse point", 0))
}

#[test]
fn algorithms_are_numbered_as_windows_does() {
    let known = [
        Algorithm::Xpress4K,
        Algorithm::Lzx,
        Algorithm::Xpress8K,
        Algorithm::Xpress16K,
    ];
    for (number, expected) in (0..).zip(known) {
        assert_eq!(algorithm(&[1, 2, 1, number]).unwrap(), expected);
        // The flags that later versions may append.
        assert_eq!(algorithm(&[1, 2, 1, number, 7]).unwrap(), expected);
    }
    let chunks: Vec<u64> = known.iter().map(|known| known.chunk()).collect();
    assert_eq!(chunks, [4096, 32768, 8192, 16384]);
    for unknown in [[1, 2, 1, 4], [1, 2, 2, 0], [2, 2, 1, 0], [1, 3, 1, 0]] {
        let error = algorithm(&unknown).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{unknown:?}");
    }
    let error = algorithm(&[1, 1, 1, 0, 77, 0]).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("WIM") && error.to_string().contains("77"));
    assert_eq!(algorithm(&[1, 2, 1]).unwrap_err().kind(), Kind::Damaged);
}

/// Chunks that are stored as they are, each of another byte.
fn plain(size: u64, algorithm: Algorithm) -> (Vec<u8>, Vec<u8>) {
    let chunk = algorithm.chunk();
    let content: Vec<u8> = (0..size).map(|at| (at / chunk) as u8 ^ at as u8).collect();
    let mut stream = Vec::new();
    for number in 1..size.div_ceil(chunk) {
        stream.extend(((number * chunk) as u32).to_le_bytes());
    }
    stream.extend(&content);
    (stream, content)
}

#[test]
fn any_range_is_read_across_pages_of_the_table() {
    let size = 4096 * 1100 + 17;
    let (stream, content) = plain(size, Algorithm::Xpress4K);
    let file = WofStream::new(Arc::new(stream), size, Algorithm::Xpress4K).unwrap();
    assert_eq!(read_vec(&file, 0, size as usize).unwrap(), content);
    for (at, length) in [
        (0, 1),
        (4095, 2),
        (4096, 4096),
        (511 * 4096, 3 * 4096),
        (512 * 4096 - 1, 4098),
        (1024 * 4096 + 5, 70 * 4096),
        (size - 17, 17),
        (size - 18, 18),
        (size, 0),
    ] {
        let expected = &content[at as usize..at as usize + length];
        assert_eq!(
            read_vec(&file, at, length).unwrap(),
            expected,
            "{at} {length}"
        );
    }
    assert_eq!(
        file.read_exact_at(size - 1, &mut [0; 2])
            .unwrap_err()
            .kind(),
        Kind::Invalid
    );
    assert!(file.pages.lock().len() <= PAGES && file.recent.lock().len() <= KEPT);
}

#[test]
fn short_files_have_no_table() {
    for size in [0u64, 1, 4096] {
        let (stream, content) = plain(size, Algorithm::Xpress4K);
        assert_eq!(stream.len() as u64, size);
        let file = WofStream::new(Arc::new(stream), size, Algorithm::Xpress4K).unwrap();
        assert_eq!(read_vec(&file, 0, size as usize).unwrap(), content);
    }
}

#[test]
fn a_bad_place_hides_its_own_chunks_only() {
    let size = 8192 * 4;
    let (mut stream, content) = plain(size, Algorithm::Xpress8K);
    // The third chunk seems to begin within the first one.
    stream[4..8].copy_from_slice(&100u32.to_le_bytes());
    let file = WofStream::new(Arc::new(stream), size, Algorithm::Xpress8K).unwrap();
    let read = |number: u64| read_vec(&file, number * 8192, 8192);
    assert_eq!(read(0).unwrap(), content[..8192]);
    for bad in [1, 2] {
        let error = read(bad).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(error.to_string().contains("WofCompressedData"), "{error}");
    }
    assert_eq!(read(3).unwrap(), content[3 * 8192..]);
    assert_eq!(read_vec(&file, 0, 8193).unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn a_stream_too_short_for_its_table_is_damage() {
    let open = |stored: usize, size: u64| {
        WofStream::new(Arc::new(vec![0; stored]), size, Algorithm::Lzx).map(|_| ())
    };
    assert!(open(8, 3 * 32768).is_ok());
    assert_eq!(open(7, 3 * 32768).unwrap_err().kind(), Kind::Damaged);
    assert!(open(1 << 20, i64::MAX as u64).is_err());
    // From 4 GiB on a place takes 8 bytes.
    assert!(open(131_071 * 4, (1 << 32) - 1).is_ok());
    assert!(open(131_071 * 8 - 1, 1 << 32).is_err());
    assert!(open(131_071 * 8, 1 << 32).is_ok());
}

proptest! {
    #[test]
    fn any_stream_ends(
        stream in proptest::collection::vec(any::<u8>(), 0..400),
        size in 0u64..200_000,
        number in 0u32..4,
    ) {
        let algorithm = algorithm(&[1, 2, 1, number]).unwrap();
        if let Ok(file) = WofStream::new(Arc::new(stream), size, algorithm) {
            let _ = read_vec(&file, 0, size as usize);
            let _ = read_vec(&file, size / 2, (size / 3) as usize);
        }
    }
}
