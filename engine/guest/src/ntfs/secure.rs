//! `$Secure`: the security descriptors of all files, each once. `$SII` leads from the id in a file's `$STANDARD_INFORMATION` to a place in `$SDS`, where
//! each descriptor stands behind a header, in pieces of 256 KiB that each have a copy 256 KiB further on.

use super::attribute::kind;
use super::cache::Cache;
use super::entry::Entry;
use super::mft::Mft;
use super::passing::is_passing;
use super::permissions;
use super::security_descriptor::SecurityDescriptor;
use super::view_index::ViewIndex;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, ReadAt, Result, View};
use std::sync::{Arc, OnceLock};

/// Record of `$Secure`; of `$Quota` before version 3.0, which has no `$SII`.
const SECURE: u64 = 9;
/// From a descriptor to its copy, and the most that one takes.
const COPY: u64 = 256 << 10;
/// Hash, id, offset and length before each descriptor.
const HEADER: usize = 20;
/// Bytes of descriptors kept, if they are no longer than `MAX_KEPT`, and locks for them. Most volumes have a few hundred.
const DESCRIPTORS: (usize, usize) = (8 << 20, 16);
const MAX_KEPT: usize = 8 << 10;
/// Modes kept: 256 KiB.
const MODES: usize = 1 << 14;

/// The mode where a descriptor cannot be read.
const UNREADABLE: Option<u32> = Some(0o500);

/// The bytes of a descriptor, up to the end of its last part.
pub type Descriptor = Arc<Vec<u8>>;

struct Store {
    ids: ViewIndex,
    descriptors: Arc<dyn ReadAt>,
}

/// Finds descriptors, and keeps some.
pub struct Secure {
    store: OnceLock<Option<Store>>,
    kept: Cache<u32, Descriptor>,
    modes: Cache<u32, Option<u32>>,
}

impl Secure {
    /// Nothing is read yet.
    pub fn new() -> Secure {
        Secure {
            store: OnceLock::new(),
            kept: Cache::new(DESCRIPTORS.0, DESCRIPTORS.1),
            modes: Cache::of_count(MODES),
        }
    }

    /// The descriptor of `entry`, whose id is `id` (0: none): that of `$Secure`, else the one in its own `$SECURITY_DESCRIPTOR`, which volumes
    /// before version 3.0 have, and some files of later ones. None if it has neither.
    ///
    /// # Errors
    /// [`Kind::Damaged`] if it cannot be found or is none; what the disk reports.
    pub fn descriptor(&self, mft: &Mft, entry: &Entry, id: u32) -> Result<Option<Descriptor>> {
        let shared = match id {
            0 => Ok(None),
            id => self.shared(mft, id),
        };
        let error = match shared {
            Ok(Some(shared)) => return Ok(Some(shared)),
            Ok(None) => return own(mft, entry),
            Err(error) if is_passing(&error) => return Err(error),
            Err(error) => error,
        };
        match own(mft, entry) {
            Ok(Some(own)) => Ok(Some(own)),
            Err(other) if is_passing(&other) => Err(other),
            _ => Err(error),
        }
    }

    /// The mode that the descriptor of `entry` comes to; none if there is none, or it says nothing. One that is damaged, or lies on a bad sector, gives
    /// nothing to anybody but the owner.
    ///
    /// # Errors
    /// What the disk reports that says nothing of the descriptor.
    pub fn mode(&self, mft: &Mft, entry: &Entry, id: u32) -> Result<Option<u32>> {
        if id == 0 {
            return or_unreadable(own_mode(mft, entry));
        }
        if let Some(known) = self.modes.get(&id) {
            return Ok(known);
        }
        let mode = match self.shared(mft, id) {
            Ok(Some(bytes)) => or_unreadable(mode_of(&bytes))?,
            Ok(None) => return or_unreadable(own_mode(mft, entry)),
            Err(error) if is_passing(&error) => return Err(error),
            Err(error) => match own_mode(mft, entry) {
                Ok(Some(own)) => return Ok(Some(own)),
                Err(other) if is_passing(&other) => return Err(other),
                _ if may_heal(&error) => return Ok(UNREADABLE),
                _ => UNREADABLE,
            },
        };
        self.modes.insert(id, mode, 0);
        Ok(mode)
    }

