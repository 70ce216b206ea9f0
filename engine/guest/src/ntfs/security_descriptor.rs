//! Self-relative security descriptors ([MS-DTYP] section 2.4.6).

use super::acl::Acl;
use super::sid::Sid;
use cairn_base::{Result, View};

const HEADER: usize = 20;

/// The DACL is there, be it without entries or null.
pub const DACL_PRESENT: u16 = 0x4;
/// The SACL is there.
pub const SACL_PRESENT: u16 = 0x10;

/// A descriptor: owner, group, and two lists.
#[derive(Clone)]
pub struct SecurityDescriptor<'a> {
    /// SE_* bits.
    pub control: u16,
    /// Who owns the file.
    pub owner: Option<Sid<'a>>,
    /// The owner's group.
    pub group: Option<Sid<'a>>,
    /// Who may do what; None: null, so that everybody may everything.
    pub dacl: Option<Acl<'a>>,
    /// What is recorded; integrity labels. One that is damaged has nothing to do with who may do what.
    pub sacl: Result<Option<Acl<'a>>>,
    /// Bytes up to the end of the last part; all there are if it is not known where the SACL ends.
    pub size: usize,
}

impl<'a> SecurityDescriptor<'a> {
    /// Decodes a descriptor. Entries of its lists are decoded when they are asked for.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if a part of it but the SACL lies outside, or is none.
    pub fn parse(view: View<'a>) -> Result<SecurityDescriptor<'a>> {
        if view.u8(0)? != 1 {
            return Err(view.damaged(0, "an unknown revision"));
        }
        let mut size = HEADER;
        view.slice(0, HEADER)?;
        let mut end = |at: usize, length: usize| size = size.max(at.saturating_add(length));
        let offset = |at: usize| -> Result<Option<usize>> {
            let offset = usize::try_from(view.u32_le(at)?).unwrap_or(usize::MAX);
            Ok((offset != 0).then_some(offset))
        };
        let mut sid = |at: usize| -> Result<Option<Sid<'a>>> {
            let Some(at) = offset(at)? else {
                return Ok(None);
            };
            let sid = Sid::parse(view.tail(at)?)?;
            end(at, sid.len());
            Ok(Some(sid))
        };
        let (owner, group) = (sid(4)?, sid(8)?);
        let control = view.u16_le(2)?;
        let mut acl = |at: usize, present: u16| -> Result<Option<Acl<'a>>> {
            let Some(at) = offset(at)?.filter(|_| control & present != 0) else {
                return Ok(None);
            };
            let acl = Acl::parse(view.tail(at)?)?;
            end(at, acl.len());
            Ok(Some(acl))
        };
        let (sacl, dacl) = (acl(12, SACL_PRESENT), acl(16, DACL_PRESENT)?);
        let size = if sacl.is_ok() { size } else { view.len() };
        Ok(SecurityDescriptor {
            control,
            owner,
            group,
            dacl,
            sacl,
            size,
        })
    }
}
