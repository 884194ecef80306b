//! What a request draws from, in words of HTTP.

use crate::env::Env;
use crate::refusal::Refusal;
use model::Side;
use model::quota::{self, Exhausted};
use std::time::Instant;

/// The limits of a request's app and topic.
#[derive(Debug, Clone, Default)]
pub struct Meters(quota::Meters);

impl From<quota::Meters> for Meters {
    fn from(meters: quota::Meters) -> Meters {
        Meters(meters)
    }
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
        self.0.check(side, 1, bytes as u64, env.board.nanos(now))
    }

    /// As [`Meters::check`]; if not, the request is refused.
    pub fn admit(&self, env: &Env, side: Side, bytes: usize, now: Instant) -> Result<(), Refusal> {
        self.check(env, side, bytes, now).map_err(|exhausted| refuse(env, &exhausted))
    }

    /// Takes what was used.
    pub fn charge(&self, env: &Env, side: Side, messages: usize, bytes: usize, now: Instant) {
        if !self.is_empty() {
            self.0.charge(side, messages as u64, bytes as u64, env.board.nanos(now));
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
