//! libvhdi reads the same chains to the same bytes.

use super::made::{Kind, Op, expected};
use super::model::{Random, chain};
use cairn_base::read_at::read_vec;
use cairn_disk::open;
use std::path::Path;
use std::process::Command;

/// A mount of libvhdi, unmounted at the end.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let mut command = Command::new("fusermount3");
        let status = command.args(["-u", "-z"]).arg(self.0).status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("-V").output().is_ok()
}

#[test]
fn libvhdi_reads_the_same() {
    if !is_there("vhdimount") || !is_there("fusermount3") || !Path::new("/dev/fuse").exists() {
        println!("SKIPPED: vhdimount or FUSE is missing");
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
        let mount = tempfile::tempdir().unwrap();
        let output = Command::new("vhdimount")
            .arg(&chain[0].path)
            .arg(mount.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{shape:?}: {output:?}");
        let mounted = Mounted(mount.path());
        // The youngest one has the highest number.
        let theirs = std::fs::read(mounted.0.join("vhdi3")).unwrap();
        let disk = open(&chain[0].path).unwrap();
        let ours = read_vec(&*disk, 0, theirs.len()).unwrap();
        assert_eq!(disk.size(), theirs.len() as u64);
        let wrong = (0..ours.len()).find(|at| ours[*at] != theirs[*at]);
        assert_eq!(wrong, None, "{shape:?} {:#?}", chain);
        assert!(ours == expected(&chain, 0, ours.len()), "{shape:?}");
    }
}
