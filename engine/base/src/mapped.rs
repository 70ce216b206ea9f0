//! Memory maps of immutable files, and the guard that turns a page that cannot be read into zeros.
//!
//! This is the only module with `unsafe` (maps, their signal, and two calls that no safe crate offers:
//! a hint to write back, and what is in the page cache).
//! The argument:
//! - A map is made of files that the store never changes after they were published (index segments), opened read-only.
//!   Another program that writes into them breaks the store's contract; it can make a checksum fail, which is
//!   noticed by whoever looks at the bytes, because every page carries one and is looked at through `&[u8]` of plain
//!   integers, for which every bit pattern is valid.
//! - A file cut short, or a device that fails to read, raises SIGBUS on access. Binaries that call
//!   [`install_guard`] get a zero page mapped over the failed one instead, and [`Pages::lost_pages`] tells;
//!   binaries that do not are ended by the signal, as with any other map.
//! - The signal handler touches only atomics and calls only `mmap`, which the kernel serves without locks of
//!   the process's own.

use crate::error::{Error, Result};
use crate::pages::Pages;
use crate::units::to_u64;
use memmap2::Mmap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Slots for live maps. More maps than slots fall back to positional reads (see [`Mapped::open`]).
const SLOTS: usize = 256;
/// Page size the handler replaces; the smallest of any platform this runs on.
const PAGE: usize = 4096;

struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    lost: AtomicBool,
    taken: AtomicBool,
}

impl Slot {
    /// Whether the map in it has this address. Called from the signal handler.
    fn covers(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        let end = self.end.load(Ordering::Acquire);
        // Another thread may give the slot to another map in between: both must be of the same one.
        let same = start != 0 && start == self.start.load(Ordering::Acquire);
        same && address >= start && address < end.next_multiple_of(PAGE)
    }
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
        taken: AtomicBool::new(false),
    }
}; SLOTS];

/// A file mapped read-only.
pub struct Mapped {
    map: Mmap,
    file: File,
    path: PathBuf,
    slot: &'static Slot,
}

impl Mapped {
    /// Maps `file`; `None` when all slots of the guard are taken (the caller then reads by position).
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn open(file: &File, path: &Path) -> Result<Option<Mapped>> {
        let again = file
            .try_clone()
            .map_err(|e| Error::io("cannot open the file", path, e))?;
        let Some(slot) = TABLE.iter().find(|slot| {
            slot.taken
                .compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        }) else {
            return Ok(None);
        };
        // SAFETY: the file is immutable by the store's contract; see the head of this module.
        let map = match unsafe { Mmap::map(file) } {
            Ok(map) => map,
            Err(error) => {
                slot.taken.store(false, Ordering::Release);
                return Err(Error::io("cannot map the file", path, error));
            }
        };
        // Look-ups touch single pages: read-ahead would only push out what is useful.
        let _hint = map.advise(memmap2::Advice::Random);
        let start = map.as_ptr().addr();
        slot.lost.store(false, Ordering::Release);
        slot.end
            .store(start.saturating_add(map.len()), Ordering::Release);
        slot.start.store(start, Ordering::Release);
        Ok(Some(Mapped {
            map,
            file: again,
            path: path.to_path_buf(),
            slot,
        }))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.slot.start.store(0, Ordering::Release);
        self.slot.end.store(0, Ordering::Release);
        self.slot.taken.store(false, Ordering::Release);
    }
}

impl Pages for Mapped {
    fn size(&self) -> u64 {
        to_u64(self.map.len())
    }

    fn bytes<'a>(
        &'a self,
        offset: u64,
        length: usize,
        _scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        usize::try_from(offset)
            .ok()
            .and_then(|start| self.map.get(start..start.checked_add(length)?))
            .ok_or_else(|| {
                Error::invalid(format!("{length} bytes beyond the end of the map"))
                    .at_path(&self.path)
                    .at_offset(offset)
            })
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|e| Error::io("cannot read the file", &self.path, e).at_offset(offset))
    }

    fn will_need(&self, offset: u64, length: usize) {
        if let Ok(start) = usize::try_from(offset)
            && start
                .checked_add(length)
                .is_some_and(|end| end <= self.map.len())
        {
            let _hint = self
                .map
                .advise_range(memmap2::Advice::WillNeed, start, length);
        }
    }

    fn in_place(&self) -> Option<&[u8]> {
        Some(&self.map)
    }

    fn lost_pages(&self) -> bool {
        self.slot.lost.load(Ordering::Acquire)
    }
}

