//! Whether names stand where who descends a folder's tree looks for them.

use super::cluster::Vcn;
use super::file_name::NameView;
use super::index::Entries;
use super::upcase::UpCase;
use cairn_base::{Error, Result};
use std::cmp::Ordering;

/// Names between which those of a node lie; none: there is no bound.
pub type Within = (Option<Vec<u16>>, Option<Vec<u16>>);

/// Where a node leads.
pub enum Way {
    /// To the block below.
    Below(Vcn),
    /// Nowhere: it is a leaf.
    End,
    /// Its names are not in order.
    Astray,
}

/// Looks whether all names of a node are in order and between those of `within`, which becomes what the node leaves to
/// the one on the way to `name`.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) for a node that cannot be read.
pub fn check(
    entries: Entries<'_>,
    upcase: &UpCase,
    name: &[u16],
    within: &mut Within,
) -> Result<Way> {
    let is_less = |left: &[u16], right: &[u16]| {
        let order = upcase.collate(left.iter().copied(), right.iter().copied());
        order.1 == Ordering::Less
    };
    let (mut last, end) = within.clone();
    let mut way = None;
    for entry in entries {
        let entry = entry?;
        let next = match entry.is_end {
            true => end.clone(),
            false => Some(NameView::parse(entry.key)?.units().collect()),
        };
        if let (Some(last), Some(next)) = (&last, &next)
            && !is_less(last, next)
        {
            return Ok(Way::Astray);
        }
        let before = next
            .as_deref()
            .is_none_or(|next: &[u16]| is_less(name, next));
        if way.is_none() && (entry.is_end || before) {
            *within = (last, next.clone());
            way = Some(entry.child.map_or(Way::End, Way::Below));
        }
        if entry.is_end {
            return Ok(way.unwrap_or(Way::End));
        }
        last = next;
    }
    Err(Error::damaged("a node of a folder's index has no end"))
}
