//! Backups with change information of disks that are too large for memory: what is read is counted.

use crate::kit::{Kit, R, TestDisk, input, noise, open_disk};
use cairn_base::read_at::{check_range, read_vec};
use cairn_base::{ChunkId, ReadAt, Result, Silent};
use cairn_store::{BackupOptions, ChunkReader, DiskInput, Point, Tree, backup, verify};
use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A large disk that needs no memory: `pattern` again and again in the regions that have data, with blocks that were
/// overwritten. Counts what is read.
struct Wide {
    size: u64,
    pattern: Vec<u8>,
    /// Regions with data; `None`: all of them.
    regions: Option<Vec<u64>>,
    written: HashMap<u64, u8>,
    read: AtomicU64,
}

const BLOCK: u64 = 4096;

impl Wide {
    fn has_data(&self, region: u64) -> bool {
        let listed = |regions: &Vec<u64>| regions.contains(&region);
        self.regions.as_ref().is_none_or(listed)
    }

    fn read_block(&self, block: u64, out: &mut [u8], skip: usize) {
        match self.written.get(&block) {
            Some(byte) => {
                for (at, out) in out.iter_mut().enumerate() {
                    *out = (skip + at) as u8 ^ *byte;
                }
            }
            None if self.has_data(block * BLOCK / R as u64) => {
                let start = (block * BLOCK) as usize % self.pattern.len() + skip;
                out.copy_from_slice(&self.pattern[start..start + out.len()]);
            }
            None => out.fill(0),
        }
    }
}

impl ReadAt for Wide {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        let mut at = 0;
        while at < buffer.len() {
            let here = offset + at as u64;
            let skip = (here % BLOCK) as usize;
            let length = (BLOCK as usize - skip).min(buffer.len() - at);
            self.read_block(here / BLOCK, &mut buffer[at..at + length], skip);
            at += length;
        }
        Ok(())
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let regions = range.start / R as u64..range.end.div_ceil(R as u64);
        let data = |region: &u64| {
            let blocks = region * 1024..(region + 1) * 1024;
            self.has_data(*region) || self.written.keys().any(|block| blocks.contains(block))
        };
        let clip = |r: u64| (r * R as u64).max(range.start)..((r + 1) * R as u64).min(range.end);
        match &self.regions {
            None => Ok(std::iter::once(range.start..range.end.min(self.size)).collect()),
            Some(_) => Ok(regions.filter(data).map(clip).collect()),
        }
    }
}

fn changes_of(disk: &Wide) -> Vec<(Range<u64>, bool)> {
    let range = |block: &u64| (block * BLOCK..(block + 1) * BLOCK, false);
    disk.written.keys().map(range).collect()
}

/// Blocks spread over `blocks`, the same every time.
fn scattered(count: usize, blocks: u64) -> HashMap<u64, u8> {
    let mut state = 88_172_645_463_325_252u64;
    let mut written = HashMap::new();
    while written.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        written.insert(state % blocks, (state >> 40) as u8);
    }
    written
}

fn root(point: &Point) -> [u8; 32] {
    point.record.disks[0].root
}

fn full(kit: &Kit, machine: &str, source: Arc<dyn ReadAt>) -> Point {
    let disks = [DiskInput {
        source,
        ..input("disk0", TestDisk::new(vec![]))
    }];
    let options = BackupOptions::new(machine);
    let report = backup(&kit.store, &disks, &options, &Silent, &kit.clock);
    report.unwrap().point
}

/// Backs up scattered writes; answers the bytes read.
fn read_for(size: u64, writes: usize) -> u64 {
    let kit = Kit::new();
    let wide = |written| Wide {
        size,
        pattern: noise(16 << 20, 1),
        regions: None,
        written,
        read: AtomicU64::new(0),
    };
    let base = full(&kit, "m", Arc::new(wide(HashMap::new())));
    let disk = Arc::new(wide(scattered(writes, size / BLOCK)));
    let point = kit.changed("m", &base, disk.clone(), &changes_of(&disk));
    let point = point.unwrap();
    let read = disk.read.load(Ordering::Relaxed);
    assert_eq!(point.record.stats.read, read);
    assert_eq!(point.record.stats.unchanged, size - writes as u64 * BLOCK);
    assert_eq!(point.record.warnings, [] as [&str; 0]);
    assert_eq!(point.record.base, Some(base.id.0));
    assert_eq!(root(&full(&kit, "n", disk)), root(&point));
    read
}

#[test]
fn scattered_writes_cost_their_chunks() {
    let (size, writes) = (8u64 << 30, 20_000);
    let read = read_for(size, writes);
    let checked = size / 500 + R as u64;
    assert!(read <= writes as u64 * (64 << 10) + checked, "{read}");
}

