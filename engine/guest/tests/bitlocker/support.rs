//! What the tests share: images, other programs that decrypt them, hashes.

use crate::maker::{KEPT, Looks, Protect, Recipe, noise};
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result};
use cairn_guest::Keys;
use cairn_guest::bitlocker::{BitLocker, Unlocked};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A file of the host as a disk.
pub struct FileDisk(File, u64);

impl FileDisk {
    pub fn open(path: &Path) -> Arc<dyn ReadAt> {
        let file = File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        Arc::new(FileDisk(file, size))
    }
}

impl ReadAt for FileDisk {
    fn size(&self) -> u64 {
        self.1
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        cairn_base::read_at::check_range(self.1, offset, buffer.len())?;
        self.0.read_exact_at(buffer, offset).unwrap();
        Ok(())
    }
}

/// An image that others made, unpacked into `folder`.
pub fn image(name: &str, folder: &Path) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let packed = workspace
        .join("../shared/images")
        .join(format!("{name}.zst"));
    if !packed.exists() {
        println!("SKIPPED: {} is not here", packed.display());
        return None;
    }
    let target = folder.join(name);
    let (from, to) = (packed.display(), target.display());
    shell(&format!("zstd -d -q -f --sparse '{from}' -o '{to}'")).unwrap();
    Some(target)
}

/// Whether all `tools` can be run; says so if not.
pub fn have(tools: &[&str]) -> bool {
    tools.iter().all(|tool| {
        let found = shell(&format!("command -v {tool} >/dev/null")).is_ok();
        if !found {
            println!("SKIPPED: the tool `{tool}` is not installed");
        }
        found
    })
}

/// Runs a script; its output if it failed.
pub fn shell(script: &str) -> std::result::Result<String, String> {
    let mut command = Command::new("bash");
    let output = command.args(["-c", script]).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(out)
    } else {
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("{script}\n{out}{errors}"))
    }
}

/// What opens a volume: for us and for the others.
pub enum Given<'a> {
    Password(&'a str),
    Recovery(&'a str),
    StartupKey(&'a Path),
    Nothing,
}

impl Given<'_> {
    pub fn keys(&self) -> Keys {
        let mut keys = Keys::new();
        match self {
            Given::Password(text) => keys.add_password(text),
            Given::Recovery(text) => keys.add_recovery_password(text).unwrap(),
            Given::StartupKey(path) => {
                keys.add_startup_key(&std::fs::read(path).unwrap()).unwrap();
            }
            Given::Nothing => {}
        }
        keys
    }
}

pub fn unlock(device: Arc<dyn ReadAt>, given: &Given<'_>) -> Result<Unlocked> {
    BitLocker::open(device)?.unlock(&given.keys())
}

/// The error of a volume that cannot be unlocked.
pub fn refused(device: Arc<dyn ReadAt>, given: &Given<'_>) -> Error {
    match unlock(device, given) {
        Ok(_) => panic!("it was unlocked"),
        Err(error) => error,
    }
}

pub fn all(device: &dyn ReadAt) -> Vec<u8> {
    read_vec(device, 0, device.size() as usize).unwrap()
}

/// SHA-256 of all bytes, in hexadecimal.
pub fn hash(device: &dyn ReadAt) -> String {
    let mut sum = Sha256::new();
    let mut at = 0;
    while at < device.size() {
        let length = (device.size() - at).min(1 << 20);
        sum.update(read_vec(device, at, length as usize).unwrap());
        at += length;
    }
    sum.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The volume as dislocker decrypts it.
pub fn by_dislocker(image: &Path, given: &Given<'_>, folder: &Path) -> Option<Vec<u8>> {
    if !have(&["dislocker-file"]) {
        return None;
    }
    let how = match given {
        Given::Password(text) => format!("'-u{text}'"),
        Given::Recovery(text) => format!("-p{text}"),
        Given::StartupKey(path) => format!("-f '{}'", path.display()),
        Given::Nothing => "-c".to_string(),
    };
    let out = folder.join("dislocked");
    let (from, to) = (image.display(), out.display());
    shell(&format!(
        "rm -f '{to}'; dislocker-file -r -V '{from}' {how} -- '{to}'"
    ))
    .unwrap();
    Some(std::fs::read(out).unwrap())
}

/// The volume as libbde decrypts it.
pub fn by_libbde(image: &Path, given: &Given<'_>, folder: &Path) -> Option<Vec<u8>> {
    if !have(&["bdemount", "fusermount3"]) {
        return None;
    }
    if !Path::new("/dev/fuse").exists() {
        println!("SKIPPED: there is no /dev/fuse");
        return None;
    }
    let how = match given {
        Given::Password(text) => format!("-p '{text}'"),
        Given::Recovery(text) => format!("-r {text}"),
        Given::StartupKey(path) => format!("-s '{}'", path.display()),
        Given::Nothing => String::new(),
    };
    let (mount, out) = (folder.join("bde"), folder.join("bde.raw"));
    let (from, mount, to) = (image.display(), mount.display(), out.display());
    // Of an image that was cut short it shows more than there is, and fails there.
    let blocks = std::fs::metadata(image).ok()?.len() / 4096;
    let script = format!(
        "set -e; mkdir -p '{mount}'; bdemount {how} '{from}' '{mount}' >/dev/null </dev/null; \
         for i in $(seq 50); do [ -e '{mount}/bde1' ] && break; sleep 0.1; done; \
         status=0; dd if='{mount}/bde1' of='{to}' bs=4096 count={blocks} status=none || status=1; fusermount3 -u '{mount}'; exit $status"
    );
    shell(&script).unwrap();
    Some(std::fs::read(out).unwrap())
}

/// What a small volume holds before it is encrypted: noise, the areas of the metadata zeros, and of a boot sector the sizes of sectors and clusters.
pub fn plain() -> Vec<u8> {
    let mut bytes = noise(9, 2 << 20);
    bytes[KEPT.start as usize..KEPT.end as usize].fill(0);
    bytes[11..13].copy_from_slice(&512u16.to_le_bytes());
    bytes[13] = 8;
    bytes
}

/// A volume of which protection is suspended.
pub fn clear() -> Recipe {
    Recipe::new(Looks::Windows7, 0x8004).protect(&[Protect::Clear])
}
