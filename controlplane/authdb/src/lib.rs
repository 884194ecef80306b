//! The tenants' database: who exists, with which secrets, topics and grants, and who changed what.
//!
//! [`AuthDb`] is what agents, managers and tools ask, an operation each. [`SqliteAuthDb`] keeps it in one file, for the
//! processes of one machine; everything that is only of SQLite (paths, the SQL, its codes) is in [`sqlite`]. Another
//! database is another folder beside it, a line in [`at`], and the tests in `tests/conformance/`, which all of them pass.
//!
//! ```text
//! agent ──generation, load_changes, load──► AuthDb ◄──acting(somebody), changes, lists── manager
//! ```
//! What is the same in every database is here: what goes in and comes out ([`apps`], [`topics`], [`admin`], [`principals`],
//! [`audit`]), and
//! what a process remembers to tell a restored backup ([`history`]).

mod admin;
mod apps;
mod audit;
mod error;
mod history;
pub mod limits;
mod principals;
mod sqlite;
mod topics;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use model::doc::{ChangesDoc, GrantDoc, SnapshotDoc, TopicDoc};
use model::ids::{AppId, ClusterName, Generation, PrincipalName, TopicName, TopicVersion};
use model::principals::Visible;
use model::quota::Measure;
use model::secrets::{PlainSecret, SecretHash};
use model::{Addresses, ReportedEvent, Side};
use serde_json::Value;

pub use admin::Admin;
pub use apps::{AppInfo, AppUpdate, CreatedApp, NewApp, Retired, Rotation, SecretInfo};
pub use audit::{Actor, AuditFilter, AuditRow, Outcome};
pub use error::AuthDbError;
pub use principals::{AppLogin, NewPrincipal, Principal, PrincipalLogin, PrincipalUpdate, TokenKey};
pub use sqlite::SqliteAuthDb;
pub use topics::{NewTopic, TopicRow, TopicState, TopicUpdate};

/// What a call of [`AuthDb`] returns: boxed, so that the trait can be an object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, AuthDbError>> + Send + 'a>>;

/// What to do about a database that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Create,
    IsAnError,
}

/// The database at a path or `sqlite:PATH`, opened when it is first asked for something. Fails only if `location` is no
/// location.
pub fn at(location: &str, missing: Missing) -> Result<Arc<dyn AuthDb>, AuthDbError> {
    Ok(Arc::new(SqliteAuthDb::at(location, missing)?))
}

/// As [`at`], made if there is none, and open.
pub async fn open(location: &str) -> Result<Arc<dyn AuthDb>, AuthDbError> {
    Ok(Arc::new(SqliteAuthDb::open(location).await?))
}

/// The tenants, an operation each.
///
/// **A change** is one transaction: its rows, its generation, the apps that it touched and its row in the audit log,
/// together or not at all. Changes are serial, whichever processes make them: each decides on what all before it left.
/// One that changes what a snapshot shows takes the next generation, never more than one; the others say below that they
/// are unseen. Where an answer says that there was nothing to do, and after an error, nothing was changed and the
/// generation stands. A call that is dropped on its way is done as a whole or not at all, and before the next change,
/// which it does not hold up.
///
/// **A read** sees every change that was answered before it began, through whichever handle, and nothing of one that is
/// under way. Each is of one moment. [`AuthDb::load`] says more.
///
/// **Repeating** is harmless unless a call says otherwise: what is there already is an error or an answer of its own
/// kind, and what is gone is `false` or `None`.
///
/// **Errors** that the caller can mend are named below; any call may fail with one of the second group of
/// [`AuthDbError`], too: busy, full, away, damaged. A handle outlives them: the next call tries again.
///
/// Calls are made in a tokio runtime.
pub trait AuthDb: Send + Sync {
    /// This database for somebody: what is changed through the handle is written down as theirs. Without it, it is the
    /// process itself ([`Actor::default`]).
    fn acting(&self, actor: Actor) -> Arc<dyn AuthDb>;

