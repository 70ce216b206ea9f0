//! What is looked for.

use crate::find::glob::Glob;
use cairn_base::{Result, Time};
use cairn_guest::{Attributes, EntryKind};

/// What is looked for. Everything that is given must hold; of several patterns of one sort, one.
#[derive(Debug, Clone, Default)]
pub struct Criteria {
    /// Patterns of the last name of a path; none: any name.
    pub names: Vec<Glob>,
    /// Patterns of the whole path, `/disk0/p1/etc/passwd`; `*` stands for `/` too. None, and none of `lettered`: any path.
    pub paths: Vec<Glob>,
    /// The same of paths that begin with a drive letter of Windows. Where there are any, all points that are not of the same disks as the one before are opened, and the letters
    /// of each are found out.
    pub lettered: Vec<Lettered>,
    /// Content changed at this time or later.
    pub newer: Option<Time>,
    /// Content changed before this time.
    pub older: Option<Time>,
    /// Files of at least so many bytes.
    pub at_least: Option<u64>,
    /// Files of at most so many bytes.
    pub at_most: Option<u64>,
    /// What it is; none: anything.
    pub kinds: Vec<EntryKind>,
    /// Patterns stand for names without regard to case. On volumes that compare names so (NTFS) they do in any case.
    pub ignore_case: bool,
}

/// A pattern of paths of the volume with a drive letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lettered {
    letter: u8,
    below: Glob,
}

impl Lettered {
    /// Takes a pattern as `C:/Users/*` apart, also with a slash in front of it; nothing if it does not begin with a letter and a colon. In one that goes on with
    /// a backslash, as Windows writes paths, backslashes stand between names, and not before characters that stand for themselves.
    ///
    /// # Errors
    /// As [`Glob::new`].
    pub fn of_pattern(pattern: &[u8]) -> Result<Option<Lettered>> {
        let [letter, b':', below @ ..] = pattern.strip_prefix(b"/").unwrap_or(pattern) else {
            return Ok(None);
        };
        if !letter.is_ascii_alphabetic() {
            return Ok(None);
        }
        let is_windows = below.first() == Some(&b'\\');
        let slash = |byte: &u8| match byte {
            b'\\' if is_windows => b'/',
            other => *other,
        };
        let below: Vec<u8> = below.iter().map(slash).collect();
        Ok(Some(Lettered {
            letter: letter.to_ascii_uppercase(),
            below: Glob::new(&below)?,
        }))
    }
}

/// Where a volume is found, and what it is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Called<'a> {
    /// Bytes of `disk0/p1`, with which its paths begin.
    pub length: usize,
    /// Its drive letters, if anybody wants to know them.
    pub letters: &'a [u8],
}

impl Called<'_> {
    /// A path below the volume's root, with a slash in front of it.
    fn below<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        path.get(self.length..).unwrap_or_default()
    }
}

impl Criteria {
    fn any_path(&self) -> bool {
        self.paths.is_empty() && self.lettered.is_empty()
    }

    /// The patterns of paths on a volume that has one of these letters.
    fn of_letters<'s>(&'s self, called: Called<'s>) -> impl Iterator<Item = &'s Glob> {
        let of = self.lettered.iter();
        let of = of.filter(move |one| called.letters.contains(&one.letter));
        of.map(|one| &one.below)
    }

    /// Whether the entry of this path (without the first slash) may be meant, by its name alone.
    pub(super) fn fits_name(&self, path: &[u8], called: Called<'_>, ignore_case: bool) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let matches = |glob: &Glob, text: &[u8]| glob.matches(text, ignore_case);
        if !self.names.is_empty() && !self.names.iter().any(|glob| matches(glob, name)) {
            return false;
        }
        let (whole, below) = ([b"/", path].concat(), called.below(path));
        self.any_path()
            || self.paths.iter().any(|glob| matches(glob, &whole))
            || self.of_letters(called).any(|glob| matches(glob, below))
    }

