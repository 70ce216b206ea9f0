//! Entries that belong together: a file's own, its stream's, and those of its name (specification, sections 6 and 7.4 to 7.7).

use crate::fat::time::time;
use crate::volume::{Attributes, EntryKind};
use cairn_base::{Result, Time, View};

/// The first of a file's entries.
pub const FILE: u8 = 0x85;
const STREAM: u8 = 0xC0;
const NAME: u8 = 0xC1;
/// In use, and belongs to the entries before it.
const SECONDARY: u8 = 0xC0;

/// FILE_ATTRIBUTE_DIRECTORY.
const FOLDER: u16 = 0x10;
/// Read-only, hidden, system, directory, archive.
const TOLD: u16 = 0x37;

/// Bytes of an entry.
const SLOT: usize = 32;
/// Units of a name in one entry.
const PART: usize = 15;
/// Entries of a name at most, where one unit too many was written.
const MAX_PARTS: usize = 18;

/// A file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntrySet {
    attributes: u16,
    created: Time,
    modified: Time,
    accessed: Time,
    /// Its clusters are neighbours, and the table says nothing of them.
    pub contiguous: bool,
    /// First cluster; 0 if there is none.
    pub cluster: u32,
    /// Bytes.
    pub size: u64,
    /// Bytes that were written; the rest are zeros.
    pub valid: u64,
    /// The name in UTF-16.
    pub name: Vec<u16>,
    /// Whether the checksum of the entries is right.
    pub is_summed: bool,
}

/// Whether an entry of this type belongs to the ones before it.
pub fn is_secondary(kind: u8) -> bool {
    kind & SECONDARY == SECONDARY
}

impl EntrySet {
    /// Decodes a file's entries, which are all there.
    ///
    /// # Errors
    /// Damaged if there is no stream's entry, or not as many of the name's as it says.
    pub fn parse(view: View<'_>) -> Result<EntrySet> {
        let stream = view.part(SLOT, SLOT, "exFAT stream entry")?;
        if view.u8(0)? != FILE || stream.u8(0)? != STREAM {
            return Err(view.damaged(0, "a file's entries lack that of its stream"));
        }
        let length = usize::from(stream.u8(3)?);
        let name = match length {
            0 => overlong(view)?,
            _ => name(view, length)?,
        };
        if name.is_empty() {
            return Err(stream.damaged(3, "the name is empty"));
        }
        let size = stream.u64_le(24)?;
        Ok(EntrySet {
            attributes: view.u16_le(4)?,
            created: stamp(view, 8, Some(20), 22)?,
            modified: stamp(view, 12, Some(21), 23)?,
            accessed: stamp(view, 16, None, 24)?,
            contiguous: stream.u8(1)? & 2 != 0,
            cluster: stream.u32_le(20)?,
            size,
            valid: stream.u64_le(8)?.min(size),
            name,
            is_summed: checksum(view.bytes()) == view.u16_le(2)?,
        })
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.attributes & FOLDER != 0
    }

    /// The name for people.
    pub fn text(&self) -> String {
        String::from_utf16_lossy(&self.name)
    }

    /// What is known of the file or folder.
    pub fn facts(&self, cluster_size: u64) -> Attributes {
        let is_folder = self.is_folder();
        let clusters = self.size.div_ceil(cluster_size);
        Attributes {
            kind: if is_folder {
                EntryKind::Folder
            } else {
                EntryKind::File
            },
            size: self.size,
            allocated: clusters.saturating_mul(cluster_size),
            mode: if is_folder { 0o555 } else { 0o444 },
            uid: 0,
            gid: 0,
            links: 1,
            device: None,
            modified: self.modified,
            changed: self.modified,
            accessed: self.accessed,
            created: Some(self.created),
            dos_flags: u32::from(self.attributes & TOLD),
        }
    }
}

/// The name of so many units.
fn name(view: View<'_>, length: usize) -> Result<Vec<u16>> {
    let mut name = Vec::with_capacity(length);
    for part in 0..length.div_ceil(PART) {
        let at = part.saturating_add(2).saturating_mul(SLOT);
        let part = view.part(at, SLOT, "exFAT name entry")?;
        if part.u8(0)? != NAME {
            return Err(part.damaged(0, "a file's entries lack a part of its name"));
        }
        for unit in (2..SLOT).step_by(2) {
            name.push(part.u16_le(unit)?);
        }
    }
    name.truncate(length);
    Ok(name)
}

