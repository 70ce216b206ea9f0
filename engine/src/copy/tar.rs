//! tar as POSIX.1-2001 (pax) has it: what the old header cannot hold stands in records before it. Sparse files as GNU tar writes them (version 1.0), extended attributes
//! and ACLs as star, GNU tar and bsdtar do.

use crate::copy::archive::{Member, Out};
use cairn_base::units::to_u64;
use cairn_base::{Error, Monitor, ReadAt, Result, Time, View};
use cairn_guest::EntryKind;
use std::ops::Range;

const BLOCK: u64 = 512;
/// Bytes read at once.
const PIECE: u64 = 1 << 20;
/// Extents of a sparse file begin and end at multiples of this.
const GRAIN: u64 = 4096;
/// A file with more extents is written with its holes.
const MAX_EXTENTS: usize = 1 << 16;
/// What fits into eleven octal digits.
const MAX_SIZE: u64 = 1 << 33;
/// What fits into seven.
const MAX_ID: u32 = 1 << 21;

/// A tar archive.
pub struct Tar<'a> {
    /// The stream.
    pub out: Out<'a>,
}

/// Where a field of the header lies.
const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: Range<usize> = 156..157;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;

struct Header([u8; 512]);

impl Header {
    fn put(&mut self, field: Range<usize>, bytes: &[u8]) {
        let place = self.0.get_mut(field).unwrap_or_default();
        for (to, from) in place.iter_mut().zip(bytes) {
            *to = *from;
        }
    }

    /// In octal digits with a NUL at the end; the caller sees to it that it fits.
    fn number(&mut self, field: Range<usize>, number: u64) {
        let width = field.len().saturating_sub(1);
        self.put(field, format!("{number:0width$o}").as_bytes());
    }

