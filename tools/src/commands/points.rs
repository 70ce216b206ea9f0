//! `cairn points STORE`

use crate::address::open_store;
use crate::commands::pin;
use crate::exit::{Answer, Exit};
use crate::list::List;
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
            Ok(point) => {
                let pin = pins.of(&store, &point);
                let line = || as_line(&point, pin.as_ref()).into_bytes();
                list.add(|| as_json(&point, pin.as_ref()), line)
            }
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
