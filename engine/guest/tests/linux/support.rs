//! What the tests share: images as disks, unpacking, walking.

use cairn_base::{ReadAt, Result};
use cairn_guest::{Attributes, DirEntry, EntryId, EntryKind, Volume};
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
    let output = Command::new("bash").args(["-c", script]).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(out)
    } else {
        Err(format!(
            "{script}\n{out}{}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// Unpacks `packed` (zstd) into `folder`, and turns VHD, VHDX and VMDK into a raw disk. `None` if no tool can.
pub fn unpack(packed: &Path, folder: &Path) -> Option<PathBuf> {
    let target = folder.join(packed.file_stem().unwrap());
    let (from, to) = (packed.display(), target.display());
    shell(&format!("zstd -d -q -f --sparse '{from}' -o '{to}'")).unwrap();
    let extension = target
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or("")
        .to_string();
    let format = match extension.as_str() {
        "vhd" => "vpc",
        "vhdx" | "vmdk" => extension.as_str(),
        _ => return Some(target),
    };
    if !have(&["qemu-img"]) {
        return None;
    }
    let converted = shell(&format!(
        "qemu-img convert -f {format} -O raw '{to}' '{to}.raw'"
    ));
    let _ = std::fs::remove_file(&target);
    if let Err(error) = converted {
        println!("SKIPPED: {error}");
        return None;
    }
    Some(folder.join(format!(
        "{}.raw",
        target.file_name().unwrap().to_str().unwrap()
    )))
}

/// What a walk found at one path.
pub struct Item {
    pub id: EntryId,
    pub kind: EntryKind,
    pub attributes: Result<Attributes>,
}

pub fn list(
    volume: &dyn Volume,
    folder: EntryId,
    after: u64,
    most: usize,
) -> (Vec<DirEntry>, Result<()>) {
    let mut entries = Vec::new();
    let result = volume.read_dir(folder, after, &mut |entry| {
        entries.push(entry);
        if entries.len() >= most {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    (entries, result)
}

/// Everything below the root by path, at most `most` entries. Of a `sound` volume it checks on the way that names are
/// found, that parents are right and that a listing can be continued. Damage is passed to `on_error`.
pub fn walk(
    volume: &dyn Volume,
    sound: bool,
    most: usize,
    on_error: &mut dyn FnMut(&[u8], cairn_base::Error),
) -> BTreeMap<Vec<u8>, Item> {
    let mut items = BTreeMap::new();
    let mut todo = vec![(Vec::new(), volume.root(), volume.root(), 0)];
    while let Some((path, id, above, depth)) = todo.pop() {
        let (entries, result) = list(volume, id, 0, usize::MAX);
        match volume.parent(id) {
            Ok(parent) if sound && result.is_ok() && depth > 0 => assert_eq!(parent, Some(above)),
            _ => {}
        }
        if let Err(error) = result {
            on_error(&path, error);
        } else if sound {
            check_listing(volume, id, &entries);
        }
        for entry in entries {
            let full = [&path[..], b"/", &entry.name].concat();
            if entry.kind == EntryKind::Folder && depth < 40 {
                todo.push((full.clone(), entry.id, id, depth + 1));
            }
            let attributes = volume.attributes(entry.id);
            if let Err(error) = &attributes {
                on_error(&full, error.clone());
            }
            items.insert(
                full,
                Item {
                    id: entry.id,
                    kind: entry.kind,
                    attributes,
                },
            );
            if items.len() >= most {
                return items;
            }
        }
    }
    items
}

fn check_listing(volume: &dyn Volume, folder: EntryId, entries: &[DirEntry]) {
    for entry in entries.iter().step_by(entries.len() / 2000 + 1) {
        let found = volume.lookup(folder, &entry.name).unwrap().unwrap();
        assert_eq!((found.id, found.kind), (entry.id, entry.kind), "{entry:?}");
        assert!(entry.cookie != 0);
    }
    assert_eq!(
        volume.lookup(folder, b"no such name in here").unwrap(),
        None
    );
    let (mut after, mut at) = (0, 0);
    let step = entries.len() / 50 + 1;
    loop {
        let (part, result) = list(volume, folder, after, step);
        result.unwrap();
        assert_eq!(part, entries[at..(at + step).min(entries.len())]);
        at += part.len();
        match part.last() {
            Some(last) => after = last.cookie,
            None => break,
        }
    }
    assert_eq!(at, entries.len());
}

/// Reads a file in pieces of odd sizes.
pub fn read_all(file: &dyn ReadAt, mut each: impl FnMut(&[u8])) -> Result<()> {
    let mut buffer = vec![0; 1_000_003];
    let mut at = 0;
    while at < file.size() {
        let length = (file.size() - at).min(buffer.len() as u64) as usize;
        file.read_exact_at(at, &mut buffer[..length])?;
        each(&buffer[..length]);
        at += length as u64;
    }
    Ok(())
}

/// What holes are said to be reads as zeros: reads only the parts with data and compares with the whole.
pub fn check_extents(file: &dyn ReadAt, whole: &[u8]) {
    let mut rebuilt = vec![0; whole.len()];
    let mut least = 0;
    for part in file.data_extents(0..u64::MAX).unwrap() {
        assert!(part.start >= least && part.start < part.end && part.end <= file.size());
        least = part.end;
        let (start, end) = (part.start as usize, part.end as usize);
        file.read_exact_at(part.start, &mut rebuilt[start..end])
            .unwrap();
    }
    assert!(rebuilt == whole, "a hole holds data");
}
