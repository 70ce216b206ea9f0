//! Overlays against a plain vector: by many threads, cut off at any moment, on disks that fail.

mod faulty;
mod left;

use super::files::{self, Files};
use super::scratch::Scratch;
use super::*;
use crate::Kind;
use cairn_base::read_at::read_vec;
use faulty::{Faults, Memory};
use proptest::prelude::*;
use std::collections::HashMap;
use std::fs;

/// More than two pages of the map, and no whole number of units.
const SIZE: u64 = (66 << 20) + 700;
const SECTOR: u64 = 512;

/// Numbers that only look random.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }

    /// A range of at most 20,000 bytes in one of the windows.
    fn range(&mut self, size: u64) -> Range<u64> {
        let window = windows(size)[self.next(4) as usize].clone();
        let start = window.start + self.next(window.end - window.start);
        let align = [1, SECTOR, UNIT][self.next(3) as usize];
        let start = start / align * align;
        let end = (start + self.next(20_000) / align * align).min(window.end);
        start..end.max(start)
    }
}

/// What is worked on: the beginning, somewhere, the end of a page of the map, the end of the disk.
fn windows(size: u64) -> [Range<u64>; 4] {
    [0, size / 3, 32 << 20, size].map(|around: u64| {
        let end = (around + 30_000).min(size);
        around.saturating_sub(30_000).min(end)..end
    })
}

/// The disk is as the model has it, where anything was done.
fn same(overlay: &Overlay, model: &[u8]) -> bool {
    windows(model.len() as u64).into_iter().all(|window| {
        let slot = window.start as usize..window.end as usize;
        read_vec(overlay, window.start, slot.len()).unwrap() == model[slot]
    })
}

/// A disk of repeated stretches: noise, then zeros.
fn base(size: u64) -> Arc<dyn ReadAt> {
    let mut random = Random(1);
    let noise: Vec<u8> = (0..100_003).map(|_| random.next(256) as u8).collect();
    let mut bytes = vec![0; size as usize];
    for stretch in bytes.chunks_mut(200_000) {
        let length = noise.len().min(stretch.len());
        stretch[..length].copy_from_slice(&noise[..length]);
    }
    Arc::new(bytes)
}

fn in_memory(base: &Arc<dyn ReadAt>, map: Arc<Memory>, data: Arc<Memory>) -> Overlay {
    let files = Files {
        id: [3; 16],
        map,
        data: vec![data],
    };
    let mut overlay = Overlay::of(base.clone(), files, true);
    overlay.map = Map::new(overlay_file(&overlay), [3; 16]).with_max_pages(2);
    overlay
}

fn overlay_file(overlay: &Overlay) -> Arc<dyn Scratch> {
    overlay.map.file().clone()
}

/// One operation of any kind, the same on the model.
fn operate(overlay: &Overlay, model: &mut [u8], random: &mut Random, fill: u8) -> Result<()> {
    let range = random.range(model.len() as u64);
    let slot = range.start as usize..range.end as usize;
    match random.next(8) {
        0..4 => {
            let bytes: Vec<u8> = (0..slot.len()).map(|at| fill ^ (at / 512) as u8).collect();
            model[slot].copy_from_slice(&bytes);
            overlay.write_at(range.start, &bytes)
        }
        4 => {
            model[slot].fill(0);
            overlay.write_zeroes(range, false)
        }
        5 => {
            model[slot].fill(0);
            overlay.write_zeroes(range, true)
        }
        6 => {
            let whole = overlay.units_inside(&range);
            let end = (whole.end * UNIT).min(overlay.size) as usize;
            if !whole.is_empty() {
                model[(whole.start * UNIT) as usize..end].fill(0);
            }
            overlay.trim(range)
        }
        _ => {
            assert!(read_vec(overlay, range.start, slot.len())? == model[slot]);
            Ok(())
        }
    }
}

/// What lies between the extents is zeros, and they are in order.
fn check_extents(overlay: &Overlay, model: &[u8]) {
    let mut next = 0;
    for extent in overlay.data_extents(0..u64::MAX).unwrap() {
        assert!(extent.start >= next && extent.start < extent.end);
        assert!(
            model[next as usize..extent.start as usize]
                .iter()
                .all(|byte| *byte == 0)
        );
        next = extent.end;
    }
    assert!(model[next as usize..].iter().all(|byte| *byte == 0));
}

