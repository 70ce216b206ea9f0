//! The whole file system, without a kernel: what the adapter asks for is answered here, and tests ask the same.
//!
//! Every operation takes inode numbers and finds what it needs anew, so that no table of visited files is kept.

mod content;
mod disks;
mod folder;
mod space;
mod writing;
mod xattr;

pub use content::Content;
pub use folder::{Folder, Listed};
pub use space::Space;

use crate::catalog::{Catalog, Complaint, OpenPoint, Points, explain};
use crate::failure::{Failure, Result};
use crate::inode::{IMAGE_SLOT, Owner, PointKey, Slots, TreeKey};
use crate::node::{self, EntryRef, Node, PointRef, name_hash};
use crate::stat::Stat;
use crate::writable::Overlays;
use cairn::{DiskView, EntryKind, Error, PointFile, Store, Time, Volume, VolumeView};
use std::sync::Arc;
use std::time::SystemTime;

/// What `access` asks for: to write.
pub const MAY_WRITE: u32 = 2;
/// What `access` asks for: to run a file or to enter a folder.
pub const MAY_EXECUTE: u32 = 1;

const ERROR_MODE: u32 = 0o444;

/// The answer to a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The node of that name.
    Node(Box<Stat>),
    /// There is none; `lasting` if there never will be.
    Nothing {
        /// Whether the kernel may remember it.
        lasting: bool,
    },
}

/// The points of a store, or the contents of a disk image, as a tree of files.
pub struct Tree {
    slots: Slots,
    source: Source,
    /// Disks can be written to.
    overlays: Option<Arc<Overlays>>,
    /// When it was mounted: the time of what has no other.
    born: Time,
}

enum Source {
    Store(Catalog),
    Image(Arc<OpenPoint>),
}

/// A guest's file system, and what keeps it open.
pub(crate) struct OpenVolume {
    volume: Arc<dyn Volume>,
    point: Arc<OpenPoint>,
}

impl Tree {
    /// All points of a store.
    pub fn of_store(store: Store) -> Tree {
        Tree::new(Source::Store(Catalog::new(store)))
    }

    /// What is on a disk image.
    pub fn of_image(disk: DiskView) -> Tree {
        Tree::new(Source::Image(Arc::new(OpenPoint::of_image(disk))))
    }

    fn new(source: Source) -> Tree {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
        Tree {
            slots: Slots::default(),
            source,
            overlays: None,
            born: Time::from_seconds(seconds),
        }
    }

    /// How many machines, points and volumes have been given numbers: all that is remembered of what was visited.
    pub fn slots_in_use(&self) -> usize {
        self.slots.in_use()
    }

    fn node(&self, inode: u64) -> Result<Node> {
        Node::find(inode, matches!(self.source, Source::Image(_)), &self.slots)
    }

    /// The attributes of a node.
    ///
    /// # Errors
    /// [`Failure::Stale`] for a number that is nothing's; what finding the node reports.
    pub fn getattr(&self, inode: u64) -> Result<Stat> {
        self.stat(&self.node(inode)?)
    }

    /// The node called `name` in a folder.
    ///
    /// # Errors
    /// What finding it reports; that there is none is no error.
    pub fn lookup(&self, folder: u64, name: &[u8]) -> Result<Found> {
        let folder = self.node(folder)?;
        if let Node::Entry(entry) = &folder {
            return self.lookup_entry(entry, name);
        }
        let lasting = matches!(folder, Node::Disks(_) | Node::Files(_));
        match self.child(&folder, name)? {
            Some(node) => Ok(Found::Node(Box::new(self.stat(&node)?))),
            None => Ok(Found::Nothing { lasting }),
        }
    }

    fn lookup_entry(&self, folder: &EntryRef, name: &[u8]) -> Result<Found> {
        let open = self.volume(&folder.tree)?;
        let Some(found) = open.volume.lookup(folder.id(), name)? else {
            return Ok(Found::Nothing { lasting: true });
        };
        let inode = node::entry_inode(&self.slots, folder.slot, &folder.tree, found.id)?;
        let attributes = open.volume.attributes(found.id)?;
        Ok(Found::Node(Box::new(Stat::of_entry(inode, attributes)?)))
    }

