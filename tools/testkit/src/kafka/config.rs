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

/// The file of one node. `all` holds every node's ports, in order of ids from 1.
pub fn server_properties(
    id: usize,
    options: &KafkaOptions,
    all: &[NodePorts],
    data: &Path,
    keystore: Option<&Path>,
) -> String {
    let own = all[id - 1];
    let voters: Vec<String> =
        all.iter().enumerate().map(|(index, ports)| format!("{}@127.0.0.1:{}", index + 1, ports.controller)).collect();
    let copies = all.len().min(3);
    let in_sync_min = if copies == 3 { 2 } else { 1 };
    let client = match (options.sasl, options.tls) {
        (false, false) => "PLAINTEXT",
        (false, true) => "SSL",
        (true, false) => "SASL_PLAINTEXT",
        (true, true) => "SASL_SSL",
    };
    let mut text = format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=CLIENT://127.0.0.1:{client_port},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENT://127.0.0.1:{client_port},INTERNAL://127.0.0.1:{internal}
inter.broker.listener.name=INTERNAL
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,CLIENT:{client}
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
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
controlled.shutdown.enable=true
",
        voters = voters.join(","),
        client_port = own.client,
        internal = own.internal,
        controller = own.controller,
        data = data.display(),
        auto_create = options.auto_create,
    );
    if options.sasl {
        let _ = write!(
            text,
            "sasl.enabled.mechanisms={SASL_MECHANISMS}
listener.name.client.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{SASL_USER}=\"{SASL_PASSWORD}\";
listener.name.client.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.client.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"
        );
    }
    if let Some(keystore) = keystore {
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
    text
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

    #[test]
    fn three_nodes_keep_three_copies_and_need_two() {
        let all = [ports(100), ports(200), ports(300)];
        let text = server_properties(2, &KafkaOptions::nodes(3), &all, Path::new("d"), None);
        assert!(text.contains("controller.quorum.voters=1@127.0.0.1:102,2@127.0.0.1:202,3@127.0.0.1:302\n"));
        assert!(text.contains("advertised.listeners=CLIENT://127.0.0.1:200,INTERNAL://127.0.0.1:201\n"));
        assert!(text.contains("\nmin.insync.replicas=2\n"));
    }

    #[test]
    fn security_of_the_client_listener_follows_the_options() {
        let rows = [(false, false, "PLAINTEXT"), (true, false, "SASL_PLAINTEXT"), (false, true, "SSL")];
        for (sasl, tls, expected) in rows {
            let options = KafkaOptions { sasl, tls, ..KafkaOptions::default() };
            let keystore = tls.then_some(Path::new("k"));
            let text = server_properties(1, &options, &[ports(100)], Path::new("d"), keystore);
            assert!(text.contains(&format!(",CLIENT:{expected}\n")), "{text}");
            assert_eq!(text.contains("sasl.enabled"), sasl);
            assert_eq!(text.contains("keystore"), tls);
        }
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