    fn shared(&self, mft: &Mft, id: u32) -> Result<Option<Descriptor>> {
        if let Some(known) = self.kept.get(&id) {
            return Ok(Some(known));
        }
        let store = match self.store.get() {
            Some(store) => store,
            None => {
                let opened = open(mft)?;
                self.store.get_or_init(|| opened)
            }
        };
        let Some(store) = store else {
            return Ok(None);
        };
        let found = store
            .read(id)
            .map_err(|error| error.context(format!("security descriptor {id}")))?;
        let found = Arc::new(found);
        if found.len() <= MAX_KEPT {
            self.kept.insert(id, found.clone(), found.len());
        }
        Ok(Some(found))
    }
}

fn open(mft: &Mft) -> Result<Option<Store>> {
    let entry = match Entry::load(mft, SECURE) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        entry => entry?,
    };
    let Some(ids) = ViewIndex::open(mft, &entry, "$SII")? else {
        return Ok(None);
    };
    let name: Vec<u16> = "$SDS".encode_utf16().collect();
    let descriptors = entry.open(mft, kind::DATA, &name)?;
    let descriptors = descriptors.ok_or_else(|| Error::damaged("`$Secure` has no `$SDS`"))?;
    Ok(Some(Store { ids, descriptors }))
}

fn own(mft: &Mft, entry: &Entry) -> Result<Option<Descriptor>> {
    match entry.value(mft, kind::SECURITY_DESCRIPTOR, &[], COPY)? {
        Some(bytes) => trimmed(bytes).map(|bytes| Some(Arc::new(bytes))),
        None => Ok(None),
    }
}

/// Cuts off what stands behind the last part.
fn trimmed(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let size = SecurityDescriptor::parse(View::new(&bytes, "security descriptor", 0))?.size;
    bytes.truncate(size);
    Ok(bytes)
}

/// Whether a failure may be gone while the volume is open: what a store has lost is mended, a sector is read after all.
fn may_heal(error: &Error) -> bool {
    error.id().is_some() || error.kind().may_pass()
}

fn or_unreadable(mode: Result<Option<u32>>) -> Result<Option<u32>> {
    match mode {
        Err(error) if !is_passing(&error) => Ok(UNREADABLE),
        mode => mode,
    }
}

fn own_mode(mft: &Mft, entry: &Entry) -> Result<Option<u32>> {
    own(mft, entry)?.map_or(Ok(None), |bytes| mode_of(&bytes))
}

fn mode_of(bytes: &[u8]) -> Result<Option<u32>> {
    let view = View::new(bytes, "security descriptor", 0);
    permissions::mode(&SecurityDescriptor::parse(view)?)
}

impl Store {
    fn read(&self, id: u32) -> Result<Vec<u8>> {
        let found = self.ids.find(&|key| Ok(id.cmp(&key.u32_le(0)?)))?;
        let found = found.ok_or_else(|| Error::damaged("`$Secure` does not have it"))?;
        let place = View::new(&found, "entry of `$SII`", 0);
        let header = place.slice(0, HEADER)?;
        let (offset, length) = (place.u64_le(8)?, u64::from(place.u32_le(16)?));
        if length <= to_u64(HEADER) || length > COPY {
            return Err(place.damaged(16, "an impossible length"));
        }
        let at = |offset: u64| -> Result<Vec<u8>> {
            let length = usize::try_from(length).unwrap_or(0);
            let bytes = read_vec(&self.descriptors, offset, length)?;
            let (head, descriptor) = bytes.split_at_checked(HEADER).unwrap_or_default();
            if head != header {
                let what = "`$SDS` has another header than `$SII`";
                return Err(Error::damaged(what).at_offset(offset));
            }
            if place.u32_le(0)? != hash(descriptor) {
                return Err(Error::damaged("its hash is wrong").at_offset(offset));
            }
            trimmed(descriptor.to_vec())
        };
        at(offset).or_else(|error| {
            let copy = at(offset.saturating_add(COPY));
            copy.map_err(|other| {
                let hope = |error: &Error| (is_passing(error), may_heal(error));
                if hope(&other) > hope(&error) {
                    other
                } else {
                    error
                }
            })
        })
    }
}

/// As `$SDH` and `$SII` have it: each word is added to the sum turned left by three bits.
fn hash(descriptor: &[u8]) -> u32 {
    descriptor.chunks_exact(4).fold(0u32, |sum, word| {
        let word = u32::from_le_bytes(word.try_into().unwrap_or_default());
        sum.rotate_left(3).wrapping_add(word)
    })
}
