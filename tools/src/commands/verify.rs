//! `cairn verify STORE`

use crate::address::open_store;
use crate::exit::{self, Answer, Exit, Failure};
use crate::output;
use crate::progress::Progress;
use cairn::units::human_bytes;
use cairn::{Damage, Listing, PointId, RepairReport, Repaired, Store, VerifyReport};
use serde_json::json;
use std::path::PathBuf;

/// How many points a line names before it only counts.
const NAMED_POINTS: usize = 4;

/// Check that every point can be restored.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Look at maps, index and packs, but do not read all data
    #[arg(long)]
    quick: bool,
    /// Write damaged packs and a damaged index anew, as far as parity, the index or other packs give what was in them
    #[arg(long, conflicts_with = "quick")]
    repair: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    if args.repair && Store::rebuild_state(&args.store)? {
        exit::warn("the state of the store was lost: it was made anew from what is there");
    }
    let mut store = open_store(&args.store)?;
    let mut report = store.verify(args.quick, &Progress::default())?;
    let mut repair = RepairReport::default();
    if args.repair && !report.is_clean() {
        repair = store.repair(&Progress::default())?;
        // As it is now, not as it was.
        store = open_store(&args.store)?;
        report = store.verify(false, &Progress::default())?;
    }
    if args.json {
        let damaged: Vec<_> = report.damaged.iter().map(as_json).collect();
        output::json(&json!({
            "checked_bytes": report.checked_bytes,
            "walked_bytes": report.walked_bytes,
            "points": report.points,
            "damaged": damaged,
            "problems": report.problems,
            "repaired": repair.repaired.iter().map(repaired_json).collect::<Vec<_>>(),
            "left": repair.left,
        }))?;
    } else {
        for repaired in &repair.repaired {
            output::line(&format!("repaired: {}", repaired.what))?;
        }
        for left in &repair.left {
            output::line(&format!("not repaired: {left}"))?;
        }
        tell(&report, &store.points(None)?, args.quick)?;
    }
    Ok(if report.is_clean() {
        Exit::Done
    } else {
        Exit::Damage
    })
}

fn repaired_json(repaired: &Repaired) -> serde_json::Value {
    json!({
        "pack": repaired.pack.map(|id| id.to_string()),
        "new_pack": repaired.new_pack.map(|id| id.to_string()),
        "what": repaired.what,
    })
}

fn as_json(damage: &Damage) -> serde_json::Value {
    json!({
        "chunk": damage.chunk.map(|id| id.to_string()),
        "pack": damage.pack.map(|id| id.to_string()),
        "points": damage.points.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "disk": damage.disk,
        "offset": damage.offset,
        "length": damage.length,
        "path": serde_json::Value::Null,
        "why": damage.why,
    })
}

fn tell(report: &VerifyReport, points: &Listing, quick: bool) -> Result<(), Failure> {
    for problem in &report.problems {
        output::line(&format!("problem: {problem}"))?;
    }
    for damage in &report.damaged {
        output::line(&as_line(damage, points))?;
    }
    output::line(&format!(
        "{} points with {} of disks walked, {} of stored bytes read: {}",
        report.points,
        human_bytes(report.walked_bytes),
        human_bytes(report.checked_bytes),
        match (report.is_clean(), quick) {
            (false, _) => "there is damage",
            (true, false) => "everything can be restored",
            (true, true) => "nothing is missing; the data itself was not read",
        }
    ))
}

fn as_line(damage: &Damage, points: &Listing) -> String {
    let mut line = format!(
        "lost: {} bytes at {} of {} in ",
        damage.length, damage.offset, damage.disk
    );
    let names = damage.points.iter().take(NAMED_POINTS);
    let names: Vec<_> = names.map(|id| point_name(*id, points)).collect();
    line.push_str(&names.join(", "));
    if let Some(more @ 1..) = damage.points.len().checked_sub(NAMED_POINTS) {
        line.push_str(&format!(" and {more} more points"));
    }
    line.push_str(&format!(": {}", damage.why));
    if let Some(chunk) = damage.chunk {
        line.push_str(&format!(" (chunk {chunk}"));
        if let Some(pack) = damage.pack {
            line.push_str(&format!(", pack {pack}"));
        }
        line.push(')');
    }
    line
}

/// `MACHINE@TIME`, or its id where its record cannot be read.
fn point_name(id: PointId, points: &Listing) -> String {
    match points.points.iter().find(|point| point.id == id) {
        Some(point) => format!("{}@{}", point.record.machine, point.time().folder_name()),
        None => id.to_string(),
    }
}
