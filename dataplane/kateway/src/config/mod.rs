//! `kateway serve` configuration in two steps: what the operator wrote (TOML, flags, environment) and the checked
//! [`Config`] the rest of the program takes. Every mistake is collected and printed with its line, so that one
//! run of `--check-config` is enough.

mod addresses;
pub mod keys;
mod value;

use gateway::GatewayConfig;
use keys::{CLUSTER_KEYS, KEYS, Key, Kind};
use model::ids::ClusterName;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::{DeTable, DeValue};
pub use value::Value;

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// `kateway.toml:12`, `--listen-pub`, `KATEWAY_LISTEN_PUB`.
    pub place: String,
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Checked configuration of one gateway.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub listen_pub: SocketAddr,
    pub listen_sub: SocketAddr,
    pub listen_man: SocketAddr,
    /// 0: one per core.
    pub shard_count: usize,
    pub shard_pin: bool,
    pub driver: String,
    pub memory_bytes: u64,
    pub message_bytes_max: usize,
    pub publish_timeout: Duration,
    pub idle_timeout: Duration,
    pub head_timeout: Duration,
    pub write_timeout: Duration,
    pub connections_per_address: usize,
    pub connections_per_app: usize,
    pub drain_delay: Duration,
    pub drain_limit: Duration,
    pub log_level: String,
    pub log_json: bool,
    pub access_log: Option<PathBuf>,
    pub cors_origins: Vec<String>,
    pub clusters: BTreeMap<String, ClusterConfig>,
}

/// How to reach one Kafka cluster.
#[derive(Clone)]
pub struct ClusterConfig {
    pub bootstrap: Vec<String>,
    pub request_timeout: Duration,
    pub tls: Option<TlsFiles>,
    pub sasl: Option<SaslLogin>,
}

/// PEM files for TLS to brokers.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// Broker login. Never printed: `Debug` shows the user only.
#[derive(Clone)]
pub struct SaslLogin {
    pub mechanism: String,
    pub username: String,
    pub password: String,
}

impl fmt::Debug for SaslLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SaslLogin({} as {})", self.mechanism, self.username)
    }
}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterConfig")
            .field("bootstrap", &self.bootstrap)
            .field("request_timeout", &self.request_timeout)
            .field("tls", &self.tls)
            .field("sasl", &self.sasl)
            .finish()
    }
}

/// What was written for each key, and where.
type Written = BTreeMap<String, (Value, String)>;

/// Reads the file, lays environment and flags over it, checks everything.
///
/// `flags` and `env` give the text for a key's path when it was set.
pub fn load(
    path: &Path,
    flags: impl Fn(&str) -> Option<String>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Config, Vec<Mistake>> {
    let shown = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(err) => return Err(vec![Mistake { place: shown, message: format!("cannot read the file: {err}") }]),
    };
    parse(&shown, &text, flags, env)
}

