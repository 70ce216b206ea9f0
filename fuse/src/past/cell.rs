//! Something that one thread finds out, while the others go on with what is known.

use crate::failure::Result;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tells whether there is more to know.
pub trait Whole {
    /// Whether everything could be read.
    fn is_whole(&self) -> bool;
}

/// How long something is believed of which a part could not be read: that may have passed.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// At least so long.
    pub least: Duration,
    /// So many times as long as it took to find it out.
    pub times: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            least: Duration::from_secs(5),
            times: 10,
        }
    }
}

/// Something that is found out once.
pub struct Cell<T> {
    known: Mutex<Option<Known<T>>>,
    /// Held by the one who finds it out.
    finding: Mutex<()>,
}

struct Known<T> {
    found: Arc<T>,
    /// When it is not believed any more.
    until: Option<Instant>,
}

impl<T> Default for Cell<T> {
    fn default() -> Cell<T> {
        Cell {
            known: Mutex::new(None),
            finding: Mutex::default(),
        }
    }
}

impl<T: Whole> Cell<T> {
    /// What is known, if it is believed and `fits`. Waits for nobody who finds it out.
    pub fn known(&self, fits: &dyn Fn(&T) -> bool) -> Option<Arc<T>> {
        let known = self.known.lock();
        let known = known.as_ref()?;
        let is_believed = known.until.is_none_or(|until| Instant::now() < until);
        (is_believed && fits(&known.found)).then(|| known.found.clone())
    }

    /// What is known; or what `find` finds, who is told what was known before.
    pub fn find(
        &self,
        patience: Patience,
        fits: &dyn Fn(&T) -> bool,
        find: impl FnOnce(Option<Arc<T>>) -> Result<Arc<T>>,
    ) -> Result<Arc<T>> {
        if let Some(known) = self.known(fits) {
            return Ok(known);
        }
        let _finding = self.finding.lock();
        if let Some(known) = self.known(fits) {
            return Ok(known);
        }
        let before = self.known.lock().as_ref().map(|known| known.found.clone());
        let begun = Instant::now();
        let found = find(before)?;
        let believed = patience
            .least
            .max(begun.elapsed().saturating_mul(patience.times));
        let until = match found.is_whole() {
            true => None,
            false => Instant::now().checked_add(believed),
        };
        *self.known.lock() = Some(Known {
            found: found.clone(),
            until,
        });
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    struct Number(u32, bool);

    impl Whole for Number {
        fn is_whole(&self) -> bool {
            self.1
        }
    }

    const NONE: Patience = Patience {
        least: Duration::ZERO,
        times: 0,
    };
    const LONG: Patience = Patience {
        least: Duration::from_secs(1 << 30),
        times: 0,
    };

    #[test]
    fn what_could_not_be_read_is_tried_again() {
        for (patience, whole, wanted) in [(NONE, true, 1), (NONE, false, 2), (LONG, false, 1)] {
            let cell = Cell::default();
            let mut told = 0;
            for number in [1, 2] {
                let found = cell.find(patience, &|_| true, |before: Option<Arc<Number>>| {
                    assert_eq!(before.is_some(), number == 2);
                    Ok(Arc::new(Number(number, whole)))
                });
                told = found.unwrap().0;
            }
            assert_eq!(told, wanted);
        }
    }

    #[test]
    fn who_asks_what_is_known_waits_for_nobody() {
        let cell = Cell::default();
        let known = || cell.known(&|_| true).map(|known: Arc<Number>| known.0);
        for number in [1, 2] {
            let found = cell.find(NONE, &|known| known.0 == number, |_| {
                // Here another thread asks.
                assert_eq!(known(), (number == 2).then_some(1));
                Ok(Arc::new(Number(number, true)))
            });
            assert_eq!(found.unwrap().0, number);
        }
        // A failure changes nothing.
        let failed = cell.find(NONE, &|_| false, |_| Err(Failure::Stale));
        assert!(failed.is_err());
        assert_eq!(known(), Some(2));
    }
}
