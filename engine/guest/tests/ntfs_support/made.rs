//! Volumes made with mkntfs and filled through ntfs-3g.

use super::run;
use cairn_base::ReadAt;
use cairn_guest::Volume;
use cairn_guest::ntfs::NtfsVolume;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A mount by ntfs-3g, unmounted when dropped.
pub struct Mount(pub PathBuf);

impl Mount {
    /// Nothing if FUSE does not work here.
    pub fn new(image: &Path, folder: &Path, options: &str) -> Option<Mount> {
        let point = folder.join("mnt");
        fs::create_dir_all(&point).unwrap();
        let output = std::process::Command::new("ntfs-3g")
            .args([
                image.to_str().unwrap(),
                point.to_str().unwrap(),
                "-o",
                options,
            ])
            .output()
            .unwrap();
        if output.status.success() {
            return Some(Mount(point));
        }
        println!(
            "SKIPPED: ntfs-3g cannot mount: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A program that another test is starting may have what is open here, for a moment.
        for _ in 0..100 {
            let umount = std::process::Command::new("umount").arg(&self.0).output();
            if umount.is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

pub fn make(folder: &Path, size: u64, options: &[&str]) -> PathBuf {
    let image = folder.join("volume.ntfs");
    File::create(&image).unwrap().set_len(size).unwrap();
    let mut arguments = vec!["-F", "-Q", "-q", "-p", "0", "-H", "0", "-S", "0"];
    arguments.extend(options);
    arguments.push(image.to_str().unwrap());
    run("mkntfs", &arguments);
    image
}

/// Bytes that no compressor makes much of, different for each `seed`.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

pub const TOOLS: [&str; 4] = ["mkntfs", "ntfs-3g", "umount", "stat"];

/// A volume with a few files; its bytes and where its file records are.
pub fn patchable(fill: impl Fn(&Path)) -> Option<(Vec<u8>, usize)> {
    let folder = tempfile::tempdir().unwrap();
    let image = make(folder.path(), 8 << 20, &[]);
    {
        let mount = Mount::new(&image, folder.path(), "streams_interface=none")?;
        fill(&mount.0);
    }
    let bytes = fs::read(&image).unwrap();
    let mft = u64::from_le_bytes(bytes[0x30..0x38].try_into().unwrap()) as usize * 4096;
    Some((bytes, mft))
}

pub fn open_bytes(bytes: &[u8]) -> NtfsVolume {
    NtfsVolume::open(Arc::new(bytes.to_vec()) as Arc<dyn ReadAt>).unwrap()
}

pub fn record_of(bytes: &[u8], mft: usize, name: &str) -> usize {
    let volume = open_bytes(bytes);
    let entry = volume
        .lookup(volume.root(), name.as_bytes())
        .unwrap()
        .unwrap();
    mft + entry.id.number as usize * 1024
}

/// Every path under `root` as ntfs-3g shows it.
pub fn host_walk(root: &Path) -> BTreeMap<Vec<u8>, PathBuf> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                todo.push(path.clone());
            }
            let mut key = vec![b'/'];
            key.extend_from_slice(path.strip_prefix(root).unwrap().as_os_str().as_bytes());
            found.insert(key, path);
        }
    }
    found
}
