//! What damage means for the guests: their files.

use crate::exit::Failure;
use crate::output;
use cairn::units::human_bytes;
use cairn::{Affected, AffectedKind, AffectedReport};
use serde_json::{Value, json};

/// Files that are told one by one; of more only the number is.
const TOLD: usize = 1000;

/// Of each of `count` damages the path of the first thing that it hits, with a file before anything else.
pub fn paths(report: &AffectedReport, count: usize) -> Vec<Value> {
    let mut first: Vec<Option<&Affected>> = vec![None; count];
    for hit in &report.all {
        for damage in &hit.damages {
            if let Some(slot) = first.get_mut(*damage)
                && slot.is_none_or(|other| hit.kind < other.kind)
            {
                *slot = Some(hit);
            }
        }
    }
    let path = |hit: Option<&Affected>| hit.map_or(Value::Null, |hit| hit.path.clone().into());
    first.into_iter().map(path).collect()
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
    if report.unnamed > 0 {
        let more = report.unnamed;
        output::line(&format!(
            "affected: at least {more} more, which are not named"
        ))?;
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
