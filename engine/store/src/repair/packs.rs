//! Packs that something is wrong with, one after the other.

use crate::index::{Entry, PackRow};
use crate::layout;
use crate::pack::{Healed, PackReader, SealedPack};
use crate::publish::{publish_lists, publish_replacing};
use crate::read::ChunkReader;
use crate::repair::elsewhere::lies_elsewhere;
use crate::repair::index::reindex;
use crate::repair::mend::{Mender, Patient};
use crate::repair::plan::{self, Known, Want};
use crate::repair::suspects::{self, Fault};
use crate::repair::{RepairReport, Repaired};
use crate::session::Session;
use crate::store::Store;
use cairn_base::{Monitor, PackId, Result};
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
        if *fault == Fault::Unknown {
            let path = store.folder().describe(&layout::pack(row.id));
            report.left.push(format!(
                "the pack {path} cannot be looked at: it is left as it is"
            ));
            continue;
        }
        let opened = Opened::new(store, row);
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

/// A damaged pack, as far as it can be opened.
struct Opened {
    raw: Option<Arc<dyn cairn_base::ReadAt>>,
    healed: Option<Arc<Healed>>,
    table: Option<PackReader>,
}

impl Opened {
    fn new(store: &Store, row: &PackRow) -> Opened {
        let (folder, of) = (&**store.folder(), store.header().store);
        let raw = folder.open(&layout::pack(row.id)).ok();
        let healed = raw
            .clone()
            .and_then(|file| Healed::new(file, of, row.id).ok())
            .map(Arc::new);
        let table = PackReader::open_headless(folder, of, row.id)
            .or_else(|_| PackReader::open_healed(folder, of, row.id).map(|(pack, _)| pack));
        // What is not the pack that the index knows says nothing of it.
        let fits = |pack: &PackReader| pack.footer().length == row.length;
        let table = table.ok().filter(fits);
        Opened { raw, healed, table }
    }
}

/// One damaged pack.
struct Case<'a> {
    store: &'a Arc<Store>,
    row: PackRow,
    fault: Fault,
    known: &'a Known,
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
        let all_is_known = has_table
            || self.known.complete
                && (self.fault == Fault::Gone
                    || plan::is_all(&frames, row.length, self.store.header().parity));
        let patient = Patient {
            kind: row.kind,
            raw: opened.raw,
            healed: opened.healed,
            frames,
        };
        let (mut lost, good) = mender.survey(&patient)?;
        let bad = lost.len();
        let not_here: HashSet<[u8; 16]> = lost.iter().map(|want| want.prefix).collect();
        // Packs that go with this batch are nowhere else.
        let going = batch.replaced.clone();
        let elsewhere = |want: &Want| lies_elsewhere(reader, row.kind, want, row.id, &going);
        lost.retain(|want| !elsewhere(want));
        let number = u32::try_from(batch.packs.len()).unwrap_or(u32::MAX);
        if lost.is_empty() && all_is_known {
            let mut lost_now = Vec::new();
            let written = mender.write(&patient, &|_| true, number, &mut lost_now)?;
            // A disk that is dying may not give again what it gave a moment ago.
            if lost_now.iter().any(|want| !not_here.contains(&want.prefix)) {
                report.left.push(format!(
                    "the pack {} could not be read a second time: it is left as it is",
                    self.path()
                ));
                return Ok(());
            }
            let sectors = patient.healed.as_ref().map_or(0, |healed| healed.sectors());
            let new_pack = written.as_ref().map(|(pack, _)| pack.id);
            batch.repaired.push(Repaired {
                pack: Some(row.id),
                new_pack,
                what: self.describe(good, bad, sectors, has_table),
            });
            batch.add(written);
            batch.replaced.push(row.id);
            return Ok(());
        }
        report.left.push(self.complain(&lost, good));
        if self.fault == Fault::Cut {
            let keep = |want: &Want| !elsewhere(want);
            self.salvage(&patient, &keep, mender, batch)?;
        }
        Ok(())
    }

    /// Look-ups do not answer a pack that was cut short: what is left of it needs a new place.
    fn salvage(
        &self,
        patient: &Patient,
        keep: &dyn Fn(&Want) -> bool,
        mender: &mut Mender<'_>,
        batch: &mut Batch,
    ) -> Result<()> {
        let number = u32::try_from(batch.packs.len()).unwrap_or(u32::MAX);
        let written = mender.write(patient, keep, number, &mut Vec::new())?;
        if let Some((pack, _)) = &written {
            batch.repaired.push(Repaired {
                pack: Some(self.row.id),
                new_pack: Some(pack.id),
                what: format!(
                    "what is left of the pack {} was copied; the rest of it is lost",
                    self.path()
                ),
            });
        }
        batch.add(written);
        Ok(())
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
            return format!(
                "the pack {path} is left as it is: neither it nor the index says for sure what was in it ({good} chunks are good)"
            );
        }
        format!(
            "{} chunks of the pack {path} cannot be restored ({good} are good): it is left as it is",
            lost.len()
        )
    }
}

impl Batch {
    fn add(&mut self, written: Option<(SealedPack, Vec<Entry>)>) {
        if let Some((pack, entries)) = written {
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
        let frames = Opened::new(&store, &row).table.unwrap().toc().frames.len();
        assert!(frames > 8);
        // Dead from the start, in the middle of the second reading, and not at all.
        for (reads, replaced) in [
            (frames, false),
            (frames + frames / 2, false),
            (2 * frames, true),
        ] {
            let mut opened = Opened::new(&store, &row);
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
