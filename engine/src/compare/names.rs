//! The names in a folder in the order of their bytes, in bounded memory.

use cairn_base::{Error, Result};
use cairn_guest::{DirEntry, EntryId, Volume};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The names in a folder, ascending. A folder with more names than fit is read several times, each time for those that follow.
///
/// Of a folder that cannot be read as a whole, either no name is told any more, or those that can be read before the failure is.
pub struct Names<'v> {
    volume: &'v dyn Volume,
    folder: EntryId,
    limit: usize,
    /// Those that come next, the last one first.
    batch: Vec<DirEntry>,
    /// The highest name of the batch; everything up to it was told or is in the batch.
    until: Option<Vec<u8>>,
    more: bool,
    /// What can be read is told first.
    in_part: bool,
    /// Why not all can be read.
    failed: Option<Error>,
}

impl<'v> Names<'v> {
    /// Of this folder, with at most `limit` names (at least one) in memory; none, unless it can be read as a whole.
    ///
    /// # Errors
    /// As [`Volume::read_dir`].
    pub fn of(volume: &'v dyn Volume, folder: EntryId, limit: usize) -> Result<Names<'v>> {
        let mut names = Names::readable(volume, folder, limit);
        names.in_part = false;
        names.failed.take().map_or(Ok(names), Err)
    }

    /// Of this folder, with at most `limit` names (at least one) in memory. If it cannot be read as a whole, [`next`](Names::next) answers the failure behind
    /// the names that can be read.
    pub fn readable(volume: &'v dyn Volume, folder: EntryId, limit: usize) -> Names<'v> {
        let mut names = Names {
            volume,
            folder,
            limit: limit.max(1),
            batch: Vec::new(),
            until: None,
            more: true,
            in_part: true,
            failed: None,
        };
        names.fill();
        names
    }

    /// The folder.
    pub fn folder(&self) -> EntryId {
        self.folder
    }

    /// Names in memory.
    pub fn held(&self) -> usize {
        self.batch.len()
    }

    /// The next name, which stays the next one.
    pub fn peek(&self) -> Option<&DirEntry> {
        self.batch.last()
    }

    /// Goes on behind the next name, and answers it.
    ///
    /// # Errors
    /// As [`Volume::read_dir`].
    pub fn next(&mut self) -> Result<Option<DirEntry>> {
        let next = self.batch.pop();
        if self.batch.is_empty() && self.more {
            self.fill();
        }
        if next.is_none() || !self.in_part {
            return self.failed.take().map_or(Ok(next), Err);
        }
        Ok(next)
    }

    fn fill(&mut self) {
        let mut lowest: BTreeMap<Vec<u8>, DirEntry> = BTreeMap::new();
        let (mut more, until, limit) = (false, self.until.take(), self.limit);
        let read = self.volume.read_dir(self.folder, 0, &mut |entry| {
            if until.as_ref().is_some_and(|until| entry.name <= *until) {
                return ControlFlow::Continue(());
            }
            let full = lowest.len() >= limit;
            let behind = |highest: &Vec<u8>| entry.name.cmp(highest) != Ordering::Less;
            if full
                && lowest
                    .last_key_value()
                    .is_some_and(|(highest, _)| behind(highest))
            {
                more = true;
                return ControlFlow::Continue(());
            }
            lowest.insert(entry.name.clone(), entry);
            if lowest.len() > limit {
                lowest.pop_last();
                more = true;
            }
            ControlFlow::Continue(())
        });
        self.failed = read.err();
        self.until = lowest.last_key_value().map(|(name, _)| name.clone());
        self.batch = lowest.into_values().rev().collect();
        self.more = more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::DiskView;
    use std::process::Command;

    #[test]
    fn any_number_of_names_comes_in_order() {
        let temp = tempfile::tempdir().unwrap();
        let (tree, image) = (temp.path().join("tree"), temp.path().join("image"));
        std::fs::create_dir(&tree).unwrap();
        let mut expected: Vec<Vec<u8>> = (0..500u32)
            .map(|n| format!("{:x} {n}", n.wrapping_mul(2_654_435_761)).into_bytes())
            .collect();
        for name in &expected {
            let name = String::from_utf8(name.clone()).unwrap();
            std::fs::write(tree.join(name), "").unwrap();
        }
        let mut made = Command::new("mke2fs");
        made.args(["-q", "-t", "ext4", "-N", "1000", "-d"])
            .arg(&tree);
        assert!(made.arg(&image).arg("8M").status().unwrap().success());
        expected.push(b"lost+found".to_vec());
        expected.sort();
        let disk = DiskView::open_image(&image).unwrap();
        let volume = disk.volumes().unwrap()[0].open().unwrap();
        for limit in [1, 7, 250, 500, 501, 502, 9999] {
            let mut names = Names::of(&*volume, volume.root(), limit).unwrap();
            let mut found = Vec::new();
            while let Some(peeked) = names.peek().cloned() {
                assert!(names.held() <= limit);
                let next = names.next().unwrap().unwrap();
                assert_eq!(next, peeked);
                found.push(next.name);
            }
            assert!(names.next().unwrap().is_none());
            assert!(found == expected, "{limit}");
            if limit == 7 {
                assert_eq!(names.folder(), volume.root());
            }
        }
    }
}
