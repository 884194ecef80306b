//! The limits of the apps and topics one shard works for. Whoever has none costs one look at it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState;

use crate::authenticate::Side;
use crate::quota::lease::SubjectId;
use crate::quota::{Exhausted, Limits, Quotas, ShardMeter, Subject};
use crate::snapshot::{App, Topic};

/// Meters found under the snapshot in force. One per shard.
#[derive(Debug)]
pub struct ShardQuotas {
    shard_count: usize,
    meters: RefCell<HashMap<SubjectId, Rc<ShardMeter>, RandomState>>,
}

/// What a request draws from: its app's limits and its topic's. Empty when neither has any.
#[derive(Debug, Clone, Default)]
pub struct Meters([Option<Rc<ShardMeter>>; 2]);

impl ShardQuotas {
    /// `shard_count`: how many share what the node has.
    pub fn new(shard_count: usize) -> Self {
        Self { shard_count, meters: RefCell::default() }
    }

    /// A new snapshot: other limits, perhaps.
    pub fn forget(&self) {
        self.meters.borrow_mut().clear();
    }

    /// Of a request of `app` about `topic`; raw topics have no limits of their own.
    pub fn meters(&self, quotas: &Quotas, app: &App, topic: Option<&Topic>, now_ns: u64) -> Meters {
        Meters([self.of_app(quotas, app, now_ns), topic.and_then(|topic| self.of_topic(quotas, topic, now_ns))])
    }

    /// Of an app alone.
    pub fn of_app(&self, quotas: &Quotas, app: &App, now_ns: u64) -> Option<Rc<ShardMeter>> {
        let subject = || Subject::of_app(app);
        app.limits.has_rates().then(|| self.find(quotas, SubjectId::App(app.index), &app.limits, subject, now_ns))
    }

    /// Of a topic alone.
    pub fn of_topic(&self, quotas: &Quotas, topic: &Topic, now_ns: u64) -> Option<Rc<ShardMeter>> {
        let subject = || Subject::of_topic(topic);
        topic
            .limits
            .has_rates()
            .then(|| self.find(quotas, SubjectId::Topic(topic.index), &topic.limits, subject, now_ns))
    }

    fn find(
        &self,
        quotas: &Quotas,
        id: SubjectId,
        limits: &Limits,
        subject: impl FnOnce() -> Subject,
        now_ns: u64,
    ) -> Rc<ShardMeter> {
        let mut meters = self.meters.borrow_mut();
        let new = || Rc::new(ShardMeter::new(quotas.meter(subject(), limits, now_ns), self.shard_count));
        Rc::clone(meters.entry(id).or_insert_with(new))
    }

    /// As [`ShardQuotas::meters`] found before, under the same snapshot, by [`App::index`] and [`Topic::index`].
    pub fn known(&self, app: u32, topic: u32) -> Meters {
        let meters = self.meters.borrow();
        Meters([SubjectId::App(app), SubjectId::Topic(topic)].map(|id| meters.get(&id).cloned()))
    }
}

impl Meters {
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    fn each(&self) -> impl Iterator<Item = &Rc<ShardMeter>> {
        self.0.iter().flatten()
    }

    /// Whether something is left of every limit: [`ShardMeter::check`].
    pub fn check(&self, side: Side, messages: u64, bytes: u64, now_ns: u64) -> Result<(), Exhausted> {
        self.each().try_for_each(|meter| meter.check(side, messages, bytes, now_ns))
    }

    /// Takes what was used.
    pub fn charge(&self, side: Side, messages: u64, bytes: u64, now_ns: u64) {
        self.each().for_each(|meter| meter.charge(side, messages, bytes, now_ns));
    }
}
