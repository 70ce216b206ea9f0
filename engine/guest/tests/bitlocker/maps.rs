//! Maps of what is encrypted on write that nobody would write: bounded, and nothing that they do not tell of is guessed.

use crate::files::Nothing;
use crate::maker::*;
use crate::support::*;
use cairn_base::read_at::{check_range, read_vec};
use cairn_base::{Kind, ReadAt, Result};
use cairn_guest::EntryId;
use cairn_guest::bitlocker::Unlocked;
use cairn_guest::volume::Extent;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

const SIZE: u64 = 2 << 20;

fn plain() -> Vec<u8> {
    let mut bytes = noise(31, SIZE as usize);
    bytes[KEPT.start as usize..KEPT.end as usize].fill(0);
    bytes[11..13].copy_from_slice(&512u16.to_le_bytes());
    bytes[13] = 8;
    bytes
}

fn recipe() -> Recipe {
    let mut recipe = Recipe::new(Looks::OnWrite, 0x8004).protect(&[Protect::Clear]);
    recipe.state = 5;
    recipe.written = vec![0..0x2_0000, HEAD..HEAD + CHUNK];
    recipe
}

/// An image with something else at some places, and holes behind its end.
struct Changed {
    image: Vec<u8>,
    size: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Changed {
    fn new(size: u64, pieces: Vec<(u64, Vec<u8>)>) -> Arc<Changed> {
        Arc::new(Changed {
            image: make(&recipe(), &plain()),
            size,
            pieces,
        })
    }
}

/// What of `bytes`, which lie at `at`, lies in the buffer at `offset` is put there.
fn lay(buffer: &mut [u8], offset: u64, at: u64, bytes: &[u8]) {
    let (start, end) = (
        at.max(offset),
        (at + bytes.len() as u64).min(offset + buffer.len() as u64),
    );
    if start < end {
        let from = &bytes[(start - at) as usize..(end - at) as usize];
        buffer[(start - offset) as usize..(end - offset) as usize].copy_from_slice(from);
    }
}

impl ReadAt for Changed {
    fn size(&self) -> u64 {
        self.size
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        buffer.fill(0);
        lay(buffer, offset, 0, &self.image);
        for (at, bytes) in &self.pieces {
            lay(buffer, offset, *at, bytes);
        }
        Ok(())
    }
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let data = range.start..range.end.min(SIZE);
        Ok(Some(data)
            .filter(|data| !data.is_empty())
            .into_iter()
            .collect())
    }
}

/// A volume of `size` bytes of which every other chunk of 4 KiB is encrypted; its bitmap lies where the image ends.
fn alternating(size: u64) -> Unlocked {
    let mut map = map(&recipe(), size);
    let chunks = (size / 4096) as u32;
    map.chunk = 4096;
    map.bitmap = SIZE;
    map.room = (36 + chunks / 8).next_multiple_of(0x200);
    for record in &mut map.records {
        record.chunks = chunks;
        record.bits = vec![0x55; (chunks / 8) as usize];
    }
    unlock(Changed::new(size, map.pieces()), &Given::Nothing).unwrap()
}

#[test]
fn a_map_of_many_pieces_is_told_in_few() {
    const LENGTH: u64 = 1 << 30;
    let device = alternating(LENGTH).device();
    let data = device.data_extents(0..u64::MAX).unwrap();
    assert!(data.len() <= (1 << 16) + 1, "{} ranges", data.len());
    let sorted = data.windows(2).all(|pair| pair[0].end < pair[1].start);
    assert!(sorted && data.last().unwrap().end == LENGTH);
    // What is encrypted, also of a hole, is data; it is told or lies in what is.
    for chunk in [
        0u64,
        0x300,
        0x302,
        0xfffe,
        0x1_0000,
        0x2_0002,
        (LENGTH / 4096) - 2,
    ] {
        let at = chunk * 4096;
        let is_told = data
            .iter()
            .any(|range| range.start <= at && at + 4096 <= range.end);
        assert!(is_told, "{chunk:#x}");
    }
    // Before the bound holes are exact.
    assert_eq!(data[9].end - data[9].start, 4096, "{:?}", data[9]);
    // A part is told as exactly as it can be.
    let part = 0x3000_0000..0x3000_4000u64;
    let told = device.data_extents(part.clone()).unwrap();
    let chunk = |number: u64| part.start + number * 4096..part.start + (number + 1) * 4096;
    assert_eq!(told, [chunk(0), chunk(2)]);
}

#[test]
fn extents_in_too_many_pieces_are_refused() {
    const LENGTH: u64 = 5 << 30;
    let unlocked = alternating(LENGTH);
    let count = |places: Vec<Range<u64>>| {
        let inner = Nothing::at(places);
        let volume = unlocked.volume(Arc::new(inner));
        let mut count = 0u64;
        let sink = &mut |_: Extent| {
            count += 1;
            ControlFlow::Continue(())
        };
        let told = volume.extents(EntryId::new(1), sink);
        (count, told.map_err(|error| error.kind()))
    };
    // The chunks of the bitmap itself are none.
    let some = 0x8000_0000..0x8000_0000 + 4096 * 1000u64;
    assert_eq!(count(vec![some.clone(), some]), (2000, Ok(())));
    // As many chunks as there may be pieces.
    let whole = LENGTH - (4096 << 20)..LENGTH;
    assert_eq!(count(vec![whole.clone()]), (1 << 20, Ok(())));
    let more = 0x4000_0000..0x4000_1000;
    assert_eq!(count(vec![whole, more]).1, Err(Kind::Unsupported));
}

