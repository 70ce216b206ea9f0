//! Images whose tables say much more than their files hold, and damaged ones opened as every format: each is refused or read, in bounded time and
//! memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::single_range_in_vec_init,
    reason = "extents are lists of ranges, some of one"
)]

#[path = "shared/counted.rs"]
mod counted;
mod shared;

use cairn_base::read_at::read_vec;
use cairn_base::{Kind, ReadAt, Result, Silent};
use cairn_disk::{
    Check, FormatHint, OpenOptions, Severity, Topic, VirtualDisk, examine, open, open_as,
    open_bytes,
};
use counted::opened;
use shared::{foreign_images, unpack};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
/// What a hostile image may take of memory.
const MOST: u64 = 64 * MIB;

/// The memory of a process is measured: so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A line of what the system says of this process, in bytes.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Asserts that `work` takes no more memory than it may, where the system tells.
fn in_bounded_memory<T>(what: &str, work: impl FnOnce() -> T) -> T {
    // The peak begins anew.
    let is_measured = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = status("VmRSS:");
    let outcome = work();
    match (before, status("VmHWM:")) {
        (Some(before), Some(peak)) if is_measured => {
            let took = peak.saturating_sub(before);
            assert!(took < MOST, "{what}: took {} MiB", took / MIB);
        }
        _ => println!("SKIPPED: the system does not tell the memory of a process"),
    }
    outcome
}

/// A file of holes with these bytes in it.
fn hollow(path: &Path, size: u64, parts: &[(u64, &[u8])]) -> PathBuf {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (at, bytes) in parts {
        file.write_all_at(bytes, *at).unwrap();
    }
    path.to_path_buf()
}

/// The faults that a check of the image counts, in bounded memory and within a minute.
fn faults(path: &Path) -> Vec<(Topic, u64)> {
    let start = Instant::now();
    let found = in_bounded_memory("a check", || {
        let mut check = Check::new(&Silent);
        let examined = examine(path, &OpenOptions::default()).unwrap();
        let outcome = examined.check(&mut check);
        assert!(outcome.is_ok(), "{outcome:?}");
        let counts = check.counts().iter();
        let faults = counts.filter(|count| count.severity == Severity::Fault);
        faults.map(|count| (count.topic, count.found)).collect()
    });
    assert!(start.elapsed() < Duration::from_secs(60));
    found
}

