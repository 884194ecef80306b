//! Topic versions. A row here is what makes a topic exist for clients; that Kafka has the topic is the manager's care.

use model::doc::TopicDoc;
use model::ids::{AppId, ClusterName, TopicName, TopicVersion};
use model::limits::SNAPSHOT_TOPICS_MAX;
use model::topic_options::TopicOptions;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::apps::app_num;
use crate::error::is_unique_violation;
use crate::rows::{name, optional_unsigned, topic_options, unsigned, unsigned_column};
use crate::{AuthDb, AuthDbError, now_ms};

const TABLE: &str = "topic";

/// A topic version to be made. `cluster`, and what `None` means, as in [`TopicDoc`].
#[derive(Debug, Clone)]
pub struct NewTopic {
    pub owner: AppId,
    pub name: TopicName,
    pub ver: TopicVersion,
    pub cluster: ClusterName,
    pub options: TopicOptions,
    pub partitions: Option<u32>,
    pub replicas: Option<u32>,
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<i64>,
}

/// What to change; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct TopicUpdate {
    pub enabled: Option<bool>,
    pub options: Option<TopicOptions>,
    pub partitions: Option<u32>,
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<i64>,
}

impl AuthDb {
    pub async fn create_topic(&self, new: NewTopic) -> Result<TopicDoc, AuthDbError> {
        let mut change = self.change().await?;
        let app_num = app_num(change.conn(), &new.owner).await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM topic").fetch_one(change.conn()).await?;
        if count >= SNAPSHOT_TOPICS_MAX as i64 {
            return Err(AuthDbError::TooMany { what: "topic versions", limit: SNAPSHOT_TOPICS_MAX });
        }
        let inserted = sqlx::query(
            "INSERT INTO topic (app_num, name, ver, cluster, enabled, partitioner, compression, strip_2017_tags,
                                message_bytes_max, partitions, replicas, retention_ms, retention_bytes, created_at_ms)
             VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(app_num)
        .bind(new.name.as_str())
        .bind(new.ver.as_str())
        .bind(new.cluster.as_str())
        .bind(new.options.partitioner.as_str())
        .bind(new.options.compression.as_str())
        .bind(new.options.strip_2017_tags)
        .bind(new.options.message_bytes_max)
        .bind(new.partitions)
        .bind(new.replicas)
        .bind(new.retention_ms)
        .bind(new.retention_bytes)
        .bind(now_ms())
        .execute(change.conn())
        .await;
        let num = match inserted {
            Ok(done) => done.last_insert_rowid(),
            Err(err) if is_unique_violation(&err) => {
                return Err(AuthDbError::TopicExists { owner: new.owner, name: new.name, ver: new.ver });
            }
            Err(err) => return Err(err.into()),
        };
        change.commit().await?;
        Ok(TopicDoc {
            index: unsigned(TABLE, num)?,
            owner: new.owner,
            name: new.name,
            ver: new.ver,
            cluster: new.cluster,
            enabled: true,
            options: new.options,
            partitions: new.partitions,
            replicas: new.replicas,
            retention_ms: new.retention_ms,
            retention_bytes: new.retention_bytes,
        })
    }

    /// By owner, name and version; of one owner, if one is given.
    pub async fn list_topics(&self, owner: Option<&AppId>) -> Result<Vec<TopicDoc>, AuthDbError> {
        let rows = sqlx::query(
            "SELECT topic.*, app.id AS owner FROM topic JOIN app ON app.num = topic.app_num
             WHERE ?1 IS NULL OR app.id = ?1 ORDER BY app.id, topic.name, length(topic.ver), topic.ver",
        )
        .bind(owner.map(AppId::as_str))
        .fetch_all(&self.pool().await?)
        .await?;
        rows.iter().map(topic_doc).collect()
    }

    pub async fn get_topic(
        &self,
        owner: &AppId,
        name: &TopicName,
        ver: &TopicVersion,
    ) -> Result<TopicDoc, AuthDbError> {
        let mut conn = self.pool().await?.acquire().await?;
        find(&mut conn, owner, name, ver).await
    }

