//! Files that Windows has compressed through its overlay filter (WOF): "CompactOS", `compact /exe`.
//!
//! The reparse point ([MS-FSCC] section 2.1.2.1: `IO_REPARSE_TAG_WOF`) holds a `WOF_EXTERNAL_INFO` and behind it what
//! the provider needs; of files it is `FILE_PROVIDER_EXTERNAL_INFO_V1`, which names the algorithm. The main stream is
//! as long as the content, and a hole. The stream `WofCompressedData` begins with the places of all chunks but the
//! first, relative to the end of this table: 4 bytes each, or 8 if the content has 4 GiB or more. A chunk that would
//! not have become smaller is stored as it is.

use super::{lzx, xpress};
use cairn_base::read_at::{check_range, read_vec};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, View};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// The stream that holds the compressed content.
pub const STREAM: &str = "WofCompressedData";

/// Its name as NTFS stores it.
pub fn stream_name() -> Vec<u16> {
    STREAM.encode_utf16().collect()
}

/// Chunks whose places are read at once.
const PAGE: u64 = 512;
/// Such pages kept for each open file.
const PAGES: usize = 4;
/// Decompressed chunks kept for each open file, so that small reads do not decompress again and again.
const KEPT: usize = 4;
/// Compressed bytes that are read at once, if more than one chunk is wanted.
const PIECE: u64 = 256 << 10;
/// Content from which on places take 8 bytes.
const WIDE: u64 = 1 << 32;

/// How a file was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// XPRESS with Huffman codes, in chunks of 4 KiB.
    Xpress4K,
    /// LZX, in chunks of 32 KiB.
    Lzx,
    /// XPRESS with Huffman codes, in chunks of 8 KiB.
    Xpress8K,
    /// XPRESS with Huffman codes, in chunks of 16 KiB.
    Xpress16K,
}

impl Algorithm {
    /// Decodes a reparse point that has WOF's tag.
    ///
    /// # Errors
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for content in a WIM archive, and for versions, providers
    /// and algorithms that are not known, [`Kind::Damaged`](cairn_base::Kind::Damaged) for one that ends too early.
    pub fn parse(point: View<'_>) -> Result<Algorithm> {
        let info = point.tail(8)?;
        let (version, provider) = (info.u32_le(0)?, info.u32_le(4)?);
        match (version, provider) {
            (1, 2) => {}
            (1, 1) => {
                let source = info.u64_le(16).unwrap_or(0);
                return Err(Error::unsupported(format!(
                    "the file's content is in a WIM archive (WOF provider 1, data source {source}), which is not read"
                ))
                .advise("take it from the archive, which lies on this or another volume as `.wim`, or start the restored disk and copy the file with Windows"));
            }
            _ => return Err(unknown(format!("provider {provider} of version {version}"))),
        }
        match (info.u32_le(8)?, info.u32_le(12)?) {
            (1, 0) => Ok(Algorithm::Xpress4K),
            (1, 1) => Ok(Algorithm::Lzx),
            (1, 2) => Ok(Algorithm::Xpress8K),
            (1, 3) => Ok(Algorithm::Xpress16K),
            (version, other) => Err(unknown(format!("algorithm {other} of version {version}"))),
        }
    }

    /// Bytes of content in a chunk.
    fn chunk(self) -> u64 {
        match self {
            Algorithm::Xpress4K => 4 << 10,
            Algorithm::Xpress8K => 8 << 10,
            Algorithm::Xpress16K => 16 << 10,
            Algorithm::Lzx => 32 << 10,
        }
    }

    /// Fills `output` with what the chunk `packed` holds.
    fn unpack(self, packed: &[u8], output: &mut [u8]) -> Result<()> {
        if packed.len() == output.len() {
            output.copy_from_slice(packed);
            return Ok(());
        }
        match self {
            Algorithm::Lzx => lzx::decompress(packed, output),
            _ => xpress::decompress(packed, output),
        }
    }
}

fn unknown(what: String) -> Error {
    Error::unsupported(format!(
        "the file is compressed by Windows (WOF) in a way that is not known: {what}"
    ))
    .advise("restore the whole disk and copy the file with Windows")
}