    /// The target of a symbolic link: a guest's as the guest wrote it.
    ///
    /// # Errors
    /// [`Failure::Invalid`] for anything else.
    pub fn readlink(&self, inode: u64) -> Result<Vec<u8>> {
        match self.node(inode)? {
            Node::Latest(machine, _) => {
                let points = self.catalog()?.points(&machine)?;
                let latest = points.latest.as_ref().ok_or_else(|| {
                    Error::not_found(format!("the machine `{machine}` has no latest point"))
                })?;
                Ok(latest.time().folder_name().into_bytes())
            }
            Node::Entry(entry) => Ok(self.volume(&entry.tree)?.volume.read_link(entry.id())?),
            _ => Err(Failure::Invalid),
        }
    }

    /// Whether `access` is granted beside what the modes say: nothing can be written but disks where the mount allows it, and a
    /// file without any bit to execute it cannot be executed.
    ///
    /// # Errors
    /// [`Failure::ReadOnly`], [`Failure::NotPermitted`].
    pub fn access(&self, inode: u64, wanted: u32) -> Result<()> {
        if wanted & MAY_WRITE != 0 && !self.is_writable(&self.node(inode)?) {
            return Err(Failure::ReadOnly);
        }
        if wanted & MAY_EXECUTE != 0 {
            let attributes = self.getattr(inode)?.attributes;
            if attributes.kind == EntryKind::File && attributes.mode & 0o111 == 0 {
                return Err(Failure::NotPermitted);
            }
        }
        Ok(())
    }

    fn stat(&self, node: &Node) -> Result<Stat> {
        let inode = node.inode(&self.slots)?;
        let folder = |time| Ok(Stat::folder(inode, time));
        match node {
            Node::Root => folder(self.born),
            Node::Machine(machine) => {
                let points = self.catalog()?.points(machine)?;
                folder(points.points.last().map_or(self.born, |point| point.time()))
            }
            Node::Latest(machine, _) => {
                let points = self.catalog()?.points(machine)?;
                let target = points.latest.as_ref().ok_or(Failure::Stale)?.time();
                let length = cairn::units::to_u64(target.folder_name().len());
                Ok(Stat::made(inode, EntryKind::Symlink, 0o777, length, target))
            }
            Node::Point(point) => folder(self.time(point)),
            Node::Disks(point) | Node::Files(point) | Node::DiskFiles(point, _) => {
                Ok(Stat::folder(inode, self.time(point)).for_good())
            }
            Node::Unreadable(point, ..) => folder(self.time(point)),
            Node::Raw(point, disk) => self.disk_stat(inode, point, *disk, None),
            Node::View(point, disk, format) => self.disk_stat(inode, point, *disk, Some(*format)),
            Node::Entry(entry) => {
                let open = self.volume(&entry.tree)?;
                Stat::of_entry(inode, open.volume.attributes(entry.id())?)
            }
            Node::RootError(_)
            | Node::MachineError(..)
            | Node::PointError(_)
            | Node::PartitionsError(..)
            | Node::VolumeError(..) => {
                let text = self.error_text(node)?;
                let time = self
                    .point_of(node)
                    .map_or(self.born, |point| self.time(point));
                let size = cairn::units::to_u64(text.len());
                Ok(Stat::made(inode, EntryKind::File, ERROR_MODE, size, time))
            }
        }
    }

