//! `$EA`: extended attributes as OS/2 had them, in which the Windows Subsystem for Linux keeps owner, mode and device ([MS-FSCC] section 2.4.16).

use super::attribute::kind;
use super::entry::Entry;
use super::mft::Mft;
use crate::volume::{Attributes, EntryKind};
use cairn_base::{Result, View};

/// The longest `$EA`: its length has 16 bits.
const MAX_BYTES: u64 = 64 << 10;
const HEADER: usize = 8;

/// One attribute.
pub struct ExtendedAttribute<'a> {
    /// Its name, as a rule in ASCII.
    pub name: &'a [u8],
    /// Its value.
    pub value: View<'a>,
}

/// The bytes of the `$EA` of `entry`; none if it has none.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if they are longer than they can be.
pub fn read(mft: &Mft, entry: &Entry) -> Result<Option<Vec<u8>>> {
    entry.value(mft, kind::EA, &[], MAX_BYTES)
}

/// The attributes in the value of `$EA`.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if one lies outside.
pub fn parse(view: View<'_>) -> Result<Vec<ExtendedAttribute<'_>>> {
    let mut found = Vec::new();
    let mut at = 0usize;
    // Each takes at least the header: there cannot be more than eight thousand.
    while at < view.len() {
        let entry = view.tail(at)?;
        let next = usize::try_from(entry.u32_le(0)?).unwrap_or(usize::MAX);
        let name_length = usize::from(entry.u8(5)?);
        let value_length = usize::from(entry.u16_le(6)?);
        let value_at = HEADER.saturating_add(name_length).saturating_add(1);
        found.push(ExtendedAttribute {
            name: entry.slice(HEADER, name_length)?,
            value: entry.part(value_at, value_length, "extended attribute")?,
        });
        if next == 0 {
            break;
        }
        if next < HEADER {
            return Err(entry.damaged(0, "an entry shorter than its own header"));
        }
        at = at.saturating_add(next);
    }
    Ok(found)
}

/// What the Windows Subsystem for Linux knows of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinuxFacts {
    /// `$LXUID`.
    pub uid: Option<u32>,
    /// `$LXGID`.
    pub gid: Option<u32>,
    /// `$LXMOD`: permission bits (0o7777).
    pub mode: Option<u32>,
    /// `$LXDEV`: major and minor number.
    pub device: Option<(u32, u32)>,
}

impl LinuxFacts {
    /// Of `entry`. Nothing where its `$EA` cannot be read: it is not needed for anything else.
    pub fn of(mft: &Mft, entry: &Entry) -> LinuxFacts {
        let bytes = read(mft, entry).ok().flatten().unwrap_or_default();
        let known = parse(View::new(&bytes, "extended attributes", 0)).unwrap_or_default();
        let mut facts = LinuxFacts::default();
        for attribute in known {
            let number = |at: usize| attribute.value.u32_le(at).ok();
            match attribute.name.to_ascii_uppercase().as_slice() {
                b"$LXUID" => facts.uid = number(0),
                b"$LXGID" => facts.gid = number(0),
                b"$LXMOD" => facts.mode = number(0).map(|mode| mode & 0o7777),
                b"$LXDEV" => facts.device = number(0).zip(number(4)),
                _ => {}
            }
        }
        facts
    }

    /// Owner, group, mode and device of Linux count more than what Windows' own come to.
    pub fn dress(&self, attributes: &mut Attributes) {
        attributes.uid = self.uid.unwrap_or(attributes.uid);
        attributes.gid = self.gid.unwrap_or(attributes.gid);
        attributes.mode = self.mode.unwrap_or(attributes.mode);
        if matches!(
            attributes.kind,
            EntryKind::CharDevice | EntryKind::BlockDevice
        ) {
            attributes.device = self.device.or(attributes.device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One attribute, padded to four bytes; `last` ends the list.
    fn one(name: &str, value: &[u8], last: bool) -> Vec<u8> {
        let mut bytes = vec![0, name.len() as u8];
        bytes.extend((value.len() as u16).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes.extend(value);
        while bytes.len() % 4 != 0 {
            bytes.push(0);
        }
        let next = if last { 0 } else { bytes.len() as u32 + 4 };
        [next.to_le_bytes().to_vec(), bytes].concat()
    }

    #[test]
    fn attributes_follow_each_other() {
        let bytes = [
            one("$LXUID", &[1, 2, 0, 0], false),
            one("A", b"value", true),
        ]
        .concat();
        let found = parse(View::new(&bytes, "test", 0)).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|one| (one.name, one.value.bytes()))
            .collect();
        assert_eq!(
            shown,
            [(&b"$LXUID"[..], &[1, 2, 0, 0][..]), (b"A", b"value")]
        );
        for cut in 1..bytes.len() - 2 {
            // Without its padding the first one is whole.
            let whole = (19..=20).contains(&cut);
            let parsed = parse(View::new(&bytes[..cut], "test", 0));
            assert_eq!(parsed.is_ok(), whole, "{cut}");
        }
        assert!(parse(View::new(&[4, 0, 0, 0, 0, 0, 0, 0, 0], "test", 0)).is_err());
        assert!(parse(View::new(&[], "test", 0)).unwrap().is_empty());
    }
}
