//! Names in encrypted folders as Linux shows them without the key: base64 of the hash and the encrypted name
//! (`struct fscrypt_nokey_name` of `fs/crypto/fname.c`).

use sha2::{Digest, Sha256};

/// Encrypted bytes that are shown; longer names end in a digest of the rest.
const SHOWN: usize = 149;

/// What stands for `name`, whose hashes in the folder are `hash`. At most 252 bytes, no `/`, no NUL.
pub(super) fn show(name: &[u8], hash: (u32, u32)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    bytes.extend_from_slice(&hash.0.to_le_bytes());
    bytes.extend_from_slice(&hash.1.to_le_bytes());
    match name.split_at_checked(SHOWN) {
        Some((shown, rest)) if !rest.is_empty() => {
            bytes.extend_from_slice(shown);
            bytes.extend_from_slice(&Sha256::digest(rest));
        }
        _ => bytes.extend_from_slice(name),
    }
    base64url(&bytes)
}

/// RFC 4648 section 5, without padding.
fn base64url(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = Vec::with_capacity(bytes.len().saturating_mul(4).div_ceil(3));
    let (mut bits, mut held) = (0u32, 0u32);
    for &byte in bytes {
        bits = ((bits << 8) | u32::from(byte)) & 0xffff;
        held = held.saturating_add(8);
        while held >= 6 {
            held = held.saturating_sub(6);
            let digit = usize::try_from((bits >> held) & 63).unwrap_or(0);
            text.extend(ALPHABET.get(digit));
        }
    }
    if held > 0 {
        let digit = usize::try_from((bits << 6u32.saturating_sub(held)) & 63).unwrap_or(0);
        text.extend(ALPHABET.get(digit));
    }
    text
}
