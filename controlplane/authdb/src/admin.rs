//! The manager's one account. Processes that share a database share it, so it is kept here and not per process.

use model::ids::AppId;
use model::secrets::{PlainSecret, SecretHash};
use sqlx::Row;

use crate::audit::Entry;
use crate::principals::refuse_principals;
use crate::rows::{bad, name};
use crate::{AuthDb, AuthDbError, now_ms, random};

const TABLE: &str = "admin";

/// Who the admin is; the key itself was shown once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    pub appid: AppId,
    pub key: SecretHash,
}

impl AuthDb {
    pub async fn admin(&self) -> Result<Option<Admin>, AuthDbError> {
        let row = sqlx::query("SELECT appid, sha256 FROM admin").fetch_optional(&self.pool().await?).await?;
        let Some(row) = row else { return Ok(None) };
        let sha256: Vec<u8> = row.try_get("sha256")?;
        let sha256 = sha256.try_into().map_err(|_| bad(TABLE, "sha256 is not 32 bytes long"))?;
        Ok(Some(Admin { appid: name(&row, TABLE, "appid")?, key: SecretHash::from_bytes(sha256) }))
    }

    /// Makes the account unless there is one; its key (the chosen one or a random one), to be shown once. `None`: the
    /// account exists, made earlier or by another process this very moment.
    pub async fn create_admin(
        &self,
        appid: &AppId,
        chosen: Option<PlainSecret>,
    ) -> Result<Option<PlainSecret>, AuthDbError> {
        let key = match chosen {
            Some(key) => key,
            None => PlainSecret::generate(random()?),
        };
        let mut change = self.change().await?;
        refuse_principals(change.conn(), appid.as_str()).await?;
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

    /// Replaces the account, for an operator who lost the key and may write the file.
    pub async fn reset_admin(&self, appid: &AppId, key: &PlainSecret) -> Result<(), AuthDbError> {
        let mut change = self.change().await?;
        refuse_principals(change.conn(), appid.as_str()).await?;
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

    /// Is this the admin? Constant time in the key.
    pub async fn is_admin(&self, appid: &str, key: &[u8]) -> Result<bool, AuthDbError> {
        let presented = SecretHash::of(key);
        let admin = self.admin().await?;
        Ok(admin.is_some_and(|admin| admin.key.matches(&presented) && admin.appid == appid))
    }
}
