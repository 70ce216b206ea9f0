//! The descriptor, "The Descriptor File": what extents a disk has, in which files, and what it is a delta of.

use super::text::Encoding;
use super::{MAX_SIZE, SECTOR};
use crate::guid::Guid;
use cairn_base::{Error, Result};

/// The longest descriptor that is read, in bytes. One with [`MAX_EXTENTS`] extents has about a quarter of that.
pub const MAX_LENGTH: u64 = 1 << 20;
/// The most extents that are read: 8 TiB in pieces of 2 GiB.
pub const MAX_EXTENTS: usize = 4096;
/// The CID of no parent.
pub const NO_PARENT: u32 = u32::MAX;
/// How a descriptor begins.
pub const SIGNATURE: &[u8] = b"# Disk DescriptorFile";

/// The longest name of a file, in bytes.
const MAX_NAME: usize = 4096;
/// What a message quotes of a line, in bytes.
const SHOWN: usize = 80;
/// Create types whose extents are what the second field says; of the last ones everything.
const CREATE_TYPES: &[(&str, &[ExtentKind])] = {
    use ExtentKind::{Flat, Sparse, Vmfs, VmfsSparse, Zero};
    &[
        ("monolithicSparse", &[Sparse]),
        ("streamOptimized", &[Sparse]),
        ("monolithicFlat", &[Flat]),
        ("twoGbMaxExtentSparse", &[Sparse, Zero]),
        ("2GbMaxExtentSparse", &[Sparse, Zero]),
        ("twoGbMaxExtentFlat", &[Flat, Zero]),
        ("2GbMaxExtentFlat", &[Flat, Zero]),
        ("vmfs", &[Vmfs, Flat]),
        ("vmfsPreallocated", &[Vmfs, Flat]),
        ("vmfsEagerZeroedThick", &[Vmfs, Flat]),
        ("vmfsThin", &[Vmfs, Flat, VmfsSparse]),
        ("vmfsSparse", &[VmfsSparse]),
        ("custom", &[Flat, Sparse, Vmfs, VmfsSparse, Zero]),
        ("fullDevice", &[Flat, Sparse, Vmfs, VmfsSparse, Zero]),
        ("partitionedDevice", &[Flat, Sparse, Vmfs, VmfsSparse, Zero]),
    ]
};
/// Create types of disks that are one file.
const SINGLE: &[&str] = &["monolithicSparse", "streamOptimized", "monolithicFlat"];

/// What an extent is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// Bytes of a file or device from an offset on.
    Flat,
    /// A file with a header, grain tables and grains.
    Sparse,
    /// Bytes of a file on VMFS.
    Vmfs,
    /// A file of ESX with a COWD header.
    VmfsSparse,
    /// Zeros, in no file.
    Zero,
}

/// A line of the extent description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentLine {
    /// Sectors of the disk, at least 1.
    pub sectors: u64,
    /// What it is made of.
    pub kind: ExtentKind,
    /// The file, as it is named there; empty only for zeros.
    pub name: String,
    /// Sector of the file at which a flat extent begins.
    pub offset: u64,
}

/// What a descriptor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Changes when the disk is written to for the first time after it was opened. A delta names its parent's.
    pub cid: u32,
    /// The parent's CID when this delta was made; none for a disk that has no parent.
    pub parent_cid: Option<u32>,
    /// Where the parent lies; there exactly if its CID is.
    pub parent_hint: Option<String>,
    /// What kind of disk it is.
    pub create_type: String,
    /// The extents in the order in which they follow one another, at least one.
    pub extents: Vec<ExtentLine>,
    /// `ddb.uuid`, the disk's own id, if it has one.
    pub uuid: Option<Guid>,
}

