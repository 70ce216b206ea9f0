//! What QEMU writes, with every option that changes where bytes lie.

use super::kit::{Dice, check_with_qemu, difference, img, io, read_all, sample};
use super::shared::run;
use cairn_base::ReadAt;
use cairn_base::read_at::read_vec;
use cairn_disk::{Format, FormatHint, open, open_as, open_bytes};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SIZES: [&str; 13] = [
    "512", "1k", "2k", "4k", "8k", "16k", "32k", "64k", "128k", "256k", "512k", "1M", "2M",
];

fn create(folder: &Path, options: &str, size: u64) -> std::path::PathBuf {
    let name = "image.qcow2";
    let size = size.to_string();
    img(
        folder,
        &["create", "-q", "-f", "qcow2", "-o", options, name, &size],
    );
    folder.join(name)
}

/// Some writes at places that are no multiples of anything.
fn write_here_and_there(image: &Path, size: u64) {
    io(
        image,
        "qcow2",
        &[
            format!("write -P 1 {} {}", 512 * 3, 70_144),
            format!("write -P 2 {} {}", size / 2 / 512 * 512, 1536),
            format!("write -z {} {}", 32 * 1024, 16 * 1024),
            format!("write -P 3 {} {}", size - 512, 512),
        ],
    );
}

#[test]
fn every_cluster_size_version_and_allocation() {
    let work = tempfile::tempdir().unwrap();
    let size = (5 << 20) + 512 * 3;
    for cluster in SIZES {
        let mut options = vec![
            format!("cluster_size={cluster},compat=0.10"),
            format!("cluster_size={cluster},compat=1.1,lazy_refcounts=on"),
            format!("cluster_size={cluster},refcount_bits=1,preallocation=metadata"),
            format!("cluster_size={cluster},preallocation=falloc"),
        ];
        if !cluster.ends_with('2') && !["1k", "2k", "4k", "8k"].contains(&cluster) {
            options.push(format!("cluster_size={cluster},extended_l2=on"));
            options.push(format!(
                "cluster_size={cluster},extended_l2=on,preallocation=metadata"
            ));
        }
        for options in options {
            let image = create(work.path(), &options, size);
            write_here_and_there(&image, size);
            let disk = open(&image).unwrap();
            assert_eq!(disk.format(), Format::Qcow2, "{options}");
            assert!(disk.warnings().is_empty(), "{options}");
            let expected = check_with_qemu(&*disk, &image, "qcow2", &options);
            let found = read_all(&*disk, &mut Dice(size));
            assert_eq!(difference(&found, &expected), None, "{options}");
        }
    }
}

