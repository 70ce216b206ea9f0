//! Asks the kernel to forget points: those that are held beyond the number to be kept open, and those that are not in the store any more.

use crate::tree::Tree;
use fuser::{INodeNo, Notifier};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often it is looked for points that were forgotten by the store.
const LOOK: Duration = Duration::from_secs(10);

/// The thread that asks: never one that answers requests, because the kernel may wait for an answer of ours before it forgets.
pub struct Asker {
    tree: Weak<Tree>,
    notifier: Notifier,
    asked: Receiver<u32>,
}

impl Asker {
    /// Starts it; [`Holds::end`](crate::holds::Holds::end) ends it.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(tree: &Arc<Tree>, notifier: Notifier) -> std::io::Result<()> {
        let (sender, asked) = channel();
        let asker = Asker {
            tree: Arc::downgrade(tree),
            notifier,
            asked,
        };
        std::thread::Builder::new()
            .name("cairn-forget".into())
            .spawn(move || asker.run())?;
        tree.holds().listen(sender);
        Ok(())
    }

    fn run(self) {
        loop {
            let asked = self.asked.recv_timeout(LOOK);
            let Some(tree) = self.tree.upgrade() else {
                return;
            };
            match asked {
                Ok(slot) => self.ask(&tree, slot),
                Err(RecvTimeoutError::Timeout) => {
                    for slot in tree.not_in_store() {
                        self.ask(&tree, slot);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Whatever it answers: what it does not forget now stays held, and may be asked for again.
    fn ask(&self, tree: &Tree, slot: u32) {
        for (folder, name) in tree.entries_of(slot) {
            if tree.holds().has(slot) {
                let name = OsStr::from_bytes(&name);
                let _ = self.notifier.inval_entry(INodeNo(folder), name);
            }
        }
    }
}
