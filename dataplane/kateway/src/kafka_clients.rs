//! What a Kafka client has to be told to log in at kproxy as an app: properties, and the topics as that app calls them.

use kafka_client::Mechanism;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Which of an app's secrets is shown, and with it what the session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    Publish,
    Subscribe,
}

/// Whose notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Client {
    /// Lines to paste into a shell.
    Kcat,
    /// Properties of librdkafka, so of most clients that are not Java.
    Librdkafka,
    /// Properties of Kafka's own clients and tools.
    Java,
}

impl Side {
    pub const BOTH: [Side; 2] = [Side::Publish, Side::Subscribe];

    pub fn as_str(self) -> &'static str {
        match self {
            Side::Publish => "publish",
            Side::Subscribe => "subscribe",
        }
    }

    /// What stands for a secret that is not known.
    fn placeholder(self) -> &'static str {
        match self {
            Side::Publish => "PUBKEY",
            Side::Subscribe => "SUBKEY",
        }
    }
}

impl Client {
    pub fn as_str(self) -> &'static str {
        match self {
            Client::Kcat => "kcat",
            Client::Librdkafka => "librdkafka",
            Client::Java => "java",
        }
    }
}

/// Whose `sasl.jaas.config` it is.
fn java_module(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Plain => "org.apache.kafka.common.security.plain.PlainLoginModule",
        Mechanism::ScramSha256 | Mechanism::ScramSha512 => "org.apache.kafka.common.security.scram.ScramLoginModule",
    }
}

/// How the proxy is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    Off,
    /// With the certificates that this machine trusts.
    Machine,
    /// With those of a PEM file.
    CaFile(String),
}

/// One session of an app.
#[derive(Debug, Clone)]
pub struct Session {
    pub app: String,
    pub side: Side,
    /// `None`: only the app's owner knows it.
    pub secret: Option<String>,
    pub mechanism: Mechanism,
    pub tls: Tls,
    pub bootstrap: String,
    /// As this app calls them.
    pub topics: Vec<String>,
}

impl Session {
    /// In the notation of a client.
    pub fn text(&self, client: Client) -> String {
        match client {
            Client::Kcat => self.kcat_lines(),
            Client::Librdkafka | Client::Java => self.properties_file(client),
        }
    }

    /// For `-o json`.
    pub fn json(&self, client: Client) -> Value {
        let properties: serde_json::Map<String, Value> =
            self.properties(client).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        json!({
            "appid": self.app,
            "side": self.side.as_str(),
            "client": client.as_str(),
            "properties": properties,
            "topics": self.topics,
            "secret_known": self.secret.is_some(),
        })
    }

    /// A file that says in its head what it is for.
    pub fn properties_file(&self, client: Client) -> String {
        let mut text = self.head();
        for (name, value) in self.properties(client) {
            let _ = writeln!(text, "{name}={value}");
        }
        text
    }

    fn head(&self) -> String {
        let Session { app, side, topics, .. } = self;
        let doing = match side {
            Side::Publish => "publishing to",
            Side::Subscribe => "reading",
        };
        let topics = if topics.is_empty() { "no topic yet".to_owned() } else { topics.join(", ") };
        let mut head = format!("# {app} {doing}: {topics}\n");
        if self.secret.is_none() {
            let (side, placeholder) = (side.as_str(), side.placeholder());
            let _ = writeln!(head, "# {placeholder} stands for the app's {side} secret; keep the file to yourself.");
        }
        head
    }

    fn properties(&self, client: Client) -> Vec<(&'static str, String)> {
        let secret = self.secret.as_deref().unwrap_or(self.side.placeholder());
        let protocol = if self.tls == Tls::Off { "SASL_PLAINTEXT" } else { "SASL_SSL" };
        let mut properties = vec![
            ("bootstrap.servers", self.bootstrap.clone()),
            ("security.protocol", protocol.to_owned()),
            ("sasl.mechanism", self.mechanism.name().to_owned()),
        ];
        match client {
            Client::Java => {
                let (module, app) = (java_module(self.mechanism), &self.app);
                let login = format!("{module} required username=\"{app}\" password=\"{secret}\";");
                properties.push(("sasl.jaas.config", login));
                if let Tls::CaFile(file) = &self.tls {
                    properties.push(("ssl.truststore.type", "PEM".to_owned()));
                    properties.push(("ssl.truststore.location", file.clone()));
                }
            }
            Client::Kcat | Client::Librdkafka => {
                properties.push(("sasl.username", self.app.clone()));
                properties.push(("sasl.password", secret.to_owned()));
                if let Tls::CaFile(file) = &self.tls {
                    properties.push(("ssl.ca.location", file.clone()));
                }
            }
        }
        if self.side == Side::Subscribe {
            // As over REST: a group that has no position yet begins with the oldest message.
            properties.push(("auto.offset.reset", "earliest".to_owned()));
        }
        properties
    }

