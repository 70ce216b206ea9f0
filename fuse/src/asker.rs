//! Asks the kernel to forget points: those that are held beyond the number to be kept open, and those that are not in the store any more.

use crate::tree::Tree;
use fuser::{INodeNo, Notifier};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often it is looked for points that were forgotten by the store.
const LOOK: Duration = Duration::from_secs(10);

/// The thread that asks: never one that answers requests, because the kernel may wait for an answer of ours before it forgets.
pub struct Asker {
    tree: Weak<Tree>,
    notifier: Notifier,
    /// Where it is mounted.
    root: PathBuf,
    asked: Receiver<u32>,
}

impl Asker {
    /// Starts it; [`Holds::end`](crate::holds::Holds::end) ends it.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(tree: &Arc<Tree>, notifier: Notifier, root: PathBuf) -> std::io::Result<()> {
        let (sender, asked) = channel();
        let asker = Asker {
            tree: Arc::downgrade(tree),
            notifier,
            root,
            asked,
        };
        std::thread::Builder::new()
            .name("cairn-forget".into())
            .spawn(move || asker.run())?;
        tree.holds().listen(sender);
        Ok(())
    }

    fn run(self) {
        if let Some(tree) = self.tree.upgrade() {
            tree.holds().asks_from(rustix::thread::gettid());
        }
        loop {
            let asked = self.asked.recv_timeout(LOOK);
            let Some(tree) = self.tree.upgrade() else {
                return;
            };
            match asked {
                Ok(slot) => self.ask(&tree, slot),
                Err(RecvTimeoutError::Timeout) => {
                    let mut slots = tree.not_in_store();
                    slots.extend(tree.holds().beyond());
                    for slot in slots {
                        self.ask(&tree, slot);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Whatever it answers: what it does not forget now stays open, and is asked for again.
    fn ask(&self, tree: &Tree, slot: u32) {
        for entry in tree.entries_of(slot) {
            if !tree.holds().has(slot) {
                return;
            }
            // What was in use when it was asked for hangs on a name that the kernel has dropped, and stays even when it is not in use any more. A look-up
            // puts it back in its place; the tree answers this thread even if the store has forgotten the point.
            let _ = std::fs::symlink_metadata(self.root.join(&entry.path));
            let name = entry.path.file_name().unwrap_or_default();
            let _ = self.notifier.inval_entry(INodeNo(entry.folder), name);
        }
    }
}
