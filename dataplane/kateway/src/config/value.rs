//! One configuration value: text in, typed value out, with a sentence when it does not fit.

use super::keys::Kind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A checked value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Address(SocketAddr),
    Duration(Duration),
    Size(u64),
    Count(u64),
    Bool(bool),
    Path(PathBuf),
    Text(String),
    List(Vec<String>),
}

/// Parses `text` as `kind`; the error says what was expected and what was found.
pub fn parse(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Address => text
            .parse()
            .map(Value::Address)
            .map_err(|_| format!("expected an address like 127.0.0.1:9191, found `{text}`")),
        Kind::Duration => parse_duration(text)
            .map(Value::Duration)
            .ok_or_else(|| format!("expected a duration like 30s, 250ms or 5m, found `{text}`")),
        Kind::Size => parse_size(text)
            .map(Value::Size)
            .ok_or_else(|| format!("expected a size like 512MiB, 1MB or 65536, found `{text}`")),
        Kind::Count => {
            text.parse().map(Value::Count).map_err(|_| format!("expected a whole number, at least 0, found `{text}`"))
        }
        Kind::Bool => text.parse().map(Value::Bool).map_err(|_| format!("expected true or false, found `{text}`")),
        Kind::Path => Ok(Value::Path(PathBuf::from(text))),
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Word(words) => {
            if text.is_empty() || words.contains(&text) {
                Ok(Value::Text(text.to_owned()))
            } else {
                Err(format!("expected one of {}, found `{text}`", words.join(", ")))
            }
        }
        Kind::List => {
            Ok(Value::List(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()))
        }
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
}