#[test]
fn it_reads_as_a_vector_that_was_written_to() {
    let base = base(SIZE);
    let original = read_vec(&*base, 0, SIZE as usize).unwrap();
    for seed in 0..4 {
        let temp = tempfile::tempdir().unwrap();
        let of = OverlayBase {
            id: [seed as u8 + 1; 32],
            disk: "disk0".to_string(),
        };
        let mut model = original.clone();
        let mut random = Random(seed);
        let open = || {
            let mut overlay = match seed % 2 {
                0 => Overlay::kept(base.clone(), temp.path(), &of).unwrap(),
                _ => Overlay::temporary(base.clone(), Some(temp.path())).unwrap(),
            };
            let map = Map::new(overlay_file(&overlay), overlay.map.id());
            overlay.map = map.with_max_pages(2);
            overlay
        };
        let mut overlay = open();
        for round in 0..8 {
            if seed % 2 == 0 {
                // Again and again.
                drop(overlay);
                overlay = open();
            }
            for step in 0..60 {
                operate(&overlay, &mut model, &mut random, (round * 60 + step) as u8).unwrap();
            }
            assert!(same(&overlay, &model));
        }
        check_extents(&overlay, &model);
        assert!(read_vec(&overlay, 0, SIZE as usize).unwrap() == model);
        assert!(overlay.scratch_bytes() > 0);
        // Files without a name leave none.
        let left = fs::read_dir(temp.path()).unwrap().count();
        assert_eq!(left, if seed % 2 == 0 { 2 } else { 0 });
    }
    assert!(read_vec(&*base, 0, SIZE as usize).unwrap() == original);
}

#[test]
fn threads_that_write_to_the_same_units_undo_nothing() {
    const THREADS: u64 = 4;
    let size = 600_000;
    let base = base(size);
    let temp = tempfile::tempdir().unwrap();
    let overlay = Overlay::temporary(base.clone(), Some(temp.path())).unwrap();
    let original = read_vec(&*base, 0, size as usize).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (overlay, mut model) = (&overlay, original.clone());
            scope.spawn(move || {
                let mut random = Random(thread);
                for step in 0..2000 {
                    // Its own sectors among those of the others.
                    let sector = random.next(size / SECTOR / THREADS) * THREADS + thread;
                    let at = sector * SECTOR;
                    let slot = at as usize..(at + SECTOR) as usize;
                    match random.next(4) {
                        0 => {
                            overlay.write_zeroes(at..at + SECTOR, false).unwrap();
                            model[slot.clone()].fill(0);
                        }
                        1 => overlay.flush().unwrap(),
                        _ => {
                            let bytes = [step as u8; SECTOR as usize];
                            overlay.write_at(at, &bytes).unwrap();
                            model[slot.clone()].copy_from_slice(&bytes);
                        }
                    }
                    assert!(read_vec(overlay, at, SECTOR as usize).unwrap() == model[slot]);
                }
                for sector in (thread..size / SECTOR).step_by(THREADS as usize) {
                    let at = sector * SECTOR;
                    let now = read_vec(overlay, at, SECTOR as usize).unwrap();
                    assert!(now == model[at as usize..(at + SECTOR) as usize]);
                }
            });
        }
    });
}

/// Writes and flushes until the power is cut; says what each sector that was written to may hold after that, first what it held at the last flush.
fn until_cut(
    overlay: &Overlay,
    faults: &Faults,
    random: &mut Random,
) -> HashMap<u64, Vec<Vec<u8>>> {
    let mut allowed: HashMap<u64, Vec<Vec<u8>>> = HashMap::new();
    for step in 0u64.. {
        if random.next(10) == 0 {
            overlay.flush().unwrap();
            if !faults.found.lock().is_empty() {
                break;
            }
            for values in allowed.values_mut() {
                values.drain(..values.len() - 1);
            }
            continue;
        }
        // Whole sectors only: that is what a disk keeps apart.
        let range = random.range(overlay.size);
        let range = range.start / SECTOR * SECTOR..range.end / SECTOR * SECTOR;
        if range.is_empty() {
            continue;
        }
        let zeros = random.next(4) == 0;
        let mut bytes = vec![0; length(&range)];
        for (sector, chunk) in (range.start / SECTOR..).zip(bytes.chunks_mut(SECTOR as usize)) {
            chunk.fill(if zeros { 0 } else { (step * 7 + sector) as u8 });
            let values = allowed.entry(sector).or_insert_with(|| {
                vec![read_vec(overlay.base(), sector * SECTOR, SECTOR as usize).unwrap()]
            });
            values.push(chunk.to_vec());
        }
        match zeros {
            true => overlay.write_zeroes(range, false).unwrap(),
            false => overlay.write_at(range.start, &bytes).unwrap(),
        }
        if !faults.found.lock().is_empty() {
            break;
        }
    }
    allowed
}

