//! Images made here, with every feature of the format, against the kernel's mount or the folder they were made from.

use crate::compare::{Exact, compare};
use crate::kernel::{Mount, can_mount};
use crate::support::{FileDisk, have, list, shell};
use cairn_guest::open_volume;
use cairn_guest::probe::volumes;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Fills the folder in `$1`; what the file system there cannot hold is left out.
const FILL: &str = r#"
cd "$1"
mkdir -p small deep/a/b/c/d/e/f many sticky holes links nodes odd
mkdir attributes
for n in 0 1 10 59 60 61 100 120 150 156 160 200 255 1000 1023 1024 1025 4095 4096 4097 65536; do
    head -c $n /dev/urandom > small/$n; done
head -c 3000000 /dev/urandom > big
for n in $(seq 1 3000); do echo $n > "many/a rather long name that fills blocks $n"; done
for n in $(seq 5 7 3000); do rm "many/a rather long name that fills blocks $n"; done
for n in $(seq 1 400); do printf x | dd of=holes/comb bs=1 seek=$((n * 16384)) conv=notrunc status=none; done
printf end | dd of=holes/far bs=1 seek=80000000 conv=notrunc status=none
truncate -s 12345678 holes/only
head -c 20000 /dev/urandom > holes/tail; truncate -s 900000 holes/tail
fallocate -l 200000 holes/reserved; printf middle | dd of=holes/reserved bs=1 seek=100000 conv=notrunc status=none
head -c 400000 /dev/urandom > holes/punched; fallocate -p -o 100000 -l 100000 holes/punched
for n in 1 59 60 61 200 1000; do ln -s $(head -c $n /dev/zero | tr '\0' t) links/to$n; done
ln big links/hard; ln -s ../small/10 links/good
mkfifo nodes/pipe; mknod nodes/null c 1 3; mknod nodes/disk b 259 70000; mknod nodes/old b 8 17
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("nodes/socket")'
chmod 1777 sticky; chmod 4755 small/100; chmod 0 small/200; chown 70000:4000000000 small/1000
touch -d '2040-01-02 03:04:05.678901234' small/10; touch -d '1930-05-06 07:08:09' small/59
touch -d '2200-01-01' small/60; touch -h -d '1999-01-01' links/good
setfattr -n user.short -v value attributes; setfattr -n user.empty attributes
head -c 40 /dev/urandom > attributes/one; setfattr -n user.x -v 0x00ff00 attributes/one
setfattr -n trusted.t -v t attributes/one; setfattr -n security.s -v s attributes/one
echo > attributes/large; setfattr -n user.large -v $(head -c 900 /dev/zero | tr '\0' l) attributes/large
echo > attributes/huge; setfattr -n user.huge -v $(head -c 30000 /dev/zero | tr '\0' h) attributes/huge
echo > attributes/listed; setfacl -m u:1234:rwx,g:99:r attributes/listed; setfacl -d -m u:7:r attributes
ln -s target attributes/link; setfattr -h -n trusted.link -v l attributes/link
echo > odd/$'not \xff utf-8'; echo > 'odd/with:colon\backslash'; echo > odd/$(head -c 255 /dev/zero | tr '\0' n)
mkdir odd/Fold; chattr +F odd/Fold; echo 1 > odd/Fold/Straße; echo 2 > odd/Fold/lower
sync -f .
true
"#;

