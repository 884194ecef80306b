//! `kateway admin kafka-config APP`: configurations for Kafka clients of an app, from what the manager knows of it.
//!
//! The manager has no secrets, only their hashes, so a placeholder stands for them; those of a quickstart's demo app are in
//! its credentials file, and are filled in.

use crate::admin::{Admin, Call};
use crate::credentials::Credentials;
use crate::kafka_clients::{Client, Session, Side, Tls};
use crate::table::Format;
use anyhow::Result;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use daemon::HostPort;
use daemon::keys::Value as _;
use kafka_client::Mechanism;
use manager::client::{AdminClient, ClientError};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Flags of `kafka-config`.
#[derive(Debug, Clone, Args)]
pub struct KafkaConfig {
    appid: String,
    /// Which of the app's two secrets is used; both when not given.
    #[arg(long, value_enum)]
    side: Option<Side>,
    #[arg(long, value_enum, default_value = "librdkafka")]
    client: Client,
    /// When not given: PLAIN over TLS and on loopback, SCRAM-SHA-256, which tells nobody the secret, elsewhere.
    #[arg(long, value_parser = mechanism(), ignore_case = true)]
    mechanism: Option<Mechanism>,
    /// Where kproxy is; taken from the registered nodes, or from the credentials file, when not given.
    #[arg(long, value_name = "HOST:PORT", value_parser = HostPort::parse)]
    bootstrap: Option<HostPort>,
    /// kproxy speaks TLS, with a certificate that the client's machine trusts.
    #[arg(long)]
    tls: bool,
    /// kproxy speaks TLS, with a certificate signed by one of this PEM file on the client's machine.
    #[arg(long, value_name = "FILE")]
    ca: Option<String>,
}

fn mechanism() -> impl TypedValueParser<Value = Mechanism> {
    let names = PossibleValuesParser::new(Mechanism::ALL.map(Mechanism::name));
    names.map(|name| Mechanism::parse(&name).expect("one of the names"))
}

/// What the manager knows that a client's configuration depends on.
struct Known {
    topics: Topics,
    /// Addresses of kproxies before the app's cluster.
    proxies: Vec<String>,
}

/// As the app calls them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Topics {
    own: Vec<String>,
    granted: Vec<String>,
}

/// What went wrong: with an exit code of its own where the manager said so.
pub enum Failed {
    Manager(ClientError),
    Precondition(String),
}

impl From<ClientError> for Failed {
    fn from(err: ClientError) -> Self {
        Self::Manager(err)
    }
}

impl KafkaConfig {
    /// The first thing that is asked.
    pub fn call(&self) -> Call {
        Call::new("GET", format!("/v1/apps/{}", self.appid), &[])
    }

    /// What to print.
    pub async fn run(&self, flags: &Admin, client: &AdminClient) -> Result<Result<String, Failed>> {
        let stored = flags.stored()?.unwrap_or_default();
        let known = match self.ask(client).await {
            Ok(known) => known,
            Err(err) => return Ok(Err(err.into())),
        };
        let Some(bootstrap) = self.bootstrap(known.proxies, &stored.kproxy) else {
            let why = "no kproxy of this app's cluster is registered with an address that clients can use: say where it is \
                       with --bootstrap HOST:PORT";
            return Ok(Err(Failed::Precondition(why.to_owned())));
        };
        let sessions = self.sessions(&bootstrap, &known.topics, &stored);
        if matches!(flags.output, Some(Format::Json | Format::Jsonl)) {
            let rows: Vec<Value> = sessions.iter().map(|session| session.json(self.client)).collect();
            return Ok(Ok(crate::table::render(&rows.into(), &[], flags.output.unwrap_or(Format::Json))));
        }
        let texts: Vec<String> = sessions.iter().map(|session| session.text(self.client)).collect();
        Ok(Ok(texts.join("\n")))
    }

    fn sessions(&self, bootstrap: &str, topics: &Topics, stored: &Credentials) -> Vec<Session> {
        let tls = match (&self.ca, self.tls) {
            (Some(file), _) => Tls::CaFile(file.clone()),
            (None, true) => Tls::Machine,
            (None, false) => Tls::Off,
        };
        let in_the_clear = tls == Tls::Off && !is_loopback(bootstrap);
        let usual = if in_the_clear { Mechanism::ScramSha256 } else { Mechanism::Plain };
        let session = |side: Side| {
            let (secret, names) = match side {
                Side::Publish => (&stored.pubkey, topics.own.clone()),
                Side::Subscribe => (&stored.subkey, topics.own.iter().chain(&topics.granted).cloned().collect()),
            };
            let is_known = stored.appid == self.appid && !secret.is_empty();
            Session {
                app: self.appid.clone(),
                side,
                secret: is_known.then(|| secret.clone()),
                mechanism: self.mechanism.unwrap_or(usual),
                tls: tls.clone(),
                bootstrap: bootstrap.to_owned(),
                topics: names,
            }
        };
        Side::BOTH.into_iter().filter(|side| self.side.is_none_or(|asked| asked == *side)).map(session).collect()
    }