#[test]
fn after_a_power_cut_what_was_flushed_is_there_and_the_rest_is_untouched() {
    let size = (33 << 20) + 512;
    let base = base(size);
    for cut_at in 1..80 {
        let mut random = Random(cut_at);
        let faults = Arc::new(Faults::default());
        faults.cut_at.store(cut_at, Ordering::Relaxed);
        let overlay = in_memory(&base, faults.file(), faults.file());
        let allowed = until_cut(&overlay, &faults, &mut random);
        let found = std::mem::take(&mut *faults.found.lock());
        let back = in_memory(&base, found[0].clone(), found[1].clone());
        for window in windows(size) {
            for sector in window.start.div_ceil(SECTOR)..window.end / SECTOR {
                let now = read_vec(&back, sector * SECTOR, SECTOR as usize).unwrap();
                let right = match allowed.get(&sector) {
                    Some(values) => values.contains(&now),
                    None => read_vec(&*base, sector * SECTOR, SECTOR as usize).unwrap() == now,
                };
                assert!(right, "cut before call {cut_at}: sector {sector}");
            }
        }
    }
}

#[test]
fn a_full_disk_fails_the_writer_and_nothing_else() {
    let size = (33 << 20) + 512;
    let base = base(size);
    let original = read_vec(&*base, 0, size as usize).unwrap();
    for full_at in 1..20 {
        let mut random = Random(full_at);
        let faults = Arc::new(Faults::default());
        let overlay = in_memory(&base, faults.file(), faults.file());
        let mut model = original.clone();
        faults.full_at.store(full_at, Ordering::Relaxed);
        let mut failed = 0;
        for step in 0..40u8 {
            let range = random.range(size);
            let slot = range.start as usize..range.end as usize;
            let bytes = vec![step; slot.len()];
            match overlay.write_at(range.start, &bytes) {
                Ok(()) => model[slot].copy_from_slice(&bytes),
                Err(error) => {
                    failed += 1;
                    assert_eq!(error.kind(), Kind::Full);
                    // Each byte is the old or the new one.
                    let now = read_vec(&overlay, range.start, slot.len()).unwrap();
                    let mut both = now.iter().zip(&model[slot.clone()]);
                    assert!(both.all(|(now, old)| now == old || *now == step));
                    model[slot].copy_from_slice(&now);
                }
            }
        }
        assert!(failed > 0);
        assert!(same(&overlay, &model));
        // With room again everything goes on.
        faults.full_at.store(0, Ordering::Relaxed);
        overlay.write_at(5, b"again").unwrap();
        model[5..10].copy_from_slice(b"again");
        overlay.flush().unwrap();
        assert!(same(&overlay, &model));
    }
}

#[test]
fn data_that_could_not_be_made_durable_is_not_served() {
    let base = base(100_000);
    let faults = Arc::new(Faults::default());
    let overlay = in_memory(&base, faults.file(), faults.file());
    overlay.flush().unwrap();
    assert_eq!(
        faults.syncs.load(Ordering::Relaxed),
        0,
        "there was nothing to flush"
    );
    overlay.write_at(5, b"lost").unwrap();
    faults.sync_fails.store(true, Ordering::Relaxed);
    assert_eq!(overlay.flush().unwrap_err().kind(), Kind::Io);
    faults.sync_fails.store(false, Ordering::Relaxed);
    for error in [
        overlay.flush().unwrap_err(),
        overlay.write_at(0, b"x").unwrap_err(),
        overlay.trim(0..50_000).unwrap_err(),
        read_vec(&overlay, 0, 10).unwrap_err(),
        overlay.data_extents(0..10).unwrap_err(),
    ] {
        assert!(
            error.to_string().contains("the scratch disk is gone"),
            "{error}"
        );
    }
}

#[test]
fn ranges_beyond_the_end_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let overlay = Overlay::temporary(base(5000), Some(temp.path())).unwrap();
    assert_eq!(
        overlay.write_at(4999, b"ab").unwrap_err().kind(),
        Kind::Invalid
    );
    assert_eq!(
        overlay.write_at(u64::MAX, b"a").unwrap_err().kind(),
        Kind::Invalid
    );
    assert_eq!(overlay.trim(0..5001).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(
        overlay.write_zeroes(4000..5001, false).unwrap_err().kind(),
        Kind::Invalid
    );
    overlay.write_at(4999, b"a").unwrap();
    overlay.write_at(5000, b"").unwrap();
    overlay.trim(4096..5000).unwrap();
    assert_eq!(read_vec(&overlay, 4096, 904).unwrap(), [0; 904]);
}

