//! What a tenant's Kafka client means by the names it uses, and what it gets to hear of others.
//!
//! ```text
//!              the client says            Kafka has                      who may
//! own topic    orders.v1                  app1.orders.v1                 publish and subscribe
//! granted      app2.prices.v10            app2.prices.v10.844            subscribe
//! group        billing                    app1.billing                   subscribe
//! transaction  tx-7                       app1.tx-7                      publish
//! ```
//! App ids, topic names and versions have no dots, so that a name of Kafka says by itself whose it is: no table of names is
//! kept. Groups and transactional ids of a client may be anything; the app's id in front keeps tenants apart.
//!
//! REST uses the same groups ([`crate::naming::physical_group`]): a consumer may move from one to the other and goes on
//! where it stood.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::authenticate::Side;
use crate::authorize::{authorize_publish, authorize_subscribe, readable};
use crate::denied::{Denied, echo};
use crate::snapshot::{App, Snapshot, Topic};

/// What is wanted of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To see that it is there, and where its log ends.
    Describe,
    Write,
    Read,
    /// To commit positions in a transaction: whatever the app may read, though a producer says so.
    Consumed,
}

/// Why a name means nothing to this client. Kafka has one code for all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTopic {
    #[error("{name} is no topic: own topics are called topic.version, those of others app.topic.version")]
    Form { name: String },
    #[error("{0}")]
    Denied(Denied),
    #[error("topic {name} is on cluster {found}, this is the proxy of cluster {here}")]
    OtherCluster { name: String, found: String, here: String },
    #[error("this session was opened with the app's {key}, which is not for that; use its {other}")]
    OtherSide { key: &'static str, other: &'static str },
}

/// A logged-in Kafka client under one snapshot, before one cluster.
#[derive(Debug, Clone, Copy)]
pub struct Tenant<'s> {
    pub snapshot: &'s Snapshot,
    pub app: &'s App,
    /// Which of the app's secrets it showed.
    pub side: Side,
    /// The cluster behind the proxy.
    pub cluster: &'s str,
}

