//! What a security descriptor and the value of an `$EA` say, for those who have their bytes.

use super::extended_attribute;
use super::permissions;
use super::sddl;
use super::security_descriptor::SecurityDescriptor;
use cairn_base::{Error, Result, View};

/// What a security descriptor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// As text ([MS-DTYP] 2.5.1).
    pub sddl: String,
    /// The SACL is damaged, and not in the text.
    pub lacks_sacl: bool,
    /// The permission bits that its DACL comes to; none if it has no DACL.
    pub mode: Option<u32>,
    /// Bytes up to the end of its last part; all there are if it is not known where the SACL ends.
    pub size: usize,
}

/// What the self-relative security descriptor `bytes` ([MS-DTYP] 2.4.6) says.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is none; [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it is too long for a text.
pub fn describe(bytes: &[u8]) -> Result<Description> {
    let descriptor = SecurityDescriptor::parse(View::new(bytes, "security descriptor", 0))?;
    let (sddl, damage) = sddl::text(&descriptor)?;
    Ok(Description {
        sddl,
        lacks_sacl: damage.is_some(),
        mode: permissions::mode(&descriptor)?,
        size: descriptor.size,
    })
}

/// A name and a value.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// Names and values in `bytes`, the value of an `$EA`; and what is wrong with the first that is damaged.
pub fn extended_attributes(bytes: &[u8]) -> (Vec<Attribute>, Option<Error>) {
    let (found, damage) = extended_attribute::parse(View::new(bytes, "extended attributes", 0));
    let owned = found
        .iter()
        .map(|one| (one.name.to_vec(), one.value.bytes().to_vec()));
    (owned.collect(), damage)
}
