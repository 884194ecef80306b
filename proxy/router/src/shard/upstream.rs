//! The broker's side of a connection: which broker, and how it is reached.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use runtime::net::{self, Stream};

use crate::limits::CONNECT_TIMEOUT;
use crate::listeners::Target;
use crate::requests::Upstream;
use crate::shard::{Shard, tenants};
use crate::topology::Address;

/// A connected broker.
pub struct Broker {
    pub stream: Stream,
    pub upstream: Upstream,
    /// For the metric: its node id, or `bootstrap`.
    pub label: Arc<str>,
}

/// Connects to the broker a client means, or to any while that one is unknown: the client then hears from it who leads
/// what, and so do we.
pub async fn connect(shard: &Rc<Shard>, target: Target) -> io::Result<Broker> {
    let meant = match target {
        Target::Node(node) => shard.topology().address(node).cloned(),
        Target::Bootstrap => None,
    };
    if let Some(address) = meant {
        let stream = connect_to(shard, &address).await.inspect_err(|_| shard.probe_now.notify())?;
        let Target::Node(node) = target else { unreachable!("only a node has an address") };
        return Ok(Broker { stream, upstream: Upstream::Meant, label: node.to_string().into() });
    }
    let stream = connect_to_any(shard).await?;
    Ok(Broker { stream, upstream: Upstream::Any, label: "bootstrap".into() })
}

/// The bootstrap brokers in turn, then those that were heard of.
pub async fn connect_to_any(shard: &Rc<Shard>) -> io::Result<Stream> {
    let configured = &shard.config.bootstrap;
    let turn = shard.turn();
    let topology = shard.topology();
    let known: Vec<&Address> = topology.nodes().map(|(_, address)| address).collect();
    let in_turn = |all: usize, at: usize| (turn.wrapping_add(at)) % all.max(1);
    let configured = (0..configured.len()).map(|at| &configured[in_turn(configured.len(), at)]);
    let known = (0..known.len()).map(|at| known[in_turn(known.len(), at)]);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no bootstrap broker is configured");
    for address in configured.chain(known).take(BROKERS_TRIED_MAX) {
        match connect_to(shard, address).await {
            Ok(stream) => return Ok(stream),
            Err(err) => last = err,
        }
    }
    Err(last)
}

/// For one client; it asks again.
const BROKERS_TRIED_MAX: usize = 6;

/// Connects to a broker, with TLS where it is on, and logged in where the proxy has a login.
pub async fn connect_to(shard: &Rc<Shard>, address: &Address) -> io::Result<Stream> {
    let stream = net::connect(&address.host, address.port, CONNECT_TIMEOUT).await?;
    let mut stream = match shard.board.upstream_tls() {
        None => stream,
        Some(tls) => runtime::time::timeout(CONNECT_TIMEOUT, tls.connect(stream, &address.host))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time")))?,
    };
    tenants::introduce(shard, &mut stream).await?;
    Ok(stream)
}
