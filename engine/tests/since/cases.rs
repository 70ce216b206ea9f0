//! What checkpoints go through, one by one.

use crate::journal::{Change, entry, put_log};
use crate::made::{Image, Kind, Op, Parent, expected};
use crate::{Bench, SIZE, is_partial};
use cairn::{DiskImage, Silent};
use cairn_base::read_at::read_vec;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const REGION: u64 = 4 << 20;

#[test]
fn base_child_and_grandchild() {
    let bench = Bench::new();
    let base = bench.base();
    let first = bench.backup(&[&base]);
    assert!(!is_partial(&first));
    assert_eq!(first.record.stats.read, SIZE);

    let ops = vec![
        Op::Data(5000..5009),
        Op::Zeros(70_000..70_003),
        Op::State(3, 2),
    ];
    let child = bench.image(2, Some(&base), ops);
    let second = bench.backup(&[&child, &base]);
    assert!(is_partial(&second));
    // A region to check, and the chunks around what was written.
    assert!(second.record.stats.read < REGION + (1 << 20));
    let held = (9 + 3) * 512 + (1 << 20);
    assert_eq!(second.record.stats.unchanged, SIZE - held);

    // Two checkpoints at once.
    let third = bench.image(3, Some(&child), vec![Op::Data(5008..5010)]);
    let fourth = bench.image(
        4,
        Some(&third),
        vec![Op::Data(0..1), Op::Data(81_919..81_920)],
    );
    let point = bench.backup(&[&fourth, &third, &child, &base]);
    assert!(is_partial(&point));
    assert!(point.record.stats.read < REGION + (1 << 20));
    assert_eq!(point.record.stats.unchanged, SIZE - 4 * 512);

    // Nothing was written yet.
    let empty = bench.image(5, Some(&fourth), vec![]);
    let point = bench.backup(&[&empty, &fourth, &third, &child, &base]);
    assert_eq!(point.record.stats.unchanged, SIZE);
    assert!(point.record.stats.read <= REGION);

    // The youngest one again: everything is read.
    let again = bench.backup(&[&empty, &fourth, &third, &child, &base]);
    assert!(!is_partial(&again));
}

#[test]
fn whoever_wants_everything_read_says_so() {
    let mut bench = Bench::new();
    let base = bench.base();
    bench.backup(&[&base]);
    let child = bench.image(2, Some(&base), vec![Op::Data(5..6)]);
    bench.options.read_all = true;
    let point = bench.backup(&[&child, &base]);
    assert!(!is_partial(&point));
    assert_eq!(point.record.stats.read, SIZE);
}

#[test]
fn a_parent_with_another_id_is_read() {
    let bench = Bench::new();
    let base = bench.base();
    bench.backup(&[&base]);
    // Written to, and a checkpoint made then.
    let written = Image {
        number: 7,
        ..base.clone()
    };
    written.write();
    let child = bench.image(2, Some(&written), vec![Op::Data(5..6)]);
    let point = bench.backup(&[&child, &written]);
    assert!(!is_partial(&point));
}

/// Writes an image anew with more in it, in place: the ids stay, and the length.
fn tamper(image: &mut Image, op: Op) {
    let before = fs::metadata(&image.path).unwrap();
    image.ops.push(op);
    image.write();
    assert_eq!(fs::metadata(&image.path).unwrap().len(), before.len());
    let file = File::options().write(true).open(&image.path).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
}

#[test]
fn a_parent_that_was_changed_under_the_same_ids_is_read() {
    // The parent itself; and the parent of the image that the point was made from.
    for depth in 0..2usize {
        let bench = Bench::new();
        let mut chain = vec![bench.base()];
        if depth == 1 {
            chain.insert(0, bench.image(2, Some(&chain[0]), vec![Op::Data(9..20)]));
        }
        bench.backup(&chain.iter().collect::<Vec<_>>());
        let child = bench.image(3, Some(&chain[0]), vec![Op::Data(5..6)]);
        tamper(&mut chain[depth], Op::Zeros(30_000..30_001));
        chain.insert(0, child);
        let point = bench.backup(&chain.iter().collect::<Vec<_>>());
        assert!(!is_partial(&point), "{depth}");
    }
}

#[test]
fn a_parent_that_was_only_touched_or_copied_is_read_too() {
    let bench = Bench::new();
    let base = bench.base();
    bench.backup(&[&base]);
    let copy = bench.path("copy");
    fs::copy(&base.path, &copy).unwrap();
    fs::rename(&copy, &base.path).unwrap();
    let child = bench.image(2, Some(&base), vec![Op::Data(5..6)]);
    assert!(!is_partial(&bench.backup(&[&child, &base])));
}

