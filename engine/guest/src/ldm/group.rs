//! The disks of a group together: which of their databases counts, and what its volumes are.

use super::database::Database;
use super::guid::Guid;
use super::plex::{Disks, Present, Unread};
use super::record::{ComponentRecord, Configuration, PartitionRecord};
use super::volume::{Built, DynamicVolume, MAX_COMPONENTS, Plexes, VolumeKind, note_overlaps};
use crate::volume::Note;
use cairn_base::{Error, ReadAt};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
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

/// What disks make up together.
#[derive(Debug, Default)]
pub struct Assembled {
    /// All volumes of the groups, group by group in the order in which they are met, by number; behind them those whose record is lost. A disk that says that it is one which is there already
    /// is read as a group of its own: behind the volumes of its group come those that lie on it alone, and those that the group does not know.
    pub volumes: Vec<DynamicVolume>,
    /// Members of groups of which no database of the newest change is whole, so that volumes may be missing or wrong; and why.
    pub damage: Vec<(usize, Error)>,
}

/// Puts the volumes of the groups together that `members` belong to. `unread` are those disks beside them whose databases cannot be read: volumes may lie on them.
pub fn assemble(members: &[Member<'_>], unread: &[Unread]) -> Assembled {
    let mut groups: Vec<(Guid, Vec<(usize, Member<'_>)>)> = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let id = member.database.group_id;
        match groups.iter_mut().find(|(group, _)| *group == id) {
            Some((_, of_group)) => of_group.push((index, *member)),
            None => groups.push((id, vec![(index, *member)])),
        }
    }
    let mut found = Assembled::default();
    for (_, of_group) in &groups {
        let Some(group) = Group::new(of_group, unread) else {
            continue;
        };
        let volumes = group.volumes();
        let numbers: BTreeSet<u64> = volumes.iter().map(|volume| volume.number).collect();
        found.volumes.extend(volumes);
        found.damage.extend(group.damage());
        for (copy, why) in &group.copies {
            let Some(alone) = Group::new(std::slice::from_ref(copy), unread) else {
                continue;
            };
            for mut volume in alone.volumes() {
                let is_here = volume.pieces.iter().all(|piece| piece.member.is_some());
                if is_here || !numbers.contains(&volume.number) {
                    volume.notes.push(Note::fact(why.clone()));
                    found.volumes.push(volume);
                }
            }
            found.damage.extend(alone.damage());
        }
    }
    found
}

/// A group whose configuration is decided.
struct Group<'a> {
    database: &'a Database,
    /// The disk that has it.
    chosen: &'a str,
    /// The disks that are read: which of those that were given.
    members: Vec<usize>,
    disks: Disks<'a>,
    notes: Vec<Note>,
    /// Disks that say that they are one of `members`, and sentences that tell of which.
    copies: Vec<((usize, Member<'a>), String)>,
    /// By disk: of which others it is a copy.
    copied: BTreeMap<usize, Vec<String>>,
    /// By disk: why what is read of it may be wrong.
    doubts: BTreeMap<usize, String>,
}

/// The newest change counts, even if no copy that knows it is whole: an older one would show volumes where they are no more. Of several copies that know it, one that is whole, and of
/// these the one that most disks have.
fn choose<'a>(members: &[(usize, Member<'a>)]) -> Option<Member<'a>> {
    let all = || members.iter().map(|(_, member)| *member);
    let newest = all().map(|member| member.database.sequence).max()?;
    let of_newest = || all().filter(|member| member.database.sequence == newest);
    let rank = |one: &Member<'_>| {
        let same = |other: &Member<'_>| other.database.configuration == one.database.configuration;
        (one.database.is_whole, of_newest().filter(same).count())
    };
    let mut chosen: Option<((bool, usize), Member<'a>)> = None;
    for member in of_newest() {
        let own = rank(&member);
        if chosen.is_none_or(|(best, _)| own > best) {
            chosen = Some((own, member));
        }
    }
    chosen.map(|(_, member)| member)
}

