//! Topic configuration: which names exist, what values they take, and what this broker makes of them.
//!
//! All names of Apache Kafka 4 are accepted, so that tools and templates work. Those without an effect here are not shown:
//! a value that is shown is one that is obeyed.

use std::collections::BTreeMap;

use crate::limits::{BATCH_BYTES_MAX, OPTION_BYTES_MAX, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MIN};
use crate::storage::log::LogOptions;

/// What values an option takes. The number is the type's code in DescribeConfigs (KIP-569).
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    Text,
    Int { min: i64, max: i64 },
    Long { min: i64, max: i64 },
    Double,
    List(&'static [&'static str]),
    OneOf(&'static [&'static str]),
}

impl Kind {
    /// Type code of DescribeConfigs v3.
    pub fn code(self) -> i8 {
        match self {
            Kind::Bool => 1,
            Kind::Text | Kind::OneOf(_) => 2,
            Kind::Int { .. } => 3,
            Kind::Long { .. } => 5,
            Kind::Double => 6,
            Kind::List(_) => 7,
        }
    }
}

/// One option.
#[derive(Debug)]
pub struct Definition {
    pub name: &'static str,
    pub default: &'static str,
    pub kind: Kind,
    pub documentation: &'static str,
}

const fn option(name: &'static str, default: &'static str, kind: Kind, documentation: &'static str) -> Definition {
    Definition { name, default, kind, documentation }
}

const ANY_LONG: Kind = Kind::Long { min: 0, max: i64::MAX };
const UNLIMITED_LONG: Kind = Kind::Long { min: -1, max: i64::MAX };
const NO_EFFECT: &str = "Accepted for compatibility, no effect on this broker.";

/// Every topic option, by name.
pub const TOPIC_OPTIONS: &[Definition] = &[
    option(
        "cleanup.policy",
        "delete",
        Kind::List(&["delete", "compact"]),
        "With compact every record needs a key and nothing is ever deleted; nothing is compacted either.",
    ),
    option(
        "compression.type",
        "producer",
        Kind::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        NO_EFFECT,
    ),
    option("delete.retention.ms", "86400000", ANY_LONG, NO_EFFECT),
    option("file.delete.delay.ms", "60000", ANY_LONG, NO_EFFECT),
    option("flush.messages", "1", Kind::Long { min: 1, max: i64::MAX }, NO_EFFECT),
    option("flush.ms", "9223372036854775807", ANY_LONG, NO_EFFECT),
    option("follower.replication.throttled.replicas", "", Kind::Text, NO_EFFECT),
    option("index.interval.bytes", "4096", Kind::Int { min: 0, max: i32::MAX as i64 }, NO_EFFECT),
    option("leader.replication.throttled.replicas", "", Kind::Text, NO_EFFECT),
    option("local.retention.bytes", "-2", Kind::Long { min: -2, max: i64::MAX }, NO_EFFECT),
    option("local.retention.ms", "-2", Kind::Long { min: -2, max: i64::MAX }, NO_EFFECT),
    option("max.compaction.lag.ms", "9223372036854775807", Kind::Long { min: 1, max: i64::MAX }, NO_EFFECT),
    option(
        "max.message.bytes",
        "1048588",
        Kind::Int { min: 0, max: BATCH_BYTES_MAX as i64 },
        "Largest record batch accepted, as it is sent.",
    ),
    option("message.timestamp.after.max.ms", "3600000", ANY_LONG, NO_EFFECT),
    option("message.timestamp.before.max.ms", "9223372036854775807", ANY_LONG, NO_EFFECT),
    option(
        "message.timestamp.type",
        "CreateTime",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        "Whose clock the records carry.",
    ),
    option("min.cleanable.dirty.ratio", "0.5", Kind::Double, NO_EFFECT),
    option("min.compaction.lag.ms", "0", ANY_LONG, NO_EFFECT),
    option(
        "min.insync.replicas",
        "1",
        Kind::Int { min: 1, max: i32::MAX as i64 },
        "Above 1, acks=all is refused: there is one replica.",
    ),
    option("preallocate", "false", Kind::Bool, NO_EFFECT),
    option("remote.storage.enable", "false", Kind::Bool, NO_EFFECT),
    option(
        "retention.bytes",
        "-1",
        UNLIMITED_LONG,
        "Sealed segments beyond this many bytes are deleted; -1: unlimited.",
    ),
    option(
        "retention.ms",
        "604800000",
        UNLIMITED_LONG,
        "Segments whose newest record is older are deleted; -1: unlimited.",
    ),
    option(
        "segment.bytes",
        "67108864",
        Kind::Int { min: SEGMENT_BYTES_MIN as i64, max: i32::MAX as i64 },
        "A new segment begins here.",
    ),
    option("segment.index.bytes", "10485760", Kind::Int { min: 4, max: i32::MAX as i64 }, NO_EFFECT),
    option("segment.jitter.ms", "0", ANY_LONG, NO_EFFECT),
    option("segment.ms", "604800000", Kind::Long { min: 1, max: i64::MAX }, NO_EFFECT),
    option("unclean.leader.election.enable", "false", Kind::Bool, NO_EFFECT),
];

/// Explicitly set options of one topic.
pub type Overrides = BTreeMap<String, String>;