    pub async fn update_topic(
        &self,
        owner: &AppId,
        name: &TopicName,
        ver: &TopicVersion,
        update: TopicUpdate,
    ) -> Result<TopicDoc, AuthDbError> {
        let mut change = self.change().await?;
        let before = find(change.conn(), owner, name, ver).await?;
        let after = TopicDoc {
            enabled: update.enabled.unwrap_or(before.enabled),
            options: update.options.unwrap_or_else(|| before.options.clone()),
            partitions: update.partitions.or(before.partitions),
            retention_ms: update.retention_ms.or(before.retention_ms),
            retention_bytes: update.retention_bytes.or(before.retention_bytes),
            ..before.clone()
        };
        if after == before {
            return Ok(after);
        }
        sqlx::query(
            "UPDATE topic SET enabled = ?, partitioner = ?, compression = ?, strip_2017_tags = ?,
                              message_bytes_max = ?, partitions = ?, retention_ms = ?, retention_bytes = ?
             WHERE num = ?",
        )
        .bind(after.enabled)
        .bind(after.options.partitioner.as_str())
        .bind(after.options.compression.as_str())
        .bind(after.options.strip_2017_tags)
        .bind(after.options.message_bytes_max)
        .bind(after.partitions)
        .bind(after.retention_ms)
        .bind(after.retention_bytes)
        .bind(after.index)
        .execute(change.conn())
        .await?;
        change.commit().await?;
        Ok(after)
    }

    /// With the grants on this version; with those on every version too when it was the last one, so that a later
    /// topic of the same name starts without readers. `false`: there was no such version.
    pub async fn delete_topic(&self, owner: &AppId, name: &TopicName, ver: &TopicVersion) -> Result<bool, AuthDbError> {
        let mut change = self.change().await?;
        let owner_num = match app_num(change.conn(), owner).await {
            Ok(num) => num,
            Err(AuthDbError::NoSuchApp(_)) => return Ok(false),
            Err(err) => return Err(err),
        };
        let deleted = sqlx::query("DELETE FROM topic WHERE app_num = ? AND name = ? AND ver = ?")
            .bind(owner_num)
            .bind(name.as_str())
            .bind(ver.as_str())
            .execute(change.conn())
            .await?
            .rows_affected();
        if deleted == 0 {
            return Ok(false);
        }
        sqlx::query(
            "DELETE FROM subscribe_grant WHERE owner_num = ?1 AND topic = ?2
             AND (ver = ?3 OR NOT EXISTS (SELECT 1 FROM topic WHERE app_num = ?1 AND name = ?2))",
        )
        .bind(owner_num)
        .bind(name.as_str())
        .bind(ver.as_str())
        .execute(change.conn())
        .await?;
        change.commit().await?;
        Ok(true)
    }
}

/// The version, or which part of its name does not exist.
async fn find(
    conn: &mut SqliteConnection,
    owner: &AppId,
    name: &TopicName,
    ver: &TopicVersion,
) -> Result<TopicDoc, AuthDbError> {
    let row = sqlx::query(
        "SELECT topic.*, app.id AS owner FROM topic JOIN app ON app.num = topic.app_num
         WHERE app.id = ? AND topic.name = ? AND topic.ver = ?",
    )
    .bind(owner.as_str())
    .bind(name.as_str())
    .bind(ver.as_str())
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        Some(row) => topic_doc(&row),
        None => {
            require(conn, owner, name, None).await?;
            Err(AuthDbError::NoSuchVersion { owner: owner.clone(), name: name.clone(), ver: ver.clone() })
        }
    }
}

/// That the owner has this topic (in this version); its row number.
pub(crate) async fn require(
    conn: &mut SqliteConnection,
    owner: &AppId,
    name: &TopicName,
    ver: Option<&TopicVersion>,
) -> Result<i64, AuthDbError> {
    let owner_num = app_num(conn, owner).await?;
    let vers: Vec<String> = sqlx::query_scalar("SELECT ver FROM topic WHERE app_num = ? AND name = ?")
        .bind(owner_num)
        .bind(name.as_str())
        .fetch_all(conn)
        .await?;
    match ver {
        _ if vers.is_empty() => Err(AuthDbError::NoSuchTopic { owner: owner.clone(), name: name.clone() }),
        Some(ver) if !vers.iter().any(|v| v == ver.as_str()) => {
            Err(AuthDbError::NoSuchVersion { owner: owner.clone(), name: name.clone(), ver: ver.clone() })
        }
        _ => Ok(owner_num),
    }
}

/// A row of `topic` joined with its owner's id.
pub(crate) fn topic_doc(row: &SqliteRow) -> Result<TopicDoc, AuthDbError> {
    Ok(TopicDoc {
        index: unsigned_column(row, TABLE, "num")?,
        owner: name(row, TABLE, "owner")?,
        name: name(row, TABLE, "name")?,
        ver: name(row, TABLE, "ver")?,
        cluster: name(row, TABLE, "cluster")?,
        enabled: row.try_get("enabled")?,
        options: topic_options(row)?,
        partitions: optional_unsigned(row, TABLE, "partitions")?,
        replicas: optional_unsigned(row, TABLE, "replicas")?,
        retention_ms: row.try_get("retention_ms")?,
        retention_bytes: row.try_get("retention_bytes")?,
    })
}
