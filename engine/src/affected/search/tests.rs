//! A volume of very many files, of which very much is lost.

use super::*;
use crate::affected::names::Names;
use cairn_base::{PointId, ReadAt, Silent};
use cairn_guest::{Attributes, Extent, Reading, VolumeInfo};
use cairn_store::point::{BackupStats, Consistency, PointRecord};
use cairn_store::{Point, VerifyReport};
use std::ops::Range;
use std::sync::Arc;

const FOLDERS: u64 = 20;
const FILES: u64 = 10_000;
/// Bytes from one file's beginning to the next one's.
const STEP: u64 = 30;

/// Folders 1 to [`FOLDERS`] with [`FILES`] files each. Of each [`STEP`] bytes the first 20 are a file's, in two extents, and those from 22 on are free.
struct Many;

fn none<T>() -> Result<T> {
    Err(Error::unsupported("nobody asks for it"))
}

impl Volume for Many {
    fn info(&self) -> &VolumeInfo {
        unreachable!()
    }

    fn root(&self) -> EntryId {
        EntryId::new(0)
    }

    fn attributes(&self, _id: EntryId) -> Result<Attributes> {
        none()
    }

    fn lookup(&self, _folder: EntryId, _name: &[u8]) -> Result<Option<DirEntry>> {
        none()
    }

    fn read_dir(
        &self,
        folder: EntryId,
        after: u64,
        sink: &mut dyn FnMut(DirEntry) -> ControlFlow<()>,
    ) -> Result<()> {
        let (kind, count) = match folder.number {
            0 => (EntryKind::Folder, FOLDERS),
            _ => (EntryKind::File, FILES),
        };
        for cookie in after + 1..=count {
            let id = match folder.number {
                0 => EntryId::new(cookie),
                folder => EntryId::new(1000 + (folder - 1) * FILES + cookie - 1),
            };
            let name = format!("n{cookie}").into_bytes();
            let entry = DirEntry {
                name,
                id,
                kind,
                cookie,
            };
            if sink(entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn parent(&self, _id: EntryId) -> Result<Option<EntryId>> {
        none()
    }

    fn open(&self, _id: EntryId) -> Result<Arc<dyn ReadAt>> {
        none()
    }

    fn open_stream(&self, _id: EntryId, _name: &[u8]) -> Result<Arc<dyn ReadAt>> {
        none()
    }

    fn read_link(&self, _id: EntryId) -> Result<Vec<u8>> {
        none()
    }

    fn extents(&self, id: EntryId, sink: &mut dyn FnMut(Extent) -> ControlFlow<()>) -> Result<()> {
        if let Some(number) = id.number.checked_sub(1000) {
            let start = number * STEP;
            for (place, offset) in [(start + 8..start + 20, 0), (start..start + 8, 12)] {
                let _more = sink(Extent {
                    place,
                    stream: Some(0),
                    offset,
                    reading: Reading::default(),
                });
            }
        }
        Ok(())
    }

    fn free_space(&self, sink: &mut dyn FnMut(Range<u64>) -> ControlFlow<()>) -> Result<()> {
        for number in 0..FOLDERS * FILES {
            let _more = sink(number * STEP + 22..(number + 1) * STEP);
        }
        Ok(())
    }
}

fn point() -> Point {
    Point {
        id: PointId([7; 32]),
        record: PointRecord {
            machine: "m".to_string(),
            sequence: 1,
            previous: 0,
            seconds: 0,
            import: false,
            made: 0,
            base: None,
            consistency: Consistency::default(),
            disks: Vec::new(),
            stats: BackupStats::default(),
            warnings: Vec::new(),
            host: String::new(),
            program: String::new(),
            origins: Vec::new(),
        },
    }
}

#[test]
fn many_files_and_many_losses_take_their_time_and_little_memory() {
    // Of each step the bytes 0 to 11 and 15 to 26.
    let lost: Vec<Lost> = (0..FOLDERS * FILES * 2)
        .map(|n| (n * 15..n * 15 + 12, n as usize))
        .collect();
    let chunks = Chunks::of(&VerifyReport::default(), &lost);
    let mut names = Names::new(1000);
    let (mut files, mut both) = (0, 0);
    let mut add = |hit: Hit| {
        if hit.kind == AffectedKind::File {
            files += 1;
            both += u64::from(hit.lost == 17 && hit.damages.len() == 2);
        }
        names.add(&point(), hit);
    };
    search(&Many, "/d/p1", &lost, &chunks, &Silent, &mut add).unwrap();
    let all = FOLDERS * FILES;
    assert_eq!((files, both), (all, all));
    names.end_point(&point());
    let (named, unnamed) = names.into_parts();
    assert_eq!((named.len(), unnamed), (1002, all - 1000));
    let lost = |kind| {
        let hit = named.iter().find(|hit| hit.kind == kind).unwrap();
        assert_eq!(hit.path, "/d/p1");
        hit.lost
    };
    assert_eq!(lost(AffectedKind::Structure), all * 2);
    assert_eq!(lost(AffectedKind::Free), all * 5);
}

#[test]
fn a_name_that_is_kept_gathers_its_points_when_there_is_no_room_for_others() {
    let mut names = Names::new(1);
    let hit = |path: &str, lost| Hit {
        path: path.to_string(),
        kind: AffectedKind::File,
        lost,
        why: None,
        damages: vec![lost as usize],
    };
    for id in [1, 2, 3] {
        let mut point = point();
        point.id = PointId([id; 32]);
        names.add(&point, hit("/a", u64::from(id)));
        (0..id).for_each(|n| names.add(&point, hit(&format!("/{n}"), 9)));
        names.end_point(&point);
    }
    let (named, unnamed) = names.into_parts();
    assert_eq!((named.len(), unnamed), (1, 3));
    assert_eq!((named[0].points.len(), named[0].lost), (3, 3));
    assert_eq!(named[0].damages, [1, 2, 3]);
}
