//! Rows of `topic`, and of `left_topic`, what nobody owns any more in Kafka.

use model::doc::TopicDoc;
use model::ids::{AppId, ClusterName, TopicName, TopicVersion};
use model::limits::SNAPSHOT_TOPICS_MAX;
use model::naming::physical_topic;
use model::principals::Visible;
use model::quota::Limits;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::SqliteAuthDb;
use super::apps::app_num;
use super::grants::{ending_with, grantees};
use super::principals::bound;
use super::quotas::column;
use super::rows::{bad, name, optional_unsigned, topic_options, unsigned, unsigned_column};
use crate::audit::Entry;
use crate::topics::{json, shown};
use crate::{AuthDbError, NewTopic, TopicRow, TopicState, TopicUpdate, now_ms};

const TABLE: &str = "topic";

impl SqliteAuthDb {
    pub(super) async fn begin_topic(&self, new: NewTopic) -> Result<TopicRow, AuthDbError> {
        let mut change = self.change().await?;
        let app_num = app_num(change.conn(), &new.owner).await?;
        match find(change.conn(), &new.owner, &new.name, &new.ver).await {
            Ok(TopicRow { state: TopicState::Creating, was_free, .. }) => {
                forget(change.conn(), app_num, &new.name, &new.ver).await?;
                let row = insert(change.conn(), app_num, new, was_free).await?;
                change.commit_unseen().await?;
                Ok(row)
            }
            Ok(TopicRow { state: state @ TopicState::Deleting, .. }) => {
                Err(AuthDbError::TopicBusy { owner: new.owner, name: new.name, ver: new.ver, state })
            }
            Ok(_) => Err(AuthDbError::TopicExists { owner: new.owner, name: new.name, ver: new.ver }),
            Err(AuthDbError::NoSuchTopic { .. } | AuthDbError::NoSuchVersion { .. }) => {
                let row = insert(change.conn(), app_num, new, false).await?;
                change.commit_unseen().await?;
                Ok(row)
            }
            Err(err) => Err(err),
        }
    }

    pub(super) async fn topic_is_free(&self, topic: &TopicDoc) -> Result<(), AuthDbError> {
        let mut change = self.change().await?;
        sqlx::query("UPDATE topic SET was_free = 1 WHERE num = ?").bind(topic.index).execute(change.conn()).await?;
        change.commit_unseen().await
    }

    pub(super) async fn activate_topic(
        &self,
        topic: &TopicDoc,
        partitions: Option<u32>,
        replicas: Option<u32>,
    ) -> Result<bool, AuthDbError> {
        let mut change = self.change().await?;
        let done = sqlx::query(
            "UPDATE topic SET state = 'active', was_free = 0, partitions = ?, replicas = ?
             WHERE num = ? AND state = 'creating'",
        )
        .bind(partitions)
        .bind(replicas)
        .bind(topic.index)
        .execute(change.conn())
        .await?
        .rows_affected();
        sqlx::query("DELETE FROM left_topic WHERE cluster = ? AND physical = ?")
            .bind(topic.cluster.as_str())
            .bind(physical_topic(&topic.owner, &topic.name, &topic.ver))
            .execute(change.conn())
            .await?;
        if done > 0 {
            change.touch(&topic.owner);
            let after = TopicDoc { partitions, replicas, ..topic.clone() };
            change.record(Entry::of("topic.create", &topic.owner, shown(topic)).after(json(&after)));
            change.commit().await?;
        }
        Ok(done > 0)
    }

    pub(super) async fn abandon_topic(&self, topic: &TopicDoc) -> Result<(), AuthDbError> {
        let mut change = self.change().await?;
        sqlx::query("DELETE FROM topic WHERE num = ? AND state = 'creating'")
            .bind(topic.index)
            .execute(change.conn())
            .await?;
        change.commit_unseen().await
    }

    pub(super) async fn similar_topics(
        &self,
        cluster: &ClusterName,
        owner: &AppId,
        name: &TopicName,
        ver: &TopicVersion,
    ) -> Result<Vec<TopicRow>, AuthDbError> {
        let rows = sqlx::query(
            "SELECT topic.*, app.id AS owner FROM topic JOIN app ON app.num = topic.app_num
             WHERE topic.cluster = ? AND topic.ver = ? AND app.id || '_' || topic.name = ?",
        )
        .bind(cluster.as_str())
        .bind(ver.as_str())
        .bind(format!("{owner}_{name}"))
        .fetch_all(&self.pool().await?)
        .await?;
        rows.iter().map(topic_row).collect()
    }

