//! The record of a recovery point.

use crate::codec::Record;
use crate::layout::PointFile;
use bincode::{Decode, Encode};
use cairn_base::{ChunkId, PointId, Time};

/// How consistent the disks were when they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Default)]
pub enum Consistency {
    /// As after a power cut.
    #[default]
    Crash,
    /// The guest's file systems were frozen (VSS, fsfreeze).
    Frozen,
    /// The machine was shut down.
    Clean,
}

impl Consistency {
    /// `crash`, `frozen` or `clean`.
    pub fn name(self) -> &'static str {
        match self {
            Consistency::Crash => "crash",
            Consistency::Frozen => "frozen",
            Consistency::Clean => "clean",
        }
    }
}

/// A range of a disk that was left out and reads as zeros.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Exclusion {
    /// Offset on the disk in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// Why: `pagefile.sys`, `free blocks`, ...
    pub reason: String,
}

/// What an image says of itself, and what its file was like when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct ImageFacts {
    /// `raw`, `vhd dynamic`, ...
    pub format: String,
    /// Path as it was given.
    pub path: String,
    /// The image's own identity (VHDX VirtualDiskId, VHD unique id); empty if it has none.
    pub identity: String,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// Length of the image file in bytes.
    pub file_size: u64,
    /// Modification time of the image file, nanoseconds since 1970.
    pub modified_ns: i64,
}

/// One disk of a point.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DiskRecord {
    /// `disk0`, or the name it was given.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Root of its map.
    pub root: [u8; 32],
    /// What is known of the image.
    pub image: ImageFacts,
    /// What was left out.
    pub excluded: Vec<Exclusion>,
    /// Whether the image changed while it was read, so that states of different moments may be mixed.
    pub mixed: bool,
}

impl DiskRecord {
    /// Root of its map.
    pub fn root_id(&self) -> ChunkId {
        ChunkId(self.root)
    }
}

/// One of the images that a disk was read from, as it was when it was opened: by it the image is known again, and known to be as it was.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ImageState {
    /// VHDX DataWriteGuid, as it lies in the file.
    pub data_id: [u8; 16],
    /// VHDX FileWriteGuid, as it lies in the file.
    pub write_id: [u8; 16],
    /// Length of the file in bytes.
    pub file_size: u64,
    /// When its content was changed last (`mtime`), nanoseconds since 1970.
    pub modified_ns: i64,
    /// When anything about it was changed last (`ctime`), nanoseconds since 1970.
    pub changed_ns: i64,
}

/// Who told what of a disk did not change since the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Default)]
pub enum ToldBy {
    /// Nobody, or it was not relied on: everything allocated was read.
    #[default]
    Nobody,
    /// Whoever asked for the backup.
    Caller,
    /// The images: they are those of the base, unchanged, and differencing children of them.
    Images,
}

impl ToldBy {
    /// `nobody`, `caller` or `images`.
    pub fn name(self) -> &'static str {
        match self {
            ToldBy::Nobody => "nobody",
            ToldBy::Caller => "caller",
            ToldBy::Images => "images",
        }
    }
}

/// Where a disk's content comes from: what was read, and what was taken from the base.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct Origin {
    /// Who told what did not change.
    pub told_by: ToldBy,
    /// Bytes of the disk that were taken from the base because of that.
    pub unchanged: u64,
    /// The images, the youngest first, if a later backup can tell by them whether they are as they were; otherwise none.
    pub images: Vec<ImageState>,
}

/// What a backup did, in bytes unless named otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Default)]
pub struct BackupStats {
    /// Read from the images.
    pub read: u64,
    /// Of that, not in the store before.
    pub new: u64,
    /// What the new chunks, maps and index entries take in the store.
    pub stored: u64,
    /// Left out.
    pub excluded: u64,
    /// Duration in milliseconds.
    pub milliseconds: u64,
    /// Number of new chunks.
    pub new_chunks: u64,
    /// Of the disks, taken from the base because the caller said, or their images show, that it did not change.
    pub unchanged: u64,
}

/// A recovery point.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PointRecord {
    /// Name of the machine.
    pub machine: String,
    /// Orders the points of a machine; from 1.
    pub sequence: u64,
    /// The highest number of a point of the machine that was there before, or was forgotten; 0 if there was none. What it names and is not there, nor forgotten, is gone.
    pub previous: u64,
    /// Seconds since 1970; unique among the machine's points.
    pub seconds: i64,
    /// Whether it was imported: made with a time before the then latest point, and never `latest`.
    pub import: bool,
    /// When it was published, by the clock of the host that made it; seconds since 1970. Ages are counted from it.
    pub made: i64,
    /// The point it was compared with.
    pub base: Option<[u8; 32]>,
    /// How consistent the disks were.
    pub consistency: Consistency,
    /// Its disks, in the order given.
    pub disks: Vec<DiskRecord>,
    /// What its backup did.
    pub stats: BackupStats,
    /// What was not as it should be.
    pub warnings: Vec<String>,
    /// The host that made it.
    pub host: String,
    /// The program and version that made it.
    pub program: String,
    /// Where the content of each of `disks` comes from, in the same order; none at all in a point of version 4.
    pub origins: Vec<Origin>,
}

impl Record for PointRecord {
    const MAGIC: [u8; 8] = *b"CAIRNPNT";
    const VERSION: u32 = 5;
    const NAME: &'static str = "recovery point";

    fn added_since(version: u32) -> Option<&'static [u8]> {
        // No origins.
        (version == 4).then_some(&[0; 8])
    }
}

/// A recovery point and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Keyed hash of its record.
    pub id: PointId,
    /// What it says.
    pub record: PointRecord,
}

impl Point {
    /// What the name of its file says.
    pub fn file(&self) -> PointFile {
        PointFile {
            sequence: self.record.sequence,
            seconds: self.record.seconds,
            import: self.record.import,
            id: self.id,
        }
    }

    /// When it was made.
    pub fn time(&self) -> Time {
        Time::from_seconds(self.record.seconds)
    }

    /// Its disk of that name.
    pub fn disk(&self, name: &str) -> Option<&DiskRecord> {
        let mut disks = self.record.disks.iter();
        disks.find(|disk| disk.name.eq_ignore_ascii_case(name))
    }

    /// Where the content of its disk of that name comes from, if it says so.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        let disks = self.record.disks.iter().zip(&self.record.origins);
        let mut named = disks.filter(|(disk, _)| disk.name.eq_ignore_ascii_case(name));
        named.next().map(|(_, origin)| origin)
    }
}
