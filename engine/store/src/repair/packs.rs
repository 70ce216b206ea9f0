//! Packs that something is wrong with, one after the other.

use crate::index::{Entry, PackRow};
use crate::layout;
use crate::pack::heal::find_footer;
use crate::pack::{Footer, Healed, PackReader, SealedPack};
use crate::parity::table;
use crate::publish::{publish_lists, publish_replacing};
use crate::read::ChunkReader;
use crate::repair::elsewhere::lies_elsewhere;
use crate::repair::index::reindex;
use crate::repair::mend::{Mender, Patient, Written};
use crate::repair::plan::{self, FramePlan, Known, Want};
use crate::repair::suspects::{self, Fault};
use crate::repair::{RepairReport, Repaired};
use crate::session::Session;
use crate::store::Store;
use cairn_base::error::unless_lost;
use cairn_base::{Error, Kind, Monitor, PackId, Result};
use std::collections::HashSet;
use std::sync::Arc;

/// Packs that are mended before they are published: so much more space is needed.
const BATCH: usize = 16;
/// Packs that may wait to be forgotten; each takes 16 bytes of every state.
const MAX_REPLACED: usize = 1 << 16;

/// Looks at all packs and mends what can be.
///
/// # Errors
/// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; as the folder reports. What was published until then stays.
pub fn mend_all(
    store: &Arc<Store>,
    session: &Session,
    monitor: &dyn Monitor,
    report: &mut RepairReport,
) -> Result<()> {
    let found = suspects::find(store, monitor)?;
    let (unindexed, damaged): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|(_, fault)| *fault == Fault::Unindexed);
    let rows: Vec<PackId> = unindexed.iter().map(|(row, _)| row.id).collect();
    reindex(store, session, &rows, monitor, report)?;
    for batch in damaged.chunks(BATCH) {
        if store.state().replaced.len() + BATCH > MAX_REPLACED {
            report
                .left
                .push("too many packs were replaced at once: repair again".to_string());
            break;
        }
        mend_batch(store, session, monitor, batch, report)?;
    }
    Ok(())
}

/// What becomes public together.
#[derive(Default)]
struct Batch {
    packs: Vec<SealedPack>,
    entries: Vec<Entry>,
    replaced: Vec<PackId>,
    repaired: Vec<Repaired>,
}

fn mend_batch(
    store: &Arc<Store>,
    session: &Session,
    monitor: &dyn Monitor,
    rows: &[(PackRow, Fault)],
    report: &mut RepairReport,
) -> Result<()> {
    let mut open = Vec::new();
    let mut without_table = HashSet::new();
    for (row, fault) in rows {
        let opened = match fault {
            Fault::Unknown => Err(Error::new(
                Kind::Busy,
                "it could not be looked at, or is of another version",
            )),
            _ => Opened::new(store, row),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                report.left.push(unread(store, row.id, &error));
                continue;
            }
        };
        if opened.table.is_none() {
            without_table.insert(row.id);
        }
        open.push((*row, *fault, opened));
    }
    let known = plan::known(store, &without_table);
    let mut mender = Mender::new(store, session, monitor)?;
    // Its own, so that what another place gave a moment ago does not count.
    let reader = ChunkReader::new(store.clone(), 0);
    let mut batch = Batch::default();
    for (row, fault, opened) in open {
        let case = Case {
            store,
            row,
            fault,
            known: &known,
        };
        case.mend(opened, &mut mender, &reader, &mut batch, report)?;
    }
    if batch.packs.is_empty() {
        if !batch.replaced.is_empty() {
            publish_lists(store, &HashSet::new(), &batch.replaced)?;
        }
    } else {
        publish_replacing(store, session, &batch.packs, batch.entries, &batch.replaced)?;
    }
    report.repaired.extend(batch.repaired);
    crate::compact::sweep::sweep_replaced(store)
}

/// Says that a pack cannot be read now, which says nothing of what is in it.
fn unread(store: &Store, id: PackId, error: &Error) -> String {
    let path = store.folder().describe(&layout::pack(id));
    format!("the pack {path} could not be read now and is left as it is: {error}")
}

