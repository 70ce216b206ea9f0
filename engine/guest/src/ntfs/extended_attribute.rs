//! `$EA`: extended attributes as OS/2 had them, in which the Windows Subsystem for Linux keeps owner, mode and device ([MS-FSCC] section 2.4.16).

use super::attribute::kind;
use super::entry::Entry;
use super::mft::Mft;
use super::passing::is_passing;
use crate::volume::{Attributes, EntryKind};
use cairn_base::{Error, Result, View};

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

/// The attributes in the value of `$EA` that are whole; and what is wrong with the first that is damaged.
pub fn parse(view: View<'_>) -> (Vec<ExtendedAttribute<'_>>, Option<Error>) {
    let (mut found, mut damage) = (Vec::new(), None);
    let mut at = 0usize;
    // Each takes at least the header: there cannot be more than eight thousand.
    while at < view.len() {
        let (one, next) = match entry(view, at) {
            Ok(read) => read,
            Err(error) => {
                damage.get_or_insert(error);
                break;
            }
        };
        match one {
            Ok(one) => found.push(one),
            Err(error) => {
                damage.get_or_insert(error);
            }
        }
        if next == 0 {
            break;
        }
        at = at.saturating_add(next);
    }
    (found, damage)
}

/// The attribute at `at`, and how far it is to the next one: 0 for the last. The inner failure is of this attribute
/// alone, the outer one hides all behind it.
fn entry(view: View<'_>, at: usize) -> Result<(Result<ExtendedAttribute<'_>>, usize)> {
    let next = usize::try_from(view.u32_le(at)?).unwrap_or(usize::MAX);
    if next != 0 && next < HEADER {
        return Err(view.damaged(at, "an entry shorter than its own header"));
    }
    // None reaches into the one behind it.
    let left = view.len().saturating_sub(at);
    let length = if next == 0 { left } else { next.min(left) };
    let entry = view.part(at, length, "extended attribute")?;
    Ok((whole(entry), next))
}

fn whole(entry: View<'_>) -> Result<ExtendedAttribute<'_>> {
    let name_length = usize::from(entry.u8(5)?);
    let value_length = usize::from(entry.u16_le(6)?);
    let value_at = HEADER.saturating_add(name_length).saturating_add(1);
    Ok(ExtendedAttribute {
        name: entry.slice(HEADER, name_length)?,
        value: entry.part(value_at, value_length, "extended attribute")?,
    })
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
    /// Of `entry`. Nothing of what is damaged in its `$EA`, of which `user.cairn.left_out` tells, and nothing if a sector of it cannot be read, which who asks for attributes is told.
    ///
    /// # Errors
    /// What the disk reports that says nothing of the `$EA`.
    pub fn of(mft: &Mft, entry: &Entry) -> Result<LinuxFacts> {
        let bytes = match read(mft, entry) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) if is_passing(&error) => return Err(error),
            Err(_) => return Ok(LinuxFacts::default()),
        };
        let (known, _) = parse(View::new(&bytes, "extended attributes", 0));
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
        Ok(facts)
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
        let (found, damage) = parse(View::new(&bytes, "test", 0));
        assert!(damage.is_none());
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
            let (found, damage) = parse(View::new(&bytes[..cut], "test", 0));
            assert_eq!(damage.is_none(), whole, "{cut}");
            assert_eq!(found.len(), usize::from(cut >= 19), "{cut}");
        }
        let short = [4, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(parse(View::new(&short, "test", 0)).1.is_some());
        let (found, damage) = parse(View::new(&[], "test", 0));
        assert!(found.is_empty() && damage.is_none());
    }

    #[test]
    fn a_damaged_one_takes_nothing_but_itself() {
        let mut bytes = [
            one("A", b"first", false),
            one("B", b"second", false),
            one("C", b"third", true),
        ]
        .concat();
        // A value that would reach into the attribute behind it.
        let second = bytes[0] as usize;
        bytes[second + 6] = 12;
        let (found, damage) = parse(View::new(&bytes, "test", 0));
        let names: Vec<_> = found.iter().map(|one| one.name).collect();
        assert_eq!(names, [b"A", b"C"]);
        assert!(damage.unwrap().to_string().contains("extended attribute"));
    }
}
