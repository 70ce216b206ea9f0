//! Indexes of other things than names (`$SII`, `$O`): from a key to data.

use super::attribute::kind;
use super::entry::Entry;
use super::index::{self, Entries};
use super::mft::Mft;
use super::stream::Stream;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result, View};
use std::cmp::Ordering;

/// No index of Windows is deeper than a handful of levels.
const MAX_DEPTH: usize = 32;
/// A resident index root is shorter than a file record.
const MAX_ROOT: u64 = 64 << 10;

/// An opened index.
pub struct ViewIndex {
    root: Vec<u8>,
    block_size: u64,
    /// Bytes that one step of a block's number stands for.
    number_unit: u64,
    allocation: Option<Stream>,
}

impl ViewIndex {
    /// Opens the index called `name` of `entry`; none if it has no such index.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if its root is bad.
    pub fn open(mft: &Mft, entry: &Entry, name: &str) -> Result<Option<ViewIndex>> {
        let name: Vec<u16> = name.encode_utf16().collect();
        let Some(root) = entry.value(mft, kind::INDEX_ROOT, &name, MAX_ROOT)? else {
            return Ok(None);
        };
        let header = index::view_header(View::new(&root, "index root", 0))?;
        let block_size = u64::from(header.block_size);
        let cluster = mft.clusters().size();
        Ok(Some(ViewIndex {
            root,
            block_size,
            number_unit: if cluster <= block_size { cluster } else { 512 },
            allocation: entry.stream(mft, kind::INDEX_ALLOCATION, &name)?,
        }))
    }

    /// The data of the key that `order` calls equal: it says where the key that is wanted lies, seen from the one it is given. At most a block of the
    /// index is read for each of its levels.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the index is.
    pub fn find(&self, order: &dyn Fn(View<'_>) -> Result<Ordering>) -> Result<Option<Vec<u8>>> {
        let root = View::new(&self.root, "index root", 0);
        let mut step = search(index::root_entries(root)?, order)?;
        for _ in 0..MAX_DEPTH {
            let number = match step {
                Step::Found(data) => return Ok(Some(data)),
                Step::Missing => return Ok(None),
                Step::Below(number) => number,
            };
            let block = self.block(number)?;
            step = search(index::block_entries(&block)?, order)?;
        }
        Err(Error::damaged("an index runs in a circle"))
    }

    fn block(&self, number: u64) -> Result<Vec<u8>> {
        let missing = || Error::damaged(format!("an index lacks its block {number}"));
        let offset = number.saturating_mul(self.number_unit);
        let stream = self.allocation.as_ref().ok_or_else(missing)?;
        if offset.saturating_add(self.block_size) > stream.size() {
            return Err(missing());
        }
        let length = usize::try_from(self.block_size).unwrap_or(0);
        let mut bytes = read_vec(stream, offset, length)?;
        index::mend_block(&mut bytes, number, offset)?;
        Ok(bytes)
    }
}

enum Step {
    Found(Vec<u8>),
    Below(u64),
    Missing,
}

fn search(entries: Entries<'_>, order: &dyn Fn(View<'_>) -> Result<Ordering>) -> Result<Step> {
    for entry in entries {
        let entry = entry?;
        let order = if entry.is_end {
            Ordering::Less
        } else {
            order(entry.key)?
        };
        match order {
            Ordering::Equal => {
                let at = usize::from(entry.whole.u16_le(0)?);
                let length = usize::from(entry.whole.u16_le(2)?);
                return Ok(Step::Found(entry.whole.slice(at, length)?.to_vec()));
            }
            Ordering::Less => {
                return Ok(entry.child.map_or(Step::Missing, |vcn| Step::Below(vcn.0)));
            }
            Ordering::Greater => {}
        }
    }
    Err(Error::damaged("a node of an index has no end"))
}
