//! The content of files, piece by piece; holes are passed over.

use cairn_base::read_at::check_range;
use cairn_base::units::to_u64;
use cairn_base::{Error, Monitor, ReadAt, Result};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Bytes read at once.
const PIECE: u64 = 1 << 20;
/// Extents are asked for step by step, so that a huge fragmented file needs no huge list.
const STEP: u64 = 1 << 30;

/// A piece that is not a hole as a whole.
pub struct Piece<'a> {
    /// Where it begins in the file.
    pub start: u64,
    /// All its bytes.
    pub bytes: &'a [u8],
    /// The parts of it that are no holes, as offsets in the file.
    pub data: &'a [Range<u64>],
}

impl Piece<'_> {
    /// The bytes of a part.
    pub fn part(&self, range: &Range<u64>) -> &[u8] {
        let at = |offset: u64| usize::try_from(offset.saturating_sub(self.start)).unwrap_or(0);
        self.bytes
            .get(at(range.start)..at(range.end))
            .unwrap_or_default()
    }
}

/// Tells the pieces of `source` that are not holes as a whole, in order.
///
/// # Errors
/// As reading does, and as `sink`; [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request.
pub fn each_piece(
    source: &dyn ReadAt,
    monitor: &dyn Monitor,
    sink: &mut dyn FnMut(Piece<'_>) -> Result<()>,
) -> Result<()> {
    let size = source.size();
    let mut buffer = Vec::new();
    let mut data: Vec<Range<u64>> = Vec::new();
    let mut window = 0;
    while window < size {
        let end = window.saturating_add(STEP).min(size);
        let mut extents = source.data_extents(window..end)?.into_iter().peekable();
        let mut rest: Option<Range<u64>> = None;
        while let Some(extent) = rest.take().or_else(|| extents.next()) {
            let start = extent.start / PIECE * PIECE;
            let until = start.saturating_add(PIECE).min(size);
            data.clear();
            let mut next = Some(extent);
            while let Some(extent) = next.take() {
                if extent.start >= until {
                    rest = Some(extent);
                    break;
                }
                data.push(extent.start..extent.end.min(until));
                if extent.end > until {
                    rest = Some(until..extent.end);
                    break;
                }
                next = extents.next();
            }
            if monitor.stop_requested() {
                return Err(Error::interrupted());
            }
            buffer.clear();
            buffer.resize(usize::try_from(until - start).unwrap_or(0), 0);
            for range in &data {
                let at = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
                if let Some(part) = buffer.get_mut(at(range.start)..at(range.end)) {
                    source.read_exact_at(range.start, part)?;
                }
            }
            sink(Piece {
                start,
                bytes: &buffer,
                data: &data,
            })?;
        }
        window = end;
    }
    Ok(())
}

/// The hash of a content, the same however its zeros are kept.
#[derive(Default)]
pub struct Digest(blake3::Hasher);

/// A finished [`Digest`].
pub type Hash = [u8; 32];

impl Digest {
    /// One more piece.
    pub fn add(&mut self, piece: &Piece<'_>) {
        if piece.bytes.iter().any(|byte| *byte != 0) {
            self.0.update(&piece.start.to_le_bytes());
            self.0.update(&to_u64(piece.bytes.len()).to_le_bytes());
            self.0.update(piece.bytes);
        }
    }

    /// That is all, of a file of this size.
    pub fn finish(mut self, size: u64) -> Hash {
        self.0.update(&size.to_le_bytes());
        *self.0.finalize().as_bytes()
    }

    /// Of all of `source`.
    ///
    /// # Errors
    /// As [`each_piece`].
    pub fn of(source: &dyn ReadAt, monitor: &dyn Monitor) -> Result<Hash> {
        let mut digest = Digest::default();
        each_piece(source, monitor, &mut |piece| {
            digest.add(&piece);
            Ok(())
        })?;
        Ok(digest.finish(source.size()))
    }
}

/// A file of the target, with its holes.
pub struct Written {
    file: File,
    size: u64,
    path: PathBuf,
}

impl Written {
    /// # Errors
    /// As the operating system reports.
    pub fn new(file: File, path: PathBuf) -> Result<Written> {
        let known = file.metadata();
        let size = known
            .map_err(|e| Error::io("cannot look at the file", &path, e))?
            .len();
        Ok(Written { file, size, path })
    }

    fn seek(&self, to: SeekFrom) -> Result<Option<u64>> {
        match rustix::fs::seek(&self.file, to) {
            Ok(at) => Ok(Some(at)),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(Error::io("cannot read the file", &self.path, error.into())),
        }
    }
}

impl std::os::fd::AsFd for Written {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl ReadAt for Written {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|e| Error::io("cannot read the file", &self.path, e).at_offset(offset))
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let end = range.end.min(self.size);
        let (mut found, mut at) = (Vec::new(), range.start);
        while at < end {
            let Some(start) = self.seek(SeekFrom::Data(at))?.filter(|start| *start < end) else {
                break;
            };
            let hole = self.seek(SeekFrom::Hole(start))?.unwrap_or(end).min(end);
            // A file that becomes shorter meanwhile must not end in a circle.
            if hole <= at {
                break;
            }
            found.push(start..hole);
            at = hole;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Silent;

    struct Sparse(Vec<u8>, Vec<Range<u64>>);

    impl ReadAt for Sparse {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
            self.0.read_exact_at(offset, buffer)
        }
        fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
            let cut = |e: &Range<u64>| e.start.max(range.start)..e.end.min(range.end);
            let all = self.1.iter().map(cut);
            Ok(all.filter(|e| !e.is_empty()).collect())
        }
    }

    #[test]
    fn pieces_cover_the_data_and_nothing_else() {
        let size = 5 * PIECE + 77;
        let mut bytes = vec![0u8; usize::try_from(size).unwrap()];
        let extents = vec![
            10..20,
            30..PIECE + 5,
            3 * PIECE - 1..3 * PIECE,
            4 * PIECE..size,
        ];
        for extent in &extents {
            let range =
                usize::try_from(extent.start).unwrap()..usize::try_from(extent.end).unwrap();
            bytes[range].fill(7);
        }
        let source = Sparse(bytes.clone(), extents.clone());
        let (mut told, mut pieces) = (Vec::new(), Vec::new());
        each_piece(&source, &Silent, &mut |piece| {
            pieces.push(piece.start / PIECE);
            for range in piece.data {
                assert!(piece.part(range).iter().all(|byte| *byte == 7));
                assert_eq!(to_u64(piece.part(range).len()), range.end - range.start);
                told.push(range.clone());
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(pieces, [0, 1, 2, 4, 5]);
        let bytes_of = |ranges: &[Range<u64>]| ranges.iter().map(|r| r.end - r.start).sum::<u64>();
        assert_eq!(bytes_of(&told), bytes_of(&extents));
        // However its zeros are kept, it is the same content; one byte elsewhere is not.
        let plain = Digest::of(&bytes, &Silent).unwrap();
        assert_eq!(Digest::of(&source, &Silent).unwrap(), plain);
        bytes[25] = 1;
        assert_ne!(Digest::of(&bytes, &Silent).unwrap(), plain);
        assert_ne!(
            Digest::of(&vec![0u8; 5], &Silent).unwrap(),
            Digest::of(&vec![0u8; 6], &Silent).unwrap()
        );
    }
}
