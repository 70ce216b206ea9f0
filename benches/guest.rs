//! Walking a guest's volume: every name and the attributes of every entry.

use cairn_base::ReadAt;
use cairn_guest::{EntryKind, Volume, open_volume};
use criterion::{Criterion, Throughput};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const FOLDERS: usize = 200;
const FILES: usize = 100;

/// A tree of 20,000 small files.
fn tree(root: &Path) {
    for folder in 0..FOLDERS {
        let folder = root.join(format!("folder number {folder}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..FILES {
            fs::write(
                folder.join(format!("file number {file}.txt")),
                vec![b'x'; file * 40],
            )
            .unwrap();
        }
    }
}

/// Runs a program; `false` if it is not there or does not succeed.
fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

fn ext4(tree: &str, image: &str) -> bool {
    run(
        "mke2fs",
        &["-q", "-t", "ext4", "-N", "24000", "-d", tree, image, "192M"],
    )
}

fn ntfs(tree: &str, image: &str, mountpoint: &str) -> bool {
    fs::File::create(image).unwrap().set_len(192 << 20).unwrap();
    fs::create_dir(mountpoint).unwrap();
    if !run("mkntfs", &["-q", "-F", "-Q", image])
        || !run("ntfs-3g", &["-o", "big_writes", image, mountpoint])
    {
        return false;
    }
    let copied = run("cp", &["-r", tree, mountpoint]);
    run("umount", &[mountpoint]) && copied
}

/// Number of entries below the root.
fn walk(volume: &dyn Volume) -> usize {
    let mut open = vec![volume.root()];
    let mut count = 0;
    while let Some(folder) = open.pop() {
        let mut found = Vec::new();
        volume
            .read_dir(folder, 0, &mut |entry| {
                found.push(entry);
                ControlFlow::Continue(())
            })
            .unwrap();
        for entry in found {
            let attributes = volume.attributes(entry.id).unwrap();
            if attributes.kind == EntryKind::Folder {
                open.push(entry.id);
            }
            count += 1;
        }
    }
    count
}

pub fn guest_walk(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).display().to_string();
    tree(&temp.path().join("tree"));
    let volumes = [
        ("ext4", ext4(&path("tree"), &path("ext4"))),
        ("ntfs", ntfs(&path("tree"), &path("ntfs"), &path("mnt"))),
    ];
    let mut group = c.benchmark_group("guest_walk");
    for (name, made) in volumes {
        if !made {
            println!("SKIPPED: guest_walk/{name}: its tools are not here, or cannot be used");
            continue;
        }
        let disk = cairn_disk::open(Path::new(&path(name))).unwrap();
        let open = || open_volume(disk.clone() as Arc<dyn ReadAt>).unwrap();
        let entries = walk(&*open());
        assert!(entries > FOLDERS * FILES, "{entries}");
        group.throughput(Throughput::Elements(entries as u64));
        group.bench_function(name, |b| {
            // Opened anew each time, so that nothing is known yet.
            b.iter(|| walk(&*open()));
        });
    }
    group.finish();
}
