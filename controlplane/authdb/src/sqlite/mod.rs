//! Tenants in one file, through sqlx. Every query text of the project is here.
//!
//! Several processes of one machine may have the file open: the journal is a WAL, so readers never wait, and writers wait
//! for each other at most [`limits::BUSY_TIMEOUT`]. Changes are serial because each takes the write lock first.
//!
//! Every change bumps the generation's number in its own transaction, and only if it changed something; agents poll it
//! and load what changed when it moved. Numbers mean nothing across a restored backup, so a database that is found older
//! than it was seen, or in a file that took another one's place, begins a new history: [`crate::history`].
//!
//! A file per kind of row: [`apps`] (with secrets), [`topics`], [`grants`], [`quotas`], [`admin`], [`principals`],
//! [`audit`]; [`load`] reads them all, [`changes`] what changed since a generation. [`operations`] is the trait.
//!
//! A connection on which a change did not come to its end is closed, whatever went wrong: after a full disk SQLite's
//! state and the pool's idea of it differ, and the next user of the connection would be refused for ever.

mod admin;
mod apps;
mod audit;
mod changes;
mod errors;
mod grants;
mod history;
mod import;
mod limits;
mod load;
mod operations;
mod principals;
mod quotas;
mod rows;
mod topics;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use model::ids::{AppId, Generation};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlSafeStr};
use sqlx::{Sqlite, SqliteConnection};
use tokio::sync::Mutex;

use crate::audit::Entry;
use crate::history::Seen;
use crate::{Actor, AuthDbError, Missing};

/// By number; a file that is released never changes. Not by sqlx's macro: that compiles SQLite a second time, for itself.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "tenants", include_str!("migrations/0001_tenants.sql")),
    (2, "in_force", include_str!("migrations/0002_in_force.sql")),
    (3, "principals", include_str!("migrations/0003_principals.sql")),
    (4, "limits", include_str!("migrations/0004_limits.sql")),
    (5, "audit_event", include_str!("migrations/0005_audit_event.sql")),
    (6, "handoff", include_str!("migrations/0006_handoff.sql")),
];

