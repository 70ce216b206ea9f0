//! A bounded cache for many threads: two generations, and no lock held while something is fetched.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

const SHARDS: usize = 16;

struct Shard<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

/// Keeps at least the last half of its capacity of what was used.
pub struct Cache<K, V> {
    shards: Vec<Mutex<Shard<K, V>>>,
    hasher: RandomState,
    generation: usize,
}

impl<K: Hash + Eq + Copy, V: Clone> Cache<K, V> {
    /// Holds up to about `capacity` values.
    pub fn new(capacity: usize) -> Cache<K, V> {
        let shards = (0..SHARDS)
            .map(|_| {
                Mutex::new(Shard {
                    young: HashMap::new(),
                    old: HashMap::new(),
                })
            })
            .collect();
        Cache {
            shards,
            hasher: RandomState::new(),
            generation: capacity.div_ceil(SHARDS.saturating_mul(2)).max(1),
        }
    }

    fn shard(&self, key: &K) -> Option<&Mutex<Shard<K, V>>> {
        let hash = self.hasher.hash_one(key);
        let place = usize::try_from(hash.checked_shr(48).unwrap_or(0)).unwrap_or(0) % SHARDS;
        self.shards.get(place)
    }

    /// The value kept for `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        let mut shard = self.shard(key)?.lock();
        if let Some(value) = shard.young.get(key) {
            return Some(value.clone());
        }
        let value = shard.old.remove(key)?;
        self.put(&mut shard, *key, value.clone());
        Some(value)
    }

    /// Keeps `value` for `key`.
    pub fn insert(&self, key: K, value: V) {
        if let Some(shard) = self.shard(&key) {
            self.put(&mut shard.lock(), key, value);
        }
    }

    fn put(&self, shard: &mut Shard<K, V>, key: K, value: V) {
        if shard.young.len() >= self.generation {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_bounded_and_keeps_what_is_used() {
        let cache = Cache::new(64);
        for key in 0..10_000u64 {
            cache.insert(key, key);
            cache.insert(u64::MAX, 1);
            assert_eq!(cache.get(&u64::MAX), Some(1));
        }
        let kept: usize = cache
            .shards
            .iter()
            .map(|shard| {
                let shard = shard.lock();
                shard.young.len() + shard.old.len()
            })
            .sum();
        assert!(kept <= 64 + SHARDS, "{kept}");
        assert_eq!(cache.get(&9_999), Some(9_999));
        assert_eq!(cache.get(&0), None);
    }
}