impl Descriptor {
    /// Reads a descriptor. Lines that are not known are passed over.
    ///
    /// # Errors
    /// [`Kind::Damaged`](cairn_base::Kind::Damaged) if it is too long, lacks what must be there, or contradicts itself;
    /// [`Kind::Unsupported`](cairn_base::Kind::Unsupported) for versions, disks and extents that are not read.
    pub fn parse(bytes: &[u8]) -> Result<Descriptor> {
        if cairn_base::units::to_u64(bytes.len()) > MAX_LENGTH {
            return Err(Error::damaged(format!(
                "the VMDK descriptor is longer than {MAX_LENGTH} bytes"
            )));
        }
        let mut fields = Fields::default();
        for (number, line) in (1u32..).zip(bytes.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            fields
                .take(line)
                .map_err(|error| error.context(format!("line {number} of the VMDK descriptor")))?;
        }
        fields.finish()
    }

    /// Sectors of all extents.
    pub fn sectors(&self) -> u64 {
        self.extents
            .iter()
            .fold(0, |all, extent| all.saturating_add(extent.sectors))
    }
}

/// What was found so far.
#[derive(Default)]
struct Fields<'a> {
    version: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    cid: Option<&'a [u8]>,
    parent_cid: Option<&'a [u8]>,
    parent_hint: Option<&'a [u8]>,
    create_type: Option<&'a [u8]>,
    uuid: Option<&'a [u8]>,
    /// The wrapped key of what ESXi encrypts, and which key wraps it.
    keys: Option<&'a [u8]>,
    key_id: Option<&'a [u8]>,
    /// Extents whose names are not decoded yet: the encoding may stand behind them.
    extents: Vec<(ExtentLine, &'a [u8])>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, line: &'a [u8]) -> Result<()> {
        let (first, rest) = word(line);
        let access = ["RW", "RDONLY", "NOACCESS"]
            .into_iter()
            .find(|access| first.eq_ignore_ascii_case(access.as_bytes()));
        // Not a field that has such a name.
        if let Some(access) = access.filter(|_| !rest.starts_with(b"=")) {
            return self.take_extent(access, rest);
        }
        let Some(at) = line.iter().position(|byte| *byte == b'=') else {
            return Ok(());
        };
        let (key, value) = line.split_at_checked(at).unwrap_or((line, &[]));
        let value = unquoted(value.get(1..).unwrap_or_default().trim_ascii());
        let key = key.trim_ascii().to_ascii_lowercase();
        let (name, field) = match key.as_slice() {
            b"version" => ("version", &mut self.version),
            b"encoding" => ("encoding", &mut self.encoding),
            b"cid" => ("CID", &mut self.cid),
            b"parentcid" => ("parentCID", &mut self.parent_cid),
            b"parentfilenamehint" => ("parentFileNameHint", &mut self.parent_hint),
            b"createtype" => ("createType", &mut self.create_type),
            b"ddb.uuid" => ("ddb.uuid", &mut self.uuid),
            b"encryptionkeys" => ("encryptionKeys", &mut self.keys),
            b"keyid" => ("keyID", &mut self.key_id),
            _ => return Ok(()),
        };
        match field {
            Some(before) if *before != value => Err(Error::damaged(format!(
                "`{name}` is said twice: `{}` and `{}`",
                shown(before),
                shown(value)
            ))),
            _ => {
                *field = Some(value);
                Ok(())
            }
        }
    }

    fn take_extent(&mut self, access: &str, rest: &'a [u8]) -> Result<()> {
        if self.extents.len() >= MAX_EXTENTS {
            return Err(Error::damaged(format!(
                "the disk has more than {MAX_EXTENTS} extents"
            )));
        }
        let (sectors, rest) = word(rest);
        let (kind, rest) = word(rest);
        let sectors = decimal(sectors)
            .filter(|sectors| (1..=MAX_SIZE >> 9).contains(sectors))
            .ok_or_else(|| {
                Error::damaged(format!(
                    "`{}` is no number of sectors of an extent",
                    shown(sectors)
                ))
            })?;
        if access == "NOACCESS" {
            return Err(Error::unsupported(
                "the disk has an extent that nobody may read (NOACCESS)",
            ));
        }
        let kind = extent_kind(kind)?;
        let (name, offset) = match kind {
            ExtentKind::Zero => (&b""[..], 0),
            _ => file_of(rest)?,
        };
        if offset != 0 && !matches!(kind, ExtentKind::Flat | ExtentKind::Vmfs) {
            return Err(Error::damaged(format!(
                "a sparse extent begins at the beginning of its file, and not at sector {offset}"
            )));
        }
        let line = ExtentLine {
            sectors,
            kind,
            name: String::new(),
            offset,
        };
        self.extents.push((line, name));
        Ok(())
    }

    fn finish(self) -> Result<Descriptor> {
        if [self.keys, self.key_id]
            .into_iter()
            .flatten()
            .any(|key| !key.is_empty())
        {
            return Err(Error::unsupported(
                "the VMDK is encrypted, and its key is not known here",
            )
            .advise("decrypt the disk where it was made, or back up its extents as raw disks if the encrypted bytes are wanted"));
        }
        match self.version.map(decimal) {
            Some(Some(1..=3)) => {}
            Some(Some(version)) => {
                return Err(Error::unsupported(format!(
                    "the VMDK descriptor is of version {version}, and 1 to 3 are read"
                )));
            }
            _ => return Err(missing("version")),
        }
        let encoding = self.encoding.map(String::from_utf8_lossy);
        let encoding = encoding.map_or(Encoding::Utf8, |name| Encoding::named(&name));
        let cid = self.cid.and_then(hexadecimal);
        let create_type = self.create_type.ok_or_else(|| missing("createType"))?;
        let mut extents = Vec::with_capacity(self.extents.len());
        for (mut line, name) in self.extents {
            line.name = encoding.decode(name)?;
            extents.push(line);
        }
        let create_type = checked_type(create_type, &extents)?;
        let parent = (self.parent_cid, self.parent_hint);
        let (parent_cid, parent_hint) = parent_of(parent, &encoding)?;
        Ok(Descriptor {
            cid: cid.ok_or_else(|| missing("CID"))?,
            parent_cid,
            parent_hint,
            create_type,
            extents,
            uuid: self.uuid.and_then(uuid),
        })
    }
}

