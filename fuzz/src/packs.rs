//! Packs: their ends, their table of contents, their frames, and all of it.

use crate::memory::Memory;
use cairn_base::{ChunkId, PackId};
use cairn_store::frame::{Compressor, Decompressor, MAX_FRAME};
use cairn_store::hash::{ChunkKind, Keys, checksum};
use cairn_store::layout;
use cairn_store::pack::check::FrameChecker;
use cairn_store::pack::footer::{FOOTER_LEN, Footer};
use cairn_store::pack::head::{HEAD_LEN, Head, PackKind};
use cairn_store::pack::read::PackReader;
use cairn_store::pack::toc::{Toc, TocChunk, TocFrame};

const STORE: [u8; 16] = [5; 16];
const PACK: PackId = PackId([6; 16]);

/// Puts the checksum of everything before it behind the bytes.
fn sealed(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    bytes.resize(length - 16, 0);
    let sum = checksum(&bytes);
    bytes.extend(sum);
    bytes
}

/// Header and footer: the first 8 bytes say how long the pack is, the rest are the bytes before the checksum.
pub fn ends(data: &[u8]) -> bool {
    let Some((length, rest)) = data.split_first_chunk::<8>() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    let _as_it_is = (Head::decode(rest), Footer::decode(rest, length));
    let head = sealed(rest.to_vec(), HEAD_LEN);
    let is_head = Head::decode(&head).map(|read| assert_eq!(read.encode(), head));
    let mut footer = sealed(rest.to_vec(), FOOTER_LEN);
    let is_footer = Footer::decode(&footer, length).map(|read| {
        // Zeros that readers do not look at.
        footer[104..112].fill(0);
        assert_eq!(read.encode()[..112], footer[..112]);
    });
    is_head.is_ok() || is_footer.is_ok()
}

/// A table of contents: the first 8 bytes say where the frames end.
pub fn toc(data: &[u8]) -> bool {
    let Some((end, rest)) = data.split_first_chunk::<8>() else {
        return false;
    };
    let end = u64::from_le_bytes(*end);
    let Ok(toc) = Toc::decode(rest, end) else {
        return false;
    };
    assert_eq!(toc.encode(), rest);
    let mut at = HEAD_LEN as u64;
    for frame in &toc.frames {
        assert_eq!(u64::from(frame.offset), at);
        assert!(frame.raw as usize <= MAX_FRAME && frame.stored as usize <= MAX_FRAME);
        assert!(frame.chunks > 0 && frame.stored > 0);
        at += u64::from(frame.stored);
    }
    assert_eq!(at, end);
    assert!(toc.chunks.iter().all(|chunk| chunk.length > 0));
    let chunks: u64 = toc.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
    let raw: u64 = toc.frames.iter().map(|frame| u64::from(frame.raw)).sum();
    assert_eq!(chunks, raw);
    true
}

/// A whole pack. Each frame is: what it is said to be (1), its chunks (1), the length of each in units of 64 bytes (1 each), its
/// stored length (2), its stored bytes. What is not said is right.
pub fn whole(data: &[u8]) -> bool {
    let keys = Keys::derive(&[9; 32]);
    let Some((kind, rest)) = data.split_first() else {
        return false;
    };
    let kind = if kind & 1 == 0 {
        PackKind::Data
    } else {
        PackKind::Map
    };
    let head = Head {
        kind,
        pack: PACK,
        store: STORE,
    };
    let mut bytes = head.encode();
    let toc = frames(&keys, rest, &mut bytes);
    let encoded = toc.encode();
    let toc_offset = bytes.len() as u64;
    bytes.extend(&encoded);
    let parity_offset = bytes.len() as u64;
    let footer = Footer {
        kind,
        pack: PACK,
        store: STORE,
        toc_offset,
        toc_length: encoded.len() as u64,
        toc_checksum: checksum(&encoded),
        parity_offset,
        parity_length: 0,
        percent: 0,
        length: parity_offset + FOOTER_LEN as u64,
    };
    bytes.extend(footer.encode());
    let folder = Memory::default();
    folder.put(&layout::pack(PACK), bytes);
    let Ok(pack) = PackReader::open(&folder, STORE, PACK) else {
        return false;
    };
    assert_eq!(*pack.toc(), toc);
    let mut checker = FrameChecker::default();
    let mut clean = !toc.frames.is_empty();
    for (frame, chunks) in pack.frames() {
        let findings = checker.check(&keys, &pack, frame, chunks).unwrap();
        assert!(findings.bad_chunks.len() <= chunks.len());
        clean &= findings.is_clean();
    }
    clean
}

