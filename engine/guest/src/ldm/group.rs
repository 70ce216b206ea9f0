//! The disks of a group together: which of their databases counts, and what its volumes are.

use super::database::Database;
use super::guid::Guid;
use super::layout::Mirrored;
use super::plex::{Disks, Piece, Plex, Present};
use super::record::{ComponentRecord, Configuration, Layout, PartitionRecord, VolumeRecord};
use crate::volume::Note;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, Section};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A dynamic disk.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    /// What to call it in messages.
    pub name: &'a str,
    /// Its bytes.
    pub disk: &'a Arc<dyn ReadAt>,
    /// What it says.
    pub database: &'a Database,
}

/// What sort of volume it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VolumeKind {
    /// On one disk, in one or several parts.
    Simple,
    /// On several disks, one part behind the other.
    Spanned,
    /// On several disks in turns.
    Striped,
    /// Several times the same.
    Mirrored,
    /// On several disks in turns, with parity.
    Raid5,
}

impl VolumeKind {
    /// `simple`, `spanned`, `striped`, `mirrored` or `RAID-5`.
    pub fn name(self) -> &'static str {
        match self {
            VolumeKind::Simple => "simple",
            VolumeKind::Spanned => "spanned",
            VolumeKind::Striped => "striped",
            VolumeKind::Mirrored => "mirrored",
            VolumeKind::Raid5 => "RAID-5",
        }
    }
}

/// A volume of a group of dynamic disks.
#[derive(Clone)]
pub struct DynamicVolume {
    /// The id of the group.
    pub group_id: Guid,
    /// The name of the group.
    pub group_name: String,
    /// Its number in the group's database; stays as long as the volume lives.
    pub number: u64,
    /// `Volume1`, `Stripe1`, ...
    pub name: String,
    /// Its GUID.
    pub id: Guid,
    /// What sort of volume it is.
    pub kind: VolumeKind,
    /// The drive letter that it had when it was last mounted (`D:`), empty if none.
    pub hint: String,
    /// Bytes.
    pub size: u64,
    /// Bytes of a chunk if it is striped or RAID-5.
    pub chunk: Option<u64>,
    /// What it is made of, component by component, in the order in which they have it.
    pub pieces: Vec<Piece>,
    /// What a user should know of it.
    pub notes: Vec<Note>,
    /// Its bytes, or why they cannot be read: a disk is missing, say.
    pub device: Result<Arc<dyn ReadAt>>,
}

impl std::fmt::Debug for DynamicVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamicVolume")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("size", &self.size)
            .field("pieces", &self.pieces)
            .field("notes", &self.notes)
            .field("error", &self.device.as_ref().err())
            .finish_non_exhaustive()
    }
}

impl DynamicVolume {
    /// The disks that it lies on, as the group calls them, each once.
    pub fn disks(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for piece in &self.pieces {
            if !names.contains(&piece.disk.as_str()) {
                names.push(&piece.disk);
            }
        }
        names
    }

    /// The first of the members, in the order in which they were given, on which a part of it lies.
    pub fn home(&self) -> Option<usize> {
        self.pieces.iter().filter_map(|piece| piece.member).min()
    }

    /// Where it lies if it is one piece of one disk.
    pub fn place(&self) -> Option<&Piece> {
        match self.pieces.as_slice() {
            [piece] if piece.member.is_some() => Some(piece),
            _ => None,
        }
    }
}

/// All volumes of the groups that `members` belong to, group by group in the order in which they are met, by number.
pub fn assemble(members: &[Member<'_>]) -> Vec<DynamicVolume> {
    let mut groups: Vec<(Guid, Vec<usize>)> = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let id = member.database.group_id;
        match groups.iter_mut().find(|(group, _)| *group == id) {
            Some((_, indexes)) => indexes.push(index),
            None => groups.push((id, vec![index])),
        }
    }
    let volumes = groups.iter().filter_map(|(_, indexes)| {
        let of_group: Vec<(usize, Member<'_>)> = indexes
            .iter()
            .filter_map(|&index| Some((index, *members.get(index)?)))
            .collect();
        Group::new(&of_group).map(|group| group.volumes())
    });
    volumes.flatten().collect()
}

/// A group whose configuration is decided.
struct Group<'a> {
    database: &'a Database,
    disks: Disks<'a>,
    notes: Vec<Note>,
}

