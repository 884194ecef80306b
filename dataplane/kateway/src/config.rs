//! What `kateway serve` is told: every key, declared here and nowhere else, and what only kateway can check.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use daemon::brokers::{Sasl, Tls};
use daemon::keys::Kind;
use daemon::{Bytes, Check, Daemon, HostPort, Listener, Log};
use gateway::GatewayConfig;
use manager::{Oidc, OidcConfig};
use model::ids::{ClusterName, PhysicalTopic};

use crate::handoff_keys::HandoffKeys;
use crate::jobs_keys::JobsKeys;
use crate::{node, serve};

/// More data-plane threads than anybody has cores.
const SHARDS_MAX: usize = 1024;

daemon::keys! {
    /// Configuration of one gateway.
    pub struct Settings {
        /// directory for the auth DB, the last good snapshot, the local registry, credentials.json
        pub data_dir: PathBuf = required("it keeps the auth DB and the last good snapshot"),
        /// publish listener
        pub listen_pub as "listen.pub": SocketAddr = default("127.0.0.1:9191"),
        /// subscribe listener
        pub listen_sub as "listen.sub": SocketAddr = default("127.0.0.1:9192"),
        /// manager listener
        pub listen_man as "listen.man": SocketAddr = default("127.0.0.1:9193"),
        /// data-plane threads, each pinned to a core; 0: one per core
        pub shard_count as "shards.count": usize = default("0"),
        /// pin each shard to its core
        pub shard_pin as "shards.pin": bool = default("true"),
        /// network driver
        pub driver as "shards.driver": Driver = default("auto"),
        /// bytes of request bodies, queued records and records on their way to polls, all shards together
        pub memory as "limits.memory": Bytes = default("1GiB"),
        /// largest message accepted (bytes)
        pub message_bytes as "limits.message_bytes": Bytes = default("1000000"),
        /// default and longest wait for Kafka's answer to a publish
        pub publish_timeout as "limits.publish_timeout": Duration = default("30s"),
        /// a keep-alive connection without a request is closed after this
        pub idle_timeout as "limits.idle_timeout": Duration = default("5m"),
        /// from the first byte of a request to the end of its head; its body may take twice that to begin
        pub head_timeout as "limits.head_timeout": Duration = default("10s"),
        /// a client that does not take its answer for so long is cut off
        pub write_timeout as "limits.write_timeout": Duration = default("30s"),
        /// client connections of one address; 0: any number (behind a balancer all clients have one address)
        pub connections_per_address as "limits.connections_per_address": usize = live("0"),
        /// client connections that use one app's credentials; 0: any
        pub connections_per_app as "limits.connections_per_app": usize = live("20000"),
        /// from SIGTERM, while /readyz already fails, to the end of accepting
        pub drain_delay as "drain.delay": Duration = live("1s"),
        /// from SIGTERM until publishes still in flight are answered 503 or 504
        pub drain_limit as "drain.limit": Duration = live("7s"),
        /// not ready while nobody could say for so long whether a secret or grant was revoked
        pub stale_after as "tenants.stale_after": Duration = live("24h"),
        /// publishes that Kafka cannot take now, kept here until it can
        pub handoff: HandoffKeys = group,
        /// messages that are kept here until they are due
        pub jobs: JobsKeys = group,
        /// CLUSTER/TOPIC that gets every row of the audit log; made by you, never by kateway; empty: none
        pub audit_topic as "manager.audit_topic": Option<AuditTopic> = default(""),
        /// tokens of an OpenID Connect issuer at the manager
        pub oidc as "manager.oidc": OidcKeys = group,
        /// log.level, log.format
        pub log: Log = group,
        /// access log file; empty: none
        pub access_log as "log.access": Option<PathBuf> = default(""),
        /// origins browsers may call from, for example https://console.example.org
        pub cors_origins as "cors.origins": Vec<String> = default(""),
        /// One table per Kafka cluster.
        pub clusters: BTreeMap<String, ClusterKeys> = tables("main"),
    }
}

daemon::keys! {
    /// How to reach one Kafka cluster: `[clusters.NAME]`, only in the file.
    pub struct ClusterKeys {
        /// brokers to ask first, host:port
        pub bootstrap: Vec<HostPort> = required("for example [\"broker1:9092\", \"broker2:9092\"]"),
        /// a broker that leaves a request unanswered for so long is given up on
        pub request_timeout: Duration = default("30s"),
        /// TLS to the brokers
        pub tls: Tls = group,
        /// login to the brokers
        pub sasl: Sasl = group,
    }
}

