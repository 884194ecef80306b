//! What the tenants' database can answer instead of a result.

use model::Side;
use model::ids::{AppId, TopicName, TopicVersion};

use crate::topics::TopicState;

/// Names that one sentence shows.
const SHOWN_MAX: usize = 5;

fn left(topics: &[String]) -> String {
    match topics.len() {
        0 => "its consumer groups may be there".to_owned(),
        n if n > SHOWN_MAX => format!("topics {} and {} more", topics[..SHOWN_MAX].join(", "), n - SHOWN_MAX),
        _ => format!("topics {}", topics.join(", ")),
    }
}

/// What the database, the operating system or a library said.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The first group is the caller's to mend, the second one the operator's.
#[derive(Debug, thiserror::Error)]
pub enum AuthDbError {
    #[error("there is no app {0}")]
    NoSuchApp(AppId),
    #[error("app {0} exists already")]
    AppExists(AppId),
    #[error("app {app} still owns {topics} topic versions, delete them first")]
    AppHasTopics { app: AppId, topics: u64 },
    #[error("app {owner} has no topic {name}")]
    NoSuchTopic { owner: AppId, name: TopicName },
    #[error("topic {name} of app {owner} has no version {ver}")]
    NoSuchVersion { owner: AppId, name: TopicName, ver: TopicVersion },
    #[error("topic {owner}/{name}/{ver} exists already")]
    TopicExists { owner: AppId, name: TopicName, ver: TopicVersion },
    #[error("topic {owner}/{name}/{ver} is {} right now, that has to end first", state.as_str())]
    TopicBusy { owner: AppId, name: TopicName, ver: TopicVersion, state: TopicState },
    #[error("app {app} was deleted and left things in Kafka that a new app of this name would own: {}", left(topics))]
    AppReserved { app: AppId, topics: Vec<String> },
    #[error("two {} secrets of app {app} are live already", side.as_str())]
    TwoSecretsLive { app: AppId, side: Side },
    #[error("app {0} reads its own topics without a grant")]
    GrantToOwner(AppId),
    #[error("there are {limit} {what} already, no more are supported")]
    TooMany { what: &'static str, limit: usize },

    #[error("cannot use {location:?} as a database, expected a path or sqlite:PATH")]
    BadLocation { location: String },
    #[error("cannot open database {database}")]
    Open {
        database: String,
        #[source]
        err: Cause,
    },
    #[error("cannot bring the schema of {database} up to date (is it from a newer version?)")]
    Migrate {
        database: String,
        #[source]
        err: Cause,
    },
    #[error("row in table {table} cannot be understood: {why}")]
    BadRow { table: &'static str, why: String },
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("database is busy: another process has been writing for too long")]
    Busy,
    #[error("the disk of the database is full")]
    DiskFull,
    #[error("the database cannot be written: its file or file system is read-only")]
    ReadOnly,
    #[error("database does not answer")]
    Database(#[source] Cause),
}
