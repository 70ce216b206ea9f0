//! `cairn stats STORE`

mod locality;
mod needs;

use crate::address::open_store;
use crate::amount;
use crate::chart::{self, Line};
use crate::exit::{self, Answer, Exit};
use crate::output;
use cairn::units::human_bytes;
use cairn::{Error, MachineStats, ProofSummary, Store, StoreStats};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Show what a store holds, in numbers.
///
/// Without --points the records of points and the index are read: for each machine its points, the sizes of its disks, what its backups added when they were made, and
/// what they add in a day (of the last 30 days).
///
/// With --points the maps of all points are walked: then it is told what each point and each machine needs in the packs, what of that nobody else needs, the ratios of deduplication and
/// compression, and what no point needs any more.
///
/// With --locality the newest point of each machine is walked: how many packs a restore touches and how often it goes to another place, for each GiB.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Tell only of one machine (the sums are those of the whole store)
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Tell what each point needs: walks the maps of all points
    #[arg(long)]
    points: bool,
    /// Tell how scattered the newest point of each machine lies in the packs
    #[arg(long)]
    locality: bool,
    /// Tell what forgetting these points, all together, would free; with --points what each one alone would free stands under `unique`
    #[arg(long, value_name = "POINT", num_args = 1..)]
    forget_frees: Vec<String>,
    /// Memory for walking maps: a store with more chunks than fit, at 96 bytes each, is walked several times
    #[arg(long, value_name = "BYTES", default_value = "192MiB", value_parser = amount::bytes)]
    memory: u64,
    /// Draw what was stored over time, by machine and all together, as SVG
    #[arg(long, value_name = "FILE.svg")]
    chart: Option<PathBuf>,
    /// Replace the chart's file if it is there
    #[arg(long, requires = "chart")]
    force: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let store = open_store(&args.store)?;
    let mut stats = store.stats()?;
    if let Some(name) = &args.machine {
        let lower = name.to_lowercase();
        stats
            .by_machine
            .retain(|machine| machine.machine.to_lowercase() == lower);
        if stats.by_machine.is_empty() {
            let error = Error::not_found(format!("there is no point of the machine `{name}`"));
            return Err(error.advise("see `cairn points`").into());
        }
    }
    if let Some(path) = &args.chart {
        draw(args, &store, path)?;
    }
    let needs = if args.points || !args.forget_frees.is_empty() {
        Some(needs::find(args, &store)?)
    } else {
        None
    };
    let scattered = match args.locality {
        true => Some(locality::find(args, &store)?),
        false => None,
    };
    if args.json {
        let mut document = as_json(&stats);
        if let (Some(scattered), Some(fields)) = (&scattered, document.as_object_mut()) {
            fields.insert("locality".to_string(), scattered.as_json());
        }
        if let (Some(needs), Some(fields)) = (&needs, document.as_object_mut()) {
            fields.extend(needs.as_json());
        }
        output::json(&document)?;
    } else {
        output::write(as_text(&stats).as_bytes())?;
        if let Some(needs) = &needs {
            output::write(needs.as_text().as_bytes())?;
        }
        if let Some(scattered) = &scattered {
            output::write(scattered.as_text().as_bytes())?;
        }
    }
    if let Some(lost) = &stats.proofs_lost {
        exit::warn(lost);
    }
    let damaged = needs.as_ref().map_or(&stats.damaged, needs::Needs::damaged);
    for error in damaged {
        eprintln!("cairn: {error}");
    }
    Ok(if damaged.is_empty() && stats.damaged.is_empty() {
        Exit::Done
    } else {
        Exit::Damage
    })
}

/// The chart of all points that can be read; what cannot is told with the numbers.
fn draw(args: &Args, store: &Store, path: &Path) -> Result<(), Error> {
    let mut lines: Vec<Line> = Vec::new();
    store.each_point(args.machine.as_deref(), &mut |point| {
        if let Ok(point) = point {
            let name = point.record.machine.to_lowercase();
            let added = (point.record.seconds, point.record.stats.stored);
            match lines.last_mut() {
                Some(line) if line.name.to_lowercase() == name => line.added.push(added),
                _ => lines.push(Line {
                    name: point.record.machine,
                    added: vec![added],
                }),
            }
        }
        ControlFlow::Continue(())
    })?;
    chart::write(path, &chart::draw(&lines)?, args.force)
}

fn as_json(stats: &StoreStats) -> Value {
    let machines: Vec<_> = stats.by_machine.iter().map(machine_json).collect();
    json!({
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
        "by_machine": machines,
    })
}

fn machine_json(machine: &MachineStats) -> Value {
    let [first, last] = machine.times;
    json!({
        "machine": machine.machine,
        "points": machine.points,
        "oldest": first.rfc3339(),
        "newest": last.rfc3339(),
        "disk_bytes": machine.disk_bytes,
        "logical_bytes": machine.logical_bytes,
        "added_bytes": machine.added_bytes,
        "growth_bytes_per_day": machine.growth_per_day,
    })
}

fn as_text(stats: &StoreStats) -> String {
    let mut text = format!(
        "points: {}, machines: {}, disks together: {}\n",
        stats.points,
        stats.machines,
        human_bytes(stats.logical_bytes)
    );
    text.push_str(&format!(
        "{} stored: {} chunks in {} packs; index {} in {} segments\n",
        human_bytes(stats.stored_bytes),
        stats.chunks,
        stats.packs,
        human_bytes(stats.index_bytes),
        stats.segments
    ));
    text.push_str(&proven(&stats.proofs));
    text.push('\n');
    for machine in &stats.by_machine {
        let [first, last] = machine.times;
        let growth = machine
            .growth_per_day
            .map(|bytes| format!(", {} a day", human_bytes(bytes)));
        text.push_str(&format!(
            "{}: {} points from {} to {}, disks {}, added {}{}\n",
            machine.machine,
            machine.points,
            first.folder_name(),
            last.folder_name(),
            human_bytes(machine.disk_bytes),
            human_bytes(machine.added_bytes),
            growth.unwrap_or_default()
        ));
    }
    text
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