/// The name of 256 units, which Linux has written, so that its length is said to be 0.
fn overlong(view: View<'_>) -> Result<Vec<u16>> {
    let parts = view.len().checked_div(SLOT).unwrap_or(0).saturating_sub(2);
    let mut name = name(view, parts.min(MAX_PARTS).saturating_mul(PART))?;
    if let Some(end) = name.iter().position(|&unit| unit == 0) {
        name.truncate(end);
    }
    Ok(name)
}

/// The checksum of a file's entries: of all bytes but its own two.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u16;
    for (at, byte) in bytes.iter().enumerate() {
        if !matches!(at, 2 | 3) {
            sum = sum.rotate_right(1).wrapping_add(u16::from(*byte));
        }
    }
    sum
}

/// A time stamp, its hundredths of a second, and the difference of the guest's clock to UTC in quarters of an hour, if that is told.
fn stamp(view: View<'_>, at: usize, hundredths: Option<usize>, offset: usize) -> Result<Time> {
    let stamp = view.u32_le(at)?;
    let [low, high, date_low, date_high] = stamp.to_le_bytes();
    let hundredths = match hundredths {
        Some(at) => view.u8(at)?,
        None => 0,
    };
    let told = time(
        u16::from_le_bytes([date_low, date_high]),
        u16::from_le_bytes([low, high]),
        hundredths,
    );
    let Some(mut told) = told else {
        return Ok(Time::default());
    };
    let offset = view.u8(offset)?;
    if offset & 0x80 != 0 {
        let quarters = i64::from(offset & 0x7F);
        let signed = if quarters >= 64 {
            quarters.saturating_sub(128)
        } else {
            quarters
        };
        told.seconds = told.seconds.saturating_sub(signed.saturating_mul(900));
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Vec<u8> {
        let units: Vec<u16> = name.encode_utf16().collect();
        let mut bytes = vec![0u8; SLOT * (2 + units.len().div_ceil(PART))];
        bytes[0] = FILE;
        bytes[1] = (bytes.len() / SLOT - 1) as u8;
        // 2024-02-29 12:34:56, 1.5 s more, two hours east of Greenwich.
        bytes[12..16].copy_from_slice(&0x585D_645Cu32.to_le_bytes());
        bytes[21] = 150;
        bytes[23] = 0x88;
        bytes[SLOT] = STREAM;
        bytes[SLOT + 1] = 3;
        bytes[SLOT + 3] = units.len() as u8;
        bytes[SLOT + 8] = 5;
        bytes[SLOT + 24] = 9;
        for (index, unit) in units.iter().enumerate() {
            let at = SLOT * (2 + index / PART) + 2 + index % PART * 2;
            bytes[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        for part in bytes[SLOT * 2..].chunks_mut(SLOT) {
            part[0] = NAME;
        }
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<EntrySet> {
        EntrySet::parse(View::new(bytes, "entries", 0))
    }

    #[test]
    fn entries_make_a_file() {
        let parsed = parse(&set("a name of more than fifteen")).unwrap();
        assert_eq!(parsed.text(), "a name of more than fifteen");
        assert!(parsed.contiguous && parsed.is_summed && !parsed.is_folder());
        assert_eq!((parsed.size, parsed.valid), (9, 5));
        assert_eq!(parsed.modified.rfc3339(), "2024-02-29T10:34:57Z");
        assert_eq!(parsed.modified.nanos, 500_000_000);
        let mut west = set("x");
        west[23] = 0xFC;
        let west = parse(&west).unwrap();
        assert_eq!(west.modified.rfc3339(), "2024-02-29T13:34:57Z");
        assert!(!west.is_summed);
    }

    #[test]
    fn a_name_of_256_units_is_whole() {
        let mut bytes = set(&"n".repeat(255));
        bytes[SLOT + 3] = 0;
        bytes.extend([NAME, 0, b'm', 0]);
        bytes.extend([0; 28]);
        let parsed = parse(&bytes).unwrap();
        assert_eq!(parsed.text(), format!("{}m", "n".repeat(255)));
        let mut empty = set("n")[..SLOT * 2].to_vec();
        empty[SLOT + 3] = 0;
        assert!(parse(&empty).is_err());
    }

    #[test]
    fn entries_that_are_missing_are_damage() {
        let whole = set("a name of more than fifteen");
        for (at, value) in [(SLOT, NAME), (SLOT * 3, STREAM), (SLOT + 3, 31)] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            assert!(parse(&bytes).is_err(), "{at} {value}");
        }
        assert!(parse(&whole[..SLOT * 3]).is_err());
        assert!(parse(&whole[..SLOT]).is_err());
    }
}
