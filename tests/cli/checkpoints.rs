//! Backups of checkpoints read what they hold; the command says so, and reads everything where it is told to.

use super::bench::Bench;
use serde_json::Value;
use std::fs;

#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../../engine/disk/tests/chains/made.rs"]
mod made;
use made::{Image, Kind, Op, Parent, expected};

const SIZE: u64 = 24 << 20;

fn image(bench: &Bench, number: u16, parent: Option<&Image>, ops: Vec<Op>) -> Image {
    let image = Image {
        kind: Kind::Vhdx,
        path: bench.path(&format!("{number}.avhdx")),
        size: SIZE,
        block_size: 1 << 20,
        sector: 512,
        number,
        parent: parent.map(|parent| Parent::beside(Kind::Vhdx, parent.number, &parent.path)),
        ops,
    };
    image.write();
    image
}

/// Restores the latest point and compares it.
fn check(bench: &Bench, chain: &[Image]) {
    bench.expect(
        0,
        &["restore", "store", "m@latest", "--to", "back", "--force"],
    );
    let restored = fs::read(bench.path("back/disk0.raw")).unwrap();
    assert!(restored == expected(chain, 0, SIZE as usize));
}

fn of_disk<'a>(answer: &'a Value, field: &str) -> &'a Value {
    &answer["disks"][0][field]
}

#[test]
fn a_checkpoint_is_read_in_part_and_the_command_says_so() {
    let bench = Bench::new();
    let base = image(&bench, 1, None, vec![Op::Data(0..SIZE / 512)]);
    let first = bench.backup("m", &["1.avhdx"]);
    assert_eq!(first["read_bytes"], SIZE);
    assert_eq!(first["base"], Value::Null);
    assert_eq!(of_disk(&first, "unchanged_told_by"), "nobody");
    let child = image(&bench, 2, Some(&base), vec![Op::Data(7000..7100)]);
    let second = bench.backup("m", &["2.avhdx"]);
    assert_eq!(of_disk(&second, "unchanged_told_by"), "images");
    assert_eq!(of_disk(&second, "unchanged_bytes"), SIZE - 100 * 512);
    assert_eq!(second["base"], first["point"]);
    // One region to check, and the chunks around what was written.
    assert!(second["read_bytes"].as_u64().unwrap() < 5 << 20, "{second}");
    check(&bench, &[child.clone(), base.clone()]);

    // In words.
    let third = image(&bench, 3, Some(&child), vec![Op::Data(1..2)]);
    let told = bench.expect(0, &["backup", "store", "--machine", "m", "3.avhdx"]);
    let line = "disk0: only what its youngest images hold was read";
    assert!(told.text().contains(line), "{}", told.text());
    check(&bench, &[third.clone(), child.clone(), base.clone()]);

    // Everything, because somebody wants it.
    image(&bench, 4, Some(&third), vec![]);
    let full = bench.backup("m", &["4.avhdx", "--full"]);
    assert_eq!(full["read_bytes"], SIZE);
    assert_eq!(of_disk(&full, "unchanged_told_by"), "nobody");

    // The same in a list of machines.
    image(&bench, 5, Some(&third), vec![]);
    fs::write(
        bench.path("jobs.json"),
        r#"[{"machine": "m", "disks": ["3.avhdx"]}, {"machine": "n", "disks": ["3.avhdx"]}]"#,
    )
    .unwrap();
    bench.expect(0, &["backup", "store", "--jobs", "jobs.json"]);
    let list =
        r#"[{"machine": "m", "disks": ["5.avhdx"]}, {"machine": "n", "disks": ["5.avhdx"]}]"#;
    fs::write(bench.path("jobs.json"), list).unwrap();
    let jobs = ["backup", "store", "--json", "--jobs", "jobs.json"];
    let both = bench.expect(0, &jobs).json();
    for answer in both.as_array().unwrap() {
        assert_eq!(of_disk(answer, "unchanged_bytes"), SIZE, "{both}");
    }
    let refused = ["backup", "store", "--machine", "m", "5.avhdx", "--full"];
    let changed = ["--base", "m@latest", "--changed", "jobs.json"];
    bench.expect(2, &[&refused[..], &changed[..]].concat());
}

#[test]
fn a_branch_that_was_left_leaves_nothing() {
    let bench = Bench::new();
    let base = image(&bench, 1, None, vec![Op::Data(0..SIZE / 1024)]);
    bench.backup("m", &["1.avhdx"]);
    image(&bench, 2, Some(&base), vec![Op::Data(3000..9000)]);
    bench.backup("m", &["2.avhdx"]);
    let other = image(&bench, 3, Some(&base), vec![Op::Zeros(40_000..40_001)]);
    let answer = bench.backup("m", &["3.avhdx"]);
    assert_eq!(of_disk(&answer, "unchanged_told_by"), "nobody");
    check(&bench, &[other, base]);
}
