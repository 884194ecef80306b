//! Everything at one generation, for the agent.

use std::collections::HashMap;

use model::Side;
use model::doc::{AppDoc, SnapshotDoc};
use model::ids::Generation;
use model::secrets::{SecretPair, StoredSecret};
use sqlx::{Row, SqliteConnection};

use crate::apps::scram_params;
use crate::rows::{bad, name, stored_secret, unsigned, unsigned_column};
use crate::topics::topic_doc;
use crate::{AuthDb, AuthDbError, grants, now_ms};

impl AuthDb {
    /// Reads in one transaction, so generation and rows belong together whatever others write meanwhile.
    pub async fn load(&self) -> Result<SnapshotDoc, AuthDbError> {
        let mut tx = self.pool().await?.begin().await?;
        let generation: i64 = sqlx::query_scalar("SELECT value FROM generation").fetch_one(&mut *tx).await?;
        let apps = load_apps(&mut tx).await?;
        let topics = sqlx::query(
            "SELECT topic.*, app.id AS owner FROM topic JOIN app ON app.num = topic.app_num ORDER BY topic.num",
        )
        .fetch_all(&mut *tx)
        .await?;
        let topics = topics.iter().map(topic_doc).collect::<Result<Vec<_>, _>>()?;
        let grants = grants::select(&mut tx, None).await?;
        tx.rollback().await?;
        let generation = Generation(unsigned("generation", generation)?);
        Ok(SnapshotDoc { generation, made_at_ms: now_ms(), apps, topics, grants })
    }
}

async fn load_apps(conn: &mut SqliteConnection) -> Result<Vec<AppDoc>, AuthDbError> {
    let mut secrets: HashMap<(i64, String, String), StoredSecret> = HashMap::new();
    for row in sqlx::query("SELECT * FROM secret").fetch_all(&mut *conn).await? {
        let at = (row.try_get("app_num")?, row.try_get("side")?, row.try_get("slot")?);
        secrets.insert(at, stored_secret(&row)?);
    }
    let mut pair = |num: i64, side: Side| -> Result<SecretPair, AuthDbError> {
        let mut take = |slot: &str| secrets.remove(&(num, side.as_str().to_owned(), slot.to_owned()));
        let current = take("current");
        let current =
            current.ok_or_else(|| bad("secret", format_args!("app {num} has no {} secret", side.as_str())))?;
        Ok(SecretPair { current, previous: take("previous") })
    };
    let rows = sqlx::query("SELECT * FROM app ORDER BY num").fetch_all(&mut *conn).await?;
    rows.iter()
        .map(|row| {
            let num = row.try_get("num")?;
            Ok(AppDoc {
                index: unsigned_column(row, "app", "num")?,
                id: name(row, "app", "id")?,
                cluster: name(row, "app", "cluster")?,
                enabled: row.try_get("enabled")?,
                scram: scram_params(row)?,
                publish: pair(num, Side::Publish)?,
                subscribe: pair(num, Side::Subscribe)?,
            })
        })
        .collect()
}
