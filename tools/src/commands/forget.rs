//! `cairn forget STORE`

use crate::address::open_store;
use crate::exit::{Answer, Exit, Failure, warn};
use crate::output;
use cairn::{
    Error, ForgetOptions, ForgetPlan, Forgotten, Kind, Period, Protection, Reason, Rules, Store,
    Verdict, Zone,
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Forget recovery points: by rules, or those named.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Points to forget, instead of rules
    points: Vec<String>,
    /// Points of this machine; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with_all = ["all", "points"])]
    machine: Vec<String>,
    /// Points of all machines, each by the same rules
    #[arg(long, conflicts_with = "points")]
    all: bool,
    #[command(flatten)]
    keep: Keep,
    /// Keep points that were made less than so long ago, whatever else is said: 12h, 7d, 2w, 6m, 1y
    #[arg(long, value_name = "PERIOD", value_parser = Period::parse)]
    min_age: Option<Period>,
    /// Time zone of hours, days, weeks, months and years (default: the system's)
    #[arg(long, value_name = "ZONE", value_parser = Zone::named)]
    timezone: Option<Zone>,
    /// A machine's last point may go as well
    #[arg(long)]
    allow_empty: bool,
    /// Points that are named and cannot be read may go: what they held is lost for good
    #[arg(long)]
    damaged: bool,
    /// The clock is right although it is before the time at which a point was made
    #[arg(long)]
    clock_is_right: bool,
    /// Points of the machine that are gone are gone for good: record them as forgotten. If the machine's retention record is damaged, a new one is made, without pins
    #[arg(long, conflicts_with_all = ["points", "all", "damaged", "dry_run"])]
    accept_gone: bool,
    /// Show what would be forgotten, and why, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What rules keep.
#[derive(clap::Args)]
#[command(next_help_heading = "Rules")]
struct Keep {
    /// Keep the last N points; imports do not count
    #[arg(long, value_name = "N")]
    keep_last: Option<u64>,
    /// Keep the newest point of each of the last N hours that have points
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u64>,
    /// Keep the newest point of each of the last N days that have points
    #[arg(long, value_name = "N")]
    keep_daily: Option<u64>,
    /// Keep the newest point of each of the last N weeks (from Monday on) that have points
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u64>,
    /// Keep the newest point of each of the last N months that have points
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u64>,
    /// Keep the newest point of each of the last N years that have points
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u64>,
    /// Keep all points of this time before the machine's latest one: 12h, 30d, 2w, 6m, 1y6m
    #[arg(long, value_name = "PERIOD", value_parser = Period::parse)]
    keep_within: Option<Period>,
}

impl Keep {
    fn rules(&self) -> Rules {
        Rules {
            last: self.keep_last.unwrap_or(0),
            hourly: self.keep_hourly.unwrap_or(0),
            daily: self.keep_daily.unwrap_or(0),
            weekly: self.keep_weekly.unwrap_or(0),
            monthly: self.keep_monthly.unwrap_or(0),
            yearly: self.keep_yearly.unwrap_or(0),
            within: self.keep_within,
        }
    }

    fn is_said(&self) -> bool {
        let counts = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        self.keep_within.is_some() || counts.iter().any(Option::is_some)
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    check(args)?;
    let store = open_store(&args.store)?;
    if args.accept_gone {
        return accept(args, &store);
    }
    let min_age = args.min_age.map_or(0, |period| period.seconds());
    let options = ForgetOptions {
        min_age: i64::try_from(min_age).unwrap_or(i64::MAX),
        allow_empty: args.allow_empty,
        damaged: args.damaged,
        clock_is_right: args.clock_is_right,
    };
    let zone = args.timezone.clone().unwrap_or_else(Zone::system);
    let (plans, failed) = plan(args, &store, &zone, &options)?;
    let outcome = Outcome {
        args,
        zone,
        plans,
        failed,
    };
    if let Some(failure) = outcome.refusal() {
        outcome.print(&[])?;
        return Err(failure);
    }
    let done = if args.dry_run {
        Vec::new()
    } else {
        store.forget(&outcome.plans, &options)?
    };
    outcome.print(&done)?;
    outcome.end(&done)
}

fn check(args: &Args) -> Result<(), Failure> {
    let rules = args.keep.is_said();
    let problem = if args.accept_gone && rules {
        "--accept-gone forgets nothing by rules"
    } else if args.accept_gone && args.machine.is_empty() {
        "--accept-gone is for machines: say --machine NAME"
    } else if args.damaged && args.points.is_empty() {
        "--damaged is for points that are named"
    } else if !args.points.is_empty() && rules {
        "rules are for machines: name points, or say --machine or --all"
    } else if args.points.is_empty() && args.machine.is_empty() && !args.all {
        "say which points: name them, or say --machine NAME or --all, and what is to be kept"
    } else if args.points.is_empty() && !args.accept_gone && !rules {
        "no rule says what is to be kept: say at least one, like --keep-daily 7"
    } else {
        return Ok(());
    };
    Err(Error::invalid(problem).into())
}

/// The plans of machines, and those of which none could be made, with why.
type Plans = (Vec<ForgetPlan>, Vec<(String, Error)>);

fn plan(
    args: &Args,
    store: &Store,
    zone: &Zone,
    options: &ForgetOptions,
) -> Result<Plans, Failure> {
    if !args.points.is_empty() {
        return Ok((store.plan_forget_points(&args.points, options)?, Vec::new()));
    }
    let rules = args.keep.rules();
    let planned = if args.all {
        store.plan_forget_all(&rules, zone, options)?
    } else {
        let mut machines = args.machine.clone();
        machines.sort_by_key(|name| name.to_lowercase());
        machines.dedup_by_key(|name| name.to_lowercase());
        let plans = machines.into_iter().map(|name| {
            let plan = store.plan_forget(&name, &rules, zone, options);
            (name, plan)
        });
        plans.collect()
    };
    let (mut plans, mut failed) = (Vec::new(), Vec::new());
    for (machine, planned) in planned {
        match planned {
            Ok(plan) => plans.push(plan),
            // What is wrong with the question is wrong for all machines.
            Err(error) if error.kind() == Kind::Invalid => return Err(error.into()),
            Err(error) => failed.push((machine, error)),
        }
    }
    Ok((plans, failed))
}

/// What is to be told in the end.
struct Outcome<'a> {
    args: &'a Args,
    zone: Zone,
    plans: Vec<ForgetPlan>,
    failed: Vec<(String, Error)>,
}

impl Outcome<'_> {
    /// Why nothing is done: of points that were named, none goes if one cannot.
    fn refusal(&self) -> Option<Failure> {
        if self.args.points.is_empty() {
            return None;
        }
        let verdicts = self.plans.iter().flat_map(ForgetPlan::verdicts);
        let kept: Vec<&Verdict> = verdicts.filter(|verdict| verdict.kept).collect();
        let first = kept.first()?;
        let unreadable = Reason::Protected(Protection::Unreadable);
        let what = format!(
            "nothing was forgotten: {} of the points named cannot be, {} first ({})",
            kept.len(),
            first.time().folder_name(),
            reasons(first)
        );
        let error = if kept
            .iter()
            .any(|verdict| verdict.reasons.contains(&unreadable))
        {
            for error in self.plans.iter().flat_map(ForgetPlan::damaged) {
                eprintln!("cairn: {error}");
            }
            Error::damaged(what).advise("points that cannot be read are forgotten with --damaged")
        } else {
            Error::new(Kind::Denied, what)
        };
        Some(error.into())
    }

    fn print(&self, done: &[cairn::Result<Forgotten>]) -> Result<(), Failure> {
        if self.args.json {
            return output::json(&self.document(done));
        }
        let mut text = String::new();
        for plan in &self.plans {
            for verdict in plan.verdicts() {
                let id = verdict.point.file.id.to_string();
                text.push_str(&format!(
                    "{}  {}@{}  {}  {}\n",
                    if verdict.kept { "keep  " } else { "forget" },
                    plan.machine(),
                    verdict.time().folder_name(),
                    id.get(..12).unwrap_or(&id),
                    reasons(verdict)
                ));
            }
        }
        output::write(text.as_bytes())
    }

    fn document(&self, done: &[cairn::Result<Forgotten>]) -> Value {
        let mut machines: Vec<Value> = Vec::new();
        for (at, plan) in self.plans.iter().enumerate() {
            let points: Vec<Value> = plan.verdicts().iter().map(as_json).collect();
            let error = done.get(at).and_then(|done| done.as_ref().err());
            machines.push(json!({
                "machine": plan.machine(),
                "points": points,
                "damaged": plan.damaged().map(ToString::to_string).collect::<Vec<_>>(),
                "error": error.map(ToString::to_string),
            }));
        }
        machines.extend(self.failed.iter().map(|(machine, error)| {
            json!({"machine": machine, "points": [], "damaged": [], "error": error.to_string()})
        }));
        json!({
            "timezone": self.zone.name(),
            "dry_run": self.args.dry_run,
            "forgotten": self.count(done),
            "machines": machines,
        })
    }

    /// How many points were forgotten; in a rehearsal, how many would be.
    fn count(&self, done: &[cairn::Result<Forgotten>]) -> usize {
        if self.args.dry_run {
            return self.plans.iter().map(|plan| plan.forgotten().len()).sum();
        }
        let done = done.iter().filter_map(|done| done.as_ref().ok());
        done.map(|done| done.forgotten.len()).sum()
    }

    /// Says what was done, what was not, and what to do next.
    fn end(&self, done: &[cairn::Result<Forgotten>]) -> Answer {
        let mut damaged = false;
        for error in self.plans.iter().flat_map(ForgetPlan::damaged) {
            eprintln!("cairn: {error}");
            damaged = true;
        }
        for (plan, done) in self.plans.iter().zip(done) {
            for (file, protections) in done.iter().flat_map(|done| &done.kept) {
                let why: Vec<String> = protections.iter().map(ToString::to_string).collect();
                let (machine, time) = (plan.machine(), file.time().folder_name());
                warn(&format!(
                    "{machine}@{time} was kept: {} by now",
                    why.join(", ")
                ));
            }
        }
        let count = self.count(done);
        let points = if count == 1 { "point" } else { "points" };
        let store = self.args.store.display();
        if self.args.dry_run {
            eprintln!("cairn: {count} {points} would be forgotten; nothing was changed");
        } else if count == 0 {
            eprintln!("cairn: no point was forgotten");
        } else {
            eprintln!(
                "cairn: {count} {points} forgotten; run `cairn prune {store}` to free the space"
            );
        }
        let planned = self.plans.iter().map(ForgetPlan::machine).zip(done);
        let undone = planned.filter_map(|(machine, done)| Some((machine, done.as_ref().err()?)));
        let failed = self
            .failed
            .iter()
            .map(|(machine, error)| (&**machine, error));
        let mut first: Option<Failure> = None;
        for (machine, error) in failed.chain(undone) {
            let failure = Failure::from(error.clone());
            damaged |= failure.code() == 4;
            eprintln!("cairn: {machine}: {error}");
            first = first.or(Some(failure));
        }
        match first {
            _ if damaged => Ok(Exit::Damage),
            Some(failure) => Err(failure.in_batch("not every machine could be done".to_string())),
            None => Ok(Exit::Done),
        }
    }
}

