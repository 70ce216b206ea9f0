//! `cairn verify STORE`

use crate::address::open_store;
use crate::exit::{Answer, Exit};
use crate::output;
use crate::progress::Progress;
use cairn::units::human_bytes;
use cairn::{Damage, VerifyReport};
use serde_json::json;
use std::path::PathBuf;

/// Check that every point can be restored.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Look at maps, index and packs, but do not read all data
    #[arg(long)]
    quick: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let store = open_store(&args.store)?;
    let report = store.verify(args.quick, &Progress::default())?;
    if args.json {
        let damaged: Vec<_> = report.damaged.iter().map(as_json).collect();
        output::json(&json!({
            "checked_bytes": report.checked_bytes,
            "walked_bytes": report.walked_bytes,
            "points": report.points,
            "damaged": damaged,
            "problems": report.problems,
            "repaired": [],
        }))?;
    } else {
        tell(&report)?;
    }
    Ok(if report.is_clean() {
        Exit::Done
    } else {
        Exit::Damage
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

fn tell(report: &VerifyReport) -> Result<(), crate::exit::Failure> {
    for problem in &report.problems {
        output::line(&format!("problem: {problem}"))?;
    }
    for damage in &report.damaged {
        output::line(&format!(
            "lost: {} bytes at {} of {} in {} points: {}",
            damage.length,
            damage.offset,
            damage.disk,
            damage.points.len(),
            damage.why
        ))?;
    }
    output::line(&format!(
        "{} points with {} of disks walked, {} of stored bytes read: {}",
        report.points,
        human_bytes(report.walked_bytes),
        human_bytes(report.checked_bytes),
        if report.is_clean() {
            "everything can be restored"
        } else {
            "there is damage"
        }
    ))
}
