//! Names at the target.

use cairn_base::ids::random;
use cairn_base::{Error, Result};

/// Of names of what is not whole yet.
const BEFORE: &[u8] = b".cairn-";
const BEHIND: &[u8] = b".partial";
/// Hexadecimal digits between them.
const DIGITS: usize = 16;
/// The longest name in bytes that file systems take.
const LONGEST: usize = 255;
/// What stands behind the last dot of a longer name is no ending.
const ENDING: usize = 32;

/// A name that is free, for what is not whole yet.
///
/// # Errors
/// Where the system has no randomness.
pub fn partial() -> Result<Vec<u8>> {
    let random = u64::from_le_bytes(random()?);
    let digits = format!("{random:0DIGITS$x}");
    Ok([BEFORE, digits.as_bytes(), BEHIND].concat())
}

/// Whether it is a name that [`partial`] gives.
pub fn is_partial(name: &[u8]) -> bool {
    let digits = name.strip_prefix(BEFORE);
    let digits = digits.and_then(|rest| rest.strip_suffix(BEHIND));
    digits.is_some_and(|d| d.len() == DIGITS && d.iter().all(u8::is_ascii_hexdigit))
}

/// Volumes promise such names; nobody is taken at their word.
///
/// # Errors
/// Damaged, if it is none.
pub fn check(name: &[u8]) -> Result<()> {
    let bad = matches!(name, b"" | b"." | b"..") || name.iter().any(|b| matches!(b, 0 | b'/'));
    if bad {
        let shown = String::from_utf8_lossy(name).into_owned();
        return Err(Error::damaged(format!("`{shown}` is no name of a file")));
    }
    Ok(())
}

/// `name`, `name (2)`, `name (3)`, ...: the number stands before the last dot. What stands before the number is cut where the whole would become too long.
pub fn numbered(name: &[u8], number: u32) -> Vec<u8> {
    let dot = name.iter().rposition(|byte| *byte == b'.');
    let dot = dot.filter(|at| *at > 0 && name.len().saturating_sub(*at) <= ENDING);
    let (stem, ending) = name.split_at(dot.unwrap_or(name.len()));
    let number = format!(" ({number})");
    let room = LONGEST.saturating_sub(number.len().saturating_add(ending.len()));
    [cut(stem, room), number.as_bytes(), ending].concat()
}

/// The first bytes of a name, at most so many, and no part of a character.
fn cut(name: &[u8], room: usize) -> &[u8] {
    let goes_on = |at: usize| name.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let mut end = room.min(name.len());
    // A character has at most four bytes; what goes on for longer is no text.
    for _ in 0..3 {
        if goes_on(end) {
            end = end.saturating_sub(1);
        }
    }
    name.get(..end).unwrap_or(name)
}

/// The path of a name in a folder.
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match folder {
        b"" => name.to_vec(),
        _ => [folder, b"/", name].concat(),
    }
}

/// A path or name as it is without regard to case.
pub fn folded(path: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(path).to_lowercase().into_bytes()
}

/// A path as that of the folder above and the name in it.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (
            path.get(..at).unwrap_or_default(),
            path.get(at + 1..).unwrap_or_default(),
        ),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_numbers_before_their_ending() {
        for (name, expected) in [
            ("report.docx", "report (2).docx"),
            ("a.tar.gz", "a.tar (2).gz"),
            ("folder", "folder (2)"),
            (".profile", ".profile (2)"),
        ] {
            assert_eq!(numbered(name.as_bytes(), 2), expected.as_bytes());
        }
    }

    #[test]
    fn names_with_numbers_are_not_longer_than_names_may_be() {
        let long = "x".repeat(251) + ".txt";
        let made = String::from_utf8(numbered(long.as_bytes(), 2)).unwrap();
        assert_eq!(made, "x".repeat(247) + " (2).txt");
        // No part of a character stays: 3 bytes each, so 250 is not the end of one.
        let made = String::from_utf8(numbered("\u{20ac}".repeat(85).as_bytes(), 10)).unwrap();
        assert_eq!(made, "\u{20ac}".repeat(83) + " (10)");
        // An ending that leaves no room is none.
        let long = ".".to_string() + &"y".repeat(200) + "." + &"z".repeat(53);
        assert_eq!(numbered(long.as_bytes(), 2).len(), 255);
        assert!(numbered(&[0x80; 255], 2).len() <= 255);
    }

    #[test]
    fn names_of_what_is_not_whole_are_known() {
        assert!(is_partial(&partial().unwrap()));
        for name in [
            ".cairn-123-a.tar.partial",
            ".cairn-.partial",
            ".cairn-copy-unfinished",
            "a.partial",
        ] {
            assert!(!is_partial(name.as_bytes()), "{name}");
        }
    }
}
