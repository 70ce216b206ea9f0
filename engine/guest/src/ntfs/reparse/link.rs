//! What symbolic links and junctions of Windows lead to.
//!
//! The name made for the kernel counts: it is what the kernel follows. It is an object of its own name space, `\??\C:\Users`, or relative.

use super::super::name;
use super::{MOUNT_POINT, RELATIVE, SYMLINK, name_at, tag};
use crate::volume::LinkTarget;
use cairn_base::{Result, View};

const BACKSLASH: u16 = 0x5c;
const COLON: u16 = 0x3a;
/// What stands before names of volumes and servers.
const PREFIXES: [&str; 4] = [r"\??\", r"\\?\", r"\DosDevices\", r"\\.\"];
/// Characters of a GUID as text.
const GUID: usize = 36;

/// What the reparse point leads to; nothing if it is no link of Windows.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if its names do not lie in it.
pub fn link_target(view: View<'_>) -> Result<Option<LinkTarget>> {
    let (buffer, relative) = match tag(view)? {
        MOUNT_POINT => (8, false),
        SYMLINK => (12, view.tail(8)?.u32_le(8)? & RELATIVE != 0),
        _ => return Ok(None),
    };
    let data = view.tail(8)?;
    let mut name = name_at(data, 0, buffer)?;
    if name.is_empty() {
        name = name_at(data, 4, buffer)?;
    }
    Ok(Some(if relative {
        relative_target(&name)
    } else {
        absolute_target(&name)
    }))
}

fn relative_target(name: &[u16]) -> LinkTarget {
    if name.first() == Some(&BACKSLASH) {
        return LinkTarget::Rooted(names(name, true));
    }
    match drive(name) {
        Some((letter, rest)) => LinkTarget::Letter(letter, names(rest, true)),
        None => LinkTarget::Relative(names(name, false)),
    }
}

fn absolute_target(name: &[u16]) -> LinkTarget {
    let prefix = PREFIXES.iter().find_map(|prefix| behind(name, prefix));
    let inner = prefix.unwrap_or(name);
    if let Some((letter, rest)) = drive(inner) {
        return LinkTarget::Letter(letter, names(rest, true));
    }
    if let Some((guid, rest)) = volume(inner) {
        return LinkTarget::Named(guid, names(rest, true));
    }
    let before = match (prefix, name) {
        (Some(_), _) => "/??/",
        (None, [BACKSLASH, BACKSLASH, ..]) => "/??/UNC/",
        (None, [BACKSLASH, ..]) => "/??/GLOBALROOT/",
        (None, _) => "/??/",
    };
    let path: Vec<Vec<u8>> = parts(inner).map(name::shown).collect();
    LinkTarget::Elsewhere([before.as_bytes(), &path.join(&b'/')].concat())
}

/// What stands behind `prefix`, whose letters may be of either case.
fn behind<'a>(name: &'a [u16], prefix: &str) -> Option<&'a [u16]> {
    let (head, rest) = name.split_at_checked(prefix.len())?;
    let same = head
        .iter()
        .zip(prefix.bytes())
        .all(|(unit, byte)| u8::try_from(*unit).is_ok_and(|unit| unit.eq_ignore_ascii_case(&byte)));
    same.then_some(rest)
}

/// A drive letter, and the path behind its colon.
fn drive(name: &[u16]) -> Option<(u8, &[u16])> {
    let [letter, COLON, rest @ ..] = name else {
        return None;
    };
    let letter = u8::try_from(*letter).ok()?.to_ascii_uppercase();
    (letter.is_ascii_uppercase() && is_path(rest)).then_some((letter, rest))
}

/// The GUID of `Volume{GUID}`, and the path behind it.
fn volume(name: &[u16]) -> Option<(String, &[u16])> {
    let (guid, rest) = behind(name, "Volume{")?.split_at_checked(GUID)?;
    let rest = behind(rest, "}")?;
    let guid = String::from_utf16(guid).ok()?.to_ascii_lowercase();
    is_path(rest).then_some((guid, rest))
}

/// Whether what stands behind a volume's name goes on from its root, or is nothing.
fn is_path(rest: &[u16]) -> bool {
    rest.first().is_none_or(|first| *first == BACKSLASH)
}

/// What stands between backslashes, but for nothing and `.`.
fn parts(path: &[u16]) -> impl Iterator<Item = &[u16]> {
    const DOT: [u16; 1] = [0x2e];
    let parts = path.split(|unit| *unit == BACKSLASH);
    parts.filter(|part| !part.is_empty() && *part != DOT)
}

/// The names of a path. From a root no `..` is left: it goes up as far as there is something above.
fn names(path: &[u16], from_root: bool) -> Vec<Vec<u8>> {
    const DOTS: [u16; 2] = [0x2e, 0x2e];
    let mut names: Vec<Vec<u8>> = Vec::new();
    for part in parts(path) {
        if part != DOTS {
            names.push(name::shown(part));
        } else if from_root {
            let _above = names.pop();
        } else {
            names.push(b"..".to_vec());
        }
    }
    names
}
