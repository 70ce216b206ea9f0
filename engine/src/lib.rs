//! Recovery points of virtual-machine disks: stored once, mounted as files.
//!
//! This is the library under the command `cairn`; other backup front-ends use it the same way.
//!
//! # Back up
//! ```
//! use cairn::{BackupOptions, DiskImage, Silent, Store};
//! # fn main() -> cairn::Result<()> {
//! # let temp = tempfile::tempdir().unwrap();
//! # let (store_path, image) = (temp.path().join("store"), temp.path().join("web01.raw"));
//! # std::fs::write(&image, vec![7u8; 1 << 20]).unwrap();
//! let store = Store::create(&store_path)?;
//! let disk = DiskImage::open("disk0", &image)?; // raw, VHD, VHDX, QCOW2, VDI or VMDK, found out by its content
//! let point = store.backup(vec![disk], &BackupOptions::new("web01"), &Silent)?;
//! println!("{} at {}: {} bytes new", point.record.machine, point.time(), point.record.stats.new);
//! # assert_eq!(point.record.stats.read, 1 << 20);
//! # Ok(())
//! # }
//! ```
//! Anything that implements [`ReadAt`] can be backed up: see [`DiskImage::from_reader`].
//!
//! # Browse
//! ```
//! use cairn::{Store, walk};
//! # use cairn::{BackupOptions, DiskImage, Silent};
//! # fn main() -> cairn::Result<()> {
//! # let temp = tempfile::tempdir().unwrap();
//! # let (files, image) = (temp.path().join("files"), temp.path().join("web01.raw"));
//! # std::fs::create_dir_all(files.join("etc")).unwrap();
//! # std::fs::write(files.join("etc/hostname"), "web01\n").unwrap();
//! # let made = std::process::Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&files).arg(&image).arg("8M").status();
//! # assert!(made.unwrap().success());
//! # let store_path = temp.path().join("store");
//! # Store::create(&store_path)?.backup(vec![DiskImage::open("disk0", &image)?], &BackupOptions::new("web01"), &Silent)?;
//! let store = Store::open(&store_path)?;
//! let point = store.open_point(&store.find_point("web01@latest")?)?;
//! for disk in point.disks() {
//!     for volume in disk.volumes()? {
//!         let files = volume.open()?; // ext4, NTFS, ... without a kernel driver
//!         let found = walk::resolve(&*files, b"etc/hostname")?;
//!         println!("{} bytes", files.attributes(found)?.size);
//!         let content = files.open(found)?; // readable at any offset, by many threads
//!         let mut start = vec![0; content.size().min(100) as usize];
//!         content.read_exact_at(0, &mut start)?;
//! #       assert_eq!(start, b"web01\n");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Keep and forget
//! ```
//! use cairn::{BackupOptions, DiskImage, ForgetOptions, Rules, Silent, Store, Zone};
//! # use std::sync::Arc;
//! # fn main() -> cairn::Result<()> {
//! # let temp = tempfile::tempdir().unwrap();
//! # let store = Store::create(&temp.path().join("store"))?;
//! # for seed in 0..3 {
//! #     let disk = DiskImage::from_reader("disk0", Arc::new(vec![seed; 10_000]));
//! #     store.backup(vec![disk], &BackupOptions::new("web01"), &Silent)?;
//! # }
//! let rules = Rules { last: 2, daily: 7, weekly: 4, monthly: 12, ..Rules::default() };
//! let options = ForgetOptions::default();
//! let plan = store.plan_forget("web01", &rules, &Zone::system(), &options)?;
//! for verdict in plan.verdicts() {
//!     println!("{} {}: {:?}", verdict.time(), verdict.kept, verdict.reasons);
//! }
//! # let before = plan.forgotten().len();
//! let done = store.forget(&[plan], &options)?; // pins, the minimum age and the last point are heeded in any case
//! # assert_eq!(done.into_iter().next().unwrap()?.forgotten.len(), before);
//! # Ok(())
//! # }
//! ```
//!
//! # Restore
//! ```
//! use cairn::{BackupOptions, DiskImage, ImageFormat, RestoreOptions, Silent, Store, restore};
//! # use std::sync::Arc;
//! # fn main() -> cairn::Result<()> {
//! # let temp = tempfile::tempdir().unwrap();
//! # let store = Store::create(&temp.path().join("store"))?;
//! # let disk = DiskImage::from_reader("disk0", Arc::new(vec![5u8; 100_000]));
//! # store.backup(vec![disk], &BackupOptions::new("web01"), &Silent)?;
//! let point = store.open_point(&store.find_point("web01@latest")?)?;
//! let target = temp.path().join("back.raw");
//! let options = RestoreOptions { format: ImageFormat::Raw, ..RestoreOptions::default() };
//! restore(&point, "disk0", &target, &options, &Silent)?; // sparse, every byte authenticated
//! # assert_eq!(std::fs::read(&target).unwrap(), vec![5u8; 100_000]);
//! # Ok(())
//! # }
//! ```

