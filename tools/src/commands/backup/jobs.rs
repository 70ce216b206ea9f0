//! `cairn backup STORE --jobs FILE`: several machines at once.

use super::formats::{self, Said};
use super::{Args, ConsistencyArg, open_disks, report, split_name, tell};
use crate::address::open_store;
use crate::exit::{Answer, Exit, Failure};
use crate::output;
use crate::progress::Progress;
use cairn::{BackupOptions, Error, Job, Time};
use clap::ValueEnum;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What the list says of one machine.
#[derive(Debug)]
struct Entry {
    machine: String,
    images: Vec<OsString>,
    time: Option<Time>,
    consistency: Option<ConsistencyArg>,
    /// Of its disks; what the command says of all, if nothing.
    formats: Vec<Said>,
}

/// What is known of a machine's images when they have been opened.
#[derive(Default)]
struct Opened {
    /// What is odd about them.
    odd: Vec<String>,
    /// Why they could not be.
    failure: Option<Failure>,
}

/// Runs the command. A machine that cannot be backed up does not stop the others; it is named at the end.
pub fn run(args: &Args, file: &Path) -> Answer {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Error::io("cannot read the list of machines", file, e))?;
    let entries = parse(&text).map_err(|e| e.at_path(file))?;
    let store = open_store(&args.store)?;
    let opened: Vec<Mutex<Opened>> = entries.iter().map(|_| Mutex::default()).collect();
    let machines: Vec<String> = entries.iter().map(|e| e.machine.clone()).collect();
    let jobs = entries.into_iter().zip(&opened);
    let jobs = jobs
        .map(|(entry, opened)| job(args, entry, opened))
        .collect();
    let answers = store.backup_all(jobs, usize::from(args.at_once), &Progress::default());
    let mut documents = Vec::new();
    let mut warned = false;
    let mut failures: Vec<(String, Failure)> = Vec::new();
    let mut told = Ok(());
    for ((machine, answer), opened) in machines.into_iter().zip(answers).zip(opened) {
        let Opened { mut odd, failure } = opened.into_inner();
        match (answer, failure) {
            (Ok(point), _) => {
                odd.extend(point.record.warnings.iter().cloned());
                warned |= !odd.is_empty();
                if args.json {
                    documents.push(report(&point, &odd));
                } else if told.is_ok() {
                    told = tell(&point);
                }
            }
            (Err(_), Some(failure)) => failures.push((machine, failure)),
            (Err(error), None) => failures.push((machine, error.into())),
        }
    }
    if args.json {
        let failed = failures.iter().map(|(machine, failure)| {
            json!({ "machine": machine, "error": failure.error().to_string() })
        });
        documents.extend(failed);
        told = output::json(&documents.into());
    }
    // What failed is named even if nobody takes the results.
    let end = finish(failures, warned);
    told.and(end)
}

fn job<'a>(args: &'a Args, entry: Entry, opened: &'a Mutex<Opened>) -> Job<'a> {
    let images = entry.images;
    let formats = match entry.formats.is_empty() {
        true => args.formats(),
        false => entry.formats,
    };
    Job {
        expected: expected(&images),
        options: BackupOptions {
            time: entry.time,
            level: args.level,
            read_all: args.full,
            consistency: entry.consistency.unwrap_or(args.consistency).into(),
            ..BackupOptions::new(entry.machine)
        },
        open: Box::new(move || {
            let mut found = opened.lock();
            open_disks(&images, &formats, &args.parents, &mut found.odd).map_err(|failure| {
                let error = failure.error().clone();
                found.failure = Some(failure);
                error
            })
        }),
    }
}

/// About how many bytes of images will be read: what their files take, for nothing is opened before its turn.
fn expected(images: &[OsString]) -> u64 {
    let of = |image: &OsString| {
        let (_, path) = split_name(image, 0).ok()?;
        let found = std::fs::metadata(path).ok()?;
        Some(found.blocks().saturating_mul(512))
    };
    images.iter().filter_map(of).fold(0, u64::saturating_add)
}

/// Names what failed; the exit code is that of damage in the store if any of them met it, otherwise that of the first failure.
fn finish(mut failures: Vec<(String, Failure)>, warned: bool) -> Answer {
    let count = failures.len();
    for (machine, failure) in &failures {
        eprintln!("cairn: {machine}: {}", failure.error());
    }
    // The order of the others stays.
    failures.sort_by_key(|(_, failure)| failure.code() != 4);
    match failures.into_iter().next() {
        Some((machine, failure)) => Err(failure.in_batch(format!(
            "{count} of the machines could not be backed up, among them {machine}"
        ))),
        None if warned => Ok(Exit::Warnings),
        None => Ok(Exit::Done),
    }
}

