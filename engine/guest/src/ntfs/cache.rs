//! A cache bounded in bytes for many threads: two generations, and no lock held while something is fetched.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

/// What a map needs for an entry, beside what is kept: a guess.
const ENTRY: usize = 64;

struct Shard<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    /// Weight of the young ones.
    weight: usize,
}

/// Keeps at least the last half of its capacity of what was used.
pub struct Cache<K, V> {
    shards: Vec<Mutex<Shard<K, V>>>,
    hasher: RandomState,
    /// The most that the young ones of a shard weigh.
    generation: usize,
}

impl<K: Hash + Eq + Copy, V: Clone> Cache<K, V> {
    /// Holds up to `capacity` bytes in so many `shards` (at least one), each with a lock of its own. A value is kept if it takes no more than half of a shard.
    pub fn new(capacity: usize, shards: usize) -> Cache<K, V> {
        let count = shards.max(1);
        let shards = (0..count)
            .map(|_| {
                Mutex::new(Shard {
                    young: HashMap::new(),
                    old: HashMap::new(),
                    weight: 0,
                })
            })
            .collect();
        Cache {
            shards,
            hasher: RandomState::new(),
            generation: capacity.checked_div(count).unwrap_or(0) / 2,
        }
    }

    /// Holds up to about `count` values of 0 bytes, in 16 shards: for values of one size, or that grow while they are kept.
    pub fn of_count(count: usize) -> Cache<K, V> {
        Cache::new(count.saturating_mul(ENTRY), 16)
    }

    fn shard(&self, key: &K) -> Option<&Mutex<Shard<K, V>>> {
        let hash = self.hasher.hash_one(key);
        let high = usize::try_from(hash.checked_shr(48).unwrap_or(0)).unwrap_or(0);
        self.shards
            .get(high.checked_rem(self.shards.len()).unwrap_or(0))
    }

    /// The value kept for `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        let mut shard = self.shard(key)?.lock();
        if let Some((value, _)) = shard.young.get(key) {
            return Some(value.clone());
        }
        let (value, weight) = shard.old.remove(key)?;
        self.put(&mut shard, *key, value.clone(), weight);
        Some(value)
    }

    /// Keeps `value`, which takes `bytes` of memory, for `key`.
    pub fn insert(&self, key: K, value: V, bytes: usize) {
        let weight = bytes.saturating_add(ENTRY);
        if weight > self.generation {
            return;
        }
        if let Some(shard) = self.shard(&key) {
            self.put(&mut shard.lock(), key, value, weight);
        }
    }

    fn put(&self, shard: &mut Shard<K, V>, key: K, value: V, weight: usize) {
        if shard.weight.saturating_add(weight) > self.generation {
            shard.old = std::mem::take(&mut shard.young);
            shard.weight = 0;
        }
        shard.weight = shard.weight.saturating_add(weight);
        if let Some((_, before)) = shard.young.insert(key, (value, weight)) {
            shard.weight = shard.weight.saturating_sub(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept, by the weights it was given.
    fn kept(cache: &Cache<u64, u64>) -> usize {
        let shards = cache.shards.iter().map(|shard| {
            let shard = shard.lock();
            let young: usize = shard.young.values().map(|(_, weight)| weight).sum();
            assert_eq!(young, shard.weight);
            young + shard.old.values().map(|(_, weight)| weight).sum::<usize>()
        });
        shards.sum()
    }

    #[test]
    fn it_stays_bounded_and_keeps_what_is_used() {
        let capacity = 64 << 10;
        let cache = Cache::new(capacity, 4);
        for key in 0..10_000u64 {
            // Some are large, and some come again with another weight.
            cache.insert(key, key, 100 * (key as usize % 7));
            cache.insert(key / 2, key / 2, 50);
            cache.insert(u64::MAX, 1, 8);
            assert_eq!(cache.get(&u64::MAX), Some(1));
            assert!(kept(&cache) <= capacity);
        }
        assert_eq!(cache.get(&9_999), Some(9_999));
        assert_eq!(cache.get(&0), None);
        assert!(kept(&cache) > capacity / 4);
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_drives_nothing_out() {
        let cache = Cache::new(8 << 10, 1);
        cache.insert(1, 1, 100);
        cache.insert(2, 2, 4 << 10);
        assert_eq!(cache.get(&2), None);
        assert_eq!(cache.get(&1), Some(1));
        cache.insert(3, 3, (4 << 10) - 2 * ENTRY - 100);
        assert_eq!((cache.get(&1), cache.get(&3)), (Some(1), Some(3)));
    }
}
