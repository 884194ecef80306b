//! Everything at one generation, for the agent.
//!
//! One read transaction: SQLite shows it the database as it was at its first statement, whatever is committed meanwhile,
//! and the journal being a WAL, nobody waits for it.

use std::collections::HashMap;

use model::Side;
use model::doc::{AppDoc, GrantDoc, SnapshotDoc};
use model::ids::{AppId, Generation};
use model::secrets::{SecretPair, StoredSecret};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::apps::scram_params;
use super::limits::LOAD_ROWS;
use super::quotas::column;
use super::rows::{bad, name, optional_name, stored_secret, unsigned_column};
use super::topics::topic_row;
use super::{SqliteAuthDb, history};
use crate::{AuthDbError, now_ms};

impl SqliteAuthDb {
    pub(super) async fn load(&self) -> Result<SnapshotDoc, AuthDbError> {
        let mut tx = self.pool().await?.begin().await?;
        let generation = history::read(&mut tx).await?;
        let apps = load_apps(&mut tx).await?;
        let topics = sqlx::query(
            "SELECT topic.*, app.id AS owner FROM topic JOIN app ON app.num = topic.app_num
             WHERE state IN ('active', 'disabled') ORDER BY topic.num",
        )
        .fetch_all(&mut *tx)
        .await?;
        let topics = topics.iter().map(|row| topic_row(row).map(|row| row.doc)).collect::<Result<Vec<_>, _>>()?;
        let grants = load_grants(&mut tx, &apps).await?;
        tx.rollback().await?;
        let Generation { history, number: generation } = generation;
        Ok(SnapshotDoc { generation, history, made_at_ms: now_ms(), apps, topics, grants })
    }
}

/// All of them: a million are read in seconds, so nothing is joined, sorted or kept twice.
async fn load_grants(conn: &mut SqliteConnection, apps: &[AppDoc]) -> Result<Vec<GrantDoc>, AuthDbError> {
    let ids: HashMap<i64, &AppId> = apps.iter().map(|app| (i64::from(app.index), &app.id)).collect();
    let id = |table, row: &SqliteRow, column| -> Result<AppId, AuthDbError> {
        let num: i64 = row.try_get(column)?;
        ids.get(&num).map(|id| AppId::clone(id)).ok_or_else(|| bad(table, format_args!("there is no app {num}")))
    };
    let (mut topics, mut versions) = (Known::default(), Known::default());
    let mut grants = Vec::new();
    const SUBSCRIBE: &str = "subscribe_grant";
    let mut last = 0_i64;
    loop {
        let rows = sqlx::query(
            "SELECT rowid, app_num, owner_num, topic, ver FROM subscribe_grant WHERE rowid > ? ORDER BY rowid LIMIT ?",
        )
        .bind(last)
        .bind(LOAD_ROWS)
        .fetch_all(&mut *conn)
        .await?;
        let Some(end) = rows.last() else { break };
        last = end.try_get("rowid")?;
        for row in &rows {
            let ver: &str = row.try_get("ver")?;
            grants.push(GrantDoc::Subscribe {
                app: id(SUBSCRIBE, row, "app_num")?,
                owner: id(SUBSCRIBE, row, "owner_num")?,
                topic: topics.get(SUBSCRIBE, row.try_get("topic")?)?,
                ver: if ver.is_empty() { None } else { Some(versions.get(SUBSCRIBE, ver)?) },
            });
        }
    }
    let rows = sqlx::query("SELECT app_num, cluster, topic FROM raw_grant").fetch_all(conn).await?;
    for row in &rows {
        const RAW: &str = "raw_grant";
        let (app, cluster) = (id(RAW, row, "app_num")?, name(row, RAW, "cluster")?);
        grants.push(GrantDoc::RawPublish { app, cluster, topic: optional_name(row, RAW, "topic")? });
    }
    Ok(grants)
}

/// Names that were seen: the same text is kept and checked once.
struct Known<T>(HashMap<String, T>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: TryFrom<String, Error: std::fmt::Display> + Clone> Known<T> {
    fn get(&mut self, table: &'static str, text: &str) -> Result<T, AuthDbError> {
        if let Some(known) = self.0.get(text) {
            return Ok(known.clone());
        }
        let new = T::try_from(text.to_owned()).map_err(|err| bad(table, err))?;
        self.0.insert(text.to_owned(), new.clone());
        Ok(new)
    }
}

async fn load_apps(conn: &mut SqliteConnection) -> Result<Vec<AppDoc>, AuthDbError> {
    let secrets = sqlx::query("SELECT * FROM secret").fetch_all(&mut *conn).await?;
    let mut secrets = Secrets::of(&secrets)?;
    let rows = sqlx::query("SELECT * FROM app ORDER BY num").fetch_all(&mut *conn).await?;
    rows.iter().map(|row| app_doc(row, &mut secrets)).collect()
}

/// One app; `None`: it is gone.
pub(super) async fn app(conn: &mut SqliteConnection, id: &AppId) -> Result<Option<AppDoc>, AuthDbError> {
    let row = sqlx::query("SELECT * FROM app WHERE id = ?").bind(id.as_str()).fetch_optional(&mut *conn).await?;
    let Some(row) = row else { return Ok(None) };
    let secrets = sqlx::query("SELECT * FROM secret WHERE app_num = ?")
        .bind(row.try_get::<i64, _>("num")?)
        .fetch_all(conn)
        .await?;
    app_doc(&row, &mut Secrets::of(&secrets)?).map(Some)
}

/// By app, side and slot.
struct Secrets(HashMap<(i64, String, String), StoredSecret>);

impl Secrets {
    fn of(rows: &[SqliteRow]) -> Result<Self, AuthDbError> {
        let mut secrets = HashMap::with_capacity(rows.len());
        for row in rows {
            let at = (row.try_get("app_num")?, row.try_get("side")?, row.try_get("slot")?);
            secrets.insert(at, stored_secret(row)?);
        }
        Ok(Self(secrets))
    }

    fn pair(&mut self, num: i64, side: Side) -> Result<SecretPair, AuthDbError> {
        let mut take = |slot: &str| self.0.remove(&(num, side.as_str().to_owned(), slot.to_owned()));
        let current = take("current");
        let current =
            current.ok_or_else(|| bad("secret", format_args!("app {num} has no {} secret", side.as_str())))?;
        Ok(SecretPair { current, previous: take("previous") })
    }
}

fn app_doc(row: &SqliteRow, secrets: &mut Secrets) -> Result<AppDoc, AuthDbError> {
    let num = row.try_get("num")?;
    Ok(AppDoc {
        index: unsigned_column(row, "app", "num")?,
        id: name(row, "app", "id")?,
        cluster: name(row, "app", "cluster")?,
        enabled: row.try_get("enabled")?,
        scram: scram_params(row)?,
        publish: secrets.pair(num, Side::Publish)?,
        subscribe: secrets.pair(num, Side::Subscribe)?,
        limits: column(row, "app", "limits")?,
        addresses: column(row, "app", "addresses")?,
        handoff: row.try_get("handoff")?,
    })
}