    pub(super) async fn unfinished_topics(&self) -> Result<Vec<TopicRow>, AuthDbError> {
        let rows = sqlx::query(
            "SELECT topic.*, app.id AS owner FROM topic JOIN app ON app.num = topic.app_num
             WHERE state IN ('creating', 'deleting') ORDER BY topic.num",
        )
        .fetch_all(&self.pool().await?)
        .await?;
        rows.iter().map(topic_row).collect()
    }

    pub(super) async fn list_topics(
        &self,
        owner: Option<&AppId>,
        visible: &Visible,
        after: Option<(&AppId, &TopicName, &TopicVersion)>,
        rows_max: usize,
    ) -> Result<Vec<TopicRow>, AuthDbError> {
        let pool = self.pool().await?;
        let visible = bound(visible);
        let mut rows = Vec::new();
        // In two parts, each of which SQLite begins in the middle of an index: the rest of the owner, and the others.
        if let Some((of, name, ver)) = after {
            rows = sqlx::query(
                "SELECT topic.*, app.id AS owner FROM app CROSS JOIN topic ON topic.app_num = app.num
                 WHERE app.id = ?1 AND (?2 IS NULL OR app.id = ?2)
                   AND (?6 IS NULL OR app.id IN (SELECT value FROM json_each(?6))) AND topic.name >= ?3
                   AND (topic.name, length(topic.ver), topic.ver) > (?3, length(?4), ?4)
                 ORDER BY topic.name, length(topic.ver), topic.ver LIMIT ?5",
            )
            .bind(of.as_str())
            .bind(owner.map(AppId::as_str))
            .bind(name.as_str())
            .bind(ver.as_str())
            .bind(rows_max as i64)
            .bind(&visible)
            .fetch_all(&pool)
            .await?;
        }
        let others = sqlx::query(
            "SELECT topic.*, app.id AS owner FROM app CROSS JOIN topic ON topic.app_num = app.num
             WHERE (?1 IS NULL OR app.id > ?1) AND (?2 IS NULL OR app.id = ?2)
               AND (?4 IS NULL OR app.id IN (SELECT value FROM json_each(?4)))
             ORDER BY app.id, topic.name, length(topic.ver), topic.ver LIMIT ?3",
        )
        .bind(after.map(|(of, ..)| of.as_str()))
        .bind(owner.map(AppId::as_str))
        .bind((rows_max - rows.len()) as i64)
        .bind(&visible)
        .fetch_all(&pool)
        .await?;
        rows.iter().chain(&others).map(topic_row).collect()
    }

    pub(super) async fn get_topic(
        &self,
        owner: &AppId,
        name: &TopicName,
        ver: &TopicVersion,
    ) -> Result<TopicRow, AuthDbError> {
        let mut conn = self.pool().await?.acquire().await?;
        find(&mut conn, owner, name, ver).await
    }

