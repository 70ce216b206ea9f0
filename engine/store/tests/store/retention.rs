//! Points are forgotten on purpose or not at all: what protects them, what is recorded, and what happens when the record is lost.

use crate::catalog::{file, folder, publish, spoil};
use crate::kit::{Kit, TestClock, TestDisk, noise, open_disk};
use cairn_base::read_at::read_vec;
use cairn_base::{Kind, PointId, Result, Silent};
use cairn_store::catalog::{
    self, ForgetOptions, Forgotten, Pin, Protection, Survey, Walkable, accept_gone, gone,
};
use cairn_store::layout::{self, POLICY};
use cairn_store::{Point, Store, verify};
use std::collections::HashSet;
use std::sync::Arc;

const DAY: i64 = 86_400;
const NOW: i64 = 1_900_000_000;

fn survey(store: &Store, machine: &str) -> Result<Survey> {
    Survey::of(store, &layout::machine_folder(machine))
}

/// Forgets points as a process of its own would.
fn forget(kit: &Kit, points: &[&Point], options: &ForgetOptions) -> Result<Forgotten> {
    let store = kit.reopen();
    let survey = survey(&store, &points[0].record.machine)?;
    forget_by(&store, &survey, points, options)
}

fn forget_by(
    store: &Store,
    survey: &Survey,
    points: &[&Point],
    options: &ForgetOptions,
) -> Result<Forgotten> {
    let wanted: HashSet<PointId> = points.iter().map(|point| point.id).collect();
    let permit = store.writer()?;
    let clock = TestClock::at(NOW);
    catalog::forget(store, &permit, survey, &wanted, options, &clock)
}

fn numbers(done: &Forgotten) -> Vec<u64> {
    done.forgotten.iter().map(|file| file.sequence).collect()
}

/// The numbers of the machine's points that can be read.
fn there(kit: &Kit, machine: &str) -> Vec<u64> {
    let listing = catalog::machine_points(&kit.reopen(), machine).unwrap();
    let points = listing.points.iter();
    points.map(|point| point.record.sequence).collect()
}

/// What keeps anybody from deleting chunks.
fn problems(kit: &Kit) -> Vec<String> {
    let problems = Walkable::default().check(&kit.reopen(), false).unwrap();
    problems.iter().map(ToString::to_string).collect()
}

fn pin(kit: &Kit, point: &Point, until: Option<i64>) {
    let store = kit.reopen();
    let permit = store.writer().unwrap();
    let path = layout::machine_folder(&point.record.machine);
    let pin = Pin {
        until,
        note: "before the move".to_string(),
    };
    assert!(catalog::set_pin(&store, &permit, &path, point.id, Some(pin)).unwrap());
}

fn accept(kit: &Kit, machine: &str) -> Result<catalog::Accepted> {
    let store = kit.reopen();
    let permit = store.writer()?;
    accept_gone(&store, &permit, &layout::machine_folder(machine))
}

/// A machine with so many points of small disks.
fn with_points(count: u64) -> (Kit, Vec<Point>) {
    let kit = Kit::new();
    let backup = |seed| kit.backup("m", TestDisk::new(noise(20_000, seed)));
    let points = (1..=count).map(backup).collect();
    (kit, points)
}

#[test]
fn what_is_forgotten_is_recorded_and_nobody_misses_it() {
    let (kit, points) = with_points(4);
    let open = open_disk(&kit.reopen(), &points[1], "disk0");
    let done = forget(&kit, &[&points[1], &points[3]], &ForgetOptions::default()).unwrap();
    assert_eq!((numbers(&done), done.kept), (vec![2, 4], vec![]));
    assert_eq!(there(&kit, "m"), [1, 3]);
    // Whoever has it open reads on.
    assert_eq!(read_vec(&open, 0, 20_000).unwrap(), noise(20_000, 2));
    let store = kit.reopen();
    let retention = catalog::retention_of(&store, &layout::machine_folder("m")).unwrap();
    assert_eq!(retention.forgotten(), [(2, 2), (4, 4)]);
    assert_eq!(problems(&kit), [""; 0]);
    assert!(verify(&store, false, &Silent).unwrap().is_clean());
    assert!(accept(&kit, "m").unwrap().is_nothing());
    // Numbers go on above what was forgotten.
    let next = kit.backup("m", TestDisk::new(noise(20_000, 9)));
    assert_eq!((next.record.sequence, next.record.previous), (5, 4));
    assert_eq!(kit.read(&next).unwrap(), noise(20_000, 9));
    // Once more is nothing.
    let survey = survey(&store, "m").unwrap();
    let again = forget_by(&store, &survey, &[&points[1]], &ForgetOptions::default()).unwrap();
    assert_eq!(again, Forgotten::default());
    assert_eq!(problems(&kit), [""; 0]);
}

