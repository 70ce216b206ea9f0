//! Frames: consecutive chunks compressed together, decodable up to the end of any of them.
//!
//! A frame is one zstd frame (RFC 8878) with a flush at each chunk's end, so that a decoder that has the chunks it
//! wants can stop; or, where compression does not pay, the plain bytes.

use crate::cut::MAX_CHUNK;
use cairn_base::{ChunkId, Error, Result};
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, WriteBuf,
    compress_bound, get_error_name, get_frame_content_size,
};

/// Most plain bytes in a frame.
pub const MAX_FRAME: usize = MAX_CHUNK;
/// Window of the largest frame: 2^17 is [`MAX_FRAME`].
const WINDOW_LOG: u32 = 17;
/// A frame whose compressed form is not at least this fraction (1/32) smaller is stored plain: decoding would cost more
/// than the space is worth.
const GAIN_SHIFT: u32 = 5;
/// What a zstd frame begins with (RFC 8878, 3.1.1).
const MAGIC: [u8; 4] = 0xFD2F_B528u32.to_le_bytes();
/// Bytes with which decoding a part of a frame begins: the least that the head of a frame has (RFC 8878, 3.1.1), with its magic number.
const FIRST_STEP: usize = 6;

/// A frame ready to be written.
#[derive(Debug)]
pub struct BuiltFrame {
    /// The bytes that go into the pack.
    pub stored: Vec<u8>,
    /// Whether they are the plain bytes.
    pub plain: bool,
    /// Number of plain bytes.
    pub raw_length: usize,
    /// Keyed tag of the stored bytes.
    pub tag: [u8; 16],
    /// The chunks inside, in order: id and length in bytes.
    pub chunks: Vec<(ChunkId, u32)>,
}

/// Compresses frames; one per thread, its context is reused.
pub struct Compressor {
    context: CCtx<'static>,
    buffer: Vec<u8>,
}

impl Compressor {
    /// A compressor at a zstd level (1 to 19).
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for a level zstd does not take.
    pub fn new(level: i32) -> Result<Compressor> {
        let mut context = CCtx::create();
        context
            .set_parameter(CParameter::CompressionLevel(level))
            .map_err(|code| zstd_error("cannot set the compression level", code))?;
        Ok(Compressor {
            context,
            buffer: Vec::with_capacity(compress_bound(MAX_FRAME) + 1024),
        })
    }

    /// Another zstd level from the next frame on.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) for a level zstd does not take.
    pub fn set_level(&mut self, level: i32) -> Result<()> {
        self.context
            .reset(ResetDirective::SessionOnly)
            .and_then(|_| {
                self.context
                    .set_parameter(CParameter::CompressionLevel(level))
            })
            .map_err(|code| zstd_error("cannot set the compression level", code))?;
        Ok(())
    }

    /// Compresses `parts` (the chunks' bytes, together at most [`MAX_FRAME`]) into one frame. `None` if it does not pay.
    ///
    /// # Errors
    /// What zstd reports; it never does for memory buffers large enough.
    pub fn compress(&mut self, parts: &[&[u8]]) -> Result<Option<&[u8]>> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let failed = |code| zstd_error("cannot compress a frame", code);
        self.context
            .reset(ResetDirective::SessionOnly)
            .map_err(failed)?;
        self.context
            .set_pledged_src_size(u64::try_from(total).ok())
            .map_err(failed)?;
        self.buffer.clear();
        self.buffer
            .reserve(compress_bound(total) + 64 * parts.len() + 64);
        let mut out = OutBuffer::around(&mut self.buffer);
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            let directive = if last {
                ZSTD_EndDirective::ZSTD_e_end
            } else {
                ZSTD_EndDirective::ZSTD_e_flush
            };
            let mut input = InBuffer::around(part);
            // The buffer holds the worst case, so a second turn means that something is wrong.
            let mut turns = 0;
            while self
                .context
                .compress_stream2(&mut out, &mut input, directive)
                .map_err(failed)?
                > 0
                || input.pos() < part.len()
            {
                turns += 1;
                if turns > 64 {
                    return Err(Error::invalid("zstd does not finish a frame"));
                }
            }
        }
        let length = out.pos();
        let pays = length + (total >> GAIN_SHIFT) < total;
        Ok(if pays {
            self.buffer.get(..length)
        } else {
            None
        })
    }
}

/// Decompresses frames; one per thread, its context is reused.
pub struct Decompressor {
    context: DCtx<'static>,
}

impl Default for Decompressor {
    fn default() -> Decompressor {
        let mut context = DCtx::create();
        // No frame of ours needs more, and what is decoded here was not authenticated yet. If zstd should refuse, its own
        // limit stands.
        let _own_limit = context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG));
        Decompressor { context }
    }
}

