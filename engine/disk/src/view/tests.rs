use super::*;
use crate::{Format, FormatHint, VirtualDisk, open_bytes};
use cairn_base::Kind;
use cairn_base::read_at::{check_range, clip, read_vec};
use proptest::prelude::*;
use std::ops::Range;

/// A disk of some size that holds pieces of one byte each, in order, and cannot be read in one place.
struct Disk {
    size: u64,
    pieces: Vec<(Range<u64>, u8)>,
    damaged: Range<u64>,
}

impl ReadAt for Disk {
    fn size(&self) -> u64 {
        self.size
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let end = offset + buffer.len() as u64;
        if self.damaged.start < end && offset < self.damaged.end {
            return Err(Error::damaged("lost"));
        }
        buffer.fill(0);
        for (range, byte) in &self.pieces {
            let part = range.start.max(offset)..range.end.min(end);
            if !part.is_empty() {
                buffer[(part.start - offset) as usize..(part.end - offset) as usize].fill(*byte);
            }
        }
        Ok(())
    }
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size);
        if self.damaged.start < range.end && range.start < self.damaged.end {
            return Err(Error::damaged("lost"));
        }
        let clipped = self.pieces.iter().map(|(piece, _)| {
            let start = piece.start.max(range.start);
            start..piece.end.min(range.end).max(start)
        });
        Ok(clipped.filter(|part| !part.is_empty()).collect())
    }
}

/// Pieces at `places`, as far as they neither overlap nor leave the disk.
fn disk(size: u64, places: &[(u64, u64, u8)]) -> Arc<Disk> {
    let mut pieces: Vec<(Range<u64>, u8)> = Vec::new();
    let mut sorted = places.to_vec();
    sorted.sort();
    for (start, length, byte) in sorted {
        let start = start.max(pieces.last().map_or(0, |(last, _)| last.end));
        let end = (start + length).min(size);
        if start < end {
            pieces.push((start..end, byte));
        }
    }
    Arc::new(Disk {
        size,
        pieces,
        damaged: 0..0,
    })
}

fn options(sector_size: u32) -> ViewOptions<'static> {
    ViewOptions {
        sector_size,
        seed: b"a point and its disk",
        time: Time::from_seconds(1_795_000_000),
    }
}

fn shown(disk: &Arc<Disk>, format: ViewFormat, sector_size: u32) -> Arc<dyn ReadAt> {
    view(disk.clone(), format, &options(sector_size)).unwrap()
}

fn opened(view: &Arc<dyn ReadAt>) -> Arc<dyn VirtualDisk> {
    let opened = open_bytes(view.clone(), FormatHint::Detect).unwrap();
    assert!(opened.warnings().is_empty(), "{:?}", opened.warnings());
    opened
}

