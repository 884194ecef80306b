//! The one row of `generation`, and how it moves.

use model::ids::{Generation, HistoryId};
use sqlx::{Row, SqliteConnection};

use super::rows::{bad, unsigned};
use crate::history::Seen;
use crate::{AuthDbError, random};

pub(super) async fn read(conn: &mut SqliteConnection) -> Result<Generation, AuthDbError> {
    const TABLE: &str = "generation";
    let row = sqlx::query("SELECT history, value FROM generation").fetch_one(conn).await?;
    let history: Vec<u8> = row.try_get("history")?;
    let history = history.try_into().map_err(|_| bad(TABLE, "history is not 8 bytes long"))?;
    Ok(Generation {
        history: HistoryId::new(u64::from_be_bytes(history)),
        number: unsigned(TABLE, row.try_get("value")?)?,
    })
}

/// To the next generation, under the write lock; of a new history, if the database was restored.
pub(super) async fn advance(conn: &mut SqliteConnection, seen: &Seen) -> Result<Generation, AuthDbError> {
    let found = read(conn).await?;
    let number = found.number + 1;
    if seen.is_fine(found) {
        sqlx::query("UPDATE generation SET value = ?").bind(number as i64).execute(conn).await?;
        return Ok(Generation { number, ..found });
    }
    let history: [u8; 8] = random()?;
    let next = Generation { history: HistoryId::new(u64::from_be_bytes(history)), number };
    tracing::warn!(%found, %next, "database is older than it was seen (restored?), it goes on in a new history");
    sqlx::query("UPDATE generation SET history = ?, value = ?")
        .bind(history.as_slice())
        .bind(number as i64)
        .execute(conn)
        .await?;
    Ok(next)
}