daemon::keys! {
    /// Tokens of an OpenID Connect issuer, taken at the manager beside our own. Off unless `issuer` is set.
    pub struct OidcKeys {
        /// `iss` of its tokens; empty: no tokens but our own
        pub issuer: String = default(""),
        /// `aud` of its tokens for us
        pub audience: String = default(""),
        /// file with its keys (JWKS); read again when it changes
        pub jwks_file: Option<PathBuf> = default(""),
        /// claim with the role: admin, owner, reader or node
        pub role_claim: String = default("gafka_role"),
        /// claim with the apps of an owner or reader; `*` for a reader is every app
        pub apps_claim: String = default("gafka_apps"),
    }
}

/// A topic of one of the clusters, as `CLUSTER/TOPIC`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditTopic {
    pub cluster: ClusterName,
    pub topic: PhysicalTopic,
}

impl daemon::keys::Value for AuditTopic {
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<AuditTopic, String> {
        let Some((cluster, topic)) = text.split_once('/') else {
            return Err(format!("expected CLUSTER/TOPIC, found `{text}`"));
        };
        let cluster = ClusterName::new(cluster).map_err(|err| err.to_string())?;
        let topic = PhysicalTopic::new(topic).map_err(|err| err.to_string())?;
        if topic.as_str().starts_with("__") {
            return Err(format!("Kafka keeps topics like {topic} for itself"));
        }
        Ok(AuditTopic { cluster, topic })
    }
}

daemon::words! {
    /// What moves the bytes.
    pub enum Driver {
        Auto = "auto",
        IoUring = "io_uring",
        IoUringPlain = "io_uring_plain",
        Epoll = "epoll",
    }
}

impl Daemon for Settings {
    const NAME: &'static str = "kateway";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const NEEDS_FILE: bool = true;
    /// Of `kateway admin`.
    const OTHER_VARIABLES: &'static [&'static str] =
        &["KATEWAY_MANAGER", "KATEWAY_CREDENTIALS", "KATEWAY_ADMIN_APPID", "KATEWAY_ADMIN_KEY", "KATEWAY_ADMIN_TOKEN"];

    fn log(&self) -> &Log {
        &self.log
    }

    fn check(&self, check: &mut Check<'_>) {
        check.directory("data_dir", &self.data_dir);
        let listeners =
            [("listen.pub", self.listen_pub), ("listen.sub", self.listen_sub), ("listen.man", self.listen_man)];
        check.listeners(&listeners.map(|(key, address)| Listener { key, address, port_count: 1 }));
        check.shorter("drain.delay", self.drain_delay, "drain.limit", self.drain_limit);
        check.origins("cors.origins", &self.cors_origins);
        if let Some(file) = &self.access_log {
            check.appendable("log.access", file);
        }
        self.check_limits(check);
        self.handoff.check(self.message_bytes_max(), check);
        self.oidc.check(check);
        if let Some(AuditTopic { cluster, .. }) = &self.audit_topic
            && !self.clusters.contains_key(cluster.as_str())
        {
            let known: Vec<&str> = self.clusters.keys().map(String::as_str).collect();
            let why = format!("there is no cluster {cluster}, configured are: {}", known.join(", "));
            check.mistake("manager.audit_topic", why);
        }
        if self.clusters.is_empty() {
            check.mistake("clusters", "at least one [clusters.NAME] with `bootstrap` is required");
        }
        for (name, cluster) in &self.clusters {
            cluster.check(name, check);
        }
    }

    fn summary(&self) -> String {
        format!("; {} cluster(s)", self.clusters.len())
    }
}

impl Settings {
    /// Largest message, as what holds it is counted.
    pub fn message_bytes_max(&self) -> usize {
        usize::try_from(self.message_bytes.0).unwrap_or(usize::MAX)
    }

