//! `$MFT`, the table of file records, found through its own first record.

use super::attribute::{Attribute, Body, kind};
use super::attribute_list::{self, ListEntry};
use super::boot_sector::BootSector;
use super::cache::Cache;
use super::cluster::{Clusters, Vcn};
use super::passing::is_passing;
use super::record::{Record, Reference};
use super::run_list::RunList;
use super::stream::Stream;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, ReadAt, Result, View};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes of the table that are read at once where nothing near was asked for lately.
const PIECE: u64 = 4 << 10;
/// Bytes of the table that are read at once where something near was: a power of two, and no record is longer.
const WINDOW: u64 = 128 << 10;
/// Bytes of the table that are asked for ahead where one window follows the other.
const AHEAD: u64 = 1 << 20;
/// Memory for pieces, windows and decoded records, in bytes, and how many locks each of these has.
const PIECES: (usize, usize) = (1 << 20, 4);
const WINDOWS: (usize, usize) = (8 << 20, 2);
const RECORDS: (usize, usize) = (8 << 20, 16);
/// Windows that are remembered as asked for once.
const TOUCHED: usize = 16;
/// Records that `$MFTMirr` repeats at least.
const MIRRORED: u64 = 4;

/// The file table.
pub struct Mft {
    clusters: Clusters,
    data: Stream,
    record_size: u64,
    mirror: Option<u64>,
    pieces: Cache<u64, Arc<Vec<u8>>>,
    /// None: it has a part that cannot be read.
    windows: Cache<u64, Option<Arc<Vec<u8>>>>,
    touched: Touched,
    records: Cache<u64, Arc<Record>>,
    mirror_used: AtomicBool,
    /// The table's own first record does not lead to the table.
    first_is_bad: bool,
    is_whole: bool,
}

/// The table as one of its first records leads to it.
struct Located {
    data: Stream,
    /// Clusters of all of it are known.
    is_whole: bool,
}

impl Mft {
    /// Finds the table.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if neither it nor the mirror has a first record that leads to
    /// it; what passes, as the disk reports it.
    pub fn open(clusters: Clusters, boot: &BootSector) -> Result<Mft> {
        let record_size = u64::from(boot.record_size);
        let mirror = clusters.bytes(boot.mirror.0).ok().filter(|&at| at > 0);
        let find = |at: u64| {
            let first = first_record(read_record(&clusters, at, record_size)?)?;
            locate(&clusters, record_size, &first)
                .map_err(|error| error.context("cannot find the file table"))
        };
        let (located, mirror_used) = match (clusters.bytes(boot.mft.0).and_then(find), mirror) {
            (Ok(located), _) if located.is_whole => (located, false),
            (Err(error), _) if is_passing(&error) => return Err(error),
            (primary, None) => (primary?, false),
            (primary, Some(at)) => match find(at) {
                Ok(copy) if copy.is_whole || primary.is_err() => (copy, true),
                Err(error) if is_passing(&error) => return Err(error),
                _ => (primary?, false),
            },
        };
        Ok(Mft {
            clusters,
            data: located.data,
            record_size,
            mirror,
            pieces: Cache::new(PIECES.0, PIECES.1),
            windows: Cache::new(WINDOWS.0, WINDOWS.1),
            touched: Touched::new(),
            records: Cache::new(RECORDS.0, RECORDS.1),
            mirror_used: AtomicBool::new(mirror_used),
            first_is_bad: mirror_used,
            is_whole: located.is_whole,
        })
    }

    /// The volume's clusters.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// Number of records, used or not.
    fn records(&self) -> u64 {
        self.data.size().checked_div(self.record_size).unwrap_or(0)
    }

    /// The most records that there can be on the device: the table's size is only what it says.
    pub fn possible_records(&self) -> u64 {
        let room = self.clusters.device_size().checked_div(self.record_size);
        self.records().min(room.unwrap_or(0))
    }

    /// Whether the clusters of all records are known.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether a record was taken from `$MFTMirr` because the table's own is bad.
    pub fn mirror_used(&self) -> bool {
        self.mirror_used.load(Ordering::Relaxed)
    }

    /// Record `number`, used or not.
    ///
    /// # Errors
    /// [`Kind::NotFound`](cairn_base::Kind::NotFound) beyond the end of the table and for a record that was never
    /// used, [`Kind::Damaged`](cairn_base::Kind::Damaged) for a bad one.
    pub fn record(&self, number: u64) -> Result<Arc<Record>> {
        if let Some(record) = self.records.get(&number) {
            return Ok(record);
        }
        let own = match number {
            0 if self.first_is_bad => Err(Error::damaged(
                "the file table's first record does not lead to the table",
            )),
            _ => self.fetch(number),
        };
        let record = match (own, self.mirror) {
            (Ok(record), _) => record,
            (Err(error), Some(mirror)) if number < MIRRORED && !is_passing(&error) => {
                let at = mirror.saturating_add(number.saturating_mul(self.record_size));
                let copy = read_record(&self.clusters, at, self.record_size);
                let copy = copy.map_err(|other| if is_passing(&other) { other } else { error })?;
                self.mirror_used.store(true, Ordering::Relaxed);
                copy
            }
            (Err(error), _) => return Err(error),
        };
        let record = Arc::new(record);
        self.records.insert(number, record.clone(), record.weight());
        Ok(record)
    }

