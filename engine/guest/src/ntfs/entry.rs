//! A file or folder: its base record and, through the attribute list, all the others.

use super::attribute::{Attribute, Body, FLAG_COMPRESSION_MASK, FLAG_ENCRYPTED, FLAG_SPARSE, kind};
use super::attribute_list::{self, ListEntry};
use super::cluster::Vcn;
use super::compressed::CompressedStream;
use super::mft::{Mft, find_part, list_bytes, name_record};
use super::record::Record;
use super::run_list::RunList;
use super::stream::{Resident, Stream};
use crate::volume::{Extent, ExtentSink, Reading};
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, ReadAt, Result, View};
use std::collections::BTreeSet;
use std::sync::Arc;

/// LZNT1 in the low byte of the flags.
const LZNT1: u16 = 1;

/// A file or folder that is in use.
pub struct Entry {
    /// Number of its base record.
    pub number: u64,
    base: Arc<Record>,
    list: Option<Vec<ListEntry>>,
}

/// An attribute, or a part of one, and the record it lies in.
pub struct Part {
    record: Arc<Record>,
    /// The decoded header.
    pub attribute: Attribute,
}

impl Part {
    /// The value, if it is resident.
    pub fn resident(&self) -> Option<&[u8]> {
        self.record.resident(&self.attribute)
    }
}

impl Entry {
    /// Loads entry `number`.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn_base::Kind::NotFound) if the record is not in use or only extends another,
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it or its attribute list is bad.
    pub fn load(mft: &Mft, number: u64) -> Result<Entry> {
        let base = mft.record(number)?;
        if !base.in_use() {
            return Err(Error::not_found(format!(
                "file record {number} is not in use"
            )));
        }
        if base.base.number != 0 || base.base.sequence != 0 {
            return Err(Error::not_found(format!(
                "file record {number} is a part of file record {}",
                base.base.number
            )));
        }
        let list = load_list(mft, &base).map_err(|error| name_record(error, number))?;
        Ok(Entry { number, base, list })
    }

    /// Says in an error of what was asked of it which record it has.
    pub fn named<T>(&self, asked: Result<T>) -> Result<T> {
        asked.map_err(|error| match error.kind() {
            Kind::Damaged => error.context(format!("file record {}", self.number)),
            _ => error,
        })
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.base.is_folder()
    }

    /// How often its record was given to another file.
    pub fn sequence(&self) -> u16 {
        self.base.sequence
    }

