//! What kproxy is told: its keys, and what only it can check.

use daemon::{Bytes, Check, Daemon, HostPort, Listener, Log};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use model::ClusterName;

daemon::words! {
    /// How a shard talks to the kernel.
    pub enum Driver { Auto = "auto", IoUring = "io_uring", IoUringPlain = "io_uring_plain", Epoll = "epoll" }
}

daemon::keys! {
    /// Keys of kproxy.
    pub struct Settings {
        /// where clients begin; broker n is on this port + 1 + (n - node_id_base), and all of these ports are bound at start. Port 0: the first free range
        pub listen: SocketAddr = default("127.0.0.1:19092"),
        /// host clients are told to come back to; empty: the address each one connected to
        pub advertised: String = default(""),
        /// node id of the broker on the first port of the range
        pub node_id_base: i32 = default("0"),
        /// ports in the range: brokers beyond it lead nothing, for clients
        pub range_width: u16 = default("64"),
        /// one TLS port for all brokers instead of a range: their names, with $ for the node id, for example b$.kafka.example.org
        pub sni_pattern: String = default(""),
        /// brokers to ask first, host:port
        pub bootstrap: Vec<HostPort> = required("for example [\"kafka1:9092\", \"kafka2:9092\"]"),
        /// PEM file with the certificate chain shown to clients; empty: plain text
        pub cert_file as "tls.cert_file": Option<PathBuf> = live(""),
        /// PEM file with the key of tls.cert_file
        pub key_file as "tls.key_file": Option<PathBuf> = live(""),
        /// PEM file with the certificates that clients' certificates must be signed by; empty: clients need none
        pub client_ca_file as "tls.client_ca_file": Option<PathBuf> = live(""),
        /// TLS to the brokers
        pub upstream_tls as "upstream.tls": daemon::brokers::Tls = group,
        /// login to the brokers, for tenants
        pub upstream_sasl as "upstream.sasl": daemon::brokers::Sasl = group,
        /// whom to serve
        pub tenants: TenantKeys = group,
        /// clients' connections begin with a PROXY protocol v2 header, as HAProxy's send-proxy-v2 writes it
        pub proxy_protocol: bool = default("false"),
        /// threads, each with an io_uring of its own; 0: one per core
        pub shard_count as "shards.count": usize = default("0"),
        /// pin each shard to its core
        pub shard_pin as "shards.pin": bool = default("true"),
        /// network driver
        pub driver as "shards.driver": Driver = default("auto"),
        /// largest request frame; it streams through and costs no memory here
        pub request_bytes as "limits.request_bytes": Bytes = default("100MiB"),
        /// connections older than this are closed between two requests, up to a tenth sooner; 0s: never
        pub connection_age as "limits.connection_age": Duration = default("0s"),
        /// connections without a byte either way are closed after this; 0s: when the broker does
        pub idle_timeout as "limits.idle_timeout": Duration = default("0s"),
        /// client connections of one address; 0: any number
        pub connections_per_address as "limits.connections_per_address": usize = default("0"),
        /// client connections that use one app's credentials, with tenants; 0: any
        pub connections_per_app as "limits.connections_per_app": usize = live("20000"),
        /// from SIGTERM, while /readyz already fails, to the end of accepting
        pub drain_delay as "drain.delay": Duration = default("1s"),
        /// from SIGTERM until connections with requests still in flight are closed
        pub drain_limit as "drain.limit": Duration = default("30s"),
        /// operator's port with /healthz, /readyz, /metrics; empty: 127.0.0.1:19090, or any free one when listen has port 0
        pub ops_listen as "ops.listen": Option<SocketAddr> = default(""),
        /// log.level, log.format
        pub log: Log = group,
    }
}

daemon::keys! {
    /// Whom to serve: the apps of a kateway, or, without a data directory, everybody whom the brokers serve.
    pub struct TenantKeys {
        /// data directory of the kateway whose apps log in here and see what is theirs; empty: none, everything passes as it is
        pub data_dir: Option<PathBuf> = default(""),
        /// what kateway calls the cluster behind this proxy
        pub cluster: String = default("main"),
        /// file with a line for the end of each session; empty: none
        pub access_log: Option<PathBuf> = default(""),
        /// not ready while nobody could say for so long whether a secret or grant was revoked
        pub stale_after: Duration = live("24h"),
    }
}

