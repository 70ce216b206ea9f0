//! The disks of one machine at one time: volumes of dynamic disks may lie on several of them.

#[cfg(test)]
mod tests;

use super::Remembered;
use cairn_base::{Error, ReadAt, Result};
use cairn_guest::ldm::Unread;
use cairn_guest::probe::{self, DynamicDisk, FoundVolume};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A disk among others.
pub(crate) struct Neighbour {
    /// Its name in the point.
    pub name: String,
    /// Its bytes.
    pub disk: Arc<dyn ReadAt>,
    /// The logical one, if it is known.
    pub sector_size: Option<u32>,
}

/// A volume of dynamic disks, and which disks parts of it lie on: their positions.
pub(crate) struct Spread {
    /// The position of the disk that shows it.
    pub home: usize,
    pub found: FoundVolume,
    /// Each with its offset there, and its length.
    pub pieces: Vec<(usize, std::ops::Range<u64>)>,
}

/// What the dynamic disks of a point make up.
pub(crate) struct SpreadVolumes {
    /// The volumes of all groups.
    pub volumes: Vec<Spread>,
    /// Why volumes may be missing or wrong, by the positions of the disks that they may lie on.
    pub damage: BTreeMap<usize, Error>,
}

/// The disks in the order of the point, with the volumes that dynamic ones make up.
pub(crate) struct Together {
    disks: Vec<Neighbour>,
    found: Remembered<SpreadVolumes>,
}

impl Together {
    pub fn new(disks: Vec<Neighbour>) -> Together {
        Together {
            disks,
            found: Remembered::default(),
        }
    }

    /// The volumes of all groups, found once. What lies on a disk whose database is damaged for good, or lies on sectors that cannot be read, cannot be read either, and says so,
    /// as the disk does itself. It costs no other disk its volumes.
    ///
    /// # Errors
    /// What a disk reports that says nothing of it: a server that does not answer, say.
    pub fn volumes(&self) -> Result<&SpreadVolumes> {
        self.found.get(|| {
            let (mut members, mut positions) = (Vec::new(), Vec::new());
            let (mut unread, mut damage) = (Vec::new(), BTreeMap::new());
            for (position, neighbour) in self.disks.iter().enumerate() {
                let database = match probe::database(&neighbour.disk, neighbour.sector_size) {
                    Ok(Some(database)) => database,
                    Ok(None) => continue,
                    Err(error) if error.kind().may_pass() && error.is_momentary() => {
                        return Err(error);
                    }
                    Err(error) => {
                        let error = lasting(error);
                        // It may be readable when it is asked itself, and still has no part in what is found now.
                        damage.insert(position, error.clone());
                        unread.push(Unread {
                            name: neighbour.name.clone(),
                            disk_id: probe::disk_id(&neighbour.disk, neighbour.sector_size)?,
                            error,
                        });
                        continue;
                    }
                };
                positions.push(position);
                members.push(DynamicDisk {
                    name: neighbour.name.clone(),
                    disk: neighbour.disk.clone(),
                    database,
                });
            }
            let at = |member: usize| positions.get(member).copied();
            let spread = |(home, found): (usize, FoundVolume)| {
                let pieces = found.dynamic.iter().flat_map(|volume| &volume.pieces);
                let pieces = pieces.filter_map(|piece| {
                    let end = piece.start.saturating_add(piece.size);
                    Some((at(piece.member?)?, piece.start..end))
                });
                Some(Spread {
                    home: at(home)?,
                    pieces: pieces.collect(),
                    found,
                })
            };
            let found = probe::dynamic_volumes(&members, &unread);
            let of_groups = found.damage.into_iter();
            damage.extend(of_groups.filter_map(|(member, error)| Some((at(member)?, error))));
            Ok(SpreadVolumes {
                damage,
                volumes: found.volumes.into_iter().filter_map(spread).collect(),
            })
        })
    }
}

/// The failure as what it means to those who remember it: damage.
fn lasting(error: Error) -> Error {
    match error.kind().may_pass() {
        true => Error::damaged("the LDM database of the disk could not be read").caused_by(error),
        false => error,
    }
}