#[test]
fn a_machine_loses_its_last_point_only_on_purpose() {
    let (kit, points) = with_points(3);
    let all: Vec<&Point> = points.iter().collect();
    let done = forget(&kit, &all, &ForgetOptions::default()).unwrap();
    assert_eq!(numbers(&done), [1, 2]);
    assert_eq!(done.kept, [(points[2].file(), vec![Protection::Last])]);
    let empty = ForgetOptions {
        allow_empty: true,
        ..ForgetOptions::default()
    };
    assert_eq!(numbers(&forget(&kit, &[&points[2]], &empty).unwrap()), [3]);
    let store = kit.reopen();
    assert_eq!(catalog::machines(&store).unwrap().0, [""; 0]);
    assert_eq!(gone(&store, &[]).unwrap(), [""; 0]);
    assert_eq!(problems(&kit), [""; 0]);
    let left: Vec<_> = std::fs::read_dir(folder(&kit, "m")).unwrap().collect();
    assert_eq!(left.len(), 2, "the lock and the record: {left:?}");
    let next = kit.backup("m", TestDisk::new(noise(20_000, 9)));
    assert_eq!((next.record.sequence, next.record.previous), (4, 3));
    assert!(next.record.warnings.is_empty());
    assert_eq!(catalog::machines(&kit.reopen()).unwrap().0, ["m"]);
    assert_eq!(problems(&kit), [""; 0]);
}

#[test]
fn what_changed_since_the_survey_is_heeded() {
    let kit = Kit::new();
    let points: Vec<Point> = (1..=5)
        .map(|n| publish(&kit, "m", n, NOW - (9 - n as i64) * DAY, false))
        .collect();
    let store = kit.reopen();
    let before = survey(&store, "m").unwrap();
    pin(&kit, &points[0], None);
    pin(&kit, &points[1], Some(NOW - 1));
    let permit = store.writer().unwrap();
    // The fifth is 4 days old, the fourth 5.
    catalog::protect(&store, &permit, 4 * DAY as u64 + 3600, false).unwrap();
    drop(permit);
    std::fs::remove_file(file(&kit, &points[2])).unwrap();
    let newest = publish(&kit, "m", 6, NOW - DAY, false);
    let all: Vec<&Point> = points.iter().collect();
    let done = forget_by(&store, &before, &all, &ForgetOptions::default()).unwrap();
    assert_eq!(numbers(&done), [2, 4]);
    let immutable = Protection::Immutable(4 * DAY + 3600);
    assert_eq!(
        done.kept,
        [
            (points[0].file(), vec![Protection::Pinned(None)]),
            (points[4].file(), vec![immutable])
        ]
    );
    assert_eq!(there(&kit, "m"), [1, 5, 6]);
    // The pins of what is left stay, those of what went are gone.
    let retention = catalog::retention_of(&store, &layout::machine_folder("m")).unwrap();
    let pins: Vec<PointId> = retention.pins().map(|(point, _)| point).collect();
    assert_eq!(pins, [points[0].id]);
    // The caller's own wish.
    let young = ForgetOptions {
        min_age: 2 * DAY,
        ..ForgetOptions::default()
    };
    let done = forget(&kit, &[&newest], &young).unwrap();
    assert_eq!(done.kept[0].1.len(), 2);
}