    /// All attributes of type `kind` that `wanted` picks by name and first cluster.
    fn parts(
        &self,
        mft: &Mft,
        kind: u32,
        wanted: impl Fn(&[u16], Vcn) -> bool,
    ) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        let Some(list) = &self.list else {
            for attribute in self.base.of_kind(kind)? {
                if wanted(&attribute.name, first_of(attribute)) {
                    parts.push(Part {
                        record: self.base.clone(),
                        attribute: attribute.clone(),
                    });
                }
            }
            return Ok(parts);
        };
        for entry in list {
            if entry.kind != kind || !wanted(&entry.name, entry.first) {
                continue;
            }
            let record = if entry.record.number == self.number {
                self.base.clone()
            } else {
                mft.extension(entry.record, self.number)?
            };
            let attribute = find_part(&record, entry)?
                .ok_or_else(|| {
                    Error::damaged(format!(
                        "file record {} lacks an attribute that file record {} lists",
                        entry.record.number, self.number
                    ))
                })?
                .clone();
            parts.push(Part { record, attribute });
        }
        Ok(parts)
    }

    /// Refuses an attribute of type `kind` that `wanted` picks by name of which only later parts are there: it must not
    /// look as if there were none.
    fn check_starts(&self, kind: u32, wanted: impl Fn(&[u16]) -> bool) -> Result<()> {
        let (mut starts, mut later) = (BTreeSet::new(), BTreeSet::new());
        for (name, first) in self.places(kind)? {
            match first {
                Vcn(0) => starts.insert(name),
                _ => later.insert(name),
            };
        }
        match later.difference(&starts).find(|name| wanted(name)) {
            Some(_) => Err(Error::damaged("the first part of an attribute is missing")),
            None => Ok(()),
        }
    }

    /// Names and first clusters of the attributes of type `kind` and of their parts.
    fn places(&self, kind: u32) -> Result<Vec<(&[u16], Vcn)>> {
        match &self.list {
            Some(list) => {
                let same = list.iter().filter(|entry| entry.kind == kind);
                Ok(same.map(|entry| (&*entry.name, entry.first)).collect())
            }
            None => {
                let same = self.base.of_kind(kind)?;
                Ok(same.map(|one| (&*one.name, first_of(one))).collect())
            }
        }
    }

    /// The names of the attributes of type `kind`, also of those of which a part is missing; of one in parts more than once.
    pub fn names(&self, kind: u32) -> Result<Vec<&[u16]>> {
        let places = self.places(kind)?.into_iter();
        Ok(places.map(|(name, _)| name).collect())
    }

    /// The attributes of type `kind`, whatever their names; of an attribute in parts the first only.
    pub fn all(&self, mft: &Mft, kind: u32) -> Result<Vec<Part>> {
        self.check_starts(kind, |_| true)?;
        let mut parts = self.parts(mft, kind, |_, first| first == Vcn(0))?;
        parts.retain(|part| part.attribute.is_first());
        Ok(parts)
    }

    /// The attribute of type `kind` called `name`; of one in parts the first.
    pub fn first(&self, mft: &Mft, kind: u32, name: &[u16]) -> Result<Option<Part>> {
        self.check_starts(kind, |other| other == name)?;
        let parts = self.parts(mft, kind, |other, first| other == name && first == Vcn(0))?;
        Ok(parts.into_iter().next())
    }

    /// The content of the attribute of type `kind` called `name`.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for encrypted content and unknown compression.
    pub fn open(&self, mft: &Mft, kind: u32, name: &[u16]) -> Result<Option<Arc<dyn ReadAt>>> {
        let mut parts = self.parts(mft, kind, |other, _| other == name)?;
        parts.sort_by_key(first_cluster);
        let Some(first) = parts.first() else {
            return Ok(None);
        };
        // On a folder's index they only say what new files in it are to be.
        let flags = match kind {
            kind::DATA => first.attribute.flags,
            _ => 0,
        };
        if flags & FLAG_ENCRYPTED != 0 {
            return Err(Error::unsupported("the file is encrypted (EFS)")
                .advise("start the restored disk and open the file in Windows, as its user or with the recovery agent's key"));
        }
        if let Some(value) = first.resident() {
            if parts.len() > 1 {
                return Err(Error::damaged(
                    "an attribute lies in its record and once more elsewhere",
                ));
            }
            return Ok(Some(Arc::new(Resident::new(value.to_vec()))));
        }
        let (runs, sizes, unit) = gather(&mut parts)?;
        let clusters = mft.clusters().clone();
        match flags & FLAG_COMPRESSION_MASK {
            // Without units nothing can be smaller than it is: such a stream is stored plain, whatever it may become.
            method if method == 0 || unit == 0 => Ok(Some(Arc::new(Stream::new(
                clusters,
                runs,
                sizes.data,
                sizes.initialized,
            )))),
            LZNT1 => Ok(Some(Arc::new(CompressedStream::new(
                clusters,
                runs,
                sizes.data,
                sizes.initialized,
                unit,
            )?))),
            other => Err(Error::unsupported(format!(
                "compression method {other} of a file is unknown"
            ))),
        }
    }

    /// Whether clusters are allocated for all of the attribute of type `kind` called `name`, wherever its valid data end,
    /// or it needs none. A unit of a compressed attribute that holds nothing but zeros needs none; in one that is marked
    /// as sparse nothing tells it from a hole.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for impossible runs.
    pub fn is_allocated(&self, mft: &Mft, kind: u32, name: &[u16]) -> Result<bool> {
        let mut parts = self.parts(mft, kind, |other, _| other == name)?;
        parts.sort_by_key(first_cluster);
        let Some(first) = parts.first() else {
            return Ok(true);
        };
        if first.resident().is_some() {
            return Ok(true);
        }
        let flags = first.attribute.flags;
        let (runs, sizes, unit) = gather(&mut parts)?;
        // Without units it is stored plain, as `open` reads it.
        let packed = flags & FLAG_COMPRESSION_MASK != 0 && unit != 0;
        // Compressed data end in a hole: a unit has some if its first cluster has.
        let step = match u32::from(unit) {
            bits if packed => 1u64.checked_shl(bits).unwrap_or(u64::MAX),
            _ => 1,
        };
        let end = sizes.data.div_ceil(mft.clusters().size());
        if packed && flags & FLAG_SPARSE == 0 {
            return Ok(runs.end().0 >= end);
        }
        let mut at = 0u64;
        while at < end {
            match runs.at(Vcn(at)) {
                Some(run) if run.lcn.is_some() => {
                    let behind = at.saturating_add(run.clusters);
                    at = behind.checked_next_multiple_of(step).unwrap_or(u64::MAX);
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The value of the attribute of type `kind` called `name`, where there is a short way to it: it lies in the base record, and all others do too.
    fn value_in_base(&self, kind: u32, name: &[u16]) -> Result<Option<&[u8]>> {
        if self.list.is_some() {
            return Ok(None);
        }
        let first = self.base.of_kind(kind)?.find(|first| first.name == name);
        let plain = first.filter(|first| first.flags & FLAG_ENCRYPTED == 0);
        Ok(plain.and_then(|first| self.base.resident(first)))
    }

    /// Tells `sink` the ranges of the volume in which the attributes of type `kind` lie, one name after the other.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) for impossible runs.
    pub fn extents(&self, mft: &Mft, kind: u32, sink: ExtentSink<'_>) -> Result<()> {
        let clusters = mft.clusters();
        let mut parts = self.parts(mft, kind, |_, _| true)?;
        let order = |part: &Part| (part.attribute.name.clone(), first_cluster(part));
        parts.sort_by_cached_key(order);
        let (mut number, mut name, mut reading) = (0u32, &[][..], Reading::default());
        for part in &parts {
            if part.attribute.name != name {
                number = number.saturating_add(1);
                name = &part.attribute.name;
                reading = Reading::default();
            }
            let Body::NonResident(body) = &part.attribute.body else {
                continue;
            };
            if part.attribute.is_first() {
                reading = part.attribute.reading();
            }
            let mut runs = RunList::new();
            // Parts begin where the one before ended: what is before is a hole of this one.
            if body.first.0 > 0 {
                runs.push(None, body.first.0)?;
            }
            body.append_to(&mut runs, part.record.view())?;
            let mut vcn = Vcn(0);
            while let Some(run) = runs.at(vcn) {
                if let Some(lcn) = run.lcn {
                    let start = clusters.bytes(lcn.0)?;
                    let end = clusters.bytes(lcn.0.saturating_add(run.clusters))?;
                    let extent = Extent {
                        place: start..end,
                        stream: (kind == kind::DATA).then_some(number),
                        offset: clusters.bytes(vcn.0)?,
                        reading,
                    };
                    if sink(extent).is_break() {
                        return Ok(());
                    }
                }
                vcn = Vcn(vcn.0.saturating_add(run.clusters));
            }
        }
        Ok(())
    }

    /// As [`open`](Entry::open), for metadata that is never compressed; says how many runs it holds.
    pub fn stream(&self, mft: &Mft, kind: u32, name: &[u16]) -> Result<Option<Stream>> {
        let mut parts = self.parts(mft, kind, |other, _| other == name)?;
        if parts.is_empty() {
            return Ok(None);
        }
        let (runs, sizes, _) = gather(&mut parts)?;
        let clusters = mft.clusters().clone();
        Ok(Some(Stream::new(
            clusters,
            runs,
            sizes.data,
            sizes.initialized,
        )))
    }

    /// The value of the attribute of type `kind` called `name`, wherever it is stored.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is longer than `limit`.
    pub fn value(&self, mft: &Mft, kind: u32, name: &[u16], limit: u64) -> Result<Option<Vec<u8>>> {
        let check = |size: u64| {
            if size > limit {
                return Err(Error::damaged(format!(
                    "an attribute claims {size} bytes, where {limit} are possible"
                )));
            }
            Ok(())
        };
        if let Some(value) = self.value_in_base(kind, name)? {
            check(to_u64(value.len()))?;
            return Ok(Some(value.to_vec()));
        }
        let Some(content) = self.open(mft, kind, name)? else {
            return Ok(None);
        };
        check(content.size())?;
        let length = usize::try_from(content.size()).unwrap_or(0);
        Ok(Some(read_vec(&content, 0, length)?))
    }
}

fn load_list(mft: &Mft, base: &Record) -> Result<Option<Vec<ListEntry>>> {
    let Some(attribute) = base.of_kind(kind::ATTRIBUTE_LIST)?.next() else {
        return Ok(None);
    };
    let bytes = list_bytes(mft.clusters(), base, attribute)?;
    attribute_list::parse(View::new(&bytes, "attribute list", 0)).map(Some)
}

/// The first cluster of an attribute that a part of it maps.
fn first_cluster(part: &Part) -> Vcn {
    first_of(&part.attribute)
}

fn first_of(attribute: &Attribute) -> Vcn {
    match &attribute.body {
        Body::Resident(_) => Vcn(0),
        Body::NonResident(body) => body.first,
    }
}

/// Joins the run lists of an attribute's parts.
fn gather(parts: &mut [Part]) -> Result<(Arc<RunList>, super::attribute::Sizes, u8)> {
    parts.sort_by_key(first_cluster);
    let mut runs = RunList::new();
    let mut head = None;
    for part in parts.iter() {
        let Body::NonResident(body) = &part.attribute.body else {
            return Err(Error::damaged("a part of an attribute is not in clusters"));
        };
        body.append_to(&mut runs, part.record.view())?;
        if head.is_none() {
            head = Some((body.sizes, body.unit));
        }
    }
    let (sizes, unit) = head.ok_or_else(|| Error::damaged("an attribute has no parts"))?;
    Ok((Arc::new(runs), sizes, unit))
}
