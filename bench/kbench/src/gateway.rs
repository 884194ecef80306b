//! A gateway with tenants of the bench's own: apps and topics made through its manager, and what its metrics say.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::http::{self, Request};

use crate::process::{Process, TempDir, tethered};
use crate::publish::Sender;
use crate::servers::Server;

/// `kateway` with its three listeners.
pub struct Gateway {
    pub server: Server,
    /// `http://host:port`, as the others.
    pub subscribe: String,
    manager: String,
    admin_appid: String,
    admin_key: String,
}

/// Who publishes and polls.
#[derive(Debug, Clone)]
pub struct App {
    pub appid: String,
    pub pubkey: String,
    pub subkey: String,
}

/// Of all topics here.
const VER: &str = "v1";

impl Gateway {
    /// In front of a broker, on one CPU or on any, as `kateway quickstart`: with the demo's app and topic.
    pub fn start(kateway: &Path, kafka: &str, shards: usize, cpu: Option<usize>) -> Result<Gateway> {
        let data_dir = TempDir::new()?;
        let credentials = data_dir.path.join("credentials.json");
        let mut command = tethered(cpu, kateway)?;
        command.args(["quickstart", "--json", "--shards", &shards.to_string(), "--bootstrap", kafka]);
        for listener in ["--pub", "--sub", "--man", "--kafka"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        command.arg("--data-dir").arg(&data_dir.path);
        let (process, ready) = Process::start(command, "the gateway", Some(data_dir))?;
        let (admin_appid, admin_key) = admin_of(&credentials)?;
        let sender = Sender {
            target: ready.text("pub")?,
            appid: ready.text("appid")?,
            pubkey: ready.text("pubkey")?,
            topic: ready.text("topic")?,
            ver: ready.text("ver")?,
            ack: "all".to_owned(),
        };
        Ok(Gateway {
            server: Server::gateway(process, kafka, cpu, sender),
            subscribe: ready.text("sub")?,
            manager: ready.text("man")?,
            admin_appid,
            admin_key,
        })
    }

    /// `kateway serve` with one shard and further tables of its configuration. It has no app and no topic yet: nothing can be
    /// sent before [`Server::publish_to`].
    pub fn serve(kateway: &Path, kafka: &str, cpu: usize, data_dir: TempDir, tables: &str) -> Result<Gateway> {
        let (data, config) = (data_dir.path.join("data"), data_dir.path.join("kateway.toml"));
        let mut text = format!("data_dir = {:?}\n[listen]\n", data.display().to_string());
        for listener in ["pub", "sub", "man"] {
            let _ = writeln!(text, "{listener} = \"127.0.0.1:0\"");
        }
        // Pinned from outside, with all of its threads.
        let _ = writeln!(text, "[shards]\ncount = 1\npin = false\n[log]\nlevel = \"error\"");
        let _ = writeln!(text, "[clusters.main]\nbootstrap = [{kafka:?}]\n{tables}");
        std::fs::create_dir(&data)?;
        std::fs::write(&config, text)?;
        let mut command = tethered(Some(cpu), kateway)?;
        command.args(["serve", "--json", "--config"]).arg(&config);
        let (process, ready) = Process::start(command, "the gateway", Some(data_dir))?;
        let (admin_appid, admin_key) = admin_of(&data.join("credentials.json"))?;
        let sender = Sender { target: ready.text("pub")?, ack: "all".to_owned(), ..Sender::default() };
        Ok(Gateway {
            server: Server::gateway(process, kafka, Some(cpu), sender),
            subscribe: ready.text("sub")?,
            manager: ready.text("man")?,
            admin_appid,
            admin_key,
        })
    }

    pub fn new_app(&self, appid: &str) -> Result<App> {
        let request = self.admin(Request::post("/v1/apps").json(&serde_json::json!({ "appid": appid })));
        let made = http::call(&self.manager, &request)?.expect(201)?.json()?;
        Ok(App { appid: appid.to_owned(), pubkey: text_of(&made, "pubkey")?, subkey: text_of(&made, "subkey")? })
    }

    /// A topic of this app's own, which keeps about so many bytes in each partition, or all; of whatever age.
    pub fn new_topic(&self, app: &App, topic: &str, partitions: usize, retention_bytes: Option<u64>) -> Result<()> {
        let bytes = retention_bytes.map_or("-1".to_owned(), |bytes| bytes.to_string());
        let query = format!("partitions={partitions}&retention.hours=-1&retention.bytes={bytes}");
        let request = self.admin(Request::post(&format!("/v1/topics/{}/{topic}/{VER}?{query}", app.appid)));
        http::call(&self.manager, &request)?.expect(200)?;
        Ok(())
    }

    fn admin(&self, request: Request) -> Request {
        request.header("Appid", self.admin_appid.as_str()).header("Pubkey", self.admin_key.as_str())
    }

    /// To one of these topics.
    pub fn sender(&self, app: &App, topic: &str) -> Sender {
        Sender {
            appid: app.appid.clone(),
            pubkey: app.pubkey.clone(),
            topic: topic.to_owned(),
            ver: VER.to_owned(),
            ..self.server.sender.clone()
        }
    }

    /// A whole request for one message of one of these topics.
    pub fn poll(&self, app: &App, topic: &str, group: &str, wait_ms: u64) -> String {
        let App { appid, subkey, .. } = app;
        let host = self.subscribe.trim_start_matches("http://");
        format!(
            "GET /v1/msgs/{appid}/{topic}/{VER}?group={group}&wait={wait_ms}ms HTTP/1.1\r\nHost: {host}\r\nAppid: \
             {appid}\r\nSubkey: {subkey}\r\n\r\n"
        )
    }

    /// What it keeps of publishes that Kafka could not take.
    pub fn kept(&self) -> Result<Kept> {
        let answer = http::call(&self.manager, &self.admin(Request::get("/v1/handoff")))?.expect(200)?.json()?;
        Kept::of(&answer)
    }

    pub fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics(http::call(&self.manager, &self.admin(Request::get("/metrics")))?.expect(200)?.text()))
    }
}

