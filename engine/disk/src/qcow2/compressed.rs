//! Compressed clusters: decoded as they are read. What is asked for in small pieces is decoded once and kept for a while.

use super::entry::Cluster;
use super::header::Compression;
use super::tables::Tables;
use crate::align::to_usize;
use crate::recent::Recent;
use crate::table::Share;
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result};
use flate2::{Decompress, FlushDecompress};
use std::sync::Arc;
use zstd::zstd_safe::{DCtx, find_frame_compressed_size};

/// What a zstd frame begins with (RFC 8878, 3.1.1).
const ZSTD: [u8; 4] = 0xFD2F_B528u32.to_le_bytes();
/// Bytes of decoded clusters that one disk keeps.
const KEPT: u64 = 8 << 20;
/// Clusters are looked through one by one.
const MAX_KEPT: u64 = 128;

/// The compressed clusters of an image.
pub(super) struct Compressed {
    image: Arc<dyn ReadAt>,
    tables: Arc<Tables>,
    decoded: Recent<Vec<u8>>,
}

impl Compressed {
    pub(super) fn new(image: Arc<dyn ReadAt>, tables: Arc<Tables>, share: Share) -> Result<Self> {
        let cluster = tables.header().cluster_size();
        let most = share.of(KEPT).checked_div(cluster).unwrap_or(0);
        Ok(Compressed {
            image,
            tables,
            decoded: Recent::new(to_usize(most.min(MAX_KEPT))?),
        })
    }

    /// Fills `buffer` from byte `at` of the disk on, where all clusters are compressed.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if one is not, or cannot be decoded.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let bits = self.tables.header().cluster_bits;
        let size = self.tables.header().cluster_size();
        let mut at = at;
        let mut rest = buffer;
        while !rest.is_empty() {
            let number = at >> bits;
            let inside = at & size.saturating_sub(1);
            let length = to_usize(size.saturating_sub(inside))?.min(rest.len());
            let (part, behind) = rest.split_at_mut(length);
            if to_u64(length) == size {
                self.decode(number, part)?;
            } else {
                let whole = self.decoded.get(number, || {
                    let mut whole = vec![0; to_usize(size)?];
                    self.decode(number, &mut whole)?;
                    Ok(whole)
                })?;
                let from = to_usize(inside)?;
                let wanted = whole.get(from..from.saturating_add(length));
                // All of a cluster is decoded.
                part.copy_from_slice(wanted.ok_or_else(|| Error::damaged("a cluster is short"))?);
            }
            at = at.saturating_add(to_u64(length));
            rest = behind;
        }
        Ok(())
    }

    /// Hints that the clusters in `length` bytes of the disk from `at` on are read soon: what lies between the first and the last of
    /// them, as writers of compressed images put one behind the other.
    pub(super) fn will_need(&self, at: u64, length: u64) {
        let bits = self.tables.header().cluster_bits;
        let end = at.saturating_add(length.saturating_sub(1)) >> bits;
        let place = |number| match self.tables.cluster(number) {
            Ok(Cluster::Compressed(offset, length)) => Some(offset..offset.saturating_add(length)),
            _ => None,
        };
        if let (Some(first), Some(last)) = (place(at >> bits), place(end)) {
            // Compressed they are no longer than that.
            let most = first.start.saturating_add(length.saturating_mul(2));
            self.image.will_need(first.start..last.end.min(most));
        }
    }

    /// Decodes cluster `number` of the guest into `out`, which has its length. Nothing larger comes of it, whatever the bytes say.
    fn decode(&self, number: u64, out: &mut [u8]) -> Result<()> {
        let Cluster::Compressed(offset, length) = self.tables.cluster(number)? else {
            return Err(Error::damaged(format!(
                "cluster {number} of the QCOW2 was compressed and no longer is: the image was changed"
            )));
        };
        // The last sector of the file may be cut off where the data end. At most twice a cluster.
        let length = length.min(self.image.size().saturating_sub(offset));
        let bytes = read_vec(&*self.image, offset, to_usize(length)?)?;
        let outcome = match self.tables.header().compression {
            Compression::Zlib => inflate(&bytes, out),
            Compression::Zstd => unpack_zstd(&bytes, out),
        };
        outcome.map_err(|why| {
            Error::damaged(format!(
                "cluster {number} of the QCOW2 cannot be decompressed: {why}"
            ))
            .at_offset(offset)
        })
    }
}

