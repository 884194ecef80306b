//! The one row of `admin`.

use model::ids::AppId;
use model::secrets::{PlainSecret, SecretHash};
use sqlx::Row;

use super::SqliteAuthDb;
use super::rows::{bad, name};
use crate::apps::random_secret;
use crate::audit::Entry;
use crate::{Admin, AuthDbError, now_ms};

const TABLE: &str = "admin";

impl SqliteAuthDb {
    pub(super) async fn admin(&self) -> Result<Option<Admin>, AuthDbError> {
        let row = sqlx::query("SELECT appid, sha256 FROM admin").fetch_optional(&self.pool().await?).await?;
        let Some(row) = row else { return Ok(None) };
        let sha256: Vec<u8> = row.try_get("sha256")?;
        let sha256 = sha256.try_into().map_err(|_| bad(TABLE, "sha256 is not 32 bytes long"))?;
        Ok(Some(Admin { appid: name(&row, TABLE, "appid")?, key: SecretHash::from_bytes(sha256) }))
    }

    pub(super) async fn create_admin(
        &self,
        appid: &AppId,
        chosen: Option<PlainSecret>,
    ) -> Result<Option<PlainSecret>, AuthDbError> {
        let key = chosen.map_or_else(random_secret, Ok)?;
        let mut change = self.change().await?;
        let inserted =
            sqlx::query("INSERT OR IGNORE INTO admin (id, appid, sha256, created_at_ms) VALUES (1, ?, ?, ?)")
                .bind(appid.as_str())
                .bind(SecretHash::of(key.expose().as_bytes()).as_bytes().as_slice())
                .bind(now_ms())
                .execute(change.conn())
                .await?
                .rows_affected();
        if inserted == 0 {
            return Ok(None);
        }
        change.record(Entry::of("admin.create", appid, appid));
        change.commit().await?;
        Ok(Some(key))
    }

    pub(super) async fn reset_admin(&self, appid: &AppId, key: &PlainSecret) -> Result<(), AuthDbError> {
        let mut change = self.change().await?;
        sqlx::query("INSERT OR REPLACE INTO admin (id, appid, sha256, created_at_ms) VALUES (1, ?, ?, ?)")
            .bind(appid.as_str())
            .bind(SecretHash::of(key.expose().as_bytes()).as_bytes().as_slice())
            .bind(now_ms())
            .execute(change.conn())
            .await?;
        change.record(Entry::of("admin.reset", appid, appid));
        change.commit().await?;
        Ok(())
    }
}
