//! Records of the database of dynamic disks, byte by byte.

use super::maker::{Component, Disk, Extent, Volume, guid_text};

fn head_of(flags: u8, kind: u8) -> Vec<u8> {
    vec![0, 0, flags, kind, 0, 0, 0, 0]
}

/// Puts in the length of what follows the head.
fn sized(mut record: Vec<u8>) -> Vec<u8> {
    let length = record.len() as u32 - 8;
    record[4..8].copy_from_slice(&length.to_be_bytes());
    record
}

fn number(record: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(7);
    record.push(8 - first as u8);
    record.extend(&bytes[first..]);
}

fn text(record: &mut Vec<u8>, text: &str) {
    record.push(text.len() as u8);
    record.extend(text.as_bytes());
}

pub fn volume_record(volume: &Volume) -> Vec<u8> {
    let has_hint = !volume.hint.is_empty();
    let mut record = head_of(if has_hint { 0x02 } else { 0 }, 0x51);
    number(&mut record, volume.id);
    text(&mut record, &volume.name);
    let is_raid = volume
        .components
        .iter()
        .any(|component| component.layout == 3);
    text(&mut record, if is_raid { "raid5" } else { "gen" });
    text(&mut record, "");
    record.extend(b"ACTIVE\0\0\0\0\0\0\0\0");
    record.extend([if is_raid { 4 } else { 3 }, 1, 5, 0, 0, 0, 0x11]);
    number(&mut record, volume.components.len() as u64);
    record.extend([0; 16]);
    number(&mut record, volume.size);
    record.extend([0, 0, 0, 0, 7]);
    record.extend(volume.guid.to_be_bytes());
    if has_hint {
        text(&mut record, &volume.hint);
    }
    sized(record)
}

pub fn component_record(volume: &Volume, component: &Component, index: usize) -> Vec<u8> {
    let has_chunks = component.layout != 2;
    let mut record = head_of(if has_chunks { 0x10 } else { 0 }, 0x32);
    number(&mut record, component.id);
    text(&mut record, &format!("{}-{:02}", volume.name, index + 1));
    text(&mut record, &component.state);
    record.push(component.layout);
    record.extend(component.flags.to_be_bytes());
    number(&mut record, component.extents.len() as u64);
    record.extend([0; 16]);
    number(&mut record, volume.id);
    record.push(0);
    if has_chunks {
        number(&mut record, component.chunk);
        number(&mut record, component.extents.len() as u64);
    }
    sized(record)
}

pub fn partition_record(component: &Component, extent: &Extent, name: &str, disk: u64) -> Vec<u8> {
    let mut record = head_of(0x08, 0x33);
    number(&mut record, extent.id);
    text(&mut record, name);
    record.extend(extent.flags.to_be_bytes());
    record.extend([0; 8]);
    record.extend(extent.start.to_be_bytes());
    record.extend(extent.offset.to_be_bytes());
    number(&mut record, extent.size);
    number(&mut record, component.id);
    number(&mut record, disk);
    number(&mut record, extent.column);
    sized(record)
}

pub fn disk_record(disk: &Disk, is_new: bool) -> Vec<u8> {
    let mut record = head_of(0, if is_new { 0x44 } else { 0x34 });
    number(&mut record, disk.id);
    text(&mut record, &disk.name);
    if is_new {
        record.extend(disk.guid.to_be_bytes());
        record.extend([0; 16 + 5 + 8]);
    } else {
        text(&mut record, &guid_text(disk.guid));
        text(
            &mut record,
            "\\Device\\Harddisk1\\the device that it was when it was last seen",
        );
        record.extend([0; 12]);
    }
    sized(record)
}

pub fn group_record(name: &str, guid: u128, is_new: bool) -> Vec<u8> {
    let mut record = head_of(0, if is_new { 0x45 } else { 0x35 });
    number(&mut record, 2);
    text(&mut record, name);
    if is_new {
        record.extend(guid.to_be_bytes());
        record.extend([0; 16]);
    } else {
        text(&mut record, &guid_text(guid));
    }
    record.extend([0; 12]);
    sized(record)
}
