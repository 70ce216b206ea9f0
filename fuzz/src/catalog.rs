//! Names of machines and disks, to the files of their points and back.

use crate::memory::Memory;
use cairn_base::{Kind, SystemClock, Time};
use cairn_store::catalog::{
    all_points, find, latest, lock_machine, machine_name, machines, next_sequence, point_names,
    publish_point, read_point,
};
use cairn_store::names::{check_machine, is_disk_name};
use cairn_store::point::BackupStats;
use cairn_store::{
    Consistency, CutParameters, DiskRecord, ImageFacts, Point, PointName, PointRecord, Store,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Points of machines whose names stand in `data`, with a zero behind each; the one after it is that of its disk.
pub fn points(data: &[u8]) -> bool {
    let folder = Memory::default();
    let cut = CutParameters::default();
    let store = Store::create(Arc::new(folder), cut, &SystemClock).unwrap();
    let words: Vec<&str> = data
        .split(|byte| *byte == 0)
        .take(12)
        .filter_map(|word| std::str::from_utf8(word).ok())
        .collect();
    // Regardless of case a machine is one.
    let mut made: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    for (number, word) in (0i64..).zip(&words) {
        if check_machine(word).is_err() {
            assert!(PointName::parse(&format!("{word}@latest")).is_err());
            continue;
        }
        let next = words.get(number as usize + 1);
        let disk = next.filter(|name| is_disk_name(name)).unwrap_or(&"disk0");
        let point = publish(&store, word, disk, 1_800_000_000 + number * 60);
        made.entry(word.to_lowercase()).or_default().push(point);
    }
    check(&store, &words, &made);
    !made.is_empty()
}

fn publish(store: &Store, machine: &str, disk: &str, seconds: i64) -> Point {
    let _lock = lock_machine(store, machine).unwrap();
    let known = machine_name(store, machine).unwrap();
    let record = PointRecord {
        machine: known.unwrap_or_else(|| machine.to_string()),
        sequence: next_sequence(store, machine).unwrap(),
        previous: 0,
        seconds,
        import: seconds % 120 == 0,
        made: seconds,
        base: None,
        consistency: Consistency::Crash,
        disks: vec![DiskRecord {
            name: disk.to_string(),
            size: 0,
            root: [0; 32],
            image: ImageFacts::default(),
            excluded: Vec::new(),
            mixed: false,
        }],
        stats: BackupStats::default(),
        warnings: Vec::new(),
        host: "host".to_string(),
        program: "cairn".to_string(),
        origins: Vec::new(),
    };
    publish_point(store, record).unwrap()
}

fn check(store: &Store, words: &[&str], made: &BTreeMap<String, Vec<Point>>) {
    let (names, failed) = machines(store).unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(names.iter().all(|name| words.contains(&&name[..])));
    let mut folded: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    folded.sort();
    assert!(folded.iter().eq(made.keys()));
    let listing = all_points(store).unwrap();
    assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
    assert_eq!(
        listing.points.len(),
        made.values().map(Vec::len).sum::<usize>()
    );
    for (machine, points) in made {
        let spelt = &points[0].record.machine;
        for name in [spelt, machine] {
            // A name that is other in lower case twice is no name of this machine.
            if name.to_lowercase() != *machine {
                continue;
            }
            assert_eq!(machine_name(store, name).unwrap().as_ref(), Some(spelt));
            let found = find(store, &PointName::parse(&format!("{name}@latest")).unwrap());
            // Imports are never the latest one.
            match points.iter().rfind(|point| !point.record.import) {
                Some(last) => {
                    assert_eq!(latest(store, name).unwrap(), *last);
                    assert_eq!(found.unwrap(), *last);
                }
                None => assert_eq!(found.unwrap_err().kind(), Kind::NotFound),
            }
        }
        let files = point_names(store, machine).unwrap();
        assert!(files.damaged.is_empty() && files.points.len() == points.len());
        for (file, point) in files.points.iter().zip(points) {
            assert_eq!(read_point(store, machine, file).unwrap(), *point);
            let at = PointName::At(machine.clone(), Time::from_seconds(point.record.seconds));
            assert_eq!(find(store, &at).unwrap(), *point);
            let id = PointName::parse(&point.id.to_string()).unwrap();
            assert_eq!(find(store, &id).unwrap(), *point);
        }
    }
}
