//! Index segments.

use crate::memory::Memory;
use crate::pieces::Pieces;
use cairn_base::{ChunkId, Folder, PackId, SegmentId};
use cairn_store::hash::checksum;
use cairn_store::index::check::{SegmentDamage, check_segment};
use cairn_store::index::footer::FOOTER_LEN;
use cairn_store::index::merge::Cursor;
use cairn_store::index::packs::{PackRows, names};
use cairn_store::index::page::{PAGE_LEN, PAGE_ROWS};
use cairn_store::index::place::{Entry, Place};
use cairn_store::index::segment::Segment;
use cairn_store::index::table::PackRow;
use cairn_store::index::write::write_segment;
use cairn_store::layout;
use cairn_store::pack::PackKind;
use std::ops::ControlFlow;

const STORE: [u8; 16] = [5; 16];
/// Bytes of a segment.
const MAX_SIZE: u64 = 1 << 20;

/// A segment of any bytes, written as pieces; if the first byte is odd, all checksums are made right.
pub fn segment(data: &[u8]) -> bool {
    let Some((flags, rest)) = data.split_first() else {
        return false;
    };
    let mut bytes = Pieces::parse(rest, MAX_SIZE).to_bytes();
    let Some(footer) = bytes.len().checked_sub(FOOTER_LEN) else {
        return false;
    };
    let sixteen = |at: usize| <[u8; 16]>::try_from(&bytes[footer + at..footer + at + 16]);
    let (Ok(id), Ok(store)) = (sixteen(16), sixteen(32)) else {
        return false;
    };
    if flags & 1 != 0 {
        mend(&mut bytes, footer, id);
    }
    let id = SegmentId(id);
    let folder = Memory::default();
    folder.put(&layout::segment(id), bytes);
    let Ok(segment) = Segment::open(&folder, store, id) else {
        return false;
    };
    let entries = exercise(&segment);
    let damage = check_segment(&segment, true, &|| false).unwrap();
    // Of a segment that checks by itself, everything is found.
    if flags & 1 == 0 && damage == SegmentDamage::default() {
        assert_eq!(entries.len() as u64, segment.entries());
        for entry in &entries {
            assert!(places(&segment, &entry.prefix).contains(&segment.place_of(entry).unwrap()));
        }
    }
    !entries.is_empty()
}

/// Reads all of a segment in every way; answers its entries as far as they can be had.
fn exercise(segment: &Segment) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut cursor = Cursor::new(segment);
    while let Ok(Some(entry)) = cursor.next() {
        entries.push(entry);
        assert!(
            entries.len() as u64 * 32 <= segment.length(),
            "more than fits"
        );
    }
    let step = 1 + entries.len() / 64;
    for entry in entries.iter().step_by(step) {
        let _place = segment.place_of(entry);
        let mut near = entry.prefix;
        near[15] ^= 1;
        let _found = (places(segment, &entry.prefix), places(segment, &near));
    }
    let _outside = (places(segment, &[0; 16]), places(segment, &[255; 16]));
    for row in PackRows::new(segment).take(PAGE_ROWS * 8).flatten() {
        let _named = names(segment, row.id);
    }
    let _keys = (segment.first_key(0), segment.first_key(u64::MAX));
    entries
}

fn places(segment: &Segment, prefix: &[u8; 16]) -> Vec<Place> {
    let mut found = Vec::new();
    let _damaged = segment.look_up(prefix, &mut |place| {
        found.push(place);
        if found.len() < 1000 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    found
}

/// Makes the checksums of pages, first keys and footer right.
fn mend(bytes: &mut [u8], footer: usize, id: [u8; 16]) {
    for page in bytes[..footer].chunks_exact_mut(PAGE_LEN) {
        if page[28..32] == id[..4] && page[27] == 0 && page[26] < 3 {
            page[..16].fill(0);
            let sum = checksum(page);
            page[..16].copy_from_slice(&sum);
        }
    }
    let number = |at: usize| {
        let eight = <[u8; 8]>::try_from(&bytes[footer + at..footer + at + 8]);
        u64::from_le_bytes(eight.unwrap_or_default())
    };
    let keys_at = number(72)
        .div_ceil(PAGE_ROWS as u64)
        .checked_mul(PAGE_LEN as u64)
        .and_then(|table| table.checked_add(number(64)))
        .filter(|at| *at <= footer as u64);
    if let Some(keys_at) = keys_at {
        let sum = checksum(&bytes[keys_at as usize..footer]);
        bytes[footer + 80..footer + 96].copy_from_slice(&sum);
    }
    let sum = checksum(&bytes[footer..footer + 240]);
    bytes[footer + 240..].copy_from_slice(&sum);
}

/// A segment made of entries: the first byte is the number of packs, then 3 bytes for each entry. Everything written is found.
pub fn made(data: &[u8]) -> bool {
    let Some((packs, rest)) = data.split_first() else {
        return false;
    };
    let packs: Vec<PackRow> = (0..=*packs)
        .map(|number| PackRow {
            id: PackId([number.wrapping_mul(77); 16]),
            length: 1000 + u64::from(number),
            kind: PackKind::Data,
        })
        .collect();
    let (triples, _) = rest.as_chunks::<3>();
    let entries: Vec<(Entry, Place)> = triples
        .iter()
        .map(|&[a, b, c]| {
            let number = usize::from(c) % packs.len();
            let place = Place {
                pack: packs[number].id,
                offset: 64 + u32::from(b),
                stored: 1 + u32::from(c),
                plain: c & 1 != 0,
                at: u32::from(a),
                length: 1 + u32::from(b),
            };
            // Equal keys, and equal prefixes.
            let mut id = [a; 32];
            id[9] = b & 3;
            let prefix = ChunkId(id).prefix();
            (Entry::new(prefix, number as u32, &place), place)
        })
        .collect();
    let folder = Memory::default();
    folder.create_folder("s").unwrap();
    let list = entries.iter().map(|(entry, _)| *entry).collect();
    let written = write_segment(&folder, "s", STORE, &packs, list).unwrap();
    let bytes = folder.get(&written.path).unwrap();
    assert_eq!(bytes.len() as u64, written.length);
    folder.put(&layout::segment(written.id), bytes);
    let segment = Segment::open(&folder, STORE, written.id).unwrap();
    assert_eq!(segment.entries(), entries.len() as u64);
    assert_eq!(
        check_segment(&segment, true, &|| false).unwrap(),
        SegmentDamage::default()
    );
    for (entry, place) in &entries {
        assert!(places(&segment, &entry.prefix).contains(place));
    }
    assert_eq!(exercise(&segment).len(), entries.len());
    !entries.is_empty()
}
