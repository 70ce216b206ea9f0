//! What a dynamic disk of Windows says of its group.

use super::json::held;
use super::{content, exact, tell_held};
use crate::exit::Failure;
use crate::output::line;
use crate::tame::tame;
use cairn::DynamicVolume;
use cairn::examine::{Dynamic, Part};
use cairn::units::human_bytes;
use serde_json::{Value, json};

/// Tells it in lines.
pub fn tell(dynamic: &Dynamic) -> Result<(), Failure> {
    let database = &dynamic.database;
    let own = own_name(dynamic).unwrap_or("not known to it");
    line(&format!(
        "dynamic disk {} ({}) of the group {} ({}), change {}",
        tame(own),
        database.disk_id,
        tame(&database.group_name),
        database.group_id,
        database.sequence
    ))?;
    for (volume, part) in &dynamic.volumes {
        tell_one(volume, part)?;
    }
    Ok(())
}

fn own_name(dynamic: &Dynamic) -> Option<&str> {
    let database = &dynamic.database;
    let mut disks = database.configuration.disks.iter();
    let own = disks.find(|disk| disk.guid == database.disk_id)?;
    Some(&own.name)
}

fn tell_one(volume: &DynamicVolume, part: &Part) -> Result<(), Failure> {
    let letter = match volume.hint.as_str() {
        "" => String::new(),
        letter => format!(", was {}", tame(letter)),
    };
    let chunk = volume
        .chunk
        .map(|chunk| format!(", chunks of {}", human_bytes(chunk)));
    let letters: String = part.letters.iter().map(|c| format!(" {c}:")).collect();
    line(&format!(
        "    p{}{letters} {} {} volume `{}` on {}{}{letter}: {}",
        part.number,
        human_bytes(volume.size),
        volume.kind.name(),
        tame(&volume.name),
        tame(&volume.disks().join(", ")),
        chunk.unwrap_or_default(),
        content(part)
    ))?;
    tell_held(part)?;
    for piece in &volume.pieces {
        let place = match piece.member {
            Some(_) => format!("this disk, from byte {}", piece.start),
            None => "another disk".to_string(),
        };
        line(&format!(
            "         {} on {}: {place}",
            exact(piece.size),
            tame(&piece.disk)
        ))?;
    }
    for note in &volume.notes {
        line(&format!("         note: {}", tame(&note.text)))?;
    }
    Ok(())
}

/// The same as JSON.
pub fn document(dynamic: &Dynamic) -> Value {
    let database = &dynamic.database;
    let disks = database.configuration.disks.iter();
    let disks = disks.map(|disk| json!({ "name": disk.name, "id": disk.guid.to_string() }));
    let volumes = dynamic.volumes.iter();
    let volumes = volumes.map(|(volume, part)| one(volume, part));
    json!({
        "disk": own_name(dynamic),
        "disk_id": database.disk_id.to_string(),
        "group": database.group_name,
        "group_id": database.group_id.to_string(),
        "sequence": database.sequence,
        "disks": disks.collect::<Vec<_>>(),
        "volumes": volumes.collect::<Vec<_>>(),
    })
}

fn one(volume: &DynamicVolume, part: &Part) -> Value {
    let pieces = volume.pieces.iter().map(|piece| {
        json!({
            "disk": piece.disk,
            "disk_id": piece.disk_id.to_string(),
            "start": piece.member.map(|_| piece.start),
            "size": piece.size,
        })
    });
    let (content, error, file_system) = held(part);
    json!({
        "number": part.number,
        "name": volume.name,
        "id": volume.id.to_string(),
        "kind": volume.kind.name(),
        "size": volume.size,
        "chunk_bytes": volume.chunk,
        "letter": volume.hint,
        "letters": part.letters.iter().map(|c| format!("{c}:")).collect::<Vec<_>>(),
        "pieces": pieces.collect::<Vec<_>>(),
        "content": content,
        "error": error,
        "file_system": file_system,
        "notes": volume.notes.iter().map(|note| &note.text).collect::<Vec<_>>(),
    })
}
