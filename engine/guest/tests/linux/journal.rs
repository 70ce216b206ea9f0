//! Journals that are damaged, or that a running machine had not written to the end: transactions are made with `debugfs`, block by block, and what
//! is shown is compared with what `e2fsck` makes of a copy.

use crate::support::{FileDisk, have, shell};
use cairn_base::read_at::read_vec;
use cairn_guest::{Volume, open_volume};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BLOCK: u64 = 1024;

/// A file system with the files `a`, `b` and `c`, a block of small letters each, in a folder that ends with it.
struct Made(tempfile::TempDir);

impl Made {
    fn new(arguments: &str) -> Made {
        let made = Made(tempfile::tempdir().unwrap());
        made.run(&format!(
            "truncate -s 16M img; mke2fs -q -F -t ext4 -b {BLOCK} -J size=1 {arguments} img
            for n in a b c; do
                head -c {BLOCK} /dev/zero | tr '\\0' $n > $n; tr a-z A-Z < $n > new_$n
                debugfs -w -R \"write $n $n\" img 2>/dev/null
            done
            cat new_a new_b > new_ab"
        ));
        made
    }

    fn run(&self, script: &str) -> String {
        let folder = self.0.path().display();
        shell(&format!("set -eu; cd '{folder}'; {script}")).unwrap()
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("img")
    }

    /// Where a block of a file, or of the journal (`<8>`), lies.
    fn block(&self, file: &str, number: u64) -> u64 {
        let told = self.run(&format!(
            "debugfs -R 'bmap {file} {number}' img 2>/dev/null"
        ));
        told.trim().parse().unwrap()
    }

    /// Writes to the journal: lines of `debugfs`, in which `A`, `B` and `C` stand for the blocks of the files.
    fn journal(&self, options: &str, lines: &str) {
        let mut lines = format!("jo {options}\n{lines}\njc\n");
        for (name, file) in [("A", "a"), ("B", "b"), ("C", "c")] {
            lines = lines.replace(name, &self.block(file, 0).to_string());
        }
        std::fs::write(self.0.path().join("lines"), lines).unwrap();
        let told = self.run("debugfs -w -f lines img 2>&1");
        assert!(!told.contains("while"), "{told}");
    }

    /// Makes another byte of one in a block of the journal.
    fn damage(&self, block: u64, byte: u64) {
        let at = (self.block("<8>", block)) * BLOCK + byte;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.image())
            .unwrap();
        let mut was = [0];
        file.read_exact_at(&mut was, at).unwrap();
        file.write_all_at(&[was[0] ^ 0x20], at).unwrap();
    }

    fn open(&self) -> Arc<dyn Volume> {
        open_volume(FileDisk::open(&self.image())).unwrap()
    }

    /// The first letters of the files as `e2fsck` leaves them.
    fn theirs(&self) -> String {
        self.run("cp img theirs; e2fsck -fy theirs >told || test $? = 1; for n in a b c; do debugfs -R \"cat $n\" theirs 2>/dev/null | head -c 1; done")
    }
}

/// The first letters of the files, and the notes.
fn shown(volume: &dyn Volume) -> (String, Vec<String>) {
    let letter = |name: &str| {
        let entry = volume.lookup(volume.root(), name.as_bytes());
        let file = volume.open(entry.unwrap().unwrap().id).unwrap();
        String::from_utf8(read_vec(&*file, 0, 1).unwrap()).unwrap()
    };
    let notes = &volume.info().notes;
    let notes = notes.iter().map(|note| note.to_string()).collect();
    (["a", "b", "c"].map(letter).concat(), notes)
}

/// Two transactions. Their blocks in the journal: 1 descriptor, 2 `a`, 3 `b`, 4 commit; 5 descriptor, 6 `c`, 7 commit.
const TWO: &str = "jw -b A,B new_ab\njw -b C new_c";

