//! Where brokers really listen, and where clients are told they do.
//!
//! ```text
//!   node n  ── Topology ──▶ kafka-7.internal:9092      known from what brokers answered; the proxy connects there
//!   node n  ──── View ────▶ proxy.example.org:9101     by arithmetic alone; what clients are told
//! ```
//! The two meet in the node id only: a view needs no topology, so every port is bound before a broker was heard of, and
//! every proxy of a fleet tells the same.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::limits::NODES_MAX;

/// Host and port of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

/// A broker and its address, as read from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    pub node: i32,
    pub address: Address,
}

/// All brokers ever heard of, by node id. One that is absent from a later answer is down, not gone: it keeps its address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    nodes: BTreeMap<i32, Address>,
}

impl Topology {
    pub fn address(&self, node: i32) -> Option<&Address> {
        self.nodes.get(&node)
    }

    pub fn nodes(&self) -> impl Iterator<Item = (i32, &Address)> {
        self.nodes.iter().map(|(node, address)| (*node, address))
    }

    /// Whether it says all of this already.
    pub fn knows(&self, learned: &[Learned]) -> bool {
        learned.iter().all(|one| self.nodes.get(&one.node) == Some(&one.address))
    }

    /// Takes it in.
    pub fn learn(&mut self, learned: &[Learned]) {
        for one in learned {
            if self.nodes.len() < NODES_MAX || self.nodes.contains_key(&one.node) {
                self.nodes.insert(one.node, one.address.clone());
            }
        }
    }
}

/// How broker addresses are made for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// Node n listens on `first + (n - base)`, for `width` nodes.
    Ports { first: u16, base: i32, width: u16 },
    /// Node n is a name made from a pattern with one `$` for its id, all on the port of the listener.
    Names { pattern: Arc<str>, port: u16 },
}

/// What one client sees: brokers under this proxy's names.
#[derive(Debug, Clone)]
pub struct View {
    /// The host in addresses made by [`Naming::Ports`].
    pub host: Rc<str>,
    pub naming: Naming,
}

impl View {
    /// Where this client finds a broker; None for one that this proxy has no place for.
    pub fn address(&self, node: i32) -> Option<Address> {
        let port = self.naming.port(node)?;
        let host = match &self.naming {
            Naming::Ports { .. } => self.host.to_string(),
            Naming::Names { pattern, .. } => pattern.replacen('$', &node.to_string(), 1),
        };
        Some(Address { host, port })
    }

    /// Whether it has a place: asked for every partition of a Metadata answer.
    pub fn has_place(&self, node: i32) -> bool {
        self.naming.port(node).is_some()
    }
}

impl Naming {
    fn port(&self, node: i32) -> Option<u16> {
        match self {
            Naming::Ports { first, base, width } => {
                let at = node.checked_sub(*base).and_then(|at| u16::try_from(at).ok()).filter(|at| at < width)?;
                first.checked_add(at)
            }
            Naming::Names { port, .. } => (node >= 0).then_some(*port),
        }
    }

    /// The node a server name asks for; case does not matter (RFC 6066, section 3).
    pub fn node_of_name(&self, server_name: &str) -> Option<i32> {
        let Naming::Names { pattern, .. } = self else { return None };
        let (before, after) = pattern.split_once('$')?;
        let name = server_name.to_ascii_lowercase();
        let digits = name.strip_prefix(&before.to_ascii_lowercase())?.strip_suffix(&after.to_ascii_lowercase())?;
        let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| digits.parse().ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(first: u16, base: i32, width: u16) -> View {
        View { host: "proxy".into(), naming: Naming::Ports { first, base, width } }
    }

    #[test]
    fn a_node_has_the_port_behind_the_bootstrap_port_or_none() {
        let rows = [
            (ports(9093, 0, 64), 0, Some(9093)),
            (ports(9093, 0, 64), 63, Some(9156)),
            (ports(9093, 0, 64), 64, None),
            (ports(9093, 0, 64), -1, None),
            (ports(9093, 1000, 8), 1001, Some(9094)),
            (ports(9093, 1000, 8), 999, None),
            (ports(9093, 1000, 8), i32::MIN, None),
            (ports(65_530, 0, 64), 10, None),
        ];
        for (view, node, port) in rows {
            assert_eq!(view.address(node).map(|address| address.port), port, "{:?} node {node}", view.naming);
        }
    }

    #[test]
    fn a_name_goes_to_its_node_and_back_whatever_its_case() {
        let naming = Naming::Names { pattern: "b$.Kafka.example".into(), port: 9443 };
        let view = View { host: "unused".into(), naming: naming.clone() };
        assert_eq!(view.address(12), Some(Address { host: "b12.Kafka.example".into(), port: 9443 }));
        for (name, node) in [
            ("b12.kafka.example", Some(12)),
            ("B0.KAFKA.EXAMPLE", Some(0)),
            ("b.kafka.example", None),
            ("b-1.kafka.example", None),
            ("b1x.kafka.example", None),
            ("b99999999999.kafka.example", None),
            ("kafka.example", None),
        ] {
            assert_eq!(naming.node_of_name(name), node, "{name}");
        }
    }

    #[test]
    fn a_broker_that_is_absent_keeps_its_address_and_one_that_moved_gets_the_new() {
        let at = |node, host: &str| Learned { node, address: Address { host: host.into(), port: 1 } };
        let mut topology = Topology::default();
        topology.learn(&[at(1, "a"), at(2, "b")]);
        topology.learn(&[at(2, "c")]);
        assert!(topology.knows(&[at(1, "a"), at(2, "c")]));
        assert!(!topology.knows(&[at(2, "b")]));
        assert!(!topology.knows(&[at(3, "a")]));
    }
}
