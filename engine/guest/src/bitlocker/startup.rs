//! Startup key files ("BitLocker External Key (BEK) file").

use super::entry::{kind, parse_list, role};
use super::id::KeyId;
use super::sealed::Key;
use cairn_base::{Result, View};

/// Bytes of the head.
const HEAD: usize = 48;

/// Decodes such a file: which protector it opens, and the key.
///
/// # Errors
/// Damaged if it holds no such key.
pub(super) fn parse(bytes: &[u8]) -> Result<(KeyId, Key)> {
    let view = View::new(bytes, "BitLocker startup key", 0);
    let length = usize::try_from(view.u32_le(0)?).unwrap_or(usize::MAX);
    if view.u32_le(4)? != 1 || length < HEAD {
        return Err(view.damaged(0, "the file is no startup key"));
    }
    let entries = parse_list(view.part(0, length, "BitLocker startup key")?.tail(HEAD)?)?;
    let found = entries
        .iter()
        .find(|entry| (entry.role, entry.kind) == (role::STARTUP_KEY, kind::EXTERNAL));
    let Some(external) = found else {
        return Err(view.damaged(HEAD, "the file has no startup key"));
    };
    let properties = parse_list(external.value.tail(24)?)?;
    let Some(property) = properties
        .iter()
        .find(|property| property.kind == kind::KEY)
    else {
        return Err(external.value.damaged(24, "the startup key has no bytes"));
    };
    let mut key = Key::default();
    key.copy_from_slice(property.value.slice(4, 32)?);
    Ok((KeyId(external.value.array(0)?), key))
}
