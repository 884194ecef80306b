//! `kateway quickstart`: everything in one process, with a demo app, topic and grant, and lines to paste.

use crate::cli::Quickstart;
use crate::credentials::Credentials;
use crate::kafka_clients::{Client, Session, Side, Tls};
use crate::kproxy;
use crate::live::Live;
use crate::node::{self, Cluster, NodeConfig, Ready, Seed};
use anyhow::{Context, Result, anyhow};
use authdb::{AuthDbError, NewApp, NewTopic};
use daemon::keys::Value;
use daemon::logging::{self, LogFilter, LogFormat};
use daemon::notify::notify;
use daemon::{HostPort, files};
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka, NODE_ID};
use gateway::{ClusterSpec, GatewayConfig};
use kafka_client::ClientConfig;
use kafka_client::Mechanism;
use model::ids::{AppId, ClusterName, TopicName, TopicVersion};
use model::{PlainSecret, TopicOptions, physical_topic};
use router::topology::Address;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const CLUSTER: &str = "main";
const APP: &str = "demo";
const TOPIC: &str = "hello";
const VERSION: &str = "v1";
const PARTITIONS: i32 = 4;
const REPLICAS_MAX: usize = 3;
/// Where kproxy is when nobody says otherwise. Its brokers are on the ports behind it.
const KPROXY_PORT: u16 = 9094;
/// Brokers of a real Kafka that have a port at kproxy; their ids are small in every cluster that one tries things on.
const BROKERS_MAX: u16 = 16;
/// Below the data directory: configurations for Kafka clients, with secrets in them.
const CLIENTS_DIR: &str = "clients";

pub fn run(flags: Quickstart) -> Result<ExitCode> {
    let level = LogFilter::parse(if flags.json { "warn" } else { "warn,kateway=info" }).expect("a filter");
    let log = logging::init(&level, LogFormat::Text);
    let (data_dir, _temporary) = data_dir(flags.data_dir.as_deref())?;
    // Started before the gateway, stopped after it: a publish in flight at Ctrl-C still finds its broker.
    let (bootstrap, _broker) = if flags.bootstrap.is_empty() {
        let broker = EmbeddedKafka::start(EmbeddedConfig {
            listen: flags.kafka,
            data_dir: data_dir.join("kafka"),
            default_partitions: PARTITIONS,
            ..EmbeddedConfig::default()
        })
        .with_context(|| format!("cannot start the embedded broker on {}", flags.kafka))?;
        (vec![broker.addr().to_string()], Some(broker))
    } else {
        (flags.bootstrap.clone(), None)
    };
    let config = NodeConfig {
        data_dir: data_dir.clone(),
        listen_pub: flags.publish,
        listen_sub: flags.subscribe,
        listen_man: flags.manager,
        gateway: GatewayConfig {
            shard_count: node::shard_count(flags.shards),
            // The broker shares these cores, so pinning would only get in its way.
            pin: false,
            ..GatewayConfig::default()
        },
        clusters: vec![Cluster {
            spec: ClusterSpec {
                name: CLUSTER.to_owned(),
                client: ClientConfig {
                    client_id: "kateway".to_owned(),
                    bootstrap: bootstrap.clone(),
                    ..ClientConfig::default()
                },
                tls: None,
            },
            admin_tls: None,
        }],
        access_log: flags.access_log.clone(),
        live: Live::default_with(level),
        log,
        oidc: None,
        audit_topic: None,
        kproxy: Some(kproxy_asked(&flags, &bootstrap)?),
    };
    let kafka = bootstrap.join(",");
    node::run(
        config,
        async |seed| make_demo(seed, &data_dir).await,
        |ready, credentials| {
            if let Some(kproxy) = &ready.kproxy
                && let Err(err) = write_clients(&data_dir, kproxy, credentials)
            {
                tracing::warn!(err = format!("{err:#}"), "no configurations for Kafka clients");
            }
            let told = match flags.json {
                true => ready_line(ready, &kafka, credentials) + "\n",
                false => banner(ready, &kafka, credentials, &data_dir),
            };
            // Nobody has the lines to paste. It ends in good order, so that the temporary directory goes.
            if console::try_write(format_args!("{told}")).is_err() {
                return ControlFlow::Break(());
            }
            notify("READY=1");
            ControlFlow::Continue(())
        },
        // A closed terminal: there is no file to read again.
        |_, _| ControlFlow::Break(()),
    )
}

