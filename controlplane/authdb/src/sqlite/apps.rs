//! Rows of `app` and `secret`, and of `retired_app`, what a deleted one left.

use model::ids::{AppId, ClusterName};
use model::limits::{SCRAM_ITERATIONS_DEFAULT, SCRAM_SALT_BYTES, SNAPSHOT_APPS_MAX};
use model::principals::Visible;
use model::quota::Limits;
use model::scram::ScramParams;
use model::secrets::{PlainSecret, StoredSecret};
use model::{Addresses, Side};
use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::SqliteAuthDb;
use super::errors::is_unique_violation;
use super::grants::{self, grantees};
use super::principals::{self, bound, refuse_principals};
use super::quotas::column;
use super::rows::{bad, name, unsigned, unsigned_column};
use super::topics::{note_left, topic_row};
use crate::apps::{derive, random_secret};
use crate::audit::Entry;
use crate::topics::shown;
use crate::{
    AppInfo, AppUpdate, AuthDbError, CreatedApp, NewApp, Retired, Rotation, SecretInfo, TopicRow, now_ms, random,
};

const TABLE: &str = "app";

impl SqliteAuthDb {
    pub(super) async fn create_app(&self, new: NewApp) -> Result<CreatedApp, AuthDbError> {
        let publish = new.publish.map_or_else(random_secret, Ok)?;
        let subscribe = new.subscribe.map_or_else(random_secret, Ok)?;
        let params = ScramParams { salt: random::<SCRAM_SALT_BYTES>()?.to_vec(), iterations: SCRAM_ITERATIONS_DEFAULT };
        let stored_publish = derive(&publish, &params).await;
        let stored_subscribe = derive(&subscribe, &params).await;

        let created_at_ms = now_ms();
        let mut change = self.change().await?;
        refuse_principals(change.conn(), new.id.as_str()).await?;
        let retired = retired(change.conn(), &new.id).await?;
        if let Some(retired) = retired
            && !new.reuse
        {
            let topics = retired.topics.into_iter().map(|(_, physical)| physical).collect();
            return Err(AuthDbError::AppReserved { app: new.id, topics });
        }
        sqlx::query("DELETE FROM retired_app WHERE id = ?").bind(new.id.as_str()).execute(change.conn()).await?;
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
        change.touch(&new.id);
        let after = json!({"cluster": new.cluster, "enabled": true, "reuse": new.reuse});
        change.record(Entry::of("app.create", &new.id, &new.id).after(after));
        change.commit().await?;

        let index = unsigned(TABLE, num)?;
        let secrets =
            [Side::Publish, Side::Subscribe].map(|side| SecretInfo { side, is_previous: false, created_at_ms }).into();
        let (id, cluster, limits, addresses) = (new.id, new.cluster, Limits::default(), Addresses::default());
        let app =
            AppInfo { index, id, cluster, enabled: true, created_at_ms, limits, addresses, handoff: true, secrets };
        Ok(CreatedApp { app, publish, subscribe })
    }

    pub(super) async fn list_apps(
        &self,
        visible: &Visible,
        after: Option<&AppId>,
        rows_max: usize,
    ) -> Result<Vec<AppInfo>, AuthDbError> {
        let rows = sqlx::query(
            "SELECT num, id, cluster, enabled, created_at_ms, limits, addresses, handoff,
                    (SELECT group_concat(side || ' ' || slot || ' ' || secret.created_at_ms)
                     FROM secret WHERE app_num = num) AS secrets
             FROM app
             WHERE (?1 IS NULL OR id IN (SELECT value FROM json_each(?1))) AND (?2 IS NULL OR id > ?2)
             ORDER BY id LIMIT ?3",
        )
        .bind(bound(visible))
        .bind(after.map(AppId::as_str))
        .bind(rows_max as i64)
        .fetch_all(&self.pool().await?)
        .await?;
        rows.iter().map(app_info).collect()
    }

