//! What a process does with a store, and what it finds there.

use crate::world::{How, Ticking};
use cairn_base::read_at::read_vec;
use cairn_base::{ReadAt, Result, Silent};
use cairn_store::{
    BackupOptions, Change, ChangeSource, Changes, ChunkReader, DiskInput, ImageFacts, Point, Store,
    StoredDisk, Tree, VerifyReport, backup, verify,
};
use std::ops::Range;
use std::sync::Arc;

/// Compares what is not named as lost with what it was; what is named may be lost or not.
pub fn check_but_for(
    store: &Arc<Store>,
    point: &Point,
    right: &[u8],
    report: &VerifyReport,
) -> std::result::Result<(), String> {
    let what = format!("point {} with losses", point.record.sequence);
    let of_point = report
        .damaged
        .iter()
        .filter(|d| d.points.contains(&point.id));
    let lost: Vec<Range<u64>> = of_point.map(|d| d.offset..d.offset + d.length).collect();
    let reader = Arc::new(ChunkReader::new(store.clone(), 1 << 20));
    let tree = Tree::new(reader, &point.record.disks[0]).map_err(|e| format!("{what}: {e}"))?;
    let disk = StoredDisk::new(tree);
    let mut cuts: Vec<u64> = lost
        .iter()
        .flat_map(|range| [range.start, range.end])
        .collect();
    cuts.extend([0, disk.size()]);
    cuts.sort_unstable();
    cuts.dedup();
    for part in cuts.windows(2).map(|ends| ends[0]..ends[1]) {
        let length = usize::try_from(part.end - part.start).unwrap();
        let start = usize::try_from(part.start).unwrap();
        let is_lost = lost.iter().any(|range| range.contains(&part.start));
        match read_vec(&disk, part.start, length) {
            Ok(bytes) if bytes == right[start..start + length] => {}
            Ok(_) => return Err(format!("{what} has wrong bytes at {part:?}")),
            Err(_) if is_lost => {}
            Err(error) => return Err(format!("{what} at {part:?}, which is not named: {error}")),
        }
    }
    Ok(())
}

pub fn check_clean(store: &Arc<Store>) -> std::result::Result<(), String> {
    let report = verify(store, false, &Silent).map_err(|e| format!("verifying: {e}"))?;
    if report.is_clean() {
        Ok(())
    } else {
        Err(format!("verification: {report:?}"))
    }
}

pub fn back_up(
    store: &Arc<Store>,
    machine: &str,
    source: Arc<dyn ReadAt>,
    how: &How,
    base: Option<&Point>,
) -> Result<Point> {
    let mut options = BackupOptions::new(machine);
    options.threads = 1;
    options.checkpoint = how.checkpoint.unwrap_or(options.checkpoint);
    let mut changes = None;
    if let Some(ranges) = &how.changed {
        options.base = base.map(|point| point.id);
        let ranges = ranges.iter().map(|range| Change {
            range: range.clone(),
            zero: false,
        });
        let told = Changes::new(source.size(), ranges)?;
        changes = Some(ChangeSource::Caller(Arc::new(told)));
    }
    let disk = DiskInput {
        name: "disk0".to_string(),
        source,
        facts: ImageFacts::default(),
        changed: None,
        changes,
    };
    backup(store, &[disk], &options, &Silent, &Ticking).map(|report| report.point)
}

pub fn read(store: &Arc<Store>, point: &Point) -> Result<Vec<u8>> {
    let reader = Arc::new(ChunkReader::new(store.clone(), 1 << 20));
    let disk = StoredDisk::new(Tree::new(reader, &point.record.disks[0])?);
    read_vec(&disk, 0, usize::try_from(disk.size()).unwrap())
}
