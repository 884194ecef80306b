//! Rows of `audit`.

use model::ReportedEvent;
use model::ids::{AppId, Generation};
use model::principals::Visible;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::SqliteAuthDb;
use super::principals::bound;
use super::rows::{bad, unsigned_column};
use crate::audit::{Entry, actor_of, details_of};
use crate::{Actor, AuditFilter, AuditRow, AuthDbError, Outcome, limits, now_ms};

const TABLE: &str = "audit";

impl SqliteAuthDb {
    pub(super) async fn audit(
        &self,
        filter: &AuditFilter,
        visible: &Visible,
        rows_max: usize,
    ) -> Result<Vec<AuditRow>, AuthDbError> {
        let rows = sqlx::query(
            "SELECT * FROM audit WHERE (?1 IS NULL OR app = ?1) AND (?2 IS NULL OR actor = ?2)
             AND (?3 IS NULL OR operation = ?3) AND (?4 IS NULL OR outcome = ?4) AND (?5 IS NULL OR at_ms >= ?5)
             AND (?6 IS NULL OR at_ms < ?6) AND (?7 IS NULL OR num < ?7)
             AND (?8 IS NULL OR app IN (SELECT value FROM json_each(?8))) ORDER BY num DESC LIMIT ?9",
        )
        .bind(&filter.app)
        .bind(&filter.actor)
        .bind(&filter.operation)
        .bind(filter.outcome.map(Outcome::as_str))
        .bind(filter.from_ms)
        .bind(filter.to_ms)
        .bind(filter.before.map(|num| num as i64))
        .bind(bound(visible))
        .bind(rows_max as i64)
        .fetch_all(&self.pool().await?)
        .await?;
        rows.iter().map(audit_row).collect()
    }

    pub(super) async fn audit_after(&self, num: u64, rows_max: usize) -> Result<Vec<AuditRow>, AuthDbError> {
        let rows = sqlx::query("SELECT * FROM audit WHERE num > ? ORDER BY num LIMIT ?")
            .bind(i64::try_from(num).unwrap_or(i64::MAX))
            .bind(rows_max as i64)
            .fetch_all(&self.pool().await?)
            .await?;
        rows.iter().map(audit_row).collect()
    }

    pub(super) async fn record(
        &self,
        operation: &'static str,
        app: &str,
        subject: &str,
        before: Value,
        after: Value,
    ) -> Result<(), AuthDbError> {
        let mut change = self.change().await?;
        let app = AppId::new(app).ok();
        change.record(Entry { operation, app, subject: subject.to_owned(), before, after, ..Entry::nothing() });
        change.commit_unseen().await
    }

    pub(super) async fn record_denial(&self, operation: &str, app: &str, subject: &str) -> Result<(), AuthDbError> {
        let mut change = self.change().await?;
        let what = (operation, Outcome::Denied, app, subject);
        insert(change.conn(), &self.actor, what, &Entry::nothing(), None, Came::now()).await?;
        change.commit_unseen().await
    }

    pub(super) async fn record_events(&self, events: &[ReportedEvent]) -> Result<usize, AuthDbError> {
        let mut change = self.change().await?;
        let mut count = 0;
        for reported in events {
            let known = sqlx::query("SELECT 1 FROM audit WHERE event = ?").bind(&reported.id);
            if known.fetch_optional(change.conn()).await?.is_some() {
                continue;
            }
            let event = &reported.event;
            let actor = Actor { subject: actor_of(event), request_id: String::new() };
            let outcome = if event.what.is_login() { Outcome::Denied } else { Outcome::Done };
            let what = (event.what.as_str(), outcome, event.app.as_str(), event.about.as_str());
            let entry = Entry::nothing().after(details_of(reported));
            let came = Came { at_ms: event.at_ms, event: Some(&reported.id) };
            insert(change.conn(), &actor, what, &entry, None, came).await?;
            count += 1;
        }
        change.commit_unseen().await?;
        Ok(count)
    }
}

/// When it was, and what it is known by if it is told more than once.
struct Came<'a> {
    at_ms: i64,
    event: Option<&'a str>,
}

impl Came<'_> {
    fn now() -> Self {
        Came { at_ms: now_ms(), event: None }
    }
}

pub(super) async fn write(
    conn: &mut SqliteConnection,
    actor: &Actor,
    entries: &[Entry],
    generation: Option<Generation>,
) -> Result<(), AuthDbError> {
    for entry in entries {
        let app = entry.app.as_ref().map_or("", AppId::as_str);
        let what = (entry.operation, Outcome::Done, app, entry.subject.as_str());
        insert(conn, actor, what, entry, generation, Came::now()).await?;
    }
    Ok(())
}

async fn insert(
    conn: &mut SqliteConnection,
    actor: &Actor,
    (operation, outcome, app, subject): (&str, Outcome, &str, &str),
    entry: &Entry,
    generation: Option<Generation>,
    came: Came<'_>,
) -> Result<(), AuthDbError> {
    let json = |value: &Value| if value.is_null() { String::new() } else { value.to_string() };
    let num = sqlx::query(
        "INSERT INTO audit (at_ms, actor, request_id, operation, outcome, app, subject, before, after, cascades, generation,
                            event)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(came.at_ms)
    .bind(&actor.subject)
    .bind(&actor.request_id)
    .bind(operation)
    .bind(outcome.as_str())
    .bind(app)
    .bind(subject)
    .bind(json(&entry.before))
    .bind(json(&entry.after))
    .bind(Value::from(entry.cascades.clone()).to_string())
    .bind(generation.map_or(String::new(), |generation| generation.to_string()))
    .bind(came.event)
    .execute(&mut *conn)
    .await?
    .last_insert_rowid();
    // A row now and then pays for the old ones.
    if num % limits::AUDIT_SWEEP_ROWS == 0 {
        sqlx::query("DELETE FROM audit WHERE num <= ?").bind(num - limits::AUDIT_ROWS_MAX).execute(conn).await?;
    }
    Ok(())
}

fn audit_row(row: &SqliteRow) -> Result<AuditRow, AuthDbError> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let json = |column: &str| -> Result<Value, AuthDbError> {
        let text = text(column)?;
        if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text).map_err(|err| bad(TABLE, err)) }
    };
    let outcome = text("outcome")?;
    let cascades = serde_json::from_str(&text("cascades")?).map_err(|err| bad(TABLE, err))?;
    Ok(AuditRow {
        num: unsigned_column(row, TABLE, "num")?,
        at_ms: row.try_get("at_ms")?,
        actor: text("actor")?,
        request_id: text("request_id")?,
        operation: text("operation")?,
        outcome: Outcome::parse(&outcome).ok_or_else(|| bad(TABLE, outcome))?,
        app: text("app")?,
        subject: text("subject")?,
        before: json("before")?,
        after: json("after")?,
        cascades,
        generation: Generation::parse(&text("generation")?),
    })
}
