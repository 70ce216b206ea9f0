//! Where the parent of a differencing disk is, and by what it is known: fields of the dynamic header, and the "Parent
//! Locator Entries" at its end.

use crate::align::to_usize;
use crate::guid::Guid;
use crate::layer::{Expected, ParentLink, ParentPlace};
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result, View};
use std::ops::Range;

const ID: usize = 40;
const MODIFIED: usize = 56;
const NAME: usize = 64;
const NAME_SIZE: usize = 512;
const ENTRIES: usize = 576;
const ENTRY: usize = 24;
/// "The number of parent locator entries" in a header.
const COUNT: usize = 8;
/// Bytes of a path that is looked at, as it is written: [`ParentPlace::of`] takes no longer one.
const MAX_LENGTH: u32 = 8 << 10;

/// What the dynamic header in `header`, which lay at `base` of `image`, says of the parent. A locator that cannot be read
/// is passed over: another one, or the name, may do.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the header is too short,
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) if it has no id of the parent.
pub(super) fn parse(image: &dyn ReadAt, header: &[u8], base: u64) -> Result<ParentLink> {
    let view = View::new(header, "VHD dynamic header", base);
    let name = utf16(view.slice(NAME, NAME_SIZE)?, u16::from_be_bytes);
    let id = Guid(view.array(ID)?);
    if id.is_nil() {
        return Err(Error::unsupported(format!(
            "this differencing disk does not say which id its parent `{name}` has, so that no file can be known as the parent"
        ))
        .at_offset(base));
    }
    let (mut relative, mut absolute) = (Vec::new(), Vec::new());
    for index in 0..COUNT {
        let at = index.saturating_mul(ENTRY).saturating_add(ENTRIES);
        let entry = view.part(at, ENTRY, "VHD parent locator")?;
        let code: [u8; 4] = entry.array(0)?;
        let (length, offset) = (entry.u32_be(8)?, entry.u64_be(16)?);
        if length > MAX_LENGTH {
            continue;
        }
        let Ok(bytes) = read_vec(image, offset, to_usize(u64::from(length))?) else {
            continue;
        };
        match &code {
            b"W2ru" => relative.extend(ParentPlace::of(&utf16(&bytes, u16::from_le_bytes))),
            b"W2ku" => absolute.extend(ParentPlace::of(&utf16(&bytes, u16::from_le_bytes))),
            b"Wi2r" => relative.extend(ParentPlace::of(&narrow(&bytes))),
            b"Wi2k" => absolute.extend(ParentPlace::of(&narrow(&bytes))),
            b"MacX" => absolute.extend(ParentPlace::of(&url(&narrow(&bytes)))),
            _ => {}
        }
    }
    let name = ParentPlace::of(&name);
    let mut places: Vec<ParentPlace> = Vec::new();
    for place in relative.into_iter().chain(absolute).chain(name) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    Ok(ParentLink {
        expected: Expected::Vhd {
            id,
            modified: view.u32_be(MODIFIED)?,
        },
        places,
    })
}

/// Where the locators' data are said to lie, each with the place at which that is written. `header` lay at `base`.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the header is too short.
pub(super) fn places(header: &[u8], base: u64) -> Result<Vec<(u64, Range<u64>)>> {
    let view = View::new(header, "VHD dynamic header", base);
    let mut places = Vec::with_capacity(COUNT);
    for index in 0..COUNT {
        let at = index.saturating_mul(ENTRY).saturating_add(ENTRIES);
        let entry = view.part(at, ENTRY, "VHD parent locator")?;
        let code: [u8; 4] = entry.array(0)?;
        let (length, offset) = (u64::from(entry.u32_be(8)?), entry.u64_be(16)?);
        if code != [0; 4] && length > 0 {
            places.push((entry.base(), offset..offset.saturating_add(length)));
        }
    }
    Ok(places)
}

/// UTF-16 up to the first zero.
fn utf16(bytes: &[u8], unit: impl Fn([u8; 2]) -> u16) -> String {
    let units = bytes.as_chunks::<2>().0.iter().map(|pair| unit(*pair));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}