/// Deflate without a header: `out` is full in the end. What comes behind that is not looked at.
fn inflate(bytes: &[u8], out: &mut [u8]) -> Result<(), String> {
    let mut state = Decompress::new(false);
    let outcome = state.decompress(bytes, out, FlushDecompress::Finish);
    outcome.map_err(|error| error.to_string())?;
    match state.total_out() == to_u64(out.len()) {
        true => Ok(()),
        false => Err(format!(
            "it ends after {} of {} bytes",
            state.total_out(),
            out.len()
        )),
    }
}

/// Zstd frames, as many as make `out` full. Each is decoded in one step, which needs no memory for a window.
fn unpack_zstd(bytes: &[u8], out: &mut [u8]) -> Result<(), String> {
    let text = |code| zstd::zstd_safe::get_error_name(code).to_string();
    let mut context = DCtx::create();
    let (mut rest, mut empty) = (bytes, out);
    while !empty.is_empty() {
        // Neither frames that hold nothing nor, where zstd is built with them, its older formats.
        if !rest.starts_with(&ZSTD) {
            return Err("it does not begin like a zstd frame".to_string());
        }
        let length = find_frame_compressed_size(rest).map_err(text)?;
        let (frame, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if frame.is_empty() {
            return Err(format!("{} bytes are missing", empty.len()));
        }
        let done = context.decompress(empty, frame).map_err(text)?;
        empty = empty.get_mut(done..).unwrap_or_default();
        rest = behind;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn clusters_fill_what_they_are_to_fill_and_no_more() {
        let content: Vec<u8> = (0..4096u32).map(|at| (at / 7) as u8).collect();
        let mut writer =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        writer.write_all(&content).unwrap();
        let deflated = writer.finish().unwrap();
        let zstd = zstd::bulk::compress(&content, 3).unwrap();
        let halves = [&content[..1000], &content[1000..]];
        let frames: Vec<u8> = halves
            .iter()
            .flat_map(|half| zstd::bulk::compress(half, 3).unwrap())
            .collect();
        type Decode = fn(&[u8], &mut [u8]) -> Result<(), String>;
        let cases: [(&[u8], Decode); 3] = [
            (&deflated, inflate),
            (&zstd, unpack_zstd),
            (&frames, unpack_zstd),
        ];
        for (packed, decode) in cases {
            // What else is in the last sector does no harm.
            let sector = [packed, &[0xEE; 100]].concat();
            for packed in [packed, &sector] {
                let mut out = vec![0; content.len()];
                decode(packed, &mut out).unwrap();
                assert_eq!(out, content);
            }
            let mut larger = vec![0; content.len() + 1];
            assert!(decode(packed, &mut larger).is_err());
            for length in [0, 1, packed.len() / 2] {
                let mut out = vec![0; content.len()];
                assert!(decode(&packed[..length], &mut out).is_err());
            }
        }
    }

    #[test]
    fn what_would_grow_without_end_does_not() {
        let zeros = vec![0; 64 << 20];
        let mut writer =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        writer.write_all(&zeros).unwrap();
        let deflated = writer.finish().unwrap();
        let mut out = vec![1; 512];
        inflate(&deflated, &mut out).unwrap();
        assert_eq!(out, [0; 512]);
        // A frame that does not end with the cluster is none of a cluster.
        let zstd = zstd::bulk::compress(&zeros, 19).unwrap();
        assert!(unpack_zstd(&zstd, &mut out).is_err());
        // Neither is one of zstd 0.7, of a block of ten bytes as they are.
        let legacy = b"\x27\xb5\x2f\xfd\x20\x0a\x40\x00\x0aten bytes.\xc0\x00\x00";
        assert!(unpack_zstd(legacy, &mut out[..10]).is_err());
        // Nor do frames of nothing keep anybody.
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..]; 1000].concat();
        assert!(unpack_zstd(&skipped, &mut out).is_err());
    }
}