impl<'s> Tenant<'s> {
    /// The topic that is meant by `name`, if this may be done with it.
    pub fn topic(&self, name: &str, access: Access) -> Result<&'s Topic, NoTopic> {
        let as_reader = match (access, self.side) {
            (Access::Consumed, _) | (Access::Describe | Access::Read, Side::Subscribe) => true,
            (Access::Describe | Access::Write, Side::Publish) => false,
            (Access::Write, Side::Subscribe) => return Err(self.other_side()),
            (Access::Read, Side::Publish) => return Err(self.other_side()),
        };
        let topic = match (self.meaning(name), as_reader) {
            (Some((None, topic, ver)), false) => authorize_publish(self.snapshot, self.app, topic, ver),
            (Some((owner, topic, ver)), true) => {
                authorize_subscribe(self.snapshot, self.app, owner.unwrap_or(self.app.id.as_str()), topic, ver)
            }
            (Some((Some(_), ..)), false) => {
                let app = self.app.id.as_str().to_owned();
                return Err(NoTopic::Denied(Denied::NotGranted { app, what: format!("use {}", echo(name)) }));
            }
            (None, _) => return Err(NoTopic::Form { name: echo(name) }),
        };
        let topic = topic.map_err(NoTopic::Denied)?.topic();
        if topic.cluster.as_str() != self.cluster {
            let (found, here) = (topic.cluster.to_string(), self.cluster.to_owned());
            return Err(NoTopic::OtherCluster { name: echo(name), found, here });
        }
        Ok(topic)
    }

    fn other_side(&self) -> NoTopic {
        let other = match self.side {
            Side::Publish => Side::Subscribe,
            Side::Subscribe => Side::Publish,
        };
        NoTopic::OtherSide { key: self.side.key_header(), other: other.key_header() }
    }

    /// Owner (None: the app itself), topic and version.
    fn meaning<'n>(&self, name: &'n str) -> Option<(Option<&'n str>, &'n str, &'n str)> {
        let mut parts = name.split('.');
        match (parts.next()?, parts.next()?, parts.next(), parts.next()) {
            (topic, ver, None, None) => Some((None, topic, ver)),
            // One name for one topic: nobody calls its own topics by its app's id.
            (owner, topic, Some(ver), None) if self.app.id != owner => Some((Some(owner), topic, ver)),
            _ => None,
        }
    }

    /// What this client calls a topic of Kafka; None for what it cannot call by any name.
    pub fn shown<'p>(&self, physical: &'p str) -> Option<Cow<'p, str>> {
        let (owner, rest) = physical.split_once('.')?;
        let mut parts = rest.split('.');
        let (topic, ver) = (parts.next()?, parts.next()?);
        // Behind a long version stands a checksum.
        let named = &rest[..topic.len() + 1 + ver.len()];
        let is_topic = match parts.next() {
            None => true,
            Some(checksum) => parts.next().is_none() && is_checksum(checksum),
        };
        if !is_topic {
            return None;
        }
        match self.app.id == owner {
            true => Some(named.into()),
            false => Some(physical[..owner.len() + 1 + named.len()].into()),
        }
    }

    /// As [`Tenant::shown`], for what it may be told of unasked.
    pub fn shown_if<'p>(&self, physical: &'p str, access: Access) -> Option<Cow<'p, str>> {
        self.meant(physical, access).and_then(|_| self.shown(physical))
    }

    /// The topic that is called so in Kafka, if this may be done with it. One that is called alike but for its checksum is
    /// nobody's.
    pub fn meant(&self, physical: &str, access: Access) -> Option<&'s Topic> {
        let topic = self.topic(&self.shown(physical)?, access).ok()?;
        (*topic.physical == *physical).then_some(topic)
    }

    /// Every topic on this cluster that it may see.
    pub fn topics(&self) -> impl Iterator<Item = &'s Topic> + use<'s> {
        let side = self.side;
        let (app, cluster) = (self.app, self.cluster);
        readable(self.snapshot, app)
            .filter(move |topic| side == Side::Subscribe || topic.owner == app.id)
            .filter(move |topic| topic.cluster.as_str() == cluster)
    }

    /// The name in Kafka of a group, or of a transactional id.
    pub fn owned(&self, name: &str) -> String {
        format!("{}.{name}", self.app.id)
    }

    /// What this client calls a group or a transactional id of Kafka's; None: another tenant's.
    pub fn shown_owned<'p>(&self, physical: &'p str) -> Option<&'p str> {
        physical.strip_prefix(self.app.id.as_str())?.strip_prefix('.')
    }

    /// What this client is told the cluster is called: its own for every app, so that no two see that they share one, and the
    /// same at every proxy and after every restart. Kafka's own has as many characters.
    pub fn cluster_id(&self) -> String {
        let of_app = Sha256::digest(format!("gafka cluster {} app {}", self.cluster, self.app.id));
        let mut id = cluster_part(self.cluster);
        URL_SAFE_NO_PAD.encode_string(of_app, &mut id);
        id.truncate(CLUSTER_ID_CHARS);
        id
    }

    /// Why this app has no business with this cluster, if so.
    pub fn stranger(&self) -> Option<String> {
        let is_here = self.app.cluster.as_str() == self.cluster || self.topics().next().is_some();
        (!is_here).then(|| {
            format!(
                "app {} has its topics on cluster {}, this is the proxy of cluster {}: connect to that of {}",
                self.app.id, self.app.cluster, self.cluster, self.app.cluster
            )
        })
    }
}

/// Whether a client that was told this id was told it by a proxy of this cluster: that much can be known before a login.
pub fn is_id_of_cluster(id: &str, cluster: &str) -> bool {
    id.len() == CLUSTER_ID_CHARS && id.starts_with(&cluster_part(cluster))
}

const CLUSTER_ID_CHARS: usize = 22;
const CLUSTER_PART_BYTES: usize = 6;

fn cluster_part(cluster: &str) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(format!("gafka cluster {cluster}"))[..CLUSTER_PART_BYTES])
}

