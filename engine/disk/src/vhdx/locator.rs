//! The parent locator of a differencing disk, \[MS-VHDX\] 2.6.2.6: where the parent is, and by what it is known.

use crate::guid::Guid;
use crate::layer::{Expected, ParentLink, ParentPlace};
use cairn_base::{Error, Result, View};

/// The one type of locator there is (2.6.2.6.1).
const VHDX: Guid = Guid::from_printed(0xB04AEFB7_D19E_4A81_B789_25B8E9445913);
/// Keys under which the parent's place may stand, in the order in which to look (2.6.2.6.3).
const PLACES: [&str; 3] = ["relative_path", "volume_path", "absolute_win32_path"];
/// Keys under which the parent's DataWriteGuid stands: the second one is there while a merge may change it.
const LINKS: [&str; 2] = ["parent_linkage", "parent_linkage2"];
/// Six keys are known.
const MAX_ENTRIES: u16 = 64;
const HEADER: usize = 20;
const ENTRY: usize = 12;

/// What the locator in `bytes`, which lay at `base`, says of the parent.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the locator contradicts the specification or does not say by what the
/// parent is known, [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for another type of locator.
pub(super) fn parse(bytes: &[u8], base: u64) -> Result<ParentLink> {
    let view = View::new(bytes, "VHDX parent locator", base);
    let kind = Guid::from_windows(view.array(0)?);
    if kind != VHDX {
        return Err(Error::unsupported(format!(
            "the VHDX names its parent in a locator of type {kind}, which is not known"
        ))
        .at_offset(base));
    }
    let count = view.u16_le(18)?;
    if count > MAX_ENTRIES {
        return Err(view.damaged(18, &format!("{count} entries are more than {MAX_ENTRIES}")));
    }
    let mut places: [Option<String>; PLACES.len()] = Default::default();
    let mut links: [Option<String>; LINKS.len()] = Default::default();
    for index in 0..usize::from(count) {
        let at = index.saturating_mul(ENTRY).saturating_add(HEADER);
        let entry = view.part(at, ENTRY, "VHDX parent locator entry")?;
        let key = text(&view, entry.u32_le(0)?, entry.u16_le(8)?)?;
        let known = PLACES.iter().zip(&mut places);
        let known = known.chain(LINKS.iter().zip(&mut links));
        for (_, slot) in known.filter(|(name, _)| **name == key) {
            *slot = Some(text(&view, entry.u32_le(4)?, entry.u16_le(10)?)?);
        }
    }
    let mut ids = Vec::new();
    for link in links.iter().flatten() {
        let id = Guid::from_text(link).ok_or_else(|| {
            view.damaged(
                0,
                &format!("`{link}`, by which the parent is known, is no GUID"),
            )
        })?;
        ids.push(id);
    }
    if ids.is_empty() {
        return Err(view.damaged(0, "does not say by what the parent is known"));
    }
    let places = places.iter().flatten();
    Ok(ParentLink {
        expected: Expected::Vhdx(ids),
        places: places.filter_map(|text| ParentPlace::of(text)).collect(),
    })
}

/// UTF-16 up to the first zero.
fn text(view: &View<'_>, at: u32, length: u16) -> Result<String> {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let pairs = view.slice(at, usize::from(length))?.as_chunks::<2>().0;
    let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Kind;
    use proptest::prelude::*;

    fn locator(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = VHDX.to_windows().to_vec();
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&(pairs.len() as u16).to_le_bytes());
        let mut texts = Vec::new();
        let first = HEADER + ENTRY * pairs.len();
        for (key, value) in pairs {
            let at = (first + texts.len()) as u32;
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
        bytes
    }

    const LINK: (&str, &str) = ("parent_linkage", "{83ed0ec1-24c8-49a6-a959-5e4bd1288791}");

    #[test]
    fn places_in_the_order_to_look() {
        let bytes = locator(&[
            ("absolute_win32_path", r"\\?\C:\disks\abs.vhdx"),
            ("parent_linkage2", "{00000000-0000-0000-0000-000000000002}"),
            LINK,
            ("relative_path", r"..\base.vhdx"),
            ("something", "else"),
        ]);
        let link = parse(&bytes, 0).unwrap();
        let ids = [0x83ed0ec1_24c8_49a6_a959_5e4bd1288791, 2].map(Guid::from_printed);
        assert_eq!(link.expected, Expected::Vhdx(ids.to_vec()));
        let places = [
            ParentPlace::Relative("../base.vhdx".into()),
            ParentPlace::Name("abs.vhdx".into()),
        ];
        assert_eq!(link.places, places);
        assert!(parse(&bytes[..bytes.len() - 9], 0).is_err());
    }

    #[test]
    fn a_locator_that_says_too_little_is_refused() {
        let kind = |bytes: &[u8]| parse(bytes, 0).unwrap_err().kind();
        assert_eq!(kind(&locator(&[("relative_path", "a")])), Kind::Damaged);
        assert_eq!(kind(&locator(&[("parent_linkage", "a")])), Kind::Damaged);
        let mut other = locator(&[LINK]);
        assert!(parse(&other, 0).is_ok());
        other[0] ^= 1;
        assert_eq!(kind(&other), Kind::Unsupported);
        assert_eq!(kind(&[]), Kind::Damaged);
        let many = vec![LINK; usize::from(MAX_ENTRIES) + 1];
        assert_eq!(kind(&locator(&many)), Kind::Damaged);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(noise in proptest::collection::vec((0usize..300, any::<u8>()), 0..8), cut in 0usize..300) {
            let mut bytes = locator(&[LINK, ("relative_path", "base.vhdx")]);
            for (at, byte) in noise {
                if let Some(slot) = bytes.get_mut(at) {
                    *slot = byte;
                }
            }
            let _ = parse(&bytes, 0);
            let _ = parse(bytes.get(..cut).unwrap_or(&bytes), 0);
        }
    }
}
