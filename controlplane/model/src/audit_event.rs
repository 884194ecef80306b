//! What the audit log is to say of clients of Kafka's protocol, on its way from a shard to the database.
//!
//! ```text
//! shard ──AuditEvent──► agent: counts, numbers ──ReportedEvent──► whoever has the database: a row of the audit log
//! ```
//! There is nothing secret in it: names, addresses, a sentence. What a stranger calls itself is kept only if an app could
//! have that name: people type their secrets into the wrong field.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::Side;
use crate::ids::AppId;
use crate::limits::{AUDIT_ABOUT_CHARS_MAX, AUDIT_ID_CHARS_MAX};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditWhat {
    KafkaLoginFailed,
    /// Failed, and too many before it did.
    KafkaLoginLimited,
    /// It has proved who it is, and may not come in all the same.
    KafkaLoginRefused,
    KafkaSessionRevoked,
    /// Asked for; what came of each group the broker told the client.
    KafkaGroupsDeleted,
    KafkaOffsetsDeleted,
    /// Of a later version.
    #[serde(untagged)]
    Other(String),
}

impl AuditWhat {
    pub fn as_str(&self) -> &str {
        match self {
            AuditWhat::KafkaLoginFailed => "kafka_login_failed",
            AuditWhat::KafkaLoginLimited => "kafka_login_limited",
            AuditWhat::KafkaLoginRefused => "kafka_login_refused",
            AuditWhat::KafkaSessionRevoked => "kafka_session_revoked",
            AuditWhat::KafkaGroupsDeleted => "kafka_groups_deleted",
            AuditWhat::KafkaOffsetsDeleted => "kafka_offsets_deleted",
            AuditWhat::Other(word) => word,
        }
    }

    /// Was somebody turned away?
    pub fn is_login(&self) -> bool {
        matches!(self, AuditWhat::KafkaLoginFailed | AuditWhat::KafkaLoginLimited | AuditWhat::KafkaLoginRefused)
    }

    /// Did an app ask for it, or did it happen to one?
    pub fn is_of_app(&self) -> bool {
        matches!(self, AuditWhat::KafkaGroupsDeleted | AuditWhat::KafkaOffsetsDeleted)
    }
}

/// Something that happened on a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Epoch ms; of several, of the last one.
    pub at_ms: i64,
    pub what: AuditWhat,
    /// Empty: nobody that an app's name was kept of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub app: String,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "side")]
    pub side: Option<Side>,
    /// The client's; `None`: several had to be counted together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// Names, or a sentence.
    pub about: String,
    /// How many times; those in the middle differ in time, port and sentence.
    pub count: u64,
}

impl AuditEvent {
    pub fn new(at_ms: i64, what: AuditWhat, app: &str, peer: SocketAddr, about: &str) -> Self {
        Self {
            at_ms,
            what,
            app: if AppId::new(app).is_ok() { app.to_owned() } else { String::new() },
            side: None,
            peer: Some(SocketAddr::new(peer.ip().to_canonical(), peer.port())),
            about: shorten(about, AUDIT_ABOUT_CHARS_MAX),
            count: 1,
        }
    }

    pub fn side(mut self, side: Side) -> Self {
        self.side = Some(side);
        self
    }

    pub fn address(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip())
    }
}

/// An event with what its row is written once by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedEvent {
    /// No other event of any process has it.
    pub id: String,
    /// Where it happened.
    pub node: String,
    #[serde(flatten)]
    pub event: AuditEvent,
}

impl ReportedEvent {
    /// As long as rows may be, whoever made it.
    pub fn bounded(mut self) -> Self {
        self.id = shorten(&self.id, AUDIT_ID_CHARS_MAX);
        self.node = shorten(&self.node, AUDIT_ID_CHARS_MAX);
        self.event.about = shorten(&self.event.about, AUDIT_ABOUT_CHARS_MAX);
        if AppId::new(&self.event.app).is_err() {
            self.event.app.clear();
        }
        if let AuditWhat::Other(word) = &mut self.event.what {
            *word = shorten(word, AUDIT_ID_CHARS_MAX);
        }
        self
    }
}

/// Without what a terminal would obey.
fn shorten(text: &str, chars_max: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut short: String = chars.by_ref().take(chars_max).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

mod side {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Side;

    pub fn serialize<S: Serializer>(side: &Option<Side>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(side.map_or("", Side::as_str))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Side>, D::Error> {
        // A word of a later version is no reason to lose the event.
        String::deserialize(deserializer).map(|word| Side::parse(&word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SocketAddr {
        "[::ffff:10.0.0.7]:4711".parse().unwrap()
    }

    fn event(app: &str, about: &str) -> AuditEvent {
        AuditEvent::new(1_511_366_400_000, AuditWhat::KafkaGroupsDeleted, app, peer(), about)
    }

    #[test]
    fn an_event_reads_back_and_fields_and_words_of_later_versions_do_not_hurt() {
        let event = ReportedEvent {
            id: "gw-1".to_owned(),
            node: "gw".to_owned(),
            event: event("shop", "billing").side(Side::Subscribe),
        };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(
            json,
            r#"{"id":"gw-1","node":"gw","at_ms":1511366400000,"what":"kafka_groups_deleted","app":"shop","#.to_owned()
                + r#""side":"subscribe","peer":"10.0.0.7:4711","about":"billing","count":1}"#
        );
        assert_eq!(serde_json::from_str::<ReportedEvent>(&json).unwrap(), event);
        let later = json
            .replace("kafka_groups_deleted", "mqtt_login_failed")
            .replace("subscribe", "both")
            .replace("\"count\"", "\"new\":{},\"count\"");
        let read: ReportedEvent = serde_json::from_str(&later).unwrap();
        assert_eq!(read.event.what, AuditWhat::Other("mqtt_login_failed".to_owned()));
        assert_eq!((read.event.what.as_str(), read.event.side), ("mqtt_login_failed", None));
    }

    #[test]
    fn every_word_is_the_one_in_json() {
        let all = [
            AuditWhat::KafkaLoginFailed,
            AuditWhat::KafkaLoginLimited,
            AuditWhat::KafkaLoginRefused,
            AuditWhat::KafkaSessionRevoked,
            AuditWhat::KafkaGroupsDeleted,
            AuditWhat::KafkaOffsetsDeleted,
        ];
        for what in all {
            assert_eq!(serde_json::to_value(&what).unwrap(), what.as_str());
            assert_eq!(serde_json::from_value::<AuditWhat>(what.as_str().into()).unwrap(), what);
        }
    }

    #[test]
    fn what_is_no_name_of_an_app_is_not_kept_and_nothing_is_long() {
        for stranger in ["my secret!", "", "a b", &"x".repeat(65)] {
            assert_eq!(event(stranger, "").app, "", "{stranger:?}");
        }
        let about = event("shop", &"\u{1b}[31m".repeat(1_000)).about;
        assert_eq!(about.chars().count(), AUDIT_ABOUT_CHARS_MAX + 1);
        assert!(!about.contains('\u{1b}') && about.ends_with('…'), "{about}");
        let long = "y".repeat(10_000);
        let event = AuditEvent { app: long.clone(), about: long.clone(), ..event("shop", "") };
        let event = ReportedEvent { id: long.clone(), node: long, event }.bounded();
        assert_eq!((event.id.chars().count(), event.event.app.as_str()), (AUDIT_ID_CHARS_MAX + 1, ""));
    }
}
