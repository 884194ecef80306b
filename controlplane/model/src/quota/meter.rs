//! What is left of the limits of one app or topic on this node, and who of its shards may have it.
//!
//! A rate is a bucket that holds [`BURST_NS`] of it and may be overdrawn: a request is let through while something is
//! left, and charged with what it turned out to be (a batch's records, a poll's messages). So a message that is larger
//! than the bucket is possible, and is waited for afterwards. The bucket is one number, the time until which what was
//! given away is paid for (the virtual scheduling of GCRA, ITU-T I.371 annex A).
//!
//! All shards draw from one bucket, so a node gives away exactly its share however connections lie. A shard that has had
//! more than its part leaves the last [`RESERVE_NS`] to the others: without that, one that is flooded would take every
//! unit the moment it appears, and a modest client on another shard would find nothing, ever.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::authenticate::Side;
use crate::ids::{AppId, TopicName, TopicVersion};
use crate::limits::QUOTA_IDLE;
use crate::quota::lease::{Demand, Report, Shares, SubjectId, VALID_MS};
use crate::quota::{Limits, Measure};
use crate::snapshot::{App, Snapshot, Topic};

/// What may be taken at once after a quiet time, as a time of the rate.
pub const BURST_NS: u64 = 1_000_000_000;
/// What a shard beyond its part leaves to the others, likewise.
pub const RESERVE_NS: u64 = BURST_NS / 2;

/// What one charge may cost at most, and what a client is told to wait at most: whoever sets a limit of a byte a second has
/// made a mistake, or wants nothing to pass.
pub const DEBT_NS_MAX: u64 = 3_600 * BURST_NS;

const SECOND: f64 = 1e9;

/// Whose limits they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    App { index: u32, app: AppId },
    Topic { index: u32, owner: AppId, topic: TopicName, ver: TopicVersion },
}

impl Subject {
    pub fn of_app(app: &App) -> Self {
        Subject::App { index: app.index, app: app.id.clone() }
    }

    pub fn of_topic(topic: &Topic) -> Self {
        let (owner, name, ver) = (topic.owner.clone(), topic.name.clone(), topic.ver.clone());
        Subject::Topic { index: topic.index, owner, topic: name, ver }
    }

    pub fn id(&self) -> SubjectId {
        match self {
            Subject::App { index, .. } => SubjectId::App(*index),
            Subject::Topic { index, .. } => SubjectId::Topic(*index),
        }
    }

    /// Its limits now; `None`: it is gone.
    fn limits(&self, snapshot: &Snapshot) -> Option<Limits> {
        match self {
            Subject::App { index, app } => {
                snapshot.app(app.as_str()).filter(|app| app.index == *index).map(|app| app.limits)
            }
            Subject::Topic { index, owner, topic, ver } => snapshot
                .topic(owner.as_str(), topic.as_str(), ver.as_str())
                .filter(|topic| topic.index == *index)
                .map(|topic| topic.limits),
        }
    }

    fn name(&self) -> String {
        match self {
            Subject::App { app, .. } => format!("app {app}"),
            Subject::Topic { owner, topic, ver, .. } => format!("topic {owner}/{topic}/{ver}"),
        }
    }
}

/// Nothing is left right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    subject: String,
    pub measure: Measure,
    pub limit: u64,
    /// Until something is left again, if nobody else takes it.
    pub wait: Duration,
}

impl Exhausted {
    /// For `Retry-After`: whole seconds, at least one.
    pub fn retry_after_s(&self) -> u32 {
        u32::try_from(self.wait.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX).max(1)
    }
}

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phrase = self.measure.phrase(self.limit);
        write!(f, "{} may {phrase}, and that is spent; try again in {} s", self.subject, self.retry_after_s())
    }
}

/// One limit on this node.
#[derive(Debug)]
struct Bucket {
    /// Of the whole fleet; 0: none.
    limit: AtomicU64,
    /// What this node may give away per second, or have at one time: the bits of an `f64`.
    share: AtomicU64,
    /// A time in `now_ns`.
    spent_until: AtomicU64,
    /// What was asked for since the last report, granted or not.
    asked: AtomicU64,
    /// When the share falls back to an equal part, `now_ns`.
    leased_until: AtomicU64,
}

impl Bucket {
    fn of(limit: u64, share: f64) -> Self {
        Self {
            limit: AtomicU64::new(limit),
            share: AtomicU64::new(share.to_bits()),
            spent_until: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            leased_until: AtomicU64::new(0),
        }
    }

    fn limit(&self) -> Option<u64> {
        let limit = self.limit.load(Relaxed);
        (limit > 0).then_some(limit)
    }

    fn share(&self) -> f64 {
        f64::from_bits(self.share.load(Relaxed))
    }

