//! Names: UTF-16 on disk, UTF-8 to us, lone surrogates as WTF-8.

/// The longest name in UTF-16 units.
pub const MAX_UNITS: usize = 255;

/// `units` as UTF-8; a lone surrogate as the three bytes of its number (WTF-8).
pub fn to_bytes(units: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(units.len());
    for character in char::decode_utf16(units.iter().copied()) {
        match character {
            Ok(character) => {
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Err(lone) => bytes.extend_from_slice(&surrogate(lone.unpaired_surrogate())),
        }
    }
    bytes
}

/// The UTF-16 of a name in UTF-8 or WTF-8; nothing if it is neither.
pub fn from_bytes(bytes: &[u8]) -> Option<Vec<u16>> {
    let mut units = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let valid = match std::str::from_utf8(rest) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(rest.get(..error.valid_up_to())?).ok()?,
        };
        units.extend(valid.encode_utf16());
        rest = rest.get(valid.len()..)?;
        match rest {
            [] => {}
            [0xED, second @ 0xA0..=0xBF, third @ 0x80..=0xBF, after @ ..] => {
                let high = u16::from(second & 0x3F).checked_mul(64)?;
                units.push(0xD000 | high | u16::from(third & 0x3F));
                rest = after;
            }
            _ => return None,
        }
    }
    Some(units)
}

/// A name as a folder shows it: what cannot be a Unix name (`/`, NUL, `.`, `..`, nothing at all) is moved to the
/// private characters U+F000 to U+F0FF, the way Cygwin and Samba do. Windows writes no such names.
pub fn shown(units: &[u16]) -> Vec<u8> {
    const DOT: u16 = 0x2E;
    match units {
        [] => to_bytes(&[0xF000]),
        [DOT] | [DOT, DOT] => to_bytes(&units.iter().map(|unit| unit | 0xF000).collect::<Vec<_>>()),
        _ if units.iter().any(|&unit| is_hidden(unit)) => {
            let mapped: Vec<u16> = units
                .iter()
                .map(|&unit| if is_hidden(unit) { unit | 0xF000 } else { unit })
                .collect();
            to_bytes(&mapped)
        }
        _ => to_bytes(units),
    }
}

/// The name that [`shown`] may have changed to `units`, if there is one.
pub fn unshown(units: &[u16]) -> Option<Vec<u16>> {
    let moved = |unit: u16| matches!(unit, 0xF000 | 0xF02E | 0xF02F);
    if !units.iter().any(|&unit| moved(unit)) {
        return None;
    }
    if units == [0xF000] {
        return Some(Vec::new());
    }
    Some(
        units
            .iter()
            .map(|&unit| if moved(unit) { unit & 0x00FF } else { unit })
            .collect(),
    )
}

fn is_hidden(unit: u16) -> bool {
    unit == 0 || unit == 0x2F
}

fn surrogate(unit: u16) -> [u8; 3] {
    let [high, low] = unit.to_be_bytes();
    let middle = u8::try_from((unit & 0x0FC0) / 64).unwrap_or(0);
    [0xE0 | (high / 16), 0x80 | middle, 0x80 | (low & 0x3F)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lone_surrogates_and_impossible_names() {
        assert_eq!(to_bytes(&[0x61, 0xD800, 0x62]), b"a\xED\xA0\x80b");
        assert_eq!(to_bytes(&[0xDFFF]), b"\xED\xBF\xBF");
        assert_eq!(to_bytes(&[0xD83D, 0xDE00]), "😀".as_bytes());
        assert_eq!(from_bytes(b"\xFF"), None);
        assert_eq!(from_bytes(b"\xED\xA0"), None);
        assert_eq!(shown(&[0x61, 0x2F, 0x62]), "a\u{F02F}b".as_bytes());
        assert_eq!(shown(&[0x2E, 0x2E]), "\u{F02E}\u{F02E}".as_bytes());
        assert_eq!(unshown(&[0x61, 0xF02F]), Some(vec![0x61, 0x2F]));
        assert_eq!(unshown(&[0x61, 0x62]), None);
    }

    proptest! {
        #[test]
        fn any_name_comes_back(units in proptest::collection::vec(any::<u16>(), 0..40)) {
            prop_assert_eq!(from_bytes(&to_bytes(&units)), Some(units.clone()));
            let shown = shown(&units);
            prop_assert!(!shown.is_empty() && !shown.contains(&b'/') && !shown.contains(&0));
        }
        #[test]
        fn any_bytes_are_a_name_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = std::str::from_utf8(&bytes).is_ok();
            prop_assert!(!text || from_bytes(&bytes).is_some());
            if let Some(units) = from_bytes(&bytes).filter(|_| text) {
                prop_assert_eq!(to_bytes(&units), bytes);
            }
        }
    }
}
