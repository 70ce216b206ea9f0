//! The catalog at scale: 100,000 points of 1,000 machines, and as many of one machine.
//!
//! With `CATALOG_STORE=FOLDER` the stores are made in `FOLDER/many` and `FOLDER/one` and kept, so that commands can be measured on them.

use crate::unsynced::Unsynced;
use cairn_base::{Folder, Kind, LocalFolder, SystemClock, Time};
use cairn_store::{
    Consistency, CutParameters, DiskRecord, ImageFacts, Point, PointName, PointRecord, Store,
    catalog,
};
use criterion::Criterion;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const MACHINES: u64 = 1_000;
const POINTS: u64 = 100_000;
const HOUR: i64 = 3_600;
const FIRST: i64 = 1_700_000_000;

fn name(machine: u64) -> String {
    format!("Server {machine:04}")
}

fn record(machine: u64, sequence: u64) -> PointRecord {
    let mut root = [0; 32];
    for (byte, from) in root.iter_mut().zip(
        machine
            .to_le_bytes()
            .into_iter()
            .chain(sequence.to_le_bytes()),
    ) {
        *byte = from;
    }
    PointRecord {
        machine: name(machine),
        sequence,
        previous: 0,
        seconds: FIRST + i64::try_from(sequence).unwrap() * HOUR,
        import: false,
        made: FIRST + i64::try_from(sequence).unwrap() * HOUR,
        base: Some(root),
        consistency: Consistency::Crash,
        disks: vec![DiskRecord {
            name: "disk0".to_string(),
            size: 100 << 30,
            root,
            image: ImageFacts {
                format: "vhdx dynamic".to_string(),
                path: format!("/var/lib/images/server-{machine:04}/disk0.vhdx"),
                identity: "2f4c6a0e-7d1b-4a39-9c55-0d6a4b1e8f27".to_string(),
                sector_size: 512,
                file_size: 60 << 30,
                modified_ns: 1_700_000_000_000_000_000,
            },
            excluded: vec![],
            mixed: false,
        }],
        stats: Default::default(),
        warnings: vec![],
        host: "host01".to_string(),
        program: "cairn 0.1.0".to_string(),
        origins: Vec::new(),
    }
}

/// A store with [`POINTS`] points of so many machines.
fn make(path: &Path, machines: u64) -> Arc<Store> {
    if !path.exists() {
        let started = Instant::now();
        std::fs::create_dir_all(path).unwrap();
        let folder: Arc<dyn Folder> = Arc::new(Unsynced(LocalFolder::new(path)));
        let store = Store::create(folder, CutParameters::default(), &SystemClock).unwrap();
        for machine in 0..machines {
            drop(catalog::lock_machine(&store, &name(machine)).unwrap());
            for sequence in 1..=POINTS / machines {
                catalog::publish_point(&store, record(machine, sequence)).unwrap();
            }
        }
        println!(
            "catalog: {POINTS} points of {machines} machines made in {:.1} s",
            started.elapsed().as_secs_f64()
        );
    }
    Arc::new(Store::open(Arc::new(LocalFolder::new(path))).unwrap())
}

/// What a backup asks of the catalog before it reads and before it publishes.
fn backup_start(store: &Store, machine: &str) -> (i64, Point, Option<String>, u64) {
    let names = catalog::point_names(store, machine).unwrap();
    let now = Time::from_seconds(FIRST);
    (
        catalog::choose_time(&names.points, None, now)
            .unwrap()
            .time
            .seconds,
        catalog::latest_of(store, machine, &names).unwrap(),
        catalog::machine_name(store, machine).unwrap(),
        catalog::next_sequence(store, machine).unwrap(),
    )
}

fn place(temp: &tempfile::TempDir) -> PathBuf {
    std::env::var_os("CATALOG_STORE").map_or_else(|| temp.path().to_path_buf(), PathBuf::from)
}

pub fn catalog(c: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let place = place(&temp);
    let mut group = c.benchmark_group("catalog");
    for (label, folder, machines) in [
        ("100 of 1,000 machines", "many", MACHINES),
        ("100,000 of one machine", "one", 1),
    ] {
        let made = std::cell::LazyCell::new(|| make(&place.join(folder), machines));
        let machine = name(machines / 2);
        let find = |text: String| {
            let name = PointName::parse(&text).unwrap();
            catalog::find(&made, &name)
        };
        group.bench_function(format!("latest, {label}"), |b| {
            b.iter(|| find(format!("{machine}@latest")).unwrap());
        });
        group.bench_function(format!("at a time, {label}"), |b| {
            let time = Time::from_seconds(FIRST + 50 * HOUR).folder_name();
            b.iter(|| find(format!("{machine}@{time}")).unwrap());
        });
        group.bench_function(format!("start of a backup, {label}"), |b| {
            b.iter(|| backup_start(black_box(&made), &machine));
        });
        group.bench_function(format!("names of a machine's points, {label}"), |b| {
            b.iter(|| catalog::point_names(&made, &machine).unwrap().points.len());
        });
        group.bench_function(format!("points of a machine, {label}"), |b| {
            b.iter(|| {
                catalog::machine_points(&made, &machine)
                    .unwrap()
                    .points
                    .len()
            });
        });
        group.bench_function(format!("prefix of an id, {label}"), |b| {
            let id = catalog::latest(&made, &machine).unwrap().id.to_string();
            b.iter(|| match find(id[..12].to_string()) {
                Ok(point) => point.record.sequence,
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Invalid);
                    0
                }
            });
        });
        if machines > 1 {
            group.bench_function(format!("machines, {label}"), |b| {
                b.iter(|| assert_eq!(catalog::machines(&made).unwrap().0.len(), 1_000));
            });
            group.bench_function(format!("all points, {label}"), |b| {
                b.iter(|| assert_eq!(catalog::all_points(&made).unwrap().points.len(), 100_000));
            });
        }
    }
    group.finish();
}
