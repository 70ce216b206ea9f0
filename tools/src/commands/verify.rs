//! `cairn verify STORE`

mod affected;

use crate::address::open_store;
use crate::amount;
use crate::exit::{self, Answer, Exit, Failure};
use crate::output;
use crate::progress::Progress;
use cairn::units::human_bytes;
use cairn::{
    AffectedReport, Damage, Depth, Listing, Pick, PointId, RepairReport, Repaired, Store, Time,
    VerifyOptions, VerifyReport,
};
use serde_json::json;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

/// How many points a line names before it only counts.
const NAMED_POINTS: usize = 4;

/// Check that every point can be restored.
///
/// Reads all stored bytes of the store's packs and compares them with the tags that were made when they were written, walks the
/// maps of all points, and notes when each pack was found good.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Look at maps, index and packs, but read no pack
    #[arg(long, conflicts_with_all = ["deep", "sample", "since", "slice"])]
    quick: bool,
    /// Write damaged packs and a damaged index anew, as far as parity, the index or other packs give what was in them
    #[arg(long, conflicts_with_all = ["quick", "sample", "since", "slice"])]
    repair: bool,
    /// Decode everything as well, and compare each chunk with its id: slower
    #[arg(long)]
    deep: bool,
    /// Read packs drawn by chance, with about this share of all bytes
    #[arg(long, value_name = "SHARE%", value_parser = amount::share)]
    sample: Option<u32>,
    /// Draw the same packs as the run that told this seed
    #[arg(long, value_name = "SEED", requires = "sample")]
    seed: Option<u64>,
    /// Read only packs that were not found good since then: 2026-11-20T02:00:00Z, 12h, 30d
    #[arg(long, value_name = "TIME|AGO", value_parser = amount::since)]
    since: Option<Time>,
    /// Read the N-th part of the store that was not read for longest: N runs read all of it
    #[arg(long, value_name = "N", conflicts_with = "sample")]
    slice: Option<NonZeroU32>,
    /// Read at most so many bytes a second: 200MB/s
    #[arg(long, value_name = "RATE", value_parser = amount::rate)]
    limit: Option<NonZeroU64>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    fn options(&self) -> VerifyOptions {
        VerifyOptions {
            depth: match (self.quick, self.deep) {
                (true, _) => Depth::Quick,
                (_, true) => Depth::Deep,
                _ => Depth::Tags,
            },
            since: self.since,
            pick: match (self.sample, self.slice) {
                (Some(share), _) => Pick::Sample {
                    share,
                    seed: self.seed,
                },
                (_, Some(parts)) => Pick::Slice(parts),
                _ => Pick::All,
            },
            limit: self.limit,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    if args.repair && Store::rebuild_state(&args.store)? {
        exit::warn("the state of the store was lost: it was made anew from what is there");
    }
    let mut store = open_store(&args.store)?;
    let options = args.options();
    let progress = Progress::default();
    let mut report = store.verify(&options, &progress)?;
    let mut repair = RepairReport::default();
    if args.repair && !report.is_clean() {
        repair = store.repair(&progress)?;
        // As it is now, not as it was.
        store = open_store(&args.store)?;
        report = store.verify(&options, &progress)?;
    }
    // What was found is told whatever becomes of the search for names.
    let hit = store
        .affected(&report, &progress)
        .unwrap_or_else(|error| AffectedReport {
            problems: vec![format!("which files are hit is not known: {error}")],
            ..AffectedReport::default()
        });
    report.problems.extend(hit.problems.iter().cloned());
    if args.json {
        output::json(&document(args, &report, &hit, &repair))?;
    } else {
        for repaired in &repair.repaired {
            output::line(&format!("repaired: {}", repaired.what))?;
        }
        for left in &repair.left {
            output::line(&format!("not repaired: {left}"))?;
        }
        let points = store.points(None).unwrap_or_default();
        tell(&report, &hit, &points, &options)?;
        for what in advice(args, &report) {
            output::line(&format!("what to do: {what}"))?;
        }
    }
    Ok(if report.is_clean() && repair.left.is_empty() {
        Exit::Done
    } else {
        Exit::Damage
    })
}

/// All of it, for a program.
fn document(
    args: &Args,
    report: &VerifyReport,
    hit: &AffectedReport,
    repair: &RepairReport,
) -> serde_json::Value {
    let damaged = report.damaged.iter();
    let paths = affected::paths(hit, report.damaged.len());
    let damaged: Vec<_> = damaged
        .zip(paths)
        .map(|(damage, path)| as_json(damage, path))
        .collect();
    json!({
        "mode": mode(args.options().depth),
        "begun": report.begun.rfc3339(),
        "clean": report.is_clean() && repair.left.is_empty(),
        "seconds": report.took.as_secs_f64(),
        "read_seconds": report.reading.as_secs_f64(),
        "checked_bytes": report.checked_bytes,
        "checked_packs": report.checked_packs,
        "packs": report.packs,
        "pack_bytes": report.pack_bytes,
        "seed": report.seed,
        "walked_bytes": report.walked_bytes,
        "points": report.points,
        "damaged": damaged,
        "affected": affected::as_json(hit),
        "affected_unnamed": hit.unnamed,
        "bad_packs": report.bad_packs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "problems": report.problems,
        "repaired": repair.repaired.iter().map(repaired_json).collect::<Vec<_>>(),
        "left": repair.left,
        "advice": advice(args, report),
    })
}

/// What to run next.
fn advice(args: &Args, report: &VerifyReport) -> Vec<String> {
    let store = args.store.display();
    let mut advice = Vec::new();
    if report.is_clean() {
        return advice;
    }
    if !args.repair {
        advice.push(format!(
            "run `cairn verify {store} --repair`: it writes anew what parity, the index or other packs give"
        ));
    }
    if !report.damaged.is_empty() {
        advice.push(
            "back up the machines concerned: what is lost and is seen again is stored anew, and the points that lost it are whole again"
                .to_string(),
        );
        advice.push(
            "everything else can be restored; if there is a copy of the store, restore what is lost from that".to_string(),
        );
    }
    if args.repair {
        advice.push(format!(
            "look at the disk and its messages, and at `cairn doctor {store}`"
        ));
    }
    advice
}

fn repaired_json(repaired: &Repaired) -> serde_json::Value {
    json!({
        "pack": repaired.pack.map(|id| id.to_string()),
        "new_pack": repaired.new_pack.map(|id| id.to_string()),
        "what": repaired.what,
    })
}

fn mode(depth: Depth) -> &'static str {
    match depth {
        Depth::Quick => "quick",
        Depth::Tags => "full",
        Depth::Deep => "deep",
    }
}

