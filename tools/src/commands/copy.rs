//! `cairn copy STORE POINT:/disk/pN/path... DEST`

mod listed;
mod target;

use crate::address::{Address, Target, below_volume, open_named, open_store, resolve};
use crate::exit::{Answer, Exit, Failure};
use crate::guests::GuestArgs;
use crate::output;
use crate::progress::Progress;
use cairn::units::human_bytes;
use cairn::{
    ArchiveFormat, Copier, CopyOptions, CopyReport, CopyTarget, EntryId, Error, Kind, OnConflict,
    PointView, Store, Volume, copy::bytes_below, copy_files, walk,
};
use clap::ValueEnum;
use serde_json::json;
use std::ffi::OsString;
use std::io::{BufWriter, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use target::{Place, ToFile};

/// Copy files or folders out of points.
///
/// One address goes to DEST, or into it if that is a folder; several go into the folder DEST, which is made. They may be of several points and machines.
///
/// Content, holes, permissions, times, extended attributes and ACLs are kept, as root also owners and devices; several names of a file stay that. Named streams of NTFS become attributes
/// `user.ntfs.streams.NAME`. Symbolic links are copied, and never followed. Each file is made under another name and gets its own when it is whole; in the end everything is written to the disk.
/// What the target cannot hold of a file is named, and the command ends with 3. So it is if a volume may be shown old, in part or wrong. Programs that act as their owner
/// (set-user-ID) do so only if they get the guest's owner.
///
/// A target that ntfs-3g has mounted gets all that NTFS keeps of a file: streams, access lists, attributes (hidden, system, read-only, ...), all times, object ids, reparse points. Elsewhere access
/// lists, attributes and times of making of Windows are not copied. That is said once, and counts as no failure.
///
/// A copy that was broken off goes on with --resume: what is there and the same, by its bytes, counts as done. Not with --on-conflict rename: what was begun under which number cannot be known.
///
/// --format tar and --format zip write one file instead, or to standard output if DEST is `-`: cairn copy STORE web01@latest:/disk0/p1/etc --format tar - | ssh other tar -x
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// What to copy, and behind that where to: a new name, or a folder
    #[arg(required = true, value_name = "POINT:/disk/pN/path... DEST")]
    places: Vec<OsString>,
    /// More addresses, one a line, from a file or, with `-`, from standard input
    #[arg(long, value_name = "LIST")]
    from_file: Option<PathBuf>,
    /// The list has a NUL byte behind each address instead of a line's end
    #[arg(short = '0', long, requires = "from_file")]
    null: bool,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// What to do with what is there already
    #[arg(long, value_enum, default_value_t = Conflict::Fail)]
    on_conflict: Conflict,
    /// Make the folders above, as they are in the guest: DEST/disk0/p1/etc/passwd; with several points DEST/MACHINE/TIME/disk0/p1/etc/passwd
    #[arg(long)]
    parents: bool,
    /// Go on with a copy that was broken off
    #[arg(long, conflicts_with = "format")]
    resume: bool,
    /// Read everything back from the disk and compare. With --format: read each file before it is begun, and leave out what cannot be read
    #[arg(long)]
    verify: bool,
    /// Write an archive
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    guests: GuestArgs,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What to do with what is there already.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Conflict {
    /// Name it, copy the rest
    Fail,
    /// Leave it, fill folders
    Skip,
    /// Replace files, fill folders
    Overwrite,
    /// Give the new one a number: `report (2).odt`
    Rename,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Tar,
    Zip,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let Some((dest, given)) = args.places.split_last() else {
        return Err(Error::invalid("nothing is named").into());
    };
    if args.resume && args.on_conflict == Conflict::Rename {
        let what = "--resume and --on-conflict rename exclude each other";
        return Err(Error::invalid(what).into());
    }
    let list = match &args.from_file {
        Some(path) => listed::read(path, args.null)?,
        None => Vec::new(),
    };
    let addresses: Vec<Address<'_>> = given
        .iter()
        .chain(&list)
        .map(|text| Address::parse(text))
        .collect::<Result<_, _>>()?;
    if addresses.is_empty() && args.from_file.is_none() {
        return Err(Error::invalid("say what to copy, and where to").into());
    }
    let place = Place::of(args, dest, &addresses)?;
    let store = open_store(&args.store)?.with_read_options(args.guests.options()?);
    let mut job = Job {
        store: &store,
        args,
        place: &place,
        addresses: &addresses,
        failed: Vec::new(),
        stopped: None,
    };
    let options = CopyOptions {
        on_conflict: match args.on_conflict {
            Conflict::Fail => OnConflict::Fail,
            Conflict::Skip => OnConflict::Skip,
            Conflict::Overwrite => OnConflict::Overwrite,
            Conflict::Rename => OnConflict::Rename,
        },
        force: args.force,
        resume: args.resume,
        verify: args.verify,
        total: job.total()?,
    };
    let mut report = job.copy(&options)?;
    let stopped = report.stopped.take().map(Failure::of_guest);
    match job.stopped.take().or(stopped) {
        None => report_to_user(args, &place, &job.failed, &report),
        Some(failure) => {
            // What was done until then is told all the same, if there is anything to tell.
            if report.copied() > 0 || !report.failed.is_empty() {
                report_to_user(args, &place, &job.failed, &report)?;
            }
            Err(failure)
        }
    }
}

/// What is to be done.
struct Job<'a> {
    store: &'a Store,
    args: &'a Args,
    place: &'a Place,
    addresses: &'a [Address<'a>],
    /// Addresses that lead nowhere.
    failed: Vec<Failure>,
    /// Why addresses were not gone on with.
    stopped: Option<Failure>,
}

