//! Security descriptors as text ([MS-DTYP] section 2.5.1), written as Windows writes them.

use super::acl::{self, Ace, Acl, Body, RESOURCE_ATTRIBUTE};
use super::condition;
use super::security_descriptor::{DACL_PRESENT, SACL_PRESENT, SecurityDescriptor};
use crate::partition::guid_text;
use cairn_base::{Error, Kind, Result};
use std::fmt::Write;

/// Text that is longer is not made: 64 KiB of a list come to far less, unless they were made to come to more.
const MAX_TEXT: usize = 4 << 20;

/// Kinds of entries.
const KINDS: [(u8, &str); 17] = [
    (0x0, "A"),
    (0x1, "D"),
    (0x2, "AU"),
    (0x3, "AL"),
    (0x5, "OA"),
    (0x6, "OD"),
    (0x7, "OU"),
    (0x8, "OL"),
    (0x9, "XA"),
    (0xA, "XD"),
    (0xB, "ZA"),
    (0xD, "XU"),
    (0x11, "ML"),
    (0x12, "RA"),
    (0x13, "SP"),
    (0x14, "TL"),
    (0x15, "FL"),
];
/// Flags of entries.
const FLAGS: [(u8, &str); 8] = [
    (0x1, "OI"),
    (0x2, "CI"),
    (0x4, "NP"),
    (0x8, "IO"),
    (0x10, "ID"),
    (0x20, "CR"),
    (0x40, "SA"),
    (0x80, "FA"),
];
/// Rights that have a name as a whole.
const WHOLE: [(u32, &str); 7] = [
    (0x1F_01FF, "FA"),
    (0x12_0089, "FR"),
    (0x12_0116, "FW"),
    (0x12_00A0, "FX"),
    (0xF_003F, "KA"),
    (0x2_0019, "KR"),
    (0x2_0006, "KW"),
];
/// Rights bit by bit.
const BITS: [(u32, &str); 17] = [
    (0x1, "CC"),
    (0x2, "DC"),
    (0x4, "LC"),
    (0x8, "SW"),
    (0x10, "RP"),
    (0x20, "WP"),
    (0x40, "DT"),
    (0x80, "LO"),
    (0x100, "CR"),
    (0x1_0000, "SD"),
    (0x2_0000, "RC"),
    (0x4_0000, "WD"),
    (0x8_0000, "WO"),
    (0x1000_0000, "GA"),
    (0x2000_0000, "GX"),
    (0x4000_0000, "GW"),
    (0x8000_0000, "GR"),
];
/// Rights in mandatory labels.
const LABEL_BITS: [(u32, &str); 3] = [(0x1, "NW"), (0x2, "NR"), (0x4, "NX")];
const LABEL: u8 = 0x11;

/// `O:BAG:SYD:PAI(A;OICI;FA;;;SY)...`: owner, group, DACL, SACL.
///
/// Rights, flags and kinds that SDDL has no names for are written as numbers in hexadecimal; of an entry of a kind that is not known its bytes, behind `#`.
///
/// A SACL that is damaged is left out, for it says nothing of who may do what: the second answer is why.
///
/// # Errors
/// [`Kind::Damaged`] for an entry of the DACL that cannot be read; [`Kind::Unsupported`] if the text would be longer than 4 MiB.
pub fn text(descriptor: &SecurityDescriptor<'_>) -> Result<(String, Option<Error>)> {
    let mut text = String::new();
    for (mark, sid) in [("O:", descriptor.owner), ("G:", descriptor.group)] {
        if let Some(sid) = sid {
            text.push_str(mark);
            text.push_str(&sid.to_sddl());
        }
    }
    // PROTECTED, AUTO_INHERIT_REQ and AUTO_INHERITED of the DACL, then of the SACL.
    let dacl = [(0x1000, "P"), (0x100, "AR"), (0x400, "AI")];
    let sacl = [(0x2000, "P"), (0x200, "AR"), (0x800, "AI")];
    let control = descriptor.control;
    if control & DACL_PRESENT != 0 {
        text.push_str(&list("D:", control, dacl, descriptor.dacl.as_ref())?);
    }
    if control & SACL_PRESENT == 0 {
        return Ok((text, None));
    }
    let sacl = match &descriptor.sacl {
        Ok(acl) => list("S:", control, sacl, acl.as_ref()),
        Err(error) => Err(error.clone()),
    };
    match sacl {
        Ok(sacl) => text.push_str(&sacl),
        Err(error) if error.kind() == Kind::Damaged => return Ok((text, Some(error))),
        Err(error) => return Err(error),
    }
    Ok((text, None))
}

