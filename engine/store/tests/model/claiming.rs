//! Backups that rely on each other: none calls something its own that may never be public (M1), and none waits for ever.

use crate::check;
use crate::claims::{Claims, Waited, Writer};
use crate::sync::be_impatient;
use cairn_base::ChunkId;
use shuttle::sync::Mutex;
use shuttle::thread;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How a backup goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    /// It fails before its last publication.
    Fails,
    /// It gives others up at any moment.
    Impatient,
}

/// Two tasks of two chunks each, in this order.
type Disk = [[u8; 2]; 2];

type Public = Arc<Mutex<BTreeSet<u8>>>;

fn id(chunk: u8) -> ChunkId {
    ChunkId([chunk; 32])
}

fn publish(writer: &Writer, public: &Public, mine: &mut Vec<u8>, tasks: u64) {
    public.lock().unwrap().extend(mine.iter().copied());
    writer.published(tasks);
    for chunk in mine.drain(..) {
        writer.release(&id(chunk).prefix());
    }
}

/// A backup as the product makes one; answers what became of waiting, or `None` if it failed.
fn back_up(claims: &Arc<Claims>, public: &Public, disk: Disk, fate: Fate) -> Option<Waited> {
    if fate == Fate::Impatient {
        be_impatient();
    }
    let writer = claims.enter();
    let mut mine = Vec::new();
    for (task, chunks) in (0u64..).zip(disk) {
        writer.begin(task);
        for chunk in chunks {
            if !public.lock().unwrap().contains(&chunk) && writer.claim(&id(chunk)) {
                mine.push(chunk);
            }
        }
        if writer.is_wanted(task + 1) {
            publish(&writer, public, &mut mine, task + 1);
        }
    }
    if fate == Fate::Fails {
        return None;
    }
    publish(&writer, public, &mut mine, disk.len() as u64);
    let waited = writer.wait(&|| false).unwrap();
    if waited == Waited::Public {
        let public = public.lock().unwrap();
        assert!(
            disk.iter().flatten().all(|chunk| public.contains(chunk)),
            "it is not public"
        );
    }
    Some(waited)
}

/// All of them at once.
fn together(backups: &[(Disk, Fate)]) {
    let (claims, public) = (Arc::new(Claims::default()), Public::default());
    let fails = backups.iter().any(|(_, fate)| *fate == Fate::Fails);
    let threads: Vec<_> = backups
        .iter()
        .map(|(disk, fate)| {
            let (claims, public, disk, fate) = (claims.clone(), public.clone(), *disk, *fate);
            thread::spawn(move || (fate, back_up(&claims, &public, disk, fate)))
        })
        .collect();
    for thread in threads {
        let (fate, waited) = thread.join().unwrap();
        assert_eq!(waited.is_none(), fate == Fate::Fails);
        // Nobody is given up who neither fails nor is waited for without patience.
        assert!(waited != Some(Waited::InVain) || fails || fate == Fate::Impatient);
    }
    assert_eq!(claims.writers(), 0);
    // What they left is free again.
    let next = claims.enter();
    assert!((1..=4).all(|chunk| next.claim(&id(chunk))));
}

const ONE: Disk = [[1, 2], [3, 4]];
/// The same in the other order, so that each relies on the other.
const OTHER: Disk = [[4, 3], [2, 1]];

#[test]
fn two_that_rely_on_each_other() {
    check(4000, || together(&[(ONE, Fate::Well), (OTHER, Fate::Well)]));
}

#[test]
fn three_of_which_one_fails() {
    check(4000, || {
        together(&[(ONE, Fate::Well), (OTHER, Fate::Fails), (OTHER, Fate::Well)]);
    });
}

#[test]
fn one_that_has_no_patience() {
    check(4000, || {
        together(&[
            (ONE, Fate::Impatient),
            (OTHER, Fate::Well),
            (ONE, Fate::Fails),
        ]);
    });
}