impl Job<'_> {
    /// How much there is to do, if anybody looks: finding out takes time.
    fn total(&mut self) -> Result<u64, Failure> {
        if !std::io::stderr().is_terminal() {
            return Ok(0);
        }
        let monitor = Progress::default();
        let mut total = 0u64;
        self.each(&mut |step| {
            if let Step::Found(found) = step {
                let below = bytes_below(&found.volume, found.id, &monitor)?;
                total = total.saturating_add(below);
            }
            Ok(())
        })?;
        Ok(total)
    }

    /// Tells each address, with what it leads to. Those of one point come together, and the point is closed behind them.
    fn each(&self, tell: Tell<'_>) -> Result<(), Failure> {
        let mut at = 0;
        while let Some(first) = self.addresses.get(at) {
            let rest = &self.addresses[at..];
            let count = rest.iter().take_while(|a| a.point == first.point).count();
            match open_named(self.store, first.point) {
                Ok(point) => {
                    for number in at..at + count {
                        tell(match self.find(&point, number) {
                            Ok(found) => Step::Found(found),
                            Err(failure) => Step::Failed(failure),
                        })?;
                    }
                    tell(Step::PointEnds)?;
                }
                // The only one there is: nothing can be done.
                Err(failure) if count == self.addresses.len() => return Err(failure),
                Err(failure) => tell(Step::Failed(failure))?,
            }
            at += count;
        }
        Ok(())
    }

    fn find(&self, point: &PointView, number: usize) -> Result<Found, Failure> {
        let path = self.addresses.get(number).map_or(&b""[..], |a| &a.path);
        match resolve(point, path)? {
            Target::Entry(volume, id) => {
                let above = if self.args.parents {
                    // The names of the disk and the volume come first, or the letter.
                    walk::above(&*volume, below_volume(path)).map_err(Failure::of_guest)?
                } else {
                    Vec::new()
                };
                let path = self.place.path_of(self.addresses, number, point);
                Ok(Found { path, above, volume, id })
            }
            _ => Err(
                Error::invalid("only files and folders of a volume are copied")
                    .advise("name one: POINT:/disk0/p1/path; whole disks are restored with `cairn restore`")
                    .into(),
            ),
        }
    }

    fn copy(&mut self, options: &CopyOptions) -> Result<CopyReport, Failure> {
        match self.args.format {
            None => {
                let folder = self.place.open_folder()?;
                self.copy_to(CopyTarget::Folder(&folder), options)
            }
            Some(format) => {
                let format = match format {
                    Format::Tar => ArchiveFormat::Tar,
                    Format::Zip => ArchiveFormat::Zip,
                };
                let replace = self.args.force || self.args.on_conflict == Conflict::Overwrite;
                let mut file = ToFile::create(&self.place.dest, replace)?;
                let mut out = BufWriter::with_capacity(1 << 18, &mut file);
                let copied = self.copy_to(CopyTarget::Archive(format, &mut out), options);
                drop(out.into_parts());
                if copied.is_err() && output::reader_is_gone() {
                    let what =
                        "the reader of standard output went away: the archive is not complete";
                    return Err(Error::new(Kind::Io, what).into());
                }
                let report = copied?;
                file.finish()?;
                Ok(report)
            }
        }
    }

    fn copy_to(
        &mut self,
        target: CopyTarget<'_>,
        options: &CopyOptions,
    ) -> Result<CopyReport, Failure> {
        let mut failed = Vec::new();
        let mut stopped = None;
        let only = self.addresses.len() == 1;
        let mut feed = |copier: &mut dyn Copier| {
            let fed = self.each(&mut |step| {
                match step {
                    Step::PointEnds => copier.settle()?,
                    Step::Found(found) => {
                        copier.add(&found.volume, found.id, &found.path, &found.above)?;
                    }
                    Step::Failed(failure) if only => return Err(failure),
                    Step::Failed(failure) => failed.push(failure),
                }
                Ok(())
            });
            // The engine knows errors; the exit code is kept for the end.
            fed.map_err(|failure| {
                let error = failure.error().clone();
                stopped = Some(failure);
                error
            })
        };
        let copied = copy_files(target, options, &Progress::default(), &mut feed);
        self.failed = failed;
        match (copied, stopped) {
            (Ok(report), stopped) => {
                self.stopped = stopped;
                Ok(report)
            }
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(Failure::of_guest(error)),
        }
    }
}

