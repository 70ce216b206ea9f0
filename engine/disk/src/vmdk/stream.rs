//! Compressed grains, "Stream-Optimized Compressed Sparse Extents": each stands behind a marker that says which one it is and how long.

use super::grains::{Grain, Grains};
use super::header::{Directory, HOSTED, Header, SIZE};
use super::{SECTOR, grains};
use crate::align::to_usize;
use crate::recent::Recent;
use crate::runs::Detail;
use crate::table::Share;
use cairn_base::read_at::{check_range, read_vec};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, View};
use flate2::{Decompress, FlushDecompress, Status};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a marker before the compressed bytes: sector of the disk, and their number.
const MARKER: u64 = 12;
/// The type of the marker before the footer.
const FOOTER_MARKER: u32 = 3;
/// Grains that are announced in one step.
const ANNOUNCED: u64 = 4096;

/// Bytes of decoded grains that are kept, of one grain at least.
const KEPT: u64 = 8 << 20;

/// The footer of a stream: the header once more, with the place of the grain directory. It stands before the last sector, which ends the stream.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if there is none, or if it contradicts the header.
pub(super) fn footer(file: &dyn ReadAt, header: &Header) -> Result<Header> {
    let size = file.size();
    let missing = |at: u64| {
        Error::damaged("the VMDK stream has no footer, which says where its grain directory is")
            .at_offset(at)
            .advise("the file may have been cut off while it was copied")
    };
    let three = SECTOR.saturating_mul(3);
    let Some(at) = size.checked_sub(three) else {
        return Err(missing(size));
    };
    let end = read_vec(file, at, to_usize(three)?)?;
    let view = View::new(&end, "end of the VMDK stream", at);
    let is_marker = |offset: usize, kind: u32| -> Result<bool> {
        Ok(view.u32_le(offset.saturating_add(8))? == 0
            && view.u32_le(offset.saturating_add(12))? == kind)
    };
    let found = view.slice(SIZE, SIZE)?;
    let ends = SIZE.saturating_mul(2);
    if !found.starts_with(HOSTED)
        || !is_marker(0, FOOTER_MARKER)?
        || view.u64_le(ends)? != 0
        || !is_marker(ends, 0)?
    {
        return Err(missing(at));
    }
    let footer = Header::parse(found, at.saturating_add(SECTOR))?;
    let same = |header: &Header| (header.size, header.grain, header.table_entries);
    if footer.directory == Directory::InFooter
        || !footer.is_compressed
        || same(&footer) != same(header)
    {
        return Err(
            Error::damaged("the footer of the VMDK stream contradicts its header")
                .at_offset(at.saturating_add(SECTOR)),
        );
    }
    Ok(footer)
}

/// The content of a stream, as long as the extent: each grain at the place that it has there.
pub(super) struct Stream {
    grains: Arc<Grains>,
    /// Grains that were decoded last, by their numbers.
    decoded: Recent<Vec<u8>>,
}

impl Stream {
    pub(super) fn new(grains: Arc<Grains>, share: Share) -> Result<Stream> {
        let most = share.of(KEPT).checked_div(grains.header().grain);
        let decoded = Recent::new(to_usize(most.unwrap_or(0).max(1))?);
        Ok(Stream { grains, decoded })
    }

    fn grain_size(&self) -> u64 {
        self.grains.header().grain
    }

