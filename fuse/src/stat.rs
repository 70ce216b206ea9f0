//! What is said of a node.

use crate::failure::Result;
use cairn::{Attributes, EntryKind, Error, Time};

/// Bytes of a block in `st_blocks`.
pub const BLOCK: u64 = 512;

/// What is said of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its inode number.
    pub inode: u64,
    /// Its attributes, as the guest has them.
    pub attributes: Attributes,
    /// Whether neither they nor the node's name ever change, so that the kernel may keep them.
    pub lasting: bool,
}

impl Stat {
    /// A guest's entry.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn::Kind::Damaged) for a size that no system call can pass on.
    pub fn of_entry(inode: u64, attributes: Attributes) -> Result<Stat> {
        if i64::try_from(attributes.size).is_err() {
            return Err(Error::damaged(format!("a file of {} bytes", attributes.size)).into());
        }
        Ok(Stat {
            inode,
            attributes,
            lasting: true,
        })
    }

    /// A node that the mount itself makes.
    pub fn made(inode: u64, kind: EntryKind, mode: u32, size: u64, time: Time) -> Stat {
        Stat {
            inode,
            attributes: Attributes {
                kind,
                size,
                allocated: size,
                mode,
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
                links: 1,
                device: None,
                modified: time,
                changed: time,
                accessed: time,
                created: Some(time),
                dos_flags: 0,
            },
            lasting: false,
        }
    }

    /// A folder that the mount itself makes.
    pub fn folder(inode: u64, time: Time) -> Stat {
        Stat::made(inode, EntryKind::Folder, 0o555, 0, time)
    }

    /// The same, by its change time not older than `time`: what the mount makes may have been another in the mount before.
    pub fn new_at(mut self, time: Time) -> Stat {
        self.attributes.changed = self.attributes.changed.max(time);
        self
    }

    /// The same, for good.
    pub fn for_good(self) -> Stat {
        Stat {
            lasting: true,
            ..self
        }
    }

    /// Allocated blocks of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.attributes.allocated.div_ceil(BLOCK)
    }

    /// Number of names, never 0; at least 2 for a folder, as every folder on Linux has.
    pub fn links(&self) -> u32 {
        let least = if self.attributes.kind == EntryKind::Folder {
            2
        } else {
            1
        };
        self.attributes.links.max(least)
    }

    /// The device number as the kernel packs it in 32 bits: 12 of the major, 20 of the minor number.
    pub fn device(&self) -> u32 {
        let (major, minor) = self.attributes.device.unwrap_or((0, 0));
        (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
    }
}
