//! An entry as JSON.

use super::kind_name;
use crate::output::name_json;
use cairn::{Attributes, EntryId, EntryKind, Time, Volume, dos};
use serde_json::{Map, Value, json};

/// What stands before the names of the attributes that a guest's programs gave a file of NTFS.
const EA: &[u8] = b"user.cairn.ea.";

/// What is known of an entry; everything if `long`. What cannot be read is named in `incomplete`.
pub fn entry_json(
    volume: &dyn Volume,
    name: &[u8],
    id: EntryId,
    attributes: &Attributes,
    long: bool,
) -> Value {
    let (text, hex) = name_json(name);
    let mut value = json!({
        "name": text,
        "kind": kind_name(attributes.kind).0,
        "size": attributes.size,
        "mode": format!("{:04o}", attributes.mode),
        "uid": attributes.uid,
        "gid": attributes.gid,
        "links": attributes.links,
        "modified": attributes.modified.rfc3339(),
    });
    if let Some(hex) = hex {
        value["name_hex"] = hex.into();
    }
    if attributes.kind == EntryKind::Symlink
        && let Ok(target) = volume.read_link(id)
    {
        value["target"] = name_json(&target).0;
    }
    if let Some(value) = value.as_object_mut().filter(|_| long) {
        add_times(volume, attributes, value);
        let wrong = add_rest(volume, id, value);
        if !wrong.is_empty() {
            value.insert("incomplete".into(), wrong.into());
        }
    }
    value
}

fn add_times(volume: &dyn Volume, attributes: &Attributes, to: &mut Map<String, Value>) {
    // 100 ns on Windows, 1 ns elsewhere.
    let digits = if volume.info().ignores_case { 7 } else { 9 };
    let times = [
        ("modified", Some(attributes.modified)),
        ("accessed", Some(attributes.accessed)),
        ("changed", Some(attributes.changed)),
        ("created", attributes.created),
    ];
    for (key, time) in times {
        if let Some(time) = time {
            to.insert(key.into(), exact(time, digits).into());
        }
    }
    to.insert("allocated".into(), attributes.allocated.into());
    if let Some((major, minor)) = attributes.device {
        to.insert("device".into(), json!([major, minor]));
    }
    if volume.info().ignores_case {
        let names = dos::attribute_names(attributes.dos_flags);
        to.insert("dos_attributes".into(), names.into());
    }
}

/// A time with so many digits behind the second.
fn exact(time: Time, digits: usize) -> String {
    let (whole, part) = (time.rfc3339(), format!("{:09}", time.nanos));
    let part = part.get(..digits).unwrap_or(&part);
    match whole.strip_suffix('Z') {
        Some(whole) => format!("{whole}.{part}Z"),
        None => format!("{whole}.{part}"),
    }
}

/// Streams, and what extended attributes tell. Answers what of that cannot be read.
fn add_rest(volume: &dyn Volume, id: EntryId, to: &mut Map<String, Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    match volume.streams(id) {
        Ok(streams) => {
            let streams = streams.iter().map(|stream| {
                let mut shown = json!({"size": stream.size});
                put_name(&mut shown, &stream.name);
                shown
            });
            to.insert("streams".into(), streams.collect());
        }
        Err(error) => wrong.push(format!("its streams: {error}")),
    }
    let found = match volume.xattrs(id) {
        Ok(found) => found,
        Err(error) => {
            wrong.push(format!("its extended attributes: {error}"));
            return wrong;
        }
    };
    let is_ntfs = volume.info().file_system == "ntfs";
    let mut extended = Vec::new();
    for (name, value) in &found {
        let text = || String::from_utf8_lossy(value).into_owned();
        let own = if is_ntfs {
            name.strip_prefix(EA)
        } else {
            Some(&name[..])
        };
        if let Some(own) = own {
            extended.push(attribute_json(own, value));
            continue;
        }
        match name.as_slice() {
            b"user.cairn.sddl" => drop(to.insert("sddl".into(), text().into())),
            b"user.cairn.object_id" => drop(to.insert("object_id".into(), text().into())),
            b"system.ntfs_dos_name" => drop(to.insert("dos_name".into(), text().into())),
            b"system.ntfs_acl" => drop(to.insert("security_descriptor".into(), hex(value).into())),
            b"system.ntfs_reparse_data" => {
                drop(to.insert("reparse_data".into(), hex(value).into()))
            }
            b"user.cairn.reparse" => {
                let text = text();
                let (name, number) = text.split_once(' ').unwrap_or((&text, ""));
                let tag = json!({"name": name, "number": number});
                to.insert("reparse_tag".into(), tag);
            }
            b"user.cairn.left_out" => wrong.extend(text().lines().map(str::to_string)),
            _ => {}
        }
    }
    to.insert("extended_attributes".into(), extended.into());
    wrong
}

/// Name, and value: as text if it is such, and always in hexadecimal.
fn attribute_json(name: &[u8], value: &[u8]) -> Value {
    let mut shown = json!({"size": value.len(), "value_hex": hex(value)});
    put_name(&mut shown, name);
    if let Ok(text) = std::str::from_utf8(value)
        && !text.contains(char::is_control)
    {
        shown["value"] = text.into();
    }
    shown
}

fn put_name(shown: &mut Value, name: &[u8]) {
    let (text, hex) = name_json(name);
    shown["name"] = text;
    if let Some(hex) = hex {
        shown["name_hex"] = hex.into();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
