//! What the target of VMDK needs: the parent of deltas, and checksums that a fuzzer does not guess.

use crate::pieces::Pieces;
use cairn_base::ReadAt;
use cairn_base::read_at::read_vec;
use cairn_disk::vmdk::SECTOR;
use std::sync::{Arc, OnceLock};

/// The CID of the parent that seeds of deltas name.
pub const PARENT: u32 = 0xCA15_0001;

/// The parent of `image`, if that is a delta of it: a disk whose first grain is there.
pub fn parent_of(image: &dyn ReadAt) -> Option<Arc<dyn ReadAt>> {
    let length = image.size().min(1 << 16) as usize;
    let head = read_vec(image, 0, length).ok()?;
    let named = format!("parentCID={PARENT:08x}");
    let mut windows = head.windows(named.len());
    windows.any(|bytes| bytes == named.as_bytes()).then(parent)
}

fn parent() -> Arc<dyn ReadAt> {
    static MADE: OnceLock<Arc<Vec<u8>>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let mut image = vec![0; 24 * 512];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"KDMV\x01\0\0\0\x01\0\0\0");
        // Sectors of the disk, of a grain, of the descriptor and before it; entries of a table; the directory.
        for (at, number) in [(12, 2048u64), (20, 8), (28, 1), (36, 2), (44, 512), (56, 4)] {
            put(at, &number.to_le_bytes());
        }
        put(73, b"\n \r\n");
        let text = format!(
            "version=1\nCID={PARENT:08x}\ncreateType=\"monolithicSparse\"\nRW 2048 SPARSE \"p\"\n"
        );
        put(512, text.as_bytes());
        put(4 * 512, &5u32.to_le_bytes());
        put(5 * 512, &16u32.to_le_bytes());
        put(16 * 512, &[7; 4096]);
        Arc::new(image)
    });
    made.clone()
}

/// The checksum at the end of what each marker of the first sectors says is zlib's; the fuzzer changes the bytes before it.
pub fn mend(image: &Pieces) -> Vec<(u64, Vec<u8>)> {
    let mut patches = Vec::new();
    let sectors = (image.size() / SECTOR).min(512);
    for at in (0..sectors).map(|sector| sector * SECTOR) {
        let Ok(marker) = read_vec(image, at, 14) else {
            break;
        };
        let length = u64::from(u32::from_le_bytes(marker[8..12].try_into().unwrap()));
        // Deflate with a window of 32 KiB, without a dictionary.
        if marker[12] != 0x78 || !(7..=1 << 16).contains(&length) {
            continue;
        }
        let Ok(bytes) = read_vec(image, at + 12, length as usize) else {
            continue;
        };
        let body = &bytes[2..bytes.len() - 4];
        let mut decoder = flate2::Decompress::new(false);
        let mut decoded = Vec::with_capacity(1 << 16);
        let finish = flate2::FlushDecompress::Finish;
        if decoder.decompress_vec(body, &mut decoded, finish).is_ok() {
            let head = [0x78, 0x01];
            patches.push((at + 12, head.to_vec()));
            patches.push((at + 12 + length - 4, adler(&decoded).to_be_bytes().to_vec()));
        }
    }
    patches
}

/// Adler-32 (RFC 1950, 8.2).
fn adler(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    b << 16 | a
}
