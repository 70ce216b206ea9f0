//! The whole file system, without a kernel: what the adapter asks for is answered here, and tests ask the same.
//!
//! Every operation takes inode numbers and finds what it needs anew, so that no table of visited files is kept.

mod complaint;
mod content;
mod disks;
mod folder;
mod holding;
mod label;
mod link;
mod lookup;
mod past;
mod recall;
mod space;
mod writing;
mod xattr;

pub use content::Content;
pub use folder::{Folder, Listed};
pub use label::Label;
pub use space::Space;

use crate::catalog::{Catalog, OpenPoint, Points};
use crate::changes;
use crate::failure::{Failure, Result};
use crate::holds::Holds;
use crate::inode::{self, IMAGE_SLOT, Owner, PointKey, Slots, TreeKey};
use crate::journal::Journal;
use crate::look::Look;
use crate::node::{self, Node, PointRef, name_hash};
use crate::past::Pasts;
use crate::paths::{PastPath, Paths};
use crate::stat::Stat;
use crate::writable::Overlays;
use cairn::{Attributes, DiskView, EntryKind, Error, PointFile, Store, Time, Volume, VolumeView};
use std::sync::Arc;

/// What `access` asks for: to write.
pub const MAY_WRITE: u32 = 2;
/// What `access` asks for: to run a file or to enter a folder.
pub const MAY_EXECUTE: u32 = 1;

const ERROR_MODE: u32 = 0o444;
/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

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
    paths: Paths,
    pasts: Pasts,
    look: Look,
    journal: Arc<Journal>,
    missed: recall::Missed,
    holds: Holds<OpenPoint>,
    source: Source,
    /// Disks can be written to.
    overlays: Option<Arc<Overlays>>,
    /// When it was mounted: the time of what has no other.
    born: Time,
}

