//! Grants: what an app may do beyond its own topics.

use model::doc::GrantDoc;
use model::ids::{AppId, PhysicalTopic, TopicVersion};
use model::limits::SNAPSHOT_GRANTS_MAX;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::apps::app_num;
use crate::rows::{name, optional_name};
use crate::topics::require;
use crate::{AuthDb, AuthDbError, now_ms};

impl AuthDb {
    /// `false`: it was granted already. A topic must exist to be granted: a typing mistake would never be noticed.
    pub async fn grant(&self, grant: &GrantDoc) -> Result<bool, AuthDbError> {
        let mut change = self.change().await?;
        let app = app_num(change.conn(), grant.app()).await?;
        let count: i64 =
            sqlx::query_scalar("SELECT (SELECT count(*) FROM subscribe_grant) + (SELECT count(*) FROM raw_grant)")
                .fetch_one(change.conn())
                .await?;
        if count >= SNAPSHOT_GRANTS_MAX as i64 {
            return Err(AuthDbError::TooMany { what: "grants", limit: SNAPSHOT_GRANTS_MAX });
        }
        let done = match grant {
            GrantDoc::Subscribe { app: grantee, owner, topic, ver } => {
                if grantee == owner {
                    return Err(AuthDbError::GrantToOwner(owner.clone()));
                }
                let owner = require(change.conn(), owner, topic, ver.as_ref()).await?;
                sqlx::query("INSERT OR IGNORE INTO subscribe_grant VALUES (?, ?, ?, ?, ?)")
                    .bind(app)
                    .bind(owner)
                    .bind(topic.as_str())
                    .bind(ver.as_ref().map_or("", TopicVersion::as_str))
                    .bind(now_ms())
                    .execute(change.conn())
                    .await?
            }
            GrantDoc::RawPublish { cluster, topic, .. } => {
                sqlx::query("INSERT OR IGNORE INTO raw_grant VALUES (?, ?, ?, ?)")
                    .bind(app)
                    .bind(cluster.as_str())
                    .bind(topic.as_ref().map_or("", PhysicalTopic::as_str))
                    .bind(now_ms())
                    .execute(change.conn())
                    .await?
            }
        };
        let is_new = done.rows_affected() > 0;
        if is_new {
            change.commit().await?;
        }
        Ok(is_new)
    }

    /// Takes back exactly this grant: revoking one version does not touch a grant for every version. `false`: there
    /// was none.
    pub async fn revoke(&self, grant: &GrantDoc) -> Result<bool, AuthDbError> {
        let mut change = self.change().await?;
        let done = match grant {
            GrantDoc::Subscribe { app, owner, topic, ver } => {
                sqlx::query(
                    "DELETE FROM subscribe_grant WHERE app_num = (SELECT num FROM app WHERE id = ?)
                     AND owner_num = (SELECT num FROM app WHERE id = ?) AND topic = ? AND ver = ?",
                )
                .bind(app.as_str())
                .bind(owner.as_str())
                .bind(topic.as_str())
                .bind(ver.as_ref().map_or("", TopicVersion::as_str))
                .execute(change.conn())
                .await?
            }
            GrantDoc::RawPublish { app, cluster, topic } => {
                sqlx::query(
                    "DELETE FROM raw_grant WHERE app_num = (SELECT num FROM app WHERE id = ?)
                     AND cluster = ? AND topic = ?",
                )
                .bind(app.as_str())
                .bind(cluster.as_str())
                .bind(topic.as_ref().map_or("", PhysicalTopic::as_str))
                .execute(change.conn())
                .await?
            }
        };
        let was_there = done.rows_affected() > 0;
        if was_there {
            change.commit().await?;
        }
        Ok(was_there)
    }

    /// Of one app, if one is given; subscribe grants first.
    pub async fn list_grants(&self, app: Option<&AppId>) -> Result<Vec<GrantDoc>, AuthDbError> {
        let mut conn = self.pool().await?.acquire().await?;
        select(&mut conn, app).await
    }
}

pub(crate) async fn select(conn: &mut SqliteConnection, app: Option<&AppId>) -> Result<Vec<GrantDoc>, AuthDbError> {
    let subscribe = sqlx::query(
        "SELECT app.id AS app, owner.id AS owner, topic, ver FROM subscribe_grant
         JOIN app ON app.num = app_num JOIN app AS owner ON owner.num = owner_num
         WHERE ?1 IS NULL OR app.id = ?1 ORDER BY app.id, owner.id, topic, length(ver), ver",
    )
    .bind(app.map(AppId::as_str))
    .fetch_all(&mut *conn)
    .await?;
    let raw = sqlx::query(
        "SELECT app.id AS app, raw_grant.cluster AS cluster, topic FROM raw_grant JOIN app ON app.num = app_num
         WHERE ?1 IS NULL OR app.id = ?1 ORDER BY app.id, raw_grant.cluster, topic",
    )
    .bind(app.map(AppId::as_str))
    .fetch_all(&mut *conn)
    .await?;
    subscribe.iter().map(subscribe_grant).chain(raw.iter().map(raw_grant)).collect()
}

fn subscribe_grant(row: &SqliteRow) -> Result<GrantDoc, AuthDbError> {
    const TABLE: &str = "subscribe_grant";
    Ok(GrantDoc::Subscribe {
        app: name(row, TABLE, "app")?,
        owner: name(row, TABLE, "owner")?,
        topic: name(row, TABLE, "topic")?,
        ver: optional_name(row, TABLE, "ver")?,
    })
}

fn raw_grant(row: &SqliteRow) -> Result<GrantDoc, AuthDbError> {
    const TABLE: &str = "raw_grant";
    Ok(GrantDoc::RawPublish {
        app: name(row, TABLE, "app")?,
        cluster: name(row, TABLE, "cluster")?,
        topic: optional_name(row, TABLE, "topic")?,
    })
}
