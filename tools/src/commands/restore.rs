//! `cairn restore STORE POINT --to DIR`

use crate::address::{open_named, open_store};
use crate::exit::{Answer, Exit, Failure};
use crate::output;
use crate::progress::Progress;
use cairn::restore::restore_to;
use cairn::units::human_bytes;
use cairn::{Error, ImageFormat, Kind, PointView, RestoreOptions, restore};
use clap::ValueEnum;
use serde_json::json;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Restore whole disks of a point.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// The point
    point: String,
    /// Folder for the images, or a block device; `-` writes one raw disk to standard output
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Only this disk
    #[arg(long, value_name = "NAME")]
    disk: Option<String>,
    /// What the disks are written as. Zeros take no room in any of them, where the file system keeps holes
    #[arg(long, value_enum, default_value = "raw")]
    format: FormatArg,
    /// Replace images that are there, or write onto a block device
    #[arg(long)]
    force: bool,
    /// Go on with what an interrupted restore has left: only what differs is written. With --force also with a raw image
    /// or a block device that holds an older state of the disk. If it is interrupted again, or fails, what is done stays
    #[arg(long)]
    resume: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum FormatArg {
    /// The disk's bytes
    Raw,
    /// VHD, dynamic: blocks without data are not there
    #[value(alias = "vhd-dynamic")]
    Vhd,
    /// VHD, fixed: the disk's bytes and a footer, as Azure takes it
    VhdFixed,
    /// VHDX, dynamic: blocks without data are not there
    #[value(alias = "vhdx-dynamic")]
    Vhdx,
    /// VHDX, fixed: all blocks are there
    VhdxFixed,
}

impl From<FormatArg> for ImageFormat {
    fn from(format: FormatArg) -> ImageFormat {
        match format {
            FormatArg::Raw => ImageFormat::Raw,
            FormatArg::Vhd => ImageFormat::Vhd,
            FormatArg::VhdFixed => ImageFormat::VhdFixed,
            FormatArg::Vhdx => ImageFormat::Vhdx,
            FormatArg::VhdxFixed => ImageFormat::VhdxFixed,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let store = open_store(&args.store)?;
    let point = open_named(&store, &args.point)?;
    let names: Vec<String> = match &args.disk {
        Some(name) => vec![name.clone()],
        None => point
            .disks()
            .iter()
            .map(|disk| disk.name().to_string())
            .collect(),
    };
    let monitor = Progress::default();
    if args.to == Path::new("-") {
        let name = single(&names)?;
        if args.json || args.resume || !matches!(args.format, FormatArg::Raw) {
            return Err(
                Error::invalid("standard output takes a raw disk, and nothing beside it")
                    .advise("leave out --json, --resume and --format, or name a folder")
                    .into(),
            );
        }
        restore_to(&point, name, &mut unbuffered_output()?, &monitor)?;
        return Ok(Exit::Done);
    }
    let options = RestoreOptions {
        format: args.format.into(),
        force: args.force,
        resume: args.resume,
    };
    let mut done = Vec::new();
    for (name, target) in targets(args, &names, options.format)? {
        let started = Instant::now();
        let restored = restore(&point, name, &target, &options, &monitor)
            .map_err(|error| advise_to_go_on(error, args, &point))?;
        let seconds = started.elapsed().as_secs_f64();
        if args.json {
            done.push(json!({
                "disk": name, "file": target.display().to_string(), "size": restored.disk_bytes,
                "data_bytes": restored.data_bytes, "resumed_bytes": restored.resumed_bytes, "seconds": seconds,
                "sync_seconds": restored.sync.as_secs_f64(),
            }));
        } else {
            let resumed = match restored.resumed_bytes {
                0 if !args.resume => String::new(),
                bytes => format!(", {} were there", human_bytes(bytes)),
            };
            output::line(&format!(
                "{}: {} of {} data in {seconds:.2} s (sync {:.2} s){resumed}",
                target.display(),
                human_bytes(restored.data_bytes),
                human_bytes(restored.disk_bytes),
                restored.sync.as_secs_f64(),
            ))?;
        }
    }
    if args.json {
        output::json(&done.into())?;
    }
    Ok(Exit::Done)
}

/// Standard output without the buffer that looks for ends of lines.
fn unbuffered_output() -> Result<File, Failure> {
    let failed = |e| Error::io("cannot open standard output", Path::new("-"), e);
    let copy = std::io::stdout().as_fd().try_clone_to_owned();
    Ok(File::from(copy.map_err(failed)?))
}

/// Says with which command a restore that was cut short goes on: with this very point, whatever is the latest by then.
fn advise_to_go_on(error: Error, args: &Args, point: &PointView) -> Error {
    if !args.resume || !matches!(error.kind(), Kind::Interrupted | Kind::Full | Kind::Io) {
        return error;
    }
    let mut words = vec![
        "cairn".to_string(),
        "restore".to_string(),
        quoted(&args.store.display().to_string()),
        point.point().id.to_string(),
        "--to".to_string(),
        quoted(&args.to.display().to_string()),
    ];
    if let Some(disk) = &args.disk {
        words.extend(["--disk".to_string(), quoted(disk)]);
    }
    if let Some(format) = args.format.to_possible_value()
        && !matches!(args.format, FormatArg::Raw)
    {
        words.extend(["--format".to_string(), format.get_name().to_string()]);
    }
    if args.force {
        words.push("--force".to_string());
    }
    words.push("--resume".to_string());
    error.advise(format!("to go on: {}", words.join(" ")))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The only disk, where only one can be written.
fn single(names: &[String]) -> Result<&String, Failure> {
    match names {
        [name] => Ok(name),
        _ => Err(Error::invalid("the point has several disks")
            .advise(format!("choose one with --disk: {}", names.join(", ")))
            .into()),
    }
}

/// Where each disk goes: into a folder, which is made, or to the one file or device that was named.
fn targets<'a>(
    args: &Args,
    names: &'a [String],
    format: ImageFormat,
) -> Result<Vec<(&'a String, PathBuf)>, Failure> {
    if args.to.exists() && !args.to.is_dir() {
        return Ok(vec![(single(names)?, args.to.clone())]);
    }
    // A folder there would lie in memory, and be gone with it.
    if !args.to.exists() && args.to.parent() == Some(Path::new("/dev")) {
        return Err(Error::not_found("there is no such device")
            .at_path(&args.to)
            .into());
    }
    std::fs::create_dir_all(&args.to)
        .map_err(|e| Error::io("cannot make the folder", &args.to, e))?;
    let file = |name: &String| args.to.join(format!("{name}.{}", format.extension()));
    Ok(names.iter().map(|name| (name, file(name))).collect())
}
