//! Who asked for what, kept by requests that outlive the snapshot they were admitted under: waiting polls and open
//! batches. Every new snapshot asks them again, so that a revoked grant, secret, topic or app ends them.

use crate::conn::Conn;
use crate::destination::Destination;
use crate::reply::Failure;
use crate::shard::Shard;
use gafka_http::Head;
use model::{
    App, Denied, Permit, RawPermit, SecretHash, Side, Snapshot, authorize_publish, authorize_raw, authorize_subscribe,
};

/// The caller of an admitted request, and what it wants.
#[derive(Debug)]
pub struct Standing {
    app: Box<str>,
    secret: SecretHash,
    side: Side,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    Publish { topic: Box<str>, version: Box<str> },
    Raw { cluster: Box<str>, topic: Box<str> },
    Subscribe { owner: Box<str>, topic: Box<str>, version: Box<str> },
}

impl Standing {
    /// Of a publish to an app's own topic, or a poll.
    pub fn of(shard: &Shard, conn: &Conn, head: &Head<'_>, permit: &Permit<'_>) -> Result<Standing, Failure> {
        let topic = permit.topic();
        let (name, version) = (topic.name.as_str().into(), topic.ver.as_str().into());
        let wanted = match conn.side {
            Side::Publish => Wanted::Publish { topic: name, version },
            Side::Subscribe => Wanted::Subscribe { owner: topic.owner.as_str().into(), topic: name, version },
        };
        Standing::new(shard, conn, head, permit.app(), wanted)
    }

    /// Of a publish to a topic by its name in Kafka.
    pub fn of_raw(shard: &Shard, conn: &Conn, head: &Head<'_>, permit: &RawPermit<'_>) -> Result<Standing, Failure> {
        let wanted = Wanted::Raw { cluster: permit.cluster().as_str().into(), topic: permit.topic().as_str().into() };
        Standing::new(shard, conn, head, permit.app(), wanted)
    }

    fn new(shard: &Shard, conn: &Conn, head: &Head<'_>, app: &App, wanted: Wanted) -> Result<Standing, Failure> {
        let secret = shard.with_credentials(conn, head, |credentials| SecretHash::of(credentials.key))?;
        Ok(Standing { app: app.id.as_str().into(), secret, side: conn.side, wanted })
    }

    /// Whether a poll may go on under this snapshot.
    pub fn check_poll(&self, snapshot: &Snapshot) -> Result<(), Denied> {
        let app = self.caller(snapshot)?;
        match &self.wanted {
            Wanted::Subscribe { owner, topic, version } => {
                authorize_subscribe(snapshot, app, owner, topic, version).map(|_| ())
            }
            Wanted::Publish { .. } | Wanted::Raw { .. } => unreachable!("polls subscribe: {self:?}"),
        }
    }

    /// Where the records of a batch may go under the snapshot in force.
    pub fn destination(&self, shard: &Shard) -> Result<Destination, Failure> {
        let snapshot = shard.borrow_snapshot();
        let denied = |denied: Denied| Failure::from_denied(&denied);
        let app = self.caller(&snapshot).map_err(denied)?;
        match &self.wanted {
            Wanted::Publish { topic, version } => {
                shard.destination(&authorize_publish(&snapshot, app, topic, version).map_err(denied)?)
            }
            Wanted::Raw { cluster, topic } => {
                shard.raw_destination(&authorize_raw(&snapshot, app, cluster, topic).map_err(denied)?)
            }
            Wanted::Subscribe { .. } => unreachable!("batches publish: {self:?}"),
        }
    }

    /// The app, if it is still who it was and enabled.
    fn caller<'s>(&self, snapshot: &'s Snapshot) -> Result<&'s App, Denied> {
        match snapshot.app(&self.app) {
            Some(app) if !app.secrets(self.side).verify(&self.secret) => Err(Denied::NotAuthenticated),
            Some(app) if !app.enabled => Err(Denied::AppDisabled { app: app.id.as_str().to_owned() }),
            Some(app) => Ok(app),
            None => Err(Denied::NotAuthenticated),
        }
    }
}
