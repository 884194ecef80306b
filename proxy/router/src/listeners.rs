//! The ports of a proxy, all of them bound before the first broker was heard of: clients come back to where they were.

use std::io;
use std::net::{SocketAddr, TcpListener};

use runtime::net::bind_reuseport;

use crate::config::Listen;
use crate::topology::Naming;

/// With port 0, how many ranges are tried.
const RANGES_TRIED_MAX: usize = 100;

/// What a port, or the server name asked for on it, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Bootstrap,
    Node(i32),
}

/// Bound, not yet accepting.
pub struct Listeners {
    /// Where clients begin.
    pub bootstrap: SocketAddr,
    pub naming: Naming,
    /// By shard.
    pub by_shard: Vec<Vec<(Target, TcpListener)>>,
}

impl Listeners {
    /// Binds everything for so many shards.
    pub fn bind(listen: &Listen, shard_count: usize) -> io::Result<Listeners> {
        match listen {
            Listen::Names { listen, pattern } => {
                let mut by_shard = empty(shard_count);
                let bootstrap = add(&mut by_shard, Target::Bootstrap, *listen)?;
                let naming = Naming::Names { pattern: pattern.as_str().into(), port: bootstrap.port() };
                Ok(Listeners { bootstrap, naming, by_shard })
            }
            Listen::Ports { bootstrap, base, width } => {
                let tries = if bootstrap.port() == 0 { RANGES_TRIED_MAX } else { 1 };
                let mut last = None;
                for _ in 0..tries {
                    match bind_range(*bootstrap, *base, *width, shard_count) {
                        Ok(listeners) => return Ok(listeners),
                        Err(err) => last = Some(err),
                    }
                }
                Err(last.unwrap_or_else(|| io::Error::other("no port was tried")))
            }
        }
    }
}

fn empty(shard_count: usize) -> Vec<Vec<(Target, TcpListener)>> {
    (0..shard_count).map(|_| Vec::new()).collect()
}

fn add(by_shard: &mut [Vec<(Target, TcpListener)>], target: Target, addr: SocketAddr) -> io::Result<SocketAddr> {
    let (bound, listeners) = bind_reuseport(addr, by_shard.len())?;
    by_shard.iter_mut().zip(listeners).for_each(|(shard, listener)| shard.push((target, listener)));
    Ok(bound)
}

fn bind_range(bootstrap: SocketAddr, base: i32, width: u16, shard_count: usize) -> io::Result<Listeners> {
    let mut by_shard = empty(shard_count);
    let bootstrap = add(&mut by_shard, Target::Bootstrap, bootstrap)?;
    let too_high = || {
        let message = format!("the {width} ports behind {} end beyond 65535", bootstrap.port());
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    let first = bootstrap.port().checked_add(1).ok_or_else(too_high)?;
    for at in 0..width {
        let port = first.checked_add(at).ok_or_else(too_high)?;
        let target = Target::Node(base.saturating_add(i32::from(at)));
        add(&mut by_shard, target, SocketAddr::new(bootstrap.ip(), port))?;
    }
    Ok(Listeners { bootstrap, naming: Naming::Ports { first, base, width }, by_shard })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(port: u16, width: u16) -> io::Result<Listeners> {
        let bootstrap = SocketAddr::from(([127, 0, 0, 1], port));
        Listeners::bind(&Listen::Ports { bootstrap, base: 1000, width }, 2)
    }

    #[test]
    fn the_whole_range_is_bound_on_every_shard_and_a_second_proxy_is_refused() {
        let listeners = range(0, 5).expect("some range is free");
        let port = listeners.bootstrap.port();
        assert_eq!(listeners.naming, Naming::Ports { first: port + 1, base: 1000, width: 5 });
        for shard in &listeners.by_shard {
            let bound: Vec<_> = shard.iter().map(|(target, listener)| (*target, listener.local_addr())).collect();
            assert_eq!(bound.len(), 6);
            assert_eq!(bound[2].0, Target::Node(1001));
            assert_eq!(bound[2].1.as_ref().expect("bound").port(), port + 2);
        }
        assert_eq!(range(port + 3, 0).map(|_| ()).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_range_beyond_the_last_port_is_refused() {
        let err = range(65_530, 64).map(|_| ()).expect_err("there are no such ports");
        assert!(matches!(err.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::AddrInUse), "{err}");
    }
}
