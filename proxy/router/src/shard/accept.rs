//! Fresh connections: accepted here, or handed over by the shard that accepted them.

use std::net::TcpListener;
use std::rc::Rc;

use runtime::mailbox::Receiver;
use runtime::net::{Listener, Stream};
use runtime::server::{self, Fresh};

use crate::listeners::Target;
use crate::shard::{Shard, conn};

/// Accepts until the shard drains.
pub async fn accept(shard: Rc<Shard>, target: Target, listener: TcpListener) {
    let listener = match Listener::from_std(listener) {
        Ok(listener) => listener,
        Err(err) => {
            tracing::error!(shard = shard.id, %err, "cannot accept on this shard");
            return;
        }
    };
    let failed = |err| {
        tracing::warn!(shard = shard.id, %err, "accept failed");
        shard.metrics.ended("accept_failed");
    };
    server::accept(&listener, target, &shard.drain_began, |fresh| place(&shard, fresh), failed).await;
}

/// Serves what other shards hand over.
pub async fn adopt(shard: Rc<Shard>, mut inbox: Receiver<Fresh<Target>>) {
    while let Some(fresh) = inbox.recv().await {
        serve(&shard, fresh);
    }
}

fn place(shard: &Rc<Shard>, fresh: Fresh<Target>) {
    if let Some(fresh) = shard.placement.place(fresh) {
        serve(shard, fresh);
    }
}

/// Serves a connection that is counted already.
fn serve(shard: &Rc<Shard>, fresh: Fresh<Target>) {
    let Fresh { stream, peer, tag } = fresh;
    let stream = if shard.conns.is_full() {
        Err(std::io::Error::other("as many connections as there may be"))
    } else {
        Stream::from_std(stream)
    };
    match stream {
        Ok(stream) => drop(runtime::spawn(conn::serve(Rc::clone(shard), stream, peer, tag))),
        Err(err) => {
            tracing::warn!(shard = shard.id, %peer, %err, "connection refused");
            shard.metrics.ended("refused");
            shard.board.crowd.leave(shard.id);
        }
    }
}
