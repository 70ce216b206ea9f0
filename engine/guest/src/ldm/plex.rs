//! A volume's components, with what lies on disks that are here.

use super::guid::Guid;
use super::layout::{Concatenated, Raid5, Striped};
use super::record::{ComponentRecord, Configuration, DiskRecord, Layout, PartitionRecord};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, Section};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Flags of a component: to be brought up to date, an access failed, not made yet.
const COMPONENT_IS_STALE: u32 = 0x2 | 0x4 | 0x8;
/// Flags of a partition: to be brought up to date, taken out of use.
const PARTITION_IS_STALE: u32 = 0x8 | 0x10;
/// Windows takes up to 32 disks.
const MAX_COLUMNS: usize = 1024;

/// A part of a volume on one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What the group calls the disk.
    pub disk: String,
    /// The disk's id.
    pub disk_id: Guid,
    /// Which of the disks that were given it is; `None` if it is none of them.
    pub member: Option<usize>,
    /// Offset on that disk in bytes. From the start of its data if the disk is not there.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

/// A dynamic disk that was given, and whose database cannot be read.
#[derive(Debug, Clone)]
pub struct Unread {
    /// What to call it in messages.
    pub name: String,
    /// Its id, if its private header tells it.
    pub disk_id: Option<Guid>,
    /// Why the database cannot be read.
    pub error: Error,
}

/// A disk that is here.
pub(super) struct Present {
    /// Which of those that were given.
    pub member: usize,
    pub bytes: Arc<dyn ReadAt>,
    pub data_start: u64,
    /// Whether it knows the group as it is now. One that does not was away when something was changed.
    pub is_current: bool,
}

/// What a component is.
pub(super) struct Plex {
    pub device: Result<Arc<dyn ReadAt>>,
    pub health: Health,
    pub pieces: Vec<Piece>,
    /// Whether all of it lies on disks that were not given: then nothing here needs to show it.
    pub is_elsewhere: bool,
}

/// Whether what a component shows can be relied on.
#[derive(Default)]
pub(super) struct Health {
    /// Whether the database says that it is not up to date.
    pub is_stale: bool,
    /// Whether a disk that it is read from was away when the group was changed.
    pub is_old: bool,
    /// What is to be known of it. Sentences.
    pub notes: Vec<String>,
}

/// The disks of a group and what they are for.
pub(super) struct Disks<'a> {
    by_id: BTreeMap<u64, &'a DiskRecord>,
    present: BTreeMap<Guid, Present>,
    unread: &'a [Unread],
}

/// A partition, with what is known of its bytes.
struct Part<'a> {
    record: &'a PartitionRecord,
    bytes: Result<Section>,
    is_current: bool,
}

impl Part<'_> {
    fn is_stale(&self) -> bool {
        self.record.flags & PARTITION_IS_STALE != 0
    }
}

