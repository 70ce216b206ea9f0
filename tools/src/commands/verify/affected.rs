//! What damage means for the guests: their files.

use crate::exit::Failure;
use crate::output;
use cairn::units::human_bytes;
use cairn::{Affected, AffectedKind, AffectedReport};
use serde_json::{Value, json};

/// Files that are told one by one; of more only the number is.
const TOLD: usize = 1000;

/// The path of the first thing that damage number `damage` hits, with a file before anything else.
pub fn path_of(report: &AffectedReport, damage: usize) -> Value {
    let hit = report
        .all
        .iter()
        .filter(|hit| hit.damages.contains(&damage));
    match hit.min_by_key(|hit| hit.kind) {
        Some(hit) => Value::from(hit.path.clone()),
        None => Value::Null,
    }
}

/// Everything that is hit, for a document.
pub fn as_json(report: &AffectedReport) -> Value {
    let entry = |hit: &Affected| {
        json!({
            "machine": hit.machine,
            "path": hit.path,
            "kind": kind(hit.kind),
            "points": hit.points.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "lost_bytes": hit.lost,
            "why": hit.why,
        })
    };
    report.all.iter().map(entry).collect()
}

fn kind(kind: AffectedKind) -> &'static str {
    match kind {
        AffectedKind::File => "file",
        AffectedKind::Unreadable => "unreadable",
        AffectedKind::Volume => "volume",
        AffectedKind::Structure => "structure",
        AffectedKind::Free => "free",
        AffectedKind::Outside => "outside",
    }
}

/// Tells everything that is hit, a line each.
///
/// # Errors
/// If standard output takes no more.
pub fn tell(report: &AffectedReport) -> Result<(), Failure> {
    for hit in report.all.iter().take(TOLD) {
        output::line(&as_line(hit))?;
    }
    if let Some(more @ 1..) = report.all.len().checked_sub(TOLD) {
        output::line(&format!("affected: {more} more; see --json"))?;
    }
    Ok(())
}

fn as_line(hit: &Affected) -> String {
    let Affected { machine, path, .. } = hit;
    let points = match hit.points.len() {
        1 => "1 point".to_string(),
        count => format!("{count} points"),
    };
    let lost = human_bytes(hit.lost);
    let what = match hit.kind {
        AffectedKind::File => format!("{machine}:{path} has lost {lost}"),
        AffectedKind::Unreadable => format!("{machine}:{path} and what is in it cannot be read"),
        AffectedKind::Volume => format!("{machine}:{path} cannot be opened"),
        AffectedKind::Structure => format!("{machine}:{path}: {lost} of the file system's own"),
        AffectedKind::Free => format!("{machine}:{path}: {lost} of blocks that hold nothing"),
        AffectedKind::Outside => format!("{machine}:{path}: {lost} outside of all volumes"),
    };
    match &hit.why {
        Some(why) => format!("affected: {what}, in {points}: {why}"),
        None => format!("affected: {what}, in {points}"),
    }
}
