//! Superblocks whose mark is short: what is said beside it must be possible.

use cairn_base::{Result, View};

/// Where a superblock begins, its mark's offset in it, the mark, whose it is, and what must be so.
type Superblock = (
    usize,
    usize,
    &'static [u8],
    &'static str,
    fn(View<'_>) -> Result<bool>,
);

const SUPERBLOCKS: &[Superblock] = &[
    (0, 0x20, b"NXSB", "APFS", is_apfs),
    (0x400, 0, b"H+\0\x04", "HFS+", is_hfs),
    (0x400, 0, b"HX\0\x05", "HFS+", is_hfs),
    (0x400, 0, b"\x10\x20\xf5\xf2", "F2FS", is_f2fs),
    (0x400, 0, b"\xe2\xe1\xf5\xe0", "EROFS", is_erofs),
    (0x400, 6, b"\x34\x34", "NILFS2", is_nilfs),
    (0x8000, 0, b"JFS1", "JFS", is_jfs),
    (0x2000, 0x55c, b"\x54\x19\x01\0", "UFS", is_ufs),
    (0x1_0000, 0x55c, b"\x19\x01\x54\x19", "UFS", is_ufs),
];

/// Whose superblock is in `head`, the beginning of a device.
pub fn of(head: View<'_>) -> Option<&'static str> {
    let is_there = |(start, at, mark, _, is): &&Superblock| {
        is_at(head, start.saturating_add(*at), mark)
            && head.tail(*start).and_then(is).unwrap_or(false)
    };
    SUPERBLOCKS
        .iter()
        .find(is_there)
        .map(|(_, _, _, name, _)| *name)
}

fn is_at(head: View<'_>, offset: usize, mark: &[u8]) -> bool {
    head.slice(offset, mark.len())
        .is_ok_and(|found| found == mark)
}

/// Whether `value` is a power of two from `least` to `most`.
fn is_size(value: u32, least: u32, most: u32) -> bool {
    value.is_power_of_two() && (least..=most).contains(&value)
}

/// Apple File System Reference, "nx_superblock_t": the object is of type 1 and none else, and has blocks of 4 to 64 KiB.
fn is_apfs(view: View<'_>) -> Result<bool> {
    Ok(view.u16_le(0x18)? == 1
        && view.u32_le(0x1c)? == 0
        && is_size(view.u32_le(0x24)?, 4 << 10, 64 << 10))
}

/// Apple Technical Note 1150, "Volume Header": blocks of at least 512 bytes, and no more of them free than there are.
fn is_hfs(view: View<'_>) -> Result<bool> {
    let (total, free) = (view.u32_be(44)?, view.u32_be(48)?);
    Ok(is_size(view.u32_be(40)?, 512, 1 << 30) && total > 0 && free <= total)
}

/// Linux, `f2fs_fs.h`: sectors and sectors of a block make up a block.
fn is_f2fs(view: View<'_>) -> Result<bool> {
    let (sector, sectors, block) = (view.u32_le(8)?, view.u32_le(12)?, view.u32_le(16)?);
    Ok((9..=16).contains(&sector)
        && (12..=16).contains(&block)
        && sector.checked_add(sectors) == Some(block))
}

/// Linux, `erofs_fs.h`: blocks of 512 bytes to 64 KiB, and so many 16-byte slots behind the superblock as fit one.
fn is_erofs(view: View<'_>) -> Result<bool> {
    let (bits, slots) = (view.u8(12)?, view.u8(13)?);
    Ok((9..=16).contains(&bits) && slots < 248 && view.u32_le(36)? > 0)
}

/// Linux, `nilfs2_ondisk.h`: the checksum of the superblock, which is of its own length and has its place left out.
fn is_nilfs(view: View<'_>) -> Result<bool> {
    const SUM: usize = 16;
    let length = usize::from(view.u16_le(8)?);
    if !(SUM.saturating_add(4)..=1024).contains(&length) {
        return Ok(false);
    }
    let behind = SUM.saturating_add(4);
    // The kernel's function begins with the seed as it is, and does not turn the result.
    let mut sum = crc32fast::Hasher::new_with_initial(!view.u32_le(12)?);
    sum.update(view.slice(0, SUM)?);
    sum.update(&[0; 4]);
    sum.update(view.slice(behind, length.saturating_sub(behind))?);
    Ok(!sum.finalize() == view.u32_le(SUM)?)
}

/// Linux, `jfs_superblock.h`: version 1 or 2, and the size of a block beside its logarithm.
fn is_jfs(view: View<'_>) -> Result<bool> {
    let (size, bits) = (view.u32_le(16)?, view.u16_le(20)?);
    Ok(matches!(view.u32_le(4)?, 1 | 2)
        && is_size(size, 512, 4096)
        && 1u32.checked_shl(u32::from(bits)) == Some(size))
}

/// FreeBSD, `ufs/ffs/fs.h`: a block is made of so many fragments as are told.
fn is_ufs(view: View<'_>) -> Result<bool> {
    let (block, fragment, count) = (view.u32_le(48)?, view.u32_le(52)?, view.u32_le(56)?);
    Ok(is_size(block, 4 << 10, 64 << 10)
        && is_size(fragment, 512, block)
        && fragment.checked_mul(count) == Some(block))
}

/// FreeBSD, `disklabel.h`: the mark stands at the beginning, and again behind the names and sizes.
pub fn is_disk_label(head: View<'_>) -> bool {
    const MARK: &[u8] = b"\x57\x45\x56\x82";
    is_at(head, 0x200, MARK) && is_at(head, 0x284, MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Marks<'a> = &'a [(usize, &'a [u8])];

    /// A device with these bytes at these places.
    fn told(marks: Marks<'_>) -> Option<&'static str> {
        let mut bytes = vec![0u8; 1 << 20];
        for (at, mark) in marks {
            bytes[*at..at + mark.len()].copy_from_slice(mark);
        }
        of(View::new(&bytes, "device", 0))
    }

    /// The CRC-32 of Linux, bit by bit.
    fn crc32_le(mut register: u32, bytes: &[u8]) -> u32 {
        for byte in bytes {
            register ^= u32::from(*byte);
            for _ in 0..8 {
                let low = register & 1;
                register = register >> 1 ^ if low == 1 { 0xEDB8_8320 } else { 0 };
            }
        }
        register
    }

    #[test]
    fn a_short_mark_alone_is_none() {
        for (start, at, mark, name, _) in SUPERBLOCKS {
            assert_eq!(told(&[(start + at, mark)]), None, "{name}");
        }
    }

    #[test]
    fn superblocks_are_known_by_what_stands_beside_their_marks() {
        let cases: &[(&str, Marks<'_>)] = &[
            ("APFS", &[(0x18, b"\x01\0\0\x80\0\0\0\0NXSB\0\x10\0\0")]),
            (
                "HFS+",
                &[
                    (0x400, b"H+\0\x04"),
                    (0x428, b"\0\0\x10\0\0\0\x20\0\0\0\x1f\0"),
                ],
            ),
            (
                "F2FS",
                &[
                    (0x400, b"\x10\x20\xf5\xf2"),
                    (0x408, b"\x09\0\0\0\x03\0\0\0\x0c\0\0\0"),
                ],
            ),
            (
                "EROFS",
                &[
                    (0x400, b"\xe2\xe1\xf5\xe0"),
                    (0x40c, b"\x0c"),
                    (0x424, b"\x09"),
                ],
            ),
            (
                "JFS",
                &[(0x8000, b"JFS1\x01"), (0x8010, b"\0\x10\0\0\x0c\0")],
            ),
            (
                "UFS",
                &[
                    (0x1_0030, b"\0\x80\0\0\0\x10\0\0\x08\0\0\0"),
                    (0x1_055c, b"\x19\x01\x54\x19"),
                ],
            ),
        ];
        for (name, marks) in cases {
            assert_eq!(told(marks), Some(*name));
        }
    }

    #[test]
    fn nilfs_is_known_by_its_checksum() {
        let mut block = vec![0u8; 280];
        block[0] = 2;
        block[6..8].copy_from_slice(b"\x34\x34");
        block[8..10].copy_from_slice(&280u16.to_le_bytes());
        block[12..16].copy_from_slice(&0x1234_5678u32.to_le_bytes());
        block[20..].fill(7);
        let sum = crc32_le(0x1234_5678, &block);
        block[16..20].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(told(&[(0x400, &block)]), Some("NILFS2"));
        block[200] ^= 1;
        assert_eq!(told(&[(0x400, &block)]), None);
    }
}