/// A damaged copy costs its block and no other; a damaged descriptor or commit costs what follows. All is told.
#[test]
fn damage_in_the_log_is_no_end_of_it() {
    if !have(&["mke2fs", "e2fsck", "debugfs"]) {
        return;
    }
    let cases = [
        // The block and the byte in it, what is shown, what is said, and whether the tool makes the same of it.
        (2, 100, "aBC", "copies", true),
        (3, 100, "AbC", "copies", true),
        (6, 100, "ABc", "copies", true),
        (1, 500, "abc", "ransaction", true),
        // The tool gives up the whole journal.
        (5, 500, "ABc", "ransaction", false),
        (7, 16, "ABc", "ransaction", true),
        // No commit: the machine was on its way.
        (7, 0, "ABc", "", true),
        (5, 0, "ABc", "", true),
    ];
    for options in ["-c", "-c -v 2"] {
        for (block, byte, wanted, said, agrees) in cases {
            let made = Made::new("");
            made.journal(options, TWO);
            made.damage(block, byte);
            let volume = made.open();
            let (letters, notes) = shown(&*volume);
            let case = format!("{options} {block} {byte}: {notes:?}");
            assert_eq!(letters, wanted, "{case}");
            let (replayed, rest): (Vec<_>, Vec<_>) = notes
                .iter()
                .partition(|note| note.contains("was replayed in memory"));
            assert_eq!(replayed.len(), 1, "{case}");
            assert_eq!(rest.len(), usize::from(!said.is_empty()), "{case}");
            assert!(rest.iter().all(|note| note.contains(said)), "{case}");
            assert_eq!(volume.info().defects().count(), rest.len(), "{case}");
            assert!(!volume.info().clean, "{case}");
            if agrees {
                assert_eq!(made.theirs(), wanted, "{case}");
            }
        }
    }
}

/// A damaged copy of what a later transaction writes again, or revokes, costs nothing.
#[test]
fn damage_that_hurts_nobody_is_not_told() {
    if !have(&["mke2fs", "e2fsck", "debugfs"]) {
        return;
    }
    for (lines, wanted) in [
        ("jw -b A,B new_ab\njw -b A new_c", "CBc"),
        ("jw -b A,B new_ab\njw -r A", "aBc"),
    ] {
        let made = Made::new("");
        made.journal("-c", lines);
        made.damage(2, 100);
        let (letters, notes) = shown(&*made.open());
        assert_eq!(letters, wanted, "{notes:?}");
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert_eq!(made.theirs(), wanted);
    }
}

/// Without checksums nothing can be told from its end.
#[test]
fn a_log_without_checksums_ends_where_a_commit_is_missing() {
    if !have(&["mke2fs", "e2fsck", "debugfs"]) {
        return;
    }
    let made = Made::new("-O ^metadata_csum");
    made.journal("", TWO);
    let (letters, notes) = shown(&*made.open());
    assert_eq!((letters.as_str(), notes.len()), ("ABC", 1), "{notes:?}");
    made.damage(4, 0);
    let (letters, notes) = shown(&*made.open());
    assert_eq!((letters.as_str(), notes.len()), ("abc", 1), "{notes:?}");
    assert_eq!(made.theirs(), "abc");
}

/// Copies the journal of another image, in which it lies at the same place, and says that there is something to be replayed.
fn with_journal_of(made: &Made, other: &str) {
    let start = made.block("<8>", 0);
    made.run(&format!(
        "dd if={other} of=img bs={BLOCK} skip={start} seek={start} count=1024 conv=notrunc status=none
        debugfs -w -R 'feature needs_recovery' img >/dev/null 2>&1"
    ));
}

