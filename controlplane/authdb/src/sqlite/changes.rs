//! Rows of `change_log`: the apps that each generation touched.
//!
//! A change says which apps it touched (its owner, and whoever was granted what it takes away); a reader reads those
//! apps' rows as they are now, in one transaction with the generation. Cost: the size of these apps, however many others
//! there are.

use std::collections::BTreeSet;

use model::doc::{AppPart, ChangesDoc};
use model::ids::{AppId, Generation};
use sqlx::{Connection, Row, SqliteConnection};

use super::rows::{bad, unsigned};
use super::topics::topic_row;
use super::{SqliteAuthDb, grants, history, load};
use crate::limits::{CHANGED_APPS_MAX, CHANGES_KEPT};
use crate::{AuthDbError, now_ms};

/// In place of apps: too many to name. No app has this name.
pub(super) const EVERYBODY: &str = "*";

impl SqliteAuthDb {
    pub(super) async fn load_changes(&self, since: Generation) -> Result<Option<ChangesDoc>, AuthDbError> {
        let mut conn = self.pool().await?.acquire().await?;
        let mut tx = conn.begin().await?;
        let now = history::read(&mut tx).await?;
        let Some(touched) = touched(&mut tx, since, now).await? else { return Ok(None) };
        let mut parts = Vec::with_capacity(touched.len());
        for id in touched {
            let id = AppId::new(&id).map_err(|err| bad("change_log", err))?;
            parts.push(part(&mut tx, id).await?);
        }
        tx.rollback().await?;
        Ok(Some(ChangesDoc { since, generation: now, made_at_ms: now_ms(), parts }))
    }
}

/// Apps that changes after `since`, up to `now`, touched.
async fn touched(
    conn: &mut SqliteConnection,
    since: Generation,
    now: Generation,
) -> Result<Option<BTreeSet<String>>, AuthDbError> {
    if since.history != now.history || since.number > now.number || now.number - since.number > CHANGES_KEPT {
        return Ok(None);
    }
    let rows = sqlx::query("SELECT number, apps FROM change_log WHERE number > ? ORDER BY number")
        .bind(since.number as i64)
        .fetch_all(conn)
        .await?;
    let (mut touched, mut expected) = (BTreeSet::new(), since.number + 1);
    for row in &rows {
        let number: u64 = unsigned("change_log", row.try_get("number")?)?;
        let apps: String = row.try_get("apps")?;
        if number != expected || apps == EVERYBODY {
            return Ok(None);
        }
        expected += 1;
        touched.extend(apps.split(' ').filter(|app| !app.is_empty()).map(str::to_owned));
        if touched.len() > CHANGED_APPS_MAX {
            return Ok(None);
        }
    }
    Ok((expected == now.number + 1).then_some(touched))
}

async fn part(conn: &mut SqliteConnection, id: AppId) -> Result<AppPart, AuthDbError> {
    let app = load::app(conn, &id).await?;
    let (mut topics, mut grants) = (Vec::new(), Vec::new());
    if app.is_some() {
        let rows = sqlx::query(
            "SELECT topic.*, app.id AS owner FROM topic JOIN app ON app.num = topic.app_num
             WHERE app.id = ? AND state IN ('active', 'disabled') ORDER BY topic.num",
        )
        .bind(id.as_str())
        .fetch_all(&mut *conn)
        .await?;
        topics = rows.iter().map(|row| topic_row(row).map(|row| row.doc)).collect::<Result<_, _>>()?;
        grants = grants::of_app(conn, &id).await?;
    }
    Ok(AppPart { id, app, topics, grants })
}

/// Writes down what a generation touched, and forgets what nobody will ask about.
pub(super) async fn log(
    conn: &mut SqliteConnection,
    generation: Generation,
    touched: &BTreeSet<String>,
) -> Result<(), AuthDbError> {
    let apps = touched.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let number = generation.number as i64;
    // Of a history that is over there may be a row of this number.
    sqlx::query("INSERT OR REPLACE INTO change_log (number, apps) VALUES (?, ?)")
        .bind(number)
        .bind(apps)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM change_log WHERE number <= ? OR number > ?")
        .bind(number - CHANGES_KEPT as i64)
        .bind(number)
        .execute(conn)
        .await?;
    Ok(())
}
