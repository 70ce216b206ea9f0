//! `cairn stats STORE`

use crate::address::open_store;
use crate::exit::{self, Answer, Exit};
use crate::output;
use cairn::ProofSummary;
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
            "unproven_packs": stats.proofs.unproven_packs,
            "unproven_bytes": stats.proofs.unproven_bytes,
            "oldest_proof": stats.proofs.oldest.map(|time| time.rfc3339()),
            "newest_proof": stats.proofs.newest.map(|time| time.rfc3339()),
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
        output::line(&proven(&stats.proofs))?;
    }
    if let Some(lost) = &stats.proofs_lost {
        exit::warn(lost);
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

/// When the packs were last verified, in a line.
pub fn proven(proofs: &ProofSummary) -> String {
    let never = (!proofs.is_complete()).then(|| {
        format!(
            "{} packs with {} never",
            proofs.unproven_packs,
            human_bytes(proofs.unproven_bytes)
        )
    });
    let oldest = proofs
        .oldest
        .map(|time| format!("the one longest ago at {time}"));
    let said: Vec<_> = never.into_iter().chain(oldest).collect();
    if said.is_empty() {
        return "verified: there are no packs yet".to_string();
    }
    format!("verified: {}", said.join(", "))
}
