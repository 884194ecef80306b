//! One number for a fleet: who may give away how much of it.
//!
//! Every node tells the lessor a few times a second what is wanted of each limit at its place, and gets its share of it,
//! for a while ([`VALID_MS`]). A node gets more only when the others have been told that they have less, or have fallen
//! silent for so long that their shares ended; so shares of a limit never add up to more than it, but for a floor of 2 %.
//!
//! When less is wanted than the limit, everybody gets what it wants and a part of the rest. When more is wanted, shares
//! are max-min fair (Bertsekas and Gallager, Data Networks, section 6.5): nobody gets more than it wants, and whoever gets
//! less gets as much as anybody.
//!
//! A node without a share, because nothing was wanted there lately or because nobody leases, may give away an equal part:
//! the limit divided by the number of nodes it was last told. So a limit holds while the lessor is away, and is only less
//! well used. A lessor that has just begun gives nobody more than it has, until it must have heard everybody.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use crate::limits::QUOTA_DEMANDS_MAX;
use crate::quota::Measure;

/// For how long a share holds.
pub const VALID_MS: u64 = 2_000;
/// Of what it wants a node gets so much more while there is plenty: demand grows between two reports.
const HEADROOM: f64 = 1.25;
/// Of an equal part every node has so much at least, so that what begins to be wanted is not refused until the next report.
const FLOOR: f64 = 0.02;

/// A subject as processes of one fleet call it: by its index in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectId {
    App(u32),
    Topic(u32),
}

/// What a node says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub node: String,
    pub demands: Vec<Demand>,
}

/// What is wanted of one limit at one node.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    pub subject: SubjectId,
    pub measure: Measure,
    /// As the node's snapshot has it.
    pub limit: u64,
    /// Units per second that were asked for; connections that were refused.
    pub wanted: f64,
    /// Connections that there are.
    #[serde(default)]
    pub used: u64,
    /// The share it has: a lessor that was just elected knows of none.
    pub held: f64,
}

/// What the lessor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Nodes that said something lately.
    pub nodes: u32,
    pub valid_ms: u64,
    pub shares: Vec<Share>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub subject: SubjectId,
    pub measure: Measure,
    pub share: f64,
}

/// Splits the limits of a fleet among its nodes. One at a time; what it knows is gone with it and comes back with the
/// next reports.
#[derive(Debug, Default)]
pub struct Lessor {
    nodes: BTreeMap<String, Node>,
    /// When it began.
    since_ms: Option<u64>,
}

type Key = (SubjectId, Measure);

#[derive(Debug, Default)]
struct Node {
    heard_ms: u64,
    demands: HashMap<Key, Demand, RandomState>,
    /// Shares that were given, and until when they hold there.
    given: HashMap<Key, (f64, u64), RandomState>,
}

impl Lessor {
    /// Takes a node's report; its shares. `now_ms`: any clock that does not go back.
    pub fn exchange(&mut self, report: Report, now_ms: u64) -> Shares {
        self.since_ms.get_or_insert(now_ms);
        self.nodes.retain(|_, node| now_ms.saturating_sub(node.heard_ms) < 2 * VALID_MS);
        let node = self.nodes.entry(report.node.clone()).or_default();
        node.heard_ms = now_ms;
        let demands = report.demands.into_iter().take(QUOTA_DEMANDS_MAX);
        node.demands = demands.filter(Demand::is_sane).map(|demand| (demand.key(), demand)).collect();
        node.given.retain(|_, (_, until)| *until > now_ms);
        for (key, demand) in &node.demands {
            node.given.entry(*key).or_insert((demand.held, now_ms + VALID_MS));
        }
        let keys: Vec<Key> = node.demands.keys().copied().collect();
        let shares: Vec<Share> = keys
            .into_iter()
            .map(|key| Share { subject: key.0, measure: key.1, share: self.share(&report.node, key, now_ms) })
            .collect();
        let node = self.nodes.get_mut(&report.node).expect("it has just reported");
        for share in &shares {
            node.given.insert((share.subject, share.measure), (share.share, now_ms + VALID_MS));
        }
        Shares { nodes: self.nodes.len() as u32, valid_ms: VALID_MS, shares }
    }

    /// What `name` may have of one limit now.
    fn share(&self, name: &str, key: Key, now_ms: u64) -> f64 {
        let demands: Vec<(&str, &Demand)> =
            self.nodes.iter().filter_map(|(name, node)| Some((&**name, node.demands.get(&key)?))).collect();
        // While nodes do not agree, because one has an older snapshot, the smallest holds.
        let limit = demands.iter().map(|(_, demand)| demand.limit).min().expect("its own is there") as f64;
        let place = demands.iter().position(|(of, _)| *of == name).expect("its own is there");
        let floor = FLOOR * limit / self.nodes.len() as f64;
        let target = if key.1 == Measure::Connections {
            let used: Vec<f64> = demands.iter().map(|(_, demand)| demand.used as f64).collect();
            let free = (limit - used.iter().sum::<f64>()).max(0.0);
            let wanted: Vec<f64> = demands.iter().map(|(_, demand)| demand.wanted).collect();
            used[place] + split(free, &wanted)[place]
        } else {
            let wanted: Vec<f64> = demands.iter().map(|(_, demand)| demand.wanted.max(floor)).collect();
            split(limit, &wanted)[place]
        };
        let others = self.nodes.iter().filter(|(of, _)| *of != name);
        let held_by_others: f64 = others
            .filter_map(|(_, node)| node.given.get(&key).filter(|(_, until)| *until > now_ms))
            .map(|(share, _)| share)
            .sum();
        let has_heard_all = self.since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= VALID_MS);
        let most = if has_heard_all { limit } else { demands[place].1.held };
        target.min(limit - held_by_others).min(most).max(floor)
    }
}

impl Demand {
    fn key(&self) -> Key {
        (self.subject, self.measure)
    }

    /// Numbers that can be calculated with: they come from another process.
    fn is_sane(&self) -> bool {
        let is_amount = |amount: f64| amount.is_finite() && amount >= 0.0;
        self.limit > 0 && is_amount(self.wanted) && is_amount(self.held)
    }
}

/// Splits `limit` among those who want these amounts.
fn split(limit: f64, wanted: &[f64]) -> Vec<f64> {
    let count = wanted.len() as f64;
    for factor in [HEADROOM, 1.0] {
        let sum: f64 = wanted.iter().map(|wanted| wanted * factor).sum();
        if sum <= limit {
            return wanted.iter().map(|wanted| wanted * factor + (limit - sum) / count).collect();
        }
    }
    // From the most modest on: everybody whose wish is below an equal part of what is left has it.
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let (mut shares, mut left) = (vec![0.0; wanted.len()], limit);
    for (done, place) in order.iter().enumerate() {
        let part = left / (wanted.len() - done) as f64;
        shares[*place] = wanted[*place].min(part);
        left -= shares[*place];
    }
    shares
}
