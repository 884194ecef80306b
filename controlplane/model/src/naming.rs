//! How topics and groups are called in Kafka. Existing clients and operators know these names, so they never change.
//!
//! ```text
//! topic   <appid>.<topic>.<ver>                 app1.foobar.v1
//!         … with a checksum once ver is longer than two characters (from v10)
//!                                               app1.foobar.v10.844    844 = adler32("app1" ++ "foobar") % 1000
//! shadow  <topic>.<caller>.<group>.<retry|dead> app1.foobar.v1.app2.g1.retry
//! group   <caller>.<group>                      app2.g1
//! ```

use crate::ids::{AppId, GroupName, TopicName, TopicVersion};
use crate::limits::PHYSICAL_TOPIC_BYTES_MAX;

/// Which companion queue of a (topic, app, group).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shadow {
    Retry,
    Dead,
}

impl Shadow {
    pub fn as_str(self) -> &'static str {
        match self {
            Shadow::Retry => "retry",
            Shadow::Dead => "dead",
        }
    }
}

/// A topic name that leaves no room in Kafka's 249 bytes for its longest shadow queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the Kafka topic {physical} would have {found} characters, at most {limit} leave room for the retry and dead \
     queues of every group; choose a shorter topic name"
)]
pub struct PhysicalNameTooLong {
    pub physical: String,
    pub found: usize,
    pub limit: usize,
}

/// The Kafka topic that holds this version of this topic.
pub fn physical_topic(app: &AppId, topic: &TopicName, ver: &TopicVersion) -> String {
    let mut name = format!("{app}.{topic}.{ver}");
    if ver.as_str().len() > 2 {
        let checksum = adler32(app.as_str().bytes().chain(topic.as_str().bytes())) % 1000;
        name.push('.');
        name.push_str(&checksum.to_string());
    }
    name
}

/// As [`physical_topic`], for a topic about to be created: every shadow queue must fit into Kafka's limit as well.
pub fn physical_topic_for_creation(
    app: &AppId,
    topic: &TopicName,
    ver: &TopicVersion,
) -> Result<String, PhysicalNameTooLong> {
    let physical = physical_topic(app, topic, ver);
    let found = physical.len();
    if found > PHYSICAL_TOPIC_BYTES_MAX {
        return Err(PhysicalNameTooLong { physical, found, limit: PHYSICAL_TOPIC_BYTES_MAX });
    }
    Ok(physical)
}

/// The retry or dead queue that `caller`'s `group` has beside the physical topic.
pub fn shadow_topic(physical: &str, caller: &AppId, group: &GroupName, shadow: Shadow) -> String {
    format!("{physical}.{caller}.{group}.{}", shadow.as_str())
}

/// The Kafka consumer group behind `group` of the calling app: tenants cannot meet in one group.
pub fn physical_group(caller: &AppId, group: &GroupName) -> String {
    format!("{caller}.{group}")
}

/// RFC 1950 Adler-32. Input is at most 128 bytes, so the sums cannot overflow before the reduction.
fn adler32(bytes: impl Iterator<Item = u8>) -> u32 {
    const MODULUS: u32 = 65_521;
    let (mut a, mut b) = (1u32, 0u32);
    for byte in bytes {
        a = (a + u32::from(byte)) % MODULUS;
        b = (b + a) % MODULUS;
    }
    (b << 16) | a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::KAFKA_TOPIC_BYTES_MAX;

    fn physical(app: &str, topic: &str, ver: &str) -> String {
        physical_topic(&AppId::new(app).unwrap(), &TopicName::new(topic).unwrap(), &TopicVersion::new(ver).unwrap())
    }

    #[test]
    fn physical_names_are_those_of_2017() {
        let rows = [
            // The third row was measured on the 2017 gateway.
            ("app1", "foobar", "v1", "app1.foobar.v1"),
            ("app1", "foobar", "v9", "app1.foobar.v9"),
            ("app1", "foobar", "v10", "app1.foobar.v10.844"),
            ("app1", "foobar", "v123", "app1.foobar.v123.844"),
            ("demo", "hello", "v1", "demo.hello.v1"),
        ];
        for (app, topic, ver, expected) in rows {
            assert_eq!(physical(app, topic, ver), expected);
        }
    }

    #[test]
    fn adler32_is_the_one_of_rfc_1950() {
        assert_eq!(adler32("Wikipedia".bytes()), 0x11E6_0398);
        assert_eq!(adler32("".bytes()), 1);
    }

    #[test]
    fn every_topic_that_may_be_created_has_room_for_its_longest_shadow_queue() {
        let longest = "n".repeat(64);
        let (caller, group) = (AppId::new(&longest).unwrap(), GroupName::new(&longest).unwrap());
        for app_len in [1, 32, 40, 64] {
            for ver in ["v1", "v10", "v123456789"] {
                let app = AppId::new(&"a".repeat(app_len)).unwrap();
                let (topic, ver) = (TopicName::new(&longest).unwrap(), TopicVersion::new(ver).unwrap());
                match physical_topic_for_creation(&app, &topic, &ver) {
                    Ok(name) => {
                        let shadow = shadow_topic(&name, &caller, &group, Shadow::Retry);
                        assert!(shadow.len() <= KAFKA_TOPIC_BYTES_MAX, "{} is too long", shadow.len());
                    }
                    Err(err) => assert!(app_len > 32, "{err}"),
                }
            }
        }
    }

    #[test]
    fn groups_of_two_tenants_never_meet() {
        let group = GroupName::new("g1").unwrap();
        assert_eq!(physical_group(&AppId::new("app2").unwrap(), &group), "app2.g1");
        assert_eq!(
            shadow_topic("app1.foobar.v1", &AppId::new("app2").unwrap(), &group, Shadow::Dead),
            "app1.foobar.v1.app2.g1.dead"
        );
    }
}
