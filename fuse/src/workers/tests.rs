use super::*;
use std::sync::mpsc::channel;

#[test]
fn what_hangs_leaves_the_caller_free() {
    let workers = Workers::new(1);
    let (release, hang) = channel::<()>();
    let (done, heard) = channel();
    workers.run(move || {
        hang.recv().ok();
    });
    // With one loop that listens, everything runs elsewhere, and the hanging job holds nobody up.
    for n in 0..50 {
        let done = done.clone();
        workers.run(move || done.send(n).unwrap());
    }
    let mut seen: Vec<i32> = heard.iter().take(50).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    drop(release);
}

#[test]
fn with_loops_to_spare_a_job_runs_where_it_came() {
    let workers = Workers::new(4);
    let (done, heard) = channel();
    workers.run(move || done.send(std::thread::current().id()).unwrap());
    assert_eq!(heard.recv().unwrap(), std::thread::current().id());
}

#[test]
fn a_panic_ends_its_own_job_only() {
    for loops in [1, 4] {
        let workers = Workers::new(loops);
        workers.run(|| panic!("of this test"));
        let (done, heard) = channel();
        workers.run(move || done.send(()).unwrap());
        heard.recv().unwrap();
        assert_eq!(workers.busy.load(Ordering::Relaxed), 0);
    }
}
