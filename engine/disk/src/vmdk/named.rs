//! What a file is that is called `.vmdk`, by the rest of its name, and what it is if nothing in it says so.

use super::descriptor::SIGNATURE;
use super::header::{ESX, HOSTED};
use cairn_base::read_at::read_vec;
use cairn_base::{Error, ReadAt, Result};
use std::path::Path;

/// Bytes of a sector that are looked at.
const SECTOR: usize = 512;
/// The end of the first sector of a disk with a partition table, or of a boot sector.
const BOOT_SIGNATURE: &[u8] = &[0x55, 0xaa];
/// Where that stands.
const BOOT_SIGNATURE_AT: usize = 510;

/// What may stand before the first line of a text.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether `head`, an image's first bytes, begins a VMDK, or a part of one.
pub(crate) fn begins(head: &[u8]) -> bool {
    let text = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    let text = text.trim_ascii_start().get(..SIGNATURE.len());
    let is_text = text.is_some_and(|text| text.eq_ignore_ascii_case(SIGNATURE));
    is_text || head.starts_with(HOSTED) || head.starts_with(ESX)
}

/// What lies in a file that is called `.vmdk`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Called {
    /// A header or a descriptor, at its beginning.
    Image,
    /// A guest's disk as it is: of a flat disk, or of a device that is mapped (`-rdm`, `-rdmp`).
    Disk,
    /// A part of one: of a disk in flat pieces (`-f001`), or the partition table of one that lies on devices (`-pt`).
    Part,
}

/// What its name says of a file; `None` if it is not called `.vmdk`.
pub(super) fn called(path: &Path) -> Option<Called> {
    let name = path.file_name().map(|name| name.to_string_lossy());
    let name = name.unwrap_or_default().to_ascii_lowercase();
    let stem = name.strip_suffix(".vmdk")?;
    let is_piece = stem.rsplit_once("-f").is_some_and(|(_, number)| {
        number.len() >= 3 && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    let ends = |ends: &[&str]| ends.iter().any(|end| stem.ends_with(end));
    Some(match () {
        () if ends(&["-flat", "-rdm", "-rdmp"]) => Called::Disk,
        () if is_piece || ends(&["-pt"]) => Called::Part,
        () => Called::Image,
    })
}

/// Whether `image`, which is called `path` and begins like no image at all, may be taken as a raw disk; what is to be said then. Anybody may give a raw disk
/// this name; but a sparse one whose header was overwritten or is zeros is called so too, and would be a disk of nothing. So it has to begin as disks do.
///
/// # Errors
/// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it does not, or holds a descriptor or footer; what it says when it is read.
pub(crate) fn check_raw(image: &dyn ReadAt, path: &Path) -> Result<Option<String>> {
    match called(path) {
        None | Some(Called::Disk) => return Ok(None),
        Some(Called::Part) => {
            return Ok(Some(
                "the file is called like a part of a disk in VMDK: name the file with the descriptor, which says what belongs to it, \
                 unless it is a disk by itself"
                    .to_string(),
            ));
        }
        Some(Called::Image) => {}
    }
    if has_remains(image)? {
        return Err(Error::damaged(
            "the file is called `.vmdk` and does not begin like one, but parts of one lie in it: its header is damaged",
        ));
    }
    let begins_as_disk = sector(image, 0)?
        .and_then(|first| Some(first.get(BOOT_SIGNATURE_AT..)? == BOOT_SIGNATURE))
        .unwrap_or(false);
    match begins_as_disk {
        true => Ok(Some(
            "the file is called `.vmdk`, and holds a raw disk: a partition table or boot sector stands where the header of a VMDK would be"
                .to_string(),
        )),
        false => Err(Error::damaged(
            "the file is called `.vmdk` and begins neither like one nor, with a partition table or boot sector, like a disk: its header is missing",
        )),
    }
}

/// Whether there is a descriptor in the second sector, where most sparse extents have it, or the footer of a stream.
fn has_remains(image: &dyn ReadAt) -> Result<bool> {
    let footer = image.size().checked_sub(2 * super::SECTOR);
    for at in std::iter::once(super::SECTOR).chain(footer) {
        if sector(image, at)?.is_some_and(|found| begins(&found)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The sector at `at`, if the file has all of it.
fn sector(image: &dyn ReadAt, at: u64) -> Result<Option<Vec<u8>>> {
    match at.checked_add(super::SECTOR) {
        Some(end) if end <= image.size() => Ok(Some(read_vec(image, at, SECTOR)?)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_guest_gives() {
        use Called::{Disk, Image, Part};
        for (name, expected) in [
            ("a/disk.vmdk", Some(Image)),
            ("disk-000001.VMDK", Some(Image)),
            ("disk-s001.vmdk", Some(Image)),
            ("disk-delta.vmdk", Some(Image)),
            ("disk-sesparse.vmdk", Some(Image)),
            ("my-f1.vmdk", Some(Image)),
            ("disk-flat.vmdk", Some(Disk)),
            ("disk-rdm.vmdk", Some(Disk)),
            ("disk-RDMP.vmdk", Some(Disk)),
            ("disk-f001.vmdk", Some(Part)),
            ("disk-pt.vmdk", Some(Part)),
            ("disk.raw", None),
            ("disk", None),
            ("/dev/sda", None),
            (".vmdk", Some(Image)),
        ] {
            assert_eq!(called(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn images_by_their_first_bytes() {
        for (head, expected) in [
            (&b"KDMV\x01"[..], true),
            (b"COWD\x01", true),
            (b"KDM", false),
            (b"# Disk DescriptorFile\nversion=1", true),
            (b"\xef\xbb\xbf\r\n  # disk descriptorfile\r\n", true),
            (b"# Disk Descriptor", false),
            (b"version=1\n# Disk DescriptorFile", false),
            (b"", false),
        ] {
            assert_eq!(begins(head), expected, "{}", head.escape_ascii());
        }
    }
}