    /// The secret goes into a file: a command line is for every user of a machine to read.
    fn kcat_lines(&self) -> String {
        let file = format!("{}.{}.properties", self.app, self.side.as_str());
        let topic = self.topics.first().map_or("TOPIC.VERSION", String::as_str);
        let properties = self.properties_file(Client::Kcat);
        let lines = self.kcat(&file, topic);
        format!("(umask 077; cat > {file} <<'END'\n{properties}END\n)\n{lines}\n")
    }

    /// A command for kcat with a file of properties.
    pub fn kcat(&self, file: &str, topic: &str) -> String {
        match self.side {
            Side::Publish => format!("echo 'from kcat' | kcat -F {file} -t {topic} -P"),
            Side::Subscribe => format!("kcat -F {file} -t {topic} -C -e"),
        }
    }

    /// A command for the tools that come with Kafka.
    pub fn console(&self, file: &Path, topic: &str) -> String {
        let (bootstrap, file) = (&self.bootstrap, file.display());
        match self.side {
            Side::Publish => format!(
                "echo 'from Java' | kafka-console-producer.sh --bootstrap-server {bootstrap} --topic {topic} \
                 --producer.config {file}"
            ),
            Side::Subscribe => format!(
                "kafka-console-consumer.sh --bootstrap-server {bootstrap} --topic {topic} --from-beginning \
                 --consumer.config {file}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn session(side: Side, secret: Option<&str>, mechanism: Mechanism, tls: Tls) -> Session {
        Session {
            app: "demo".to_owned(),
            side,
            secret: secret.map(str::to_owned),
            mechanism,
            tls,
            bootstrap: "127.0.0.1:9094".to_owned(),
            topics: vec!["hello.v1".to_owned(), "billing.invoices.v1".to_owned()],
        }
    }

    fn check(session: &Session, client: Client, expected: Expect) {
        expected.assert_eq(&session.text(client));
    }

    #[test]
    fn a_secret_that_is_not_known_has_a_place_and_a_word_where_it_goes() {
        check(
            &session(Side::Publish, None, Mechanism::ScramSha512, Tls::CaFile("/etc/ca.pem".to_owned())),
            Client::Librdkafka,
            expect![[r#"
                # demo publishing to: hello.v1, billing.invoices.v1
                # PUBKEY stands for the app's publish secret; keep the file to yourself.
                bootstrap.servers=127.0.0.1:9094
                security.protocol=SASL_SSL
                sasl.mechanism=SCRAM-SHA-512
                sasl.username=demo
                sasl.password=PUBKEY
                ssl.ca.location=/etc/ca.pem
            "#]],
        );
    }

    #[test]
    fn java_has_the_login_in_one_line() {
        check(
            &session(Side::Subscribe, Some("s3cret"), Mechanism::Plain, Tls::Off),
            Client::Java,
            expect![[r#"
                # demo reading: hello.v1, billing.invoices.v1
                bootstrap.servers=127.0.0.1:9094
                security.protocol=SASL_PLAINTEXT
                sasl.mechanism=PLAIN
                sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="demo" password="s3cret";
                auto.offset.reset=earliest
            "#]],
        );
        check(
            &session(Side::Publish, None, Mechanism::ScramSha256, Tls::CaFile("/etc/ca.pem".to_owned())),
            Client::Java,
            expect![[r#"
                # demo publishing to: hello.v1, billing.invoices.v1
                # PUBKEY stands for the app's publish secret; keep the file to yourself.
                bootstrap.servers=127.0.0.1:9094
                security.protocol=SASL_SSL
                sasl.mechanism=SCRAM-SHA-256
                sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="demo" password="PUBKEY";
                ssl.truststore.type=PEM
                ssl.truststore.location=/etc/ca.pem
            "#]],
        );
    }

    #[test]
    fn kcat_is_given_its_secret_in_a_file() {
        check(
            &session(Side::Subscribe, Some("s3cret"), Mechanism::ScramSha256, Tls::Machine),
            Client::Kcat,
            expect![[r#"
                (umask 077; cat > demo.subscribe.properties <<'END'
                # demo reading: hello.v1, billing.invoices.v1
                bootstrap.servers=127.0.0.1:9094
                security.protocol=SASL_SSL
                sasl.mechanism=SCRAM-SHA-256
                sasl.username=demo
                sasl.password=s3cret
                auto.offset.reset=earliest
                END
                )
                kcat -F demo.subscribe.properties -t hello.v1 -C -e
            "#]],
        );
    }
}