/// A damaged pack, as far as it can be opened.
struct Opened {
    raw: Option<Arc<dyn cairn_base::ReadAt>>,
    healed: Option<Arc<Healed>>,
    table: Option<PackReader>,
    /// What tells where its table ends, if that is all that is left of it.
    footer: Option<Footer>,
}

impl Opened {
    /// An error if it cannot be read now.
    fn new(store: &Store, row: &PackRow) -> Result<Opened> {
        let (folder, of) = (&**store.folder(), store.header().store);
        let raw = unless_lost(folder.open(&layout::pack(row.id)))?;
        let healed = match &raw {
            Some(file) => unless_lost(Healed::new(file.clone(), of, row.id))?.map(Arc::new),
            None => None,
        };
        let mut table = unless_lost(PackReader::open_headless(folder, of, row.id))?;
        if table.is_none() {
            let healed = unless_lost(PackReader::open_healed(folder, of, row.id))?;
            table = healed.map(|(pack, _)| pack);
        }
        // What is not the pack that the index knows says nothing of it.
        let table = table.filter(|pack| pack.footer().length == row.length);
        let footer = match &raw {
            Some(file) if table.is_none() => unless_lost(find_footer(&**file, of, row.id))?,
            _ => None,
        };
        let footer = footer.filter(|footer| footer.length == row.length);
        Ok(Opened {
            raw,
            healed,
            table,
            footer,
        })
    }
}

/// One damaged pack.
struct Case<'a> {
    store: &'a Arc<Store>,
    row: PackRow,
    fault: Fault,
    known: &'a Known,
}

/// What a pack gives, and what it does not.
struct Found {
    /// Chunks that it gives.
    good: usize,
    /// Those that it does not give.
    not_here: HashSet<[u8; 16]>,
    /// Those of them that no other pack gives either.
    lost: Vec<Want>,
}

