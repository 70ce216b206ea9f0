//! What the NTFS tests share: unpacking images, walking volumes, hashing.
#![allow(dead_code, reason = "each test uses a part")]

pub mod against;
pub mod failing;
pub mod made;
pub mod patched;
pub mod scripted;
pub mod sleuth;
pub mod wim;

use cairn_base::{Kind, ReadAt, Result, Section};
use cairn_guest::ntfs::NtfsVolume;
use cairn_guest::{Attributes, EntryId, EntryKind, Volume};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A file of the host as a disk.
pub struct FileDisk(File, u64);

impl FileDisk {
    pub fn open(path: &Path) -> Arc<FileDisk> {
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

/// The folder with images that others made, if it is here.
pub fn images() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let folder = workspace.join("../shared/images");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: {} is not here", folder.display());
    None
}

/// Whether all `tools` can be run; says so if not.
pub fn have(tools: &[&str]) -> bool {
    for tool in tools {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output()
            .is_ok_and(|output| output.status.success());
        if !found {
            println!("SKIPPED: the tool `{tool}` is not installed");
            return false;
        }
    }
    true
}

pub fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Unpacks `packed` (zstd) into `folder`.
pub fn unpack(packed: &Path, folder: &Path) -> PathBuf {
    let target = folder.join(packed.file_stem().unwrap());
    run(
        "zstd",
        &[
            "-d",
            "-q",
            "-f",
            "--sparse",
            packed.to_str().unwrap(),
            "-o",
            target.to_str().unwrap(),
        ],
    );
    target
}

/// The image as raw bytes.
pub fn raw(image: PathBuf, format: &str, folder: &Path) -> PathBuf {
    let from = match format {
        "vhd-fixed" | "vhd-dynamic" => "vpc",
        "vhdx" => "vhdx",
        _ => return image,
    };
    let target = folder.join("raw");
    run(
        "qemu-img",
        &[
            "convert",
            "-f",
            from,
            "-O",
            "raw",
            image.to_str().unwrap(),
            target.to_str().unwrap(),
        ],
    );
    target
}

pub fn open_part(disk: Arc<FileDisk>, start: u64, size: u64) -> NtfsVolume {
    NtfsVolume::open(Arc::new(Section::new(disk, start, size).unwrap())).unwrap()
}

/// What a walk found at one path; named streams stand at `path:name`.
#[derive(Debug, Clone)]
pub struct Item {
    pub id: EntryId,
    pub kind: EntryKind,
    pub attributes: Option<Attributes>,
    pub size: u64,
    pub stream: Option<Vec<u8>>,
    pub target: Option<Vec<u8>>,
}

/// Everything in `volume` by path. Errors are passed to `on_error`.
pub fn walk(
    volume: &NtfsVolume,
    on_error: &mut dyn FnMut(&str, cairn_base::Error),
) -> BTreeMap<Vec<u8>, Item> {
    let mut items = BTreeMap::new();
    let mut todo = vec![(Vec::new(), volume.root(), 0)];
    while let Some((path, id, depth)) = todo.pop() {
        let mut entries = Vec::new();
        if let Err(error) = volume.read_dir(id, 0, &mut |entry| {
            entries.push(entry);
            ControlFlow::Continue(())
        }) {
            on_error("read_dir", error);
        }
        for entry in entries {
            let mut full = path.clone();
            full.push(b'/');
            full.extend_from_slice(&entry.name);
            let attributes = match volume.attributes(entry.id) {
                Ok(attributes) => Some(attributes),
                Err(error) => {
                    on_error("attributes", error);
                    None
                }
            };
            for stream in volume.streams(entry.id).unwrap_or_default() {
                let mut name = full.clone();
                name.push(b':');
                name.extend_from_slice(&stream.name);
                let item = Item {
                    id: entry.id,
                    kind: EntryKind::File,
                    attributes: None,
                    size: stream.size,
                    stream: Some(stream.name),
                    target: None,
                };
                items.insert(name, item);
            }
            if entry.kind == EntryKind::Folder && depth < 64 {
                todo.push((full.clone(), entry.id, depth + 1));
            }
            let target = (entry.kind == EntryKind::Symlink)
                .then(|| volume.read_link(entry.id).ok())
                .flatten();
            let item = Item {
                id: entry.id,
                kind: entry.kind,
                size: attributes.as_ref().map_or(0, |attributes| attributes.size),
                attributes,
                stream: None,
                target,
            };
            if items.insert(full, item).is_some() {
                on_error("read_dir", cairn_base::Error::damaged("a name twice"));
            }
        }
    }
    items
}

/// The content of an item, read in pieces of an odd size.
pub fn content(volume: &NtfsVolume, item: &Item) -> Result<Vec<u8>> {
    let source = match &item.stream {
        None => volume.open(item.id)?,
        Some(name) => volume.open_stream(item.id, name)?,
    };
    assert_eq!(source.size(), item.size);
    let mut bytes = vec![0xAA; source.size() as usize];
    for (at, piece) in (0u64..).step_by(77_777).zip(bytes.chunks_mut(77_777)) {
        source.read_exact_at(at, piece)?;
    }
    check_extents(&source, &bytes);
    Ok(bytes)
}

/// What `data_extents` leaves out must be zeros.
fn check_extents(source: &Arc<dyn ReadAt>, bytes: &[u8]) {
    let mut at = 0u64;
    for extent in source.data_extents(0..u64::MAX).unwrap() {
        assert!(extent.start >= at && extent.start < extent.end);
        assert!(
            bytes[at as usize..extent.start as usize]
                .iter()
                .all(|&byte| byte == 0)
        );
        at = extent.end;
    }
    assert!(at <= source.size());
    assert!(bytes[at as usize..].iter().all(|&byte| byte == 0));
}

/// SHA-256 of many byte strings, in hexadecimal, with one call of `sha256sum`.
pub fn sha256(contents: &[Vec<u8>]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (number, bytes) in contents.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{number:08}")), bytes).unwrap();
    }
    let output = Command::new("sh")
        .args(["-c", "find . -type f | sort | xargs -r sha256sum"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let hashes: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line[..64].to_string())
        .collect();
    assert_eq!(hashes.len(), contents.len());
    hashes
}

/// Opens and reads everything there is; nothing may panic, errors are allowed. Answers the bytes read.
pub fn exhaust(device: Arc<dyn ReadAt>) -> u64 {
    const LIMIT: u64 = 64 << 20;
    let Ok(volume) = NtfsVolume::open(device) else {
        return 0;
    };
    let _ = volume.info();
    let mut read = 0u64;
    let items = walk(&volume, &mut |_, error| {
        assert_ne!(error.kind(), Kind::Interrupted)
    });
    let mut ids: Vec<EntryId> = items.values().map(|item| item.id).collect();
    ids.extend((0..128).map(EntryId::new));
    ids.sort();
    ids.dedup();
    let mut buffer = vec![0u8; 1 << 20];
    for id in ids {
        let _ = volume.attributes(id);
        let _ = volume.parent(id);
        let _ = volume.read_link(id);
        let _ = volume.xattrs(id);
        let mut sources = vec![volume.open(id)];
        for stream in volume.streams(id).unwrap_or_default() {
            sources.push(volume.open_stream(id, &stream.name));
        }
        for source in sources.into_iter().flatten() {
            let _ = source.data_extents(0..u64::MAX);
            let mut at = 0;
            while at < source.size().min(LIMIT) {
                let take = (source.size() - at).min(buffer.len() as u64);
                if source
                    .read_exact_at(at, &mut buffer[..take as usize])
                    .is_err()
                {
                    break;
                }
                at += take;
                read += take;
            }
        }
        let _ = volume.lookup(id, b"a name");
    }
    for path in items.keys().take(2000) {
        let mut id = volume.root();
        for part in path[1..].split(|&byte| byte == b'/') {
            match volume.lookup(id, part) {
                Ok(Some(entry)) => id = entry.id,
                _ => break,
            }
        }
    }
    read
}
