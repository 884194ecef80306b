//! Which partitions' messages go through the journal at the moment, and how each gets back to going to Kafka at once.
//!
//! ```text
//!            Kafka cannot take it                first delivery              little is left
//!   DIRECT ───────────────────────▶ BUFFERING ─────────────────▶ DRAINING ────────────────▶ GATE
//!     ▲                                 ▲                          │  ▲                      │ │
//!     │                                 └──────────────────────────┘  └── not soon enough ───┘ │
//!     └───────────────────────────── nothing is left, nothing is coming ───────────────────────┘
//! ```
//!
//! A domain is a partition of a topic of a cluster. While it is not DIRECT, what is published to it goes behind what waits:
//! into the journal, or at the GATE nowhere for a moment, so that a steady stream does not keep the backlog alive for ever.
//! Lane [`BY_KEY`] stands for a topic whose partitions nobody knew (a gateway that started while Kafka was away): while it
//! has anything, everything for its topic goes behind it.
//!
//! One table per process, under the lock of the store, because all shards publish to a partition. Whoever only wants to know
//! whether there is anything at all reads a counter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt};
use smallvec::SmallVec;

/// Lane of a topic whose partitions were not known.
pub const BY_KEY: i32 = -1;
/// Publishes wait so long at the gate.
pub const GATE_WAIT: Duration = Duration::from_millis(100);
/// The gate closes when no more than this is left.
pub const GATE_BYTES_MAX: u64 = 1 << 20;
/// A gate that did not lead to DIRECT is tried again after this.
const GATE_PAUSE: Duration = Duration::from_millis(200);

/// `cluster/physical topic`, and its partition.
pub type Key = (Arc<str>, i32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Buffering,
    Draining,
    Gate { until: Instant },
}

/// Where a message goes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Direct,
    /// Behind what waits in this lane.
    Journal {
        lane: i32,
    },
    /// Asked again when the gate opens, at the latest then; whoever does not wait goes behind what waits in this lane.
    Wait {
        lane: i32,
        until: Instant,
    },
}

/// A domain that is not DIRECT.
#[derive(Debug, Clone)]
pub struct Domain {
    pub state: State,
    pub since_ms: i64,
    /// Why it began, or why it does not end.
    pub why: Arc<str>,
    /// Shards whose own sends to it have no answer yet: what was handed off after them comes after them.
    holds: SmallVec<[usize; 2]>,
    gate_not_before: Option<Instant>,
    /// Since Kafka takes of it, and how much it took.
    draining_since: Option<Instant>,
    delivered_bytes: u64,
}

impl Domain {
    /// Bytes a second that Kafka takes of it; none while it takes nothing, or not for long enough to say.
    pub fn drain_bytes_per_s(&self, now: Instant) -> Option<u64> {
        let elapsed_ms = now.saturating_duration_since(self.draining_since?).as_millis() as u64;
        (elapsed_ms >= RATE_AFTER_MS).then(|| self.delivered_bytes * 1_000 / elapsed_ms).filter(|rate| *rate > 0)
    }
}

/// A rate is told after this long.
const RATE_AFTER_MS: u64 = 200;

#[derive(Debug, Default)]
pub struct Domains {
    table: HashMap<Arc<str>, SmallVec<[(i32, Domain); 1]>>,
    count: usize,
}

impl Domains {
    pub fn new() -> Domains {
        Domains { table: HashMap::new(), count: 0 }
    }

