//! A file's entry in its folder, with its 8.3 name (Microsoft FAT specification, section 6).

use super::code_page::CodePage;
use super::time::time;
use crate::volume::{Attributes, EntryKind};
use cairn_base::{Result, Time, View};

/// FILE_ATTRIBUTE_DIRECTORY.
pub const FOLDER: u8 = 0x10;
/// The volume's label.
pub const LABEL: u8 = 0x08;
/// A part of a long name: these bits of the attributes are all set.
pub const LONG_NAME: u8 = 0x0F;
/// Bits of the attributes that mean something.
pub const ATTRIBUTES: u8 = 0x3F;
/// Of these Windows tells: read-only, hidden, system, directory, archive.
const TOLD: u8 = 0x37;

/// Windows NT: the name before the dot is in small letters.
const SMALL_BASE: u8 = 0x08;
/// Windows NT: what is behind the dot is.
const SMALL_EXTENSION: u8 = 0x10;

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name and extension as they are stored.
    pub name: [u8; 11],
    /// ATTR_*.
    pub attributes: u8,
    case: u8,
    created: Option<Time>,
    accessed: Option<Time>,
    modified: Time,
    /// The first cluster; 0 if there is none.
    pub cluster: u32,
    /// Bytes; 0 of folders.
    pub size: u32,
}

impl Entry {
    /// Decodes an entry. Only FAT32 (`wide`) has the upper half of cluster numbers: others kept something else there.
    pub fn parse(view: View<'_>, wide: bool) -> Result<Entry> {
        let high = if wide { view.u16_le(20)? } else { 0 };
        let cluster = u32::from(high) << 16 | u32::from(view.u16_le(26)?);
        Ok(Entry {
            name: view.array(0)?,
            attributes: view.u8(11)? & ATTRIBUTES,
            case: view.u8(12)?,
            created: time(view.u16_le(16)?, view.u16_le(14)?, view.u8(13)?),
            accessed: time(view.u16_le(18)?, 0, 0),
            modified: time(view.u16_le(24)?, view.u16_le(22)?, 0).unwrap_or_default(),
            cluster: cluster & 0x0FFF_FFFF,
            size: view.u32_le(28)?,
        })
    }

    /// Whether it names a folder.
    pub fn is_folder(&self) -> bool {
        self.attributes & FOLDER != 0
    }

    /// Whether it is the volume's label, and names nothing.
    pub fn is_label(&self) -> bool {
        self.attributes & LABEL != 0
    }

    /// Whether it is `.` or `..`, which lead to the folder itself and the one above.
    pub fn is_dots(&self) -> bool {
        matches!(&self.name, b".          " | b"..         ")
    }

    /// The 8.3 name in UTF-16 as Windows NT and Linux show it: small letters where the entry says so.
    pub fn short_name(&self, code_page: CodePage) -> Vec<u16> {
        let (base, extension) = self.name.split_at_checked(8).unwrap_or_default();
        let mut base = base.to_vec();
        // What begins with the mark of a deleted entry is stored so.
        if let Some(first) = base.first_mut().filter(|first| **first == 0x05) {
            *first = 0xE5;
        }
        let mut units = part(&base, self.case & SMALL_BASE != 0, code_page);
        let extension = part(extension, self.case & SMALL_EXTENSION != 0, code_page);
        if !extension.is_empty() {
            units.push(u16::from(b'.'));
            units.extend(extension);
        }
        units
    }

    /// The label that it is.
    pub fn label(&self, code_page: CodePage) -> String {
        label(&self.name, code_page)
    }

    /// What is known of the file or folder.
    pub fn facts(&self, cluster_size: u64) -> Attributes {
        let is_folder = self.is_folder();
        let size = if is_folder { 0 } else { u64::from(self.size) };
        Attributes {
            kind: if is_folder {
                EntryKind::Folder
            } else {
                EntryKind::File
            },
            size,
            allocated: size.div_ceil(cluster_size).saturating_mul(cluster_size),
            mode: if is_folder { 0o555 } else { 0o444 },
            uid: 0,
            gid: 0,
            links: 1,
            device: None,
            modified: self.modified,
            changed: self.modified,
            accessed: self.accessed.unwrap_or(self.modified),
            created: self.created,
            dos_flags: u32::from(self.attributes & TOLD),
        }
    }
}

/// A label as entries and boot sectors store it.
pub fn label(bytes: &[u8; 11], code_page: CodePage) -> String {
    let mut bytes = *bytes;
    if let Some(first) = bytes.first_mut().filter(|first| **first == 0x05) {
        *first = 0xE5;
    }
    let units = code_page.decode(&bytes);
    let text = String::from_utf16_lossy(&units);
    // Some pad with zeros.
    text.trim_end_matches([' ', '\0']).to_string()
}

fn part(bytes: &[u8], is_small: bool, code_page: CodePage) -> Vec<u16> {
    let end = bytes.iter().rposition(|&byte| byte != b' ');
    let length = end.map_or(0, |end| end.saturating_add(1));
    let units = code_page.decode(bytes.get(..length).unwrap_or_default());
    if is_small {
        units.into_iter().map(small).collect()
    } else {
        units
    }
}

fn small(unit: u16) -> u16 {
    let Some(letter) = char::from_u32(u32::from(unit)) else {
        return unit;
    };
    let mut lower = letter.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(only), None) => u16::try_from(u32::from(only)).unwrap_or(unit),
        _ => unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8; 11], case: u8) -> Entry {
        let mut bytes = [0u8; 32];
        bytes[..11].copy_from_slice(name);
        bytes[12] = case;
        bytes[20..22].copy_from_slice(&[0x34, 0xA2]);
        bytes[26..28].copy_from_slice(&[0x78, 0x56]);
        Entry::parse(View::new(&bytes, "entry", 0), true).unwrap()
    }

    fn shown(name: &[u8; 11], case: u8) -> String {
        String::from_utf16(&entry(name, case).short_name(CodePage::default())).unwrap()
    }

    #[test]
    fn short_names_have_a_dot_and_the_case_that_is_told() {
        assert_eq!(shown(b"README  TXT", 0), "README.TXT");
        assert_eq!(shown(b"README  TXT", 8), "readme.TXT");
        assert_eq!(shown(b"README  TXT", 16), "README.txt");
        assert_eq!(shown(b"README  TXT", 24), "readme.txt");
        assert_eq!(shown(b"A B        ", 0), "A B");
        assert_eq!(shown(b"        TXT", 0), ".TXT");
        assert_eq!(shown(b"\x05\x8E\x99     T  ", 8), "σäö.T");
    }

    #[test]
    fn cluster_numbers_have_28_bits() {
        assert_eq!(entry(b"A          ", 0).cluster, 0x0234_5678);
    }
}
