//! `cairn find STORE [MACHINE|POINT]...`

use crate::address::open_store;
use crate::amount;
use crate::commands::ls::kind_name;
use crate::exit::{self, Answer, Exit, Failure};
use crate::guests::GuestArgs;
use crate::list::List;
use crate::output;
use crate::progress::Progress;
use cairn::units::human_bytes;
use cairn::{
    Criteria, EntryKind, Error, FileVersion, FindEvent, Glob, Kind, Lettered, PointId, Store, Time,
    find_files,
};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Look for files in all points of machines.
///
/// Each version of a path is told once, with the first and the last point that has it and how many have it. A version ends where kind, size, time of change or content of the
/// file become others, or the file goes away. Content is compared without reading it where it lies at the same place and nothing of that place changed on the disk.
/// Of a folder the time does not count; its latest is told. Disks and volumes that did not change from one point to the next are looked into once.
///
/// Everything that is asked for must hold; of several --name, --path or --type, one. In patterns `*` stands for any characters, also `/` in --path, `?` for one,
/// `[a-z]` for one of these. A drive letter stands for the volume that has it in the point that is looked into; what is found is told by disk and partition. The case of letters counts, but not on volumes where it does not for the guest (NTFS, FAT, exFAT).
///
/// What cannot be read is named at the end, and the command ends with 3, or with 4 if the store is damaged; everything else is told. It ends with 0 whether or not something is found.
///
/// To copy what is found: cairn find STORE MACHINE --name '*.ods' --newest -0 | cairn copy STORE --from-file - -0 DEST
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// All points of these machines, and these points; of all machines, if none is named
    #[arg(value_name = "MACHINE|POINT")]
    of: Vec<String>,
    /// The last name of the path
    #[arg(long, value_name = "GLOB")]
    name: Vec<OsString>,
    /// The whole path: `/disk0/p1/etc/passwd`; or with a drive letter of Windows, `C:/Users/*` or `C:\Users\*`
    #[arg(long, value_name = "GLOB")]
    path: Vec<OsString>,
    /// Letters stand for large and small ones
    #[arg(short, long)]
    ignore_case: bool,
    /// Content changed since then: 2026-11-20T02:00:00Z, or as long ago as 90m, 12h, 30d, 2w
    #[arg(long, value_name = "TIME", value_parser = amount::since, allow_hyphen_values = true)]
    newer: Option<Time>,
    /// Content changed before
    #[arg(long, value_name = "TIME", value_parser = amount::since, allow_hyphen_values = true)]
    older: Option<Time>,
    /// Files of this size: `+10MiB` or more, `-10MiB` or less, `1MB..2GB`, or exactly `700`
    #[arg(long, value_name = "SIZE", value_parser = amount::sizes, allow_hyphen_values = true)]
    size: Option<(Option<u64>, Option<u64>)>,
    /// f: file, d: folder, l: symbolic link, c, b: device, p: pipe, s: socket
    #[arg(long = "type", value_name = "TYPE", value_parser = kind, value_delimiter = ',')]
    kind: Vec<EntryKind>,
    #[command(flatten)]
    guests: GuestArgs,
    /// Of each path only the newest version
    #[arg(long)]
    newest: bool,
    /// Print addresses only, as the other commands take them: POINT:/disk0/p1/path, in the newest point that has the version
    #[arg(long, conflicts_with = "json")]
    plain: bool,
    /// As --plain, each address with a NUL byte at its end instead of a line's
    #[arg(short = '0', long, conflicts_with = "json")]
    null: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let criteria = criteria(args)?;
    let store = open_store(&args.store)?.with_read_options(args.guests.options()?);
    let mut shown = Shown {
        args,
        list: List::new(args.json),
        waiting: None,
        problems: Problems::default(),
        failed: None,
    };
    for (machine, only) in machines(&store, &args.of, &mut shown.problems)? {
        find_files(
            &store,
            &machine,
            only.as_deref(),
            &criteria,
            &Progress::default(),
            &mut |event| shown.take(&machine, event),
        )?;
        shown.flush(&machine);
        if let Some(failure) = shown.failed.take() {
            return Err(failure);
        }
        if output::reader_is_gone() {
            break;
        }
    }
    shown.list.end()?;
    Ok(shown.problems.tell())
}

fn criteria(args: &Args) -> Result<Criteria, Failure> {
    let globs = |patterns: &[OsString]| -> Result<Vec<Glob>, Error> {
        let parsed = patterns.iter().map(|text| Glob::new(text.as_bytes()));
        parsed.collect()
    };
    let (at_least, at_most) = args.size.unwrap_or_default();
    let (mut paths, mut lettered) = (Vec::new(), Vec::new());
    for pattern in &args.path {
        match Lettered::of_pattern(pattern.as_bytes())? {
            Some(of_letter) => lettered.push(of_letter),
            None => paths.push(Glob::new(pattern.as_bytes())?),
        }
    }
    Ok(Criteria {
        names: globs(&args.name)?,
        paths,
        lettered,
        newer: args.newer,
        older: args.older,
        at_least,
        at_most,
        kinds: args.kind.clone(),
        ignore_case: args.ignore_case,
    })
}

fn kind(text: &str) -> Result<EntryKind, String> {
    Ok(match text {
        "f" => EntryKind::File,
        "d" => EntryKind::Folder,
        "l" => EntryKind::Symlink,
        "c" => EntryKind::CharDevice,
        "b" => EntryKind::BlockDevice,
        "p" => EntryKind::Fifo,
        "s" => EntryKind::Socket,
        _ => return Err("write one of f, d, l, c, b, p and s".to_string()),
    })
}

/// A machine, and which of its points: none stands for all.
type OfMachine = (String, Option<Vec<PointId>>);