/// A list behind its mark, with those of `flags` that `control` has.
fn list(
    mark: &str,
    control: u16,
    flags: [(u16, &str); 3],
    acl: Option<&Acl<'_>>,
) -> Result<String> {
    let set = flags.iter().filter(|(bit, _)| control & bit != 0);
    let set: String = set.map(|(_, name)| *name).collect();
    let mut text = format!("{mark}{set}");
    match acl {
        Some(acl) => entries(&mut text, acl)?,
        None => text.push_str("NO_ACCESS_CONTROL"),
    }
    Ok(text)
}

fn entries(text: &mut String, acl: &Acl<'_>) -> Result<()> {
    for ace in acl.aces() {
        one(text, &ace?)?;
        if text.len() > MAX_TEXT {
            return Err(Error::unsupported(
                "a security descriptor is too long to be written as text",
            ));
        }
    }
    Ok(())
}

fn one(text: &mut String, ace: &Ace<'_>) -> Result<()> {
    let kind = KINDS.iter().find(|(kind, _)| *kind == ace.kind);
    let kind = kind.map_or_else(|| format!("{:#x}", ace.kind), |(_, name)| (*name).into());
    let flags = flags(ace.flags);
    // Writing to a string cannot fail.
    match ace.body {
        Body::Unknown(bytes) => {
            let _ = write!(text, "({kind};{flags};;;;;#{})", condition::hex(bytes));
        }
        Body::Known {
            mask,
            object,
            sid,
            rest,
        } => {
            let guid = |id: Option<[u8; 16]>| id.map(|id| guid_text(&id)).unwrap_or_default();
            let objects = object.map(|objects| (guid(objects.object), guid(objects.inherited)));
            let (object, inherited) = objects.unwrap_or_default();
            let rights = rights(ace.kind, mask);
            let sid = sid.to_sddl();
            let _ = write!(text, "({kind};{flags};{rights};{object};{inherited};{sid}");
            if let Some(view) = acl::condition(rest) {
                let _ = write!(text, ";({})", condition::expression(view)?);
            } else if ace.kind == RESOURCE_ATTRIBUTE {
                let _ = write!(text, ";({})", condition::attribute(rest)?);
            }
            text.push(')');
        }
    }
    Ok(())
}

fn flags(flags: u8) -> String {
    let set = FLAGS.iter().filter(|(bit, _)| flags & bit != 0);
    set.map(|(_, name)| *name).collect()
}

fn rights(kind: u8, mask: u32) -> String {
    if let Some((_, name)) = WHOLE.iter().find(|(whole, _)| *whole == mask)
        && kind != LABEL
    {
        return (*name).to_string();
    }
    let names = if kind == LABEL {
        &LABEL_BITS[..]
    } else {
        &BITS[..]
    };
    let known = names.iter().fold(0, |sum, (bit, _)| sum | bit);
    match mask {
        0 => String::new(),
        _ if mask & !known != 0 => format!("{mask:#x}"),
        _ => {
            let set = names.iter().filter(|(bit, _)| mask & bit != 0);
            set.map(|(_, name)| *name).collect()
        }
    }
}

#[cfg(test)]
mod tests;
