//! What a record of the database says: volumes, components (plexes), partitions (extents) and disks (page VBLK).

use super::guid::Guid;
use cairn_base::units::to_u64;
use cairn_base::{Result, View};
use std::collections::BTreeSet;

/// Bytes of a sector in records.
const SECTOR: u64 = 512;

/// All records of a database that count, each sort by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// Volumes.
    pub volumes: Vec<VolumeRecord>,
    /// What volumes are made of: one each, or several of a mirrored one.
    pub components: Vec<ComponentRecord>,
    /// What components are made of.
    pub partitions: Vec<PartitionRecord>,
    /// Disks of the group, those that are missing too.
    pub disks: Vec<DiskRecord>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Its number in the database; no other record has it.
    pub id: u64,
    /// `Volume1`, `Stripe1`, ...
    pub name: String,
    /// `ACTIVE`, as a rule.
    pub state: String,
    /// How many components it has.
    pub components: u64,
    /// Bytes.
    pub size: u64,
    /// What it holds, as the type of a DOS partition would say it: 7 is NTFS.
    pub partition_type: u8,
    /// Its GUID.
    pub guid: Guid,
    /// The drive letter that it had when it was last mounted (`D:`); empty if none.
    pub hint: String,
}

/// How a component puts its partitions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// In turns.
    Striped,
    /// One behind the other.
    Concatenated,
    /// In turns, with parity.
    Raid5,
}

/// A component: a whole copy of its volume's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentRecord {
    /// Its number in the database.
    pub id: u64,
    /// `Volume1-01`, ...
    pub name: String,
    /// `ACTIVE`, unless something is wrong with it.
    pub state: String,
    /// How it puts its partitions together.
    pub layout: Layout,
    /// 0x2: to be brought up to date; 0x4: an access failed; 0x8: not made yet.
    pub flags: u32,
    /// How many partitions it has.
    pub partitions: u64,
    /// The volume's number.
    pub volume: u64,
    /// Bytes that go to one column before the next one's turn; 0 if concatenated.
    pub chunk: u64,
    /// How many columns; 0 if concatenated.
    pub columns: u64,
}

/// A partition of a disk in a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRecord {
    /// Its number in the database.
    pub id: u64,
    /// `Disk1-01`, ...
    pub name: String,
    /// 0x8: to be brought up to date; 0x10: taken out of use.
    pub flags: u32,
    /// Bytes from the start of the disk's data.
    pub start: u64,
    /// Where it begins in its column, in bytes.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// The component's number.
    pub component: u64,
    /// The disk's number in the database.
    pub disk: u64,
    /// Which column it belongs to, from 0.
    pub column: u64,
}

/// A disk of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRecord {
    /// Its number in the database.
    pub id: u64,
    /// `Disk1`, ...
    pub name: String,
    /// As its private header says it.
    pub guid: Guid,
}

/// A record.
pub(super) enum Record {
    Volume(VolumeRecord),
    Component(ComponentRecord),
    Partition(PartitionRecord),
    Disk(DiskRecord),
    /// Of the group, or of no consequence: empty.
    Other,
    /// Of a kind or revision that is not known.
    Unknown(u8),
}

/// Update status of records, in their first two bytes.
pub(super) mod status {
    /// Counts until the transaction that is under way is committed.
    pub const GOING: u16 = 1;
    /// Counts from then on.
    pub const COMING: u16 = 2;
}

