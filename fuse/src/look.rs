//! How guests' entries are shown: whose they are, what may be done with them, and how their names are compared.

use cairn::{Attributes, EntryKind};

/// To read, for everybody.
const READ: u32 = 0o444;
/// To run a file or to enter a folder, for everybody.
const EXECUTE: u32 = 0o111;

/// How guests' entries are shown. Unless told otherwise: as the guest has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// Whose they are, instead of the guest's owners.
    pub uid: Option<u32>,
    /// Whose group they are of, instead of the guest's.
    pub gid: Option<u32>,
    /// Permission bits that are taken from all but symbolic links, after `permissive` gave its own.
    pub umask: Option<u32>,
    /// Everything can be read, and folders entered, by whoever may look; also `disks/*.raw` and `versions`.
    pub permissive: bool,
    /// Where no name is exactly the one that is asked for, a single one that differs from it in case only is taken.
    pub ignore_case: bool,
}

impl Look {
    /// Whether owners and modes are the guest's own; access control lists mean something only then.
    pub fn is_the_guests(&self) -> bool {
        self.uid.is_none() && self.gid.is_none() && self.umask.is_none() && !self.permissive
    }

    /// Makes the attributes of a guest's entry those that are shown, and that the kernel decides by.
    pub fn dress(&self, attributes: &mut Attributes) {
        attributes.uid = self.uid.unwrap_or(attributes.uid);
        attributes.gid = self.gid.unwrap_or(attributes.gid);
        let kind = attributes.kind;
        if self.permissive && matches!(kind, EntryKind::File | EntryKind::Folder) {
            attributes.mode |= READ;
            if kind == EntryKind::Folder || attributes.mode & EXECUTE != 0 {
                attributes.mode |= EXECUTE;
            }
        }
        if kind != EntryKind::Symlink {
            attributes.mode &= !(self.umask.unwrap_or(0) & 0o777);
        }
    }

    /// The mode of something that the mount makes and that shows more than the guest's own modes allow: for the one who mounts only, unless `permissive`.
    pub fn private(&self, mode: u32) -> u32 {
        let bits = mode & 0o700;
        if self.permissive {
            // To read and to search, never to write.
            bits | ((bits & 0o500) >> 3) | ((bits & 0o500) >> 6)
        } else {
            bits
        }
    }

    /// The one of `names` that is `wanted` but for case, if it is the only one; of equal names one counts.
    pub fn only_match<N: AsRef<[u8]>>(
        wanted: &[u8],
        names: impl IntoIterator<Item = N>,
    ) -> Option<N> {
        let wanted = fold(wanted);
        let mut matching = names
            .into_iter()
            .filter(|name| fold(name.as_ref()) == wanted);
        let found = matching.next()?;
        matching
            .all(|other| other.as_ref() == found.as_ref())
            .then_some(found)
    }
}

/// A name without regard to case: in small letters, by Unicode where it is UTF-8, else those of ASCII.
pub fn fold(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => name.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests;
