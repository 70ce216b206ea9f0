//! Paths below `versions`, by their numbers: those asked for last, so that memory has a bound.
//!
//! A number is a hash of the path, so it is the same in every mount. What was forgotten is learnt again when its path is looked up; until then its number
//! is stale, which the kernel takes as a reason to look it up. Of two paths of one number the first keeps it as long as it is remembered.

use crate::failure::{Failure, Result};
use crate::inode::Hash;
use cairn::{Error, Kind};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Paths that are remembered.
const MOST: usize = 1 << 16;
/// Bytes of all of them together.
const BYTES: usize = 16 << 20;
/// Bytes of the longest: a guest may have nested folders without end, and each of them is a path of its own.
const LONGEST: usize = 64 << 10;
/// Bits of a number.
const BITS: u32 = 38;

/// A path below a machine's `versions`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PastPath {
    /// The machine.
    pub machine: Arc<str>,
    /// `disk0/p1/home/report.odt`; empty for `versions` itself.
    pub path: Arc<[u8]>,
}

impl PastPath {
    /// The folder in a machine's that all of these lie in.
    pub const NAME: &str = "versions";

    /// `versions` of a machine.
    pub fn top(machine: Arc<str>) -> PastPath {
        PastPath {
            machine,
            path: Arc::from(&b""[..]),
        }
    }

    /// What lies in it under a name.
    pub fn child(&self, name: &[u8]) -> PastPath {
        let path = if self.path.is_empty() {
            name.to_vec()
        } else {
            [&*self.path, b"/", name].concat()
        };
        PastPath {
            machine: self.machine.clone(),
            path: path.into(),
        }
    }

    /// The folder it lies in; none for `versions` itself.
    pub fn parent(&self) -> Option<PastPath> {
        if self.path.is_empty() {
            return None;
        }
        let cut = self.path.iter().rposition(|byte| *byte == b'/');
        let path = self.path.get(..cut.unwrap_or(0)).unwrap_or_default();
        Some(PastPath {
            machine: self.machine.clone(),
            path: path.into(),
        })
    }

    /// The names on the way to it.
    pub fn names(&self) -> Vec<&[u8]> {
        let names = self.path.split(|byte| *byte == b'/');
        names.filter(|name| !name.is_empty()).collect()
    }

    /// Its number, in 38 bits.
    pub fn number(&self) -> u64 {
        let hash = Hash::new().add(b"past").add(&self.path).value();
        hash & ((1 << BITS) - 1)
    }
}

/// Slot of the machine, and number of the path.
type Place = (u32, u64);

/// The paths that are remembered.
#[derive(Default)]
pub struct Paths {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    paths: HashMap<Place, (PastPath, u64)>,
    /// Bytes of all paths together.
    bytes: usize,
    clock: u64,
}

impl Paths {
    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.known.lock().paths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The path of a number.
    ///
    /// # Errors
    /// [`Failure::Stale`] if it was forgotten, or never known.
    pub fn get(&self, slot: u32, number: u64) -> Result<PastPath> {
        let mut known = self.known.lock();
        known.clock = known.clock.saturating_add(1);
        let now = known.clock;
        let (path, used) = known.paths.get_mut(&(slot, number)).ok_or(Failure::Stale)?;
        *used = now;
        Ok(path.clone())
    }

    /// Remembers a path of a machine, whose slot is `slot`.
    ///
    /// # Errors
    /// [`Kind::Busy`] if another path has its number; [`Failure::LongPath`] beyond 64 KiB.
    pub fn remember(&self, slot: u32, path: &PastPath) -> Result<()> {
        if path.path.len() > LONGEST {
            return Err(Failure::LongPath);
        }
        let place = (slot, path.number());
        let mut known = self.known.lock();
        known.clock = known.clock.saturating_add(1);
        let now = known.clock;
        match known.paths.get_mut(&place) {
            Some((held, used)) if held == path => *used = now,
            Some(_) => {
                let error = Error::new(Kind::Busy, "another path has the number of this one");
                return Err(error.advise("look at this one in another mount").into());
            }
            None => {
                let bytes = |known: &Known| known.bytes.saturating_add(path.path.len());
                while known.paths.len() >= MOST || bytes(&known) > BYTES {
                    known.forget_half();
                }
                known.bytes = bytes(&known);
                known.paths.insert(place, (path.clone(), now));
            }
        }
        Ok(())
    }
}

impl Known {
    fn forget_half(&mut self) {
        let mut uses: Vec<u64> = self.paths.values().map(|(_, used)| *used).collect();
        if uses.is_empty() {
            self.bytes = 0;
            return;
        }
        let half = uses.len().div_ceil(2).saturating_sub(1);
        let (_, middle, _) = uses.select_nth_unstable(half);
        let middle = *middle;
        self.paths.retain(|_, (_, used)| *used > middle);
        self.bytes = self.paths.values().map(|(path, _)| path.path.len()).sum();
    }
}

#[cfg(test)]
mod tests;
