//! What a backup does in which order, and what it does when it fails unexpectedly.

use crate::kit::{Kit, R, TestDisk, input, noise};
use crate::watched::WatchedFolder;
use cairn_base::Silent;
use cairn_store::{BackupOptions, Store, backup};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

fn watched(kit: &Kit) -> (WatchedFolder, Arc<Store>) {
    let folder = WatchedFolder::new(kit.path());
    let store = Arc::new(Store::open(Arc::new(folder.clone())).unwrap());
    (folder, store)
}

#[test]
fn the_state_is_durable_before_the_point_is_public() {
    let kit = Kit::new();
    let disk = || [input("disk0", TestDisk::new(noise(50_000, 1)))];
    // The second one finds everything stored: it publishes no state of its own, but its point stands on that of the first.
    for machine in ["first", "second"] {
        let (folder, store) = watched(&kit);
        let options = BackupOptions::new(machine);
        backup(&store, &disk(), &options, &Silent, &kit.clock).unwrap();
        let log = folder.log();
        let is_point =
            |line: &String| line.starts_with("publish points/") && line.contains("/0000000001-");
        let point = log.iter().position(is_point).unwrap();
        let lock = log[..point]
            .iter()
            .rposition(|line| line == "lock locks/publish");
        let under_lock = &log[lock.unwrap()..point];
        assert!(under_lock.contains(&"sync ".to_string()), "{log:#?}");
    }
}

#[test]
fn a_writer_that_panics_leaves_nobody_waiting() {
    let kit = Kit::new();
    let (folder, store) = watched(&kit);
    folder.on_create(|| panic!("the disk bites, says the test"));
    // More regions than may be in flight, so that workers wait for the writer.
    let mut bytes = vec![0; 24 * R];
    for region in 0..24 {
        bytes[region * R..region * R + 5000].copy_from_slice(&noise(5000, region as u64));
    }
    let (ended, wait) = channel();
    let clock = cairn_base::SystemClock;
    let thread = std::thread::spawn(move || {
        let mut options = BackupOptions::new("m");
        options.threads = 2;
        let disks = [input("disk0", TestDisk::new(bytes))];
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            backup(&store, &disks, &options, &Silent, &clock).is_ok()
        }));
        ended.send(outcome.is_err()).unwrap();
    });
    let panicked = wait.recv_timeout(Duration::from_secs(60));
    assert!(panicked.expect("the workers wait for ever"));
    thread.join().unwrap();
    // Another process goes on as if nothing had been.
    let point = kit.backup("m", TestDisk::new(noise(50_000, 1)));
    assert!(kit.read(&point).unwrap() == noise(50_000, 1));
}
