//! What is cut from changes is what is cut from all bytes.

use super::*;
use crate::backup::changed::window::RegionSource;
use crate::map::holes::{MIN_HOLE, canonical_holes};
use proptest::prelude::*;
use proptest::sample::select;
use std::cell::RefCell;

const SMALL: CutParameters = CutParameters::FastCdc {
    min: 2 << 10,
    average: 8 << 10,
    max: 24 << 10,
};
const CUTS: [CutParameters; 5] = [
    SMALL,
    CutParameters::FastCdc {
        min: 512,
        average: 1024,
        max: 4096,
    },
    CutParameters::FastCdc {
        min: 8 << 10,
        average: 32 << 10,
        max: 128 << 10,
    },
    CutParameters::Fixed { size: 4096 },
    CutParameters::Fixed { size: 20480 },
];

fn id(bytes: &[u8]) -> Option<ChunkId> {
    Some(ChunkId(*blake3::hash(bytes).as_bytes()))
}

/// The leaf of these bytes, as a backup that reads all of them makes it.
fn leaf_of(cut: CutParameters, bytes: &[u8]) -> Leaf {
    let mut leaf = Leaf::default();
    let mut at = 0;
    let end = bytes.len();
    for hole in canonical_holes(bytes, &[]).into_iter().chain([end..end]) {
        while at < hole.start {
            let run = &bytes[at..hole.start];
            let chunk = &run[..cut.first_cut(run, at)];
            leaf.extents.push(Extent {
                length: chunk.len() as u32,
                chunk: id(chunk),
            });
            at += chunk.len();
        }
        if !hole.is_empty() {
            leaf.extents.push(Extent {
                length: hole.len() as u32,
                chunk: None,
            });
        }
        at = hole.end;
    }
    leaf
}

/// A region in memory that notes what is read.
struct Bytes<'a> {
    bytes: &'a [u8],
    reads: RefCell<Vec<Range<usize>>>,
}

impl RegionSource for Bytes<'_> {
    fn read(&self, at: usize, buffer: &mut [u8]) -> Result<()> {
        let range = at..at + buffer.len();
        buffer.copy_from_slice(&self.bytes[range.clone()]);
        self.reads.borrow_mut().push(range);
        Ok(())
    }

    fn will_need(&self, range: Range<usize>) {
        assert!(range.end <= self.bytes.len());
    }
}

/// The leaf from the old one and the changes, and the bytes read.
fn leaf_by_changes(
    cut: CutParameters,
    base: &Leaf,
    new: &[u8],
    parts: &[Part],
) -> (Leaf, Vec<Range<usize>>) {
    let source = Bytes {
        bytes: new,
        reads: RefCell::default(),
    };
    let mut buffer = vec![0xAA; new.len()];
    let mut window = Window::new(&mut buffer, &source);
    let pieces = recut(cut, base, parts, &mut window).unwrap();
    let mut leaf = Leaf::default();
    let mut at = 0;
    for piece in pieces {
        let (range, chunk) = match piece {
            Piece::Kept(extent) => (at..at + extent.length as usize, extent.chunk),
            Piece::Hole(range) => (range, None),
            Piece::New(range) => (range.clone(), id(&window.bytes()[range])),
        };
        assert_eq!(range.start, at);
        at = range.end;
        leaf.extents.push(Extent {
            length: range.len() as u32,
            chunk,
        });
    }
    (leaf, source.reads.into_inner())
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// What bytes may look like: some of it is cut by content, some at the largest chunk, some has zeros of all lengths.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        (1usize..20).prop_map(|blocks| blocks * BLOCK),
        1usize..70_000,
        (1usize..6).prop_map(|blocks| blocks * BLOCK - 1),
    ];
    let piece = (length, 0u8..6, 0u64..4).prop_map(|(length, kind, seed)| match kind {
        0 | 1 => vec![0; length],
        2 => vec![7; length],
        _ => noise(length, seed),
    });
    proptest::collection::vec(piece, 1..10).prop_map(|pieces| pieces.concat())
}