#[test]
fn nothing_of_an_abandoned_branch_remains() {
    let bench = Bench::new();
    let base = bench.base();
    bench.backup(&[&base]);
    let left = bench.image(2, Some(&base), vec![Op::Data(100..3000), Op::State(9, 2)]);
    assert!(is_partial(&bench.backup(&[&left, &base])));
    let right = bench.image(3, Some(&base), vec![Op::Data(2000..2001)]);
    let point = bench.backup(&[&right, &base]);
    assert!(!is_partial(&point));
    // And back again; then on from there.
    assert!(!is_partial(&bench.backup(&[&left, &base])));
    let on = bench.image(4, Some(&left), vec![Op::Data(2000..2001)]);
    assert!(is_partial(&bench.backup(&[&on, &left, &base])));
    // The machine goes back to the checkpoint below.
    assert!(!is_partial(&bench.backup(&[&left, &base])));
    assert!(!is_partial(&bench.backup(&[&base])));
}

#[test]
fn a_checkpoint_that_was_merged_is_no_base() {
    let bench = Bench::new();
    let base = bench.base();
    bench.backup(&[&base]);
    let child = bench.image(2, Some(&base), vec![Op::Data(100..200)]);
    bench.backup(&[&child, &base]);
    // What the child held is in the parent now, which has another DataWriteGuid.
    let merged = Image {
        number: 5,
        ..base.clone()
    };
    merged.write();
    fs::remove_file(&child.path).unwrap();
    assert!(!is_partial(&bench.backup(&[&merged])));
    let next = bench.image(6, Some(&merged), vec![Op::Data(100..101)]);
    assert!(is_partial(&bench.backup(&[&next, &merged])));
}

#[test]
fn a_disk_of_another_size_is_read() {
    let bench = Bench::new();
    let base = bench.base();
    bench.backup(&[&base]);
    let mut grown = base.clone();
    grown.size += 3 << 20;
    grown.write();
    let child = Image {
        size: grown.size,
        number: 2,
        path: bench.path("2.avhdx"),
        parent: Some(Parent::beside(Kind::Vhdx, 1, &grown.path)),
        ops: vec![Op::Data(5..6)],
        ..base
    };
    child.write();
    assert!(!is_partial(&bench.backup(&[&child, &grown])));
}

#[test]
fn a_child_with_changes_in_its_log_is_read_with_them() {
    let bench = Bench::new();
    let base = bench.base();
    bench.backup(&[&base]);
    let child = bench.image(
        2,
        Some(&base),
        vec![Op::Data(100..200), Op::Data(70_000..70_100)],
    );
    // The block table is in the log, and not where it belongs.
    let table = 3u64 << 20;
    let file = File::options()
        .read(true)
        .write(true)
        .open(&child.path)
        .unwrap();
    let mut sector = vec![0; 4096];
    file.read_exact_at(&mut sector, table).unwrap();
    file.write_all_at(&[0; 4096], table).unwrap();
    let size = file.metadata().unwrap().len();
    let changes = [Change::Zero(table, 4096), Change::Data(table, sector)];
    put_log(&child, 0, &[entry(9, 0, size, &changes)]);
    let point = bench.backup(&[&child, &base]);
    assert!(is_partial(&point));
    assert_eq!(point.record.stats.unchanged, SIZE - 200 * 512);
    // But nothing is said of what is still open, or was not closed.
    assert_eq!(point.origin("disk0").unwrap().images, []);
    let next = bench.image(3, Some(&child), vec![Op::Data(1..2)]);
    assert!(!is_partial(&bench.backup(&[&next, &child, &base])));
}

#[test]
fn the_latest_point_counts_also_when_a_later_one_was_forgotten() {
    let bench = Bench::new();
    let base = bench.base();
    let first = bench.backup(&[&base]);
    let child = bench.image(2, Some(&base), vec![Op::Data(100..200)]);
    let second = bench.backup(&[&child, &base]);
    let options = cairn::ForgetOptions::default();
    let names = [second.id.to_string()];
    for plan in bench.store.plan_forget_points(&names, &options).unwrap() {
        bench.store.forget(&[plan], &options).unwrap();
    }
    assert_eq!(bench.store.find_point("vm@latest").unwrap().id, first.id);
    let third = bench.image(3, Some(&child), vec![Op::Data(150..151)]);
    let point = bench.backup(&[&third, &child, &base]);
    assert!(is_partial(&point));
    assert_eq!(point.record.base, Some(first.id.0));
    assert_eq!(point.record.stats.unchanged, SIZE - 100 * 512);
}

