//! Patterns of names: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before a character that stands for itself.

use cairn_base::{Error, Result};

/// Where bytes that are no UTF-8 stand among characters.
const BYTES: u32 = 0x11_0000;

/// A pattern. `*` stands for any characters, also none; a byte that is no UTF-8 counts as a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `*`
    Any,
    /// `?`
    One,
    /// One of these ranges, or one of no other.
    Set(bool, Vec<(u32, u32)>),
    /// Itself.
    Is(u32),
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if a `[` has no end, or nothing follows a `\`.
    pub fn new(pattern: &[u8]) -> Result<Glob> {
        let bad = |why: &str| {
            let pattern = String::from_utf8_lossy(pattern).into_owned();
            Error::invalid(format!("the pattern `{pattern}` {why}"))
        };
        let text = characters(pattern);
        let (mut parts, mut at) = (Vec::new(), 0);
        while let Some(&character) = text.get(at) {
            at += 1;
            let part = match char::from_u32(character) {
                Some('*') => Part::Any,
                Some('?') => Part::One,
                Some('[') => {
                    let rest = text.get(at..).unwrap_or_default();
                    let (part, length) = set(rest).ok_or_else(|| bad("has a `[` without `]`"))?;
                    at += length;
                    part
                }
                Some('\\') => {
                    let next = text.get(at).ok_or_else(|| bad("ends with a `\\`"))?;
                    at += 1;
                    Part::Is(*next)
                }
                _ => Part::Is(character),
            };
            // Several stars say no more than one.
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
        }
        Ok(Glob { parts })
    }

    /// Whether the pattern stands for all of `name`.
    pub fn matches(&self, name: &[u8], ignore_case: bool) -> bool {
        let text = characters(name);
        let (mut part, mut at) = (0, 0);
        // Where the last star stands, and up to where it reaches: only that one has to reach further when what follows fails.
        let mut star: Option<(usize, usize)> = None;
        loop {
            match (self.parts.get(part), text.get(at)) {
                (None, None) => return true,
                (Some(Part::Any), _) => {
                    star = Some((part, at));
                    part += 1;
                    continue;
                }
                (Some(one), Some(character)) if one.is(*character, ignore_case) => {
                    part += 1;
                    at += 1;
                    continue;
                }
                _ => {}
            }
            match star {
                Some((of, reached)) if reached < text.len() => {
                    star = Some((of, reached + 1));
                    part = of + 1;
                    at = reached + 1;
                }
                _ => return false,
            }
        }
    }

    /// The bytes with which everything begins that the pattern stands for.
    pub fn beginning(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            let Part::Is(character) = part else { break };
            match char::from_u32(*character) {
                Some(character) => {
                    bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                None => bytes.extend(u8::try_from(character.saturating_sub(BYTES))),
            }
        }
        bytes
    }
}

impl Part {
    fn is(&self, character: u32, ignore_case: bool) -> bool {
        match self {
            Part::Any | Part::One => true,
            Part::Is(own) => own == &character || ignore_case && fold(*own) == fold(character),
            Part::Set(other, ranges) => {
                let within =
                    |one: u32| ranges.iter().any(|(from, to)| (*from..=*to).contains(&one));
                let found = within(character)
                    || ignore_case && (within(fold(character)) || within(raise(character)));
                found != *other
            }
        }
    }
}

/// What stands behind a `[`, and how long it is with its `]`.
fn set(text: &[u32]) -> Option<(Part, usize)> {
    let is = |at: usize, sign: char| text.get(at) == Some(&u32::from(sign));
    let mut at = 0;
    let other = is(0, '!') || is(0, '^');
    at += usize::from(other);
    let begin = at;
    let mut ranges = Vec::new();
    loop {
        // A `]` that comes first stands for itself.
        if at > begin && is(at, ']') {
            return Some((Part::Set(other, ranges), at + 1));
        }
        let from = *text.get(at)?;
        if is(at + 1, '-') && !is(at + 2, ']') {
            ranges.push((from, *text.get(at + 2)?));
            at += 3;
        } else {
            ranges.push((from, from));
            at += 1;
        }
    }
}

fn fold(character: u32) -> u32 {
    let lower = char::from_u32(character).and_then(|c| c.to_lowercase().next());
    lower.map_or(character, u32::from)
}

fn raise(character: u32) -> u32 {
    let upper = char::from_u32(character).and_then(|c| c.to_uppercase().next());
    upper.map_or(character, u32::from)
}

fn characters(bytes: &[u8]) -> Vec<u32> {
    let mut found = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        found.extend(chunk.valid().chars().map(u32::from));
        found.extend(chunk.invalid().iter().map(|byte| BYTES + u32::from(*byte)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &[u8]) -> bool {
        Glob::new(pattern.as_bytes()).unwrap().matches(name, false)
    }

    #[test]
    fn patterns_stand_for_whole_names() {
        for (pattern, name) in [
            ("*", ""),
            ("*.docx", "a.docx"),
            ("*.docx", ".docx"),
            ("a*b*c", "a-b-b-c"),
            ("?", "ü"),
            ("gr[üu][a-z-]e", "gr\u{fc}\u{2d}e"),
            ("[!a-c]x", "dx"),
            ("[]]", "]"),
            ("\\*", "*"),
            ("**a**", "bab"),
            ("/disk0/p1/*/x", "/disk0/p1/a/b/x"),
        ] {
            assert!(matches(pattern, name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("*.docx", "a.docx.bak"),
            ("?", ""),
            ("a*b*c", "a-c"),
            ("[a-c]", "d"),
            ("[!a-c]", "a"),
            ("\\*", "a"),
            ("A", "a"),
        ] {
            assert!(!matches(pattern, name.as_bytes()), "{pattern} {name}");
        }
        for bad in ["[", "[a", "[]", "a\\"] {
            assert!(Glob::new(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_and_case() {
        assert!(matches("a?b", b"a\xffb"));
        assert!(matches("a*", b"a\xff\xfe"));
        let bytes = Glob::new(b"x\xff*").unwrap();
        assert!(bytes.matches(b"x\xffy", false) && !bytes.matches(b"x\xfey", false));
        assert_eq!(bytes.beginning(), b"x\xff");
        let glob = Glob::new("GRÜ[A-Z]E*".as_bytes()).unwrap();
        assert!(glob.matches("grüse.txt".as_bytes(), true));
        assert!(!glob.matches("grüse.txt".as_bytes(), false));
        assert_eq!(glob.beginning(), "GRÜ".as_bytes());
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = "*a".repeat(200);
        let name = "a".repeat(199) + "b";
        assert!(!matches(&pattern, name.as_bytes()));
    }
}
