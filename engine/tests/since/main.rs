//! Backups of checkpoints: only what they hold is read, where that is sure to be all that changed, and every point reads as its model.
//!
//! - `cases`: what checkpoints go through, one by one
//! - `random`: trees of checkpoints at random
#![cfg(test)]

mod cases;
#[path = "../../disk/tests/chains/journal.rs"]
mod journal;
#[path = "../../disk/tests/chains/made.rs"]
mod made;
mod random;

use crate::made::{Image, Kind, Op, Parent, expected};
use cairn::{BackupOptions, DiskImage, Point, Silent, Store, ToldBy};
use cairn_base::read_at::read_vec;
use std::path::PathBuf;

/// Bytes of a disk: ten regions of a map.
const SIZE: u64 = 40 << 20;

/// A store, and a folder of images.
struct Bench {
    temp: tempfile::TempDir,
    store: Store,
    options: BackupOptions,
}

impl Bench {
    fn new() -> Bench {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::create(&temp.path().join("store")).unwrap();
        Bench {
            temp,
            store,
            options: BackupOptions::new("vm"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Writes an image of a disk of [`SIZE`] bytes.
    fn image(&self, number: u16, parent: Option<&Image>, ops: Vec<Op>) -> Image {
        let image = Image {
            kind: Kind::Vhdx,
            path: self.path(&format!("{number}.avhdx")),
            size: SIZE,
            block_size: 1 << 20,
            sector: 512,
            number,
            parent: parent.map(|parent| Parent::beside(Kind::Vhdx, parent.number, &parent.path)),
            ops,
        };
        image.write();
        image
    }

    /// A disk of which every byte was written.
    fn base(&self) -> Image {
        self.image(1, None, vec![Op::Data(0..SIZE / 512)])
    }

    /// Backs up a chain, the youngest first; the point reads as the chain.
    fn backup(&self, chain: &[&Image]) -> Point {
        let disk = DiskImage::open("disk0", &chain[0].path).unwrap();
        let point = self.store.backup(vec![disk], &self.options, &Silent);
        let point = point.unwrap();
        self.check(&point, chain);
        point
    }

    fn check(&self, point: &Point, chain: &[&Image]) {
        assert_eq!(point.record.warnings, [] as [&str; 0]);
        let view = self.store.open_point(point).unwrap();
        let disk = view.disk("disk0").unwrap().disk().clone();
        let images: Vec<Image> = chain.iter().map(|image| (*image).clone()).collect();
        let right = expected(&images, 0, images[0].size as usize);
        let read = read_vec(&*disk, 0, right.len()).unwrap();
        let wrong = read
            .iter()
            .zip(&right)
            .position(|(read, right)| read != right);
        assert_eq!((read.len(), wrong), (right.len(), None), "{chain:#?}");
    }
}

/// Whether only what the youngest images hold was read.
fn is_partial(point: &Point) -> bool {
    let origin = point.origin("disk0").unwrap();
    match origin.told_by {
        ToldBy::Images => {
            assert!(origin.unchanged > 0 && point.record.stats.unchanged == origin.unchanged);
            true
        }
        _ => {
            assert_eq!((origin.unchanged, point.record.stats.unchanged), (0, 0));
            false
        }
    }
}
