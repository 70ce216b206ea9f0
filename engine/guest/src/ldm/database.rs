//! A copy of the database: its header (page VMDB), and its records, which lie in blocks of 128 bytes, those that are longer in several
//! of them, anywhere (page VBLK).

use super::contents::Contents;
use super::guid::Guid;
use super::head::{Head, text};
use super::record::{self, Configuration, Record, status};
use cairn_base::read_at::read_vec;
use cairn_base::units::to_u64;
use cairn_base::{Error, ReadAt, Result, View};
use std::collections::BTreeMap;

/// Windows makes databases of 1 MiB.
const MAX_BYTES: u64 = 16 << 20;
/// Bytes of the header that have a meaning.
const HEADER: usize = 0xc5;
const MAJOR: u16 = 4;
/// Bytes in front of each block's part of a record.
const BLOCK_HEADER: usize = 16;
/// Windows makes blocks of 128 bytes, and up to four of them hold a record.
const BLOCK_SIZES: std::ops::RangeInclusive<usize> = 64..=4096;
const MAX_FRAGMENTS: u16 = 64;
/// What is wrong with more records than this is counted only.
const TOLD: usize = 8;
/// Windows makes up to 2,000 volumes in a group ("Dynamic disks and volumes" in the help of Windows XP), which is what its database has room for.
const MAX_VOLUMES: usize = 2000;

/// What a dynamic disk says of itself and of its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The disk's id.
    pub disk_id: Guid,
    /// The id of the group.
    pub group_id: Guid,
    /// The name of the group: that of the computer with `Dg0` behind it, as a rule.
    pub group_name: String,
    /// Number of the last change of the group that this disk knows of.
    pub sequence: u64,
    /// Where on the disk the data that partitions lie in begins, in bytes.
    pub data_start: u64,
    /// Bytes of data.
    pub data_size: u64,
    /// The group's volumes and disks, as this disk knows them.
    pub configuration: Configuration,
    /// What is wrong with this copy although it can be read. Sentences.
    pub warnings: Vec<String>,
    /// Whether that cannot cost a volume: all records are there, as far as can be told.
    pub is_whole: bool,
    /// Whether the checksum of the private header is right, which says where the disk's data begins.
    pub is_head_whole: bool,
}

/// The database's header.
struct Header {
    /// Number of the block behind the last one, counted from the header's start.
    blocks: u64,
    block_size: usize,
    first: usize,
    /// Whether a transaction was committed and what it replaced was not deleted yet.
    is_committed: bool,
    is_consistent: bool,
    /// Whether its state is one that is known.
    is_known: bool,
    group_name: String,
    sequence: u64,
    /// Records that count: volumes, components, partitions, disks.
    counts: [u64; 4],
}

impl Header {
    fn parse(bytes: &[u8], at: u64) -> Result<Header> {
        let view = View::new(bytes, "LDM database", at);
        if view.slice(0, 4)? != b"VMDB" {
            return Err(view.damaged(0, "no signature"));
        }
        let (major, minor) = (view.u16_be(0x12)?, view.u16_be(0x14)?);
        if major != MAJOR {
            let what = format!("LDM database of version {major}.{minor}");
            return Err(Error::unsupported(what).at_offset(at));
        }
        let block_size = usize::try_from(view.u32_be(8)?).unwrap_or(usize::MAX);
        if !BLOCK_SIZES.contains(&block_size) {
            return Err(view.damaged(8, "blocks of an impossible size"));
        }
        let state = view.u16_be(0x10)?;
        let is_committed = state == 3;
        let counts_at: usize = if is_committed { 0xa1 } else { 0x85 };
        let count = |index: usize| -> Result<u64> {
            let offset = counts_at.saturating_add(index.saturating_mul(4));
            Ok(u64::from(view.u32_be(offset)?))
        };
        Ok(Header {
            blocks: u64::from(view.u32_be(4)?),
            block_size,
            first: usize::try_from(view.u32_be(12)?).unwrap_or(usize::MAX),
            is_committed,
            is_consistent: state == 1,
            is_known: matches!(state, 1..=3),
            group_name: text(view.slice(0x16, 31)?),
            sequence: view.u64_be(if is_committed { 0x7d } else { 0x75 })?,
            counts: [count(0)?, count(1)?, count(2)?, count(3)?],
        })
    }

    /// Whether a record of this update status counts.
    fn takes(&self, of: u16) -> bool {
        match of {
            status::GOING => !self.is_committed,
            status::COMING => self.is_committed,
            _ => true,
        }
    }
}

/// Reads the database of which `head` and `contents` say where it lies.
pub(super) fn read(
    disk: &dyn ReadAt,
    head: &Head,
    contents: &Contents,
    sector: u64,
) -> Result<Database> {
    let (start, sectors) = contents.config;
    let offset = start.saturating_mul(sector);
    let room = head.config_size.saturating_sub(offset);
    let whole = sectors.saturating_mul(sector);
    let length = whole.min(room).min(MAX_BYTES);
    let at = head.config_start.saturating_add(offset);
    if length < to_u64(HEADER) {
        return Err(Error::damaged(
            "the LDM database lies beyond the part of the disk that is its",
        )
        .at_offset(at));
    }
    let bytes = read_vec(disk, at, usize::try_from(length).unwrap_or(0))?;
    let header = Header::parse(&bytes, at)?;
    let mut blocks = Blocks::default();
    if !head.is_whole {
        blocks.warn("the checksum of the private header of this dynamic disk is wrong".to_string());
    }
    if !contents.is_whole {
        blocks
            .warn("the checksum of the table of contents of the LDM database is wrong".to_string());
    }
    if length < whole {
        blocks.warn(format!(
            "the LDM database should have {whole} bytes, of which {length} are read"
        ));
    }
    blocks.read(&bytes, &header, at)?;
    let finished = blocks.finish(&header);
    let name = if header.group_name.is_empty() {
        head.group_name.clone()
    } else {
        header.group_name
    };
    Ok(Database {
        disk_id: head.disk_id,
        group_id: head.group_id,
        group_name: name,
        sequence: header.sequence,
        data_start: head.data_start,
        data_size: head.data_size,
        is_head_whole: head.is_whole,
        configuration: finished.configuration,
        warnings: finished.warnings,
        is_whole: finished.is_whole,
    })
}

