//! The volume header: the first sector of an encrypted volume ("Volume header" of the format's description).

use super::metadata::MAX_BLOCK;
use cairn_base::{ReadAt, Result, View, read_at::read_vec};

/// Bytes of the volume header.
pub(super) const HEADER: usize = 512;
/// "-FVE-FS-", where the name of a file system stands.
const SIGNATURE: (usize, &[u8]) = (3, b"-FVE-FS-");
/// 4967d63b-2e29-4ad8-8399-f6a339e3d001: three offsets of metadata follow.
const NORMAL: &[u8] = b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01";
/// 92a84d3b-dd80-4d0e-9e4e-b1e3284eaed8: the same, and two offsets of what is encrypted so far.
const ON_WRITE: &[u8] = b"\x3b\x4d\xa8\x92\x80\xdd\x0e\x4d\x9e\x4e\xb1\xe3\x28\x4e\xae\xd8";
/// Where one of them stands: in a header that looks like Windows 7's, and in one that looks like FAT32's.
const PLACES: [usize; 2] = [160, 424];

/// How the volume header is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Windows Vista.
    Vista,
    /// Windows 7 and later.
    Windows7,
    /// BitLocker To Go: removable media whose header looks like that of FAT32.
    ToGo,
    /// As Windows 7's, while Windows encrypts only what is written (encrypt on write, used space only).
    OnWrite,
}

impl Layout {
    /// What to call it.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Vista => "Windows Vista",
            Layout::Windows7 => "Windows 7 or later",
            Layout::ToGo => "BitLocker To Go",
            Layout::OnWrite => "Windows 8 or later, encrypt on write",
        }
    }
}

/// What the volume header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub layout: Layout,
    /// 512, 1024, 2048 or 4096.
    pub sector_size: u64,
    /// Bytes of a cluster; a multiple of the sector size.
    pub cluster_size: u64,
    /// Where the copies of the metadata lie, in bytes of the volume: three, but for Vista, whose header knows the first one.
    pub metadata: Vec<u64>,
    /// Where it is told what is encrypted so far.
    pub conversion: Option<[u64; 2]>,
}

fn at(bytes: &[u8], offset: usize, mark: &[u8]) -> bool {
    bytes
        .get(offset..)
        .is_some_and(|rest| rest.starts_with(mark))
}

/// Whether a volume that begins so is one of BitLocker.
pub fn is_bitlocker(head: &[u8]) -> bool {
    at(head, SIGNATURE.0, SIGNATURE.1)
        || PLACES
            .iter()
            .any(|place| at(head, *place, NORMAL) || at(head, *place, ON_WRITE))
}

impl Header {
    /// # Errors
    /// As reading does; damaged if the header contradicts itself.
    pub fn read(device: &dyn ReadAt) -> Result<Header> {
        let bytes = read_vec(device, 0, HEADER)?;
        Header::parse(&bytes)
    }

    /// Decodes a volume header.
    ///
    /// # Errors
    /// Damaged if its sizes or offsets are impossible.
    pub fn parse(bytes: &[u8]) -> Result<Header> {
        let view = View::new(bytes, "BitLocker volume header", 0);
        let sector_size = u64::from(view.u16_le(11)?);
        if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
            return Err(view.damaged(11, "the sector size is impossible"));
        }
        let per_cluster = match view.u8(13)? {
            0 => 1,
            // NTFS writes what is above 128 as a negative power of two.
            count @ 225.. => 1u64 << u32::from(0u8.wrapping_sub(count)).min(31),
            count => u64::from(count),
        };
        let cluster_size = sector_size.saturating_mul(per_cluster);
        let offsets = |place: usize| -> Result<Vec<u64>> {
            [16, 24, 32]
                .iter()
                .map(|more| view.u64_le(place.saturating_add(*more)))
                .collect()
        };
        let mut header = Header {
            layout: Layout::Vista,
            sector_size,
            cluster_size,
            metadata: Vec::new(),
            conversion: None,
        };
        for place in PLACES {
            if at(bytes, place, ON_WRITE) {
                let more = |more: usize| view.u64_le(place.saturating_add(more));
                header.layout = Layout::OnWrite;
                header.metadata = offsets(place)?;
                header.conversion = Some([more(40)?, more(48)?]);
            } else if at(bytes, place, NORMAL) {
                header.layout = if at(bytes, SIGNATURE.0, SIGNATURE.1) {
                    Layout::Windows7
                } else {
                    Layout::ToGo
                };
                header.metadata = offsets(place)?;
            }
        }
        if header.metadata.is_empty() {
            // Vista counts clusters, where NTFS has the place of the mirror of its MFT.
            let offset = view.u64_le(56)?.checked_mul(cluster_size);
            let offset = offset.ok_or_else(|| view.damaged(56, "lies beyond any volume"))?;
            header.metadata.push(offset);
        }
        Ok(header)
    }

    /// Bytes that are kept for a copy of the metadata; they read as zeros.
    pub fn metadata_area(&self, version: u16) -> u64 {
        let (bytes, unit) = match version {
            0 | 1 => (0x4000, self.cluster_size),
            _ => (MAX_BLOCK, self.sector_size),
        };
        super::regions::rounded_up(bytes, unit)
    }
}
