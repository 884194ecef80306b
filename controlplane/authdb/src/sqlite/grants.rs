//! Rows of `subscribe_grant` and `raw_grant`: what an app may do beyond its own topics.

use model::doc::GrantDoc;
use model::ids::{AppId, PhysicalTopic, TopicName, TopicVersion};
use model::limits::SNAPSHOT_GRANTS_MAX;
use model::principals::Visible;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::SqliteAuthDb;
use super::apps::app_num;
use super::principals::bound;
use super::rows::{name, optional_name};
use super::topics::require;
use crate::audit::Entry;
use crate::limits::AUDIT_CASCADES_MAX;
use crate::{AuthDbError, now_ms};

impl SqliteAuthDb {
    pub(super) async fn grant(&self, grant: &GrantDoc) -> Result<bool, AuthDbError> {
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
            change.touch(grant.app());
            change.record(Entry::of("grant.create", grant.app(), grant).after(json(grant)));
            change.commit().await?;
        }
        Ok(is_new)
    }

    pub(super) async fn revoke(&self, grant: &GrantDoc) -> Result<bool, AuthDbError> {
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
            change.touch(grant.app());
            change.record(Entry::of("grant.delete", grant.app(), grant).before(json(grant)));
            change.commit().await?;
        }
        Ok(was_there)
    }

    pub(super) async fn list_grants(
        &self,
        app: Option<&AppId>,
        visible: &Visible,
        after: Option<&GrantDoc>,
        rows_max: usize,
    ) -> Result<Vec<GrantDoc>, AuthDbError> {
        let mut conn = self.pool().await?.acquire().await?;
        let mut grants = match after {
            Some(GrantDoc::RawPublish { .. }) => Vec::new(),
            after => subscribe_grants(&mut conn, app, visible, after, rows_max).await?,
        };
        let raw_after = after.filter(|after| matches!(after, GrantDoc::RawPublish { .. }));
        grants.extend(raw_grants(&mut conn, app, visible, raw_after, rows_max - grants.len()).await?);
        Ok(grants)
    }
}

fn json(grant: &GrantDoc) -> serde_json::Value {
    serde_json::to_value(grant).expect("a grant has string keys only")
}

/// What an app was granted and what others were granted of its topics; the first so many, for people.
pub(super) async fn touching(conn: &mut SqliteConnection, app_num: i64) -> Result<Vec<GrantDoc>, AuthDbError> {
    let subscribe = sqlx::query(
        "SELECT app.id AS app, owner.id AS owner, topic, ver FROM subscribe_grant
         JOIN app ON app.num = app_num JOIN app AS owner ON owner.num = owner_num
         WHERE app_num = ?1 OR owner_num = ?1 ORDER BY app.id, owner.id, topic, length(ver), ver LIMIT ?2",
    )
    .bind(app_num)
    .bind(AUDIT_CASCADES_MAX)
    .fetch_all(&mut *conn)
    .await?;
    let raw = sqlx::query(
        "SELECT app.id AS app, raw_grant.cluster AS cluster, topic FROM raw_grant JOIN app ON app.num = app_num
         WHERE app_num = ?1 ORDER BY raw_grant.cluster, topic LIMIT ?2",
    )
    .bind(app_num)
    .bind(AUDIT_CASCADES_MAX)
    .fetch_all(&mut *conn)
    .await?;
    subscribe.iter().map(subscribe_grant).chain(raw.iter().map(raw_grant)).collect()
}

/// The grants that end with a topic version, as [`touching`].
pub(super) async fn ending_with(
    conn: &mut SqliteConnection,
    owner_num: i64,
    name: &TopicName,
    ver: &TopicVersion,
) -> Result<Vec<GrantDoc>, AuthDbError> {
    let rows = sqlx::query(
        "SELECT app.id AS app, owner.id AS owner, topic, ver FROM subscribe_grant
         JOIN app ON app.num = app_num JOIN app AS owner ON owner.num = owner_num
         WHERE owner_num = ?1 AND topic = ?2 AND (ver = ?3 OR NOT EXISTS (
               SELECT 1 FROM topic WHERE topic.app_num = ?1 AND topic.name = ?2 AND topic.ver <> ?3))
         ORDER BY app.id, length(ver), ver LIMIT ?4",
    )
    .bind(owner_num)
    .bind(name.as_str())
    .bind(ver.as_str())
    .bind(AUDIT_CASCADES_MAX)
    .fetch_all(conn)
    .await?;
    rows.iter().map(subscribe_grant).collect()
}

/// Who may read topics of this owner, or one of them.
pub(super) async fn grantees(
    conn: &mut SqliteConnection,
    owner_num: i64,
    topic: Option<&TopicName>,
) -> Result<Vec<AppId>, AuthDbError> {
    let rows = sqlx::query(
        "SELECT DISTINCT app.id AS app FROM subscribe_grant JOIN app ON app.num = app_num
         WHERE owner_num = ?1 AND (?2 IS NULL OR topic = ?2)",
    )
    .bind(owner_num)
    .bind(topic.map(TopicName::as_str))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| name(row, "app", "app")).collect()
}

