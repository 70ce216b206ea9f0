//! `$FILE_NAME`: a name of a file, in its record and as the key of a folder's index.

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
        NameView::parse(view).map(|name| name.to_name())
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

/// A [`FileName`] where it lies.
#[derive(Clone, Copy)]
pub struct NameView<'a> {
    parent: Reference,
    flags: u32,
    tag: u32,
    namespace: u8,
    name: &'a [u8],
}

impl<'a> NameView<'a> {
    /// As [`FileName::parse`].
    pub fn parse(view: View<'a>) -> Result<NameView<'a>> {
        let length = usize::from(view.u8(64)?).saturating_mul(2);
        Ok(NameView {
            parent: Reference::new(view.u64_le(0)?),
            flags: view.u32_le(56)?,
            tag: view.u32_le(60)?,
            namespace: view.u8(65)?,
            name: view.slice(66, length)?,
        })
    }

    /// As [`FileName::is_dos`].
    pub fn is_dos(&self) -> bool {
        self.namespace == DOS
    }

    /// The name in UTF-16: at most 255 units.
    pub fn units(&self) -> impl Iterator<Item = u16> + Clone + use<'a> {
        let (pairs, _) = self.name.as_chunks::<2>();
        pairs.iter().map(|pair| u16::from_le_bytes(*pair))
    }

    /// A copy that needs no node.
    pub fn to_name(self) -> FileName {
        FileName {
            parent: self.parent,
            flags: self.flags,
            tag: self.tag,
            name: self.units().collect(),
            namespace: self.namespace,
        }
    }
}
