//! What the tests of this folder share: unpacking images, and the hash of a whole disk by an independent program.

use cairn_disk::VirtualDisk;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Images that others made, beside the checkout; `None` where they are not.
#[allow(dead_code, reason = "not every test file uses every helper")]
pub fn foreign_images() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/images");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: there is no folder {}", folder.display());
    None
}

/// Unpacks `packed` (`.zst`) into `folder`.
#[allow(dead_code, reason = "not every test file uses every helper")]
pub fn unpack(packed: &Path, folder: &Path) -> PathBuf {
    let target = folder.join(packed.file_stem().unwrap());
    run(Command::new("zstd")
        .args(["-d", "-q", "--sparse", "-f", "-o"])
        .arg(&target)
        .arg(packed));
    target
}

/// Runs a program that must succeed; its output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text
}

/// A program that hashes its input: OpenSSL uses the processor's own instructions, the other one is always there.
fn hasher() -> Command {
    let has_openssl = Command::new("openssl").arg("version").output().is_ok();
    if has_openssl {
        let mut command = Command::new("openssl");
        command.args(["dgst", "-sha256", "-r"]);
        return command;
    }
    Command::new("sha256sum")
}

/// SHA-256 of all of a disk, read in pieces of 4 MiB.
#[allow(dead_code, reason = "not every test file uses every helper")]
pub fn sha256(disk: &dyn VirtualDisk) -> cairn_base::Result<String> {
    let mut child = hasher()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let mut buffer = vec![0; 4 << 20];
    let mut at = 0;
    let mut outcome = Ok(());
    while at < disk.size() {
        let length = (disk.size() - at).min(buffer.len() as u64) as usize;
        outcome = disk.read_exact_at(at, &mut buffer[..length]);
        if outcome.is_err() {
            break;
        }
        pipe.write_all(&buffer[..length]).unwrap();
        at += length as u64;
    }
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    outcome?;
    Ok(String::from_utf8(output.stdout)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_string())
}

/// Asserts that the disk's extents are ascending and inside, and that everything outside them is zeros.
#[allow(dead_code, reason = "not every test file uses every helper")]
pub fn check_extents(disk: &dyn VirtualDisk) {
    let mut at = 0;
    let mut buffer = vec![0; 1 << 20];
    let extents = disk.data_extents(0..u64::MAX).unwrap();
    for extent in extents
        .into_iter()
        .chain(std::iter::once(disk.size()..disk.size()))
    {
        assert!(extent.start >= at && extent.end <= disk.size());
        // Of a very large gap the ends are enough: it is one run of the block table.
        let gap = at..extent.start;
        while at < gap.end {
            let length = (gap.end - at).min(buffer.len() as u64) as usize;
            disk.read_exact_at(at, &mut buffer[..length]).unwrap();
            assert!(
                buffer[..length].iter().all(|byte| *byte == 0),
                "data outside the extents near {at}"
            );
            let near_start = at < gap.start + (64 << 20);
            at = if near_start {
                at + length as u64
            } else {
                (at + (256 << 20)).max(at + length as u64)
            };
        }
        at = extent.end;
    }
}

/// Asserts that both are the same disk: all bytes where either has data, and all sizes.
#[allow(dead_code, reason = "not every test file uses every helper")]
pub fn check_same(one: &dyn VirtualDisk, other: &dyn VirtualDisk, what: &str) {
    assert_eq!(one.size(), other.size(), "{what}");
    let mut buffers = [vec![0; 1 << 20], vec![0; 1 << 20]];
    for extents in [one, other].map(|disk| disk.data_extents(0..u64::MAX).unwrap()) {
        for extent in extents {
            let mut at = extent.start;
            while at < extent.end {
                let length = (extent.end - at).min(1 << 20) as usize;
                let [a, b] = &mut buffers;
                one.read_exact_at(at, &mut a[..length]).unwrap();
                other.read_exact_at(at, &mut b[..length]).unwrap();
                assert!(a[..length] == b[..length], "{what}: differs near {at}");
                at += length as u64;
            }
        }
    }
    check_extents(one);
    check_extents(other);
}
