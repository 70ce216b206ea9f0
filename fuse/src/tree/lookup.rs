//! Looking up names.

use crate::failure::Result;
use crate::look::{Look, fold};
use crate::node::{self, EntryRef, Node};
use crate::tree::{Found, Tree};
use cairn::{DirEntry, Volume};
use std::ops::ControlFlow;

impl Tree {
    /// The node called `name` in a folder; `.` is the node itself, whatever it is, and `..` the folder above.
    ///
    /// # Errors
    /// What finding it reports; that there is none is no error.
    pub fn lookup(&self, folder: u64, name: &[u8]) -> Result<Found> {
        self.noted(folder, self.find_in(folder, name))
    }

    fn find_in(&self, inode: u64, name: &[u8]) -> Result<Found> {
        let folder = self.node(inode)?;
        if name == b"." {
            return Ok(Found::Node(Box::new(self.stat(&folder)?)));
        }
        if name == b".." {
            // The path says what is above it, though the number of that may have been forgotten.
            if let Node::Past(path) = &folder
                && let Some(above) = path.parent()
            {
                return Ok(Found::Node(Box::new(self.stat(&Node::Past(above))?)));
            }
            let above = self.node(self.parent(&folder)?)?;
            return Ok(Found::Node(Box::new(self.stat(&above)?)));
        }
        if let Node::Past(path) = &folder {
            return self.lookup_past(path, name);
        }
        if let Node::Entry(entry) = &folder {
            return self.lookup_entry(entry, name);
        }
        let lasting = match &folder {
            Node::Disks(_) => true,
            Node::Files(point) => self.knows_all_letters(point, name),
            _ => false,
        };
        let found = match self.child(&folder, name)? {
            None if self.look.ignore_case => self.child_ignoring_case(&folder, name)?,
            found => found,
        };
        match found {
            Some(node) => Ok(Found::Node(Box::new(self.stat(&node)?))),
            None => Ok(Found::Nothing { lasting }),
        }
    }

    fn lookup_entry(&self, folder: &EntryRef, name: &[u8]) -> Result<Found> {
        let open = self.volume(&folder.tree)?;
        let found = match open.volume.lookup(folder.id(), name)? {
            None => self.entry_ignoring_case(&*open.volume, folder, name)?,
            found => found,
        };
        let Some(found) = found else {
            return Ok(Found::Nothing { lasting: true });
        };
        let inode = node::entry_inode(&self.slots, folder.slot, &folder.tree, found.id)?;
        let attributes = open.volume.attributes(found.id)?;
        let stat = self.guest_stat(inode, &folder.tree, &open, found.id, attributes)?;
        Ok(Found::Node(Box::new(stat)))
    }

    /// Of the names in a guest's folder the one that differs in case only, if that is asked for.
    fn entry_ignoring_case(
        &self,
        volume: &dyn Volume,
        folder: &EntryRef,
        name: &[u8],
    ) -> Result<Option<DirEntry>> {
        if !self.look.ignore_case || volume.info().ignores_case {
            return Ok(None);
        }
        let wanted = fold(name);
        let (mut found, mut several) = (None, false);
        volume.read_dir(folder.id(), 0, &mut |entry| {
            if fold(&entry.name) == wanted {
                several = found.replace(entry).is_some();
            }
            if several {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(found.filter(|_| !several))
    }

    /// The same in a folder that the mount itself makes.
    fn child_ignoring_case(&self, folder: &Node, name: &[u8]) -> Result<Option<Node>> {
        let children = self.children(folder)?;
        let names = children.iter().map(|(name, _)| name.as_bytes());
        let Some(found) = Look::only_match(name, names) else {
            return Ok(None);
        };
        self.child(folder, found)
    }
}

#[cfg(test)]
mod tests;