    pub(super) async fn update_topic(
        &self,
        owner: &AppId,
        name: &TopicName,
        ver: &TopicVersion,
        update: TopicUpdate,
    ) -> Result<TopicRow, AuthDbError> {
        let mut change = self.change().await?;
        let TopicRow { doc: before, state, was_free, created_at_ms } = find(change.conn(), owner, name, ver).await?;
        if matches!(state, TopicState::Creating | TopicState::Deleting) {
            return Err(AuthDbError::TopicBusy { owner: owner.clone(), name: name.clone(), ver: ver.clone(), state });
        }
        let after = TopicDoc {
            enabled: update.enabled.unwrap_or(before.enabled),
            options: update.options.unwrap_or_else(|| before.options.clone()),
            partitions: update.partitions.or(before.partitions),
            retention_ms: update.retention_ms.or(before.retention_ms),
            retention_bytes: update.retention_bytes.or(before.retention_bytes),
            ..before.clone()
        };
        let state = if after.enabled { TopicState::Active } else { TopicState::Disabled };
        if after == before {
            return Ok(TopicRow { doc: after, state, was_free, created_at_ms });
        }
        sqlx::query(
            "UPDATE topic SET state = ?, partitioner = ?, compression = ?, strip_2017_tags = ?,
                              message_bytes_max = ?, handoff = ?, partitions = ?, retention_ms = ?, retention_bytes = ?
             WHERE num = ?",
        )
        .bind(state.as_str())
        .bind(after.options.partitioner.as_str())
        .bind(after.options.compression.as_str())
        .bind(after.options.strip_2017_tags)
        .bind(after.options.message_bytes_max)
        .bind(after.options.handoff)
        .bind(after.partitions)
        .bind(after.retention_ms)
        .bind(after.retention_bytes)
        .bind(after.index)
        .execute(change.conn())
        .await?;
        change.touch(owner);
        change.record(Entry::of("topic.update", owner, shown(&after)).before(json(&before)).after(json(&after)));
        change.commit().await?;
        Ok(TopicRow { doc: after, state, was_free, created_at_ms })
    }

    pub(super) async fn begin_delete_topic(&self, topic: &TopicDoc) -> Result<(), AuthDbError> {
        let mut change = self.change().await?;
        let done = sqlx::query("UPDATE topic SET state = 'deleting' WHERE num = ? AND state <> 'deleting'")
            .bind(topic.index)
            .execute(change.conn())
            .await?
            .rows_affected();
        if done > 0 {
            change.touch(&topic.owner);
            change.record(Entry::of("topic.delete.begin", &topic.owner, shown(topic)).before(json(topic)));
            change.commit().await?;
        }
        Ok(())
    }

    pub(super) async fn delete_topic(
        &self,
        owner: &AppId,
        name: &TopicName,
        ver: &TopicVersion,
        data_is_gone: bool,
    ) -> Result<bool, AuthDbError> {
        let mut change = self.change().await?;
        let row = match find(change.conn(), owner, name, ver).await {
            Ok(row) => row,
            Err(AuthDbError::NoSuchApp(_) | AuthDbError::NoSuchTopic { .. } | AuthDbError::NoSuchVersion { .. }) => {
                return Ok(false);
            }
            Err(err) => return Err(err),
        };
        let owner_num = app_num(change.conn(), owner).await?;
        let ending = ending_with(change.conn(), owner_num, name, ver).await?;
        change.touch(owner);
        for grantee in grantees(change.conn(), owner_num, Some(name)).await? {
            change.touch(&grantee);
        }
        forget(change.conn(), owner_num, name, ver).await?;
        sqlx::query(
            "DELETE FROM subscribe_grant WHERE owner_num = ?1 AND topic = ?2
             AND (ver = ?3 OR NOT EXISTS (SELECT 1 FROM topic WHERE app_num = ?1 AND name = ?2))",
        )
        .bind(owner_num)
        .bind(name.as_str())
        .bind(ver.as_str())
        .execute(change.conn())
        .await?;
        note_left(change.conn(), &row, data_is_gone).await?;
        let mut entry = Entry::of("topic.delete", owner, shown(&row.doc)).before(json(&row.doc));
        entry.after = serde_json::json!({"messages_in_kafka": !data_is_gone});
        entry.cascades = ending.iter().map(|grant| format!("grant: {grant}")).collect();
        change.record(entry);
        change.commit().await?;
        Ok(true)
    }
}

/// Remembers a Kafka topic that nobody owns from now on, or forgets one that is gone.
pub(super) async fn note_left(
    conn: &mut SqliteConnection,
    row: &TopicRow,
    data_is_gone: bool,
) -> Result<(), AuthDbError> {
    let physical = physical_topic(&row.doc.owner, &row.doc.name, &row.doc.ver);
    if data_is_gone {
        sqlx::query("DELETE FROM left_topic WHERE cluster = ? AND physical = ?")
            .bind(row.doc.cluster.as_str())
            .bind(physical)
            .execute(conn)
            .await?;
    } else if row.state != TopicState::Creating || row.was_free {
        sqlx::query("INSERT OR REPLACE INTO left_topic (cluster, physical, owner, left_at_ms) VALUES (?, ?, ?, ?)")
            .bind(row.doc.cluster.as_str())
            .bind(physical)
            .bind(row.doc.owner.as_str())
            .bind(now_ms())
            .execute(conn)
            .await?;
    }
    Ok(())
}

