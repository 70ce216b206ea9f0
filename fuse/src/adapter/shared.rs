//! What all threads that answer share.

use super::contents::Contents;
use super::convert::{LASTING, attributes, errno, ttl};
use super::handles::Handles;
use super::spare::Spare;
use crate::catalog::OpenPoint;
use crate::failure::{Failure, Result};
use crate::stat::Stat;
use crate::tree::{Content, Folder, Found, Listed, Tree};
use cairn::Time;
use fuser::{FileHandle, Generation, INodeNo, ReplyDirectoryPlus, ReplyXattr};
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

/// What all threads that answer share.
pub(super) struct Shared {
    pub(super) tree: Arc<Tree>,
    /// Whether the kernel lets files be read that were not opened, and the tree too.
    pub(super) opens_once: bool,
    pub(super) read: Contents<Content>,
    pub(super) spare: Spare,
    pub(super) files: Handles<Content>,
    pub(super) folders: Handles<Folder>,
}

/// What is closed when it is dropped.
pub(super) struct Closing {
    files: [Option<Arc<Content>>; 2],
    point: Option<Arc<OpenPoint>>,
}

impl Shared {
    /// Of a tree, with nothing open.
    pub(super) fn new(tree: Arc<Tree>) -> Shared {
        Shared {
            tree,
            opens_once: false,
            read: Contents::default(),
            spare: Spare::default(),
            files: Handles::default(),
            folders: Handles::default(),
        }
    }

    /// The file that a request is about: the one that was opened, or the one with that number.
    pub(super) fn content(&self, inode: INodeNo, handle: FileHandle) -> Result<Arc<Content>> {
        if self.opens_once {
            let open = || self.tree.open_for_good(inode.0);
            return self.read.get(inode.0, Content::lasting, open);
        }
        self.files.get(handle)
    }

    /// The node of a name, and how long the kernel may keep the name. The thread that asks the kernel to forget finds also what nobody else does any more.
    pub(super) fn look_up(
        &self,
        thread: u32,
        above: u64,
        name: &[u8],
    ) -> Result<(Found, Duration)> {
        let found = self.tree.lookup(above, name)?;
        if matches!(found, Found::Nothing { .. })
            && self.tree.holds().is_asker(thread)
            && let Some(stat) = self.tree.held_folder(above, name)
        {
            return Ok((Found::Node(Box::new(stat)), Duration::ZERO));
        }
        let keep = match &found {
            Found::Node(stat) => ttl(stat),
            // Only this can be remembered of what is not there.
            Found::Nothing { .. } => LASTING,
        };
        Ok((found, keep))
    }

    /// The kernel is about to be told a number, and may open what it stands for without asking again if it `keeps` the name.
    pub(super) fn told(&self, inode: u64, keeps: bool) -> Result<()> {
        if self.opens_once {
            self.tree.told(inode, keeps)
        } else {
            Ok(())
        }
    }

    /// How long the kernel may keep a name that is listed. That of a version of a file for no time at all: its point is opened when it is asked for.
    fn keep(&self, stat: &Stat) -> Duration {
        if self.opens_once && !stat.lasting && self.tree.is_in_a_point(stat.inode) {
            return Duration::ZERO;
        }
        ttl(stat)
    }

    /// The kernel has forgotten a number, as many tellings of it. What is not needed any more is closed by whoever drops it.
    pub(super) fn forgotten(&self, inode: u64, tellings: u64) -> Option<Closing> {
        let closing = Closing {
            files: self.read.forget(inode),
            point: self.tree.forgotten(inode, tellings),
        };
        let any = closing.point.is_some() || closing.files.iter().any(Option::is_some);
        any.then_some(closing)
    }

    /// It was not told after all.
    pub(super) fn untold(&self, inode: u64) {
        if self.opens_once {
            drop(self.tree.forgotten(inode, 1));
        }
    }

    pub(super) fn generation(&self, inode: u64) -> Generation {
        Generation(self.tree.generation(inode))
    }

    /// Reads on in an open folder. `add` says whether the name had no room any more. If there was a name before an
    /// error, the error comes with the next call.
    pub(super) fn read_folder(
        &self,
        handle: FileHandle,
        offset: u64,
        full: bool,
        add: &mut dyn FnMut(&Listed) -> bool,
    ) -> Result<()> {
        let folder = self.folders.get(handle)?;
        let mut any = false;
        let read = self.tree.read_folder(&folder, offset, full, &mut |listed| {
            if add(&listed) {
                ControlFlow::Break(())
            } else {
                any = true;
                ControlFlow::Continue(())
            }
        });
        match read {
            Err(_) if any => Ok(()),
            other => other,
        }
    }
}

/// Adds a name and what is said of it; says whether it had no room any more.
pub(super) fn add_to(reply: &mut ReplyDirectoryPlus, listed: &Listed, shared: &Shared) -> bool {
    let (stat, keep) = match &listed.stat {
        Some(stat) => (attributes(stat), shared.keep(stat)),
        // Kept for no time at all: whoever asks for it gets the error.
        None => {
            let unknown = Stat::made(listed.inode, listed.kind, 0, 0, Time::default());
            (attributes(&unknown), Duration::ZERO)
        }
    };
    let name = OsStr::from_bytes(&listed.name);
    let inode = INodeNo(listed.inode);
    let generation = shared.generation(listed.inode);
    reply.add(inode, listed.offset, name, &keep, &stat, generation)
}

/// Answers with bytes, or with their number if the caller has no room for them yet.
pub(super) fn answer(value: Result<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match value {
        Err(failure) => reply.error(errno(&failure)),
        Ok(value) => match u32::try_from(value.len()) {
            Ok(length) if size == 0 => reply.size(length),
            Ok(length) if length <= size => reply.data(&value),
            _ => reply.error(errno(&Failure::SmallBuffer)),
        },
    }
}
