//! Apps and their secrets.
//!
//! A secret leaves the database in plain exactly once, in the answer to the call that made it.

use model::ids::{AppId, ClusterName};
use model::quota::Limits;
use model::scram::ScramParams;
use model::secrets::{PlainSecret, StoredSecret};
use model::{Addresses, Side};

use crate::{AuthDbError, random};

/// An app to be made.
#[derive(Debug, Clone)]
pub struct NewApp {
    pub id: AppId,
    /// Where its topics are made unless a topic says otherwise.
    pub cluster: ClusterName,
    /// Secrets that somebody wrote down already (quickstart, before it makes the app); `None`: random ones.
    pub publish: Option<PlainSecret>,
    pub subscribe: Option<PlainSecret>,
    /// Although an app of this id was deleted and left things in Kafka, which the new one will own.
    pub reuse: bool,
}

/// A new app with its secrets, to be shown once.
#[derive(Debug, Clone)]
pub struct CreatedApp {
    pub app: AppInfo,
    pub publish: PlainSecret,
    pub subscribe: PlainSecret,
}

/// What may be shown of an app at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppInfo {
    pub index: u32,
    pub id: AppId,
    pub cluster: ClusterName,
    pub enabled: bool,
    pub created_at_ms: i64,
    pub limits: Limits,
    /// From where it may be used.
    pub addresses: Addresses,
    /// May gateways keep what it publishes while Kafka is away?
    pub handoff: bool,
    /// Those that work, of each side the older one first.
    pub secrets: Vec<SecretInfo>,
}

impl AppInfo {
    /// Sides of which two secrets work.
    pub fn rotating(&self) -> Vec<Side> {
        let count = |side| self.secrets.iter().filter(|secret| secret.side == side).count();
        [Side::Publish, Side::Subscribe].into_iter().filter(|side| count(*side) > 1).collect()
    }
}

/// What may be shown of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretInfo {
    pub side: Side,
    /// The older of two: what clients had before the rotation.
    pub is_previous: bool,
    pub created_at_ms: i64,
}

/// Which secrets live after a rotation beside the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    /// The one so far; not while two live, of which one would die that somebody may be using.
    #[default]
    Ordinary,
    /// The older one: the younger dies, whose answer was lost, say.
    ReplaceYounger,
    /// The younger one: the older dies.
    ReplaceOlder,
}

impl Rotation {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Rotation::Ordinary => "ordinary",
            Rotation::ReplaceYounger => "younger replaced",
            Rotation::ReplaceOlder => "older replaced",
        }
    }
}

/// What an app of this id left behind when it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    pub retired_at_ms: i64,
    /// Kafka topics with their messages, by cluster.
    pub topics: Vec<(ClusterName, String)>,
}

/// What to change; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct AppUpdate {
    pub cluster: Option<ClusterName>,
    pub enabled: Option<bool>,
    pub handoff: Option<bool>,
}

pub(crate) fn random_secret() -> Result<PlainSecret, AuthDbError> {
    Ok(PlainSecret::generate(random()?))
}

/// Ten milliseconds of computing, on a thread that nobody waits on for anything else.
pub(crate) async fn derive(plain: &PlainSecret, params: &ScramParams) -> StoredSecret {
    let (plain, params) = (plain.clone(), params.clone());
    tokio::task::spawn_blocking(move || StoredSecret::derive(&plain, &params)).await.expect("derive does not panic")
}
