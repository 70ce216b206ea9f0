//! An L2 table entry by entry, for the check: what each says that cannot be, and what of the file it uses.

use super::entry::{COMPRESSED, COPIED, Cluster, OFFSET};
use super::header::{Header, incompatible};
use super::user::{Of, Owner, Use, Visitor};
use crate::check::Topic;
use crate::table::Width;
use cairn_base::Result;

/// Bits of a standard entry that have no meaning ("Standard Cluster Descriptor").
const RESERVED: u64 = 0x3f00_0000_0000_01fe;
/// "Zero": all of the cluster is zeros.
const ZEROS: u64 = 1;

/// Where clusters can lie.
pub(super) struct Places<'a> {
    pub(super) header: &'a Header,
    /// Bytes of the image file.
    pub(super) size: u64,
    /// Bytes of the external data file, if there is one.
    pub(super) data_file: Option<u64>,
}

impl Places<'_> {
    /// Tells `visitor` a use, if it is one: what begins at a cluster (or is compressed) and lies in the file but for less than a cluster.
    ///
    /// # Errors
    /// What `visitor` says.
    pub(super) fn judge(&self, found: &Use, visitor: &mut dyn Visitor) -> Result<bool> {
        let (owner, place) = (found.owner, found.bytes.start);
        let size = self.header.cluster_size();
        let is_compressed = matches!(owner, Owner::Compressed(..));
        if !is_compressed && !place.is_multiple_of(size) {
            visitor.wrong(Topic::Misaligned, found.written_at, &|| {
                format!("{owner} is said to lie at byte {place}, where no cluster begins")
            });
            return Ok(false);
        }
        let behind = found.bytes.end.saturating_sub(self.size);
        if behind >= size || place >= self.size {
            visitor.wrong(Topic::Outside, found.written_at, &|| {
                format!(
                    "{owner} is said to lie at byte {place}, beyond the end of the file ({} bytes)",
                    self.size
                )
            });
            return Ok(false);
        }
        visitor.uses(found)?;
        Ok(true)
    }
}

/// Tells `visitor` the entries of the L2 table that lies at `table.1`, whose bytes are `table.0` and whose first cluster of the guest is `first`.
///
/// # Errors
/// What `visitor` says.
pub(super) fn walk(
    places: &Places<'_>,
    of: Of,
    first: u64,
    (bytes, offset): (&[u8], u64),
    visitor: &mut dyn Visitor,
) -> Result<()> {
    let is_extended = places.header.has(incompatible::EXTENDED_L2);
    let words = Width::Be64.decode(bytes);
    let stride = if is_extended { 2 } else { 1 };
    for (index, pair) in (0u64..).zip(words.chunks(stride)) {
        let (entry, bitmap) = match pair {
            [entry, bitmap] => (*entry, *bitmap),
            [entry, ..] => (*entry, 0),
            [] => (0, 0),
        };
        if entry == 0 && bitmap == 0 {
            continue;
        }
        let in_table = index.saturating_mul(if is_extended { 16 } else { 8 });
        let found = Found {
            places,
            of,
            number: first.saturating_add(index),
            entry,
            bitmap,
            written_at: offset.saturating_add(in_table),
        };
        match entry & COMPRESSED {
            0 => found.standard(visitor)?,
            _ => found.compressed(visitor)?,
        }
    }
    Ok(())
}

/// An entry.
struct Found<'a> {
    places: &'a Places<'a>,
    of: Of,
    number: u64,
    entry: u64,
    bitmap: u64,
    written_at: u64,
}

impl Found<'_> {
    fn wrong(&self, visitor: &mut dyn Visitor, topic: Topic, what: &str) {
        let owner = Owner::Cluster(self.of, self.number);
        visitor.wrong(topic, self.written_at, &|| format!("{owner} {what}"));
    }

    fn compressed(&self, visitor: &mut dyn Visitor) -> Result<()> {
        if self.entry & COPIED != 0 {
            let what = "is compressed, and said to be the only user of its cluster (COPIED)";
            self.wrong(visitor, Topic::State, what);
        }
        if self.bitmap != 0 {
            let what = "is compressed, and has a bitmap of its parts";
            self.wrong(visitor, Topic::State, what);
        }
        match Cluster::parse(self.entry, 0, self.places.header) {
            Cluster::Compressed(start, length) => {
                let found = Use {
                    owner: Owner::Compressed(self.of, self.number),
                    bytes: start..start.saturating_add(length),
                    written_at: self.written_at,
                    is_copied: None,
                };
                self.places.judge(&found, visitor).map(drop)
            }
            Cluster::Wrong(why) => {
                self.wrong(visitor, Topic::State, why);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn standard(&self, visitor: &mut dyn Visitor) -> Result<()> {
        let header = self.places.header;
        if self.entry & RESERVED != 0 {
            let what = format!("has reserved bits in its entry: {:#018x}", self.entry);
            self.wrong(visitor, Topic::Reserved, &what);
        }
        let offset = self.entry & OFFSET;
        let is_plain = !header.has(incompatible::EXTENDED_L2);
        if header.version == 2 && self.entry & ZEROS != 0 {
            let what = "is zeros, which version 2 does not know";
            self.wrong(visitor, Topic::State, what);
        }
        // What is misaligned is told below.
        let aligned = self.entry & !OFFSET | offset & !header.cluster_size().saturating_sub(1);
        let parsed = Cluster::parse(aligned, self.bitmap, header);
        if let Cluster::Wrong(why) = parsed
            && !is_plain
        {
            self.wrong(visitor, Topic::State, why);
        }
        if let Some(size) = self.places.data_file {
            let holds_data = matches!(parsed, Cluster::Standard(_) | Cluster::Parts(..));
            self.in_data_file(offset, size, holds_data, visitor);
            return Ok(());
        }
        if offset == 0 {
            return Ok(());
        }
        let found = Use {
            owner: Owner::Cluster(self.of, self.number),
            bytes: offset..offset.saturating_add(header.cluster_size()),
            written_at: self.written_at,
            is_copied: (self.of == Of(0)).then_some(self.entry & COPIED != 0),
        };
        self.places.judge(&found, visitor).map(drop)
    }

    /// Each cluster of an external data file lies where the disk has it.
    fn in_data_file(&self, offset: u64, size: u64, holds_data: bool, visitor: &mut dyn Visitor) {
        if offset == 0 && !holds_data {
            return;
        }
        let in_disk = self.number << self.places.header.cluster_bits;
        if offset != in_disk {
            let what = format!(
                "is said to lie at byte {offset} of the external data file, and not at {in_disk}, where it has to"
            );
            self.wrong(visitor, Topic::State, &what);
        } else if holds_data && offset >= size {
            let what = format!(
                "is said to lie at byte {offset}, beyond the end of the external data file ({size} bytes)"
            );
            self.wrong(visitor, Topic::Outside, &what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_with_a_meaning_and_bits_without_are_all_bits() {
        let known = OFFSET | COPIED | COMPRESSED | ZEROS;
        assert_eq!(known & RESERVED, 0);
        assert_eq!(known | RESERVED, u64::MAX);
    }
}
