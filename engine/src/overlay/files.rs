//! Making and opening an overlay's files: nameless ones that end with the process, or such that are kept.

use super::folders::{self, open_options};
use super::map::{HEAD_LEN, file_length};
use super::page::{SUM_AT, UNIT};
use super::scratch::{Scratch, ScratchFile};
use crate::DiskView;
use cairn_base::ids::random;
use cairn_base::units::to_u64;
use cairn_base::{Error, Kind, Result, View};
use cairn_store::Point;
use cairn_store::hash::checksum;
use rustix::fs::{FlockOperation, SeekFrom, flock};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file of data holds at most: no file system that matters has a lower limit.
pub(super) const PART: u64 = 8 << 40;
const VERSION: u32 = 1;
const MAP_MAGIC: &[u8; 8] = b"CAIRNOVL";
const DATA_MAGIC: &[u8; 8] = b"CAIRNOVD";
/// The id of a base that cannot be told from others, see [`DiskView::origin`].
const UNKNOWN: [u8; 32] = [0; 32];
/// A disk's name in the header, at most.
const MAX_NAME: usize = 64;

/// What an overlay lies over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayBase {
    /// Id of the recovery point, or anything else that tells this base from others.
    pub id: [u8; 32],
    /// The disk's name in it: `[A-Za-z0-9._-]{1,64}`.
    pub disk: String,
}

impl OverlayBase {
    /// A disk of a recovery point.
    pub fn of_point(point: &Point, disk: &str) -> OverlayBase {
        OverlayBase {
            id: point.id.0,
            disk: disk.to_string(),
        }
    }

    /// A disk of a view as it is now, see [`DiskView::origin`]: an image that was changed is another one.
    pub fn of_view(view: &DiskView) -> OverlayBase {
        OverlayBase {
            id: view.origin(),
            disk: view.name().to_string(),
        }
    }

    /// Whether an overlay of it is kept in `folder`, or what one left there.
    pub fn is_in(&self, folder: &Path) -> bool {
        file_name(self).is_ok_and(|name| folder.join(format!("{name}.map")).exists())
    }
}

/// The files of an overlay.
pub(super) struct Files {
    pub(super) id: [u8; 16],
    pub(super) map: Arc<dyn Scratch>,
    pub(super) data: Vec<Arc<dyn Scratch>>,
}

impl Files {
    /// Makes durable what is there: a process that has ended may have left any of it in the page cache, and from here on it counts.
    pub(super) fn settle(&self) -> Result<()> {
        self.data.iter().try_for_each(|part| part.sync())?;
        self.map.sync()
    }
}

/// Bytes of each file of data without its header: whole units.
fn parts(size: u64) -> impl Iterator<Item = (u64, u64)> {
    let whole = size.div_ceil(UNIT).saturating_mul(UNIT);
    (0..whole.div_ceil(PART).max(1)).map(move |part| {
        let before = part.saturating_mul(PART);
        (part, whole.saturating_sub(before).min(PART))
    })
}

/// Files without a name in `folder`: they are gone when the process is, however it ends.
pub(super) fn temporary(folder: Option<&Path>, size: u64) -> Result<Files> {
    let folder = folder.map_or_else(folders::default_folder, Path::to_path_buf);
    folders::make(&folder)?;
    let map = folders::nameless(&folder)?;
    let mut data: Vec<Arc<dyn Scratch>> = Vec::new();
    for (_, length) in parts(size) {
        let file = folders::nameless(&folder)?;
        set_length(&file, &folder, HEAD_LEN.saturating_add(length))?;
        data.push(Arc::new(ScratchFile::new(file, &folder)));
    }
    Ok(Files {
        id: random()?,
        map: Arc::new(ScratchFile::new(map, &folder)),
        data,
    })
}

fn set_length(file: &File, path: &Path, length: u64) -> Result<()> {
    file.set_len(length).map_err(|e| {
        Error::io("cannot make a sparse scratch file of this size", path, e)
            .advise("name a folder of another file system")
    })
}