/// The option of that name.
pub fn definition(name: &str) -> Option<&'static Definition> {
    TOPIC_OPTIONS.iter().find(|option| option.name == name)
}

/// Options that do something here.
pub fn shown_options() -> impl Iterator<Item = &'static Definition> {
    TOPIC_OPTIONS.iter().filter(|option| option.documentation != NO_EFFECT)
}

/// Refuses unknown names and values that do not parse.
pub fn validate(name: &str, value: &str) -> Result<(), String> {
    let Some(option) = definition(name) else { return Err(format!("unknown topic config name: {name}")) };
    if value.len() > OPTION_BYTES_MAX {
        return Err(format!("the value of configuration {name} is longer than {OPTION_BYTES_MAX} bytes"));
    }
    let bad = |why: String| Err(format!("invalid value {value:?} for configuration {name}: {why}"));
    match option.kind {
        Kind::Text => Ok(()),
        Kind::Bool if matches!(value, "true" | "false") => Ok(()),
        Kind::Bool => bad("expected true or false".to_owned()),
        Kind::Double => match value.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(()),
            _ => bad("not a number".to_owned()),
        },
        Kind::Int { min, max } | Kind::Long { min, max } => match value.trim().parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(()),
            Ok(_) => bad(format!("must be between {min} and {max}")),
            Err(_) => bad("not a number".to_owned()),
        },
        Kind::OneOf(allowed) if allowed.contains(&value) => Ok(()),
        Kind::OneOf(allowed) => bad(format!("must be one of {}", allowed.join(", "))),
        Kind::List(allowed) => match value.split(',').map(str::trim).find(|part| !allowed.contains(part)) {
            None => Ok(()),
            Some(part) => bad(format!("{part:?} is not one of {}", allowed.join(", "))),
        },
    }
}

/// The value in force.
pub fn effective<'a>(overrides: &'a Overrides, name: &str) -> &'a str {
    match overrides.get(name) {
        Some(value) => value.trim(),
        None => definition(name).map_or("", |option| option.default),
    }
}

/// What the broker reads on its produce path, parsed once per change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicOptions {
    pub log: LogOptions,
    pub batch_bytes_max: usize,
    pub log_append_time: bool,
    pub min_insync_replicas: i64,
    /// Records without a key are refused.
    pub is_compacted: bool,
}

impl TopicOptions {
    /// Overrides were validated when they were set; one that no longer parses counts as its default.
    pub fn parse(overrides: &Overrides) -> TopicOptions {
        let number = |name: &str| {
            let default = definition(name).and_then(|option| option.default.parse::<i64>().ok());
            effective(overrides, name).parse::<i64>().ok().or(default).unwrap_or(0)
        };
        let limit = |name: &str| Some(number(name)).filter(|value| *value >= 0);
        let policy = |word| effective(overrides, "cleanup.policy").split(',').any(|part| part.trim() == word);
        let deletes = policy("delete");
        TopicOptions {
            log: LogOptions {
                segment_bytes: u64::try_from(number("segment.bytes")).unwrap_or(SEGMENT_BYTES_DEFAULT),
                retention_bytes: limit("retention.bytes")
                    .filter(|_| deletes)
                    .and_then(|bytes| u64::try_from(bytes).ok()),
                retention_ms: limit("retention.ms").filter(|_| deletes),
            },
            batch_bytes_max: usize::try_from(number("max.message.bytes")).unwrap_or(0),
            log_append_time: effective(overrides, "message.timestamp.type") == "LogAppendTime",
            min_insync_replicas: number("min.insync.replicas"),
            is_compacted: policy("compact"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid_and_names_are_sorted() {
        for option in TOPIC_OPTIONS {
            validate(option.name, option.default).unwrap();
        }
        assert!(TOPIC_OPTIONS.is_sorted_by_key(|option| option.name));
        let defaults = TopicOptions::parse(&Overrides::new());
        assert_eq!(defaults.log.segment_bytes, SEGMENT_BYTES_DEFAULT);
        assert_eq!(defaults.batch_bytes_max, crate::limits::MESSAGE_BYTES_MAX_DEFAULT);
        assert_eq!(defaults.log.retention_ms, Some(604_800_000));
        assert_eq!(defaults.log.retention_bytes, None);
    }

    #[test]
    fn values_are_checked_by_their_kind() {
        for (name, value, good) in [
            ("retention.ms", "1000", true),
            ("retention.ms", "-1", true),
            ("retention.ms", "-2", false),
            ("retention.ms", "soon", false),
            ("cleanup.policy", "compact,delete", true),
            ("cleanup.policy", "shred", false),
            ("message.timestamp.type", "LogAppendTime", true),
            ("message.timestamp.type", "logappendtime", false),
            ("preallocate", "yes", false),
            ("min.cleanable.dirty.ratio", "0.2", true),
            ("min.cleanable.dirty.ratio", "NaN", false),
            ("no.such.thing", "1", false),
        ] {
            assert_eq!(validate(name, value).is_ok(), good, "{name}={value}");
        }
    }

    #[test]
    fn compacted_topics_keep_everything() {
        let overrides = Overrides::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        let options = TopicOptions::parse(&overrides);
        assert_eq!((options.log.retention_ms, options.log.retention_bytes), (None, None));
    }
}