/// What a disk says of its parent: both or nothing.
fn parent_of(
    (cid, hint): (Option<&[u8]>, Option<&[u8]>),
    encoding: &Encoding,
) -> Result<(Option<u32>, Option<String>)> {
    let cid = match cid {
        Some(text) => Some(hexadecimal(text).ok_or_else(|| missing("parentCID"))?),
        None => None,
    };
    let cid = cid.filter(|cid| *cid != NO_PARENT);
    let hint = hint.filter(|hint| !hint.is_empty());
    match (cid, hint) {
        (None, None) => Ok((None, None)),
        (Some(cid), Some(hint)) if hint.len() <= MAX_NAME => {
            Ok((Some(cid), Some(encoding.decode(hint)?)))
        }
        (Some(_), Some(_)) => Err(Error::damaged(format!(
            "the VMDK descriptor names a parent in more than {MAX_NAME} letters"
        ))),
        (Some(cid), None) => Err(Error::damaged(format!(
            "the VMDK is a delta of a disk with the CID {cid:08x}, and names no file (parentFileNameHint)"
        ))),
        (None, Some(hint)) => Err(Error::damaged(format!(
            "the VMDK names a parent, `{}`, and no CID that it had (parentCID)",
            shown(hint)
        ))),
    }
}

/// The create type, if it is read, and the extents are what it says.
fn checked_type(name: &[u8], extents: &[ExtentLine]) -> Result<String> {
    let known = CREATE_TYPES
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
    let Some((known, kinds)) = known else {
        return Err(
            Error::unsupported(format!("VMDK of the type `{}` are not read", shown(name))).advise(
                "convert it with `qemu-img convert -O vhdx`, or clone it where it was made",
            ),
        );
    };
    if extents.is_empty() {
        return Err(Error::damaged("the VMDK descriptor names no extents"));
    }
    if SINGLE.contains(known) && extents.len() != 1 {
        return Err(Error::damaged(format!(
            "a VMDK of the type {known} has one extent, and its descriptor names {}",
            extents.len()
        )));
    }
    if let Some(other) = extents.iter().find(|extent| !kinds.contains(&extent.kind)) {
        return Err(Error::damaged(format!(
            "a VMDK of the type {known} has no extents of the kind {:?}",
            other.kind
        )));
    }
    let all = extents.iter().try_fold(0u64, |all, extent| {
        all.checked_add(extent.sectors)
            .filter(|all| *all <= MAX_SIZE / SECTOR)
    });
    match all {
        Some(_) => Ok((*known).to_string()),
        None => Err(Error::damaged(format!(
            "the extents of the VMDK are more than {MAX_SIZE} bytes"
        ))),
    }
}