/// What the records say, and what is wrong with them.
struct Finished {
    configuration: Configuration,
    warnings: Vec<String>,
    is_whole: bool,
}

/// A record in parts.
struct Parts {
    /// Where the first that was met lies on the disk.
    at: u64,
    count: u16,
    /// By number.
    found: BTreeMap<u16, Vec<u8>>,
    /// Whether parts of more than one record say that they belong here.
    is_mixed: bool,
}

/// Records as they are put together.
#[derive(Default)]
struct Blocks {
    configuration: Configuration,
    fragments: BTreeMap<u32, Parts>,
    warnings: Vec<String>,
    /// What was not told.
    more: u64,
}

impl Blocks {
    fn warn(&mut self, warning: String) {
        if self.warnings.len() < TOLD {
            self.warnings.push(warning);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    fn read(&mut self, bytes: &[u8], header: &Header, at: u64) -> Result<()> {
        let view = View::new(bytes, "LDM database", at);
        let records = view.tail(header.first)?;
        let size = to_u64(header.block_size);
        let in_front = to_u64(header.first).checked_div(size).unwrap_or(0);
        let expected = header.blocks.saturating_sub(in_front);
        let all = records.bytes().chunks_exact(header.block_size);
        for (number, block) in (0u64..).zip(all) {
            let at = records.base().saturating_add(number.saturating_mul(size));
            let view = View::new(block, "block of the LDM database", at);
            if view.slice(0, 4)? != b"VBLK" {
                if number >= expected {
                    break;
                }
                self.warn(format!("byte {at}: no block of the LDM database"));
                continue;
            }
            let (group, index, count) = (view.u32_be(8)?, view.u16_be(12)?, view.u16_be(14)?);
            let part = view.tail(BLOCK_HEADER)?.bytes();
            match count {
                0 => {}
                1 => self.record(part, at, header),
                2..=MAX_FRAGMENTS if index < count => {
                    self.fragment((group, index, count), part, at);
                }
                _ => self.warn(format!(
                    "byte {at}: part {index} of {count} of a record of the LDM database"
                )),
            }
        }
        for (group, parts) in std::mem::take(&mut self.fragments) {
            if parts.is_mixed {
                // Which of them belong together is told by nothing.
            } else if parts.found.len() == usize::from(parts.count) {
                let whole: Vec<Vec<u8>> = parts.found.into_values().collect();
                self.record(&whole.concat(), parts.at, header);
            } else {
                let at = parts.at;
                self.warn(format!(
                    "byte {at}: parts of record {group} of the LDM database are missing"
                ));
            }
        }
        Ok(())
    }

    fn fragment(&mut self, (group, index, count): (u32, u16, u16), part: &[u8], at: u64) {
        let parts = self.fragments.entry(group).or_insert_with(|| Parts {
            at,
            count,
            found: BTreeMap::new(),
            is_mixed: false,
        });
        if parts.count != count || parts.found.contains_key(&index) {
            parts.is_mixed = true;
            self.warn(format!(
                "byte {at}: part {index} of record {group} of the LDM database does not go with the others"
            ));
        } else {
            parts.found.insert(index, part.to_vec());
        }
    }

    fn record(&mut self, bytes: &[u8], at: u64, header: &Header) {
        match record::parse(bytes, at) {
            Ok((_, Record::Unknown(kind))) => self.warn(format!(
                "byte {at}: a record of the LDM database of the kind {kind:02x}, which is not known"
            )),
            Ok((status, record)) if header.takes(status) => self.configuration.add(record),
            Ok(_) => {}
            Err(error) => self.warn(error.to_string()),
        }
    }

    fn finish(mut self, header: &Header) -> Finished {
        let found = self.configuration.counts();
        if !self.configuration.put_in_order() {
            self.warn("records of the LDM database have the same number".to_string());
        }
        if found != header.counts {
            let [volumes, components, partitions, disks] = header.counts;
            self.warn(format!(
                "the LDM database should have {volumes} volumes, {components} components, {partitions} partitions and {disks} disks, and has \
                 {}, {}, {} and {}",
                found[0], found[1], found[2], found[3]
            ));
        }
        if !self.configuration.limit(MAX_VOLUMES) {
            self.warn(format!(
                "the LDM database tells of more than {MAX_VOLUMES} volumes, which Windows does not make: only the first ones are shown"
            ));
        }
        if !header.is_known {
            self.warn("the LDM database is in a state that is not known".to_string());
        }
        let is_whole = self.warnings.is_empty();
        if self.more > 0 {
            let more = self.more;
            self.warnings
                .push(format!("and {more} more of such in the LDM database"));
        }
        if !header.is_consistent && header.is_known {
            self.warnings
                .push("a change of the LDM database was under way".to_string());
        }
        Finished {
            configuration: self.configuration,
            warnings: self.warnings,
            is_whole,
        }
    }
}