impl Case<'_> {
    fn mend(
        &self,
        opened: Opened,
        mender: &mut Mender<'_>,
        reader: &ChunkReader,
        batch: &mut Batch,
        report: &mut RepairReport,
    ) -> Result<()> {
        let row = self.row;
        let has_table = opened.table.is_some();
        let frames = match &opened.table {
            Some(table) => plan::of_toc(table),
            None => {
                let entries = self.known.entries.get(&row.id);
                plan::of_entries(row.id, entries.map_or(&[], |entries| &entries[..]))
            }
        };
        // Packs that go with this batch are nowhere else.
        let going = batch.replaced.clone();
        let elsewhere = |want: &Want| lies_elsewhere(reader, row.kind, want, row.id, &going);
        let all_is_known = if has_table || !self.known.complete {
            Ok(has_table)
        } else {
            self.is_all(&frames, &opened)
        };
        let patient = Patient {
            kind: row.kind,
            raw: opened.raw,
            healed: opened.healed,
            frames,
        };
        let found = all_is_known.and_then(|all_is_known| {
            let found = look(&patient, mender, &elsewhere)?;
            Ok((all_is_known, found))
        });
        let (all_is_known, found) = match found {
            Ok(found) => found,
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => {
                report.left.push(unread(self.store, row.id, &error));
                return Ok(());
            }
        };
        if found.lost.is_empty() && all_is_known {
            return self.replace(&patient, &found, has_table, mender, batch, report);
        }
        report.left.push(self.complain(&found.lost, found.good));
        if self.fault == Fault::Cut {
            // One that cannot be looked for now is copied all the same.
            let keep = |want: &Want| !elsewhere(want).unwrap_or(false);
            self.salvage(&patient, &keep, mender, batch, report)?;
        }
        Ok(())
    }

    /// Whether the index knows all that the pack holds, although its own table is lost. An error if that cannot be read now.
    fn is_all(&self, frames: &[FramePlan], opened: &Opened) -> Result<bool> {
        let Some(ends) = plan::ends(frames) else {
            return Ok(false);
        };
        let percent = self.store.header().parity;
        if opened.raw.is_none() {
            // There is nothing to be taken away, and nobody left to ask.
            return Ok(ends.may_fill(self.row.length, percent));
        }
        if ends.fill(self.row.length) {
            return Ok(true);
        }
        if let Some(footer) = &opened.footer {
            return Ok(ends.are_told_by(footer));
        }
        match (&opened.raw, ends.shape(percent)) {
            (Some(file), Some(shape)) => table::stands_behind(&**file, self.row.id, &shape),
            _ => Ok(false),
        }
    }

    /// Everything good goes into a new pack, and this one goes.
    fn replace(
        &self,
        patient: &Patient,
        found: &Found,
        has_table: bool,
        mender: &mut Mender<'_>,
        batch: &mut Batch,
        report: &mut RepairReport,
    ) -> Result<()> {
        let number = u32::try_from(batch.packs.len()).unwrap_or(u32::MAX);
        let mut lost_now = Vec::new();
        let written = mender.write(patient, &|_| true, number, &mut lost_now)?;
        let failed = match &written {
            Written::Bad(error) => Some(error.to_string()),
            // A disk that is dying may not give again what it gave a moment ago.
            _ => lost_now
                .iter()
                .any(|want| !found.not_here.contains(&want.prefix))
                .then(|| "it could not be read a second time".to_string()),
        };
        if let Some(why) = failed {
            if let Written::Pack(pack, _) = written {
                self.store.folder().remove(&pack.path)?;
            }
            report.left.push(self.say_left(&why));
            return Ok(());
        }
        let new_pack = match &written {
            Written::Pack(pack, _) => Some(pack.id),
            _ => None,
        };
        let sectors = patient.healed.as_ref().map_or(0, |healed| healed.sectors());
        batch.repaired.push(Repaired {
            pack: Some(self.row.id),
            new_pack,
            what: self.describe(found.good, found.not_here.len(), sectors, has_table),
        });
        batch.add(written);
        batch.replaced.push(self.row.id);
        Ok(())
    }

    /// Look-ups do not answer a pack that was cut short: what is left of it needs a new place.
    fn salvage(
        &self,
        patient: &Patient,
        keep: &dyn Fn(&Want) -> bool,
        mender: &mut Mender<'_>,
        batch: &mut Batch,
        report: &mut RepairReport,
    ) -> Result<()> {
        let number = u32::try_from(batch.packs.len()).unwrap_or(u32::MAX);
        let written = mender.write(patient, keep, number, &mut Vec::new())?;
        match &written {
            Written::Nothing => {}
            Written::Bad(error) => {
                let why = format!("what is left of it could not be copied: {error}");
                report.left.push(self.say_left(&why));
            }
            Written::Pack(pack, _) => batch.repaired.push(Repaired {
                pack: Some(self.row.id),
                new_pack: Some(pack.id),
                what: format!(
                    "what is left of the pack {} was copied; the rest of it is lost",
                    self.path()
                ),
            }),
        }
        batch.add(written);
        Ok(())
    }

    fn say_left(&self, why: &str) -> String {
        format!("the pack {} is left as it is: {why}", self.path())
    }

    fn path(&self) -> String {
        self.store.folder().describe(&layout::pack(self.row.id))
    }

    fn describe(&self, good: usize, bad: usize, sectors: usize, has_table: bool) -> String {
        let path = self.path();
        let mut what = match (self.fault, good) {
            (_, 0) => format!("the pack {path} is not needed any more"),
            _ => format!("the pack {path} was written anew: {good} chunks"),
        };
        if sectors > 0 {
            what.push_str(&format!(", {sectors} sectors restored from parity"));
        }
        if bad > 0 {
            what.push_str(&format!(", {bad} more lie in other packs"));
        }
        if !has_table && good > 0 {
            what.push_str(", by what the index says of it");
        }
        what
    }

    fn complain(&self, lost: &[Want], good: usize) -> String {
        let path = self.path();
        if lost.is_empty() {
            return self.say_left(&format!(
                "neither it nor the index says for sure what was in it ({good} chunks are good)"
            ));
        }
        format!(
            "{} chunks of the pack {path} cannot be restored ({good} are good): it is left as it is",
            lost.len()
        )
    }
}