    fn check_limits(&self, check: &mut Check<'_>) {
        let message = self.message_bytes_max();
        if message == 0 || message > gateway::limits::MESSAGE_BYTES_CEILING {
            check.mistake("limits.message_bytes", "must be between 1 and 10000000");
        }
        let shard_count = node::shard_count(self.shard_count);
        let shares = GatewayConfig { memory_bytes: self.memory.0, shard_count, ..GatewayConfig::default() };
        let share = shares.budget().tenant_bytes_max;
        if self.memory.0 < gateway::limits::MEMORY_BYTES_FLOOR {
            check.mistake("limits.memory", "must be at least 16MiB");
        } else if share < message.saturating_add(gateway::limits::PUBLISH_OVERHEAD_BYTES) {
            let why = format!(
                "an app may hold a quarter of a shard's memory, {share} bytes with {shard_count} shards, and a message \
                 of limits.message_bytes ({message}) would never fit"
            );
            check.mistake("limits.memory", why);
        }
        if self.shard_count > SHARDS_MAX {
            check.mistake("shards.count", "more than 1024 shards is surely a slip");
        }
        if self.publish_timeout.is_zero() || self.publish_timeout > Duration::from_secs(300) {
            check.mistake("limits.publish_timeout", "must be between 1ms and 5m");
        }
        for (key, timeout) in [("limits.head_timeout", self.head_timeout), ("limits.write_timeout", self.write_timeout)]
        {
            if timeout.is_zero() {
                check.mistake(key, "must be at least 1ms");
            }
        }
    }
}

impl OidcKeys {
    /// What the manager is told; `None`: nobody else's tokens are taken.
    pub fn config(&self) -> Option<OidcConfig> {
        let jwks_file = self.jwks_file.clone().filter(|_| !self.issuer.is_empty())?;
        Some(OidcConfig {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            jwks_file,
            role_claim: self.role_claim.clone(),
            apps_claim: self.apps_claim.clone(),
        })
    }

    fn check(&self, check: &mut Check<'_>) {
        let needed = [("audience", !self.audience.is_empty()), ("jwks_file", self.jwks_file.is_some())];
        if self.issuer.is_empty() {
            if let Some((name, _)) = needed.iter().find(|(_, is_set)| *is_set) {
                check.mistake("manager.oidc.issuer", format!("is required with manager.oidc.{name}"));
            }
            return;
        }
        if self.issuer == manager::tokens::ISSUER {
            check.mistake("manager.oidc.issuer", "is the name under which this manager gives out tokens itself");
        }
        for (name, _) in needed.iter().filter(|(_, is_set)| !is_set) {
            check.mistake(&format!("manager.oidc.{name}"), "is required with manager.oidc.issuer");
        }
        for (name, claim) in [("role_claim", &self.role_claim), ("apps_claim", &self.apps_claim)] {
            if claim.is_empty() {
                check.mistake(&format!("manager.oidc.{name}"), "must not be empty");
            }
        }
        if let Some(Err(err)) = self.config().map(Oidc::new) {
            check.mistake("manager.oidc.jwks_file", format!("{:#}", anyhow::Error::from(err)));
        }
    }
}

