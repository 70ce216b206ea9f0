//! POSIX access control lists: ext keeps them shorter than the kernel hands them out.

use cairn_base::{Result, View};

/// Version of the form on disk, and of the attribute that programs see.
const DISK_VERSION: u32 = 1;
const ATTRIBUTE_VERSION: u32 = 2;
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;
/// Stands for no user or group.
const NOBODY: u32 = u32::MAX;

/// The value of `system.posix_acl_access` or `_default` as the kernel answers it.
///
/// # Errors
/// Damaged if it is not a list.
pub(super) fn to_attribute(bytes: &[u8], at: u64) -> Result<Vec<u8>> {
    let view = View::new(bytes, "access control list", at);
    if view.u32_le(0)? != DISK_VERSION {
        return Err(view.damaged(0, "the version is not known"));
    }
    let mut value = ATTRIBUTE_VERSION.to_le_bytes().to_vec();
    let mut offset = 4usize;
    while offset < view.len() {
        let (tag, permissions) = (view.u16_le(offset)?, view.u16_le(offset.saturating_add(2))?);
        offset = offset.saturating_add(4);
        let id = if matches!(tag, USER | GROUP) {
            let id = view.u32_le(offset)?;
            offset = offset.saturating_add(4);
            id
        } else {
            NOBODY
        };
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    Ok(value)
}
