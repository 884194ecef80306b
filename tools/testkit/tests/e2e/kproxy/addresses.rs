//! Kafka's own message definitions, against what kproxy knows: a field that can carry an address, or a version, that is
//! new in Kafka must be looked at before clients get it.
//!
//! The definitions are in the jar of Kafka's client. `kproxy apis` prints what kproxy knows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::components;
use testkit::daemon::bin_path;
use testkit::process::{run, scratch_dir, tethered};

use crate::harness::same;

/// Every field with `Host` in its name in what clients say and hear, and why it needs nothing or who takes care of it.
const HOSTS: &[(&str, &str)] = &[
    ("AddRaftVoterRequest.Listeners.Host", "an operator says where a new controller is"),
    ("ConsumerGroupDescribeResponse.Groups.Members.ClientHost", "where a member connected from: the proxy"),
    ("CreateAclsRequest.Creations.Host", "an operator's rule about clients"),
    ("DeleteAclsRequest.Filters.HostFilter", "an operator's rule about clients"),
    ("DeleteAclsResponse.FilterResults.MatchingAcls.Host", "an operator's rule about clients"),
    ("DescribeAclsRequest.HostFilter", "an operator's rule about clients"),
    ("DescribeAclsResponse.Resources.Acls.Host", "an operator's rule about clients"),
    ("DescribeClusterResponse.Brokers.Host", "rewritten"),
    ("DescribeGroupsResponse.Groups.Members.ClientHost", "where a member connected from: the proxy"),
    ("DescribeQuorumResponse.Nodes.Listeners.Host", "rewritten"),
    ("FetchResponse.NodeEndpoints.Host", "hidden"),
    ("FindCoordinatorResponse.Coordinators.Host", "rewritten"),
    ("FindCoordinatorResponse.Host", "rewritten"),
    ("MetadataResponse.Brokers.Host", "rewritten"),
    ("ProduceResponse.NodeEndpoints.Host", "rewritten"),
    ("ShareAcknowledgeResponse.NodeEndpoints.Host", "rewritten"),
    ("ShareFetchResponse.NodeEndpoints.Host", "hidden"),
    ("ShareGroupDescribeResponse.Groups.Members.ClientHost", "where a member connected from: the proxy"),
    ("StreamsGroupDescribeResponse.Endpoint.Host", "an application's own endpoint, as it told it"),
    ("StreamsGroupDescribeResponse.Groups.Members.ClientHost", "where a member connected from: the proxy"),
    ("StreamsGroupHeartbeatRequest.Endpoint.Host", "an application's own endpoint"),
    ("StreamsGroupHeartbeatResponse.Endpoint.Host", "an application's own endpoint, as it told it"),
];

/// What one API of Kafka's clients looks like.
struct Api {
    key: u64,
    version_max: i16,
    /// `MetadataResponse.Brokers.Host`
    hosts: Vec<String>,
}

pub fn are_known() -> Result<()> {
    let apis = of_kafka()?;
    ensure!(apis.len() > 60, "only {} APIs were found", apis.len());
    let mut hosts: Vec<&str> = apis.values().flat_map(|api| &api.hosts).map(String::as_str).collect();
    hosts.sort_unstable();
    same("fields with a host", &hosts, &HOSTS.iter().map(|(field, _)| *field).collect())?;

    let known = of_kproxy()?;
    for (name, api) in &apis {
        let row = known.get(&api.key).with_context(|| format!("{name} ({}) is not on kproxy's list", api.key))?;
        same(name, &(&row.name, row.version_max), &(name, Some(api.version_max)))?;
        let handled = ["rewritten", "hidden"];
        let is_handled =
            HOSTS.iter().any(|(field, how)| api.hosts.iter().any(|host| host == field) && handled.contains(how));
        ensure!(!is_handled || !row.note.contains("unread"), "{name} carries addresses and is {}", row.note);
    }
    for (key, row) in known.iter().filter(|(_, row)| row.version_max.is_some()) {
        ensure!(apis.values().any(|api| api.key == *key), "{} is offered and no API of Kafka's brokers", row.name);
    }
    Ok(())
}

