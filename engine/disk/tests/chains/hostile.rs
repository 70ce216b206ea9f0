//! Chains made to cost much: what is read of them is counted.

use super::made::id;
use cairn_base::read_at::{check_range, read_vec};
use cairn_base::{ReadAt, Result};
use cairn_disk::vhd::dynamic::DynamicHeader;
use cairn_disk::vhd::footer::{DiskType, Footer, Geometry};
use cairn_disk::{FormatHint, VirtualDisk, open_chain};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const BLOCK: u64 = 256 << 20;
const BITMAP: u64 = 64 << 10;
const TABLE: u64 = 1536;

/// A file of which the beginning is not zeros.
struct Counted {
    head: Vec<u8>,
    size: u64,
    read: Arc<AtomicU64>,
}

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        for (at, byte) in (offset as usize..).zip(buffer) {
            *byte = self.head.get(at).copied().unwrap_or(0);
        }
        Ok(())
    }
}

/// Level `level` of a chain of VHD: `blocks` blocks of 256 MiB that all lie in one place; `bits` says which sectors are the image's own.
fn made(
    level: u16,
    levels: u16,
    blocks: u32,
    bits: impl Fn(u64) -> bool,
    read: &Arc<AtomicU64>,
) -> Arc<dyn ReadAt> {
    let is_oldest = level + 1 == levels;
    let size = u64::from(blocks) * BLOCK;
    let footer = Footer {
        data_offset: 512,
        timestamp: 1,
        creator: *b"win ",
        current_size: size,
        geometry: Geometry::of(size),
        disk_type: match is_oldest {
            true => DiskType::Dynamic,
            false => DiskType::Differencing,
        },
        unique_id: id(level),
        checksum_holds: true,
    };
    let header = DynamicHeader {
        table_offset: TABLE,
        entries: blocks,
        block_size: BLOCK as u32,
    };
    let mut header = header.encode();
    header[40..56].copy_from_slice(&id(level + 1).0);
    header[36..40].fill(0);
    let sum = header
        .iter()
        .fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    header[36..40].copy_from_slice(&(!sum).to_be_bytes());
    let place = (TABLE + u64::from(blocks) * 4).next_multiple_of(512);
    let mut head = [&footer.encode()[..], &header[..]].concat();
    for _ in 0..blocks {
        head.extend(((place / 512) as u32).to_be_bytes());
    }
    head.resize(place as usize, 0);
    let bitmap = (0..BITMAP).map(|byte| {
        (0..8).fold(0u8, |all, bit| {
            all | u8::from(is_oldest || bits(byte * 8 + bit)) << (7 - bit)
        })
    });
    head.extend(bitmap);
    Arc::new(Counted {
        head,
        size: place + BITMAP + BLOCK + 512,
        read: read.clone(),
    })
}

/// A chain whose level `n` has the sectors that `bits` says.
fn chain(
    levels: u16,
    blocks: u32,
    bits: impl Fn(u16, u64) -> bool,
    read: &Arc<AtomicU64>,
) -> Arc<dyn VirtualDisk> {
    let mut images: Vec<_> = (0..levels)
        .map(|level| made(level, levels, blocks, |sector| bits(level, sector), read))
        .collect();
    let child = images.remove(0);
    open_chain(child, images, FormatHint::Vhd).unwrap()
}

#[test]
fn fragments_of_a_block_are_looked_up_together() {
    let read = Arc::new(AtomicU64::new(0));
    // Every other sector is left to the last of eight images.
    let disk = chain(8, 1, |_, sector| sector % 2 == 0, &read);
    read.store(0, Ordering::Relaxed);
    let length = 64 << 10;
    read_vec(&*disk, 0, length).unwrap();
    // The disk's bytes, and the bitmap of each level, once.
    let most = length as u64 + 8 * (BITMAP + 1024);
    let count = read.swap(0, Ordering::Relaxed);
    assert!(count <= most, "{count} bytes");
    // From then on the bits in question.
    read_vec(&*disk, 1 << 20, length).unwrap();
    let count = read.load(Ordering::Relaxed);
    assert!(count <= length as u64 + 8 * 64, "{count} bytes");
}

#[test]
fn what_may_hold_data_is_said_in_few_pieces_however_many_levels_there_are() {
    let read = Arc::new(AtomicU64::new(0));
    let runs = [8192, 128, 2];
    let disk = chain(
        4,
        2,
        |level, sector| sector / runs[usize::from(level)] % 2 == 0,
        &read,
    );
    read.store(0, Ordering::Relaxed);
    let extents = disk.data_extents(0..u64::MAX).unwrap();
    assert!(extents.len() <= 2 * 4 * 64, "{} extents", extents.len());
    let all: u64 = extents.iter().map(|extent| extent.end - extent.start).sum();
    assert_eq!(all, 2 * BLOCK);
    let count = read.load(Ordering::Relaxed);
    assert!(count <= 2 * 4 * (BITMAP + 1024), "{count} bytes");
}
