//! Leaves and nodes of maps.

use cairn_store::map::node::Node;
use cairn_store::map::{Leaf, REGION};

/// A leaf: the first 4 bytes say how long its region is.
pub fn leaf(data: &[u8]) -> bool {
    let Some((length, rest)) = data.split_first_chunk::<4>() else {
        return false;
    };
    let length = u64::from(u32::from_le_bytes(*length)) % (REGION + 1);
    let Ok(leaf) = Leaf::decode(rest, length) else {
        return false;
    };
    assert_eq!(leaf.encode(), rest);
    assert_eq!(leaf.length(), length);
    let mut at = 0;
    for part in leaf.parts() {
        assert_eq!(part.start, at);
        assert!(part.length() > 0);
        at = part.end();
    }
    assert_eq!(at as u64, length);
    let data = leaf.data();
    assert!(data.windows(2).all(|pair| pair[0].end < pair[1].start));
    assert_eq!(data.is_empty(), leaf.is_hole());
    true
}

/// A node.
pub fn node(data: &[u8]) -> bool {
    let Ok(node) = Node::decode(data) else {
        return false;
    };
    assert_eq!(node.encode(), data);
    let _any = (
        node.child(0),
        node.child(255),
        node.child(usize::MAX),
        node.is_hole(),
    );
    true
}