fn little(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    numbers.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// The header of a QCOW2 in clusters of 2 MiB with so many L1 entries from the second cluster on, each about 512 GiB.
fn qcow2(entries: u64) -> Vec<u8> {
    let mut head = vec![0; 512];
    head[..4].copy_from_slice(b"QFI\xfb");
    for (at, value) in [
        (4, 3u32),
        (20, 21),
        (36, entries as u32),
        (96, 4),
        (100, 104),
    ] {
        head[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    head[24..32].copy_from_slice(&(entries << 39).to_be_bytes());
    head[40..48].copy_from_slice(&(2 * MIB).to_be_bytes());
    head
}

#[test]
fn qcow2_with_one_l2_table_for_everything() {
    let _alone = ALONE.lock();
    let work = tempfile::tempdir().unwrap();
    // 2 EiB: each of 4 Mi entries leads to the same table of 262,144 clusters.
    let entries = 4u64 << 20;
    let table = 40 * MIB;
    let l1: Vec<u8> = (0..entries).flat_map(|_| table.to_be_bytes()).collect();
    let l2: Vec<u8> = (0..2 * MIB / 8)
        .flat_map(|_| ((1u64 << 63) | (42 * MIB)).to_be_bytes())
        .collect();
    let parts: [(u64, &[u8]); 3] = [(0, &qcow2(entries)), (2 * MIB, &l1), (table, &l2)];
    let path = hollow(&work.path().join("a.qcow2"), 44 * MIB, &parts);
    drop(l1);
    in_bounded_memory("one table", || {
        let (disk, counted) = opened(&path);
        assert_eq!(disk.data_extents(0..u64::MAX).unwrap(), [0..entries << 39]);
        let error = read_vec(&*disk, 1 << 39, 512).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (Kind::Damaged, Some(table)));
        assert!(error.to_string().contains("more than one"), "{error}");
        let (reads, bytes, looks) = counted.take();
        assert!(reads < 10_000, "{reads} reads");
        assert!(bytes < 200 * MIB && looks < 10_000, "{bytes}, {looks}");
    });
    let overlaps = faults(&path);
    // No refcount table; each table of which there is room but the first, and the others.
    assert_eq!(overlaps, [(Topic::Structure, 1), (Topic::Overlap, 22)]);
}

#[test]
fn qcow2_with_one_l1_table_for_all_snapshots() {
    let _alone = ALONE.lock();
    let work = tempfile::tempdir().unwrap();
    let (count, table) = (65_536u32, 8 * MIB);
    let mut head = qcow2(1);
    head[60..64].copy_from_slice(&count.to_be_bytes());
    head[64..72].copy_from_slice(&(4 * MIB).to_be_bytes());
    // Each has an L1 table of 2 MiB and 16 bytes of extra data.
    let mut one = [0; 56];
    one[..8].copy_from_slice(&(16 * MIB).to_be_bytes());
    one[8..12].copy_from_slice(&(1u32 << 18).to_be_bytes());
    one[39] = 16;
    let entries = 2 * MIB as usize / 8;
    let l1 = table.to_be_bytes().repeat(entries);
    let l2 = (42 * MIB).to_be_bytes().repeat(entries);
    let snapshots = one.repeat(count as usize);
    let parts: [(u64, &[u8]); 4] = [
        (0, &head),
        (4 * MIB, &snapshots),
        (16 * MIB, &l1),
        (table, &l2),
    ];
    let path = hollow(&work.path().join("a.qcow2"), 44 * MIB, &parts);
    let found = faults(&path);
    assert_eq!(found[0], (Topic::Structure, 1), "{found:?}");
    // Of 22 L1 tables, as large as the file, the 22 L2 tables for which there is room; and that there are more.
    assert_eq!(found[1..], [(Topic::Overlap, 22 * 22 + 1)], "{found:?}");
}

#[test]
fn qcow2_with_more_tables_that_are_shared_than_can_be_told() {
    let _alone = ALONE.lock();
    let work = tempfile::tempdir().unwrap();
    let entries = 64u64 << 10;
    let l1: Vec<u8> = (0..entries)
        .flat_map(|entry| ((entry / 2 + 4) << 21).to_be_bytes())
        .collect();
    let parts: [(u64, &[u8]); 2] = [(0, &qcow2(entries)), (2 * MIB, &l1)];
    let path = hollow(
        &work.path().join("a.qcow2"),
        entries * MIB + 8 * MIB,
        &parts,
    );
    let error = in_bounded_memory("many tables", || open(&path).err().unwrap());
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("32768"), "{error}");
}

#[test]
fn qcow2_whose_l2_tables_are_holes() {
    let _alone = ALONE.lock();
    let work = tempfile::tempdir().unwrap();
    // 32 PiB, and a single cluster that is there, in the last table.
    let entries = 64u64 << 10;
    let table = |entry: u64| (entry + 4) << 21;
    let l1: Vec<u8> = (0..entries)
        .flat_map(|entry| table(entry).to_be_bytes())
        .collect();
    let last = table(entries - 1);
    let cluster = 1u64 << 63 | (last + 2 * MIB);
    let parts: [(u64, &[u8]); 4] = [
        (0, &qcow2(entries)),
        (2 * MIB, &l1),
        (last + 8, &cluster.to_be_bytes()),
        (last + 2 * MIB, &[7; 4096]),
    ];
    let path = hollow(&work.path().join("a.qcow2"), last + 4 * MIB, &parts);
    in_bounded_memory("holes", || {
        let (disk, counted) = opened(&path);
        let at = ((entries - 1) << 39) + 2 * MIB;
        assert_eq!(disk.data_extents(0..u64::MAX).unwrap(), [at..at + 4096]);
        let (reads, bytes, looks) = counted.take();
        assert!(reads < 1000 && bytes < 8 * MIB, "{reads}, {bytes} bytes");
        assert!(looks < 3 * entries, "{looks} looks for holes");
        assert_eq!(read_vec(&*disk, at, 2).unwrap(), [7, 7]);
        assert_eq!(read_vec(&*disk, at - 1, 2).unwrap(), [0, 7]);
    });
    let found = faults(&path);
    assert_eq!(found, [(Topic::Structure, 1)]);
}

/// A sparse extent of ESX with grains of one sector: the header, and where its directory lies.
fn cowd(sectors: u32, tables: u32) -> Vec<u8> {
    let mut head = b"COWD".to_vec();
    head.extend(little([1, 3, sectors, 1, 4, tables]));
    head
}

fn vmdk(folder: &Path, lines: &str) -> PathBuf {
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"custom\"\n{lines}\n"
    );
    let path = folder.join("disk.vmdk");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn vmdk_with_large_extents_of_nothing_beside_small_grains() {
    let _alone = ALONE.lock();
    let work = tempfile::tempdir().unwrap();
    let table = little((0..4096).map(|grain| u32::from(grain == 5) * 48));
    let parts: [(u64, &[u8]); 4] = [
        (0, &cowd(4096, 1)),
        (2048, &little([8])),
        (4096, &table),
        (48 * 512, &[7; 512]),
    ];
    hollow(&work.path().join("sparse.bin"), 64 << 10, &parts);
    hollow(
        &work.path().join("flat.bin"),
        TIB,
        &[(TIB - 512, &[9; 512])],
    );
    let zeros = 1u64 << 49;
    let lines = format!(
        "RW {zeros} ZERO\nRW 4096 VMFSSPARSE \"sparse.bin\"\nRW {} FLAT \"flat.bin\" 0\nRW {zeros} ZERO",
        TIB / 512
    );
    let path = vmdk(work.path(), &lines);
    let disk = open(&path).unwrap();
    let start = Instant::now();
    let extents = in_bounded_memory("zeros", || disk.data_extents(0..u64::MAX).unwrap());
    assert!(start.elapsed() < Duration::from_secs(20));
    let sparse = zeros * 512;
    let flat = sparse + 4096 * 512;
    // Holes of a file are told in its file system's blocks.
    let [first, last] = &extents[..] else {
        panic!("{extents:?}")
    };
    assert_eq!(first.clone(), sparse + 5 * 512..sparse + 6 * 512);
    assert_eq!(last.end, flat + TIB);
    assert!(last.start > flat + TIB - MIB);
    assert_eq!(read_vec(&*disk, flat + TIB - 1, 2).unwrap(), [9, 0]);
}

#[test]
fn vmdk_with_one_grain_table_for_everything_or_tables_of_holes() {
    let _alone = ALONE.lock();
    let work = tempfile::tempdir().unwrap();
    // Grains of a sector, 4096 in each of 1 Mi tables.
    let tables = 1u32 << 20;
    let sectors = u32::MAX;
    let first = 16_384u32;
    let grain = first + tables * 32;
    let table = little((0..4096).map(|_| grain));
    for is_shared in [true, false] {
        let directory = little((0..tables).map(|index| match is_shared {
            true => first,
            false => first + index * 32,
        }));
        let place = u64::from(first) * 512;
        let end = u64::from(grain) * 512;
        let entries = if is_shared { &table[..] } else { &table[..4] };
        let parts: [(u64, &[u8]); 4] = [
            (0, &cowd(sectors, tables)),
            (2048, &directory),
            (place, entries),
            (end, &[7; 512]),
        ];
        hollow(&work.path().join("sparse.bin"), end + 512, &parts);
        let path = vmdk(
            work.path(),
            &format!("RW {sectors} VMFSSPARSE \"sparse.bin\""),
        );
        let start = Instant::now();
        in_bounded_memory("tables", || {
            let disk = open(&path).unwrap();
            let extents = disk.data_extents(0..u64::MAX).unwrap();
            if is_shared {
                assert_eq!(extents, [0..disk.size()]);
                let error = read_vec(&*disk, 0, 1).unwrap_err();
                assert_eq!(error.kind(), Kind::Damaged);
                assert!(error.to_string().contains("more than one"), "{error}");
            } else {
                assert_eq!(extents, [0..512]);
            }
        });
        assert!(start.elapsed() < Duration::from_secs(60));
        let overlaps = u64::from(tables - 1);
        let expected: &[_] = match is_shared {
            true => &[(Topic::Overlap, overlaps)],
            false => &[],
        };
        assert_eq!(faults(&path), expected);
    }
}

/// The header of a VDI in blocks of so many bytes, with its table from byte 512 on and the blocks behind it.
fn vdi(block: u32, entries: u32) -> Vec<u8> {
    let mut head = vec![0; 512];
    head[64..68].copy_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
    for (at, value) in [
        (68, 0x1_0001u32),
        (72, 400),
        (76, 1),
        (340, 512),
        (344, 16 << 20),
        (360, 512),
        (376, block),
        (384, entries),
    ] {
        head[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let size = u64::from(block) * u64::from(entries);
    head[368..376].copy_from_slice(&size.to_le_bytes());
    head
}

#[test]
fn vdi_whose_table_is_a_hole() {
    let _alone = ALONE.lock();
    let work = tempfile::tempdir().unwrap();
    // Every block would be the first of the file.
    let entries = 1u32 << 29;
    let mut head = vdi(1 << 20, entries);
    head[344..348].copy_from_slice(&(3u32 << 30).to_le_bytes());
    let path = hollow(
        &work.path().join("a.vdi"),
        (3 << 30) + 2 * MIB,
        &[(0, &head)],
    );
    in_bounded_memory("a table of holes", || {
        let (disk, counted) = opened(&path);
        assert_eq!(disk.data_extents(0..u64::MAX).unwrap(), [0..disk.size()]);
        let (reads, bytes, looks) = counted.take();
        assert!(reads < 100 && bytes < MIB, "{reads} reads, {bytes} bytes");
        assert!(looks < 140_000, "{looks} looks for holes");
    });
    let found = faults(&path);
    // Behind the header's page the rest of 4 MiB in parts of 32 KiB, then all others at once: each is told, and its first block claims the place where the
    // blocks in that page are.
    let holes = 127 + 511;
    let overlaps = holes + 8192 + holes - 1;
    assert_eq!(found, [(Topic::Overlap, overlaps), (Topic::References, 1)]);
}

/// An image of which, behind its first bytes, every other 4 KiB are a hole.
struct Holes(Vec<u8>, u64);

impl ReadAt for Holes {
    fn size(&self) -> u64 {
        self.1
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let from = (offset as usize).min(self.0.len());
        let part = &self.0[from..(from + buffer.len()).min(self.0.len())];
        buffer[..part.len()].copy_from_slice(part);
        buffer[part.len()..].fill(0);
        Ok(())
    }
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let end = range.end.min(self.1);
        let data = (range.start..end).step_by(8192);
        Ok(data.map(|at| at..(at + 4096).min(end)).collect())
    }
}

#[test]
fn two_blocks_of_many_holes_for_everything() {
    let _alone = ALONE.lock();
    let entries = 1u32 << 16;
    let mut bytes = vdi(256 << 20, entries);
    // Two that take turns: that two beside each other are one would be refused.
    bytes.extend(little((0..entries).map(|block| block % 2)));
    let disk = open_bytes(Arc::new(Holes(bytes, 1 << 30)), FormatHint::Detect).unwrap();
    let extents = in_bounded_memory("many holes", || {
        let extents = disk.data_extents(0..u64::MAX).unwrap();
        assert!(extents.len() <= (1 << 20) + 1, "{}", extents.len());
        // What is not told one by one is data.
        assert_eq!(extents.last().unwrap().end, disk.size());
        extents.into_iter().take(3).collect::<Vec<_>>()
    });
    assert_eq!(extents, [0..4096, 8192..12_288, 16_384..20_480]);
}

/// What a backup or a mount does with a disk, as far as the time allows: its extents, its beginning, its end, and places here and there.
fn use_disk(disk: &dyn VirtualDisk) -> Result<()> {
    let extents = disk.data_extents(0..u64::MAX)?;
    disk.will_need(0..4 * MIB);
    let mut buffer = vec![0; MIB as usize];
    let some = extents.iter().step_by(extents.len() / 16 + 1);
    let places = some.flat_map(|extent| [extent.start, extent.end.saturating_sub(MIB)]);
    let parts = (0..16).map(|part| disk.size() / 16 * part);
    let mut outcome = Ok(());
    for at in places.chain(parts).chain([disk.size().saturating_sub(MIB)]) {
        let length = disk.size().saturating_sub(at).min(MIB) as usize;
        // The next place may be whole.
        if let Err(error) = disk.read_exact_at(at, &mut buffer[..length]) {
            assert_ne!(error.kind(), Kind::Io, "{error}");
            outcome = Err(error);
        }
    }
    outcome
}

#[test]
fn damaged_images_are_refused_or_read_as_every_format() {
    let Some(folder) = foreign_images() else {
        return;
    };
    let _alone = ALONE.lock();
    let mut packed: Vec<PathBuf> = std::fs::read_dir(folder.join("malformed"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "zst"))
        .collect();
    packed.sort();
    let mut read = vec![0; 1 + FormatHint::KNOWN.len()];
    for image in &packed {
        let work = tempfile::tempdir().unwrap();
        let path = unpack(image, work.path());
        let hints = std::iter::once(&FormatHint::Detect).chain(FormatHint::KNOWN);
        for (hint, read) in hints.zip(&mut read) {
            let what = format!("{} as {}", path.display(), hint.name());
            let start = Instant::now();
            let outcome = in_bounded_memory(&what, || {
                open_as(&path, *hint).and_then(|disk| use_disk(&*disk))
            });
            assert!(start.elapsed() < Duration::from_secs(20), "{what}");
            match outcome {
                Ok(()) => *read += 1,
                Err(error) => {
                    assert!(
                        matches!(
                            error.kind(),
                            Kind::Damaged | Kind::Unsupported | Kind::NotFound
                        ),
                        "{what}: {error}"
                    );
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
    // All that are there when this was written, as raw disks too; some as what they are; none as what it never was.
    assert!(packed.len() >= 336, "{} images are left", packed.len());
    let [by_content, raw, vhd, vhdx, others @ ..] = &read[..] else {
        panic!("{read:?}")
    };
    assert_eq!(*raw, packed.len());
    assert!(*by_content > 200 && *vhd >= 2 && *vhdx >= 1, "{read:?}");
    assert_eq!(others, [0, 0, 0], "{read:?}");
}