/// Reads the fields of a record one after the other.
struct Fields<'a> {
    view: View<'a>,
    at: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let bytes = self.view.slice(self.at, length)?;
        self.at = self.at.saturating_add(length);
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = self.view.u8(self.at)?;
        self.at = self.at.saturating_add(1);
        Ok(byte)
    }

    fn long(&mut self) -> Result<u32> {
        let number = self.view.u32_be(self.at)?;
        self.at = self.at.saturating_add(4);
        Ok(number)
    }

    /// Eight bytes that say how many sectors, as bytes.
    fn place(&mut self) -> Result<u64> {
        let sectors = self.view.u64_be(self.at)?;
        let bytes = self.bytes(sectors)?;
        self.at = self.at.saturating_add(8);
        Ok(bytes)
    }

    fn bytes(&self, sectors: u64) -> Result<u64> {
        let bytes = sectors.checked_mul(SECTOR);
        bytes.ok_or_else(|| self.view.damaged(self.at, "is larger than any disk"))
    }

    /// A byte that says how many follow.
    fn counted(&mut self) -> Result<&'a [u8]> {
        let length = self.byte()?;
        self.take(usize::from(length))
    }

    fn number(&mut self) -> Result<u64> {
        let at = self.at;
        let bytes = self.counted()?;
        if bytes.len() > 8 {
            return Err(self.view.damaged(at, "a number of more than 8 bytes"));
        }
        let add = |number: u64, &byte: &u8| number.wrapping_shl(8) | u64::from(byte);
        Ok(bytes.iter().fold(0, add))
    }

    fn sectors(&mut self) -> Result<u64> {
        let sectors = self.number()?;
        self.bytes(sectors)
    }

    fn text(&mut self) -> Result<String> {
        Ok(super::head::tame(self.counted()?))
    }

    fn guid(&mut self) -> Result<Guid> {
        let guid = self.view.array(self.at)?;
        self.at = self.at.saturating_add(16);
        Ok(Guid(guid))
    }
}

/// The record in `bytes`, which lay at `at` of the disk, with its update status.
pub(super) fn parse(bytes: &[u8], at: u64) -> Result<(u16, Record)> {
    let view = View::new(bytes, "record of the LDM database", at);
    let status = view.u16_be(0)?;
    let (flags, kind) = (view.u8(2)?, view.u8(3)?);
    let length = usize::try_from(view.u32_be(4)?).unwrap_or(usize::MAX);
    let mut fields = Fields { view, at: 8 };
    let record = match kind {
        0x51 => Record::Volume(volume(&mut fields, flags)?),
        0x32 => match component(&mut fields, flags)? {
            Some(component) => Record::Component(component),
            None => Record::Unknown(kind),
        },
        0x33 => Record::Partition(partition(&mut fields, flags)?),
        0x34 | 0x44 => Record::Disk(disk(&mut fields, kind)?),
        0x35 | 0x45 => Record::Other,
        _ if kind & 0x0f == 0 => Record::Other,
        _ => Record::Unknown(kind),
    };
    // Its fields say their lengths themselves. Where these are damaged they lead beyond the length that the record says it has.
    if fields.at > length.saturating_add(8) {
        return Err(view.damaged(4, "its fields are longer than it says"));
    }
    Ok((status, record))
}

fn volume(fields: &mut Fields<'_>, flags: u8) -> Result<VolumeRecord> {
    let (id, name) = (fields.number()?, fields.text()?);
    // Its sort in words; whether it wants no drive letter.
    fields.counted()?;
    fields.counted()?;
    let state = super::head::text(fields.take(14)?);
    // How it is read, its number for the kernel, flags.
    fields.take(7)?;
    let components = fields.number()?;
    // Ids of transactions.
    fields.take(16)?;
    let size = fields.sectors()?;
    fields.take(4)?;
    let partition_type = fields.byte()?;
    let guid = fields.guid()?;
    for flag in [0x08, 0x20, 0x80] {
        if flags & flag != 0 {
            fields.counted()?;
        }
    }
    let hint = if flags & 0x02 != 0 {
        fields.text()?
    } else {
        String::new()
    };
    Ok(VolumeRecord {
        id,
        name,
        state,
        components,
        size,
        partition_type,
        guid,
        hint,
    })
}

