//! Random writes of `qemu-io`, from fixed seeds, into every form that can be written to, beside a raw disk.

use super::made::Dice;
use super::shared::{check_same, run};
use cairn_disk::open;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes at random places, at borders of grains and of files above all; whole units only.
fn script(dice: &mut Dice, size: u64, unit: u64) -> Vec<String> {
    (0..40)
        .map(|_| {
            let near = match dice.below(4) {
                0 => dice.below(size),
                1 => dice.below(size >> 16) << 16,
                2 if size > 2 << 30 => (1 + dice.below((size - 1) >> 31)) << 31,
                _ => dice.below(16) << 16,
            };
            let length = match dice.below(3) {
                0 => (dice.below(8) + 1) << 9,
                1 => (dice.below(4) + 1) << 16,
                _ => (dice.below(600) + 1) << 9,
            };
            let at = near.saturating_sub(dice.below(2) * length / 2);
            let at = at.min(size - unit) / unit * unit;
            let length = length.next_multiple_of(unit).min(size - at);
            match dice.below(6) {
                0 => format!("write -z {at} {length}"),
                _ => format!("write -P {} {at} {length}", dice.below(255) + 1),
            }
        })
        .collect()
}

fn write(image: &Path, format: &str, script: &[String]) {
    let mut command = Command::new("qemu-io");
    command.args(["-f", format]);
    for line in script {
        command.args(["-c", line]);
    }
    let text = run(command.arg(image));
    assert!(!text.contains("failed"), "{text}");
}

fn create(image: &Path, options: &str, size: u64, parent: Option<&Path>) {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "vmdk", "-o", options]);
    if let Some(parent) = parent {
        let name = parent.file_name().unwrap().to_str().unwrap();
        command.args(["-b", name, "-F", "vmdk"]);
    }
    run(command.arg(image).arg(size.to_string()));
}

#[test]
fn what_was_written_is_read() {
    for (number, (options, size)) in (1u64..).zip([
        ("subformat=monolithicSparse", (100u64 << 20) + 512),
        ("subformat=monolithicSparse,zeroed_grain=on", 100 << 20),
        (
            "subformat=monolithicSparse,zeroed_grain=on,compat6=on",
            (100 << 20) + 1536,
        ),
        ("subformat=monolithicFlat", 100 << 20),
        ("subformat=twoGbMaxExtentSparse", (5 << 30) + 512),
        (
            "subformat=twoGbMaxExtentSparse,zeroed_grain=on",
            (2 << 30) + (64 << 20),
        ),
        ("subformat=twoGbMaxExtentFlat", (4 << 30) + (64 << 20) + 512),
    ]) {
        for seed in 1..=2 {
            let mut dice = Dice(number * 1000 + seed);
            let work = tempfile::tempdir().unwrap();
            let image = work.path().join("a disk.vmdk");
            let raw = work.path().join("a.raw");
            std::fs::File::create(&raw).unwrap().set_len(size).unwrap();
            create(&image, options, size, None);
            // Twice, so that grains that are there are written to by another process as well.
            for _ in 0..2 {
                let script = script(&mut dice, size, 512);
                write(&image, "vmdk", &script);
                write(&raw, "raw", &script);
            }
            let what = format!("{options}, seed {seed}");
            check_same(&*open(&image).unwrap(), &*open(&raw).unwrap(), &what);
        }
    }
}

#[test]
fn what_was_written_over_parents_is_read() {
    for (number, (base, middle)) in (1u64..).zip([
        ("subformat=monolithicSparse", "subformat=monolithicSparse"),
        (
            "subformat=monolithicFlat",
            "subformat=monolithicSparse,zeroed_grain=on",
        ),
        (
            "subformat=twoGbMaxExtentSparse",
            "subformat=twoGbMaxExtentSparse",
        ),
        ("subformat=twoGbMaxExtentFlat", "subformat=monolithicSparse"),
    ]) {
        for seed in 1..=2 {
            let mut dice = Dice(number * 5000 + seed);
            let work = tempfile::tempdir().unwrap();
            let raw = work.path().join("a.raw");
            let size = match base.contains("twoGb") {
                true => (2 << 30) + (10 << 20),
                false => 100 << 20,
            };
            std::fs::File::create(&raw).unwrap().set_len(size).unwrap();
            let mut parent: Option<PathBuf> = None;
            let last = "subformat=monolithicSparse,zeroed_grain=on";
            for (level, options) in [base, middle, last].into_iter().enumerate() {
                let image = work.path().join(format!("level {level}.vmdk"));
                create(&image, options, size, parent.as_deref());
                // Of a grain that is written in part the rest is the parent's, which QEMU takes from a wrong place if the
                // grain does not lie in the first extent (10.0: the offset that it copies from is that in the extent).
                let is_split = options.contains("twoGb");
                let script = script(&mut dice, size, if is_split { 65536 } else { 512 });
                write(&image, "vmdk", &script);
                write(&raw, "raw", &script);
                let what = format!("{options}, level {level}, seed {seed}");
                let disk = open(&image).unwrap();
                check_same(&*disk, &*open(&raw).unwrap(), &what);
                parent = Some(image);
            }
        }
    }
}
