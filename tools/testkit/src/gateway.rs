//! A running `kateway` and the demo app it made: what a test needs to publish and subscribe as a user.

use std::ffi::OsString;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::daemon::Daemon;
use crate::http::{self, Request, Response};

/// `kateway quickstart` with its ready line taken apart. Derefs to the [`Daemon`].
#[derive(Debug)]
pub struct Quickstart {
    daemon: Daemon,
    pub publish: String,
    pub subscribe: String,
    pub manager: String,
    pub kafka: String,
    pub demo: Demo,
}

/// Who may publish and subscribe what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demo {
    pub appid: String,
    pub pubkey: String,
    pub subkey: String,
    pub topic: String,
    pub ver: String,
}

impl Quickstart {
    /// On free ports, with its data in `data_dir`, and more arguments (`["--bootstrap", "…"]`).
    pub fn start(data_dir: &Path, more: &[&str]) -> Result<Self> {
        let mut args: Vec<OsString> = vec!["quickstart".into(), "--json".into(), "--data-dir".into(), data_dir.into()];
        for listener in ["--pub", "--sub", "--man", "--kafka"] {
            if listener == "--kafka" && more.contains(&"--bootstrap") {
                continue;
            }
            args.extend([listener.into(), "127.0.0.1:0".into()]);
        }
        args.extend(more.iter().map(Into::into));
        let daemon = Daemon::start("kateway", args)?;
        Ok(Self {
            publish: daemon.field("pub")?,
            subscribe: daemon.field("sub")?,
            manager: daemon.field("man")?,
            kafka: daemon.field("kafka")?,
            demo: Demo {
                appid: daemon.field("appid")?,
                pubkey: daemon.field("pubkey")?,
                subkey: daemon.field("subkey")?,
                topic: daemon.field("topic")?,
                ver: daemon.field("ver")?,
            },
            daemon,
        })
    }

    /// Publishes to the demo topic on a connection of its own; `query` begins with `?` or is empty.
    pub fn post(&self, query: &str, body: impl Into<Vec<u8>>) -> Result<Response> {
        http::call(&self.publish, &self.demo.publish(query).body(body))
    }

    /// Polls the demo topic on a connection of its own; `query` begins with `&` or is empty.
    pub fn poll(&self, group: &str, query: &str) -> Result<Response> {
        http::call(&self.subscribe, &self.demo.poll(group, query))
    }

    /// Polls one at a time until `count` messages came, each within `each`.
    pub fn drain(&self, group: &str, count: usize, each: Duration) -> Result<Vec<Response>> {
        let mut connection = http::Connection::open(&self.subscribe)?;
        let request = self.demo.poll(group, &format!("&wait={}s", each.as_secs().max(1)));
        (0..count).map(|_| connection.call(&request)?.expect(200)).collect()
    }
}

impl Deref for Quickstart {
    type Target = Daemon;
    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Quickstart {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

impl Demo {
    /// The topic's name in Kafka (for versions below v10, which carry no checksum).
    pub fn physical_topic(&self) -> String {
        format!("{}.{}.{}", self.appid, self.topic, self.ver)
    }

    /// The group's name in Kafka.
    pub fn physical_group(&self, group: &str) -> String {
        format!("{}.{group}", self.appid)
    }

    /// A publish without body.
    pub fn publish(&self, query: &str) -> Request {
        Request::post(&format!("/v1/msgs/{}/{}{query}", self.topic, self.ver))
            .header("Appid", &*self.appid)
            .header("Pubkey", &*self.pubkey)
    }

    /// A poll of one's own topic.
    pub fn poll(&self, group: &str, query: &str) -> Request {
        Request::get(&format!("/v1/msgs/{}/{}/{}?group={group}{query}", self.appid, self.topic, self.ver))
            .header("Appid", &*self.appid)
            .header("Subkey", &*self.subkey)
    }
}
