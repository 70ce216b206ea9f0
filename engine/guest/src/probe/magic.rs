//! The marks of formats that are recognised by name.
//!
//! A mark of a few bytes stands somewhere by chance: in a file allocation table say, where any number may be. So those of less than six bytes count only with
//! something else that must be there ([`superblock`]), or where nothing else is found.

mod superblock;

use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, ReadAt, Result, View};

/// Bytes of the beginning that are looked at.
const HEAD: u64 = 1 << 20;

/// Bytes of it that are read on their own where not all can be.
const PIECE: usize = 512;

/// The beginning of a device. What is damaged of it counts as zeros.
pub(super) struct Head {
    bytes: Vec<u8>,
    damage: Option<Error>,
}

impl Head {
    pub fn read(device: &dyn ReadAt) -> Result<Head> {
        let length = device.size().min(HEAD);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut damage = None;
        match device.read_exact_at(0, &mut bytes) {
            Err(error) if error.kind() == Kind::Damaged => damage = Some(error),
            read => read?,
        }
        if damage.is_some() {
            for (at, piece) in (0u64..).step_by(PIECE).zip(bytes.chunks_mut(PIECE)) {
                match device.read_exact_at(at, piece) {
                    Err(error) if error.kind() == Kind::Damaged => piece.fill(0),
                    read => read?,
                }
            }
        }
        Ok(Head { bytes, damage })
    }

    /// Why a part of it could not be read, if that is so.
    pub fn damage(&self) -> Option<&Error> {
        self.damage.as_ref()
    }

    /// Whether `mark` stands at `offset`.
    pub fn at(&self, offset: usize, mark: &[u8]) -> bool {
        self.bytes
            .get(offset..)
            .is_some_and(|tail| tail.starts_with(mark))
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn is_zero(&self) -> bool {
        self.bytes.iter().all(|&byte| byte == 0)
    }

    /// The bytes that were read: as many as the device has, up to 1 MiB.
    pub fn view(&self) -> View<'_> {
        View::new(&self.bytes, "volume", 0)
    }
}

/// A mark at a place, and the name of what leaves it there.
type Mark = (usize, &'static [u8], &'static str);

/// Formats that wrap or encrypt others.
const CONTAINERS: &[Mark] = &[
    (0, b"LUKS\xba\xbe", "LUKS"),
    (0, b"\xfc\x4e\x2b\xa9\x01\0\0\0", "mdraid member"),
    (0x1000, b"\xfc\x4e\x2b\xa9\x01\0\0\0", "mdraid member"),
    (
        0x1018,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        "bcache",
    ),
    (
        0x1018,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
        "bcachefs",
    ),
    (0, b"SPACEDB ", "Storage Spaces"),
    (0x1000, b"SPACEDB ", "Storage Spaces"),
    (0x10_0000 - 8, b"SPACEDB ", "Storage Spaces"),
    (0, b"bluestore block device", "Ceph BlueStore"),
];

/// File systems and the like with a mark that is enough: eight bytes, or fewer at the very beginning, where no other file system has them.
const FILE_SYSTEMS: &[Mark] = &[
    (3, b"ReFS\0\0\0\0", "ReFS"),
    (0, b"XFSB", "XFS"),
    (0, b"hsqs", "SquashFS"),
    (0x1_0040, b"_BHRfS_M", "btrfs"),
    (0x1_0034, b"ReIsEr", "ReiserFS"),
    (0x2034, b"ReIsEr", "ReiserFS"),
    (0x1_0000, b"\x01\x16\x19\x70\0\0\0\x01", "GFS2"),
    (0x400, b"OCFSV2", "OCFS2"),
    (0x1000, b"OCFSV2", "OCFS2"),
    (0xc00, b"PRIVHEAD", "Windows dynamic disk"),
];

/// What is told last: it may stand beside a file system, or be found in one.
const OTHERS: &[Mark] = &[
    // The second header of LUKS 2; it outlives what is written over the first.
    (0x4000, b"SKUL\xba\xbe", "LUKS"),
    (0x8000, b"SKUL\xba\xbe", "LUKS"),
];

/// Pages of the machines that Linux swaps on.
const PAGES: [usize; 5] = [0x1000, 0x2000, 0x4000, 0x8000, 0x1_0000];

fn first_of(head: &Head, marks: &[Mark]) -> Option<&'static str> {
    marks
        .iter()
        .find(|(offset, mark, _)| head.at(*offset, mark))
        .map(|(_, _, name)| *name)
}

