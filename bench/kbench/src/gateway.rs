//! A gateway with tenants of the bench's own: apps and topics made through its manager, and what its metrics say.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::http::{self, Request};

use crate::process::{Process, TempDir, tethered};
use crate::publish::Sender;
use crate::servers::Server;

/// `kateway quickstart` with its three listeners.
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
    /// In front of a broker, on one CPU or on any.
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
        let sender = Sender {
            target: ready.text("pub")?,
            appid: ready.text("appid")?,
            pubkey: ready.text("pubkey")?,
            topic: ready.text("topic")?,
            ver: ready.text("ver")?,
            ack: "all".to_owned(),
        };
        let text = std::fs::read_to_string(&credentials).context("the gateway's credentials")?;
        let admin: Value = serde_json::from_str(&text).context("the gateway's credentials")?;
        Ok(Gateway {
            server: Server::gateway(process, kafka, cpu, sender),
            subscribe: ready.text("sub")?,
            manager: ready.text("man")?,
            admin_appid: text_of(&admin, "admin_appid")?,
            admin_key: text_of(&admin, "admin_key")?,
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

    pub fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics(http::call(&self.manager, &self.admin(Request::get("/metrics")))?.expect(200)?.text()))
    }
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
    }
}
