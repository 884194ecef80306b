//! `server.properties` of a test broker.
//!
//! Defaults of Kafka wherever a client can see them; shorter timeouts where a test would only wait: a dead broker is
//! fenced after 3 s instead of 9, groups do not wait for more members, internal topics have few partitions.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Result, ensure};

use super::{KafkaOptions, NodePorts};

/// A base64 UUID, as `StorageTool random-uuid` prints one. The same for all test clusters.
pub const CLUSTER_ID: &str = "Z2Fma2EtdGVzdGtpdC0wMA";
/// The one user of clusters with SASL, for PLAIN and SCRAM.
pub const SASL_USER: &str = "alice";
pub const SASL_PASSWORD: &str = "alice-secret";
pub const SASL_MECHANISMS: &str = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512";

/// Everything to stdout, which the test kit sends to a file; warnings only from the talkative parts.
pub const LOG4J: &str = "\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
logger.kafka.name=kafka
logger.kafka.level=warn
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
";

/// The same for Kafka 3.9 and 2.7, which log through log4j 1.
pub const LOG4J_1: &str = "\
log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{HH:mm:ss,SSS} %p %c{1} %m%n
log4j.logger.kafka.server.KafkaServer=INFO
";

/// What a node's file is written from.
pub struct NodeFile<'a> {
    pub id: usize,
    pub options: &'a KafkaOptions,
    /// Every node's ports, in order of ids from 1.
    pub all: &'a [NodePorts],
    pub data: &'a Path,
    pub keystore: Option<&'a Path>,
    /// The port of ZooKeeper; KRaft when absent.
    pub zookeeper: Option<u16>,
}

impl NodeFile<'_> {
    /// The whole `server.properties`.
    pub fn to_text(&self) -> String {
        let mut text = match self.zookeeper {
            None => self.kraft(),
            Some(port) => self.with_zookeeper(port),
        };
        self.common(&mut text);
        if self.options.sasl {
            sasl(&mut text);
        }
        if let Some(keystore) = self.keystore {
            tls(keystore, &mut text);
        }
        text
    }

    fn kraft(&self) -> String {
        let voter = |(index, ports): (usize, &NodePorts)| format!("{}@127.0.0.1:{}", index + 1, ports.controller);
        let voters: Vec<String> = self.all.iter().enumerate().map(voter).collect();
        let NodePorts { client, internal, controller } = self.all[self.id - 1];
        format!(
            "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,CLIENT:{protocol}
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
",
            id = self.id,
            voters = voters.join(","),
            protocol = self.client_protocol(),
        )
    }

    fn with_zookeeper(&self, port: u16) -> String {
        let NodePorts { client, internal, .. } = self.all[self.id - 1];
        format!(
            "broker.id={id}
zookeeper.connect=127.0.0.1:{port}/kafka
zookeeper.session.timeout.ms=3000
listeners=CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal}
listener.security.protocol.map=INTERNAL:PLAINTEXT,CLIENT:{protocol}
",
            id = self.id,
            protocol = self.client_protocol(),
        )
    }

    fn client_protocol(&self) -> &'static str {
        match (self.options.sasl, self.options.tls) {
            (false, false) => "PLAINTEXT",
            (false, true) => "SSL",
            (true, false) => "SASL_PLAINTEXT",
            (true, true) => "SASL_SSL",
        }
    }

    fn common(&self, text: &mut String) {
        let NodePorts { client, internal, .. } = self.all[self.id - 1];
        let copies = self.all.len().min(3);
        let in_sync_min = if copies == 3 { 2 } else { 1 };
        let _ = write!(
            text,
            "advertised.listeners=CLIENT://127.0.0.1:{advertised},INTERNAL://127.0.0.1:{internal}
inter.broker.listener.name=INTERNAL
log.dirs={data}
num.partitions=4
auto.create.topics.enable={auto_create}
default.replication.factor={copies}
min.insync.replicas={in_sync_min}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync_min}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync_min}
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
broker.rack=rack-{id}
replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector
",
            id = self.id,
            advertised = self.options.advertised_port.unwrap_or(client),
            data = self.data.display(),
            auto_create = self.options.auto_create,
        );
        for property in self.options.properties {
            let _ = writeln!(text, "{property}");
        }
    }
}

