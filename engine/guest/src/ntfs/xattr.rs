//! What NTFS knows of an entry beside its content, as extended attributes: in the forms of ntfs-3g (`system.ntfs_*`), byte for byte, and in readable ones
//! (`user.cairn.*`). Named streams are not among them.

use super::attribute::kind;
use super::entry::Entry;
use super::extended_attribute;
use super::folder::Blocks;
use super::mft::Mft;
use super::name::to_bytes;
use super::nature;
use super::object_id::ObjectIds;
use super::reparse;
use crate::partition::guid_text;

use super::sddl;
use super::secure::Secure;
use super::security_descriptor::SecurityDescriptor;
use super::standard_information::{DIRECTORY, StandardInformation};
use super::tag;
use super::upcase::UpCase;
use crate::dos;
use cairn_base::{Error, Kind, Result, Time, View};

/// The longest value that Linux passes on.
const LONGEST: usize = 64 << 10;
/// Seconds from 1601-01-01 to 1970-01-01.
const EPOCH: i64 = 11_644_473_600;
/// FILE_ATTRIBUTE_NORMAL.
const NORMAL: u32 = 0x80;
/// The longest 8.3 name in units.
const MAX_SHORT: usize = 12;
/// What stands before the name of each attribute of `$EA`.
const EA: &[u8] = b"user.cairn.ea.";
const LEFT_OUT: &str = "user.cairn.left_out";
const SDDL: &str = "user.cairn.sddl";

/// All names but those of attributes of `$EA`, in the order in which they are told.
const NAMES: [&str; 20] = [
    "system.ntfs_acl",
    "system.ntfs_attrib",
    "system.ntfs_attrib_be",
    "system.ntfs_times",
    "system.ntfs_times_be",
    "system.ntfs_crtime",
    "system.ntfs_crtime_be",
    "system.ntfs_object_id",
    "system.ntfs_reparse_data",
    "system.ntfs_ea",
    "system.ntfs_dos_name",
    SDDL,
    "user.cairn.attributes",
    "user.cairn.created",
    "user.cairn.modified",
    "user.cairn.accessed",
    "user.cairn.changed",
    "user.cairn.reparse",
    "user.cairn.object_id",
    LEFT_OUT,
];

/// Whether an attribute of that name is possible; others need no look at the volume.
pub fn may_have(name: &[u8]) -> bool {
    name.starts_with(EA) || NAMES.iter().any(|known| known.as_bytes() == name)
}

/// An entry, and where what belongs to it is found.
pub struct Beside<'a> {
    /// The file table.
    pub mft: &'a Mft,
    /// To find files by their names.
    pub names: (&'a Blocks, &'a UpCase),
    /// Security descriptors.
    pub secure: &'a Secure,
    /// Object ids.
    pub object_ids: &'a ObjectIds,
    /// The entry.
    pub entry: &'a Entry,
}

/// Names and values.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

