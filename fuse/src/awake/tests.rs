use super::*;
use std::io::Read;

/// What was said, up to and with `last`.
fn said(from: &mut impl Read, last: i32) -> Vec<i32> {
    let mut all = Vec::new();
    while all.last() != Some(&last) {
        let mut value = [0; 4];
        from.read_exact(&mut value).unwrap();
        all.push(i32::from_ne_bytes(value));
    }
    all
}

#[test]
fn requests_that_follow_closely_keep_processors_awake_and_their_end_lets_them_sleep() {
    let (mut from, to) = std::io::pipe().unwrap();
    let awake = Awake::with(File::from(std::os::fd::OwnedFd::from(to)), AT_ONCE);
    assert_eq!(said(&mut from, WHATEVER), [WHATEVER]);
    for _ in 0..2 {
        let going_on = Arc::new(AtomicBool::new(true));
        std::thread::scope(|scope| {
            let go = going_on.clone();
            let awake = &awake;
            scope.spawn(move || {
                while go.load(Ordering::Relaxed) {
                    awake.asked();
                    std::thread::yield_now();
                }
            });
            assert_eq!(said(&mut from, AT_ONCE), [AT_ONCE]);
            going_on.store(false, Ordering::Relaxed);
        });
        assert_eq!(said(&mut from, WHATEVER), [WHATEVER]);
    }
    drop(awake);
    // The file is closed: nothing is asked of the kernel any more.
    assert_eq!(from.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_device_that_takes_nothing_costs_nothing() {
    let (from, to) = std::io::pipe().unwrap();
    drop(from);
    let awake = Awake::with(File::from(std::os::fd::OwnedFd::from(to)), AT_ONCE);
    for _ in 0..1000 {
        awake.asked();
    }
}

#[test]
fn virtual_machines_ask_for_no_time_at_all() {
    let temp = tempfile::tempdir().unwrap();
    let driver = temp.path().join("current_driver");
    assert_eq!(wish(&driver), SHALLOW);
    std::fs::write(&driver, "intel_idle\n").unwrap();
    assert_eq!(wish(&driver), SHALLOW);
    std::fs::write(&driver, "haltpoll\n").unwrap();
    assert_eq!(wish(&driver), AT_ONCE);
}
