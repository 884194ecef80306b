//! What the tenants' database can answer instead of a result.

use std::path::PathBuf;

use model::ids::{AppId, TopicName, TopicVersion};

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
    #[error("app {0} reads its own topics without a grant")]
    GrantToOwner(AppId),
    #[error("there are {limit} {what} already, no more are supported")]
    TooMany { what: &'static str, limit: usize },

    #[error("cannot use {location:?} as a database, expected a path or sqlite:PATH")]
    BadLocation { location: String },
    #[error("cannot open database file {path:?}")]
    Open {
        path: PathBuf,
        #[source]
        err: std::io::Error,
    },
    #[error("cannot bring the schema of {path:?} up to date (is it from a newer version?)")]
    Migrate {
        path: PathBuf,
        #[source]
        err: sqlx::migrate::MigrateError,
    },
    #[error("row in table {table} cannot be understood: {why}")]
    BadRow { table: &'static str, why: String },
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("database is busy: another process has been writing for too long")]
    Busy,
    #[error("database does not answer")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for AuthDbError {
    fn from(err: sqlx::Error) -> Self {
        // SQLITE_BUSY and SQLITE_LOCKED with their extended codes, whose low byte is the primary code.
        let code = err.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<u32>().ok());
        match code {
            Some(code) if matches!(code & 0xff, 5 | 6) => AuthDbError::Busy,
            _ => AuthDbError::Database(err),
        }
    }
}

/// Did the statement fail because the row is there already?
pub(crate) fn is_unique_violation(err: &sqlx::Error) -> bool {
    err.as_database_error().is_some_and(|e| e.is_unique_violation())
}