fn migrator() -> Migrator {
    let migration = |(version, description, sql): &(i64, &'static str, &'static str)| {
        Migration::new(*version, Cow::Borrowed(*description), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect())
}

/// A handle to the database. Clones share its connections.
///
/// The handle outlives the file's troubles: if the file cannot be opened now, each call tries again, and if it was
/// replaced (restored from a backup), the next call opens the new one.
#[derive(Clone)]
pub struct SqliteAuthDb {
    inner: Arc<Inner>,
    actor: Arc<Actor>,
}

struct Inner {
    path: PathBuf,
    /// What to do if there is no file at the first opening. Later a missing file is always an error: an empty
    /// database in its place would look as if every tenant had been deleted.
    missing: Missing,
    state: Mutex<State>,
    seen: Seen,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// The file that was open last, also after a close.
    last_file: Option<FileId>,
}

/// Device, inode and birth: numbers of inodes are given again, soon.
type FileId = (u64, u64, Option<SystemTime>);

struct Open {
    pool: SqlitePool,
    file: FileId,
}

impl SqliteAuthDb {
    /// Opens the file, makes it (private to this user) if there is none, and brings its schema up to date.
    /// `location` is a path or `sqlite:PATH`.
    pub async fn open(location: &str) -> Result<SqliteAuthDb, AuthDbError> {
        let db = Self::at(location, Missing::Create)?;
        db.pool().await?;
        Ok(db)
    }

    /// A handle that opens the file when it is first asked for something. Fails only if `location` is no location.
    pub fn at(location: &str, missing: Missing) -> Result<SqliteAuthDb, AuthDbError> {
        let path = parse_location(location)?;
        Ok(SqliteAuthDb {
            actor: Arc::default(),
            inner: Arc::new(Inner { path, missing, state: Mutex::default(), seen: Seen::default() }),
        })
    }

    /// See [`crate::AuthDb`], here and wherever a method has the name of an operation.
    fn acting(&self, actor: Actor) -> SqliteAuthDb {
        SqliteAuthDb { inner: Arc::clone(&self.inner), actor: Arc::new(actor) }
    }

    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    async fn close(&self) {
        if let Some(open) = self.inner.state.lock().await.open.take() {
            open.pool.close().await;
        }
    }

    /// The open database, opened if it was not or is another file now. Costs one `stat` when all is well.
    async fn pool(&self) -> Result<SqlitePool, AuthDbError> {
        let Inner { path, missing, state, seen } = &*self.inner;
        let mut state = state.lock().await;
        if let Some(open) = &state.open {
            let file = file_id(path)?;
            if file == open.file {
                return Ok(open.pool.clone());
            }
            tracing::warn!(path = %path.display(), "database file was replaced, opening the new one");
            let old = state.open.take().expect("it is open").pool;
            tokio::spawn(async move { old.close().await });
        }
        let open = open(path, *missing).await?;
        let pool = open.pool.clone();
        if state.last_file.replace(open.file).is_some_and(|last| last != open.file) {
            seen.file_was_replaced();
        }
        state.open = Some(open);
        Ok(pool)
    }

    fn has_seen(&self, generation: Generation) {
        self.inner.seen.note_earlier(generation);
    }

    /// One row of one page.
    async fn generation(&self) -> Result<Generation, AuthDbError> {
        let mut conn = self.pool().await?.acquire().await?;
        let found = history::read(&mut conn).await?;
        drop(conn);
        if self.inner.seen.is_fine(found) {
            return Ok(found);
        }
        // Restored: a change of no rows, which begins the history anew.
        self.change().await?.commit().await
    }

    /// Begins a change. Takes the write lock at once: a transaction that reads first and writes later could not wait
    /// for it (SQLite answers busy to spare it a stale read).
    async fn change(&self) -> Result<Change, AuthDbError> {
        let conn = self.pool().await?.acquire().await?;
        let mut change =
            Change { db: self.clone(), conn, touched: BTreeSet::new(), entries: Vec::new(), is_ended: false };
        sqlx::query("BEGIN IMMEDIATE").execute(change.conn()).await?;
        Ok(change)
    }
}

impl std::fmt::Debug for SqliteAuthDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteAuthDb").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// A change under way. Dropped without `commit`, it never happened.
struct Change {
    db: SqliteAuthDb,
    conn: PoolConnection<Sqlite>,
    /// Apps whose part of a snapshot is another one now.
    touched: BTreeSet<String>,
    /// What of it is written down.
    entries: Vec<Entry>,
    is_ended: bool,
}

impl Change {
    /// This app's secrets, topics or grants change, or it comes or goes.
    fn touch(&mut self, app: &AppId) {
        self.touched.insert(app.as_str().to_owned());
    }

    /// Writes down with the change what it did.
    fn record(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.conn
    }

    /// Everything or nothing, as the next generation.
    async fn commit(mut self) -> Result<Generation, AuthDbError> {
        let seen = &self.db.inner.seen;
        let generation = history::advance(&mut self.conn, seen).await?;
        changes::log(&mut self.conn, generation, &self.touched).await?;
        audit::write(&mut self.conn, &self.db.actor, &self.entries, Some(generation)).await?;
        self.end().await?;
        self.db.inner.seen.note(generation);
        Ok(generation)
    }

    /// As [`Change::commit`], of rows that no snapshot shows: nobody needs to load anything.
    async fn commit_unseen(mut self) -> Result<(), AuthDbError> {
        audit::write(&mut self.conn, &self.db.actor, &self.entries, None).await?;
        self.end().await
    }

    async fn end(&mut self) -> Result<(), AuthDbError> {
        sqlx::query("COMMIT").execute(&mut *self.conn).await?;
        self.is_ended = true;
        Ok(())
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if !self.is_ended {
            // Closing rolls back, and takes along whatever state a failed statement left.
            self.conn.close_on_drop();
        }
    }
}

fn parse_location(location: &str) -> Result<PathBuf, AuthDbError> {
    let path = location.strip_prefix("sqlite://").or_else(|| location.strip_prefix("sqlite:")).unwrap_or(location);
    if path.is_empty() || path.contains("://") || path.starts_with(":memory:") {
        return Err(AuthDbError::BadLocation { location: location.to_owned() });
    }
    Ok(PathBuf::from(path))
}

async fn open(path: &Path, missing: Missing) -> Result<Open, AuthDbError> {
    let owned = path.to_owned();
    let prepared = tokio::task::spawn_blocking(move || prepare_file(&owned, missing)).await;
    let guard = prepared.expect("prepare_file does not panic")?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(limits::BUSY_TIMEOUT)
        .journal_mode(SqliteJournalMode::Wal)
        // A secret that was shown must not be gone after a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // A million rows take longer than what sqlx warns of.
        .disable_statement_logging();
    let pool = SqlitePoolOptions::new()
        .max_connections(limits::CONNECTIONS_MAX)
        .acquire_timeout(limits::ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await?;
    migrator().run(&pool).await.map_err(|err| AuthDbError::Migrate { database: shown(path), err: err.into() })?;
    drop(guard);
    Ok(Open { pool, file: file_id(path)? })
}

fn file_id(path: &Path) -> Result<FileId, AuthDbError> {
    let metadata = std::fs::metadata(path).map_err(|err| open_error(path, err))?;
    Ok((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

/// As errors say it.
fn shown(path: &Path) -> String {
    format!("file {path:?}")
}

fn open_error(path: &Path, err: io::Error) -> AuthDbError {
    AuthDbError::Open { database: shown(path), err: err.into() }
}

/// Makes sure that the file exists and is private (SQLite gives its journal the same mode), and holds a lock while
/// this process opens it: switching to WAL and migrating are not safe to do twice at the same time.
fn prepare_file(path: &Path, missing: Missing) -> Result<File, AuthDbError> {
    if missing == Missing::IsAnError {
        file_id(path)?;
    }
    let open = |path: &Path| {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
        file.map_err(|err| open_error(path, err))
    };
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock = open(Path::new(&lock_path))?;
    let give_up = Instant::now() + limits::OPEN_LOCK_TIMEOUT;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => std::thread::sleep(limits::OPEN_LOCK_STEP),
            Err(TryLockError::WouldBlock) => return Err(AuthDbError::Busy),
            Err(TryLockError::Error(err)) => return Err(open_error(Path::new(&lock_path), err)),
        }
    }
    open(path)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_path_with_or_without_scheme() {
        let rows = [
            ("tenants.db", Some("tenants.db")),
            ("/var/lib/gafka/tenants.db", Some("/var/lib/gafka/tenants.db")),
            ("sqlite:tenants.db", Some("tenants.db")),
            ("sqlite:///var/lib/tenants.db", Some("/var/lib/tenants.db")),
            ("mysql://host/db", None),
            ("sqlite::memory:", None),
            ("", None),
        ];
        for (location, expected) in rows {
            assert_eq!(parse_location(location).ok().as_deref(), expected.map(Path::new), "{location}");
        }
    }

    #[test]
    fn a_released_migration_never_changes_for_databases_remember_its_checksum() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let found: Vec<(i64, String)> =
            migrator().iter().map(|migration| (migration.version, hex(&migration.checksum))).collect();
        assert_eq!(
            found,
            [
                (1, "563affe6986cd6c2545ef54f3d56aa4c0ce64f83efe27e2f29218bda46d8f061fdc580fde9720e4eecfc17d1781e73f3"),
                (2, "5d7fa4c7e3376b2bd0cb5b7ab3e32386e97de923aafc1cdcbaa4074f09841c29eb138e90b7529e56ec7175c56c022166"),
                (3, "7f614d32484a2d5bf83378838d00eabe0f85ba2ce4c5ab44df2466bbf757eec572b60ec0d4620385e0e42af22275df70"),
                (4, "14c55538d6bcc74a7c628e7a94f3dfd5e898c081b45999d283ffcf6d28980f698edf7266ac3050247810937765a3e4c6"),
                (5, "25c63a0c13611d6b7ba6a2ccc850111254ddcebe44c7a6d1a26a2ffbccc14aba6bcb11b9636ce87cad7adc9c76d8aab8"),
                (6, "a950745129826d52d822b6ce0d8c17ea725a290d3d160df6d7b453206770d022bb57a97a13ea345e282b8719263e492a"),
            ]
            .map(|(version, checksum)| (version, checksum.to_owned()))
        );
    }
}
