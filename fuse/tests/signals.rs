//! Signals that come at any moment. Skipped, saying so, where there is no `/dev/fuse`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests are here"
)]

mod shared;

use cairn_fuse::Unmounted;
use cairn_fuse::device::{self, Connection, Manner};
use rustix::fs::Advice;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::gettid;
use shared::mounted::{image, is_mounted};
use shared::{fixture, until};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tempfile::tempdir;

/// The threads of this process whose names begin so.
fn threads(named: &str) -> Vec<Pid> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap);
    let of_name = tasks.filter(|task| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with(named))
    });
    let number = |name: &std::ffi::OsStr| Pid::from_raw(name.to_str()?.parse().ok()?);
    of_name
        .filter_map(|task| number(&task.file_name()))
        .collect()
}

/// Runs `job` while the threads get one signal after the other.
fn disturbed<T>(threads: &[Pid], job: impl FnOnce() -> T) -> T {
    let (going_on, sent) = (AtomicBool::new(true), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while going_on.load(Ordering::Relaxed) {
                for thread in threads {
                    // The kernel gives it to this thread, as long as there is one of its number.
                    let _ = kill_process(*thread, Signal::USR1);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        while sent.load(Ordering::Relaxed) < 1000 {
            std::thread::yield_now();
        }
        let result = job();
        going_on.store(false, Ordering::Relaxed);
        result
    })
}

#[test]
fn signals_neither_end_a_mount_nor_hide_its_end() {
    let Some(image) = image() else { return };
    let caught = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, caught.clone()).unwrap();
    until("the event loops are there", || threads("fuser-").len() >= 8);
    let loops = threads("fuser-");
    let file = File::open(image.at("files/disk0/p1/large")).unwrap();
    let wanted = fs::read(fixture().source.join("large")).unwrap();
    disturbed(&loops, || {
        let mut bytes = vec![0; wanted.len()];
        for _ in 0..20 {
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes == wanted);
        }
    });
    assert!(caught.load(Ordering::Relaxed));
    assert_eq!(threads("fuser-").len(), loops.len());
    drop(file);

    let folder = tempdir().unwrap();
    let manner = Manner {
        allow_other: false,
        writable: false,
        source: "cairn",
    };
    let (ended, place) = device::mount(folder.path(), manner).unwrap();
    let connection = Connection::of(&ended).unwrap();
    // The kernel's greeting: from now on there is nothing to be read, and asking may be interrupted.
    assert!(rustix::io::read(&ended, &mut [0; 16 << 10]).unwrap() > 0);
    let looks = |wanted| (0..20_000).all(|_| connection.is_up() == wanted);
    // Asked in the midst of signals, it says what is so.
    assert!(disturbed(&[gettid()], || looks(true)));
    device::unmount(&place, false, &|| true).unwrap();
    assert!(disturbed(&[gettid()], || looks(false)));

    let unmounted = disturbed(&[gettid()], || image.mounted.unmount().unwrap());
    assert_eq!(unmounted, Unmounted::Cleanly);
    assert!(!is_mounted(image.folder.path()));
}
