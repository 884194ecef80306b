//! What a topic's owner decided about its messages, beyond the name.

use serde::{Deserialize, Serialize};

use crate::limits::MESSAGE_BYTES_MAX_DEFAULT;

/// How a key chooses its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Partitioner {
    /// As the Java client: the same key from any client lands in the same partition.
    #[default]
    Murmur2,
    /// As the 2017 gateway, for keys that must stay where they are.
    Fnv1a,
}

impl Partitioner {
    pub const ALL: [Partitioner; 2] = [Partitioner::Murmur2, Partitioner::Fnv1a];

    pub fn as_str(self) -> &'static str {
        match self {
            Partitioner::Murmur2 => "murmur2",
            Partitioner::Fnv1a => "fnv1a",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == text)
    }
}

/// How batches are compressed on their way to the broker. Readers never see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    pub fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == text)
    }
}

/// Options the data plane obeys. A field absent in stored data has its default, so old snapshots stay readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicOptions {
    pub partitioner: Partitioner,
    pub compression: Compression,
    /// Messages published by the 2017 gateway carry their tags in front of the payload: read and strip them.
    pub strip_2017_tags: bool,
    /// Largest message a publish may carry, in bytes of the value.
    pub message_bytes_max: u32,
    /// May a gateway keep a publish in its own journal while Kafka is away? Only where the app's option says so, too.
    pub handoff: bool,
}

impl Default for TopicOptions {
    fn default() -> Self {
        Self {
            partitioner: Partitioner::default(),
            compression: Compression::default(),
            strip_2017_tags: false,
            message_bytes_max: MESSAGE_BYTES_MAX_DEFAULT,
            handoff: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_words_parse_back_to_themselves() {
        for p in Partitioner::ALL {
            assert_eq!(Partitioner::parse(p.as_str()), Some(p));
        }
        for c in Compression::ALL {
            assert_eq!(Compression::parse(c.as_str()), Some(c));
            assert_eq!(serde_json::to_string(&c).unwrap(), format!("{:?}", c.as_str()));
        }
        assert_eq!(Partitioner::parse("Murmur2"), None);
    }

    #[test]
    fn options_absent_from_stored_data_have_their_defaults() {
        assert_eq!(serde_json::from_str::<TopicOptions>("{}").unwrap(), TopicOptions::default());
    }
}
