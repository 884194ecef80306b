//! Fresh connections: accepted here, or handed over by the shard that accepted them.

use crate::limits::ACCEPT_PAUSE;
use crate::serve::h1;
use crate::shard::state::Shard;
use model::Side;
use runtime::mailbox::Receiver;
use runtime::net::{Listener, Stream};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// A connection that was accepted elsewhere and not touched since.
pub struct Adopted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    side: Side,
}

/// Accepts until the shard drains.
pub async fn accept(shard: Rc<Shard>, side: Side, listener: std::net::TcpListener) {
    let env = &shard.services.env;
    let listener = match Listener::from_std(listener) {
        Ok(listener) => listener,
        Err(err) => {
            tracing::error!(shard = env.shard, %err, "cannot accept on this shard");
            return;
        }
    };
    loop {
        let accepted = match runtime::race(listener.accept_std(), env.drain_began.notified()).await {
            runtime::Either::First(accepted) => accepted,
            runtime::Either::Second(()) => {
                env.drain_began.notify(); // one notification lets one waiter through: pass it on
                return;
            }
        };
        match accepted {
            Ok((_, peer)) if !env.board.by_address.try_add(peer.ip()) => {
                tracing::debug!(shard = env.shard, %peer, "as many connections as limits.connections_per_address allows");
                env.metrics.connections_full("connections_of_address");
            }
            Ok((stream, peer)) => shard.place(Adopted { stream, peer, side }),
            Err(err) => {
                // Out of descriptors, most likely: wait for some to be closed instead of spinning.
                tracing::warn!(shard = env.shard, %err, "accept failed");
                env.metrics.accept_failed();
                runtime::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves what other shards hand over.
pub async fn adopt(shard: Rc<Shard>, mut inbox: Receiver<Adopted>) {
    while let Some(adopted) = inbox.recv().await {
        shard.serve(adopted);
    }
}

impl Shard {
    /// Gives a fresh connection to the shard with the fewest, if this one has clearly more (SO_REUSEPORT is lumpy for
    /// few fat connections; DESIGN.md section 3).
    fn place(&self, fresh: Adopted) {
        let env = &self.services.env;
        let counts = &env.board.connections;
        let mine = counts[env.shard].load(Ordering::Relaxed);
        let (target, least) = counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .enumerate()
            .min_by_key(|(_, count)| *count)
            .unwrap_or((env.shard, mine));
        let mut fresh = fresh;
        if target != env.shard && mine > least + (least / 4).max(1) {
            counts[target].fetch_add(1, Ordering::Relaxed);
            match self.adopt[target].try_send(fresh) {
                Ok(()) => return,
                Err(refused) => {
                    counts[target].fetch_sub(1, Ordering::Relaxed);
                    fresh = refused.into_inner();
                }
            }
        }
        counts[env.shard].fetch_add(1, Ordering::Relaxed);
        self.serve(fresh);
    }

    /// Serves a connection that is counted on the board already.
    fn serve(&self, fresh: Adopted) {
        let Adopted { stream, peer, side } = fresh;
        let env = &self.services.env;
        let stream = if self.conns.is_full() {
            Err(std::io::Error::other("too many connections"))
        } else {
            Stream::from_std(stream)
        };
        match stream {
            Ok(stream) => {
                env.metrics.connection_opened(side);
                let (services, conns) = (Rc::clone(&self.services), Rc::clone(&self.conns));
                drop(runtime::spawn(h1::conn::serve(services, conns, stream, peer, side)));
            }
            Err(err) => {
                tracing::warn!(shard = env.shard, %peer, %err, "connection refused");
                env.metrics.connection_ended("refused");
                self.conns.uncount(peer);
            }
        }
    }
}
