//! Reading points: each is checked against the name of its file, its folder and its id.

use crate::codec;
use crate::layout::{self, PointFile};
use crate::names::{check_machine, is_disk_name};
use crate::point::{Point, PointRecord};
use crate::store::Store;
use cairn_base::folder::{join, read_small};
use cairn_base::{Error, Result};

/// Threads that read points.
const THREADS: usize = 8;
/// Points for which a thread is worth its start.
const SHARE: usize = 64;

/// The point in a file of the machine's folder `path`.
pub(super) fn read_point(store: &Store, path: &str, file: &PointFile) -> Result<Point> {
    let folder = &**store.folder();
    let full = join(path, &file.name());
    let bytes = read_small(folder, &full, codec::MAX_FILE)?;
    let whole = || -> Result<Point> {
        let record: PointRecord = codec::open(&bytes)?;
        let point = Point {
            id: store.keys().point_id(&bytes),
            record,
        };
        if point.file() != *file {
            return Err(Error::damaged(
                "a point's record is not the one it was named for",
            ));
        }
        // Names become names of files: a record that was tampered with must not lead elsewhere.
        check_machine(&point.record.machine)
            .map_err(|e| Error::damaged("an impossible name").caused_by(e))?;
        let mut disks = point.record.disks.iter();
        if let Some(disk) = disks.find(|disk| !is_disk_name(&disk.name)) {
            return Err(Error::damaged(format!(
                "`{}` cannot be a disk's name",
                disk.name
            )));
        }
        if layout::machine_folder(&point.record.machine) != path {
            return Err(Error::damaged("a point lies in another machine's folder"));
        }
        Ok(point)
    };
    whole().map_err(|e| {
        e.context("a recovery point cannot be read")
            .at_path(folder.describe(&full))
            .with_id(file.id)
    })
}

/// The sequence number of the point in a file of another name; `None` if it is none, or cannot be read.
pub(super) fn read_sequence(store: &Store, path: &str, name: &str) -> Option<u64> {
    let bytes = read_small(&**store.folder(), &join(path, name), codec::MAX_FILE).ok()?;
    let record: PointRecord = codec::open(&bytes).ok()?;
    let ours = layout::machine_folder(&record.machine) == path;
    ours.then_some(record.sequence)
}

/// The points in these files, each with its machine's folder, in the same order.
pub(super) fn read_points(store: &Store, files: &[(&str, PointFile)]) -> Vec<Result<Point>> {
    let read = |part: &[(&str, PointFile)]| -> Vec<Result<Point>> {
        let read = part.iter();
        read.map(|(path, file)| read_point(store, path, file))
            .collect()
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let share = files.len().div_ceil(processors.min(THREADS)).max(SHARE);
    if files.len() <= share {
        return read(files);
    }
    std::thread::scope(|scope| {
        let parts: Vec<_> = files
            .chunks(share)
            .map(|part| scope.spawn(move || read(part)))
            .collect();
        parts
            .into_iter()
            .flat_map(|part| match part.join() {
                Ok(read) => read,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}
