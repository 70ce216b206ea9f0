//! Every target with its committed seeds, and with changed copies of them: always the same ones.
//!
//! FUZZ_SEED=N     begins with another seed (default 0)
//! FUZZ_ROUNDS=N   so many times as many changed copies (default 1)
#![cfg(test)]

use cairn_fuzz::TARGETS;
use std::fs;
use std::path::{Path, PathBuf};

/// A small generator of numbers: xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

fn environment(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn folder(target: &str) -> PathBuf {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    seeds.join(target)
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = fs::read_dir(folder(target))
        .unwrap_or_else(|e| panic!("seeds of {target}: {e}"))
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), fs::read(&path).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// A copy with some bytes changed, cut off, taken out, or put in from another seed.
fn changed(bytes: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        let Some(byte) = bytes.get_mut(at) else {
            bytes.push(dice.below(256) as u8);
            continue;
        };
        match dice.below(8) {
            0 => *byte = [0, 1, 0x7f, 0x80, 0xff][dice.below(5)],
            1 | 2 => *byte ^= 1 << dice.below(8),
            3 => *byte = byte.wrapping_add(1),
            4 => *byte = dice.below(256) as u8,
            5 => bytes.truncate(at),
            6 => {
                let end = (at + dice.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let from = dice.below(other.len());
                let to = (from + dice.below(32)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

/// Runs a target with its seeds and `copies` changed copies of all of them together.
fn replay(name: &str, copies: u64) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let seeds = seeds(name);
    let mut accepted = 0;
    for (path, bytes) in &seeds {
        println!("{path}");
        accepted += usize::from(target(bytes));
    }
    assert!(
        accepted > 0,
        "no seed of {name} is taken for what it is: they test nothing"
    );
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ environment("FUZZ_SEED", 0));
    for copy in 0..copies * environment("FUZZ_ROUNDS", 1) {
        let (path, bytes) = &seeds[dice.below(seeds.len())];
        let (_, other) = &seeds[dice.below(seeds.len())];
        // What fails is written down, so that it can be made a seed.
        let bytes = changed(bytes, other, &mut dice);
        let failing = Failing(name, &bytes);
        println!("copy {copy} of {path}");
        target(&bytes);
        std::mem::forget(failing);
    }
    let inputs = seeds.len() as u64 + copies * environment("FUZZ_ROUNDS", 1);
    println!("COUNTED: {inputs} fuzz inputs replayed");
}

/// Keeps the bytes of a run that panics.
struct Failing<'a>(&'a str, &'a [u8]);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        let path = std::env::temp_dir().join(format!("cairn-fuzz-{}", self.0));
        let written = fs::write(&path, self.1);
        println!("the bytes that failed: {} ({written:?})", path.display());
    }
}

macro_rules! replays {
    ($($name:ident: $copies:expr,)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name), $copies);
        })*

        #[test]
        fn every_target_is_replayed_and_every_seed_has_a_target() {
            let mut replayed = vec![$(stringify!($name)),*];
            replayed.sort();
            let mut known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            known.sort();
            assert_eq!(replayed, known);
            let mut folders: Vec<String> = fs::read_dir(folder(""))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            folders.sort();
            assert_eq!(folders, known);
            for name in known {
                let path = format!("fuzz_targets/{name}.rs");
                assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).exists(), "{path}");
            }
        }
    };
}

replays! {
    header: 3000,
    state: 3000,
    point: 3000,
    session: 3000,
    manifest: 3000,
    damage: 3000,
    proofs: 3000,
    machine_name: 3000,
    retention: 3000,
    policy: 3000,
    names: 5000,
    catalog: 600,
    pack_ends: 3000,
    pack_toc: 3000,
    pack: 5000,
    parity: 600,
    frame: 5000,
    leaf: 3000,
    node: 3000,
    segment: 1500,
    segment_made: 1000,
    changes: 3000,
    vhd: 3000,
    vhdx: 1500,
    qcow2: 1500,
    vdi: 2000,
    vmdk: 3000,
    vmdk_descriptor: 5000,
    image: 2000,
    partitions: 1000,
    ldm: 600,
    ntfs: 600,
    ext: 2000,
    fat: 1500,
    exfat: 1000,
    ntfs_record: 4000,
    ntfs_runs: 5000,
    ntfs_index: 4000,
    ntfs_reparse: 5000,
    lznt1: 4000,
    xpress: 4000,
    lzx: 4000,
    wof: 4000,
    bitlocker: 1500,
    hive: 3000,
    reparse: 3000,
    security: 5000,
    overlay: 500,
    nbd: 1500,
    operations: 60,
}
