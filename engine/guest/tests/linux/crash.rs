//! Images as a crash leaves them: copied while the kernel has them mounted, its last changes in the journal only. What we replay in
//! memory is what the kernel makes of a copy when it mounts it.

use crate::compare::{Exact, compare};
use crate::kernel::{Mount, can_mount};
use crate::support::{FileDisk, have, shell, walk};
use cairn_base::{ReadAt, Result};
use cairn_guest::{Volume, open_volume};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Changes in the folder `$1`, in several transactions: more than a small journal holds, so that it goes round; folders and
/// attributes are deleted and their blocks used again, so that copies in the journal are revoked. Data that begin as the
/// journal's own blocks do must come back so.
const CHANGE: &str = r#"
cd "$1"
mkdir base; for n in $(seq 300); do echo $n > base/$n; done; sync -f .
for round in $(seq 9); do
    mkdir r$round; for n in $(seq 60); do echo $round $n > "r$round/a rather long name of a file $n"; done
    head -c 30000 /dev/urandom > r$round/data; ln -s data r$round/link; ln r$round/data r$round/hard
    setfattr -n user.large -v $(head -c 700 /dev/zero | tr '\0' a) r$round/data
    sync r$round r$round/data
    [ $round -lt 3 ] || { rm -r r$((round - 2)); head -c 100000 /dev/urandom > reused$round; }
    mv base/$round base/moved$round; chmod 600 base/$((round + 100)); truncate -s 0 base/$((round + 200))
    ! test -e reused$round || sync reused$round
    sync base
done
for n in $(seq 20); do printf '\xc0\x3b\x39\x98'; head -c 1020 /dev/zero | tr '\0' x; done > magic
sync magic
echo lost > behind-the-last-commit
"#;

/// Name, arguments of `mke2fs`, options of the mount.
const KINDS: &[(&str, &str, &str)] = &[
    ("default", "-t ext4", "rw"),
    ("small", "-t ext4 -b 1024 -J size=1", "rw"),
    ("wide", "-t ext4 -O ^metadata_csum,64bit -J size=4", "rw"),
    (
        "narrow",
        "-t ext4 -O ^metadata_csum,^64bit -b 1024 -J size=1",
        "rw",
    ),
    (
        "first_sums",
        "-t ext4 -O ^metadata_csum -J size=4",
        "journal_checksum",
    ),
    (
        "first_sums_async",
        "-t ext4 -O ^metadata_csum -b 1024 -J size=1",
        "journal_async_commit,data=writeback",
    ),
    (
        "third_sums",
        "-t ext4 -O metadata_csum,64bit -b 1024 -J size=1",
        "journal_checksum",
    ),
    ("ext3", "-t ext3 -b 1024 -J size=1", "rw"),
    ("data", "-t ext4 -b 1024 -J size=4", "data=journal"),
];

/// Makes `name.img`, a copy of a file system that the kernel has changed and not closed.
fn crashed(
    folder: &Path,
    kind: (&str, &str, &str),
    script: &str,
) -> std::result::Result<(), String> {
    crashed_of("64M", folder, kind, script)
}

fn crashed_of(
    size: &str,
    folder: &Path,
    (name, arguments, options): (&str, &str, &str),
    script: &str,
) -> std::result::Result<(), String> {
    let folder = folder.display();
    shell(&format!(
        "cd '{folder}' && truncate -s {size} live && mke2fs -q -F {arguments} live"
    ))?;
    let live = Path::new("live");
    let mount = {
        let at = format!("{folder}/mount");
        let image = Path::new(&folder.to_string()).join(live);
        Mount::new(&image, &format!("commit=600,{options}"), Path::new(&at))?
    };
    let at = mount.path().display();
    let script = script.replace("\"$1\"", &format!("'{at}'"));
    shell(&format!(
        "set -eu\n{script}\ncp --sparse=always '{folder}/live' '{folder}/{name}.img'"
    ))?;
    Ok(())
}