    /// How many are not DIRECT.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32, &Domain)> {
        self.table.iter().flat_map(|(subject, lanes)| lanes.iter().map(move |(lane, domain)| (subject, *lane, domain)))
    }

    pub fn get(&self, subject: &str, lane: i32) -> Option<&Domain> {
        self.table.get(subject)?.iter().find(|(of, _)| *of == lane).map(|(_, domain)| domain)
    }

    fn get_mut(&mut self, subject: &str, lane: i32) -> Option<&mut Domain> {
        self.table.get_mut(subject)?.iter_mut().find(|(of, _)| *of == lane).map(|(_, domain)| domain)
    }

    /// Where a message for this partition goes; `None`: its partition is not known.
    pub fn way(&self, subject: &str, partition: Option<i32>) -> Way {
        let (lane, domain) = match (self.get(subject, BY_KEY), partition) {
            (Some(domain), _) => (BY_KEY, Some(domain)),
            (None, Some(lane)) => (lane, self.get(subject, lane)),
            // A gateway that has just started: its partition may be one of those that have something.
            (None, None) if self.table.contains_key(subject) => return Way::Journal { lane: BY_KEY },
            (None, None) => return Way::Direct,
        };
        match domain.map(|domain| domain.state) {
            None => Way::Direct,
            Some(State::Gate { until }) => Way::Wait { lane, until },
            Some(State::Buffering | State::Draining) => Way::Journal { lane },
        }
    }

    /// Something is handed off to it. `held_by`: that shard has sends to it without an answer.
    pub fn buffer(&mut self, subject: &Arc<str>, lane: i32, why: &Arc<str>, held_by: Option<usize>, now_ms: i64) {
        if self.get(subject, lane).is_none() {
            let domain = Domain {
                state: State::Buffering,
                since_ms: now_ms,
                why: Arc::clone(why),
                holds: SmallVec::new(),
                gate_not_before: None,
                draining_since: None,
                delivered_bytes: 0,
            };
            self.table.entry(Arc::clone(subject)).or_default().push((lane, domain));
            self.count += 1;
        }
        let domain = self.get_mut(subject, lane).expect("made above");
        if let Some(shard) = held_by.filter(|shard| !domain.holds.contains(shard)) {
            domain.holds.push(shard);
        }
        // Nobody waits behind what comes now.
        if let State::Gate { .. } = domain.state {
            domain.state = State::Draining;
        }
    }

    /// The shard's own sends to it have their answers.
    pub fn release(&mut self, subject: &str, lane: i32, shard: usize) {
        if let Some(domain) = self.get_mut(subject, lane) {
            domain.holds.retain(|holder| *holder != shard);
        }
    }

    /// Domains that this shard holds.
    pub fn held_by(&self, shard: usize) -> Vec<Key> {
        let held = self.iter().filter(|(_, _, domain)| domain.holds.contains(&shard));
        held.map(|(subject, lane, _)| (Arc::clone(subject), lane)).collect()
    }

    /// Whether what waits may be delivered: nobody's sends are to come before it, and a lane by key comes after all others.
    pub fn may_drain(&self, subject: &str, lane: i32) -> bool {
        let Some(lanes) = self.table.get(subject) else { return false };
        let alone = lane != BY_KEY || lanes.len() == 1;
        alone && lanes.iter().any(|(of, domain)| *of == lane && domain.holds.is_empty())
    }

    /// Kafka took something of it.
    pub fn delivered(&mut self, subject: &str, lane: i32, bytes: u64, now: Instant) {
        let Some(domain) = self.get_mut(subject, lane) else { return };
        if domain.state == State::Buffering {
            domain.state = State::Draining;
        }
        domain.draining_since.get_or_insert(now);
        domain.delivered_bytes += bytes;
    }

    /// Kafka does not take it at the moment.
    pub fn stalled(&mut self, subject: &str, lane: i32, why: &Arc<str>) {
        if let Some(domain) = self.get_mut(subject, lane) {
            domain.state = State::Buffering;
            domain.why = Arc::clone(why);
            (domain.draining_since, domain.delivered_bytes) = (None, 0);
        }
    }

    /// What is left of it, and whether anything of it is coming. True: it went to DIRECT or to the gate, or an old gate was
    /// given up: who waits at gates is to look again.
    pub fn look(&mut self, subject: &str, lane: i32, left: Left, now: Instant) -> bool {
        let Some(domain) = self.get_mut(subject, lane) else { return false };
        if left.is_empty && domain.holds.is_empty() {
            self.remove(subject, lane);
            return true;
        }
        match domain.state {
            State::Gate { until } if now >= until => {
                domain.state = State::Draining;
                domain.gate_not_before = Some(now + GATE_PAUSE);
                true
            }
            State::Draining if left.bytes <= GATE_BYTES_MAX && domain.gate_not_before.is_none_or(|at| now >= at) => {
                domain.state = State::Gate { until: now + GATE_WAIT };
                false
            }
            _ => false,
        }
    }

    fn remove(&mut self, subject: &str, lane: i32) {
        let Some(lanes) = self.table.get_mut(subject) else { return };
        lanes.retain(|(of, _)| *of != lane);
        self.count -= 1;
        if lanes.is_empty() {
            self.table.remove(subject);
        }
    }
}