/// A change: where (of the old boundaries, or anywhere), how far from there, how long, what.
type Write = (bool, usize, isize, usize, u8);

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let delta = select(vec![-4097isize, -4096, -64, -2, -1, 0, 1, 2, 63, 4096]);
    let length = prop_oneof![
        Just(1usize),
        Just(2),
        1usize..200,
        (1usize..8).prop_map(|blocks| blocks * BLOCK),
        1usize..100_000,
    ];
    let write = (any::<bool>(), any::<usize>(), delta, length, 0u8..6);
    proptest::collection::vec(write, 0..12)
}

/// Applies the writes to `bytes`; answers what was reported of them.
fn apply(bytes: &mut [u8], base: &Leaf, writes: &[Write]) -> Vec<Part> {
    let mut ends = vec![0];
    for extent in &base.extents {
        ends.push(ends.last().unwrap() + extent.length as usize);
    }
    // What is known of each byte: 0 unchanged, 1 may have changed, 2 zeros.
    let mut told = vec![0u8; bytes.len()];
    for (index, (at_end, place, delta, length, what)) in writes.iter().enumerate() {
        let near = if *at_end {
            ends[place % ends.len()]
        } else {
            place % bytes.len() / BLOCK * BLOCK
        };
        let start = near.saturating_add_signed(*delta).min(bytes.len());
        let end = (start + length).min(bytes.len());
        let part = &mut bytes[start..end];
        match what {
            0 | 1 => part.copy_from_slice(&noise(end - start, 100 + index as u64)),
            2 | 3 => part.fill(0),
            4 => part.fill(7),
            // Written, and the same as before.
            _ => {}
        }
        let zero = *what == 2;
        told[start..end].fill(if zero { 2 } else { 1 });
    }
    let mut parts: Vec<Part> = Vec::new();
    for (at, told) in told.iter().enumerate().filter(|(_, told)| **told > 0) {
        let zero = *told == 2;
        match parts.last_mut() {
            Some(last) if last.range.end == at && last.zero == zero => last.range.end += 1,
            _ => parts.push(Part {
                range: at..at + 1,
                zero,
            }),
        }
    }
    parts
}

fn check(
    cut: CutParameters,
    old: &[u8],
    writes: &[Write],
) -> std::result::Result<(), TestCaseError> {
    let base = leaf_of(cut, old);
    let mut new = old.to_vec();
    let parts = apply(&mut new, &base, writes);
    let (leaf, reads) = leaf_by_changes(cut, &base, &new, &parts);
    prop_assert_eq!(leaf, leaf_of(cut, &new));
    // Nothing is read twice.
    let mut reads = reads;
    reads.sort_by_key(|read| read.start);
    prop_assert!(reads.windows(2).all(|pair| pair[0].end <= pair[1].start));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_leaf_is_that_of_the_bytes(old in content(), writes in writes(), cut in select(&CUTS[..])) {
        check(cut, &old, &writes)?;
    }
}

fn parts(ranges: &[(Range<usize>, bool)]) -> Vec<Part> {
    let part = |(range, zero): &(Range<usize>, bool)| Part {
        range: range.clone(),
        zero: *zero,
    };
    ranges.iter().map(part).collect()
}

/// Reports `ranges` of `new` as changed since `old`; answers the ranges read.
fn reads(old: &[u8], new: &[u8], ranges: &[(Range<usize>, bool)]) -> Vec<Range<usize>> {
    let base = leaf_of(SMALL, old);
    let (leaf, reads) = leaf_by_changes(SMALL, &base, new, &parts(ranges));
    assert_eq!(leaf, leaf_of(SMALL, new));
    reads
}

#[test]
fn nothing_is_read_where_nothing_changed() {
    let mut old = noise(300_000, 1);
    old[40 * BLOCK..50 * BLOCK].fill(0);
    assert_eq!(reads(&old, &old, &[]), []);
    // Zeros over zeros need no look either.
    assert_eq!(reads(&old, &old, &[(41 * BLOCK..44 * BLOCK + 9, true)]), []);
}

#[test]
fn a_change_costs_its_chunk() {
    let old = noise(500_000, 2);
    let mut new = old.clone();
    new[250_000] ^= 1;
    let read: usize = reads(&old, &new, &[(250_000..250_001, false)])
        .iter()
        .map(Range::len)
        .sum();
    // The chunk, what is cut anew behind it, and the blocks that these lie in.
    assert!(read <= 3 * (24 << 10) + 2 * BLOCK, "{read}");
}

