//! One shard of a proxy: the connections of one thread.
//!
//! Nothing is shared with another shard but the board, which no byte passes. No `RefCell` is borrowed across an await.

mod accept;
mod ask;
pub mod board;
mod conn;
mod conns;
mod greeting;
mod login;
mod pipe;
mod probe;
mod sweep;
mod tenant_board;
mod tenants;
mod upstream;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use foldhash::HashMap;
use runtime::mailbox::{Receiver, Sender};
use runtime::notify::Notify;
use runtime::pool::BufferPool;
use runtime::server::{Fresh, Placement};

use crate::config::ProxyConfig;
use crate::listeners::Target;
use crate::metrics::{ProxyMetrics, ShardMetrics};
use crate::shard::board::Board;
use crate::shard::conns::Conns;
use crate::shard::tenants::TenantShard;
use crate::topology::{Learned, Naming, Topology, View};

/// It asks the brokers whether they answer, for the whole process.
const PROBING_SHARD: usize = 0;

/// What a shard is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Stop accepting; end each connection between two requests.
    Drain,
    /// Take the newest snapshot of the tenants.
    Snapshot,
    /// End all.
    Stop,
    /// Panic, for tests of what follows.
    Panic,
}

/// What a shard is built from.
pub struct ShardParts {
    pub id: usize,
    pub config: Arc<ProxyConfig>,
    pub naming: Naming,
    pub board: Arc<Board>,
    pub listeners: Vec<(Target, TcpListener)>,
    pub metrics: Arc<ProxyMetrics>,
    pub connections_max: usize,
    pub adopt: Vec<Sender<Fresh<Target>>>,
    pub adopted: Receiver<Fresh<Target>>,
    pub control: Receiver<Control>,
    /// Of the access log, if there is one.
    pub lines: Option<SyncSender<String>>,
}

/// One per core.
pub struct Shard {
    pub id: usize,
    pub config: Arc<ProxyConfig>,
    pub naming: Naming,
    pub board: Arc<Board>,
    pub metrics: ShardMetrics,
    pub pool: BufferPool,
    pub conns: Conns,
    pub placement: Placement<Target>,
    pub drain_began: Notify,
    /// Accepting has ended here; what other shards still hand over ends after its first request.
    pub is_draining: Cell<bool>,
    /// Rung when the brokers should be asked now.
    pub probe_now: Notify,
    topology: RefCell<(u64, Arc<Topology>)>,
    /// Host names of views, by the address clients connected to.
    hosts: RefCell<HashMap<IpAddr, Rc<str>>>,
    /// Which of the bootstrap brokers is asked next.
    turn: Cell<usize>,
    stopped: Notify,
    /// None: everybody is served as the brokers do.
    pub tenants: Option<TenantShard>,
}

/// Runs a shard until it is told to stop.
pub async fn run(parts: ShardParts) {
    let ShardParts { id, config, naming, board, listeners, metrics, connections_max, adopt, adopted, control, lines } =
        parts;
    let tenants =
        config.tenants.as_ref().map(|tenants| TenantShard::new(tenants, board.tenants(), config.shard_count, lines));
    let shard = Rc::new(Shard {
        id,
        naming,
        metrics: metrics.shard(),
        pool: BufferPool::current(),
        conns: Conns::new(connections_max),
        placement: Placement::new(id, board.crowd.clone(), board.roll.clone(), adopt),
        drain_began: Notify::new(),
        is_draining: Cell::new(false),
        probe_now: Notify::new(),
        topology: RefCell::new((board.learned_count(), board.topology())),
        hosts: RefCell::default(),
        turn: Cell::new(id),
        stopped: Notify::new(),
        tenants,
        config,
        board,
    });
    for (target, listener) in listeners {
        drop(runtime::spawn(accept::accept(Rc::clone(&shard), target, listener)));
    }
    drop(runtime::spawn(accept::adopt(Rc::clone(&shard), adopted)));
    drop(runtime::spawn(obey(Rc::clone(&shard), control)));
    drop(runtime::spawn(sweep::sweep(Rc::clone(&shard))));
    drop(runtime::spawn(tenants::learn_topics(Rc::clone(&shard))));
    if id == PROBING_SHARD {
        drop(runtime::spawn(probe::probe(Rc::clone(&shard))));
    }
    shard.stopped.notified().await;
    if let Some(tenants) = &shard.tenants {
        tenants.access_log.close();
    }
}

async fn obey(shard: Rc<Shard>, mut control: Receiver<Control>) {
    while let Some(told) = control.recv().await {
        match told {
            Control::Drain => {
                shard.is_draining.set(true);
                shard.drain_began.notify();
                shard.conns.retire_all();
                drop(runtime::spawn(finish(Rc::clone(&shard))));
            }
            Control::Snapshot => tenants::take_snapshot(&shard),
            Control::Stop => shard.stopped.notify(),
            Control::Panic => panic!("this shard was told to panic"),
        }
    }
}

/// Ends a draining shard with its last connection.
async fn finish(shard: Rc<Shard>) {
    while shard.conns.count() > 0 {
        runtime::time::sleep(sweep::DRAIN_LOOK_EVERY).await;
    }
    shard.stopped.notify();
}

impl Shard {
    /// The brokers as this process knows them.
    pub fn topology(&self) -> Arc<Topology> {
        let count = self.board.learned_count();
        let mut mine = self.topology.borrow_mut();
        if mine.0 != count {
            *mine = (count, self.board.topology());
        }
        Arc::clone(&mine.1)
    }

    /// Takes in what a broker said of its cluster.
    pub fn learn(&self, learned: &[Learned]) {
        if learned.is_empty() || self.topology().knows(learned) {
            return;
        }
        if self.board.learn(learned) {
            for one in learned {
                let outside = !self.view_of("").has_place(one.node);
                let (node, host, port) = (one.node, &one.address.host, one.address.port);
                if outside {
                    tracing::warn!(node, host, port, "broker outside the range: it leads nothing for clients");
                } else {
                    tracing::info!(node, host, port, "broker known");
                }
            }
        }
    }

    /// What a client sees that connected to this address of ours.
    pub fn view(&self, local: IpAddr) -> View {
        let mut hosts = self.hosts.borrow_mut();
        let host = hosts.entry(local).or_insert_with(|| match &self.config.advertised {
            Some(host) => host.as_str().into(),
            None => local.to_canonical().to_string().into(),
        });
        View { host: Rc::clone(host), naming: self.naming.clone() }
    }

    fn view_of(&self, host: &str) -> View {
        View { host: host.into(), naming: self.naming.clone() }
    }

    /// The next number of a round.
    pub fn turn(&self) -> usize {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        turn
    }
}