    /// Whether it is meant, by everything else.
    pub(super) fn fits(&self, attributes: &Attributes) -> bool {
        let is_file = attributes.kind == EntryKind::File;
        (self.kinds.is_empty() || self.kinds.contains(&attributes.kind))
            && self.newer.is_none_or(|time| attributes.modified >= time)
            && self.older.is_none_or(|time| attributes.modified < time)
            && self
                .at_least
                .is_none_or(|size| is_file && attributes.size >= size)
            && self
                .at_most
                .is_none_or(|size| is_file && attributes.size <= size)
    }

    /// Whether anything below the folder of this path (without the first slash) can be meant.
    pub(super) fn may_be_below(
        &self,
        folder: &[u8],
        called: Called<'_>,
        ignore_case: bool,
    ) -> bool {
        let reaches = |glob: &Glob, folder: &[u8]| {
            let beginning = glob.beginning();
            let length = beginning.len().min(folder.len());
            let (a, b) = (beginning.get(..length), folder.get(..length));
            ignore_case || a == b
        };
        let whole = [b"/", folder, b"/"].concat();
        let below = [called.below(folder), b"/"].concat();
        self.any_path()
            || self.paths.iter().any(|glob| reaches(glob, &whole))
            || self.of_letters(called).any(|glob| reaches(glob, &below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK0: Called<'_> = Called {
        length: "disk0/p1".len(),
        letters: b"C",
    };

    fn of(patterns: &[&str]) -> Criteria {
        let mut criteria = Criteria::default();
        for pattern in patterns {
            match Lettered::of_pattern(pattern.as_bytes()).unwrap() {
                Some(lettered) => criteria.lettered.push(lettered),
                None => criteria.paths.push(Glob::new(pattern.as_bytes()).unwrap()),
            }
        }
        criteria
    }

    #[test]
    fn folders_that_no_pattern_reaches_are_left_out() {
        let criteria = of(&["/disk0/p1/etc/*"]);
        let below = |criteria: &Criteria, folder: &str, ignore_case| {
            criteria.may_be_below(folder.as_bytes(), DISK0, ignore_case)
        };
        for folder in ["disk0", "disk0/p1", "disk0/p1/etc", "disk0/p1/etc/ssh"] {
            assert!(below(&criteria, folder, false), "{folder}");
        }
        for folder in ["disk1", "disk0/p1/et", "disk0/p1/etcetera", "disk0/p1/var"] {
            assert!(!below(&criteria, folder, false), "{folder}");
        }
        assert!(below(&criteria, "disk1", true));
        assert!(below(&of(&["*/etc/*"]), "disk1/p1/var", false));
        assert!(below(&of(&[]), "disk1/p1/var", false));
        assert!(criteria.fits_name(b"disk0/p1/etc/ssh/x", DISK0, false));
        assert!(!criteria.fits_name(b"disk0/p1/var", DISK0, false));
    }

    #[test]
    fn a_letter_stands_for_the_volume_that_has_it() {
        let other = Called {
            letters: b"",
            ..DISK0
        };
        for pattern in [
            "C:/Users/*.txt",
            "/c:/Users/*.txt",
            r"C:\Users\*.txt",
            "C:*.txt",
            "/disk0/p1/Users/*",
        ] {
            let criteria = of(&[pattern]);
            let fits = |path: &str, called| criteria.fits_name(path.as_bytes(), called, false);
            assert!(fits("disk0/p1/Users/ann/a.txt", DISK0), "{pattern}");
            assert!(!fits("disk0/p1/Other", DISK0), "{pattern}");
            let by_letter = !criteria.lettered.is_empty();
            assert_eq!(fits("disk0/p1/Users/a.txt", other), !by_letter, "{pattern}");
            let below =
                |folder: &str, called| criteria.may_be_below(folder.as_bytes(), called, false);
            assert!(below("disk0/p1/Users/ann", DISK0), "{pattern}");
            assert_eq!(below("disk0/p1/Other", DISK0), pattern == "C:*.txt");
            let elsewhere = criteria.may_be_below(b"disk0/p1/Users", other, true);
            assert_eq!(elsewhere, !by_letter, "{pattern}");
        }
        for pattern in ["/disk0/C:/x", "é:/x", "1:/x", "", "C"] {
            assert_eq!(
                Lettered::of_pattern(pattern.as_bytes()).unwrap(),
                None,
                "{pattern}"
            );
        }
        assert!(Lettered::of_pattern(b"C:/[x").is_err());
    }
}
