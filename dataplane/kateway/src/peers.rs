//! Tells the shards where the other gateways are, as the registry has them.

use gateway::{Peer, Peers};
use registry::{NodeInfo, NodeKind, Registry};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A registry that does not let us watch is asked again after so long.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// Hands `set` a new map now and whenever gateways come or go; while the registry is away the last one stands.
pub async fn follow(registry: Arc<dyn Registry>, this: String, set: impl Fn(Arc<Peers>)) {
    loop {
        if let Ok(mut nodes) = registry.watch(Some(NodeKind::Kateway)).await {
            loop {
                let peers = peers(&this, &nodes.borrow_and_update());
                set(Arc::new(peers));
                if nodes.changed().await.is_err() {
                    break;
                }
            }
        }
        tokio::time::sleep(WATCH_AGAIN).await;
    }
}

/// The publish listeners of these nodes. One that cannot be told is left out: its node is away as far as we can reach.
fn peers(this: &str, nodes: &[NodeInfo]) -> Peers {
    let others = nodes.iter().filter(|node| node.kind == NodeKind::Kateway);
    Peers::new(this.to_owned(), others.filter_map(|node| Some((node.id.clone(), publish_listener(node)?))))
}

/// A node announces where it listens; one that listens everywhere can be found at its host.
fn publish_listener(node: &NodeInfo) -> Option<Peer> {
    let announced = node.addresses.get("pub")?;
    let (address, tls) = match announced.strip_prefix("https://") {
        Some(address) => (address, true),
        None => (announced.strip_prefix("http://").unwrap_or(announced), false),
    };
    let mut address: SocketAddr = address.parse().ok()?;
    if address.ip().is_unspecified() {
        let host = node.host.parse().ok().filter(|host: &IpAddr| !host.is_unspecified());
        let loopback = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(host.unwrap_or(loopback));
    }
    Some(Peer { address, tls })
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry::memory::MemoryEnsemble;
    use registry::{NodeState, NodeWish};
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    fn node(id: &str, host: &str, publish: Option<&str>) -> NodeInfo {
        NodeInfo {
            kind: NodeKind::Kateway,
            id: id.to_owned(),
            zone: "local".to_owned(),
            version: "0.1.0".to_owned(),
            host: host.to_owned(),
            pid: 1,
            started_at_ms: 0,
            addresses: publish
                .map(|address| ("pub".to_owned(), address.to_owned()))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
            applied: None,
            state: NodeState::Serving,
            obeys: Some(NodeWish::default()),
            refuses: None,
        }
    }

    #[test]
    fn a_node_is_found_where_it_listens_and_one_that_listens_everywhere_at_its_host() {
        for (host, publish, expected) in [
            ("10.0.0.1", Some("127.0.0.1:9191"), "http://127.0.0.1:9191"),
            ("10.0.0.1", Some("0.0.0.0:9191"), "http://10.0.0.1:9191"),
            ("0.0.0.0", Some("0.0.0.0:9191"), "http://127.0.0.1:9191"),
            ("::", Some("[::]:9191"), "http://[::1]:9191"),
            ("gw.example", Some("0.0.0.0:9191"), "http://127.0.0.1:9191"),
            ("10.0.0.1", Some("https://10.0.0.1:9443"), "https://10.0.0.1:9443"),
            ("10.0.0.1", Some("somewhere"), "away"),
            ("10.0.0.1", None, "away"),
        ] {
            let peers = peers("us", &[node("other", host, publish)]);
            let found = peers.get("other").map_or("away".to_owned(), Peer::to_string);
            assert_eq!(found, expected, "{publish:?} at {host}");
        }
    }

    #[tokio::test]
    async fn who_comes_is_a_peer_and_who_leaves_is_away() {
        let ensemble = MemoryEnsemble::default();
        let (ours, theirs) = (ensemble.open(), ensemble.open());
        ours.register(&node("us", "127.0.0.1", Some("127.0.0.1:1"))).await.unwrap();
        let laid_out: Arc<Mutex<Arc<Peers>>> = Arc::default();
        let told = Arc::clone(&laid_out);
        let following =
            tokio::spawn(follow(Arc::new(ours), "us".to_owned(), move |peers| *told.lock().unwrap() = peers));
        let becomes = async |expected: Option<&str>| {
            for _ in 0..500 {
                let peers = Arc::clone(&laid_out.lock().unwrap());
                let found = peers.get("them").map(Peer::to_string);
                if peers.this() == "us" && found.as_deref() == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("peers are {:?}, expected them at {expected:?}", laid_out.lock().unwrap());
        };
        becomes(None).await;
        theirs.register(&node("them", "127.0.0.1", Some("127.0.0.1:2"))).await.unwrap();
        becomes(Some("http://127.0.0.1:2")).await;
        theirs.register(&node("them", "127.0.0.1", Some("127.0.0.1:3"))).await.unwrap();
        becomes(Some("http://127.0.0.1:3")).await;
        theirs.unregister(NodeKind::Kateway, "them").await.unwrap();
        becomes(None).await;
        following.abort();
    }
}
