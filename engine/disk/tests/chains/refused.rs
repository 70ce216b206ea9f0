//! What is refused, and is no damage: parents that were changed, folders in place of files. And what a check found before stays.

use super::logs::spoil;
use super::made::{Image, Kind, Op, Parent};
use cairn_base::{Kind as ErrorKind, Silent};
use cairn_disk::vhd::footer::{DiskType, Footer, Geometry};
use cairn_disk::{Check, Guid, OpenOptions, Severity, Topic, examine};
use std::fs;
use std::path::Path;

const BOTH: [Kind; 2] = [Kind::Vhd, Kind::Vhdx];

fn image(kind: Kind, path: &Path, number: u16, parent: Option<Parent>) -> Image {
    let image = Image {
        kind,
        path: path.to_path_buf(),
        size: 12 << 20,
        block_size: 1 << 20,
        sector: 512,
        number,
        parent,
        ops: vec![Op::Data(0..100)],
    };
    image.write();
    image
}

/// Topics of the faults, and why not everything was looked at.
fn checked(path: &Path) -> (Vec<Topic>, Option<cairn_base::Error>) {
    let mut check = Check::new(&Silent);
    let examined = examine(path, &OpenOptions::default()).unwrap();
    let failure = examined.check(&mut check).err();
    let faults = check.findings().iter();
    let faults = faults.filter(|found| found.severity == Severity::Fault);
    (faults.map(|found| found.topic).collect(), failure)
}

#[test]
fn a_parent_that_was_changed_is_refused_and_the_child_checked() {
    for kind in BOTH {
        let temporary = tempfile::tempdir().unwrap();
        let name = |number: u16| match kind {
            Kind::Vhd => temporary.path().join(format!("{number}.vhd")),
            Kind::Vhdx => temporary.path().join(format!("{number}.vhdx")),
        };
        let child = name(2);
        image(kind, &child, 2, Some(Parent::beside(kind, 1, &name(1))));
        // Another disk under the parent's name.
        image(kind, &name(1), 3, None);
        let (faults, failure) = checked(&child);
        assert_eq!(faults, []);
        let failure = failure.unwrap();
        assert_eq!(failure.kind(), ErrorKind::Denied, "{failure}");
        assert!(failure.to_string().contains("changed since"), "{failure}");
        // What is wrong with the child is told all the same: its first two entries lead to one block.
        let table = match kind {
            Kind::Vhd => 1536 + 8 * 4096,
            Kind::Vhdx => 3 << 20,
        };
        let width = if kind == Kind::Vhd { 4 } else { 8 };
        let bytes = fs::read(&child).unwrap();
        let first = bytes[table as usize..][..width].to_vec();
        spoil(&child, table + width as u64, &first);
        let (faults, failure) = checked(&child);
        assert_eq!(faults, [Topic::Overlap]);
        assert_eq!(failure.unwrap().kind(), ErrorKind::Denied);
        // A parent that is damaged is damage.
        fs::write(name(1), [0xEE; 4096]).unwrap();
        let (faults, failure) = checked(&child);
        assert_eq!(
            (faults, failure.is_none()),
            (vec![Topic::Overlap, Topic::Parent], true)
        );
    }
}

#[test]
fn the_first_sector_of_a_fixed_disk_is_the_guests() {
    let temporary = tempfile::tempdir().unwrap();
    let size = 1 << 20;
    let footer = Footer {
        data_offset: u64::MAX,
        timestamp: 0,
        creator: *b"win ",
        current_size: size,
        geometry: Geometry::of(size),
        disk_type: DiskType::Fixed,
        unique_id: Guid([7; 16]),
        checksum_holds: true,
    };
    let path = temporary.path().join("a.vhd");
    for start in [
        &b"conectix"[..],
        b"conectix\0\0\0\x02\0\x09\0\0",
        &footer.encode(),
    ] {
        let mut bytes = vec![1; size as usize];
        bytes[..start.len()].copy_from_slice(start);
        bytes.extend(footer.encode());
        fs::write(&path, bytes).unwrap();
        let (faults, failure) = checked(&path);
        assert_eq!(faults, []);
        assert!(failure.is_none(), "{failure:?}");
    }
}