/// The content of such a file.
pub struct WofStream {
    packed: Arc<dyn ReadAt>,
    size: u64,
    algorithm: Algorithm,
    /// Bytes of the table of places.
    table: u64,
    /// Places by page: of each chunk of the page, and the end of the last. The latest is at the end.
    pages: Mutex<VecDeque<(u64, Arc<Vec<u64>>)>>,
    /// Chunks by number, the latest at the end.
    recent: Mutex<VecDeque<(u64, Arc<Vec<u8>>)>>,
}

impl WofStream {
    /// `packed` is the stream [`STREAM`], `size` the length of the content in bytes.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if the stream is too short for its table.
    pub fn new(packed: Arc<dyn ReadAt>, size: u64, algorithm: Algorithm) -> Result<WofStream> {
        let chunks = size.div_ceil(algorithm.chunk());
        let table = chunks.saturating_sub(1).saturating_mul(width(size));
        if table > packed.size() {
            return Err(damaged("it is shorter than its table of chunks"));
        }
        Ok(WofStream {
            packed,
            size,
            algorithm,
            table,
            pages: Mutex::new(VecDeque::with_capacity(PAGES)),
            recent: Mutex::new(VecDeque::with_capacity(KEPT)),
        })
    }

    fn chunks(&self) -> u64 {
        self.size.div_ceil(self.algorithm.chunk())
    }

    /// Bytes of content in chunk `number`.
    fn length(&self, number: u64) -> u64 {
        let start = number.saturating_mul(self.algorithm.chunk());
        self.size.saturating_sub(start).min(self.algorithm.chunk())
    }

    /// Where the chunks of page `number` lie in the stream, and where the last of them ends.
    fn page(&self, number: u64) -> Result<Arc<Vec<u64>>> {
        if let Some(page) = kept(&self.pages.lock(), number) {
            return Ok(page);
        }
        let first = number.saturating_mul(PAGE);
        let end = first.saturating_add(PAGE).min(self.chunks());
        // The table has no place for chunk 0, and none for the end of the last.
        let (from, to) = (first.max(1), end.saturating_add(1).min(self.chunks()));
        let width = width(self.size);
        let offset = from.saturating_sub(1).saturating_mul(width);
        let length = to.saturating_sub(from).saturating_mul(width);
        let bytes = read_vec(&self.packed, offset, usize::try_from(length).unwrap_or(0))?;
        let mut places = Vec::with_capacity(usize::try_from(PAGE).unwrap_or(0).saturating_add(1));
        if first == 0 {
            places.push(self.table);
        }
        for entry in bytes.chunks_exact(usize::try_from(width).unwrap_or(8)) {
            let mut number = [0u8; 8];
            if let Some(low) = number.get_mut(..entry.len()) {
                low.copy_from_slice(entry);
            }
            places.push(self.table.saturating_add(u64::from_le_bytes(number)));
        }
        if end == self.chunks() {
            places.push(self.packed.size());
        }
        let page = Arc::new(places);
        keep(&mut self.pages.lock(), PAGES, number, &page);
        Ok(page)
    }

    /// Where chunk `number` lies in the stream.
    fn place(&self, number: u64) -> Result<(u64, u64)> {
        let page = self.page(number.checked_div(PAGE).unwrap_or(0))?;
        let at = usize::try_from(number.checked_rem(PAGE).unwrap_or(0)).unwrap_or(0);
        let (start, end) = match page.get(at..) {
            Some([start, end, ..]) => (*start, *end),
            _ => return Err(damaged("it has no such chunk").at_offset(number)),
        };
        let length = end.saturating_sub(start);
        if length == 0 || length > self.length(number) || end > self.packed.size() {
            return Err(damaged("the table of chunks is impossible")
                .context(format!("chunk {number} from byte {start} to {end}")));
        }
        Ok((start, end))
    }

