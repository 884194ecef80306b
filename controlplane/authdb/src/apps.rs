//! Apps and their secrets.
//!
//! A secret leaves this file in plain exactly once, in the answer to the call that made it.

use model::Side;
use model::ids::{AppId, ClusterName};
use model::limits::{SCRAM_ITERATIONS_DEFAULT, SCRAM_SALT_BYTES, SNAPSHOT_APPS_MAX};
use model::scram::ScramParams;
use model::secrets::{PlainSecret, StoredSecret};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::error::is_unique_violation;
use crate::rows::{name, unsigned_column};
use crate::{AuthDb, AuthDbError, now_ms, random};

const TABLE: &str = "app";

/// An app to be made.
#[derive(Debug, Clone)]
pub struct NewApp {
    pub id: AppId,
    /// Where its topics are made unless a topic says otherwise.
    pub cluster: ClusterName,
    /// Secrets that somebody wrote down already (quickstart, before it makes the app); `None`: random ones.
    pub publish: Option<PlainSecret>,
    pub subscribe: Option<PlainSecret>,
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
    /// Sides whose previous secret still works.
    pub rotating: Vec<Side>,
}

/// What to change; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct AppUpdate {
    pub cluster: Option<ClusterName>,
    pub enabled: Option<bool>,
}

impl AuthDb {
    pub async fn create_app(&self, new: NewApp) -> Result<CreatedApp, AuthDbError> {
        let publish = new.publish.map_or_else(random_secret, Ok)?;
        let subscribe = new.subscribe.map_or_else(random_secret, Ok)?;
        let params = ScramParams { salt: random::<SCRAM_SALT_BYTES>()?.to_vec(), iterations: SCRAM_ITERATIONS_DEFAULT };
        let stored_publish = derive(&publish, &params).await;
        let stored_subscribe = derive(&subscribe, &params).await;

        let created_at_ms = now_ms();
        let mut change = self.change().await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM app").fetch_one(change.conn()).await?;
        if count >= SNAPSHOT_APPS_MAX as i64 {
            return Err(AuthDbError::TooMany { what: "apps", limit: SNAPSHOT_APPS_MAX });
        }
        let inserted = sqlx::query(
            "INSERT INTO app (id, cluster, enabled, scram_salt, scram_iterations, created_at_ms)
             VALUES (?, ?, 1, ?, ?, ?)",
        )
        .bind(new.id.as_str())
        .bind(new.cluster.as_str())
        .bind(&params.salt)
        .bind(params.iterations)
        .bind(created_at_ms)
        .execute(change.conn())
        .await;
        let num = match inserted {
            Ok(done) => done.last_insert_rowid(),
            Err(err) if is_unique_violation(&err) => return Err(AuthDbError::AppExists(new.id)),
            Err(err) => return Err(err.into()),
        };
        insert_secret(change.conn(), num, Side::Publish, &stored_publish).await?;
        insert_secret(change.conn(), num, Side::Subscribe, &stored_subscribe).await?;
        change.commit().await?;

        let index = crate::rows::unsigned(TABLE, num)?;
        let app =
            AppInfo { index, id: new.id, cluster: new.cluster, enabled: true, created_at_ms, rotating: Vec::new() };
        Ok(CreatedApp { app, publish, subscribe })
    }

    /// By id.
    pub async fn list_apps(&self) -> Result<Vec<AppInfo>, AuthDbError> {
        let rows = sqlx::query(
            "SELECT num, id, cluster, enabled, created_at_ms,
                    (SELECT group_concat(side) FROM secret WHERE app_num = num AND slot = 'previous') AS rotating
             FROM app ORDER BY id",
        )
        .fetch_all(&self.pool().await?)
        .await?;
        rows.iter().map(app_info).collect()
    }

    pub async fn get_app(&self, id: &AppId) -> Result<AppInfo, AuthDbError> {
        let row = sqlx::query(
            "SELECT num, id, cluster, enabled, created_at_ms,
                    (SELECT group_concat(side) FROM secret WHERE app_num = num AND slot = 'previous') AS rotating
             FROM app WHERE id = ?",
        )
        .bind(id.as_str())
        .fetch_optional(&self.pool().await?)
        .await?;
        app_info(&row.ok_or_else(|| AuthDbError::NoSuchApp(id.clone()))?)
    }

    /// Topics stay where they are: the cluster is the one for topics to come.
    pub async fn update_app(&self, id: &AppId, update: AppUpdate) -> Result<AppInfo, AuthDbError> {
        let mut change = self.change().await?;
        let num = app_num(change.conn(), id).await?;
        sqlx::query("UPDATE app SET cluster = coalesce(?, cluster), enabled = coalesce(?, enabled) WHERE num = ?")
            .bind(update.cluster.as_ref().map(ClusterName::as_str))
            .bind(update.enabled)
            .bind(num)
            .execute(change.conn())
            .await?;
        change.commit().await?;
        self.get_app(id).await
    }

    /// With its secrets and all grants to it and on it. Not while it owns topics: they would be nobody's.
    /// `false`: there was no such app.
    pub async fn delete_app(&self, id: &AppId) -> Result<bool, AuthDbError> {
        let mut change = self.change().await?;
        let num = match app_num(change.conn(), id).await {
            Ok(num) => num,
            Err(AuthDbError::NoSuchApp(_)) => return Ok(false),
            Err(err) => return Err(err),
        };
        let topics: i64 = sqlx::query_scalar("SELECT count(*) FROM topic WHERE app_num = ?")
            .bind(num)
            .fetch_one(change.conn())
            .await?;
        if topics > 0 {
            return Err(AuthDbError::AppHasTopics { app: id.clone(), topics: topics as u64 });
        }
        sqlx::query("DELETE FROM app WHERE num = ?").bind(num).execute(change.conn()).await?;
        change.commit().await?;
        Ok(true)
    }

