//! A running `kateway` and what a test needs to publish, subscribe and manage as a user.

use std::ffi::OsString;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::daemon::{Daemon, bin_path};
use crate::http::{self, Request, Response};
use crate::limits::CLIENT_WITHIN;
use crate::login::Login;
use crate::process::{run, tethered};
use crate::wait;

/// A gateway with its three listeners. Derefs to the [`Daemon`].
#[derive(Debug)]
pub struct Gateway {
    daemon: Daemon,
    pub publish: String,
    pub subscribe: String,
    pub manager: String,
    data_dir: PathBuf,
}

/// `kateway quickstart` and the demo app it made. Derefs to the [`Gateway`].
#[derive(Debug)]
pub struct Quickstart {
    gateway: Gateway,
    pub kafka: String,
    pub demo: Tenant,
}

/// Who may publish and subscribe what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub appid: String,
    pub pubkey: String,
    pub subkey: String,
    pub topic: String,
    pub ver: String,
}

impl Gateway {
    /// `kateway serve --config F`, where the file says `data_dir`.
    pub fn serve(config: &Path, data_dir: &Path) -> Result<Self> {
        let args: [OsString; 4] = ["serve".into(), "--json".into(), "--config".into(), config.into()];
        Self::from_daemon(Daemon::start("kateway", args)?, data_dir)
    }

    fn from_daemon(daemon: Daemon, data_dir: &Path) -> Result<Self> {
        Ok(Self {
            publish: daemon.field("pub")?,
            subscribe: daemon.field("sub")?,
            manager: daemon.field("man")?,
            data_dir: data_dir.to_owned(),
            daemon,
        })
    }

    /// `D/credentials.json`.
    pub fn credentials(&self) -> Result<Value> {
        let path = self.credentials_path();
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }

    pub fn credentials_path(&self) -> PathBuf {
        self.data_dir.join("credentials.json")
    }

    /// `kateway admin WORDS -o json`; the error carries what it said.
    pub fn admin(&self, words: &[&str]) -> Result<Value> {
        let mut command = tethered(bin_path("kateway")?);
        command.args(["admin", "-o", "json", "--yes", "--manager", &self.manager, "--credentials"]);
        command.arg(self.credentials_path()).args(words);
        let output = run(command, CLIENT_WITHIN)?;
        serde_json::from_slice(&output).with_context(|| String::from_utf8_lossy(&output).into_owned())
    }

    /// Makes an app with one topic on a cluster, and waits until the gateway accepts its messages.
    pub fn new_tenant(&self, appid: &str, cluster: &str, partitions: u32) -> Result<Tenant> {
        let app = self.admin(&["app", "create", appid, "--cluster", cluster])?;
        let secret = |name: &str| app[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {app}"));
        let tenant = Tenant {
            appid: appid.to_owned(),
            pubkey: secret("pubkey")?,
            subkey: secret("subkey")?,
            topic: "orders".to_owned(),
            ver: "v1".to_owned(),
        };
        self.admin(&["topic", "create", appid, "orders", "v1", "--partitions", &partitions.to_string()])?;
        Ok(tenant)
    }

    /// Publishes on a connection of its own; `query` begins with `?` or is empty.
    pub fn post(&self, tenant: &Tenant, query: &str, body: impl Into<Vec<u8>>) -> Result<Response> {
        http::call(&self.publish, &tenant.publish(query).body(body))
    }

    /// Polls on a connection of its own; `query` begins with `&` or is empty.
    pub fn poll(&self, tenant: &Tenant, group: &str, query: &str) -> Result<Response> {
        http::call(&self.subscribe, &tenant.poll(group, query))
    }

    /// Polls, one message a request, until each of `values` came; others on the topic are passed over. Yields the
    /// responses in the order they came.
    pub fn poll_for(&self, tenant: &Tenant, group: &str, values: &[&str], within: Duration) -> Result<Vec<Response>> {
        let mut connection = http::Connection::open(&self.subscribe)?;
        let request = tenant.poll(group, "&wait=1s");
        let mut found: Vec<Response> = Vec::new();
        wait::until(&format!("polls of {values:?}"), within, || {
            while found.len() < values.len() {
                let response = connection.call(&request)?;
                if response.status == 204 {
                    anyhow::bail!("{} of {} came", found.len(), values.len());
                }
                let response = response.expect(200)?;
                if values.contains(&response.text().as_str()) {
                    found.push(response);
                }
            }
            Ok(())
        })?;
        Ok(found)
    }
}

impl Quickstart {
    /// On free ports, with its data in `data_dir`, and more arguments (`["--bootstrap", "…"]`).
    pub fn start(data_dir: &Path, more: &[&str]) -> Result<Self> {
        Self::start_with(data_dir, more, &[])
    }

