//! What is forgotten and pinned of a machine, and what holds for all points.

use crate::memory::Memory;
use crate::records::{envelope, record, with_machine};
use cairn_store::Store;
use cairn_store::catalog;
use cairn_store::layout::{self, MACHINE_RETENTION};
use cairn_store::policy::Policy;
use std::sync::LazyLock;

/// A machine's record of points that were forgotten, and of pins.
pub fn retention(data: &[u8]) -> bool {
    static STORE: LazyLock<(Memory, Store)> = LazyLock::new(with_machine);
    let (folder, store) = &*STORE;
    let home = layout::machine_folder("m");
    let path = format!("{home}/{MACHINE_RETENTION}");
    folder.put(&path, data.to_vec());
    let _as_it_is = catalog::retention_of(store, &home);
    folder.put(&path, envelope(*b"CAIRNRTN", 1, data));
    let Ok(retention) = catalog::retention_of(store, &home) else {
        return false;
    };
    let mut before = 0;
    for (first, last) in retention.forgotten() {
        assert!(before < *first && first <= last);
        assert!(!retention.is_forgotten(first - 1));
        assert!(retention.is_forgotten(*first) && retention.is_forgotten(*last));
        before = *last;
    }
    assert_eq!(retention.highest_forgotten(), before);
    assert_eq!(retention.is_forgotten(u64::MAX), before == u64::MAX);
    // A number is never given twice: rather none.
    match catalog::next_sequence(store, "m") {
        Ok(next) => assert!(next > before),
        Err(_) => assert_eq!(before, u64::MAX),
    }
    for (point, pin) in retention.pins() {
        assert_eq!(retention.pin(point), Some(pin));
        assert!(!pin.note.contains(char::is_control));
    }
    true
}

/// The store's policy.
pub fn policy(data: &[u8]) -> bool {
    let policy = record::<Policy>(data);
    if let Some(policy) = &policy {
        let _sane = policy.check();
    }
    policy.is_some()
}
