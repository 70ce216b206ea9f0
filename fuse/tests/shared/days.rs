//! A machine over some days.

use super::{noise, run, text};
use cairn::{BackupOptions, DiskImage, PointId, Silent, Store, Time};
use cairn_fuse::Tree;
use std::fs;
use std::path::PathBuf;
use tempfile::{TempDir, tempdir};

/// A machine `pc` with a small bare ext4 disk that debugfs changes from point to point.
pub struct Days {
    pub folder: TempDir,
    pub store: Store,
    pub image: PathBuf,
}

/// A day's point: `2026-11-DDT02-00-00Z`.
pub fn day(day: u32) -> String {
    format!("2026-11-{day:02}T02-00-00Z")
}

impl Days {
    pub fn new() -> Days {
        Days::of_size("8m")
    }

    /// With a disk of so many bytes, as mke2fs takes them.
    pub fn of_size(size: &str) -> Days {
        let folder = tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir_all(source.join("home/a")).unwrap();
        fs::write(source.join("home/a/report.odt"), noise(50_000, 1)).unwrap();
        fs::write(source.join("home/a/same.txt"), noise(20_000, 2)).unwrap();
        fs::write(source.join("home/a/gone.tar.gz"), "soon gone").unwrap();
        std::os::unix::fs::symlink("report.odt", source.join("home/a/link")).unwrap();
        let image = folder.path().join("disk.raw");
        run(
            "mke2fs",
            &[
                "-q",
                "-t",
                "ext4",
                "-F",
                "-d",
                text(&source),
                text(&image),
                size,
            ],
        );
        let store = Store::create(&folder.path().join("store")).unwrap();
        Days {
            folder,
            store,
            image,
        }
    }

    /// Changes the disk by commands of debugfs.
    pub fn change(&self, commands: &[&str]) {
        for command in commands {
            run("debugfs", &["-w", "-R", command, text(&self.image)]);
        }
    }

    /// Replaces a file's content.
    pub fn write(&self, path: &str, bytes: &[u8]) {
        let new = self.folder.path().join("new");
        fs::write(&new, bytes).unwrap();
        let write = format!("write {} {path}", text(&new));
        run(
            "debugfs",
            &["-w", "-R", &format!("rm {path}"), text(&self.image)],
        );
        run("debugfs", &["-w", "-R", &write, text(&self.image)]);
    }

    pub fn back_up(&self, number: u32) -> PointId {
        let disk = DiskImage::open("disk0", &self.image).unwrap();
        let mut options = BackupOptions::new("pc");
        options.time = Some(Time::parse(&day(number)).unwrap());
        self.store.backup(vec![disk], &options, &Silent).unwrap().id
    }

    pub fn tree(&self) -> Tree {
        Tree::of_store(Store::open(&self.folder.path().join("store")).unwrap())
    }
}

/// Four days: the report changes on the second and the fourth, a file goes on the third, another comes; only times change of `same.txt`.
pub fn four_days() -> Days {
    let days = Days::new();
    days.back_up(1);
    days.write("/home/a/report.odt", &noise(50_000, 3));
    days.change(&["set_inode_field /home/a/same.txt mtime @1700000000"]);
    days.back_up(2);
    days.change(&["rm /home/a/gone.tar.gz", "mkdir /home/a/new"]);
    days.back_up(3);
    days.write("/home/a/report.odt", &noise(40_000, 4));
    days.back_up(4);
    days
}

pub const HOME: &str = "pc/versions/disk0/p0/home/a";