    /// The same with environment variables.
    pub fn start_with(data_dir: &Path, more: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        let mut args: Vec<OsString> = vec!["quickstart".into(), "--json".into(), "--data-dir".into(), data_dir.into()];
        for listener in ["--pub", "--sub", "--man", "--kafka"] {
            let given = more.contains(&listener) || (listener == "--kafka" && more.contains(&"--bootstrap"));
            if !given {
                args.extend([listener.into(), "127.0.0.1:0".into()]);
            }
        }
        args.extend(more.iter().map(Into::into));
        let gateway = Gateway::from_daemon(Daemon::start_with("kateway", &args, env)?, data_dir)?;
        Ok(Self {
            kafka: gateway.field("kafka")?,
            demo: Tenant {
                appid: gateway.field("appid")?,
                pubkey: gateway.field("pubkey")?,
                subkey: gateway.field("subkey")?,
                topic: gateway.field("topic")?,
                ver: gateway.field("ver")?,
            },
            gateway,
        })
    }
}

impl Deref for Gateway {
    type Target = Daemon;
    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

impl Deref for Quickstart {
    type Target = Gateway;
    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}

impl DerefMut for Quickstart {
    fn deref_mut(&mut self) -> &mut Gateway {
        &mut self.gateway
    }
}

impl Tenant {
    /// The topic's name in Kafka (for versions below v10, which carry no checksum).
    pub fn physical_topic(&self) -> String {
        format!("{}.{}.{}", self.appid, self.topic, self.ver)
    }

    /// The group's name in Kafka.
    pub fn physical_group(&self, group: &str) -> String {
        format!("{}.{group}", self.appid)
    }

    /// How its Kafka clients log in at kproxy.
    pub fn login(&self, mechanism: &'static str) -> Login {
        let (user, publish, subscribe) = (self.appid.clone(), self.pubkey.clone(), self.subkey.clone());
        Login { user, publish, subscribe, mechanism }
    }

    /// What its Kafka clients call its topic.
    pub fn own_topic(&self) -> String {
        format!("{}.{}", self.topic, self.ver)
    }

    /// A publish without body.
    pub fn publish(&self, query: &str) -> Request {
        Request::post(&format!("/v1/msgs/{}/{}{query}", self.topic, self.ver))
            .header("Appid", &*self.appid)
            .header("Pubkey", &*self.pubkey)
    }

    /// What became of a message that was answered 202.
    pub fn receipt(&self, id: &str) -> Request {
        Request::get(&format!("/v1/receipts/{id}")).header("Appid", &*self.appid).header("Pubkey", &*self.pubkey)
    }

    /// A batch without body; its framing is the caller's to name.
    pub fn publish_batch(&self, query: &str) -> Request {
        Request::post(&format!("/v1/msgs/{}/{}/batch{query}", self.topic, self.ver))
            .header("Appid", &*self.appid)
            .header("Pubkey", &*self.pubkey)
    }

    /// A poll of one's own topic.
    pub fn poll(&self, group: &str, query: &str) -> Request {
        self.poll_of(self, group, query)
    }

    /// A poll of somebody else's topic.
    pub fn poll_of(&self, owner: &Tenant, group: &str, query: &str) -> Request {
        Request::get(&format!("/v1/msgs/{}/{}/{}?group={group}{query}", owner.appid, owner.topic, owner.ver))
            .header("Appid", &*self.appid)
            .header("Subkey", &*self.subkey)
    }
}