/// Keys that mean nothing without `tenants.data_dir`.
const OF_TENANTS: [&str; 8] = [
    "tenants.cluster",
    "tenants.access_log",
    "tenants.stale_after",
    "limits.connections_per_app",
    "upstream.sasl.mechanism",
    "upstream.sasl.username",
    "upstream.sasl.password",
    "upstream.sasl.password_file",
];

impl TenantKeys {
    fn check(&self, check: &mut Check<'_>) {
        let Some(data_dir) = &self.data_dir else {
            for key in OF_TENANTS.iter().filter(|key| check.is_changed::<Settings>(key)).collect::<Vec<_>>() {
                let why = match key.strip_prefix("upstream.sasl.") {
                    None => "has no effect without tenants.data_dir",
                    Some(_) => "has no effect without tenants.data_dir: clients log in at the brokers themselves",
                };
                check.mistake(key, why);
            }
            return;
        };
        check.directory("tenants.data_dir", data_dir);
        if let Err(err) = ClusterName::new(&self.cluster) {
            check.mistake("tenants.cluster", err);
        }
        if let Some(file) = &self.access_log {
            check.appendable("tenants.access_log", file);
        }
    }
}

impl Settings {
    /// Where the operator's port is.
    pub fn ops(&self) -> SocketAddr {
        let port = if self.listen.port() == 0 { 0 } else { 19090 };
        self.ops_listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Whether brokers are told apart by name.
    pub fn is_by_name(&self) -> bool {
        !self.sni_pattern.is_empty()
    }

    fn is_tls(&self) -> bool {
        self.cert_file.is_some()
    }
}

/// A name or address without a port.
fn is_host(host: &str) -> bool {
    let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    (is_name && host.len() <= 253) || host.parse::<std::net::Ipv6Addr>().is_ok()
}

impl Daemon for Settings {
    const NAME: &'static str = "kproxy";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    fn log(&self) -> &Log {
        &self.log
    }

    fn check(&self, check: &mut Check<'_>) {
        let port_count = if self.is_by_name() { 1 } else { self.range_width.saturating_add(1) };
        check.listeners(&[
            Listener { key: "listen", address: self.listen, port_count },
            Listener { key: "ops.listen", address: self.ops(), port_count: 1 },
        ]);
        let last = u32::from(self.listen.port()) + u32::from(port_count) - 1;
        if self.listen.port() != 0 && last > 65_535 {
            check
                .mistake("listen", format!("the range ends at port {last}, beyond 65535: lower listen or range_width"));
        }
        if !self.advertised.is_empty() && !is_host(&self.advertised) {
            check.mistake("advertised", format!("expected a host without a port, found `{}`", self.advertised));
        }
        if self.is_by_name() {
            let one = self.sni_pattern.matches('$').count() == 1;
            if !one || !is_host(&self.sni_pattern.replace('$', "1000")) {
                check.mistake("sni_pattern", "expected a host name with one $ in it, like b$.kafka.example.org");
            }
            if !self.is_tls() {
                check.mistake(
                    "sni_pattern",
                    "needs tls.cert_file and tls.key_file: names are told in the TLS handshake",
                );
            }
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            let set = if self.cert_file.is_some() { "tls.cert_file" } else { "tls.key_file" };
            check.mistake(set, "tls.cert_file and tls.key_file go together");
        }
        if self.client_ca_file.is_some() && !self.is_tls() {
            check.mistake("tls.client_ca_file", "needs tls.cert_file and tls.key_file");
        }
        let files = [("tls.cert_file", &self.cert_file), ("tls.key_file", &self.key_file)];
        for (key, file) in files.into_iter().chain([("tls.client_ca_file", &self.client_ca_file)]) {
            file.iter().for_each(|file| check.file(key, file));
        }
        self.upstream_tls.check("upstream", check);
        self.tenants.check(check);
        if self.tenants.data_dir.is_some() {
            self.upstream_sasl.check("upstream", check);
        }
        check.shorter("drain.delay", self.drain_delay, "drain.limit", self.drain_limit);
    }

    fn warnings(&self) -> Vec<String> {
        let in_the_clear = self.tenants.data_dir.is_some() && !self.is_tls() && !self.listen.ip().is_loopback();
        let why = "apps log in without TLS (tls.cert_file) at an address that is not loopback: PLAIN tells their secrets to \
                   whoever listens, SCRAM does not";
        in_the_clear.then(|| why.to_owned()).into_iter().collect()
    }

