//! What points and machines need in the packs.

use super::Args;
use crate::exit::Failure;
use crate::progress::Progress;
use cairn::units::human_bytes;
use cairn::{Error, MachineUsage, PointUsage, Store, Usage, UsageOptions};
use serde_json::{Map, Value, json};

/// What was found out, and what of it is told.
pub struct Needs {
    usage: Usage,
    /// In lower case.
    machine: Option<String>,
    points: bool,
    /// Points that were asked for.
    forget: usize,
}

/// Walks the maps.
pub fn find(args: &Args, store: &Store) -> Result<Needs, Failure> {
    let mut options = UsageOptions {
        memory: args.memory,
        ..UsageOptions::default()
    };
    for name in &args.forget_frees {
        let point = store.find_point(name)?;
        if !options.forget.contains(&point.id) {
            options.forget.push(point.id);
        }
    }
    let usage = store.usage(&options, &Progress::default())?;
    Ok(Needs {
        usage,
        machine: args.machine.as_ref().map(|name| name.to_lowercase()),
        points: args.points,
        forget: options.forget.len(),
    })
}

impl Needs {
    /// What could not be read.
    pub fn damaged(&self) -> &Vec<Error> {
        &self.usage.damaged
    }

    fn machines(&self) -> impl Iterator<Item = (usize, &MachineUsage)> {
        let wanted = |machine: &MachineUsage| {
            let name = self.machine.as_ref();
            name.is_none_or(|name| *name == machine.machine.to_lowercase())
        };
        let all = self.usage.machines.iter().enumerate();
        all.filter(move |(_, machine)| self.points && wanted(machine))
    }

    fn points_of(&self, machine: usize) -> impl Iterator<Item = &PointUsage> {
        let all = self.usage.points.iter();
        all.filter(move |point| point.machine == machine)
    }

    /// Fields of the document.
    pub fn as_json(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        if self.forget > 0 {
            let frees = json!({"points": self.forget, "bytes": self.usage.frees});
            fields.insert("forget_frees".to_string(), frees);
        }
        if !self.points {
            return fields;
        }
        let totals = &self.usage.totals;
        let sums = json!({
            "logical_bytes": totals.logical_bytes,
            "used_bytes": totals.used_bytes,
            "distinct_bytes": totals.distinct_bytes,
            "data_bytes": totals.data_bytes,
            "map_bytes": totals.map_bytes,
            "unneeded_bytes": totals.unneeded_bytes,
            "duplicate_bytes": totals.duplicate_bytes,
            "overhead_bytes": totals.overhead_bytes,
            "unread_bytes": totals.unread_bytes,
            "pack_bytes": totals.pack_bytes,
            "lost_places": totals.lost_places,
            "dedup_ratio": totals.dedup_ratio(),
            "compression_ratio": totals.compression_ratio(),
            "walks": self.usage.passes,
        });
        fields.insert("needs".to_string(), sums);
        let machines = self.machines().map(|(number, machine)| {
            json!({
                "machine": machine.machine,
                "points": machine.points,
                "stored_bytes": machine.stored_bytes,
                "unique_bytes": machine.unique_bytes,
                "shared_bytes": machine.stored_bytes.saturating_sub(machine.unique_bytes),
                "by_point": self.points_of(number).map(point_json).collect::<Vec<_>>(),
            })
        });
        fields.insert("needs_by_machine".to_string(), machines.collect());
        fields
    }

    /// Lines.
    pub fn as_text(&self) -> String {
        let mut text = String::new();
        if self.points {
            self.tell_points(&mut text);
        }
        if self.forget > 0 {
            text.push_str(&format!(
                "forgetting {} points would free {}\n",
                self.forget,
                human_bytes(self.usage.frees)
            ));
        }
        text
    }

    fn tell_points(&self, text: &mut String) {
        text.push_str(&format!(
            "\n{:<30} {:>10} {:>10} {:>10} {:>10} {:>10}\n",
            "needed by", "disks", "used", "stored", "shared", "unique"
        ));
        let mut line = |name: &str, disks: Option<[u64; 2]>, stored: u64, unique: u64| {
            let [logical, used] = match disks {
                Some(sizes) => sizes.map(human_bytes),
                None => [String::new(), String::new()],
            };
            text.push_str(&format!(
                "{name:<30} {logical:>10} {used:>10} {:>10} {:>10} {:>10}\n",
                human_bytes(stored),
                human_bytes(stored.saturating_sub(unique)),
                human_bytes(unique)
            ));
        };
        for (number, machine) in self.machines() {
            line(
                &machine.machine,
                None,
                machine.stored_bytes,
                machine.unique_bytes,
            );
            for point in self.points_of(number) {
                let name = format!("  {}", point.time.folder_name());
                let disks = [point.logical_bytes, point.used_bytes];
                line(&name, Some(disks), point.stored_bytes, point.unique_bytes);
            }
        }
        let totals = &self.usage.totals;
        let ratio = |ratio: Option<f64>| ratio.map_or("-".to_string(), |r| format!("{r:.2}"));
        text.push_str(&format!(
            "\ndeduplication {}, compression {}\n",
            ratio(totals.dedup_ratio()),
            ratio(totals.compression_ratio())
        ));
        text.push_str(&format!(
            "packs {}: disks {}, maps {}, not needed any more {}, in two packs {}, tables and parity {}\n",
            human_bytes(totals.pack_bytes),
            human_bytes(totals.data_bytes),
            human_bytes(totals.map_bytes),
            human_bytes(totals.unneeded_bytes),
            human_bytes(totals.duplicate_bytes),
            human_bytes(totals.overhead_bytes)
        ));
        if totals.lost_places > 0 || totals.unread_bytes > 0 {
            text.push_str(&format!(
                "packs with {} could not be read: {} places of disks are not counted\n",
                human_bytes(totals.unread_bytes),
                totals.lost_places
            ));
        }
    }
}

fn point_json(point: &PointUsage) -> Value {
    json!({
        "point": point.point.to_string(),
        "time": point.time.rfc3339(),
        "logical_bytes": point.logical_bytes,
        "used_bytes": point.used_bytes,
        "added_bytes": point.added_bytes,
        "stored_bytes": point.stored_bytes,
        "shared_bytes": point.shared_bytes(),
        "unique_bytes": point.unique_bytes,
    })
}