    fn fetch(&self, number: u64) -> Result<Record> {
        if number >= self.records() {
            return Err(Error::not_found(format!(
                "there is no file record {number}"
            )));
        }
        let offset = number.saturating_mul(self.record_size);
        let length = usize::try_from(self.record_size).unwrap_or(usize::MAX);
        let bytes = match self.with_neighbours(offset, length) {
            Some(bytes) => bytes,
            // Something near cannot be read: this record is tried by itself.
            None => read_vec(&self.data, offset, length)?,
        };
        Record::parse(bytes, offset)
            .and_then(|record| record.check_number(number))
            .map_err(|error| name_record(error, number))
    }

    /// `length` bytes at `offset` of the table, read together with those near; nothing if these cannot be read.
    ///
    /// Who walks a volume asks for one record after the other, or nearly so: the second time that one window is asked for it is read as a whole. Who looks
    /// here and there pays for a page.
    fn with_neighbours(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let number = offset / WINDOW;
        match self.windows.get(&number) {
            Some(Some(window)) => return part(&window, offset % WINDOW, length),
            Some(None) => {}
            None if self.touched.again(number) => {
                if let Some(window) = self.read_window(number) {
                    return part(&window, offset % WINDOW, length);
                }
            }
            None => {}
        }
        let size = PIECE.max(self.record_size);
        let number = offset.checked_div(size)?;
        let start = number.saturating_mul(size);
        let within = offset.saturating_sub(start);
        if let Some(piece) = self.pieces.get(&number) {
            return part(&piece, within, length);
        }
        let piece = Arc::new(self.read(start, size).ok()?);
        self.pieces.insert(number, piece.clone(), piece.len());
        part(&piece, within, length)
    }

    fn read_window(&self, number: u64) -> Option<Arc<Vec<u8>>> {
        let start = number.saturating_mul(WINDOW);
        // Who comes from the window before is likely to go on to the next ones.
        let before = number.checked_sub(1);
        if before.is_some_and(|before| self.windows.get(&before).is_some()) {
            let end = start.saturating_add(WINDOW);
            self.data.will_need(end..end.saturating_add(AHEAD));
        }
        let window = match self.read(start, WINDOW) {
            Ok(window) => Some(Arc::new(window)),
            Err(error) if is_passing(&error) => return None,
            Err(_) => None,
        };
        let bytes = window.as_ref().map_or(0, |window| window.len());
        self.windows.insert(number, window.clone(), bytes);
        window
    }

    /// `length` bytes of the table from `start` on, fewer at its end.
    fn read(&self, start: u64, length: u64) -> Result<Vec<u8>> {
        let length = length.min(self.data.size().saturating_sub(start));
        read_vec(
            &self.data,
            start,
            usize::try_from(length).unwrap_or(usize::MAX),
        )
    }

    /// Record `reference`, which must be in use and extend record `base` (or stand for itself if nothing).
    ///
    /// # Errors
    /// As [`record`](Mft::record); [`Kind::Damaged`](cairn_base::Kind::Damaged) if it was never used, or now belongs
    /// to another file.
    pub fn extension(&self, reference: Reference, base: u64) -> Result<Arc<Record>> {
        let record = self
            .record(reference.number)
            .map_err(|error| match error.kind() {
                Kind::NotFound => {
                    Error::damaged(format!("a part of file record {base} is missing"))
                        .caused_by(error)
                }
                _ => error.context(format!("a part of file record {base} cannot be read")),
            })?;
        check_extension(&record, reference, base)?;
        Ok(record)
    }
}

/// Which windows were asked for lately; one that is forgotten costs time only.
struct Touched([AtomicU64; TOUCHED]);