impl<'a> Disks<'a> {
    pub fn new(
        configuration: &'a Configuration,
        present: BTreeMap<Guid, Present>,
        unread: &'a [Unread],
    ) -> Disks<'a> {
        let records = configuration.disks.iter();
        Disks {
            by_id: records.map(|record| (record.id, record)).collect(),
            present,
            unread,
        }
    }

    /// The disk without a database that is this one, or may be it because nothing tells its id.
    fn unread(&self, id: Guid) -> Option<&Unread> {
        let all = || self.unread.iter();
        let known = all().find(|unread| unread.disk_id == Some(id));
        known.or_else(|| all().find(|unread| unread.disk_id.is_none()))
    }

    /// Why a part of a disk that is not among those with a database cannot be read.
    fn absent(&self, disk: &DiskRecord, record: &PartitionRecord) -> Error {
        let (name, id, part) = (&disk.name, disk.guid, &record.name);
        let Some(unread) = self.unread(id) else {
            return Error::not_found(format!(
                "disk `{name}` ({id}) of the group is missing, on which `{part}` lies: it was not given"
            ))
            .advise("give all disks of the machine together");
        };
        let given = &unread.name;
        let which = match unread.disk_id {
            Some(_) => format!("was given as `{given}`, but its database cannot be read"),
            None => format!("may be `{given}`, which was given, but whose database cannot be read"),
        };
        let why = unread.error.clone();
        why.context(format!(
            "disk `{name}` ({id}) of the group, on which `{part}` lies, {which}"
        ))
    }

    /// Whether a partition lies on a disk that was not given.
    fn is_elsewhere(&self, record: &PartitionRecord) -> bool {
        let disk = self.by_id.get(&record.disk);
        disk.is_some_and(|disk| {
            !self.present.contains_key(&disk.guid) && self.unread(disk.guid).is_none()
        })
    }

    fn part<'p>(&self, record: &'p PartitionRecord) -> (Part<'p>, Piece) {
        let disk = self.by_id.get(&record.disk);
        let present = disk.and_then(|disk| self.present.get(&disk.guid));
        let start = present.map_or(record.start, |disk| {
            disk.data_start.saturating_add(record.start)
        });
        let bytes = match (disk, present) {
            (_, Some(present)) => {
                Section::new(present.bytes.clone(), start, record.size).map_err(|_| {
                    Error::damaged(format!(
                        "`{}` of a dynamic volume ends beyond the end of its disk",
                        record.name
                    ))
                    .at_offset(start)
                })
            }
            (Some(disk), None) => Err(self.absent(disk, record)),
            (None, None) => Err(Error::damaged(format!(
                "the database does not know the disk number {} on which `{}` lies",
                record.disk, record.name
            ))),
        };
        let piece = Piece {
            disk: disk.map(|disk| disk.name.clone()).unwrap_or_default(),
            disk_id: disk.map(|disk| disk.guid).unwrap_or_default(),
            member: present.map(|disk| disk.member),
            start,
            size: record.size,
        };
        let is_current = present.is_none_or(|disk| disk.is_current);
        let part = Part {
            record,
            bytes,
            is_current,
        };
        (part, piece)
    }

    /// The component `of`, whose partitions are `records`.
    pub fn plex(&self, of: &ComponentRecord, records: &[&PartitionRecord]) -> Plex {
        let (parts, pieces): (Vec<Part<'_>>, Vec<Piece>) =
            records.iter().map(|record| self.part(record)).unzip();
        let is_elsewhere = !records.is_empty()
            && to_u64(records.len()) == of.partitions
            && records.iter().all(|record| self.is_elsewhere(record));
        let mut health = Health {
            is_stale: of.flags & COMPONENT_IS_STALE != 0
                || !(of.state.is_empty() || of.state.eq_ignore_ascii_case("ACTIVE")),
            ..Health::default()
        };
        let device = columns(of, parts).and_then(|columns| match of.layout {
            Layout::Raid5 => raid5(of, columns, &mut health),
            Layout::Concatenated | Layout::Striped => simple(of, columns, &mut health),
        });
        Plex {
            device,
            health,
            pieces,
            is_elsewhere,
        }
    }
}

/// The partitions of each column in their order.
fn columns<'p>(of: &ComponentRecord, parts: Vec<Part<'p>>) -> Result<Vec<Vec<Part<'p>>>> {
    let name = &of.name;
    let found = to_u64(parts.len());
    if found == 0 || found != of.partitions {
        return Err(Error::damaged(format!(
            "component `{name}` should have {} partitions, and {found} are there",
            of.partitions
        )));
    }
    let mut by_column: BTreeMap<u64, Vec<Part<'p>>> = BTreeMap::new();
    for part in parts {
        // Windows numbers parts that are concatenated, too.
        let column = match of.layout {
            Layout::Concatenated => 0,
            Layout::Striped | Layout::Raid5 => part.record.column,
        };
        by_column.entry(column).or_default().push(part);
    }
    let count = to_u64(by_column.len());
    let are_all = by_column.keys().copied().eq(0..count);
    let expected = match of.layout {
        Layout::Concatenated => 1,
        Layout::Striped | Layout::Raid5 => of.columns,
    };
    if !are_all || count != expected || by_column.len() > MAX_COLUMNS {
        return Err(Error::damaged(format!(
            "component `{name}` should have {expected} columns, and {count} are there"
        )));
    }
    let mut columns: Vec<Vec<Part<'p>>> = by_column.into_values().collect();
    for column in &mut columns {
        column.sort_by_key(|part| part.record.offset);
        let mut end = 0u64;
        // What a single partition of a column says does not matter.
        let is_checked = column.len() > 1 || of.layout == Layout::Concatenated;
        for part in column.iter() {
            if is_checked && part.record.offset != end {
                return Err(Error::damaged(format!(
                    "`{}` of component `{name}` begins at byte {} of it, and what is in front of it ends at byte {end}",
                    part.record.name, part.record.offset
                )));
            }
            end = end.saturating_add(part.record.size);
        }
    }
    Ok(columns)
}

