//! `cairn pin STORE [POINT]`

use crate::address::open_store;
use crate::exit::{Answer, Exit};
use crate::output;
use cairn::{Error, Pin, PinnedPoint, Store, Time, Zone};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Keep a recovery point whatever rules say; without a point, list those that are kept so.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// The point
    point: Option<String>,
    /// Until the end of a day (2027-01-31), a time (2027-01-31T12:00:00Z), or for a while (30d, 6m, 1y); for ever if it is not said
    #[arg(long, value_name = "WHEN", requires = "point")]
    until: Option<String>,
    /// A note about it
    #[arg(long, value_name = "TEXT", requires = "point")]
    note: Option<String>,
    /// Take the pin away
    #[arg(long, requires = "point", conflicts_with_all = ["until", "note"])]
    remove: bool,
    /// Time zone of the day it ends with (default: the system's)
    #[arg(long, value_name = "ZONE", value_parser = Zone::named)]
    timezone: Option<Zone>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let store = match &args.point {
        None => return list(args, &open_store(&args.store)?),
        Some(_) => open_store(&args.store)?,
    };
    let name = args.point.as_deref().unwrap_or_default();
    let pin = if args.remove {
        None
    } else {
        let zone = args.timezone.clone().unwrap_or_else(Zone::system);
        let until = args.until.as_deref().map(|text| zone.until(text, now()));
        Some(Pin {
            until: until.transpose()?,
            note: args.note.clone().unwrap_or_default(),
        })
    };
    let changed = store.set_pin(name, pin.clone())?;
    if args.json {
        output::json(&json!({ "changed": changed, "pinned": pin.as_ref().map(as_json) }))?;
    }
    let what = match (&pin, changed) {
        (Some(pin), _) => shown(pin, now()),
        (None, true) => "no longer pinned".to_string(),
        (None, false) => "was not pinned".to_string(),
    };
    eprintln!("cairn: {name}: {what}");
    Ok(Exit::Done)
}

fn list(args: &Args, store: &Store) -> Answer {
    if args.timezone.is_some() {
        return Err(Error::invalid("a time zone is for the end of a pin: name the point").into());
    }
    let (pins, errors) = store.pins()?;
    if args.json {
        let items: Vec<Value> = pins.iter().map(item).collect();
        output::json(&Value::Array(items))?;
    } else {
        let now = now();
        for pinned in &pins {
            let id = pinned.point.to_string();
            let time = pinned
                .time
                .map_or("gone".to_string(), |time| time.folder_name());
            output::line(&format!(
                "{}@{time}  {}  {}",
                pinned.machine,
                id.get(..12).unwrap_or(&id),
                shown(&pinned.pin, now)
            ))?;
        }
    }
    for error in &errors {
        eprintln!("cairn: {error}");
    }
    Ok(if errors.is_empty() {
        Exit::Done
    } else {
        Exit::Damage
    })
}

fn item(pinned: &PinnedPoint) -> Value {
    json!({
        "machine": pinned.machine,
        "point": pinned.point.to_string(),
        "time": pinned.time.map(|time| time.rfc3339()),
        "pinned": as_json(&pinned.pin),
    })
}

/// A pin for scripts: `until` is null if it holds for ever, `holds` says whether it does now.
pub fn as_json(pin: &Pin) -> Value {
    json!({
        "until": pin.until.map(|until| Time::from_seconds(until).rfc3339()),
        "note": pin.note,
        "holds": pin.holds(now()),
    })
}

/// A pin in words.
pub fn shown(pin: &Pin, now: i64) -> String {
    let mut text = match pin.until.map(Time::from_seconds) {
        None => "pinned".to_string(),
        Some(until) if pin.holds(now) => format!("pinned until {until}"),
        Some(until) => format!("was pinned until {until}"),
    };
    if !pin.note.is_empty() {
        text.push_str(&format!(" ({})", pin.note));
    }
    text
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    passed.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