/// The same on text already read; `shown` names the file in messages.
pub fn parse(
    shown: &str,
    text: &str,
    flags: impl Fn(&str) -> Option<String>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Config, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    let line = |offset: usize| format!("{shown}:{}", 1 + text[..offset.min(text.len())].matches('\n').count());
    for err in syntax_errors {
        mistakes
            .push(Mistake { place: line(err.span().map_or(0, |span| span.start)), message: err.message().to_owned() });
    }
    let mut written = Written::new();
    let mut cluster_tables: BTreeMap<String, (Written, String)> = BTreeMap::new();
    for (name, entry) in document.get_ref() {
        if name.get_ref() == "clusters" {
            let DeValue::Table(clusters) = entry.get_ref() else {
                mistakes.push(Mistake {
                    place: line(entry.span().start),
                    message: "`clusters` must be tables: [clusters.NAME]".to_owned(),
                });
                continue;
            };
            for (cluster, body) in clusters {
                let place = line(cluster.span().start);
                let mut keys = Written::new();
                match body.get_ref() {
                    DeValue::Table(table) => walk("", table, CLUSTER_KEYS, &line, &mut keys, &mut mistakes),
                    _ => mistakes.push(Mistake {
                        place: place.clone(),
                        message: format!("`clusters.{}` must be a table", cluster.get_ref()),
                    }),
                }
                cluster_tables.insert(cluster.get_ref().to_string(), (keys, place));
            }
            continue;
        }
        walk_entry("", name.get_ref(), name.span().start, entry, KEYS, &line, &mut written, &mut mistakes);
    }
    for key in KEYS {
        let overlays = [(env(key.path), keys::env(key.path)), (flags(key.path), format!("--{}", keys::flag(key.path)))];
        for (text, place) in overlays {
            let Some(text) = text else { continue };
            match value::parse(key.kind, &text) {
                Ok(value) => drop(written.insert(key.path.to_owned(), (value, place))),
                Err(message) => mistakes.push(Mistake { place, message }),
            }
        }
    }
    let config = build(shown, &written, &cluster_tables, &mut mistakes);
    // In the order of the file; flags, environment and what is missing altogether come last.
    let line_of = |mistake: &Mistake| {
        let line = mistake.place.rsplit_once(':').and_then(|(_, line)| line.parse::<usize>().ok());
        line.unwrap_or(usize::MAX)
    };
    mistakes.sort_by_key(line_of);
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

fn walk(
    prefix: &str,
    table: &DeTable<'_>,
    known: &[Key],
    line: &dyn Fn(usize) -> String,
    written: &mut Written,
    mistakes: &mut Vec<Mistake>,
) {
    for (name, entry) in table {
        walk_entry(prefix, name.get_ref(), name.span().start, entry, known, line, written, mistakes);
    }
}

#[allow(clippy::too_many_arguments, reason = "one recursive walk; a struct would only rename the arguments")]
fn walk_entry(
    prefix: &str,
    name: &str,
    name_at: usize,
    entry: &toml::Spanned<DeValue<'_>>,
    known: &[Key],
    line: &dyn Fn(usize) -> String,
    written: &mut Written,
    mistakes: &mut Vec<Mistake>,
) {
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
    let place = line(name_at);
    if let DeValue::Table(inner) = entry.get_ref() {
        let is_section = known.iter().any(|key| key.path.starts_with(&format!("{path}.")));
        if is_section {
            return walk(&path, inner, known, line, written, mistakes);
        }
    }
    let Some(key) = known.iter().find(|key| key.path == path) else {
        let hint = keys::nearest(&path, known.iter().map(|key| key.path))
            .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        mistakes.push(Mistake { place, message: format!("unknown key `{path}`{hint}") });
        return;
    };
    match read_value(key.kind, entry.get_ref()) {
        Ok(value) => drop(written.insert(path, (value, place))),
        Err(message) => mistakes.push(Mistake { place, message: format!("`{path}`: {message}") }),
    }
}

fn read_value(kind: Kind, found: &DeValue<'_>) -> Result<Value, String> {
    match (kind, found) {
        (Kind::List, DeValue::Array(items)) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(format!("expected a list of strings, found {}", type_name(other))),
            })
            .collect::<Result<_, _>>()
            .map(Value::List),
        (_, DeValue::String(text)) => value::parse(kind, text),
        (Kind::Bool, DeValue::Boolean(value)) => Ok(Value::Bool(*value)),
        (Kind::Count | Kind::Size | Kind::Duration, DeValue::Integer(number)) => {
            value::parse(kind, &number.to_string())
        }
        (_, other) => Err(format!("expected {}, found {}", kind_name(kind), type_name(other))),
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Address => "an address in quotes",
        Kind::Duration => "a duration",
        Kind::Size => "a size",
        Kind::Count => "a whole number",
        Kind::Bool => "true or false",
        Kind::Path => "a path in quotes",
        Kind::Text | Kind::Word(_) => "a text in quotes",
        Kind::List => "a list of strings",
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn build(
    shown: &str,
    written: &Written,
    cluster_tables: &BTreeMap<String, (Written, String)>,
    mistakes: &mut Vec<Mistake>,
) -> Config {
    let get = |path: &str| lookup(written, KEYS, path);
    let config = Config {
        data_dir: path_of(get("data_dir")).unwrap_or_default(),
        listen_pub: address(get("listen.pub")),
        listen_sub: address(get("listen.sub")),
        listen_man: address(get("listen.man")),
        shard_count: number(get("shards.count")) as usize,
        shard_pin: boolean(get("shards.pin")),
        driver: text_of(get("shards.driver")),
        memory_bytes: number(get("limits.memory")),
        message_bytes_max: number(get("limits.message_bytes")) as usize,
        publish_timeout: duration(get("limits.publish_timeout")),
        idle_timeout: duration(get("limits.idle_timeout")),
        head_timeout: duration(get("limits.head_timeout")),
        write_timeout: duration(get("limits.write_timeout")),
        connections_per_address: number(get("limits.connections_per_address")) as usize,
        connections_per_app: number(get("limits.connections_per_app")) as usize,
        drain_delay: duration(get("drain.delay")),
        drain_limit: duration(get("drain.limit")),
        log_level: text_of(get("log.level")),
        log_json: text_of(get("log.format")) == "json",
        access_log: path_of(get("log.access")),
        cors_origins: list(get("cors.origins")),
        clusters: cluster_tables
            .iter()
            .map(|(name, (keys, place))| (name.clone(), build_cluster(name, keys, place, mistakes)))
            .collect(),
    };
    let mut mistake = |key: &str, message: &str| {
        let place = written.get(key).map_or_else(|| shown.to_owned(), |(_, place)| place.clone());
        if mistakes.iter().any(|known| known.message.starts_with(&format!("`{key}`"))) {
            return; // what is wrong with it was told already
        }
        mistakes.push(Mistake { place, message: format!("`{key}`: {message}") });
    };
    if config.data_dir.as_os_str().is_empty() {
        mistake("data_dir", "is required; it keeps the auth DB and the last good snapshot");
    }
    if let Some(why) = addresses::cannot_be_made(&config.data_dir) {
        mistake("data_dir", &why);
    }
    let listeners =
        [("listen.pub", config.listen_pub), ("listen.sub", config.listen_sub), ("listen.man", config.listen_man)];
    for (at, (key, address)) in listeners.iter().enumerate() {
        if let Some((other, taken)) = listeners[..at].iter().find(|(_, taken)| addresses::collide(*taken, *address)) {
            mistake(key, &format!("{address} is taken by `{other}`, which listens on {taken}"));
        }
    }
    let origins = config.cors_origins.iter();
    let wrong: Vec<String> =
        origins.filter_map(|origin| Some(format!("`{origin}`: {}", addresses::never_an_origin(origin)?))).collect();
    if !wrong.is_empty() {
        mistake("cors.origins", &format!("no browser sends the origin {}", wrong.join("; nor ")));
    }
    if let Err(why) = crate::logging::filter(&config.log_level) {
        mistake("log.level", &why);
    }
    if config.clusters.is_empty() {
        mistake("clusters", "at least one [clusters.NAME] with `bootstrap` is required");
    }
    if config.message_bytes_max == 0 || config.message_bytes_max > gateway::limits::MESSAGE_BYTES_CEILING {
        mistake("limits.message_bytes", "must be between 1 and 10000000");
    }
    if config.memory_bytes < gateway::limits::MEMORY_BYTES_FLOOR {
        mistake("limits.memory", "must be at least 16MiB");
    }
    let shard_count = crate::node::shard_count(config.shard_count);
    let shares = GatewayConfig { memory_bytes: config.memory_bytes, shard_count, ..GatewayConfig::default() }.budget();
    if shares.tenant_bytes_max < config.message_bytes_max + gateway::limits::PUBLISH_OVERHEAD_BYTES {
        let (share, message) = (shares.tenant_bytes_max, config.message_bytes_max);
        mistake(
            "limits.memory",
            &format!(
                "an app may hold a quarter of a shard's memory, {share} bytes with {shard_count} shards, and a message \
                 of limits.message_bytes ({message}) would never fit"
            ),
        );
    }
    if config.shard_count > 1024 {
        mistake("shards.count", "more than 1024 shards is surely a slip");
    }
    if config.publish_timeout.is_zero() || config.publish_timeout > Duration::from_secs(300) {
        mistake("limits.publish_timeout", "must be between 1ms and 5m");
    }
    if config.head_timeout.is_zero() {
        mistake("limits.head_timeout", "must be at least 1ms");
    }
    if config.write_timeout.is_zero() {
        mistake("limits.write_timeout", "must be at least 1ms");
    }
    config
}

fn build_cluster(name: &str, keys: &Written, place: &str, mistakes: &mut Vec<Mistake>) -> ClusterConfig {
    let get = |path: &str| lookup(keys, CLUSTER_KEYS, path);
    if let Err(err) = ClusterName::new(name) {
        mistakes.push(Mistake { place: place.to_owned(), message: format!("`clusters.{name}`: {err}") });
    }
    let mut mistake = |key: &str, message: String| {
        let place = keys.get(key).map_or_else(|| place.to_owned(), |(_, place)| place.clone());
        mistakes.push(Mistake { place, message: format!("`clusters.{name}.{key}`: {message}") });
    };
    let bootstrap = list(get("bootstrap"));
    if bootstrap.is_empty() {
        mistake("bootstrap", "is required, for example [\"broker1:9092\", \"broker2:9092\"]".to_owned());
    }
    for broker in &bootstrap {
        if let Some(why) = addresses::no_broker(broker) {
            mistake("bootstrap", format!("{why}, found `{broker}`"));
        }
    }
    let request_timeout = duration(get("request_timeout"));
    if request_timeout < Duration::from_millis(100) || request_timeout > Duration::from_secs(300) {
        mistake("request_timeout", "must be between 100ms and 5m".to_owned());
    }
    let files = TlsFiles {
        ca_file: path_of(get("tls.ca_file")),
        cert_file: path_of(get("tls.cert_file")),
        key_file: path_of(get("tls.key_file")),
    };
    for (key, file) in
        [("tls.ca_file", &files.ca_file), ("tls.cert_file", &files.cert_file), ("tls.key_file", &files.key_file)]
    {
        if let Some(err) = file.as_ref().and_then(|path| std::fs::File::open(path).err()) {
            mistake(key, format!("cannot open the file: {err}"));
        }
    }
    if files.cert_file.is_some() != files.key_file.is_some() {
        mistake("tls.cert_file", "tls.cert_file and tls.key_file go together".to_owned());
    }
    let tls_enabled = boolean(get("tls.enabled"));
    if !tls_enabled && (files.ca_file.is_some() || files.cert_file.is_some()) {
        mistake("tls.ca_file", "has no effect while tls.enabled is false".to_owned());
    }
    let mechanism = text_of(get("sasl.mechanism"));
    let sasl = (!mechanism.is_empty()).then(|| SaslLogin {
        mechanism: mechanism.clone(),
        username: text_of(get("sasl.username")),
        password: match path_of(get("sasl.password_file")) {
            None => text_of(get("sasl.password")),
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(content) => content.lines().next().unwrap_or_default().to_owned(),
                Err(err) => {
                    mistake("sasl.password_file", format!("cannot read the file: {err}"));
                    String::from("-")
                }
            },
        },
    });
    if let Some(login) = &sasl {
        if login.username.is_empty() {
            mistake("sasl.username", "is required with sasl.mechanism".to_owned());
        }
        if login.password.is_empty() {
            mistake("sasl.password", "sasl.password_file or sasl.password is required".to_owned());
        }
    } else if keys.contains_key("sasl.username") || keys.contains_key("sasl.password") {
        mistake("sasl.mechanism", "is required with sasl.username".to_owned());
    }
    ClusterConfig { bootstrap, request_timeout, tls: tls_enabled.then_some(files), sasl }
}

