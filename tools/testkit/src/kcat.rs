//! kcat, the command-line client on librdkafka: what people paste from our banner.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::components;
use crate::limits::CLIENT_WITHIN;
use crate::login::At;
use crate::process::{run, scratch_dir, tethered};
use crate::record::Record;

/// Reads a topic from its beginning to its present end. Values and keys must be text: kcat prints JSON.
pub fn read<'a>(at: impl Into<At<'a>>, topic: &str) -> Result<Vec<Record>> {
    let (mut command, _settings) = kcat(at.into(), Secret::Subscribe)?;
    command.args(["-C", "-J", "-q", "-e", "-o", "beginning", "-X", "socket.timeout.ms=10000"]);
    command.args(["-t", topic]);
    let output = run(command, CLIENT_WITHIN)?;
    String::from_utf8(output)?.lines().map(parse).collect()
}

/// Produces one message with a key and headers.
pub fn produce<'a>(at: impl Into<At<'a>>, topic: &str, record: &Record) -> Result<()> {
    let dir = scratch_dir("kcat")?;
    let file = dir.path().join("value");
    fs::write(&file, record.value.as_deref().unwrap_or_default())?;
    let (mut command, _settings) = kcat(at.into(), Secret::Publish)?;
    command.args(["-P", "-t", topic]);
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
pub fn metadata<'a>(at: impl Into<At<'a>>) -> Result<Value> {
    let (mut command, _settings) = kcat(at.into(), Secret::Subscribe)?;
    command.args(["-L", "-J"]);
    Ok(serde_json::from_slice(&run(command, CLIENT_WITHIN)?)?)
}

enum Secret {
    Publish,
    Subscribe,
}

/// kcat with its broker; a login is in a settings file, which has to live as long as it.
fn kcat(at: At<'_>, secret: Secret) -> Result<(Command, Option<TempDir>)> {
    let mut command = tethered(components::ensure("kcat")?);
    command.args(["-b", at.bootstrap]);
    let Some(login) = at.login else { return Ok((command, None)) };
    let password = match secret {
        Secret::Publish => &login.publish,
        Secret::Subscribe => &login.subscribe,
    };
    let dir = scratch_dir("kcat-settings")?;
    let file = dir.path().join("kcat.conf");
    let (mechanism, user) = (login.mechanism, &login.user);
    let lines = [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", mechanism), ("sasl.username", user)];
    let lines = lines.into_iter().chain([("sasl.password", password.as_str())]);
    fs::write(&file, lines.map(|(name, value)| format!("{name}={value}\n")).collect::<String>())?;
    command.arg("-F").arg(file);
    Ok((command, Some(dir)))
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