/// Everything but zeros lies in the extents of `range`, which are in order and within it.
fn check_extents(whole: &[u8], view: &dyn ReadAt, range: Range<u64>) {
    let mut at = range.start.min(whole.len() as u64);
    let end = range.end.min(whole.len() as u64);
    for extent in view
        .data_extents(range)
        .unwrap()
        .into_iter()
        .chain(std::iter::once(end..end))
    {
        assert!(extent.start >= at && extent.end <= end && extent.start <= extent.end);
        let gap = &whole[at as usize..extent.start as usize];
        assert!(gap.iter().all(|byte| *byte == 0), "data outside near {at}");
        at = extent.end;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_disk_is_read_back(
        size in prop_oneof![1u64..9_000_000, (0u64..5).prop_map(|blocks| (blocks + 1) << 21)],
        places in proptest::collection::vec((0u64..9_000_000, 1u64..700_000, 1u8..), 0..6),
        cuts in proptest::collection::vec((any::<u64>(), 0u64..3_000_000), 0..12),
    ) {
        let disk = disk(size, &places);
        for (format, sector_size) in [(ViewFormat::Vhd, 512), (ViewFormat::Vhdx, 512), (ViewFormat::Vhdx, 4096)] {
            let view = shown(&disk, format, sector_size);
            let whole = read_vec(&*view, 0, view.size() as usize).unwrap();
            for (start, length) in &cuts {
                // At the edges of what the file is made of as often as anywhere else.
                let start = if start % 3 == 0 { (start >> 2) % 2048 } else { *start } % view.size();
                let range = start..(start + length).min(view.size());
                let part = read_vec(&*view, start, (range.end - start) as usize).unwrap();
                prop_assert!(part == whole[start as usize..range.end as usize]);
                check_extents(&whole, &*view, range);
            }
            check_extents(&whole, &*view, 0..u64::MAX);
            let back = opened(&view);
            prop_assert_eq!(back.size(), size.next_multiple_of(u64::from(sector_size)));
            prop_assert_eq!(back.sector_size(), sector_size);
            let mut expected = read_vec(&*disk, 0, size as usize).unwrap();
            expected.resize(back.size() as usize, 0);
            prop_assert!(read_vec(&*back, 0, expected.len()).unwrap() == expected);
            // The same for the same seed.
            let again = shown(&disk, format, sector_size);
            prop_assert!(read_vec(&*again, 0, whole.len()).unwrap() == whole);
        }
    }
}

#[test]
fn blocks_without_data_are_not_there() {
    let disk = disk(64 << 20, &[((40 << 20) + 5, 10, 7)]);
    for (format, kind, block) in [
        (ViewFormat::Vhd, Format::VhdDynamic, 2u64 << 20),
        (ViewFormat::Vhdx, Format::VhdxDynamic, 8 << 20),
    ] {
        let view = shown(&disk, format, 512);
        assert!(view.size() > 64 << 20 && view.size() < 70 << 20);
        let back = opened(&view);
        assert_eq!(back.format(), kind);
        assert_eq!(
            back.data_extents(0..u64::MAX).unwrap(),
            [(40 << 20) + 5..(40 << 20) + 15]
        );
        // With a file that knows no holes the table alone is left to tell.
        let plain = read_vec(&*view, 0, view.size() as usize).unwrap();
        let back = open_bytes(Arc::new(plain), FormatHint::Detect).unwrap();
        assert_eq!(
            back.data_extents(0..u64::MAX).unwrap(),
            [40 << 20..(40 << 20) + block]
        );
    }
}

#[test]
fn seeds_and_times_are_in_the_file() {
    let disk = disk(1 << 20, &[]);
    let ids = |format, seed: &[u8]| {
        let options = ViewOptions {
            seed,
            ..options(512)
        };
        let view = view(disk.clone(), format, &options).unwrap();
        opened(&view).identity()
    };
    for format in ViewFormat::ALL {
        let (one, other) = (ids(format, b"one"), ids(format, b"other"));
        assert_eq!(one, ids(format, b"one"));
        assert_ne!(one.disk_id, other.disk_id);
        assert!(one.disk_id.is_some());
        assert_eq!(one.data_id.is_some(), format == ViewFormat::Vhdx);
    }
    let view = shown(&disk, ViewFormat::Vhd, 512);
    let (footer, _) = crate::vhd::find_footer(&*view).unwrap().unwrap();
    assert_eq!(i64::from(footer.timestamp) + 946_684_800, 1_795_000_000);
}

#[test]
fn the_largest_disks_cost_nothing_until_they_are_read() {
    let ends = |size: u64| {
        disk(
            size,
            &[(0, 4096, 1), (size / 2 + 77, 9, 2), (size - 512, 512, 3)],
        )
    };
    for (format, size, sector_size) in [
        (ViewFormat::Vhd, 2040 << 30, 512),
        (ViewFormat::Vhdx, 2040 << 30, 4096),
        (ViewFormat::Vhdx, 64 << 40, 512),
        (ViewFormat::Vhdx, 64 << 40, 4096),
    ] {
        let disk = ends(size);
        let view = shown(&disk, format, sector_size);
        let back = opened(&view);
        assert_eq!(back.size(), size);
        for at in [0, size / 2, size - 4096] {
            let wanted = read_vec(&*disk, at, 4096).unwrap();
            assert!(
                read_vec(&*back, at, 4096).unwrap() == wanted,
                "{format:?} {at}"
            );
        }
        let wanted: Vec<Range<u64>> = disk.pieces.iter().map(|(range, _)| range.clone()).collect();
        assert_eq!(back.data_extents(0..u64::MAX).unwrap(), wanted);
    }
}

#[test]
fn what_no_format_can_say_is_refused() {
    for (format, size, sector_size, takes) in [
        (ViewFormat::Vhd, 0, 512, false),
        (ViewFormat::Vhd, 1, 512, true),
        (ViewFormat::Vhd, 1 << 30, 4096, false),
        (ViewFormat::Vhd, 2040 << 30, 512, true),
        (ViewFormat::Vhd, (2040 << 30) + 1, 512, false),
        (ViewFormat::Vhdx, 0, 512, false),
        (ViewFormat::Vhdx, 1, 4096, true),
        (ViewFormat::Vhdx, 64 << 40, 4096, true),
        (ViewFormat::Vhdx, (64 << 40) + 1, 512, false),
        (ViewFormat::Vhdx, 1 << 30, 520, false),
    ] {
        assert_eq!(format.takes(size, sector_size), takes, "{format:?} {size}");
        let made = view(disk(size, &[]), format, &options(sector_size));
        match made {
            Ok(_) => assert!(takes),
            Err(error) => assert!(!takes && error.kind() == Kind::Unsupported, "{error}"),
        }
    }
}

#[test]
fn what_is_damaged_is_there_and_fails() {
    let disk = Arc::new(Disk {
        size: 64 << 20,
        pieces: vec![(1 << 20..2 << 20, 5)],
        damaged: 33 << 20..(33 << 20) + 1,
    });
    for format in ViewFormat::ALL {
        let view = shown(&disk, format, 512);
        let back = opened(&view);
        let mut byte = [0; 100];
        let error = back.read_exact_at((33 << 20) - 50, &mut byte).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        for (at, wanted) in [
            (1 << 20, 5),
            (20 << 20, 0),
            (33 << 20 | 9, 0),
            (50 << 20, 0),
        ] {
            back.read_exact_at(at, &mut byte).unwrap();
            assert_eq!(byte, [wanted; 100], "{at}");
        }
    }
}
