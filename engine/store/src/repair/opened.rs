//! A damaged pack: what can be opened of it, and what is known for sure of what it holds.

use crate::index::PackRow;
use crate::layout;
use crate::pack::footer::FOOTER_LEN;
use crate::pack::head::{HEAD_LEN, Head};
use crate::pack::heal::find_footer;
use crate::pack::{Footer, Healed, PackReader};
use crate::parity::table;
use crate::repair::plan::{self, FramePlan};
use crate::store::Store;
use cairn_base::error::unless_lost;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{PackId, ReadAt, Result};
use std::collections::HashSet;
use std::sync::Arc;

/// A damaged pack, as far as it can be opened.
pub struct Opened {
    /// The file as it is.
    pub raw: Option<Arc<dyn ReadAt>>,
    /// The file through its parity.
    pub healed: Option<Arc<Healed>>,
    /// Its own table of contents.
    pub table: Option<PackReader>,
    /// What tells where its table ends, if that is all that is left of it.
    pub footer: Option<Footer>,
    /// Other packs that the file says it is, at its begin and at its end.
    pub others: [Option<PackId>; 2],
}

impl Opened {
    /// Opens what there is of it.
    ///
    /// # Errors
    /// If it cannot be read now.
    pub fn new(store: &Store, row: &PackRow) -> Result<Opened> {
        let (folder, of) = (&**store.folder(), store.header().store);
        let raw = unless_lost(folder.open(&layout::pack(row.id)))?;
        let healed = match &raw {
            Some(file) => unless_lost(Healed::new(file.clone(), of, row.id))?.map(Arc::new),
            None => None,
        };
        let mut table = unless_lost(PackReader::open_headless(folder, of, row.id))?;
        if table.is_none() {
            let healed = unless_lost(PackReader::open_healed(folder, of, row.id))?;
            table = healed.map(|(pack, _)| pack);
        }
        // What is not the pack that the index knows says nothing of it.
        let table = table.filter(|pack| pack.footer().length == row.length);
        let footer = match &raw {
            Some(file) if table.is_none() => unless_lost(find_footer(&**file, of, row.id))?,
            _ => None,
        };
        let footer = footer.filter(|footer| footer.length == row.length);
        let others = match &raw {
            Some(file) if table.is_none() => whose(&**file)?,
            _ => [None; 2],
        };
        let others = others.map(|of| of.filter(|id| *id != row.id));
        Ok(Opened {
            raw,
            healed,
            table,
            footer,
            others,
        })
    }

    /// Whether these frames, which the index knows, are all that the pack holds, although its own table is lost. `sound`: packs that
    /// nothing is wrong with.
    ///
    /// # Errors
    /// If something of it cannot be read now.
    pub fn is_all(
        &self,
        store: &Store,
        row: &PackRow,
        frames: &[FramePlan],
        sound: &HashSet<PackId>,
    ) -> Result<bool> {
        let Some(ends) = plan::ends(frames) else {
            return Ok(false);
        };
        let percent = store.header().parity;
        let [begin, end] = self.others;
        let copy = begin.filter(|_| begin == end);
        if self.raw.is_none() || copy.is_some_and(|id| sound.contains(&id)) {
            // There is nothing of it to be taken away, and nobody left to ask.
            return Ok(ends.may_fill(row.length, percent));
        }
        if ends.fill(row.length) {
            return Ok(true);
        }
        if let Some(footer) = &self.footer {
            return Ok(ends.are_told_by(footer));
        }
        match (&self.raw, ends.shape(percent)) {
            (Some(file), Some(shape)) => table::stands_behind(&**file, row.id, &shape),
            _ => Ok(false),
        }
    }
}

/// Which packs a file says it is, at its begin and at its end. An error if it cannot be read now.
fn whose(file: &dyn ReadAt) -> Result<[Option<PackId>; 2]> {
    let size = file.size();
    let Some(footer_at) = size
        .checked_sub(to_u64(FOOTER_LEN))
        .filter(|at| *at >= to_u64(HEAD_LEN))
    else {
        return Ok([None; 2]);
    };
    let head = unless_lost(read_vec(file, 0, HEAD_LEN))?;
    let footer = unless_lost(read_vec(file, footer_at, FOOTER_LEN))?;
    Ok([
        head.and_then(|bytes| Some(Head::decode(&bytes).ok()?.pack)),
        footer.and_then(|bytes| Some(Footer::decode(&bytes, size).ok()?.pack)),
    ])
}
