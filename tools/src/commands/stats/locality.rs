//! How scattered the newest points lie in the packs.

use super::Args;
use crate::exit::Failure;
use crate::progress::Progress;
use cairn::units::human_bytes;
use cairn::{Locality, Store};
use serde_json::{Value, json};

/// The newest point of each machine: machines and what was found.
pub struct Scattered(Vec<(String, Locality)>);

/// Walks the newest points of the machines that are asked for.
pub fn find(args: &Args, store: &Store) -> Result<Scattered, Failure> {
    let machines = match &args.machine {
        Some(machine) => vec![machine.clone()],
        // What is wrong with the others is told by the numbers before.
        None => store.machines()?.0,
    };
    let mut found = Vec::new();
    for machine in machines {
        let point = store.find_point(&format!("{machine}@latest"))?;
        let locality = store.locality(&point, &Progress::default())?;
        found.push((point.record.machine, locality));
    }
    Ok(Scattered(found))
}

impl Scattered {
    /// The field `locality` of the document.
    pub fn as_json(&self) -> Value {
        let machines = self.0.iter().map(|(machine, locality)| {
            json!({
                "machine": machine,
                "point": locality.point.to_string(),
                "used_bytes": locality.used_bytes,
                "read_bytes": locality.read_bytes,
                "packs": locality.packs,
                "seeks": locality.seeks,
                "packs_per_gib": locality.packs_per_gib(),
                "seeks_per_gib": locality.seeks_per_gib(),
                "lost_places": locality.lost,
            })
        });
        machines.collect()
    }

    /// Lines.
    pub fn as_text(&self) -> String {
        let mut text = format!(
            "\n{:<30} {:>10} {:>10} {:>10} {:>10}\n",
            "restoring the newest of", "used", "reads", "packs/GiB", "seeks/GiB"
        );
        let number = |ratio: Option<f64>| ratio.map_or("-".to_string(), |r| format!("{r:.0}"));
        for (machine, locality) in &self.0 {
            text.push_str(&format!(
                "{machine:<30} {:>10} {:>10} {:>10} {:>10}\n",
                human_bytes(locality.used_bytes),
                human_bytes(locality.read_bytes),
                number(locality.packs_per_gib()),
                number(locality.seeks_per_gib())
            ));
        }
        text
    }
}