    /// What an earlier process has seen of this database: its snapshot on disk. A database found older than that was
    /// restored from a backup, and goes on in a new history.
    fn has_seen(&self, generation: Generation);

    /// Ends its connections after the statements in flight, for all handles of this one. A later call opens new ones.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// What moves with every change. Cheap enough to ask five times a second.
    ///
    /// Never goes back within a history. Found older than it was seen (restored), it begins a new history, which is a
    /// change of no rows: two generations are equal only if everything that a snapshot shows is.
    fn generation(&self) -> Answer<'_, Generation>;

    /// Everything that a snapshot shows, at one generation: all changes up to it, no other.
    ///
    /// Isolation: all of it is read in one read-only transaction under snapshot isolation (what PostgreSQL and InnoDB
    /// call repeatable read; SQLite's read transactions have it). Read committed is too little: each of the statements
    /// would see another moment, and a generation that is in force with rows of the one before would say that a
    /// revocation is done which is not. Serializable adds nothing for who only reads, as changes are serial among
    /// themselves. It waits for no change, and no change waits for it.
    fn load(&self) -> Answer<'_, SnapshotDoc>;

    /// What is needed to get from `since` to the generation of now: the apps that changes touched, whole. `None`: too
    /// much, or nobody knows any more (another history, too long ago); then [`AuthDb::load`] has all.
    ///
    /// Isolation: as [`AuthDb::load`]. Applied to the snapshot of `since` it makes the one that `load` would make.
    fn load_changes(&self, since: Generation) -> Answer<'_, Option<ChangesDoc>>;

    /// Adds what the document has, with its hashes and numbers, as one change; the generation of it. The document's own
    /// is not taken over. What it names must not be there yet: otherwise it is an error, and nothing is added.
    fn import<'a>(&'a self, doc: &'a SnapshotDoc) -> Answer<'a, Generation>;

    /// [`AuthDbError::AppExists`]; [`AuthDbError::AppReserved`] unless [`NewApp::reuse`]; [`AuthDbError::TooMany`]. A
    /// number is never given to a second app.
    fn create_app(&self, new: NewApp) -> Answer<'_, CreatedApp>;

