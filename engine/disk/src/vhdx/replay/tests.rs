use super::*;
use cairn_base::read_at::read_vec;
use proptest::prelude::*;

/// Sectors of the file, of which the first hold the log.
const SECTORS: u64 = 32;
const LOG: u64 = 8;

/// A change of the model: whole sectors from the first on, zeros or the content of a sector of the log.
fn changes() -> impl Strategy<Value = Vec<(u64, u64, Option<u64>)>> {
    let one = (0u64..SECTORS + 8, 0u64..12, prop::option::of(0..LOG));
    proptest::collection::vec(one, 0..20)
}

fn byte(offset: u64) -> u8 {
    (offset % 251) as u8 | 1
}

proptest! {
    #[test]
    fn what_is_read_is_what_the_changes_made(changes in changes(), longer in 0u64..3, at in 0u64..40 * SECTOR, length in 0usize..20_000) {
        let file: Vec<u8> = (0..SECTORS * SECTOR).map(byte).collect();
        let size = SECTORS * SECTOR + longer * 5000;
        let mut model = file.clone();
        model.resize(64 * SECTOR as usize, 0);
        let mut list = Vec::new();
        for (first, count, log) in &changes {
            let start = first * SECTOR;
            if let Some(from) = log {
                let sector = Sector { offset: start, from: from * SECTOR, leading: [1; 8], trailing: [2; 4] };
                let to = &mut model[start as usize..][..SECTOR as usize];
                to.copy_from_slice(&file[(from * SECTOR) as usize..][..SECTOR as usize]);
                to[..8].fill(1);
                to[4092..].fill(2);
                list.push(Change::Data(sector));
            } else {
                let end = start + count * SECTOR;
                model[start as usize..end as usize].fill(0);
                list.push(Change::Zero(start..end));
            }
        }
        let entry = Entry { sequence: 1, tail: 0, length: SECTOR, flushed_size: 0, last_size: size, changes: list };
        let replayed = over(Arc::new(file), &[entry]);
        prop_assert_eq!(replayed.size(), size);
        let at = at.min(size);
        let length = length.min((size - at) as usize);
        let read = read_vec(&*replayed, at, length).unwrap();
        prop_assert!(read == model[at as usize..][..length]);
        let mut expected = at;
        for extent in replayed.data_extents(at..at + length as u64).unwrap() {
            prop_assert!(extent.start >= expected && extent.end <= at + length as u64);
            prop_assert!(model[expected as usize..extent.start as usize].iter().all(|byte| *byte == 0));
            expected = extent.end;
        }
        prop_assert!(model[expected as usize..at as usize + length].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn zeros_of_any_length_take_one_range() {
    let entry = Entry {
        sequence: 1,
        tail: 0,
        length: SECTOR,
        flushed_size: 0,
        last_size: u64::MAX,
        changes: vec![Change::Zero(4096..u64::MAX - 4095)],
    };
    let replayed = over(Arc::new(vec![1; 8192]), &[entry]);
    assert_eq!(
        read_vec(&*replayed, 4090, 12).unwrap(),
        [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(read_vec(&*replayed, 1 << 60, 9).unwrap(), [0; 9]);
    let unchanged: Arc<dyn ReadAt> = Arc::new(vec![1; 8192]);
    assert_eq!(over(unchanged, &[]).size(), 8192);
}
