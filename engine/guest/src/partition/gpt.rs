//! The GUID partition table: a header at sector 1, its copy in the last sector, and an array of entries
//! (UEFI specification 2.10, section 5.3).

use super::{DeviceId, Partition, PartitionKind, PartitionTable, TableKind};
use cairn_base::read_at::read_vec;
use cairn_base::{ReadAt, Result, View};

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of the header that are defined.
const HEADER: usize = 92;
/// Entries and bytes of an entry that are read at most; every known tool writes 128 of 128 bytes.
const MAX_ENTRIES: u32 = 1024;
const MAX_ENTRY_SIZE: u32 = 4096;
/// Linux gives minors to this many.
const MAX_NUMBER: u32 = 255;

struct Header {
    disk_guid: [u8; 16],
    last_usable: u64,
    entries_at: u64,
    entries: u32,
    entry_size: u32,
    entries_crc: u32,
}

/// The table of `disk` read with sectors of `sector_size` bytes, `None` if neither header is valid. What was wrong
/// goes into `warnings`, and into the table's own.
pub(super) fn read(
    disk: &dyn ReadAt,
    sector_size: u32,
    warnings: &mut Vec<String>,
) -> Result<Option<PartitionTable>> {
    let sector = u64::from(sector_size);
    let sectors = disk.size().checked_div(sector).unwrap_or(0);
    let Some(last) = sectors.checked_sub(1) else {
        return Ok(None);
    };
    let mut found = Vec::new();
    for (lba, name) in [(1, "first"), (last, "backup")] {
        match read_copy(disk, lba, sector_size)? {
            Ok((header, entries)) => {
                return table(disk, sector_size, &header, &entries, found).map(Some);
            }
            Err(why) => found.push(format!(
                "the {name} GPT ({sector_size}-byte sectors) is not used: {why}"
            )),
        }
    }
    warnings.append(&mut found);
    Ok(None)
}

/// A header and its array, or what is wrong with them in words.
fn read_copy(
    disk: &dyn ReadAt,
    lba: u64,
    sector_size: u32,
) -> Result<std::result::Result<(Header, Vec<u8>), String>> {
    let at = lba.saturating_mul(u64::from(sector_size));
    let length = usize::try_from(sector_size).unwrap_or(HEADER).max(512);
    if at
        .checked_add(u64::from(sector_size))
        .is_none_or(|end| end > disk.size())
    {
        return Ok(Err("it lies beyond the end of the disk".to_string()));
    }
    let bytes = read_vec(disk, at, length)?;
    let header = match parse_header(&bytes, lba, at)? {
        Ok(header) => header,
        Err(why) => return Ok(Err(why.to_string())),
    };
    let start = header.entries_at.saturating_mul(u64::from(sector_size));
    let total = u64::from(header.entries).saturating_mul(u64::from(header.entry_size));
    if start.checked_add(total).is_none_or(|end| end > disk.size()) {
        return Ok(Err("its entries lie beyond the end of the disk".to_string()));
    }
    let entries = read_vec(disk, start, usize::try_from(total).unwrap_or(usize::MAX))?;
    if crc32fast::hash(&entries) != header.entries_crc {
        return Ok(Err("the checksum of its entries is wrong".to_string()));
    }
    Ok(Ok((header, entries)))
}