async fn forget(
    conn: &mut SqliteConnection,
    owner_num: i64,
    name: &TopicName,
    ver: &TopicVersion,
) -> Result<(), AuthDbError> {
    sqlx::query("DELETE FROM topic WHERE app_num = ? AND name = ? AND ver = ?")
        .bind(owner_num)
        .bind(name.as_str())
        .bind(ver.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

async fn insert(
    conn: &mut SqliteConnection,
    app_num: i64,
    new: NewTopic,
    was_free: bool,
) -> Result<TopicRow, AuthDbError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM topic").fetch_one(&mut *conn).await?;
    if count >= SNAPSHOT_TOPICS_MAX as i64 {
        return Err(AuthDbError::TooMany { what: "topic versions", limit: SNAPSHOT_TOPICS_MAX });
    }
    let created_at_ms = now_ms();
    let num = sqlx::query(
        "INSERT INTO topic (app_num, name, ver, cluster, state, was_free, partitioner, compression, strip_2017_tags,
                            message_bytes_max, handoff, partitions, replicas, retention_ms, retention_bytes,
                            created_at_ms)
         VALUES (?, ?, ?, ?, 'creating', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(app_num)
    .bind(new.name.as_str())
    .bind(new.ver.as_str())
    .bind(new.cluster.as_str())
    .bind(was_free)
    .bind(new.options.partitioner.as_str())
    .bind(new.options.compression.as_str())
    .bind(new.options.strip_2017_tags)
    .bind(new.options.message_bytes_max)
    .bind(new.options.handoff)
    .bind(new.partitions)
    .bind(new.replicas)
    .bind(new.retention_ms)
    .bind(new.retention_bytes)
    .bind(created_at_ms)
    .execute(conn)
    .await?
    .last_insert_rowid();
    let doc = TopicDoc {
        index: unsigned(TABLE, num)?,
        owner: new.owner,
        name: new.name,
        ver: new.ver,
        cluster: new.cluster,
        enabled: true,
        options: new.options,
        limits: Limits::default(),
        partitions: new.partitions,
        replicas: new.replicas,
        retention_ms: new.retention_ms,
        retention_bytes: new.retention_bytes,
    };
    Ok(TopicRow { doc, state: TopicState::Creating, was_free, created_at_ms })
}

/// The version, or which part of its name does not exist.
pub(super) async fn find(
    conn: &mut SqliteConnection,
    owner: &AppId,
    name: &TopicName,
    ver: &TopicVersion,
) -> Result<TopicRow, AuthDbError> {
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
        Some(row) => topic_row(&row),
        None => {
            require(conn, owner, name, None).await?;
            Err(AuthDbError::NoSuchVersion { owner: owner.clone(), name: name.clone(), ver: ver.clone() })
        }
    }
}

/// That the owner has this topic (in this version); its row number.
pub(super) async fn require(
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
pub(super) fn topic_row(row: &SqliteRow) -> Result<TopicRow, AuthDbError> {
    let state: String = row.try_get("state")?;
    let state = TopicState::parse(&state).ok_or_else(|| bad(TABLE, format_args!("{state:?} is no state")))?;
    let doc = TopicDoc {
        index: unsigned_column(row, TABLE, "num")?,
        owner: name(row, TABLE, "owner")?,
        name: name(row, TABLE, "name")?,
        ver: name(row, TABLE, "ver")?,
        cluster: name(row, TABLE, "cluster")?,
        enabled: state != TopicState::Disabled,
        options: topic_options(row)?,
        limits: column(row, TABLE, "limits")?,
        partitions: optional_unsigned(row, TABLE, "partitions")?,
        replicas: optional_unsigned(row, TABLE, "replicas")?,
        retention_ms: row.try_get("retention_ms")?,
        retention_bytes: row.try_get("retention_bytes")?,
    };
    Ok(TopicRow { doc, state, was_free: row.try_get("was_free")?, created_at_ms: row.try_get("created_at_ms")? })
}
