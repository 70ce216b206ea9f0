//! The two region tables, \[MS-VHDX\] 2.2.3: where the block table and the metadata lie.

use super::header::seal;
use super::{ALIGNMENT, checksum};
use crate::align::is_multiple;
use crate::guid::Guid;
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result, View};
use std::ops::Range;

/// Where the two tables lie.
pub const OFFSETS: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes of a table.
pub const SIZE: usize = 64 << 10;
/// The region of the block table (2.2.3.2).
pub const BAT: Guid = Guid::from_printed(0x2DC27766_F623_4200_9D64_115E9BFD4A08);
/// The region of the metadata (2.2.3.2).
pub const METADATA: Guid = Guid::from_printed(0x8B7CA206_4790_4B9A_B8FE_575F050F886E);

const SIGNATURE: &[u8; 4] = b"regi";
const MAX_ENTRIES: u32 = 2047;
const ENTRY: usize = 32;

/// Where the regions lie, in bytes of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions {
    /// The block table.
    pub bat: Range<u64>,
    /// The metadata.
    pub metadata: Range<u64>,
}

impl Regions {
    /// Reads a table that lay at `base` of a file of `file_size` bytes.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is not valid, a region is missing, or two overlap;
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for a required region that is not known.
    pub fn parse(bytes: &[u8], base: u64, file_size: u64) -> Result<Regions> {
        let view = View::new(bytes, "VHDX region table", base);
        if view.slice(0, 4)? != SIGNATURE {
            return Err(view.damaged(0, "does not begin with `regi`"));
        }
        if view.u32_le(4)? != checksum(view.slice(0, SIZE)?) {
            return Err(view.damaged(4, "its checksum does not hold"));
        }
        let count = view.u32_le(8)?;
        if count > MAX_ENTRIES {
            return Err(view.damaged(8, &format!("{count} entries are more than {MAX_ENTRIES}")));
        }
        let (mut bat, mut metadata) = (None, None);
        for index in 0..usize::try_from(count).unwrap_or(0) {
            let at = index.saturating_mul(ENTRY).saturating_add(16);
            let entry = view.part(at, ENTRY, "VHDX region table entry")?;
            let id = Guid::from_windows(entry.array(0)?);
            let slot = match id {
                BAT => &mut bat,
                METADATA => &mut metadata,
                _ if entry.u32_le(28)? & 1 == 0 => continue,
                _ => {
                    return Err(Error::unsupported(format!(
                        "the VHDX needs a region {id}, which is not known"
                    ))
                    .at_offset(entry.base()));
                }
            };
            let start = entry.u64_le(16)?;
            let length = u64::from(entry.u32_le(24)?);
            let end = start.checked_add(length).filter(|end| *end <= file_size);
            let sound = start >= ALIGNMENT
                && length > 0
                && is_multiple(start, ALIGNMENT)
                && is_multiple(length, ALIGNMENT);
            let Some(end) = end.filter(|_| sound) else {
                return Err(entry.damaged(
                    16,
                    &format!(
                        "region {id} is said to have {length} bytes at {start}, where it cannot be"
                    ),
                ));
            };
            if slot.replace(start..end).is_some() {
                return Err(entry.damaged(0, &format!("region {id} is named twice")));
            }
        }
        match (bat, metadata) {
            (Some(bat), Some(metadata)) if bat.start < metadata.end && metadata.start < bat.end => {
                Err(view.damaged(16, "the regions of block table and metadata overlap"))
            }
            (Some(bat), Some(metadata)) => Ok(Regions { bat, metadata }),
            _ => Err(view.damaged(
                16,
                "the region of the block table or of the metadata is missing",
            )),
        }
    }

    /// The table as it is written, with its checksum. Both ranges are whole MiB below 4 GiB long.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.extend_from_slice(SIGNATURE);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&2u32.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for (id, range) in [(BAT, &self.bat), (METADATA, &self.metadata)] {
            let length = u32::try_from(range.end.saturating_sub(range.start)).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&id.to_windows());
            bytes.extend_from_slice(&range.start.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&1u32.to_le_bytes());
        }
        bytes.resize(SIZE, 0);
        seal(&mut bytes);
        bytes
    }
}

/// The regions by the first of the two tables that is valid, and a warning if the other one is not, or says otherwise.
///
/// # Errors
/// What [`Regions::parse`] says of the first table, if neither can be used.
pub fn find(image: &dyn ReadAt) -> Result<(Regions, Option<String>)> {
    let read = |at| Regions::parse(&read_vec(image, at, SIZE)?, at, image.size());
    let [first, second] = OFFSETS.map(read);
    match (first, second) {
        (Ok(first), Ok(second)) if first == second => Ok((first, None)),
        (Ok(first), Ok(_)) => Ok((
            first,
            Some("the two VHDX region tables differ; the first one is used".into()),
        )),
        (Ok(regions), Err(error)) | (Err(error), Ok(regions)) => Ok((
            regions,
            Some(format!(
                "one of the two VHDX region tables is damaged: {error}"
            )),
        )),
        (Err(first), Err(_)) => Err(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Kind;
    use proptest::prelude::*;

    fn sample() -> Regions {
        Regions {
            bat: 3 << 20..4 << 20,
            metadata: 2 << 20..3 << 20,
        }
    }

    fn image(first: &[u8], second: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 8 << 20];
        bytes[192 << 10..][..first.len()].copy_from_slice(first);
        bytes[256 << 10..][..second.len()].copy_from_slice(second);
        bytes
    }

    #[test]
    fn either_table_will_do() {
        let good = sample().encode();
        let mut bad = good.clone();
        bad[100] ^= 1;
        assert_eq!(find(&image(&good, &good)).unwrap(), (sample(), None));
        for image in [image(&good, &bad), image(&bad, &good)] {
            let (regions, warning) = find(&image).unwrap();
            assert_eq!(regions, sample());
            assert!(warning.is_some());
        }
        assert_eq!(find(&image(&bad, &bad)).unwrap_err().kind(), Kind::Damaged);
    }

    #[test]
    fn impossible_and_unknown_regions_are_refused() {
        let damage = |at: usize, byte: u8| {
            let mut bytes = sample().encode();
            bytes[at] = byte;
            seal(&mut bytes);
            Regions::parse(&bytes, 0, 8 << 20)
        };
        assert!(damage(16 + 28, 0).is_ok());
        assert_eq!(damage(16, 0).unwrap_err().kind(), Kind::Unsupported);
        // Overlap, count, alignment, offset, length.
        for (at, byte) in [
            (16 + 18, 0x20),
            (11, 1),
            (16 + 16, 1),
            (16 + 22, 1),
            (16 + 27, 1),
        ] {
            assert_eq!(
                damage(at, byte).unwrap_err().kind(),
                Kind::Damaged,
                "byte {at}"
            );
        }
        let mut optional = sample().encode();
        optional[8] = 3;
        optional[80] = 1;
        seal(&mut optional);
        assert_eq!(Regions::parse(&optional, 0, 8 << 20).unwrap(), sample());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0u8..8, file_size: u64) {
            let _ = Regions::parse(&bytes, 0, file_size);
            bytes.resize(SIZE, 0);
            bytes[..4].copy_from_slice(SIGNATURE);
            bytes[8..12].copy_from_slice(&[count, 0, 0, 0]);
            bytes[16..32].copy_from_slice(&BAT.to_windows());
            seal(&mut bytes);
            let _ = Regions::parse(&bytes, 0, file_size);
        }
    }
}