/// What of a pack is good, and what of the rest another one gives. An error if something cannot be read now.
fn look(
    patient: &Patient,
    mender: &mut Mender<'_>,
    elsewhere: &dyn Fn(&Want) -> Result<bool>,
) -> Result<Found> {
    let (bad, good) = mender.survey(patient)?;
    let mut found = Found {
        good,
        not_here: bad.iter().map(|want| want.prefix).collect(),
        lost: Vec::new(),
    };
    for want in bad {
        if !elsewhere(&want)? {
            found.lost.push(want);
        }
    }
    Ok(found)
}

impl Batch {
    fn add(&mut self, written: Written) {
        if let Written::Pack(pack, entries) = written {
            self.packs.push(pack);
            self.entries.extend(entries);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{BackupOptions, DiskInput, backup};
    use crate::cut::CutParameters;
    use crate::point::ImageFacts;
    use crate::session::SessionKind;
    use cairn_base::{Error, Folder, Kind, LocalFolder, ReadAt, Silent, SystemClock};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A disk that dies after so many reads.
    struct Dying(Arc<dyn ReadAt>, AtomicUsize);

    impl ReadAt for Dying {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
            let left = self.1.load(Ordering::Relaxed);
            if left == 0 {
                return Err(Error::new(Kind::Io, "the disk is dead"));
            }
            self.1.store(left - 1, Ordering::Relaxed);
            self.0.read_exact_at(offset, buffer)
        }
    }

    #[test]
    fn a_pack_that_cannot_be_read_a_second_time_is_not_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let folder: Arc<dyn Folder> = Arc::new(LocalFolder::new(temp.path()));
        let cut = CutParameters::default();
        let store = Arc::new(Store::create(folder.clone(), cut, &SystemClock).unwrap());
        let mut bytes = vec![0; 3 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let disk = DiskInput {
            name: "disk0".to_string(),
            source: Arc::new(bytes),
            facts: ImageFacts::default(),
            changed: None,
            changes: None,
        };
        backup(
            &store,
            &[disk],
            &BackupOptions::new("m"),
            &Silent,
            &SystemClock,
        )
        .unwrap();
        let row = store
            .live_packs()
            .into_iter()
            .max_by_key(|row| row.length)
            .unwrap();
        let session = Session::begin(folder, SessionKind::Write, &[]).unwrap();
        let known = plan::known(&store, &HashSet::new());
        let frames = Opened::new(&store, &row)
            .unwrap()
            .table
            .unwrap()
            .toc()
            .frames
            .len();
        assert!(frames > 8);
        // Dead from the start, in the middle of the second reading, and not at all.
        for (reads, replaced) in [
            (frames, false),
            (frames + frames / 2, false),
            (2 * frames, true),
        ] {
            let mut opened = Opened::new(&store, &row).unwrap();
            let file = opened.raw.take().unwrap();
            opened.raw = Some(Arc::new(Dying(file, AtomicUsize::new(reads))));
            opened.healed = None;
            let mut mender = Mender::new(&store, &session, &Silent).unwrap();
            let reader = ChunkReader::new(store.clone(), 0);
            let (mut batch, mut report) = (Batch::default(), RepairReport::default());
            let fault = Fault::Damaged;
            let case = Case {
                store: &store,
                row,
                fault,
                known: &known,
            };
            case.mend(opened, &mut mender, &reader, &mut batch, &mut report)
                .unwrap();
            assert_eq!(batch.replaced.contains(&row.id), replaced, "{reads}");
            assert_eq!(
                (batch.packs.len(), report.left.len()),
                if replaced { (1, 0) } else { (0, 1) }
            );
        }
    }
}
