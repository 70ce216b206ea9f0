//! The files that damage of the store hits, against what the file systems' own tools say.
#![cfg(test)]

mod shared;

use cairn::{
    AffectedKind, BackupOptions, Depth, DiskImage, Silent, Store, VerifyOptions, VerifyReport,
};
use shared::{have, noise, run, text};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const BLOCK: u64 = 4096;

/// Packs of the store, the largest first.
fn packs(store: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(store.join("packs")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let mut packs: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    packs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    packs
}

/// Flips bytes at these places of the largest pack, in thousandths of its length.
fn hurt(store: &Path, places: &[u64]) {
    let path = packs(store).remove(0);
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let length = file.metadata().unwrap().len();
    for place in places {
        let at = length * place / 1000;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
    }
}

/// The blocks that are lost.
fn blocks(report: &VerifyReport) -> BTreeSet<u64> {
    let ranges = report.damaged.iter();
    let blocks = ranges.flat_map(|d| d.offset / BLOCK..(d.offset + d.length).div_ceil(BLOCK));
    blocks.collect()
}

/// A store with two points of the image, hurt, and what a verification finds.
fn hurt_store(temp: &Path, image: &Path, places: &[u64]) -> (Store, VerifyReport) {
    let path = temp.join("store");
    let store = Store::create(&path).unwrap();
    for _ in 0..2 {
        let disk = DiskImage::open("disk0", image).unwrap();
        store
            .backup(vec![disk], &BackupOptions::new("web01"), &Silent)
            .unwrap();
    }
    hurt(&path, places);
    let store = Store::open(&path).unwrap();
    let report = store
        .verify(&VerifyOptions::at_depth(Depth::Deep), &Silent)
        .unwrap();
    assert!(report.damaged.len() >= places.len() - 1, "{report:?}");
    (store, report)
}

fn files(store: &Store, report: &VerifyReport) -> BTreeSet<String> {
    let affected = store.affected(report, &Silent).unwrap();
    assert!(affected.problems.is_empty(), "{:?}", affected.problems);
    let mut named = BTreeSet::new();
    for hit in &affected.all {
        assert_eq!(
            (hit.machine.as_str(), hit.points.len()),
            ("web01", 2),
            "{hit:?}"
        );
        if hit.kind == AffectedKind::File {
            assert!(hit.lost > 0 && !hit.damages.is_empty());
            named.insert(hit.path.strip_prefix("/disk0/p0").unwrap().to_string());
        }
    }
    // Every damage hits something.
    let all: BTreeSet<usize> = affected
        .all
        .iter()
        .flat_map(|hit| hit.damages.clone())
        .collect();
    assert_eq!(all.len(), report.damaged.len());
    named
}

#[test]
fn files_of_ext4_are_those_that_debugfs_names() {
    if !have(&["mke2fs", "debugfs"]) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let tree = temp.path().join("tree");
    for number in 0..80u64 {
        let folder = tree.join(format!("d{}", number % 7));
        fs::create_dir_all(&folder).unwrap();
        let bytes = noise(10_000 + (number as usize * 7919) % 300_000, number);
        fs::write(folder.join(format!("file {number}")), bytes).unwrap();
    }
    let image = temp.path().join("disk.raw");
    run(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-d",
            text(&tree),
            text(&image),
            "48M",
        ],
    );
    let (store, report) = hurt_store(temp.path(), &image, &[1, 150, 400, 401, 777, 990]);

    // Who has these blocks, and what is it called?
    let blocks: Vec<String> = blocks(&report).iter().map(u64::to_string).collect();
    let asked = format!("icheck {}", blocks.join(" "));
    let inodes = run("debugfs", &["-R", &asked, text(&image)]);
    let numbers: BTreeSet<&str> = inodes
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once('\t').map(|(_, inode)| inode))
        .filter(|inode| inode.parse::<u64>().is_ok_and(|inode| inode >= 11))
        .collect();
    let asked = format!(
        "ncheck {}",
        numbers.into_iter().collect::<Vec<_>>().join(" ")
    );
    let names = run("debugfs", &["-R", &asked, text(&image)]);
    let truth: BTreeSet<String> = names
        .lines()
        .skip(1)
        .filter_map(|line| {
            line.split_once('\t')
                .map(|(_, name)| name.replace("//", "/"))
        })
        .collect();
    assert!(truth.len() > 4, "{names}");
    // Where a folder's names are lost, what is in it has none.
    let is_below = |name: &String| {
        truth
            .iter()
            .any(|other| name.starts_with(&format!("{other}/")))
    };
    let truth: BTreeSet<String> = truth
        .iter()
        .filter(|name| !is_below(name))
        .cloned()
        .collect();
    assert_eq!(files(&store, &report), truth);
}

#[test]
fn files_of_ntfs_are_those_that_ntfscluster_names() {
    if !have(&["mkntfs", "ntfscp", "ntfscluster"]) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let image = temp.path().join("disk.raw");
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    run("mkntfs", &["-F", "-q", "-c", "4096", text(&image)]);
    let file = temp.path().join("file");
    for number in 0..40u64 {
        fs::write(
            &file,
            noise(3000 + (number as usize * 7919) % 300_000, number),
        )
        .unwrap();
        run(
            "ntfscp",
            &[
                "-q",
                text(&image),
                text(&file),
                &format!("file {number}.bin"),
            ],
        );
    }
    let (store, report) = hurt_store(temp.path(), &image, &[50, 200, 400, 402, 600, 950]);
    let mut truth = BTreeSet::new();
    for damage in &report.damaged {
        let last = (damage.offset + damage.length - 1) / BLOCK;
        let range = format!("{}-{last}", damage.offset / BLOCK);
        let found = run("ntfscluster", &["-c", &range, text(&image)]);
        for line in found.lines().filter(|line| line.starts_with("Inode ")) {
            let (_, name) = line.split_once('/').unwrap();
            // The volume's own files are no files of the user's.
            if let Some(name) = name.strip_suffix("/$DATA")
                && !name.starts_with('$')
            {
                truth.insert(format!("/{name}"));
            }
        }
    }
    assert!(truth.len() > 3, "{truth:?}");
    assert_eq!(files(&store, &report), truth);
}

#[test]
fn what_belongs_to_no_file_is_told_too() {
    if !have(&["mke2fs"]) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let image = temp.path().join("disk.raw");
    // Noise in free blocks, and no file at all.
    run(
        "mke2fs",
        &["-q", "-t", "ext4", "-b", "4096", text(&image), "24M"],
    );
    let file = fs::File::options().write(true).open(&image).unwrap();
    file.write_all_at(&noise(6 << 20, 3), 16 << 20).unwrap();
    let (store, report) = hurt_store(temp.path(), &image, &[500, 800]);
    let affected = store.affected(&report, &Silent).unwrap();
    let kinds: Vec<_> = affected
        .all
        .iter()
        .map(|hit| (hit.path.as_str(), hit.kind))
        .collect();
    assert_eq!(kinds, [("/disk0/p0", AffectedKind::Free)]);
    let lost: u64 = report.damaged.iter().map(|damage| damage.length).sum();
    assert_eq!(affected.all[0].lost, lost);
}