#[test]
fn what_is_replayed_is_what_the_kernel_replays() {
    if !can_mount() || !have(&["mke2fs", "setfattr", "getfattr"]) {
        return;
    }
    for kind in KINDS {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path();
        if let Err(error) = crashed(folder, *kind, CHANGE) {
            println!("SKIPPED {}: {error}", kind.0);
            continue;
        }
        let image = folder.join(format!("{}.img", kind.0));
        let before = shell(&format!("sha256sum < '{}'", image.display())).unwrap();
        let volume = open_volume(FileDisk::open(&image)).unwrap();
        let notes = &volume.info().notes;
        println!("{}: {notes:?}", kind.0);
        assert!(
            notes
                .iter()
                .any(|note| note.text.contains("was replayed in memory")),
            "{notes:?}"
        );
        assert!(!volume.info().clean);
        // The kernel replays a copy when it is mounted for writing.
        let theirs = folder.join("theirs");
        shell(&format!(
            "cp --sparse=always '{}' '{}'",
            image.display(),
            theirs.display()
        ))
        .unwrap();
        drop(Mount::new(&theirs, "rw", &folder.join("replayed")).unwrap());
        let mount = Mount::new(&theirs, "ro", &folder.join("replayed")).unwrap();
        let (wrong, count, bytes) = compare(&*volume, mount.path(), Exact::Mount);
        let wrong: Vec<_> = wrong.iter().take(20).collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", kind.0);
        assert!(count > 400 && bytes > 500_000, "{count} {bytes}");
        let after = shell(&format!("sha256sum < '{}'", image.display())).unwrap();
        assert_eq!(before, after, "the image was written to");
    }
}

/// What the tool makes of a copy of the image, which is then compared with the volume.
fn agrees_with_e2fsck(image: &Path, ours: &dyn Volume) -> (usize, u64) {
    let theirs = image.with_extension("theirs");
    let (from, to) = (image.display(), theirs.display());
    // 1: errors were corrected.
    shell(&format!(
        "cp --sparse=always '{from}' '{to}' && {{ e2fsck -fy '{to}' || test $? = 1; }}"
    ))
    .unwrap();
    let mount = Mount::new(&theirs, "ro", &image.with_extension("mount")).unwrap();
    let (wrong, count, bytes) = compare(ours, mount.path(), Exact::Mount);
    let wrong: Vec<_> = wrong.iter().take(20).collect();
    assert!(wrong.is_empty(), "{}: {wrong:#?}", image.display());
    (count, bytes)
}