/// Name, size, arguments of `mke2fs`.
const KINDS: &[(&str, &str, &str)] = &[
    ("plain", "200M", "-t ext4"),
    ("ext2", "200M", "-t ext2 -b 1024"),
    ("ext2_rev0", "64M", "-t ext2 -r 0 -b 1024"),
    ("ext3_4k", "200M", "-t ext3 -b 4096 -I 128"),
    ("ext3_2k", "200M", "-t ext3 -b 2048"),
    ("no_extents", "200M", "-t ext4 -b 1024 -O ^extents,^64bit"),
    ("inline", "200M", "-t ext4 -O inline_data"),
    ("inline_1024", "200M", "-t ext4 -O inline_data -I 1024"),
    ("not_64bit", "200M", "-t ext4 -O ^64bit -b 1024"),
    ("csum", "200M", "-t ext4 -O metadata_csum,64bit"),
    ("csum_32", "200M", "-t ext4 -O metadata_csum,^64bit -b 2048"),
    (
        "gdt_csum",
        "200M",
        "-t ext4 -O ^metadata_csum,uninit_bg -b 1024",
    ),
    (
        "no_csum",
        "200M",
        "-t ext4 -O ^metadata_csum,^uninit_bg,^flex_bg",
    ),
    ("seed", "200M", "-t ext4 -O metadata_csum_seed,orphan_file"),
    ("bigalloc", "200M", "-t ext4 -O bigalloc -C 16384"),
    (
        "bigalloc_1k",
        "200M",
        "-t ext4 -O bigalloc -b 1024 -C 16384",
    ),
    (
        "meta_bg",
        "200M",
        "-t ext4 -O meta_bg,^resize_inode -b 1024",
    ),
    (
        "meta_bg_2k",
        "600M",
        "-t ext4 -O meta_bg,^resize_inode,^metadata_csum,uninit_bg -b 2048",
    ),
    ("sparse2", "200M", "-t ext4 -O sparse_super2 -b 1024"),
    ("inode_128", "200M", "-t ext4 -I 128"),
    ("inode_1024", "200M", "-t ext4 -I 1024"),
    ("inode_4096", "200M", "-t ext4 -I 4096 -b 4096 -N 8192"),
    ("ea_inode", "200M", "-t ext4 -O ea_inode"),
    (
        "ea_inode_inline",
        "200M",
        "-t ext4 -O ea_inode,inline_data -b 1024",
    ),
    ("large_dir", "200M", "-t ext4 -O large_dir -b 1024"),
    ("no_index", "200M", "-t ext4 -O ^dir_index"),
    ("no_filetype", "200M", "-t ext4 -O ^filetype"),
    (
        "tea",
        "200M",
        "-t ext4 -b 1024 -E hash_seed=00112233-4455-6677-8899-aabbccddeeff",
    ),
    ("casefold", "200M", "-t ext4 -O casefold -E encoding=utf8"),
    ("mmp_quota", "200M", "-t ext4 -O mmp,quota,project"),
    ("fast_commit", "200M", "-t ext4 -O fast_commit"),
];

fn make(folder: &Path, name: &str, size: &str, arguments: &str) -> std::path::PathBuf {
    let image = folder.join(name);
    let path = image.display();
    shell(&format!(
        "truncate -s {size} '{path}' && mke2fs -q -F {arguments} '{path}'"
    ))
    .unwrap();
    image
}