impl ClusterKeys {
    fn check(&self, name: &str, check: &mut Check<'_>) {
        let above = format!("clusters.{name}");
        if let Err(err) = ClusterName::new(name) {
            check.mistake(&above, err);
        }
        if self.request_timeout < Duration::from_millis(100) || self.request_timeout > Duration::from_secs(300) {
            check.mistake(&format!("{above}.request_timeout"), "must be between 100ms and 5m");
        }
        self.tls.check(&above, check);
        self.sasl.check(&above, check);
        // Files that are there may still hold no certificates.
        if check.is_good()
            && let Err(err) = serve::cluster_spec(name, self)
        {
            check.mistake(&format!("{above}.tls.ca_file"), format!("{err:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::{Loaded, Sources, keys};
    use expect_test::{Expect, expect};

    fn parse(text: &str) -> Result<Loaded<Settings>, daemon::Mistakes> {
        let sources = Sources { config: Some("kateway.toml".into()), ..Sources::default() };
        Loaded::parse("kateway.toml", text, &sources)
    }

    fn check(text: &str, expected: Expect) {
        let shown = match parse(text) {
            Ok(loaded) => format!("{:#?}\n", loaded.settings),
            Err(mistakes) => mistakes.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        check(
            r#"data_dir = 7
[listen]
pbu = "127.0.0.1:9191"
sub = "localhost"
[limits]
memory = "lots"
publish_timeout = true
[clusters.main]
bootstrap = ["kafka1:9092", "kafka2"]
sasl.username = "gw"
[clusters.other]
tls.ca_file = "/does/not/exist.pem"
"#,
            expect![[r#"
                kateway.toml:1: `data_dir`: expected a path in quotes, found a number
                kateway.toml:3: unknown key `listen.pbu`; did you mean `listen.pub`?
                kateway.toml:4: `listen.sub`: expected an address like 127.0.0.1:9191, found `localhost`
                kateway.toml:6: `limits.memory`: expected a size like 512MiB, 1MB or 65536, found `lots`
                kateway.toml:7: `limits.publish_timeout`: expected a duration, found true or false
                kateway.toml:9: `clusters.main.bootstrap`: expected host:port, found `kafka2`
                kateway.toml:10: `clusters.main.sasl.mechanism`: is required with sasl.username
                kateway.toml:11: `clusters.other.bootstrap`: is required; for example ["broker1:9092", "broker2:9092"]
                kateway.toml:12: `clusters.other.tls.ca_file`: cannot open the file: No such file or directory (os error 2)
                kateway.toml:12: `clusters.other.tls.ca_file`: has no effect while tls.enabled is false
            "#]],
        );
    }

    /// Went wrong: each of these was "good", and failed, or did nothing, once it served.
    #[test]
    fn what_cannot_work_is_a_mistake_before_anything_starts() {
        check(
            r#"data_dir = "/dev/null/gafka"
[listen]
pub = "0.0.0.0:9397"
sub = "127.0.0.1:9397"
man = "127.0.0.1:0"
[shards]
count = 16
[limits]
memory = "16MiB"
[cors]
origins = ["https://console.example/", "*", "https://Console.example", "https://a.example:443", "https://good:8443"]
[log]
level = "inf,=="
access = "/dev/null/logs/access.log"
[drain]
delay = "10s"
[clusters."ma in"]
bootstrap = ["127.0.0.1:9092", "[::1]:9092"]
[clusters.main]
bootstrap = ["PLAINTEXT://127.0.0.1:9092", "kafka-1.example:9092/"]
[clusters.half]
bootstrap = ["a:1"]
sasl.mechanism = "PLAIN"
tls.enabled = true
tls.key_file = "/dev/null"
"#,
            expect![[r#"
                kateway.toml:1: `data_dir`: cannot be made: /dev/null is no directory
                kateway.toml:4: `listen.sub`: 127.0.0.1:9397 is taken by `listen.pub`, which listens on 0.0.0.0:9397
                kateway.toml:9: `limits.memory`: an app may hold a quarter of a shard's memory, 262144 bytes with 16 shards, and a message of limits.message_bytes (1000000) would never fit
                kateway.toml:11: `cors.origins`: no browser sends the origin `https://console.example/`: it ends with the host or the port, without a slash; nor `*`: expected one like https://console.example.org; nor `https://Console.example`: it is lower case, without blanks and wildcards; nor `https://a.example:443`: the usual port is left out
                kateway.toml:13: `log.level`: `inf` is no level; did you mean `info`?
                kateway.toml:14: `log.access`: there is no directory /dev/null/logs
                kateway.toml:16: `drain.delay`: must be shorter than drain.limit, which is 7s
                kateway.toml:17: `clusters.ma in`: cluster "ma in" holds ' ' at character 2, allowed are letters, digits, _ and -
                kateway.toml:20: `clusters.main.bootstrap`: expected host:port without a scheme (tls.enabled and sasl.mechanism say how to speak), found `PLAINTEXT://127.0.0.1:9092`
                kateway.toml:20: `clusters.main.bootstrap`: expected host:port, found `kafka-1.example:9092/`
                kateway.toml:23: `clusters.half.sasl.username`: is required with sasl.mechanism
                kateway.toml:23: `clusters.half.sasl.password`: sasl.password_file or sasl.password is required
                kateway.toml:25: `clusters.half.tls.key_file`: tls.cert_file and tls.key_file go together
            "#]],
        );
    }

    #[test]
    fn an_issuer_of_tokens_is_configured_whole_or_not_at_all() {
        check(
            "data_dir = \"d\"\n[clusters.m]\nbootstrap = [\"a:1\"]\n[manager.oidc]\nissuer = \"gafka\"\nrole_claim = \"\"\n",
            expect![[r#"
                kateway.toml:4: `manager.oidc.audience`: is required with manager.oidc.issuer
                kateway.toml:4: `manager.oidc.jwks_file`: is required with manager.oidc.issuer
                kateway.toml:5: `manager.oidc.issuer`: is the name under which this manager gives out tokens itself
                kateway.toml:6: `manager.oidc.role_claim`: must not be empty
            "#]],
        );
        check(
            "data_dir = \"d\"\n[clusters.m]\nbootstrap = [\"a:1\"]\n[manager.oidc]\naudience = \"a\"\n",
            expect![[r#"
                kateway.toml:4: `manager.oidc.issuer`: is required with manager.oidc.audience
            "#]],
        );
        check(
            "data_dir = \"d\"\n[clusters.m]\nbootstrap = [\"a:1\"]\n[manager.oidc]\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"/dev/null\"\n",
            expect![[r#"
                kateway.toml:7: `manager.oidc.jwks_file`: the file is no JWKS: EOF while parsing a value at line 1 column 0
            "#]],
        );
    }

    #[test]
    fn the_audit_topic_is_a_legal_one_of_a_cluster_that_is_configured() {
        let with = |topic: &str| {
            let text = "data_dir = \"d\"\nmanager.audit_topic = \"TOPIC\"\n[clusters.m]\nbootstrap = [\"a:1\"]\n";
            parse(&text.replace("TOPIC", topic)).map(|loaded| loaded.settings.audit_topic)
        };
        let told = |topic: &str| with(topic).unwrap_err().to_string();
        let refused = ["audit", "m/", "m/a b", "m/..", "m/a/b", "m/__consumer_offsets", "other/audit"];
        expect![[r#"
            kateway.toml:2: `manager.audit_topic`: expected CLUSTER/TOPIC, found `audit`
            kateway.toml:2: `manager.audit_topic`: physical topic is empty
            kateway.toml:2: `manager.audit_topic`: physical topic "a b" holds ' ' at character 1, allowed are letters, digits, dot, _ and -
            kateway.toml:2: `manager.audit_topic`: physical topic ".." is reserved
            kateway.toml:2: `manager.audit_topic`: physical topic "a/b" holds '/' at character 1, allowed are letters, digits, dot, _ and -
            kateway.toml:2: `manager.audit_topic`: Kafka keeps topics like __consumer_offsets for itself
            kateway.toml:2: `manager.audit_topic`: there is no cluster other, configured are: m
        "#]]
        .assert_eq(&refused.map(told).concat());
        let taken = AuditTopic {
            cluster: ClusterName::new("m").expect("legal"),
            topic: PhysicalTopic::new("gafka.audit").expect("legal"),
        };
        assert_eq!(with("m/gafka.audit").expect("valid"), Some(taken));
        assert_eq!(with("").expect("valid"), None);
    }

    #[test]
    fn a_file_that_holds_no_certificates_is_a_mistake() {
        check(
            "data_dir = \"d\"\n[clusters.m]\nbootstrap = [\"a:1\"]\ntls.enabled = true\ntls.ca_file = \"/dev/null\"\n",
            expect![[r#"
                kateway.toml:5: `clusters.m.tls.ca_file`: the CA file has no certificate
            "#]],
        );
    }

    #[test]
    fn flags_beat_environment_beats_file() {
        let text = "data_dir = \"d\"\n[listen]\npub = \"127.0.0.1:1\"\nsub = \"127.0.0.1:1\"\nman = \"127.0.0.1:1\"\n[clusters.m]\nbootstrap=[\"a:1\"]\n";
        let pairs =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let sources = Sources {
            config: Some("f".into()),
            flags: pairs(&[("listen.man", "127.0.0.1:3")]),
            variables: pairs(&[("KATEWAY_LISTEN_SUB", "127.0.0.1:2"), ("KATEWAY_LISTEN_MAN", "127.0.0.1:2")]),
        };
        let settings = Loaded::<Settings>::parse("f", text, &sources).expect("valid").settings;
        let ports = [settings.listen_pub, settings.listen_sub, settings.listen_man].map(|address| address.port());
        assert_eq!(ports, [1, 2, 3]);
    }

    #[test]
    fn the_printed_reference_is_itself_a_valid_file_once_the_required_keys_are_set() {
        let text = keys::reference::<Settings>();
        expect_test::expect_file!["../config-reference.golden.toml"].assert_eq(&text);
        let text = text
            .replace("# data_dir = \"\"", "data_dir = \"d\"")
            .replace("# bootstrap = []", "bootstrap = [\"kafka:9092\"]");
        parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    }

    #[test]
    fn passwords_are_not_in_the_debug_output() {
        let text = "data_dir = \"d\"\n[clusters.m]\nbootstrap=[\"a:1\"]\nsasl.mechanism=\"PLAIN\"\nsasl.username=\"u\"\nsasl.password=\"hunter2\"\n";
        let loaded = parse(text).expect("valid");
        assert!(!format!("{loaded:?}").contains("hunter2"));
    }
}
