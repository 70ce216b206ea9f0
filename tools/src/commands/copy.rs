//! `cairn copy STORE POINT:/disk/pN/path DEST`

use crate::address::{Address, Target, open_point, resolve};
use crate::exit::{Answer, Exit, Failure};
use crate::output;
use crate::progress::Progress;
use cairn::units::human_bytes;
use cairn::{Error, Kind, copy_out};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Copy files or folders out of a point.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// What to copy
    #[arg(value_name = "POINT:/disk/pN/path")]
    address: OsString,
    /// Where to: a new name, or a folder that is there
    dest: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let address = Address::parse(&args.address)?;
    let point = open_point(&args.store, &address)?;
    let Target::Entry(volume, id) = resolve(&point, address.path)? else {
        return Err(
            Error::invalid("only files and folders of a volume are copied")
                .advise(
                    "name one: POINT:/disk0/p1/path; whole disks are restored with `cairn restore`",
                )
                .into(),
        );
    };
    let mut target = args.dest.clone();
    if target.is_dir() {
        let name = address.last_name();
        // A disk or volume has no name of a file: its folder takes the volume's.
        target.push(OsStr::from_bytes(name));
    }
    let report = copy_out(&*volume, id, &target, args.force, &Progress::default())?;
    let copied = report.files + report.folders + report.links;
    if copied == 0
        && let Some(error) = report.failed.first().cloned()
    {
        return Err(Failure::of_guest(error));
    }
    for error in &report.failed {
        eprintln!("cairn: {error}");
    }
    // Lost chunks name themselves; anything else that could not be copied is a warning.
    let lost = |error: &Error| error.kind() == Kind::Damaged && error.id().is_some();
    if args.json {
        let failed: Vec<_> = report.failed.iter().map(ToString::to_string).collect();
        output::json(&json!({
            "target": target.display().to_string(), "files": report.files, "folders": report.folders,
            "links": report.links, "bytes": report.bytes, "failed": failed,
        }))?;
    } else {
        output::line(&format!(
            "{} files, {} folders, {} links, {} copied to {}",
            report.files,
            report.folders,
            report.links,
            human_bytes(report.bytes),
            target.display()
        ))?;
    }
    Ok(match &report.failed[..] {
        [] => Exit::Done,
        failed if failed.iter().any(lost) => Exit::Damage,
        _ => Exit::Warnings,
    })
}