/// `None` if its layout is not known.
fn component(fields: &mut Fields<'_>, flags: u8) -> Result<Option<ComponentRecord>> {
    let (id, name, state) = (fields.number()?, fields.text()?, fields.text()?);
    let layout = match fields.byte()? {
        1 => Layout::Striped,
        2 => Layout::Concatenated,
        3 => Layout::Raid5,
        _ => return Ok(None),
    };
    let state_flags = fields.long()?;
    let partitions = fields.number()?;
    // Ids of transactions.
    fields.take(16)?;
    let volume = fields.number()?;
    // Where its log is.
    fields.counted()?;
    let (chunk, columns) = if flags & 0x10 != 0 {
        (fields.sectors()?, fields.number()?)
    } else {
        (0, 0)
    };
    Ok(Some(ComponentRecord {
        id,
        name,
        state,
        layout,
        flags: state_flags,
        partitions,
        volume,
        chunk,
        columns,
    }))
}

fn partition(fields: &mut Fields<'_>, flags: u8) -> Result<PartitionRecord> {
    let (id, name) = (fields.number()?, fields.text()?);
    let state_flags = fields.long()?;
    // The id of a transaction.
    fields.take(8)?;
    Ok(PartitionRecord {
        id,
        name,
        flags: state_flags,
        start: fields.place()?,
        offset: fields.place()?,
        size: fields.sectors()?,
        component: fields.number()?,
        disk: fields.number()?,
        column: if flags & 0x08 != 0 {
            fields.number()?
        } else {
            0
        },
    })
}

fn disk(fields: &mut Fields<'_>, kind: u8) -> Result<DiskRecord> {
    let (id, name) = (fields.number()?, fields.text()?);
    let guid = if kind == 0x44 {
        fields.guid()?
    } else {
        let at = fields.at;
        let text = super::head::text(fields.counted()?);
        let found = Guid::of_text(&text);
        found.ok_or_else(|| fields.view.damaged(at, "the id of a disk is none"))?
    };
    Ok(DiskRecord { id, name, guid })
}

impl Configuration {
    /// How many records it has of each sort: volumes, components, partitions, disks.
    pub(super) fn counts(&self) -> [u64; 4] {
        [
            to_u64(self.volumes.len()),
            to_u64(self.components.len()),
            to_u64(self.partitions.len()),
            to_u64(self.disks.len()),
        ]
    }

    pub(super) fn add(&mut self, record: Record) {
        match record {
            Record::Volume(volume) => self.volumes.push(volume),
            Record::Component(component) => self.components.push(component),
            Record::Partition(partition) => self.partitions.push(partition),
            Record::Disk(disk) => self.disks.push(disk),
            Record::Other | Record::Unknown(_) => {}
        }
    }

    /// Sorts by id. Of records with one id none stays, unless they say the same: which of them is right is told by nothing. Whether all stayed.
    pub(super) fn put_in_order(&mut self) -> bool {
        let found = self.counts();
        unique(&mut self.volumes, |record| record.id);
        unique(&mut self.components, |record| record.id);
        unique(&mut self.partitions, |record| record.id);
        unique(&mut self.disks, |record| record.id);
        self.counts() == found
    }

    /// Leaves no more than `most` volumes, counting those of which only components are there; those with the lowest numbers first. Whether all stayed.
    pub(super) fn limit(&mut self, most: usize) -> bool {
        let found = self.counts();
        self.volumes.truncate(most);
        let mut kept: BTreeSet<u64> = self.volumes.iter().map(|record| record.id).collect();
        self.components.retain(|record| {
            let is_kept = kept.contains(&record.volume) || kept.len() < most;
            if is_kept {
                kept.insert(record.volume);
            }
            is_kept
        });
        self.counts() == found
    }
}

/// Sorts records, and drops those whose id is that of another one that says something else.
fn unique<T: PartialEq>(records: &mut Vec<T>, id: impl Fn(&T) -> u64) {
    records.sort_by_key(&id);
    records.dedup();
    let mut repeated = BTreeSet::new();
    let pairs = records.iter().zip(records.iter().skip(1));
    for (record, next) in pairs.filter(|(record, next)| id(record) == id(next)) {
        repeated.insert(id(record));
        repeated.insert(id(next));
    }
    records.retain(|record| !repeated.contains(&id(record)));
}
