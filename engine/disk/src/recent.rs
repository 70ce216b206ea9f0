//! What was read or decoded last, kept for the next reader: bounded, and shared by threads, none of which waits while another one reads or decodes.

use cairn_base::Result;
use parking_lot::Mutex;
use std::sync::Arc;

/// A few values by their keys. The one that was asked for longest ago goes first.
pub(crate) struct Recent<V> {
    most: usize,
    kept: Mutex<Kept<V>>,
}

struct Kept<V> {
    /// Key, when it was last asked for, value.
    values: Vec<(u64, u64, Arc<V>)>,
    clock: u64,
}

impl<V> Recent<V> {
    /// Keeps up to `most` values, which the caller chooses small: they are looked through one by one. It may be 0.
    pub(crate) fn new(most: usize) -> Recent<V> {
        Recent {
            most,
            kept: Mutex::new(Kept {
                values: Vec::new(),
                clock: 0,
            }),
        }
    }

    /// The value of `key`, made by `make` if it is not kept. Two threads may make the same one at once; nobody waits for the other.
    ///
    /// # Errors
    /// What `make` says; nothing is kept then.
    pub(crate) fn get(&self, key: u64, make: impl FnOnce() -> Result<V>) -> Result<Arc<V>> {
        if let Some(value) = self.find(key) {
            return Ok(value);
        }
        let value = Arc::new(make()?);
        self.put(key, value.clone());
        Ok(value)
    }

    fn find(&self, key: u64) -> Option<Arc<V>> {
        let mut kept = self.kept.lock();
        kept.clock = kept.clock.wrapping_add(1);
        let now = kept.clock;
        let found = kept.values.iter_mut().find(|(known, _, _)| *known == key)?;
        found.1 = now;
        Some(found.2.clone())
    }

    fn put(&self, key: u64, value: Arc<V>) {
        let mut kept = self.kept.lock();
        let now = kept.clock;
        if kept.values.iter().any(|(known, _, _)| *known == key) {
            return;
        }
        if kept.values.len() < self.most {
            kept.values.push((key, now, value));
            return;
        }
        if let Some(oldest) = kept.values.iter_mut().min_by_key(|(_, used, _)| *used) {
            *oldest = (key, now, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Error;

    #[test]
    fn the_oldest_goes_first() {
        let recent = Recent::new(2);
        let mut made = Vec::new();
        for key in [1, 2, 1, 3, 1, 2] {
            let value = recent
                .get(key, || {
                    made.push(key);
                    Ok(key * 10)
                })
                .unwrap();
            assert_eq!(*value, key * 10);
        }
        assert_eq!(made, [1, 2, 3, 2]);
    }

    #[test]
    fn what_fails_is_not_kept() {
        let recent = Recent::new(2);
        assert!(recent.get(1, || Err(Error::damaged("no"))).is_err());
        assert_eq!(*recent.get(1, || Ok(5)).unwrap(), 5);
    }
}
