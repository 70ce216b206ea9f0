//! Targets that do not care for case: which of the spellings of a name is the one that is there.

use crate::copy::name::folded;
use cairn_base::Result;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// The spellings of names in a folder, as hashes: that two names have one is as likely as to meet a number by chance.
#[derive(Default)]
pub struct Spellings {
    hashes: RandomState,
    /// Names that were there when somebody had to list them.
    listed: Option<HashSet<u64>>,
    /// Names that this copy made, by how they are without regard to case. Some systems list names in small letters only.
    made: HashMap<u64, u64>,
}

impl Spellings {
    /// This copy made a name.
    pub fn made(&mut self, name: &[u8]) {
        let hash = |name: &[u8]| self.hashes.hash_one(name);
        let (key, spelling) = (hash(&folded(name)), hash(name));
        self.made.insert(key, spelling);
    }

    /// Whether what answers to this name has another spelling. `list` tells all names, and is asked once.
    ///
    /// # Errors
    /// As `list`.
    pub fn is_other(
        &mut self,
        name: &[u8],
        list: impl FnOnce() -> Result<Vec<Vec<u8>>>,
    ) -> Result<bool> {
        let hash = |name: &[u8]| self.hashes.hash_one(name);
        let spelling = hash(name);
        if let Some(made) = self.made.get(&hash(&folded(name))) {
            return Ok(*made != spelling);
        }
        let listed = match &mut self.listed {
            Some(listed) => listed,
            none => none.insert(list()?.iter().map(|name| hash(name)).collect()),
        };
        Ok(!listed.contains(&spelling))
    }
}

/// Another spelling of a name, if it has one.
pub fn other(name: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(name).ok()?;
    let (upper, lower) = (text.to_uppercase(), text.to_lowercase());
    let other = if upper == text { lower } else { upper };
    (other != text).then(|| other.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_once_and_those_made_here_are_known() {
        let mut spellings = Spellings::default();
        let mut lists = 0;
        let mut is_other = |spellings: &mut Spellings, name: &str| {
            let list = || {
                lists += 1;
                Ok(vec![b"there".to_vec(), b"report".to_vec()])
            };
            let other = spellings.is_other(name.as_bytes(), list).unwrap();
            (other, lists)
        };
        // A system that lists small letters whatever the name is.
        spellings.made(b"Report");
        assert_eq!(is_other(&mut spellings, "report"), (true, 0));
        assert_eq!(is_other(&mut spellings, "Report"), (false, 0));
        assert_eq!(is_other(&mut spellings, "there"), (false, 1));
        assert_eq!(is_other(&mut spellings, "There"), (true, 1));
        spellings.made(b"There");
        assert_eq!(is_other(&mut spellings, "There"), (false, 1));
    }

    #[test]
    fn other_spellings_are_of_letters() {
        assert_eq!(other(b"File 1").unwrap(), b"FILE 1");
        assert_eq!(other(b"FILE").unwrap(), b"file");
        assert_eq!(other(b"12-3"), None);
        assert_eq!(other(b"\xff a"), None);
    }
}