/// The machines that are meant, each once, in the order they were named.
fn machines(
    store: &Store,
    named: &[String],
    problems: &mut Problems,
) -> Result<Vec<OfMachine>, Failure> {
    if named.is_empty() {
        let (all, unreadable) = store.machines()?;
        for error in unreadable {
            problems.add(error.to_string(), true);
        }
        return Ok(all.into_iter().map(|machine| (machine, None)).collect());
    }
    let mut found: Vec<OfMachine> = Vec::new();
    for name in named {
        // A name of a point has an `@`, or is the beginning of an id: a machine of that name goes first.
        let machine = match name.contains('@') {
            true => None,
            false => store.machine_name(name)?,
        };
        let (machine, point) = match machine {
            Some(machine) => (machine, None),
            None => {
                let point = store.find_point(name).map_err(|error| match error.kind() {
                    Kind::Invalid if !name.contains('@') => {
                        let what = format!("`{name}` is neither a machine nor a point");
                        Error::not_found(what).advise("see `cairn points`")
                    }
                    _ => error,
                })?;
                (point.record.machine, Some(point.id))
            }
        };
        match (found.iter_mut().find(|(known, _)| *known == machine), point) {
            (None, point) => found.push((machine, point.map(|id| vec![id]))),
            (Some((_, all)), None) => *all = None,
            (Some((_, Some(ids))), Some(id)) if !ids.contains(&id) => ids.push(id),
            (Some(_), Some(_)) => {}
        }
    }
    Ok(found)
}

/// Prints what is found, and keeps what is told at the end.
struct Shown<'a> {
    args: &'a Args,
    list: List,
    /// With --newest: a version, until it is known that none of the same path follows.
    waiting: Option<FileVersion>,
    problems: Problems,
    failed: Option<Failure>,
}

impl Shown<'_> {
    fn take(&mut self, machine: &str, event: FindEvent) -> ControlFlow<()> {
        match event {
            FindEvent::Found(version) if self.args.newest => {
                let same = |waiting: &FileVersion| waiting.path == version.path;
                if !self.waiting.as_ref().is_some_and(same) {
                    self.flush(machine);
                }
                self.waiting = Some(version);
            }
            FindEvent::Found(version) => self.print(machine, &version),
            FindEvent::Problem(point, path, error) => {
                // What is wrong with a point itself is damage of the store, and so is a lost chunk, which is named.
                let lost = error.id().is_some() || point.is_none();
                let place = match point {
                    Some(point) => {
                        let path = String::from_utf8_lossy(&path).into_owned();
                        let shown = path.escape_debug();
                        format!(
                            "{}: {error}",
                            address(machine, point.time(), &shown.to_string())
                        )
                    }
                    None => format!("{machine}: {error}"),
                };
                self.problems.add(place, lost);
            }
        }
        match self.failed.is_some() || output::reader_is_gone() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn flush(&mut self, machine: &str) {
        if let Some(version) = self.waiting.take() {
            self.print(machine, &version);
        }
    }

    fn print(&mut self, machine: &str, version: &FileVersion) {
        let told = if self.args.plain || self.args.null {
            let mut line = address(machine, version.last.time(), "").into_bytes();
            line.extend_from_slice(&version.path);
            let end: &[u8] = if self.args.null { b"\0" } else { b"\n" };
            self.list.raw(&[&line, end])
        } else {
            self.list
                .add(|| as_json(machine, version), || as_line(machine, version))
        };
        if let Err(failure) = told {
            self.failed.get_or_insert(failure);
        }
    }
}

fn address(machine: &str, time: Time, path: &str) -> String {
    format!("{machine}@{}:/{path}", time.folder_name())
}

fn as_json(machine: &str, version: &FileVersion) -> Value {
    let (path, hex) = output::name_json(&version.path);
    let text = String::from_utf8_lossy(&version.path);
    let point = |file: &cairn::PointFile| json!({"point": file.id.to_string(), "time": file.time().rfc3339()});
    let mut value = json!({
        "machine": machine,
        "path": path,
        "address": address(machine, version.last.time(), &text),
        "kind": kind_name(version.kind).0,
        "size": version.size,
        "modified": version.modified.rfc3339(),
        "first": point(&version.first),
        "last": point(&version.last),
        "points": version.points,
    });
    if let (Some(hex), Some(fields)) = (hex, value.as_object_mut()) {
        fields.insert("path_hex".to_string(), hex.into());
    }
    value
}

fn as_line(machine: &str, version: &FileVersion) -> Vec<u8> {
    let (first, last) = (version.first.time(), version.last.time());
    let row = match version.points {
        1 => last.folder_name(),
        count => format!("{}..{} ({count})", first.folder_name(), last.folder_name()),
    };
    let mut line = format!(
        "{} {:>9} {}  {machine}@{row}:/",
        kind_name(version.kind).1,
        human_bytes(version.size),
        version.modified.rfc3339(),
    )
    .into_bytes();
    line.extend(output::shown(&version.path));
    line
}

/// What could not be looked at.
#[derive(Default)]
struct Problems {
    named: Vec<String>,
    more: u64,
    lost: bool,
}

impl Problems {
    /// Named one by one; of more the number is told.
    const MAX: usize = 1000;

    fn add(&mut self, what: String, lost: bool) {
        self.lost |= lost;
        if self.named.len() < Problems::MAX {
            self.named.push(what);
        } else {
            self.more += 1;
        }
    }

    fn tell(self) -> Exit {
        for problem in &self.named {
            exit::warn(problem);
        }
        if self.more > 0 {
            exit::warn(&format!("and {} more", self.more));
        }
        if self.lost { Exit::Damage } else { Exit::Done }
    }
}
