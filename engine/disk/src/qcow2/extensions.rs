//! Header extensions ("Header extensions"): what the backing file is, what the external data file is called, how features are called, where bitmaps lie.

use super::header::Header;
use cairn_base::units::to_u64;
use cairn_base::{Result, View};

const END: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const FEATURE_NAMES: u32 = 0x6803_f857;
const DATA_FILE: u32 = 0x4441_5441;
const BITMAPS: u32 = 0x2385_2875;

/// Bytes of an entry of the feature name table.
const NAME_ENTRY: usize = 48;
/// There are so many features of all three kinds: more names have no use.
const MAX_NAMES: usize = 192;

/// Where bitmaps lie ("Bitmaps extension"), as it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bitmaps {
    /// How many there are.
    pub count: u64,
    /// Where their directory begins, in bytes.
    pub offset: u64,
    /// Bytes of the directory.
    pub length: u64,
    /// Where in the file that is written.
    pub written_at: u64,
}

/// What the extensions say that matters for reading and checking.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// The backing file's format.
    pub backing_format: Option<Vec<u8>>,
    /// The external data file's name.
    pub data_file: Option<Vec<u8>>,
    /// Numbers of incompatible feature bits, and their names.
    pub feature_names: Vec<(u8, String)>,
    /// The bitmaps.
    pub bitmaps: Option<Bitmaps>,
}

impl Extensions {
    /// Parses the extensions in `head`, the first cluster or as much of it as the file has, behind `header` and before the backing file's name.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if one does not end there.
    pub fn parse(head: &[u8], header: &Header) -> Result<Extensions> {
        let end = header.backing.map_or(head.len(), |(offset, _)| offset);
        let bytes = head.get(..end.min(head.len())).unwrap_or_default();
        let view = View::new(bytes, "QCOW2 header extension", 0);
        let mut found = Extensions::default();
        let mut at = header.length;
        // Each step goes at least 8 bytes on, within one cluster.
        while at.saturating_add(8) <= bytes.len() {
            let kind = view.u32_be(at)?;
            let length = usize::try_from(view.u32_be(at.saturating_add(4))?).unwrap_or(usize::MAX);
            if kind == END {
                break;
            }
            let data = view.slice(at.saturating_add(8), length)?;
            match kind {
                BACKING_FORMAT => found.backing_format = Some(data.to_vec()),
                DATA_FILE => found.data_file = Some(data.to_vec()),
                FEATURE_NAMES => found.feature_names = names(data),
                BITMAPS => found.bitmaps = bitmaps(data, to_u64(at).saturating_add(8)),
                _ => {}
            }
            let padded = length.checked_next_multiple_of(8).unwrap_or(usize::MAX);
            at = at.saturating_add(8).saturating_add(padded);
        }
        Ok(found)
    }

    /// The incompatible features of `bits`, by name where one is known.
    pub fn name_features(&self, bits: u64) -> String {
        let numbers = (0..64u8).filter(|bit| bits >> bit & 1 != 0);
        let named: Vec<String> = numbers
            .map(|bit| {
                let name = self.feature_names.iter().find(|(known, _)| *known == bit);
                match name {
                    Some((_, name)) => format!("`{}` (bit {bit})", name.escape_debug()),
                    None => format!("bit {bit}"),
                }
            })
            .collect();
        named.join(", ")
    }
}

/// What the extension says whose data are written at `written_at`; nothing if it is too short, as an image is that has none.
fn bitmaps(data: &[u8], written_at: u64) -> Option<Bitmaps> {
    let view = View::new(data, "QCOW2 bitmaps extension", written_at);
    Some(Bitmaps {
        count: view.u32_be(0).ok()?.into(),
        length: view.u64_be(8).ok()?,
        offset: view.u64_be(16).ok()?,
        written_at,
    })
}

/// The names of incompatible features in a feature name table ("Feature name table").
fn names(data: &[u8]) -> Vec<(u8, String)> {
    let mut names = Vec::new();
    for entry in data.chunks_exact(NAME_ENTRY).take(MAX_NAMES) {
        let [0, bit, name @ ..] = entry else { continue };
        let name: Vec<u8> = name.iter().copied().take_while(|byte| *byte != 0).collect();
        names.push((*bit, String::from_utf8_lossy(&name).into_owned()));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qcow2::header::Compression;

    fn header(backing: Option<(usize, usize)>) -> Header {
        Header {
            version: 3,
            cluster_bits: 9,
            disk_size: 512,
            l1_offset: 512,
            l1_entries: 1,
            incompatible: 0,
            autoclear: 0,
            length: 104,
            compression: Compression::Zlib,
            backing,
        }
    }

    fn extension(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0xEE);
        bytes
    }

    #[test]
    fn what_is_known_is_found_and_the_rest_passed_over() {
        let mut table = vec![0; 3 * NAME_ENTRY];
        table[1] = 9;
        table[2..6].copy_from_slice(b"warp");
        // A compatible feature's name is not one of an incompatible feature.
        table[NAME_ENTRY..NAME_ENTRY + 3].copy_from_slice(&[1, 10, b'x']);
        table[2 * NAME_ENTRY + 1..].fill(b'q');
        let mut head = vec![0; 104];
        head.extend(extension(0x1234_5678, b"unknown"));
        head.extend(extension(BACKING_FORMAT, b"raw"));
        head.extend(extension(FEATURE_NAMES, &table));
        head.extend(extension(DATA_FILE, b"data"));
        head.extend(extension(END, b""));
        head.extend(extension(DATA_FILE, b"behind the end"));
        let found = Extensions::parse(&head, &header(None)).unwrap();
        assert_eq!(found.backing_format.as_deref(), Some(&b"raw"[..]));
        assert_eq!(found.data_file.as_deref(), Some(&b"data"[..]));
        assert_eq!(
            found.name_features(1 << 9 | 1 << 10 | 1 << 63),
            "`warp` (bit 9), bit 10, bit 63"
        );
    }

    #[test]
    fn one_that_does_not_end_is_refused() {
        let mut head = vec![0; 104];
        head.extend(extension(BACKING_FORMAT, b"raw"));
        let length = |head: &mut Vec<u8>, value: u32| {
            head[108..112].copy_from_slice(&value.to_be_bytes());
            Extensions::parse(head, &header(None)).is_ok()
        };
        assert!(length(&mut head, 3));
        assert!(length(&mut head, 8));
        assert!(!length(&mut head, 9));
        assert!(!length(&mut head, u32::MAX));
        // Nor may it reach into the backing file's name.
        length(&mut head, 8);
        assert!(Extensions::parse(&head, &header(Some((120, 5)))).is_ok());
        assert!(Extensions::parse(&head, &header(Some((119, 5)))).is_err());
        assert_eq!(
            Extensions::parse(&head, &header(Some((100, 5)))).unwrap(),
            Extensions::default()
        );
    }
}