#[test]
fn every_kind_agrees_with_the_kernel() {
    if !can_mount() || !have(&["mke2fs", "getfattr", "setfattr", "python3", "tune2fs"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let script = scratch.path().join("fill.sh");
    std::fs::write(&script, FILL).unwrap();
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (name, size, arguments) in KINDS {
        let image = make(scratch.path(), name, size, arguments);
        if *name == "tea" {
            shell(&format!("tune2fs -E hash_alg=tea '{}'", image.display())).unwrap();
        }
        let at = scratch.path().join("mnt");
        match Mount::new(&image, "rw", &at) {
            Ok(mount) => {
                let _ = shell(&format!(
                    "bash '{}' '{}' 2>&1",
                    script.display(),
                    mount.path().display()
                ));
            }
            Err(error) => {
                println!("SKIPPED: {name}: the kernel does not mount it: {error}");
                continue;
            }
        }
        let mount = Mount::new(&image, "ro,noload", &at).unwrap();
        let volume = open_volume(FileDisk::open(&image)).unwrap();
        assert!(volume.info().clean, "{name}: {:?}", volume.info());
        let (found, entries, bytes) = compare(volume.as_ref(), mount.path(), Exact::Mount);
        drop(mount);
        println!(
            "{name}: {entries} entries, {bytes} bytes, {} differences, {:?}",
            found.len(),
            volume.info().notes
        );
        assert!(entries > 300, "{name}");
        for what in found.iter().take(5) {
            println!("    {what}");
        }
        wrong.extend(
            found
                .into_iter()
                .take(10)
                .map(|what| format!("{name}: {what}")),
        );
        compare_free(volume.as_ref(), &image, name);
        std::fs::remove_file(image).unwrap();
        compared += 1;
    }
    assert!(compared > 0);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The free ranges against `dumpe2fs`, block by block.
fn compare_free(volume: &dyn cairn_guest::Volume, image: &Path, name: &str) {
    let text = shell(&format!("dumpe2fs '{}' 2>/dev/null", image.display())).unwrap();
    let unit = u64::from(volume.info().block_size);
    // Of a range of clusters, dumpe2fs prints the first block of the last one.
    let cluster = text
        .lines()
        .find_map(|line| line.strip_prefix("Cluster size:"));
    let cluster: u64 = cluster.map_or(unit, |size| size.trim().parse().unwrap());
    let mut theirs = Vec::new();
    for line in text
        .lines()
        .filter_map(|line| line.strip_prefix("  Free blocks: "))
    {
        for range in line.split(", ").filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
            let end = if cluster > unit {
                ((last + 1) * unit).next_multiple_of(cluster)
            } else {
                (last + 1) * unit
            };
            theirs.push(first * unit..end.min(volume.info().size));
        }
    }
    let mut merged: Vec<std::ops::Range<u64>> = Vec::new();
    for range in theirs {
        match merged.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => merged.push(range),
        }
    }
    let mut ours = Vec::new();
    volume
        .free_space(&mut |range| {
            ours.push(range);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    if ours != merged {
        let total =
            |ranges: &[std::ops::Range<u64>]| ranges.iter().map(|r| r.end - r.start).sum::<u64>();
        let first = ours.iter().zip(&merged).position(|(a, b)| a != b);
        panic!(
            "{name}: {} bytes free in {} ranges, should be {} in {}; first difference {:?} {:?}",
            total(&ours),
            ours.len(),
            total(&merged),
            merged.len(),
            first.map(|at| &ours[at]),
            first.map(|at| &merged[at]),
        );
    }
}

#[test]
fn block_sizes_the_kernel_refuses_agree_with_their_source() {
    if !can_mount() || !have(&["mke2fs", "getfattr", "setfattr", "python3"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let script = scratch.path().join("fill.sh");
    // What a folder of the host cannot keep as it is, or `mke2fs` not copy.
    let fill = FILL.lines().filter(|line| {
        !["attributes", "Fold", "touch"]
            .iter()
            .any(|word| line.contains(word))
    });
    std::fs::write(&script, fill.collect::<Vec<_>>().join("\n")).unwrap();
    shell(&format!(
        "bash '{1}' '{0}' 2>&1; rm -f '{0}/holes/far'",
        source.display(),
        script.display()
    ))
    .unwrap();
    for (name, arguments) in [
        ("8k", "-t ext4 -b 8192"),
        ("16k", "-t ext4 -b 16384 -O metadata_csum"),
        ("32k", "-t ext4 -b 32768 -O ^metadata_csum"),
        ("64k", "-t ext4 -b 65536 -O metadata_csum,64bit"),
        ("1k", "-t ext2 -b 1024"),
        // Features that not every kernel is built with.
        ("casefold", "-t ext4 -O casefold -E encoding=utf8"),
        ("mmp_quota", "-t ext4 -O mmp,quota,project"),
    ] {
        let image = scratch.path().join(name);
        let made = shell(&format!(
            "truncate -s 400M '{0}' && mke2fs -q -F {arguments} -d '{1}' '{0}'",
            image.display(),
            source.display()
        ));
        made.unwrap();
        let volume = open_volume(FileDisk::open(&image)).unwrap();
        let (found, entries, bytes) = compare(volume.as_ref(), &source, Exact::Source);
        println!(
            "{name}: {entries} entries, {bytes} bytes, {} differences",
            found.len()
        );
        assert!(entries > 2000);
        assert!(
            found.is_empty(),
            "{name}: {}",
            found[..found.len().min(20)].join("\n")
        );
        std::fs::remove_file(image).unwrap();
    }
}

#[test]
fn a_lost_superblock_is_found_again() {
    if !have(&["mke2fs"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "content").unwrap();
    for (name, arguments) in [
        ("1k", "-b 1024"),
        ("2k", "-b 2048"),
        ("4k", "-b 4096"),
        ("2copies", "-b 1024 -O sparse_super2"),
    ] {
        let image = scratch.path().join(name);
        shell(&format!(
            "truncate -s 300M '{0}' && mke2fs -q -F -t ext4 {arguments} -d '{1}' '{0}' && dd if=/dev/zero of='{0}' bs=512 seek=2 count=2 conv=notrunc status=none",
            image.display(),
            source.display()
        ))
        .unwrap();
        let volume = open_volume(FileDisk::open(&image)).unwrap();
        assert!(
            volume.info().notes[0].text.contains("copy"),
            "{:?}",
            volume.info().notes
        );
        let entry = volume.lookup(volume.root(), b"file").unwrap().unwrap();
        let file = volume.open(entry.id).unwrap();
        assert_eq!(
            cairn_base::read_at::read_vec(file.as_ref(), 0, 7).unwrap(),
            b"content"
        );
    }
}

/// Compares every ext volume of the disk in `CAIRN_COMPARE_DISK` with the kernel's mount of it.
#[test]
fn a_disk_of_choice_agrees_with_the_kernel() {
    let Some(disk) = std::env::var_os("CAIRN_COMPARE_DISK") else {
        println!("SKIPPED: CAIRN_COMPARE_DISK names no disk");
        return;
    };
    let path = Path::new(&disk);
    let scratch = tempfile::tempdir().unwrap();
    let layout = volumes(&FileDisk::open(path), None).unwrap();
    for found in layout
        .volumes
        .iter()
        .filter(|v| v.detected.as_ref().is_ok_and(|d| d.name() == "ext2/3/4"))
    {
        let options = format!("ro,noload,offset={}", found.start);
        let mount = Mount::new(path, &options, &scratch.path().join("mnt")).unwrap();
        let volume = found.open().unwrap();
        let start = std::time::Instant::now();
        let (wrong, entries, bytes) = compare(volume.as_ref(), mount.path(), Exact::Mount);
        println!(
            "p{}: {entries} entries, {bytes} bytes in {:?}: {:?}",
            found.number,
            start.elapsed(),
            volume.info()
        );
        assert!(
            wrong.is_empty(),
            "{} differences: {}",
            wrong.len(),
            wrong[..wrong.len().min(40)].join("\n")
        );
    }
}

/// Counts what is read of a disk.
struct Counted(std::sync::Arc<dyn cairn_base::ReadAt>, AtomicU64, AtomicU64);

impl cairn_base::ReadAt for Counted {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> cairn_base::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.2.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.0.read_exact_at(offset, buffer)
    }
}

#[test]
fn a_large_folder_and_a_large_file_take_few_reads() {
    if !can_mount() || !have(&["mke2fs", "python3"]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let image = make(scratch.path(), "large", "400M", "-t ext4 -b 4096 -N 120000");
    let mount = Mount::new(&image, "rw", &scratch.path().join("mnt")).unwrap();
    let at = mount.path().display();
    shell(&format!(
        "mkdir '{at}/d' && python3 -c \"import sys\nfor i in range(100000): open('{at}/d/file number %06d' % i, 'w').close()\" \
         && head -c 100000000 /dev/zero | tr '\\0' x > '{at}/big'"
    ))
    .unwrap();
    drop(mount);
    let disk = std::sync::Arc::new(Counted(
        FileDisk::open(&image),
        AtomicU64::new(0),
        AtomicU64::new(0),
    ));
    let reads = || {
        (
            disk.1.swap(0, Ordering::Relaxed),
            disk.2.swap(0, Ordering::Relaxed),
        )
    };
    let volume = open_volume(disk.clone()).unwrap();
    let folder = volume.lookup(volume.root(), b"d").unwrap().unwrap();
    let size = volume.attributes(folder.id).unwrap().size;
    reads();
    let start = std::time::Instant::now();
    let (names, result) = list(volume.as_ref(), folder.id, 0, usize::MAX);
    result.unwrap();
    assert_eq!(names.len(), 100_000);
    let (count, bytes) = reads();
    println!(
        "{size} bytes of names: {count} reads of {bytes} bytes in {:?}",
        start.elapsed()
    );
    assert!(
        bytes <= size + size / 4 && count <= size / 8192,
        "{count} reads of {bytes} bytes"
    );

    let start = std::time::Instant::now();
    for name in names.iter().step_by(100) {
        assert_eq!(
            volume.lookup(folder.id, &name.name).unwrap().unwrap().id,
            name.id
        );
    }
    let (_, bytes) = reads();
    println!("1000 look-ups: {bytes} bytes in {:?}", start.elapsed());
    // Each takes the leaf of its hash, and what lies above it once.
    assert!(bytes <= 1000 * 2 * 4096, "{bytes} bytes");

    let start = std::time::Instant::now();
    for name in &names {
        volume.attributes(name.id).unwrap();
    }
    let (count, bytes) = reads();
    println!(
        "100,000 inodes: {count} reads of {bytes} bytes in {:?}",
        start.elapsed()
    );

    big_file(volume.as_ref(), &disk);
}

/// A file in one piece is read in a few large reads.
fn big_file(volume: &dyn cairn_guest::Volume, disk: &Counted) {
    let file = volume.lookup(volume.root(), b"big").unwrap().unwrap();
    let file = volume.open(file.id).unwrap();
    disk.1.store(0, Ordering::Relaxed);
    let mut whole = vec![0; 100_000_000];
    file.read_exact_at(0, &mut whole).unwrap();
    assert!(whole.iter().all(|byte| *byte == b'x'));
    assert!(disk.1.load(Ordering::Relaxed) < 20);
}
