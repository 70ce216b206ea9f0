//! What the images of a differencing disk tell of what changed since a point.
//!
//! Let a point be made from the images C, B, A, each the child of the next, and let the disk consist of E, D, C, B, A today. If C, B and A are
//! as they were, the disk differs from the point at most where D and E hold something themselves. A wrong answer would be a write that is
//! missing in a recovery point, so all of this has to hold:
//!
//! - All images of the point are there, in the same order, behind at least one child and in front of nothing. A point of a child of B that
//!   was given up since does not fit C, B, A: its writes must go, and where they are nobody knows any more.
//! - Each has the same DataWriteGuid and the same FileWriteGuid, its log was not in use, and its file has the same length and the same times
//!   of modification (`mtime`) and change (`ctime`). The ids tell that nobody opened it for writing since; but a program that had it open
//!   when the point was made goes on writing under them. The times tell that, and what programs do that leave the ids alone. They count only
//!   where every write shows in them; for the others there is no [`ImageState`].
//! - No file changed while the point was made, and nothing of the disk was left out of it.
//!
//! The youngest image of a point that is still the youngest one is read again: it is the one that is written to.

use crate::backup::plan::of_source;
use crate::backup::run::{ChangeSource, DiskInput, Images};
use crate::changes::Changes;
use crate::point::{ImageState, Point, ToldBy};
use crate::tree::Tree;
use cairn_base::{Error, Monitor, Result};
use std::sync::Arc;

/// What is claimed of a disk: it may differ from the base in these ranges alone.
pub struct Told {
    /// By whom.
    pub by: ToldBy,
    /// The ranges.
    pub changes: Arc<Changes>,
}

impl Told {
    /// Bytes of the disk that did not change.
    pub fn unchanged(&self) -> u64 {
        let size = self.changes.size();
        size.saturating_sub(self.changes.bytes())
    }
}

/// What is claimed of each disk. With `read_all` the images are not asked.
///
/// # Errors
/// What an image reports; [`Kind::Interrupted`](cairn_base::Kind::Interrupted).
pub fn told(
    disks: &[DiskInput],
    base: Option<&Point>,
    bases: &[Option<Tree>],
    read_all: bool,
    monitor: &dyn Monitor,
) -> Result<Vec<Option<Told>>> {
    let told = |(disk, tree): (&DiskInput, &Option<Tree>)| match &disk.changes {
        None => Ok(None),
        Some(ChangeSource::Caller(changes)) => Ok(Some(Told {
            by: ToldBy::Caller,
            changes: changes.clone(),
        })),
        Some(ChangeSource::Images(images)) if !read_all => {
            let count = base
                .zip(tree.as_ref())
                .and_then(|(base, tree)| children(disk, images, base, tree));
            count
                .map(|count| ask(disk, images, count, monitor))
                .transpose()
        }
        Some(ChangeSource::Images(_)) => Ok(None),
    };
    disks.iter().zip(bases).map(told).collect()
}

/// What the first `count` images hold.
fn ask(disk: &DiskInput, images: &Images, count: usize, monitor: &dyn Monitor) -> Result<Told> {
    let changes = (images.held)(count, monitor).map_err(of_source)?;
    let (found, size) = (changes.size(), disk.source.size());
    if found != size {
        return Err(Error::invalid(format!(
            "the images of {} tell of a disk of {found} bytes, and it has {size}",
            disk.name
        )));
    }
    Ok(Told {
        by: ToldBy::Images,
        changes: Arc::new(changes),
    })
}

/// How many of the disk's images are children of those from which the base was made, which are as they were; `None` if that is not so.
fn children(disk: &DiskInput, images: &Images, base: &Point, tree: &Tree) -> Option<usize> {
    let record = base.disk(&disk.name)?;
    let origin = base.origin(&disk.name)?;
    let is_same_disk = record.size == disk.source.size() && record.root_id() == tree.root();
    if !is_same_disk || record.mixed || !record.excluded.is_empty() {
        return None;
    }
    behind(&images.states, &origin.images)
}

/// How many of the images that are there `now` are in front of those that were there `then`, if these are the rest of them.
fn behind(now: &[Option<ImageState>], then: &[ImageState]) -> Option<usize> {
    let count = now.len().checked_sub(then.len())?;
    if then.is_empty() || count == 0 {
        return None;
    }
    let rest = now.get(count..)?;
    let same = rest.iter().zip(then);
    let mut same = same.map(|(now, then)| now.as_ref() == Some(then));
    same.all(|same| same).then_some(count)
}

/// What a point keeps of the images of a disk: nothing where one of them could change unseen, or where the caller told what changed, who
/// may have been wrong.
pub fn recorded(disk: &DiskInput) -> Vec<ImageState> {
    match &disk.changes {
        Some(ChangeSource::Images(images)) => {
            let states: Option<Vec<ImageState>> = images.states.iter().cloned().collect();
            states.unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(number: u8) -> ImageState {
        ImageState {
            data_id: [number; 16],
            write_id: [number + 100; 16],
            file_size: 1000 + u64::from(number),
            modified_ns: 5,
            changed_ns: 6,
        }
    }

    fn chain(numbers: &[u8]) -> Vec<Option<ImageState>> {
        numbers.iter().map(|number| Some(image(*number))).collect()
    }

    #[test]
    fn only_children_of_all_that_was_there_count() {
        let then = [image(2), image(1)];
        for (now, count) in [
            (&[3, 2, 1][..], Some(1)),
            (&[4, 3, 2, 1], Some(2)),
            // The same disk: it may be written to.
            (&[2, 1], None),
            // Another branch, one that was merged, one that was put under the oldest.
            (&[3, 1], None),
            (&[1], None),
            (&[3, 2], None),
            (&[3, 2, 1, 0], None),
            (&[3, 1, 2], None),
            (&[3, 2, 9, 1], None),
            (&[], None),
        ] {
            assert_eq!(behind(&chain(now), &then), count, "{now:?}");
        }
        assert_eq!(behind(&chain(&[3, 2, 1]), &[]), None);
    }

    #[test]
    fn whatever_differs_counts() {
        let then = [image(2), image(1)];
        let changes: [fn(&mut ImageState); 5] = [
            |image| image.data_id[15] ^= 1,
            |image| image.write_id[0] ^= 1,
            |image| image.file_size += 1,
            |image| image.modified_ns += 1,
            |image| image.changed_ns -= 1,
        ];
        for at in 1..3 {
            for change in changes {
                let mut now = chain(&[3, 2, 1]);
                change(now[at].as_mut().unwrap());
                assert_eq!(behind(&now, &then), None);
            }
            let mut now = chain(&[3, 2, 1]);
            now[at] = None;
            assert_eq!(behind(&now, &then), None);
        }
        // What the child is like does not matter.
        let mut now = chain(&[3, 2, 1]);
        now[0] = None;
        assert_eq!(behind(&now, &then), Some(1));
    }
}
