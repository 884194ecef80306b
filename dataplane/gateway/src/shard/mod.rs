//! One shard: everything a request needs, owned by one thread.
//!
//! Nothing here is shared with another shard except through mailboxes and the board, which the request path does not
//! touch. No `RefCell` is borrowed across an await.

mod accept;
pub mod control;
mod drain;
mod drive;
mod handoff;
mod jobs;
mod mail;
mod state;
mod sweep;

use crate::access::Access;
use crate::config::{ClusterSpec, GatewayConfig};
use crate::endpoints::Services;
use crate::env::Env;
use crate::env::access_log::AccessLog;
use crate::env::board::Board;
use crate::env::metrics::GatewayMetrics;
use crate::jobs::Jobs;
use crate::jobs::desk::Desk;
use crate::kafka::{Clusters, Probing};
use crate::publish::Publishing;
use crate::publish::handoff::Handoff;
use crate::publish::handoff::pace::Pace;
use crate::publish::handoff::store::Store;
use crate::serve::conns::Conns;
use crate::subscribe::mail::{Mail, Post};
use crate::subscribe::subscriptions::Subscriptions;
pub use accept::Adopted;
use control::ControlInbox;
use model::Side;
use runtime::mailbox::{Receiver, Sender};
use runtime::notify::Notify;
use runtime::pool::BufferPool;
use runtime::server::Placement;
use state::Shard;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

/// It asks the clusters whether they answer, for the whole process.
const PROBING_SHARD: usize = 0;

/// What a shard is built from.
pub struct ShardParts {
    pub id: usize,
    pub config: Arc<GatewayConfig>,
    pub board: Arc<Board>,
    pub clusters: Vec<ClusterSpec>,
    pub listeners: Vec<(Side, std::net::TcpListener)>,
    pub metrics: Arc<GatewayMetrics>,
    pub access_log: AccessLog,
    pub connections_max: usize,
    /// Of every shard, this one's too.
    pub mail: Vec<Sender<Mail>>,
    pub adopt: Vec<Sender<Adopted>>,
    pub inboxes: Inboxes,
    /// The process's journal, if it hands off.
    pub handoff: Option<Arc<Store>>,
    /// Its delayed jobs, if it keeps any.
    pub jobs: Option<Arc<Desk>>,
}

/// What others may tell a shard, each kind in a lane of its own.
pub struct Inboxes {
    pub control: ControlInbox,
    pub mail: Receiver<Mail>,
    pub adopted: Receiver<Adopted>,
    /// Rung by the journal and by other shards' handing off.
    pub handoff: Receiver<()>,
    /// Rung by the store of delayed jobs.
    pub jobs: Receiver<()>,
}

/// Runs a shard until it is told to stop.
pub async fn run(parts: ShardParts) {
    let ShardParts {
        id,
        config,
        board,
        clusters,
        listeners,
        metrics,
        access_log,
        connections_max,
        mail,
        adopt,
        inboxes,
        handoff,
        jobs,
    } = parts;
    let probing = if id == PROBING_SHARD { Probing::Asks } else { Probing::Relies };
    let clusters = Clusters::new(clusters, &config, probing, Instant::now());
    let pace = Pace::new(config.handoff.drain_bytes_per_s, config.shard_count);
    let (crowd, roll) = (board.connections.clone(), board.roll.clone());
    let shard = Rc::new(Shard {
        conns: Rc::new(Conns::new(id, connections_max, Arc::clone(&board))),
        services: Rc::new_cyclic(|itself| Services {
            itself: Weak::clone(itself),
            access: Access::new(board.snapshot().1, config.shard_count),
            env: Env::new(id, BufferPool::current(), config, board, metrics.shard(), access_log),
            clusters,
            publishing: Publishing::new(Handoff::new(handoff, id, pace)),
            jobs: Jobs::new(jobs, id),
            subscriptions: Subscriptions::new(Post::new(mail)),
        }),
        placement: Placement::new(id, crowd, roll, adopt),
        stopped: Notify::new(),
    });
    let services = &shard.services;
    for cluster in services.clusters.iter() {
        runtime::spawn(drive::drive(Rc::clone(services), Rc::clone(cluster)));
        runtime::spawn(Rc::clone(cluster).keep_time());
    }
    for (side, listener) in listeners {
        runtime::spawn(accept::accept(Rc::clone(&shard), side, listener));
    }
    runtime::spawn(accept::adopt(Rc::clone(&shard), inboxes.adopted));
    runtime::spawn(mail::read(Rc::clone(services), inboxes.mail));
    runtime::spawn(handoff::listen(Rc::clone(services), inboxes.handoff));
    runtime::spawn(handoff::keep(Rc::clone(services)));
    runtime::spawn(jobs::listen(Rc::clone(services), inboxes.jobs));
    runtime::spawn(control::obey(Rc::clone(&shard), inboxes.control));
    runtime::spawn(sweep::sweep(Rc::clone(services), Rc::clone(&shard.conns)));
    shard.stopped.notified().await;
    services.clusters.iter().for_each(|cluster| cluster.stop());
    services.env.access_log.close();
}
