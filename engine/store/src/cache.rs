//! A cache bounded in bytes that a single long scan does not empty of everything: two generations, and what is
//! used again moves from the old one to the young one.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

const SHARDS: usize = 16;

struct Generations<K, V> {
    young: HashMap<K, Arc<V>>,
    old: HashMap<K, Arc<V>>,
    young_weight: usize,
}

/// A cache of shared values, bounded by the sum of the weights given with them.
pub struct Cache<K, V> {
    shards: Vec<Mutex<Generations<K, V>>>,
    hasher: RandomState,
    /// A generation of a shard is closed when it reaches this weight.
    limit: usize,
}

impl<K: Hash + Eq + Clone, V> Cache<K, V> {
    /// Holds values of together at most `bytes`.
    pub fn new(bytes: usize) -> Cache<K, V> {
        Cache {
            shards: (0..SHARDS)
                .map(|_| {
                    Mutex::new(Generations {
                        young: HashMap::new(),
                        old: HashMap::new(),
                        young_weight: 0,
                    })
                })
                .collect(),
            hasher: RandomState::new(),
            limit: bytes / SHARDS / 2,
        }
    }

    fn shard(&self, key: &K) -> Option<&Mutex<Generations<K, V>>> {
        let hash = self.hasher.hash_one(key);
        let index = usize::try_from(hash % 16).unwrap_or(0);
        self.shards.get(index)
    }

    /// The value of `key`. A value of the old generation moves to the young one as `renew` answers it, with its weight.
    pub fn get(&self, key: &K, renew: impl Fn(Arc<V>) -> (Arc<V>, usize)) -> Option<Arc<V>> {
        let mut shard = self.shard(key)?.lock();
        if let Some(value) = shard.young.get(key) {
            return Some(value.clone());
        }
        let value = shard.old.remove(key)?;
        let (value, weight) = renew(value);
        self.put(&mut shard, key.clone(), value.clone(), weight);
        Some(value)
    }

    /// Keeps a value of `weight` bytes.
    pub fn insert(&self, key: K, value: Arc<V>, weight: usize) {
        if let Some(shard) = self.shard(&key) {
            self.put(&mut shard.lock(), key, value, weight);
        }
    }

    fn put(&self, shard: &mut Generations<K, V>, key: K, value: Arc<V>, weight: usize) {
        if shard.young_weight + weight > self.limit {
            shard.old = std::mem::take(&mut shard.young);
            shard.young_weight = 0;
        }
        if shard.young.insert(key, value).is_none() {
            shard.young_weight += weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_bound_and_keeps_what_is_used() {
        let cache: Cache<u64, Vec<u8>> = Cache::new(16 * 100_000);
        let weigh = |v: Arc<Vec<u8>>| {
            let weight = v.len();
            (v, weight)
        };
        cache.insert(7, Arc::new(vec![7; 1000]), 1000);
        for key in 100..100_000u64 {
            assert!(cache.get(&7, weigh).is_some());
            cache.insert(key, Arc::new(vec![0; 1000]), 1000);
        }
        let count = |s: &Mutex<Generations<u64, Vec<u8>>>| {
            let shard = s.lock();
            shard.young.len() + shard.old.len()
        };
        let kept: usize = cache.shards.iter().map(count).sum();
        assert!(kept * 1000 <= 16 * 100_000, "{kept}");
        assert!(cache.get(&100, weigh).is_none());
    }
}
