//! How two leaves for the same region differ.

use crate::changes::Change;
use crate::map::{Leaf, Part};
use cairn_base::units::to_u64;

/// The ranges of the region, from the region's start, in which the new leaf has other chunks than the old one, or zeros where that has none; ascending. A chunk
/// is the same if its id is, at the same place. What lies behind the end of the old leaf was zeros.
pub fn changed_parts(old: &Leaf, new: &Leaf) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut before = old.parts().peekable();
    for part in new.parts() {
        while before.next_if(|old| old.end() <= part.start).is_some() {}
        if part.extent.chunk.is_some() {
            if before.peek() != Some(&part) {
                changes.push(change(&part, &part, false));
            }
            continue;
        }
        while let Some(old) = before.peek().filter(|old| old.start < part.end()) {
            if old.extent.chunk.is_some() {
                changes.push(change(&part, old, true));
            }
            if old.end() > part.end() {
                break;
            }
            before.next();
        }
    }
    changes
}

/// Where both are.
fn change(a: &Part, b: &Part, zero: bool) -> Change {
    let (start, end) = (a.start.max(b.start), a.end().min(b.end()));
    Change {
        range: to_u64(start)..to_u64(end),
        zero,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Extent;
    use cairn_base::ChunkId;

    /// Lengths and first bytes of ids; 0 is a hole.
    fn leaf(parts: &[(u32, u8)]) -> Leaf {
        let extent = |(length, id): &(u32, u8)| Extent {
            length: *length,
            chunk: (*id > 0).then_some(ChunkId([*id; 32])),
        };
        Leaf {
            extents: parts.iter().map(extent).collect(),
        }
    }

    fn changed(old: &[(u32, u8)], new: &[(u32, u8)]) -> Vec<(u64, u64, bool)> {
        let changes = changed_parts(&leaf(old), &leaf(new)).into_iter();
        changes
            .map(|c| (c.range.start, c.range.end, c.zero))
            .collect()
    }

    #[test]
    fn a_chunk_is_the_same_at_the_same_place_only() {
        let old = [(10, 1), (20, 2), (30, 3)];
        assert_eq!(changed(&old, &old), []);
        assert_eq!(
            changed(&old, &[(10, 1), (20, 9), (30, 3)]),
            [(10, 30, false)]
        );
        // Moved by five bytes, and one that has the end of another.
        assert_eq!(
            changed(&old, &[(15, 1), (20, 2), (25, 3)]),
            [(0, 15, false), (15, 35, false), (35, 60, false)]
        );
        assert_eq!(changed(&old, &[(10, 1), (50, 4)]), [(10, 60, false)]);
    }

    #[test]
    fn zeros_are_compared_by_their_bytes() {
        let old = [(10, 1), (10, 0), (10, 2), (10, 0)];
        assert_eq!(changed(&old, &[(40, 0)]), [(0, 10, true), (20, 30, true)]);
        assert_eq!(changed(&[(40, 0)], &old), [(0, 10, false), (20, 30, false)]);
        assert_eq!(
            changed(&[(40, 7)], &[(10, 0), (20, 7), (10, 0)]),
            [(0, 10, true), (10, 30, false), (30, 40, true)]
        );
    }

    #[test]
    fn lengths_may_differ() {
        assert_eq!(changed(&[(10, 1)], &[(10, 1), (30, 0)]), []);
        assert_eq!(changed(&[(10, 1)], &[(10, 1), (30, 2)]), [(10, 40, false)]);
        assert_eq!(changed(&[(10, 1), (30, 2)], &[(10, 1)]), []);
        assert_eq!(changed(&[], &[(5, 1)]), [(0, 5, false)]);
    }
}