#[test]
fn a_huge_disk_takes_memory_and_files_as_it_is_used() {
    /// 64 TiB of zeros.
    struct Huge;
    impl ReadAt for Huge {
        fn size(&self) -> u64 {
            64 << 40
        }
        fn read_exact_at(&self, _offset: u64, buffer: &mut [u8]) -> Result<()> {
            buffer.fill(0);
            Ok(())
        }
        fn data_extents(&self, _range: Range<u64>) -> Result<Vec<Range<u64>>> {
            Ok(Vec::new())
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let overlay = match Overlay::temporary(Arc::new(Huge), Some(temp.path())) {
        Ok(overlay) => overlay,
        Err(error) => {
            println!("SKIPPED: files of 8 TiB cannot be made here: {error}");
            return;
        }
    };
    // Across two files of data, and at the end.
    overlay.write_at(PART - 3, b"across").unwrap();
    overlay.write_at((64 << 40) - 3, b"end").unwrap();
    overlay.trim((1 << 40)..(2 << 40)).unwrap();
    assert_eq!(read_vec(&overlay, PART - 4, 8).unwrap(), b"\0across\0");
    assert_eq!(read_vec(&overlay, (64 << 40) - 4, 4).unwrap(), b"\0end");
    let extents = overlay.data_extents(PART - 10_000..PART + 10_000).unwrap();
    assert_eq!(extents.len(), 1);
    assert_eq!(extents[0], PART - 4096..PART + 4096);
    assert!(overlay.scratch_bytes() < 1 << 20);
}

#[test]
fn what_is_kept_belongs_to_one_base_and_one_process() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("scratch");
    let of = |id: u8, disk: &str| OverlayBase {
        id: [id; 32],
        disk: disk.to_string(),
    };
    let open = |size: u64, of: &OverlayBase| Overlay::kept(base(size), &folder, of);
    let first = open(10_000, &of(1, "disk0")).unwrap();
    assert_eq!(
        open(10_000, &of(1, "disk0")).err().unwrap().kind(),
        Kind::Busy
    );
    first.write_at(3, b"kept").unwrap();
    drop(first);
    assert_eq!(
        open(10_001, &of(1, "disk0")).err().unwrap().kind(),
        Kind::Exists
    );
    assert_eq!(
        open(10_000, &of(1, "../x")).err().unwrap().kind(),
        Kind::Invalid
    );
    // Others lie beside it.
    drop(open(10_000, &of(2, "disk0")).unwrap());
    drop(open(10_000, &of(1, "disk1")).unwrap());
    let again = open(10_000, &of(1, "disk0")).unwrap();
    assert_eq!(read_vec(&again, 3, 4).unwrap(), b"kept");
    drop(again);
    let data = folder.join("0101010101010101-disk0.data0");
    fs::OpenOptions::new()
        .write(true)
        .open(&data)
        .unwrap()
        .set_len(5000)
        .unwrap();
    assert_eq!(
        open(10_000, &of(1, "disk0")).err().unwrap().kind(),
        Kind::Damaged
    );
    fs::remove_file(&data).unwrap();
    assert_eq!(
        open(10_000, &of(1, "disk0")).err().unwrap().kind(),
        Kind::NotFound
    );
    // A broken header of a map that says something is damage; of one that says nothing, a beginning.
    for (disk, begun) in [("disk0", false), ("disk1", true)] {
        let map = folder.join(format!("0101010101010101-{disk}.map"));
        let mut bytes = fs::read(&map).unwrap();
        assert_eq!(bytes[4096..].iter().all(|byte| *byte == 0), begun);
        bytes[100] ^= 1;
        fs::write(&map, bytes).unwrap();
        let opened = open(10_000, &of(1, disk));
        assert_eq!(
            opened.err().map(|e| e.kind()),
            (!begun).then_some(Kind::Damaged)
        );
    }
    assert!(files::temporary(Some(&folder.join("0101010101010101-disk0.map")), 1).is_err());
}

proptest! {
    #[test]
    fn pieces_make_the_range(start in 0..100u64, length in 0..100u64, step in 1..40u64) {
        let mut next = start;
        for piece in pieces(start..start + length, step) {
            prop_assert_eq!(piece.start, next);
            prop_assert!(!piece.is_empty() && piece.end - piece.start <= step);
            next = piece.end;
        }
        prop_assert_eq!(next, start + length);
    }
}