fn is_checksum(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{AppDoc, GrantDoc, SnapshotDoc, TopicDoc};
    use crate::ids::{AppId, ClusterName, TopicName, TopicVersion};
    use crate::scram::ScramParams;
    use crate::secrets::{PlainSecret, SecretPair, StoredSecret};

    fn app(id: &str, index: u32, cluster: &str) -> AppDoc {
        let scram = ScramParams { salt: vec![1; 16], iterations: 4096 };
        let stored = StoredSecret::derive(&PlainSecret::from_text("secret").unwrap(), &scram);
        let pair = SecretPair { current: stored, previous: None };
        AppDoc {
            id: AppId::new(id).unwrap(),
            index,
            cluster: ClusterName::new(cluster).unwrap(),
            enabled: true,
            scram,
            publish: pair.clone(),
            subscribe: pair,
            limits: Default::default(),
            addresses: Default::default(),
            handoff: true,
        }
    }

    fn topic(owner: &str, name: &str, ver: &str, index: u32, cluster: &str, enabled: bool) -> TopicDoc {
        TopicDoc {
            owner: AppId::new(owner).unwrap(),
            name: TopicName::new(name).unwrap(),
            ver: TopicVersion::new(ver).unwrap(),
            index,
            cluster: ClusterName::new(cluster).unwrap(),
            enabled,
            options: Default::default(),
            limits: Default::default(),
            partitions: None,
            replicas: None,
            retention_ms: None,
            retention_bytes: None,
        }
    }

    fn snapshot() -> Snapshot {
        let grant = |topic: &str, ver: Option<&str>| GrantDoc::Subscribe {
            app: AppId::new("app1").unwrap(),
            owner: AppId::new("app2").unwrap(),
            topic: TopicName::new(topic).unwrap(),
            ver: ver.map(|ver| TopicVersion::new(ver).unwrap()),
        };
        let doc = SnapshotDoc {
            apps: vec![app("app1", 1, "main"), app("app2", 2, "main"), app("far", 3, "other")],
            topics: vec![
                topic("app1", "orders", "v1", 1, "main", true),
                topic("app1", "orders", "v10", 2, "main", true),
                topic("app1", "away", "v1", 3, "other", true),
                topic("app1", "off", "v1", 4, "main", false),
                topic("app2", "prices", "v1", 5, "main", true),
                topic("app2", "prices", "v10", 6, "main", true),
                topic("app2", "secret", "v1", 7, "main", true),
                topic("far", "x", "v1", 8, "other", true),
            ],
            grants: vec![grant("prices", Some("v10"))],
            ..SnapshotDoc::default()
        };
        Snapshot::build(doc).unwrap()
    }

    fn tenant<'s>(snapshot: &'s Snapshot, app: &str, side: Side) -> Tenant<'s> {
        Tenant { snapshot, app: snapshot.app(app).unwrap(), side, cluster: "main" }
    }

    #[test]
    fn a_name_means_an_own_or_a_granted_topic_or_nothing() {
        use Access::*;
        let snapshot = snapshot();
        let (publisher, subscriber) =
            (tenant(&snapshot, "app1", Side::Publish), tenant(&snapshot, "app1", Side::Subscribe));
        let rows = [
            // name, access, as publisher, as subscriber
            ("orders.v1", Describe, Some("app1.orders.v1"), Some("app1.orders.v1")),
            ("orders.v1", Write, Some("app1.orders.v1"), None),
            ("orders.v1", Read, None, Some("app1.orders.v1")),
            ("orders.v1", Consumed, Some("app1.orders.v1"), Some("app1.orders.v1")),
            ("app2.prices.v10", Describe, None, Some("app2.prices.v10.633")),
            ("app2.prices.v10", Write, None, None),
            ("app2.prices.v10", Read, None, Some("app2.prices.v10.633")),
            ("app2.prices.v10", Consumed, Some("app2.prices.v10.633"), Some("app2.prices.v10.633")),
            ("app2.prices.v1", Read, None, None),
            ("app2.secret.v1", Describe, None, None),
            ("app2.nothing.v1", Describe, None, None),
            ("nobody.x.v1", Describe, None, None),
            ("app1.orders.v1", Describe, None, None),
            ("app1.orders.v1", Read, None, None),
            ("app2.prices.v10.633", Read, None, None),
            ("orders", Describe, None, None),
            ("orders.v2", Describe, None, None),
            ("off.v1", Describe, None, None),
            ("away.v1", Write, None, None),
            ("", Describe, None, None),
            ("..", Describe, None, None),
            ("__consumer_offsets", Describe, None, None),
            ("app1.orders.v1.app1.g.retry", Read, None, None),
        ];
        for (name, access, as_publisher, as_subscriber) in rows {
            for (tenant, expected) in [(publisher, as_publisher), (subscriber, as_subscriber)] {
                let found = tenant.topic(name, access).map(|topic| topic.physical.to_string());
                let shown = found.as_ref().ok().map(String::as_str);
                let checksum = |name: &str| name.split('.').take(3).map(str::to_owned).collect::<Vec<_>>();
                assert_eq!(
                    shown.map(checksum),
                    expected.map(checksum),
                    "{name} {access:?} {:?}: {found:?}",
                    tenant.side
                );
            }
        }
    }

    #[test]
    fn what_a_name_means_is_shown_by_that_name() {
        let snapshot = snapshot();
        let tenant = tenant(&snapshot, "app1", Side::Subscribe);
        for topic in tenant.topics() {
            let shown = tenant.shown(&topic.physical).unwrap();
            assert_eq!(tenant.topic(&shown, Access::Read).unwrap().physical, topic.physical);
            assert_eq!(tenant.shown_if(&topic.physical, Access::Read), Some(shown));
        }
        let mut seen: Vec<_> = tenant.topics().map(|topic| tenant.shown(&topic.physical).unwrap()).collect();
        seen.sort();
        assert_eq!(seen, ["app2.prices.v10", "orders.v1", "orders.v10"]);
        for (physical, shown) in [
            ("app2.secret.v1", None),
            ("app1.orders.v1.7", None),
            ("app1.orders.v1.app1.g.retry", None),
            ("__consumer_offsets", None),
            ("app10.orders.v1", None),
        ] {
            assert_eq!(tenant.shown_if(physical, Access::Describe), shown, "{physical}");
        }
    }

    #[test]
    fn groups_are_apart_and_a_stranger_is_told_where_to_go() {
        let snapshot = snapshot();
        let one = tenant(&snapshot, "app1", Side::Subscribe);
        assert_eq!(one.owned("g.1"), "app1.g.1");
        assert_eq!(one.shown_owned("app1.g.1"), Some("g.1"));
        for other in ["app2.g", "app10.g", "app1", "g", ""] {
            assert_eq!(one.shown_owned(other), None, "{other}");
        }
        assert_eq!(one.stranger(), None);
        let far = tenant(&snapshot, "far", Side::Publish).stranger().unwrap();
        assert!(far.contains("cluster other"), "{far}");
    }

    #[test]
    fn each_app_has_a_cluster_id_of_its_own_that_says_which_cluster_it_is() {
        let snapshot = snapshot();
        let id = |app, cluster| Tenant { cluster, ..tenant(&snapshot, app, Side::Publish) }.cluster_id();
        let (one, two, far) = (id("app1", "main"), id("app2", "main"), id("app1", "other"));
        assert!(one != two && one != far && one == id("app1", "main"));
        assert_eq!(one.len(), 22);
        assert!(is_id_of_cluster(&one, "main") && is_id_of_cluster(&two, "main"));
        assert!(!is_id_of_cluster(&far, "main") && !is_id_of_cluster("MkU3OEVBNTcwNTJENDM2Qk", "main"));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let snapshot = snapshot();
        let tenant = tenant(&snapshot, "app1", Side::Subscribe);
        let say = |name, access| tenant.topic(name, access).unwrap_err().to_string();
        assert!(say("orders", Access::Read).contains("topic.version"));
        assert!(say("away.v1", Access::Read).contains("cluster other"));
        assert!(say("orders.v1", Access::Write).contains("Pubkey"));
    }
}
