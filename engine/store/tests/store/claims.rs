//! Who stores a chunk, and who waits for whom.

use cairn_base::ChunkId;
use cairn_store::claims::{Claims, Waited, Writer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn id(n: u8) -> ChunkId {
    ChunkId([n; 32])
}

#[test]
fn one_stores_and_the_other_waits_for_it() {
    let claims = Arc::new(Claims::default());
    let (a, b) = (claims.enter(), claims.enter());
    a.begin(4);
    assert!(a.claim(&id(1)));
    assert!(!a.claim(&id(1)) && a.holds(&id(1)) && !a.holds(&id(2)));
    assert!(!b.claim(&id(1)) && b.holds(&id(1)));
    assert!(b.claim(&id(2)));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| b.wait(&|| false));
        while !a.is_wanted(5) {
            std::thread::yield_now();
        }
        assert!(!a.is_wanted(4), "the fifth task is not written yet");
        a.published(4);
        assert!(!waiting.is_finished());
        a.published(5);
        assert_eq!(waiting.join().unwrap().unwrap(), Waited::Public);
    });
    assert!(!a.is_wanted(9));
    a.release(&id(1).prefix());
    assert!(b.claim(&id(1)), "after the publication the index knows it");
    a.release(&id(1).prefix());
    assert!(b.holds(&id(1)), "nobody releases another one's claim");
}

#[test]
fn who_relied_on_a_backup_that_failed_learns_it() {
    let claims = Arc::new(Claims::default());
    let (a, b) = (claims.enter(), claims.enter());
    a.begin(0);
    assert!(a.claim(&id(1)) && b.holds(&id(1)));
    drop(a);
    assert_eq!(b.wait(&|| false).unwrap(), Waited::InVain);
    assert!(!b.holds(&id(1)) && b.claim(&id(1)));
    assert_eq!(claims.writers(), 1);
}

#[test]
fn only_a_backup_that_stands_still_is_given_up() {
    let patience = Duration::from_secs(2);
    let claims = Arc::new(Claims::default());
    let (a, b) = (claims.enter(), claims.enter());
    a.begin(0);
    assert!(a.claim(&id(1)) && b.holds(&id(1)));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| b.wait_at_most(patience, &|| false));
        // Slow, but going on: longer than the other one's patience.
        let started = Instant::now();
        let mut task = 1;
        while started.elapsed() < patience + patience / 2 {
            std::thread::sleep(patience / 20);
            a.begin(task);
            task += 1;
        }
        a.published(task);
        assert_eq!(waiting.join().unwrap().unwrap(), Waited::Public);
    });
    a.begin(1000);
    assert!(a.claim(&id(2)) && b.holds(&id(2)));
    let waited = b.wait_at_most(Duration::from_millis(1), &|| false);
    assert_eq!(waited.unwrap(), Waited::InVain);
}

#[test]
fn waiting_can_be_interrupted() {
    let claims = Arc::new(Claims::default());
    let (a, b) = (claims.enter(), claims.enter());
    a.begin(0);
    assert!(a.claim(&id(1)) && b.holds(&id(1)));
    let stopped = b.wait(&|| true).unwrap_err();
    assert_eq!(stopped.kind(), cairn_base::Kind::Interrupted);
}

#[test]
fn of_many_threads_one_claims() {
    let claims = Arc::new(Claims::default());
    let writers: Vec<Writer> = (0..8).map(|_| claims.enter()).collect();
    let won = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for writer in &writers {
            let won = &won;
            scope.spawn(move || {
                for n in 0..=255 {
                    won.fetch_add(u64::from(writer.claim(&id(n))), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(won.into_inner(), 256);
}
