//! The markers of a stream ("Stream-Optimized Compressed Sparse Extents"): in front of each compressed grain, and of tables, directory and footer.

use crate::align::to_usize;
use cairn_base::read_at::read_vec;
use cairn_base::{ReadAt, Result, View};

/// Bytes of a marker before the compressed bytes: sector of the disk, and their number.
pub(super) const LENGTH: u64 = 12;
/// Bytes of a marker with a type.
const WITH_TYPE: u64 = 16;

/// What a marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    /// The sector of a grain; sectors of what follows otherwise.
    pub(super) value: u64,
    /// Bytes that are compressed; 0 if it has a type.
    pub(super) length: u32,
    /// The type; 0 where the file ends before it.
    pub(super) kind: u32,
}

impl Marker {
    /// The marker at `at` of `file`.
    ///
    /// # Errors
    /// [`Kind::Invalid`](cairn_base::Kind::Invalid) if less than [`LENGTH`] bytes are there; what the file says when it is read.
    pub(super) fn read(file: &dyn ReadAt, at: u64) -> Result<Marker> {
        let room = file.size().saturating_sub(at).clamp(LENGTH, WITH_TYPE);
        let bytes = read_vec(file, at, to_usize(room)?)?;
        let view = View::new(&bytes, "marker of a VMDK stream", at);
        Ok(Marker {
            value: view.u64_le(0)?,
            length: view.u32_le(8)?,
            kind: match room {
                WITH_TYPE => view.u32_le(12)?,
                _ => 0,
            },
        })
    }
}

/// Where the compressed grain with `marker` at `at` ends.
pub(super) fn end(at: u64, marker: &Marker) -> u64 {
    let bytes = u64::from(marker.length);
    at.saturating_add(LENGTH).saturating_add(bytes)
}
