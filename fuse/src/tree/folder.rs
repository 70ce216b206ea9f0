//! Folders: open ones, read name by name.

use crate::failure::{Failure, Result};
use crate::node::{self, EntryRef, Node, PointRef, name_hash};
use crate::past::History;
use crate::paths::PastPath;
use crate::stat::Stat;
use crate::tree::{OpenVolume, Tree, has_notes, latest};
use cairn::{DirEntry, EntryKind};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Offsets behind `.` and `..`; those of names follow.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
/// Names that are asked of a volume at once when their attributes are wanted too.
const BATCH: usize = 32;
/// The longest name that the kernel takes; a longer one would make it refuse the whole folder.
const LONGEST_NAME: usize = 1024;

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: Vec<u8>,
    /// Its inode number.
    pub inode: u64,
    /// What it is.
    pub kind: EntryKind,
    /// Where reading goes on behind it.
    pub offset: u64,
    /// Its attributes, if they were wanted and could be found at little cost.
    pub stat: Option<Stat>,
}

/// A folder that is open. What the mount itself lists is as it was when the folder was opened.
pub struct Folder {
    inode: u64,
    parent: u64,
    lasting: bool,
    names: Names,
}

enum Names {
    Made(Vec<(String, Node)>),
    Guest(EntryRef, OpenVolume),
    Past(PastPath, Arc<History>),
}

impl Folder {
    /// Whether its names never change, so that the kernel may keep them.
    pub fn lasting(&self) -> bool {
        self.lasting
    }
}

/// Receives names until it breaks; a name at which it breaks is told again when reading goes on.
pub type NameSink<'a> = &'a mut dyn FnMut(Listed) -> ControlFlow<()>;

impl Tree {
    /// Opens a folder.
    ///
    /// # Errors
    /// [`Failure::NotAFolder`]; what finding its names reports.
    pub fn open_folder(&self, inode: u64) -> Result<Folder> {
        self.noted(inode, self.find_folder(inode))
    }

    fn find_folder(&self, inode: u64) -> Result<Folder> {
        let node = self.node(inode)?;
        let parent = self.parent(&node).unwrap_or(inode);
        let names = match &node {
            Node::Entry(entry) => {
                let open = self.volume(&entry.tree)?;
                if open.volume.attributes(entry.id())?.kind != EntryKind::Folder {
                    return Err(Failure::NotAFolder);
                }
                Names::Guest(entry.clone(), open)
            }
            Node::Past(path) => Names::Past(path.clone(), self.history(path)?),
            made => Names::Made(self.children(made)?),
        };
        Ok(Folder {
            inode,
            parent,
            lasting: matches!(node, Node::Entry(_)),
            names,
        })
    }

    /// Tells `sink` the names in an open folder from `offset` on (0: from the start), with attributes if `full`.
    /// An entry whose attributes cannot be read is listed without them.
    ///
    /// # Errors
    /// What the volume reports.
    pub fn read_folder(
        &self,
        folder: &Folder,
        offset: u64,
        full: bool,
        sink: NameSink<'_>,
    ) -> Result<()> {
        for (name, inode, dot) in [(".", folder.inode, DOT), ("..", folder.parent, DOT_DOT)] {
            let listed = Listed {
                name: name.into(),
                inode,
                kind: EntryKind::Folder,
                offset: dot,
                stat: None,
            };
            if offset < dot && sink(listed).is_break() {
                return Ok(());
            }
        }
        let after = offset.saturating_sub(DOT_DOT);
        let read = match &folder.names {
            Names::Made(names) => self.read_made(names, after, full, sink),
            Names::Guest(entry, open) if full => self.read_guest_full(entry, open, after, sink),
            Names::Guest(entry, open) => self.read_guest(entry, open, after, sink),
            Names::Past(path, history) => self.read_past(path, history, after, DOT_DOT, sink),
        };
        self.noted(folder.inode, read)
    }

    /// All names of a folder that is not open, for short ones.
    ///
    /// # Errors
    /// As [`open_folder`](Tree::open_folder) and [`read_folder`](Tree::read_folder).
    pub fn readdir(&self, inode: u64) -> Result<Vec<Listed>> {
        let mut names = Vec::new();
        let folder = self.open_folder(inode)?;
        self.read_folder(&folder, 0, true, &mut |listed| {
            names.push(listed);
            ControlFlow::Continue(())
        })?;
        Ok(names)
    }