    fn summary(&self) -> String {
        let brokers: Vec<String> = self.bootstrap.iter().map(ToString::to_string).collect();
        let tenants = self.tenants.data_dir.as_ref().map(|dir| format!("; apps of {}", dir.display()));
        format!("; brokers {}{}", brokers.join(", "), tenants.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::{Loaded, Sources, keys};
    use expect_test::{Expect, expect, expect_file};

    fn check(text: &str, expected: Expect) {
        let sources = Sources { config: Some("kproxy.toml".into()), ..Sources::default() };
        let shown = match Loaded::<Settings>::parse("kproxy.toml", text, &sources) {
            Ok(loaded) => format!("good{}\n{}\n", loaded.settings.summary(), loaded.warnings.join("\n")),
            Err(mistakes) => mistakes.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn keys_of_tenants_are_mistakes_where_there_are_none() {
        check(
            r#"bootstrap = ["kafka:9092"]
[tenants]
cluster = "other"
access_log = "/tmp/access.log"
stale_after = "1h"
[limits]
connections_per_app = 7
[upstream]
sasl.mechanism = "PLAIN"
sasl.username = "kproxy"
sasl.password = "hunter2"
"#,
            expect![[r#"
                kproxy.toml:3: `tenants.cluster`: has no effect without tenants.data_dir
                kproxy.toml:4: `tenants.access_log`: has no effect without tenants.data_dir
                kproxy.toml:5: `tenants.stale_after`: has no effect without tenants.data_dir
                kproxy.toml:7: `limits.connections_per_app`: has no effect without tenants.data_dir
                kproxy.toml:9: `upstream.sasl.mechanism`: has no effect without tenants.data_dir: clients log in at the brokers themselves
                kproxy.toml:10: `upstream.sasl.username`: has no effect without tenants.data_dir: clients log in at the brokers themselves
                kproxy.toml:11: `upstream.sasl.password`: has no effect without tenants.data_dir: clients log in at the brokers themselves
            "#]],
        );
    }

    #[test]
    fn what_cannot_work_with_tenants_is_a_mistake_before_anything_starts() {
        check(
            r#"bootstrap = ["kafka:9092"]
[tenants]
data_dir = "/dev/null/gafka"
cluster = "ma in"
access_log = "/dev/null/logs/access.log"
[upstream]
sasl.mechanism = "SCRAM-SHA-512"
"#,
            expect![[r#"
                kproxy.toml:3: `tenants.data_dir`: cannot be made: /dev/null is no directory
                kproxy.toml:4: `tenants.cluster`: cluster "ma in" holds ' ' at character 2, allowed are letters, digits, _ and -
                kproxy.toml:5: `tenants.access_log`: there is no directory /dev/null/logs
                kproxy.toml:7: `upstream.sasl.username`: is required with sasl.mechanism
                kproxy.toml:7: `upstream.sasl.password`: sasl.password_file or sasl.password is required
            "#]],
        );
    }

    #[test]
    fn secrets_in_the_clear_are_warned_of_away_from_loopback() {
        let with = |listen: &str| {
            let listen = format!("listen = \"{listen}\"\nbootstrap = [\"kafka:9092\"]\n");
            listen + "tenants.data_dir = \"/tmp\"\n"
        };
        check(
            &with("0.0.0.0:9092"),
            expect![[r#"
                good; brokers kafka:9092; apps of /tmp
                apps log in without TLS (tls.cert_file) at an address that is not loopback: PLAIN tells their secrets to whoever listens, SCRAM does not
            "#]],
        );
        check(
            &with("127.0.0.1:9092"),
            expect![[r#"
                good; brokers kafka:9092; apps of /tmp

            "#]],
        );
    }

    #[test]
    fn the_printed_reference_is_itself_a_valid_file_once_the_required_keys_are_set() {
        let text = keys::reference::<Settings>();
        expect_file!["../config-reference.golden.toml"].assert_eq(&text);
        let text = text.replace("# bootstrap = []", "bootstrap = [\"kafka:9092\"]");
        let sources = Sources { config: Some("kproxy.toml".into()), ..Sources::default() };
        if let Err(mistakes) = Loaded::<Settings>::parse("kproxy.toml", &text, &sources) {
            panic!("{mistakes}");
        }
    }

    #[test]
    fn no_secret_is_a_flag() {
        let keys = keys::Declare::of::<Settings>().keys;
        let password = keys.iter().find(|key| key.path == "upstream.sasl.password").expect("declared");
        assert!(password.is_variable() && !password.is_flag());
    }
}