fn kproxy_asked(flags: &Quickstart, bootstrap: &[String]) -> Result<kproxy::Asked> {
    let is_embedded = flags.bootstrap.is_empty();
    // Who asks for any free port means all of them.
    let is_any = if is_embedded { flags.kafka.port() == 0 } else { flags.publish.port() == 0 };
    let usual = SocketAddr::from(([127, 0, 0, 1], if is_any { 0 } else { KPROXY_PORT }));
    let address = |broker: &String| {
        let HostPort { host, port } = HostPort::parse(broker).map_err(|why| anyhow!("--bootstrap: {why}"))?;
        Ok(Address { host, port })
    };
    Ok(kproxy::Asked {
        listen: flags.kproxy.unwrap_or(usual),
        is_default: flags.kproxy.is_none(),
        base: if is_embedded { NODE_ID } else { 0 },
        width: if is_embedded { 1 } else { BROKERS_MAX },
        bootstrap: bootstrap.iter().map(address).collect::<Result<_>>()?,
        cluster: ClusterName::new(CLUSTER).expect("a valid name"),
    })
}

/// What the demo app's Kafka clients are told, for one side.
fn session(side: Side, kproxy: &str, credentials: &Credentials) -> Session {
    let secret = match side {
        Side::Publish => &credentials.pubkey,
        Side::Subscribe => &credentials.subkey,
    };
    Session {
        app: credentials.appid.clone(),
        side,
        secret: Some(secret.clone()),
        mechanism: Mechanism::Plain,
        tls: Tls::Off,
        bootstrap: kproxy.to_owned(),
        topics: vec![format!("{}.{}", credentials.topic, credentials.ver)],
    }
}

