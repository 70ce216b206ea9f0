//! `HKLM\SYSTEM\MountedDevices`: which drive letters and names Windows has given to which volumes.
//!
//! Each value is called `\DosDevices\C:` or `\??\Volume{GUID}`. Its data is of a partition of a DOS table the disk's signature and the partition's offset in bytes (12 bytes);
//! of one of a GPT, and of a volume of a dynamic disk, `DMIO:ID:` and its GUID (24 bytes); of anything else (drives for discs, sticks) the path of a device.

use crate::hive::{Hive, Value};
use crate::partition::DeviceId;
use cairn_base::{Error, Result, View};
use std::ops::ControlFlow;

/// The key below the root of the SYSTEM hive.
const KEY: &str = "MountedDevices";
/// Values that cannot be read and are told one by one.
const MAX_FAILURES: usize = 8;
/// Bytes of the names of all values together that are looked at; Windows' own have a hundred each, one for each volume that was ever there.
const MAX_NAMES: usize = 4 << 20;
/// Data of partitions and volumes are no longer.
const MAX_DATA: usize = 24;
/// What a GUID follows in the data.
const BY_GUID: &[u8] = b"DMIO:ID:";
/// Characters of a GUID as text.
const GUID: usize = 36;

/// What a volume is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountedName {
    /// A drive letter, `A` to `Z`.
    Letter(u8),
    /// The GUID of `\??\Volume{GUID}`, in small letters.
    Volume(String),
}

/// A name, and the volume it was given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedDevice {
    /// The name.
    pub name: MountedName,
    /// The volume.
    pub device: DeviceId,
}

/// The letters and names that the SYSTEM hive `hive` gives to partitions and volumes, in its order; and why others cannot be told. None if it has no such key. What is
/// looked at is bounded: that there is more is told as well.
///
/// # Errors
/// If the key cannot be read.
pub fn read(hive: &Hive) -> Result<(Vec<MountedDevice>, Vec<Error>)> {
    let (mut found, mut failed, mut unsaid) = (Vec::new(), Vec::new(), 0u64);
    let root = hive.root()?;
    let Some(key) = hive.subkey(&root, KEY)? else {
        return Ok((found, failed));
    };
    let mut room = Some(MAX_NAMES);
    let read = hive.each_value(&key, &mut |value| {
        let length = value.as_ref().map_or(0, |value| value.name().len());
        room = room.and_then(|room| room.checked_sub(length));
        if room.is_none() {
            return ControlFlow::Break(());
        }
        match value.and_then(|value| device(hive, &value)) {
            Ok(device) => found.extend(device),
            Err(error) if failed.len() < MAX_FAILURES => failed.push(error),
            Err(_) => unsaid = unsaid.saturating_add(1),
        }
        ControlFlow::Continue(())
    });
    failed.extend(read.err());
    if room.is_none() {
        failed.push(Error::unsupported(
            "the names in the registry's list of volumes have more than 4 MiB; the others were not looked at",
        ));
    }
    if unsaid > 0 {
        failed.push(Error::damaged(format!(
            "{unsaid} more values of the registry's list of volumes cannot be read"
        )));
    }
    Ok((found, failed))
}

fn device(hive: &Hive, value: &Value) -> Result<Option<MountedDevice>> {
    let Some(name) = mounted_name(value.name()) else {
        return Ok(None);
    };
    // What is longer is the path of a device.
    if usize::try_from(value.size()).is_ok_and(|size| size > MAX_DATA) {
        return Ok(None);
    }
    let data = hive.data(value, MAX_DATA)?;
    let device = device_id(&data)?;
    Ok(device.map(|device| MountedDevice { name, device }))
}

fn mounted_name(text: &str) -> Option<MountedName> {
    const LETTERS: &str = r"\DosDevices\";
    const VOLUMES: &str = r"\??\Volume{";
    let behind = |prefix: &str| {
        let (head, rest) = text.split_at_checked(prefix.len())?;
        head.eq_ignore_ascii_case(prefix).then_some(rest)
    };
    if let Some([letter, b':']) = behind(LETTERS).map(str::as_bytes) {
        let letter = letter.to_ascii_uppercase();
        return letter
            .is_ascii_uppercase()
            .then_some(MountedName::Letter(letter));
    }
    let guid = behind(VOLUMES)?.strip_suffix('}')?;
    (guid.len() == GUID).then(|| MountedName::Volume(guid.to_ascii_lowercase()))
}

fn device_id(data: &[u8]) -> Result<Option<DeviceId>> {
    let view = View::new(data, "mounted device", 0);
    Ok(match data.len() {
        12 => Some(DeviceId::Place {
            signature: view.u32_le(0)?,
            start: view.u64_le(4)?,
        }),
        24 if data.starts_with(BY_GUID) => Some(DeviceId::Guid(view.array(BY_GUID.len())?)),
        _ => None,
    })
}