fn lookup(written: &Written, known: &[Key], path: &str) -> Value {
    if let Some((value, _)) = written.get(path) {
        return value.clone();
    }
    let key = known.iter().find(|key| key.path == path).expect("build() asks only for keys of the list");
    // An absent text or path is empty; numbers, addresses and durations all have a default in the list.
    value::parse(key.kind, key.default).expect("defaults in the list are valid (tested)")
}

fn address(value: Value) -> SocketAddr {
    let Value::Address(address) = value else { unreachable!("kind checked by the list: {value:?}") };
    address
}

fn duration(value: Value) -> Duration {
    let Value::Duration(duration) = value else { unreachable!("kind checked by the list: {value:?}") };
    duration
}

fn number(value: Value) -> u64 {
    let (Value::Size(number) | Value::Count(number)) = value else {
        unreachable!("kind checked by the list: {value:?}")
    };
    number
}

fn boolean(value: Value) -> bool {
    let Value::Bool(value) = value else { unreachable!("kind checked by the list: {value:?}") };
    value
}

fn text_of(value: Value) -> String {
    let Value::Text(text) = value else { unreachable!("kind checked by the list: {value:?}") };
    text
}

fn list(value: Value) -> Vec<String> {
    let Value::List(items) = value else { unreachable!("kind checked by the list: {value:?}") };
    items
}

