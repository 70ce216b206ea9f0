//! Points are listed and chosen by the names of their files, and a name or a record that was changed is noticed.

use crate::kit::{Kit, R, TestDisk, input, noise};
use cairn_base::{Error, Kind, Silent, SystemClock, Time};
use cairn_store::catalog::{self, Moment};
use cairn_store::layout::{self, PointFile};
use cairn_store::{BackupOptions, Consistency, Point, PointName, PointRecord, Store, stats};
use std::path::PathBuf;

const HOUR: i64 = 3600;

pub fn publish(kit: &Kit, machine: &str, sequence: u64, seconds: i64, import: bool) -> Point {
    let record = PointRecord {
        machine: machine.to_string(),
        sequence,
        previous: 0,
        seconds,
        import,
        made: seconds,
        base: None,
        consistency: Consistency::Crash,
        disks: vec![],
        stats: Default::default(),
        warnings: vec![],
        host: String::new(),
        program: String::new(),
        origins: Vec::new(),
    };
    drop(catalog::lock_machine(&kit.store, machine).unwrap());
    catalog::publish_point(&kit.store, record).unwrap()
}

pub fn folder(kit: &Kit, machine: &str) -> PathBuf {
    kit.path().join(layout::machine_folder(machine))
}

pub fn file(kit: &Kit, point: &Point) -> PathBuf {
    folder(kit, &point.record.machine).join(point.file().name())
}

pub fn spoil(path: &PathBuf) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn find(store: &Store, name: &str) -> Result<Point, Error> {
    catalog::find(store, &PointName::parse(name).unwrap())
}

fn at(point: &Point) -> String {
    format!("{}@{}", point.record.machine, point.time().folder_name())
}

#[test]
fn many_points_are_listed_in_order_and_found_by_every_name() {
    let kit = Kit::new();
    // More than are read at a time, two machines in turn, so that order is not that of publication.
    let mut points: Vec<Point> = (1..=150u64)
        .flat_map(|n| ["b", "A"].map(|machine| publish(&kit, machine, n, n as i64 * HOUR, false)))
        .collect();
    points.sort_by_key(|p| (p.record.machine.to_lowercase(), p.record.sequence));
    let store = kit.reopen();
    let listing = catalog::all_points(&store).unwrap();
    assert_eq!((&listing.points, listing.damaged.len()), (&points, 0));
    assert_eq!(catalog::machines(&store).unwrap().0, ["A", "b"]);
    assert_eq!(
        catalog::machine_points(&store, "B").unwrap().points,
        points[150..]
    );
    let names = catalog::point_names(&store, "a").unwrap();
    let files: Vec<PointFile> = points[..150].iter().map(Point::file).collect();
    assert_eq!(names.points, files);
    for point in [&points[0], &points[149], &points[222]] {
        assert_eq!(find(&store, &at(point)).unwrap(), *point);
        assert_eq!(find(&store, &point.id.to_string()).unwrap(), *point);
    }
    assert_eq!(find(&store, "a@latest").unwrap(), points[149]);
    let counted = stats(&store, &SystemClock).unwrap();
    assert_eq!((counted.points, counted.machines), (300, 2));
    // Nobody has been there.
    let nobody = catalog::point_names(&store, "nobody").unwrap();
    assert!(nobody.points.is_empty() && nobody.damaged.is_empty());
    assert_eq!(catalog::machine_name(&store, "nobody").unwrap(), None);
}

#[test]
fn only_the_record_asked_for_is_read() {
    let kit = Kit::new();
    let points: Vec<Point> = (1..=9)
        .map(|n| publish(&kit, "m", n, n as i64 * HOUR, n == 9))
        .collect();
    for point in &points {
        if point.record.sequence != 4 && point.record.sequence != 8 {
            spoil(&file(&kit, point));
        }
    }
    let store = kit.reopen();
    assert_eq!(find(&store, "m@latest").unwrap(), points[7]);
    assert_eq!(find(&store, &at(&points[3])).unwrap(), points[3]);
    assert_eq!(catalog::machines(&store).unwrap().0, ["m"]);
    let names = catalog::point_names(&store, "m").unwrap();
    assert_eq!((names.points.len(), names.damaged.len()), (9, 0));
    assert_eq!(catalog::next_sequence(&store, "m").unwrap(), 10);
    // Whoever asks for the others is told, and so is whoever lists them.
    assert_eq!(
        find(&store, &at(&points[0])).unwrap_err().kind(),
        Kind::Damaged
    );
    let listing = catalog::machine_points(&store, "m").unwrap();
    assert_eq!((listing.points.len(), listing.damaged.len()), (2, 7));
    assert_eq!(stats(&store, &SystemClock).unwrap().damaged.len(), 7);
}

