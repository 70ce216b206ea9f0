//! Volumes of dynamic disks, as [`FoundVolume`]s of the first of their disks.

use super::{FoundVolume, detect};
use crate::ldm::{self, Database, DynamicVolume, Member, assemble};
use crate::partition::{DeviceId, PartitionTable, TableKind};
use cairn_base::{ReadAt, Result};
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
            let large = ldm::read(disk, &table).ok().flatten();
            large.map(Some).ok_or(error)
        }
        read => read,
    }
}

/// The volumes of all groups that `disks` belong to. Each comes with the position of the first of the disks that holds a part of it, which is
/// the disk that shows it. The numbers of one disk's volumes are unique and ascend. A volume of which no disk is here is not among them.
pub fn dynamic_volumes(disks: &[DynamicDisk]) -> Vec<(usize, FoundVolume)> {
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
    // By number, as all volumes that one disk shows are of one group.
    for volume in assemble(&members) {
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
    found
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
            device_id: Some(DeviceId::Guid(volume.id.0)),
            detected,
            device,
            dynamic: Some(Arc::new(volume)),
        }
    }
}