fn path_of(value: Value) -> Option<PathBuf> {
    let Value::Path(path) = value else { unreachable!("kind checked by the list: {value:?}") };
    (!path.as_os_str().is_empty()).then_some(path)
}

/// The reference of all keys as a commented TOML file (`kateway config-reference`).
pub fn reference() -> String {
    use std::fmt::Write;
    let mut out = String::from("# kateway configuration: every key with its default.\n");
    let mut section = "";
    for key in KEYS {
        let (table, name) = key.path.split_once('.').unwrap_or(("", key.path));
        if table != section {
            let _ = writeln!(out, "\n[{table}]");
            section = table;
        }
        let _ = writeln!(out, "# {}\n# --{}  {}", key.help, keys::flag(key.path), keys::env(key.path));
        let _ = writeln!(out, "{}{name} = {}", if key.default.is_empty() { "# " } else { "" }, literal(key));
    }
    let _ = writeln!(out, "\n# One table per Kafka cluster.\n[clusters.main]");
    for key in CLUSTER_KEYS {
        let _ = writeln!(out, "# {}\n# {} = {}", key.help, key.path, literal(key));
    }
    out
}

fn literal(key: &Key) -> String {
    match key.kind {
        Kind::Bool | Kind::Count => key.default.to_owned(),
        Kind::List => "[]".to_owned(),
        _ => format!("{:?}", key.default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expected: Expect) {
        let shown = match parse("kateway.toml", text, |_| None, |_| None) {
            Ok(config) => format!("{config:#?}\n"),
            Err(mistakes) => mistakes.iter().map(|mistake| format!("{mistake}\n")).collect(),
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
                kateway.toml:8: `clusters.main.sasl.mechanism`: is required with sasl.username
                kateway.toml:9: `clusters.main.bootstrap`: expected host:port, found `kafka2`
                kateway.toml:11: `clusters.other.bootstrap`: is required, for example ["broker1:9092", "broker2:9092"]
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
[clusters."ma in"]
bootstrap = ["127.0.0.1:9092", "[::1]:9092"]
[clusters.main]
bootstrap = ["PLAINTEXT://127.0.0.1:9092", "kafka-1.example:9092/"]
"#,
            expect![[r#"
                kateway.toml:1: `data_dir`: cannot be made: /dev/null is no directory
                kateway.toml:4: `listen.sub`: 127.0.0.1:9397 is taken by `listen.pub`, which listens on 0.0.0.0:9397
                kateway.toml:9: `limits.memory`: an app may hold a quarter of a shard's memory, 262144 bytes with 16 shards, and a message of limits.message_bytes (1000000) would never fit
                kateway.toml:11: `cors.origins`: no browser sends the origin `https://console.example/`: it ends with the host or the port, without a slash; nor `*`: expected one like https://console.example.org; nor `https://Console.example`: it is lower case, without blanks and wildcards; nor `https://a.example:443`: the usual port is left out
                kateway.toml:13: `log.level`: `inf` is no level; did you mean `info`?
                kateway.toml:14: `clusters.ma in`: cluster "ma in" holds ' ' at character 2, allowed are letters, digits, _ and -
                kateway.toml:17: `clusters.main.bootstrap`: expected host:port without a scheme (tls.enabled and sasl.mechanism say how to speak), found `PLAINTEXT://127.0.0.1:9092`
                kateway.toml:17: `clusters.main.bootstrap`: expected host:port, found `kafka-1.example:9092/`
            "#]],
        );
        for level in ["info", "warn,kateway=info", "WARN", "kafka_client=trace", "off", "hyper"] {
            crate::logging::filter(level).unwrap_or_else(|why| panic!("{level}: {why}"));
        }
        assert!(crate::logging::filter("info,==").is_err());
    }

    #[test]
    fn every_default_in_the_list_is_valid() {
        for key in KEYS.iter().chain(CLUSTER_KEYS) {
            value::parse(key.kind, key.default).unwrap_or_else(|_| {
                assert!(key.default.is_empty(), "{} has a bad default `{}`", key.path, key.default);
                Value::Text(String::new())
            });
        }
    }

    #[test]
    fn flags_beat_environment_beats_file() {
        let text = "data_dir = \"d\"\n[listen]\npub = \"127.0.0.1:1\"\nsub = \"127.0.0.1:1\"\nman = \"127.0.0.1:1\"\n[clusters.m]\nbootstrap=[\"a:1\"]\n";
        let config = parse(
            "f",
            text,
            |path| (path == "listen.man").then(|| "127.0.0.1:3".to_owned()),
            |path| (path != "listen.pub" && path.starts_with("listen")).then(|| "127.0.0.1:2".to_owned()),
        )
        .expect("valid");
        assert_eq!(config.listen_pub.port(), 1);
        assert_eq!(config.listen_sub.port(), 2);
        assert_eq!(config.listen_man.port(), 3);
    }

    #[test]
    fn the_printed_reference_is_itself_a_valid_file_once_the_required_keys_are_set() {
        let text = reference()
            .replace("# data_dir = \"\"", "data_dir = \"d\"")
            .replace("# bootstrap = []", "bootstrap = [\"kafka:9092\"]");
        parse("reference", &text, |_| None, |_| None).expect("reference parses");
    }

    #[test]
    fn passwords_are_not_in_the_debug_output() {
        let text = "data_dir = \"d\"\n[clusters.m]\nbootstrap=[\"a:1\"]\nsasl.mechanism=\"PLAIN\"\nsasl.username=\"u\"\nsasl.password=\"hunter2\"\n";
        let config = parse("f", text, |_| None, |_| None).expect("valid");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