impl Touched {
    fn new() -> Touched {
        Touched(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Whether `window` was asked for before. From now on it was.
    fn again(&self, window: u64) -> bool {
        let slots = to_u64(TOUCHED);
        let slot = window.checked_rem(slots).unwrap_or(0);
        let slot = usize::try_from(slot).ok().and_then(|at| self.0.get(at));
        // 0 is nothing.
        let mark = window.saturating_add(1);
        slot.is_some_and(|slot| slot.swap(mark, Ordering::Relaxed) == mark)
    }
}

fn part(bytes: &[u8], offset: u64, length: usize) -> Option<Vec<u8>> {
    let start = usize::try_from(offset).ok()?;
    let part = bytes.get(start..start.checked_add(length)?)?;
    Some(part.to_vec())
}

/// Says in an error which record it is of, unless that is not there at all.
pub fn name_record(error: Error, number: u64) -> Error {
    match error.kind() {
        Kind::NotFound => error,
        _ => error.context(format!("file record {number}")),
    }
}

fn check_extension(record: &Record, reference: Reference, base: u64) -> Result<()> {
    let right_age = reference.sequence == 0 || reference.sequence == record.sequence;
    // Record 0 has extensions too, and most records have no base, which is written as 0.
    let extends = record.base.number == base && (base != 0 || record.base.sequence != 0);
    let owned = reference.number == base || extends;
    if record.in_use() && right_age && owned {
        return Ok(());
    }
    Err(Error::damaged(format!(
        "file record {} does not belong to file record {base}, which says so",
        reference.number
    )))
}

fn read_record(clusters: &Clusters, offset: u64, size: u64) -> Result<Record> {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    clusters.read(offset, &mut bytes)?;
    Record::parse(bytes, offset)
}

/// Refuses what cannot be the first record of a table.
fn first_record(record: Record) -> Result<Record> {
    if !record.in_use() || record.of_kind(kind::DATA)?.next().is_none() {
        return Err(Error::damaged(
            "the file table's first record has no content",
        ));
    }
    Ok(record)
}

/// Follows the table's own run list; its later parts may lie in records that its earlier parts lead to.
fn locate(clusters: &Clusters, record_size: u64, first: &Record) -> Result<Located> {
    let mut runs = RunList::new();
    let mut sizes = None;
    for attribute in first.of_kind(kind::DATA)? {
        if let Body::NonResident(body) = &attribute.body
            && attribute.name.is_empty()
            && body.first == Vcn(0)
        {
            body.append_to(&mut runs, first.view())?;
            sizes = Some(body.sizes);
        }
    }
    let sizes = sizes.ok_or_else(|| Error::damaged("the file table has no clusters"))?;
    for entry in own_list(clusters, first)? {
        if entry.kind != kind::DATA || !entry.name.is_empty() || entry.first == Vcn(0) {
            continue;
        }
        let offset = entry.record.number.saturating_mul(record_size);
        let mut bytes = vec![0; usize::try_from(record_size).unwrap_or(0)];
        clusters.read_runs(&runs, offset, &mut bytes)?;
        let record = Record::parse(bytes, offset)?;
        check_extension(&record, entry.record, 0)?;
        let part = find_part(&record, &entry)?
            .ok_or_else(|| Error::damaged("a part of the file table's run list is missing"))?;
        if let Body::NonResident(body) = &part.body {
            body.append_to(&mut runs, record.view())?;
        }
    }
    // Where clusters are missing a read fails: what lies there is lost, which is not the same as never used.
    let is_whole = clusters.bytes(runs.end().0)? >= sizes.data;
    let (clusters, runs) = (clusters.clone(), Arc::new(runs));
    Ok(Located {
        data: Stream::new(clusters, runs, sizes.data, sizes.initialized),
        is_whole,
    })
}

/// The attribute list of the table itself, in the order of its clusters.
fn own_list(clusters: &Clusters, first: &Record) -> Result<Vec<ListEntry>> {
    let Some(attribute) = first.of_kind(kind::ATTRIBUTE_LIST)?.next() else {
        return Ok(Vec::new());
    };
    let bytes = list_bytes(clusters, first, attribute)?;
    let mut list = attribute_list::parse(View::new(&bytes, "attribute list", 0))?;
    list.sort_by_key(|entry| entry.first);
    Ok(list)
}

/// The bytes of the attribute list `attribute` of `record`.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is longer than any list is.
pub fn list_bytes(clusters: &Clusters, record: &Record, attribute: &Attribute) -> Result<Vec<u8>> {
    match &attribute.body {
        Body::Resident(_) => Ok(record.resident(attribute).unwrap_or_default().to_vec()),
        Body::NonResident(body) => {
            if body.sizes.data > attribute_list::MAX_BYTES {
                return Err(Error::damaged("an attribute list is longer than 256 KiB"));
            }
            let mut runs = RunList::new();
            body.append_to(&mut runs, record.view())?;
            let sizes = body.sizes;
            let stream = Stream::new(
                clusters.clone(),
                Arc::new(runs),
                sizes.data,
                sizes.initialized,
            );
            read_vec(&stream, 0, usize::try_from(sizes.data).unwrap_or(0))
        }
    }
}

/// The attribute of `record` that `entry` of an attribute list means.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if attributes of the record are lost.
pub fn find_part<'a>(record: &'a Record, entry: &ListEntry) -> Result<Option<&'a Attribute>> {
    let mut same = record.of_kind(entry.kind)?.filter(|attribute| {
        let first = match &attribute.body {
            Body::Resident(_) => Vcn(0),
            Body::NonResident(body) => body.first,
        };
        attribute.name == entry.name && first == entry.first
    });
    let Some(found) = same.next() else {
        return Ok(None);
    };
    if found.id == entry.id {
        return Ok(Some(found));
    }
    // Names have no other difference than their ids.
    Ok(Some(
        same.find(|attribute| attribute.id == entry.id)
            .unwrap_or(found),
    ))
}