/// All that one app was granted.
pub(super) async fn of_app(conn: &mut SqliteConnection, app: &AppId) -> Result<Vec<GrantDoc>, AuthDbError> {
    const ALL: usize = i64::MAX as usize;
    let mut grants = subscribe_grants(conn, Some(app), &Visible::All, None, ALL).await?;
    grants.extend(raw_grants(conn, Some(app), &Visible::All, None, ALL).await?);
    Ok(grants)
}

/// In two parts, as `list_topics`; an app's own are sorted for each page.
async fn subscribe_grants(
    conn: &mut SqliteConnection,
    app: Option<&AppId>,
    visible: &Visible,
    after: Option<&GrantDoc>,
    rows_max: usize,
) -> Result<Vec<GrantDoc>, AuthDbError> {
    let visible = bound(visible);
    let mut rows = Vec::new();
    if let Some(GrantDoc::Subscribe { app: of, owner, topic, ver }) = after {
        rows = sqlx::query(
            "SELECT app.id AS app, owner.id AS owner, topic, ver FROM app
             CROSS JOIN subscribe_grant ON app.num = app_num JOIN app AS owner ON owner.num = owner_num
             WHERE app.id = ?1 AND (?2 IS NULL OR app.id = ?2)
               AND (?7 IS NULL OR app.id IN (SELECT value FROM json_each(?7))
                    OR owner.id IN (SELECT value FROM json_each(?7)))
               AND (owner.id, topic, length(ver), ver) > (?3, ?4, length(?5), ?5)
             ORDER BY owner.id, topic, length(ver), ver LIMIT ?6",
        )
        .bind(of.as_str())
        .bind(app.map(AppId::as_str))
        .bind(owner.as_str())
        .bind(topic.as_str())
        .bind(ver.as_ref().map_or("", TopicVersion::as_str))
        .bind(rows_max as i64)
        .bind(&visible)
        .fetch_all(&mut *conn)
        .await?;
    }
    let others = sqlx::query(
        "SELECT app.id AS app, owner.id AS owner, topic, ver FROM app
         CROSS JOIN subscribe_grant ON app.num = app_num JOIN app AS owner ON owner.num = owner_num
         WHERE (?1 IS NULL OR app.id > ?1) AND (?2 IS NULL OR app.id = ?2)
           AND (?4 IS NULL OR app.id IN (SELECT value FROM json_each(?4))
                OR owner.id IN (SELECT value FROM json_each(?4)))
         ORDER BY app.id, owner.id, topic, length(ver), ver LIMIT ?3",
    )
    .bind(after.map(|after| after.app().as_str()))
    .bind(app.map(AppId::as_str))
    .bind((rows_max - rows.len()) as i64)
    .bind(&visible)
    .fetch_all(conn)
    .await?;
    rows.iter().chain(&others).map(subscribe_grant).collect()
}

async fn raw_grants(
    conn: &mut SqliteConnection,
    app: Option<&AppId>,
    visible: &Visible,
    after: Option<&GrantDoc>,
    rows_max: usize,
) -> Result<Vec<GrantDoc>, AuthDbError> {
    let visible = bound(visible);
    let mut rows = Vec::new();
    if let Some(GrantDoc::RawPublish { app: of, cluster, topic }) = after {
        rows = sqlx::query(
            "SELECT app.id AS app, raw_grant.cluster AS cluster, topic FROM app
             CROSS JOIN raw_grant ON app.num = app_num
             WHERE app.id = ?1 AND (?2 IS NULL OR app.id = ?2)
               AND (?6 IS NULL OR app.id IN (SELECT value FROM json_each(?6)))
               AND (raw_grant.cluster, topic) > (?3, ?4)
             ORDER BY raw_grant.cluster, topic LIMIT ?5",
        )
        .bind(of.as_str())
        .bind(app.map(AppId::as_str))
        .bind(cluster.as_str())
        .bind(topic.as_ref().map_or("", |topic| topic.as_str()))
        .bind(rows_max as i64)
        .bind(&visible)
        .fetch_all(&mut *conn)
        .await?;
    }
    let others = sqlx::query(
        "SELECT app.id AS app, raw_grant.cluster AS cluster, topic FROM app
         CROSS JOIN raw_grant ON app.num = app_num
         WHERE (?1 IS NULL OR app.id > ?1) AND (?2 IS NULL OR app.id = ?2)
           AND (?4 IS NULL OR app.id IN (SELECT value FROM json_each(?4)))
         ORDER BY app.id, raw_grant.cluster, topic LIMIT ?3",
    )
    .bind(after.map(|after| after.app().as_str()))
    .bind(app.map(AppId::as_str))
    .bind((rows_max - rows.len()) as i64)
    .bind(&visible)
    .fetch_all(conn)
    .await?;
    rows.iter().chain(&others).map(raw_grant).collect()
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
