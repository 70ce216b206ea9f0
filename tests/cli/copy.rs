//! copy: many paths in one job, with everything that belongs to them, and nothing where it does not belong.

use super::bench::{Bench, eventually, have, text, tool};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// Fills the folder in `$1` with everything that an ext4 file system may have; what cannot be made here is left out.
const FILL: &str = r#"
cd "$1"
mkdir -p small deep/a/b/c many holes links nodes attributes odd
for n in 0 1 100 4096 65536; do head -c $n /dev/urandom > small/$n; done
head -c 6000000 /dev/urandom > big
for n in $(seq 1 300); do echo $n > "many/a rather long name that fills blocks $n"; done
printf end | dd of=holes/far bs=1 seek=40000000 conv=notrunc status=none
truncate -s 12345678 holes/only
for n in $(seq 1 100); do printf x | dd of=holes/comb bs=1 seek=$((n * 16384)) conv=notrunc status=none; done
head -c 20000 /dev/urandom > holes/tail; truncate -s 900000 holes/tail
ln -s ../small/100 links/good; ln -s $(head -c 1000 /dev/zero | tr '\0' t) links/long
ln big links/hard; ln big deep/a/hard2
mkfifo nodes/pipe
[ $(id -u) != 0 ] || { mknod nodes/null c 1 3; mknod nodes/disk b 259 70000; chown 70000:70001 small/4096; chown -h 7:8 links/good; }
chmod 1777 many; chmod 4755 small/100; chmod 400 small/1; chmod 555 deep/a/b/c
setfattr -n user.short -v value attributes; echo > attributes/one; setfattr -n user.x -v 0x00ff00 attributes/one
setfacl -m u:1234:rwx,g:99:r attributes/one; setfacl -d -m u:7:r attributes
echo > "odd/$(head -c 255 /dev/zero | tr '\0' n)"; echo x > odd/grüße; echo y > 'odd/a:b\c'
find . -exec touch -h -d '2024-05-06 07:08:09' {} +
touch -d '2037-01-02 03:04:05' small/100; touch -d '1930-05-06 07:08:09' small/0; touch -h -d '1999-01-01' links/good
true
"#;

/// Everything that can be seen of the tree in `$1`, but for the sizes of folders.
const SHOW: &str = r#"
cd "$1"
find . -mindepth 1 -name lost+found -prune -o -type d -printf 'd %P %m %U %G %T@\n' -o -printf '%y %P %m %U %G %n %T@ %s %l\n' | LC_ALL=C sort
find . -mindepth 1 -name lost+found -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
find . -mindepth 1 -name lost+found -prune -o -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m '^(user|system)' -e hex
"#;

pub const TOOLS: &[&str] = &[
    "bash", "mke2fs", "setfattr", "getfattr", "setfacl", "mkfifo",
];

pub fn shell(script: &str, folder: &Path) -> String {
    let mut command = Command::new("bash");
    let out = command
        .args(["-c", script, "bash", text(folder)])
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// What can be seen of a tree.
pub fn shown(folder: &Path) -> Vec<String> {
    let lines: Vec<String> = shell(SHOW, folder).lines().map(str::to_string).collect();
    assert!(!lines.is_empty());
    lines
}

#[track_caller]
pub fn same(one: &Path, other: &Path) {
    let (a, b) = (shown(one), shown(other));
    let differ = |(a, b): &(&String, &String)| a != b;
    let first = a.iter().zip(&b).find(differ);
    assert!(
        a == b,
        "{} and {} lines; first: {first:?}",
        a.len(),
        b.len()
    );
}

/// A machine `m` whose disk is an ext4 file system with everything, made from the folder `tree`.
pub fn everything(bench: &Bench) -> Option<()> {
    if !have(TOOLS) {
        return None;
    }
    let (tree, image) = (bench.path("tree"), bench.path("whole.raw"));
    fs::create_dir(&tree).unwrap();
    shell(FILL, &tree);
    image_of(bench, "tree", "whole.raw", "80m");
    bench.backup("m", &["whole.raw"]);
    drop(fs::remove_file(image));
    Some(())
}

/// An ext4 file system made from the folder `tree`.
pub fn image_of(bench: &Bench, tree: &str, image: &str, size: &str) {
    let (tree, image) = (bench.path(tree), bench.path(image));
    let arguments = [
        "-q",
        "-t",
        "ext4",
        "-N",
        "12000",
        "-d",
        text(&tree),
        text(&image),
        size,
    ];
    tool("mke2fs", &arguments);
}

/// Names that only copies that are not complete leave.
fn leftovers(folder: &Path) -> String {
    shell("find \"$1\" -name '.cairn-*'", folder)
}

#[test]
fn everything_of_a_guest_is_kept() {
    let bench = Bench::new();
    let Some(()) = everything(&bench) else { return };
    let copied = bench.expect(
        0,
        &[
            "copy",
            "store",
            "m@latest:/disk0/p0",
            "out",
            "--json",
            "--verify",
        ],
    );
    let report = copied.json();
    same(&bench.path("tree"), &bench.path("out"));
    assert_eq!(
        report["verified"],
        shell("find \"$1\" -type f -links 1", &bench.path("out"))
            .lines()
            .count()
            + 1
    );
    let space = |name: &str| fs::metadata(bench.path(name)).unwrap().blocks() * 512;
    assert!(space("out/holes/far") < 1 << 20 && space("out/holes/only") < 1 << 20);
    let number = |name: &str| fs::metadata(bench.path(name)).unwrap().ino();
    assert_eq!(number("out/big"), number("out/links/hard"));
    assert_eq!(leftovers(&bench.path("out")), "");
    // A copy that is complete is gone on with, and nothing happens to it.
    bench.expect(1, &["copy", "store", "m@latest:/disk0/p0/big", "out/big"]);
    let again = [
        "copy",
        "store",
        "m@latest:/disk0/p0/links",
        "out",
        "--resume",
        "--json",
    ];
    let report = bench.expect(0, &again).json();
    assert_eq!(
        (&report["files"], &report["already"]),
        (&0.into(), &3.into())
    );
}

/// Kills a copy when so many files are there, unless it is done before. Whatever has its name then is whole: answers how many.
fn kill_once(bench: &Bench, tree: &Path, wanted: usize) -> usize {
    let mut whole = 0;
    let mut copy = bench.start(&["copy", "store", "m@latest:/disk0/p0", "out", "--resume"]);
    let count = || {
        let count = |name: &str| fs::read_dir(bench.path(name)).map_or(0, Iterator::count);
        count("out/many") + count("out/more")
    };
    eventually("files come", || !copy.is_alive() || count() >= wanted);
    copy.signal_if_alive("KILL");
    drop(copy.end());
    // Whatever has its name is whole.
    for folder in ["many", "more"] {
        let Ok(entries) = fs::read_dir(bench.path("out").join(folder)) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().into_string().unwrap();
            if !name.starts_with(".cairn-") {
                let original = fs::read(tree.join(folder).join(&name)).unwrap();
                assert!(fs::read(entry.path()).unwrap() == original, "{name}");
                whole += 1;
            }
        }
    }
    whole
}

