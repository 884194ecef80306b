//! A Kafka record as the clients of other languages report it: one JSON object per line, bytes in hex.
//!
//! ```text
//! {"partition":0,"offset":7,"timestamp":1700000000000,"key":"6b","value":null,"headers":[["tag","61"]]}
//! ```

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    pub fn with_value(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), partition: -1, ..Self::default() }
    }

    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.as_bytes().to_vec());
        self
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), Some(value.as_bytes().to_vec())));
        self
    }

    pub fn text(&self) -> String {
        self.value.as_deref().map_or_else(|| "(null)".into(), |value| String::from_utf8_lossy(value).into_owned())
    }

    pub fn to_json(&self) -> Value {
        let headers: Vec<Value> =
            self.headers.iter().map(|(name, value)| json!([name, value.as_deref().map(to_hex)])).collect();
        json!({
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": self.timestamp_ms,
            "key": self.key.as_deref().map(to_hex),
            "value": self.value.as_deref().map(to_hex),
            "headers": headers,
        })
    }

    pub fn from_json(value: &Value) -> Result<Self> {
        let number = |name: &str| value[name].as_i64().with_context(|| format!("no {name} in {value}"));
        let headers = value["headers"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(Self {
            partition: i32::try_from(number("partition")?)?,
            offset: number("offset")?,
            timestamp_ms: number("timestamp")?,
            key: bytes(&value["key"])?,
            value: bytes(&value["value"])?,
            headers: headers
                .iter()
                .map(|pair| Ok((pair[0].as_str().context("a header's name")?.to_owned(), bytes(&pair[1])?)))
                .collect::<Result<_>>()?,
        })
    }
}

/// One record per line of a client's output.
pub fn parse_lines(output: &[u8]) -> Result<Vec<Record>> {
    let lines = std::str::from_utf8(output).context("a client's output")?.lines();
    lines.map(|line| Record::from_json(&serde_json::from_str(line).with_context(|| line.to_owned())?)).collect()
}

/// What a client is given to produce.
pub fn to_lines(records: &[Record]) -> String {
    records.iter().map(|record| format!("{}\n", record.to_json())).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    crate::cache::hex(bytes)
}

fn bytes(value: &Value) -> Result<Option<Vec<u8>>> {
    match value {
        Value::Null => Ok(None),
        Value::String(hex) => from_hex(hex).map(Some),
        other => bail!("expected hex, got {other}"),
    }
}

fn from_hex(hex: &str) -> Result<Vec<u8>> {
    let digits = hex.as_bytes();
    if !digits.len().is_multiple_of(2) {
        bail!("{} hex digits", digits.len());
    }
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair)?, 16).with_context(|| format!("hex {pair:?}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_trip_through_another_language() {
        let mut record = Record::with_value([0, 255, 10]).key("k").header("tag", "a").header("tag", "b");
        record.headers.push(("null".into(), None));
        let empty = Record { value: Some(Vec::new()), ..Record::default() };
        let null = Record::default();
        let all = vec![record, empty, null];
        assert_eq!(parse_lines(to_lines(&all).as_bytes()).unwrap(), all);
    }

    #[test]
    fn damaged_lines_are_errors() {
        for line in ["{}", "x", r#"{"partition":0,"offset":0,"timestamp":0,"value":"abc"}"#] {
            assert!(parse_lines(line.as_bytes()).is_err(), "{line}");
        }
    }
}