/// Copies of the superblock do not say that there is something to be replayed: then the journal itself is asked.
#[test]
fn the_journal_is_replayed_where_the_superblock_is_lost() {
    if !can_mount() || !have(&["mke2fs", "e2fsck", "setfattr", "getfattr"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    crashed(scratch.path(), KINDS[1], CHANGE).unwrap();
    let image = scratch.path().join("small.img");
    let disk = FileDisk::open(&image);
    // All of it is lost, or a byte of the label is another one.
    let lost: Vec<(u64, u8)> = (1024..2048).map(|at| (at, 0)).collect();
    for damage in [lost, vec![(1024 + 0x78, b'x')]] {
        let volume = open_volume(Arc::new(Damaged(disk.clone(), damage.clone()))).unwrap();
        let notes = &volume.info().notes;
        assert!(
            notes
                .iter()
                .any(|note| note.text.contains("was replayed in")),
            "{notes:?}"
        );
        assert!(
            notes.iter().any(|note| note.text.contains("superblock")),
            "{notes:?}"
        );
        assert!(!volume.info().clean);
        let damaged = scratch.path().join("damaged.img");
        std::fs::copy(&image, &damaged).unwrap();
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&damaged)
            .unwrap();
        for (at, byte) in damage {
            file.write_all_at(&[byte], at).unwrap();
        }
        let (count, bytes) = agrees_with_e2fsck(&damaged, &*volume);
        assert!(count > 400 && bytes > 500_000, "{count} {bytes}");
    }
    // A copy also says nothing of a file system that was closed.
    shell(&format!("e2fsck -fy '{}' || test $? = 1", image.display())).unwrap();
    let lost: Vec<(u64, u8)> = (1024..2048).map(|at| (at, 0)).collect();
    let volume = open_volume(Arc::new(Damaged(FileDisk::open(&image), lost))).unwrap();
    let notes = &volume.info().notes;
    assert!(
        notes.len() == 1 && notes[0].text.contains("copy"),
        "{notes:?}"
    );
}

#[test]
fn a_very_large_journal_is_replayed() {
    if !can_mount() || !have(&["mke2fs"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let arguments =
        "-t ext4 -b 1024 -N 2000 -J size=1100 -E lazy_journal_init=1,lazy_itable_init=1";
    let script = "cd \"$1\"; echo hello > hello; sync hello; sync -f .";
    crashed_of("3G", scratch.path(), ("large", arguments, "rw"), script).unwrap();
    let volume = open_volume(FileDisk::open(&scratch.path().join("large.img"))).unwrap();
    let notes = &volume.info().notes;
    assert!(
        notes
            .iter()
            .all(|note| note.text.contains("was replayed in")),
        "{notes:?}"
    );
    assert!(volume.lookup(volume.root(), b"hello").unwrap().is_some());
}

/// `quick.img`: four files, a transaction each, with blocks of 1 KiB and no checksums of metadata.
pub fn quick(folder: &Path, options: &str) -> std::result::Result<(), String> {
    let kind = (
        "quick",
        "-t ext4 -O ^metadata_csum -b 1024 -J size=4",
        options,
    );
    let script = "cd \"$1\"; for n in first second third fourth; do echo $n > $n; sync $n; done";
    crashed(folder, kind, script)
}

#[test]
fn fast_commits_are_named() {
    if !can_mount() || !have(&["mke2fs"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let kind = ("fast", "-t ext4 -O fast_commit", "rw");
    let quick = "cd \"$1\"; for n in $(seq 50); do echo $n > $n; done; sync -f .; for n in 1 2 3; do echo $n > fast$n; sync fast$n; done";
    if let Err(error) = crashed(scratch.path(), kind, quick) {
        println!("SKIPPED: {error}");
        return;
    }
    let volume = open_volume(FileDisk::open(&scratch.path().join("fast.img"))).unwrap();
    let notes = &volume.info().notes;
    let has = |text: &str| notes.iter().any(|note| note.text.contains(text));
    assert!(
        has("was replayed in memory") && has("Fast commits"),
        "{notes:?}"
    );
    let found = walk(&*volume, true, usize::MAX, &mut |path, error| {
        panic!("{path:?}: {error}")
    });
    assert!(found.len() > 50);
}

/// A disk with some bytes that are others.
struct Damaged(Arc<dyn ReadAt>, Vec<(u64, u8)>);

impl ReadAt for Damaged {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read_exact_at(offset, buffer)?;
        for (at, byte) in &self.1 {
            if let Some(slot) = at
                .checked_sub(offset)
                .and_then(|n| buffer.get_mut(n as usize))
            {
                *slot = *byte;
            }
        }
        Ok(())
    }
}

#[test]
fn a_damaged_journal_never_hurts() {
    if !can_mount() || !have(&["mke2fs", "debugfs", "setfattr"]) {
        return;
    }
    for kind in [KINDS[1], KINDS[3]] {
        let scratch = tempfile::tempdir().unwrap();
        crashed(scratch.path(), kind, CHANGE).unwrap();
        let image = scratch.path().join(format!("{}.img", kind.0));
        // The first block of the journal; it lies in one piece.
        let text = shell(&format!(
            "debugfs -R 'bmap <8> 0' '{}' 2>/dev/null",
            image.display()
        ))
        .unwrap();
        let journal = text.trim().parse::<u64>().unwrap() * 1024;
        let disk = FileDisk::open(&image);
        let (mut replayed, mut state) = (0, 7u64);
        let mut random = move |end: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 8) % end
        };
        for round in 0..150 {
            // Mostly the superblock and the beginnings of blocks.
            let places = (0..1 + round % 4).map(|_| {
                let block = random(if round % 3 == 0 { 1 } else { 1024 });
                let byte = random(if round % 2 == 0 { 48 } else { 1024 });
                (journal + block * 1024 + byte, random(256) as u8)
            });
            let damaged = Arc::new(Damaged(disk.clone(), places.collect()));
            let volume = open_volume(damaged).unwrap();
            let notes = &volume.info().notes;
            assert!(
                notes.iter().any(|note| note.text.contains("replayed")),
                "{notes:?}"
            );
            replayed += usize::from(
                notes
                    .iter()
                    .any(|note| note.text.contains("was replayed in")),
            );
            walk(&*volume, false, 3000, &mut |_, _| {});
        }
        assert!(replayed > 20, "{replayed}");
    }
}
