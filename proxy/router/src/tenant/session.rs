//! A logged-in client: which app it is, under which snapshot, and what it has been given that may be taken from it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::sasl::Login;
use model::tenant::{Access, Tenant};
use model::{AppId, Denied, Side, Snapshot, Topic};

use crate::tenant::rules::Need;

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    #[error("{0}")]
    Denied(Denied),
    /// A broker keeps what was asked for in a fetch session, so it would go on sending it.
    #[error("topic {0} may not be read any more")]
    Revoked(Arc<str>),
    #[error("{0}")]
    Stranger(String),
    #[error("this session is app {was}'s, with the secret it was opened with; app {is} needs a connection of its own")]
    Other { was: AppId, is: AppId },
}

/// One per connection that has logged in.
#[derive(Debug)]
pub struct Session {
    login: Login,
    address: IpAddr,
    cluster: Arc<str>,
    snapshot: Arc<Snapshot>,
    /// Topics that this connection has fetched, as the client calls them, and whether they have limits of their own.
    fetched: BTreeMap<Arc<str>, bool>,
    /// The last group it joined is one of consumers.
    pub is_consumer: bool,
}

impl Session {
    /// Of a client that has proved who it is; it may be unwelcome all the same.
    pub fn begin(login: Login, address: IpAddr, cluster: Arc<str>, snapshot: Arc<Snapshot>) -> Result<Session, Over> {
        login.check(&snapshot, address).map_err(Over::Denied)?;
        let session = Session { login, address, cluster, snapshot, fetched: BTreeMap::new(), is_consumer: false };
        match session.tenant().stranger() {
            Some(why) => Err(Over::Stranger(why)),
            None => Ok(session),
        }
    }

    pub fn login(&self) -> &Login {
        &self.login
    }

    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Goes on under another snapshot, or ends.
    pub fn renew(&mut self, snapshot: Arc<Snapshot>) -> Result<(), Over> {
        self.login.check(&snapshot, self.address).map_err(Over::Denied)?;
        self.snapshot = snapshot;
        let tenant = self.tenant();
        let mut fetched = self.fetched.clone();
        for (name, has_limits) in &mut fetched {
            match tenant.topic(name, Access::Read) {
                Ok(topic) => *has_limits = topic.limits.has_rates(),
                Err(_) => return Err(Over::Revoked(Arc::clone(name))),
            }
        }
        self.fetched = fetched;
        Ok(())
    }

    /// The client has proved anew who it is.
    pub fn login_again(&mut self, login: Login) -> Result<(), Over> {
        if !login.may_follow(&self.login) {
            return Err(Over::Other { was: self.login.app().clone(), is: login.app().clone() });
        }
        login.check(&self.snapshot, self.address).map_err(Over::Denied)?;
        self.login = login;
        Ok(())
    }

    pub fn tenant(&self) -> Tenant<'_> {
        let app = self.snapshot.app(self.login.app().as_str()).expect("checked under this snapshot");
        Tenant { snapshot: &self.snapshot, app, side: self.login.side(), cluster: &self.cluster }
    }

    /// Whether the secret it showed is good for this.
    pub fn has(&self, need: Need) -> bool {
        match need {
            Need::Any => true,
            Need::Publish => self.login.side() == Side::Publish,
            Need::Subscribe => self.login.side() == Side::Subscribe,
        }
    }

    /// It gets records of these from now on.
    pub fn remember_fetched(&mut self, topics: Vec<(Arc<str>, bool)>) {
        self.fetched.extend(topics);
    }

    pub fn has_fetched(&self, name: &str) -> bool {
        self.fetched.contains_key(name)
    }

    /// Topics it fetches that have limits of their own.
    pub fn limited(&self) -> impl Iterator<Item = &Topic> {
        let tenant = self.tenant();
        self.fetched
            .iter()
            .filter(|(_, has_limits)| **has_limits)
            .filter_map(move |(name, _)| tenant.topic(name, Access::Read).ok())
    }
}