/// What an address leads to.
struct Found {
    /// Where it goes.
    path: Vec<u8>,
    /// The folders above it that are to be as in the guest.
    above: Vec<EntryId>,
    volume: Arc<dyn Volume>,
    id: EntryId,
}

/// What is told of the addresses.
enum Step {
    Found(Found),
    Failed(Failure),
    /// The point is closed next.
    PointEnds,
}

type Tell<'a> = &'a mut dyn FnMut(Step) -> Result<(), Failure>;

fn report_to_user(args: &Args, place: &Place, unfound: &[Failure], report: &CopyReport) -> Answer {
    if report.copied() == 0
        && let ([], [error]) = (unfound, &report.failed[..])
    {
        return Err(Failure::of_guest(error.clone()));
    }
    let mut failed: Vec<String> = unfound.iter().map(|f| f.error().to_string()).collect();
    failed.extend(report.failed.iter().map(ToString::to_string));
    if report.unnamed > 0 {
        failed.push(format!("and {} more", report.unnamed));
    }
    for error in &failed {
        eprintln!("cairn: {error}");
    }
    let lost = report.lost || unfound.iter().any(|failure| failure.code() == 4);
    summary(args, place, report, &failed)?;
    if lost {
        return Ok(Exit::Damage);
    }
    if report.copied() == 0 && !failed.is_empty() {
        return Err(Error::new(Kind::NotFound, "nothing was copied").into());
    }
    Ok(if failed.is_empty() {
        Exit::Done
    } else {
        Exit::Warnings
    })
}

fn summary(
    args: &Args,
    place: &Place,
    report: &CopyReport,
    failed: &[String],
) -> Result<(), Failure> {
    let target = place.shown();
    for note in &report.notes {
        eprintln!("cairn: note: {note}");
    }
    if args.json {
        output::json(&json!({
            "target": target, "files": report.files, "folders": report.folders,
            "links": report.links, "specials": report.specials, "bytes": report.bytes,
            "skipped": report.skipped, "renamed": report.renamed, "already": report.already,
            "verified": report.verified, "failed": failed, "notes": report.notes,
        }))?;
        return Ok(());
    }
    let mut line = format!(
        "{} files, {} folders, {} links, {} copied to {target}",
        report.files,
        report.folders,
        report.links,
        human_bytes(report.bytes),
    );
    for (count, what) in [
        (report.specials, "devices and pipes"),
        (report.skipped, "skipped"),
        (report.renamed, "renamed"),
        (report.already, "there already"),
        (report.verified, "verified"),
    ] {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    if place.is_stream() {
        // Standard output has the archive.
        eprintln!("cairn: {line}");
    } else {
        output::line(&line)?;
    }
    Ok(())
}