fn as_json(damage: &Damage, path: serde_json::Value) -> serde_json::Value {
    json!({
        "chunk": damage.chunk.map(|id| id.to_string()),
        "pack": damage.pack.map(|id| id.to_string()),
        "points": damage.points.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "disk": damage.disk,
        "offset": damage.offset,
        "length": damage.length,
        "path": path,
        "why": damage.why,
    })
}

fn tell(
    report: &VerifyReport,
    hit: &AffectedReport,
    points: &Listing,
    options: &VerifyOptions,
) -> Result<(), Failure> {
    for problem in &report.problems {
        output::line(&format!("problem: {problem}"))?;
    }
    for damage in &report.damaged {
        output::line(&as_line(damage, points))?;
    }
    affected::tell(hit)?;
    if let Some(seed) = report.seed {
        output::line(&format!(
            "drawn by chance; `--seed {seed}` draws the same packs"
        ))?;
    }
    output::line(&format!(
        "{} points with {} of disks walked, {} in {} of {} packs read{}: {}",
        report.points,
        human_bytes(report.walked_bytes),
        human_bytes(report.checked_bytes),
        report.checked_packs,
        report.packs,
        speed(report),
        match (report.is_clean(), options.depth) {
            (false, _) => "there is damage",
            (true, Depth::Quick) => {
                "nothing is missing; the data itself was not read: `cairn verify` without --quick does that"
            }
            (true, _) if options.is_full() => "all is well: everything can be restored",
            (true, _) => "nothing is missing, and what was read is good",
        }
    ))
}

/// How long the packs were read for, and how fast.
fn speed(report: &VerifyReport) -> String {
    let (seconds, bytes) = (report.reading.as_secs_f64(), report.checked_bytes);
    let nanos = report.reading.as_nanos();
    let rate = (u128::from(bytes) * 1_000_000_000).checked_div(nanos);
    let rate = rate.and_then(|rate| u64::try_from(rate).ok());
    match rate.filter(|rate| *rate > 0) {
        Some(rate) => format!(" in {seconds:.1} s, {}/s", human_bytes(rate)),
        None => String::new(),
    }
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