/// What a domain has in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Nothing waits, is taken, or is being appended.
    pub is_empty: bool,
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "main/t";
    const SOME: Left = Left { is_empty: false, bytes: 10 << 20 };
    const LITTLE: Left = Left { is_empty: false, bytes: 10 };
    const NOTHING: Left = Left { is_empty: true, bytes: 0 };

    fn subject() -> Arc<str> {
        SUBJECT.into()
    }

    fn why() -> Arc<str> {
        "no leader".into()
    }

    #[test]
    fn a_partition_goes_round_and_only_nothing_left_lets_it_be_direct() {
        let (mut domains, start) = (Domains::new(), Instant::now());
        assert_eq!(domains.way(SUBJECT, Some(1)), Way::Direct);
        domains.buffer(&subject(), 1, &why(), None, 5);
        assert_eq!((domains.count(), domains.way(SUBJECT, Some(1))), (1, Way::Journal { lane: 1 }));
        assert_eq!(domains.way(SUBJECT, Some(2)), Way::Direct, "another partition is not concerned");
        assert!(!domains.look(SUBJECT, 1, LITTLE, start), "no gate before Kafka took anything");
        domains.delivered(SUBJECT, 1, 5, start);
        assert!(!domains.look(SUBJECT, 1, SOME, start));
        assert_eq!(domains.way(SUBJECT, Some(1)), Way::Journal { lane: 1 }, "too much is left");
        assert!(!domains.look(SUBJECT, 1, LITTLE, start));
        let until = start + GATE_WAIT;
        assert_eq!(domains.way(SUBJECT, Some(1)), Way::Wait { lane: 1, until });
        assert!(!domains.look(SUBJECT, 1, LITTLE, start + GATE_WAIT / 2));
        assert!(domains.look(SUBJECT, 1, LITTLE, until), "given up, who waits looks again");
        assert_eq!(domains.way(SUBJECT, Some(1)), Way::Journal { lane: 1 });
        assert!(!domains.look(SUBJECT, 1, LITTLE, until), "not at once again");
        assert_eq!(domains.way(SUBJECT, Some(1)), Way::Journal { lane: 1 });
        assert!(!domains.look(SUBJECT, 1, LITTLE, until + GATE_PAUSE));
        assert!(domains.look(SUBJECT, 1, NOTHING, until + GATE_PAUSE));
        assert_eq!((domains.count(), domains.way(SUBJECT, Some(1))), (0, Way::Direct));
    }

    #[test]
    fn what_comes_into_the_journal_at_the_gate_opens_it() {
        let (mut domains, now) = (Domains::new(), Instant::now());
        domains.buffer(&subject(), 1, &why(), None, 5);
        domains.delivered(SUBJECT, 1, 5, now);
        domains.look(SUBJECT, 1, LITTLE, now);
        domains.buffer(&subject(), 1, &why(), None, 6);
        assert_eq!(domains.way(SUBJECT, Some(1)), Way::Journal { lane: 1 });
        domains.stalled(SUBJECT, 1, &"gone again".into());
        assert_eq!(domains.get(SUBJECT, 1).map(|domain| (domain.state, domain.since_ms)), Some((State::Buffering, 5)));
    }

    #[test]
    fn a_shards_own_sends_without_an_answer_hold_what_was_handed_off_after_them() {
        let (mut domains, now) = (Domains::new(), Instant::now());
        domains.buffer(&subject(), 1, &why(), Some(3), 5);
        domains.buffer(&subject(), 1, &why(), Some(3), 5);
        domains.buffer(&subject(), 1, &why(), Some(4), 5);
        assert_eq!(domains.held_by(3), [(subject(), 1)]);
        domains.release(SUBJECT, 1, 3);
        assert!(!domains.may_drain(SUBJECT, 1));
        assert!(!domains.look(SUBJECT, 1, NOTHING, now), "not direct while one of them holds it");
        domains.release(SUBJECT, 1, 4);
        assert!(domains.may_drain(SUBJECT, 1) && domains.look(SUBJECT, 1, NOTHING, now));
    }

    #[test]
    fn while_a_topic_has_messages_what_is_for_no_known_partition_goes_behind_them() {
        let mut domains = Domains::new();
        assert_eq!(domains.way(SUBJECT, None), Way::Direct);
        domains.buffer(&subject(), 1, &why(), None, 5);
        assert_eq!(domains.way(SUBJECT, None), Way::Journal { lane: BY_KEY });
        assert_eq!(domains.way("main/other", None), Way::Direct);
    }

    #[test]
    fn while_a_topic_has_messages_for_no_known_partition_everything_goes_behind_them_and_they_go_last() {
        let (mut domains, now) = (Domains::new(), Instant::now());
        domains.buffer(&subject(), 1, &why(), None, 5);
        domains.buffer(&subject(), BY_KEY, &why(), None, 6);
        for partition in [None, Some(0), Some(1)] {
            assert_eq!(domains.way(SUBJECT, partition), Way::Journal { lane: BY_KEY });
        }
        assert!(domains.may_drain(SUBJECT, 1) && !domains.may_drain(SUBJECT, BY_KEY));
        domains.look(SUBJECT, 1, NOTHING, now);
        assert!(domains.may_drain(SUBJECT, BY_KEY));
        domains.delivered(SUBJECT, BY_KEY, 5, now);
        domains.look(SUBJECT, BY_KEY, LITTLE, now);
        assert_eq!(domains.way(SUBJECT, Some(0)), Way::Wait { lane: BY_KEY, until: now + GATE_WAIT });
        assert!(domains.look(SUBJECT, BY_KEY, NOTHING, now));
        assert_eq!(domains.way(SUBJECT, Some(0)), Way::Direct);
    }
}
