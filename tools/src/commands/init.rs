//! `cairn init STORE`

use crate::exit::{Answer, Exit};
use cairn::{CutParameters, Store};
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
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let cut = match args.fixed {
        Some(kib) => CutParameters::Fixed {
            size: kib.saturating_mul(1024),
        },
        None => CutParameters::default(),
    };
    Store::create_with_parity(&args.store, cut, args.parity)?;
    eprintln!("cairn: made a store in {}", args.store.display());
    Ok(Exit::Done)
}