fn concatenated(column: Vec<Part<'_>>) -> Result<Concatenated> {
    let sections: Result<Vec<Section>> = column.into_iter().map(|part| part.bytes).collect();
    sections.map(Concatenated::new)
}

/// A component that needs all its columns.
fn simple(
    of: &ComponentRecord,
    mut columns: Vec<Vec<Part<'_>>>,
    health: &mut Health,
) -> Result<Arc<dyn ReadAt>> {
    let mut parts = columns.iter().flatten();
    health.is_stale |= parts.clone().any(Part::is_stale);
    health.is_old = parts.any(|part| !part.is_current);
    if of.layout == Layout::Concatenated {
        return Ok(Arc::new(concatenated(columns.pop().unwrap_or_default())?));
    }
    has_chunks(of)?;
    let columns: Result<Vec<Concatenated>> = columns.into_iter().map(concatenated).collect();
    Ok(Arc::new(Striped::new(columns?, of.chunk)))
}

fn has_chunks(of: &ComponentRecord) -> Result<()> {
    if of.chunk == 0 {
        let why = format!("component `{}` is striped in chunks of no bytes", of.name);
        return Err(Error::damaged(why));
    }
    Ok(())
}

/// A component that can do without one of its columns.
fn raid5(
    of: &ComponentRecord,
    columns: Vec<Vec<Part<'_>>>,
    health: &mut Health,
) -> Result<Arc<dyn ReadAt>> {
    has_chunks(of)?;
    if columns.len() < 3 {
        let why = format!("component `{}` is RAID-5 of less than 3 columns", of.name);
        return Err(Error::damaged(why));
    }
    let is_old = |column: &Vec<Part<'_>>| column.iter().any(|part| !part.is_current);
    let is_out = |column: &Vec<Part<'_>>| {
        let mut parts = column.iter();
        parts.any(|part| part.bytes.is_err() || part.is_stale())
    };
    let mut out: Vec<bool> = columns.iter().map(is_out).collect();
    // One that was away when the group was changed may not have what was written since.
    let mut old = columns
        .iter()
        .filter(|column| is_old(column) && !is_out(column));
    if !out.contains(&true) && old.clone().count() == 1 {
        out = columns.iter().map(is_old).collect();
    } else {
        health.is_old = old.next().is_some();
    }
    let missing = out.iter().filter(|out| **out).count();
    let mut failure = None;
    let count = columns.len();
    let mut kept = Vec::with_capacity(count);
    for (column, out) in columns.into_iter().zip(out) {
        if !out {
            kept.push(Some(concatenated(column)?));
            continue;
        }
        let first = column.first().map_or("", |part| part.record.name.as_str());
        let why = format!("`{first}` of component `{}` is not up to date", of.name);
        let why = concatenated(column)
            .err()
            .unwrap_or_else(|| Error::damaged(why));
        if missing == 1 {
            health.notes.push(format!(
                "one of {count} columns is computed from the others: {}",
                why.reason()
            ));
        }
        failure.get_or_insert(why);
        kept.push(None);
    }
    match failure {
        Some(failure) if missing > 1 => Err(failure.context(format!(
            "{missing} columns of a RAID-5 volume cannot be read"
        ))),
        _ => Ok(Arc::new(Raid5::new(kept, of.chunk))),
    }
}
