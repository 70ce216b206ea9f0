//! What a security descriptor and the value of an `$EA` say, for those who have their bytes.

use super::extended_attribute;
use super::permissions;
use super::sddl;
use super::security_descriptor::SecurityDescriptor;
use cairn_base::{Result, View};

/// What a security descriptor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// As text ([MS-DTYP] 2.5.1).
    pub sddl: String,
    /// The permission bits that its DACL comes to; none if it has no DACL.
    pub mode: Option<u32>,
    /// Bytes up to the end of its last part.
    pub size: usize,
}

/// What the self-relative security descriptor `bytes` ([MS-DTYP] 2.4.6) says.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is none; [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it is too long for a text.
pub fn describe(bytes: &[u8]) -> Result<Description> {
    let descriptor = SecurityDescriptor::parse(View::new(bytes, "security descriptor", 0))?;
    Ok(Description {
        sddl: sddl::text(&descriptor)?,
        mode: permissions::mode(&descriptor)?,
        size: descriptor.size,
    })
}

/// Names and values in `bytes`, the value of an `$EA`.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if one lies outside.
pub fn extended_attributes(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let found = extended_attribute::parse(View::new(bytes, "extended attributes", 0))?;
    let owned = found
        .iter()
        .map(|one| (one.name.to_vec(), one.value.bytes().to_vec()));
    Ok(owned.collect())
}