    fn finish(mut self) -> [u8; 512] {
        self.put(MAGIC, b"ustar\x0000");
        self.put(CHECKSUM, b"        ");
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.put(CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

/// Records that stand before a header.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    /// `LENGTH KEY=VALUE\n`, of which the length counts itself.
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let rest = to_u64(key.len()) + to_u64(value.len()) + 3;
        let mut length = rest + 1;
        while length != rest + to_u64(length.to_string().len()) {
            length = rest + to_u64(length.to_string().len());
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        for part in [b" ", key, b"=", value, b"\n"] {
            self.0.extend_from_slice(part);
        }
    }

    fn time(&mut self, key: &str, time: Time) {
        // Nanoseconds count up also before 1970, the written fraction counts away from zero.
        let text = if time.seconds < 0 && time.nanos > 0 {
            let fraction = 1_000_000_000u32.saturating_sub(time.nanos);
            format!(
                "-{}.{fraction:09}",
                time.seconds.saturating_add(1).unsigned_abs()
            )
        } else if time.nanos > 0 {
            format!("{}.{:09}", time.seconds, time.nanos)
        } else {
            time.seconds.to_string()
        };
        self.add(key.as_bytes(), text.as_bytes());
    }
}

impl<'a> Tar<'a> {
    /// To this stream.
    pub fn new(out: Out<'a>) -> Tar<'a> {
        Tar { out }
    }

    /// One more member. Answers what of it has no place.
    ///
    /// # Errors
    /// As the content's reading does; [`Kind::Interrupted`](cairn_base::Kind::Interrupted) on request; as the operating system reports.
    pub fn member(&mut self, member: &Member<'_>, monitor: &dyn Monitor) -> Result<Vec<Error>> {
        let mut records = Records::default();
        let mut header = Header([0; 512]);
        let mut path = member.path.to_vec();
        if member.item.attributes.kind == EntryKind::Folder {
            path.push(b'/');
        }
        let link = member.first.unwrap_or(member.target);
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        if !is_text(&path) || !is_text(link) {
            // GNU tar says that it does not know this, and goes on; for others it makes the difference.
            records.add(b"hdrcharset", b"BINARY");
        }
        let regions = match member.content {
            Some(content) => regions(content)?,
            None => None,
        };
        let map = regions.as_ref().map(|regions| sparse_map(regions));
        let size = match (&regions, &map, member.content) {
            (Some(regions), Some(map), Some(content)) => {
                records.add(b"GNU.sparse.major", b"1");
                records.add(b"GNU.sparse.minor", b"0");
                records.add(b"GNU.sparse.name", &path);
                let real = content.size().to_string();
                records.add(b"GNU.sparse.realsize", real.as_bytes());
                let stored: u64 = regions.iter().map(|r| r.end.saturating_sub(r.start)).sum();
                stored.saturating_add(to_u64(map.len()))
            }
            (_, _, content) => content.map_or(0, |content| content.size()),
        };
        if regions.is_some() {
            // Tools that do not know sparse files must not take map and data for the content: for them it has a name that says so.
            path = sparse_path(&path);
        }
        name(&mut header, &mut records, NAME, ("path", &path));
        name(&mut header, &mut records, LINK, ("linkpath", link));
        attributes(&mut header, &mut records, member, size);
        let mut missing = Vec::new();
        for (key, value) in member.extended {
            if let Err(error) = extended(&mut records, key, value) {
                missing.push(error.context("its access control list is lost"));
            }
        }
        self.records(&records)?;
        self.out.write(&header.finish())?;
        if let Some(content) = member.content {
            self.out.write(map.as_deref().unwrap_or_default())?;
            let whole = std::iter::once(0..content.size()).collect();
            self.content(content, &regions.unwrap_or(whole), monitor)?;
            self.pad(size)?;
        }
        Ok(missing)
    }

    fn records(&mut self, records: &Records) -> Result<()> {
        if records.0.is_empty() {
            return Ok(());
        }
        let mut header = Header([0; 512]);
        header.put(NAME, b"PaxHeaders/member");
        header.number(MODE, 0o644);
        header.number(UID, 0);
        header.number(GID, 0);
        header.number(MTIME, 0);
        header.number(SIZE, to_u64(records.0.len()));
        header.put(KIND, b"x");
        self.out.write(&header.finish())?;
        self.out.write(&records.0)?;
        self.pad(to_u64(records.0.len()))
    }

    fn content(
        &mut self,
        content: &dyn ReadAt,
        regions: &Vec<Range<u64>>,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let mut buffer = Vec::new();
        for region in regions {
            let mut at = region.start;
            while at < region.end {
                if monitor.stop_requested() {
                    return Err(Error::interrupted());
                }
                let length = (region.end - at).min(PIECE);
                buffer.resize(usize::try_from(length).unwrap_or(0), 0);
                content.read_exact_at(at, &mut buffer)?;
                self.out.write(&buffer)?;
                at += length;
            }
        }
        Ok(())
    }

    fn pad(&mut self, written: u64) -> Result<()> {
        let missing = written.next_multiple_of(BLOCK) - written;
        let zeros = [0; 512];
        let missing = usize::try_from(missing).unwrap_or(0);
        self.out.write(zeros.get(..missing).unwrap_or_default())
    }

    /// The end of the archive: two empty blocks, and more up to the usual record.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn end(&mut self) -> Result<()> {
        self.out.write(&[0; 1024])?;
        while !self.out.offset.is_multiple_of(20 * BLOCK) {
            self.out.write(&[0; 512])?;
        }
        self.out.flush()
    }
}

/// A name in its field, and as a record where it is too long for that or no plain ASCII.
fn name(
    header: &mut Header,
    records: &mut Records,
    field: Range<usize>,
    (key, bytes): (&str, &[u8]),
) {
    if bytes.len() > field.len() || !bytes.is_ascii() {
        records.add(key.as_bytes(), bytes);
    }
    header.put(field, bytes);
}

fn attributes(header: &mut Header, records: &mut Records, member: &Member<'_>, size: u64) {
    let known = &member.item.attributes;
    let folder = known.kind == EntryKind::Folder;
    let usual = if folder { 0o755 } else { 0o644 };
    let mode = if member.item.unix { known.mode } else { usual };
    header.number(MODE, u64::from(mode & 0o7777));
    for (field, key, id) in [(UID, "uid", known.uid), (GID, "gid", known.gid)] {
        if id >= MAX_ID {
            records.add(key.as_bytes(), id.to_string().as_bytes());
        }
        header.number(field, u64::from(if id < MAX_ID { id } else { 0 }));
    }
    if size >= MAX_SIZE {
        records.add(b"size", size.to_string().as_bytes());
    }
    header.number(SIZE, if size < MAX_SIZE { size } else { 0 });
    let seconds = u64::try_from(known.modified.seconds).ok();
    let plain = seconds.filter(|seconds| *seconds < MAX_SIZE);
    header.number(MTIME, plain.unwrap_or(0));
    if plain.is_none() || known.modified.nanos > 0 {
        records.time("mtime", known.modified);
    }
    records.time("atime", known.accessed);
    records.time("ctime", known.changed);
    let kind: &[u8; 1] = match known.kind {
        _ if member.first.is_some() => b"1",
        EntryKind::Symlink => b"2",
        EntryKind::CharDevice => b"3",
        EntryKind::BlockDevice => b"4",
        EntryKind::Folder => b"5",
        EntryKind::Fifo => b"6",
        EntryKind::File | EntryKind::Socket => b"0",
    };
    header.put(KIND, kind);
    // Numbers of devices on Linux fit into seven digits: 12 and 20 bits. Greater ones can only be nonsense of the guest.
    let (major, minor) = known.device.unwrap_or_default();
    header.number(MAJOR, u64::from(major.min(MAX_ID - 1)));
    header.number(MINOR, u64::from(minor.min(MAX_ID - 1)));
}

/// An extended attribute; an ACL as text, as both GNU tar and bsdtar restore it.
fn extended(records: &mut Records, key: &[u8], value: &[u8]) -> Result<()> {
    let acl = match key {
        b"system.posix_acl_access" => Some("SCHILY.acl.access"),
        b"system.posix_acl_default" => Some("SCHILY.acl.default"),
        _ => None,
    };
    match acl {
        Some(name) => records.add(name.as_bytes(), acl_text(value)?.as_bytes()),
        // The name ends at the first `=`: GNU tar writes it so.
        None => {
            let mut name = b"SCHILY.xattr.".to_vec();
            for byte in key {
                match byte {
                    b'%' => name.extend_from_slice(b"%25"),
                    b'=' => name.extend_from_slice(b"%3D"),
                    other => name.push(*other),
                }
            }
            records.add(&name, value);
        }
    }
    Ok(())
}

/// `user::rwx,user:1000:r--,group::r-x,mask::r-x,other::---`
fn acl_text(value: &[u8]) -> Result<String> {
    let view = View::new(value, "access control list", 0);
    let mut entries = Vec::new();
    let mut at = 4;
    while at < view.len() {
        let (tag, permissions) = (view.u16_le(at)?, view.u16_le(at + 2)?);
        let id = view.u32_le(at + 4)?;
        at += 8;
        let letter = |bit: u16, letter| if permissions & bit != 0 { letter } else { '-' };
        let rwx = String::from_iter([letter(4, 'r'), letter(2, 'w'), letter(1, 'x')]);
        entries.push(match tag {
            0x01 => format!("user::{rwx}"),
            0x02 => format!("user:{id}:{rwx}"),
            0x04 => format!("group::{rwx}"),
            0x08 => format!("group:{id}:{rwx}"),
            0x10 => format!("mask::{rwx}"),
            0x20 => format!("other::{rwx}"),
            _ => return Err(view.damaged(at, "the tag is not known")),
        });
    }
    Ok(entries.join(","))
}

/// What of a file is written if it has holes worth leaving out: regions at multiples of the grain, the last one up to the end.
fn regions(content: &dyn ReadAt) -> Result<Option<Vec<Range<u64>>>> {
    let size = content.size();
    let mut regions: Vec<Range<u64>> = Vec::new();
    let (mut at, step) = (0, 1 << 30);
    while at < size {
        let end = size.min(at.saturating_add(step));
        for extent in content.data_extents(at..end)? {
            let start = extent.start / GRAIN * GRAIN;
            let until = extent.end.next_multiple_of(GRAIN).min(size);
            match regions.last_mut() {
                Some(last) if last.end >= start => last.end = last.end.max(until),
                _ => regions.push(start..until),
            }
            if regions.len() > MAX_EXTENTS {
                return Ok(None);
            }
        }
        at = end;
    }
    let stored: u64 = regions.iter().map(|region| region.end - region.start).sum();
    if stored.saturating_add(GRAIN) > size {
        return Ok(None);
    }
    if regions.last().is_none_or(|last| last.end < size) {
        // An empty region says how far the hole behind the last one reaches.
        regions.push(size..size);
    }
    Ok(Some(regions))
}

/// The name of a sparse file in its header, as GNU tar has it: `folder/GNUSparseFile.0/name`.
fn sparse_path(path: &[u8]) -> Vec<u8> {
    let at = path.iter().rposition(|byte| *byte == b'/');
    let (within, name) = path.split_at(at.map_or(0, |at| at + 1));
    [within, b"GNUSparseFile.0/", name].concat()
}

/// How many regions, then offset and length of each, in decimal, up to a multiple of the block.
fn sparse_map(regions: &[Range<u64>]) -> Vec<u8> {
    let mut map = format!("{}\n", regions.len());
    for region in regions {
        map += &format!("{}\n{}\n", region.start, region.end - region.start);
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(512), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        let of = |key: &str, value: &str| {
            let mut records = Records::default();
            records.add(key.as_bytes(), value.as_bytes());
            String::from_utf8(records.0).unwrap()
        };
        assert_eq!(of("a", "b"), "6 a=b\n");
        for length in 0..1100 {
            let record = of("path", &"x".repeat(length));
            let said = record.split(' ').next().unwrap();
            assert_eq!(said, record.len().to_string());
        }
    }

    #[test]
    fn times_before_1970_count_away_from_zero() {
        let of = |seconds, nanos| {
            let mut records = Records::default();
            records.time("mtime", Time { seconds, nanos });
            let text = String::from_utf8(records.0).unwrap();
            text.split('=').nth(1).unwrap().trim().to_string()
        };
        assert_eq!(of(5, 0), "5");
        assert_eq!(of(5, 1), "5.000000001");
        assert_eq!(of(-5, 0), "-5");
        // A quarter of a second before -4.
        assert_eq!(of(-5, 750_000_000), "-4.250000000");
        assert_eq!(of(-1, 750_000_000), "-0.250000000");
    }

    #[test]
    fn access_lists_become_text() {
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in [(1u16, 6u16, u32::MAX), (2, 7, 1234), (4, 4, u32::MAX)] {
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&permissions.to_le_bytes());
            value.extend_from_slice(&id.to_le_bytes());
        }
        let text = acl_text(&value).unwrap();
        assert_eq!(text, "user::rw-,user:1234:rwx,group::r--");
        assert!(acl_text(&value[..value.len() - 1]).is_err());
    }
}