/// The kept overlay of `base` in `folder`, made if it is not there.
pub(super) fn kept(folder: &Path, base: &OverlayBase, size: u64) -> Result<Files> {
    let name = file_name(base)?;
    if base.id == UNKNOWN {
        let why = "nothing tells whether the disk below changed meanwhile: what is written cannot be kept";
        return Err(Error::unsupported(why).advise("use an image file or a point"));
    }
    folders::make(folder)?;
    let path = folder.join(format!("{name}.map"));
    let failed = |e| Error::io("cannot open the overlay's map", &path, e);
    let map = open_options()
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match flock(&map, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let why = "another process writes to this overlay";
            return Err(Error::new(Kind::Busy, why).at_path(&path));
        }
        Err(e) => return Err(failed(e.into())),
    }
    let length = map.metadata().map_err(failed)?.len();
    let file = ScratchFile::new(map, &path);
    let mut head = [0; SUM_AT + 16];
    file.read(0, &mut head)?;
    let part_path = |part: u64| folder.join(format!("{name}.data{part}"));
    let id = match read_header(&head) {
        Ok(found) => {
            check_same(&found, base, size).map_err(|e| e.at_path(&path))?;
            if length < file_length(size) {
                return Err(Error::damaged("the overlay's map is cut short").at_path(&path));
            }
            found.id
        }
        // Making it may have been cut short; but what was written to it and what this program does not know is never made anew.
        Err(error) if error.kind() == Kind::Unsupported || says_something(&file)? => {
            return Err(error.at_path(&path));
        }
        Err(_) => return make(folder, file, base, size, part_path),
    };
    let mut data: Vec<Arc<dyn Scratch>> = Vec::new();
    for (part, length) in parts(size) {
        data.push(Arc::new(open_part(&part_path(part), id, part, length)?));
    }
    // Whoever made it may have ended before this.
    folders::sync(folder)?;
    Ok(Files {
        id,
        map: Arc::new(file),
        data,
    })
}

/// Whether something else than zeros was written to a file behind its header, as far as the file system knows.
fn says_something(file: &ScratchFile) -> Result<bool> {
    // File systems take room in blocks that may be longer than the header.
    const LOOKED_AT: usize = 1 << 20;
    let mut start = vec![0; LOOKED_AT];
    file.read(HEAD_LEN, &mut start)?;
    if start.iter().any(|byte| *byte != 0) {
        return Ok(true);
    }
    let behind = HEAD_LEN.saturating_add(to_u64(LOOKED_AT));
    match rustix::fs::seek(&file.file, SeekFrom::Data(behind)) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NXIO) => Ok(false),
        Err(e) => Err(Error::io(
            "cannot look at the scratch file",
            &file.path,
            e.into(),
        )),
    }
}

/// Refuses to go on if a file of data holds something: its map was there once.
fn check_unused(path: &Path) -> Result<()> {
    let opened = match open_options().open(path) {
        Ok(file) => ScratchFile::new(file, path),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("cannot open the file of data", path, e)),
    };
    if says_something(&opened)? {
        let why = "an overlay's data is there, but the map that belongs to it is not";
        return Err(Error::damaged(why)
            .at_path(path)
            .advise("bring the map back, or delete the file to begin anew"));
    }
    Ok(())
}

/// Files of data first; the map's header makes them an overlay.
fn make(
    folder: &Path,
    map: ScratchFile,
    base: &OverlayBase,
    size: u64,
    part_path: impl Fn(u64) -> PathBuf,
) -> Result<Files> {
    let id = random()?;
    let mut data: Vec<Arc<dyn Scratch>> = Vec::new();
    for (part, _) in parts(size) {
        check_unused(&part_path(part))?;
    }
    for (part, length) in parts(size) {
        let path = part_path(part);
        let failed = |e| Error::io("cannot make the overlay's file of data", &path, e);
        let mut options = open_options();
        let file = options
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(failed)?;
        file.write_all_at(&data_header(id, part), 0)
            .map_err(failed)?;
        set_length(&file, &path, HEAD_LEN.saturating_add(length))?;
        file.sync_all().map_err(failed)?;
        data.push(Arc::new(ScratchFile::new(file, &path)));
    }
    let failed = |e| Error::io("cannot make the overlay durable", &map.path, e);
    // All of it, so that one that is cut short is noticed.
    set_length(&map.file, &map.path, 0)?;
    set_length(&map.file, &map.path, file_length(size))?;
    map.file.sync_all().map_err(failed)?;
    folders::sync(folder)?;
    map.write(0, &map_header(id, base, size)?)?;
    map.file.sync_all().map_err(failed)?;
    Ok(Files {
        id,
        map: Arc::new(map),
        data,
    })
}

fn open_part(path: &Path, id: [u8; 16], part: u64, length: u64) -> Result<ScratchFile> {
    let opened = open_options().open(path);
    let file = opened.map_err(|e| Error::io("cannot open the overlay's file of data", path, e))?;
    let found = file
        .metadata()
        .map_err(|e| Error::io("cannot look at the overlay's file of data", path, e))?;
    let file = ScratchFile::new(file, path);
    let mut head = [0; SUM_AT + 16];
    file.read(0, &mut head)?;
    if head[..] != data_header(id, part)[..] || found.len() != HEAD_LEN.saturating_add(length) {
        return Err(
            Error::damaged("the file of data does not belong to the overlay's map").at_path(path),
        );
    }
    Ok(file)
}

/// What the header of a map says.
struct Header {
    id: [u8; 16],
    base: OverlayBase,
    size: u64,
}

fn file_name(base: &OverlayBase) -> Result<String> {
    check_name(&base.disk)?;
    let begin: String = base
        .id
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(format!("{begin}-{}", base.disk))
}

