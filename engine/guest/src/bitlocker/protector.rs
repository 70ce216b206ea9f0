//! What a volume master key is protected with ("FVE Volume Master Key").

use super::entry::{Entry, kind, parse_list};
use super::id::KeyId;
use super::sealed::{Key, Sealed};
use cairn_base::{Result, View};
use std::fmt;

/// What kind of protector it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// None: the key lies beside, because protection is suspended.
    ClearKey,
    /// The machine's TPM alone.
    Tpm,
    /// The TPM and a PIN.
    TpmPin,
    /// The TPM and a startup key.
    TpmStartupKey,
    /// The TPM, a PIN and a startup key.
    TpmPinStartupKey,
    /// A startup key or recovery key: a file with the extension BEK.
    StartupKey,
    /// A recovery password of 48 digits.
    RecoveryPassword,
    /// A certificate or a smart card.
    Certificate,
    /// A password.
    Password,
    /// One that is not known, by its number.
    Other(u16),
}

impl Protection {
    fn of(number: u16) -> Protection {
        match number & 0xff00 {
            0 => Protection::ClearKey,
            0x0100 => Protection::Tpm,
            0x0200 => Protection::StartupKey,
            0x0300 => Protection::TpmStartupKey,
            0x0500 => Protection::TpmPin,
            0x0700 => Protection::TpmPinStartupKey,
            0x0800 => Protection::RecoveryPassword,
            0x1000 => Protection::Certificate,
            0x2000 => Protection::Password,
            _ => Protection::Other(number),
        }
    }

    /// One word for it, for programs.
    pub fn word(self) -> &'static str {
        match self {
            Protection::ClearKey => "clear_key",
            Protection::Tpm => "tpm",
            Protection::TpmPin => "tpm_pin",
            Protection::TpmStartupKey => "tpm_startup_key",
            Protection::TpmPinStartupKey => "tpm_pin_startup_key",
            Protection::StartupKey => "startup_key",
            Protection::RecoveryPassword => "recovery_password",
            Protection::Certificate => "certificate",
            Protection::Password => "password",
            Protection::Other(_) => "unknown",
        }
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protection::ClearKey => "clear key",
            Protection::Tpm => "TPM",
            Protection::TpmPin => "TPM and PIN",
            Protection::TpmStartupKey => "TPM and startup key",
            Protection::TpmPinStartupKey => "TPM, PIN and startup key",
            Protection::StartupKey => "startup key",
            Protection::RecoveryPassword => "recovery password",
            Protection::Certificate => "certificate",
            Protection::Password => "password",
            Protection::Other(number) => return write!(f, "protector of kind {number:#06x}"),
        })
    }
}

/// A volume master key and what it is protected with.
#[derive(Clone)]
pub(super) struct Protector {
    pub id: KeyId,
    pub protection: Protection,
    /// What the key of a password is computed with.
    pub salt: Option<[u8; 16]>,
    /// The key that lies beside.
    pub clear: Option<Key>,
    /// The volume master key.
    pub sealed: Option<Sealed>,
}

impl Protector {
    /// Decodes the value of an entry of the kind [`kind::PROTECTED`].
    ///
    /// # Errors
    /// Damaged if it, or a property of it that is used, is too short.
    pub fn parse(value: View<'_>) -> Result<Protector> {
        let properties = parse_list(value.tail(28)?)?;
        let find = |kind: u16| properties.iter().find(|property| property.kind == kind);
        let salt = |property: &Entry<'_>| property.value.array(4);
        let clear = |property: &Entry<'_>| -> Result<Key> {
            let mut key = Key::default();
            key.copy_from_slice(property.value.slice(4, 32)?);
            Ok(key)
        };
        let protection = Protection::of(value.u16_le(26)?);
        let has_clear = protection == Protection::ClearKey;
        Ok(Protector {
            id: KeyId(value.array(0)?),
            protection,
            salt: find(kind::STRETCHED).map(salt).transpose()?,
            clear: find(kind::KEY)
                .filter(|_| has_clear)
                .map(clear)
                .transpose()?,
            sealed: Sealed::among(&properties)?,
        })
    }
}