impl<'a> Group<'a> {
    /// The newest configuration counts: of several that say they are, the one that most disks have.
    fn new(members: &[(usize, Member<'a>)]) -> Option<Group<'a>> {
        let all = || members.iter().map(|(_, member)| member.database);
        let newest = all().map(|database| database.sequence).max()?;
        let agree = |one: &Database| {
            let same = |other: &&Database| {
                other.sequence == newest && other.configuration == one.configuration
            };
            all().filter(same).count()
        };
        let mut chosen: Option<(usize, &Database)> = None;
        for database in all().filter(|database| database.sequence == newest) {
            let votes = agree(database);
            if chosen.is_none_or(|(most, _)| votes > most) {
                chosen = Some((votes, database));
            }
        }
        let (_, database) = chosen?;
        let mut notes = Vec::new();
        let mut present = BTreeMap::new();
        for (index, member) in members {
            let own = member.database;
            let is_current = own.sequence == newest && own.configuration == database.configuration;
            if !is_current {
                notes.push(stale_note(member, newest));
            }
            let disk = Present {
                member: *index,
                bytes: member.disk.clone(),
                data_start: own.data_start,
                is_current,
            };
            match present.entry(own.disk_id) {
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(disk);
                }
                std::collections::btree_map::Entry::Occupied(mut place) => {
                    notes.push(Note::defect(format!(
                        "disk `{}` says that it is a disk which is there already ({}): only one of them is read",
                        member.name, own.disk_id
                    )));
                    if is_current && !place.get().is_current {
                        place.insert(disk);
                    }
                }
            }
        }
        Some(Group {
            database,
            disks: Disks::new(&database.configuration, present),
            notes,
        })
    }

    fn volumes(&self) -> Vec<DynamicVolume> {
        let configuration: &Configuration = &self.database.configuration;
        let mut components: BTreeMap<u64, Vec<&ComponentRecord>> = BTreeMap::new();
        for component in &configuration.components {
            components
                .entry(component.volume)
                .or_default()
                .push(component);
        }
        let mut partitions: BTreeMap<u64, Vec<&PartitionRecord>> = BTreeMap::new();
        for partition in &configuration.partitions {
            partitions
                .entry(partition.component)
                .or_default()
                .push(partition);
        }
        let of = |volume: &VolumeRecord| {
            let own = components.remove(&volume.id).unwrap_or_default();
            let plexes = own.iter().map(|component| {
                let parts = partitions.get(&component.id);
                let parts = parts.map_or(&[][..], Vec::as_slice);
                (*component, self.disks.plex(component, parts))
            });
            self.volume(volume, plexes.collect())
        };
        configuration.volumes.iter().map(of).collect()
    }

    fn volume(
        &self,
        record: &VolumeRecord,
        mut plexes: Vec<(&ComponentRecord, Plex)>,
    ) -> DynamicVolume {
        let kind = kind_of(&plexes);
        let chunk = plexes
            .first()
            .map(|(component, _)| component.chunk)
            .filter(|chunk| *chunk > 0);
        let take = |(_, plex): &mut (&ComponentRecord, Plex)| std::mem::take(&mut plex.pieces);
        let pieces: Vec<Piece> = plexes.iter_mut().flat_map(take).collect();
        let mut notes = Vec::new();
        if to_u64(plexes.len()) != record.components {
            notes.push(Note::defect(format!(
                "the LDM database should have {} components of volume `{}`, and has {}",
                record.components,
                record.name,
                plexes.len()
            )));
        }
        let device = device(record, plexes, &mut notes);
        // What is wrong with the group's disks concerns volumes that lie on several of them.
        if kind != VolumeKind::Simple || device.is_err() {
            notes.extend(self.notes.iter().cloned());
        }
        DynamicVolume {
            group_id: self.database.group_id,
            group_name: self.database.group_name.clone(),
            number: record.id,
            name: record.name.clone(),
            id: record.guid,
            kind,
            hint: record.hint.clone(),
            size: record.size,
            chunk,
            pieces,
            notes,
            device,
        }
    }
}

fn stale_note(member: &Member<'_>, newest: u64) -> Note {
    let own = member.database.sequence;
    let why = if own == newest {
        "tells the same change of the disk group otherwise than the others".to_string()
    } else {
        format!("knows change {own} of the disk group, and others know change {newest}")
    };
    Note::fact(format!(
        "disk `{}` {why}: it was away, or was copied at another time",
        member.name
    ))
}

fn kind_of(plexes: &[(&ComponentRecord, Plex)]) -> VolumeKind {
    let [(component, plex)] = plexes else {
        return if plexes.is_empty() {
            VolumeKind::Simple
        } else {
            VolumeKind::Mirrored
        };
    };
    match component.layout {
        Layout::Striped => VolumeKind::Striped,
        Layout::Raid5 => VolumeKind::Raid5,
        Layout::Concatenated => {
            let mut disks = plex.pieces.iter().map(|piece| piece.disk_id);
            let first = disks.next();
            if disks.all(|disk| Some(disk) == first) {
                VolumeKind::Simple
            } else {
                VolumeKind::Spanned
            }
        }
    }
}

/// The volume's bytes. Copies that the database says are not up to date are not read if there is another one.
fn device(
    record: &VolumeRecord,
    plexes: Vec<(&ComponentRecord, Plex)>,
    notes: &mut Vec<Note>,
) -> Result<Arc<dyn ReadAt>> {
    let is_only = plexes.len() == 1;
    let name = &record.name;
    let (mut fresh, mut old) = (Vec::new(), Vec::new());
    let mut failure = None;
    for (component, plex) in plexes {
        let health = plex.health;
        notes.extend(health.notes.into_iter().map(Note::fact));
        let sized = plex
            .device
            .and_then(|device| fit(record, component, device));
        match sized {
            Ok(_) if health.is_stale && !is_only => {
                let why = format!(
                    "component `{}` is not up to date and is not read",
                    component.name
                );
                failure.get_or_insert_with(|| Error::damaged(why.clone()));
                notes.push(Note::fact(why));
            }
            Ok(device) => {
                if health.is_stale {
                    notes.push(Note::defect(format!(
                        "the LDM database says that volume `{name}` is not up to date"
                    )));
                }
                if health.is_old {
                    old.push(device);
                } else {
                    fresh.push(device);
                }
            }
            Err(error) => {
                if !is_only {
                    notes.push(Note::fact(format!(
                        "component `{}` cannot be read: {}",
                        component.name,
                        error.reason()
                    )));
                }
                // A disk that is missing is told rather than what follows from it.
                failure.get_or_insert(error);
            }
        }
    }
    if fresh.is_empty() && !old.is_empty() {
        notes.push(Note::defect(format!(
            "volume `{name}` is read from a disk that does not know the last change of its group"
        )));
        fresh = old;
    }
    let missing = || Error::damaged(format!("volume `{name}` has no components"));
    match fresh.len() {
        0 => Err(failure.unwrap_or_else(missing)),
        1 => fresh.pop().ok_or_else(missing),
        _ => Ok(Arc::new(Mirrored::new(fresh))),
    }
}

/// A component's bytes as long as the volume.
fn fit(
    volume: &VolumeRecord,
    component: &ComponentRecord,
    device: Arc<dyn ReadAt>,
) -> Result<Arc<dyn ReadAt>> {
    if device.size() < volume.size {
        return Err(Error::damaged(format!(
            "component `{}` has {} bytes, and its volume `{}` needs {}",
            component.name,
            device.size(),
            volume.name,
            volume.size
        )));
    }
    if device.size() == volume.size {
        return Ok(device);
    }
    Ok(Arc::new(Section::new(device, 0, volume.size)?))
}
