//! A POSIX mode from a DACL.

use super::acl::{ALLOWED, Body, DENIED, INHERIT_ONLY};
use super::security_descriptor::SecurityDescriptor;
use super::sid::Sid;
use cairn_base::Result;

/// The right of each bit of a class, and the generic right that has it: FILE_READ_DATA, FILE_WRITE_DATA, FILE_EXECUTE; of folders FILE_LIST_DIRECTORY,
/// FILE_ADD_FILE and FILE_TRAVERSE, which are the same bits.
const RIGHTS: [(u32, u32); 3] = [
    (4, 0x1 | GENERIC_ALL | 0x8000_0000),
    (2, 0x2 | GENERIC_ALL | 0x4000_0000),
    (1, 0x20 | GENERIC_ALL | 0x2000_0000),
];
const GENERIC_ALL: u32 = 0x1000_0000;

/// What one class of users may.
#[derive(Clone, Copy, Default)]
struct Class {
    allowed: u32,
    denied: u32,
}

impl Class {
    /// What an earlier entry has decided stays.
    fn decide(&mut self, kind: u8, bits: u32) {
        match kind {
            ALLOWED => self.allowed |= bits & !self.denied,
            _ => self.denied |= bits & !self.allowed,
        }
    }
}

/// The permission bits (0o777) that `descriptor` comes to; none if it has no DACL, which says nothing of classes.
///
/// The rule is that of ntfs-3g and Samba: entries are gone through in their order, and the first that allows or denies a right decides on it. Entries of the owner
/// and of OWNER RIGHTS count for the owner, those of the group for the group, and those of Everyone, Authenticated Users and Users for all three. Entries of anybody
/// else, those that are only for what is inherited, and those with conditions or for kinds of objects count for none.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) for an entry that cannot be read.
pub fn mode(descriptor: &SecurityDescriptor<'_>) -> Result<Option<u32>> {
    let Some(dacl) = &descriptor.dacl else {
        return Ok(None);
    };
    let [mut owner, mut group, mut others] = [Class::default(); 3];
    for ace in dacl.aces() {
        let ace = ace?;
        let Body::Known { mask, sid, .. } = ace.body else {
            continue;
        };
        if !matches!(ace.kind, ALLOWED | DENIED) || ace.flags & INHERIT_ONLY != 0 {
            continue;
        }
        let bits = RIGHTS.iter().filter(|(_, rights)| mask & rights != 0);
        let bits = bits.fold(0, |sum, (bit, _)| sum | bit);
        let everybody = sid.is_everybody();
        let is = |known: Option<Sid<'_>>| known == Some(sid);
        if everybody || is(descriptor.owner) || sid.is_owner_rights() {
            owner.decide(ace.kind, bits);
        }
        if everybody || is(descriptor.group) {
            group.decide(ace.kind, bits);
        }
        if everybody {
            others.decide(ace.kind, bits);
        }
    }
    let shifted = |class: Class, by: u32| class.allowed.checked_shl(by).unwrap_or(0);
    Ok(Some(shifted(owner, 6) | shifted(group, 3) | others.allowed))
}
