//! One copy of the metadata ("FVE metadata block", dataset and entries included).

use super::entry::{self, kind, parse_list, role};
use super::id::KeyId;
use super::protector::Protector;
use super::sealed::Sealed;
use cairn_base::{Error, Result, Time, View};
use sha2::{Digest, Sha256};
use std::fmt;
use std::ops::Range;

/// Bytes of a copy, at most; all of Vista's fit too.
pub(super) const MAX_BLOCK: u64 = 0x1_0000;
/// Bytes of its head.
const HEAD: usize = 64;
/// Protectors that a volume may have.
const MAX_PROTECTORS: usize = 64;

/// What is being done to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All of it is as without BitLocker.
    Decrypted,
    /// It was being encrypted or decrypted, and not properly stopped.
    ConvertingDirty,
    /// Encrypting or decrypting it was paused.
    Paused,
    /// All of it is encrypted, or all that is used.
    Encrypted,
    /// It was being encrypted or decrypted.
    Converting,
    /// Something that is not known.
    Unknown(u16),
}

impl State {
    fn of(number: u16) -> State {
        match number {
            1 => State::Decrypted,
            2 => State::ConvertingDirty,
            3 => State::Paused,
            4 => State::Encrypted,
            5 => State::Converting,
            other => State::Unknown(other),
        }
    }

    /// One word for it, for programs.
    pub fn word(self) -> &'static str {
        match self {
            State::Decrypted => "decrypted",
            State::ConvertingDirty => "converting_dirty",
            State::Paused => "paused",
            State::Encrypted => "encrypted",
            State::Converting => "converting",
            State::Unknown(_) => "unknown",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Decrypted => "decrypted",
            State::ConvertingDirty => "being converted, not properly stopped",
            State::Paused => "conversion paused",
            State::Encrypted => "encrypted",
            State::Converting => "being converted",
            State::Unknown(number) => return write!(f, "state {number}"),
        })
    }
}

/// Where an entry says that the volume's beginning is kept ("FVE Volume header block").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeaderBlock {
    pub offset: u64,
    /// In bytes; 0 says nothing: that it is there is new in Windows 8.
    pub size: u64,
}

/// What a copy of the metadata says.
#[derive(Clone)]
pub(super) struct Metadata {
    /// 1 (Vista) or 2.
    pub version: u16,
    pub state: State,
    /// Up to here the volume is encrypted, in bytes; 0 says nothing.
    pub encrypted: u64,
    /// Bytes of the log of a conversion, which begins there.
    pub log: u64,
    /// Sectors of the volume's beginning that are kept elsewhere, as the head says it; of Vista none are.
    pub header_sectors: u64,
    /// The same as an entry says it.
    pub header_block: Option<HeaderBlock>,
    /// Where all copies lie.
    pub offsets: [u64; 3],
    /// Where the volume's beginning is kept; Vista: the cluster of the MFT's mirror.
    pub header_offset: u64,
    pub volume: KeyId,
    /// Grows whenever the metadata are written.
    pub nonce: u32,
    /// The method as the head of the entries says it.
    pub method: u16,
    pub created: Time,
    pub description: String,
    pub protectors: Vec<Protector>,
    /// The key of the volume's sectors.
    pub volume_key: Option<Sealed>,
    /// The hash of all this, encrypted with the volume master key.
    pub sealed_hash: Option<Sealed>,
    /// What it should be.
    pub hash: [u8; 32],
}

impl Metadata {
    /// Decodes a copy whose bytes, and what is behind them, begin at `offset` of the volume.
    ///
    /// # Errors
    /// Damaged if it is not whole: no signature, a checksum that is wrong, lengths that lead out of it. Unsupported if it is of an unknown version.
    pub fn parse(bytes: &[u8], offset: u64) -> Result<Metadata> {
        let view = View::new(bytes, "BitLocker metadata", offset);
        if view.slice(0, 8)? != b"-FVE-FS-" {
            return Err(view.damaged(0, "no metadata lie where the volume header says"));
        }
        let version = view.u16_le(10)?;
        let stored = usize::from(view.u16_le(8)?);
        let length = match version {
            1 => stored,
            2 => stored.saturating_mul(16),
            _ => return Err(unknown_version(version, offset)),
        };
        let block = view.part(0, length, "BitLocker metadata")?;
        let check = view.tail(length)?;
        if crc32fast::hash(block.bytes()) != check.u32_le(4)? {
            return Err(check.damaged(4, "the checksum is wrong"));
        }
        let sealed_hash = match (version, check.tail(8)) {
            (2, Ok(rest)) => Sealed::among(&parse_first(rest)?)?,
            _ => None,
        };
        let mut metadata = Metadata {
            version,
            state: State::of(block.u16_le(12)?),
            encrypted: block.u64_le(16)?,
            log: u64::from(block.u32_le(24)?),
            header_sectors: u64::from(block.u32_le(28)?),
            header_block: None,
            offsets: [block.u64_le(32)?, block.u64_le(40)?, block.u64_le(48)?],
            header_offset: block.u64_le(56)?,
            volume: KeyId::default(),
            nonce: 0,
            method: 0,
            created: Time::default(),
            description: String::new(),
            protectors: Vec::new(),
            volume_key: None,
            sealed_hash,
            hash: Sha256::digest(block.bytes()).into(),
        };
        metadata.take_entries(block.tail(HEAD)?)?;
        Ok(metadata)
    }

