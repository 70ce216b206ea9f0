//! A volume of a group: what it is, and its bytes out of its components.

use super::guid::Guid;
use super::layout::Mirrored;
use super::plex::{Piece, Plex};
use super::record::{ComponentRecord, Layout, VolumeRecord};
use crate::volume::Note;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, Section};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Windows makes mirrors of two components.
pub(super) const MAX_COMPONENTS: usize = 32;

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
    /// `Volume1`, `Stripe1`, ...; where its record is lost that of its first component.
    pub name: String,
    /// Its GUID; all zeros where its record is lost.
    pub id: Guid,
    /// What sort of volume it is.
    pub kind: VolumeKind,
    /// The drive letter that it had when it was last mounted (`D:`), empty if none.
    pub hint: String,
    /// Bytes; where its record is lost those of its first component, 0 if that is not known.
    pub size: u64,
    /// Bytes of a chunk if it is striped or RAID-5.
    pub chunk: Option<u64>,
    /// What it is made of, component by component, in the order in which they have it.
    pub pieces: Vec<Piece>,
    /// What a user should know of it.
    pub notes: Vec<Note>,
    /// Its bytes, or why they cannot be read: a disk is missing, say, or a record is lost.
    pub device: Result<Arc<dyn ReadAt>>,
    /// See [`home`](DynamicVolume::home).
    pub(super) home: Option<usize>,
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
        let mut seen = BTreeSet::new();
        let names = self.pieces.iter().map(|piece| piece.disk.as_str());
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// The first of the members, in the order in which they were given, on which a part of it lies; the first of its group where records that would tell
    /// it are lost. `None` if it lies on disks that were not given.
    pub fn home(&self) -> Option<usize> {
        self.home
    }

    /// Where it lies if it is one piece of one disk.
    pub fn place(&self) -> Option<&Piece> {
        match self.pieces.as_slice() {
            [piece] if piece.member.is_some() => Some(piece),
            _ => None,
        }
    }
}

/// The components of a volume, with what they are read from.
pub(super) type Plexes<'a> = Vec<(&'a ComponentRecord, Plex)>;

/// What the components of a volume are together.
pub(super) struct Built {
    pub kind: VolumeKind,
    pub chunk: Option<u64>,
    pub pieces: Vec<Piece>,
    pub notes: Vec<Note>,
    pub device: Result<Arc<dyn ReadAt>>,
    pub home: Option<usize>,
}

impl Built {
    /// The volume of `record`, of which `found` components are known; `first` is the first of the group's disks.
    pub fn of(record: &VolumeRecord, mut plexes: Plexes<'_>, found: usize, first: usize) -> Built {
        let kind = kind_of(&plexes);
        let pieces = take_pieces(&mut plexes);
        let mut notes = Vec::new();
        let is_complete = to_u64(found) == record.components;
        if !is_complete {
            notes.push(Note::defect(format!(
                "the LDM database should have {} components of volume `{}`, and has {found}",
                record.components, record.name,
            )));
        }
        if found > plexes.len() {
            notes.push(Note::defect(format!(
                "volume `{}` has more components than Windows makes: only the first {} are read",
                record.name,
                plexes.len()
            )));
        }
        notes.extend(state_note(record));
        let is_elsewhere = is_complete && plexes.iter().all(|(_, plex)| plex.is_elsewhere);
        let home = home(&pieces, is_elsewhere && found > 0, first);
        let chunk = chunk(&plexes);
        Built {
            kind,
            chunk,
            pieces,
            device: device(record, plexes, &mut notes),
            notes,
            home,
        }
    }

