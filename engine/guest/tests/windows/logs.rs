//! Hives that were in use: what their logs hold is as if it were in them.

use crate::made::{BINS, MadeKey, dirty, entry, head, hive, marvin, put, sum, system};
use crate::{Everything, everything, open};
use cairn_base::{Kind, ReadAt};
use cairn_guest::hive::Hive;
use std::sync::Arc;

/// A hive before and after a change; the later one is longer.
fn versions() -> [Vec<u8>; 2] {
    let before = system(&[(r"\DosDevices\C:", vec![1; 12])]);
    let names: Vec<String> = (0..100).map(|n| format!(r"\DosDevices\E:{n}")).collect();
    let mut devices: Vec<(&str, Vec<u8>)> =
        names.iter().map(|name| (&**name, vec![3; 24])).collect();
    devices.push((r"\DosDevices\C:", vec![2; 12]));
    [before, system(&devices)]
}

fn with_logs(hive: &[u8], logs: &[Vec<u8>]) -> Hive {
    let logs: Vec<Arc<dyn ReadAt>> = logs
        .iter()
        .map(|log| Arc::new(log.clone()) as Arc<dyn ReadAt>)
        .collect();
    Hive::open(Arc::new(hive.to_vec()), &logs).unwrap()
}

fn read(hive: &Hive) -> Everything {
    everything(hive)
}

#[test]
fn entries_of_both_logs_are_applied_in_order() {
    let [before, after] = versions();
    let pages: Vec<usize> = (0..(after.len() - BINS) / 4096).collect();
    assert!(pages.len() > 2, "the later hive is longer");
    let old = dirty(before.clone(), 8);
    // What was in the first log before, a page that is wrong, and then the right one.
    let wrong = vec![0xee; after.len()];
    let first = [
        head(&before, 6, 8),
        entry(8, &wrong, &pages[..1]),
        entry(9, &wrong, &pages[1..]),
        entry(4, &wrong, &pages),
    ]
    .concat();
    let second = [head(&before, 6, 10), entry(10, &after, &pages)].concat();
    for logs in [[first.clone(), second.clone()], [second, first.clone()]] {
        let hive = with_logs(&old, &logs);
        assert_eq!(read(&hive), read(&open(&after)));
        let [note] = hive.notes() else {
            panic!("{:?}", hive.notes());
        };
        assert!(!note.is_defect && note.text.contains("applied in memory"));
    }
    // Without the second log it is what the first one says.
    let hive = with_logs(&old, &[first]);
    assert!(hive.root().is_err());
}

#[test]
fn an_entry_that_is_not_whole_ends_a_log() {
    let [before, after] = versions();
    let pages: Vec<usize> = (0..(after.len() - BINS) / 4096).collect();
    let old = dirty(before.clone(), 8);
    let good = [head(&before, 6, 8), entry(8, &after, &pages)].concat();
    assert_eq!(
        read(&with_logs(&old, std::slice::from_ref(&good))),
        read(&open(&after))
    );
    for at in [512, 516, 524, 530, 545, 552, 600, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let hive = with_logs(&old, &[bad]);
        assert_eq!(read(&hive), read(&open(&before)), "byte {at}");
        assert!(hive.notes()[0].is_defect);
    }
    // A gap: what was between is not known.
    let late = [head(&before, 6, 9), entry(9, &after, &pages)].concat();
    assert!(with_logs(&old, &[late]).notes()[0].is_defect);
    // A hive that was closed has nothing to do with what is in its log.
    assert_eq!(read(&with_logs(&before, &[good])), read(&open(&before)));
}

#[test]
fn pages_outside_of_the_hive_are_refused() {
    let [before, after] = versions();
    let old = dirty(before.clone(), 8);
    let mut long = entry(8, &after, &[0, 1]);
    put(&mut long, 40, 0x7fff_f000);
    let of_pages = marvin(&long[40..]);
    long[24..32].copy_from_slice(&of_pages.to_le_bytes());
    let of_head = marvin(&long[..32]);
    long[32..40].copy_from_slice(&of_head.to_le_bytes());
    let hive = with_logs(&old, &[[head(&before, 6, 8), long].concat()]);
    assert!(hive.notes()[0].is_defect, "{:?}", hive.notes());
    assert_eq!(read(&hive), read(&open(&before)));
}

#[test]
fn sectors_of_an_older_log_are_applied() {
    let [before, after] = versions();
    let old = dirty(before.clone(), 8);
    let mut log = head(&after, 1, 8);
    let sectors: Vec<usize> = (0..(after.len() - BINS) / 512)
        .filter(|n| {
            before.get(BINS + n * 512..BINS + (n + 1) * 512)
                != after.get(BINS + n * 512..BINS + (n + 1) * 512)
        })
        .collect();
    let mut map = vec![0u8; (after.len() - BINS) / 4096];
    for sector in &sectors {
        map[sector / 8] |= 1 << (sector % 8);
    }
    log.extend(b"DIRT");
    log.extend(map);
    log.resize(log.len().next_multiple_of(512), 0);
    for sector in sectors {
        log.extend(&after[BINS + sector * 512..BINS + (sector + 1) * 512]);
    }
    assert_eq!(read(&with_logs(&old, &[log.clone()])), read(&open(&after)));
    // One of another time is of another hive, and one that ends early was not written whole.
    let mut other = log.clone();
    other[12] ^= 1;
    sum(&mut other);
    log.truncate(log.len() - 512);
    for log in [other, log, b"regf".to_vec(), vec![0; 4096]] {
        let hive = with_logs(&old, &[log]);
        assert_eq!(read(&hive), read(&open(&before)));
        assert!(hive.notes()[0].is_defect, "{:?}", hive.notes());
    }
}

#[test]
fn a_log_is_no_hive() {
    let log = head(&hive(&MadeKey::new("ROOT")), 6, 8);
    let log = [log, vec![0; 8192]].concat();
    let error = Hive::open(Arc::new(log), &[]).err().unwrap();
    assert_eq!(error.kind(), Kind::Damaged);
}
