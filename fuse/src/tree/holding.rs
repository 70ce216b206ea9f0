//! What the kernel knows of points keeps them open.

use crate::catalog::OpenPoint;
use crate::failure::Result;
use crate::holds::Holds;
use crate::inode::{self, IMAGE_SLOT, Owner, PointKey};
use crate::node::Node;
use crate::paths::PastPath;
use crate::stat::Stat;
use crate::tree::{Content, Source, Tree};
use cairn::Time;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldEntry {
    /// The folder's inode number.
    pub folder: u64,
    /// The path of the name, from the root of the mount.
    pub path: PathBuf,
}

impl Tree {
    /// Whether files can be read without being opened: nothing of what is read ever changes, and a point can be asked for by its
    /// name only, so that the kernel finds it when it is asked to forget it.
    pub fn opens_once(&self) -> bool {
        self.overlays.is_none() && !self.look.ignore_case
    }

    /// The points of which the kernel knows something.
    pub fn holds(&self) -> &Holds<OpenPoint> {
        &self.holds
    }

    /// The kernel is about to be told the number of a node. If it is in a point and the kernel may open it without asking again (`keeps`), the point stays open
    /// until the number is [forgotten](Tree::forgotten).
    ///
    /// # Errors
    /// If the point cannot be opened; then the kernel must not be told.
    pub fn told(&self, inode: u64, keeps: bool) -> Result<()> {
        let Some(slot) = self.point_of_content(inode) else {
            return Ok(());
        };
        self.holds.told(slot);
        let kept = if keeps { self.keep(slot) } else { Ok(()) };
        if kept.is_err() {
            drop(self.holds.forgotten(slot, 1));
        }
        kept
    }

    /// Opens a file for as long as the kernel knows of something in its point, see [`open`](Tree::open).
    ///
    /// # Errors
    /// As [`open`](Tree::open).
    pub fn open_for_good(&self, inode: u64) -> Result<Content> {
        let content = self.open(inode)?;
        if let Some(slot) = self.point_of_content(inode) {
            self.keep(slot)?;
        }
        Ok(content)
    }

    fn keep(&self, slot: u32) -> Result<()> {
        self.holds
            .keep(slot, || self.open_point(&self.point_at(slot)?))
    }

    /// The kernel has forgotten the number of a node, as many tellings of it. Gives back the point if it stays open for this no longer.
    #[must_use]
    pub fn forgotten(&self, inode: u64, tellings: u64) -> Option<Arc<OpenPoint>> {
        let slot = self.point_of_content(inode)?;
        self.holds.forgotten(slot, tellings)
    }

    /// Whether a node has content in a point, which has to be open for it.
    pub fn is_in_a_point(&self, inode: u64) -> bool {
        self.point_of_content(inode).is_some()
    }

    /// The slot of the point in which a node has content: guests' entries and disks have.
    fn point_of_content(&self, inode: u64) -> Option<u32> {
        if matches!(self.source, Source::Image(_)) {
            return None;
        }
        let (slot, _) = inode::split(inode);
        match self.slots.owner(slot).ok()? {
            Owner::Tree(key) | Owner::Large(key, _) if key.point != IMAGE_SLOT => Some(key.point),
            Owner::Point(_) => match Node::find(inode, false, &self.slots, &self.paths) {
                Ok(Node::Raw(..) | Node::View(..)) => Some(slot),
                _ => None,
            },
            _ => None,
        }
    }

    /// Closes what is kept open for whoever comes next of points that the store has forgotten, and disks that could be written to and that nobody has open. What the kernel
    /// may use stays open: it has to be asked to forget it.
    pub fn close_forgotten(&self) {
        if let Some(overlays) = &self.overlays {
            overlays.close_idle();
        }
        if let Ok(catalog) = self.catalog() {
            catalog.close_forgotten();
        }
    }

    /// Of the points of which the kernel knows something, those that are not in the store any more. Where the store cannot be read just now, none.
    pub fn not_in_store(&self) -> Vec<u32> {
        let Ok(catalog) = self.catalog() else {
            return Vec::new();
        };
        let mut slots = self.holds.slots();
        slots.retain(|slot| match self.point_key_of(*slot) {
            Some(key) => catalog.is_forgotten(&key).unwrap_or(false),
            None => false,
        });
        slots
    }

    /// Names below which the kernel knows what is in a point.
    pub fn entries_of(&self, slot: u32) -> Vec<HeldEntry> {
        let Some(key) = self.point_key_of(slot) else {
            return Vec::new();
        };
        let Ok(folder) = Node::Machine(key.machine.clone()).inode(&self.slots) else {
            return Vec::new();
        };
        let machine = Path::new(&*key.machine);
        let entry = |name: &str| HeldEntry {
            folder,
            path: machine.join(name),
        };
        let mut entries = vec![entry(&Time::from_seconds(key.seconds).folder_name())];
        // The versions of files are entries of points.
        if self.paths_in_use() > 0 {
            entries.push(entry(PastPath::NAME));
        }
        entries
    }

    /// The folder of a point that the store may have forgotten and the kernel knows something of, by its name in a machine's folder; or such a point's machine, by
    /// its name in the root.
    pub fn held_folder(&self, above: u64, name: &[u8]) -> Option<Stat> {
        let above = self.node(above).ok()?;
        let found = self.holds.slots().into_iter().find_map(|slot| {
            let key = self.point_key_of(slot)?;
            match &above {
                Node::Root if key.machine.as_bytes() == name => {
                    Some(Node::Machine(key.machine.clone()))
                }
                Node::Machine(machine) if key.machine == *machine => {
                    let called = Time::from_seconds(key.seconds).folder_name();
                    let point = self.point_at(slot).ok()?;
                    (called.as_bytes() == name).then_some(Node::Point(point))
                }
                _ => None,
            }
        });
        self.stat(&found?).ok()
    }

    fn point_key_of(&self, slot: u32) -> Option<Arc<PointKey>> {
        match self.slots.owner(slot) {
            Ok(Owner::Point(key)) => Some(key),
            _ => None,
        }
    }
}
