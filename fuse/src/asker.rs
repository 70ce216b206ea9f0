//! Asks the kernel to forget points: those that are held beyond the number to be kept open, and those that are not in the store any more. What the mount itself keeps
//! open of the latter it closes.

use crate::device::Place;
use crate::tree::Tree;
use fuser::{INodeNo, Notifier};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often it is looked for points that were forgotten by the store.
const LOOK: Duration = Duration::from_secs(10);

/// The thread that asks: never one that answers requests, because the kernel may wait for an answer of ours before it forgets.
pub struct Asker {
    tree: Weak<Tree>,
    notifier: Notifier,
    /// Where it is mounted.
    place: Place,
    asked: Receiver<u32>,
    /// Closed when it has ended.
    _running: Sender<()>,
}

/// That the thread runs.
pub struct Asking(Receiver<()>);

impl Asking {
    /// Waits for its end, so long at most. Says whether it has ended.
    pub fn ends_within(&self, time: Duration) -> bool {
        self.0.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Ask(u32),
    Look,
    End,
}

impl Asker {
    /// Starts it; [`Holds::end`](crate::holds::Holds::end) ends it.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(tree: &Arc<Tree>, notifier: Notifier, place: Place) -> std::io::Result<Asking> {
        let (sender, asked) = channel();
        let (running, ends) = channel();
        let asker = Asker {
            tree: Arc::downgrade(tree),
            notifier,
            place,
            asked,
            _running: running,
        };
        std::thread::Builder::new()
            .name("cairn-forget".into())
            .spawn(move || asker.run())?;
        tree.holds().listen(sender);
        Ok(Asking(ends))
    }

    fn run(self) {
        if let Some(tree) = self.tree.upgrade() {
            tree.holds().asks_from(rustix::thread::gettid());
        }
        let mut looked = Instant::now();
        loop {
            let next = next(&self.asked, LOOK.saturating_sub(looked.elapsed()));
            if next == Next::End {
                return;
            }
            let Some(tree) = self.tree.upgrade() else {
                return;
            };
            if let Next::Ask(slot) = next {
                self.ask(&tree, slot);
                continue;
            }
            tree.close_forgotten();
            for slot in tree.not_in_store().into_iter().chain(tree.holds().beyond()) {
                self.ask(&tree, slot);
            }
            looked = Instant::now();
        }
    }

    /// Whatever it answers: what it does not forget now stays open, and is asked for again.
    fn ask(&self, tree: &Tree, slot: u32) {
        for entry in tree.entries_of(slot) {
            if !tree.holds().has(slot) {
                return;
            }
            // The kernel would take away with the name what others have mounted below it.
            if self.place.is_mounted_below(&entry.path).unwrap_or(true) {
                continue;
            }
            // Out of the tree of files, what is in use has no path by which it could be looked up.
            let path = self.place.now().ok().flatten();
            let path = path.map(|now| now.join(&entry.path));
            let look_up = || path.as_ref().map(std::fs::symlink_metadata);
            // What was in use when it was asked for may hang on a name that the kernel has dropped, and stays even when it is not in use any more. A look-up
            // puts it back in its place; the tree answers this thread even if the store has forgotten the point.
            let _ = look_up();
            let name = entry.path.file_name().unwrap_or_default();
            let _ = self.notifier.inval_entry(INodeNo(entry.folder), name);
            // Whoever stands in just this folder has no path until it is looked up again.
            let _ = look_up();
        }
    }
}

/// Waits for a point that is to be asked for, `left` at most: then it is time to look, however many are waiting to be asked for.
fn next(asked: &Receiver<u32>, left: Duration) -> Next {
    if left.is_zero() {
        return Next::Look;
    }
    match asked.recv_timeout(left) {
        Ok(slot) => Next::Ask(slot),
        Err(RecvTimeoutError::Timeout) => Next::Look,
        Err(RecvTimeoutError::Disconnected) => Next::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_in_time_however_many_are_asked_for() {
        let (sender, asked) = channel();
        for slot in 0..3 {
            sender.send(slot).unwrap();
        }
        let long = Duration::from_secs(1 << 20);
        assert_eq!(next(&asked, long), Next::Ask(0));
        assert_eq!(next(&asked, Duration::ZERO), Next::Look);
        assert_eq!(next(&asked, long), Next::Ask(1));
        assert_eq!(next(&asked, long), Next::Ask(2));
        assert_eq!(next(&asked, Duration::from_millis(1)), Next::Look);
        drop(sender);
        assert_eq!(next(&asked, long), Next::End);
    }
}
