//! The one list of configuration keys: what the file accepts, what `--help` and the reference page print.
//!
//! A key `listen.pub` is also the flag `--listen-pub` and the environment variable `KATEWAY_LISTEN_PUB`;
//! flag beats environment beats file beats default. `[clusters.NAME]` tables live only in the file, because
//! they carry credentials and there are many of them.

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `host:port` with a literal IP address; port 0 means any free port.
    Address,
    /// `30s`, `250ms`, `5m`, or a whole number of seconds.
    Duration,
    /// `512MiB`, `1MB`, `65536`.
    Size,
    /// A whole number, at least zero.
    Count,
    /// `true` or `false`.
    Bool,
    /// A path on this machine.
    Path,
    /// Any text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of texts (comma separated as a flag).
    List,
}

/// One key of the file, flag and environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted path in the file.
    pub path: &'static str,
    pub kind: Kind,
    /// In the same notation as the file; empty: no default.
    pub default: &'static str,
    pub help: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { path, kind, default, help }
}

/// Keys outside `[clusters.*]`.
pub const KEYS: &[Key] = &[
    key(
        "data_dir",
        Kind::Path,
        "",
        "directory for the auth DB, the last good snapshot, the local registry, credentials.json",
    ),
    key("listen.pub", Kind::Address, "127.0.0.1:9191", "publish listener"),
    key("listen.sub", Kind::Address, "127.0.0.1:9192", "subscribe listener"),
    key("listen.man", Kind::Address, "127.0.0.1:9193", "manager listener"),
    key("shards.count", Kind::Count, "0", "data-plane threads, each pinned to a core; 0: one per core"),
    key("shards.pin", Kind::Bool, "true", "pin each shard to its core"),
    key("shards.driver", Kind::Word(&["auto", "io_uring", "io_uring_plain", "epoll"]), "auto", "network driver"),
    key(
        "limits.memory",
        Kind::Size,
        "1GiB",
        "bytes of request bodies, queued records and records on their way to polls, all shards together",
    ),
    key("limits.message_bytes", Kind::Size, "1000000", "largest message accepted (bytes)"),
    key("limits.publish_timeout", Kind::Duration, "30s", "default and longest wait for Kafka's answer to a publish"),
    key("limits.idle_timeout", Kind::Duration, "5m", "a keep-alive connection without a request is closed after this"),
    key(
        "limits.head_timeout",
        Kind::Duration,
        "10s",
        "from the first byte of a request to the end of its head; its body may take twice that to begin",
    ),
    key("limits.write_timeout", Kind::Duration, "30s", "a client that does not take its answer for so long is cut off"),
    key(
        "limits.connections_per_address",
        Kind::Count,
        "0",
        "client connections of one address; 0: any number (behind a balancer all clients have one address)",
    ),
    key(
        "limits.connections_per_app",
        Kind::Count,
        "20000",
        "client connections that use one app's credentials; 0: any",
    ),
    key("drain.delay", Kind::Duration, "1s", "from SIGTERM, while /readyz already fails, to the end of accepting"),
    key("drain.limit", Kind::Duration, "7s", "from SIGTERM until publishes still in flight are answered 503 or 504"),
    key("log.level", Kind::Text, "info", "tracing filter, for example info,kafka_client=debug"),
    key("log.format", Kind::Word(&["text", "json"]), "text", "one line per event, on stderr"),
    key("log.access", Kind::Path, "", "access log file; empty: none"),
    key("cors.origins", Kind::List, "", "origins browsers may call from, for example https://console.example.org"),
];

/// Keys inside `[clusters.NAME]`.
pub const CLUSTER_KEYS: &[Key] = &[
    key("bootstrap", Kind::List, "", "brokers to ask first, host:port; required"),
    key(
        "request_timeout",
        Kind::Duration,
        "30s",
        "a broker that leaves a request unanswered for so long is given up on",
    ),
    key("tls.enabled", Kind::Bool, "false", "speak TLS to the brokers"),
    key("tls.ca_file", Kind::Path, "", "PEM file with the certificates to trust; empty: this machine's"),
    key("tls.cert_file", Kind::Path, "", "PEM file with our certificate chain, for brokers that ask for one"),
    key("tls.key_file", Kind::Path, "", "PEM file with the key of tls.cert_file"),
    key(
        "sasl.mechanism",
        Kind::Word(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
        "",
        "how to log in; empty: not at all",
    ),
    key("sasl.username", Kind::Text, "", "user to log in as"),
    key("sasl.password", Kind::Text, "", "its password; prefer sasl.password_file"),
    key("sasl.password_file", Kind::Path, "", "file whose first line is the password"),
];

/// `listen.pub` as `listen-pub`.
pub fn flag(path: &str) -> String {
    path.replace(['.', '_'], "-")
}

/// `listen.pub` as `KATEWAY_LISTEN_PUB`.
pub fn env(path: &str) -> String {
    format!("KATEWAY_{}", path.replace('.', "_").to_uppercase())
}

/// The key nearest to a misspelt one, when near enough to be worth a hint.
pub fn nearest<'a>(wrong: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (edit_distance(wrong, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 4))
        .min()
        .map(|(_, candidate)| candidate)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