    /// A volume whose record is lost, and of which these components are there. The other part of the answer is its size as far as that is known.
    pub fn of_lost(number: u64, mut plexes: Plexes<'_>, first: usize) -> (Built, u64) {
        let kind = kind_of(&plexes);
        let pieces = take_pieces(&mut plexes);
        let names: Vec<String> = plexes
            .iter()
            .map(|(component, _)| format!("`{}`", component.name))
            .collect();
        let sizes = plexes
            .iter()
            .filter_map(|(_, plex)| plex.device.as_ref().ok());
        let size = sizes.map(|device| device.size()).next().unwrap_or(0);
        let is_elsewhere = plexes.iter().all(|(_, plex)| plex.is_elsewhere);
        let built = Built {
            kind,
            chunk: chunk(&plexes),
            home: home(&pieces, is_elsewhere, first),
            pieces,
            notes: Vec::new(),
            device: Err(Error::damaged(format!(
                "the record of volume number {number} of the LDM database is lost, of which the component {} is there",
                names.join(" and ")
            ))
            .advise("give all disks of the group together: the copy of another one that knows the newest change may be whole")),
        };
        (built, size)
    }
}

fn take_pieces(plexes: &mut Plexes<'_>) -> Vec<Piece> {
    let take = |(_, plex): &mut (&ComponentRecord, Plex)| std::mem::take(&mut plex.pieces);
    plexes.iter_mut().flat_map(take).collect()
}

fn home(pieces: &[Piece], is_elsewhere: bool, first: usize) -> Option<usize> {
    let on = pieces.iter().filter_map(|piece| piece.member).min();
    on.or((!is_elsewhere).then_some(first))
}

fn chunk(plexes: &Plexes<'_>) -> Option<u64> {
    let first = plexes.first().map(|(component, _)| component.chunk);
    first.filter(|chunk| *chunk > 0)
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
    let missing = || no_components(record);
    match fresh.len() {
        0 => Err(failure.unwrap_or_else(missing)),
        1 => fresh.pop().ok_or_else(missing),
        _ => Ok(Arc::new(Mirrored::new(fresh))),
    }
}

/// That a volume is in a state other than the usual one.
fn state_note(record: &VolumeRecord) -> Option<Note> {
    let is_usual = record.state.is_empty() || record.state.eq_ignore_ascii_case("ACTIVE");
    (!is_usual).then(|| {
        Note::fact(format!(
            "the LDM database says that volume `{}` is in the state {}",
            record.name, record.state
        ))
    })
}

fn no_components(record: &VolumeRecord) -> Error {
    let name = &record.name;
    match record.components {
        0 => Error::damaged(format!("volume `{name}` has no components")),
        count => Error::damaged(format!(
            "volume `{name}` should have {count} components, and the LDM database has none of them"
        )),
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

/// Adds to volumes that have bytes of a disk in common that they do: one of them may be wrong.
pub(super) fn note_overlaps(volumes: &mut [DynamicVolume]) {
    let mut places: Vec<(usize, u64, u64, usize)> = Vec::new();
    for (at, volume) in volumes.iter().enumerate() {
        places.extend(volume.pieces.iter().filter_map(|piece| {
            let end = piece.start.saturating_add(piece.size);
            Some((piece.member?, piece.start, end, at)).filter(|_| piece.size > 0)
        }));
    }
    places.sort_unstable();
    // The piece that reaches farthest of those in front, and who overlaps whom: one other of each is named.
    let mut farthest: Option<(usize, u64, usize)> = None;
    let mut pairs: BTreeMap<usize, usize> = BTreeMap::new();
    for (disk, start, end, at) in places {
        match farthest {
            Some((on, until, other)) if on == disk && start < until => {
                pairs.entry(at).or_insert(other);
                pairs.entry(other).or_insert(at);
                if end > until {
                    farthest = Some((disk, end, at));
                }
            }
            _ => farthest = Some((disk, end, at)),
        }
    }
    let name = |at: &usize| volumes.get(*at).map(|volume| volume.name.clone());
    let pairs: Vec<(usize, String)> = pairs
        .iter()
        .filter_map(|(at, other)| Some((*at, name(other)?)))
        .collect();
    for (at, other) in pairs {
        if let Some(volume) = volumes.get_mut(at) {
            volume.notes.push(Note::defect(format!(
                "by the LDM database volume `{}` lies, in part at least, on the same bytes of a disk as `{other}`: one of them may be wrong",
                volume.name
            )));
        }
    }
}
