//! A VHD as a virtual disk.

use super::SECTOR;
use super::blocks::Blocks;
use super::dynamic::{self, DynamicHeader};
use super::footer::{self, DiskType, Footer};
use crate::disk::{Format, Identity, VirtualDisk};
use crate::runs::extents_or_all;
use cairn_base::read_at::{check_range, clip, read_vec};
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, Section};
use std::ops::Range;
use std::sync::Arc;

/// The largest disk a dynamic VHD can say: 2^32 sectors. Hyper-V stops at 2040 GiB.
const MAX_DYNAMIC: u64 = (1 << 32) * SECTOR;

/// A fixed VHD.
pub struct VhdFixed {
    bytes: Section,
    identity: Identity,
    warnings: Vec<String>,
}

/// A dynamic VHD.
pub struct VhdDynamic {
    image: Arc<dyn ReadAt>,
    blocks: Blocks,
    size: u64,
    identity: Identity,
    warnings: Vec<String>,
}

/// The footer that counts, and what is to be said about it. `None` if `image` holds nothing that begins like one.
///
/// The one at the end counts; a dynamic disk's copy at the start stands in for it when it is damaged or cut off.
///
/// Some programs write wrong checksums. A footer whose checksum does not hold is believed, with a warning, if its copy
/// says the same, or if it says that the disk is fixed and exactly as large as the file without it: then
/// nothing is guessed. Otherwise it is an error and not a raw disk: the last sector of a raw disk is part of it (a GPT
/// ends there), and begins with `conectix` only by somebody's intent.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if there is no copy left whose checksum holds, and what [`Footer::parse`] says.
pub fn find_footer(image: &dyn ReadAt) -> Result<Option<(Footer, Vec<String>)>> {
    let size = image.size();
    let read = |offset: Option<u64>, length: usize| -> Result<Option<Result<Footer>>> {
        let Some(offset) = offset.filter(|at| at.saturating_add(to_u64(length)) <= size) else {
            return Ok(None);
        };
        let bytes = read_vec(image, offset, length)?;
        Ok(bytes
            .starts_with(footer::COOKIE)
            .then(|| Footer::parse(&bytes, offset)))
    };
    let holds = |found: &Option<Result<Footer>>| matches!(found, Some(Ok(f)) if f.checksum_holds);

    let mut end = read(size.checked_sub(512), 512)?;
    if end.is_none() {
        // Virtual PC before 2004 wrote 511 bytes.
        end = read(size.checked_sub(511), 511)?;
    }
    let start = read(Some(0), 512)?;
    let mut warnings = Vec::new();
    if holds(&end) {
        if let Some(Ok(found)) = &end
            && found.disk_type != DiskType::Fixed
            && !holds(&start)
        {
            warnings.push("the copy of the VHD footer at the start of the file is damaged".into());
        }
        return end.transpose().map(|found| found.map(|f| (f, warnings)));
    }
    if holds(&start) {
        warnings.push(
            "the VHD footer at the end of the file is damaged or missing; its copy is used".into(),
        );
        return start.transpose().map(|found| found.map(|f| (f, warnings)));
    }
    match (start, end) {
        (copy, Some(Ok(found))) if is_believable(&found, copy.as_ref(), size) => {
            warnings.push("the checksum of the VHD footer does not hold".into());
            Ok(Some((found, warnings)))
        }
        (None, None) => Ok(None),
        (Some(Err(error)), _) | (_, Some(Err(error))) => Err(error),
        _ => Err(Error::damaged(
            "the checksum of the VHD footer does not hold, and there is no good copy",
        )
        .advise("say that the image is raw if it is a raw disk")),
    }
}

/// Whether a footer at the end of a file of `size` bytes is to be believed although its checksum does not hold.
fn is_believable(found: &Footer, copy: Option<&Result<Footer>>, size: u64) -> bool {
    match found.disk_type {
        DiskType::Fixed => found.current_size.checked_add(to_u64(footer::SIZE)) == Some(size),
        DiskType::Dynamic | DiskType::Differencing => {
            matches!(copy, Some(Ok(copy)) if copy == found)
        }
    }
}

/// Opens `image`, in which `footer` was found.
///
/// # Errors
/// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for a differencing disk,
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if headers or table contradict the specification or the file.
pub fn open(
    image: Arc<dyn ReadAt>,
    footer: &Footer,
    mut warnings: Vec<String>,
) -> Result<Arc<dyn VirtualDisk>> {
    let identity = Identity {
        disk_id: Some(footer.unique_id),
        ..Identity::default()
    };
    let size = footer.current_size;
    if footer.others_use_geometry() && footer.geometry.bytes() != size {
        warnings.push(format!(
            "the disk is taken to have the {size} bytes its footer says; programs that go by its cylinders, heads and \
             sectors see {}",
            footer.geometry.bytes()
        ));
    }
    if footer.disk_type == DiskType::Fixed {
        if size
            .checked_add(511)
            .is_none_or(|least| least > image.size())
        {
            return Err(Error::damaged(format!(
                "the VHD says it is a fixed disk of {size} bytes, and the file has only {}",
                image.size()
            ))
            .advise("the file may have been cut off while it was copied"));
        }
        return Ok(Arc::new(VhdFixed {
            bytes: Section::new(image, 0, size)?,
            identity,
            warnings,
        }));
    }
    if size > MAX_DYNAMIC {
        return Err(Error::damaged(format!(
            "the VHD says it has {size} bytes, more than any VHD can have"
        )));
    }
    let at = footer.data_offset;
    if at
        .checked_add(to_u64(dynamic::SIZE))
        .is_none_or(|end| end > image.size())
    {
        return Err(
            Error::damaged("the VHD's dynamic header lies beyond the end of the file")
                .at_offset(at),
        );
    }
    let bytes = read_vec(&*image, at, dynamic::SIZE)?;
    if footer.disk_type == DiskType::Differencing {
        return Err(Error::unsupported(format!(
            "this is a differencing disk: it holds only what differs from its parent `{}`",
            dynamic::parent_name(&bytes)
        ))
        .advise("merge it into its parent first (Hyper-V: Merge-VHD)"));
    }
    let header = DynamicHeader::parse(&bytes, at, size)?;
    Ok(Arc::new(VhdDynamic {
        blocks: Blocks::open(image.clone(), &header, at, size)?,
        image,
        size,
        identity,
        warnings,
    }))
}

impl ReadAt for VhdFixed {
    fn size(&self) -> u64 {
        self.bytes.size()
    }
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.bytes.read_exact_at(offset, buffer)
    }
    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        self.bytes.data_extents(range)
    }
    fn will_need(&self, range: Range<u64>) {
        self.bytes.will_need(range);
    }
}

impl VirtualDisk for VhdFixed {
    fn format(&self) -> Format {
        Format::VhdFixed
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn identity(&self) -> Identity {
        self.identity
    }
    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl ReadAt for VhdDynamic {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len())?;
        let end = offset.saturating_add(to_u64(buffer.len()));
        self.blocks.runs(offset..end)?.read(&*self.image, buffer)
    }

    fn data_extents(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let range = clip(range, self.size);
        extents_or_all(range.clone(), self.blocks.allocated(range), &*self.image)
    }

    fn will_need(&self, range: Range<u64>) {
        if let Ok(runs) = self.blocks.allocated(clip(range, self.size)) {
            runs.will_need(&*self.image);
        }
    }
}

impl VirtualDisk for VhdDynamic {
    fn format(&self) -> Format {
        Format::VhdDynamic
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn identity(&self) -> Identity {
        self.identity
    }
    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