    fn unpack(&self, number: u64, packed: &[u8], output: &mut [u8]) -> Result<()> {
        self.algorithm
            .unpack(packed, output)
            .map_err(|error| error.context(format!("chunk {number} of `{STREAM}`")))
    }

    /// Chunk `number`, kept for the next who asks.
    fn chunk(&self, number: u64) -> Result<Arc<Vec<u8>>> {
        if let Some(chunk) = kept(&self.recent.lock(), number) {
            return Ok(chunk);
        }
        let (start, end) = self.place(number)?;
        let stored = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        let packed = read_vec(&self.packed, start, stored)?;
        let mut chunk = vec![0; usize::try_from(self.length(number)).unwrap_or(0)];
        self.unpack(number, &packed, &mut chunk)?;
        let chunk = Arc::new(chunk);
        keep(&mut self.recent.lock(), KEPT, number, &chunk);
        Ok(chunk)
    }

    /// Fills the start of `buffer` with whole chunks from `first` on, as many as fit and are read at once, at least
    /// one; answers how many bytes these are.
    fn whole_chunks(&self, first: u64, buffer: &mut [u8]) -> Result<usize> {
        let (start, mut end) = self.place(first)?;
        let mut parts = vec![(start, end)];
        let mut filled = self.length(first);
        let mut next = first.saturating_add(1);
        while next < self.chunks() {
            let length = filled.saturating_add(self.length(next));
            // A bad place behind is for the read that needs it.
            let Ok((from, to)) = self.place(next) else {
                break;
            };
            if length > to_u64(buffer.len()) || from != end || to.saturating_sub(start) > PIECE {
                break;
            }
            parts.push((from, to));
            (filled, end, next) = (length, to, next.saturating_add(1));
        }
        let stored = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        let packed = read_vec(&self.packed, start, stored)?;
        let (mut packed, mut rest) = (&packed[..], buffer);
        for (&(from, to), number) in parts.iter().zip(first..) {
            let stored = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
            let length = usize::try_from(self.length(number)).unwrap_or(0);
            let (Some((now, later)), Some((output, after))) = (
                packed.split_at_checked(stored),
                rest.split_at_mut_checked(length),
            ) else {
                break;
            };
            self.unpack(number, now, output)?;
            (packed, rest) = (later, after);
        }
        Ok(usize::try_from(filled).unwrap_or(usize::MAX))
    }
}

/// Bytes of a place in the table of content of `size` bytes.
fn width(size: u64) -> u64 {
    if size < WIDE { 4 } else { 8 }
}

fn kept<T>(queue: &VecDeque<(u64, Arc<T>)>, number: u64) -> Option<Arc<T>> {
    let found = queue.iter().find(|(known, _)| *known == number);
    found.map(|(_, value)| value.clone())
}

fn keep<T>(queue: &mut VecDeque<(u64, Arc<T>)>, most: usize, number: u64, value: &Arc<T>) {
    if kept(queue, number).is_none() {
        if queue.len() >= most {
            queue.pop_front();
        }
        queue.push_back((number, value.clone()));
    }
}

fn damaged(why: &'static str) -> Error {
    Error::damaged(format!("the stream `{STREAM}`: {why}"))
}

impl ReadAt for WofStream {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let chunk_size = self.algorithm.chunk();
        let (mut rest, mut at) = (buffer, offset);
        while !rest.is_empty() {
            let number = at.checked_div(chunk_size).unwrap_or(0);
            let within = at.saturating_sub(number.saturating_mul(chunk_size));
            let done = if within == 0 && to_u64(rest.len()) >= self.length(number) {
                self.whole_chunks(number, rest)?
            } else {
                let chunk = self.chunk(number)?;
                let from = usize::try_from(within).unwrap_or(usize::MAX);
                let content = chunk.get(from..).unwrap_or_default();
                let length = content.len().min(rest.len());
                for (place, byte) in rest.iter_mut().zip(content) {
                    *place = *byte;
                }
                length
            };
            if done == 0 {
                return Err(damaged("a chunk is empty").at_offset(at));
            }
            at = at.saturating_add(to_u64(done));
            rest = rest.get_mut(done..).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
