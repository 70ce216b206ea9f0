//! Disk images.

use crate::pieces::Pieces;
use crate::vmdk;
use cairn_base::read_at::read_vec;
use cairn_base::{Kind, Monitor, ReadAt, Stage};
use cairn_disk::check::KEPT;
use cairn_disk::vhd::footer::{DiskType, Footer};
use cairn_disk::vhdx::{bat, header, metadata, region};
use cairn_disk::vmdk::descriptor::{Descriptor, ExtentKind, MAX_EXTENTS};
use cairn_disk::{
    Check, FormatHint, Guid, VirtualDisk, check_structures, detect, open_bytes, open_chain, qcow2,
    vdi, vhd,
};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Bytes of an image file.
const MAX_SIZE: u64 = 1 << 40;
/// Bytes read at each place that is looked at.
const LOOK: u64 = 256 << 10;

/// A VHD; if the first byte is odd, the checksums of footers and header are made right.
pub fn vhd(data: &[u8]) -> bool {
    image(data, FormatHint::Vhd, mend_vhd)
}

/// A VHDX; if the first byte is odd, the checksums of headers, tables and log are made right.
pub fn vhdx(data: &[u8]) -> bool {
    image(data, FormatHint::Vhdx, mend_vhdx)
}

/// A sparse VMDK; if the first byte is odd, the checksums of compressed grains that were there before are made right.
pub fn vmdk(data: &[u8]) -> bool {
    image(data, FormatHint::Vmdk, vmdk::mend)
}

/// A descriptor in a file of its own. One that names no files is opened and read.
pub fn vmdk_descriptor(data: &[u8]) -> bool {
    let Ok(found) = Descriptor::parse(data) else {
        return false;
    };
    assert!((1..=MAX_EXTENTS).contains(&found.extents.len()));
    assert!(found.sectors() <= cairn_disk::vmdk::MAX_SIZE / 512);
    assert_eq!(found.parent_cid.is_some(), found.parent_hint.is_some());
    for extent in &found.extents {
        assert!(extent.sectors > 0);
        assert_eq!(extent.kind == ExtentKind::Zero, extent.name.is_empty());
    }
    if let Ok(disk) = open_bytes(Arc::new(data.to_vec()), FormatHint::Vmdk) {
        exercise(&*disk);
    }
    true
}

/// A QCOW2; a backing file, if it names one, is a small raw disk, whatever it says of that.
pub fn qcow2(data: &[u8]) -> bool {
    image(data, FormatHint::Qcow2, |_| Vec::new())
}

/// A VDI.
pub fn vdi(data: &[u8]) -> bool {
    image(data, FormatHint::Vdi, |_| Vec::new())
}

/// An image of any format.
pub fn any(data: &[u8]) -> bool {
    image(data, FormatHint::Detect, |_| Vec::new())
}

/// Bytes that lie over an image.
type Patches = Vec<(u64, Vec<u8>)>;

/// An image, and what was made right in it.
struct Mended {
    image: Pieces,
    patches: Patches,
}

impl ReadAt for Mended {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> cairn_base::Result<()> {
        self.image.read_exact_at(offset, buffer)?;
        let end = offset + buffer.len() as u64;
        for (at, bytes) in &self.patches {
            let from = (*at).max(offset);
            let to = (at + bytes.len() as u64).min(end);
            if from < to {
                let source = &bytes[(from - at) as usize..(to - at) as usize];
                buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
            }
        }
        Ok(())
    }
}

/// An image of which `mend` makes right what a fuzzer does not guess, if the first byte is odd.
fn image(data: &[u8], hint: FormatHint, mend: fn(&Pieces) -> Patches) -> bool {
    let Some((flags, rest)) = data.split_first() else {
        return false;
    };
    let image = Pieces::parse(rest, MAX_SIZE);
    let patches = if flags & 1 != 0 {
        mend(&image)
    } else {
        Vec::new()
    };
    let image: Arc<dyn ReadAt> = Arc::new(Mended { image, patches });
    let detected = detect(&*image);
    check(|check| check_structures(&*image, hint, check));
    let opened = match open_bytes(image.clone(), hint) {
        // A differencing disk whose parent is not there gets one.
        Err(error) if error.kind() == Kind::NotFound => {
            let parent = vmdk::parent_of(&*image)
                .or_else(|| vhd_parent(&*image))
                .or_else(|| vdi_parent(&*image))
                .or_else(|| raw_parent(&*image))
                .unwrap_or_else(vhdx_parent);
            open_chain(image, vec![parent], hint)
        }
        opened => opened,
    };
    match opened {
        Ok(disk) => {
            if hint == FormatHint::Detect {
                assert!(detected.is_ok());
            }
            exercise(&*disk);
            true
        }
        Err(error) => {
            assert!(
                matches!(
                    error.kind(),
                    Kind::Damaged
                        | Kind::Unsupported
                        | Kind::Invalid
                        | Kind::NotFound
                        | Kind::Denied
                ),
                "{error}"
            );
            false
        }
    }
}

