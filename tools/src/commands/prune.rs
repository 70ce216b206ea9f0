//! `cairn prune STORE`

use crate::address::open_store;
use crate::amount;
use crate::exit::{Answer, Exit, Failure, warn};
use crate::output::{self, line};
use crate::progress::Progress;
use cairn::units::human_bytes;
use cairn::{PruneOptions, PruneReport};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Give back the space of what no recovery point needs.
///
/// Runs while backups, restores and mounts run. What a backup that began before may still rely on is only marked, and deleted by the next run. May be
/// interrupted at any moment: the next run goes on.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Only say what would be done (but for --gather)
    #[arg(long)]
    dry_run: bool,
    /// How much that nothing needs may stay, as a share of what is needed; packs are written anew until it is less
    #[arg(long, value_name = "SHARE%", default_value = "5%", value_parser = amount::share_or_none)]
    max_unused: u32,
    /// Copy at most so many bytes out of packs that are partly needed: 10GB
    #[arg(long, value_name = "BYTES", value_parser = amount::bytes_or_none)]
    max_rewrite: Option<u64>,
    /// Write together what days have scattered of each machine's newest point, so that it restores as fast as a new one. Worth it now and then, where `cairn stats
    /// --locality` shows many seeks: it copies, and takes a look at all of the newest points
    #[arg(long)]
    gather: bool,
    /// Begin nothing new after this time, and publish what was copied by then: 90s, 30m, 2h
    #[arg(long, value_name = "TIME", value_parser = amount::length_of_time)]
    max_time: Option<Duration>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let store = open_store(&args.store)?;
    let options = PruneOptions {
        dry_run: args.dry_run,
        // Millionths to thousandths.
        max_unused: u64::from(args.max_unused / 1000),
        max_rewrite: args.max_rewrite.unwrap_or(u64::MAX),
        gather: args.gather,
        max_time: args.max_time,
    };
    let report = store.prune(&options, &Progress::default())?;
    for why in &report.left {
        warn(why);
    }
    if report.lost > 0 {
        warn(&format!(
            "{} chunks that points need are not in the store: run `cairn verify`",
            report.lost
        ));
    }
    if args.json {
        output::json(&as_json(&report))?;
    } else {
        tell(&report, args.dry_run)?;
    }
    Ok(if report.lost > 0 {
        Exit::Damage
    } else {
        Exit::Done
    })
}

fn tell(report: &PruneReport, dry_run: bool) -> Result<(), Failure> {
    line(&format!(
        "{} points need {} in {} packs",
        report.points,
        human_bytes(report.live_bytes),
        report.packs
    ))?;
    if report.gathered_bytes > 0 {
        line(&format!(
            "wrote {} of the newest points together that lay scattered, as {}",
            human_bytes(report.gathered_bytes),
            human_bytes(report.gathered_written_bytes)
        ))?;
    }
    if dry_run {
        line(&format!(
            "would condemn {} packs with {} that nothing needs, and write {} packs with {} anew",
            report.dead_packs,
            human_bytes(report.dead_bytes),
            report.rewritten_packs,
            human_bytes(report.rewritten_bytes)
        ))?;
    } else {
        line(&format!(
            "wrote {} packs with {} anew, as {}",
            report.rewritten_packs,
            human_bytes(report.rewritten_bytes),
            human_bytes(report.written_bytes)
        ))?;
    }
    let deleted = if dry_run { "could delete" } else { "deleted" };
    line(&format!(
        "{deleted} {} packs with {}",
        report.deleted_packs,
        human_bytes(report.deleted_bytes)
    ))?;
    if report.revived_packs > 0 {
        line(&format!(
            "{} packs are needed again and stay",
            report.revived_packs
        ))?;
    }
    tell_waiting(report)?;
    line(&format!(
        "{} that nothing needs stay in packs that are mostly needed",
        human_bytes(report.unused_bytes)
    ))?;
    match &report.ended_early {
        Some(why) => line(&format!("ended early: {why}")),
        None => Ok(()),
    }
}

/// Which packs wait for whom.
fn tell_waiting(report: &PruneReport) -> Result<(), Failure> {
    if report.waiting_packs == 0 {
        return Ok(());
    }
    line(&format!(
        "{} packs with {} go with the next prune, when these have ended:",
        report.waiting_packs,
        human_bytes(report.waiting_bytes)
    ))?;
    for writer in &report.writers {
        line(&format!(
            "    session {}, process {} on {}{}",
            writer.session,
            writer.process,
            writer.host,
            if writer.elsewhere {
                ": see `cairn doctor` if that host is gone"
            } else {
                ""
            }
        ))?;
    }
    Ok(())
}

fn as_json(report: &PruneReport) -> Value {
    let writers = report.writers.iter().map(|writer| {
        json!({
            "session": writer.session.to_string(),
            "process": writer.process,
            "host": writer.host,
            "elsewhere": writer.elsewhere,
        })
    });
    json!({
        "points": report.points,
        "chunks": report.chunks,
        "map_nodes": report.nodes,
        "lost_chunks": report.lost,
        "packs": report.packs,
        "live_bytes": report.live_bytes,
        "gathered_bytes": report.gathered_bytes,
        "gathered_written_bytes": report.gathered_written_bytes,
        "dead_packs": report.dead_packs,
        "dead_bytes": report.dead_bytes,
        "rewritten_packs": report.rewritten_packs,
        "rewritten_bytes": report.rewritten_bytes,
        "written_bytes": report.written_bytes,
        "unused_bytes": report.unused_bytes,
        "deleted_packs": report.deleted_packs,
        "deleted_bytes": report.deleted_bytes,
        "waiting_packs": report.waiting_packs,
        "waiting_bytes": report.waiting_bytes,
        "waits_for": writers.collect::<Vec<_>>(),
        "revived_packs": report.revived_packs,
        "left": report.left,
        "ended_early": report.ended_early,
    })
}
