//! Where the other gateways of the fleet take requests, for what only one of them can answer: a receipt names the node that
//! holds its record.
//!
//! The control plane lays a new map out whenever the registry says that nodes came or went; a node that is not in it is away.

use std::collections::HashMap;
use std::net::SocketAddr;

/// Another gateway's publish listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub address: SocketAddr,
    /// It speaks TLS.
    pub tls: bool,
}

impl std::fmt::Display for Peer {
    /// As the beginning of a URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }
}

/// The other gateways by their node ids. Immutable; shared as `Arc<Peers>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// The id of the node that this map is of, which is not in it.
    this: String,
    by_node: HashMap<String, Peer>,
}

impl Peers {
    pub fn new(this: String, others: impl IntoIterator<Item = (String, Peer)>) -> Peers {
        let by_node = others.into_iter().filter(|(node, _)| *node != this).collect();
        Peers { this, by_node }
    }

    /// This gateway's node id; empty as long as nobody has said.
    pub fn this(&self) -> &str {
        &self.this
    }

    /// `None`: the node is away, or this one.
    pub fn get(&self, node: &str) -> Option<&Peer> {
        self.by_node.get(node)
    }

    /// All others, by their node ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Peer)> {
        self.by_node.iter().map(|(node, peer)| (node.as_str(), peer))
    }

    pub fn len(&self) -> usize {
        self.by_node.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_no_peer_of_itself() {
        let peer = |port| Peer { address: SocketAddr::from(([127, 0, 0, 1], port)), tls: port == 2 };
        let peers = Peers::new("one".to_owned(), [("one".to_owned(), peer(1)), ("two".to_owned(), peer(2))]);
        assert_eq!((peers.get("one"), peers.get("two"), peers.get("three")), (None, Some(&peer(2)), None));
        assert_eq!((peers.this(), peers.len()), ("one", 1));
        assert_eq!([peer(1), peer(2)].map(|peer| peer.to_string()), ["http://127.0.0.1:1", "https://127.0.0.1:2"]);
    }
}