#[test]
fn a_copy_that_was_killed_goes_on() {
    let bench = Bench::new();
    if !have(TOOLS) {
        return;
    }
    let tree = bench.path("tree");
    fs::create_dir_all(tree.join("many")).unwrap();
    fs::create_dir_all(tree.join("more")).unwrap();
    for n in 0..10_000 {
        let folder = if n % 3 == 0 { "more" } else { "many" };
        fs::write(
            tree.join(folder).join(format!("file {n}")),
            format!("{n}\n").repeat(n % 50),
        )
        .unwrap();
    }
    bench.noise("tree/large", 5, 20 << 20);
    shell(
        "find \"$1\" -exec touch -h -d '2024-05-06 07:08:09' {} +",
        &tree,
    );
    image_of(&bench, "tree", "whole.raw", "96m");
    bench.backup("m", &["whole.raw"]);
    let from = "m@latest:/disk0/p0";
    let whole: usize = (0..4)
        .map(|round| kill_once(&bench, &tree, 1 + round * 1500))
        .sum();
    assert!(whole > 0);
    // Somebody damaged one that was done, in a way that its size and times do not tell.
    let victim = bench.path("out/many/file 101");
    let existed = victim.exists();
    if existed {
        let length = fs::metadata(&victim).unwrap().len();
        fs::write(&victim, vec![b'!'; usize::try_from(length).unwrap()]).unwrap();
        tool("touch", &["-d", "2024-05-06 07:08:09", text(&victim)]);
    }
    let unfinished = bench.path("out/.cairn-copy-unfinished").exists();
    if existed && unfinished {
        let named = bench.expect(3, &["copy", "store", from, "out", "--resume"]);
        assert!(named.stderr.contains("file 101"), "{}", named.stderr);
    }
    let target = if unfinished && !existed {
        "out"
    } else {
        "fresh"
    };
    bench.expect(0, &["copy", "store", from, target, "--resume"]);
    same(&tree, &bench.path(target));
    assert_eq!(leftovers(&bench.path(target)), "");
}

#[test]
fn a_file_with_a_lost_chunk_is_named_and_not_there() {
    let bench = Bench::without_parity();
    if !have(TOOLS) {
        return;
    }
    fs::create_dir(bench.path("tree")).unwrap();
    bench.noise("tree/large", 5, 8 << 20);
    bench.noise("tree/other", 6, 1 << 20);
    fs::write(bench.path("tree/small"), "here\n").unwrap();
    image_of(&bench, "tree", "whole.raw", "24m");
    bench.backup("m", &["whole.raw"]);
    let packs = bench.store_files("packs");
    let pack = packs
        .iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(pack).unwrap();
    let large = fs::read(bench.path("tree/large")).unwrap();
    // Bytes that do not compress lie in the pack as they are.
    let piece = &large[5 << 20..(5 << 20) + 64];
    let at = bytes
        .windows(64)
        .position(|window| window == piece)
        .unwrap();
    bytes[at] ^= 1;
    fs::write(pack, bytes).unwrap();
    let named = bench.expect(4, &["copy", "store", "m@latest:/disk0/p0", "out"]);
    assert!(named.stderr.contains("out/large"), "{}", named.stderr);
    assert!(!bench.path("out/large").exists() && bench.path("out/other").exists());
    assert_eq!(fs::read(bench.path("out/small")).unwrap(), b"here\n");
    assert_eq!(leftovers(&bench.path("out")), "");
    // An archive cannot take back what it began: it is not there at all, unless everything is read before.
    let tar = [
        "copy",
        "store",
        "m@latest:/disk0/p0",
        "--format",
        "tar",
        "a.tar",
    ];
    let named = bench.expect(4, &tar);
    assert!(named.stderr.contains("--verify"), "{}", named.stderr);
    assert!(!bench.path("a.tar").exists());
    let named = bench.expect(4, &[&tar[..], &["--verify"]].concat());
    assert!(named.stderr.contains("large"), "{}", named.stderr);
    let names = tool("tar", &["-tf", text(&bench.path("a.tar"))]);
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["p0/", "p0/lost+found/", "p0/other", "p0/small"]);
}
