//! What every request of a shard may use and no request owns: configuration, time, memory, metrics, the log.

pub mod access_log;
pub mod board;
pub mod metrics;
pub mod peers;
pub mod traffic;
pub mod turns;

use crate::config::GatewayConfig;
use access_log::AccessLog;
use board::Board;
use bytes::BytesMut;
use gafka_http::date::{DateCache, HttpDate};
use metrics::ShardMetrics;
use runtime::budget::Budget;
use runtime::clock::Clock;
use runtime::notify::Notify;
use runtime::pool::BufferPool;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;
use traffic::ShardTraffic;
use turns::Turns;

/// One per shard.
pub struct Env {
    /// Number of the shard.
    pub shard: usize,
    pub config: Arc<GatewayConfig>,
    pub board: Arc<Board>,
    pub pool: BufferPool,
    pub budget: Budget,
    pub metrics: ShardMetrics,
    pub access_log: AccessLog,
    pub traffic: ShardTraffic,
    pub turns: Turns,
    /// The block answers are written into.
    pub answers: RefCell<BytesMut>,
    clock: Clock,
    dates: RefCell<DateCache>,
    request_ids: Cell<u64>,
    request_id_prefix: u32,
    draining: Cell<bool>,
    /// Rung when draining begins, for the accept loops.
    pub drain_began: Notify,
}

impl Env {
    pub fn new(
        shard: usize,
        pool: BufferPool,
        config: Arc<GatewayConfig>,
        board: Arc<Board>,
        metrics: ShardMetrics,
        access_log: AccessLog,
    ) -> Env {
        Env {
            shard,
            budget: Budget::new(config.budget()),
            config,
            traffic: board.traffic.shard(shard),
            board,
            pool,
            metrics,
            access_log,
            turns: Turns::default(),
            answers: RefCell::default(),
            clock: Clock::new(),
            dates: RefCell::default(),
            request_ids: Cell::new(0),
            request_id_prefix: runtime::clock::seed() as u32,
            draining: Cell::new(false),
            drain_began: Notify::new(),
        }
    }

    /// As [`Env::alone`], without apps and topics.
    #[cfg(test)]
    pub fn of_nobody(config: GatewayConfig) -> Env {
        let doc = model::SnapshotDoc {
            generation: 1,
            history: model::HistoryId::new(1),
            made_at_ms: 0,
            apps: Vec::new(),
            topics: Vec::new(),
            grants: Vec::new(),
        };
        Env::alone(config, Arc::new(model::Snapshot::build(doc).expect("an empty snapshot")))
    }

    /// Of a shard that has no ring and no other shards.
    #[cfg(test)]
    pub fn alone(config: GatewayConfig, snapshot: Arc<model::Snapshot>) -> Env {
        let board = Arc::new(Board::new(&config, ["main".to_owned()].into_iter(), [1; 16], snapshot));
        let metrics = metrics::GatewayMetrics::default().shard();
        Env::new(0, BufferPool::default(), Arc::new(config), board, metrics, AccessLog::default())
    }

    /// Takes the time for everything that happens in this burst.
    pub fn tick(&self) -> Instant {
        self.clock.tick()
    }

    /// The time of the last [`Env::tick`].
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    pub fn wall_clock_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub fn date(&self) -> HttpDate {
        self.dates.borrow_mut().at(self.clock.now_ms())
    }

    /// 24 hexadecimal digits: shard prefix and a counter.
    pub fn next_request_id(&self) -> SmallVec<[u8; 24]> {
        let number = self.request_ids.get();
        self.request_ids.set(number + 1);
        let mut id = [0; 24];
        put_hex(&mut id[..8], &self.request_id_prefix.to_be_bytes());
        put_hex(&mut id[8..], &number.to_be_bytes());
        SmallVec::from_buf(id)
    }

    /// The configured origin a browser's request comes from, as its index.
    pub fn allowed_origin(&self, origin: &[u8]) -> Option<u16> {
        let origins = &self.config.cors_origins;
        origins.iter().position(|known| known.as_bytes() == origin).and_then(|index| index.try_into().ok())
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub fn begin_draining(&self) {
        self.draining.set(true);
        self.drain_began.notify();
    }
}

/// Two lower-case hexadecimal digits per byte.
fn put_hex(out: &mut [u8], bytes: &[u8]) {
    for (digits, byte) in out.chunks_exact_mut(2).zip(bytes) {
        digits[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        digits[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
}