#[test]
fn a_renamed_point_is_named_and_never_taken_for_another() {
    let kit = Kit::new();
    let old = publish(&kit, "m", 1, HOUR, false);
    let new = publish(&kit, "m", 2, 2 * HOUR, false);
    let name = new.file().name();
    for changed in [
        name.replacen("0000000002", "0000000001", 1),
        name.replacen("-7200-", "-7201-", 1),
        name.replacen("-7200-", "-7200i-", 1),
        format!("{name}.bak"),
        name.to_uppercase(),
    ] {
        let moved = folder(&kit, "m").join(&changed);
        std::fs::rename(file(&kit, &new), &moved).unwrap();
        let store = kit.reopen();
        // The older one is not what was asked for.
        let error = find(&store, "m@latest").unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{changed}");
        assert!(error.to_string().contains(&changed), "{error}");
        assert_eq!(find(&store, &at(&new)).unwrap_err().kind(), Kind::Damaged);
        assert_eq!(find(&store, &at(&old)).unwrap(), old);
        let listing = catalog::all_points(&store).unwrap();
        assert_eq!(
            (listing.points.len(), listing.damaged.len()),
            (1, 1),
            "{changed}"
        );
        assert!(listing.damaged[0].to_string().contains(&changed));
        std::fs::rename(moved, file(&kit, &new)).unwrap();
    }
    assert_eq!(find(&kit.store, "m@latest").unwrap(), new);
    // A stranger's file is told, but it is too short to be a point.
    std::fs::write(folder(&kit, "m").join("notes"), "x").unwrap();
    assert_eq!(find(&kit.store, "m@latest").unwrap(), new);
    assert_eq!(
        catalog::point_names(&kit.store, "m").unwrap().damaged.len(),
        1
    );
    assert_eq!(catalog::all_points(&kit.store).unwrap().damaged.len(), 1);
}

#[test]
fn a_record_under_another_points_name_is_damage() {
    let kit = Kit::new();
    let point = publish(&kit, "m", 1, HOUR, false);
    // Names that check, but say something else than the record.
    let right = point.file();
    let wrong = [
        PointFile {
            sequence: 2,
            ..right
        },
        PointFile {
            seconds: 7,
            ..right
        },
        PointFile {
            import: true,
            ..right
        },
    ];
    for wrong in wrong {
        let copy = folder(&kit, "m").join(wrong.name());
        std::fs::copy(file(&kit, &point), &copy).unwrap();
        let error = catalog::read_point(&kit.store, "m", &wrong).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        assert_eq!(error.id(), Some(point.id.to_string().as_str()));
        let listing = catalog::machine_points(&kit.store, "m").unwrap();
        assert_eq!((listing.points.len(), listing.damaged.len()), (1, 1));
        std::fs::remove_file(copy).unwrap();
    }
    // So is one in another machine's folder.
    publish(&kit, "other", 1, HOUR, false);
    std::fs::copy(file(&kit, &point), folder(&kit, "other").join(right.name())).unwrap();
    let listing = catalog::machine_points(&kit.store, "other").unwrap();
    assert_eq!((listing.points.len(), listing.damaged.len()), (1, 1));
}

