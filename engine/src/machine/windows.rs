//! Installations of Windows on a volume: folders of its root with a SYSTEM hive, and what that says of letters.

use super::installation::{Installation, SystemHive};
use super::layout::MachineVolume;
use cairn_base::{Error, Kind, Result};
use cairn_guest::hive::Hive;
use cairn_guest::mounted_devices;
use cairn_guest::{EntryId, EntryKind, Volume};
use std::ops::ControlFlow;

/// Where it lies as a rule; looked at first.
const USUAL: &[u8] = b"Windows";
/// Folders of a root that are looked at.
const MAX_FOLDERS: usize = 256;
/// The hive below an installation's folder.
const HIVE: [&[u8]; 3] = [b"System32", b"config", b"SYSTEM"];
/// Its logs, beside it.
const LOGS: [&[u8]; 3] = [b"SYSTEM.LOG1", b"SYSTEM.LOG2", b"SYSTEM.LOG"];

/// The installations on a volume. That a volume cannot be opened is told where its files are looked for; what may pass is told here too.
pub fn installations(number: usize, volume: &MachineVolume) -> Vec<Installation> {
    let failed = |error| Installation {
        volume: number,
        folder: String::new(),
        hive: None,
        failures: vec![error],
    };
    match volume.view().is_of_windows() {
        Ok(true) => {}
        Ok(false) => return Vec::new(),
        Err(error) => return vec![failed(error)],
    }
    let files = match volume.view().open() {
        Ok(files) => files,
        Err(error) if error.kind().may_pass() => return vec![failed(error)],
        Err(_) => return Vec::new(),
    };
    let (folders, read) = folders(&*files);
    let mut found: Vec<Installation> = read.err().map(failed).into_iter().collect();
    for (name, folder) in folders {
        let hive = match system_hive(&*files, folder) {
            Ok(None) => continue,
            Ok(Some((hive, failures))) => (Some(hive), failures),
            Err(error) => (None, vec![error]),
        };
        found.push(Installation {
            volume: number,
            folder: String::from_utf8_lossy(&name).into_owned(),
            hive: hive.0,
            failures: hive.1,
        });
    }
    found
}

/// The folders of the root in which Windows may lie, the usual one first.
fn folders(files: &dyn Volume) -> (Vec<(Vec<u8>, EntryId)>, Result<()>) {
    let root = files.root();
    let mut folders = Vec::new();
    let usual = files.lookup(root, USUAL);
    if let Ok(Some(entry)) = &usual
        && entry.kind == EntryKind::Folder
    {
        folders.push((entry.name.clone(), entry.id));
    }
    let first = folders.first().map(|(_, id)| *id);
    let read = files.read_dir(root, 0, &mut |entry| {
        if entry.kind == EntryKind::Folder && Some(entry.id) != first {
            folders.push((entry.name, entry.id));
        }
        if folders.len() < MAX_FOLDERS {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    (folders, read.and(usual.map(|_| ())))
}

/// The SYSTEM hive of the installation in `folder`, if it is one, and what of it cannot be told.
fn system_hive(files: &dyn Volume, folder: EntryId) -> Result<Option<(SystemHive, Vec<Error>)>> {
    let [system, config, hive] = HIVE;
    let Some(at) = child(files, folder, system, EntryKind::Folder)? else {
        return Ok(None);
    };
    let Some(config) = child(files, at, config, EntryKind::Folder)? else {
        return Ok(None);
    };
    let Some(file) = child(files, config, hive, EntryKind::File)? else {
        return Ok(None);
    };
    let mut logs = Vec::new();
    let mut failures = Vec::new();
    for name in LOGS {
        let log = child(files, config, name, EntryKind::File);
        match log.and_then(|log| log.map(|log| files.open(log)).transpose()) {
            Ok(log) => logs.extend(log.filter(|log| log.size() > 0)),
            Err(error) => failures.push(error),
        }
    }
    let hive = Hive::open(files.open(file)?, &logs)?;
    let (devices, failed) = mounted_devices::read(&hive)?;
    failures.extend(failed);
    let hive = SystemHive {
        written: hive.written(),
        devices,
        notes: hive.notes().to_vec(),
    };
    Ok(Some((hive, failures)))
}

/// The entry of that name and kind, by the rules of the volume.
fn child(
    files: &dyn Volume,
    folder: EntryId,
    name: &[u8],
    kind: EntryKind,
) -> Result<Option<EntryId>> {
    match files.lookup(folder, name) {
        Ok(found) => Ok(found
            .filter(|found| found.kind == kind)
            .map(|found| found.id)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