/// A fixed VHD that is the parent `image` names, if that is a VHD.
fn vhd_parent(image: &dyn ReadAt) -> Option<Arc<dyn ReadAt>> {
    let (footer, _) = vhd::find_footer(image).ok()??;
    let id = read_vec(image, footer.data_offset + 40, 16).ok()?;
    let size = footer.current_size.min(1 << 20) & !511;
    let parent = Footer {
        data_offset: u64::MAX,
        current_size: size,
        disk_type: DiskType::Fixed,
        unique_id: Guid(id.try_into().ok()?),
        ..footer
    };
    let content = (0..size).map(|at| at as u8 | 1);
    Some(Arc::new(
        content.chain(parent.encode()).collect::<Vec<u8>>(),
    ))
}

/// A fixed VDI of one block that is the parent `image` names, if that is a VDI.
fn vdi_parent(image: &dyn ReadAt) -> Option<Arc<dyn ReadAt>> {
    let child = read_vec(image, 0, 512).ok()?;
    if child[64..68] != *vdi::SIGNATURE {
        return None;
    }
    let mut parent = child.clone();
    let put = |parent: &mut Vec<u8>, at: usize, value: u32| {
        parent[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    for (at, value) in [
        (76, 2),
        (340, 512),
        (344, 1024),
        (372, 0),
        (368, 4096),
        (376, 4096),
        (380, 0),
        (384, 1),
    ] {
        put(&mut parent, at, value);
    }
    // The ids by which the child knows it.
    parent.copy_within(424..456, 392);
    parent.resize(1024, 0);
    parent.resize(1024 + 4096, 7);
    Some(Arc::new(parent))
}

/// A raw disk for what names its parent and nothing else.
fn raw_parent(image: &dyn ReadAt) -> Option<Arc<dyn ReadAt>> {
    let begins = read_vec(image, 0, 4).ok()?;
    (begins == *qcow2::MAGIC).then(|| Arc::new(vec![7u8; 100_000]) as Arc<dyn ReadAt>)
}

/// By what seeds of differencing VHDX know their parent.
pub const VHDX_PARENT: Guid = Guid::from_printed(0xCA15_0001);
/// Bytes of its disk, and theirs.
pub const VHDX_PARENT_SIZE: u64 = 9 << 20;

/// That parent: a VHDX whose first block is there.
fn vhdx_parent() -> Arc<dyn ReadAt> {
    static MADE: OnceLock<Arc<Vec<u8>>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let mut image = vec![0; 5 << 20];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"vhdxfile");
        let header = header::Header {
            sequence: 1,
            file_write_id: Guid::NIL,
            data_write_id: VHDX_PARENT,
            log_id: Guid::NIL,
            log_version: 0,
            log_length: 1 << 20,
            log_offset: 1 << 20,
        };
        put(header::OFFSETS[0] as usize, &header.encode());
        let regions = region::Regions {
            metadata: 2 << 20..3 << 20,
            bat: 3 << 20..4 << 20,
        };
        put(region::OFFSETS[0] as usize, &regions.encode());
        let metadata = metadata::Metadata {
            block_size: 1 << 20,
            leave_allocated: false,
            disk_size: VHDX_PARENT_SIZE,
            disk_id: Guid::NIL,
            logical_sector: 512,
            physical_sector: 512,
            parent: None,
        };
        put(2 << 20, &metadata.encode());
        put(3 << 20, &bat::present(4 << 20).to_le_bytes());
        put(4 << 20, &[7; 1 << 20]);
        Arc::new(image)
    });
    made.clone()
}

/// Lets long walks take so many steps.
struct Patience(AtomicU64);

impl Monitor for Patience {
    fn advance(&self, _stage: Stage, _amount: u64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn stop_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 16
    }
}

