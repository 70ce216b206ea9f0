//! The parent locator of a differencing disk, \[MS-VHDX\] 2.6.2.6: read for the parent's name only.

use cairn_base::{Result, View};

/// The keys under which a parent's place may stand, the most telling first.
const PLACES: [&str; 3] = ["absolute_win32_path", "relative_path", "volume_path"];

/// The parent's path as the locator in `bytes`, which lay at `base`, gives it; `None` if it gives none.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the locator contradicts the specification.
pub fn parent_path(bytes: &[u8], base: u64) -> Result<Option<String>> {
    let view = View::new(bytes, "VHDX parent locator", base);
    let count = view.u16_le(18)?;
    let mut found: [Option<String>; 3] = [None, None, None];
    for index in 0..usize::from(count) {
        let entry = view.part(
            index.saturating_mul(12).saturating_add(20),
            12,
            "VHDX parent locator entry",
        )?;
        let text = |at: u32, length: u16| -> Result<String> {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let units: Vec<u16> = view
                .slice(at, usize::from(length))?
                .as_chunks::<2>()
                .0
                .iter()
                .map(|pair| u16::from_le_bytes(*pair))
                .collect();
            Ok(String::from_utf16_lossy(&units))
        };
        let key = text(entry.u32_le(0)?, entry.u16_le(8)?)?;
        for (slot, place) in found.iter_mut().zip(PLACES) {
            if key == place {
                *slot = Some(text(entry.u32_le(4)?, entry.u16_le(10)?)?);
            }
        }
    }
    Ok(found.into_iter().flatten().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_most_telling_path_is_given() {
        let mut bytes = vec![0; 18];
        bytes.extend_from_slice(&2u16.to_le_bytes());
        let mut texts = Vec::new();
        for (key, value) in [
            ("relative_path", r".\base.vhdx"),
            ("absolute_win32_path", r"C:\base.vhdx"),
        ] {
            let at = 20 + 24 + texts.len() as u32;
            let utf16 = |text: &str| {
                text.encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect::<Vec<_>>()
            };
            let (key, value) = (utf16(key), utf16(value));
            bytes.extend_from_slice(&at.to_le_bytes());
            bytes.extend_from_slice(&(at + key.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
            texts.extend(key);
            texts.extend(value);
        }
        bytes.extend(texts);
        assert_eq!(parent_path(&bytes, 0).unwrap().unwrap(), r"C:\base.vhdx");
        assert!(parent_path(&bytes[..bytes.len() - 1], 0).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parent_path(&bytes, 0);
        }
    }
}
