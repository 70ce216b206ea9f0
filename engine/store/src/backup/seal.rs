//! The sealer: makes packs durable in a thread of its own, so that nobody waits for the disk.

use crate::pack::{PackWriter, SealedPack};
use cairn_base::{Error, Result};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// Packs that may wait to be sealed.
const WAITING: usize = 2;

/// Seals packs in the order they are given.
pub struct Sealer<'scope> {
    packs: SyncSender<(usize, PackWriter)>,
    sealed: Receiver<(usize, Result<SealedPack>)>,
    pending: usize,
    done: Vec<(usize, SealedPack)>,
    _thread: ScopedJoinHandle<'scope, ()>,
}

impl<'scope> Sealer<'scope> {
    /// Starts the thread.
    pub fn start<'env>(scope: &'scope Scope<'scope, 'env>) -> Sealer<'scope> {
        let (packs, waiting) = sync_channel::<(usize, PackWriter)>(WAITING);
        let (answer, sealed): (Sender<_>, _) = channel();
        let thread = scope.spawn(move || {
            for (number, pack) in waiting {
                // The receiver is gone only when the backup has failed already.
                if answer.send((number, pack.seal())).is_err() {
                    return;
                }
            }
        });
        Sealer {
            packs,
            sealed,
            pending: 0,
            done: Vec::new(),
            _thread: thread,
        }
    }

    /// Hands over a pack; `number` is its position in the segment's pack table.
    ///
    /// # Errors
    /// The first failure of any pack before.
    pub fn seal(&mut self, number: usize, pack: PackWriter) -> Result<()> {
        while let Ok(answer) = self.sealed.try_recv() {
            self.take(answer)?;
        }
        self.packs
            .send((number, pack))
            .map_err(|_| Error::invalid("the sealing thread has ended"))?;
        self.pending += 1;
        Ok(())
    }

    fn take(&mut self, (number, result): (usize, Result<SealedPack>)) -> Result<()> {
        self.pending -= 1;
        self.done.push((number, result?));
        Ok(())
    }

    /// The packs that are sealed by now, with their numbers.
    ///
    /// # Errors
    /// The first failure.
    pub fn ready(&mut self) -> Result<Vec<(usize, SealedPack)>> {
        while let Ok(answer) = self.sealed.try_recv() {
            self.take(answer)?;
        }
        Ok(std::mem::take(&mut self.done))
    }

    /// Waits for all packs and answers them with their numbers.
    ///
    /// # Errors
    /// The first failure.
    pub fn wait(&mut self) -> Result<Vec<(usize, SealedPack)>> {
        while self.pending > 0 {
            match self.sealed.recv() {
                Ok(answer) => self.take(answer)?,
                Err(_) => return Err(Error::invalid("the sealing thread has ended")),
            }
        }
        Ok(std::mem::take(&mut self.done))
    }
}