#[test]
fn compressed_clusters_of_both_kinds() {
    let work = tempfile::tempdir().unwrap();
    let size = (6 << 20) + 512;
    let raw = work.path().join("a.raw");
    let content = sample(&raw, size, 77);
    for cluster in SIZES {
        for kind in ["zlib", "zstd", "zlib,extended_l2=on", "zstd,extended_l2=on"] {
            let is_small = ["512", "1k", "2k", "4k", "8k"].contains(&cluster);
            if is_small && kind.contains("extended") {
                continue;
            }
            let options = format!("cluster_size={cluster},compression_type={kind}");
            let arguments = ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", &options];
            img(
                work.path(),
                &[&arguments[..], &["a.raw", "a.qcow2"]].concat(),
            );
            let image = work.path().join("a.qcow2");
            let map = img(work.path(), &["map", "--output=json", "a.qcow2"]);
            assert!(map.contains(r#""compressed": true"#), "{options}");
            let disk = open(&image).unwrap();
            let found = read_all(&*disk, &mut Dice(3));
            assert_eq!(difference(&found, &content), None, "{options}");
            check_with_qemu(&*disk, &image, "qcow2", &options);
            // By threads at once, in small pieces and large.
            std::thread::scope(|scope| {
                for seed in 1..4 {
                    let (disk, content) = (&*disk, &content);
                    scope.spawn(move || {
                        let mut dice = Dice(seed);
                        for _ in 0..50 {
                            let at = dice.below(size);
                            let length = dice.below(5000).min(size - at) as usize;
                            let bytes = read_vec(disk, at, length).unwrap();
                            assert!(content[at as usize..].starts_with(&bytes));
                        }
                    });
                }
            });
        }
    }
}

#[test]
fn external_data_files() {
    let work = tempfile::tempdir().unwrap();
    let size = 3 << 20;
    for options in [
        "data_file=image.data",
        "data_file=image.data,data_file_raw=on",
        "data_file=image.data,cluster_size=4k",
        "data_file=image.data,extended_l2=on",
        "data_file=image.data,preallocation=metadata",
    ] {
        let _none_yet = fs::remove_file(work.path().join("image.data"));
        let image = create(work.path(), options, size);
        write_here_and_there(&image, size);
        let disk = open(&image).unwrap();
        let expected = check_with_qemu(&*disk, &image, "qcow2", options);
        if options.contains("raw") {
            let data = fs::read(work.path().join("image.data")).unwrap();
            assert_eq!(difference(&data, &expected), None);
        }
        // Both files belong to the disk, and are asked whether they changed.
        let real = fs::canonicalize(work.path().join("image.data")).unwrap();
        assert_eq!(disk.files(), [image.clone(), real.clone()], "{options}");
        assert_eq!(disk.changed().unwrap(), None);
        let file = fs::File::options().append(true).open(&real).unwrap();
        file.set_len(size + 512).unwrap();
        assert_eq!(disk.changed().unwrap(), Some(real), "{options}");
        // Who has only the image's bytes is told what is missing.
        let bytes: Arc<dyn ReadAt> = Arc::new(fs::read(&image).unwrap());
        let error = open_bytes(bytes, FormatHint::Qcow2).err().unwrap();
        assert!(error.to_string().contains("image.data"), "{error}");
    }
}

#[test]
fn snapshots_are_passed_over_and_sizes_may_change() {
    let work = tempfile::tempdir().unwrap();
    let size = 4 << 20;
    for options in ["compat=0.10", "cluster_size=512", "extended_l2=on"] {
        let image = create(work.path(), options, size);
        let snapshot = |name| img(work.path(), &["snapshot", "-c", name, "image.qcow2"]);
        write_here_and_there(&image, size);
        snapshot("one");
        io(&image, "qcow2", &["write -P 9 0 100k".to_string()]);
        snapshot("two");
        io(&image, "qcow2", &["write -P 8 1M 64k".to_string()]);
        let disk = open(&image).unwrap();
        check_with_qemu(&*disk, &image, "qcow2", options);
        img(work.path(), &["snapshot", "-a", "one", "image.qcow2"]);
        let disk = open(&image).unwrap();
        check_with_qemu(&*disk, &image, "qcow2", options);
        for name in ["one", "two"] {
            img(work.path(), &["snapshot", "-d", name, "image.qcow2"]);
        }
        for size in ["+7M", "100M", "--shrink", "+1G"] {
            let arguments: &[&str] = match size {
                "--shrink" => &["resize", "-q", "--shrink", "image.qcow2", "2M"],
                size => &["resize", "-q", "image.qcow2", size],
            };
            img(work.path(), arguments);
            let disk = open(&image).unwrap();
            check_with_qemu(&*disk, &image, "qcow2", &format!("{options} {size}"));
        }
    }
}

/// Counts what is read.
struct Counted {
    bytes: Vec<u8>,
    reads: AtomicU64,
}

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.bytes.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> cairn_base::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.read_exact_at(offset, buffer)
    }
}

#[test]
fn large_disks_are_opened_and_walked_in_a_few_reads() {
    let work = tempfile::tempdir().unwrap();
    for (options, size) in [
        ("cluster_size=64k", 64u64 << 40),
        ("cluster_size=2M", 64 << 40),
        ("cluster_size=512", 100 << 30),
    ] {
        let image = create(work.path(), options, size);
        let last = format!("write -P 7 {} 4096", size - 4096);
        io(&image, "qcow2", &["write -P 5 20G 4096".to_string(), last]);
        let counted = Arc::new(Counted {
            bytes: fs::read(&image).unwrap(),
            reads: AtomicU64::new(0),
        });
        let disk = open_bytes(counted.clone(), FormatHint::Qcow2).unwrap();
        let extents = disk.data_extents(0..u64::MAX).unwrap();
        let reads = counted.reads.load(Ordering::Relaxed);
        assert!(reads < 4000, "{options}: {reads} reads");
        let bytes: u64 = extents.iter().map(|extent| extent.end - extent.start).sum();
        assert!(bytes <= 4 << 20, "{options}: {extents:?}");
        assert_eq!(extents.last().unwrap().end, size);
        for (at, byte) in [(20 << 30, 5), (size - 1, 7)] {
            assert_eq!(read_vec(&*disk, at, 1).unwrap(), [byte], "{options}");
            assert!(extents.iter().any(|extent| extent.contains(&at)));
        }
    }
}

#[test]
fn encrypted_images_are_refused_by_name() {
    let work = tempfile::tempdir().unwrap();
    let image = work.path().join("secret.qcow2");
    run(Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "--object"])
        .args(["secret,id=s,data=abc", "-o"])
        .arg("encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10")
        .arg(&image)
        .arg("1M"));
    for (method, name) in [(2, "LUKS"), (1, "AES")] {
        let mut bytes = fs::read(&image).unwrap();
        bytes[35] = method;
        fs::write(&image, bytes).unwrap();
        for error in [open(&image), open_as(&image, FormatHint::Qcow2)] {
            let text = error.err().unwrap().to_string();
            assert!(text.contains("encrypted") && text.contains(name), "{text}");
        }
    }
}
