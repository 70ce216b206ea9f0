//! `versions`: the folders of paths, the versions in them, and what could not be read.

use crate::failure::{Failure, Result};
use crate::inode::{self, Owner, TreeKey};
use crate::look::Look;
use crate::node::{self, Node};
use crate::past::{History, Version};
use crate::paths::PastPath;
use crate::stat::Stat;
use crate::tree::folder::{Listed, NameSink, kind_of};
use crate::tree::{Found, Tree};
use cairn::{EntryKind, Time};
use std::sync::Arc;

/// Mode of the folders: what they list may have been out of others' sight in some point, whatever it is now.
const MODE: u32 = 0o500;
/// Length of a point's time as a name.
const TIME: usize = 20;

impl Tree {
    /// What there was at a path.
    pub(super) fn history(&self, path: &PastPath) -> Result<Arc<History>> {
        self.pasts.history(self.catalog()?, path)
    }

    /// The node called `name` in the folder of a path. What there was is found out as far as the name needs it.
    pub(super) fn lookup_past(&self, folder: &PastPath, name: &[u8]) -> Result<Found> {
        let catalog = self.catalog()?;
        let mut history = self.pasts.known(catalog, folder)?;
        let is_short = folder.names().is_empty();
        if history.is_none() && (is_short || is_of_a_version(name)) {
            history = Some(self.history(folder)?);
        }
        let mut found = None;
        if let Some(history) = &history {
            if let Some(version) = history.version(name) {
                let stat = self.version_stat(folder, version)?;
                return Ok(Found::Node(Box::new(stat)));
            }
            found = self.in_history(folder, history, name);
        }
        // A history that is whole knows all names.
        if found.is_none() && history.as_ref().is_none_or(|known| known.error.is_some()) {
            found = self.find_past(folder, name, history.is_none())?;
        }
        match found {
            Some(node) => Ok(Found::Node(Box::new(self.stat(&node)?))),
            None => Ok(Found::Nothing { lasting: false }),
        }
    }

    /// The same by looking for this one name; for others that differ in case only if that is wanted.
    fn find_past(&self, folder: &PastPath, name: &[u8], or_other: bool) -> Result<Option<Node>> {
        let child = folder.child(name);
        let existed = self.pasts.existed(self.catalog()?, &child);
        if let Ok(true) = existed {
            return Ok(Some(Node::Past(child)));
        }
        if or_other && self.look.ignore_case {
            let history = self.history(folder)?;
            let found = self.in_history(folder, &history, name);
            if found.is_some() {
                return Ok(found);
            }
        }
        existed.map(|_| None)
    }

    fn in_history(&self, folder: &PastPath, history: &History, name: &[u8]) -> Option<Node> {
        if history.error.as_deref() == Some(name) {
            return Some(Node::PastError(folder.clone()));
        }
        let child = history.child(name).or_else(|| {
            let ignoring = self.look.ignore_case.then_some(&history.names)?;
            Look::only_match(name, ignoring)
        })?;
        Some(Node::Past(folder.child(child)))
    }

    /// A version is the file of its point itself. Its name is not for good: it goes with its point.
    fn version_stat(&self, folder: &PastPath, version: &Version) -> Result<Stat> {
        let inode = self.version_inode(folder, version)?;
        let attributes = version.attributes.clone();
        // Only links need the volume: how long a target is depends on where it leads.
        let mut stat = if attributes.kind == EntryKind::Symlink {
            let tree = self.version_tree(folder, version)?;
            let open = self.volume(&tree)?;
            self.guest_stat(inode, &tree, &open, version.entry, attributes)?
        } else {
            self.entry_stat(inode, attributes)?
        };
        stat.lasting = false;
        Ok(stat)
    }

    fn version_inode(&self, folder: &PastPath, version: &Version) -> Result<u64> {
        let tree = self.version_tree(folder, version)?;
        let slot = self.slots.claim(&Owner::Tree(tree))?;
        node::entry_inode(&self.slots, slot, &tree, version.entry)
    }

    fn version_tree(&self, folder: &PastPath, version: &Version) -> Result<TreeKey> {
        let point = self.point_ref(&folder.machine, &version.point)?;
        Ok(TreeKey {
            point: point.slot,
            disk: version.position,
            partition: version.partition,
            tree: version.entry.tree,
        })
    }

    /// What is said of the folder of a path. Whoever is told its number may come back with it, so the path is remembered.
    pub(super) fn past_stat(&self, path: &PastPath, inode: u64) -> Result<Stat> {
        self.paths.remember(inode::split(inode).0, path)?;
        let points = self.catalog()?.points(&path.machine)?;
        let mode = self.look.private(MODE);
        let stat = Stat::made(inode, EntryKind::Folder, mode, 0, points.changed);
        Ok(stat.new_at(self.born))
    }

    /// Tells the names in the folder of a path behind the first `skipped`: versions, the file of problems, names.
    pub(super) fn read_past(
        &self,
        folder: &PastPath,
        history: &History,
        skipped: u64,
        first_offset: u64,
        sink: NameSink<'_>,
    ) -> Result<()> {
        let start = usize::try_from(skipped).unwrap_or(usize::MAX);
        let versions = history.versions.len();
        let error = usize::from(history.error.is_some());
        let all = versions
            .saturating_add(error)
            .saturating_add(history.names.len());
        let mut offset = first_offset.saturating_add(skipped);
        for at in start..all {
            offset = offset.saturating_add(1);
            let listed = if let Some(version) = history.versions.get(at) {
                Listed {
                    name: version.name.clone(),
                    inode: self.version_inode(folder, version)?,
                    kind: version.attributes.kind,
                    offset,
                    stat: self.version_stat(folder, version).ok(),
                }
            } else {
                let behind = at.saturating_sub(versions);
                let (name, node) = match &history.error {
                    Some(name) if behind == 0 => (name, Node::PastError(folder.clone())),
                    _ => {
                        let name = history.names.get(behind.saturating_sub(error));
                        let name = name.ok_or(Failure::Invalid)?;
                        (name, Node::Past(folder.child(name)))
                    }
                };
                // Found for those who ask for them, one by one: only then the paths are remembered.
                Listed {
                    name: name.clone(),
                    inode: node.inode(&self.slots)?,
                    kind: kind_of(&node),
                    offset,
                    stat: None,
                }
            };
            if sink(listed).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Whether a name is one that only all points can tell of: a version's, or that of the file of problems.
fn is_of_a_version(name: &[u8]) -> bool {
    let time = name
        .get(..TIME)
        .and_then(|time| std::str::from_utf8(time).ok());
    name.starts_with(b".error") || time.is_some_and(|time| Time::parse(time).is_ok())
}