#[test]
fn a_machine_keeps_the_spelling_of_its_name() {
    let kit = Kit::new();
    let first = kit.backup("Büro 1", TestDisk::new(noise(R / 64, 1)));
    let name = folder(&kit, "büro 1").join("name");
    let written = std::fs::read(&name).unwrap();
    let second = kit.backup("BÜRO 1", TestDisk::new(noise(R / 64, 2)));
    assert_eq!(second.record.machine, "Büro 1");
    assert_eq!(find(&kit.store, "bÜro 1@latest").unwrap(), second);
    // Lost or damaged, it is taken from a point, told if it is damaged, and written anew by the next backup.
    for damage in 0..4 {
        let told = match damage {
            0 => std::fs::remove_file(&name).map(|()| 0).unwrap(),
            1 => std::fs::write(&name, "").map(|()| 1).unwrap(),
            2 => {
                spoil(&name);
                1
            }
            _ => {
                publish(&kit, "other", 1, HOUR, false);
                std::fs::copy(folder(&kit, "other").join("name"), &name).unwrap();
                1
            }
        };
        let store = kit.reopen();
        assert_eq!(
            catalog::machine_name(&store, "büro 1").unwrap().unwrap(),
            "Büro 1"
        );
        assert!(
            catalog::machines(&store)
                .unwrap()
                .0
                .contains(&"Büro 1".to_string())
        );
        let listing = catalog::machine_points(&store, "büro 1").unwrap();
        assert_eq!(listing.damaged.len(), told);
        assert_eq!(listing.points[..2], [first.clone(), second.clone()]);
        let point = kit.backup("büro 1", TestDisk::new(noise(R / 64, 3)));
        assert_eq!(point.record.machine, "Büro 1");
        assert_eq!(std::fs::read(&name).unwrap(), written);
    }
}

#[test]
fn a_name_of_a_newer_version_is_never_written_over() {
    let kit = Kit::new();
    publish(&kit, "m", 1, HOUR, false);
    let name = folder(&kit, "m").join("name");
    let mut bytes = std::fs::read(&name).unwrap();
    bytes[8] = 99;
    let end = bytes.len() - 16;
    let sum = cairn_store::hash::checksum(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum);
    std::fs::write(&name, &bytes).unwrap();
    kit.backup("m", TestDisk::new(noise(R / 64, 1)));
    assert_eq!(std::fs::read(&name).unwrap(), bytes);
    assert_eq!(catalog::machines(&kit.store).unwrap().0, ["m"]);
}

#[test]
fn a_machine_of_which_all_is_lost_is_named() {
    let kit = Kit::new();
    publish(&kit, "other", 1, HOUR, false);
    let point = publish(&kit, "m", 1, HOUR, false);
    spoil(&file(&kit, &point));
    std::fs::remove_file(folder(&kit, "m").join("name")).unwrap();
    let (names, errors) = catalog::machines(&kit.store).unwrap();
    assert_eq!((names.len(), errors.len()), (1, 1));
    assert_eq!(errors[0].id(), Some(point.id.to_string().as_str()));
    // A folder without points, of a first backup that failed, is no machine.
    drop(catalog::lock_machine(&kit.store, "never").unwrap());
    let (names, errors) = catalog::machines(&kit.store).unwrap();
    assert_eq!((names.len(), errors.len()), (1, 1));
    assert_eq!(catalog::machine_name(&kit.store, "never").unwrap(), None);
    // The next backup does not know how the name was spelled.
    let next = kit.backup("M", TestDisk::new(noise(R / 64, 1)));
    assert_eq!((&*next.record.machine, next.record.sequence), ("M", 2));
}

#[test]
fn times_in_use_are_known_without_their_records() {
    let kit = Kit::new();
    let now = kit.backup("m", TestDisk::new(noise(R / 64, 1)));
    let import = |seconds| {
        let options = BackupOptions {
            time: Some(Time::from_seconds(seconds)),
            ..BackupOptions::new("m")
        };
        let disks = [input("disk0", TestDisk::new(noise(R / 64, 2)))];
        cairn_store::backup(&kit.store, &disks, &options, &Silent, &kit.clock).map(|r| r.point)
    };
    let old = import(-5).unwrap();
    assert!(old.record.import && old.file().name().contains("--5i-"));
    spoil(&file(&kit, &old));
    assert_eq!(import(-5).unwrap_err().kind(), Kind::Exists);
    assert_eq!(find(&kit.store, "m@latest").unwrap(), now);
    // Two points in one second: the later one moves on, by the names alone.
    let names = catalog::point_names(&kit.store, "m").unwrap();
    let moment = catalog::choose_time(&names.points, None, now.time()).unwrap();
    let next = Time::from_seconds(now.record.seconds + 1);
    let expected = Moment {
        time: next,
        import: false,
        clock_went_back: false,
    };
    assert_eq!(moment, expected);
    // A renamed file's number is not given again.
    let high = PointFile {
        sequence: 70,
        ..old.file()
    }
    .name()
    .replacen("--5i-", "--6i-", 1);
    std::fs::rename(file(&kit, &old), folder(&kit, "m").join(high)).unwrap();
    assert_eq!(catalog::next_sequence(&kit.store, "m").unwrap(), 71);
}
