//! Keys that are encrypted with another key: AES-CCM with a key of 256 bits ("FVE AES-CCM encrypted key").

use super::entry::{self, Entry, kind};
use aes::Aes256;
use cairn_base::{Result, View};
use ccm::consts::{U12, U16};
use ccm::{AeadInOut, Ccm, KeyInit};
use zeroize::Zeroizing;

/// A key of 256 bits that is wiped when it is dropped.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// Something encrypted, with what is needed to see whether a key fits.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    nonce: [u8; 12],
    mac: [u8; 16],
    data: Vec<u8>,
}

/// A key that was decrypted.
pub(super) struct Opened {
    /// What it is for: an encryption method, see [`Method`](super::cipher::Method).
    pub method: u16,
    /// Its bytes.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl Sealed {
    /// Decodes the value of an entry of the kind [`kind::SEALED`].
    ///
    /// # Errors
    /// Damaged if it is too short.
    pub fn parse(value: View<'_>) -> Result<Sealed> {
        Ok(Sealed {
            nonce: value.array(0)?,
            mac: value.array(12)?,
            data: value.tail(28)?.bytes().to_vec(),
        })
    }

    /// The one among `entries`.
    pub fn among(entries: &[Entry<'_>]) -> Result<Option<Sealed>> {
        let sealed = entries.iter().find(|entry| entry.kind == kind::SEALED);
        sealed.map(|entry| Sealed::parse(entry.value)).transpose()
    }

    /// Some bytes that tell it from all others, and are no secret.
    pub fn tag(&self) -> [u8; 16] {
        self.mac
    }

    /// Decrypts it. `None` if it was encrypted with another key, or changed.
    ///
    /// # Errors
    /// Damaged if what was encrypted is no key.
    pub fn open(&self, key: &Key) -> Result<Option<Opened>> {
        let cipher = Ccm::<Aes256, U16, U12>::new((&**key).into());
        let mut data = Zeroizing::new(self.data.clone());
        let decrypted = cipher.decrypt_inout_detached(
            (&self.nonce).into(),
            &[],
            data.as_mut_slice().into(),
            (&self.mac).into(),
        );
        if decrypted.is_err() {
            return Ok(None);
        }
        let view = View::new(&data, "BitLocker key", 0);
        let entries = entry::parse_list(view)?;
        let Some(found) = entries.first().filter(|entry| entry.kind == kind::KEY) else {
            return Err(view.damaged(4, "what was decrypted is no key"));
        };
        Ok(Some(Opened {
            method: found.value.u16_le(0)?,
            bytes: Zeroizing::new(found.value.tail(4)?.bytes().to_vec()),
        }))
    }

    /// As [`open`](Sealed::open), of a key of 256 bits.
    ///
    /// # Errors
    /// As [`open`](Sealed::open); damaged also if it is of another length.
    pub fn open_key(&self, key: &Key) -> Result<Option<Key>> {
        let Some(opened) = self.open(key)? else {
            return Ok(None);
        };
        let view = View::new(&opened.bytes, "BitLocker key", 0);
        if view.len() != 32 {
            return Err(view.damaged(0, "the key has not 256 bits"));
        }
        let mut found = Key::default();
        found.copy_from_slice(view.bytes());
        Ok(Some(found))
    }
}
