//! Reading back what was written.

use crate::copy::content::{Digest, Hash, Written};
use crate::copy::name::join;
use crate::copy::place::{Folder, Inode, inode_of};
use cairn_base::{Error, Kind, Monitor, Result};
use std::sync::Arc;

/// A file that is to be read back.
pub struct Unread {
    /// The path of its folder below the target.
    pub within: Arc<Vec<u8>>,
    /// Its name.
    pub name: Vec<u8>,
    /// What it must be.
    pub hash: Hash,
    /// Which file it was.
    pub inode: Option<Inode>,
}

/// What lies under the name of a file now.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// What was written.
    Same,
    /// Another file.
    Another(Inode),
}

impl Unread {
    /// Reads it back, past what the system has in memory where it lets us, and compares.
    ///
    /// # Errors
    /// [`Kind::Io`] if it is not what was written: it is removed then; as the operating system reports.
    pub fn read_back(&self, root: &Folder, monitor: &dyn Monitor) -> Result<Found> {
        let folder = root.walk(&self.within)?;
        let path = folder.path_of(&self.name);
        let file = folder.read_own(&self.name)?;
        let known = rustix::fs::fstat(&file);
        // What fails is told when it is read.
        let _dropped = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        let written = Written::new(file, path.clone())?;
        if Digest::of(&written, monitor)? == self.hash {
            return Ok(Found::Same);
        }
        // Only what was written is known to be wrong; what took its place may be somebody's.
        let there = known.map(|known| inode_of(&known));
        if let Ok(there) = there
            && self.inode != Some(there)
        {
            return Ok(Found::Another(there));
        }
        folder.remove(&self.name);
        let what = "what was written does not read back as it was; the file was removed";
        Err(Error::new(Kind::Io, what)
            .at_path(path)
            .advise("check the disk it lies on"))
    }

    /// Its path below the target.
    pub fn path(&self) -> Vec<u8> {
        join(&self.within, &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Silent;

    #[test]
    fn only_what_was_written_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let root = Folder::open(temp.path()).unwrap();
        let (one, two) = (temp.path().join("one"), temp.path().join("two"));
        std::fs::write(&one, "content").unwrap();
        let inode = inode_of(&root.stat(b"one").unwrap().unwrap());
        let hash = Digest::of(&b"content".to_vec(), &Silent).unwrap();
        let unread = Unread {
            within: Arc::default(),
            name: b"one".to_vec(),
            hash,
            inode: Some(inode),
        };
        assert_eq!(unread.path(), b"one");
        assert_eq!(unread.read_back(&root, &Silent).unwrap(), Found::Same);
        // Another file took its place.
        std::fs::write(&two, "other").unwrap();
        std::fs::rename(&one, temp.path().join("kept")).unwrap();
        std::fs::rename(&two, &one).unwrap();
        let found = unread.read_back(&root, &Silent).unwrap();
        assert!(matches!(found, Found::Another(_)) && one.exists());
        // The file itself has other bytes.
        std::fs::rename(temp.path().join("kept"), &one).unwrap();
        std::fs::write(&one, "CONTENT").unwrap();
        let error = unread.read_back(&root, &Silent).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(!one.exists());
    }
}