fn reasons(verdict: &Verdict) -> String {
    let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
    reasons.join(", ")
}

fn as_json(verdict: &Verdict) -> Value {
    let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
    json!({
        "point": verdict.point.file.id.to_string(),
        "sequence": verdict.point.file.sequence,
        "time": verdict.time().rfc3339(),
        "import": verdict.point.file.import,
        "keep": verdict.kept,
        "reasons": reasons,
    })
}

/// Owns up to points that are gone.
fn accept(args: &Args, store: &Store) -> Answer {
    let mut told = Vec::new();
    for machine in &args.machine {
        let accepted = store.accept_gone(machine)?;
        let name = &accepted.machine;
        if accepted.is_nothing() {
            eprintln!("cairn: {name}: nothing is gone");
        }
        if accepted.pins_lost {
            warn(&format!(
                "{name}: a new retention record was made; all pins are lost: set them again with `cairn pin`"
            ));
        }
        for (first, last) in &accepted.numbers {
            eprintln!("cairn: {name}: points number {first} to {last} are recorded as forgotten");
        }
        if accepted.is_empty {
            eprintln!("cairn: {name}: the machine has no recovery points any more");
        }
        told.push(json!({
            "machine": name,
            "numbers": accepted.numbers,
            "pins_lost": accepted.pins_lost,
            "empty": accepted.is_empty,
        }));
    }
    if args.json {
        output::json(&json!({ "accepted": told }))?;
    }
    Ok(Exit::Done)
}