impl<'a> Group<'a> {
    fn new(members: &[(usize, Member<'a>)], unread: &'a [Unread]) -> Option<Group<'a>> {
        let chosen = choose(members)?;
        let database = chosen.database;
        let mut notes = Vec::new();
        let (mut copies, mut doubts) = (Vec::new(), BTreeMap::new());
        let mut copied: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        let mut present: BTreeMap<Guid, Present> = BTreeMap::new();
        for (index, member) in members {
            let own = member.database;
            let is_same = own.configuration == database.configuration;
            // What a copy that is not whole tells otherwise it tells for that reason.
            let is_current = own.sequence == database.sequence && (is_same || !own.is_whole);
            if !is_current {
                notes.push(stale_note(member, database.sequence));
            } else if !is_same {
                notes.push(Note::fact(format!(
                    "the LDM database of disk `{}` is damaged: that of disk `{}` is read",
                    member.name, chosen.name
                )));
            }
            if !own.is_head_whole {
                doubts.insert(*index, format!(
                    "the checksum of the private header of disk `{}` is wrong: its volumes may not be where it says",
                    member.name
                ));
            }
            let disk = Present {
                member: *index,
                bytes: member.disk.clone(),
                data_start: own.data_start,
                is_current,
            };
            match present.entry(own.disk_id) {
                Entry::Vacant(place) => {
                    place.insert(disk);
                }
                Entry::Occupied(mut place) => {
                    let mut left = disk;
                    if is_current && !place.get().is_current {
                        std::mem::swap(place.get_mut(), &mut left);
                    }
                    let read = place.get().member;
                    let of = |at: usize| members.iter().find(|(index, _)| *index == at);
                    if let (Some(left), Some((_, read_from))) = (of(left.member), of(read)) {
                        let why = copy_text(&left.1, read_from);
                        // What was said of the one that was there before goes with the one that takes its place.
                        let mut all = copied.remove(&left.0).unwrap_or_default();
                        all.push(why.clone());
                        copied.entry(read).or_default().append(&mut all);
                        copies.push((*left, why));
                    }
                }
            }
        }
        Some(Group {
            database,
            chosen: chosen.name,
            members: present.values().map(|disk| disk.member).collect(),
            disks: Disks::new(&database.configuration, present, unread),
            notes,
            copies,
            copied,
            doubts,
        })
    }

    /// Its disks, if volumes may be missing or wrong because no database of the newest change is whole.
    fn damage(&self) -> Vec<(usize, Error)> {
        if self.database.is_whole {
            return Vec::new();
        }
        let error = Error::damaged(format!(
            "the LDM database that disk `{}` has of the group `{}` is damaged, and volumes may be missing or wrong: {}",
            self.chosen,
            self.database.group_name,
            self.database.warnings.join("; ")
        ))
        .advise("give all disks of the group together: the copy of another one that knows the newest change may be whole");
        let disks = self.members.iter();
        disks.map(|index| (*index, error.clone())).collect()
    }

    fn volumes(&self) -> Vec<DynamicVolume> {
        let configuration: &'a Configuration = &self.database.configuration;
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
        let plexes = |own: &[&'a ComponentRecord]| -> Plexes<'a> {
            let plexes = own.iter().take(MAX_COMPONENTS).map(|component| {
                let parts = partitions.get(&component.id);
                let parts = parts.map_or(&[][..], Vec::as_slice);
                (*component, self.disks.plex(component, parts))
            });
            plexes.collect()
        };
        let first = self.members.iter().copied().min().unwrap_or(0);
        let mut volumes = Vec::new();
        for record in &configuration.volumes {
            let own = components.remove(&record.id).unwrap_or_default();
            let built = Built::of(record, plexes(&own), own.len(), first);
            let volume = self.volume(record.id, built);
            volumes.push(DynamicVolume {
                name: record.name.clone(),
                id: record.guid,
                hint: record.hint.clone(),
                size: record.size,
                ..volume
            });
        }
        for (number, own) in components {
            let (built, size) = Built::of_lost(number, plexes(&own), first);
            let name = own.first().map(|component| component.name.clone());
            volumes.push(DynamicVolume {
                name: name.unwrap_or_default(),
                size,
                ..self.volume(number, built)
            });
        }
        note_overlaps(&mut volumes);
        volumes
    }

    /// A volume without what its record says.
    fn volume(&self, number: u64, built: Built) -> DynamicVolume {
        let mut notes = built.notes;
        let is_simple = built.kind == VolumeKind::Simple;
        let on: BTreeSet<usize> = built
            .pieces
            .iter()
            .filter_map(|piece| piece.member)
            .collect();
        for disk in &on {
            notes.extend(self.doubts.get(disk).cloned().map(Note::defect));
            // Which of them the others of a volume go with is told by nothing.
            let note = if is_simple { Note::fact } else { Note::defect };
            notes.extend(
                self.copied
                    .get(disk)
                    .into_iter()
                    .flatten()
                    .cloned()
                    .map(note),
            );
        }
        // What is wrong with the group's disks concerns volumes that lie on several of them.
        if !is_simple || built.device.is_err() {
            notes.extend(self.notes.iter().cloned());
        }
        DynamicVolume {
            group_id: self.database.group_id,
            group_name: self.database.group_name.clone(),
            number,
            name: String::new(),
            id: Guid::default(),
            kind: built.kind,
            hint: String::new(),
            size: 0,
            chunk: built.chunk,
            pieces: built.pieces,
            notes,
            device: built.device,
            home: built.home,
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

/// That `left` is a copy of `read`.
fn copy_text(left: &Member<'_>, read: &Member<'_>) -> String {
    format!(
        "disks `{}` and `{}` both say that they are the disk {}: each shows the volumes that lie on it alone, and `{}` is read for those on several disks",
        left.name, read.name, read.database.disk_id, read.name
    )
}
