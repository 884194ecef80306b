//! One configuration value: text in, typed value out, with a sentence when it does not fit.
//!
//! A type that can be a key's implements [`Value`]; [`words!`](crate::words) does it for an enum.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use model::host_port::parse_host_port;

/// What a value looks like in the file; for messages, `--help` and the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `127.0.0.1:9191`: a literal IP address; port 0 means any free port.
    Address,
    /// `kafka-1.example:9092`: a name or an address, to connect to.
    HostPort,
    /// `250ms`, `30s`, `5m`, `2h`, `1d`, or a whole number of seconds.
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
    /// A text that nobody else may see: in the file or a variable, never on a command line, which every user can read.
    Secret,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of such values; comma separated in a flag or variable.
    List(&'static Kind),
}

impl Kind {
    /// As in "expected …, found a number".
    pub fn expected(self) -> &'static str {
        match self {
            Kind::Address => "an address in quotes",
            Kind::HostPort => "host:port in quotes",
            Kind::Duration => "a duration",
            Kind::Size => "a size",
            Kind::Count => "a whole number",
            Kind::Bool => "true or false",
            Kind::Path => "a path in quotes",
            Kind::Text | Kind::Secret | Kind::Word(_) => "a text in quotes",
            Kind::List(_) => "a list of strings",
        }
    }

    /// Whether a bare number in the file is one.
    pub fn takes_number(self) -> bool {
        matches!(self, Kind::Count | Kind::Size | Kind::Duration)
    }
}

/// A type that a key's value may have.
pub trait Value: Sized {
    const KIND: Kind;

    /// The error says what was expected and what was found.
    fn parse(text: &str) -> Result<Self, String>;

    /// From a list in the file. Every item that does not fit is told.
    fn from_list(_: &[String]) -> Result<Self, Vec<String>> {
        Err(vec![format!("expected {}, found a list", Self::KIND.expected())])
    }
}

impl Value for SocketAddr {
    const KIND: Kind = Kind::Address;

    fn parse(text: &str) -> Result<Self, String> {
        console::address(text)
    }
}

/// Where to connect to. Not resolved here: the name may come to mean something later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Value for HostPort {
    const KIND: Kind = Kind::HostPort;

    fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            let how = "(tls.enabled and sasl.mechanism say how to speak)";
            return Err(format!("expected host:port without a scheme {how}, found `{text}`"));
        }
        let is_host = |host: &str| {
            let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
            is_name || host.parse::<std::net::Ipv6Addr>().is_ok()
        };
        match parse_host_port(text) {
            Some((host, port)) if is_host(&host) => Ok(HostPort { host, port }),
            _ => Err(format!("expected host:port, found `{text}`")),
        }
    }
}

impl Value for Duration {
    const KIND: Kind = Kind::Duration;

    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text).ok_or_else(|| format!("expected a duration like 30s, 250ms or 5m, found `{text}`"))
    }
}

/// So many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Value for Bytes {
    const KIND: Kind = Kind::Size;

    fn parse(text: &str) -> Result<Self, String> {
        let size = parse_size(text).map(Bytes);
        size.ok_or_else(|| format!("expected a size like 512MiB, 1MB or 65536, found `{text}`"))
    }
}

macro_rules! counts {
    ($($int:ty),+) => {$(
        impl Value for $int {
            const KIND: Kind = Kind::Count;

            fn parse(text: &str) -> Result<Self, String> {
                let Ok(number) = text.parse::<u64>() else {
                    return Err(format!("expected a whole number, at least 0, found `{text}`"));
                };
                Self::try_from(number).map_err(|_| format!("expected at most {}, found `{text}`", Self::MAX))
            }
        }
    )+};
}
counts!(u8, u16, u32, u64, usize, i32);

impl Value for bool {
    const KIND: Kind = Kind::Bool;

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("expected true or false, found `{text}`"))
    }
}

impl Value for PathBuf {
    const KIND: Kind = Kind::Path;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(PathBuf::from(text))
    }
}

impl Value for String {
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "no secret" } else { "a secret" })
    }
}

impl Value for Secret {
    const KIND: Kind = Kind::Secret;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Secret::new(text))
    }
}

/// The empty text is none.
impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }
}

impl<T: Value> Value for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);

    fn parse(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned);
        Self::from_list(&items.collect::<Vec<_>>()).map_err(|mistakes| mistakes.join("; "))
    }

    fn from_list(items: &[String]) -> Result<Self, Vec<String>> {
        let (mut good, mut mistakes) = (Vec::new(), Vec::new());
        for item in items {
            match T::parse(item) {
                Ok(value) => good.push(value),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if mistakes.is_empty() { Ok(good) } else { Err(mistakes) }
    }
}

/// `250ms`, `30s`, `5m`, `2h`, `1d`, or whole seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match &text[digits..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// `1MB` is 10^6, `1MiB` is 2^20, a bare number is bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match text[digits..].trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_in_human_units() {
        for (text, expected) in [
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("30", Some(30_000)),
            ("5m", Some(300_000)),
            ("", None),
            ("s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text}");
        }
        for (text, expected) in
            [("1MB", Some(1_000_000)), ("1MiB", Some(1 << 20)), ("7", Some(7)), ("1mb", None), ("-1", None)]
        {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn a_list_tells_every_item_that_does_not_fit_and_a_count_its_largest() {
        let brokers = <Vec<HostPort>>::parse("kafka-1:9092, [::1]:9092,").map(|brokers| format!("{brokers:?}"));
        assert!(brokers.as_ref().is_ok_and(|shown| shown.contains("::1")), "{brokers:?}");
        let wrong = <Vec<HostPort>>::parse("a:1,http://b:2,c").expect_err("two are none");
        assert!(wrong.contains("http://b:2") && wrong.contains("`c`"), "{wrong}");
        assert_eq!(u16::parse("70000"), Err("expected at most 65535, found `70000`".to_owned()));
        assert_eq!(i32::parse("-1"), Err("expected a whole number, at least 0, found `-1`".to_owned()));
    }
}
