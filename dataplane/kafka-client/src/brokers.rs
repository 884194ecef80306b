//! The brokers as we know them, and when to ask about them again.
//!
//! Brokers are interned and never forgotten, so an index stays good; bootstrap addresses are brokers without a node
//! id and come first. Which topic has which leader lies with the topics (accumulator), the asking lies here.

use std::sync::Arc;
use std::time::Instant;

use model::host_port::parse_host_port;
use smallvec::SmallVec;

use crate::backoff::Backoff;
use crate::limits::{BROKERS_MAX, METADATA_PAUSE};
use crate::types::{ConnId, Lane};

/// A broker or a bootstrap address.
#[derive(Debug)]
pub(crate) struct Broker {
    /// None for a bootstrap address.
    pub node: Option<i32>,
    pub host: String,
    pub port: u16,
    /// Open and opening connections by lane.
    pub conns: [SmallVec<[ConnId; 1]>; Lane::COUNT],
    pub backoff: Backoff,
    /// After a failed connect, not before this.
    pub retry_at: Option<Instant>,
    pub last_error: Option<Arc<str>>,
    /// Since when no connection to it came about, or it was too silent for one; until the next that does.
    pub failed_at: Option<Instant>,
    /// In the last metadata.
    pub listed: bool,
}

impl Broker {
    fn new(node: Option<i32>, host: String, port: u16) -> Broker {
        Broker {
            node,
            host,
            port,
            conns: Default::default(),
            backoff: Backoff::default(),
            retry_at: None,
            last_error: None,
            failed_at: None,
            listed: true,
        }
    }

    pub fn may_connect(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }
}

/// When metadata is asked for.
#[derive(Debug)]
pub(crate) struct Refresh {
    pub wanted: bool,
    pub asking: bool,
    pub not_before: Instant,
    /// All topics are asked again then.
    pub periodic_at: Instant,
    pub backoff: Backoff,
    /// This broker denied a topic that we know: others are asked first.
    pub doubted: Option<u32>,
}

impl Refresh {
    pub fn is_due(&self, now: Instant) -> bool {
        self.wanted && !self.asking && self.not_before <= now
    }
}

/// Every broker of one brokers.
#[derive(Debug)]
pub(crate) struct Brokers {
    pub all: Vec<Broker>,
    by_node: foldhash::HashMap<i32, u32>,
    pub controller: Option<u32>,
    /// Whom `Target::Any` tries next.
    rotation: usize,
    pub refresh: Refresh,
    /// Counts metadata answers.
    pub generation: u64,
    pub last_error: Option<Arc<str>>,
}

impl Brokers {
    pub fn new(bootstrap: &[String], rotation: usize, now: Instant) -> Brokers {
        let mut brokers = Vec::new();
        for address in bootstrap.iter().take(BROKERS_MAX) {
            match parse_host_port(address) {
                Some((host, port)) => brokers.push(Broker::new(None, host, port)),
                None => tracing::error!(%address, "bootstrap address is not host:port, ignored"),
            }
        }
        Brokers {
            all: brokers,
            by_node: foldhash::HashMap::default(),
            controller: None,
            rotation,
            refresh: Refresh {
                wanted: true,
                asking: false,
                not_before: now,
                periodic_at: now,
                backoff: Backoff::default(),
                doubted: None,
            },
            generation: 0,
            last_error: None,
        }
    }

    pub fn broker(&self, index: u32) -> &Broker {
        &self.all[index as usize]
    }

    pub fn broker_mut(&mut self, index: u32) -> &mut Broker {
        &mut self.all[index as usize]
    }

    pub fn by_node(&self, node: i32) -> Option<u32> {
        self.by_node.get(&node).copied()
    }