/// The APIs that brokers answer clients, by name, from the definitions in the jar.
fn of_kafka() -> Result<BTreeMap<String, Api>> {
    let kafka = components::ensure("kafka")?.join("files");
    let version = components::by_name("kafka")?.version;
    let dir = scratch_dir("messages")?;
    let mut command = tethered("jar");
    command.arg("xf").arg(kafka.join(format!("kafka-clients-{version}.jar"))).arg("common/message");
    command.current_dir(dir.path());
    run(command, Duration::from_secs(60))?;
    let mut requests = Vec::new();
    let mut responses = BTreeMap::new();
    for file in fs::read_dir(dir.path().join("common/message"))? {
        let file = file?.path();
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let message = definition(&file)?;
        match message["type"].as_str() {
            Some("request") => requests.push(message),
            Some("response") => drop(responses.insert(message["apiKey"].as_u64().context("a key")?, message)),
            _ => {}
        }
    }
    let listens_to_clients =
        |request: &&Value| request["listeners"].as_array().is_some_and(|on| on.contains(&"broker".into()));
    let apis = requests.iter().filter(listens_to_clients).filter(|request| request["validVersions"] != "none");
    apis.map(|request| {
        let key = request["apiKey"].as_u64().context("a key")?;
        let response = responses.get(&key).with_context(|| format!("no response {key}"))?;
        let name = request["name"].as_str().and_then(|name| name.strip_suffix("Request")).context("a name")?;
        let hosts = [request, response].into_iter().flat_map(hosts_of).collect();
        Ok((name.to_owned(), Api { key, version_max: newest(request)?, hosts }))
    })
    .collect()
}

/// JSON with comments.
fn definition(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path)?;
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let text: Vec<&str> = text.lines().filter(is_code).map(|line| line.split(" // ").next().unwrap_or(line)).collect();
    serde_json::from_str(&text.join("\n")).with_context(|| path.display().to_string())
}

fn newest(message: &Value) -> Result<i16> {
    let versions = message["validVersions"].as_str().context("versions")?;
    Ok(versions.rsplit('-').next().context("a last version")?.parse()?)
}

fn hosts_of(message: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let name = message["name"].as_str().unwrap_or_default();
    walk(&message["fields"], name, &mut found);
    for common in message["commonStructs"].as_array().into_iter().flatten() {
        walk(&common["fields"], &format!("{name}.{}", common["name"].as_str().unwrap_or_default()), &mut found);
    }
    found
}

fn walk(fields: &Value, path: &str, found: &mut Vec<String>) {
    for field in fields.as_array().into_iter().flatten() {
        let name = field["name"].as_str().unwrap_or_default();
        let path = format!("{path}.{name}");
        if ["Host", "Address", "Endpoint"].iter().any(|word| name.contains(word)) && field["type"] == "string" {
            found.push(path.clone());
        }
        walk(&field["fields"], &path, found);
    }
}

struct Row {
    name: String,
    version_max: Option<i16>,
    note: String,
}

/// `kproxy apis`: `| 3 | Metadata | 0–13 | addresses replaced |`
fn of_kproxy() -> Result<BTreeMap<u64, Row>> {
    let mut command = tethered(bin_path("kproxy")?);
    command.arg("apis");
    let page = String::from_utf8(run(command, Duration::from_secs(10))?)?;
    let rows = page.lines().skip(2).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [key, name, versions, note] = cells[..] else { anyhow::bail!("{line:?} is no row") };
        let version_max = versions.split_once('–').and_then(|(_, last)| last.parse().ok());
        Ok((key.parse()?, Row { name: name.to_owned(), version_max, note: note.to_owned() }))
    });
    rows.collect()
}
