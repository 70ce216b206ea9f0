//! The store's header: what is fixed at `init`. Three copies, because a lost id key would lose everything.

use crate::codec::{self, Record};
use crate::cut::CutParameters;
use crate::layout::{HEADERS, LOCKS};
use bincode::{Decode, Encode};
use cairn_base::folder::{publish_bytes, read_small, replace_bytes};
use cairn_base::{Error, Folder, Kind, Result};

/// Largest header file read.
const MAX_BYTES: u64 = 64 << 10;

/// Most parity that packs can have, in percent.
pub const MAX_PARITY: u32 = 25;

/// Read flags this program knows. A store with any other is refused.
const KNOWN_READ_FLAGS: u64 = 0;
/// Write flags this program knows. A store with any other is opened read-only.
const KNOWN_WRITE_FLAGS: u64 = 0;

/// What is fixed when a store is made.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Header {
    /// 128 random bits that name the store.
    pub store: [u8; 16],
    /// Features a reader must know.
    pub read_flags: u64,
    /// Features a writer must know.
    pub write_flags: u64,
    /// When it was made, seconds since 1970.
    pub created: i64,
    /// How regions are cut.
    pub cut: CutParameters,
    /// The key all ids derive from.
    pub id_key: [u8; 32],
    /// Parity of packs, in percent of what they hold: 0 to [`MAX_PARITY`].
    pub parity: u32,
}

impl Record for Header {
    const MAGIC: [u8; 8] = *b"CAIRNHDR";
    const VERSION: u32 = 2;
    const NAME: &'static str = "store header";
}

impl Header {
    /// Whether this program may write to the store.
    pub fn writable(&self) -> bool {
        self.write_flags & !KNOWN_WRITE_FLAGS == 0
    }

    /// Writes all copies into a new store.
    pub(crate) fn create(&self, folder: &dyn Folder) -> Result<()> {
        let bytes = codec::seal(self)?;
        for name in HEADERS {
            publish_bytes(folder, &scratch(name), "", name, &bytes)?;
        }
        Ok(())
    }

    /// Reads the header. Copies that are missing or damaged are named in the warnings.
    pub(crate) fn read(folder: &dyn Folder) -> Result<(Header, Vec<String>)> {
        let mut found: Option<Header> = None;
        let mut warnings = Vec::new();
        let mut first_error: Option<Error> = None;
        for name in HEADERS {
            match read_copy(folder, name) {
                Ok(header) => match &found {
                    Some(other) if *other != header => {
                        return Err(Error::damaged("the copies of the store header disagree")
                            .at_path(folder.describe(name))
                            .advise("restore the header files from a copy of the store"));
                    }
                    Some(_) => {}
                    None => found = Some(header),
                },
                // A newer format is not a loss: nothing may be written over it.
                Err(error) if error.kind() == Kind::Unsupported => return Err(error),
                Err(error) => {
                    let what = if error.is_momentary() {
                        "cannot be read now"
                    } else {
                        "is lost"
                    };
                    warnings.push(format!("a copy of the store header {what}: {error}"));
                    first_error = first_error.or(Some(error));
                }
            }
        }
        let Some(header) = found else {
            let error = first_error.unwrap_or_else(|| Error::damaged("no header"));
            return Err(if error.kind() == Kind::NotFound {
                Error::not_found("this is not a store: it has no header")
                    .at_path(folder.describe(""))
                    .advise("make one with `cairn init`, or check the path")
            } else {
                error.context("the store cannot be opened")
            });
        };
        if header.read_flags & !KNOWN_READ_FLAGS != 0 {
            return Err(Error::unsupported(format!(
                "the store uses features this program does not know (flags {:#x})",
                header.read_flags & !KNOWN_READ_FLAGS
            ))
            .at_path(folder.describe(""))
            .advise("use a newer version of cairn"));
        }
        let checked = header
            .cut
            .check()
            .and_then(|()| check_parity(header.parity));
        checked.map_err(|e| e.at_path(folder.describe("")))?;
        Ok((header, warnings))
    }

    /// Each copy as it can be read.
    pub(crate) fn copies(folder: &dyn Folder) -> Vec<(&'static str, Result<Header>)> {
        let names = HEADERS.into_iter();
        names.map(|name| (name, read_copy(folder, name))).collect()
    }

    /// Feature flags of the store that this program does not know: for reading, for writing.
    pub fn unknown_flags(&self) -> (u64, u64) {
        (
            self.read_flags & !KNOWN_READ_FLAGS,
            self.write_flags & !KNOWN_WRITE_FLAGS,
        )
    }

    /// Writes lost copies anew. The caller holds the publish lock.
    pub(crate) fn heal(&self, folder: &dyn Folder) -> Result<()> {
        let bytes = codec::seal(self)?;
        for name in HEADERS {
            if matches!(read_copy(folder, name), Err(error) if !error.is_momentary()) {
                replace_bytes(folder, &scratch(name), "", name, &bytes)?;
            }
        }
        Ok(())
    }
}

/// Refuses more parity than there can be.
///
/// # Errors
/// [`Kind::Invalid`].
pub fn check_parity(percent: u32) -> Result<()> {
    if percent <= MAX_PARITY {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "{percent} percent of parity: at most {MAX_PARITY} are possible"
        )))
    }
}

fn scratch(name: &str) -> String {
    format!("{LOCKS}/{name}.new")
}

fn read_copy(folder: &dyn Folder, name: &str) -> Result<Header> {
    let bytes = read_small(folder, name, MAX_BYTES)?;
    codec::open(&bytes).map_err(|e: Error| e.at_path(folder.describe(name)))
}
