//! `cairn backup STORE --machine NAME [DISK=]IMAGE... [--base POINT --changed [DISK=]RANGES.json]`

mod formats;
mod jobs;

use crate::address::open_store;
use crate::changes;
use crate::exit::{Answer, Exit, Failure, warn};
use crate::images::{ParentArgs, names as format_names};
use crate::output;
use crate::progress::Progress;
use cairn::units::human_bytes;
use cairn::{
    BackupOptions, Consistency, DiskImage, DiskRecord, Error, FormatHint, Level, Point, PointId,
    Time, ToldBy, names,
};
use formats::Said;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Back up disks as one recovery point of a machine, or several machines at once.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Name of the machine the disks belong to
    #[arg(long, value_name = "NAME", required_unless_present = "jobs")]
    machine: Option<String>,
    /// Disk images: raw, VHD, VHDX or a block device, as IMAGE or DISK=IMAGE (./X=Y is a path)
    #[arg(required_unless_present = "jobs", value_name = "[DISK=]IMAGE")]
    images: Vec<OsString>,
    /// Several machines: a JSON list of {"machine": NAME, "disks": ["[DISK=]IMAGE", ...]}, each with "time", "consistency" and "format" (a list of [DISK=]FORMAT) if wanted
    #[arg(long, value_name = "FILE", conflicts_with_all = ["machine", "images", "time", "base", "changed"])]
    jobs: Option<PathBuf>,
    /// Machines of a list that are backed up at the same time
    #[arg(long, value_name = "N", default_value_t = 8, requires = "jobs", value_parser = clap::value_parser!(u8).range(1..=8))]
    at_once: u8,
    /// Time of the point, if not now; before the latest point it is an import and never `latest`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<Time>,
    /// What is known of the disks: crash (nothing), frozen (VSS, fsfreeze) or clean (shut down)
    #[arg(long, value_enum, default_value = "crash")]
    consistency: ConsistencyArg,
    /// The point of the machine that --changed is relative to
    #[arg(long, value_name = "POINT", requires = "changed")]
    base: Option<String>,
    /// What changed on a disk since --base: only that is read, and 0.1 % of the rest, to check it. A JSON list of
    /// {"start", "length"} in bytes, "zero": true where it reads as zeros now; or what `qemu-img map --output=json` prints of an overlay that
    /// was empty at --base: entries with "depth" above 0 count as unchanged. Without DISK= the first one is for the first disk, and so on
    #[arg(long, value_name = "[DISK=]RANGES.json", requires = "base")]
    changed: Vec<OsString>,
    /// Read everything that the images say is allocated, also what checkpoints (.avhdx) show to be as it was at the machine's latest point
    #[arg(long, conflicts_with = "changed")]
    full: bool,
    /// Leave nothing out, not even swap files and free blocks
    #[arg(long)]
    exact: bool,
    #[arg(long, value_name = "[DISK=]FORMAT", value_parser = formats::parse, help = format_help())]
    format: Vec<Said>,
    /// The same as --format raw
    #[arg(long, conflicts_with = "format")]
    raw: bool,
    #[command(flatten)]
    parents: ParentArgs,
    /// zstd level, 1 to 19, or `auto`: as high as costs no time (1 to 9)
    #[arg(long, value_name = "LEVEL", default_value = "3", value_parser = parse_level)]
    level: Level,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ConsistencyArg {
    Crash,
    Frozen,
    Clean,
}

impl From<ConsistencyArg> for Consistency {
    fn from(arg: ConsistencyArg) -> Consistency {
        match arg {
            ConsistencyArg::Crash => Consistency::Crash,
            ConsistencyArg::Frozen => Consistency::Frozen,
            ConsistencyArg::Clean => Consistency::Clean,
        }
    }
}

fn parse_time(text: &str) -> Result<Time, String> {
    Time::parse(text).map_err(|e| e.to_string())
}