#[test]
fn a_write_into_a_hole_is_all_that_is_read() {
    let old = vec![0; 500_000];
    let mut new = old.clone();
    new[30 * BLOCK..31 * BLOCK].fill(1);
    assert_eq!(
        reads(&old, &new, &[(30 * BLOCK..31 * BLOCK, false)]),
        [30 * BLOCK..31 * BLOCK]
    );
    // Even if only a part of the block was reported.
    assert_eq!(
        reads(&old, &new, &[(30 * BLOCK..30 * BLOCK + 5, false)]),
        [30 * BLOCK..31 * BLOCK]
    );
}

#[test]
fn zeros_join_short_zeros_that_were_data() {
    // Three blocks of zeros are data; a fourth one beside them, on either side, makes a hole of all.
    for (zeros, change) in [(20..23, 23..24), (20..23, 19..20), (20..22, 22..24)] {
        for zero in [true, false] {
            let mut old = noise(60 * BLOCK, 3);
            old[zeros.start * BLOCK..zeros.end * BLOCK].fill(0);
            let mut new = old.clone();
            new[change.start * BLOCK..change.end * BLOCK].fill(0);
            assert!(canonical_holes(&old, &[]).is_empty());
            assert_eq!(canonical_holes(&new, &[])[0].len(), MIN_HOLE);
            reads(
                &old,
                &new,
                &[(change.start * BLOCK..change.end * BLOCK, zero)],
            );
        }
    }
}

#[test]
fn a_hole_that_is_cut_short_becomes_data() {
    let mut old = noise(60 * BLOCK, 4);
    old[20 * BLOCK..24 * BLOCK].fill(0);
    let mut new = old.clone();
    new[23 * BLOCK + 5] = 1;
    reads(&old, &new, &[(23 * BLOCK + 5..23 * BLOCK + 6, false)]);
}

#[test]
fn a_run_that_goes_on_where_it_ended_is_cut_anew_from_its_last_chunk() {
    let mut old = noise(60 * BLOCK, 5);
    old[30 * BLOCK..].fill(0);
    let mut new = old.clone();
    new[30 * BLOCK..31 * BLOCK].fill(9);
    let read = reads(&old, &new, &[(30 * BLOCK..31 * BLOCK, false)]);
    let last = leaf_of(SMALL, &old).extents;
    let last = last[last.len() - 2].length as usize;
    let bytes: usize = read.iter().map(Range::len).sum();
    assert!(
        (last + BLOCK..last + 3 * BLOCK).contains(&bytes),
        "{read:?}"
    );
}

#[test]
fn the_byte_behind_a_cut_decides_it() {
    let old = noise(60 * BLOCK, 6);
    let mut at = 0;
    for extent in leaf_of(SMALL, &old).extents {
        at += extent.length as usize;
        for change in at.saturating_sub(2)..(at + 3).min(old.len()) {
            let mut new = old.clone();
            for value in [0, 1, 77, 255] {
                new[change] = value;
                reads(&old, &new, &[(change..change + 1, false)]);
            }
        }
    }
}

#[test]
fn a_run_that_ends_a_byte_behind_an_old_cut_may_lose_it() {
    // Content cuts are looked for at all but the last byte of a run whose rest is odd.
    let cut = CUTS[1];
    let mut seen = 0;
    let old = noise(8 << 20, 7);
    let mut at = 0;
    for extent in leaf_of(cut, &old).extents {
        let length = extent.length as usize;
        at += length;
        if at % BLOCK == BLOCK - 1 && at + 1 + MIN_HOLE <= old.len() {
            seen += usize::from(length.is_multiple_of(2));
            let mut new = old.clone();
            let zeros = at + 1..at + 1 + MIN_HOLE;
            new[zeros.clone()].fill(0);
            let base = leaf_of(cut, &old);
            let (leaf, _) = leaf_by_changes(cut, &base, &new, &parts(&[(zeros, true)]));
            assert_eq!(leaf, leaf_of(cut, &new));
        }
    }
    assert!(seen > 0);
}
