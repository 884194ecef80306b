//! `kateway admin app`, `topic`, `grant` and `secret`.

use super::call::{Call, Removed};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

#[derive(Debug, Clone, Subcommand)]
pub enum App {
    /// Make an app; its two secrets are shown once.
    Create {
        appid: String,
        /// Cluster its topics live in.
        #[arg(long)]
        cluster: String,
        /// Although a deleted app of this id left topics or groups in Kafka, which the new one will own.
        #[arg(long)]
        reuse: bool,
    },
    /// All apps.
    List,
    /// An app, with the ages of its secrets.
    Show { appid: String },
    /// Have its topics to come made in another cluster; those that exist stay where they are.
    Set {
        appid: String,
        #[arg(long)]
        cluster: String,
    },
    /// Let an app publish and subscribe again.
    Enable { appid: String },
    /// Let an app neither publish nor subscribe, and nobody read its topics, until it is enabled again.
    Disable { appid: String },
    /// Set how much an app may publish and read, over all gateways. What is not given stays; 0 takes a limit away.
    Limit {
        appid: String,
        #[command(flatten)]
        rates: Rates,
        /// Client connections at one time.
        #[arg(long, value_name = "N")]
        connections: Option<u64>,
    },
    /// Set from where an app may be used: 192.0.2.7, 10.1.0.0/16, 2001:db8::/32; none: from everywhere.
    Addresses { appid: String, ranges: Vec<String> },
    /// Remove an app and its grants; Kafka topics stay.
    Delete {
        appid: String,
        /// With the registration of the topics it still owns.
        #[arg(long)]
        cascade: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub struct Rates {
    /// Messages a second.
    #[arg(long, value_name = "N")]
    publish_messages: Option<u64>,
    /// Bytes a second of values, keys and headers.
    #[arg(long, value_name = "N")]
    publish_bytes: Option<u64>,
    /// Messages a second.
    #[arg(long, value_name = "N")]
    subscribe_messages: Option<u64>,
    /// Bytes a second of answers to polls.
    #[arg(long, value_name = "N")]
    subscribe_bytes: Option<u64>,
}

/// A topic version of an app.
#[derive(Debug, Clone, Args)]
pub struct Name {
    appid: String,
    topic: String,
    ver: String,
}

/// What is chosen when a topic version is made, and may be changed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How many; they can only grow.
    #[arg(long, value_name = "N")]
    partitions: Option<u32>,
    #[arg(long, value_name = "HOURS")]
    retention_hours: Option<f64>,
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    retention_bytes: Option<i64>,
    /// murmur2 or fnv1a.
    #[arg(long)]
    partitioner: Option<String>,
    /// none, gzip, snappy, lz4 or zstd.
    #[arg(long)]
    compression: Option<String>,
    /// Largest message.
    #[arg(long, value_name = "BYTES")]
    message_bytes_max: Option<u32>,
    /// Take tags of 2017 off values when they are read.
    #[arg(long, value_name = "true|false")]
    strip_2017_tags: Option<bool>,
}

const OPTIONS: [&str; 7] = [
    "partitions",
    "retention_hours",
    "retention_bytes",
    "partitioner",
    "compression",
    "message_bytes_max",
    "strip_2017_tags",
];

#[derive(Debug, Clone, Subcommand)]
pub enum Topic {
    /// Make a topic version, in Kafka too.
    Create {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        options: Options,
        /// Copies of each partition.
        #[arg(long, value_name = "N")]
        replicas: Option<u32>,
        /// Take the topic of this name that Kafka has already, with its messages.
        #[arg(long)]
        adopt: bool,
    },
    /// Topic versions, of one app or all.
    List { appid: Option<String> },
    /// A topic version, with its limits and what goes through it at the gateway that answers.
    Show(Name),
    /// Change a topic version, in Kafka too. What is not given stays.
    #[command(group(ArgGroup::new("changed").args(OPTIONS).required(true).multiple(true)))]
    Set {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        options: Options,
    },
    /// Let a topic version be published to and read again.
    Enable(Name),
    /// Let nobody publish to a topic version or read it, until it is enabled again.
    Disable(Name),
    /// Set how much may be published to a topic version and read from it, by everybody together.
    Limit {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        rates: Rates,
    },
    /// Partitions with their oldest offset and the one that the next message will have.
    Partitions(Name),
    /// Remove a topic version; its messages stay in Kafka.
    Delete {
        #[command(flatten)]
        name: Name,
        /// The messages in Kafka too.
        #[arg(long)]
        delete_data: bool,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub enum Grant {
    /// Let APPID read a topic of OWNER.
    Subscribe {
        appid: String,
        owner: String,
        topic: String,
        /// One version; all when not given.
        ver: Option<String>,
    },
    /// Let APPID publish to a Kafka topic by its physical name.
    Raw {
        appid: String,
        cluster: String,
        /// One topic; all when not given.
        topic: Option<String>,
    },
    /// Grants, of one app or all.
    List { appid: Option<String> },
    /// Take a subscribe grant back.
    RevokeSubscribe { appid: String, owner: String, topic: String, ver: Option<String> },
    /// Take a raw grant back.
    RevokeRaw { appid: String, cluster: String, topic: Option<String> },
}

#[derive(Debug, Clone, Subcommand)]
pub enum Secret {
    /// Make a new secret; the previous one stays valid until it is revoked. While two are valid, say which one dies.
    Rotate {
        appid: String,
        /// publish or subscribe.
        side: String,
        /// Of two, replace the younger: its answer was lost, say.
        #[arg(long, conflicts_with = "replace_current")]
        force: bool,
        /// Of two, replace the older, which clients use so far.
        #[arg(long)]
        replace_current: bool,
    },
    /// End the rotation: only the newest secret stays valid.
    RevokePrevious {
        appid: String,
        /// publish or subscribe.
        side: String,
    },
}

const APP: &[&str] = &["appid", "cluster", "enabled"];
const ONE_APP: &[&str] = &["appid", "cluster", "enabled", "created_at", "limits", "addresses", "handoff", "secrets"];
const CHANGED_APP: &[&str] = &["appid", "cluster", "enabled", "lacking"];
const NEW_APP: &[&str] = &["appid", "cluster", "pubkey", "subkey"];
const ONE_TOPIC: &[&str] =
    &["appid", "topic", "ver", "cluster", "physical", "state", "partitions", "limits", "handoff", "rates"];
const CHANGED_TOPIC: &[&str] = &[
    "appid",
    "topic",
    "ver",
    "state",
    "partitions",
    "partitioner",
    "compression",
    "message_bytes_max",
    "strip_2017_tags",
    "lacking",
];
const TOPIC: &[&str] = &["appid", "topic", "ver", "cluster", "physical", "state", "partitions"];
/// As the commands take one.
pub const TOPIC_NAME: &[&str] = &["appid", "topic", "ver"];
const GRANT: &[&str] = &["kind", "appid", "owner", "topic", "ver", "cluster"];
/// The words of `grant subscribe …` or `grant raw …` that make it.
const GRANT_NAME: &[&str] = &["kind", "appid", "owner", "cluster", "topic", "ver"];

impl App {
    pub fn call(self) -> Call {
        match self {
            App::Create { appid, cluster, reuse } => Call::new("POST", "/v1/apps", NEW_APP)
                .with("reuse", reuse.then_some(1))
                .body(json!({"appid": appid, "cluster": cluster})),
            App::List => Call::list("/v1/apps", APP),
            App::Show { appid } => Call::new("GET", format!("/v1/apps/{appid}"), ONE_APP),
            App::Set { appid, cluster } => changed_app(&appid, json!({"cluster": cluster})),
            App::Enable { appid } => changed_app(&appid, json!({"enabled": true})),
            App::Disable { appid } => {
                let question = format!("let app {appid} neither publish nor subscribe from now on?");
                changed_app(&appid, json!({"enabled": false})).asking(question)
            }
            App::Limit { appid, rates, connections } => rates
                .of(Call::new("PUT", format!("/v1/apps/{appid}/limits"), &["appid", "limits"]))
                .with("connections", connections),
            App::Addresses { appid, ranges } => {
                Call::new("PUT", format!("/v1/apps/{appid}/addresses"), &["appid", "addresses", "lacking"])
                    .body(json!({"addresses": ranges}))
            }
            App::Delete { appid, cascade } => {
                let question = format!("remove app {appid}, its topics' registration and its grants?");
                Call::remove(format!("/v1/apps/{appid}"), Removed::new("app", appid))
                    .with("cascade", cascade.then_some(1))
                    .asking(question)
            }
        }
    }
}

fn changed_app(appid: &str, body: Value) -> Call {
    Call::new("PUT", format!("/v1/apps/{appid}"), CHANGED_APP).body(body)
}

impl Rates {
    fn of(self, call: Call) -> Call {
        call.with("publish_messages", self.publish_messages)
            .with("publish_bytes", self.publish_bytes)
            .with("subscribe_messages", self.subscribe_messages)
            .with("subscribe_bytes", self.subscribe_bytes)
    }
}

impl Name {
    fn call(&self, method: &'static str, suffix: &str, columns: &'static [&'static str]) -> Call {
        let Name { appid, topic, ver } = self;
        Call::new(method, format!("/v1/topics/{appid}/{topic}/{ver}{suffix}"), columns).named(TOPIC_NAME)
    }
}

impl Options {
    fn of(self, call: Call) -> Call {
        call.with("partitions", self.partitions)
            .with("retention.hours", self.retention_hours)
            .with("retention.bytes", self.retention_bytes)
            .with("partitioner", self.partitioner)
            .with("compression", self.compression)
            .with("message_bytes_max", self.message_bytes_max)
            .with("strip_2017_tags", self.strip_2017_tags.map(u8::from))
    }
}

impl Topic {
    pub fn call(self) -> Call {
        match self {
            Topic::Create { name, options, replicas, adopt } => {
                options.of(name.call("POST", "", TOPIC)).with("replicas", replicas).with("adopt", adopt.then_some(1))
            }
            Topic::List { appid: None } => Call::list("/v1/topics", TOPIC).named(TOPIC_NAME),
            Topic::List { appid: Some(appid) } => Call::list(format!("/v1/topics/{appid}"), TOPIC).named(TOPIC_NAME),
            Topic::Show(name) => name.call("GET", "", ONE_TOPIC),
            Topic::Set { name, options } => options.of(name.call("PUT", "", CHANGED_TOPIC)),
            Topic::Enable(name) => name.call("PUT", "", CHANGED_TOPIC).with("enabled", Some(1)),
            Topic::Disable(name) => {
                let Name { appid, topic, ver } = &name;
                let question = format!("let nobody publish to {appid}/{topic}/{ver} or read it from now on?");
                name.call("PUT", "", CHANGED_TOPIC).with("enabled", Some(0)).asking(question)
            }
            Topic::Limit { name, rates } => rates.of(name.call("PUT", "/limits", &["appid", "topic", "ver", "limits"])),
            Topic::Partitions(Name { appid, topic, ver }) => {
                Call::new("GET", format!("/v1/partitions/{appid}/{topic}/{ver}"), &["partition", "oldest", "latest"])
            }
            Topic::Delete { name: Name { appid, topic, ver }, delete_data } => {
                let what = if delete_data { " and its messages in Kafka" } else { "; its messages stay in Kafka" };
                let path = format!("/v1/topics/{appid}/{topic}/{ver}");
                Call::remove(path, Removed::new("topic", format!("{appid} {topic} {ver}")))
                    .with("delete_data", delete_data.then_some(1))
                    .asking(format!("remove {appid}/{topic}/{ver}{what}?"))
            }
        }
    }

    /// What is shown of an answer: of partitions, a row each.
    pub fn rows(&self, answer: &mut Value) {
        let (Topic::Partitions(_), Some(offsets)) = (self, answer["offsets"].as_object_mut()) else { return };
        let offsets = std::mem::take(offsets).into_iter();
        let mut rows: Vec<(u32, Value)> = offsets
            .filter_map(|(partition, mut row)| {
                let partition: u32 = partition.parse().ok()?;
                row["partition"] = partition.into();
                Some((partition, row))
            })
            .collect();
        rows.sort_by_key(|(partition, _)| *partition);
        *answer = rows.into_iter().map(|(_, row)| row).collect();
    }
}

impl Grant {
    pub fn call(self) -> Call {
        match self {
            Grant::Subscribe { appid, owner, topic, ver } => {
                Call::new("POST", "/v1/grants", GRANT).body(subscribe_grant(&appid, &owner, &topic, ver.as_deref()))
            }
            Grant::Raw { appid, cluster, topic } => {
                Call::new("POST", "/v1/grants", GRANT).body(raw_grant(&appid, &cluster, topic.as_deref()))
            }
            Grant::List { appid } => Call::list("/v1/grants", GRANT).with("appid", appid),
            Grant::RevokeSubscribe { appid, owner, topic, ver } => {
                let name = words(&["subscribe", &appid, &owner, &topic], ver.as_deref());
                Call::remove("/v1/grants", Removed::new("grant", name))
                    .asking(format!("take from {appid} the right to read {owner}/{topic}?"))
                    .body(subscribe_grant(&appid, &owner, &topic, ver.as_deref()))
            }
            Grant::RevokeRaw { appid, cluster, topic } => {
                let name = words(&["raw", &appid, &cluster], topic.as_deref());
                Call::remove("/v1/grants", Removed::new("grant", name))
                    .asking(format!("take from {appid} the right to publish by name to cluster {cluster}?"))
                    .body(raw_grant(&appid, &cluster, topic.as_deref()))
            }
        }
        .named_as_grant()
    }
}

impl Call {
    /// Where it is no removal, which has its name from its words.
    fn named_as_grant(self) -> Call {
        if self.removes.is_none() { self.named(GRANT_NAME) } else { self }
    }
}

impl Secret {
    pub fn call(self) -> Call {
        match self {
            Secret::Rotate { appid, side, force, replace_current } => {
                Call::new("POST", format!("/v1/apps/{appid}/secrets/{side}"), &["appid", "side", "secret"])
                    .named(&["appid", "side"])
                    .with("force", force.then_some(1))
                    .with("replace", replace_current.then_some("current"))
            }
            Secret::RevokePrevious { appid, side } => {
                let path = format!("/v1/apps/{appid}/secrets/{side}");
                let (what, name) = (format!("previous {side} secret of {appid}"), format!("{appid} {side}"));
                Call::remove(path, Removed { what, name })
                    .asking(format!("make the previous {side} secret of {appid} invalid now?"))
            }
        }
    }
}

fn words(words: &[&str], more: Option<&str>) -> String {
    words.iter().copied().chain(more).collect::<Vec<_>>().join(" ")
}

fn subscribe_grant(appid: &str, owner: &str, topic: &str, ver: Option<&str>) -> Value {
    json!({"kind": "subscribe", "appid": appid, "owner": owner, "topic": topic, "ver": ver})
}

fn raw_grant(appid: &str, cluster: &str, topic: Option<&str>) -> Value {
    json!({"kind": "raw", "appid": appid, "cluster": cluster, "topic": topic})
}