#[test]
fn vhd_tell_too_little() {
    let bench = Bench::new();
    let image = |number: u16, parent: Option<&Image>, ops: Vec<Op>| {
        let image = Image {
            kind: Kind::Vhd,
            path: bench.path(&format!("{number}.vhd")),
            size: SIZE,
            block_size: 2 << 20,
            sector: 512,
            number,
            parent: parent.map(|parent| Parent::beside(Kind::Vhd, parent.number, &parent.path)),
            ops,
        };
        image.write();
        image
    };
    let base = image(1, None, vec![Op::Data(0..5000)]);
    let child = image(2, Some(&base), vec![Op::Data(100..200)]);
    for (path, chain) in [
        (&base.path, vec![base.clone()]),
        (&child.path, vec![child.clone(), base.clone()]),
    ] {
        let disk = DiskImage::open("disk0", path).unwrap();
        let point = bench.store.backup(vec![disk], &bench.options, &Silent);
        let point = point.unwrap();
        assert!(!is_partial(&point));
        assert_eq!(point.origin("disk0").unwrap().images, []);
        let view = bench.store.open_point(&point).unwrap();
        let read = read_vec(&**view.disk("disk0").unwrap().disk(), 0, SIZE as usize);
        assert!(read.unwrap() == expected(&chain, 0, SIZE as usize));
    }
}

fn tool(name: &str, arguments: &[&str]) -> Option<()> {
    match Command::new(name).args(arguments).output() {
        Ok(output) => {
            assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
            Some(())
        }
        Err(_) => {
            println!("SKIPPED: {name} is not installed");
            None
        }
    }
}

/// What QEMU reads in an image of its own.
fn by_qemu(bench: &Bench, image: &Path) -> Vec<u8> {
    let raw = bench.path("by-qemu.raw");
    let paths = [image, &raw].map(|path| path.to_str().unwrap());
    tool("qemu-img", &["convert", "-O", "raw", paths[0], paths[1]]).unwrap();
    fs::read(raw).unwrap()
}

#[test]
fn children_of_what_qemu_wrote() {
    let bench = Bench::new();
    let path = bench.path("base.vhdx");
    let text = path.to_str().unwrap();
    let create = [
        "create",
        "-q",
        "-f",
        "vhdx",
        "-o",
        "block_size=1M",
        text,
        "40M",
    ];
    let Some(()) = tool("qemu-img", &create) else {
        return;
    };
    let write = |command: &str| tool("qemu-io", &["-f", "vhdx", "-c", command, text]);
    let Some(()) = write("write -q -P 7 1M 9M") else {
        return;
    };
    let backup = |path: &Path| {
        let disk = DiskImage::open("disk0", path).unwrap();
        let point = bench.store.backup(vec![disk], &bench.options, &Silent);
        let point = point.unwrap();
        assert_eq!(point.record.warnings, [] as [&str; 0]);
        let view = bench.store.open_point(&point).unwrap();
        let read = read_vec(&**view.disk("disk0").unwrap().disk(), 0, SIZE as usize);
        (point, read.unwrap())
    };
    let mut right = by_qemu(&bench, &path);
    let (point, read) = backup(&path);
    assert!(!is_partial(&point) && read == right);
    // A child over it, which QEMU cannot make.
    let child = |number: u16| {
        let id = cairn_disk::open(&path).unwrap().identity().data_id.unwrap();
        let mut parent = Parent::beside(Kind::Vhdx, 0, &path);
        parent.id = id;
        let image = Image {
            kind: Kind::Vhdx,
            path: bench.path(&format!("{number}.avhdx")),
            size: SIZE,
            block_size: 1 << 20,
            sector: 512,
            number,
            parent: Some(parent),
            ops: vec![Op::Data(4096..4097)],
        };
        image.write();
        image
    };
    let over = |right: &mut [u8], number: u16| {
        let range = 4096 * 512..4097 * 512;
        for (at, byte) in right[range.clone()].iter_mut().enumerate() {
            *byte = crate::made::byte(number, (range.start + at) as u64);
        }
    };
    let (point, read) = backup(&child(2).path);
    over(&mut right, 2);
    assert!(is_partial(&point) && read == right);
    // QEMU writes to the parent: it gets another DataWriteGuid, and the child is not its child any more.
    write("write -q -P 9 20M 64k").unwrap();
    let refused = DiskImage::open("disk0", &bench.path("2.avhdx"));
    assert!(refused.is_err());
    let mut right = by_qemu(&bench, &path);
    let (point, read) = backup(&child(3).path);
    over(&mut right, 3);
    assert!(!is_partial(&point) && read == right);
}