/// Makes a failed read under a map an error instead of the end of the process. For binaries: a library must not
/// take over its host's signals. Calling it twice is harmless.
pub fn install_guard() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            on_bus_error;
        #[expect(
            clippy::as_conversions,
            reason = "the C interface wants the address as a number"
        )]
        let address = handler as usize;
        // SAFETY: the handler is async-signal-safe (atomics, mmap, sigaction); the struct is fully initialised.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = address;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
        }
    });
}

/// Asks the kernel to begin writing `length` dirty bytes at `offset` of `file`; a hint that may do nothing.
pub(crate) fn start_write_back(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return;
    };
    // SAFETY: a plain system call on a descriptor that is open for the length of the call; it touches no memory.
    unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset,
            length,
            libc::SYNC_FILE_RANGE_WRITE,
        );
    }
}

/// The system call `cachestat` (Linux 6.5) has this number on every architecture.
const CACHESTAT: libc::c_long = 451;

/// How many bytes of a range of `file` lie in the page cache; `None` if the system does not tell.
pub fn cached_bytes(file: &File, offset: u64, length: u64) -> Option<u64> {
    // struct cachestat_range: offset, length. struct cachestat: pages cached, dirty, in write-back, evicted, recently evicted.
    let range = [offset, length];
    let mut counts = [0u64; 5];
    let none: libc::c_ulong = 0;
    // SAFETY: the kernel reads two and writes five 64-bit numbers, which is what the arrays hold; both outlive the call.
    let answer = unsafe {
        libc::syscall(
            CACHESTAT,
            file.as_raw_fd(),
            range.as_ptr(),
            counts.as_mut_ptr(),
            none,
        )
    };
    let [pages, ..] = counts;
    (answer == 0).then(|| pages.saturating_mul(to_u64(PAGE)))
}

extern "C" fn on_bus_error(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo for SIGBUS.
    let address = unsafe { (*info).si_addr() }.addr();
    for slot in &TABLE {
        if !slot.covers(address) {
            continue;
        }
        slot.lost.store(true, Ordering::Release);
        let page = address & !(PAGE.wrapping_sub(1));
        // SAFETY: replaces one page that lies wholly inside a live map of ours; nobody else owns it.
        let placed = unsafe {
            libc::mmap(
                std::ptr::without_provenance_mut(page),
                PAGE,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if placed != libc::MAP_FAILED {
            return;
        }
    }
    // Not ours: restore the default, so that the access that repeats now ends the process as it should.
    // SAFETY: sigaction is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_was_just_written_is_cached() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 16 * PAGE]).unwrap();
        match cached_bytes(file.as_file(), 0, 16 * to_u64(PAGE)) {
            Some(bytes) => assert_eq!(bytes, 16 * to_u64(PAGE)),
            None => println!("SKIPPED: this kernel does not tell what is cached"),
        }
        let behind = cached_bytes(file.as_file(), 64 * to_u64(PAGE), to_u64(PAGE));
        assert!(behind.is_none_or(|bytes| bytes == 0));
    }

    #[test]
    fn a_file_cut_short_reads_as_zeros_and_says_so() {
        install_guard();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 3 * PAGE]).unwrap();
        let mapped = Mapped::open(file.as_file(), file.path()).unwrap().unwrap();
        let mut scratch = Vec::new();
        assert_eq!(
            mapped.bytes(2 * PAGE as u64, 4, &mut scratch).unwrap(),
            [7; 4]
        );
        assert!(!mapped.lost_pages());
        file.as_file().set_len(PAGE as u64).unwrap();
        let mut scratch = Vec::new();
        assert_eq!(
            mapped.bytes(2 * PAGE as u64, 4, &mut scratch).unwrap(),
            [0; 4]
        );
        assert!(mapped.lost_pages());
        // What is read by position is told by an error instead.
        assert!(mapped.read(2 * PAGE as u64, &mut [0; 4]).is_err());
        let mut read = [0; 4];
        mapped.read(0, &mut read).unwrap();
        assert_eq!(read, [7; 4]);
        let mut scratch = Vec::new();
        assert_eq!(mapped.bytes(0, 4, &mut scratch).unwrap(), [7; 4]);
        assert!(mapped.bytes(3 * PAGE as u64, 1, &mut scratch).is_err());
    }
}