    fn bootstrap(&self, proxies: Vec<String>, stored: &str) -> Option<String> {
        if let Some(asked) = &self.bootstrap {
            return Some(asked.to_string());
        }
        let proxies: Vec<String> = proxies.into_iter().filter(|address| is_usable(address)).collect();
        match proxies.is_empty() {
            false => Some(proxies.join(",")),
            true => Some(stored.to_owned()).filter(|address| is_usable(address)),
        }
    }

    async fn ask(&self, client: &AdminClient) -> Result<Known, ClientError> {
        let app = self.call().send(client).await?;
        let cluster = app["cluster"].as_str().unwrap_or_default();
        let own = Call::list(format!("/v1/topics/{}", self.appid), &[]).send(client).await?;
        let grants = Call::list("/v1/grants", &[]).with("appid", Some(&self.appid));
        let grants = grants.send(client).await?;
        let mut others = Vec::new();
        for owner in owners(&grants, &self.appid) {
            // Who may not list them still gets to know what was granted.
            if let Ok(mut found) = Call::list(format!("/v1/topics/{owner}"), &[]).send(client).await
                && let Some(rows) = found.as_array_mut()
            {
                others.append(rows);
            }
        }
        // For a principal without a right to see nodes: the credentials file may know.
        let nodes = Call::new("GET", "/v1/instances", &[]).send(client).await.unwrap_or_default();
        Ok(Known { topics: topics(&self.appid, cluster, &own, &grants, &others), proxies: proxies(&nodes, cluster) })
    }
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn subscriptions<'a>(grants: &'a Value, app: &'a str) -> impl Iterator<Item = &'a Value> {
    rows(grants).filter(move |row| text(row, "kind") == "subscribe" && text(row, "owner") != app)
}

fn owners(grants: &Value, app: &str) -> BTreeSet<String> {
    subscriptions(grants, app).map(|row| text(row, "owner").to_owned()).collect()
}

/// The topics of the app's cluster that it may use.
fn topics(app: &str, cluster: &str, own: &Value, grants: &Value, others: &[Value]) -> Topics {
    let here = |row: &&Value| text(row, "cluster") == cluster;
    let own = rows(own).filter(here).map(|row| format!("{}.{}", text(row, "topic"), text(row, "ver"))).collect();
    let mut granted = BTreeSet::new();
    for grant in subscriptions(grants, app) {
        let (owner, topic) = (text(grant, "owner"), text(grant, "topic"));
        let is_it = |row: &&Value| text(row, "appid") == owner && text(row, "topic") == topic;
        let known: Vec<&Value> = others.iter().filter(is_it).collect();
        match grant["ver"].as_str() {
            Some(ver) if known.iter().all(|row| text(row, "ver") != ver || here(row)) => {
                granted.insert(format!("{owner}.{topic}.{ver}"));
            }
            Some(_) => {}
            None if known.is_empty() => drop(granted.insert(format!("{owner}.{topic}.VERSION"))),
            None => granted
                .extend(known.into_iter().filter(here).map(|row| format!("{owner}.{topic}.{}", text(row, "ver")))),
        }
    }
    Topics { own, granted: granted.into_iter().collect() }
}

/// Where nodes say that Kafka clients of the cluster are welcome.
fn proxies(nodes: &Value, cluster: &str) -> Vec<String> {
    let nodes = rows(nodes).filter(|node| text(node, "state") != "draining");
    let name = format!("kafka.{cluster}");
    let found: BTreeSet<String> = nodes
        .filter_map(|node| {
            let addresses = &node["addresses"];
            // A kateway has one before its only cluster, if at all.
            addresses[&name].as_str().or(addresses["kproxy"].as_str())
        })
        .map(str::to_owned)
        .collect();
    found.into_iter().collect()
}

/// Not empty, and not "every address of my machine", which says nothing to others.
fn is_usable(address: &str) -> bool {
    let is_everywhere = address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified());
    !address.is_empty() && !is_everywhere
}

