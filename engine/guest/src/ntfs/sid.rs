//! Security identifiers ([MS-DTYP] section 2.4.2).

use cairn_base::{Result, View};
use std::fmt::Write;

/// The most numbers of a SID ([MS-DTYP] 2.4.2.2).
const MAX_SUB_AUTHORITIES: u8 = 15;

/// Names of SIDs in SDDL ([MS-DTYP] 2.5.1.1). Those that mean something only within one domain (`DA`, `LA`, ...) are written as numbers.
const ALIASES: &[(&str, &str)] = &[
    ("S-1-1-0", "WD"),
    ("S-1-3-0", "CO"),
    ("S-1-3-1", "CG"),
    ("S-1-3-4", "OW"),
    ("S-1-5-2", "NU"),
    ("S-1-5-4", "IU"),
    ("S-1-5-6", "SU"),
    ("S-1-5-7", "AN"),
    ("S-1-5-9", "ED"),
    ("S-1-5-10", "PS"),
    ("S-1-5-11", "AU"),
    ("S-1-5-12", "RC"),
    ("S-1-5-18", "SY"),
    ("S-1-5-19", "LS"),
    ("S-1-5-20", "NS"),
    ("S-1-5-33", "WR"),
    ("S-1-5-32-544", "BA"),
    ("S-1-5-32-545", "BU"),
    ("S-1-5-32-546", "BG"),
    ("S-1-5-32-547", "PU"),
    ("S-1-5-32-548", "AO"),
    ("S-1-5-32-549", "SO"),
    ("S-1-5-32-550", "PO"),
    ("S-1-5-32-551", "BO"),
    ("S-1-5-32-552", "RE"),
    ("S-1-5-32-554", "RU"),
    ("S-1-5-32-555", "RD"),
    ("S-1-5-32-556", "NO"),
    ("S-1-5-32-558", "MU"),
    ("S-1-5-32-559", "LU"),
    ("S-1-5-32-568", "IS"),
    ("S-1-5-32-569", "CY"),
    ("S-1-5-32-573", "ER"),
    ("S-1-5-32-574", "CD"),
    ("S-1-5-32-575", "RA"),
    ("S-1-5-32-576", "ES"),
    ("S-1-5-32-577", "MS"),
    ("S-1-5-32-578", "HA"),
    ("S-1-5-32-579", "AA"),
    ("S-1-5-32-580", "RM"),
    ("S-1-5-84-0-0-0-0-0", "UD"),
    ("S-1-15-2-1", "AC"),
    ("S-1-16-4096", "LW"),
    ("S-1-16-8192", "ME"),
    ("S-1-16-8448", "MP"),
    ("S-1-16-12288", "HI"),
    ("S-1-16-16384", "SI"),
    ("S-1-18-1", "AS"),
    ("S-1-18-2", "SS"),
];

/// A SID: a revision, an authority of 48 bits, and up to 15 numbers below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sid<'a>(&'a [u8]);

impl<'a> Sid<'a> {
    /// The SID at the start of `view`, which may be longer.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is cut off, or has another revision or more numbers than there are.
    pub fn parse(view: View<'a>) -> Result<Sid<'a>> {
        let count = view.u8(1)?;
        if view.u8(0)? != 1 || count > MAX_SUB_AUTHORITIES {
            return Err(view.damaged(0, "not a security identifier"));
        }
        let length = usize::from(count).saturating_mul(4).saturating_add(8);
        Ok(Sid(view.slice(0, length)?))
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// `S-1-5-32-544`: the authority in decimal, or in hexadecimal if it takes more than 32 bits.
    pub fn to_text(self) -> String {
        let (head, numbers) = self.0.split_at_checked(8).unwrap_or_default();
        let authority = head
            .iter()
            .skip(2)
            .fold(0u64, |sum, byte| sum.saturating_mul(256) | u64::from(*byte));
        let mut text = if u32::try_from(authority).is_ok() {
            format!("S-1-{authority}")
        } else {
            format!("S-1-0x{authority:012X}")
        };
        for number in numbers.chunks_exact(4) {
            let number = u32::from_le_bytes(number.try_into().unwrap_or_default());
            // Writing to a string cannot fail.
            let _ = write!(text, "-{number}");
        }
        text
    }

    /// The name of two letters that SDDL has for it, else the text.
    pub fn to_sddl(self) -> String {
        let text = self.to_text();
        let alias = ALIASES.iter().find(|(known, _)| *known == text);
        alias.map_or(text, |(_, alias)| (*alias).to_string())
    }

    /// Whether it is one of those that stand for all users who have an account: Everyone, Authenticated Users, Users.
    pub fn is_everybody(&self) -> bool {
        const EVERYONE: &[u8] = &[1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        const AUTHENTICATED: &[u8] = &[1, 1, 0, 0, 0, 0, 0, 5, 11, 0, 0, 0];
        const USERS: &[u8] = &[1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x21, 2, 0, 0];
        [EVERYONE, AUTHENTICATED, USERS].contains(&self.0)
    }

    /// Whether it is OWNER RIGHTS, which stands for the owner.
    pub fn is_owner_rights(&self) -> bool {
        self.0 == [1, 1, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sids_are_written_as_windows_does() {
        let of = |bytes: &[u8]| {
            let sid = Sid::parse(View::new(bytes, "sid", 0)).unwrap();
            (sid.to_text(), sid.to_sddl())
        };
        let users = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x21, 2, 0, 0, 9, 9];
        assert_eq!(of(&users), ("S-1-5-32-545".into(), "BU".into()));
        let large = [1, 1, 1, 0, 0, 0, 0, 5, 1, 0, 0, 0];
        assert_eq!(of(&large).0, "S-1-0x010000000005-1");
        assert_eq!(of(&[1, 0, 0, 0, 0, 0, 0, 5]).0, "S-1-5");
        for bad in [
            &[2, 1, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0][..],
            &[1, 16],
            &[1, 1, 0, 0, 0, 0, 0, 5, 1],
        ] {
            assert!(Sid::parse(View::new(bad, "sid", 0)).is_err());
        }
    }
}
