//! Extended attributes of guests' entries, and named streams of NTFS as attributes `user.ntfs.streams.<name>`.

use crate::failure::{Failure, Result};
use crate::node::Node;
use crate::tree::Tree;
use cairn::ReadAt;

/// The longest value, and the longest list of names, that Linux passes on.
const LONGEST: usize = 64 << 10;
/// What the names of access control lists begin with.
const ACL: &[u8] = b"system.posix_acl_";
/// What stands before the name of a stream.
const STREAM: &[u8] = b"user.ntfs.streams.";

impl Tree {
    /// Access control lists would contradict owners and modes that are not the guest's.
    fn is_shown(&self, name: &[u8]) -> bool {
        self.look.is_the_guests() || !name.starts_with(ACL)
    }

    /// The names of the extended attributes that programs should take along, each followed by a NUL byte. There may be others, which are told to whoever
    /// asks for them by name.
    ///
    /// # Errors
    /// [`Failure::TooLong`] beyond 64 KiB; what the volume reports.
    pub fn listxattr(&self, inode: u64) -> Result<Vec<u8>> {
        let Node::Entry(entry) = self.node(inode)? else {
            return Ok(Vec::new());
        };
        // The point stays open as long as it is read.
        let open = self.volume(&entry.tree)?;
        let volume = &open.volume;
        let mut names = Vec::new();
        for (name, _) in volume.listed_xattrs(entry.id())? {
            if !self.is_shown(&name) {
                continue;
            }
            names.extend_from_slice(&name);
            names.push(0);
        }
        for stream in volume.streams(entry.id())? {
            names.extend_from_slice(STREAM);
            names.extend_from_slice(&stream.name);
            names.push(0);
        }
        if names.len() > LONGEST {
            return Err(Failure::TooLong);
        }
        Ok(names)
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// [`Failure::NoAttribute`]; [`Failure::TooLong`] for a value or a stream of more than 64 KiB; what the volume reports.
    pub fn getxattr(&self, inode: u64, name: &[u8]) -> Result<Vec<u8>> {
        let Node::Entry(entry) = self.node(inode)? else {
            return Err(Failure::NoAttribute);
        };
        let open = self.volume(&entry.tree)?;
        let volume = &open.volume;
        if !self.is_shown(name) {
            return Err(Failure::NoAttribute);
        }
        let Some(wanted) = name.strip_prefix(STREAM) else {
            let value = volume.xattr(entry.id(), name)?;
            let value = value.ok_or(Failure::NoAttribute)?;
            return if value.len() > LONGEST {
                Err(Failure::TooLong)
            } else {
                Ok(value)
            };
        };
        let streams = volume.streams(entry.id())?;
        let stream = streams.iter().find(|stream| stream.name == wanted);
        let stream = stream.ok_or(Failure::NoAttribute)?;
        let length = usize::try_from(stream.size).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(Failure::TooLong);
        }
        let mut value = vec![0; length];
        volume
            .open_stream(entry.id(), &stream.name)?
            .read_exact_at(0, &mut value)?;
        Ok(value)
    }
}