#[test]
fn a_pin_can_be_taken_away() {
    let (kit, points) = with_points(2);
    pin(&kit, &points[0], Some(NOW + 1000));
    let done = forget(&kit, &[&points[0]], &ForgetOptions::default()).unwrap();
    assert_eq!(done.kept[0].1, [Protection::Pinned(Some(NOW + 1000))]);
    let store = kit.reopen();
    let permit = store.writer().unwrap();
    let path = layout::machine_folder("m");
    let unpin = |id| catalog::set_pin(&store, &permit, &path, id, None);
    assert!(unpin(points[0].id).unwrap());
    assert!(!unpin(points[0].id).unwrap());
    assert_eq!(unpin(PointId([7; 32])).unwrap_err().kind(), Kind::NotFound);
    let note = Pin {
        until: None,
        note: "a\nb".to_string(),
    };
    let bad = catalog::set_pin(&store, &permit, &path, points[0].id, Some(note));
    assert_eq!(bad.unwrap_err().kind(), Kind::Invalid);
    drop(permit);
    assert_eq!(
        numbers(&forget(&kit, &[&points[0]], &ForgetOptions::default()).unwrap()),
        [1]
    );
}

#[test]
fn a_clock_before_the_newest_point_forgets_nothing() {
    let kit = Kit::new();
    let points = [
        publish(&kit, "m", 1, NOW - DAY, false),
        publish(&kit, "m", 2, NOW + DAY, false),
    ];
    let refused = forget(&kit, &[&points[0]], &ForgetOptions::default()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Denied);
    assert!(refused.to_string().contains("the clock says"), "{refused}");
    let right = ForgetOptions {
        clock_is_right: true,
        ..ForgetOptions::default()
    };
    assert_eq!(numbers(&forget(&kit, &[&points[0]], &right).unwrap()), [1]);
    // What is said to be made tomorrow is no older for that.
    let store = kit.reopen();
    let permit = store.writer().unwrap();
    catalog::protect(&store, &permit, 60, false).unwrap();
    drop(permit);
    let empty = ForgetOptions {
        allow_empty: true,
        ..right
    };
    let done = forget(&kit, &[&points[1]], &empty).unwrap();
    assert_eq!(done.kept[0].1, [Protection::Immutable(60)]);
}