/// Bytes up to the first zero, as UTF-8.
fn narrow(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let text = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// The path of a `file:` URL, as XenServer writes them: without escapes.
fn url(text: &str) -> String {
    let path = text.strip_prefix("file://").unwrap_or(text);
    path.strip_prefix("localhost").unwrap_or(path).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header whose locators lie behind it.
    fn header(locators: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        bytes[ID..ID + 16].fill(7);
        bytes[MODIFIED..MODIFIED + 4].copy_from_slice(&9u32.to_be_bytes());
        for (at, unit) in "name.vhd".encode_utf16().enumerate() {
            bytes[NAME + 2 * at..][..2].copy_from_slice(&unit.to_be_bytes());
        }
        for (index, (code, data)) in locators.iter().enumerate() {
            let at = bytes.len() as u64;
            let entry = &mut bytes[ENTRIES + ENTRY * index..][..ENTRY];
            entry[..4].copy_from_slice(*code);
            entry[8..12].copy_from_slice(&(data.len() as u32).to_be_bytes());
            entry[16..].copy_from_slice(&at.to_be_bytes());
            bytes.extend_from_slice(data);
        }
        bytes
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn parsed(bytes: &[u8]) -> Result<ParentLink> {
        parse(&bytes.to_vec(), &bytes[..1024], 0)
    }

    #[test]
    fn relative_places_come_first_and_the_name_last() {
        let bytes = header(&[
            (b"W2ku", wide(r"C:\disks\absolute.vhd")),
            (b"Wi2k", b"C:\\disks\\old.vhd".to_vec()),
            (b"MacX", b"file:///dev/vg/lv\0".to_vec()),
            (b"Mac ", b"an alias".to_vec()),
            (b"W2ru", wide(r"..\relative.vhd")),
            (b"Wi2r", b".\\old.vhd".to_vec()),
        ]);
        let link = parsed(&bytes).unwrap();
        let expected = [
            ParentPlace::Relative("../relative.vhd".into()),
            ParentPlace::Relative("./old.vhd".into()),
            ParentPlace::Name("absolute.vhd".into()),
            ParentPlace::Name("old.vhd".into()),
            ParentPlace::Absolute("/dev/vg/lv".into()),
            ParentPlace::Relative("name.vhd".into()),
        ];
        assert_eq!(link.places, expected);
        let id = Guid([7; 16]);
        assert_eq!(link.expected, Expected::Vhd { id, modified: 9 });
    }

    #[test]
    fn locators_that_cannot_be_are_passed_over() {
        let mut bytes = header(&[(b"W2ru", wide("a.vhd")), (b"W2ku", wide("b.vhd"))]);
        bytes[ENTRIES + 8] = 1;
        bytes[ENTRIES + ENTRY + 16] = 0x80;
        let places = parsed(&bytes).unwrap().places;
        assert_eq!(places, [ParentPlace::Relative("name.vhd".into())]);
        bytes[ID..ID + 16].fill(0);
        let error = parsed(&bytes).unwrap_err();
        assert_eq!(error.kind(), cairn_base::Kind::Unsupported);
    }

    #[test]
    fn no_path_is_kept_twice_and_none_that_is_too_long() {
        let long = "a/".repeat(2048) + "b.vhd";
        let bytes = header(&[
            (b"W2ru", wide(r".\a.vhd")),
            (b"Wi2r", b".\\a.vhd".to_vec()),
            (b"MacX", long.clone().into_bytes()),
            (b"W2ru", wide(&long)),
            (b"W2ru", wide("name.vhd")),
        ]);
        let expected = ["./a.vhd", "name.vhd"].map(|path| ParentPlace::Relative(path.into()));
        assert_eq!(parsed(&bytes).unwrap().places, expected);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..1400), code in 0usize..5) {
            let _ = parse(&bytes, &bytes, 0);
            if bytes.len() >= 1024 {
                bytes[ENTRIES..ENTRIES + 4].copy_from_slice([b"W2ru", b"W2ku", b"Wi2r", b"Wi2k", b"MacX"][code]);
                bytes[ENTRIES + 8..ENTRIES + 11].fill(0);
                bytes[ENTRIES + 16..ENTRIES + 22].fill(0);
                let _ = parse(&bytes, &bytes[..1024], 0);
            }
        }
    }
}
