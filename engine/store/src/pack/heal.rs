//! Reading a damaged pack as it was written, as far as its parity goes.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::pack::footer::{FOOTER_LEN, Footer, MAGIC};
use crate::parity::Restorer;
use crate::parity::restore::Restored;
use crate::parity::shape::{SHARD, STRIPE};
use cairn_base::error::unless_lost;
use cairn_base::read_at::{check_range, read_vec};
use cairn_base::units::to_u64;
use cairn_base::{Error, PackId, ReadAt, Result};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a full stripe.
const STRIPE_LEN: u64 = 4 << 20;
const _: () = assert!(STRIPE * SHARD == 4 << 20);
/// Restored stripes that are kept.
const KEPT: usize = 2;
/// A lost footer is looked for in pieces of this many bytes.
const PIECE: u64 = 1 << 20;

/// A pack whose damaged sectors are computed from its parity. What is read may still be wrong where there is more damage than parity
/// notices: whoever reads must check tags and ids, as always.
pub struct Healed {
    file: Arc<dyn ReadAt>,
    restorer: Restorer,
    footer: Footer,
    footer_bytes: Vec<u8>,
    recent: Mutex<Recent>,
}

/// What was restored.
#[derive(Default)]
struct Recent {
    /// The last stripes, those used last first.
    stripes: Vec<(u64, Arc<Restored>)>,
    /// How many sectors of each stripe were damaged: one that is restored again is not counted again.
    damaged: BTreeMap<u64, usize>,
}

impl Recent {
    fn get(&self, number: u64) -> Option<Arc<Restored>> {
        let found = self.stripes.iter().find(|(of, _)| *of == number);
        found.map(|(_, stripe)| stripe.clone())
    }
}

impl Healed {
    /// The pack `id` of the store `store` in `file`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it has no parity, or neither footer can be found; if something cannot be read now,
    /// which says nothing of the pack.
    pub fn new(file: Arc<dyn ReadAt>, store: [u8; 16], id: PackId) -> Result<Healed> {
        let footer = find_footer(&*file, store, id)?;
        let Some(shape) = footer.shape()? else {
            return Err(Error::damaged("the pack has no parity"));
        };
        Ok(Healed {
            restorer: Restorer::new(file.clone(), id, shape)?,
            file,
            footer_bytes: footer.encode(),
            footer,
            recent: Mutex::default(),
        })
    }

    /// How many damaged sectors were restored so far.
    pub fn sectors(&self) -> usize {
        self.recent.lock().damaged.values().sum()
    }

    /// Protected bytes at `range` of one stripe.
    fn protected(&self, range: Range<u64>, buffer: &mut [u8]) -> Result<()> {
        if let Some(bytes) = self.restorer.whole(range.clone())?
            && bytes.len() == buffer.len()
        {
            buffer.copy_from_slice(&bytes);
            return Ok(());
        }
        let number = range.start.checked_div(STRIPE_LEN).unwrap_or(0);
        let within = range.start.checked_rem(STRIPE_LEN).unwrap_or(0);
        let stripe = self.stripe(number)?;
        let start = usize::try_from(within).unwrap_or(usize::MAX);
        let bytes = stripe.bytes.get(start..);
        match bytes.and_then(|bytes| bytes.get(..buffer.len())) {
            Some(bytes) => buffer.copy_from_slice(bytes),
            None => return Err(Error::damaged("a restored stripe is too short")),
        }
        Ok(())
    }

    fn stripe(&self, number: u64) -> Result<Arc<Restored>> {
        if let Some(stripe) = self.recent.lock().get(number) {
            return Ok(stripe);
        }
        let restored = self
            .restorer
            .stripe(usize::try_from(number).unwrap_or(usize::MAX))?;
        let mut recent = self.recent.lock();
        if let Some(stripe) = recent.get(number) {
            return Ok(stripe);
        }
        let most = recent.damaged.entry(number).or_default();
        *most = restored.shards.max(*most);
        let stripe = Arc::new(restored);
        recent.stripes.truncate(KEPT.saturating_sub(1));
        recent.stripes.insert(0, (number, stripe.clone()));
        Ok(stripe)
    }
}

impl ReadAt for Healed {
    fn size(&self) -> u64 {
        self.footer.length
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        let protected = self.footer.parity_offset;
        let footer_at = self.size().saturating_sub(to_u64(FOOTER_LEN));
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let wanted = at.saturating_add(to_u64(rest.len()));
            let end = if at < protected {
                let number = at.checked_div(STRIPE_LEN).unwrap_or(0);
                let stripe_end = number.saturating_add(1).saturating_mul(STRIPE_LEN);
                wanted.min(stripe_end).min(protected)
            } else if at < footer_at {
                wanted.min(footer_at)
            } else {
                wanted
            };
            let length = usize::try_from(end.saturating_sub(at)).unwrap_or(0);
            let (now, later) = rest.split_at_mut(length.min(rest.len()));
            if at < protected {
                self.protected(at..end, now)?;
            } else if at < footer_at {
                self.file.read_exact_at(at, now)?;
            } else {
                let start = usize::try_from(at.saturating_sub(footer_at)).unwrap_or(usize::MAX);
                let bytes = self.footer_bytes.get(start..).unwrap_or_default();
                now.copy_from_slice(bytes.get(..length).unwrap_or_default());
            }
            at = end;
            rest = later;
        }
        Ok(())
    }
}

/// The footer at the end, or else its copy before the parity.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if neither can be found; if something cannot be read now.
pub fn find_footer(file: &dyn ReadAt, store: [u8; 16], id: PackId) -> Result<Footer> {
    let ours = |footer: &Footer| footer.pack == id && footer.store == store;
    let size = file.size();
    let last = size.checked_sub(to_u64(FOOTER_LEN)).map(|at| {
        let bytes = read_vec(file, at, FOOTER_LEN)?;
        Footer::decode(&bytes, size)
    });
    match last {
        Some(Ok(footer)) if ours(&footer) => return Ok(footer),
        // A newer version's too.
        Some(Err(error)) if error.is_momentary() => return Err(error),
        _ => {}
    }
    // What a guest wrote cannot pass for one: it does not know the pack's id.
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        let piece = piece(
            file,
            start,
            end.saturating_add(to_u64(FOOTER_LEN)).min(size),
        )?;
        let mut at = piece.len();
        while let Some(found) = piece
            .get(..at)
            .and_then(|bytes| bytes.windows(MAGIC.len()).rposition(|w| w == MAGIC))
        {
            let bytes = piece.get(found..found.saturating_add(FOOTER_LEN));
            let place = start.saturating_add(to_u64(found));
            let footer = bytes.and_then(|bytes| Footer::decode_copy(bytes, place).ok());
            if let Some(footer) = footer.filter(ours) {
                return Ok(footer);
            }
            at = found.saturating_add(MAGIC.len()).saturating_sub(1);
        }
        end = start;
    }
    Err(Error::damaged("neither footer of the pack can be found").with_id(id))
}

/// Bytes of the file, zeros where they are lost.
fn piece(file: &dyn ReadAt, start: u64, end: u64) -> Result<Vec<u8>> {
    let length = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
    if let Some(bytes) = unless_lost(read_vec(file, start, length))? {
        return Ok(bytes);
    }
    let mut bytes = vec![0; length];
    let mut at = start;
    for sector in bytes.chunks_mut(SHARD) {
        if unless_lost(file.read_exact_at(at, sector))?.is_none() {
            sector.fill(0);
        }
        at = at.saturating_add(to_u64(SHARD));
    }
    Ok(bytes)
}
