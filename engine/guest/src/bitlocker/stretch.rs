//! How the key of a password is computed, slowly on purpose ("Recovery key", "User key").

use super::sealed::Key;
use cairn_base::{Error, Result};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// How often it is hashed.
const ROUNDS: u64 = 0x10_0000;
/// Rounds after which it is asked whether to stop.
const ASK: u64 = 0x2000;
/// Groups of a recovery password.
const GROUPS: usize = 8;

fn hash(bytes: &[u8]) -> Key {
    let mut key = Key::default();
    let mut sum = Sha256::new();
    sum.update(bytes);
    sum.finalize_into((&mut *key).into());
    key
}

/// What stretching begins with, of a recovery password: 48 digits in groups of six, whatever lies between them.
///
/// # Errors
/// Invalid if there are not so many digits, or a group is none that Windows makes: which one, and never the digits.
pub(super) fn of_recovery_password(text: &str) -> Result<Key> {
    let refused = |why: String| {
        Err(
            Error::invalid(format!("this is no recovery key of BitLocker: {why}"))
                .advise("it has 48 digits: eight groups of six"),
        )
    };
    let mut digits = Zeroizing::new(Vec::with_capacity(GROUPS.saturating_mul(6)));
    for character in text.chars() {
        match character.to_digit(10) {
            Some(_) if digits.len() >= digits.capacity() => {
                return refused("it has more digits".into());
            }
            Some(digit) => digits.push(digit),
            None if character == '-' || character.is_whitespace() => {}
            None => return refused("it has something that is no digit".into()),
        }
    }
    let (groups, rest) = digits.as_chunks::<6>();
    if groups.len() != GROUPS || !rest.is_empty() {
        return refused(format!("it has only {} digits", digits.len()));
    }
    let mut key = Zeroizing::new([0u8; 16]);
    let (pairs, _) = key.as_chunks_mut::<2>();
    for (number, (group, pair)) in (1..).zip(groups.iter().zip(pairs)) {
        let value = group.iter().fold(0u32, |sum, digit| {
            sum.saturating_mul(10).saturating_add(*digit)
        });
        let Some(part) = u16::try_from(value / 11).ok().filter(|_| value % 11 == 0) else {
            return refused(format!("its group {number} is mistyped"));
        };
        *pair = part.to_le_bytes();
    }
    Ok(hash(&*key))
}

/// What stretching begins with, of a password.
pub(super) fn of_password(text: &str) -> Key {
    // At most two units for each byte of UTF-8, so that nothing is left behind where the memory was too small.
    let mut units = Zeroizing::new(Vec::with_capacity(text.len().saturating_mul(4)));
    for unit in text.encode_utf16() {
        units.extend_from_slice(&unit.to_le_bytes());
    }
    hash(&*hash(&units))
}

/// Stretches what it begins with. Takes a good part of a second.
///
/// # Errors
/// Interrupted if `stop` says so.
pub(super) fn stretched(initial: &Key, salt: &[u8; 16], stop: &dyn Fn() -> bool) -> Result<Key> {
    let mut last = Key::default();
    // The last hash, the first one, the salt and a counter.
    let mut block = Zeroizing::new([0u8; 88]);
    let mut constant = Zeroizing::new([0u8; 48]);
    for (to, from) in constant.iter_mut().zip(initial.iter().chain(salt)) {
        *to = *from;
    }
    if let Some(middle) = block.get_mut(32..80) {
        middle.copy_from_slice(&*constant);
    }
    for round in 0..ROUNDS {
        if round % ASK == 0 && stop() {
            return Err(Error::interrupted());
        }
        if let Some(counter) = block.last_chunk_mut::<8>() {
            *counter = round.to_le_bytes();
        }
        if let Some(first) = block.first_chunk_mut::<32>() {
            *first = *last;
        }
        let mut sum = Sha256::new();
        sum.update(block.as_slice());
        sum.finalize_into((&mut *last).into());
    }
    Ok(last)
}
