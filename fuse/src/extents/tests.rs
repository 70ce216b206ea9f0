#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of ranges may have one"
)]

use super::*;
use cairn::Result as EngineResult;

/// Data in the given ranges, holes between them; nothing is ever read.
struct Sparse {
    size: u64,
    data: Vec<Range<u64>>,
}

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.size
    }
    fn read_exact_at(&self, _offset: u64, _buffer: &mut [u8]) -> EngineResult<()> {
        unreachable!("holes are found without reading")
    }
    fn data_extents(&self, range: Range<u64>) -> EngineResult<Vec<Range<u64>>> {
        Ok(self
            .data
            .iter()
            .map(|data| data.start.max(range.start)..data.end.min(range.end))
            .filter(|part| !part.is_empty())
            .collect())
    }
}

#[test]
fn holes_and_data_are_found_across_looks() {
    let far = 5 * FIRST_LOOK + 12_288;
    let disk = Sparse {
        size: 1 << 40,
        data: vec![
            4096..8192,
            far..far + 3 * FIRST_LOOK,
            (1 << 40) - 4096..1 << 40,
        ],
    };
    assert_eq!(seek_data(&disk, 0).unwrap(), 4096);
    assert_eq!(seek_data(&disk, 5000).unwrap(), 5000);
    assert_eq!(seek_hole(&disk, 0).unwrap(), 0);
    assert_eq!(seek_hole(&disk, 4096).unwrap(), 8192);
    assert_eq!(seek_data(&disk, 8192).unwrap(), far);
    assert_eq!(seek_hole(&disk, far).unwrap(), far + 3 * FIRST_LOOK);
    assert_eq!(
        seek_data(&disk, far + 3 * FIRST_LOOK).unwrap(),
        (1 << 40) - 4096
    );
    assert_eq!(seek_hole(&disk, (1 << 40) - 1).unwrap(), 1 << 40);
    assert!(matches!(seek_data(&disk, 1 << 40), Err(Failure::BeyondEnd)));
    assert!(matches!(seek_hole(&disk, 1 << 40), Err(Failure::BeyondEnd)));
}

#[test]
fn a_tail_of_holes_has_no_data_and_a_full_disk_no_hole_before_its_end() {
    let empty = Sparse {
        size: 1 << 44,
        data: Vec::new(),
    };
    assert!(matches!(seek_data(&empty, 7), Err(Failure::BeyondEnd)));
    assert_eq!(seek_hole(&empty, 7).unwrap(), 7);
    let full = Sparse {
        size: 1 << 30,
        data: vec![0..1 << 30],
    };
    assert_eq!(seek_hole(&full, 0).unwrap(), 1 << 30);
    assert_eq!(seek_data(&full, 99).unwrap(), 99);
}

#[test]
fn every_offset_agrees_with_a_plain_search() {
    let data = vec![3..5u64, 5..9, 12..13, 20..40];
    let disk = Sparse {
        size: 64,
        data: data.clone(),
    };
    let is_data = |at: u64| data.iter().any(|part| part.contains(&at));
    for offset in 0..64 {
        let data_at = (offset..64).find(|at| is_data(*at));
        let hole_at = (offset..64).find(|at| !is_data(*at)).unwrap_or(64);
        assert_eq!(seek_data(&disk, offset).ok(), data_at, "data from {offset}");
        assert_eq!(
            seek_hole(&disk, offset).unwrap(),
            hole_at,
            "hole from {offset}"
        );
    }
}

#[test]
fn allocation_is_counted_or_judged() {
    let small = Sparse {
        size: MEASURED,
        data: vec![0..4096, 8192..12288],
    };
    assert_eq!(allocated(&small), 8192);
    let large = Sparse {
        size: 1 << 40,
        data: vec![0..1 << 39],
    };
    assert_eq!(allocated(&large), 1 << 39);
    let full = Sparse {
        size: 1 << 40,
        data: vec![0..1 << 40],
    };
    assert_eq!(allocated(&full), 1 << 40);
}