/// Walks all structures, as far as the patience goes: of a disk that was opened, or of an image as it is.
fn check(walk: impl FnOnce(&mut Check<'_>) -> cairn_base::Result<()>) {
    let patience = Patience(AtomicU64::new(0));
    let mut check = Check::new(&patience);
    if let Err(error) = walk(&mut check) {
        assert!(
            matches!(
                error.kind(),
                Kind::Damaged | Kind::Invalid | Kind::Interrupted
            ),
            "{error}"
        );
    }
    let kept = check.findings().len() as u64;
    let found: u64 = check.counts().iter().map(|count| count.found).sum();
    assert!(kept <= found && kept <= KEPT * 2 * 13 * 3);
}

/// Reads a disk here and there; what its extents leave out must be zeros.
fn exercise(disk: &dyn VirtualDisk) {
    let size = disk.size();
    let _facts = (
        disk.format(),
        disk.sector_size(),
        disk.identity(),
        disk.warnings(),
    );
    for image in disk.images() {
        assert!(image.properties.len() < 64);
    }
    check(|check| disk.check(check));
    for at in [0, size / 3, size / 2, size.saturating_sub(LOOK)] {
        let range = at..size.min(at + LOOK);
        disk.will_need(range.clone());
        let Ok(extents) = disk.data_extents(range.clone()) else {
            continue;
        };
        check_extents(disk, &range, &extents);
    }
    // As a backup asks for them.
    for extent in disk.data_extents(0..1 << 30).into_iter().flatten().take(16) {
        let _bytes = read_vec(
            disk,
            extent.start,
            (extent.end - extent.start).min(LOOK) as usize,
        );
    }
    assert!(disk.read_exact_at(size, &mut [0]).is_err());
    assert!(disk.read_exact_at(u64::MAX, &mut [0; 2]).is_err());
}

fn check_extents(disk: &dyn VirtualDisk, range: &Range<u64>, extents: &[Range<u64>]) {
    let mut at = range.start;
    let zeros = |range: Range<u64>| {
        let length = (range.end - range.start) as usize;
        if let Ok(bytes) = read_vec(disk, range.start, length) {
            assert!(
                bytes.iter().all(|byte| *byte == 0),
                "data outside of the extents"
            );
        }
    };
    for extent in extents {
        assert!(at <= extent.start && extent.start < extent.end && extent.end <= range.end);
        zeros(at..extent.start);
        at = extent.end;
    }
    zeros(at..range.end);
}

/// `length` bytes at `at`, if the image has them.
fn part(image: &Pieces, at: u64, length: usize) -> Option<Vec<u8>> {
    read_vec(image, at, length).ok()
}

fn mend_vhd(image: &Pieces) -> Patches {
    let mut patches = Vec::new();
    let mut mend = |at: u64, length: usize, field: usize| {
        let mut bytes = part(image, at, length)?;
        bytes[field..field + 4].fill(0);
        let sum = bytes
            .iter()
            .fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
        bytes[field..field + 4].copy_from_slice(&(!sum).to_be_bytes());
        let header = u64::from_be_bytes(bytes[16..24].try_into().ok()?);
        patches.push((at, bytes));
        Some(header)
    };
    let last = image.size().saturating_sub(512);
    for footer in [last, 0] {
        if let Some(header) = mend(footer, 512, 64)
            && header > footer
            && header < last
        {
            mend(header, 1024, 36);
        }
    }
    patches
}

fn mend_vhdx(image: &Pieces) -> Patches {
    let mut patches = Vec::new();
    let mut mend = |at: u64, length: usize| {
        let mut bytes = part(image, at, length)?;
        bytes[4..8].fill(0);
        let sum = crc32c::crc32c(&bytes);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        patches.push((at, bytes.clone()));
        Some(bytes)
    };
    for table in [192 << 10, 256 << 10] {
        mend(table, 64 << 10);
    }
    for header in [64 << 10, 128 << 10] {
        let Some(header) = mend(header, 4096) else {
            continue;
        };
        // The first entries of the log, each as long as it says.
        let mut at = u64::from_le_bytes(header[72..80].try_into().unwrap());
        for _ in 0..4 {
            let length = part(image, at, 12).map_or(0, |head| {
                u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize
            });
            if !(4096..=1 << 16).contains(&length) || mend(at, length).is_none() {
                break;
            }
            at += length as u64;
        }
    }
    patches
}