fn parse_header(
    bytes: &[u8],
    lba: u64,
    at: u64,
) -> Result<std::result::Result<Header, &'static str>> {
    let view = View::new(bytes, "GPT header", at);
    if view.slice(0, 8)? != SIGNATURE {
        return Ok(Err("no signature"));
    }
    let size = usize::try_from(view.u32_le(12)?).unwrap_or(usize::MAX);
    if size < HEADER || size > bytes.len() {
        return Ok(Err("its header size is impossible"));
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(view.slice(0, 16)?);
    crc.update(&[0; 4]);
    crc.update(view.slice(20, size.saturating_sub(20))?);
    if crc.finalize() != view.u32_le(16)? {
        return Ok(Err("the checksum of its header is wrong"));
    }
    if view.u64_le(24)? != lba {
        return Ok(Err("it says it lies elsewhere"));
    }
    let header = Header {
        last_usable: view.u64_le(48)?,
        disk_guid: view.array(56)?,
        entries_at: view.u64_le(72)?,
        entries: view.u32_le(80)?,
        entry_size: view.u32_le(84)?,
        entries_crc: view.u32_le(88)?,
    };
    if header.entries > MAX_ENTRIES {
        return Ok(Err("it has more entries than are read"));
    }
    let sane_size =
        (128..=MAX_ENTRY_SIZE).contains(&header.entry_size) && header.entry_size.is_power_of_two();
    if !sane_size {
        return Ok(Err("the size of its entries is impossible"));
    }
    Ok(Ok(header))
}

fn table(
    disk: &dyn ReadAt,
    sector_size: u32,
    header: &Header,
    entries: &[u8],
    mut warnings: Vec<String>,
) -> Result<PartitionTable> {
    let sector = u64::from(sector_size);
    let last = disk
        .size()
        .checked_div(sector)
        .unwrap_or(0)
        .saturating_sub(1);
    if header.last_usable > last {
        warnings.push("the disk is smaller than its GPT says".to_string());
    }
    let entry_size = usize::try_from(header.entry_size).unwrap_or(128).max(128);
    let mut partitions = Vec::new();
    for (number, bytes) in (1u32..).zip(entries.chunks_exact(entry_size)) {
        let view = View::new(bytes, "GPT entry", 0);
        let kind: [u8; 16] = view.array(0)?;
        if kind == [0; 16] {
            continue;
        }
        if number > MAX_NUMBER {
            warnings.push(format!(
                "partition {number} has no number in Linux and is not listed"
            ));
            continue;
        }
        let (first, end) = (view.u64_le(32)?, view.u64_le(40)?);
        let Some(sectors) = end.checked_sub(first).and_then(|n| n.checked_add(1)) else {
            warnings.push(format!("partition {number} ends before it starts"));
            continue;
        };
        let mut partition = Partition {
            number,
            start: first.saturating_mul(sector),
            size: sectors.saturating_mul(sector),
            available: 0,
            kind: PartitionKind::Guid(kind),
            name: name_text(view.slice(56, 72)?),
            id: guid_text(&view.array(16)?),
            device_id: DeviceId::Guid(view.array(16)?),
        };
        partition.clip(disk.size(), &mut warnings);
        partitions.push(partition);
    }
    Ok(PartitionTable {
        kind: TableKind::Gpt,
        partitions,
        disk_id: guid_text(&header.disk_guid),
        sector_size,
        warnings,
    })
}

/// UTF-16 up to the first zero.
fn name_text(bytes: &[u8]) -> String {
    let units = bytes
        .chunks_exact(2)
        .filter_map(|pair| pair.try_into().ok().map(u16::from_le_bytes))
        .take_while(|&unit| unit != 0);
    char::decode_utf16(units)
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// A GUID as Linux prints it: the first three groups are little-endian on disk.
pub fn guid_text(guid: &[u8; 16]) -> String {
    let [
        a0,
        a1,
        a2,
        a3,
        b0,
        b1,
        c0,
        c1,
        d0,
        d1,
        e0,
        e1,
        e2,
        e3,
        e4,
        e5,
    ] = *guid;
    format!(
        "{:08x}-{:04x}-{:04x}-{d0:02x}{d1:02x}-{e0:02x}{e1:02x}{e2:02x}{e3:02x}{e4:02x}{e5:02x}",
        u32::from_le_bytes([a0, a1, a2, a3]),
        u16::from_le_bytes([b0, b1]),
        u16::from_le_bytes([c0, c1]),
    )
}