/// What a gateway's journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub records: u64,
    pub bytes: u64,
    pub budget_bytes: u64,
    pub free_bytes: u64,
    /// Of messages that cannot be delivered.
    pub parked: u64,
    /// That are not served straight away.
    pub partitions: usize,
}

impl Kept {
    /// From the answer about a fleet of one.
    fn of(answer: &Value) -> Result<Kept> {
        let node = &answer["nodes"][0];
        let number = |name: &str| node[name].as_u64().with_context(|| format!("/v1/handoff tells no {name}: {answer}"));
        let partitions =
            node["domains"].as_array().with_context(|| format!("/v1/handoff tells no domains: {answer}"))?;
        Ok(Kept {
            records: number("records")?,
            bytes: number("bytes")?,
            budget_bytes: number("budget_bytes")?,
            free_bytes: number("free_bytes")?,
            parked: number("parked")?,
            partitions: partitions.len(),
        })
    }

    /// Everything is with Kafka, and goes there.
    pub fn is_over(&self) -> bool {
        self.records == 0 && self.partitions == 0
    }
}

/// Name and key of the administrator.
fn admin_of(credentials: &Path) -> Result<(String, String)> {
    let text = std::fs::read_to_string(credentials).context("the gateway's credentials")?;
    let admin: Value = serde_json::from_str(&text).context("the gateway's credentials")?;
    Ok((text_of(&admin, "admin_appid")?, text_of(&admin, "admin_key")?))
}

fn text_of(value: &Value, name: &str) -> Result<String> {
    Ok(value[name].as_str().with_context(|| format!("the gateway tells no {name}"))?.to_owned())
}

/// Prometheus text.
pub struct Metrics(String);

impl Metrics {
    /// All values of a metric together; one that nobody has is an error.
    pub fn sum(&self, name: &str) -> Result<f64> {
        let values: Vec<f64> = self.values(name).map(|(_, value)| value).collect();
        ensure!(!values.is_empty(), "the gateway has no metric {name}");
        Ok(values.iter().sum())
    }

    /// The one value with such labels.
    pub fn one(&self, name: &str, labels: &str) -> Result<f64> {
        let found = self.values(name).find(|(found, _)| *found == labels);
        found.map(|(_, value)| value).with_context(|| format!("the gateway has no metric {name}{labels}"))
    }

    /// Requests that were answered with an error.
    pub fn refused(&self) -> f64 {
        let is_error = |labels: &str| [r#"status="4"#, r#"status="5"#].iter().any(|status| labels.contains(status));
        self.values("gateway_requests_total").filter(|(labels, _)| is_error(labels)).map(|(_, value)| value).sum()
    }

    fn values<'m>(&'m self, name: &str) -> impl Iterator<Item = (&'m str, f64)> {
        self.0.lines().filter_map(move |line| {
            let (series, value) = line.rsplit_once(' ')?;
            let labels = series.strip_prefix(name)?;
            let whole = labels.is_empty() || labels.starts_with('{');
            Some((labels, value.parse().ok()?)).filter(|_| whole)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_added_up_over_their_labels() {
        let metrics = Metrics(
            "# HELP gateway_connections Open client connections.\n# TYPE gateway_connections gauge\n\
             gateway_connections 12\ngateway_connections_total{listener=\"publish\"} 99\n\
             gateway_requests_total{endpoint=\"poll\",status=\"204\"} 7\n\
             gateway_requests_total{endpoint=\"poll\",status=\"503\"} 2\n\
             gateway_requests_total{endpoint=\"publish\",status=\"429\"} 1\n"
                .to_owned(),
        );
        assert_eq!(metrics.sum("gateway_connections").ok(), Some(12.0));
        assert_eq!(metrics.sum("gateway_requests_total").ok(), Some(10.0));
        assert_eq!(metrics.refused(), 3.0);
        assert!(metrics.sum("gateway_connect").is_err());
        let polled = r#"{endpoint="poll",status="503"}"#;
        assert_eq!(metrics.one("gateway_requests_total", polled).ok(), Some(2.0));
        assert!(metrics.one("gateway_requests_total", "").is_err());
    }

    #[test]
    fn what_a_gateway_keeps_is_read_from_its_one_node_and_left_out_figures_are_no_zeros() {
        let answer = serde_json::json!({"unreachable": [], "nodes": [{"node": "5f", "enabled": true, "records": 12,
            "bytes": 640, "domains": [{"partition": 3}], "device": "direct", "disk_bytes": 9, "budget_bytes": 1000,
            "free_bytes": 2000, "parked": 2}]});
        let kept = Kept::of(&answer).expect("all of it");
        let expected = Kept { records: 12, bytes: 640, budget_bytes: 1000, free_bytes: 2000, parked: 2, partitions: 1 };
        assert_eq!(kept, expected);
        assert!(!kept.is_over() && Kept { records: 0, partitions: 0, ..kept }.is_over());
        assert!(!Kept { records: 0, ..kept }.is_over() && !Kept { partitions: 0, ..kept }.is_over());
        let mut less = answer.clone();
        less["nodes"][0].as_object_mut().expect("an object").remove("parked");
        assert!(Kept::of(&less).is_err() && Kept::of(&serde_json::json!({"nodes": []})).is_err());
    }
}
