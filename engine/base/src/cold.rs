//! Large reads of what is not in the page cache: past it.
//!
//! A backup reads an image once, from its start to its end, and a restore reads packs so. Through the page cache that pushes
//! out what others use, and costs a copy and a fresh page for every 4 KiB, which on a virtual machine can cost far more than the disk itself. So where little of
//! a large read is cached already, it is read directly (`O_DIRECT`). The kernel is asked what is cached (`cachestat`): trying with
//! `RWF_NOWAIT` would bring into the cache what is not there.

use crate::mapped::cached_bytes;
use crate::units::to_u64;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Shorter reads go through the page cache: who makes them may well come again.
pub const LARGE: usize = 512 << 10;
/// Offset, length and memory of direct reads are multiples of this; devices with larger sectors refuse, and are then read as usual.
const SECTOR: usize = 512;

/// A second handle to a file, for direct reads.
pub struct Cold {
    file: File,
    /// Whether a direct read was refused: then none is tried again.
    refused: AtomicBool,
    /// Reads to come of which the kernel is not asked what is cached, because all of the one before was.
    unasked: AtomicU32,
}

/// Of so many reads of what is cached one is asked for: the answer costs some percent of the reading.
const UNASKED: u32 = 7;

impl Cold {
    /// Opens what `file` has open once more; `None` where that or direct reading is not possible.
    pub fn of(file: &File) -> Option<Cold> {
        // By the handle, not by the name: that may be another file's by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let direct = i32::try_from(OFlags::DIRECT.bits()).ok()?;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(direct)
            .open(path)
            .ok()?;
        Some(Cold {
            file,
            refused: AtomicBool::new(false),
            unasked: AtomicU32::new(0),
        })
    }

    /// Whether direct reads are of use.
    pub fn is_usable(&self) -> bool {
        !self.refused.load(Ordering::Relaxed)
    }

    /// Reads the start of `buffer` directly, if little of the range is cached; how much that was. Errors end it early: the
    /// caller reads the rest as usual, and hears of them there.
    pub fn read(&self, cached: &File, offset: u64, buffer: &mut [u8]) -> usize {
        let length = to_u64(buffer.len());
        if !is_aligned(offset, buffer) {
            return 0;
        }
        let take = |left: u32| left.checked_sub(1);
        if self
            .unasked
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
        {
            return 0;
        }
        match cached_bytes(cached, offset, length) {
            Some(there) if there < length / 2 => {}
            Some(there) => {
                if there >= length {
                    self.unasked.store(UNASKED, Ordering::Relaxed);
                }
                return 0;
            }
            None => {
                self.refused.store(true, Ordering::Relaxed);
                return 0;
            }
        }
        let mut done = 0usize;
        while let Some(rest) = buffer.get_mut(done..) {
            match self.directly(offset.saturating_add(to_u64(done)), rest) {
                Some(got) if got > 0 => done = done.saturating_add(got),
                _ => break,
            }
        }
        done
    }

    fn directly(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        let whole = buffer.len().saturating_sub(buffer.len() % SECTOR);
        let part = buffer.get_mut(..whole).filter(|part| !part.is_empty())?;
        if !is_aligned(offset, part) {
            return None;
        }
        match self.file.read_at(part, offset) {
            Ok(got) => Some(got),
            Err(error) => {
                if error.kind() == std::io::ErrorKind::InvalidInput {
                    self.refused.store(true, Ordering::Relaxed);
                }
                None
            }
        }
    }
}

fn is_aligned(offset: u64, buffer: &[u8]) -> bool {
    offset.is_multiple_of(to_u64(SECTOR)) && buffer.as_ptr().addr().is_multiple_of(SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AlignedBuffer;
    use rustix::fs::{Advice, fadvise};
    use std::io::Write;

    #[test]
    fn cached_and_uncached_parts_make_one_whole() {
        // On a disk: a folder in memory has nothing that is not cached.
        let mut temp = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7 % 251) as u8).collect();
        temp.write_all(&bytes).unwrap();
        temp.as_file().sync_all().unwrap();
        let file = temp.reopen().unwrap();
        let Some(cold) = Cold::of(&file) else {
            println!("SKIPPED: direct reading is not possible here");
            return;
        };
        let length = std::num::NonZeroU64::new(bytes.len() as u64);
        let mut used = 0;
        for warm in [0..0, 0..1 << 20, 1 << 20..2 << 20, 0..bytes.len()] {
            fadvise(&file, 0, length, Advice::DontNeed).unwrap();
            if !warm.is_empty() {
                let mut buffer = vec![0; warm.len()];
                file.read_exact_at(&mut buffer, warm.start as u64).unwrap();
            }
            for (offset, length) in [
                (0, 3_000_000),
                (4096, 2 << 20),
                (512, 1 << 20),
                (7, 1 << 20),
            ] {
                let mut buffer = AlignedBuffer::new(length);
                let length = length.min(bytes.len() - offset);
                let part = &mut buffer[..length];
                let done = cold.read(&file, offset as u64, part);
                assert!(part[..done] == bytes[offset..offset + done], "{offset}");
                used += done;
            }
        }
        // What was not read so (an odd end, an odd offset) is the caller's, but most of it was.
        assert!(used > 4_000_000 || !cold.is_usable(), "{used}");
    }
}