/// Reads where chunks begin and end, as the recipe has them.
fn read(unlocked: &Unlocked, range: Range<u64>) -> Result<Vec<u8>> {
    read_vec(
        &*unlocked.device(),
        range.start,
        (range.end - range.start) as usize,
    )
}

/// Bytes that may be encrypted are not passed on as if they were not.
#[test]
fn what_no_bitmap_tells_of_is_an_error() {
    let plain = plain();
    let whole = map(&recipe(), SIZE);
    let mut short = whole.clone();
    short.region.end = 0x1d_0000;
    let mut late = whole.clone();
    late.region.start = 0x1_0000;
    let mut few = whole.clone();
    for record in &mut few.records {
        record.chunks = 0x1d;
    }
    let mut bits = whole;
    for record in &mut bits.records {
        record.bits.truncate(3);
    }
    for (name, map, told, untold) in [
        ("short", short, 0x1c_0000..0x1d_0000, 0x1d_0000..SIZE),
        ("few", few, 0x1c_0000..0x1d_0000, 0x1d_0000..SIZE),
        ("late", late, 0x1c_0000..SIZE, 0x2000..0x1_0000u64),
        // Behind what is BitLocker's own.
        ("bits", bits, 0x2000..0x4_0000, 0x18_6000..SIZE),
    ] {
        let unlocked = unlock(Changed::new(SIZE, map.pieces()), &Given::Nothing).unwrap();
        if name != "late" {
            let read = read(&unlocked, told.clone()).unwrap();
            assert!(
                read == plain[told.start as usize..told.end as usize],
                "{name}"
            );
        }
        for range in [untold.start..untold.start + 1, untold.start - 1..untold.end] {
            let error = read(&unlocked, range).unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged, "{name}: {error}");
            assert_eq!(error.offset(), Some(untold.start), "{name}: {error}");
        }
        let data = unlocked.device().data_extents(untold.clone()).unwrap();
        assert_eq!(data, [untold], "{name}");
    }
}

fn notes(unlocked: &Unlocked) -> Vec<(bool, String)> {
    let volume = unlocked.volume(Arc::new(Nothing::default()));
    let notes = volume.info().notes.iter();
    notes
        .map(|note| (note.is_defect, note.text.clone()))
        .collect()
}

#[test]
fn records_that_are_torn_or_contradict_each_other_are_told() {
    let good = map(&recipe(), SIZE);
    let [_, second, _] = good.places();
    let fine = unlock(Changed::new(SIZE, good.pieces()), &Given::Nothing).unwrap();
    assert!(notes(&fine).iter().all(|(is_defect, _)| !is_defect));
    // The newer one is torn: the older one says something else of what was encrypted since.
    let mut torn = good.pieces();
    torn.push((good.bitmap + u64::from(second) + 36, vec![0x21]));
    let unlocked = unlock(Changed::new(SIZE, torn), &Given::Nothing).unwrap();
    let told = notes(&unlocked);
    assert!(
        told.iter()
            .any(|(is_defect, text)| *is_defect && text.contains("not whole")),
        "{told:?}"
    );
    let mut equal = good.clone();
    equal.records[0].number = equal.records[1].number;
    let error = refused(Changed::new(SIZE, equal.pieces()), &Given::Nothing);
    assert_eq!(error.kind(), Kind::Damaged, "{error}");
    // Both say the same.
    equal.records[0].bits = equal.records[1].bits.clone();
    assert!(unlock(Changed::new(SIZE, equal.pieces()), &Given::Nothing).is_ok());
}

#[test]
fn tables_that_contradict_each_other_are_damage() {
    let good = map(&recipe(), SIZE);
    let with = |change: (u64, Vec<u8>)| {
        let mut pieces = good.pieces();
        pieces.push(change);
        Changed::new(SIZE, pieces)
    };
    let [first, second] = good.tables;
    let mut coarse = good.clone();
    coarse.chunk *= 2;
    for at in [first, second] {
        let error = refused(with((at, coarse.table(1, &[good.bitmap]))), &Given::Nothing);
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        assert_eq!(error.offset(), Some(second), "{error}");
        // One that is not whole is no second opinion.
        let unlocked = unlock(with((at + 20, vec![1])), &Given::Nothing).unwrap();
        assert!(
            notes(&unlocked)
                .iter()
                .any(|(is_defect, text)| !is_defect && text.contains("tables"))
        );
        assert!(read(&unlocked, 0..SIZE).unwrap() == plain());
    }
    // Behind the regions there may be room; regions that are not counted, or have no bitmap, are damage.
    for (count, bitmaps, fits) in [
        (1, vec![good.bitmap, 0, 0], true),
        (1, vec![good.bitmap, good.bitmap], false),
        (2, vec![good.bitmap], false),
        (u32::MAX, vec![good.bitmap], false),
    ] {
        let table = good.table(count, &bitmaps);
        let mut pieces = good.pieces();
        pieces.extend(good.tables.map(|at| (at, table.clone())));
        let opened = unlock(Changed::new(SIZE, pieces), &Given::Nothing);
        assert_eq!(opened.is_ok(), fits, "{count} {bitmaps:?}");
    }
}
