//! `cairn points STORE`

use crate::address::open_store;
use crate::commands::pin;
use crate::exit::{Answer, Exit, Failure};
use crate::output;
use cairn::units::human_bytes;
use cairn::{Pin, Point, Retention, Store, Time};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// List recovery points.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// Only those of one machine
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let store = open_store(&args.store)?;
    let mut list = List::new(args.json);
    let mut pins = Pins::default();
    let (mut damaged, mut failed) = (false, None);
    store.each_point(args.machine.as_deref(), &mut |found| {
        let told = match found {
            Ok(point) => list.add(&point, pins.of(&store, &point).as_ref()),
            Err(error) => {
                eprintln!("cairn: {error}");
                damaged = true;
                Ok(())
            }
        };
        match told {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                failed = Some(failure);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(()), Err)?;
    list.end()?;
    Ok(if damaged { Exit::Damage } else { Exit::Done })
}

/// The pins of the machine whose points are told just now.
#[derive(Default)]
struct Pins {
    machine: String,
    retention: Option<Retention>,
}

impl Pins {
    fn of(&mut self, store: &Store, point: &Point) -> Option<Pin> {
        if self.machine != point.record.machine {
            self.machine.clone_from(&point.record.machine);
            // One that cannot be read was told before the machine's points.
            self.retention = store.retention(&self.machine).ok();
        }
        self.retention.as_ref()?.pin(point.id).cloned()
    }
}

/// What is printed, gathered to a few large writes: as lines, or as one array.
struct List {
    json: bool,
    empty: bool,
    text: String,
}

impl List {
    /// Bytes that are printed at once.
    const ENOUGH: usize = 64 << 10;

    fn new(json: bool) -> List {
        List {
            json,
            empty: true,
            text: String::new(),
        }
    }

    fn add(&mut self, point: &Point, pin: Option<&Pin>) -> Result<(), Failure> {
        if self.json {
            self.text
                .push_str(if self.empty { "[\n  " } else { ",\n  " });
            // No line ends within a string of JSON, so each of these begins a line.
            let item = format!("{:#}", as_json(point, pin)).replace('\n', "\n  ");
            self.text.push_str(&item);
        } else {
            self.text.push_str(&as_line(point, pin));
            self.text.push('\n');
        }
        self.empty = false;
        if self.text.len() >= List::ENOUGH {
            output::write(self.text.as_bytes())?;
            self.text.clear();
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), Failure> {
        if self.json {
            self.text
                .push_str(if self.empty { "[]\n" } else { "\n]\n" });
        }
        output::write(self.text.as_bytes())
    }
}

fn as_json(point: &Point, pin: Option<&Pin>) -> serde_json::Value {
    let record = &point.record;
    let disks: Vec<_> = record
        .disks
        .iter()
        .map(|disk| {
            json!({
                "name": disk.name,
                "size": disk.size,
                "format": disk.image.format,
                "image": disk.image.path,
            })
        })
        .collect();
    json!({
        "point": point.id.to_string(),
        "machine": record.machine,
        "sequence": record.sequence,
        "time": point.time().rfc3339(),
        "import": record.import,
        "made": Time::from_seconds(record.made).rfc3339(),
        "pinned": pin.map(pin::as_json),
        "consistency": record.consistency.name(),
        "disks": disks,
        "read_bytes": record.stats.read,
        "new_bytes": record.stats.new,
        "added_bytes": record.stats.stored,
        "warnings": record.warnings,
    })
}

fn as_line(point: &Point, pin: Option<&Pin>) -> String {
    let record = &point.record;
    let size: u64 = record.disks.iter().map(|disk| disk.size).sum();
    let id = point.id.to_string();
    let mut notes = String::new();
    if record.import {
        notes.push_str("  import");
    }
    if !record.warnings.is_empty() {
        notes.push_str(&format!("  {} warnings", record.warnings.len()));
    }
    if let Some(pin) = pin {
        notes.push_str(&format!("  {}", pin::shown(pin, pin::now())));
    }
    format!(
        "{}@{}  {}  disks: {}  {:>9}  added {:>9}{notes}",
        record.machine,
        point.time().folder_name(),
        id.get(..12).unwrap_or(&id),
        record.disks.len(),
        human_bytes(size),
        human_bytes(record.stats.stored),
    )
}