    /// The index of a broker somebody told us about. `Some(true)` when its address changed.
    pub fn learn(&mut self, node: i32, host: &str, port: i32) -> Option<(u32, bool)> {
        let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
        if node < 0 || host.is_empty() {
            return None;
        }
        if let Some(index) = self.by_node(node) {
            let broker = self.broker_mut(index);
            let moved = broker.port != port || broker.host != host;
            if moved {
                broker.host = host.to_owned();
                broker.port = port;
                broker.retry_at = None;
                broker.backoff.succeeded();
                broker.failed_at = None;
            }
            broker.listed = true;
            return Some((index, moved));
        }
        if self.all.len() >= BROKERS_MAX {
            return None;
        }
        let index = self.all.len() as u32;
        self.all.push(Broker::new(Some(node), host.to_owned(), port));
        self.by_node.insert(node, index);
        Some((index, false))
    }

    pub fn want_refresh(&mut self) {
        self.refresh.wanted = true;
    }

    /// An answer came and left nothing open.
    pub fn refreshed(&mut self, now: Instant) {
        self.generation += 1;
        self.refresh.asking = false;
        self.refresh.not_before = now + METADATA_PAUSE;
    }

    /// This broker, maybe under another of its entries, denied a topic that we know.
    pub fn is_doubted(&self, index: u32) -> bool {
        let address = |index: u32| (&self.broker(index).host, self.broker(index).port);
        self.refresh.doubted.is_some_and(|doubted| address(doubted) == address(index))
    }

    /// Whom to connect to for a request that anybody can answer: brokers of the last metadata in turn, then the
    /// bootstrap addresses, and the doubted one last; whoever failed just now or has a connection of this lane is left out.
    pub fn next_candidate(&mut self, lane: Lane, now: Instant) -> Option<u32> {
        let count = self.all.len();
        let start = self.rotation;
        let find = |known: bool, doubted: bool| {
            (0..count).map(|step| (start + step) % count).find(|index| {
                let broker = &self.all[*index];
                let free = broker.conns[lane.index()].is_empty();
                let wanted = broker.listed && free && self.is_doubted(*index as u32) == doubted;
                wanted && broker.node.is_some() == known && broker.may_connect(now)
            })
        };
        let trusted = find(true, false).or_else(|| find(false, false));
        let chosen = trusted.or_else(|| find(true, true)).or_else(|| find(false, true));
        if let Some(index) = chosen {
            self.rotation = (index + 1) % count;
        }
        chosen.map(|index| index as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn everybody_is_tried_in_turn_known_brokers_before_bootstrap_addresses() {
        let now = Instant::now();
        let bootstrap = ["a:1".to_string(), "b:2".into(), "nonsense".into()];
        let mut brokers = Brokers::new(&bootstrap, 0, now);
        assert_eq!(
            [0, 1, 0].map(Some),
            [0; 3].map(|_: i32| brokers.next_candidate(Lane::Control, now)),
            "the two that parse"
        );
        let (first, _) = brokers.learn(7, "x", 9092).unwrap();
        let (second, _) = brokers.learn(8, "y", 9092).unwrap();
        let seen: Vec<u32> = (0..4).filter_map(|_| brokers.next_candidate(Lane::Control, now)).collect();
        assert!(seen.iter().all(|index| [first, second].contains(index)), "{seen:?}");
        assert!(seen.contains(&first) && seen.contains(&second), "{seen:?}");
        for index in [first, second] {
            brokers.broker_mut(index).retry_at = Some(now + Duration::from_secs(1));
        }
        assert!(
            brokers.next_candidate(Lane::Control, now).unwrap() < 2,
            "bootstrap again when no known broker may be tried"
        );
    }

    #[test]
    fn addresses_that_cannot_be_are_not_learnt() {
        let mut brokers = Brokers::new(&[], 0, Instant::now());
        for (node, host, port) in [(-1, "x", 9092), (1, "", 9092), (1, "x", 0), (1, "x", 65_536), (1, "x", -1)] {
            assert_eq!(brokers.learn(node, host, port), None, "{node} {host} {port}");
        }
        assert_eq!(brokers.learn(1, "x", 9092), Some((0, false)));
        assert_eq!(brokers.learn(1, "y", 9092), Some((0, true)), "moved");
        assert_eq!(brokers.next_candidate(Lane::Control, Instant::now()), Some(0));
    }
}
