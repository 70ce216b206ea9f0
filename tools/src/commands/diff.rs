//! `cairn diff STORE A B`

use crate::address::{open_named, open_store};
use crate::commands::ls::kind_name;
use crate::exit::{self, Answer, Exit, Failure};
use crate::guests::GuestArgs;
use crate::list::List;
use crate::output;
use crate::progress::Progress;
use cairn::units::human_bytes;
use cairn::{
    Change, Detail, EntryKind, Error, FileChange, Found, How, Part, PointView, changed_files,
    changed_ranges,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Show what differs between two points.
///
/// Without --files: the ranges of disk that are not in B as they were in A, found by comparing the points' maps, in time proportional to the difference. A chunk (up to 128 KiB) that is not
/// the same counts as changed with all its bytes; with --exact the chunks that differ are read, and blocks of 4 KiB compared. Disks are matched by name; what lies behind the end of
/// A's disk counts as zeros.
///
/// With --json these ranges have the form of `qemu-img map --output=json`, for one disk, as `cairn backup --changed` takes it; `zero` marks what reads as zeros in B.
///
/// With --files: files that were added (+), removed (-) and changed (M). A file is changed if its size, times but for the last access, mode, owner or content differ; what of it is
/// said behind its name. Content is read only where the disks differ, or where it lies elsewhere. What cannot be read is named, and the command ends with 3.
///
/// It ends with 0 whether or not something differs.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// The older point
    a: String,
    /// The newer point, of the same machine or of another
    b: String,
    /// Only this disk
    #[arg(long, value_name = "NAME")]
    disk: Option<String>,
    /// Compare blocks of 4 KiB where chunks differ
    #[arg(long, conflicts_with = "files")]
    exact: bool,
    /// Compare files
    #[arg(long)]
    files: bool,
    #[command(flatten)]
    guests: GuestArgs,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let store = open_store(&args.store)?.with_read_options(args.guests.options()?);
    let older = open_named(&store, &args.a)?;
    let newer = open_named(&store, &args.b)?;
    if args.files {
        return files(args, &older, &newer);
    }
    let names = disks(args, &older, &newer)?;
    if args.json && names.len() != 1 {
        let advice = format!("name one of them with --disk: {}", names.join(", "));
        let error =
            Error::invalid("--json tells the ranges of one disk, and the points have several");
        return Err(error.advise(advice).into());
    }
    let mut list = List::new(args.json);
    for name in &names {
        ranges(args, &older, &newer, name, &mut list)?;
    }
    list.end()?;
    Ok(Exit::Done)
}

/// The disks that are compared, in the order of the newer point. Those that only one point has are named.
fn disks(args: &Args, older: &PointView, newer: &PointView) -> Result<Vec<String>, Failure> {
    if let Some(name) = &args.disk {
        return Ok(vec![name.clone()]);
    }
    let names = |point: &PointView| -> Vec<String> {
        point
            .disks()
            .iter()
            .map(|disk| disk.name().to_string())
            .collect()
    };
    let (old, new) = (names(older), names(newer));
    let has = |all: &[String], name: &str| all.iter().any(|other| other.eq_ignore_ascii_case(name));
    for (which, these, others) in [("older", &old, &new), ("newer", &new, &old)] {
        for name in these.iter().filter(|name| !has(others, name)) {
            exit::warn(&format!("only the {which} point has the disk {name}"));
        }
    }
    let both: Vec<String> = new.into_iter().filter(|name| has(&old, name)).collect();
    if both.is_empty() {
        return Err(Error::not_found("the points have no disk of the same name").into());
    }
    Ok(both)
}

/// The sums of what is told of a disk.
#[derive(Default)]
struct Sum {
    ranges: u64,
    bytes: u64,
    zeros: u64,
}

fn ranges(
    args: &Args,
    older: &PointView,
    newer: &PointView,
    name: &str,
    list: &mut List,
) -> Result<(), Failure> {
    let detail = if args.exact {
        Detail::Blocks
    } else {
        Detail::Chunks
    };
    let (mut sum, mut failed) = (Sum::default(), None);
    changed_ranges(
        older,
        newer,
        name,
        detail,
        &Progress::default(),
        &mut |change| {
            let length = change.range.end.saturating_sub(change.range.start);
            sum.ranges += 1;
            sum.bytes += length;
            sum.zeros += if change.zero { length } else { 0 };
            let told = list.add(|| as_json(&change), || as_line(name, &change).into_bytes());
            until(told, &mut failed)
        },
    )?;
    failed.map_or(Ok(()), Err)?;
    let size = |point: &PointView| {
        let mut disks = point.disks().iter();
        disks
            .find(|disk| disk.name().eq_ignore_ascii_case(name))
            .map_or(0, |disk| disk.size())
    };
    let (before, after) = (size(older), size(newer));
    let mut summary = format!(
        "{name}: {} changed in {} ranges, of that {} to zeros",
        human_bytes(sum.bytes),
        sum.ranges,
        human_bytes(sum.zeros)
    );
    if before != after {
        summary.push_str(&format!("; its size was {before} bytes and is {after}"));
    }
    if args.json {
        // The document has no place for it.
        if before != after {
            eprintln!("cairn: {summary}");
        }
        return Ok(());
    }
    list.add(|| Value::Null, || summary.into_bytes())
}

