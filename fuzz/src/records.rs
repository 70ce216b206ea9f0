//! The sealed records, and names that say something.

use crate::memory::Memory;
use cairn_base::{Folder, Kind, PackId, SystemClock, Time};
use cairn_store::codec::{self, Record};
use cairn_store::damage::DamageList;
use cairn_store::hash::checksum;
use cairn_store::header::Header;
use cairn_store::layout::{self, DAMAGE, LOCKS, PROOFS, PointFile};
use cairn_store::map::Shape;
use cairn_store::session::{Manifest, SessionRecord};
use cairn_store::state::State;
use cairn_store::{CutParameters, PointName, PointRecord, Proofs, Store, catalog, names};
use std::fmt::Debug;
use std::sync::{Arc, LazyLock};

/// The store's header.
pub fn header(data: &[u8]) -> bool {
    let header = record::<Header>(data);
    if let Some(header) = &header {
        let _sane = (header.writable(), header.cut.check());
    }
    header.is_some()
}

/// A slot of the state.
pub fn state(data: &[u8]) -> bool {
    let state = record::<State>(data);
    if let Some(state) = &state {
        let unanswered = state.unanswered_packs();
        assert!(
            state
                .condemned_packs()
                .all(|pack| unanswered.contains(&pack))
        );
        assert!(unanswered.len() <= state.condemned.len() + state.replaced.len());
    }
    state.is_some()
}

/// A recovery point.
pub fn point(data: &[u8]) -> bool {
    let Some(point) = record::<PointRecord>(data) else {
        return false;
    };
    for disk in &point.disks {
        if let Ok(shape) = Shape::of(disk.size) {
            assert_eq!(shape.size(), disk.size);
            assert!(shape.height() <= 5);
            let last = shape.regions().saturating_sub(1);
            assert!(disk.size == 0 || shape.region_length(last) > 0);
        }
    }
    true
}

/// What a session says of itself.
pub fn session(data: &[u8]) -> bool {
    record::<SessionRecord>(data).is_some()
}

/// What a session is about to make public.
pub fn manifest(data: &[u8]) -> bool {
    record::<Manifest>(data).is_some()
}

/// The list of what is known to be damaged.
pub fn damage(data: &[u8]) -> bool {
    let folder = Memory::default();
    folder.create_folder(LOCKS).unwrap();
    folder.put(DAMAGE, data.to_vec());
    let _as_it_is = DamageList::read(&folder);
    folder.put(DAMAGE, envelope(*b"CAIRNDMG", 1, data));
    let Ok(list) = DamageList::read(&folder) else {
        return false;
    };
    assert!(list.packs_with_damage().is_subset(&list.all_packs()));
    list.write(&folder).unwrap();
    assert_eq!(DamageList::read(&folder).unwrap(), list);
    true
}

/// When packs were last proven good: what time it is now, a time before, and the record.
pub fn proofs(data: &[u8]) -> bool {
    let Some((times, payload)) = data.split_first_chunk::<16>() else {
        return false;
    };
    let time = |bytes: &[u8]| Time::from_seconds(i64::from_le_bytes(bytes.try_into().unwrap()));
    let (now, made) = (time(&times[..8]), time(&times[8..]));
    let folder = Memory::default();
    folder.create_folder(LOCKS).unwrap();
    folder.put(PROOFS, payload.to_vec());
    let _as_it_is = Proofs::read(&folder);
    folder.put(PROOFS, envelope(*b"CAIRNPRF", 2, payload));
    let Ok(proofs) = Proofs::read(&folder) else {
        return false;
    };
    proofs.write(&folder).unwrap();
    assert_eq!(Proofs::read(&folder).unwrap(), proofs);
    // Packs that it may know, and one that it does not.
    let parts = payload.get(8..).unwrap_or_default().chunks_exact(16);
    let packs: Vec<_> = parts
        .map(|id| (PackId(id.try_into().unwrap()), u64::MAX))
        .chain([(PackId([0xab; 16]), 1)])
        .collect();
    let summary = proofs.summary(packs.iter().copied(), now);
    let count = packs.len() as u64;
    assert!(summary.unproven_packs <= count);
    assert_eq!(summary.oldest.is_some(), summary.unproven_packs < count);
    assert!(summary.oldest <= summary.newest && summary.newest <= Some(now));
    let seconds = summary.unverified_seconds(made, now);
    assert!(seconds.is_some_and(|seconds| seconds >= 0));
    for (pack, _) in &packs {
        let (checked, decoded) = (proofs.of(*pack, false, now), proofs.of(*pack, true, now));
        assert!(checked.max(decoded) <= Some(now));
    }
    true
}

/// A store with the folder of a machine `m`.
pub fn with_machine() -> (Memory, Store) {
    let folder = Memory::default();
    let made = Store::create(
        Arc::new(folder.clone()),
        CutParameters::default(),
        &SystemClock,
    );
    folder.create_folder(&layout::machine_folder("m")).unwrap();
    (folder, made.unwrap())
}

/// The file with a machine's name.
pub fn machine_name(data: &[u8]) -> bool {
    static STORE: LazyLock<(Memory, Store)> = LazyLock::new(with_machine);
    let (folder, store) = &*STORE;
    let path = format!("{}/name", layout::machine_folder("m"));
    folder.put(&path, data.to_vec());
    let _as_it_is = catalog::machine_name(store, "m");
    folder.put(&path, envelope(*b"CAIRNMCH", 1, data));
    match catalog::machine_name(store, "m") {
        Ok(Some(name)) => {
            assert_eq!(name.to_lowercase(), "m");
            true
        }
        _ => false,
    }
}

/// Decodes `data` as a whole file, and as the payload of one whose envelope is right: a fuzzer does not guess checksums.
pub(crate) fn record<R: Record + PartialEq + Debug>(data: &[u8]) -> Option<R> {
    if let Ok(record) = codec::open::<R>(data) {
        let sealed = codec::seal(&record).unwrap();
        assert_eq!(codec::open::<R>(&sealed).unwrap(), record);
        // An older version is written as this one.
        if data[8..12] != R::VERSION.to_le_bytes() {
            return Some(record);
        }
        // Only the zeros of the envelope are not looked at.
        assert_eq!(sealed[..12], data[..12]);
        assert_eq!(sealed[16..sealed.len() - 16], data[16..data.len() - 16]);
    }
    let file = envelope(R::MAGIC, R::VERSION, data);
    let other = codec::open::<R>(&envelope(R::MAGIC, R::VERSION.wrapping_add(1), data));
    assert_eq!(other.unwrap_err().kind(), Kind::Unsupported);
    match codec::open::<R>(&file) {
        Ok(record) => {
            assert_eq!(codec::seal(&record).unwrap(), file, "{record:?}");
            Some(record)
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Damaged);
            None
        }
    }
}

/// A file whose envelope is right.
pub(crate) fn envelope(magic: [u8; 8], version: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(payload);
    let sum = checksum(&bytes);
    bytes.extend(sum);
    bytes
}

/// Names of points' files, of points, machines and disks.
pub fn names(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let file = PointFile::parse(text);
    if let Some(file) = &file {
        assert_eq!(file.name(), text);
    }
    if names::check_machine(text).is_ok() {
        assert!(!text.contains(['/', '@', ':', '\0']) && text.len() <= 128);
        assert!(!text.starts_with('.'));
    }
    if names::is_disk_name(text) {
        assert!(text.len() <= 64 && !text.contains(['/', '=']));
    }
    let point = PointName::parse(text);
    file.is_some() || point.is_ok()
}