impl Decompressor {
    /// The first `length` plain bytes (at most [`MAX_FRAME`]) of a compressed frame, into `out`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the frame does not hold that many.
    pub fn decompress(&mut self, stored: &[u8], length: usize, out: &mut Vec<u8>) -> Result<()> {
        check_length(length)?;
        if out.capacity() < length {
            out.clear();
            out.reserve_exact(length);
        }
        // With more room than is wanted zstd would decode more, and what is broken there would count.
        if out.capacity() > length {
            out.resize(length, 0);
            return self.decompress_into(stored, out);
        }
        // Into memory that was not cleared before: that takes as long as a third of the decoding.
        out.clear();
        self.decode(stored, length, &mut OutBuffer::around(out))
    }

    /// All plain bytes of a compressed frame, into `out`.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it does not hold as many as it says, or more than [`MAX_FRAME`].
    pub fn decompress_all(&mut self, stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let told = get_frame_content_size(stored).ok().flatten();
        let length = told.and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= MAX_FRAME);
        let length =
            length.ok_or_else(|| Error::damaged("a frame does not say how much it holds"))?;
        self.decompress(stored, length, out)
    }

    /// As many plain bytes of a compressed frame from its start as `out` is long (at most [`MAX_FRAME`]). Quickest where
    /// these are all of them: zstd then decodes in place, in one go.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the frame does not hold that many; then `out` holds anything.
    pub fn decompress_into(&mut self, stored: &[u8], out: &mut [u8]) -> Result<()> {
        let length = out.len();
        check_length(length)?;
        // As long as what is wanted, so that zstd stops there.
        self.decode(stored, length, &mut OutBuffer::around(out))
    }

    /// Decodes until there are `length` bytes in `output`, which has room for no more.
    ///
    /// A part of a frame is decoded block by block: given all of the input, zstd decodes one block more than it has room for.
    fn decode<T: WriteBuf + ?Sized>(
        &mut self,
        stored: &[u8],
        length: usize,
        output: &mut OutBuffer<'_, T>,
    ) -> Result<()> {
        // Neither frames that hold nothing nor, where zstd is built with them, older formats, which know no bound of their window.
        if !stored.starts_with(&MAGIC) {
            return Err(Error::damaged("a frame does not begin like one of zstd"));
        }
        let failed = |code| zstd_error("a frame cannot be decompressed", code);
        self.context
            .reset(ResetDirective::SessionOnly)
            .map_err(failed)?;
        let told = get_frame_content_size(stored).ok().flatten();
        let is_whole = told.and_then(|told| usize::try_from(told).ok()) == Some(length);
        let mut step = if is_whole { stored.len() } else { FIRST_STEP };
        let mut rest = stored;
        while output.pos() < length {
            let before = output.pos();
            let (now, _) = rest.split_at_checked(step).unwrap_or((rest, &[]));
            let mut input = InBuffer::around(now);
            let hint = self
                .context
                .decompress_stream(output, &mut input)
                .map_err(failed)?;
            let stuck = output.pos() == before && input.pos() == 0;
            if output.pos() < length && (hint == 0 || stuck) {
                return Err(Error::damaged(format!(
                    "a frame ends after {} bytes where {length} were expected",
                    output.pos()
                )));
            }
            rest = rest.get(input.pos()..).unwrap_or_default();
            // So many bytes are the rest of this block and the head of the next one: then nothing is copied before it is decoded.
            step = hint;
        }
        Ok(())
    }
}

/// Before it is allocated, and decoded.
fn check_length(length: usize) -> Result<()> {
    if length > MAX_FRAME {
        return Err(Error::damaged(format!(
            "{length} bytes asked for from a frame of at most {MAX_FRAME}"
        )));
    }
    Ok(())
}