fn check_name(disk: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if disk.is_empty() || disk.len() > MAX_NAME || !disk.chars().all(allowed) {
        return Err(Error::invalid(format!("`{disk}` is no name of a disk")));
    }
    Ok(())
}

fn check_same(found: &Header, base: &OverlayBase, size: u64) -> Result<()> {
    if found.base == *base && found.size == size {
        return Ok(());
    }
    Err(
        Error::new(Kind::Exists, "an overlay of another disk is there")
            .advise("name another folder, or delete the overlay"),
    )
}

fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(SUM_AT, 0);
    let sum = checksum(&bytes);
    bytes.extend(sum);
    bytes
}

fn head(magic: &[u8; 8], id: [u8; 16]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(id);
    bytes
}

fn map_header(id: [u8; 16], base: &OverlayBase, size: u64) -> Result<Vec<u8>> {
    check_name(&base.disk)?;
    let mut bytes = head(MAP_MAGIC, id);
    bytes.extend(base.id);
    bytes.extend(size.to_le_bytes());
    bytes.extend(to_u64(base.disk.len()).to_le_bytes());
    bytes.extend(base.disk.as_bytes());
    Ok(seal(bytes))
}

fn data_header(id: [u8; 16], part: u64) -> Vec<u8> {
    let mut bytes = head(DATA_MAGIC, id);
    bytes.extend(part.to_le_bytes());
    seal(bytes)
}

fn read_header(bytes: &[u8]) -> Result<Header> {
    let view = View::new(bytes, "header of an overlay", 0);
    if view.array::<8>(0)? != *MAP_MAGIC
        || checksum(view.slice(0, SUM_AT)?) != view.array(SUM_AT)?
    {
        return Err(view.damaged(0, "it is not one, or damaged"));
    }
    let version = view.u32_le(8)?;
    if version != VERSION {
        let why = format!("an overlay of version {version}, which this program does not know");
        return Err(Error::unsupported(why));
    }
    let length = usize::try_from(view.u64_le(72)?).unwrap_or(usize::MAX);
    if length > MAX_NAME {
        return Err(view.damaged(72, "a name that is too long"));
    }
    let disk = String::from_utf8(view.slice(80, length)?.to_vec())
        .map_err(|_| view.damaged(80, "a name that is no text"))?;
    Ok(Header {
        id: view.array(16)?,
        base: OverlayBase {
            id: view.array(32)?,
            disk,
        },
        size: view.u64_le(64)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_the_headers_stay_as_written_down() {
        let base = OverlayBase {
            id: [9; 32],
            disk: "disk0".to_string(),
        };
        let map = map_header([7; 16], &base, 0x0102).unwrap();
        assert_eq!(map.len(), 4096);
        assert_eq!(map[..16], *b"CAIRNOVL\x01\0\0\0\0\0\0\0");
        assert_eq!(map[16..32], [7; 16]);
        assert_eq!(map[32..64], [9; 32]);
        assert_eq!(map[64..72], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(map[72..86], *b"\x05\0\0\0\0\0\0\0disk0\0");
        assert_eq!(map[4080..], checksum(&map[..4080]));
        let back = read_header(&map).unwrap();
        assert_eq!((back.id, back.base, back.size), ([7; 16], base, 0x0102));
        let data = data_header([7; 16], 3);
        assert_eq!(data.len(), 4096);
        assert_eq!(data[..16], *b"CAIRNOVD\x01\0\0\0\0\0\0\0");
        assert_eq!(data[16..32], [7; 16]);
        assert_eq!(data[32..41], [3, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(data[4080..], checksum(&data[..4080]));
    }

    #[test]
    fn a_newer_header_is_unsupported_and_a_broken_one_damaged() {
        let base = OverlayBase {
            id: [9; 32],
            disk: "disk0".to_string(),
        };
        let good = map_header([7; 16], &base, 1).unwrap();
        let mut newer = good[..SUM_AT].to_vec();
        newer[8] = 2;
        assert_eq!(
            read_header(&seal(newer)).err().unwrap().kind(),
            Kind::Unsupported
        );
        for at in 0..good.len() {
            let mut broken = good.clone();
            broken[at] ^= 0x10;
            assert_eq!(read_header(&broken).err().unwrap().kind(), Kind::Damaged);
        }
        let mut long = good[..SUM_AT].to_vec();
        long[72] = 200;
        assert_eq!(
            read_header(&seal(long)).err().unwrap().kind(),
            Kind::Damaged
        );
    }

    #[test]
    fn large_disks_are_spread_over_files() {
        assert_eq!(parts(0).collect::<Vec<_>>(), [(0, 0)]);
        assert_eq!(parts(5000).collect::<Vec<_>>(), [(0, 8192)]);
        assert_eq!(parts(PART).collect::<Vec<_>>(), [(0, PART)]);
        assert_eq!(parts(PART + 1).collect::<Vec<_>>(), [(0, PART), (1, 4096)]);
    }
}
