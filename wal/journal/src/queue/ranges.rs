//! A set of numbers that grow and are done in about their order: everything below a mark, and ranges above it.

use std::collections::BTreeMap;

/// Numbers that are done. As long as they are done in order it is one number, whatever their count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Everything below is done.
    below: u64,
    /// First to behind the last, all above `below`, neither touching nor overlapping.
    above: BTreeMap<u64, u64>,
}

impl Done {
    /// As it was written down; ranges that make no sense are merged like any other.
    pub fn restore(below: u64, above: impl IntoIterator<Item = (u64, u64)>) -> Done {
        let mut done = Done { below, above: BTreeMap::new() };
        above.into_iter().for_each(|(first, end)| done.add(first, end));
        done
    }

    /// The first number that is not done.
    pub fn below(&self) -> u64 {
        self.below
    }

    /// Ranges beyond it, first to behind the last.
    pub fn above(&self) -> impl ExactSizeIterator<Item = (u64, u64)> {
        self.above.iter().map(|(first, end)| (*first, *end))
    }

    pub fn contains(&self, number: u64) -> bool {
        number < self.below || self.above.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// Adds `first..end`.
    pub fn add(&mut self, first: u64, end: u64) {
        let (mut first, mut end) = (first.max(self.below), end);
        if first >= end {
            return;
        }
        // Everything that touches it becomes one with it.
        while let Some((other, other_end)) = self.above.range(..=end).next_back().map(|(f, e)| (*f, *e))
            && other_end >= first
        {
            self.above.remove(&other);
            first = first.min(other);
            end = end.max(other_end);
        }
        if first == self.below {
            self.below = end;
        } else {
            self.above.insert(first, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_holds_what_a_set_of_numbers_holds_and_its_ranges_never_touch() {
        for seed in 0..200 {
            let mut random = disk::Chance::new(seed);
            let (mut done, mut set) = (Done::default(), BTreeSet::new());
            for _ in 0..60 {
                let first = random.below(100) as u64;
                let end = first + random.below(12) as u64;
                done.add(first, end);
                set.extend(first..end);
                for number in 0..120 {
                    assert_eq!(done.contains(number), set.contains(&number), "seed {seed}, {number} of {done:?}");
                }
                let ranges: Vec<_> = done.above().collect();
                assert!(ranges.first().is_none_or(|(first, _)| *first > done.below()), "seed {seed}: {done:?}");
                assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "seed {seed}: {done:?}");
            }
            assert_eq!(Done::restore(done.below(), done.above()), done);
        }
    }
}
