//! Names that were checked. Whoever holds one need not ask again whether it is well formed.
//!
//! App ids, topics, groups and clusters are `[A-Za-z0-9_-]{1,64}` as in 2017; versions are `v[0-9]{1,9}`. No name
//! holds a dot, so a physical topic `appid.topic.ver` splits in exactly one way, and nothing needs escaping in a URL,
//! a ZooKeeper path or a metric label.
//!
//! A name clones by counting references, so it can be kept per connection and per subscription without copies.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::{KAFKA_TOPIC_BYTES_MAX, NAME_BYTES_MAX, VERSION_BYTES_MAX};

/// Why a name is not one. `what` says which kind of name was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} has {found} characters, at most {limit} are allowed")]
    TooLong { what: &'static str, found: usize, limit: usize },
    #[error("{what} {name:?} holds {bad:?} at character {at}, allowed are {allowed}")]
    BadCharacter { what: &'static str, name: String, bad: char, at: usize, allowed: &'static str },
    #[error("{what} {name:?} is not a version, expected v and digits as in v1")]
    NotAVersion { what: &'static str, name: String },
    #[error("{what} {name:?} is reserved")]
    Reserved { what: &'static str, name: String },
}

fn check_characters(
    what: &'static str,
    text: &str,
    limit: usize,
    allowed: &'static str,
    is_allowed: fn(char) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > limit {
        return Err(NameError::TooLong { what, found: text.chars().count(), limit });
    }
    match text.chars().enumerate().find(|(_, c)| !is_allowed(*c)) {
        Some((at, bad)) => Err(NameError::BadCharacter { what, name: text.to_owned(), bad, at, allowed }),
        None => Ok(()),
    }
}

fn check_name(what: &'static str, text: &str) -> Result<(), NameError> {
    check_characters(what, text, NAME_BYTES_MAX, "letters, digits, _ and -", |c| {
        c.is_ascii_alphanumeric() || c == '_' || c == '-'
    })
}

fn check_version(what: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > VERSION_BYTES_MAX {
        return Err(NameError::TooLong { what, found: text.chars().count(), limit: VERSION_BYTES_MAX });
    }
    match text.strip_prefix('v') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        _ => Err(NameError::NotAVersion { what, name: text.to_owned() }),
    }
}

/// Kafka's own rule (`Topic.validate`).
fn check_physical(what: &'static str, text: &str) -> Result<(), NameError> {
    check_characters(what, text, KAFKA_TOPIC_BYTES_MAX, "letters, digits, dot, _ and -", |c| {
        c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.'
    })?;
    if text == "." || text == ".." {
        return Err(NameError::Reserved { what, name: text.to_owned() });
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check($what, text)?;
                Ok(Self(Arc::from(text)))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text itself, shared.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        // `Hash` of the newtype is the hash of the text, so maps can be asked with a borrowed `&str`.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type!(
    /// A tenant. Owns topics, holds two secrets (publish and subscribe) and grants.
    AppId, "app id", check_name
);
name_type!(
    /// Who may call the manager. No app and no admin has the name of a principal.
    PrincipalName, "principal", check_name
);
name_type!(
    /// A topic as its owner calls it.
    TopicName, "topic", check_name
);
name_type!(
    /// `v1`, `v2`, …: a topic's contract with its readers. Each version is a Kafka topic of its own.
    TopicVersion, "version", check_version
);
name_type!(
    /// A consumer group as its app calls it.
    GroupName, "group", check_name
);
name_type!(
    /// A Kafka cluster, as named in the gateways' configuration.
    ClusterName, "cluster", check_name
);
name_type!(
    /// A topic as Kafka calls it.
    PhysicalTopic, "physical topic", check_physical
);

/// Which life of the tenants' database: a new one begins when the database is restored or a replica takes over, because
/// what follows then is another story than the one others may have seen. Written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HistoryId(u64);

impl HistoryId {
    /// Of a random number. Zero stands for what was written before there were histories.
    pub fn new(random: u64) -> Self {
        Self(random)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let is_ours = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_ours.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for HistoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<HistoryId> for String {
    fn from(history: HistoryId) -> String {
        history.to_string()
    }
}

impl TryFrom<String> for HistoryId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        HistoryId::parse(&text).ok_or("a history is 16 hexadecimal digits")
    }
}

/// One state of the tenants: a history and how many changes were made in it. Two states that are equal here are equal;
/// of one history, the larger number is newer; of two histories, nothing can be said. Written `HISTORY-NUMBER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Generation {
    pub history: HistoryId,
    /// 0: nothing was ever loaded.
    pub number: u64,
}

impl Generation {
    pub fn parse(text: &str) -> Option<Self> {
        let (history, number) = text.split_once('-')?;
        let is_plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        Some(Self { history: HistoryId::parse(history)?, number: number.parse().ok().filter(|_| is_plain)? })
    }

    /// Holds whoever has this state in force every change of `other`, too?
    pub fn includes(self, other: Generation) -> bool {
        self.history == other.history && self.number >= other.number
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.history, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict<T, E: fmt::Display>(result: Result<T, E>) -> String {
        match result {
            Ok(_) => "ok".to_owned(),
            Err(err) => err.to_string(),
        }
    }

    #[test]
    fn names_are_letters_digits_underscore_and_dash_up_to_64() {
        let rows = [
            ("orders", "ok"),
            ("Orders_2-b", "ok"),
            ("", "topic is empty"),
            ("a.b", "topic \"a.b\" holds '.' at character 1, allowed are letters, digits, _ and -"),
            ("a b", "topic \"a b\" holds ' ' at character 1, allowed are letters, digits, _ and -"),
            ("naïve", "topic \"naïve\" holds 'ï' at character 2, allowed are letters, digits, _ and -"),
        ];
        for (text, expected) in rows {
            assert_eq!(verdict(TopicName::new(text)), expected, "{text:?}");
        }
        assert_eq!(verdict(AppId::new(&"a".repeat(64))), "ok");
        assert_eq!(verdict(AppId::new(&"a".repeat(65))), "app id has 65 characters, at most 64 are allowed");
    }

    #[test]
    fn versions_are_v_and_digits() {
        for good in ["v1", "v10", "v007", "v123456789"] {
            assert_eq!(verdict(TopicVersion::new(good)), "ok", "{good}");
        }
        for bad in ["", "v", "1", "V1", "v1a", "v-1", "v1.0", "v1234567890", "v١"] {
            assert!(TopicVersion::new(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn physical_topics_follow_kafkas_rule() {
        for good in ["a.b.v1", "__consumer_offsets", "x"] {
            assert_eq!(verdict(PhysicalTopic::new(good)), "ok", "{good}");
        }
        assert_eq!(verdict(PhysicalTopic::new("..")), "physical topic \"..\" is reserved");
        assert!(PhysicalTopic::new(&"a".repeat(250)).is_err());
        assert!(PhysicalTopic::new("a/b").is_err());
    }

    #[test]
    fn a_generation_is_written_as_it_is_read_and_includes_what_came_before_it_in_its_history() {
        let of = |history, number| Generation { history: HistoryId::new(history), number };
        for generation in [of(0, 0), of(0x3f2a, 17), of(u64::MAX, u64::MAX)] {
            assert_eq!(Generation::parse(&generation.to_string()), Some(generation));
            let json = serde_json::to_string(&generation).unwrap();
            assert_eq!(serde_json::from_str::<Generation>(&json).unwrap(), generation);
        }
        for bad in
            ["", "-", "17", "000000000000000-1", "000000000000000g-1", "0000000000000000-", "0000000000000000-+1"]
        {
            assert_eq!(Generation::parse(bad), None, "{bad:?}");
        }
        let rows = [(of(1, 5), true), (of(1, 6), true), (of(1, 4), false), (of(2, 6), false)];
        for (has, expected) in rows {
            assert_eq!(has.includes(of(1, 5)), expected, "{has}");
        }
    }

    #[test]
    fn a_name_from_json_is_checked_too() {
        assert!(serde_json::from_str::<AppId>("\"a/b\"").is_err());
        assert_eq!(serde_json::from_str::<AppId>("\"app1\"").unwrap(), "app1");
    }
}
