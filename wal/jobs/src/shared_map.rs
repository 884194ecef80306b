//! A map whose snapshots cost a list of pointers: parts are shared with them, and copied when they change after one was taken.

use std::hash::Hash;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

const PARTS: usize = 256;

/// Which part a key is in: any number, as evenly as can be.
pub trait Parted: Copy + Eq + Hash {
    fn part(self) -> usize;
}

impl Parted for u64 {
    fn part(self) -> usize {
        self as usize
    }
}

/// A hash.
impl Parted for [u8; 16] {
    fn part(self) -> usize {
        usize::from(self[0])
    }
}

/// See the module. Clones are snapshots.
#[derive(Clone, Debug)]
pub struct SharedMap<K, V> {
    parts: Vec<Arc<HashMap<K, V>>>,
    count: usize,
}

impl<K: Parted, V: Clone> Default for SharedMap<K, V> {
    fn default() -> SharedMap<K, V> {
        SharedMap { parts: (0..PARTS).map(|_| Arc::new(HashMap::new())).collect(), count: 0 }
    }
}

impl<K: Parted, V: Clone> SharedMap<K, V> {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn get(&self, key: K) -> Option<&V> {
        self.parts[key.part() % PARTS].get(&key)
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = Arc::make_mut(&mut self.parts[key.part() % PARTS]).insert(key, value);
        self.count += usize::from(before.is_none());
        before
    }

    pub fn remove(&mut self, key: K) -> Option<V> {
        self.get(key)?; // nothing is copied for one that is not there
        self.count -= 1;
        Arc::make_mut(&mut self.parts[key.part() % PARTS]).remove(&key)
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.parts.iter().flat_map(|part| part.iter().map(|(key, value)| (*key, value)))
    }
}
