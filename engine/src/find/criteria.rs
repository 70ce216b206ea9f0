//! What is looked for.

use crate::find::glob::Glob;
use cairn_base::Time;
use cairn_guest::{Attributes, EntryKind};

/// What is looked for. Everything that is given must hold; of several patterns of one sort, one.
#[derive(Debug, Clone, Default)]
pub struct Criteria {
    /// Patterns of the last name of a path; none: any name.
    pub names: Vec<Glob>,
    /// Patterns of the whole path, `/disk0/p1/etc/passwd`; `*` stands for `/` too. None: any path.
    pub paths: Vec<Glob>,
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

impl Criteria {
    /// Whether the entry of this path (without the first slash) may be meant, by its name alone.
    pub(super) fn fits_name(&self, path: &[u8], ignore_case: bool) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let one = |globs: &[Glob], text: &[u8]| {
            globs.is_empty() || globs.iter().any(|glob| glob.matches(text, ignore_case))
        };
        one(&self.names, name)
            && (self.paths.is_empty() || one(&self.paths, &[b"/", path].concat()))
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
    pub(super) fn may_be_below(&self, folder: &[u8], ignore_case: bool) -> bool {
        let folder = [b"/", folder, b"/"].concat();
        let reaches = |glob: &Glob| {
            let beginning = glob.beginning();
            let length = beginning.len().min(folder.len());
            let (a, b) = (beginning.get(..length), folder.get(..length));
            a == b
        };
        ignore_case || self.paths.is_empty() || self.paths.iter().any(reaches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_no_pattern_reaches_are_left_out() {
        let of = |patterns: &[&str]| Criteria {
            paths: patterns
                .iter()
                .map(|pattern| Glob::new(pattern.as_bytes()).unwrap())
                .collect(),
            ..Criteria::default()
        };
        let criteria = of(&["/disk0/p1/etc/*"]);
        for folder in ["disk0", "disk0/p1", "disk0/p1/etc", "disk0/p1/etc/ssh"] {
            assert!(criteria.may_be_below(folder.as_bytes(), false), "{folder}");
        }
        for folder in ["disk1", "disk0/p1/et", "disk0/p1/etcetera", "disk0/p1/var"] {
            assert!(!criteria.may_be_below(folder.as_bytes(), false), "{folder}");
        }
        assert!(criteria.may_be_below(b"disk1", true));
        assert!(of(&["*/etc/*"]).may_be_below(b"disk1/p1/var", false));
        assert!(of(&[]).may_be_below(b"disk1/p1/var", false));
        assert!(criteria.fits_name(b"disk0/p1/etc/ssh/x", false));
        assert!(!criteria.fits_name(b"disk0/p1/var", false));
    }
}
