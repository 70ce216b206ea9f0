//! The one module that knows bincode: small records in a sealed envelope.
//!
//! Envelope: magic (8 bytes), version (u32), zero (u32), payload length (u64), payload, checksum (16 bytes over
//! everything before it). Payload: bincode 2 with fixed-size little-endian integers: structs are their fields in order,
//! strings and vectors a u64 length and their items, options one byte 0 or 1, enums a u32 index.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::hash::checksum;
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};
use cairn_base::units::to_u64;
use cairn_base::{Error, Result, View};
use std::borrow::Cow;

/// Largest payload that is written or read, in bytes.
pub const LIMIT: usize = 64 << 20;
/// Bytes of the envelope around the payload.
pub const ENVELOPE: usize = 24 + 16;
/// Largest file read.
pub const MAX_FILE: u64 = (64 << 20) + 24 + 16;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<LIMIT>> = bincode::config::standard()
    .with_little_endian()
    .with_fixed_int_encoding()
    .with_limit::<LIMIT>();

/// A kind of record: how it is recognised and which version is written.
pub trait Record: Encode + Decode<()> {
    /// The first eight bytes.
    const MAGIC: [u8; 8];
    /// The version this code writes.
    const VERSION: u32;
    /// What it is called in errors.
    const NAME: &'static str;

    /// What is to be put behind the payload of a record of an older version, so that it is one of this version: what its last fields say where
    /// nobody knew of them. `None` for a version that is not read.
    fn added_since(_version: u32) -> Option<&'static [u8]> {
        None
    }
}

/// The sealed bytes of `record`.
///
/// # Errors
/// [`Kind::Invalid`](cairn_base::Kind::Invalid) if it does not fit [`LIMIT`].
pub fn seal<R: Record>(record: &R) -> Result<Vec<u8>> {
    let payload = bincode::encode_to_vec(record, CONFIG)
        .map_err(|e| Error::invalid(format!("{} cannot be written", R::NAME)).caused_by(e))?;
    if payload.len() > LIMIT {
        return Err(Error::invalid(format!(
            "{} of {} bytes is larger than {LIMIT}",
            R::NAME,
            payload.len()
        )));
    }
    // The limit counts memory, not bytes: what is written must be readable.
    bincode::decode_from_slice::<R, _>(&payload, CONFIG)
        .map_err(|e| Error::invalid(format!("{} is too large", R::NAME)).caused_by(e))?;
    let mut bytes = Vec::with_capacity(payload.len().saturating_add(ENVELOPE));
    bytes.extend_from_slice(&R::MAGIC);
    bytes.extend_from_slice(&R::VERSION.to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend_from_slice(&to_u64(payload.len()).to_le_bytes());
    bytes.extend_from_slice(&payload);
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    Ok(bytes)
}

/// The record in `bytes`.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) for a wrong magic, length, checksum or payload;
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for another version.
pub fn open<R: Record>(bytes: &[u8]) -> Result<R> {
    let view = View::new(bytes, R::NAME, 0);
    if view.array::<8>(0)? != R::MAGIC {
        return Err(view.damaged(0, "does not begin with its magic number"));
    }
    let length = usize::try_from(view.u64_le(16)?)
        .ok()
        .filter(|length| *length <= LIMIT)
        .ok_or_else(|| view.damaged(16, "claims an impossible length"))?;
    let end = length.saturating_add(24);
    if view.len() != end.saturating_add(16) {
        return Err(view.damaged(16, "is not as long as it says"));
    }
    if view.array::<16>(end)? != checksum(view.slice(0, end)?) {
        return Err(view.damaged(end, "the checksum does not match"));
    }
    let version = view.u32_le(8)?;
    let mut payload = Cow::Borrowed(view.slice(24, length)?);
    if version != R::VERSION {
        let Some(added) = R::added_since(version) else {
            return Err(Error::unsupported(format!(
                "{}: version {version}, this program reads version {}",
                R::NAME,
                R::VERSION
            ))
            .advise("use a newer version of cairn"));
        };
        payload.to_mut().extend_from_slice(added);
    }
    let (record, used): (R, usize) = bincode::decode_from_slice(&payload, CONFIG).map_err(|e| {
        Error::damaged(format!("{}: the payload cannot be read", R::NAME)).caused_by(e)
    })?;
    if used != payload.len() {
        return Err(view.damaged(24, "the payload has a tail nobody knows"));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Kind;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct Sample {
        number: u32,
        text: String,
        maybe: Option<u64>,
        list: Vec<[u8; 3]>,
    }

    impl Record for Sample {
        const MAGIC: [u8; 8] = *b"CAIRNTST";
        const VERSION: u32 = 3;
        const NAME: &'static str = "sample";
    }

    fn sample() -> Sample {
        Sample {
            number: 5,
            text: "ab".into(),
            maybe: Some(6),
            list: vec![[1, 2, 3]],
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = seal(&sample()).unwrap();
        let payload: Vec<u8> = [
            &[5, 0, 0, 0][..],
            &[2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b'],
            &[1, 6, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3],
        ]
        .concat();
        let mut expected = b"CAIRNTST\x03\0\0\0\0\0\0\0".to_vec();
        expected.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        expected.extend_from_slice(&payload);
        assert_eq!(bytes[..expected.len()], expected);
        assert_eq!(bytes.len(), expected.len() + 16);
        assert_eq!(open::<Sample>(&bytes).unwrap(), sample());
    }

    #[test]
    fn another_version_is_unsupported_not_damaged() {
        let mut bytes = seal(&sample()).unwrap();
        bytes[8] = 4;
        let end = bytes.len() - 16;
        let sum = checksum(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum);
        assert_eq!(
            open::<Sample>(&bytes).unwrap_err().kind(),
            Kind::Unsupported
        );
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(at in 0usize..1000, bit in 0u8..8) {
            let mut bytes = seal(&sample()).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(open::<Sample>(&bytes).is_err());
        }

        #[test]
        fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(open::<Sample>(&bytes).is_err());
        }
    }
}