    /// Another share. What is left stays what it was in units, so that a share that goes up and down creates nothing.
    fn set_share(&self, share: f64, now_ns: u64) {
        let before = self.share();
        if before.to_bits() == share.to_bits() {
            return;
        }
        self.share.store(share.to_bits(), Relaxed);
        if before == 0.0 {
            return; // there was no limit, and nothing was taken of it
        }
        let _ = self.spent_until.fetch_update(Relaxed, Relaxed, |spent_until| {
            let left_ns = (now_ns + BURST_NS) as f64 - spent_until.max(now_ns) as f64;
            let left_ns = (left_ns * before / share).min(BURST_NS as f64);
            Some(((now_ns + BURST_NS) as f64 - left_ns) as u64)
        });
    }

    fn time_of(&self, units: u64) -> u64 {
        ((units as f64 * SECOND / self.share()) as u64).min(DEBT_NS_MAX)
    }
}

/// The limits of one app or topic on this node. Shared by its shards.
#[derive(Debug)]
pub struct Meter {
    subject: Subject,
    buckets: [Bucket; Measure::ALL.len()],
}

impl Meter {
    fn bucket(&self, measure: Measure) -> &Bucket {
        &self.buckets[measure as usize]
    }

    /// How many connections there may be at this node now.
    pub fn connections_max(&self) -> u64 {
        let bucket = self.bucket(Measure::Connections);
        bucket.limit().map_or(u64::MAX, |_| bucket.share() as u64)
    }

    /// There are as many, and one more was wanted.
    pub fn refuse_connection(&self) -> Exhausted {
        let bucket = self.bucket(Measure::Connections);
        bucket.asked.fetch_add(1, Relaxed);
        self.exhausted(Measure::Connections, bucket.limit().unwrap_or(0), BURST_NS)
    }

    fn exhausted(&self, measure: Measure, limit: u64, wait_ns: u64) -> Exhausted {
        Exhausted { subject: self.subject.name(), measure, limit, wait: Duration::from_nanos(wait_ns.min(DEBT_NS_MAX)) }
    }
}

/// A meter as one shard uses it.
#[derive(Debug)]
pub struct ShardMeter {
    meter: Arc<Meter>,
    shard_count: u64,
    /// As [`Bucket::spent_until`], of what this shard took at its part of the rate.
    own: [Cell<u64>; Measure::RATES.len()],
}

impl ShardMeter {
    pub fn new(meter: Arc<Meter>, shard_count: usize) -> Self {
        Self { meter, shard_count: shard_count.max(1) as u64, own: Default::default() }
    }

    /// Whether something is left. `messages` and `bytes` are what is asked for, as far as that is known: they are not
    /// charged, but tell the fleet what is wanted here.
    pub fn check(&self, side: Side, messages: u64, bytes: u64, now_ns: u64) -> Result<(), Exhausted> {
        for (measure, units) in Measure::of(side).into_iter().zip([messages, bytes]) {
            let bucket = self.meter.bucket(measure);
            let Some(limit) = bucket.limit() else { continue };
            let is_within_its_part = self.own[measure as usize].get() < now_ns + BURST_NS;
            let reserve = if self.shard_count > 1 && is_within_its_part { RESERVE_NS } else { 0 };
            let full = now_ns + BURST_NS + reserve;
            let spent_until = bucket.spent_until.load(Relaxed);
            if spent_until >= full {
                bucket.asked.fetch_add(units, Relaxed);
                return Err(self.meter.exhausted(measure, limit, spent_until - full + 1));
            }
        }
        Ok(())
    }

    /// Takes what was used, whether it is left or not.
    pub fn charge(&self, side: Side, messages: u64, bytes: u64, now_ns: u64) {
        for (measure, units) in Measure::of(side).into_iter().zip([messages, bytes]) {
            let bucket = self.meter.bucket(measure);
            if bucket.limit().is_none() {
                continue;
            }
            bucket.asked.fetch_add(units, Relaxed);
            let time = bucket.time_of(units);
            bucket.spent_until.fetch_max(now_ns, Relaxed);
            bucket.spent_until.fetch_add(time, Relaxed);
            let own = &self.own[measure as usize];
            own.set(own.get().max(now_ns) + time.saturating_mul(self.shard_count));
        }
    }
}

/// All meters of a node: those of apps and topics that have limits and were used lately.
#[derive(Debug, Default)]
pub struct Quotas {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    meters: HashMap<SubjectId, Held, RandomState>,
    /// Nodes there are, as the registry and the lessor said last: a limit that nobody leases is split among them.
    registered: u32,
    told: u32,
    reported_ns: Option<u64>,
    /// When the lessor said something.
    told_ns: Option<u64>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { meters: HashMap::default(), registered: 1, told: 1, reported_ns: None, told_ns: None }
    }
}

impl Inner {
    fn nodes(&self) -> u32 {
        self.registered.max(self.told).max(1)
    }

    /// There is a lessor, so what has no share gets one in a moment.
    fn is_leasing(&self, now_ns: u64) -> bool {
        self.told_ns.is_some_and(|at| now_ns.saturating_sub(at) < VALID_MS * 1_000_000)
    }
}

#[derive(Debug)]
struct Held {
    meter: Arc<Meter>,
    /// By measure, per second: what was wanted lately.
    demand: [f64; Measure::ALL.len()],
    used_ns: u64,
}

