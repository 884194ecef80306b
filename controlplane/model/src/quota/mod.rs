//! How much an app, and each of its topics, may publish and read: what was set ([`Limits`]), what is left of it on this
//! node ([`meter`]), and which share of it each node of a fleet may give away ([`lease`]).
//!
//! ```text
//! snapshot ──Limits──► Quotas ──Arc<Meter>──► ShardMeter, one per shard: check, charge
//!                        │ ▲
//!                 Report ▼ │ Shares, every 250 ms, on a channel of their own
//!                       Lessor, one per fleet
//! ```
//! A limit is one number for the whole fleet. Nothing here does I/O or reads a clock: `now_ns` is any clock that does not
//! go back.

pub mod lease;
pub mod meter;
pub mod shard;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::authenticate::Side;
use crate::limits::QUOTA_MAX;

pub use lease::{Demand, Lessor, Report, Share, Shares};
pub use meter::{Exhausted, Meter, Quotas, ShardMeter, Subject};
pub use shard::{Meters, ShardQuotas};

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Messages a second.
    PublishMessages,
    /// Bytes a second of values, keys and headers.
    PublishBytes,
    SubscribeMessages,
    /// Bytes a second of answers' bodies.
    SubscribeBytes,
    /// Client connections at one time; of apps only.
    Connections,
}

impl Measure {
    pub const ALL: [Measure; 5] = [
        Measure::PublishMessages,
        Measure::PublishBytes,
        Measure::SubscribeMessages,
        Measure::SubscribeBytes,
        Measure::Connections,
    ];
    /// Those that are spent by the second.
    pub const RATES: [Measure; 4] =
        [Measure::PublishMessages, Measure::PublishBytes, Measure::SubscribeMessages, Measure::SubscribeBytes];

    /// The word in requests, tables and stored data.
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::PublishMessages => "publish_messages",
            Measure::PublishBytes => "publish_bytes",
            Measure::SubscribeMessages => "subscribe_messages",
            Measure::SubscribeBytes => "subscribe_bytes",
            Measure::Connections => "connections",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.as_str() == text)
    }

    /// How a person says it: `publish 100 messages/s`.
    fn phrase(self, limit: u64) -> String {
        match self {
            Measure::PublishMessages => format!("publish {limit} messages/s"),
            Measure::PublishBytes => format!("publish {limit} bytes/s"),
            Measure::SubscribeMessages => format!("read {limit} messages/s"),
            Measure::SubscribeBytes => format!("read {limit} bytes/s"),
            Measure::Connections => format!("have {limit} connections"),
        }
    }

    /// What a message on this side spends: messages, bytes.
    pub(crate) fn of(side: Side) -> [Measure; 2] {
        match side {
            Side::Publish => [Measure::PublishMessages, Measure::PublishBytes],
            Side::Subscribe => [Measure::SubscribeMessages, Measure::SubscribeBytes],
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was set for an app or a topic. Stored as an object of those that are set; measures of later versions are passed
/// over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, u64>", into = "BTreeMap<Measure, u64>")]
pub struct Limits([u64; Measure::ALL.len()]);

impl Limits {
    pub fn get(&self, measure: Measure) -> Option<u64> {
        let limit = self.0[measure as usize];
        (limit > 0).then_some(limit)
    }

    /// `None`, and 0: no limit. Numbers above [`QUOTA_MAX`] are none either, to arithmetic.
    pub fn set(&mut self, measure: Measure, limit: Option<u64>) {
        self.0[measure as usize] = limit.unwrap_or(0).min(QUOTA_MAX);
    }

    pub fn with(mut self, measure: Measure, limit: u64) -> Self {
        self.set(measure, Some(limit));
        self
    }

    /// Nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Something is limited that is spent by the second.
    pub fn has_rates(&self) -> bool {
        Measure::RATES.into_iter().any(|measure| self.get(measure).is_some())
    }

    pub fn iter(&self) -> impl Iterator<Item = (Measure, u64)> + '_ {
        Measure::ALL.into_iter().filter_map(|measure| Some((measure, self.get(measure)?)))
    }
}

impl From<BTreeMap<String, u64>> for Limits {
    fn from(map: BTreeMap<String, u64>) -> Self {
        let mut limits = Self::default();
        for (name, limit) in map {
            if let Some(measure) = Measure::parse(&name) {
                limits.set(measure, Some(limit));
            }
        }
        limits
    }
}

impl From<Limits> for BTreeMap<Measure, u64> {
    fn from(limits: Limits) -> Self {
        limits.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_back_and_measures_of_later_versions_are_passed_over() {
        let limits = Limits::default().with(Measure::PublishMessages, 100).with(Measure::Connections, 7);
        let text = serde_json::to_string(&limits).unwrap();
        assert_eq!(text, r#"{"publish_messages":100,"connections":7}"#);
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), limits);
        let later = r#"{"publish_messages":100,"jobs":3,"connections":7,"subscribe_bytes":0}"#;
        assert_eq!(serde_json::from_str::<Limits>(later).unwrap(), limits);
        for measure in Measure::ALL {
            assert_eq!(Measure::parse(measure.as_str()), Some(measure));
            assert_eq!(serde_json::to_value(measure).unwrap(), measure.as_str());
        }
    }

    #[test]
    fn nothing_and_zero_are_no_limit() {
        let mut limits = Limits::default().with(Measure::PublishBytes, 5);
        assert!(!limits.is_none() && limits.has_rates());
        limits.set(Measure::PublishBytes, Some(0));
        assert!(limits.is_none());
        assert!(!Limits::default().with(Measure::Connections, 1).has_rates());
    }
}
