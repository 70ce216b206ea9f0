//! The command `cairn`: recovery points of virtual-machine disks, stored once, mounted as files.
//!
//! Results go to standard output, one JSON document with `--json`; progress and messages go to standard error.

mod account;
mod address;
mod amount;
mod changes;
mod chart;
mod commands;
mod exit;
mod guests;
mod images;
mod keys;
mod list;
mod output;
mod progress;
mod signals;
mod tame;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Recovery points of virtual-machine disks, stored once, mounted as files.
#[derive(Parser)]
#[command(name = "cairn", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
POINT is MACHINE@latest, MACHINE@2026-11-20T02-00-00Z, or at least 4 digits of a point's id.
Exit codes: 0 done; 1 failed, nothing lost; 2 usage; 3 done with warnings; 4 damage found; 5 the store or machine is busy.";

#[derive(Subcommand)]
enum Command {
    /// Make a store
    Init(commands::init::Args),
    /// Back up disks as one recovery point of a machine
    Backup(commands::backup::Args),
    /// List recovery points
    Points(commands::points::Args),
    /// Show what a disk image is, and what is wrong with it
    Disk(commands::disk::Args),
    /// Mount a store or a disk image as files
    Mount(commands::mount::Args),
    /// List disks, volumes or a folder of a point
    Ls(commands::ls::Args),
    /// Write a file of a point to standard output
    Cat(commands::cat::Args),
    /// Look for files in all points of machines
    Find(commands::find::Args),
    /// Copy files or folders out of a point
    Copy(commands::copy::Args),
    /// Serve disks of a point or an image to hypervisors and tools
    Serve(commands::serve::Args),
    /// Restore whole disks of a point
    Restore(commands::restore::Args),
    /// Check that every point can be restored
    Verify(commands::verify::Args),
    /// Give back the space of what no recovery point needs
    Prune(commands::prune::Args),
    /// Show what differs between two points: ranges of disks, or files
    Diff(commands::diff::Args),
    /// Show what a store holds, in numbers
    Stats(commands::stats::Args),
    /// Forget recovery points: by rules, or those named
    Forget(commands::forget::Args),
    /// Keep a recovery point whatever rules say, or list those kept so
    Pin(commands::pin::Args),
    /// Raise or show the time for which points cannot be forgotten
    Protect(commands::protect::Args),
    /// Explain what state a store is in, and what to run
    Doctor(commands::doctor::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A failing read under a memory map becomes an error instead of the end of the process.
    cairn::install_guard();
    let result = signals::install().and_then(|()| match cli.command {
        Command::Init(args) => commands::init::run(&args),
        Command::Backup(args) => commands::backup::run(&args),
        Command::Points(args) => commands::points::run(&args),
        Command::Disk(args) => commands::disk::run(&args),
        Command::Mount(args) => commands::mount::run(&args),
        Command::Ls(args) => commands::ls::run(&args),
        Command::Cat(args) => commands::cat::run(&args),
        Command::Find(args) => commands::find::run(&args),
        Command::Copy(args) => commands::copy::run(&args),
        Command::Serve(args) => commands::serve::run(&args),
        Command::Restore(args) => commands::restore::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Prune(args) => commands::prune::run(&args),
        Command::Diff(args) => commands::diff::run(&args),
        Command::Stats(args) => commands::stats::run(&args),
        Command::Forget(args) => commands::forget::run(&args),
        Command::Pin(args) => commands::pin::run(&args),
        Command::Protect(args) => commands::protect::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
    });
    exit::tell_healed();
    match result {
        Ok(exit) => exit.after_warnings().into(),
        Err(failure) => failure.report(),
    }
}