fn sasl(text: &mut String) {
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required";
    let _ = write!(
        text,
        "sasl.enabled.mechanisms={SASL_MECHANISMS}
listener.name.client.plain.sasl.jaas.config={plain} user_{SASL_USER}=\"{SASL_PASSWORD}\";
listener.name.client.scram-sha-256.sasl.jaas.config={scram}
listener.name.client.scram-sha-512.sasl.jaas.config={scram}
"
    );
}

fn tls(keystore: &Path, text: &mut String) {
    let _ = write!(
        text,
        "listener.name.client.ssl.keystore.type=PKCS12
listener.name.client.ssl.keystore.location={}
listener.name.client.ssl.keystore.password={password}
listener.name.client.ssl.key.password={password}
",
        keystore.display(),
        password = super::tls::KEYSTORE_PASSWORD,
    );
}

/// Node 1's meta.properties turned into that of node `id`.
pub fn meta_for(first: &str, id: usize) -> Result<String> {
    let mut text = String::new();
    let mut replaced = 0;
    for line in first.lines() {
        if line.starts_with("node.id=") {
            let _ = writeln!(text, "node.id={id}");
            replaced += 1;
        } else if line.starts_with("directory.id=") {
            // Any UUID that no other directory has: base64 without padding, 22 characters, of which the last has
            // only two bits that count, so the id stands before it.
            let _ = writeln!(text, "directory.id=Z2Fma2EtdGVzdGtpdC1k{id}A");
            replaced += 1;
        } else {
            let _ = writeln!(text, "{line}");
        }
    }
    ensure!(replaced == 2, "meta.properties is not as expected:\n{first}");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(first: u16) -> NodePorts {
        NodePorts { client: first, internal: first + 1, controller: first + 2 }
    }

    fn file(id: usize, options: &KafkaOptions, all: &[NodePorts], zookeeper: Option<u16>) -> String {
        let keystore = options.tls.then_some(Path::new("k"));
        NodeFile { id, options, all, data: Path::new("d"), keystore, zookeeper }.to_text()
    }

    #[test]
    fn three_nodes_keep_three_copies_and_need_two() {
        let text = file(2, &KafkaOptions::nodes(3), &[ports(100), ports(200), ports(300)], None);
        assert!(text.contains("controller.quorum.voters=1@127.0.0.1:102,2@127.0.0.1:202,3@127.0.0.1:302\n"));
        assert!(text.contains("advertised.listeners=CLIENT://127.0.0.1:200,INTERNAL://127.0.0.1:201\n"));
        assert!(text.contains("\nmin.insync.replicas=2\n"));
    }

    #[test]
    fn further_properties_stand_last() {
        let options = KafkaOptions { properties: &["num.partitions=9", "x=y"], ..KafkaOptions::default() };
        let text = file(1, &options, &[ports(100)], None);
        assert!(text.ends_with("\nnum.partitions=9\nx=y\n"), "{text}");
    }

    #[test]
    fn security_of_the_client_listener_follows_the_options() {
        let rows = [(false, false, "PLAINTEXT"), (true, false, "SASL_PLAINTEXT"), (false, true, "SSL")];
        for (sasl, tls, expected) in rows {
            let options = KafkaOptions { sasl, tls, ..KafkaOptions::default() };
            let text = file(1, &options, &[ports(100)], None);
            assert!(text.contains(&format!(",CLIENT:{expected}\n")), "{text}");
            assert_eq!(text.contains("sasl.enabled"), sasl);
            assert_eq!(text.contains("keystore"), tls);
        }
    }

    #[test]
    fn with_zookeeper_there_is_no_controller() {
        let text = file(1, &KafkaOptions::default(), &[ports(100)], Some(77));
        assert!(text.contains("zookeeper.connect=127.0.0.1:77/kafka\n"));
        assert!(!text.contains("CONTROLLER"));
    }

    #[test]
    fn a_copied_node_gets_its_own_ids() {
        let first = "#\nversion=1\ncluster.id=c\nnode.id=1\ndirectory.id=abc\n";
        let second = meta_for(first, 2).unwrap();
        assert!(second.contains("node.id=2\n"));
        assert!(!second.contains("abc"));
        assert!(meta_for("version=9\n", 2).is_err());
    }
}