fn zstd_error(what: &'static str, code: usize) -> Error {
    Error::damaged(format!("{what}: {}", get_error_name(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Vec<u8> {
        (0..length)
            .map(|i| b"the quick brown fox "[i % 20] ^ u8::from(i % 97 == 0))
            .collect()
    }

    #[test]
    fn decoding_stops_at_any_chunks_end() {
        let chunks = [text(30_000), text(5), text(60_000), text(8_192)];
        let parts: Vec<&[u8]> = chunks.iter().map(|c| &c[..]).collect();
        let mut compressor = Compressor::new(3).unwrap();
        let mut decompressor = Decompressor::default();
        let all: Vec<u8> = chunks.concat();
        for _ in 0..2 {
            let stored = compressor.compress(&parts).unwrap().unwrap().to_vec();
            assert!(stored.len() < all.len() / 2);
            let mut out = Vec::new();
            let mut end = 0;
            for chunk in &chunks {
                end += chunk.len();
                decompressor.decompress(&stored, end, &mut out).unwrap();
                assert_eq!(out, all[..end]);
            }
            decompressor.decompress_all(&stored, &mut out).unwrap();
            assert_eq!(out, all);
            assert!(decompressor.decompress(&stored, end + 1, &mut out).is_err());
            assert!(
                decompressor
                    .decompress(&stored, MAX_FRAME + 1, &mut out)
                    .is_err()
            );
        }
    }

    #[test]
    fn the_tail_of_a_frame_is_not_needed_for_its_head() {
        let chunks = [text(30_000), text(30_001)];
        let mut compressor = Compressor::new(3).unwrap();
        let stored = compressor
            .compress(&[&chunks[0], &chunks[1]])
            .unwrap()
            .unwrap()
            .to_vec();
        let mut out = Vec::new();
        let head = stored.len() * 3 / 4;
        Decompressor::default()
            .decompress(&stored[..head], 30_000, &mut out)
            .unwrap();
        assert_eq!(out, chunks[0]);
        assert!(
            Decompressor::default()
                .decompress(&stored[..head], 60_001, &mut out)
                .is_err()
        );
    }

    #[test]
    fn a_block_that_is_broken_costs_what_lies_before_it_nothing_whatever_room_there_is() {
        let chunks = [text(30_000), text(30_001), text(30_002)];
        let parts: Vec<&[u8]> = chunks.iter().map(|c| &c[..]).collect();
        let mut compressor = Compressor::new(3).unwrap();
        let stored = compressor.compress(&parts).unwrap().unwrap().to_vec();
        let mut decompressor = Decompressor::default();
        // In the last block: what lies before it can be decoded.
        let broken = (1..stored.len()).find_map(|back| {
            let mut broken = stored.clone();
            broken[stored.len() - back] ^= 0xff;
            let all = decompressor.decompress_into(&broken, &mut [0; 90_003]);
            let before = decompressor.decompress_into(&broken, &mut [0; 60_001]);
            (all.is_err() && before.is_ok()).then_some(broken)
        });
        let broken = broken.unwrap();
        for room in [0, 30_000, 90_003, MAX_FRAME, 1 << 20] {
            let mut out = Vec::with_capacity(room);
            decompressor
                .decompress(&broken, 30_000, &mut out)
                .unwrap_or_else(|e| panic!("with room for {room}: {e}"));
            assert_eq!(out, chunks[0]);
            let mut out = vec![1; room];
            decompressor.decompress(&broken, 60_001, &mut out).unwrap();
            assert_eq!(out, chunks[..2].concat());
        }
    }

    #[test]
    fn nothing_behind_what_is_wanted_is_decoded() {
        let chunks = [text(30_000), text(30_001), text(30_002)];
        let parts: Vec<&[u8]> = chunks.iter().map(|c| &c[..]).collect();
        let mut compressor = Compressor::new(3).unwrap();
        let stored = compressor.compress(&parts).unwrap().unwrap().to_vec();
        let mut decompressor = Decompressor::default();
        let mut out = vec![0; 60_001];
        for wanted in [30_000, 60_001] {
            let out = &mut out[..wanted];
            let needed = (1..stored.len())
                .find(|head| decompressor.decompress_into(&stored[..*head], out).is_ok())
                .unwrap();
            // The three bytes of the next block's head may be looked at.
            for at in needed + 3..stored.len() {
                let mut broken = stored.clone();
                broken[at] ^= 0xff;
                decompressor.decompress_into(&broken, out).unwrap();
                assert!(*out == chunks.concat()[..wanted], "byte {at}");
            }
        }
    }

    #[test]
    fn a_frame_that_says_it_holds_more_than_one_may_is_not_decoded() {
        let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
        let mut out = Vec::new();
        for (length, fits) in [(MAX_FRAME, true), (MAX_FRAME + 1, false)] {
            let stored = compressor.compress(&text(length)).unwrap();
            let all = Decompressor::default().decompress_all(&stored, &mut out);
            assert_eq!(all.is_ok(), fits);
        }
        assert!(out.len() <= MAX_FRAME);
    }

    #[test]
    fn noise_does_not_pay() {
        let mut noise = vec![0; MAX_FRAME];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert!(
            Compressor::new(3)
                .unwrap()
                .compress(&[&noise])
                .unwrap()
                .is_none()
        );
    }

    /// A whole frame of zstd 0.7: what it begins with, ten bytes long, a block of ten bytes as they are, and the end.
    const LEGACY: &[u8] = b"\x27\xb5\x2f\xfd\x20\x0a\x40\x00\x0aten bytes.\xc0\x00\x00";

    #[test]
    fn older_formats_are_not_even_built() {
        assert!(zstd::bulk::decompress(LEGACY, 10).is_err());
    }

    #[test]
    fn garbage_is_an_error() {
        let mut out = Vec::new();
        for garbage in [&b""[..], b"garbage", &[0; 100], LEGACY] {
            assert!(
                Decompressor::default()
                    .decompress(garbage, 10, &mut out)
                    .is_err()
            );
            let all = Decompressor::default().decompress_all(garbage, &mut out);
            assert!(all.is_err());
        }
    }
}
