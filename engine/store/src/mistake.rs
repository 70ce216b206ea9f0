//! Mistakes that can be made on purpose, so that tests can show that each would be noticed.
//!
//! Only builds with debug assertions can make one. In a release build nothing can, and the question is no code at all.

/// What can be done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Folders that packs were renamed into are not synced.
    FoldersUnsynced,
    /// Packs come into their place after the segment and the state that name them.
    IndexFirst,
    /// Packs that are replaced are deleted before those that take their place are public.
    OldPacksGone,
    /// Packs are replaced, but the index goes on with the places in the old ones.
    StaleEntries,
    /// Chunks are given out without a look at their ids.
    ChunksUnchecked,
    /// The same, only for what was read through parity.
    ParityUnchecked,
    /// A backup does not ask what is known to be damaged.
    DamageUnheard,
    /// Publications do not wait for each other.
    PublishUnlocked,
}

#[cfg(debug_assertions)]
pub use switch::{Making, make};

#[cfg(debug_assertions)]
mod switch {
    use super::Mistake;
    use parking_lot::{Mutex, MutexGuard, RwLock};

    static MADE: RwLock<Option<Mistake>> = RwLock::new(None);
    static TURN: Mutex<()> = Mutex::new(());

    /// As long as it lives the mistake is made, by the whole process.
    pub struct Making(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

    /// Makes a mistake from now on, or `None`, when nobody else makes one.
    #[must_use]
    pub fn make(mistake: Option<Mistake>) -> Making {
        let turn = TURN.lock();
        *MADE.write() = mistake;
        Making(turn)
    }

    impl Drop for Making {
        fn drop(&mut self) {
            *MADE.write() = None;
        }
    }

    pub(super) fn made() -> Option<Mistake> {
        *MADE.read()
    }
}

/// Whether this mistake is to be made.
#[cfg(debug_assertions)]
pub(crate) fn is_made(mistake: Mistake) -> bool {
    switch::made() == Some(mistake)
}

/// Whether this mistake is to be made: it is not.
#[cfg(not(debug_assertions))]
pub(crate) const fn is_made(_mistake: Mistake) -> bool {
    false
}