#[test]
fn a_huge_disk_costs_what_changed() {
    let tib = 1u64 << 40;
    let per_tib = tib / R as u64;
    let kit = Kit::new();
    let wide = |written| Wide {
        size: 64 * tib - 4096 * 3,
        pattern: noise(R, 2),
        regions: Some(vec![0, 1, 3, 256, 20 * per_tib, 64 * per_tib - 1]),
        written,
        read: AtomicU64::new(0),
    };
    let base = full(&kit, "m", Arc::new(wide(HashMap::new())));
    // In data, in a hole far from all else, and at the end.
    let written = HashMap::from([(5, 1), (40 * tib / BLOCK, 2), (64 * tib / BLOCK - 4, 3)]);
    let disk = Arc::new(wide(written));
    let point = kit.changed("m", &base, disk.clone(), &changes_of(&disk));
    let point = point.unwrap();
    let stats = &point.record.stats;
    assert!(stats.read <= 3 * (256 << 10) + R as u64, "{stats:?}");
    // Three leaves, the nodes above them, and a few chunks of data.
    assert!(stats.new_chunks <= 3 * (1 + 3 + 4), "{stats:?}");
    let again = full(&kit, "n", disk);
    assert_eq!(root(&again), root(&point));
    assert_eq!(again.record.stats.stored, 0);
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
}

fn tree(kit: &Kit, point: &Point) -> Tree {
    let reader = ChunkReader::new(kit.reopen(), 0);
    Tree::new(Arc::new(reader), &point.record.disks[0]).unwrap()
}

/// Changes a byte of the frame that holds a chunk, so that `is_right` is true of what is read then.
fn damage(kit: &Kit, chunk: ChunkId, is_right: impl Fn() -> bool) {
    let place = kit.store.index().places(&chunk).unwrap()[0];
    let pack = kit.path().join(cairn_store::layout::pack(place.pack));
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).open(pack).unwrap();
    for at in (place.offset..place.offset + place.stored).map(u64::from) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0xff], at).unwrap();
        if is_right() {
            return;
        }
        file.write_all_at(&byte, at).unwrap();
    }
    panic!("no byte of the frame does it");
}

#[test]
fn where_the_map_is_damaged_the_disk_is_read() {
    let kit = Kit::new();
    let wide = |regions: &[u64], written| Wide {
        size: 3 << 30,
        pattern: noise(R, 13),
        regions: Some(regions.to_vec()),
        written,
        read: AtomicU64::new(0),
    };
    full(&kit, "m", Arc::new(wide(&[3], HashMap::new())));
    let base = full(&kit, "m", Arc::new(wide(&[3, 600], HashMap::new())));
    // The node above region 600 is lost; the third point's check looks at region 3.
    let whole = tree(&kit, &base);
    let (top, lost) = (whole.root(), whole.node(whole.root(), 2).unwrap().child(2));
    damage(&kit, lost, || {
        let now = tree(&kit, &base);
        now.node(lost, 1).is_err() && now.node(top, 2).is_ok()
    });
    let disk = Arc::new(wide(&[3, 600], HashMap::from([(601 * 1024, 4)])));
    let point = kit.changed("m", &base, disk.clone(), &changes_of(&disk));
    let point = point.unwrap();
    let [warning] = &point.record.warnings[..] else {
        panic!("{:?}", point.record.warnings);
    };
    assert!(warning.contains("damaged in 2 regions"), "{warning}");
    assert_eq!(root(&full(&kit, "n", disk)), root(&point));
    let stored = open_disk(&kit.reopen(), &point, "disk0");
    assert!(read_vec(&stored, 600 * R as u64, R).unwrap() == noise(R, 13));
    // The damage is known now: what the lost node stands for is read, and nothing else but what is compared.
    let disk = Arc::new(wide(&[3, 600], HashMap::new()));
    let point = kit.changed("m", &base, disk.clone(), &[]).unwrap();
    assert_eq!(disk.read.load(Ordering::Relaxed), 2 * R as u64);
    let warned = |w: &String| w.contains("everything was read");
    assert!(!point.record.warnings.iter().any(warned));
    assert_eq!(root(&point), root(&base));
}

#[test]
fn where_the_check_meets_damage_the_disk_is_read() {
    let kit = Kit::new();
    let bytes = noise(2 * R, 14);
    let base = kit.backup("m", TestDisk::new(bytes.clone()));
    // The second point's check looks at the first region.
    let whole = tree(&kit, &base);
    let (top, lost) = (whole.root(), whole.node(whole.root(), 1).unwrap().child(0));
    damage(&kit, lost, || {
        let now = tree(&kit, &base);
        now.leaf(0, lost).is_err() && now.node(top, 1).is_ok()
    });
    // As if nobody had met it yet.
    std::fs::remove_file(kit.path().join("damage")).unwrap();
    let store = kit.reopen();
    let kit = Kit { store, ..kit };
    let disk = Arc::new(TestDisk::new(bytes.clone()));
    let point = kit.changed("m", &base, disk.clone(), &[]).unwrap();
    assert_eq!(disk.read.load(Ordering::Relaxed), 2 * R as u64);
    let warning = &point.record.warnings[0];
    assert!(
        warning.contains("the base's map is damaged at offset 0"),
        "{warning}"
    );
    // Stored anew.
    assert!(kit.read(&point).unwrap() == bytes);
}