    /// Makes a new secret. The one so far goes on working until the next rotation or [`AuthDb::revoke_previous`]; the
    /// one before it, if it still worked, ends now.
    pub async fn rotate_secret(
        &self,
        id: &AppId,
        side: Side,
        chosen: Option<PlainSecret>,
    ) -> Result<PlainSecret, AuthDbError> {
        let plain = chosen.map_or_else(random_secret, Ok)?;
        // The salt never changes, so it can be read before the write lock is taken for the slow part.
        let params = self.scram_params(id).await?;
        let stored = derive(&plain, &params).await;

        let mut change = self.change().await?;
        let num = app_num(change.conn(), id).await?;
        sqlx::query("DELETE FROM secret WHERE app_num = ? AND side = ? AND slot = 'previous'")
            .bind(num)
            .bind(side.as_str())
            .execute(change.conn())
            .await?;
        sqlx::query("UPDATE secret SET slot = 'previous' WHERE app_num = ? AND side = ?")
            .bind(num)
            .bind(side.as_str())
            .execute(change.conn())
            .await?;
        insert_secret(change.conn(), num, side, &stored).await?;
        change.commit().await?;
        Ok(plain)
    }

    /// Ends a rotation: only the current secret works from now on. `false`: no previous one was live.
    pub async fn revoke_previous(&self, id: &AppId, side: Side) -> Result<bool, AuthDbError> {
        let mut change = self.change().await?;
        let num = app_num(change.conn(), id).await?;
        let revoked = sqlx::query("DELETE FROM secret WHERE app_num = ? AND side = ? AND slot = 'previous'")
            .bind(num)
            .bind(side.as_str())
            .execute(change.conn())
            .await?
            .rows_affected();
        if revoked > 0 {
            change.commit().await?;
        }
        Ok(revoked > 0)
    }

    async fn scram_params(&self, id: &AppId) -> Result<ScramParams, AuthDbError> {
        let row = sqlx::query("SELECT scram_salt, scram_iterations FROM app WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.pool().await?)
            .await?
            .ok_or_else(|| AuthDbError::NoSuchApp(id.clone()))?;
        scram_params(&row)
    }
}

/// The row number of an app, within a change.
pub(crate) async fn app_num(conn: &mut SqliteConnection, id: &AppId) -> Result<i64, AuthDbError> {
    let num = sqlx::query_scalar("SELECT num FROM app WHERE id = ?").bind(id.as_str()).fetch_optional(conn).await?;
    num.ok_or_else(|| AuthDbError::NoSuchApp(id.clone()))
}

pub(crate) fn scram_params(row: &SqliteRow) -> Result<ScramParams, AuthDbError> {
    let params =
        ScramParams { salt: row.try_get("scram_salt")?, iterations: unsigned_column(row, TABLE, "scram_iterations")? };
    if !params.is_sane() {
        return Err(crate::rows::bad(TABLE, format_args!("{} SCRAM iterations", params.iterations)));
    }
    Ok(params)
}

fn app_info(row: &SqliteRow) -> Result<AppInfo, AuthDbError> {
    let rotating: Option<String> = row.try_get("rotating")?;
    let mut rotating: Vec<Side> = rotating.unwrap_or_default().split(',').filter_map(Side::parse).collect();
    rotating.sort_by_key(|side| side.as_str());
    Ok(AppInfo {
        index: unsigned_column(row, TABLE, "num")?,
        id: name(row, TABLE, "id")?,
        cluster: name(row, TABLE, "cluster")?,
        enabled: row.try_get("enabled")?,
        created_at_ms: row.try_get("created_at_ms")?,
        rotating,
    })
}

async fn insert_secret(
    conn: &mut SqliteConnection,
    app_num: i64,
    side: Side,
    secret: &StoredSecret,
) -> Result<(), AuthDbError> {
    sqlx::query(
        "INSERT INTO secret (app_num, side, slot, sha256, scram_256_stored_key, scram_256_server_key,
                             scram_512_stored_key, scram_512_server_key, created_at_ms)
         VALUES (?, ?, 'current', ?, ?, ?, ?, ?, ?)",
    )
    .bind(app_num)
    .bind(side.as_str())
    .bind(secret.sha256.as_bytes().as_slice())
    .bind(&secret.scram_256.stored_key)
    .bind(&secret.scram_256.server_key)
    .bind(&secret.scram_512.stored_key)
    .bind(&secret.scram_512.server_key)
    .bind(now_ms())
    .execute(conn)
    .await?;
    Ok(())
}

fn random_secret() -> Result<PlainSecret, AuthDbError> {
    Ok(PlainSecret::generate(random()?))
}

/// Ten milliseconds of computing, on a thread that nobody waits on for anything else.
async fn derive(plain: &PlainSecret, params: &ScramParams) -> StoredSecret {
    let (plain, params) = (plain.clone(), params.clone());
    tokio::task::spawn_blocking(move || StoredSecret::derive(&plain, &params)).await.expect("derive does not panic")
}
