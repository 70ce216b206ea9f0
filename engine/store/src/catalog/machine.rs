//! A machine's name as it is spelled, beside its points: so that listing machines reads one small file of each, however many points
//! there are. Records say the same: what is lost here costs time only, and the next backup writes it anew.

use crate::catalog::{listing, records};
use crate::codec::{self, Record};
use crate::layout::{self, MACHINE_NAME, MACHINE_SCRATCH};
use crate::names::check_machine;
use crate::store::Store;
use bincode::{Decode, Encode};
use cairn_base::folder::{join, read_small, replace_bytes};
use cairn_base::{Error, Folder, Kind, Result};

/// Largest file read.
const MAX_BYTES: u64 = 4 << 10;

/// The name of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct MachineName {
    machine: String,
}

impl Record for MachineName {
    const MAGIC: [u8; 8] = *b"CAIRNMCH";
    const VERSION: u32 = 1;
    const NAME: &'static str = "machine's name";
}

/// The name in the machine's folder `path`.
///
/// # Errors
/// [`Kind::NotFound`] if there is none; [`Kind::Damaged`] if it cannot be read or is another machine's.
pub(super) fn read_name(folder: &dyn Folder, path: &str) -> Result<String> {
    let full = join(path, MACHINE_NAME);
    let bytes = read_small(folder, &full, MAX_BYTES)?;
    let whole = || -> Result<String> {
        let MachineName { machine } = codec::open(&bytes)?;
        check_machine(&machine).map_err(|e| Error::damaged("an impossible name").caused_by(e))?;
        if layout::machine_folder(&machine) != path {
            return Err(Error::damaged("the name is another machine's"));
        }
        Ok(machine)
    };
    whole().map_err(|e| {
        e.context("the name of a machine cannot be read, and is taken from its points")
            .at_path(folder.describe(&full))
            .advise("the machine's next backup writes it anew")
    })
}

/// The name of the machine in the folder `path`: from its own file, or else from a point, the newest first. None if there is no point.
///
/// # Errors
/// [`Kind::Damaged`] if name and points are all lost; as the folder reports.
pub(super) fn spelled(store: &Store, path: &str) -> Result<Option<String>> {
    let mut failed = match read_name(&**store.folder(), path) {
        Ok(name) => return Ok(Some(name)),
        Err(error) => Some(error).filter(|error| error.kind() != Kind::NotFound),
    };
    let found = listing::list(store, path)?;
    for file in found.points.iter().rev() {
        match records::read_point(store, path, file) {
            Ok(point) => return Ok(Some(point.record.machine)),
            Err(error) => failed = Some(error),
        }
    }
    // Of damage, what tells most: a point, then a file that may be one, then the name.
    if found.points.is_empty()
        && let Some(stray) = found.damaged.into_iter().next()
    {
        return Err(stray);
    }
    failed.map_or(Ok(None), Err)
}

/// The name of the machine in the folder `path` for messages: where it is lost, the folder.
pub(super) fn shown(store: &Store, path: &str) -> String {
    let name = spelled(store, path).ok().flatten();
    name.unwrap_or_else(|| store.folder().describe(path))
}

/// Writes the name if it is not there whole. The caller holds the publish lock and has published a point, so that a machine with a name
/// has one. Failures are let go: the name saves time, and the point is public already.
pub(super) fn keep_name(folder: &dyn Folder, path: &str, machine: &str) {
    let lost = match read_name(folder, path) {
        Ok(_) => false,
        // Another failure, or a newer version, is no loss: nothing is written over it.
        Err(error) => matches!(error.kind(), Kind::NotFound | Kind::Damaged),
    };
    if !lost || check_machine(machine).is_err() {
        return;
    }
    let record = MachineName {
        machine: machine.to_string(),
    };
    let _ignored = codec::seal(&record).and_then(|bytes| {
        let scratch = join(path, MACHINE_SCRATCH);
        replace_bytes(folder, &scratch, path, MACHINE_NAME, &bytes)
    });
}