fn extent_kind(word: &[u8]) -> Result<ExtentKind> {
    let upper = word.to_ascii_uppercase();
    Ok(match upper.as_slice() {
        b"FLAT" => ExtentKind::Flat,
        b"SPARSE" => ExtentKind::Sparse,
        b"VMFS" => ExtentKind::Vmfs,
        b"VMFSSPARSE" => ExtentKind::VmfsSparse,
        b"ZERO" => ExtentKind::Zero,
        _ => {
            return Err(Error::unsupported(format!(
                "VMDK extents of the type `{}` are not read",
                shown(word)
            ))
            .advise("convert it with `qemu-img convert -O vhdx`, or clone it where it was made"));
        }
    })
}

/// The name in quotes, and the offset behind it.
fn file_of(rest: &[u8]) -> Result<(&[u8], u64)> {
    let named = || {
        let inner = rest.strip_prefix(b"\"")?;
        let end = inner.iter().position(|byte| *byte == b'"')?;
        let (name, rest) = inner.split_at_checked(end)?;
        Some((name, rest.get(1..)?.trim_ascii()))
    };
    let named = named().filter(|(name, _)| !name.is_empty() && name.len() <= MAX_NAME);
    let Some((name, rest)) = named else {
        return Err(Error::damaged(format!(
            "an extent names no file in quotes: `{}`",
            shown(rest)
        )));
    };
    let (offset, _) = word(rest);
    if offset.is_empty() {
        return Ok((name, 0));
    }
    match decimal(offset).filter(|offset| *offset <= MAX_SIZE / SECTOR) {
        Some(offset) => Ok((name, offset)),
        None => Err(Error::damaged(format!(
            "`{}` is no sector at which an extent can begin",
            shown(offset)
        ))),
    }
}

fn missing(what: &str) -> Error {
    Error::damaged(format!(
        "the VMDK descriptor has no `{what}` that can be read"
    ))
}

/// The part of `line` before the first space or `=`, and what follows without spaces.
fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'=';
    let end = line.iter().position(is_end).unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(end).unwrap_or((line, &[]));
    (word, rest.trim_ascii_start())
}

/// What stands between quotes, or all of it.
fn unquoted(value: &[u8]) -> &[u8] {
    let Some(inner) = value.strip_prefix(b"\"") else {
        return value;
    };
    let end = inner.iter().position(|byte| *byte == b'"');
    end.and_then(|end| inner.get(..end)).unwrap_or(inner)
}

fn decimal(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

fn hexadecimal(text: &[u8]) -> Option<u32> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit);
    is_number.then(|| u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok())?
}

/// `60 00 C2 98 ... -...`: 16 bytes in hexadecimal, apart or together.
fn uuid(text: &[u8]) -> Option<Guid> {
    let digits: String = std::str::from_utf8(text)
        .ok()?
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .collect();
    Guid::from_text(&digits).filter(|id| !id.is_nil())
}

/// The beginning of something that may be long or no text.
fn shown(text: &[u8]) -> String {
    let part = text.get(..text.len().min(SHOWN)).unwrap_or_default();
    part.escape_ascii().to_string()
}

#[cfg(test)]
mod tests;