fn is_loopback(bootstrap: &str) -> bool {
    bootstrap.split(',').all(|address| {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        config: KafkaConfig,
    }

    fn asked(line: &str) -> KafkaConfig {
        let words = ["kafka-config"].into_iter().chain(line.split(' '));
        <Line as clap::Parser>::try_parse_from(words).unwrap_or_else(|err| panic!("{err}")).config
    }

    fn check(line: &str, expected: Expect) {
        let config = asked(line);
        let stored = Credentials {
            appid: "demo".to_owned(),
            pubkey: "p1".to_owned(),
            subkey: "s1".to_owned(),
            kproxy: "127.0.0.1:9094".to_owned(),
            ..Credentials::default()
        };
        let topics = Topics { own: vec!["hello.v1".to_owned()], granted: vec!["billing.invoices.v1".to_owned()] };
        let bootstrap = config.bootstrap(Vec::new(), &stored.kproxy).expect("known");
        let texts: Vec<String> =
            config.sessions(&bootstrap, &topics, &stored).iter().map(|session| session.text(config.client)).collect();
        expected.assert_eq(&texts.join("\n"));
    }

    #[test]
    fn the_demo_app_gets_its_secrets_and_both_sides() {
        check(
            "demo",
            expect![[r#"
                # demo publishing to: hello.v1
                bootstrap.servers=127.0.0.1:9094
                security.protocol=SASL_PLAINTEXT
                sasl.mechanism=PLAIN
                sasl.username=demo
                sasl.password=p1

                # demo reading: hello.v1, billing.invoices.v1
                bootstrap.servers=127.0.0.1:9094
                security.protocol=SASL_PLAINTEXT
                sasl.mechanism=PLAIN
                sasl.username=demo
                sasl.password=s1
                auto.offset.reset=earliest
            "#]],
        );
    }

    #[test]
    fn a_secret_never_goes_over_a_network_in_the_clear_unasked() {
        let mechanism = |line: &str| {
            let config = asked(line);
            let bootstrap = config.bootstrap(Vec::new(), "").expect("said");
            let sessions = config.sessions(&bootstrap, &Topics::default(), &Credentials::default());
            sessions.iter().map(|session| session.mechanism.name()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(mechanism("a --bootstrap kafka.example:9092"), "SCRAM-SHA-256 SCRAM-SHA-256");
        assert_eq!(mechanism("a --bootstrap kafka.example:9092 --tls --side publish"), "PLAIN");
        assert_eq!(mechanism("a --bootstrap kafka.example:9092 --ca ca.pem --side publish"), "PLAIN");
        assert_eq!(mechanism("a --bootstrap [::1]:9092 --side subscribe"), "PLAIN");
        assert_eq!(mechanism("a --bootstrap k:9092 --mechanism plain --side publish"), "PLAIN");
    }

    #[test]
    fn topics_are_called_as_the_app_calls_them_and_only_those_of_its_cluster() {
        let topic = |app: &str, topic: &str, ver: &str, cluster: &str| json!({"appid": app, "topic": topic, "ver": ver, "cluster": cluster});
        let own = json!([topic("shop", "orders", "v1", "main"), topic("shop", "orders", "v2", "other")]);
        let others = [
            topic("bank", "rates", "v1", "main"),
            topic("bank", "rates", "v2", "main"),
            topic("bank", "rates", "v3", "other"),
            topic("bank", "fees", "v1", "other"),
        ];
        let grant = |owner: &str, topic: &str, ver: Option<&str>| json!({"kind": "subscribe", "appid": "shop", "owner": owner, "topic": topic, "ver": ver});
        let grants = json!([
            grant("bank", "rates", None),
            grant("bank", "fees", Some("v1")),
            grant("post", "parcels", Some("v7")),
            grant("post", "letters", None),
            json!({"kind": "raw", "appid": "shop", "cluster": "main", "topic": "x"}),
        ]);
        assert_eq!(owners(&grants, "shop"), BTreeSet::from(["bank".to_owned(), "post".to_owned()]));
        let Topics { own, granted } = topics("shop", "main", &own, &grants, &others);
        assert_eq!(own, ["orders.v1"]);
        assert_eq!(granted, ["bank.rates.v1", "bank.rates.v2", "post.letters.VERSION", "post.parcels.v7"]);
    }

    #[test]
    fn the_proxies_of_the_cluster_are_found_among_the_nodes() {
        let node = |addresses: Value| json!({"kind": "kproxy", "state": "serving", "addresses": addresses});
        let nodes = json!([
            node(json!({"kafka": "k1:9092", "kafka.main": "k1:9092"})),
            node(json!({"kafka": "k2:9092", "kafka.other": "k2:9092"})),
            node(json!({"kafka": "0.0.0.0:9092", "kafka.main": "0.0.0.0:9092"})),
            node(json!({"pub": "127.0.0.1:9191"})),
            {"kind": "kproxy", "state": "draining", "addresses": {"kafka.main": "k3:9092"}},
        ]);
        let found = proxies(&nodes, "main");
        assert_eq!(found, ["0.0.0.0:9092", "k1:9092"]);
        assert_eq!(asked("a").bootstrap(found, "stored:1"), Some("k1:9092".to_owned()));
        assert_eq!(asked("a").bootstrap(Vec::new(), "0.0.0.0:9094"), None);
    }
}
