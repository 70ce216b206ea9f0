//! Lists of subkeys: leaves with hints (`lf`), with hashes (`lh`), without (`li`), and the index of several leaves (`ri`).

use super::bins::Bins;
use cairn_base::{Error, Result, View};
use std::ops::ControlFlow;

/// Bytes before the elements: signature and count.
const HEAD: usize = 4;

/// Receives cells of keys until it breaks.
pub type CellSink<'a> = &'a mut dyn FnMut(u32) -> ControlFlow<()>;

/// A list: where its elements lead to.
struct List {
    is_index: bool,
    cells: Vec<u32>,
}

impl List {
    fn read(bins: &Bins, at: u32) -> Result<List> {
        let head = bins.cell(at, HEAD)?;
        let view = View::new(&head, "list of subkeys", bins.place(at));
        let step = match view.slice(0, 2)? {
            b"lf" | b"lh" => 8,
            b"li" | b"ri" => 4,
            _ => return Err(view.damaged(0, "it has no signature")),
        };
        let count = usize::from(view.u16_le(2)?);
        let length = count.saturating_mul(step);
        let bytes = bins.cell(at, HEAD.saturating_add(length))?;
        let whole = View::new(&bytes, "list of subkeys", bins.place(at));
        let elements = whole.slice(HEAD, length)?;
        let cells = elements.chunks_exact(step).filter_map(|element| {
            let cell = element.first_chunk()?;
            Some(u32::from_le_bytes(*cell))
        });
        Ok(List {
            is_index: view.slice(0, 2)? == b"ri",
            cells: cells.collect(),
        })
    }
}

/// Tells the cells of all keys of the list at `at`.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) for what is no list; an index has leaves only, so that none leads back to itself. Leaves without elements are
/// damage as well: of these an index could have any number.
pub fn each(bins: &Bins, at: u32, sink: CellSink<'_>) -> Result<()> {
    let list = List::read(bins, at)?;
    if !list.is_index {
        let _ended = list.cells.into_iter().try_for_each(sink);
        return Ok(());
    }
    for leaf_at in list.cells {
        let leaf = List::read(bins, leaf_at)?;
        if leaf.is_index || leaf.cells.is_empty() {
            let why = "an index of subkeys leads to what is no leaf with keys";
            return Err(Error::damaged(why).at_offset(bins.place(leaf_at)));
        }
        if leaf.cells.into_iter().try_for_each(&mut *sink).is_break() {
            break;
        }
    }
    Ok(())
}