impl Beside<'_> {
    /// All there are, but for those that are longer than 64 KiB or damaged: `user.cairn.left_out` names these, and what parts others lack.
    ///
    /// # Errors
    /// As the disk reports: what is damaged is left out by itself.
    pub fn all(&self) -> Result<Pairs> {
        let mut found = Pairs::new();
        let left_out = self.gather(&mut found)?;
        if !left_out.is_empty() {
            found.push((LEFT_OUT.into(), left_out.into_bytes()));
        }
        Ok(found)
    }

    /// Adds what there is to `found`; answers a line for each that is left out or lacks a part.
    fn gather(&self, found: &mut Pairs) -> Result<String> {
        let mut left_out = String::new();
        let mut leave = |name: &str, why: &str| {
            left_out.push_str(name);
            left_out.push_str(": ");
            left_out.push_str(why);
            left_out.push('\n');
        };
        for name in NAMES.into_iter().filter(|name| *name != LEFT_OUT) {
            let mut lacks = None;
            let value = match name {
                SDDL => self.sddl().map(|told| {
                    told.map(|(text, damage)| {
                        lacks = damage;
                        text
                    })
                }),
                _ => self.value(name.as_bytes()),
            };
            if let Some(error) = lacks {
                leave(name, &format!("the SACL is not in it: {error}"));
            }
            match value {
                Ok(Some(value)) if value.len() <= LONGEST => found.push((name.into(), value)),
                Ok(Some(value)) => leave(name, &format!("{} bytes", value.len())),
                Ok(None) => {}
                Err(error) if is_of_the_entry(&error) => leave(name, &error.to_string()),
                Err(error) => return Err(error),
            }
        }
        let bytes = match extended_attribute::read(self.mft, self.entry) {
            Err(error) if is_of_the_entry(&error) => None,
            bytes => bytes?,
        };
        let bytes = bytes.unwrap_or_default();
        let view = View::new(&bytes, "extended attributes", 0);
        let (attributes, damage) = extended_attribute::parse(view);
        for attribute in attributes {
            let name = [EA, attribute.name].concat();
            found.push((name, attribute.value.bytes().to_vec()));
        }
        if let Some(error) = damage {
            leave("user.cairn.ea", &error.to_string());
        }
        Ok(left_out)
    }

    /// The attribute of that name, however long it is; none if there is none.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if what it is made of is.
    pub fn value(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(wanted) = name.strip_prefix(EA) {
            return self.extended(wanted);
        }
        let text = |text: String| Some(text.into_bytes());
        Ok(match std::str::from_utf8(name).unwrap_or_default() {
            "system.ntfs_acl" => self.descriptor()?,
            "system.ntfs_attrib" => Some(self.flags()?.to_ne_bytes().into()),
            "system.ntfs_attrib_be" => Some(self.flags()?.to_be_bytes().into()),
            "system.ntfs_times" => Some(self.ticks()?.map(u64::to_ne_bytes).concat()),
            "system.ntfs_times_be" => Some(self.ticks()?.map(u64::to_be_bytes).concat()),
            "system.ntfs_crtime" => Some(ticks(self.standard()?.created).to_ne_bytes().into()),
            "system.ntfs_crtime_be" => Some(ticks(self.standard()?.created).to_be_bytes().into()),
            "system.ntfs_object_id" => self.object_id()?,
            "system.ntfs_reparse_data" => self.reparse()?,
            "system.ntfs_ea" => extended_attribute::read(self.mft, self.entry)?,
            "system.ntfs_dos_name" => self.short_name()?,
            SDDL => self.sddl()?.map(|(text, _)| text),
            "user.cairn.attributes" => text(dos::attribute_names(self.flags()?).join(" ")),
            "user.cairn.created" => text(shown(self.standard()?.created)),
            "user.cairn.modified" => text(shown(self.standard()?.modified)),
            "user.cairn.accessed" => text(shown(self.standard()?.accessed)),
            "user.cairn.changed" => text(shown(self.standard()?.changed)),
            "user.cairn.reparse" => match self.reparse()? {
                Some(point) => {
                    let tag = reparse::tag(View::new(&point, "reparse point", 0))?;
                    text(tag::text(tag))
                }
                None => None,
            },
            "user.cairn.object_id" => match self.object_id()? {
                Some(id) => text(guid_text(&View::new(&id, "object id", 0).array(0)?)),
                None => None,
            },
            LEFT_OUT => {
                let left_out = self.gather(&mut Pairs::new())?;
                (!left_out.is_empty()).then(|| left_out.into_bytes())
            }
            _ => None,
        })
    }

    fn standard(&self) -> Result<StandardInformation> {
        let value = self
            .entry
            .value(self.mft, kind::STANDARD_INFORMATION, &[], 4096)?;
        let value = value.ok_or_else(|| Error::damaged("the standard information is missing"))?;
        StandardInformation::parse(View::new(&value, "standard information", 0))
    }

    /// As ntfs-3g has it: whether it is a folder its record says; without any bit it is normal.
    fn flags(&self) -> Result<u32> {
        let folder = if self.entry.is_folder() { DIRECTORY } else { 0 };
        let flags = (self.standard()?.flags & !DIRECTORY) | folder;
        Ok(if flags == 0 { NORMAL } else { flags })
    }

    /// Made, content changed, content read, record changed.
    fn ticks(&self) -> Result<[u64; 4]> {
        let known = self.standard()?;
        Ok([known.created, known.modified, known.accessed, known.changed].map(ticks))
    }

    fn descriptor(&self) -> Result<Option<Vec<u8>>> {
        let id = self.standard()?.security_id;
        let found = self.secure.descriptor(self.mft, self.entry, id)?;
        Ok(found.map(|bytes| bytes.to_vec()))
    }

    /// The descriptor as text, and why it lacks the SACL if it does.
    fn sddl(&self) -> Result<Option<(Vec<u8>, Option<Error>)>> {
        let Some(bytes) = self.descriptor()? else {
            return Ok(None);
        };
        let view = View::new(&bytes, "security descriptor", 0);
        let (text, damage) = sddl::text(&SecurityDescriptor::parse(view)?)?;
        Ok(Some((text.into_bytes(), damage)))
    }

    fn object_id(&self) -> Result<Option<Vec<u8>>> {
        self.object_ids.of(self.mft, self.names, self.entry)
    }

    fn reparse(&self) -> Result<Option<Vec<u8>>> {
        let kind = kind::REPARSE_POINT;
        self.entry.value(self.mft, kind, &[], reparse::MAX_BYTES)
    }

    /// The first 8.3 name, in capital letters.
    fn short_name(&self) -> Result<Option<Vec<u8>>> {
        let names = nature::names(self.mft, self.entry)?;
        let short = names.iter().find(|name| name.is_short());
        let short = short.filter(|name| name.name.len() <= MAX_SHORT);
        Ok(short.map(|name| to_bytes(&self.names.1.uppercase(&name.name))))
    }

    fn extended(&self, wanted: &[u8]) -> Result<Option<Vec<u8>>> {
        let bytes = extended_attribute::read(self.mft, self.entry)?.unwrap_or_default();
        let view = View::new(&bytes, "extended attributes", 0);
        let (known, damage) = extended_attribute::parse(view);
        let found = known.iter().find(|attribute| attribute.name == wanted);
        match (found, damage) {
            (Some(found), _) => Ok(Some(found.value.bytes().to_vec())),
            // It may be the damaged one.
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }
}