/// A file system that was growing: the superblock on the disk does not yet say how large it is, that in the journal does.
#[test]
fn the_journal_of_a_growing_file_system_is_replayed() {
    if !have(&["mke2fs", "e2fsck", "debugfs", "resize2fs"]) {
        return;
    }
    let made = Made::new("-O ^resize_inode");
    made.run("truncate -s 40M img; cp img grown; resize2fs grown 2>/dev/null");
    // What it changed, block by block, is written to the journal of the grown one, because the tool knows no other blocks there.
    made.run(&format!(
        "cmp -l img grown | awk '{{ print int(($1 - 1) / {BLOCK}) }}' | sort -nu > blocks || true
        for n in $(cat blocks); do dd if=grown bs={BLOCK} skip=$n count=1 status=none; done > content
        printf 'jo -c\\njw -b %s content\\njc\\n' $(paste -sd, blocks) > lines
        cp grown other; debugfs -w -f lines other 2>&1"
    ));
    with_journal_of(&made, "other");
    let volume = made.open();
    let (letters, notes) = shown(&*volume);
    assert_eq!(letters, "abc");
    assert!(
        notes.len() == 1 && notes[0].contains("was replayed in memory"),
        "{notes:?}"
    );
    assert_eq!(volume.info().size, 40 << 20);
    assert_eq!(made.theirs(), "abc");
    let told = made.run("dumpe2fs -h theirs 2>/dev/null | grep '^Block count'");
    assert!(told.trim_end().ends_with(" 40960"), "{told}");
}

/// Blocks that the device does not have: of no account in a transaction that was never committed, told of one that was.
#[test]
fn impossible_blocks_cost_no_others() {
    if !have(&["mke2fs", "e2fsck", "debugfs", "resize2fs"]) {
        return;
    }
    for (commit, wanted, count) in [("-c", "ABc", 1), ("", "ABC", 2)] {
        let made = Made::new("-O ^resize_inode");
        made.run("cp img small; truncate -s 60M img; resize2fs img 2>/dev/null; cat new_c new_c > new_cc");
        made.journal(
            "-c",
            &format!("jw -b A,B new_ab\njw {commit} -b C,50000 new_cc"),
        );
        made.run("mv img other; mv small img");
        with_journal_of(&made, "other");
        let (letters, notes) = shown(&*made.open());
        assert_eq!(letters, wanted, "{notes:?}");
        assert_eq!(notes.len(), count, "{notes:?}");
        let told = notes.iter().any(|note| note.contains("beyond the device"));
        assert_eq!(told, count == 2, "{notes:?}");
    }
}

/// The first checksums sum up a transaction.
#[test]
fn a_transaction_that_does_not_sum_up_is_told() {
    let made = |damage: bool| -> Option<(String, Vec<String>)> {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path();
        crate::crash::quick(folder, "journal_checksum").ok()?;
        let image = folder.join("quick.img");
        if damage {
            flip_first_copy(&image);
        }
        let volume = open_volume(FileDisk::open(&image)).unwrap();
        let found = volume.lookup(volume.root(), b"fourth").unwrap();
        let notes = &volume.info().notes;
        let notes = notes.iter().map(|note| note.to_string()).collect();
        Some((format!("{}", found.is_some()), notes))
    };
    if !crate::kernel::can_mount() || !have(&["mke2fs", "debugfs"]) {
        return;
    }
    let Some((there, notes)) = made(false) else {
        println!("SKIPPED: the kernel does not mount it");
        return;
    };
    assert_eq!((there.as_str(), notes.len()), ("true", 1), "{notes:?}");
    let (there, notes) = made(true).unwrap();
    assert_eq!((there.as_str(), notes.len()), ("false", 2), "{notes:?}");
    assert!(notes[1].contains("ransaction"), "{notes:?}");
}

fn flip_first_copy(image: &Path) {
    let told = shell(&format!(
        "debugfs -R 'bmap <8> 0' '{}' 2>/dev/null",
        image.display()
    ));
    let journal: u64 = told.unwrap().trim().parse().unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(image)
        .unwrap();
    let mut word = [0; 4];
    // The journal's superblock says where the first transaction is.
    file.read_exact_at(&mut word, journal * BLOCK + 28).unwrap();
    let at = (journal + u64::from(u32::from_be_bytes(word)) + 1) * BLOCK + 700;
    file.read_exact_at(&mut word, at).unwrap();
    file.write_all_at(&[word[0] ^ 1], at).unwrap();
}
