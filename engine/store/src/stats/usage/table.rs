//! The chunks of a store with what each takes in its pack, as packs' tables of contents tell; and what is found out about each of them.

use crate::pack::PackReader;
use crate::store::Store;
use cairn_base::units::to_u64;
use cairn_base::{ChunkId, Error, Kind, Monitor, PackId, Result};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Memory of a chunk in the table, about: a key, a record and a byte, in a table that is half empty at worst.
pub const CHUNK_MEMORY: u64 = 96;
/// How often packs that were merged away meanwhile make the tables be read again.
const ATTEMPTS: usize = 5;

/// No point.
pub const NOBODY: u32 = u32::MAX;

/// Who needs a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// As far as is known, nobody.
    None,
    /// One point, by its number.
    Point(u32),
    /// Several points of one machine, by its number.
    Machine(u32),
    /// Points of several machines.
    Many,
}

/// What is known of a chunk.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// Where the point that is looked at names it, in number.
    pub references: u32,
    /// The point from which on it is needed without interruption; if it is not needed now, the one from which on it was.
    pub since: u32,
    /// What it takes in its pack, in bytes.
    pub cost: u32,
    /// Who needed it, but for the time since `since` if it is needed now.
    pub owner: Owner,
    /// Whether one of these is not among the points that are to be forgotten.
    pub kept: bool,
}

/// Bytes of packs that are no chunk's alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackBytes {
    /// All live packs.
    pub all: u64,
    /// Of that: headers, tables of contents, parity and footers.
    pub overhead: u64,
    /// Of that: chunks that lie in another pack as well.
    pub duplicates: u64,
    /// Of that: packs that could not be read.
    pub unread: u64,
}

/// The part of all ids that is looked at in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Number of the pass, from 0.
    pub pass: u64,
    /// Number of passes, not 0.
    pub passes: u64,
}

impl Part {
    /// Whether the chunk is looked at in this pass. Ids are hashes, so each pass has as many.
    pub fn has(&self, id: &ChunkId) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = id.0;
        let key = u128::from(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        (key * u128::from(self.passes)) >> 64 == u128::from(self.pass)
    }
}

/// The chunks of one part of all ids, by the first halves of their ids.
pub struct Table {
    /// Which part.
    pub part: Part,
    /// The chunks.
    pub chunks: HashMap<[u8; 16], Record>,
}

