//! libvhdi reads the same chains to the same bytes.

use super::made::{Kind, Op, expected};
use super::model::{Random, chain};
use super::vhdi::Mounted;
use cairn_base::read_at::read_vec;
use cairn_disk::open;

#[test]
fn libvhdi_reads_the_same() {
    if !Mounted::is_possible() {
        return;
    }
    let cases = [
        (Kind::Vhd, 512 << 10, 512),
        (Kind::Vhd, 2 << 20, 512),
        (Kind::Vhd, 4 << 20, 512),
        (Kind::Vhdx, 1 << 20, 512),
        (Kind::Vhdx, 2 << 20, 512),
        (Kind::Vhdx, 8 << 20, 512),
    ];
    for (seed, shape) in (0..).zip(cases) {
        let folder = tempfile::tempdir().unwrap();
        let mut random = Random::new(seed);
        let mut chain = chain(folder.path(), &mut random, shape, 3);
        // This libvhdi goes on in the child where a run of sectors ends within a byte of the bitmap: they end with bytes.
        for image in &mut chain {
            let sectors = image.size / image.sector;
            // A block that a child says is zeros it reads from the parent.
            image.ops.retain(|op| !matches!(op, Op::State(..)));
            for op in &mut image.ops {
                if let Op::Data(range) | Op::Zeros(range) = op {
                    *range = range.start & !7..range.end.next_multiple_of(8).min(sectors);
                }
            }
            image.write();
        }
        // It shows what lies in clear sectors of a disk without a parent: there are none.
        let oldest = chain.last_mut().unwrap();
        oldest.ops = vec![Op::Data(0..oldest.size / oldest.sector)];
        oldest.write();
        // The youngest one has the highest number.
        let mounted = Mounted::of(&chain[0].path);
        let theirs = std::fs::read(mounted.disk(3)).unwrap();
        let disk = open(&chain[0].path).unwrap();
        let ours = read_vec(&*disk, 0, theirs.len()).unwrap();
        assert_eq!(disk.size(), theirs.len() as u64);
        let wrong = (0..ours.len()).find(|at| ours[*at] != theirs[*at]);
        assert_eq!(wrong, None, "{shape:?} {:#?}", chain);
        assert!(ours == expected(&chain, 0, ours.len()), "{shape:?}");
    }
}