enum Source {
    Store(Box<Catalog>),
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
        Tree::new(Source::Store(Box::new(Catalog::new(store))))
    }

    /// What is on a disk image.
    pub fn of_image(disk: DiskView) -> Tree {
        Tree::of_images(vec![disk])
    }

    /// What is on disk images that belong to one machine; the first of them decides the numbers of files.
    pub fn of_images(disks: Vec<DiskView>) -> Tree {
        let origin = disks.first().map(DiskView::origin).unwrap_or_default();
        Tree {
            slots: Slots::of_image(origin),
            ..Tree::new(Source::Image(Arc::new(OpenPoint::of_images(disks))))
        }
    }

    fn new(source: Source) -> Tree {
        Tree {
            slots: Slots::default(),
            paths: Paths::default(),
            pasts: Pasts::default(),
            look: Look::default(),
            journal: Arc::default(),
            missed: recall::Missed::default(),
            holds: Holds::default(),
            source,
            overlays: None,
            born: changes::now(),
        }
    }

    /// The same with guests' entries shown as `look` says, and what goes wrong told to `journal`.
    pub fn shown(self, look: Look, journal: Arc<Journal>) -> Tree {
        Tree {
            look,
            journal,
            ..self
        }
    }

    /// Whether it is a store's, in which points come and go.
    pub fn is_of_store(&self) -> bool {
        matches!(self.source, Source::Store(_))
    }

    /// How guests' entries are shown.
    pub fn look(&self) -> &Look {
        &self.look
    }

    /// Ends the sessions of all points that are open: for a process that ends while files of the mount are in use.
    pub fn leave(&self) {
        if let Source::Store(catalog) = &self.source {
            catalog.leave();
        }
    }

    /// What a handle of a node carries beside its inode number, so that it is not taken for another node's in another mount.
    pub fn generation(&self, inode: u64) -> u64 {
        self.slots.generation(inode::split(inode).0)
    }

    /// How many paths below `versions` are remembered.
    pub fn paths_in_use(&self) -> usize {
        self.paths.len()
    }

    /// How many machines, points and volumes have been given numbers: all that is remembered of what was visited.
    pub fn slots_in_use(&self) -> usize {
        self.slots.in_use()
    }

    fn node(&self, inode: u64) -> Result<Node> {
        let image = matches!(self.source, Source::Image(_));
        match Node::find(inode, image, &self.slots, &self.paths) {
            // A handle that was given out before this mount.
            Err(Failure::Stale) if self.recall(inode::split(inode).0) => {
                Node::find(inode, image, &self.slots, &self.paths)
            }
            found => found,
        }
    }

    /// The attributes of a node.
    ///
    /// # Errors
    /// [`Failure::Stale`] for a number that is nothing's; what finding the node reports.
    pub fn getattr(&self, inode: u64) -> Result<Stat> {
        self.noted(inode, self.node(inode).and_then(|node| self.stat(&node)))
    }

    /// What is said of a guest's entry whose attributes are known.
    fn entry_stat(&self, inode: u64, mut attributes: Attributes) -> Result<Stat> {
        self.look.dress(&mut attributes);
        Stat::of_entry(inode, attributes)
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
            Node::Root => {
                // Where the store does not answer the root is there all the same.
                let machines = self.catalog().and_then(Catalog::machines);
                let changed = machines.map_or(self.born, |machines| machines.changed);
                Ok(Stat::folder(inode, changed).new_at(self.born))
            }
            Node::Machine(machine) => {
                let points = self.catalog()?.points(machine)?;
                Ok(Stat::folder(inode, points.changed).new_at(self.born))
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
            Node::Letter(point, letter) => {
                let length = cairn::units::to_u64(self.letter_target(point, *letter)?.len());
                let time = self.time(point);
                Ok(Stat::made(inode, EntryKind::Symlink, 0o777, length, time))
            }
            Node::Raw(point, disk) => self.disk_stat(inode, point, *disk, None),
            Node::View(point, disk, format) => self.disk_stat(inode, point, *disk, Some(*format)),
            Node::Entry(entry) => {
                let open = self.volume(&entry.tree)?;
                let attributes = open.volume.attributes(entry.id())?;
                self.guest_stat(inode, &entry.tree, &open, entry.id(), attributes)
            }
            Node::Past(path) => self.past_stat(path, inode),
            Node::RootError(_)
            | Node::MachineError(..)
            | Node::PastError(_)
            | Node::PointError(_)
            | Node::LettersNotes(_)
            | Node::PartitionsError(..)
            | Node::VolumeError(..)
            | Node::VolumeNotes(..) => {
                if let Node::PastError(path) = node {
                    self.paths.remember(inode::split(inode).0, path)?;
                }
                let text = self.error_text(node)?;
                let mut time = self
                    .point_of(node)
                    .map_or(self.born, |point| self.time(point));
                // Another text is another time, by which the kernel knows that it has to read it again.
                time.nanos = u32::try_from(name_hash(text.as_bytes()) % SECOND).unwrap_or(0);
                let size = cairn::units::to_u64(text.len());
                Ok(Stat::made(inode, EntryKind::File, ERROR_MODE, size, time))
            }
        }
    }

    fn point_of<'a>(&self, node: &'a Node) -> Option<&'a PointRef> {
        match node {
            Node::PointError(point)
            | Node::LettersNotes(point)
            | Node::PartitionsError(point, _)
            | Node::VolumeError(point, ..)
            | Node::VolumeNotes(point, ..) => Some(point),
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
        let at = self.point_at(tree.point)?;
        let point = self.open_point(&at)?;
        let volume = match point.disk(tree.disk)?.volume(tree.partition)? {
            Some(found) => self.opened(&at, tree.disk, found)?,
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
        let key = self.point_key(machine, point);
        let slot = self.slots.claim(&Owner::Point(key.clone()))?;
        Ok(PointRef {
            slot,
            key: Some(key),
        })
    }

    fn point_key(&self, machine: &Arc<str>, point: &PointFile) -> Arc<PointKey> {
        Arc::new(PointKey {
            machine: machine.clone(),
            id: point.id,
            seconds: point.seconds,
        })
    }

    /// The file system of a partition. When it was just opened the journal is told why what it shows may be old, missing or wrong.
    fn opened(
        &self,
        point: &PointRef,
        disk: u16,
        found: &VolumeView,
    ) -> Result<Arc<dyn Volume>, Error> {
        let volume = found.open()?;
        for defect in found.take_defects() {
            let node = Node::VolumeNotes(point.clone(), disk, found.number());
            self.journal
                .tell(&format!("{}: {defect}", self.label(&node)));
        }
        Ok(volume)
    }

    /// The node of a partition: its file system's root, or an empty folder if it cannot be read.
    fn partition(&self, point: &PointRef, disk: u16, found: &VolumeView) -> Result<Node> {
        let Ok(volume) = self.opened(point, disk, found) else {
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
                match position.map(|at| Node::DiskFiles(point.clone(), at)) {
                    None => self.letter_called(point, name),
                    found => Ok(found),
                }
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
        if name == PastPath::NAME && !points.points.is_empty() {
            return Ok(Some(Node::Past(PastPath::top(machine.clone()))));
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
        let (folder, ending) = match name.split_once('.') {
            Some((folder, ending)) => (folder, Some(ending)),
            None => (name, None),
        };
        let Some(found) = volumes.iter().find(|found| found.folder_name() == folder) else {
            return Ok(None);
        };
        let node = self.partition(point, disk, found)?;
        Ok(match (ending, &node) {
            (None, _) => Some(node),
            (Some("error"), Node::Unreadable(..)) => {
                Some(Node::VolumeError(point.clone(), disk, found.number()))
            }
            (Some("notes"), _) if has_notes(found) => {
                Some(Node::VolumeNotes(point.clone(), disk, found.number()))
            }
            _ => None,
        })
    }
}

/// Whether there is something that a user should know of a file system.
fn has_notes(found: &VolumeView) -> bool {
    found.open().is_ok() && !found.notes().is_empty()
}

/// The link to the latest point, if there is one.
fn latest(machine: &Arc<str>, points: &Points) -> Option<Node> {
    let target = points.latest.as_ref()?;
    Some(Node::Latest(machine.clone(), name_hash(&target.id.0)))
}