fn frames(keys: &Keys, mut rest: &[u8], bytes: &mut Vec<u8>) -> Toc {
    let mut toc = Toc::default();
    let mut plain = Vec::new();
    while let Some((&[said, count], after)) = rest.split_first_chunk::<2>()
        && let Some((lengths, after)) = after.split_at_checked(usize::from(count))
        && let Some((stored, after)) = after.split_first_chunk::<2>()
        && toc.frames.len() < 64
    {
        let stored = usize::from(u16::from_le_bytes(*stored)).min(after.len());
        let (stored, after) = after.split_at(stored);
        rest = after;
        let raw: usize = lengths.iter().map(|length| usize::from(*length) * 64).sum();
        let is_plain = said & 1 != 0;
        if is_plain {
            plain.clear();
            plain.extend_from_slice(stored);
        } else if Decompressor::default()
            .decompress(stored, raw, &mut plain)
            .is_err()
        {
            plain.clear();
        }
        let mut at = 0;
        for length in lengths {
            let length = usize::from(*length) * 64;
            let chunk = plain.get(at..at + length).unwrap_or_default();
            let id = match said >> 1 & 3 {
                0 => keys.chunk_id(ChunkKind::Data, chunk),
                1 => keys.chunk_id(ChunkKind::Leaf, chunk),
                2 => keys.chunk_id(ChunkKind::Node(1 + (said >> 3) % 5), chunk),
                _ => ChunkId([said; 32]),
            };
            at += length;
            toc.chunks.push(TocChunk {
                id,
                length: length as u32,
            });
        }
        let wrong_tag = said & 0x80 != 0;
        toc.frames.push(TocFrame {
            offset: bytes.len() as u32,
            stored: stored.len() as u32,
            plain: is_plain,
            raw: raw as u32,
            chunks: u32::from(count),
            tag: if wrong_tag {
                [said; 16]
            } else {
                keys.frame_tag(stored)
            },
        });
        bytes.extend(stored);
    }
    toc
}

/// A frame: the first 3 bytes say how many plain bytes are wanted; the rest are stored ones, and also something to compress.
pub fn frame(data: &[u8]) -> bool {
    let Some((&[a, b, c], stored)) = data.split_first_chunk::<3>() else {
        return false;
    };
    let wanted = u32::from_le_bytes([a, b, c, 0]) as usize % (MAX_FRAME + 2);
    let (mut whole, mut part) = (Vec::new(), Vec::new());
    let mut decompressor = Decompressor::default();
    let decoded = decompressor.decompress(stored, wanted, &mut whole).is_ok();
    assert!(whole.len() <= MAX_FRAME + 1);
    if decoded {
        assert_eq!(whole.len(), wanted);
        // What is decoded first does not depend on how much is wanted.
        let less = wanted / 2;
        decompressor.decompress(stored, less, &mut part).unwrap();
        assert_eq!(part, whole[..less]);
    }
    round_trip(&stored[..stored.len().min(MAX_FRAME)], a);
    decoded && wanted > 0
}

fn round_trip(bytes: &[u8], seed: u8) {
    let size = 1 + usize::from(seed) * 37;
    let parts: Vec<&[u8]> = bytes.chunks(size).collect();
    if parts.is_empty() {
        return;
    }
    let mut compressor = Compressor::new(1).unwrap();
    if let Some(stored) = compressor.compress(&parts).unwrap() {
        let mut out = Vec::new();
        let mut end = 0;
        for part in parts {
            end += part.len();
            Decompressor::default()
                .decompress(stored, end, &mut out)
                .unwrap();
            assert_eq!(out, bytes[..end]);
        }
    }
}
