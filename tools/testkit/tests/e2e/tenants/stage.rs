//! What the stories play on: a kateway and a kproxy on one data directory, before brokers where topics appear by being asked
//! for. Those who only use them share them; who freezes or kills one has a stage of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use kafka_protocol::messages::MetadataRequest;
use serde_json::Value;
use tempfile::TempDir;
use testkit::gateway::{Gateway, Tenant};
use testkit::http::{Request, Response, call};
use testkit::kafka::Cluster;
use testkit::process::scratch_dir;
use testkit::proxy::Kproxy;
use testkit::wait;

use crate::kproxy::wire::Wire;
use crate::serve::{config, table};
use crate::shared::{three_nodes, unique};

const IN_FORCE_WITHIN: Duration = Duration::from_secs(10);

/// Which of an app's secrets a session shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Publish,
    Subscribe,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Publish, Self::Subscribe];

    pub fn secret(self, tenant: &Tenant) -> &str {
        match self {
            Self::Publish => &tenant.pubkey,
            Self::Subscribe => &tenant.subkey,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }
}

/// Everything, in the order in which it ends.
pub struct Stage {
    pub kproxy: Kproxy,
    pub gateway: Gateway,
    bootstrap: String,
    pub data: PathBuf,
    _dir: TempDir,
}

static SHARED: Mutex<Option<Result<Arc<Stage>, String>>> = Mutex::new(None);

/// The shared one, before [`three_nodes`].
pub fn stage() -> Result<Arc<Stage>> {
    let mut slot = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || three_nodes().and_then(|kafka| Stage::start(&kafka, "")).map(Arc::new);
    slot.get_or_insert_with(|| start().map_err(|err| format!("{err:?}")))
        .clone()
        .map_err(|err| anyhow!("the shared kproxy for tenants: {err}"))
}

/// Stops it; `main` calls this at its end.
pub fn stop() {
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl Stage {
    /// `more` are further lines of kateway's configuration.
    pub fn start(kafka: &Cluster, more: &str) -> Result<Self> {
        Self::before(&kafka.bootstrap(), more)
    }

    /// Before whatever listens there.
    pub fn before(bootstrap: &str, more: &str) -> Result<Self> {
        let dir = scratch_dir("tenants")?;
        let data = dir.path().join("data");
        let file = config(dir.path(), "kateway", &data, &(table("main", bootstrap, "") + more))?;
        let gateway = Gateway::serve(&file, &data)?;
        let kproxy = proxy(bootstrap, &data, &[])?;
        Ok(Self { kproxy, gateway, bootstrap: bootstrap.to_owned(), data, _dir: dir })
    }

    /// One more proxy on the same directory.
    pub fn another(&self, more: &[&str]) -> Result<Kproxy> {
        proxy(&self.bootstrap, &self.data, more)
    }

    /// An app with topic `orders`, version 1, that kproxy has heard of.
    pub fn tenant(&self, what: &str) -> Result<Tenant> {
        self.tenant_called(&unique(what))
    }

    pub fn tenant_called(&self, appid: &str) -> Result<Tenant> {
        let tenant = self.gateway.new_tenant(appid, "main", 3)?;
        self.in_force(&tenant, 1)?;
        Ok(tenant)
    }

    /// A further topic of an app.
    pub fn topic(&self, owner: &Tenant, topic: &str, ver: &str, partitions: u32) -> Result<Topic> {
        let path = format!("/v1/topics/{}/{topic}/{ver}?partitions={partitions}", owner.appid);
        let made = self.manage(Request::post(&path))?;
        ensure!(made.status == 200 || made.status == 201, "{path}: {} {}", made.status, made.text());
        let made = made.json()?;
        let physical = made["physical"].as_str().with_context(|| format!("no physical in {made}"))?.to_owned();
        let tenant = Tenant { topic: topic.to_owned(), ver: ver.to_owned(), ..owner.clone() };
        Ok(Topic { own: tenant.own_topic(), others: format!("{}.{topic}.{ver}", owner.appid), physical, tenant })
    }

    /// Lets an app read a topic of another.
    pub fn grant(&self, to: &Tenant, topic: &Topic) -> Result<()> {
        let of = &topic.tenant;
        self.gateway.admin(&["grant", "subscribe", &to.appid, &of.appid, &of.topic, &of.ver]).map(drop)
    }

    /// Waits until kproxy shows an app so many topics.
    pub fn in_force(&self, tenant: &Tenant, topics: usize) -> Result<()> {
        wait::until("kproxy to know the app", IN_FORCE_WITHIN, || {
            let all = MetadataRequest::default().with_topics(None);
            let found = self.wire(tenant, Side::Subscribe)?.ask(4, &all)?.topics.len();
            ensure!(found == topics, "{found} topics");
            Ok(())
        })
    }

    /// A socket that has logged in at the bootstrap port.
    pub fn wire(&self, tenant: &Tenant, side: Side) -> Result<Wire> {
        logged_in(&self.kproxy.bootstrap, &tenant.appid, side.secret(tenant))
    }

    /// The same at a broker's port.
    pub fn wire_to(&self, node: i32, tenant: &Tenant, side: Side) -> Result<Wire> {
        logged_in(&self.kproxy.node(node, 1)?, &tenant.appid, side.secret(tenant))
    }

    /// Asks the manager as admin.
    pub fn manage(&self, request: Request) -> Result<Response> {
        let credentials = self.gateway.credentials()?;
        let text = |name: &str| credentials[name].as_str().map(str::to_owned).with_context(|| name.to_owned());
        let request = request.header("Appid", text("admin_appid")?).header("Pubkey", text("admin_key")?);
        call(&self.gateway.manager, &request)
    }

    pub fn new_secret(&self, tenant: &Tenant, side: Side) -> Result<String> {
        let answer: Value = self.gateway.admin(&["secret", "rotate", &tenant.appid, side.name()])?;
        answer["secret"].as_str().map(str::to_owned).with_context(|| format!("no secret in {answer}"))
    }
}

fn proxy(bootstrap: &str, data: &std::path::Path, more: &[&str]) -> Result<Kproxy> {
    let data = data.display().to_string();
    let flags = ["--node-id-base", "1", "--range-width", "8", "--tenants-data-dir", &data];
    Kproxy::start(bootstrap, &[&flags, more].concat())
}

/// A topic beside an app's first.
#[derive(Clone, Debug)]
pub struct Topic {
    /// What its owner calls it.
    pub own: String,
    /// What others call it.
    pub others: String,
    /// What Kafka calls it.
    pub physical: String,
    /// Its owner, for REST.
    pub tenant: Tenant,
}

/// A socket that has logged in; the error has the sentence it was refused with.
pub fn logged_in(address: &str, app: &str, secret: &str) -> Result<Wire> {
    let mut wire = Wire::connect(address)?;
    let answer = wire.log_in(app, secret)?;
    let why = answer.error_message.map(|why| why.to_string()).unwrap_or_default();
    ensure!(answer.error_code == 0, "{}: {why}", answer.error_code);
    Ok(wire)
}