    /// Fills `buffer` from a grain, from its byte `from` on.
    fn read_grain(&self, grain: u64, from: usize, buffer: &mut [u8]) -> Result<()> {
        // Only what was there has an address here.
        let Grain::At(at) = self.grains.find(grain)? else {
            return Err(Error::damaged(format!(
                "compressed grain {grain} of the VMDK was there and no longer is: the image was changed while it was read"
            )));
        };
        let file = self.grains.file();
        let decode = || {
            self.decode(file, grain, at)
                .map_err(|error| file.name(error))
        };
        let bytes = self.decoded.get(grain, decode)?;
        let part = bytes.get(from..from.saturating_add(buffer.len()));
        let part = part.ok_or_else(|| Error::invalid("read beyond the end of a grain"))?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    /// The bytes of the grain whose marker lies at `at`, as many as belong to the extent.
    fn decode(&self, file: &grains::File, grain: u64, at: u64) -> Result<Vec<u8>> {
        let damaged = |why: String| {
            Error::damaged(format!("compressed grain {grain} of the VMDK {why}")).at_offset(at)
        };
        let size = file.bytes.size();
        let length = |at: u64, length: u64| {
            let end = at.checked_add(length).filter(|end| *end <= size);
            end.ok_or_else(|| {
                damaged(format!(
                    "is said to lie beyond the end of the file ({size} bytes)"
                ))
                .advise("the file may have been cut off while it was copied")
            })
        };
        let data = length(at, MARKER)?;
        let marker = read_vec(&*file.bytes, at, to_usize(MARKER)?)?;
        let view = View::new(&marker, "marker of a compressed grain", at);
        let sector = view.u64_le(0)?;
        let expected = grain.saturating_mul(self.grain_size()) / SECTOR;
        if sector != expected {
            return Err(damaged(format!(
                "is marked as that of sector {sector}, and is expected to be that of sector {expected}"
            )));
        }
        let count = u64::from(view.u32_le(8)?);
        let most = self.grain_size().saturating_mul(2);
        if !(1..=most).contains(&count) {
            return Err(damaged(format!(
                "is said to take {count} bytes, which is not 1 to {most}"
            )));
        }
        length(data, count)?;
        let compressed = read_vec(&*file.bytes, data, to_usize(count)?)?;
        let most = to_usize(self.grain_size())?;
        let mut bytes = inflate(&compressed, most).map_err(|why| damaged(why.to_string()))?;
        let wanted = to_usize(self.grains.grain_length(grain))?;
        if bytes.len() < wanted {
            return Err(damaged(format!(
                "holds {} bytes, and {wanted} are needed",
                bytes.len()
            )));
        }
        bytes.truncate(wanted);
        Ok(bytes)
    }
}

/// What `compressed`, in the format of zlib (RFC 1950), holds: at most `most` bytes. Its checksum is compared.
fn inflate(compressed: &[u8], most: usize) -> Result<Vec<u8>, &'static str> {
    let mut decoder = Decompress::new(true);
    let mut bytes = Vec::with_capacity(most);
    let status = decoder.decompress_vec(compressed, &mut bytes, FlushDecompress::Finish);
    match status {
        Ok(Status::StreamEnd) => Ok(bytes),
        Ok(_) if bytes.len() >= most => Err("holds more than a grain"),
        Ok(_) => Err("ends too early"),
        Err(_) => Err("cannot be decoded, or its checksum does not hold"),
    }
}

impl ReadAt for Stream {
    fn size(&self) -> u64 {
        self.grains.header().size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size(), offset, buffer.len())?;
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let grain = at.checked_div(self.grain_size()).unwrap_or(0);
            let from = at.saturating_sub(grain.saturating_mul(self.grain_size()));
            let left = to_usize(self.grain_size().saturating_sub(from))?;
            let (part, behind) = rest.split_at_mut(left.min(rest.len()));
            self.read_grain(grain, to_usize(from)?, part)?;
            at = at.saturating_add(to_u64(part.len()));
            rest = behind;
        }
        Ok(())
    }

    fn will_need(&self, range: Range<u64>) {
        let most = self.grain_size().saturating_mul(ANNOUNCED);
        let end = range.end.min(range.start.saturating_add(most));
        let file = &self.grains.file().bytes;
        let mut open: Option<Range<u64>> = None;
        // Only a hint: what cannot be looked up is told when it is read.
        let range = range.start..end.min(self.size());
        let _ = self.grains.walk(range, Detail::Exact, |_, grain, _| {
            let Grain::At(at) = grain else { return Ok(()) };
            // No longer than it was before, or hardly; the next one begins behind it.
            let end = at.saturating_add(self.grain_size());
            open = Some(match open.take() {
                Some(before) if (before.start..=before.end).contains(&at) => before.start..end,
                before => {
                    before.into_iter().for_each(|before| file.will_need(before));
                    at..end
                }
            });
            Ok(())
        });
        open.into_iter().for_each(|last| file.will_need(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut compressed = Vec::with_capacity(bytes.len() + 1000);
        let mut encoder = Compress::new(Compression::default(), true);
        let status = encoder
            .compress_vec(bytes, &mut compressed, FlushCompress::Finish)
            .unwrap();
        assert_eq!(status, Status::StreamEnd);
        compressed
    }

    #[test]
    fn no_more_than_a_grain_comes_out() {
        let bytes: Vec<u8> = (0..4096u32).map(|at| (at % 251) as u8).collect();
        let compressed = deflate(&bytes);
        assert_eq!(inflate(&compressed, 4096).unwrap(), bytes);
        assert_eq!(inflate(&compressed, 8192).unwrap(), bytes);
        assert_eq!(inflate(&compressed, 4095), Err("holds more than a grain"));
        assert_eq!(
            inflate(&deflate(&vec![0; 64 << 20]), 65536),
            Err("holds more than a grain")
        );
        for cut in 0..compressed.len() {
            assert!(inflate(&compressed[..cut], 4096).is_err(), "{cut} bytes");
        }
        // The checksum at its end.
        for back in 1..=4 {
            let mut compressed = compressed.clone();
            let at = compressed.len() - back;
            compressed[at] ^= 1;
            assert!(inflate(&compressed, 4096).is_err());
        }
    }
}