pub mod affected;
pub mod compare;
pub mod copy;
pub mod examine;
pub mod find;
pub mod input;
pub mod jobs;
pub mod machine;
pub mod nbd;
pub mod overlay;
pub mod point;
pub mod restore;
pub mod retain;
pub mod store;
pub mod view;
pub mod walk;

pub use affected::{Affected, AffectedKind, AffectedReport};
pub use cairn_base::{
    ChunkId, Error, Kind, Monitor, PackId, PointId, ReadAt, Result, Section, SessionId, Silent,
    Stage, Time, mapped::install_guard, units,
};
pub use cairn_disk::{
    Count as ImageCount, Finding as ImageFinding, Format, FormatHint, FoundBy, Guid, ImageFile,
    ImageInfo, OpenOptions, Property, Severity as ImageSeverity, Topic, Value, ViewFormat,
};
pub use cairn_guest::ldm::{
    Database as DynamicDatabase, DynamicVolume, Piece as VolumePiece, VolumeKind,
};
pub use cairn_guest::probe::DYNAMIC_NUMBERS;
pub use cairn_guest::{
    Attributes, BitLockerInfo, CodePage, Detected, DirEntry, EntryId, EntryKind, Keys, LinkTarget,
    Note, ProtectorInfo, ReadOptions, StreamInfo, TableKind, Volume, VolumeInfo, dos,
};
pub use cairn_store::catalog::{
    Accepted, Candidate, ForgetOptions, Forgotten, Listing, Pin, PointNames, PointSink, Protection,
    Retention, spelled_seconds,
};
pub use cairn_store::doctor::{
    Checkup, Condition, Contents, Copy as RecordCopy, Finding, Owner, SessionFacts, Severity,
};
pub use cairn_store::layout::PointFile;
pub use cairn_store::store::RemovedSession;
pub use cairn_store::{
    BackupOptions, Change, ChangeList, Changes, Consistency, CutParameters, Damage, Depth, Detail,
    DiskRecord, Level, Locality, MachineStats, MachineUsage, Origin, Pick, Point, PointName,
    PointRecord, PointUsage, ProofSummary, PruneOptions, PruneReport, RepairReport, Repaired,
    SessionKind, StoreStats, ToldBy, Totals, Usage, UsageOptions, VerifyOptions, VerifyReport,
    names,
};
pub use compare::{
    FileChange, Found, How, Part, VolumeOf, changed_files, changed_ranges, same_content,
    same_volume,
};
pub use copy::{
    ArchiveFormat, Copier, CopyOptions, CopyReport, CopyTarget, OnConflict, copy_files, copy_out,
};
pub use examine::{CheckReport, DiskExamination, DiskReport};
pub use find::{Criteria, FileVersion, FindEvent, Glob, Lettered, find_files};
pub use input::DiskImage;
pub use jobs::{Job, OpenDisks};
pub use machine::{MachineLayout, MachineView, MachineVolume};
pub use nbd::{NbdEnded, NbdExport, NbdServer};
pub use overlay::{Overlay, OverlayBase};
pub use point::PointView;
pub use restore::{ImageFormat, RestoreOptions, Restored, restore};
pub use retain::{Calendar, Period, Reason, Rules, Verdict, Zone};
pub use store::{ForgetPlan, OfMachine, PinnedPoint, Store};
pub use view::{DiskView, VolumeView};
