//! Access control lists and their entries ([MS-DTYP] sections 2.4.4 and 2.4.5).

use super::sid::Sid;
use cairn_base::{Result, View};

/// ACCESS_ALLOWED_ACE_TYPE.
pub const ALLOWED: u8 = 0;
/// ACCESS_DENIED_ACE_TYPE.
pub const DENIED: u8 = 1;
/// SYSTEM_RESOURCE_ATTRIBUTE_ACE_TYPE.
pub const RESOURCE_ATTRIBUTE: u8 = 0x12;
/// INHERIT_ONLY_ACE: it says nothing of the entry itself.
pub const INHERIT_ONLY: u8 = 8;

const HEADER: usize = 8;
/// The first word of a condition ([MS-DTYP] 2.4.4.17.4).
const CONDITION: &[u8] = b"artx";

/// One entry.
#[derive(Clone, Copy)]
pub struct Ace<'a> {
    /// AceType.
    pub kind: u8,
    /// AceFlags.
    pub flags: u8,
    /// The rest.
    pub body: Body<'a>,
}

/// What an entry says.
#[derive(Clone, Copy)]
pub enum Body<'a> {
    /// Of a kind that names somebody.
    Known {
        /// Which rights.
        mask: u32,
        /// Of an entry about a kind of objects: which ones.
        object: Option<Objects>,
        /// Whose.
        sid: Sid<'a>,
        /// What stands behind the SID.
        rest: View<'a>,
    },
    /// Of another kind: its bytes behind the header.
    Unknown(&'a [u8]),
}

/// The kinds of objects that an entry speaks of; none: all.
#[derive(Clone, Copy)]
pub struct Objects {
    /// ObjectType.
    pub object: Option<[u8; 16]>,
    /// InheritedObjectType.
    pub inherited: Option<[u8; 16]>,
}

/// A list of entries; the order counts.
#[derive(Clone, Copy)]
pub struct Acl<'a> {
    view: View<'a>,
    count: u16,
}

impl<'a> Acl<'a> {
    /// The list at the start of `view`, which may be longer.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is cut off.
    pub fn parse(view: View<'a>) -> Result<Acl<'a>> {
        let size = usize::from(view.u16_le(2)?);
        if size < HEADER {
            return Err(view.damaged(2, "shorter than its own header"));
        }
        Ok(Acl {
            view: view.part(0, size, "access control list")?,
            count: view.u16_le(4)?,
        })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.view.len()
    }

    /// The entries. Ends behind the first that is damaged.
    pub fn aces(&self) -> impl Iterator<Item = Result<Ace<'a>>> + use<'a> {
        let (view, mut left, mut at) = (self.view, self.count, HEADER);
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let found = one(view, at);
            match &found {
                Ok((_, length)) => at = at.saturating_add(*length),
                Err(_) => left = 0,
            }
            Some(found.map(|(ace, _)| ace))
        })
    }
}

/// Whether an entry of this kind speaks of kinds of objects.
fn has_objects(kind: u8) -> bool {
    matches!(kind, 5..=8 | 0xB | 0xC | 0xF | 0x10)
}

fn one<'a>(list: View<'a>, at: usize) -> Result<(Ace<'a>, usize)> {
    let length = usize::from(list.u16_le(at.saturating_add(2))?);
    if length < 4 {
        return Err(list.damaged(at, "an entry without a length"));
    }
    let view = list.part(at, length, "access control entry")?;
    let (kind, flags) = (view.u8(0)?, view.u8(1)?);
    let ace = |body| Ace { kind, flags, body };
    // ACCESS_ALLOWED_COMPOUND_ACE_TYPE (4) is reserved.
    if kind == 4 || kind > 0x15 {
        return Ok((ace(Body::Unknown(view.tail(4)?.bytes())), length));
    }
    let mask = view.u32_le(4)?;
    let (object, sid_at) = if has_objects(kind) {
        let which = view.u32_le(8)?;
        let mut at = 12usize;
        let mut guid = |bit: u32| -> Result<Option<[u8; 16]>> {
            if which & bit == 0 {
                return Ok(None);
            }
            let guid = view.array(at)?;
            at = at.saturating_add(16);
            Ok(Some(guid))
        };
        let (object, inherited) = (guid(1)?, guid(2)?);
        (Some(Objects { object, inherited }), at)
    } else {
        (None, 8)
    };
    let tail = view.tail(sid_at)?;
    let sid = Sid::parse(tail)?;
    let rest = tail.tail(sid.len())?;
    let body = Body::Known {
        mask,
        object,
        sid,
        rest,
    };
    Ok((ace(body), length))
}

/// The condition in what stands behind a SID, without its first word; none if there is none.
pub fn condition(rest: View<'_>) -> Option<View<'_>> {
    let starts = rest.bytes().starts_with(CONDITION);
    rest.tail(CONDITION.len()).ok().filter(|_| starts)
}
