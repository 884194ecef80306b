//! Brokers that cannot be reached, told seldom: an outage is a line per broker and while, not one per attempt. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Of one broker a line so often.
const TOLD_EVERY: Duration = Duration::from_secs(30);
/// Addresses that are remembered; beyond it all are forgotten, and told again.
const BROKERS_MAX: usize = 1_000;

/// Failed attempts to connect, of one cluster.
#[derive(Default)]
pub struct Complaints {
    /// By host and port: when it was told last, and how many attempts failed since.
    told: HashMap<(String, u16), (Instant, u64)>,
}

impl Complaints {
    /// Another attempt failed: how many did since the last line, this one included, if there is to be a line.
    pub fn count(&mut self, host: &str, port: u16, now: Instant) -> Option<u64> {
        let key = (host.to_owned(), port);
        if let Some((at, failed)) = self.told.get_mut(&key) {
            *failed += 1;
            if now < *at + TOLD_EVERY {
                return None;
            }
            *at = now;
            return Some(std::mem::take(failed));
        }
        if self.told.len() >= BROKERS_MAX {
            self.told.clear();
        }
        self.told.insert(key, (now, 0));
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_of_a_broker_is_told_and_then_one_line_for_many() {
        let begin = Instant::now();
        let mut complaints = Complaints::default();
        let table = [
            (0, "a", Some(1)),
            (1, "a", None),
            (2, "b", Some(1)),
            (29, "a", None),
            (31, "a", Some(3)),
            (32, "a", None),
            (100, "a", Some(2)),
            (100, "b", Some(1)),
        ];
        for (second, host, expected) in table {
            let now = begin + Duration::from_secs(second);
            assert_eq!(complaints.count(host, 9092, now), expected, "{host} after {second} s");
        }
        assert_eq!(complaints.count("a", 9093, begin), Some(1), "another port is another broker");
        for n in 0..2 * BROKERS_MAX {
            complaints.count(&n.to_string(), 1, begin);
        }
        assert!(complaints.told.len() <= BROKERS_MAX);
    }
}
