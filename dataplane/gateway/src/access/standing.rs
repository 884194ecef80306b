//! Who asked for what, kept by requests that outlive the snapshot they were admitted under: waiting polls and open
//! batches. Every new snapshot asks them again, so that a revoked grant, secret, topic or app ends them.

use crate::access::{Grant, presented_secret};
use crate::exchange::conn::Conn;
use crate::refusal::Refusal;
use gafka_http::Head;
use model::{App, Denied, SecretHash, Side, Snapshot, authorize_publish, authorize_raw, authorize_subscribe};
use std::net::IpAddr;

/// The caller of an admitted request, and what it wants.
#[derive(Debug)]
pub struct Standing {
    app: Box<str>,
    address: IpAddr,
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
    /// Of a request that was granted something.
    ///
    /// # Panics
    /// When nothing was asked for: whoever has no credentials has no standing.
    pub fn of(conn: &Conn, head: &Head<'_>, grant: &Grant<'_>) -> Result<Standing, Refusal> {
        let (side, address) = (conn.side, conn.peer.ip());
        let (app, wanted) = match grant {
            Grant::Topic(permit) => {
                let topic = permit.topic();
                let (name, version) = (topic.name.as_str().into(), topic.ver.as_str().into());
                let wanted = match side {
                    Side::Publish => Wanted::Publish { topic: name, version },
                    Side::Subscribe => Wanted::Subscribe { owner: topic.owner.as_str().into(), topic: name, version },
                };
                (permit.app(), wanted)
            }
            Grant::Raw(permit) => {
                let (cluster, topic) = (permit.cluster().as_str().into(), permit.topic().as_str().into());
                (permit.app(), Wanted::Raw { cluster, topic })
            }
            Grant::Nothing | Grant::App(_) => unreachable!("only what was granted something stands"),
        };
        Ok(Standing { app: app.id.as_str().into(), address, secret: presented_secret(side, head)?, side, wanted })
    }

    /// The same under another snapshot, or why not any more.
    pub fn check<'s>(&self, snapshot: &'s Snapshot) -> Result<Grant<'s>, Denied> {
        let app = self.caller(snapshot)?;
        match &self.wanted {
            Wanted::Publish { topic, version } => authorize_publish(snapshot, app, topic, version).map(Grant::Topic),
            Wanted::Raw { cluster, topic } => authorize_raw(snapshot, app, cluster, topic).map(Grant::Raw),
            Wanted::Subscribe { owner, topic, version } => {
                authorize_subscribe(snapshot, app, owner, topic, version).map(Grant::Topic)
            }
        }
    }

    /// The app, if it is still who it was and enabled.
    fn caller<'s>(&self, snapshot: &'s Snapshot) -> Result<&'s App, Denied> {
        match snapshot.app(&self.app) {
            Some(app) if !app.secrets(self.side).verify(&self.secret) => Err(Denied::NotAuthenticated),
            Some(app) if !app.enabled => Err(Denied::AppDisabled { app: app.id.as_str().to_owned() }),
            Some(app) if !app.addresses.allow(self.address) => {
                Err(Denied::AddressNotAllowed { app: app.id.to_string(), address: self.address.to_canonical() })
            }
            Some(app) => Ok(app),
            None => Err(Denied::NotAuthenticated),
        }
    }
}
