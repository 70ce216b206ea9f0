//! `$FILE_NAME`: a name of a file, in its record and as the key of a folder's index.

use super::attribute::units;
use super::record::Reference;
use cairn_base::{Result, View};

/// Bit of the attributes in a name that says "has a folder index".
const IS_FOLDER: u32 = 0x1000_0000;
const DOS: u8 = 2;

/// A name and what it says of its file.
#[derive(Debug, Clone)]
pub struct FileName {
    /// The folder it stands in.
    pub parent: Reference,
    /// FILE_ATTRIBUTE_*, as old as the last time the guest wrote the name.
    pub flags: u32,
    /// The reparse tag, if the attributes say that there is one.
    pub tag: u32,
    /// UTF-16.
    pub name: Vec<u16>,
    namespace: u8,
}

impl FileName {
    /// Decodes the value of the attribute or the key of an index entry.
    pub fn parse(view: View<'_>) -> Result<FileName> {
        let length = usize::from(view.u8(64)?).saturating_mul(2);
        Ok(FileName {
            parent: Reference::new(view.u64_le(0)?),
            flags: view.u32_le(56)?,
            tag: view.u32_le(60)?,
            namespace: view.u8(65)?,
            name: units(view.slice(66, length)?),
        })
    }

    /// Whether it is only the 8.3 form of another name.
    pub fn is_dos(&self) -> bool {
        self.namespace == DOS
    }

    /// Whether it has the 8.3 form: as one of two names of a file, or as its only one.
    pub fn is_short(&self) -> bool {
        self.namespace & DOS != 0
    }

    /// Whether it names a folder.
    pub fn is_folder(&self) -> bool {
        self.flags & IS_FOLDER != 0
    }
}
