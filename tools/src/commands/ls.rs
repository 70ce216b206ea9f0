//! `cairn ls STORE POINT[:/disk/pN/path]`

mod entry;

use crate::address::{Address, Target, open_point, resolve, tell_defect, tell_defects};
use crate::exit::{self, Answer, Exit, Failure};
use crate::guests::GuestArgs;
use crate::output::{json, line, name_json, name_line};
use crate::tame::tame;
use cairn::units::human_bytes;
use cairn::{
    Attributes, DiskView, DynamicVolume, EntryId, EntryKind, Error, Kind, PointView, Volume, walk,
};
use entry::entry_json;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// List disks, volumes or a folder of a point.
///
/// Why a volume may be shown old, in part or wrong is named, and the command ends with 3.
#[derive(clap::Args)]
pub struct Args {
    /// The store
    store: PathBuf,
    /// POINT, POINT:/disk, POINT:/disk/pN/path or, with a drive letter of Windows, POINT:C:/path
    #[arg(value_name = "POINT[:/disk/pN/path]")]
    address: OsString,
    /// Show kind, permissions, owner, size and time; with --json everything that is known of each entry
    #[arg(short, long)]
    long: bool,
    #[command(flatten)]
    guests: GuestArgs,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Answer {
    let address = Address::parse(&args.address)?;
    let point = open_point(&args.store, &address, args.guests.options()?)?;
    match resolve(&point, &address.path)? {
        Target::Point => disks(&point, args),
        Target::Disk(disk) => volumes(&point, &disk, args),
        Target::Entry(volume, id) => entries(&*volume, id, address.last_name(), args),
    }
}

fn disks(point: &PointView, args: &Args) -> Answer {
    let layout = point.machine().layout();
    let (defects, facts): (Vec<_>, Vec<_>) = layout.notes().iter().partition(|n| n.is_defect);
    for defect in defects {
        exit::warn_once(&defect.text);
    }
    if args.json {
        let disk = |disk: &Arc<DiskView>| json!({"name": disk.name(), "kind": "disk", "size": disk.size()});
        let mut list: Vec<_> = point.disks().iter().map(disk).collect();
        list.extend(layout.letters().map(|(letter, volume)| {
            let size = volume.view().size();
            json!({"name": format!("{letter}:"), "kind": "letter", "size": size, "target": volume.path()})
        }));
        json(&list.into())?;
        return Ok(Exit::Done);
    }
    for disk in point.disks() {
        if args.long {
            line(&format!("{:>9}  {}", human_bytes(disk.size()), disk.name()))?;
        } else {
            line(disk.name())?;
        }
    }
    for (letter, volume) in layout.letters() {
        if args.long {
            let size = human_bytes(volume.view().size());
            line(&format!("{size:>9}  {letter}: -> {}", volume.path()))?;
        } else {
            line(&format!("{letter}:"))?;
        }
    }
    for fact in facts.iter().filter(|_| args.long) {
        eprintln!("cairn: {}", tame(&fact.text));
    }
    Ok(Exit::Done)
}

fn volumes(point: &PointView, disk: &DiskView, args: &Args) -> Answer {
    let mut list = Vec::new();
    for volume in disk.volumes().map_err(Failure::of_guest)? {
        let opened = volume.open();
        let (content, label, error) = match &opened {
            Ok(files) => (files.info().file_system, files.info().label.clone(), None),
            Err(error) => (volume.content(), String::new(), Some(error.to_string())),
        };
        let name = volume.folder_name();
        let notes = volume.notes();
        let path = format!("{}/{name}", disk.name());
        match volume.layout_damage() {
            Some(error) => tell_defect(point, &path, error),
            None if opened.is_ok() => tell_defects(point, &path, volume),
            None => {}
        }
        if args.json {
            let notes: Vec<_> = notes
                .iter()
                .map(|note| json!({"text": note.text, "defect": note.is_defect}))
                .collect();
            list.push(json!({
                "name": name, "kind": "volume", "start": volume.start(), "size": volume.size(),
                "content": content, "label": label, "error": error, "notes": notes,
                "dynamic": volume.dynamic().map(dynamic_json),
            }));
        } else if args.long {
            let why = error
                .map(|error| format!("  ({error})"))
                .unwrap_or_default();
            let dynamic = volume.dynamic().map(|volume| {
                let disks = volume.disks().join(", ");
                format!(
                    "  ({} volume `{}` on {disks})",
                    volume.kind.name(),
                    volume.name
                )
            });
            line(&format!(
                "{:>9}  {content:8}  {name}  {label}{}{why}",
                human_bytes(volume.size()),
                dynamic.unwrap_or_default()
            ))?;
            for note in notes.iter().filter(|note| !note.is_defect) {
                eprintln!("cairn: {name}: {}", tame(&note.text));
            }
        } else {
            line(&name)?;
            if let (Some(error), None) = (error, volume.layout_damage()) {
                eprintln!("cairn: {name}: {error}");
            }
        }
    }
    if args.json {
        json(&list.into())?;
    }
    Ok(Exit::Done)
}

/// A volume of dynamic disks.
fn dynamic_json(volume: &DynamicVolume) -> Value {
    json!({
        "name": volume.name, "id": volume.id.to_string(), "kind": volume.kind.name(), "group": volume.group_name,
        "letter": volume.hint, "disks": volume.disks(),
    })
}

fn entries(volume: &dyn Volume, id: EntryId, name: &[u8], args: &Args) -> Answer {
    let own = volume.attributes(id).map_err(Failure::of_guest)?;
    let mut exit = Exit::Done;
    let mut found: Vec<(Vec<u8>, EntryId)> = if own.kind == EntryKind::Folder {
        let (list, read) = walk::list(volume, id);
        if let Err(error) = read {
            if list.is_empty() {
                return Err(Failure::of_guest(error));
            }
            eprintln!("cairn: not all names can be read: {error}");
            exit = exit_of(&error);
        }
        list.into_iter()
            .map(|entry| (entry.name, entry.id))
            .collect()
    } else {
        vec![(name.to_vec(), id)]
    };
    found.sort();
    let mut list = Vec::new();
    for (name, id) in &found {
        if !args.long && !args.json {
            name_line("", name)?;
            continue;
        }
        match volume.attributes(*id) {
            Ok(attributes) if args.json => {
                let whole = entry_json(volume, name, *id, &attributes, args.long);
                for what in whole["incomplete"].as_array().into_iter().flatten() {
                    let shown = String::from_utf8_lossy(name);
                    eprintln!("cairn: {shown}: {}", what.as_str().unwrap_or_default());
                    exit = if exit == Exit::Damage {
                        exit
                    } else {
                        Exit::Warnings
                    };
                }
                list.push(whole);
            }
            Ok(attributes) => long_line(volume, name, *id, &attributes)?,
            Err(error) => {
                eprintln!("cairn: {}: {error}", String::from_utf8_lossy(name));
                if args.json {
                    list.push(json!({"name": name_json(name).0, "error": error.to_string()}));
                }
                if exit != Exit::Damage {
                    exit = exit_of(&error);
                }
            }
        }
    }
    if args.json {
        json(&list.into())?;
    }
    Ok(exit)
}

/// How a listing ends in which something cannot be read: a chunk that is lost is named.
fn exit_of(error: &Error) -> Exit {
    if error.kind() == Kind::Damaged && error.id().is_some() {
        Exit::Damage
    } else {
        Exit::Warnings
    }
}

pub fn kind_name(kind: EntryKind) -> (&'static str, char) {
    match kind {
        EntryKind::File => ("file", '-'),
        EntryKind::Folder => ("folder", 'd'),
        EntryKind::Symlink => ("symlink", 'l'),
        EntryKind::CharDevice => ("char_device", 'c'),
        EntryKind::BlockDevice => ("block_device", 'b'),
        EntryKind::Fifo => ("fifo", 'p'),
        EntryKind::Socket => ("socket", 's'),
    }
}

fn permissions(mode: u32) -> String {
    let mut text = String::new();
    for (bit, letter) in (0..9).rev().zip("rwxrwxrwx".chars()) {
        text.push(if mode >> bit & 1 == 1 { letter } else { '-' });
    }
    text
}

fn long_line(
    volume: &dyn Volume,
    name: &[u8],
    id: EntryId,
    attributes: &Attributes,
) -> Result<(), Failure> {
    let mut shown = name.to_vec();
    if attributes.kind == EntryKind::Symlink
        && let Ok(target) = volume.read_link(id)
    {
        shown.extend_from_slice(b" -> ");
        shown.extend_from_slice(&target);
    }
    let prefix = format!(
        "{}{} {:>3} {:>5} {:>5} {:>12} {} ",
        kind_name(attributes.kind).1,
        permissions(attributes.mode),
        attributes.links,
        attributes.uid,
        attributes.gid,
        attributes.size,
        attributes.modified.rfc3339(),
    );
    name_line(&prefix, &shown)
}
