//! What the youngest images of a chain hold: everything else reads as the image behind them does.
#![allow(clippy::single_range_in_vec_init)]

use super::made::{Image, Kind, Op, Parent, id};
use super::model::{Random, chain};
use cairn_base::ReadAt;
use cairn_base::read_at::read_vec;
use cairn_disk::{Identity, VirtualDisk, open, open_bytes};
use std::ops::Range;
use std::sync::Arc;

fn all(disk: &dyn VirtualDisk) -> Vec<u8> {
    read_vec(disk, 0, disk.size() as usize).unwrap()
}

/// Checks that `ranges` are in order, lie within `whole` and touch nowhere; answers what lies between.
fn gaps(ranges: &[Range<u64>], whole: &Range<u64>) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = whole.start;
    for range in ranges {
        assert!(range.start < range.end && range.end <= whole.end);
        assert!(at < range.start || (at == whole.start && at == range.start));
        gaps.push(at..range.start);
        at = range.end;
    }
    gaps.push(at..whole.end);
    gaps
}

#[test]
fn what_is_not_held_reads_as_the_parents() {
    let mut held_at_all = 0;
    for round in 0..24u64 {
        let folder = tempfile::tempdir().unwrap();
        let mut random = Random::new(round + 1000);
        let (kind, block_size) = match round % 3 {
            0 => (Kind::Vhd, 1 << (12 + round % 9)),
            _ => (Kind::Vhdx, 1 << 20),
        };
        let sector = if round % 3 == 2 { 4096 } else { 512 };
        let images = chain(folder.path(), &mut random, (kind, block_size, sector), 4);
        let disk = open(&images[0].path).unwrap();
        let now = all(&*disk);
        for count in 0..5usize {
            let whole = 0..disk.size();
            let from = random.below(disk.size());
            let part = from..from + random.below(disk.size() - from + 1);
            for range in [whole, part] {
                let held = disk.held(count, range.clone()).unwrap();
                let gaps = gaps(&held, &range);
                held_at_all += held.len();
                let Some(behind) = images.get(count) else {
                    // All images hold everything, but for what is nowhere.
                    continue;
                };
                let before = all(&*open(&behind.path).unwrap());
                for gap in gaps {
                    let gap = gap.start as usize..gap.end as usize;
                    assert!(now[gap.clone()] == before[gap.clone()], "{count} {gap:?}");
                }
            }
        }
        assert_eq!(disk.held(0, 0..u64::MAX).unwrap(), []);
    }
    assert!(held_at_all > 500, "{held_at_all}");
}

fn image(folder: &std::path::Path, number: u16, parent: Option<&Image>, ops: Vec<Op>) -> Image {
    let image = Image {
        kind: Kind::Vhdx,
        path: folder.join(format!("{number}.avhdx")),
        size: 5 << 20,
        block_size: 1 << 20,
        sector: 512,
        number,
        parent: parent.map(|parent| Parent::beside(Kind::Vhdx, parent.number, &parent.path)),
        ops,
    };
    image.write();
    image
}

#[test]
fn sectors_blocks_and_zeros_are_held() {
    let folder = tempfile::tempdir().unwrap();
    let base = image(folder.path(), 1, None, vec![Op::Data(0..10_240)]);
    // Sectors of block 0; all of block 1 as zeros; block 2 zeros that were given back; nothing of block 3.
    let ops = vec![
        Op::Data(7..9),
        Op::Zeros(2048..2049),
        Op::State(1, 2),
        Op::State(2, 3),
        Op::State(3, 0),
        Op::Zeros(8192..8193),
    ];
    let child = image(folder.path(), 2, Some(&base), ops);
    let disk = open(&child.path).unwrap();
    let mib = 1u64 << 20;
    let expected = [7 * 512..9 * 512, mib..3 * mib, 4 * mib..4 * mib + 512];
    assert_eq!(disk.held(1, 0..u64::MAX).unwrap(), expected);
    assert_eq!(
        disk.held(1, 4000..mib + 1).unwrap(),
        [4000..4608, mib..mib + 1]
    );
    assert_eq!(disk.held(1, mib / 2..mib / 2).unwrap(), []);
    assert_eq!(disk.held(2, 0..100).unwrap(), [0..100]);
    // A grandchild adds what it holds.
    let ops = vec![Op::Data(9..10), Op::Data(6144..6145)];
    let grandchild = image(folder.path(), 3, Some(&child), ops);
    let disk = open(&grandchild.path).unwrap();
    let own = [9 * 512..10 * 512, 3 * mib..3 * mib + 512];
    assert_eq!(disk.held(1, 0..u64::MAX).unwrap(), own);
    let both = [
        7 * 512..10 * 512,
        mib..3 * mib + 512,
        4 * mib..4 * mib + 512,
    ];
    assert_eq!(disk.held(2, 0..u64::MAX).unwrap(), both);
}

#[test]
fn each_image_of_a_chain_is_known_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let base = image(folder.path(), 1, None, vec![Op::Data(0..100)]);
    let child = image(folder.path(), 2, Some(&base), vec![Op::Data(7..9)]);
    let disk = open(&child.path).unwrap();
    let chain = disk.chain();
    assert_eq!(chain[0], disk.identity());
    assert_eq!(chain[1], open(&base.path).unwrap().identity());
    let ids: Vec<_> = chain.iter().map(|image| image.data_id).collect();
    assert_eq!(ids, [Some(id(2)), Some(id(1))]);
    assert!(chain.iter().all(|image| image.write_id == Some(id(9999))));
    assert!(chain[1].file.is_some() && chain[0].file != chain[1].file);

    // What is no file has no times, and what is one image holds all of itself.
    let bytes: Arc<dyn ReadAt> = Arc::new(std::fs::read(&base.path).unwrap());
    let memory = open_bytes(bytes, cairn_disk::FormatHint::Detect).unwrap();
    let [known] = memory.chain()[..] else {
        panic!("one image");
    };
    assert_eq!((known.file, known.settled), (None, None));
    assert_eq!(known.data_id, Some(id(1)));
    let raw: Arc<dyn ReadAt> = Arc::new(vec![1u8; 1024]);
    let raw = open_bytes(raw, cairn_disk::FormatHint::Raw).unwrap();
    assert_eq!(raw.chain(), [Identity::default()]);
    assert_eq!(raw.held(1, 5..2000).unwrap(), [5..1024]);
    assert_eq!(raw.held(0, 5..2000).unwrap(), []);
}
