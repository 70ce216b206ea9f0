//! Single structures of NTFS, and what it and Windows compress with.

use cairn_base::read_at::read_vec;
use cairn_base::{ReadAt, View};
use cairn_guest::ntfs::decoders::{
    Algorithm, BootSector, Record, RunList, Vcn, WofStream, block_entries, mend_block,
    parse_attribute_list, reparse_tag, reparse_target, root_entries, root_header, unpack_lznt1,
    unpack_lzx, unpack_xpress,
};
use std::sync::Arc;

/// Runs that are looked at.
const MAX_RUNS: usize = 4096;
/// Bytes of content of a compressed file.
const MAX_CONTENT: u64 = 1 << 20;

/// A boot sector of 512 bytes, and a file record behind it; if the first byte is not that of a boot sector, the record's update sequence is made right.
pub fn record(data: &[u8]) -> bool {
    let (sector, rest) = data.split_at(data.len().min(512));
    let boot = BootSector::parse(View::new(sector, "boot sector", 0));
    if let Ok(boot) = &boot {
        assert!(boot.cluster_size.is_power_of_two() && boot.cluster_size <= 2 << 20);
        assert!(boot.record_size.is_power_of_two() && boot.record_size <= 64 << 10);
        assert!(boot.clusters() * u64::from(boot.cluster_size) <= boot.bytes());
    }
    let mut bytes = rest.to_vec();
    bytes.truncate(bytes.len() / 512 * 512);
    if sector.first() != Some(&0xEB) {
        mend(&mut bytes);
    }
    let Ok(record) = Record::parse(bytes, 512) else {
        return false;
    };
    for kind in (0x10..0x110).step_by(0x10) {
        let Ok(attributes) = record.of_kind(kind) else {
            continue;
        };
        for attribute in attributes {
            let _told = (attribute.size(), attribute.allocated(), attribute.reading());
            if let Some(value) = record.resident(attribute) {
                let view = View::new(value, "value", 0);
                let _list = parse_attribute_list(view);
            }
        }
    }
    boot.is_ok()
}

/// Makes the ends of the sectors those that the update sequence asks for.
fn mend(bytes: &mut [u8]) {
    let number = |bytes: &[u8], at: usize| -> Option<usize> {
        let two = bytes.get(at..at + 2)?;
        Some(usize::from(u16::from_le_bytes(two.try_into().unwrap())))
    };
    let Some(start) = number(bytes, 4) else {
        return;
    };
    let Some(check) = bytes.get(start..start + 2).map(<[u8]>::to_vec) else {
        return;
    };
    for sector in bytes.chunks_exact_mut(512) {
        sector[510..].copy_from_slice(&check);
    }
}

/// An encoded run list.
pub fn runs(data: &[u8]) -> bool {
    let mut list = RunList::new();
    let decoded = list.decode(View::new(data, "run list", 0));
    let mut vcn = 0;
    for _ in 0..MAX_RUNS {
        let Some(run) = list.at(Vcn(vcn)) else {
            break;
        };
        assert!(run.clusters > 0);
        vcn += run.clusters;
    }
    assert!(vcn <= list.end().0);
    assert!(list.at(list.end()).is_none());
    decoded.is_ok() && !list.is_empty()
}

/// An index block if the first byte is odd, else the value of an index root. The update sequence of blocks is made right.
pub fn index(data: &[u8]) -> bool {
    let Some((kind, rest)) = data.split_first() else {
        return false;
    };
    let mut bytes = rest.to_vec();
    let entries = if kind & 1 == 1 {
        bytes.truncate(bytes.len() / 512 * 512);
        mend(&mut bytes);
        let number = bytes
            .get(16..24)
            .map_or(0, |number| u64::from_le_bytes(number.try_into().unwrap()));
        if mend_block(&mut bytes, number, 0).is_err() {
            return false;
        }
        block_entries(&bytes)
    } else {
        let view = View::new(&bytes, "index root", 0);
        if let Ok(header) = root_header(view) {
            assert!(header.block_size.is_power_of_two());
        }
        root_entries(view)
    };
    let Ok(entries) = entries else {
        return false;
    };
    let mut ended = false;
    let mut last = 0;
    for entry in entries.map_while(Result::ok) {
        assert!(!ended && entry.next > last && entry.next <= bytes.len());
        last = entry.next;
        ended = entry.is_end;
    }
    ended
}

/// A reparse point.
pub fn reparse(data: &[u8]) -> bool {
    let view = View::new(data, "reparse point", 0);
    let told = reparse_tag(view).is_ok();
    let _algorithm = Algorithm::parse(view);
    told && reparse_target(view).is_ok()
}

/// Splits a length of content off, of at most `most` bytes.
fn length(data: &[u8], most: usize) -> Option<(usize, &[u8])> {
    let (length, rest) = data.split_first_chunk::<3>()?;
    let [a, b, c] = *length;
    Some((u32::from_le_bytes([a, b, c, 0]) as usize % (most + 1), rest))
}

/// The length of the content in three bytes, and what LZNT1 made of it.
pub fn lznt1(data: &[u8]) -> bool {
    length(data, 64 << 10)
        .is_some_and(|(length, packed)| unpack_lznt1(packed, &mut vec![0; length]).is_ok())
}

/// The length of the content in three bytes, and what XPRESS made of it.
pub fn xpress(data: &[u8]) -> bool {
    length(data, 64 << 10)
        .is_some_and(|(length, packed)| unpack_xpress(packed, &mut vec![0; length]).is_ok())
}

/// The length of the content in three bytes, and what LZX made of it.
pub fn lzx(data: &[u8]) -> bool {
    length(data, 32 << 10)
        .is_some_and(|(length, packed)| unpack_lzx(packed, &mut vec![0; length]).is_ok())
}

/// The number of an algorithm, the length of the content in three bytes, and the stream of a compressed file. If the length is large, the
/// content has so many MiB, of which the ends are read.
pub fn wof(data: &[u8]) -> bool {
    let Some((number, rest)) = data.split_first() else {
        return false;
    };
    let mut point = vec![
        0x17, 0, 0, 0x80, 16, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0,
    ];
    point.extend([*number, 0, 0, 0]);
    let Ok(algorithm) = Algorithm::parse(View::new(&point, "reparse point", 0)) else {
        return false;
    };
    let Some((length, stream)) = length(rest, (1 << 24) - 1) else {
        return false;
    };
    let size = match length as u64 {
        small @ 0..=MAX_CONTENT => small,
        large => large << 20,
    };
    let Ok(file) = WofStream::new(Arc::new(stream.to_vec()), size, algorithm) else {
        return false;
    };
    if size > MAX_CONTENT {
        let _ends = (read_vec(&file, 0, 70_000), read_vec(&file, size - 9, 9));
        return false;
    }
    let Ok(whole) = read_vec(&file, 0, size as usize) else {
        return false;
    };
    // What is read in pieces is the same.
    for at in (0..size).step_by(9973) {
        let mut piece = vec![0; 9973.min(size - at) as usize];
        file.read_exact_at(at, &mut piece).unwrap();
        assert!(whole[at as usize..].starts_with(&piece));
    }
    true
}