/// A file of properties for each side and kind of client: secrets have no place on a command line.
fn write_clients(data_dir: &Path, kproxy: &str, credentials: &Credentials) -> Result<()> {
    files::make_private_dir(&data_dir.join(CLIENTS_DIR))?;
    for side in Side::BOTH {
        for client in [Client::Librdkafka, Client::Java] {
            let path = client_file(data_dir, side, client);
            let text = session(side, kproxy, credentials).properties_file(client);
            files::write_private(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

fn client_file(data_dir: &Path, side: Side, client: Client) -> PathBuf {
    data_dir.join(CLIENTS_DIR).join(format!("{}.{}.properties", side.as_str(), client.as_str()))
}

fn data_dir(asked: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    match asked {
        Some(dir) => {
            files::make_private_dir(dir)
                .with_context(|| format!("cannot make the data directory {}", dir.display()))?;
            Ok((dir.to_owned(), None))
        }
        None => {
            let dir =
                tempfile::Builder::new().prefix("kateway-").tempdir().context("cannot make a temporary directory")?;
            Ok((dir.path().to_owned(), Some(dir)))
        }
    }
}

/// The demo app, its topic in Kafka and in the auth DB, and its grant. Doing it again changes nothing.
async fn make_demo(seed: Seed<'_>, data_dir: &Path) -> Result<()> {
    let Seed { db, manage, credentials } = seed;
    let is_new = credentials.pubkey.is_empty() || credentials.subkey.is_empty();
    if is_new {
        credentials.appid = APP.to_owned();
        credentials.topic = TOPIC.to_owned();
        credentials.ver = VERSION.to_owned();
        credentials.pubkey = node::new_secret()?;
        credentials.subkey = node::new_secret()?;
        credentials.save(&Credentials::path(data_dir))?;
    }
    let app = AppId::new(&credentials.appid).context("appid in the credentials file")?;
    let topic = TopicName::new(&credentials.topic).context("topic in the credentials file")?;
    let ver = TopicVersion::new(&credentials.ver).context("ver in the credentials file")?;
    let cluster = ClusterName::new(CLUSTER).expect("a valid name");
    let secret = |text: &str| {
        PlainSecret::from_text(text).ok_or_else(|| anyhow!("a secret in the credentials file is unusable"))
    };
    let (publish, subscribe) = (secret(&credentials.pubkey)?, secret(&credentials.subkey)?);
    let new = NewApp {
        id: app.clone(),
        cluster: cluster.clone(),
        publish: Some(publish.clone()),
        subscribe: Some(subscribe.clone()),
        // The demo's topic is taken as it is found, whoever made it.
        reuse: true,
    };
    let made = match db.create_app(new).await {
        // The file with its secrets was removed: it has others from now on.
        Err(AuthDbError::AppExists(_)) if is_new => db.reset_secrets(&app, &publish, &subscribe).await,
        Ok(_) | Err(AuthDbError::AppExists(_)) => Ok(()),
        Err(err) => Err(err),
    };
    made.context("cannot make the demo app")?;
    let physical = physical_topic(&app, &topic, &ver);
    manage
        .ensure_topic(CLUSTER, &physical, PARTITIONS, REPLICAS_MAX)
        .await
        .with_context(|| format!("cannot make the demo topic {physical} in Kafka"))?;
    let row = NewTopic {
        owner: app,
        name: topic,
        ver,
        cluster,
        options: TopicOptions::default(),
        partitions: Some(PARTITIONS as u32),
        replicas: None,
        retention_ms: None,
        retention_bytes: None,
    };
    match db.create_topic(row).await {
        Ok(_) | Err(AuthDbError::TopicExists { .. } | AuthDbError::TopicBusy { .. }) => {}
        Err(err) => return Err(err).context("cannot register the demo topic"),
    }
    // An owner reads its own topics: that is the demo's grant.
    Ok(())
}

fn ready_line(ready: &Ready, kafka: &str, credentials: &Credentials) -> String {
    let mut line = serde_json::json!({
        "ready": true,
        "pub": ready.publish,
        "sub": ready.subscribe,
        "man": ready.manager,
        "kafka": kafka,
        "appid": credentials.appid,
        "pubkey": credentials.pubkey,
        "subkey": credentials.subkey,
        "topic": credentials.topic,
        "ver": credentials.ver,
    });
    if let Some(kproxy) = &ready.kproxy {
        line["kproxy"] = serde_json::json!(kproxy);
    }
    line.to_string()
}

/// Lines for Kafka clients of the demo app; they do not show its secrets.
fn kafka_lines(kproxy: &str, credentials: &Credentials, data_dir: &Path) -> String {
    let topic = format!("{}.{}", credentials.topic, credentials.ver);
    let lines = |side: Side| {
        let session = session(side, kproxy, credentials);
        let kcat = session.kcat(&client_file(data_dir, side, Client::Librdkafka).display().to_string(), &topic);
        [kcat, session.console(&client_file(data_dir, side, Client::Java), &topic)]
    };
    let [read, read_with_java] = lines(Side::Subscribe);
    let [publish, publish_with_java] = lines(Side::Publish);
    format!(
        "\
The same app with a Kafka client, through kproxy {kproxy} (its secrets are in those files, which only you can read):
  {read}
  {publish}
  {read_with_java}
  {publish_with_java}

"
    )
}

fn banner(ready: &Ready, kafka: &str, credentials: &Credentials, data_dir: &Path) -> String {
    let Ready { publish, subscribe, manager, kproxy } = ready;
    let proxied = kproxy.as_ref().map_or(String::new(), |kproxy| kafka_lines(kproxy, credentials, data_dir));
    let Credentials { appid, pubkey, subkey, topic, ver, .. } = credentials;
    let data_dir = data_dir.display();
    let physical = format!("{appid}.{topic}.{ver}");
    // This very program, so that the line can be pasted wherever it was started from.
    let program = std::env::current_exe().map_or_else(|_| "kateway".to_owned(), |path| path.display().to_string());
    format!(
        "\
kateway is ready: publish {publish}, subscribe {subscribe}, manager {manager}, Kafka {kafka}

Publish:
  curl -i {publish}/v1/msgs/{topic}/{ver} -H 'Appid: {appid}' -H 'Pubkey: {pubkey}' -d 'hello'

Subscribe (long poll; repeat for the next message):
  curl -i '{subscribe}/v1/msgs/{appid}/{topic}/{ver}?group=g1' -H 'Appid: {appid}' -H 'Subkey: {subkey}'

Publish in five seconds (subscribe again to see it):
  curl -i '{publish}/v1/jobs/{topic}/{ver}?delay=5s' -H 'Appid: {appid}' -H 'Pubkey: {pubkey}' -d 'hello later'

{proxied}The same topic in Kafka itself, where nobody asks who you are:
  kcat -b {kafka} -t {physical} -C -e
  echo 'from kcat' | kcat -b {kafka} -t {physical} -P

Manage:
  {program} admin --credentials {data_dir}/credentials.json topic list
  curl {manager}/metrics

Data: {data_dir}   Stop: Ctrl-C
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, CommandLine};
    use clap::Parser;
    use expect_test::expect;
    use std::os::unix::fs::PermissionsExt;

    fn credentials() -> Credentials {
        Credentials {
            appid: "demo".to_owned(),
            pubkey: "p1".to_owned(),
            subkey: "s1".to_owned(),
            topic: "hello".to_owned(),
            ver: "v1".to_owned(),
            ..Credentials::default()
        }
    }

    #[test]
    fn kproxy_is_where_it_is_told_or_on_free_ports_where_others_are() {
        for (line, expected) in [
            ("", "127.0.0.1:9094 default, brokers 1 and 0 more"),
            ("--kafka 127.0.0.1:0", "127.0.0.1:0 default, brokers 1 and 0 more"),
            ("--kafka 127.0.0.1:0 --kproxy 127.0.0.1:7000", "127.0.0.1:7000, brokers 1 and 0 more"),
            ("--kproxy 0.0.0.0:0", "0.0.0.0:0, brokers 1 and 0 more"),
            ("--bootstrap k1:9092,k2:9092", "127.0.0.1:9094 default, brokers 0 and 15 more"),
            ("--bootstrap k1:9092 --pub 127.0.0.1:0", "127.0.0.1:0 default, brokers 0 and 15 more"),
        ] {
            let words = ["kateway", "quickstart"].into_iter().chain(line.split_whitespace());
            let CommandLine::Quickstart(flags) = Cli::try_parse_from(words).expect("valid").command else {
                panic!("quickstart was asked for")
            };
            let bootstrap =
                if flags.bootstrap.is_empty() { vec!["127.0.0.1:9092".to_owned()] } else { flags.bootstrap.clone() };
            let asked = kproxy_asked(&flags, &bootstrap).expect("good");
            let default = if asked.is_default { " default" } else { "" };
            let found = format!("{}{default}, brokers {} and {} more", asked.listen, asked.base, asked.width - 1);
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn configurations_for_clients_hold_secrets_and_are_for_their_user_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        write_clients(dir.path(), "127.0.0.1:9094", &credentials()).expect("written");
        for (side, secret) in [(Side::Publish, "p1"), (Side::Subscribe, "s1")] {
            for client in [Client::Librdkafka, Client::Java] {
                let path = client_file(dir.path(), side, client);
                let mode = std::fs::metadata(&path).expect("there").permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{path:?}");
                let text = std::fs::read_to_string(&path).expect("text");
                assert!(text.contains(secret), "{text}");
            }
        }
    }

    #[test]
    fn lines_to_paste_show_no_secret() {
        expect![[r#"
            The same app with a Kafka client, through kproxy 127.0.0.1:9094 (its secrets are in those files, which only you can read):
              kcat -F D/clients/subscribe.librdkafka.properties -t hello.v1 -C -e
              echo 'from kcat' | kcat -F D/clients/publish.librdkafka.properties -t hello.v1 -P
              kafka-console-consumer.sh --bootstrap-server 127.0.0.1:9094 --topic hello.v1 --from-beginning --consumer.config D/clients/subscribe.java.properties
              echo 'from Java' | kafka-console-producer.sh --bootstrap-server 127.0.0.1:9094 --topic hello.v1 --producer.config D/clients/publish.java.properties

        "#]]
        .assert_eq(&kafka_lines("127.0.0.1:9094", &credentials(), Path::new("D")));
    }

    #[test]
    fn the_banner_has_a_message_now_and_one_later() {
        let ready = Ready {
            publish: "http://p".to_owned(),
            subscribe: "http://s".to_owned(),
            manager: "http://m".to_owned(),
            kproxy: None,
        };
        let banner = banner(&ready, "k:1", &credentials(), Path::new("D"));
        for line in [
            "  curl -i http://p/v1/msgs/hello/v1 -H 'Appid: demo' -H 'Pubkey: p1' -d 'hello'",
            "  curl -i 'http://p/v1/jobs/hello/v1?delay=5s' -H 'Appid: demo' -H 'Pubkey: p1' -d 'hello later'",
            "  curl -i 'http://s/v1/msgs/demo/hello/v1?group=g1' -H 'Appid: demo' -H 'Subkey: s1'",
        ] {
            assert!(banner.lines().any(|found| found == line), "{line} is not in {banner}");
        }
    }

    #[test]
    fn the_ready_line_names_kproxy_only_where_there_is_one() {
        let ready = |kproxy: Option<&str>| Ready {
            publish: "http://p".to_owned(),
            subscribe: "http://s".to_owned(),
            manager: "http://m".to_owned(),
            kproxy: kproxy.map(str::to_owned),
        };
        let line = |kproxy| ready_line(&ready(kproxy), "k:1", &credentials());
        assert!(line(Some("k:2")).contains(r#""kproxy":"k:2""#));
        assert!(!line(None).contains("kproxy"));
    }
}
