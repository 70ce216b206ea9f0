//! Packs that something is wrong with, one after the other.

use crate::index::{Entry, PackRow};
use crate::layout;
use crate::pack::SealedPack;
use crate::publish::{publish_lists, publish_replacing};
use crate::read::ChunkReader;
use crate::repair::elsewhere::lies_elsewhere;
use crate::repair::index::reindex;
use crate::repair::mend::{Mender, Patient, Written};
use crate::repair::opened::Opened;
use crate::repair::plan::{self, Known, Want};
use crate::repair::suspects::{self, Fault};
use crate::repair::{RepairReport, Repaired};
use crate::session::Session;
use crate::store::Store;
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
    let mut sound: HashSet<PackId> = store.live_packs().iter().map(|row| row.id).collect();
    let found = suspects::find(store, monitor)?;
    for (row, _) in &found {
        sound.remove(&row.id);
    }
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
        mend_batch(store, session, monitor, batch, &sound, report)?;
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
    sound: &HashSet<PackId>,
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
            sound,
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

/// One damaged pack.
struct Case<'a> {
    store: &'a Arc<Store>,
    row: PackRow,
    fault: Fault,
    known: &'a Known,
    /// Packs that nothing is wrong with.
    sound: &'a HashSet<PackId>,
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
        // Files were swapped: it may be the only one that has the other pack's bytes.
        let mut others = opened.others.into_iter().flatten();
        let other = others.find(|id| !self.sound.contains(id));
        let all_is_known = if has_table || !self.known.complete {
            Ok(has_table)
        } else {
            opened.is_all(self.store, &row, &frames, self.sound)
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
        if let Some(other) = other.filter(|_| found.lost.is_empty()) {
            let why = format!(
                "what is in it is the pack {other}, which is not whole in its own place: give the file its name"
            );
            report.left.push(self.say_left(&why));
            return Ok(());
        }
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
mod tests;
