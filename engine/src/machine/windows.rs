//! Installations of Windows on a volume: folders of its root with a SYSTEM hive, and what that says of letters.

use super::installation::{Installation, Looked, SystemHive};
use super::layout::MachineVolume;
use cairn_base::{Error, Kind, Result};
use cairn_guest::hive::Hive;
use cairn_guest::mounted_devices;
use cairn_guest::{EntryId, EntryKind, Note, Volume};
use std::ops::ControlFlow;

/// Where it lies as a rule; looked at first.
const USUAL: &[u8] = b"Windows";
/// Folders of a root that are looked at.
const MAX_FOLDERS: usize = 256;
/// Installations on one volume whose hives are read: Windows itself never puts a second one on it.
const MAX_INSTALLATIONS: usize = 8;
/// The hive below an installation's folder.
const HIVE: [&[u8]; 3] = [b"System32", b"config", b"SYSTEM"];
/// Its logs, beside it.
const LOGS: [&[u8]; 3] = [b"SYSTEM.LOG1", b"SYSTEM.LOG2", b"SYSTEM.LOG"];

/// The installations on a volume. That a volume cannot be opened is told where its files are looked for; what may pass is told here too, and that a volume is locked.
pub fn installations(number: usize, volume: &MachineVolume) -> Looked {
    let failed = |error| Installation {
        volume: number,
        folder: String::new(),
        hive: None,
        failures: vec![error],
    };
    let only = |error| Looked {
        installations: vec![failed(error)],
        ..Looked::default()
    };
    match volume.view().is_of_windows() {
        Ok(true) => {}
        Ok(false) => {
            return Looked {
                locked: volume.view().locked(),
                ..Looked::default()
            };
        }
        Err(error) => return only(error),
    }
    let files = match volume.view().open() {
        Ok(files) => files,
        Err(error) if error.kind().may_pass() => return only(error),
        Err(_) => return Looked::default(),
    };
    let folders = folders(&*files);
    let mut looked = Looked::default();
    looked.installations.extend(folders.failure.map(failed));
    if folders.are_more {
        looked.notes.push(Note::fact(format!(
            "{} has more than {MAX_FOLDERS} folders in its root: whether Windows lies in one of the others was not looked for.",
            volume.path()
        )));
    }
    let mut hives = 0usize;
    for (name, folder) in folders.found {
        let hive = match system_hive(&*files, folder, hives < MAX_INSTALLATIONS) {
            Ok(System::None) => continue,
            Ok(System::Unread) => {
                looked.notes.push(Note::defect(format!(
                    "{} has more than {MAX_INSTALLATIONS} installations of Windows: the registries of the others were not read.",
                    volume.path()
                )));
                break;
            }
            Ok(System::Read(hive, failures)) => (Some(hive), failures),
            Err(error) => (None, vec![error]),
        };
        hives = hives.saturating_add(1);
        looked.installations.push(Installation {
            volume: number,
            folder: String::from_utf8_lossy(&name).into_owned(),
            hive: hive.0,
            failures: hive.1,
        });
    }
    looked
}

/// Folders of a root.
struct Folders {
    found: Vec<(Vec<u8>, EntryId)>,
    /// There are more than are looked at.
    are_more: bool,
    failure: Option<Error>,
}

/// The folders of the root in which Windows may lie, the usual one first.
fn folders(files: &dyn Volume) -> Folders {
    let root = files.root();
    let mut found = Vec::new();
    let usual = files.lookup(root, USUAL);
    if let Ok(Some(entry)) = &usual
        && entry.kind == EntryKind::Folder
    {
        found.push((entry.name.clone(), entry.id));
    }
    let first = found.first().map(|(_, id)| *id);
    let mut are_more = false;
    let read = files.read_dir(root, 0, &mut |entry| {
        if entry.kind == EntryKind::Folder && Some(entry.id) != first {
            if found.len() == MAX_FOLDERS {
                are_more = true;
                return ControlFlow::Break(());
            }
            found.push((entry.name, entry.id));
        }
        ControlFlow::Continue(())
    });
    Folders {
        found,
        are_more,
        failure: read.and(usual.map(|_| ())).err(),
    }
}

/// What a folder has of an installation.
enum System {
    /// No SYSTEM hive.
    None,
    /// One that was not to be read.
    Unread,
    /// What it says, and what of it cannot be told.
    Read(SystemHive, Vec<Error>),
}

/// The SYSTEM hive of the installation in `folder`, if it is one; it is only read if `is_wanted`.
fn system_hive(files: &dyn Volume, folder: EntryId, is_wanted: bool) -> Result<System> {
    let [system, config, hive] = HIVE;
    let Some(at) = child(files, folder, system, EntryKind::Folder)? else {
        return Ok(System::None);
    };
    let Some(config) = child(files, at, config, EntryKind::Folder)? else {
        return Ok(System::None);
    };
    let Some(file) = child(files, config, hive, EntryKind::File)? else {
        return Ok(System::None);
    };
    if !is_wanted {
        return Ok(System::Unread);
    }
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
    Ok(System::Read(hive, failures))
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