    fn take_entries(&mut self, set: View<'_>) -> Result<()> {
        let (start, end) = (set.u32_le(8)?, set.u32_le(12)?);
        let at = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let length = at(end)
            .checked_sub(at(start))
            .ok_or_else(|| set.damaged(12, "the entries end before they begin"))?;
        self.volume = KeyId(set.array(16)?);
        self.nonce = set.u32_le(32)?;
        self.method = set.u16_le(36)?;
        self.created = made(set.u64_le(40)?);
        for found in parse_list(set.part(at(start), length, "BitLocker entries")?)? {
            match (found.role, found.kind) {
                (role::VOLUME_MASTER_KEY, kind::PROTECTED) => {
                    if self.protectors.len() >= MAX_PROTECTORS {
                        return Err(found.value.damaged(0, "there are too many protectors"));
                    }
                    self.protectors.push(Protector::parse(found.value)?);
                }
                (role::VOLUME_KEY, kind::SEALED) => {
                    self.volume_key = Some(Sealed::parse(found.value)?);
                }
                (role::DESCRIPTION, kind::TEXT) => self.description = entry::text(found.value),
                (role::VOLUME_HEADER, kind::OFFSET_AND_SIZE) => self.take_block(found.value)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn take_block(&mut self, value: View<'_>) -> Result<()> {
        let block = HeaderBlock {
            offset: value.u64_le(0)?,
            size: match value.len() {
                0..16 => 0,
                _ => value.u64_le(8)?,
            },
        };
        match self.header_block.replace(block) {
            Some(other) if other != block => Err(value.damaged(
                0,
                "two entries contradict each other in where the volume's beginning is kept",
            )),
            _ => Ok(()),
        }
    }

    /// Where the volume's beginning is kept, in bytes of the volume with sectors of `sector` bytes. Of Vista's volumes nowhere: it lies where it is.
    ///
    /// The head of the metadata counts sectors, the entry ("FVE Volume header block") bytes. libbde and cryptsetup go by the entry, `dissect.fve` by the head, dislocker by both; so
    /// where both are there and say other things, one would show other bytes than another, and none of them is believed.
    ///
    /// # Errors
    /// Damaged if the two contradict each other, or neither says how long it is.
    pub fn beginning(&self, sector: u64) -> Result<Option<Range<u64>>> {
        if self.version == 1 {
            return Ok(None);
        }
        let by_head = self.header_sectors.saturating_mul(sector);
        let by_entry = self.header_block.unwrap_or(HeaderBlock {
            offset: self.header_offset,
            size: by_head,
        });
        let length = match (by_head, by_entry.size) {
            (length, 0) | (0, length) => length,
            (head, entry) if head == entry => head,
            (head, entry) => {
                return Err(Error::damaged(format!(
                    "the BitLocker metadata contradict themselves: {head} bytes of the volume's beginning are kept elsewhere by their head, {entry} by an entry"
                )));
            }
        };
        if by_entry.offset != self.header_offset {
            return Err(Error::damaged(format!(
                "the BitLocker metadata contradict themselves: the volume's beginning is kept at byte {} by their head, at byte {} by an entry",
                self.header_offset, by_entry.offset
            )));
        }
        if length == 0 {
            let what = "the BitLocker metadata do not say how much of the volume's beginning is kept elsewhere";
            return Err(Error::damaged(what));
        }
        let end = self.header_offset.saturating_add(length);
        Ok(Some(self.header_offset..end))
    }
}

/// The entry behind the checksum; what follows it is no entry.
fn parse_first<'a>(rest: View<'a>) -> Result<Vec<entry::Entry<'a>>> {
    let length = match rest.u16_le(0) {
        Ok(length) => usize::from(length),
        // There is none.
        Err(_) => return Ok(Vec::new()),
    };
    match rest.part(0, length, "BitLocker metadata") {
        Ok(first) => parse_list(first),
        Err(_) => Ok(Vec::new()),
    }
}

fn unknown_version(version: u16, offset: u64) -> Error {
    let what = format!("BitLocker metadata of version {version} are not read");
    Error::unsupported(what).at_offset(offset)
}

/// Units of 100 ns since 1601 as a time, to the second.
fn made(units: u64) -> Time {
    const EPOCH: i64 = 11_644_473_600;
    let seconds = i64::try_from(units / 10_000_000).unwrap_or(i64::MAX);
    Time::from_seconds(seconds.saturating_sub(EPOCH))
}

/// Bytes that are read to decode a copy at `offset` of a volume of `size` bytes.
pub(super) fn readable(size: u64, offset: u64) -> usize {
    usize::try_from(size.saturating_sub(offset).min(MAX_BLOCK)).unwrap_or(0)
}
