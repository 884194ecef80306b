//! Fresh connections: accepted here, or handed over by the shard that accepted them.

use crate::serve::h1;
use crate::shard::state::Shard;
use model::Side;
use runtime::mailbox::Receiver;
use runtime::net::{Listener, Stream};
use runtime::server::{self, Fresh};
use std::rc::Rc;

/// A connection that was accepted elsewhere and not touched since.
pub type Adopted = Fresh<Side>;

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
    let failed = |err| {
        tracing::warn!(shard = env.shard, %err, "accept failed");
        env.metrics.accept_failed();
    };
    server::accept(&listener, side, &env.drain_began, |fresh| shard.place(fresh), failed).await;
}

/// Serves what other shards hand over.
pub async fn adopt(shard: Rc<Shard>, mut inbox: Receiver<Adopted>) {
    while let Some(adopted) = inbox.recv().await {
        shard.serve(adopted);
    }
}

impl Shard {
    /// Serves a connection here or on the shard with the fewest.
    fn place(&self, fresh: Adopted) {
        let env = &self.services.env;
        let peer = fresh.peer;
        if !env.board.by_address.try_add(peer.ip()) {
            tracing::debug!(shard = env.shard, %peer, "as many connections as limits.connections_per_address allows");
            env.metrics.connections_full("connections_of_address");
        } else if let Some(fresh) = self.placement.place(fresh) {
            self.serve(fresh);
        }
    }

    /// Serves a connection that is counted on the board already.
    fn serve(&self, fresh: Adopted) {
        let Adopted { stream, peer, tag: side } = fresh;
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