    /// A page of those that are visible: by id, those behind one, whether or not it is there any more, and at most so many.
    /// Of pages one after the other no row comes twice, and none that stays is missed; so for all lists.
    fn list_apps<'a>(
        &'a self,
        visible: &'a Visible,
        after: Option<&'a AppId>,
        rows_max: usize,
    ) -> Answer<'a, Vec<AppInfo>>;

    /// [`AuthDbError::NoSuchApp`].
    fn get_app<'a>(&'a self, id: &'a AppId) -> Answer<'a, AppInfo>;

    /// The app as it is now. Topics stay where they are: the cluster is the one for topics to come.
    /// [`AuthDbError::NoSuchApp`]. Takes a generation even if nothing is different.
    fn update_app<'a>(&'a self, id: &'a AppId, update: AppUpdate) -> Answer<'a, AppInfo>;

    /// Sets these limits, and leaves the others; 0: no limit. The app as it is now. Takes no generation if nothing is
    /// different. [`AuthDbError::NoSuchApp`].
    fn limit_app<'a>(&'a self, id: &'a AppId, limits: &'a [(Measure, u64)]) -> Answer<'a, AppInfo>;

    /// From where the app may be used from now on. Takes no generation if nothing is different.
    /// [`AuthDbError::NoSuchApp`].
    fn set_addresses<'a>(&'a self, id: &'a AppId, addresses: &'a Addresses) -> Answer<'a, AppInfo>;

    /// With its secrets and all grants to it and on it, in one step. Not while it owns topics, which would be nobody's
    /// ([`AuthDbError::AppHasTopics`]), unless `cascade` takes their registration along. Its id stays reserved: an app of
    /// the same name would own what this one leaves in Kafka. `None`: there was no such app; otherwise the topics that
    /// went along.
    fn delete_app<'a>(&'a self, id: &'a AppId, cascade: bool) -> Answer<'a, Option<Vec<TopicRow>>>;

    /// What a deleted app of this id left behind; `None`: there never was one, or its id was given out again.
    fn retired_app<'a>(&'a self, id: &'a AppId) -> Answer<'a, Option<Retired>>;

    /// Makes a new secret, the chosen one or a random one; which others live on is said by `how`.
    /// [`AuthDbError::NoSuchApp`], [`AuthDbError::TwoSecretsLive`]. Not to be repeated blindly: each time is a rotation.
    fn rotate_secret<'a>(
        &'a self,
        id: &'a AppId,
        side: Side,
        chosen: Option<PlainSecret>,
        how: Rotation,
    ) -> Answer<'a, PlainSecret>;

    /// Replaces all secrets of an app, for whoever lost them and may write the database. [`AuthDbError::NoSuchApp`].
    fn reset_secrets<'a>(
        &'a self,
        id: &'a AppId,
        publish: &'a PlainSecret,
        subscribe: &'a PlainSecret,
    ) -> Answer<'a, ()>;

    /// Ends a rotation: only the current secret works from now on. `false`: no previous one was live.
    /// [`AuthDbError::NoSuchApp`].
    fn revoke_previous<'a>(&'a self, id: &'a AppId, side: Side) -> Answer<'a, bool>;

    /// Writes down that a topic is to be made: `creating`. Unseen. One that is creating already takes the new values and
    /// goes on, under another number. [`AuthDbError::TopicExists`]; [`AuthDbError::TopicBusy`] while it is deleting;
    /// [`AuthDbError::NoSuchApp`]; [`AuthDbError::TooMany`].
    fn begin_topic(&self, new: NewTopic) -> Answer<'_, TopicRow>;

    /// Kafka has said that no topic of this name is there, and is about to be told to make it. Unseen.
    fn topic_is_free<'a>(&'a self, topic: &'a TopicDoc) -> Answer<'a, ()>;

    /// Kafka has it: clients may come. `false`: the row is not creating any more. The numbers are Kafka's.
    fn activate_topic<'a>(
        &'a self,
        topic: &'a TopicDoc,
        partitions: Option<u32>,
        replicas: Option<u32>,
    ) -> Answer<'a, bool>;

    /// Takes back [`AuthDb::begin_topic`]: nothing was made. Unseen; nothing happens to one that is not creating.
    fn abandon_topic<'a>(&'a self, topic: &'a TopicDoc) -> Answer<'a, ()>;

    /// A topic that Kafka has, begun and activated at once: for a demo, an import and tests. Two changes, of which the
    /// first is unseen and can be repeated.
    fn create_topic(&self, new: NewTopic) -> Answer<'_, TopicDoc> {
        Box::pin(async move {
            let (partitions, replicas) = (new.partitions, new.replicas);
            let row = self.begin_topic(new).await?;
            self.activate_topic(&row.doc, partitions, replicas).await?;
            Ok(row.doc)
        })
    }

    /// Topic versions of a cluster whose names could be taken for this one's where `.` and `_` are the same: the caller
    /// compares the names that Kafka has.
    fn similar_topics<'a>(
        &'a self,
        cluster: &'a ClusterName,
        owner: &'a AppId,
        name: &'a TopicName,
        ver: &'a TopicVersion,
    ) -> Answer<'a, Vec<TopicRow>>;

    /// What a process that died, or a Kafka that was away, left creating or deleting.
    fn unfinished_topics(&self) -> Answer<'_, Vec<TopicRow>>;

    /// A page of those of visible apps, by owner, name and version (v2 before v10); of one owner, if one is given.
    fn list_topics<'a>(
        &'a self,
        owner: Option<&'a AppId>,
        visible: &'a Visible,
        after: Option<(&'a AppId, &'a TopicName, &'a TopicVersion)>,
        rows_max: usize,
    ) -> Answer<'a, Vec<TopicRow>>;

    /// [`AuthDbError::NoSuchApp`], [`AuthDbError::NoSuchTopic`], [`AuthDbError::NoSuchVersion`].
    fn get_topic<'a>(&'a self, owner: &'a AppId, name: &'a TopicName, ver: &'a TopicVersion) -> Answer<'a, TopicRow>;

    /// The row as it is now. Errors of [`AuthDb::get_topic`]; [`AuthDbError::TopicBusy`] while it is creating or
    /// deleting. Takes no generation if nothing is different.
    fn update_topic<'a>(
        &'a self,
        owner: &'a AppId,
        name: &'a TopicName,
        ver: &'a TopicVersion,
        update: TopicUpdate,
    ) -> Answer<'a, TopicRow>;

    /// As [`AuthDb::limit_app`]. Errors of [`AuthDb::update_topic`].
    fn limit_topic<'a>(
        &'a self,
        owner: &'a AppId,
        name: &'a TopicName,
        ver: &'a TopicVersion,
        limits: &'a [(Measure, u64)],
    ) -> Answer<'a, TopicRow>;

    /// From now on no client finds it; Kafka has still to be told.
    fn begin_delete_topic<'a>(&'a self, topic: &'a TopicDoc) -> Answer<'a, ()>;

    /// With the grants on this version; with those on every version too when it was the last one, so that a later
    /// topic of the same name starts without readers. `data_is_gone`: Kafka has it no more; otherwise it is noted as
    /// left behind. `false`: there was no such version.
    fn delete_topic<'a>(
        &'a self,
        owner: &'a AppId,
        name: &'a TopicName,
        ver: &'a TopicVersion,
        data_is_gone: bool,
    ) -> Answer<'a, bool>;

    /// `false`: it was granted already. A topic must exist to be granted: a typing mistake would never be noticed.
    /// Errors of [`AuthDb::get_topic`]; [`AuthDbError::GrantToOwner`]; [`AuthDbError::TooMany`].
    fn grant<'a>(&'a self, grant: &'a GrantDoc) -> Answer<'a, bool>;

    /// Takes back exactly this grant: revoking one version does not touch a grant for every version. `false`: there
    /// was none.
    fn revoke<'a>(&'a self, grant: &'a GrantDoc) -> Answer<'a, bool>;

    /// A page, subscribe grants first, then by grantee and what it may; of one app, if one is given. A grant is visible if
    /// who was granted is, or whose topic it is.
    fn list_grants<'a>(
        &'a self,
        app: Option<&'a AppId>,
        visible: &'a Visible,
        after: Option<&'a GrantDoc>,
        rows_max: usize,
    ) -> Answer<'a, Vec<GrantDoc>>;

    fn admin(&self) -> Answer<'_, Option<Admin>>;

    /// Makes the account unless there is one; its key (the chosen one or a random one), to be shown once. `None`: the
    /// account exists, made earlier or by another process this very moment.
    fn create_admin<'a>(&'a self, appid: &'a AppId, chosen: Option<PlainSecret>) -> Answer<'a, Option<PlainSecret>>;

    /// Replaces the account, for an operator who lost the key and may write the database.
    fn reset_admin<'a>(&'a self, appid: &'a AppId, key: &'a PlainSecret) -> Answer<'a, ()>;

    /// Is this the admin? Constant time in the key.
    fn is_admin<'a>(&'a self, appid: &'a str, key: &'a [u8]) -> Answer<'a, bool> {
        Box::pin(async move {
            let presented = SecretHash::of(key);
            let admin = self.admin().await?;
            Ok(admin.is_some_and(|admin| admin.key.matches(&presented) && admin.appid == appid))
        })
    }

    /// A principal with its key, to be shown once. Unseen, as every change of principals. [`AuthDbError::NameTaken`] by an
    /// app, the admin, or another one; no app and no admin gets its name from then on. [`AuthDbError::BadPrincipal`];
    /// [`AuthDbError::NoSuchApp`]; [`AuthDbError::TooMany`].
    fn create_principal(&self, new: NewPrincipal) -> Answer<'_, (Principal, PlainSecret)>;

    /// By name.
    fn list_principals(&self) -> Answer<'_, Vec<Principal>>;

    /// [`AuthDbError::NoSuchPrincipal`].
    fn get_principal<'a>(&'a self, name: &'a PrincipalName) -> Answer<'a, Principal>;

    /// The principal as it is now; another stamp. Apps that a new role has no use for are taken away.
    /// [`AuthDbError::NoSuchPrincipal`], [`AuthDbError::BadPrincipal`], [`AuthDbError::NoSuchApp`].
    fn update_principal<'a>(&'a self, name: &'a PrincipalName, update: PrincipalUpdate) -> Answer<'a, Principal>;

    /// The new key, to be shown once; the one so far opens nothing any more. Another stamp.
    /// [`AuthDbError::NoSuchPrincipal`]. Not to be repeated blindly.
    fn rotate_principal_key<'a>(&'a self, name: &'a PrincipalName) -> Answer<'a, PlainSecret>;

    /// `false`: there was none.
    fn delete_principal<'a>(&'a self, name: &'a PrincipalName) -> Answer<'a, bool>;

    /// What somebody who says that this is their name has to prove; `None`: no principal has this name. An app that was
    /// deleted is nobody's, also when it is made again.
    fn principal_login<'a>(&'a self, name: &'a str) -> Answer<'a, Option<PrincipalLogin>>;

    /// As [`AuthDb::principal_login`], of an app and its secrets for publishing.
    fn app_login<'a>(&'a self, id: &'a str) -> Answer<'a, Option<AppLogin>>;

    /// What tokens are signed with, the same for all processes; `None`: none was given out yet.
    fn token_key(&self) -> Answer<'_, Option<TokenKey>>;

    /// Writes down that this handle's actor gets a token of this id, and says what to sign it with: the key is made with
    /// the first token. Unseen; a row each time.
    fn begin_token<'a>(&'a self, jti: &'a str, expires_at_ms: i64) -> Answer<'a, TokenKey>;

    /// Another key from now on, so that all tokens given out so far are void. Unseen.
    fn renew_token_key(&self) -> Answer<'_, ()>;

    /// Rows of the audit log about visible apps, the newest first, at most `rows_max`. What is about no app is seen by who
    /// sees all of them.
    fn audit<'a>(&'a self, filter: &'a AuditFilter, visible: &'a Visible, rows_max: usize)
    -> Answer<'a, Vec<AuditRow>>;

    /// Rows of the audit log behind this number, whomever they are about, the oldest first, at most `rows_max`. Changes
    /// being serial, no row comes later with a number below one that was read; in another history numbers come again.
    fn audit_after(&self, num: u64, rows_max: usize) -> Answer<'_, Vec<AuditRow>>;

    /// Writes down what this handle's actor did elsewhere: to nodes, about this app or (empty) none. Unseen; a row each time.
    fn record<'a>(
        &'a self,
        operation: &'static str,
        app: &'a str,
        subject: &'a str,
        before: Value,
        after: Value,
    ) -> Answer<'a, ()>;

    /// Writes down what happened at nodes and is no change of a tenant, in this order, under the time when it happened.
    /// Unseen. Repeating is harmless: an event that has a row, by its id, is passed over. How many had none. Rows are of
    /// whom the events are about, whoever the actor of this handle is.
    fn record_events<'a>(&'a self, events: &'a [ReportedEvent]) -> Answer<'a, usize>;

    /// Writes down that this handle's actor was refused something, about this app or (empty) none. Unseen; a row each
    /// time.
    fn record_denial<'a>(&'a self, operation: &'a str, app: &'a str, subject: &'a str) -> Answer<'a, ()>;
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn random<const N: usize>() -> Result<[u8; N], AuthDbError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(AuthDbError::Random)?;
    Ok(bytes)
}
