//! `$OBJECT_ID`: by which links find a file that was moved ([MS-FSCC] section 2.1.3).

use super::attribute::kind;
use super::entry::Entry;
use super::folder::{Blocks, Folder};
use super::mft::Mft;
use super::passing::is_passing;
use super::record::Reference;
use super::upcase::UpCase;
use super::view_index::ViewIndex;
use cairn_base::{Result, View};
use std::cmp::Ordering;
use std::sync::OnceLock;

/// Record of `$Extend`.
const EXTEND: u64 = 11;
/// An id, and the ids of volume, object and domain it was born with.
const MAX_BYTES: u64 = 64;
const GUID: usize = 16;

/// Finds what ids a file was born with: they stand in the index `$O` of `$Extend/$ObjId`, not in the file.
pub struct ObjectIds {
    index: OnceLock<Option<ViewIndex>>,
}

impl ObjectIds {
    /// Nothing is read yet.
    pub fn new() -> ObjectIds {
        ObjectIds {
            index: OnceLock::new(),
        }
    }

    /// The id of `entry`, 16 bytes; followed by the ids of volume, object and domain that it was born with, 16 bytes each, if they are known.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the attribute is; where the index is, or cannot be read, the id comes by itself.
    /// What the disk reports that says nothing of the index.
    pub fn of(
        &self,
        mft: &Mft,
        names: (&Blocks, &UpCase),
        entry: &Entry,
    ) -> Result<Option<Vec<u8>>> {
        let Some(value) = entry.value(mft, kind::OBJECT_ID, &[], MAX_BYTES)? else {
            return Ok(None);
        };
        let id: [u8; GUID] = View::new(&value, "object id", 0).array(0)?;
        let mut whole = id.to_vec();
        match self.born(mft, names, entry.number, id) {
            Ok(born) => whole.extend(born.unwrap_or_default()),
            Err(error) if is_passing(&error) => return Err(error),
            Err(_) => {}
        }
        Ok(Some(whole))
    }

    fn born(
        &self,
        mft: &Mft,
        names: (&Blocks, &UpCase),
        number: u64,
        id: [u8; GUID],
    ) -> Result<Option<Vec<u8>>> {
        let index = match self.index.get() {
            Some(index) => index,
            None => {
                let opened = open(mft, names)?;
                self.index.get_or_init(|| opened)
            }
        };
        let Some(index) = index else {
            return Ok(None);
        };
        // COLLATION_NTOFS_ULONGS: word by word.
        let found = index.find(&|key| {
            let wanted = View::new(&id, "object id", 0);
            for at in [0, 4, 8, 12] {
                match wanted.u32_le(at)?.cmp(&key.u32_le(at)?) {
                    Ordering::Equal => {}
                    order => return Ok(order),
                }
            }
            Ok(Ordering::Equal)
        })?;
        let Some(found) = found else { return Ok(None) };
        let view = View::new(&found, "entry of `$ObjId`", 0);
        // It may be another file's.
        let is_its = Reference::new(view.u64_le(0)?).number == number && view.len() == 56;
        Ok(is_its.then(|| found.get(8..).unwrap_or_default().to_vec()))
    }
}

fn open(mft: &Mft, (blocks, upcase): (&Blocks, &UpCase)) -> Result<Option<ViewIndex>> {
    let name: Vec<u16> = "$ObjId".encode_utf16().collect();
    let folder = Folder::open(mft, &Entry::load(mft, EXTEND)?)?;
    let Some(found) = folder.find(blocks, upcase, &name)? else {
        return Ok(None);
    };
    let entry = Entry::load(mft, found.file.number)?;
    ViewIndex::open(mft, &entry, "$O")
}