/// Goes on unless printing failed, or nobody reads it.
fn until(told: Result<(), Failure>, failed: &mut Option<Failure>) -> ControlFlow<()> {
    match told {
        Ok(()) if !output::reader_is_gone() => ControlFlow::Continue(()),
        Ok(()) => ControlFlow::Break(()),
        Err(failure) => {
            *failed = Some(failure);
            ControlFlow::Break(())
        }
    }
}

fn as_json(change: &Change) -> Value {
    json!({
        "start": change.range.start,
        "length": change.range.end.saturating_sub(change.range.start),
        "depth": 0,
        "present": true,
        "zero": change.zero,
        "data": !change.zero,
    })
}

fn as_line(name: &str, change: &Change) -> String {
    let length = change.range.end.saturating_sub(change.range.start);
    let zeros = if change.zero { "  zeros" } else { "" };
    format!("{name}  {:>15}  {length:>12}{zeros}", change.range.start)
}

fn files(args: &Args, older: &PointView, newer: &PointView) -> Answer {
    let mut list = List::new(args.json);
    let (mut counts, mut failed, mut lost) = ([0u64; 3], None, false);
    changed_files(
        older,
        newer,
        args.disk.as_deref(),
        &Progress::default(),
        &mut |found| {
            let told = match found {
                Found::Change(change) => {
                    let at = match change.how {
                        How::Added => 0,
                        How::Removed => 1,
                        How::Changed => 2,
                    };
                    counts[at] += 1;
                    list.add(|| file_json(&change), || file_line(&change))
                }
                Found::Problem(path, error) => {
                    // A lost chunk of the store names itself.
                    lost |= error.id().is_some();
                    let path = String::from_utf8_lossy(&path).into_owned();
                    exit::warn(&format!("{path:?} cannot be compared: {error}"));
                    Ok(())
                }
            };
            until(told, &mut failed)
        },
    )?;
    failed.map_or(Ok(()), Err)?;
    if !args.json {
        let [added, removed, changed] = counts;
        let summary = format!("{added} added, {removed} removed, {changed} changed");
        list.add(|| Value::Null, || summary.into_bytes())?;
    }
    list.end()?;
    Ok(if lost { Exit::Damage } else { Exit::Done })
}

fn how(how: How) -> (&'static str, &'static str) {
    match how {
        How::Added => ("+ ", "added"),
        How::Removed => ("- ", "removed"),
        How::Changed => ("M ", "changed"),
    }
}

fn part(part: Part) -> &'static str {
    match part {
        Part::Content => "content",
        Part::Size => "size",
        Part::Modified => "modified",
        Part::Changed => "changed",
        Part::Mode => "mode",
        Part::Owner => "owner",
        Part::Device => "device",
        Part::Streams => "streams",
    }
}

fn file_json(change: &FileChange) -> Value {
    let (path, hex) = output::name_json(&change.path);
    let parts: BTreeSet<&str> = change.parts.iter().copied().map(part).collect();
    let [before, after] = change.sizes;
    let mut value = json!({
        "path": path,
        "change": how(change.how).1,
        "kind": kind_name(change.kind).0,
        "size_before": before,
        "size_after": after,
        "differs": parts,
    });
    if let (Some(hex), Some(fields)) = (hex, value.as_object_mut()) {
        fields.insert("path_hex".to_string(), hex.into());
    }
    value
}

fn file_line(change: &FileChange) -> Vec<u8> {
    let mut line = how(change.how).0.as_bytes().to_vec();
    line.extend(output::shown(&change.path));
    if change.kind == EntryKind::Folder {
        line.push(b'/');
    }
    if !change.parts.is_empty() {
        let parts: Vec<_> = change.parts.iter().copied().map(part).collect();
        line.extend(format!("  ({})", parts.join(", ")).into_bytes());
    }
    line
}