fn parse_level(text: &str) -> Result<Level, String> {
    Level::parse(text).map_err(|e| e.to_string())
}

fn format_help() -> String {
    let names: Vec<_> = format_names().collect();
    format!(
        "Take the images, or that of one disk, for this format, whatever their content looks like: {}",
        names.join(", ")
    )
}

impl Args {
    /// What is said of the images' formats.
    fn formats(&self) -> Vec<Said> {
        match self.raw {
            true => vec![Said::of_all(FormatHint::Raw)],
            false => self.format.clone(),
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    // Nothing is left out by this version, so an exact backup is what every backup is.
    let _everything = args.exact;
    if let Some(file) = &args.jobs {
        return jobs::run(args, file);
    }
    let mut warnings: Vec<String> = Vec::new();
    let disks = open_disks(&args.images, &args.formats(), &args.parents, &mut warnings)?;
    let disks = with_changes(disks, &args.changed)?;
    let store = open_store(&args.store)?;
    let base = match &args.base {
        Some(name) => Some(store.find_point(name)?.id),
        None => None,
    };
    let machine = args.machine.clone().unwrap_or_default();
    let options = BackupOptions {
        time: args.time,
        base,
        level: args.level,
        read_all: args.full,
        consistency: args.consistency.into(),
        ..BackupOptions::new(machine)
    };
    let point = store.backup(disks, &options, &Progress::default())?;
    warnings.extend(point.record.warnings.iter().cloned());
    if args.json {
        output::json(&report(&point, &warnings))?;
    } else {
        tell(&point)?;
    }
    Ok(if warnings.is_empty() {
        Exit::Done
    } else {
        Exit::Warnings
    })
}

/// Opens the images of one machine; what is odd about them is told and added to `warnings`.
fn open_disks(
    images: &[OsString],
    said: &[Said],
    parents: &ParentArgs,
    warnings: &mut Vec<String>,
) -> Result<Vec<DiskImage>, Failure> {
    let mut disks = Vec::new();
    let images = images.iter().enumerate();
    let images = images.map(|(index, image)| split_name(image, index));
    let images: Vec<(String, &Path)> = images.collect::<Result<_, _>>()?;
    let names: Vec<String> = images.iter().map(|(name, _)| name.clone()).collect();
    for ((name, path), hint) in images.into_iter().zip(formats::of_disks(said, &names)?) {
        let how = parents.options(hint);
        let disk = DiskImage::open_with(name, path, &how).map_err(Failure::of_input)?;
        for warning in disk.warnings() {
            warn(&format!("{}: {warning}", path.display()));
            warnings.push(format!("{}: {warning}", path.display()));
        }
        disks.push(disk);
    }
    Ok(disks)
}

/// `X=Y` names a disk if X can be a disk's name; anything else is a path.
fn split_name(image: &OsStr, index: usize) -> Result<(String, &Path), Error> {
    let (name, path) = split_prefix(image)?;
    Ok((name.unwrap_or_else(|| format!("disk{index}")), path))
}

fn split_prefix(text: &OsStr) -> Result<(Option<String>, &Path), Error> {
    let bytes = text.as_bytes();
    if let Some(at) = bytes.iter().position(|byte| *byte == b'=')
        && let Ok(name) = std::str::from_utf8(&bytes[..at])
        && names::is_disk_name(name)
    {
        let path = OsStr::from_bytes(&bytes[at + 1..]);
        if path.is_empty() {
            return Err(Error::invalid(format!("`{name}=` names no file")));
        }
        return Ok((Some(name.to_string()), Path::new(path)));
    }
    Ok((None, Path::new(text)))
}

/// Gives the disks their change information, which names a disk or is for the one at its place.
fn with_changes(disks: Vec<DiskImage>, changed: &[OsString]) -> Result<Vec<DiskImage>, Error> {
    let mut files: Vec<Option<&Path>> = vec![None; disks.len()];
    for (place, text) in changed.iter().enumerate() {
        let (name, path) = split_prefix(text)?;
        let at = match &name {
            Some(name) => disks
                .iter()
                .position(|disk| disk.name().eq_ignore_ascii_case(name)),
            None => Some(place),
        };
        let shown = || text.to_string_lossy().into_owned();
        let file = at
            .and_then(|at| files.get_mut(at))
            .ok_or_else(|| Error::invalid(format!("`{}` is for no disk given", shown())))?;
        if file.replace(path).is_some() {
            return Err(Error::invalid(format!(
                "`{}` is for a disk that has one already",
                shown()
            )));
        }
    }
    let pairs = disks.into_iter().zip(files);
    pairs
        .map(|(disk, file)| match file {
            Some(path) => {
                let changes = changes::read(path, disk.size())?;
                Ok(disk.with_changes(changes))
            }
            None => Ok(disk),
        })
        .collect()
}

fn seconds(point: &Point) -> f64 {
    std::time::Duration::from_millis(point.record.stats.milliseconds).as_secs_f64()
}

fn report(point: &Point, warnings: &[String]) -> serde_json::Value {
    let stats = &point.record.stats;
    let of = |disk: &DiskRecord| {
        let origin = point.origin(&disk.name).cloned().unwrap_or_default();
        json!({
            "name": disk.name,
            "size": disk.size,
            "unchanged_bytes": origin.unchanged,
            "unchanged_told_by": origin.told_by.name(),
        })
    };
    let disks: Vec<_> = point.record.disks.iter().map(of).collect();
    json!({
        "point": point.id.to_string(),
        "machine": point.record.machine,
        "time": point.time().rfc3339(),
        "read_bytes": stats.read,
        "new_bytes": stats.new,
        "stored_bytes": stats.stored,
        "excluded_bytes": stats.excluded,
        "unchanged_bytes": stats.unchanged,
        "base": point.record.base.map(|id| PointId(id).to_string()),
        "disks": disks,
        "new_chunks": stats.new_chunks,
        "seconds": seconds(point),
        "warnings": warnings,
    })
}

fn tell(point: &Point) -> Result<(), Failure> {
    let stats = &point.record.stats;
    let seconds = seconds(point);
    let rate = std::time::Duration::from_millis(stats.milliseconds.max(1)).as_millis();
    let rate = u128::from(stats.read) * 1000 / rate.max(1);
    output::line(&format!(
        "{}@{}  {}",
        point.record.machine,
        point.time().folder_name(),
        point.id
    ))?;
    output::line(&format!(
        "read {}, new {}, stored {} in {seconds:.2} s ({}/s)",
        human_bytes(stats.read),
        human_bytes(stats.new),
        human_bytes(stats.stored),
        human_bytes(u64::try_from(rate).unwrap_or(u64::MAX)),
    ))?;
    for disk in &point.record.disks {
        if let Some(origin) = point.origin(&disk.name)
            && origin.told_by == ToldBy::Images
        {
            output::line(&format!(
                "{}: only what its youngest images hold was read; {} are as they were at the point it was compared with",
                disk.name,
                human_bytes(origin.unchanged),
            ))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_front_of_images() {
        let split = |text: &'static str| {
            split_name(OsStr::new(text), 3)
                .ok()
                .map(|(n, p)| (n, p.display().to_string()))
        };
        let pair = |n: &str, p: &str| Some((n.to_string(), p.to_string()));
        assert_eq!(split("C=a.vhdx"), pair("C", "a.vhdx"));
        assert_eq!(split("a.vhdx"), pair("disk3", "a.vhdx"));
        assert_eq!(split("./C=a.vhdx"), pair("disk3", "./C=a.vhdx"));
        assert_eq!(split("latest=x"), pair("disk3", "latest=x"));
        assert_eq!(split("C=a=b"), pair("C", "a=b"));
        assert_eq!(split("C="), None);
    }
}
