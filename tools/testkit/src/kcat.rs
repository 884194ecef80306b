//! kcat, the command-line client on librdkafka: what people paste from our banner.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::components;
use crate::limits::CLIENT_WITHIN;
use crate::process::{run, scratch_dir, tethered};
use crate::record::Record;

/// Reads a topic from its beginning to its present end. Values and keys must be text: kcat prints JSON.
pub fn read(bootstrap: &str, topic: &str) -> Result<Vec<Record>> {
    let mut command = tethered(components::ensure("kcat")?);
    command.args(["-C", "-J", "-q", "-e", "-o", "beginning", "-X", "socket.timeout.ms=10000"]);
    command.args(["-b", bootstrap, "-t", topic]);
    let output = run(command, CLIENT_WITHIN)?;
    String::from_utf8(output)?.lines().map(parse).collect()
}

/// Produces one message with a key and headers.
pub fn produce(bootstrap: &str, topic: &str, record: &Record) -> Result<()> {
    let dir = scratch_dir("kcat")?;
    let file = dir.path().join("value");
    fs::write(&file, record.value.as_deref().unwrap_or_default())?;
    let mut command = tethered(components::ensure("kcat")?);
    command.args(["-P", "-b", bootstrap, "-t", topic]);
    if let Some(key) = &record.key {
        command.args(["-k", std::str::from_utf8(key)?]);
    }
    for (name, value) in &record.headers {
        let value = std::str::from_utf8(value.as_deref().unwrap_or_default())?;
        command.args(["-H", &format!("{name}={value}")]);
    }
    command.arg(file);
    run(command, CLIENT_WITHIN).map(drop)
}

/// `kcat -L` as JSON.
pub fn metadata(bootstrap: &str) -> Result<Value> {
    let mut command = tethered(components::ensure("kcat")?);
    command.args(["-L", "-J", "-b", bootstrap]);
    Ok(serde_json::from_slice(&run(command, CLIENT_WITHIN)?)?)
}

/// kcat's envelope: headers are a flat array `[name, value, name, value]`.
fn parse(line: &str) -> Result<Record> {
    let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let text = |name: &str| value[name].as_str().map(|text| text.as_bytes().to_vec());
    let number = |name: &str| value[name].as_i64().with_context(|| format!("no {name} in {line}"));
    let flat = value["headers"].as_array().map_or(&[][..], Vec::as_slice);
    let headers = flat.chunks(2).map(|pair| {
        let name = pair[0].as_str().context("a header's name")?;
        let value = pair.get(1).and_then(Value::as_str).map(|text| text.as_bytes().to_vec());
        Ok((name.to_owned(), value))
    });
    Ok(Record {
        partition: i32::try_from(number("partition")?)?,
        offset: number("offset")?,
        timestamp_ms: number("ts")?,
        key: text("key"),
        value: text("payload"),
        headers: headers.collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_of_kcat_is_read() {
        let line = r#"{"topic":"t","partition":2,"offset":5,"tstype":"create","ts":9,"broker":1,"headers":["tag","a"],"key":null,"payload":"hi"}"#;
        let record = parse(line).unwrap();
        assert_eq!((record.partition, record.offset, record.text().as_str()), (2, 5, "hi"));
        assert_eq!(record.headers, [("tag".to_owned(), Some(b"a".to_vec()))]);
        assert_eq!(record.key, None);
    }
}
