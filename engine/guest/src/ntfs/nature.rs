//! What an entry is: file, folder, link, device; and its attributes.

use super::attribute::{Body, FLAG_ENCRYPTED, kind};
use super::entry::Entry;
use super::file_name::FileName;
use super::interix::{self, Special};
use super::mft::Mft;
use super::reparse;
use super::standard_information::{DIRECTORY, OFFLINE, RECALL, SYSTEM, StandardInformation};
use super::tag;
use super::wof;
use crate::volume::{Attributes, EntryKind, LinkTarget};
use cairn_base::units::to_u64;
use cairn_base::{Error, Result, View};

/// The longest `$STANDARD_INFORMATION` is 72 bytes.
const MAX_STANDARD: u64 = 4096;

/// What an entry is, beyond its names.
pub struct Nature {
    /// File, folder, link, ...
    pub kind: EntryKind,
    /// The reparse tag, 0 if there is none.
    pub tag: u32,
    /// The target of a link.
    pub target: Option<Vec<u8>>,
    device: Option<(u32, u32)>,
    standard: StandardInformation,
}

impl Nature {
    /// Looks at `entry`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if an attribute that is needed is bad.
    pub fn of(mft: &Mft, entry: &Entry) -> Result<Nature> {
        let standard = entry
            .value(mft, kind::STANDARD_INFORMATION, &[], MAX_STANDARD)?
            .ok_or_else(|| Error::damaged("the standard information is missing"))?;
        let standard = StandardInformation::parse(View::new(&standard, "standard information", 0))?;
        let mut nature = Nature {
            kind: if entry.is_folder() {
                EntryKind::Folder
            } else {
                EntryKind::File
            },
            tag: 0,
            target: None,
            device: None,
            standard,
        };
        if let Some(point) = entry.value(mft, kind::REPARSE_POINT, &[], reparse::MAX_BYTES)? {
            let view = View::new(&point, "reparse point", 0);
            nature.tag = reparse::tag(view)?;
            if let Some(kind) = reparse::kind_of(nature.tag) {
                nature.kind = kind;
                if kind == EntryKind::Symlink {
                    nature.target = Some(reparse::target(view)?);
                }
            }
        } else if standard.flags & SYSTEM != 0 && nature.kind == EntryKind::File {
            nature.look_for_special(mft, entry)?;
        }
        Ok(nature)
    }

    fn look_for_special(&mut self, mft: &Mft, entry: &Entry) -> Result<()> {
        let Some(data) = entry.first(mft, kind::DATA, &[])? else {
            return Ok(());
        };
        let plain = data.attribute.flags & FLAG_ENCRYPTED == 0;
        if !plain || !(8..=interix::MAX_BYTES).contains(&data.attribute.size()) {
            return Ok(());
        }
        let Some(content) = entry.value(mft, kind::DATA, &[], interix::MAX_BYTES)? else {
            return Ok(());
        };
        match interix::parse(View::new(&content, "special file", 0))? {
            Some(Special::Link(target)) => {
                self.kind = EntryKind::Symlink;
                self.target = Some(target);
            }
            Some(Special::Char(major, minor)) => {
                self.kind = EntryKind::CharDevice;
                self.device = Some((major, minor));
            }
            Some(Special::Block(major, minor)) => {
                self.kind = EntryKind::BlockDevice;
                self.device = Some((major, minor));
            }
            None => {}
        }
        Ok(())
    }

    /// The id of its security descriptor, 0 if it has none in `$Secure`.
    pub fn security_id(&self) -> u32 {
        self.standard.security_id
    }

    /// Refuses what has no content.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid).
    pub fn check_kind(&self) -> Result<()> {
        match self.kind {
            EntryKind::File => Ok(()),
            EntryKind::Folder => Err(Error::invalid("a folder has no content")),
            _ => Err(Error::invalid("a link or special file has no content")),
        }
    }

    /// Whether Windows marked the content as kept elsewhere, all of it or a part.
    pub fn is_offline(&self) -> bool {
        self.standard.flags & (OFFLINE | RECALL) != 0
    }

    /// All attributes of `entry`, whose nature this is.
    pub fn attributes(&self, mft: &Mft, entry: &Entry) -> Result<Attributes> {
        let names = names(mft, entry)?;
        let links = names.iter().filter(|name| !name.is_dos()).count();
        let data = match self.kind {
            EntryKind::Folder => None,
            _ => entry.first(mft, kind::DATA, &[])?,
        };
        let (size, allocated) = match (&data, &self.target) {
            (Some(data), None) => (data.attribute.size(), data.attribute.allocated()),
            (Some(data), Some(target)) => (to_u64(target.len()), data.attribute.allocated()),
            (None, Some(target)) => (to_u64(target.len()), 0),
            (None, None) => (0, 0),
        };
        let allocated = match self.tag {
            tag::WOF => allocated.saturating_add(packed(mft, entry)?),
            _ => allocated,
        };
        let folder = entry.is_folder();
        Ok(Attributes {
            kind: self.kind,
            size,
            allocated,
            mode: if folder && self.kind == EntryKind::Folder {
                0o555
            } else {
                0o444
            },
            uid: 0,
            gid: 0,
            links: u32::try_from(links).unwrap_or(u32::MAX).max(1),
            device: self.device,
            modified: self.standard.modified,
            changed: self.standard.changed,
            accessed: self.standard.accessed,
            created: Some(self.standard.created),
            dos_flags: self.standard.flags | if folder { DIRECTORY } else { 0 },
        })
    }
}

/// Bytes allocated for the compressed content of `entry`, beside its main stream.
fn packed(mft: &Mft, entry: &Entry) -> Result<u64> {
    let stream = entry.first(mft, kind::DATA, &wof::stream_name())?;
    Ok(stream.map_or(0, |stream| stream.attribute.allocated()))
}

/// What a link of Windows leads to; nothing if `entry` is none.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) for a reparse point that ends too early.
pub fn link(mft: &Mft, entry: &Entry) -> Result<Option<LinkTarget>> {
    let point = entry.value(mft, kind::REPARSE_POINT, &[], reparse::MAX_BYTES)?;
    match point {
        Some(point) => reparse::link_target(View::new(&point, "reparse point", 0)),
        None => Ok(None),
    }
}

/// All names of `entry`.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) for a name that is not resident or does not fit.
pub fn names(mft: &Mft, entry: &Entry) -> Result<Vec<FileName>> {
    let mut names = Vec::new();
    for part in entry.all(mft, kind::FILE_NAME)? {
        match (&part.attribute.body, part.resident()) {
            (Body::Resident(_), Some(value)) => {
                names.push(FileName::parse(View::new(value, "file name", 0))?);
            }
            _ => return Err(Error::damaged("a file name is not in its record")),
        }
    }
    Ok(names)
}