/// Whether an error is of one attribute, so that the others can be told.
fn is_of_the_entry(error: &Error) -> bool {
    error.id().is_none() && matches!(error.kind(), Kind::Damaged | Kind::Unsupported)
}

/// A time in units of 100 ns since 1601-01-01, as it was on disk.
fn ticks(time: Time) -> u64 {
    let seconds = u64::try_from(time.seconds.saturating_add(EPOCH)).unwrap_or(0);
    let part = u64::from(time.nanos / 100);
    seconds.wrapping_mul(10_000_000).wrapping_add(part)
}

/// `2026-11-20T02:00:00.1234567Z`; where no calendar reaches the seconds since 1970 and the fraction.
fn shown(time: Time) -> String {
    let (whole, part) = (time.rfc3339(), time.nanos / 100);
    match whole.strip_suffix('Z') {
        Some(whole) => format!("{whole}.{part:07}Z"),
        None => format!("{whole}.{part:07}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_those_on_disk() {
        for number in [
            0,
            1,
            116_444_735_999_999_999,
            116_444_736_000_000_000,
            u64::MAX,
        ] {
            assert_eq!(
                ticks(super::super::standard_information::time(number)),
                number
            );
        }
        let time = super::super::standard_information::time(116_444_735_999_999_999);
        assert_eq!(shown(time), "1969-12-31T23:59:59.9999999Z");
    }

    #[test]
    fn only_known_names_are_looked_for() {
        assert!(may_have(b"system.ntfs_acl") && may_have(b"user.cairn.ea.$LXUID"));
        assert!(!may_have(b"security.selinux") && !may_have(b"user.cairn"));
    }
}
