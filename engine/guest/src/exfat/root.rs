//! What the root folder tells of the volume: its label, its GUID, the map of clusters and the up-case table (specification, section 7.1 to 7.5).

use super::upcase;
use crate::fat::chain::Chain;
use crate::fat::content::Content;
use crate::fat::table::Table;
use crate::ntfs::passing::is_passing;
use crate::ntfs::upcase::UpCase;
use crate::partition::guid_text;
use crate::volume::Note;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, Result, View};
use std::sync::Arc;

const BITMAP: u8 = 0x81;
const UPCASE: u8 = 0x82;
const LABEL: u8 = 0x83;
const GUID: u8 = 0xA0;
/// Units of a label at most.
const MAX_LABEL: u8 = 11;

/// A file that no name leads to: where it begins, and its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Nameless {
    cluster: u32,
    size: u64,
}

/// What was found in the root folder.
#[derive(Default)]
pub struct Root {
    /// The label, empty if none.
    pub label: String,
    guid: Option<[u8; 16]>,
    bitmap: Option<Nameless>,
    upcase: Option<(Nameless, u32)>,
}

impl Root {
    /// Takes an entry that is none of a file's. `active` says which of two maps counts.
    ///
    /// # Errors
    /// None that a whole entry has: they all are 32 bytes long.
    pub fn take(&mut self, view: View<'_>, active: u8) -> Result<()> {
        let nameless = || {
            Ok::<Nameless, Error>(Nameless {
                cluster: view.u32_le(20)?,
                size: view.u64_le(24)?,
            })
        };
        match view.u8(0)? {
            BITMAP if view.u8(1)? & 1 == active => self.bitmap = Some(nameless()?),
            UPCASE => self.upcase = Some((nameless()?, view.u32_le(4)?)),
            LABEL => {
                let length = usize::from(view.u8(1)?.min(MAX_LABEL));
                let units: Result<Vec<u16>> = (0..length)
                    .map(|unit| view.u16_le(unit.saturating_mul(2).saturating_add(2)))
                    .collect();
                self.label = String::from_utf16_lossy(&units?);
            }
            GUID => self.guid = Some(view.array(6)?),
            _ => {}
        }
        Ok(())
    }

    /// The volume's GUID as text, if it has one.
    pub fn guid(&self) -> Option<String> {
        self.guid.as_ref().map(guid_text)
    }

    /// The volume's up-case table; one made from Unicode, and a note, where it cannot be used.
    ///
    /// # Errors
    /// What may pass.
    pub fn read_upcase(&self, table: &Arc<Table>, notes: &mut Vec<Note>) -> Result<UpCase> {
        let why = match self.try_upcase(table) {
            Ok(found) => return Ok(found),
            Err(error) if is_passing(&error) => return Err(error),
            Err(error) => error,
        };
        notes.push(Note::defect(format!(
            "The table of capital letters cannot be used ({why}): names are found by another one."
        )));
        Ok(UpCase::built_in())
    }

    fn try_upcase(&self, table: &Arc<Table>) -> Result<UpCase> {
        let Some((place, sum)) = self.upcase else {
            return Err(Error::damaged("it is not there"));
        };
        if place.size == 0 || place.size > upcase::MAX_BYTES {
            return Err(Error::damaged("its length is impossible"));
        }
        let content = open(table, place, "up-case table")?;
        let bytes = read_vec(&content, 0, usize::try_from(place.size).unwrap_or(0))?;
        if upcase::checksum(&bytes) != sum {
            return Err(Error::damaged("its checksum is wrong"));
        }
        Ok(upcase::decode(&bytes))
    }

    /// The map of clusters in use.
    ///
    /// # Errors
    /// Damaged if there is none, or none that covers all clusters.
    pub fn bitmap(&self, table: &Arc<Table>) -> Result<Content> {
        let place = self
            .bitmap
            .ok_or_else(|| Error::damaged("there is no map of clusters in use"))?;
        let needed = u64::from(table.heap().count().div_ceil(8));
        if place.size < needed {
            return Err(Error::damaged(format!(
                "the map of clusters in use has {} bytes, where {needed} are needed",
                place.size
            )));
        }
        let size = place.size.min(needed);
        open(table, Nameless { size, ..place }, "map of clusters in use")
    }
}

fn open(table: &Arc<Table>, place: Nameless, name: &str) -> Result<Content> {
    let heap = table.heap();
    let chain = Chain::linked(heap, place.cluster, heap.clusters_of(place.size))
        .map_err(|error| error.context(name.to_string()))?;
    Ok(Content::new(
        table.clone(),
        Some(Arc::new(chain)),
        place.size,
        place.size,
        name.to_string(),
    ))
}
