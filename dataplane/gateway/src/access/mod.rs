//! Who is calling, and what they may: the snapshot in force and the credentials seen under it.

pub mod quota;
pub mod standing;

use crate::access::quota::Meters;
use crate::codes;
use crate::env::Env;
use crate::exchange::conn::Conn;
use crate::refusal::Refusal;
use gafka_http::Head;
use model::ids::PhysicalTopic;
use model::presented::{BasicBuffer, Presented};
use model::quota::{Measure, ShardQuotas, Subject};
use model::{
    App, CredentialCache, Denied, Full, Permit, RawPermit, SecretHash, Side, Snapshot, Topic, authenticate_cached,
    authorize_publish, authorize_raw, authorize_subscribe,
};
use std::borrow::Cow;
use std::cell::{Ref, RefCell};
use std::sync::Arc;

/// What an endpoint asks a caller to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Nothing: health, preflight.
    Nothing,
    /// To publish to an app's own topic: names are topic and version.
    Publish,
    /// To publish to a topic by its name in Kafka: names are cluster and topic.
    Raw,
    /// To read a topic: names are owner, topic and version.
    Subscribe,
    /// To be an app, whatever it may.
    App,
}

/// The proof.
pub enum Grant<'s> {
    Nothing,
    Topic(Permit<'s>),
    Raw(RawPermit<'s>),
    App(&'s App),
}

/// One per shard.
pub struct Access {
    snapshot: RefCell<Arc<Snapshot>>,
    credentials: RefCell<CredentialCache>,
    pub quotas: ShardQuotas,
}

impl Access {
    /// `shard_count`: how many share this node's limits.
    pub fn new(snapshot: Arc<Snapshot>, shard_count: usize) -> Access {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&runtime::clock::seed().to_ne_bytes());
        key[8..].copy_from_slice(&runtime::clock::seed().to_ne_bytes());
        let credentials = RefCell::new(CredentialCache::new(key));
        Access { snapshot: RefCell::new(snapshot), credentials, quotas: ShardQuotas::new(shard_count) }
    }

    /// The snapshot in force, for the length of one synchronous call: no shared counter is touched.
    pub fn borrow_snapshot(&self) -> Ref<'_, Arc<Snapshot>> {
        self.snapshot.borrow()
    }

    /// The snapshot in force, to keep.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Puts a snapshot in force; the one before.
    pub fn replace(&self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        self.quotas.forget();
        self.snapshot.replace(snapshot)
    }

    /// Who calls, and whether they may.
    pub fn authorize<'s>(
        &self,
        env: &Env,
        conn: &Conn,
        head: &Head<'_>,
        snapshot: &'s Snapshot,
        wants: Wants,
        names: &[Cow<'_, str>; 3],
    ) -> Result<Grant<'s>, Refusal> {
        let [first, second, third] = names;
        match wants {
            Wants::Nothing => Ok(Grant::Nothing),
            Wants::App => Ok(Grant::App(self.authenticate(env, conn, head, snapshot)?)),
            Wants::Publish => {
                let app = self.authenticate(env, conn, head, snapshot)?;
                Ok(Grant::Topic(authorize_publish(snapshot, app, first, second)?))
            }
            Wants::Raw => raw_permit(snapshot, self.authenticate(env, conn, head, snapshot)?, first, second),
            Wants::Subscribe => {
                let app = self.authenticate(env, conn, head, snapshot)?;
                Ok(Grant::Topic(authorize_subscribe(snapshot, app, first, second, third)?))
            }
        }
    }

    /// Who is calling, by header or Basic; failures are counted across shards.
    fn authenticate<'s>(
        &self,
        env: &Env,
        conn: &Conn,
        head: &Head<'_>,
        snapshot: &'s Snapshot,
    ) -> Result<&'s App, Refusal> {
        let mut buffer = BasicBuffer::default();
        let credentials = presented(conn.side, head).credentials(&mut buffer)?;
        let cache = &mut *self.credentials.borrow_mut();
        let now_s = env.board.nanos(env.now()) / 1_000_000_000;
        let app = authenticate_cached(snapshot, cache, &credentials, conn.side, now_s).map_err(|denied| {
            if !denied.is_failed_login() {
                return Refusal::from(denied);
            }
            let mut logins = env.board.ledger.lock_logins();
            Refusal::from(logins.failed(conn.peer.ip(), credentials.app, env.now()))
        })?;
        if !app.addresses.allow(conn.peer.ip()) {
            let address = conn.peer.ip().to_canonical();
            return Err(Denied::AddressNotAllowed { app: app.id.to_string(), address }.into());
        }
        count_for(env, conn, app)?;
        Ok(app)
    }

    fn meters_of(&self, env: &Env, app: &App, topic: Option<&Topic>) -> Meters {
        self.quotas.meters(&env.board.ledger.quotas, app, topic, env.board.nanos(env.now())).into()
    }

    /// What a request that was granted this draws from.
    pub fn meters(&self, env: &Env, grant: &Grant<'_>) -> Meters {
        match grant {
            Grant::Nothing | Grant::App(_) => Meters::default(),
            Grant::Topic(permit) => self.meters_of(env, permit.app(), Some(permit.topic())),
            Grant::Raw(permit) => self.meters_of(env, permit.app(), None),
        }
    }
}

/// Counts the connection for the app that uses it, once.
fn count_for(env: &Env, conn: &Conn, app: &App) -> Result<(), Refusal> {
    let counted = conn.app.get();
    if counted == Some(app.index) {
        return Ok(());
    }
    let limited = app
        .limits
        .get(Measure::Connections)
        .map(|_| env.board.ledger.quotas.meter(Subject::of_app(app), &app.limits, env.board.nanos(env.now())));
    let most = limited.as_ref().map(|meter| meter.connections_max());
    if let Err(Full { of_its_own }) = env.board.ledger.connections.try_add_below(app.index, most) {
        if let Some(meter) = limited.filter(|_| of_its_own) {
            return Err(quota::refuse(env, &meter.refuse_connection()).closing());
        }
        env.metrics.connections_full("connections_of_app");
        let message = format!("app {} has as many connections as it may; use those it has", app.id.as_str());
        return Err(Refusal::new(codes::TOO_MANY_CONNECTIONS, message).closing());
    }
    conn.app.set(Some(app.index));
    if let Some(other) = counted {
        env.board.ledger.connections.remove(&other);
    }
    Ok(())
}

/// The presented secret, for what outlives the request.
pub fn presented_secret(side: Side, head: &Head<'_>) -> Result<SecretHash, Refusal> {
    let mut buffer = BasicBuffer::default();
    Ok(SecretHash::of(presented(side, head).credentials(&mut buffer)?.key))
}

fn presented<'h>(side: Side, head: &Head<'h>) -> Presented<'h> {
    let key = match side {
        Side::Publish => head.known.pubkey,
        Side::Subscribe => head.known.subkey,
    };
    Presented::new(head.known.appid, key, head.known.authorization)
}

/// A name that Kafka takes for no topic is the request's mistake, whatever is granted.
fn raw_permit<'s>(snapshot: &'s Snapshot, app: &'s App, cluster: &str, topic: &str) -> Result<Grant<'s>, Refusal> {
    authorize_raw(snapshot, app, cluster, topic).map(Grant::Raw).map_err(|denied| match PhysicalTopic::new(topic) {
        Ok(_) => Refusal::from(denied),
        Err(err) => Refusal::new(codes::BAD_TOPIC_NAME, err.to_string()),
    })
}