/// Recognises formats that wrap or encrypt others.
pub(super) fn container(head: &Head, device: &dyn ReadAt) -> Result<Option<&'static str>> {
    if let Some(name) = first_of(head, CONTAINERS) {
        return Ok(Some(name));
    }
    // The label lies in one of the first four sectors.
    let is_lvm = (0..4usize).any(|sector| {
        let at = sector.saturating_mul(512);
        head.at(at, b"LABELONE") && head.at(at.saturating_add(24), b"LVM2 001")
    });
    if is_lvm {
        return Ok(Some("LVM physical volume"));
    }
    if is_old_raid(device)? {
        return Ok(Some("mdraid member"));
    }
    Ok(None)
}

/// Recognises file systems that are not read: by a mark that is enough, or by one that what is said beside it bears out.
pub(super) fn file_system(head: &Head) -> Option<&'static str> {
    first_of(head, FILE_SYSTEMS).or_else(|| superblock::of(head.view()))
}

/// Recognises what may be found in other file systems too.
pub(super) fn other(head: &Head, device: &dyn ReadAt) -> Result<Option<&'static str>> {
    if is_swap(head) {
        return Ok(Some("Linux swap"));
    }
    if is_optical(head) {
        return Ok(Some("UDF/ISO 9660"));
    }
    if is_zfs(head)? {
        return Ok(Some("ZFS"));
    }
    if head_beyond(device, 0x10_0000, b"\x0d\xd0\x01\xc0")?
        || head_beyond(device, 0x20_0000, b"\x5e\xf1\xab\x2f")?
    {
        return Ok(Some("VMFS"));
    }
    if superblock::is_disk_label(head.view()) {
        return Ok(Some("BSD disk label"));
    }
    if head.at(0x200, b"PM\0\0") && head.at(0x230, b"Apple_partition_map\0") {
        return Ok(Some("Apple partition map"));
    }
    Ok(first_of(head, OTHERS))
}

fn head_beyond(device: &dyn ReadAt, offset: u64, mark: &[u8]) -> Result<bool> {
    if offset
        .checked_add(to_u64(mark.len()))
        .is_none_or(|end| end > device.size())
    {
        return Ok(false);
    }
    Ok(read_vec(device, offset, mark.len())? == mark)
}

/// The mark ends the first page; a suspended machine leaves another one there.
fn is_swap(head: &Head) -> bool {
    const MARKS: [&[u8]; 5] = [
        b"SWAPSPACE2",
        b"SWAP-SPACE",
        b"S1SUSPEND",
        b"S2SUSPEND",
        b"ULSUSPEND",
    ];
    PAGES.iter().any(|page| {
        let at = page.saturating_sub(10);
        MARKS.iter().any(|mark| head.at(at, mark))
    })
}

/// Metadata of versions 0.90 and 1.0 lies at the end: 64 KiB blocks from it, and 8 to 12 KiB.
fn is_old_raid(device: &dyn ReadAt) -> Result<bool> {
    let size = device.size();
    // The magic number and the major version (and the minor one).
    let oldest = (size & !0xffff).checked_sub(0x1_0000);
    let old = size.checked_sub(0x2000).map(|at| at & !0xfff);
    let marks: [(Option<u64>, &[u8]); 2] = [
        (oldest, b"\xfc\x4e\x2b\xa9\0\0\0\0\x5a\0\0\0"),
        (old, b"\xfc\x4e\x2b\xa9\x01\0\0\0"),
    ];
    for (at, mark) in marks {
        if let Some(at) = at.filter(|&at| at > 0)
            && head_beyond(device, at, mark)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Volume descriptors from sector 16 of 2 KiB on.
fn is_optical(head: &Head) -> bool {
    const MARKS: [&[u8]; 5] = [b"CD001", b"BEA01", b"NSR02", b"NSR03", b"CDW02"];
    (16..24usize).any(|sector| {
        let at = sector.saturating_mul(0x800).saturating_add(1);
        MARKS.iter().any(|mark| head.at(at, mark))
    })
}

/// Uberblocks: 128 of them from 128 KiB on, of either byte order.
fn is_zfs(head: &Head) -> Result<bool> {
    const MAGIC: u64 = 0x00ba_b10c;
    let view = head.view();
    for slot in 0..128usize {
        let at = slot.saturating_mul(0x400).saturating_add(0x2_0000);
        if at.saturating_add(8) > view.len() {
            return Ok(false);
        }
        if view.u64_le(at)? == MAGIC || view.u64_be(at)? == MAGIC {
            return Ok(true);
        }
    }
    Ok(false)
}