impl Quotas {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The meter of `subject`, made with these limits if it is the first to be asked for. To be kept no longer than the
    /// snapshot the limits are from.
    pub fn meter(&self, subject: Subject, limits: &Limits, now_ns: u64) -> Arc<Meter> {
        let inner = &mut *self.inner();
        let (nodes, is_leasing) = (inner.nodes(), inner.is_leasing(now_ns));
        let held = inner.meters.entry(subject.id()).or_insert_with(|| {
            let bucket = |measure| {
                let limit = limits.get(measure).unwrap_or(0);
                Bucket::of(limit, unleased(measure, limit, nodes, is_leasing))
            };
            let meter = Arc::new(Meter { subject, buckets: Measure::ALL.map(bucket) });
            Held { meter, demand: Default::default(), used_ns: now_ns }
        });
        held.used_ns = now_ns;
        Arc::clone(&held.meter)
    }

    /// What a new snapshot and the passing of time make of limits and shares.
    pub fn refresh(&self, snapshot: &Snapshot, now_ns: u64) {
        let inner = &mut *self.inner();
        let (nodes, is_leasing) = (inner.nodes(), inner.is_leasing(now_ns));
        inner.meters.retain(|_, held| {
            let Some(limits) = held.meter.subject.limits(snapshot) else { return false };
            for measure in Measure::ALL {
                let bucket = held.meter.bucket(measure);
                let limit = limits.get(measure).unwrap_or(0);
                let before = bucket.limit.swap(limit, Relaxed);
                let is_leased = bucket.leased_until.load(Relaxed) > now_ns;
                if limit == 0 {
                    continue;
                }
                if !is_leased {
                    bucket.set_share(unleased(measure, limit, nodes, is_leasing), now_ns);
                } else if before != limit && before > 0 {
                    bucket.set_share(bucket.share() * limit as f64 / before as f64, now_ns);
                }
            }
            true
        });
    }

    /// What is wanted here and what of it is held, for the lessor. Several times a second. `connections`: how many an app
    /// has here, by its index.
    pub fn report(&self, node: &str, snapshot: &Snapshot, connections: impl Fn(u32) -> usize, now_ns: u64) -> Report {
        self.refresh(snapshot, now_ns);
        let inner = &mut *self.inner();
        let elapsed_s = inner.reported_ns.map_or(0.25, |at| (now_ns.saturating_sub(at) as f64 / SECOND).max(0.001));
        inner.reported_ns = Some(now_ns);
        let mut demands = Vec::new();
        inner.meters.retain(|id, held| {
            let mut is_wanted = false;
            for measure in Measure::ALL {
                let bucket = held.meter.bucket(measure);
                let Some(limit) = bucket.limit() else { continue };
                let asked = bucket.asked.swap(0, Relaxed) as f64;
                let (used, now) = match (measure, id) {
                    (Measure::Connections, SubjectId::App(index)) => (connections(*index) as u64, asked),
                    _ => (0, asked / elapsed_s),
                };
                let demand = &mut held.demand[measure as usize];
                // Clients that were told to come back later still want it.
                *demand = now.max(*demand * DEMAND_KEPT.powf(elapsed_s));
                is_wanted |= *demand > DEMAND_MIN || used > 0;
                if *demand > DEMAND_MIN || measure == Measure::Connections {
                    demands.push(Demand { subject: *id, measure, limit, wanted: *demand, used, held: bucket.share() });
                }
            }
            if is_wanted {
                held.used_ns = now_ns;
            }
            let is_kept = Arc::strong_count(&held.meter) > 1;
            is_kept || now_ns.saturating_sub(held.used_ns) < QUOTA_IDLE.as_nanos() as u64
        });
        Report { node: node.to_owned(), demands }
    }

    /// What the lessor gave.
    pub fn take(&self, shares: &Shares, now_ns: u64) {
        let inner = &mut *self.inner();
        inner.told = shares.nodes;
        inner.told_ns = Some(now_ns);
        for share in &shares.shares {
            let Some(held) = inner.meters.get(&share.subject) else { continue };
            let bucket = held.meter.bucket(share.measure);
            bucket.leased_until.store(now_ns + shares.valid_ms * 1_000_000, Relaxed);
            bucket.set_share(share.share, now_ns);
        }
    }

    /// How many nodes the registry knows, this one among them.
    pub fn set_registered(&self, nodes: u32) {
        self.inner().registered = nodes;
    }

    /// Meters there are.
    pub fn len(&self) -> usize {
        self.inner().meters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a node may give away that has no share: an equal part. A connection cannot be divided, so everybody may have one;
/// and it stays, so nobody more than one while the lessor is about to say how many others have.
fn unleased(measure: Measure, limit: u64, nodes: u32, is_leasing: bool) -> f64 {
    let part = limit as f64 / f64::from(nodes);
    match measure {
        Measure::Connections if is_leasing && nodes > 1 => part.min(1.0),
        Measure::Connections if limit > 0 => part.max(1.0),
        _ => part,
    }
}

/// What is left of a demand after a second in which nothing was asked for.
const DEMAND_KEPT: f64 = 0.5;
/// A demand below this is none: units per second.
const DEMAND_MIN: f64 = 0.01;
