//! The index made anew from the packs: where segments are lost or damaged, and where they do not know a pack.

use crate::contents::places;
use crate::index::check::check_segment;
use crate::index::packs::PackRows;
use crate::index::{Entry, PackRow, Segment};
use crate::layout::{self, PACKS};
use crate::pack::PackReader;
use crate::publish::{publish_lists, publish_segment};
use crate::repair::{RepairReport, Repaired};
use crate::session::{Session, publish_lock};
use crate::store::Store;
use cairn_base::{Error, Monitor, PackId, Result, SegmentId};
use std::collections::HashSet;

/// Entries that are published together: as many as a backup does.
const ENTRIES: usize = 524_288;

/// Indexes every pack that no whole segment names, then takes the segments off the list that are lost or damaged, unless a pack could
/// not be read.
///
/// # Errors
/// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; as the folder reports.
pub fn rebuild(
    store: &Store,
    session: &Session,
    monitor: &dyn Monitor,
    report: &mut RepairReport,
) -> Result<()> {
    let there = {
        // Between publications: whatever is there is named by the state read afterwards, or by none.
        let _lock = publish_lock(&**store.folder())?;
        packs_there(store)?
    };
    store.refresh()?;
    let index = store.index();
    let mut bad: HashSet<SegmentId> = HashSet::new();
    let mut named = store.state().unanswered_packs();
    for segment in index.segments() {
        let damage = check_segment(segment, true, &|| monitor.stop_requested());
        if monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        let rows = damage.and_then(|damage| {
            let whole = damage.describe().is_empty();
            let rows = whole.then(|| PackRows::new(segment).collect::<Result<Vec<_>>>());
            rows.transpose()
        });
        match rows {
            Ok(Some(rows)) => named.extend(rows.iter().map(|row| row.id)),
            Ok(None) => drop(bad.insert(segment.id())),
            // Which packs it names is not known, so neither is which ones nothing names.
            Err(error) => {
                report.left.push(format!(
                    "the index cannot be read now and is left as it is: {error}"
                ));
                return Ok(());
            }
        }
    }
    lost_segments(store, &mut bad, report);
    let strangers: Vec<PackId> = there.into_iter().filter(|id| !named.contains(id)).collect();
    let all = reindex(store, session, &strangers, monitor, report)?;
    if bad.is_empty() {
        return Ok(());
    }
    if !all {
        report.left.push(format!(
            "{} segments of the index are lost, and not every pack could be read to make them anew",
            bad.len()
        ));
        return Ok(());
    }
    publish_lists(store, &bad, &[])?;
    report.repaired.push(Repaired {
        pack: None,
        new_pack: None,
        what: format!(
            "{} lost or damaged segments of the index were made anew from the packs",
            bad.len()
        ),
    });
    Ok(())
}

/// Adds the segments that are listed and cannot be opened any more to `bad`.
fn lost_segments(store: &Store, bad: &mut HashSet<SegmentId>, report: &mut RepairReport) {
    let index = store.index();
    let open: HashSet<SegmentId> = index.segments().iter().map(|s| s.id()).collect();
    let listed = store.state().segments;
    for id in listed.iter().map(|row| row.segment()) {
        if open.contains(&id) {
            continue;
        }
        match Segment::open(&**store.folder(), store.header().store, id) {
            // Another program's version, or it cannot be opened just now: that is no loss.
            Err(error) if error.is_momentary() => report.left.push(error.to_string()),
            Err(_) => drop(bad.insert(id)),
            Ok(_) => {}
        }
    }
}

/// The packs whose files are there.
fn packs_there(store: &Store) -> Result<Vec<PackId>> {
    let folder = &**store.folder();
    let mut found = Vec::new();
    let ours = |home: &String| home.len() == 2 && home.bytes().all(|b| b.is_ascii_hexdigit());
    for home in folder.list(PACKS)?.into_iter().filter(ours) {
        let names = folder.list(&format!("{PACKS}/{home}"))?;
        let ids = names.iter().filter_map(|name| PackId::parse(name).ok());
        found.extend(ids.filter(|id| layout::pack_folder(*id) == format!("{PACKS}/{home}")));
    }
    found.sort();
    Ok(found)
}

/// Publishes segments that say where everything in these packs lies. Answers whether all of them could be read.
///
/// # Errors
/// [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; as the folder reports.
pub fn reindex(
    store: &Store,
    session: &Session,
    packs: &[PackId],
    monitor: &dyn Monitor,
    report: &mut RepairReport,
) -> Result<bool> {
    let mut all = true;
    let mut group = Group::default();
    for id in packs {
        if monitor.stop_requested() {
            return Err(Error::interrupted());
        }
        all &= group.add(store, *id, report);
        if group.entries.len() >= ENTRIES {
            all &= std::mem::take(&mut group).publish(store, session, report)?;
        }
    }
    all &= group.publish(store, session, report)?;
    Ok(all)
}

/// What is published together.
#[derive(Default)]
struct Group {
    rows: Vec<PackRow>,
    entries: Vec<Entry>,
}

impl Group {
    /// Answers whether the pack could be read.
    fn add(&mut self, store: &Store, id: PackId, report: &mut RepairReport) -> bool {
        match contents(store, id, self.rows.len(), &mut self.entries) {
            Ok(row) => self.rows.push(row),
            Err(error) => {
                let what = format!("a pack that the index does not know: {error}");
                report.left.push(what);
                return false;
            }
        }
        true
    }

    /// Those that were swept since they were read are left out: nobody needs them. Answers whether the others could be read again.
    fn publish(
        mut self,
        store: &Store,
        session: &Session,
        report: &mut RepairReport,
    ) -> Result<bool> {
        let mut all = true;
        while !self.rows.is_empty() {
            let gone = publish_segment(store, session, &self.rows, self.entries)?;
            if gone.is_empty() {
                report.repaired.extend(self.rows.iter().map(|row| Repaired {
                    pack: Some(row.id),
                    new_pack: None,
                    what: format!(
                        "the index knows the pack {} again",
                        store.folder().describe(&layout::pack(row.id))
                    ),
                }));
                return Ok(all);
            }
            // Their entries refer to them by number, so the others are read again.
            let before = std::mem::take(&mut self.rows);
            self.entries = Vec::new();
            for row in before.iter().filter(|row| !gone.contains(&row.id)) {
                all &= self.add(store, row.id, report);
            }
        }
        Ok(all)
    }
}

/// What the pack's own table says, with the help of parity where it is needed; it becomes pack `number` of a segment.
fn contents(store: &Store, id: PackId, number: usize, entries: &mut Vec<Entry>) -> Result<PackRow> {
    let (folder, of) = (&**store.folder(), store.header().store);
    let pack = match PackReader::open_headless(folder, of, id) {
        Ok(pack) => pack,
        Err(error) => match PackReader::open_healed(folder, of, id) {
            Ok((pack, _)) => pack,
            Err(passing) if passing.is_momentary() => return Err(passing),
            Err(_) => return Err(error),
        },
    };
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    for (frame, chunks) in pack.frames() {
        let places = places(id, frame.offset, frame, chunks);
        entries.extend(places.map(|(id, place)| Entry::new(id.prefix(), number, &place)));
    }
    Ok(PackRow {
        id,
        length: pack.footer().length,
        kind: pack.footer().kind,
    })
}
