//! `cairn stats STORE`

use crate::address::open_store;
use crate::exit::{Answer, Exit};
use crate::output;
use cairn::units::human_bytes;
use serde_json::json;
use std::path::PathBuf;

/// Show what a store holds, in numbers.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let store = open_store(&args.store)?;
    let stats = store.stats()?;
    if args.json {
        output::json(&json!({
            "points": stats.points,
            "machines": stats.machines,
            "chunks": stats.chunks,
            "packs": stats.packs,
            "segments": stats.segments,
            "logical_bytes": stats.logical_bytes,
            "stored_bytes": stats.stored_bytes,
            "index_bytes": stats.index_bytes,
        }))?;
    } else {
        output::line(&format!(
            "points: {}, machines: {}, disks together: {}",
            stats.points,
            stats.machines,
            human_bytes(stats.logical_bytes)
        ))?;
        output::line(&format!(
            "{} stored: {} chunks in {} packs; index {} in {} segments",
            human_bytes(stats.stored_bytes),
            stats.chunks,
            stats.packs,
            human_bytes(stats.index_bytes),
            stats.segments
        ))?;
    }
    for error in &stats.damaged {
        eprintln!("cairn: {error}");
    }
    Ok(if stats.damaged.is_empty() {
        Exit::Done
    } else {
        Exit::Damage
    })
}
