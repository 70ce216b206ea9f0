//! `cairn protect STORE PERIOD`

use crate::address::open_store;
use crate::exit::{Answer, Exit};
use crate::output;
use cairn::{Period, spelled_seconds};
use serde_json::json;
use std::path::PathBuf;

/// Raise the time for which points cannot be forgotten after they were made; without one, show it.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// 12h, 30d, 2w, 6m, 1y: at most ten years, and never less than before. A month counts as 31 days, a year as 366
    #[arg(value_name = "PERIOD", value_parser = Period::parse)]
    period: Option<Period>,
    /// Say it anew where nobody knows it any more, because its record is damaged or gone
    #[arg(long, requires = "period")]
    damaged: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let store = open_store(&args.store)?;
    if let Some(period) = &args.period {
        store.protect(period.seconds(), args.damaged)?;
    }
    let seconds = store.immutability()?;
    if args.json {
        output::json(&json!({ "immutable_seconds": seconds }))?;
    } else if seconds == 0 {
        output::line("points can be forgotten at any age")?;
    } else {
        output::line(&format!(
            "points cannot be forgotten for {} after they were made",
            spelled_seconds(seconds)
        ))?;
    }
    Ok(Exit::Done)
}
