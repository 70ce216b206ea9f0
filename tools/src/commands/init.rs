//! `cairn init STORE`

use crate::exit::{Answer, Exit};
use cairn::{CutParameters, Period, Store};
use std::path::PathBuf;

/// Make a store.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for the store; made if it is not there, and must be empty
    store: PathBuf,
    /// Cut disks into chunks of exactly so many KiB (4-128, a multiple of 4) instead of by content
    #[arg(long, value_name = "KIB")]
    fixed: Option<u32>,
    /// Parity in percent of what is stored (0-25), so that damaged sectors of packs can be repaired
    #[arg(long, value_name = "PERCENT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(..=25))]
    parity: u32,
    /// Points cannot be forgotten for so long after they were made: 12h, 30d, 2w, 6m, 1y. It can be raised later (`cairn protect`), never lowered
    #[arg(long, value_name = "PERIOD", value_parser = Period::parse)]
    immutable: Option<Period>,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let cut = match args.fixed {
        Some(kib) => CutParameters::Fixed {
            size: kib.saturating_mul(1024),
        },
        None => CutParameters::default(),
    };
    let immutable = args.immutable.map_or(0, |period| period.seconds());
    Store::create_immutable(&args.store, cut, args.parity, immutable)?;
    eprintln!("cairn: made a store in {}", args.store.display());
    Ok(Exit::Done)
}
