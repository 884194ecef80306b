//! What a request names twice is answered once, so that work and answer grow with what was received.

use std::hash::Hash;

use foldhash::HashMap;

/// Every item at its first appearance, and whether it came again.
pub fn once<T, K: Hash + Eq>(items: impl IntoIterator<Item = T>, key: impl Fn(&T) -> K) -> Vec<(T, bool)> {
    let mut places: HashMap<K, usize> = HashMap::default();
    let mut kept: Vec<(T, bool)> = Vec::new();
    for item in items {
        match places.entry(key(&item)) {
            std::collections::hash_map::Entry::Occupied(place) => kept[*place.get()].1 = true,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push((item, false));
            }
        }
    }
    kept
}

/// Every item at its first appearance.
pub fn distinct<T, K: Hash + Eq>(items: impl IntoIterator<Item = T>, key: impl Fn(&T) -> K) -> impl Iterator<Item = T> {
    once(items, key).into_iter().map(|(item, _)| item)
}

/// The lists of a name that stands in several places, put together at the first.
pub fn merged<N: Hash + Eq + Clone, T>(lists: impl IntoIterator<Item = (N, Vec<T>)>) -> Vec<(N, Vec<T>)> {
    let mut places: HashMap<N, usize> = HashMap::default();
    let mut kept: Vec<(N, Vec<T>)> = Vec::new();
    for (name, list) in lists {
        match places.get(&name) {
            Some(place) => kept[*place].1.extend(list),
            None => {
                places.insert(name.clone(), kept.len());
                kept.push((name, list));
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_found_and_lists_put_together() {
        assert_eq!(once([3, 1, 3, 2], |n| *n), [(3, true), (1, false), (2, false)]);
        assert_eq!(distinct([3, 1, 3], |n| *n).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(merged([('a', vec![1]), ('b', vec![2]), ('a', vec![1, 3])]), [('a', vec![1, 1, 3]), ('b', vec![2])]);
    }
}
