//! Volumes of dynamic disks, as [`FoundVolume`]s of the first of their disks.

use super::{FoundVolume, detect};
use crate::ldm::{self, Assembled, Database, DynamicVolume, Guid, Member, Unread, assemble};
use crate::partition::{DeviceId, PartitionTable, TableKind};
use cairn_base::{Error, ReadAt, Result};
use std::sync::Arc;

/// Volumes of dynamic disks are numbered from here on: this, and the number that the disk group's database gives them. No partition has so
/// high a number.
pub const DYNAMIC_NUMBERS: u32 = 1000;
/// The largest number that a database gives as a rule; volumes with a larger one are counted behind it.
const LARGEST: u64 = 1_000_000;

/// A dynamic disk.
pub struct DynamicDisk {
    /// What to call it in messages.
    pub name: String,
    /// Its bytes.
    pub disk: Arc<dyn ReadAt>,
    /// What it says of itself.
    pub database: Database,
}

/// What `disk` says of its group of dynamic disks, if it is one of them. `sector_size` is that of the disk image where it tells one.
///
/// # Errors
/// As [`ldm::read`], and as [`PartitionTable::read`].
pub fn database(disk: &Arc<dyn ReadAt>, sector_size: Option<u32>) -> Result<Option<Database>> {
    let table = PartitionTable::read(disk, sector_size)?;
    let read = ldm::read(disk, &table);
    match read {
        // A DOS table does not tell its sector size, and neither does a raw disk.
        Err(error) if table.kind == TableKind::Mbr && sector_size.is_none() => {
            let table = PartitionTable::read(disk, Some(4096))?;
            match ldm::read(disk, &table) {
                Ok(Some(large)) => Ok(Some(large)),
                // What may go well in a moment says more than a bad sector.
                Err(other) if other.kind().may_pass() && !passes(&error) => Err(other),
                Ok(None) | Err(_) => Err(error),
            }
        }
        read => read,
    }
}

/// The id of a dynamic disk whose [`database`] cannot be read, if that much of it can be; `None` for any other disk.
///
/// # Errors
/// What the disk reports that says nothing of it: a server that does not answer, say, and not a sector that is lost.
pub fn disk_id(disk: &Arc<dyn ReadAt>, sector_size: Option<u32>) -> Result<Option<Guid>> {
    let Some(table) = table_of(disk, sector_size)? else {
        return Ok(None);
    };
    let found = ldm::disk_id(disk, &table)?;
    if found.is_none() && table.kind == TableKind::Mbr && sector_size.is_none() {
        let large = table_of(disk, Some(4096))?;
        return large.map_or(Ok(None), |table| ldm::disk_id(disk, &table));
    }
    Ok(found)
}

/// The partition table of `disk`, if it can be read.
fn table_of(disk: &Arc<dyn ReadAt>, sector_size: Option<u32>) -> Result<Option<PartitionTable>> {
    match PartitionTable::read(disk, sector_size) {
        Err(error) if passes(&error) => Err(error),
        read => Ok(read.ok()),
    }
}

/// Whether a failure says nothing of the disk.
fn passes(error: &Error) -> bool {
    error.kind().may_pass() && error.is_momentary()
}

/// What dynamic disks make up together.
#[derive(Default)]
pub struct Groups {
    /// The volumes of all groups, each with the position of the disk that shows it: the first that holds a part of it, or of its group where records
    /// that would tell it are lost. They come by number, and the numbers of one disk's volumes are unique. A volume of which no disk is here is not among them.
    pub volumes: Vec<(usize, FoundVolume)>,
    /// Positions of disks whose databases have lost records, so that volumes may be missing or wrong; and what is wrong.
    pub damage: Vec<(usize, Error)>,
}

/// The volumes of all groups that `disks` belong to; `unread` are those beside them whose databases cannot be read.
pub fn dynamic_volumes(disks: &[DynamicDisk], unread: &[Unread]) -> Groups {
    let members: Vec<Member<'_>> = disks
        .iter()
        .map(|disk| Member {
            name: &disk.name,
            disk: &disk.disk,
            database: &disk.database,
        })
        .collect();
    let mut found: Vec<(usize, FoundVolume)> = Vec::new();
    let mut beyond = LARGEST;
    let Assembled { volumes, damage } = assemble(&members, unread);
    for volume in volumes {
        let Some(home) = volume.home() else {
            continue;
        };
        let number = if volume.number < LARGEST {
            volume.number
        } else {
            beyond = beyond.saturating_add(1);
            beyond
        };
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        found.push((
            home,
            FoundVolume::of_dynamic(volume, DYNAMIC_NUMBERS.saturating_add(number)),
        ));
    }
    found.sort_by_key(|(_, volume)| volume.number);
    Groups {
        volumes: found,
        damage,
    }
}

impl FoundVolume {
    fn of_dynamic(volume: DynamicVolume, number: u32) -> FoundVolume {
        let nothing: Arc<dyn ReadAt> = Arc::new(Vec::new());
        let (device, detected) = match &volume.device {
            Ok(device) => (device.clone(), detect(device.as_ref())),
            Err(error) => {
                let what = format!("{} volume `{}`", volume.kind.name(), volume.name);
                (nothing, Err(error.clone().context(what)))
            }
        };
        FoundVolume {
            number,
            start: volume.place().map_or(0, |piece| piece.start),
            size: volume.size,
            kind: None,
            name: volume.name.clone(),
            device_ids: device_ids(volume.id),
            detected,
            device,
            dynamic: Some(Arc::new(volume)),
        }
    }
}

/// Windows writes GUIDs down as it has them in memory, and LDM the other way round; whether what it tells the mount manager is turned is documented nowhere.
/// Of a volume whose record is lost there is none.
fn device_ids(id: Guid) -> Vec<DeviceId> {
    if id == Guid::default() {
        return Vec::new();
    }
    vec![DeviceId::Guid(id.0), DeviceId::Guid(id.turned())]
}