    pub(super) async fn get_app(&self, id: &AppId) -> Result<AppInfo, AuthDbError> {
        let row = sqlx::query(
            "SELECT num, id, cluster, enabled, created_at_ms, limits, addresses, handoff, (SELECT group_concat(side || ' ' || slot || ' ' ||
                    secret.created_at_ms) FROM secret WHERE app_num = num) AS secrets
             FROM app WHERE id = ?",
        )
        .bind(id.as_str())
        .fetch_optional(&self.pool().await?)
        .await?;
        app_info(&row.ok_or_else(|| AuthDbError::NoSuchApp(id.clone()))?)
    }

    pub(super) async fn update_app(&self, id: &AppId, update: AppUpdate) -> Result<AppInfo, AuthDbError> {
        let mut change = self.change().await?;
        let num = app_num(change.conn(), id).await?;
        change.touch(id);
        let row = sqlx::query("SELECT cluster, enabled, handoff FROM app WHERE num = ?")
            .bind(num)
            .fetch_one(change.conn())
            .await?;
        let (cluster, enabled): (String, bool) = (row.try_get("cluster")?, row.try_get("enabled")?);
        let handoff: bool = row.try_get("handoff")?;
        let after = json!({
            "cluster": update.cluster.as_ref().map_or(cluster.as_str(), ClusterName::as_str),
            "enabled": update.enabled.unwrap_or(enabled),
            "handoff": update.handoff.unwrap_or(handoff),
        });
        let before = json!({"cluster": cluster, "enabled": enabled, "handoff": handoff});
        change.record(Entry::of("app.update", id, id).before(before).after(after));
        sqlx::query(
            "UPDATE app SET cluster = coalesce(?, cluster), enabled = coalesce(?, enabled), handoff = coalesce(?, handoff)
             WHERE num = ?",
        )
        .bind(update.cluster.as_ref().map(ClusterName::as_str))
        .bind(update.enabled)
        .bind(update.handoff)
        .bind(num)
        .execute(change.conn())
        .await?;
        change.commit().await?;
        self.get_app(id).await
    }

    pub(super) async fn delete_app(&self, id: &AppId, cascade: bool) -> Result<Option<Vec<TopicRow>>, AuthDbError> {
        let mut change = self.change().await?;
        let num = match app_num(change.conn(), id).await {
            Ok(num) => num,
            Err(AuthDbError::NoSuchApp(_)) => return Ok(None),
            Err(err) => return Err(err),
        };
        let rows = sqlx::query(
            "SELECT topic.*, app.id AS owner FROM topic JOIN app ON app.num = topic.app_num WHERE app_num = ?",
        )
        .bind(num)
        .fetch_all(change.conn())
        .await?;
        let topics: Vec<TopicRow> = rows.iter().map(topic_row).collect::<Result<_, _>>()?;
        if !topics.is_empty() && !cascade {
            return Err(AuthDbError::AppHasTopics { app: id.clone(), topics: topics.len() as u64 });
        }
        change.touch(id);
        for grantee in grantees(change.conn(), num, None).await? {
            change.touch(&grantee);
        }
        let mut entry = Entry::of("app.delete", id, id);
        entry.cascades = topics.iter().map(|row| format!("topic {}", shown(&row.doc))).collect();
        for grant in grants::touching(change.conn(), num).await? {
            entry.cascades.push(format!("grant: {grant}"));
        }
        for principal in principals::of_app(change.conn(), num).await? {
            entry.cascades.push(format!("right of principal {principal}"));
        }
        change.record(entry);
        for topic in &topics {
            note_left(change.conn(), topic, false).await?;
        }
        sqlx::query("DELETE FROM topic WHERE app_num = ?").bind(num).execute(change.conn()).await?;
        sqlx::query("DELETE FROM app WHERE num = ?").bind(num).execute(change.conn()).await?;
        sqlx::query("INSERT OR REPLACE INTO retired_app (id, retired_at_ms) VALUES (?, ?)")
            .bind(id.as_str())
            .bind(now_ms())
            .execute(change.conn())
            .await?;
        change.commit().await?;
        Ok(Some(topics))
    }

    pub(super) async fn retired_app(&self, id: &AppId) -> Result<Option<Retired>, AuthDbError> {
        let mut conn = self.pool().await?.acquire().await?;
        retired(&mut conn, id).await
    }

    pub(super) async fn rotate_secret(
        &self,
        id: &AppId,
        side: Side,
        chosen: Option<PlainSecret>,
        how: Rotation,
    ) -> Result<PlainSecret, AuthDbError> {
        let plain = chosen.map_or_else(random_secret, Ok)?;
        // The salt never changes, so it can be read before the write lock is taken for the slow part.
        let params = self.scram_params(id).await?;
        let stored = derive(&plain, &params).await;

        let mut change = self.change().await?;
        let num = app_num(change.conn(), id).await?;
        let live: i64 = sqlx::query_scalar("SELECT count(*) FROM secret WHERE app_num = ? AND side = ?")
            .bind(num)
            .bind(side.as_str())
            .fetch_one(change.conn())
            .await?;
        let statements: &[&str] = match (how, live) {
            (Rotation::Ordinary, 2..) => return Err(AuthDbError::TwoSecretsLive { app: id.clone(), side }),
            (Rotation::ReplaceYounger, 2..) => {
                &["DELETE FROM secret WHERE app_num = ? AND side = ? AND slot = 'current'"]
            }
            _ => &[
                "DELETE FROM secret WHERE app_num = ? AND side = ? AND slot = 'previous'",
                "UPDATE secret SET slot = 'previous' WHERE app_num = ? AND side = ?",
            ],
        };
        change.touch(id);
        let entry = Entry::of("secret.rotate", id, format!("{} secret of {id}", side.as_str()));
        change
            .record(entry.before(json!({"live": live})).after(json!({"live": (live + 1).min(2), "how": how.as_str()})));
        for statement in statements {
            sqlx::query(*statement).bind(num).bind(side.as_str()).execute(change.conn()).await?;
        }
        insert_secret(change.conn(), num, side, &stored).await?;
        change.commit().await?;
        Ok(plain)
    }

    pub(super) async fn reset_secrets(
        &self,
        id: &AppId,
        publish: &PlainSecret,
        subscribe: &PlainSecret,
    ) -> Result<(), AuthDbError> {
        let params = self.scram_params(id).await?;
        let stored =
            [(Side::Publish, derive(publish, &params).await), (Side::Subscribe, derive(subscribe, &params).await)];
        let mut change = self.change().await?;
        let num = app_num(change.conn(), id).await?;
        change.touch(id);
        change.record(Entry::of("secret.reset", id, format!("both secrets of {id}")));
        sqlx::query("DELETE FROM secret WHERE app_num = ?").bind(num).execute(change.conn()).await?;
        for (side, secret) in &stored {
            insert_secret(change.conn(), num, *side, secret).await?;
        }
        change.commit().await?;
        Ok(())
    }

    pub(super) async fn revoke_previous(&self, id: &AppId, side: Side) -> Result<bool, AuthDbError> {
        let mut change = self.change().await?;
        let num = app_num(change.conn(), id).await?;
        let revoked = sqlx::query("DELETE FROM secret WHERE app_num = ? AND side = ? AND slot = 'previous'")
            .bind(num)
            .bind(side.as_str())
            .execute(change.conn())
            .await?
            .rows_affected();
        if revoked > 0 {
            change.touch(id);
            let entry = Entry::of("secret.revoke", id, format!("previous {} secret of {id}", side.as_str()));
            change.record(entry.before(json!({"live": 2})).after(json!({"live": 1})));
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
pub(super) async fn app_num(conn: &mut SqliteConnection, id: &AppId) -> Result<i64, AuthDbError> {
    let num = sqlx::query_scalar("SELECT num FROM app WHERE id = ?").bind(id.as_str()).fetch_optional(conn).await?;
    num.ok_or_else(|| AuthDbError::NoSuchApp(id.clone()))
}

pub(super) fn scram_params(row: &SqliteRow) -> Result<ScramParams, AuthDbError> {
    let params =
        ScramParams { salt: row.try_get("scram_salt")?, iterations: unsigned_column(row, TABLE, "scram_iterations")? };
    if !params.is_sane() {
        return Err(bad(TABLE, format_args!("{} SCRAM iterations", params.iterations)));
    }
    Ok(params)
}

fn app_info(row: &SqliteRow) -> Result<AppInfo, AuthDbError> {
    let text: Option<String> = row.try_get("secrets")?;
    let text = text.unwrap_or_default();
    let parsed = text.split(',').filter(|one| !one.is_empty()).map(|one| {
        let mut words = one.split(' ');
        let secret = (words.next().and_then(Side::parse), words.next(), words.next().and_then(|ms| ms.parse().ok()));
        match secret {
            (Some(side), Some(slot), Some(created_at_ms)) => {
                Ok(SecretInfo { side, is_previous: slot == "previous", created_at_ms })
            }
            _ => Err(bad("secret", format_args!("{one:?}"))),
        }
    });
    let mut secrets: Vec<SecretInfo> = parsed.collect::<Result<_, _>>()?;
    secrets.sort_by_key(|secret| (secret.side.as_str(), !secret.is_previous));
    Ok(AppInfo {
        index: unsigned_column(row, TABLE, "num")?,
        id: name(row, TABLE, "id")?,
        cluster: name(row, TABLE, "cluster")?,
        enabled: row.try_get("enabled")?,
        created_at_ms: row.try_get("created_at_ms")?,
        limits: column(row, TABLE, "limits")?,
        addresses: column(row, TABLE, "addresses")?,
        handoff: row.try_get("handoff")?,
        secrets,
    })
}

async fn retired(conn: &mut SqliteConnection, id: &AppId) -> Result<Option<Retired>, AuthDbError> {
    let retired: Option<i64> = sqlx::query_scalar("SELECT retired_at_ms FROM retired_app WHERE id = ?")
        .bind(id.as_str())
        .fetch_optional(&mut *conn)
        .await?;
    let Some(retired_at_ms) = retired else { return Ok(None) };
    let rows = sqlx::query("SELECT cluster, physical FROM left_topic WHERE owner = ? ORDER BY cluster, physical")
        .bind(id.as_str())
        .fetch_all(conn)
        .await?;
    let topics = rows.iter().map(|row| Ok((name(row, "left_topic", "cluster")?, row.try_get("physical")?)));
    Ok(Some(Retired { retired_at_ms, topics: topics.collect::<Result<_, AuthDbError>>()? }))
}

async fn insert_secret(
    conn: &mut SqliteConnection,
    app_num: i64,
    side: Side,
    secret: &StoredSecret,
) -> Result<(), AuthDbError> {
    insert_secret_at(conn, app_num, side, "current", secret).await
}

/// `slot` is `current`, or `previous` for the older of two.
pub(super) async fn insert_secret_at(
    conn: &mut SqliteConnection,
    app_num: i64,
    side: Side,
    slot: &str,
    secret: &StoredSecret,
) -> Result<(), AuthDbError> {
    sqlx::query(
        "INSERT INTO secret (app_num, side, slot, sha256, scram_256_stored_key, scram_256_server_key,
                             scram_512_stored_key, scram_512_server_key, created_at_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(app_num)
    .bind(side.as_str())
    .bind(slot)
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
