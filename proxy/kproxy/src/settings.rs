//! What kproxy is told: its keys, and what only it can check.

use daemon::{Bytes, Check, Daemon, HostPort, Listener, Log};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
        pub cert_file as "tls.cert_file": Option<PathBuf> = default(""),
        /// PEM file with the key of tls.cert_file
        pub key_file as "tls.key_file": Option<PathBuf> = default(""),
        /// PEM file with the certificates that clients' certificates must be signed by; empty: clients need none
        pub client_ca_file as "tls.client_ca_file": Option<PathBuf> = default(""),
        /// TLS to the brokers
        pub upstream_tls as "upstream.tls": daemon::brokers::Tls = group,
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
        check.shorter("drain.delay", self.drain_delay, "drain.limit", self.drain_limit);
    }

    fn summary(&self) -> String {
        let brokers: Vec<String> = self.bootstrap.iter().map(ToString::to_string).collect();
        format!("; brokers {}", brokers.join(", "))
    }
}