#[test]
fn a_point_that_is_gone_is_missed_until_the_user_accepts_it() {
    let (kit, points) = with_points(5);
    forget(&kit, &[&points[0]], &ForgetOptions::default()).unwrap();
    for gone in [1, 3] {
        std::fs::remove_file(file(&kit, &points[gone])).unwrap();
    }
    let found = problems(&kit);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("point number 2 in") && found[1].contains("point number 4 in"));
    assert!(!verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    // One that has only lost its name is not gone.
    let renamed = folder(&kit, "m").join(points[2].file().name().replace('-', "_"));
    std::fs::rename(file(&kit, &points[2]), &renamed).unwrap();
    let accepted = accept(&kit, "m").unwrap();
    std::fs::rename(&renamed, file(&kit, &points[2])).unwrap();
    assert_eq!(accepted.machine, "m");
    assert_eq!(accepted.numbers, [(2, 2), (4, 4)]);
    assert!(!accepted.pins_lost && !accepted.is_empty);
    assert_eq!(problems(&kit), [""; 0]);
    assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    // All of them.
    for left in [2, 4] {
        std::fs::remove_file(file(&kit, &points[left])).unwrap();
    }
    assert_eq!(problems(&kit).len(), 1);
    assert!(accept(&kit, "m").unwrap().is_empty);
    assert_eq!(problems(&kit), [""; 0]);
    let next = kit.backup("m", TestDisk::new(noise(20_000, 9)));
    assert_eq!(
        next.record.sequence, 5,
        "nothing says that there was a fifth"
    );
    assert_eq!(accept(&kit, "nobody").unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn a_lost_record_keeps_every_point_until_a_new_one_is_made() {
    for damage in ["spoilt", "gone", "newer"] {
        let (kit, points) = with_points(4);
        pin(&kit, &points[1], None);
        forget(&kit, &[&points[2]], &ForgetOptions::default()).unwrap();
        let record = folder(&kit, "m").join("retention");
        match damage {
            "spoilt" => spoil(&record),
            "gone" => std::fs::remove_file(&record).unwrap(),
            _ => {
                let mut bytes = std::fs::read(&record).unwrap();
                bytes[8] = 2;
                let end = bytes.len() - 16;
                let sum = cairn_store::hash::checksum(&bytes[..end]);
                bytes[end..].copy_from_slice(&sum);
                std::fs::write(&record, bytes).unwrap();
            }
        }
        let kind = match damage {
            "newer" => Kind::Unsupported,
            _ => Kind::Damaged,
        };
        let refused = forget(&kit, &[&points[0]], &ForgetOptions::default()).unwrap_err();
        assert_eq!(refused.kind(), kind, "{damage}");
        assert!(refused.to_string().contains("retention"), "{refused}");
        assert_eq!(there(&kit, "m"), [1, 2, 4], "{damage}");
        let found = problems(&kit);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(!verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
        // Other machines are none the worse, and backups go on.
        let other = [1, 2].map(|seed| kit.backup("n", TestDisk::new(noise(9000, seed))));
        forget(&kit, &[&other[0]], &ForgetOptions::default()).unwrap();
        let next = kit.backup("m", TestDisk::new(noise(20_000, 9)));
        assert_eq!(next.record.sequence, 5);
        assert_eq!(next.record.warnings.len(), 1, "{:?}", next.record.warnings);
        if damage == "newer" {
            assert_eq!(accept(&kit, "m").unwrap_err().kind(), Kind::Unsupported);
            continue;
        }
        let accepted = accept(&kit, "m").unwrap();
        assert!(accepted.pins_lost);
        assert_eq!(accepted.numbers, [(3, 3)]);
        assert_eq!(problems(&kit), [""; 0]);
        assert_eq!(there(&kit, "m"), [1, 2, 4, 5]);
        let done = forget(&kit, &[&points[1]], &ForgetOptions::default()).unwrap();
        assert_eq!(numbers(&done), [2]);
        assert!(verify(&kit.reopen(), false, &Silent).unwrap().is_clean());
    }
}

#[test]
fn a_point_that_cannot_be_read_goes_only_when_that_is_said() {
    let (kit, points) = with_points(3);
    spoil(&file(&kit, &points[1]));
    let looked = survey(&kit.reopen(), "m").unwrap();
    assert_eq!(looked.unreadable().len(), 1);
    assert_eq!(problems(&kit).len(), 1);
    let done = forget(&kit, &[&points[0], &points[1]], &ForgetOptions::default()).unwrap();
    assert_eq!(numbers(&done), [1]);
    assert_eq!(
        done.kept,
        [(points[1].file(), vec![Protection::Unreadable])]
    );
    let damaged = ForgetOptions {
        damaged: true,
        ..ForgetOptions::default()
    };
    // Pins and immutability hold for it too: its age is that of the point before it, or what its name says.
    pin(&kit, &points[1], None);
    let store = kit.reopen();
    let permit = store.writer().unwrap();
    let age = (NOW - points[1].record.seconds) as u64;
    catalog::protect(&store, &permit, age + 600, false).unwrap();
    let kept = forget_by(
        &store,
        &survey(&store, "m").unwrap(),
        &[&points[1]],
        &damaged,
    )
    .unwrap();
    assert_eq!(kept.kept[0].1.len(), 2);
    let path = layout::machine_folder("m");
    catalog::set_pin(&store, &permit, &path, points[1].id, None).unwrap();
    drop(permit);
    let later = TestClock::at(NOW + 1200);
    let permit = store.writer().unwrap();
    let wanted = [points[1].id].into();
    let looked = survey(&store, "m").unwrap();
    let done = catalog::forget(&store, &permit, &looked, &wanted, &damaged, &later).unwrap();
    assert_eq!(numbers(&done), [2]);
    drop(permit);
    assert_eq!(problems(&kit), [""; 0]);
    // A point of a newer version is none that is damaged.
    let mut bytes = std::fs::read(file(&kit, &points[2])).unwrap();
    bytes[8] += 1;
    let end = bytes.len() - 16;
    let sum = cairn_store::hash::checksum(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum);
    std::fs::write(file(&kit, &points[2]), bytes).unwrap();
    assert_eq!(
        forget(&kit, &[&points[2]], &damaged).unwrap_err().kind(),
        Kind::Unsupported
    );
}

#[test]
fn the_immutability_is_raised_and_never_lowered_nor_lost() {
    let (kit, points) = with_points(2);
    let store = kit.reopen();
    let permit = store.writer().unwrap();
    let protect = |seconds, damaged| catalog::protect(&store, &permit, seconds, damaged);
    assert_eq!(catalog::immutability(&store).unwrap(), 0);
    assert_eq!(protect(100, false).unwrap(), Some(0));
    assert_eq!(protect(100, false).unwrap(), Some(100));
    assert_eq!(protect(99, true).unwrap_err().kind(), Kind::Denied);
    assert_eq!(protect(u64::MAX, false).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(protect(200, false).unwrap(), Some(100));
    assert_eq!(catalog::immutability(&store).unwrap(), 200);
    for gone in [false, true] {
        let path = kit.path().join(POLICY);
        if gone {
            std::fs::remove_file(&path).unwrap();
        } else {
            spoil(&path);
        }
        let refused = forget(&kit, &[&points[0]], &ForgetOptions::default()).unwrap_err();
        assert_eq!(refused.kind(), Kind::Damaged);
        assert!(!verify(&store, false, &Silent).unwrap().is_clean());
        assert_eq!(protect(300, false).unwrap_err().kind(), Kind::Damaged);
        assert_eq!(protect(300, true).unwrap(), None);
        assert!(verify(&store, false, &Silent).unwrap().is_clean());
    }
    assert_eq!(
        numbers(&forget(&kit, &[&points[0]], &ForgetOptions::default()).unwrap()),
        [1]
    );
}

#[test]
fn strangers_among_the_machines_stop_deletions() {
    let (kit, _points) = with_points(1);
    std::fs::create_dir(kit.path().join("points/old")).unwrap();
    let found = problems(&kit);
    assert!(found.len() == 1 && found[0].contains("old"), "{found:?}");
    std::fs::remove_dir(kit.path().join("points/old")).unwrap();
    std::fs::write(folder(&kit, "m").join("x".repeat(80)), "").unwrap();
    assert_eq!(problems(&kit).len(), 1);
}

#[test]
fn several_forget_while_a_machine_is_backed_up() {
    let (kit, points) = with_points(12);
    let kit = Arc::new(kit);
    // But for the last one, which may be the machine's only one for a moment.
    let (last, points) = points.split_last().unwrap();
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4usize)
            .map(|thread| {
                let kit = kit.clone();
                scope.spawn(move || {
                    let mut done = Vec::new();
                    // Each point by two of them.
                    for (at, point) in points.iter().enumerate() {
                        if at % 4 == thread || (at + 1) % 4 == thread {
                            let options = ForgetOptions::default();
                            let found = forget(&kit, &[point], &options).unwrap();
                            done.extend(numbers(&found));
                        }
                    }
                    done
                })
            })
            .collect();
        let made: Vec<Point> = (100..106)
            .map(|seed| kit.backup("m", TestDisk::new(noise(20_000, seed))))
            .collect();
        let mut done: Vec<u64> = threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect();
        done.sort_unstable();
        assert_eq!(done, (1..=11).collect::<Vec<u64>>(), "each by one of them");
        made
    });
    let store = kit.reopen();
    let listing = catalog::machine_points(&store, "m").unwrap();
    assert_eq!(listing.points[0], *last);
    assert_eq!(listing.points[1..], made);
    assert_eq!(made[5].record.sequence, 18);
    for (point, seed) in made.iter().zip(100..) {
        assert_eq!(kit.read(point).unwrap(), noise(20_000, seed));
    }
    assert_eq!(problems(&kit), [""; 0]);
    assert!(verify(&store, false, &Silent).unwrap().is_clean());
}