    fn read_made(
        &self,
        names: &[(String, Node)],
        after: u64,
        full: bool,
        sink: NameSink<'_>,
    ) -> Result<()> {
        let skipped = usize::try_from(after).unwrap_or(usize::MAX);
        let mut offset = after.saturating_add(DOT_DOT);
        for (name, node) in names.iter().skip(skipped) {
            offset = offset.saturating_add(1);
            // A machine's attributes need a listing of its points: they are found for those who ask for them, one by one.
            let wanted = full && !matches!(node, Node::Machine(_));
            let stat = if wanted { self.stat(node).ok() } else { None };
            let listed = Listed {
                name: name.clone().into_bytes(),
                inode: node.inode(&self.slots)?,
                kind: kind_of(node),
                offset,
                stat,
            };
            if sink(listed).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read_guest(
        &self,
        folder: &EntryRef,
        open: &OpenVolume,
        after: u64,
        sink: NameSink<'_>,
    ) -> Result<()> {
        let mut failed = None;
        open.volume.read_dir(folder.id(), after, &mut |entry| {
            if !can_be_told(&entry.name) {
                return ControlFlow::Continue(());
            }
            match self.listed(folder, entry, None) {
                Ok(listed) => sink(listed),
                Err(failure) => {
                    failed = Some(failure);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// With attributes: in batches, because a volume need not answer questions while it tells names.
    fn read_guest_full(
        &self,
        folder: &EntryRef,
        open: &OpenVolume,
        mut after: u64,
        sink: NameSink<'_>,
    ) -> Result<()> {
        loop {
            let mut batch: Vec<DirEntry> = Vec::with_capacity(BATCH);
            // A damaged folder tells the names it has first, and then what is wrong: so do we.
            let read = open.volume.read_dir(folder.id(), after, &mut |entry| {
                batch.push(entry);
                if batch.len() < BATCH {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            });
            let full = batch.len() >= BATCH;
            for entry in batch {
                // A volume that does not get on would be asked for ever.
                if entry.cookie == after {
                    return Err(Failure::Invalid);
                }
                after = entry.cookie;
                if !can_be_told(&entry.name) {
                    continue;
                }
                let attributes = open.volume.attributes(entry.id).ok();
                let known = attributes.map(|attributes| (open, attributes));
                if sink(self.listed(folder, entry, known)?).is_break() {
                    return Ok(());
                }
            }
            read?;
            if !full {
                return Ok(());
            }
        }
    }

    fn listed(
        &self,
        folder: &EntryRef,
        entry: DirEntry,
        known: Option<(&OpenVolume, cairn::Attributes)>,
    ) -> Result<Listed> {
        let inode = node::entry_inode(&self.slots, folder.slot, &folder.tree, entry.id)?;
        let stat = known.and_then(|(open, attributes)| {
            let stat = self.guest_stat(inode, &folder.tree, open, entry.id, attributes);
            stat.ok()
        });
        Ok(Listed {
            name: entry.name,
            inode,
            kind: entry.kind,
            offset: entry.cookie.saturating_add(DOT_DOT),
            stat,
        })
    }

    /// The folder above, where it is known at little cost.
    pub(super) fn parent(&self, node: &Node) -> Result<u64> {
        let above = match node {
            Node::Machine(_) => Node::Root,
            Node::Point(PointRef { key: Some(key), .. }) => Node::Machine(key.machine.clone()),
            Node::Disks(point) | Node::Files(point) => Node::Point(point.clone()),
            Node::DiskFiles(point, _) => Node::Files(point.clone()),
            Node::Unreadable(point, disk, _) => Node::DiskFiles(point.clone(), *disk),
            Node::Past(path) => match path.parent() {
                Some(parent) => Node::Past(parent),
                None => Node::Machine(path.machine.clone()),
            },
            Node::Entry(entry) => {
                let open = self.volume(&entry.tree)?;
                if entry.id() == open.volume.root() {
                    Node::DiskFiles(self.point_at(entry.tree.point)?, entry.tree.disk)
                } else {
                    let parent = open.volume.parent(entry.id())?.ok_or(Failure::Stale)?;
                    return node::entry_inode(&self.slots, entry.slot, &entry.tree, parent);
                }
            }
            _ => return Err(Failure::Stale),
        };
        above.inode(&self.slots)
    }

    /// The children of a folder that the mount itself makes.
    pub(super) fn children(&self, folder: &Node) -> Result<Vec<(String, Node)>> {
        let mut names = Vec::new();
        match folder {
            Node::Root => {
                let machines = self.catalog()?.machines()?;
                for machine in &machines.names {
                    names.push((machine.to_string(), Node::Machine(machine.clone())));
                }
                for told in &machines.complaints {
                    let node = Node::RootError(name_hash(told.name.as_bytes()));
                    names.push((told.name.clone(), node));
                }
            }
            Node::Machine(machine) => {
                let points = self.catalog()?.points(machine)?;
                for point in &points.points {
                    let node = Node::Point(self.point_ref(machine, point)?);
                    names.push((point.time().folder_name(), node));
                }
                names.extend(latest(machine, &points).map(|node| ("latest".to_string(), node)));
                if !points.points.is_empty() {
                    let past = PastPath::top(machine.clone());
                    names.push((PastPath::NAME.to_string(), Node::Past(past)));
                }
                for told in &points.complaints {
                    let node = Node::MachineError(machine.clone(), name_hash(told.name.as_bytes()));
                    names.push((told.name.clone(), node));
                }
            }
            Node::Point(point) => {
                names.push(("disks".to_string(), Node::Disks(point.clone())));
                names.push(("files".to_string(), Node::Files(point.clone())));
                if self.open_point(point).is_err() {
                    names.push(("point.error".to_string(), Node::PointError(point.clone())));
                }
            }
            Node::Disks(point) => names = self.disk_files(point)?,
            Node::Files(point) => {
                for (position, disk) in self.open_point(point)?.disks().iter().enumerate() {
                    let at = node::disk_position(position)?;
                    names.push((disk.name().to_string(), Node::DiskFiles(point.clone(), at)));
                }
                self.letters(point, &mut names)?;
            }
            Node::DiskFiles(point, disk) => self.partitions(point, *disk, &mut names)?,
            Node::Unreadable(..) => {}
            _ => return Err(Failure::NotAFolder),
        }
        Ok(names)
    }

    fn partitions(
        &self,
        point: &PointRef,
        disk: u16,
        names: &mut Vec<(String, Node)>,
    ) -> Result<()> {
        let open = self.open_point(point)?;
        let Ok(volumes) = open.disk(disk)?.volumes() else {
            let node = Node::PartitionsError(point.clone(), disk);
            names.push(("partitions.error".to_string(), node));
            return Ok(());
        };
        for found in volumes {
            let name = found.folder_name();
            let node = self.partition(point, disk, found)?;
            let failed = matches!(node, Node::Unreadable(..));
            names.push((name.clone(), node));
            if failed {
                let node = Node::VolumeError(point.clone(), disk, found.number());
                names.push((format!("{name}.error"), node));
            }
            if has_notes(found) {
                let node = Node::VolumeNotes(point.clone(), disk, found.number());
                names.push((format!("{name}.notes"), node));
            }
        }
        Ok(())
    }
}

/// Whether the kernel takes a name. Volumes promise as much; one that breaks its promise must not cost its neighbours.
fn can_be_told(name: &[u8]) -> bool {
    (1..=LONGEST_NAME).contains(&name.len()) && !name.contains(&b'/') && !name.contains(&0)
}

pub(super) fn kind_of(node: &Node) -> EntryKind {
    match node {
        Node::Root
        | Node::Machine(_)
        | Node::Point(_)
        | Node::Disks(_)
        | Node::Files(_)
        | Node::DiskFiles(..)
        | Node::Past(_)
        | Node::Unreadable(..) => EntryKind::Folder,
        Node::Latest(..) | Node::Letter(..) => EntryKind::Symlink,
        Node::RootError(_)
        | Node::MachineError(..)
        | Node::PastError(_)
        | Node::PointError(_)
        | Node::LettersNotes(_)
        | Node::PartitionsError(..)
        | Node::VolumeError(..)
        | Node::VolumeNotes(..)
        | Node::Raw(..)
        | Node::View(..) => EntryKind::File,
        // Only ever a volume's root here.
        Node::Entry(_) => EntryKind::Folder,
    }
}
