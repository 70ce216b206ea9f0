#[path = "../../../guest/tests/ldm/maker.rs"]
mod maker;
#[path = "../../../guest/tests/ldm/records.rs"]
mod records;

use super::*;
use crate::view::DiskView;
use cairn_base::Kind;
use maker::{Group, SECTOR, Scheme};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A disk that cannot read some of its bytes, until it is mended.
struct Bad {
    bytes: Vec<u8>,
    range: Range<u64>,
    failure: fn() -> Error,
    is_mended: AtomicBool,
}

impl ReadAt for Bad {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset + buffer.len() as u64;
        let is_hit = offset < self.range.end && self.range.start < end;
        if is_hit && !self.is_mended.load(Ordering::Relaxed) {
            return Err((self.failure)());
        }
        self.bytes.read_exact_at(offset, buffer)
    }
}

fn errno(code: i32) -> Error {
    let error = std::io::Error::from_raw_os_error(code);
    Error::io("cannot read", Path::new("/dev/sdx"), error)
}

fn lost() -> Error {
    Error::damaged("a chunk is lost").with_id("c0ffee")
}

/// EIO.
fn bad_sector() -> Error {
    errno(5)
}

/// ETIMEDOUT.
fn timed_out() -> Error {
    errno(110)
}

/// A mirror on two disks, a volume on the first and one on the third.
fn group(scheme: Scheme) -> (Group, Vec<Vec<u8>>) {
    let mut group = Group::new(scheme, true, 3);
    group.mirror("Mirror1", 1000, &[0, 1]);
    group.add("Volume2", 2, 0, &[(0, 1000)]);
    group.add("Volume3", 2, 0, &[(2, 1000)]);
    let content = vec![0x5a; 1000 * SECTOR];
    let disks = group.write(&[&content, &content, &content]);
    (group, disks)
}

/// The disks of a machine, of which the third cannot read these bytes.
fn machine(
    mut disks: Vec<Vec<u8>>,
    range: Range<u64>,
    failure: fn() -> Error,
) -> (Vec<DiskView>, Arc<Bad>) {
    let bad = Arc::new(Bad {
        bytes: disks.remove(2),
        range,
        failure,
        is_mended: AtomicBool::new(false),
    });
    let mut all: Vec<Arc<dyn ReadAt>> = Vec::new();
    for disk in disks {
        all.push(Arc::new(disk));
    }
    all.push(bad.clone());
    let named = all.iter().zip(["a", "b", "c"]);
    let neighbours = named.clone().map(|(disk, name)| Neighbour {
        name: name.to_string(),
        disk: disk.clone(),
        sector_size: None,
    });
    let together = Arc::new(Together::new(neighbours.collect()));
    let views = named.enumerate().map(|(position, (disk, name))| {
        DiskView::new(name, disk.clone(), None).among(&together, position)
    });
    (views.collect(), bad)
}

fn numbers(view: &DiskView) -> Vec<u32> {
    let volumes = view.volumes().unwrap();
    volumes.iter().map(|volume| volume.number()).collect()
}

#[test]
fn a_disk_that_cannot_be_read_costs_the_others_nothing() {
    for scheme in [Scheme::Mbr, Scheme::Gpt] {
        let (group, disks) = group(scheme);
        let start = group.database_at(2) as u64;
        let database = start..start + 2048 * SECTOR as u64;
        let everything = 0..disks[2].len() as u64;
        let records = start + 17 * SECTOR as u64..start + 25 * SECTOR as u64;
        for failure in [lost as fn() -> Error, bad_sector] {
            for range in [0..1, database.clone(), records.clone(), everything.clone()] {
                let (views, _) = machine(disks.clone(), range.clone(), failure);
                let found = numbers(&views[0]);
                let case = format!("{scheme:?} {range:?} {}", failure());
                assert_eq!(found[..2], [2024, 2056], "{case}");
                for volume in &views[0].volumes().unwrap()[..2] {
                    // Nothing that is known: it can be read.
                    let error = volume.open().err().unwrap();
                    assert_eq!(error.kind(), Kind::Unsupported, "{case}: {error}");
                }
                assert!(numbers(&views[1]).is_empty(), "{case}");
                let third = found.get(2).and_then(|number| {
                    let volume = views[0].volume(*number).unwrap()?;
                    volume.open().err()
                });
                // What lies on the third only is told where it may be, as damage.
                if let Some(error) = third {
                    assert_eq!(error.kind(), Kind::Damaged, "{case}: {error}");
                    let text = error.to_string();
                    assert!(text.contains("`c`"), "{case}: {text}");
                }
            }
        }
    }
}

/// What was found without it is remembered; that its volumes are not among it is told.
#[test]
fn a_database_that_is_readable_later_is_not_passed_over_in_silence() {
    let (group, disks) = group(Scheme::Gpt);
    let start = group.database_at(2) as u64;
    let (views, bad) = machine(disks, start..start + 2048 * SECTOR as u64, bad_sector);
    assert_eq!(numbers(&views[0])[..2], [2024, 2056]);
    let error = views[2].volumes().err().unwrap();
    assert_eq!(error.kind(), Kind::Io, "{error}");
    bad.is_mended.store(true, Ordering::Relaxed);
    let volumes = views[2].volumes().unwrap();
    let damage = volumes[0].layout_damage().unwrap();
    assert!(damage.to_string().contains("could not be read"), "{damage}");
}

#[test]
fn a_disk_that_does_not_answer_is_asked_again() {
    let (_, disks) = group(Scheme::Mbr);
    let (views, bad) = machine(disks, 0..u64::MAX, timed_out);
    for _ in 0..2 {
        let error = views[0].volumes().err().unwrap();
        assert_eq!(error.kind(), Kind::Io, "{error}");
    }
    bad.is_mended.store(true, Ordering::Relaxed);
    assert_eq!(numbers(&views[0]), [2024, 2056]);
    assert_eq!(numbers(&views[2]), [2088]);
}
