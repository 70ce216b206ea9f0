use super::*;

/// A block with the given entries: raw bytes each.
fn block(vcn: u64, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0u8; 1024];
    bytes[..4].copy_from_slice(b"INDX");
    bytes[4..8].copy_from_slice(&[40, 0, 3, 0]);
    bytes[16..24].copy_from_slice(&vcn.to_le_bytes());
    let all: Vec<u8> = entries.concat();
    bytes[24..28].copy_from_slice(&40u32.to_le_bytes());
    bytes[28..32].copy_from_slice(&(40 + all.len() as u32).to_le_bytes());
    bytes[64..64 + all.len()].copy_from_slice(&all);
    bytes
}

fn entry(length: u16, key: u16, flags: u16, child: Option<u64>) -> Vec<u8> {
    let mut bytes = vec![0u8; usize::from(length)];
    bytes[..8].copy_from_slice(&(7u64 | 3 << 48).to_le_bytes());
    bytes[8..10].copy_from_slice(&length.to_le_bytes());
    bytes[10..12].copy_from_slice(&key.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    if let Some(child) = child {
        let at = bytes.len() - 8;
        bytes[at..].copy_from_slice(&child.to_le_bytes());
    }
    bytes
}

#[test]
fn entries_end_at_the_end_entry() {
    let mut bytes = block(
        5,
        &[
            entry(96, 68, 1, Some(9)),
            entry(24, 0, 3, Some(4)),
            entry(96, 68, 0, None),
        ],
    );
    mend_block(&mut bytes, 5, 0).unwrap();
    let entries: Vec<_> = block_entries(&bytes).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 2);
    assert_eq!(
        entries[0].file,
        Reference {
            number: 7,
            sequence: 3
        }
    );
    assert_eq!(
        (entries[0].child, entries[0].key.len(), entries[0].next),
        (Some(Vcn(9)), 68, 160)
    );
    assert!(entries[1].is_end && entries[1].child == Some(Vcn(4)));
}

#[test]
fn impossible_blocks_and_entries_are_damage() {
    let good = block(5, &[entry(96, 68, 0, None), entry(16, 0, 2, None)]);
    assert!(mend_block(&mut good.clone(), 6, 0).is_err());
    for (at, value) in [(0, 0), (28, 0xFF), (31, 0x7F), (24, 4)] {
        let mut bad = good.clone();
        bad[at] = value;
        let refused = mend_block(&mut bad, 5, 0).is_err();
        assert!(refused || block_entries(&bad).is_err() || at == 28, "{at}");
    }
    for bad in [
        entry(16, 0, 0, None),
        entry(96, 90, 0, None),
        entry(20, 0, 0, None),
    ] {
        let bytes = block(5, &[bad]);
        let mut entries = block_entries(&bytes).unwrap();
        let first = entries.next().unwrap();
        assert!(first.is_err() || entries.next().unwrap().is_err());
        assert!(entries.next().is_none());
    }
    let mut endless = block(5, &[entry(16, 0, 0, None)]);
    endless[72] = 0;
    assert!(block_entries(&endless).unwrap().next().unwrap().is_err());
}