    fn point_of<'a>(&self, node: &'a Node) -> Option<&'a PointRef> {
        match node {
            Node::PointError(point)
            | Node::PartitionsError(point, _)
            | Node::VolumeError(point, ..) => Some(point),
            _ => None,
        }
    }

    fn time(&self, point: &PointRef) -> Time {
        match &point.key {
            Some(key) => Time::from_seconds(key.seconds),
            None => self.born,
        }
    }

    fn catalog(&self) -> Result<&Catalog> {
        match &self.source {
            Source::Store(catalog) => Ok(catalog),
            Source::Image(_) => Err(Failure::Stale),
        }
    }

    fn open_point(&self, point: &PointRef) -> Result<Arc<OpenPoint>> {
        match (&self.source, &point.key) {
            (Source::Store(catalog), Some(key)) => catalog.open(key),
            (Source::Image(open), None) => Ok(open.clone()),
            _ => Err(Failure::Stale),
        }
    }

    /// The file system that a slot stands for.
    pub(crate) fn volume(&self, tree: &TreeKey) -> Result<OpenVolume> {
        let point = self.open_point(&self.point_at(tree.point)?)?;
        let volume = match point.disk(tree.disk)?.volume(tree.partition)? {
            Some(found) => found.open()?,
            None => return Err(Error::not_found("the disk has no such partition").into()),
        };
        Ok(OpenVolume { volume, point })
    }

    fn point_at(&self, slot: u32) -> Result<PointRef> {
        if slot == IMAGE_SLOT {
            return Ok(node::image_point());
        }
        match self.slots.owner(slot)? {
            Owner::Point(key) => Ok(PointRef {
                slot,
                key: Some(key),
            }),
            Owner::Machine(_) | Owner::Tree(_) | Owner::Large(..) => Err(Failure::Stale),
        }
    }

    fn point_ref(&self, machine: &Arc<str>, point: &PointFile) -> Result<PointRef> {
        let key = Arc::new(PointKey {
            machine: machine.clone(),
            id: point.id,
            seconds: point.seconds,
        });
        let slot = self.slots.claim(&Owner::Point(key.clone()))?;
        Ok(PointRef {
            slot,
            key: Some(key),
        })
    }

    /// The node of a partition: its file system's root, or an empty folder if it cannot be read.
    fn partition(&self, point: &PointRef, disk: u16, found: &VolumeView) -> Result<Node> {
        let Ok(volume) = found.open() else {
            return Ok(Node::Unreadable(point.clone(), disk, found.number()));
        };
        let root = volume.root();
        let tree = TreeKey {
            point: point.slot,
            disk,
            partition: found.number(),
            tree: root.tree,
        };
        let slot = self.slots.claim(&Owner::Tree(tree))?;
        // Through the number, so that a root beyond 40 bits is named as any other entry is.
        self.node(node::entry_inode(&self.slots, slot, &tree, root)?)
    }

    /// The child called `name` of a folder that the mount itself makes.
    fn child(&self, folder: &Node, name: &[u8]) -> Result<Option<Node>> {
        let Ok(name) = std::str::from_utf8(name) else {
            return Ok(None);
        };
        match folder {
            Node::Root => self.machine_called(name),
            Node::Machine(machine) => self.point_called(machine, name),
            Node::Point(point) => Ok(match name {
                "disks" => Some(Node::Disks(point.clone())),
                "files" => Some(Node::Files(point.clone())),
                "point.error" if self.open_point(point).is_err() => {
                    Some(Node::PointError(point.clone()))
                }
                _ => None,
            }),
            Node::Disks(point) => self.disk_called(point, name),
            Node::Files(point) => {
                let position = self.position(point, name)?;
                Ok(position.map(|at| Node::DiskFiles(point.clone(), at)))
            }
            Node::DiskFiles(point, disk) => self.partition_called(point, *disk, name),
            Node::Unreadable(..) => Ok(None),
            _ => Err(Failure::NotAFolder),
        }
    }

    fn machine_called(&self, name: &str) -> Result<Option<Node>> {
        let catalog = self.catalog()?;
        if let Some(machine) = catalog.machine(name)? {
            // A name in other letters is not a second name of the machine.
            return Ok((*machine == *name).then_some(Node::Machine(machine)));
        }
        if !name.ends_with(".error") {
            return Ok(None);
        }
        let machines = catalog.machines()?;
        let told = machines.complaints.iter().any(|told| told.name == name);
        Ok(told.then(|| Node::RootError(name_hash(name.as_bytes()))))
    }

    fn point_called(&self, machine: &Arc<str>, name: &str) -> Result<Option<Node>> {
        let points = self.catalog()?.points(machine)?;
        if name == "latest" {
            return Ok(latest(machine, &points));
        }
        if points.complaints.iter().any(|told| told.name == name) {
            let hash = name_hash(name.as_bytes());
            return Ok(Some(Node::MachineError(machine.clone(), hash)));
        }
        let Ok(time) = Time::parse(name) else {
            return Ok(None);
        };
        // Only the one form of a time is a name.
        let called = |point: &&PointFile| point.time() == time && time.folder_name() == name;
        let Some(point) = points.points.iter().find(called) else {
            return Ok(None);
        };
        Ok(Some(Node::Point(self.point_ref(machine, point)?)))
    }

    fn position(&self, point: &PointRef, disk: &str) -> Result<Option<u16>> {
        let open = self.open_point(point)?;
        let position = open.disks().iter().position(|view| view.name() == disk);
        position.map(node::disk_position).transpose()
    }

    fn partition_called(&self, point: &PointRef, disk: u16, name: &str) -> Result<Option<Node>> {
        let open = self.open_point(point)?;
        let volumes = match open.disk(disk)?.volumes() {
            Ok(volumes) => volumes,
            Err(_) => {
                return Ok((name == "partitions.error")
                    .then(|| Node::PartitionsError(point.clone(), disk)));
            }
        };
        let (folder, error) = match name.strip_suffix(".error") {
            Some(folder) => (folder, true),
            None => (name, false),
        };
        let Some(found) = volumes.iter().find(|found| found.folder_name() == folder) else {
            return Ok(None);
        };
        let node = self.partition(point, disk, found)?;
        match (error, &node) {
            (false, _) => Ok(Some(node)),
            (true, Node::Unreadable(..)) => {
                Ok(Some(Node::VolumeError(point.clone(), disk, found.number())))
            }
            (true, _) => Ok(None),
        }
    }

    /// What an `*.error` file says.
    fn error_text(&self, node: &Node) -> Result<String> {
        let gone = || Error::not_found("what was wrong is wrong no more");
        let told = |complaints: &[Complaint], hash: u64| {
            let found = complaints
                .iter()
                .find(|told| name_hash(told.name.as_bytes()) == hash);
            found.map(|told| told.text.clone()).ok_or_else(gone)
        };
        Ok(match node {
            Node::RootError(hash) => told(&self.catalog()?.machines()?.complaints, *hash)?,
            Node::MachineError(machine, hash) => {
                told(&self.catalog()?.points(machine)?.complaints, *hash)?
            }
            Node::PointError(point) => match self.open_point(point) {
                Err(Failure::Engine(error)) => explain("This point cannot be opened", &error),
                Err(other) => return Err(other),
                Ok(_) => return Err(gone().into()),
            },
            Node::PartitionsError(point, disk) => {
                let open = self.open_point(point)?;
                let disk = open.disk(*disk)?;
                let missing = format!("The partitions of {} cannot be found", disk.name());
                let error = disk.volumes().err().ok_or_else(gone)?;
                explain(&missing, &error)
            }
            Node::VolumeError(point, disk, number) => {
                let open = self.open_point(point)?;
                let disk = open.disk(*disk)?;
                let found = disk.volume(*number)?.ok_or_else(gone)?;
                let error = found.open().err().ok_or_else(gone)?;
                let missing = format!(
                    "The files of partition {number} of {} ({}, {} from byte {}) cannot be shown",
                    disk.name(),
                    found.content(),
                    cairn::units::human_bytes(found.size()),
                    found.start(),
                );
                explain(&missing, &error)
            }
            _ => return Err(Failure::Invalid),
        })
    }
}

/// The link to the latest point, if there is one.
fn latest(machine: &Arc<str>, points: &Points) -> Option<Node> {
    let target = points.latest.as_ref()?;
    Some(Node::Latest(machine.clone(), name_hash(&target.id.0)))
}
