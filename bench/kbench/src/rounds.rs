//! Rounds: everything is measured once in each, in shuffled order, so that drift of the machine (frequency, neighbours)
//! hits all alike. A round that others disturbed is measured again; one that stays disturbed is marked, and left out
//! as long as enough quiet ones remain.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::limits::ATTEMPTS_MAX;

/// One measurement of one case.
#[derive(Debug, Clone)]
pub struct Round<T> {
    pub value: T,
    /// CPUs' worth of time that others used meanwhile; 0 when nobody looked.
    pub foreign_cores: f64,
    pub quiet: bool,
}

/// Measures up to [`ATTEMPTS_MAX`] times until others kept below `foreign_max`; otherwise the quietest attempt counts.
pub fn quietly<T>(foreign_max: f64, mut measure: impl FnMut() -> Result<(T, f64)>) -> Result<Round<T>> {
    let mut best: Option<Round<T>> = None;
    for _ in 0..ATTEMPTS_MAX {
        let (value, foreign_cores) = measure()?;
        if best.as_ref().is_none_or(|best| foreign_cores < best.foreign_cores) {
            best = Some(Round { value, foreign_cores, quiet: foreign_cores <= foreign_max });
        }
        if best.as_ref().is_some_and(|best| best.quiet) {
            break;
        }
        eprintln!("others used {foreign_cores:.2} cores, above {foreign_max:.2}: again");
    }
    Ok(best.expect("measured at least once"))
}

/// Rounds as long as there is time: repeated ones take longer, and what was measured should be told in any case.
pub struct Rounds {
    rounds: usize,
    within: Option<Duration>,
    begun: usize,
    started: Instant,
    last: Option<Instant>,
    longest: Duration,
}

impl Rounds {
    pub fn new(rounds: usize, within: Option<Duration>) -> Rounds {
        Rounds { rounds, within, begun: 0, started: Instant::now(), last: None, longest: Duration::ZERO }
    }

    /// Whether another round, as long as the longest so far, still fits. The first always does.
    fn fits(&mut self, now: Instant) -> bool {
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now - last);
        }
        let over = |within| now - self.started + self.longest > within;
        self.begun < self.rounds && (self.begun == 0 || !self.within.is_some_and(over))
    }
}

impl Iterator for Rounds {
    /// How progress names it: `round 2/7`.
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if !self.fits(Instant::now()) {
            if self.begun < self.rounds {
                eprintln!("no time for more than {} of {} rounds", self.begun, self.rounds);
            }
            return None;
        }
        self.begun += 1;
        Some(format!("round {}/{}", self.begun, self.rounds))
    }
}

/// Which rounds of a case count.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    pub indexes: Vec<usize>,
    pub of: usize,
    /// Too few were quiet: all count, and none of it is a result.
    pub disturbed: bool,
}

impl Counted {
    /// The quiet ones, if they are at least half.
    pub fn of(quiet: impl Iterator<Item = bool>) -> Counted {
        let quiet: Vec<bool> = quiet.collect();
        let indexes: Vec<usize> = (0..quiet.len()).filter(|&index| quiet[index]).collect();
        let disturbed = indexes.len() * 2 < quiet.len();
        let of = quiet.len();
        Counted { indexes: if disturbed { (0..of).collect() } else { indexes }, of, disturbed }
    }

    /// How a table says it.
    pub fn show(&self) -> String {
        if self.disturbed { "DISTURBED".to_owned() } else { format!("{}/{}", self.indexes.len(), self.of) }
    }
}

/// Said below a table with disturbed rows.
pub const DISTURBED_NOTE: &str = "\nDISTURBED rows are no results: in more than half of their rounds others used more CPU than allowed, \
     each time it was tried.\n";

/// Shuffles rounds (splitmix64, Fisher and Yates).
pub struct Order(pub u64);

impl Order {
    pub fn new(seed: Option<u64>) -> Order {
        let order = Order(seed.unwrap_or_else(runtime::clock::seed));
        eprintln!("seed {}", order.0);
        order
    }

    pub fn random(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            let other = (self.random() % (last as u64 + 1)) as usize;
            order.swap(last, other);
        }
        order
    }
}

/// Median and range of a few numbers.
#[derive(Debug, PartialEq, Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let Some((&min, &max)) = values.first().zip(values.last()) else {
            return Spread { median: 0.0, min: 0.0, max: 0.0 };
        };
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Spread { median, min, max }
    }

    pub fn show(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disturbed_round_is_measured_again_and_marked_when_that_does_not_help() {
        for (foreign, kept, quiet, attempts) in [
            (vec![0.1], 0.1, true, 1),
            (vec![0.9, 0.5, 0.15, 0.0], 0.15, true, 3),
            (vec![0.9, 0.4, 0.8, 0.7], 0.4, false, 4),
        ] {
            let mut measured = 0;
            let round = quietly(0.2, || {
                measured += 1;
                Ok((measured, foreign[measured - 1]))
            });
            let round = round.expect("no error");
            assert_eq!((round.foreign_cores, round.quiet, measured), (kept, quiet, attempts));
            assert_eq!(foreign[round.value - 1], kept);
        }
        assert!(quietly(0.2, || -> Result<((), f64)> { anyhow::bail!("no server") }).is_err());
    }

    #[test]
    fn rounds_end_when_another_would_not_fit() {
        for (within_s, expected) in
            [(None, 5), (Some(0), 1), (Some(25), 2), (Some(29), 2), (Some(30), 3), (Some(99), 5)]
        {
            let mut rounds = Rounds::new(5, within_s.map(Duration::from_secs));
            let start = rounds.started;
            // Each takes ten seconds.
            while rounds.fits(start + Duration::from_secs(10) * rounds.begun as u32) {
                rounds.begun += 1;
            }
            assert_eq!(rounds.begun, expected, "{within_s:?}");
        }
    }

    #[test]
    fn disturbed_rounds_do_not_count_while_half_are_quiet() {
        let counted = |quiet: &[bool]| Counted::of(quiet.iter().copied());
        assert_eq!(counted(&[true, false, true]), Counted { indexes: vec![0, 2], of: 3, disturbed: false });
        assert_eq!(counted(&[true, false]).indexes, [0]);
        assert_eq!(counted(&[true, false, false]), Counted { indexes: vec![0, 1, 2], of: 3, disturbed: true });
        assert_eq!(counted(&[true, false, false]).show(), "DISTURBED");
        assert_eq!(counted(&[true, true]).show(), "2/2");
    }

    #[test]
    fn a_shuffle_is_a_permutation_and_the_seed_repeats_it() {
        let (mut one, mut two) = (Order(7), Order(7));
        let mut firsts = [0; 3];
        for _ in 0..50 {
            let order = one.shuffled(3);
            assert_eq!(order, two.shuffled(3));
            firsts[order[0]] += 1;
            let mut sorted = order;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
        }
        assert!(firsts.iter().all(|&count| count > 5), "{firsts:?}");
    }

    #[test]
    fn spreads_of_few_numbers() {
        for (values, expected) in [
            (vec![], (0.0, 0.0, 0.0)),
            (vec![3.0], (3.0, 3.0, 3.0)),
            (vec![4.0, 1.0], (2.5, 1.0, 4.0)),
            (vec![9.0, 1.0, 2.0], (2.0, 1.0, 9.0)),
        ] {
            let spread = Spread::of(values.into_iter());
            assert_eq!((spread.median, spread.min, spread.max), expected);
        }
    }
}
