//! The limits of the apps and topics this shard works for. Whoever has none costs one look at it.

use crate::env::Env;
use crate::refusal::Refusal;
use foldhash::HashMap;
use model::quota::lease::SubjectId;
use model::quota::{Exhausted, Limits, ShardMeter, Subject};
use model::{App, Side, Topic};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

/// Meters found under the snapshot in force. One per shard.
#[derive(Default)]
pub struct ShardQuotas {
    meters: RefCell<HashMap<SubjectId, Rc<ShardMeter>>>,
}

/// What a request draws from: its app's limits and its topic's. Empty when neither has any.
#[derive(Debug, Clone, Default)]
pub struct Meters(SmallVec<[Rc<ShardMeter>; 2]>);

impl ShardQuotas {
    /// A new snapshot: other limits, perhaps.
    pub fn forget(&self) {
        self.meters.borrow_mut().clear();
    }

    /// Of a request of `app` about `topic`; raw topics have no limits of their own.
    pub fn meters(&self, env: &Env, app: &App, topic: Option<&Topic>) -> Meters {
        let mut found = SmallVec::new();
        if app.limits.has_rates() {
            found.push(self.find(env, SubjectId::App(app.index), &app.limits, || of_app(app)));
        }
        if let Some(topic) = topic.filter(|topic| topic.limits.has_rates()) {
            found.push(self.find(env, SubjectId::Topic(topic.index), &topic.limits, || of_topic(topic)));
        }
        Meters(found)
    }

    /// As [`ShardQuotas::meters`] found before, under the same snapshot, by [`App::index`] and [`Topic::index`].
    pub fn known(&self, app: u32, topic: u32) -> Meters {
        let meters = self.meters.borrow();
        let ids = [SubjectId::App(app), SubjectId::Topic(topic)];
        Meters(ids.iter().filter_map(|id| meters.get(id).cloned()).collect())
    }

    fn find(&self, env: &Env, id: SubjectId, limits: &Limits, subject: impl FnOnce() -> Subject) -> Rc<ShardMeter> {
        let mut meters = self.meters.borrow_mut();
        let new = || {
            let meter = env.board.quotas.meter(subject(), limits, env.board.nanos(env.now()));
            Rc::new(ShardMeter::new(meter, env.config.shard_count))
        };
        Rc::clone(meters.entry(id).or_insert_with(new))
    }
}

pub fn of_app(app: &App) -> Subject {
    Subject::App { index: app.index, app: app.id.clone() }
}

fn of_topic(topic: &Topic) -> Subject {
    let (owner, name, ver) = (topic.owner.clone(), topic.name.clone(), topic.ver.clone());
    Subject::Topic { index: topic.index, owner, topic: name, ver }
}

impl Meters {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something is left of every limit. `bytes`: as far as known.
    pub fn check(&self, env: &Env, side: Side, bytes: usize, now: Instant) -> Result<(), Exhausted> {
        if self.is_empty() {
            return Ok(());
        }
        let now_ns = env.board.nanos(now);
        self.0.iter().try_for_each(|meter| meter.check(side, 1, bytes as u64, now_ns))
    }

    /// As [`Meters::check`]; if not, the request is refused.
    pub fn admit(&self, env: &Env, side: Side, bytes: usize, now: Instant) -> Result<(), Refusal> {
        self.check(env, side, bytes, now).map_err(|exhausted| refuse(env, &exhausted))
    }

    /// Takes what was used.
    pub fn charge(&self, env: &Env, side: Side, messages: usize, bytes: usize, now: Instant) {
        if !self.is_empty() {
            let now_ns = env.board.nanos(now);
            self.0.iter().for_each(|meter| meter.charge(side, messages as u64, bytes as u64, now_ns));
        }
    }
}

/// 429: what was set for the app or topic is used up.
pub fn refuse(env: &Env, exhausted: &Exhausted) -> Refusal {
    env.metrics.quota_refused(exhausted.measure);
    Refusal {
        retry_after_s: Some(exhausted.retry_after_s()),
        ..Refusal::new(crate::codes::OVER_QUOTA, exhausted.to_string())
    }
}