impl Table {
    /// The chunks in the tables of contents of all live packs, each once; the bytes of packs that are nobody's are added to `bytes` (by the first pass; duplicates by
    /// each). Packs that cannot be read are told to the monitor, once, and are in `damaged`.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] on request; as the folder reports.
    pub fn read(
        store: &Store,
        part: Part,
        bytes: &mut PackBytes,
        damaged: &mut Vec<Error>,
        monitor: &dyn Monitor,
    ) -> Result<Table> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (mut found, mut bad) = (*bytes, Vec::new());
            let read = Table::try_read(store, part, &mut found, &mut bad, monitor);
            match read {
                // Merged with others meanwhile: the newer state says where the chunks are.
                Err(error) if error.kind() == Kind::NotFound && attempt < ATTEMPTS => {
                    store.refresh()?;
                }
                read => {
                    *bytes = found;
                    if part.pass == 0 {
                        damaged.append(&mut bad);
                    }
                    return read;
                }
            }
        }
    }

    fn try_read(
        store: &Store,
        part: Part,
        bytes: &mut PackBytes,
        damaged: &mut Vec<Error>,
        monitor: &dyn Monitor,
    ) -> Result<Table> {
        let packs = store.live_packs();
        let expected = store.index().entries() / part.passes;
        let mut table = Table {
            part,
            chunks: HashMap::with_capacity(usize::try_from(expected).unwrap_or(0)),
        };
        for row in packs {
            if monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            let pack = open(store, row.id)?;
            let first = part.pass == 0;
            if first {
                bytes.all = bytes.all.saturating_add(row.length);
            }
            match pack {
                Ok(pack) => {
                    let frames = table.add(&pack, bytes);
                    if first {
                        let rest = row.length.saturating_sub(frames);
                        bytes.overhead = bytes.overhead.saturating_add(rest);
                    }
                }
                Err(error) => {
                    damaged.push(error);
                    if first {
                        bytes.unread = bytes.unread.saturating_add(row.length);
                    }
                }
            }
        }
        Ok(table)
    }

    /// Adds the chunks of a pack; answers the bytes of its frames.
    fn add(&mut self, pack: &PackReader, bytes: &mut PackBytes) -> u64 {
        let mut all = 0u64;
        for (frame, chunks) in pack.frames() {
            let (stored, raw) = (u64::from(frame.stored), u64::from(frame.raw).max(1));
            all = all.saturating_add(stored);
            let mut at = 0u64;
            for chunk in chunks {
                let end = at.saturating_add(u64::from(chunk.length));
                // Cut so that the shares of a frame's chunks add up to it.
                let share = |plain: u64| plain.saturating_mul(stored) / raw;
                let cost = share(end).saturating_sub(share(at));
                at = end;
                if !self.part.has(&chunk.id) {
                    continue;
                }
                match self.chunks.entry(chunk.id.prefix()) {
                    Entry::Occupied(_) => bytes.duplicates = bytes.duplicates.saturating_add(cost),
                    Entry::Vacant(vacant) => {
                        vacant.insert(Record {
                            references: 0,
                            since: NOBODY,
                            cost: u32::try_from(cost).unwrap_or(u32::MAX),
                            owner: Owner::None,
                            kept: false,
                        });
                    }
                }
            }
        }
        all
    }
}

/// Opens a pack, through its parity if need be; the inner error is damage. An error if it is not there, and need not be.
fn open(store: &Store, id: PackId) -> Result<Result<PackReader>> {
    let (folder, of) = (&**store.folder(), store.header().store);
    match PackReader::open(folder, of, id) {
        Err(error) if error.kind() == Kind::NotFound => {
            if !store.is_still_live(id)? {
                return Err(error);
            }
            Ok(Err(Error::damaged("a pack of the store is missing")
                .with_id(id)
                .caused_by(error)))
        }
        Err(error) if error.kind() == Kind::Damaged => {
            let healed = PackReader::open_healed(folder, of, id);
            Ok(healed.map(|(pack, _)| pack).map_err(|_| error))
        }
        pack => Ok(pack),
    }
}

/// How many passes it takes if the table may have so many bytes.
pub fn passes(entries: u64, memory: u64) -> u64 {
    entries
        .saturating_mul(CHUNK_MEMORY)
        .div_ceil(memory.max(4 << 10))
        .max(1)
}

/// As a number that fits into memory.
pub fn count(length: usize) -> u32 {
    u32::try_from(to_u64(length)).unwrap_or(NOBODY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chunk_belongs_to_one_pass() {
        for passes in [1, 2, 3, 7, 1000] {
            for seed in 0u64..500 {
                let id = ChunkId(*blake3::hash(&seed.to_le_bytes()).as_bytes());
                let parts = (0..passes).map(|pass| Part { pass, passes });
                assert_eq!(parts.filter(|part| part.has(&id)).count(), 1);
            }
        }
        let last = Part { pass: 6, passes: 7 };
        assert!(last.has(&ChunkId([0xff; 32])) && !last.has(&ChunkId([0; 32])));
    }

    #[test]
    fn memory_decides_the_number_of_passes() {
        assert_eq!(passes(0, 1 << 30), 1);
        assert_eq!(passes(1 << 20, 96 << 20), 1);
        assert_eq!(passes((1 << 20) + 1, 96 << 20), 2);
        assert_eq!(passes(1 << 20, 0), 96 << 8);
    }
}
