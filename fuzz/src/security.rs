//! Security descriptors of NTFS as text and mode, and extended attributes.

use cairn_guest::ntfs::security::{describe, extended_attributes};

/// An even first byte: a security descriptor; an odd one: the value of an `$EA`.
pub fn security(data: &[u8]) -> bool {
    let Some((which, bytes)) = data.split_first() else {
        return false;
    };
    if which % 2 == 1 {
        let (found, damage) = extended_attributes(bytes);
        // Each begins at least eight bytes behind the one before.
        assert!(found.len() <= bytes.len() / 8 + 1);
        return !found.is_empty() && damage.is_none();
    }
    let Ok(told) = describe(bytes) else {
        return false;
    };
    assert!(told.size <= bytes.len() && told.mode.unwrap_or(0) <= 0o777);
    // What lies behind the last part does not matter.
    assert_eq!(describe(&bytes[..told.size]).ok().as_ref(), Some(&told));
    // 4 MiB, and the entry that went beyond it.
    assert!(told.sddl.len() <= 6 << 20);
    true
}