fn parse(text: &str) -> Result<Vec<Entry>, Error> {
    let value: Value = serde_json::from_str(text)
        .map_err(|e| Error::invalid(format!("the list of machines is no JSON: {e}")))?;
    let Value::Array(items) = value else {
        return Err(Error::invalid("the list of machines is no JSON list"));
    };
    let entries: Vec<Entry> = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            entry(item).map_err(|e| e.context(format!("entry {index} of the list of machines")))
        })
        .collect::<Result<_, _>>()?;
    let mut seen = std::collections::HashSet::new();
    for entry in &entries {
        if !seen.insert(entry.machine.to_lowercase()) {
            return Err(Error::invalid(format!(
                "the machine `{}` is listed twice",
                entry.machine
            )));
        }
    }
    Ok(entries)
}

fn entry(item: &Value) -> Result<Entry, Error> {
    let invalid = |what: &str| Error::invalid(what.to_string());
    let Value::Object(fields) = item else {
        return Err(invalid("it is no object"));
    };
    let known = ["machine", "disks", "time", "consistency", "format"];
    if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(invalid(&format!("it has an unknown field `{name}`")));
    }
    let text = |name: &str| text_of(fields, name);
    let disks = match fields.get("disks") {
        Some(Value::Array(disks)) if !disks.is_empty() => disks,
        _ => return Err(invalid("it has no list of `disks`")),
    };
    let images = disks
        .iter()
        .map(|disk| match disk {
            Value::String(image) => Ok(OsString::from(image)),
            _ => Err(invalid("an entry of `disks` is no text")),
        })
        .collect::<Result<_, _>>()?;
    let formats = match fields.get("format") {
        None => Vec::new(),
        Some(Value::Array(list)) => list.iter().map(format_of).collect::<Result<_, _>>()?,
        Some(one) => vec![format_of(one)?],
    };
    Ok(Entry {
        formats,
        machine: text("machine")?.ok_or_else(|| invalid("it has no `machine`"))?,
        images,
        time: text("time")?.map(|time| Time::parse(&time)).transpose()?,
        consistency: text("consistency")?
            .map(|name| ConsistencyArg::from_str(&name, false).map_err(|e| invalid(&e)))
            .transpose()?,
    })
}

fn format_of(value: &Value) -> Result<Said, Error> {
    match value {
        Value::String(text) => formats::parse(text).map_err(Error::invalid),
        _ => Err(Error::invalid(
            "its `format` is no text and no list of texts",
        )),
    }
}

fn text_of(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, Error> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Error::invalid(format!("its `{name}` is no text"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn::Kind;

    #[test]
    fn damage_of_the_store_is_told_before_anything_else() {
        let failed = |kind| ("m".to_string(), Error::new(kind, "x").into());
        let code = |kinds: &[Kind]| {
            let failures = kinds.iter().map(|kind| failed(*kind)).collect();
            finish(failures, true)
                .map_err(|failure| failure.code())
                .err()
        };
        assert_eq!(code(&[Kind::Io, Kind::Busy]), Some(1));
        assert_eq!(code(&[Kind::Busy, Kind::Io]), Some(5));
        assert_eq!(code(&[Kind::Busy, Kind::Io, Kind::Damaged]), Some(4));
        assert_eq!(code(&[]), None);
    }

    #[test]
    fn a_list_is_understood_or_refused_by_entry() {
        let list = r#"[{"machine": "a", "disks": ["C=x.vhdx", "y"], "consistency": "frozen"}, {"machine": "b", "disks": ["z"], "time": "2026-11-20T02:00:00Z"}]"#;
        let entries = parse(list).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].images, ["C=x.vhdx", "y"]);
        assert!(matches!(
            entries[0].consistency,
            Some(ConsistencyArg::Frozen)
        ));
        assert!(entries[1].time.is_some());
        let list = r#"[{"machine": "a", "disks": ["x"], "format": "raw"}, {"machine": "b", "disks": ["C=x"], "format": ["vhd", "C=raw"]}]"#;
        let counts: Vec<usize> = parse(list)
            .unwrap()
            .iter()
            .map(|e| e.formats.len())
            .collect();
        assert_eq!(counts, [1, 2]);
        for (bad, why) in [
            ("{", "no JSON"),
            ("{}", "no JSON list"),
            ("[7]", "entry 0"),
            (r#"[{"disks": ["x"]}]"#, "machine"),
            (r#"[{"machine": "a", "disks": []}]"#, "disks"),
            (r#"[{"machine": "a", "disks": [1]}]"#, "disks"),
            (r#"[{"machine": 1, "disks": ["x"]}]"#, "machine"),
            (
                r#"[{"machine": "a", "disks": ["x"], "format": ["y"]}]"#,
                "no format",
            ),
            (
                r#"[{"machine": "a", "disks": ["x"], "format": 7}]"#,
                "no text",
            ),
            (
                r#"[{"machine": "a", "disks": ["x"], "disk": 1}]"#,
                "unknown field",
            ),
            (
                r#"[{"machine": "a", "disks": ["x"], "time": "soon"}]"#,
                "entry 0",
            ),
            (
                r#"[{"machine": "a", "disks": ["x"], "consistency": "so-so"}]"#,
                "so-so",
            ),
            (
                r#"[{"machine": "a", "disks": ["x"]}, {"machine": "A", "disks": ["x"]}]"#,
                "twice",
            ),
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
