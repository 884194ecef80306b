//! Rows of `principal`, `principal_app` and `token_key`.

use model::ids::{AppId, PrincipalName};
use model::limits::PRINCIPALS_MAX;
use model::principals::{Role, Visible};
use model::secrets::{PlainSecret, SecretHash};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::SqliteAuthDb;
use super::apps::app_num;
use super::errors::is_unique_violation;
use super::rows::{bad, name};
use crate::apps::random_secret;
use crate::audit::Entry;
use crate::principals::{RESERVED, check, json as shown};
use crate::{
    AppLogin, AuthDbError, NewPrincipal, Principal, PrincipalLogin, PrincipalUpdate, TokenKey, now_ms, random,
};

const TABLE: &str = "principal";

/// A row with the ids of its apps, in order.
macro_rules! select_principal {
    ($which:literal) => {
        concat!(
            "SELECT principal.*, (SELECT json_group_array(id) FROM (SELECT app.id FROM principal_app
                    JOIN app ON app.num = app_num WHERE principal_num = principal.num ORDER BY app.id)) AS apps
             FROM principal ",
            $which
        )
    };
}

impl SqliteAuthDb {
    pub(super) async fn create_principal(&self, new: NewPrincipal) -> Result<(Principal, PlainSecret), AuthDbError> {
        let NewPrincipal { name, role, apps, every_app } = new;
        check(role, &apps, every_app)?;
        let key = random_secret()?;
        let mut change = self.change().await?;
        refuse_taken(change.conn(), name.as_str()).await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM principal").fetch_one(change.conn()).await?;
        if count >= PRINCIPALS_MAX as i64 {
            return Err(AuthDbError::TooMany { what: "principals", limit: PRINCIPALS_MAX });
        }
        let now = now_ms();
        let inserted = sqlx::query(
            "INSERT INTO principal (name, role, every_app, enabled, sha256, stamp, created_at_ms, key_at_ms)
             VALUES (?, ?, ?, 1, ?, ?, ?, ?)",
        )
        .bind(name.as_str())
        .bind(role.as_str())
        .bind(every_app)
        .bind(SecretHash::of(key.expose().as_bytes()).as_bytes().as_slice())
        .bind(random::<8>()?.as_slice())
        .bind(now)
        .bind(now)
        .execute(change.conn())
        .await;
        let num = match inserted {
            Ok(done) => done.last_insert_rowid(),
            Err(err) if is_unique_violation(&err) => return Err(taken(name.as_str(), "a principal")),
            Err(err) => return Err(err.into()),
        };
        set_apps(change.conn(), num, &apps).await?;
        let principal = find(change.conn(), &name).await?.principal;
        change.record(Entry::about("principal.create", &name).after(shown(&principal)));
        change.commit_unseen().await?;
        Ok((principal, key))
    }

    pub(super) async fn list_principals(&self) -> Result<Vec<Principal>, AuthDbError> {
        let rows = sqlx::query(select_principal!("ORDER BY name")).fetch_all(&self.pool().await?).await?;
        rows.iter().map(|row| login(row).map(|login| login.principal)).collect()
    }

    pub(super) async fn get_principal(&self, name: &PrincipalName) -> Result<Principal, AuthDbError> {
        let mut conn = self.pool().await?.acquire().await?;
        Ok(find(&mut conn, name).await?.principal)
    }

    pub(super) async fn principal_login(&self, name: &str) -> Result<Option<PrincipalLogin>, AuthDbError> {
        let row =
            sqlx::query(select_principal!("WHERE name = ?")).bind(name).fetch_optional(&self.pool().await?).await?;
        row.as_ref().map(login).transpose()
    }

    pub(super) async fn app_login(&self, id: &str) -> Result<Option<AppLogin>, AuthDbError> {
        let rows = sqlx::query(
            "SELECT id, enabled, sha256 FROM app JOIN secret ON app_num = num WHERE id = ? AND side = 'publish'",
        )
        .bind(id)
        .fetch_all(&self.pool().await?)
        .await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let keys = rows.iter().map(|row| hash(row, "secret")).collect::<Result<_, _>>()?;
        Ok(Some(AppLogin { id: name(first, "app", "id")?, enabled: first.try_get("enabled")?, keys }))
    }

    pub(super) async fn update_principal(
        &self,
        name: &PrincipalName,
        update: PrincipalUpdate,
    ) -> Result<Principal, AuthDbError> {
        let mut change = self.change().await?;
        let before = find(change.conn(), name).await?.principal;
        let enabled = update.enabled.unwrap_or(before.enabled);
        let (role, apps, every_app) = update.of(&before);
        check(role, &apps, every_app)?;
        let num: i64 = sqlx::query_scalar(
            "UPDATE principal SET role = ?, every_app = ?, enabled = ?, stamp = ? WHERE name = ? RETURNING num",
        )
        .bind(role.as_str())
        .bind(every_app)
        .bind(enabled)
        .bind(random::<8>()?.as_slice())
        .bind(name.as_str())
        .fetch_one(change.conn())
        .await?;
        if apps != before.apps {
            set_apps(change.conn(), num, &apps).await?;
        }
        let after = find(change.conn(), name).await?.principal;
        change.record(Entry::about("principal.update", name).before(shown(&before)).after(shown(&after)));
        change.commit_unseen().await?;
        Ok(after)
    }

    pub(super) async fn rotate_principal_key(&self, name: &PrincipalName) -> Result<PlainSecret, AuthDbError> {
        let key = random_secret()?;
        let mut change = self.change().await?;
        let done = sqlx::query("UPDATE principal SET sha256 = ?, stamp = ?, key_at_ms = ? WHERE name = ?")
            .bind(SecretHash::of(key.expose().as_bytes()).as_bytes().as_slice())
            .bind(random::<8>()?.as_slice())
            .bind(now_ms())
            .bind(name.as_str())
            .execute(change.conn())
            .await?
            .rows_affected();
        if done == 0 {
            return Err(AuthDbError::NoSuchPrincipal(name.clone()));
        }
        change.record(Entry::about("principal.rotate", name));
        change.commit_unseen().await?;
        Ok(key)
    }

    pub(super) async fn delete_principal(&self, name: &PrincipalName) -> Result<bool, AuthDbError> {
        let mut change = self.change().await?;
        let before = match find(change.conn(), name).await {
            Ok(login) => login.principal,
            Err(AuthDbError::NoSuchPrincipal(_)) => return Ok(false),
            Err(err) => return Err(err),
        };
        sqlx::query("DELETE FROM principal WHERE name = ?").bind(name.as_str()).execute(change.conn()).await?;
        change.record(Entry::about("principal.delete", name).before(shown(&before)));
        change.commit_unseen().await?;
        Ok(true)
    }

    pub(super) async fn token_key(&self) -> Result<Option<TokenKey>, AuthDbError> {
        let mut conn = self.pool().await?.acquire().await?;
        token_key(&mut conn).await
    }

    pub(super) async fn begin_token(&self, jti: &str, expires_at_ms: i64) -> Result<TokenKey, AuthDbError> {
        let mut change = self.change().await?;
        let key = match token_key(change.conn()).await? {
            Some(key) => key,
            None => replace_token_key(change.conn()).await?,
        };
        let subject = self.actor.subject.clone();
        change.record(Entry::about("token.create", subject).after(json!({"jti": jti, "expires_at": expires_at_ms})));
        change.commit_unseen().await?;
        Ok(key)
    }

    pub(super) async fn renew_token_key(&self) -> Result<(), AuthDbError> {
        let mut change = self.change().await?;
        let key = replace_token_key(change.conn()).await?;
        change.record(Entry::about("token_key.renew", &key.kid));
        change.commit_unseen().await
    }
}

/// That no principal has the name that an app or the admin is about to get.
pub(super) async fn refuse_principals(conn: &mut SqliteConnection, name: &str) -> Result<(), AuthDbError> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT num FROM principal WHERE name = ?").bind(name).fetch_optional(conn).await?;
    if found.is_some() { Err(taken(name, "a principal")) } else { Ok(()) }
}

/// Principals that own or see an app, one by one.
pub(super) async fn of_app(conn: &mut SqliteConnection, app_num: i64) -> Result<Vec<String>, AuthDbError> {
    let names = sqlx::query_scalar(
        "SELECT name FROM principal JOIN principal_app ON principal_num = num WHERE app_num = ? ORDER BY name",
    );
    Ok(names.bind(app_num).fetch_all(conn).await?)
}

/// Whose rows are read, as a statement takes it: NULL for everybody's, or a JSON array for `json_each`.
pub(super) fn bound(visible: &Visible) -> Option<String> {
    match visible {
        Visible::All => None,
        Visible::Apps(apps) => Some(Value::from_iter(apps.iter().map(AppId::as_str)).to_string()),
    }
}

async fn refuse_taken(conn: &mut SqliteConnection, name: &str) -> Result<(), AuthDbError> {
    if RESERVED.contains(&name) {
        return Err(taken(name, "the audit log's"));
    }
    let of: Option<String> = sqlx::query_scalar(
        "SELECT 'an app' FROM app WHERE id = ?1 UNION ALL SELECT 'the admin' FROM admin WHERE appid = ?1
         UNION ALL SELECT 'a principal' FROM principal WHERE name = ?1",
    )
    .bind(name)
    .fetch_optional(conn)
    .await?;
    match of.as_deref() {
        None => Ok(()),
        Some("an app") => Err(taken(name, "an app")),
        Some("the admin") => Err(taken(name, "the admin")),
        Some(_) => Err(taken(name, "a principal")),
    }
}

fn taken(name: &str, by: &'static str) -> AuthDbError {
    AuthDbError::NameTaken { name: name.to_owned(), by }
}

async fn set_apps(conn: &mut SqliteConnection, num: i64, apps: &[AppId]) -> Result<(), AuthDbError> {
    sqlx::query("DELETE FROM principal_app WHERE principal_num = ?").bind(num).execute(&mut *conn).await?;
    for app in apps {
        let app_num = app_num(conn, app).await?;
        sqlx::query("INSERT OR IGNORE INTO principal_app VALUES (?, ?)")
            .bind(num)
            .bind(app_num)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

async fn find(conn: &mut SqliteConnection, name: &PrincipalName) -> Result<PrincipalLogin, AuthDbError> {
    let row = sqlx::query(select_principal!("WHERE name = ?")).bind(name.as_str()).fetch_optional(conn).await?;
    login(&row.ok_or_else(|| AuthDbError::NoSuchPrincipal(name.clone()))?)
}

fn login(row: &SqliteRow) -> Result<PrincipalLogin, AuthDbError> {
    let role: String = row.try_get("role")?;
    let apps: Vec<AppId> = serde_json::from_str(&row.try_get::<String, _>("apps")?).map_err(|err| bad("app", err))?;
    let stamp: Vec<u8> = row.try_get("stamp")?;
    let principal = Principal {
        name: name(row, TABLE, "name")?,
        role: Role::parse(&role).ok_or_else(|| bad(TABLE, format_args!("{role:?} is no role")))?,
        apps,
        every_app: row.try_get("every_app")?,
        enabled: row.try_get("enabled")?,
        created_at_ms: row.try_get("created_at_ms")?,
        key_at_ms: row.try_get("key_at_ms")?,
    };
    Ok(PrincipalLogin { principal, key: hash(row, TABLE)?, stamp: hex(&stamp) })
}

fn hash(row: &SqliteRow, table: &'static str) -> Result<SecretHash, AuthDbError> {
    let sha256: Vec<u8> = row.try_get("sha256")?;
    let sha256 = sha256.try_into().map_err(|_| bad(table, "sha256 is not 32 bytes long"))?;
    Ok(SecretHash::from_bytes(sha256))
}

async fn token_key(conn: &mut SqliteConnection) -> Result<Option<TokenKey>, AuthDbError> {
    let row = sqlx::query("SELECT kid, seed FROM token_key").fetch_optional(conn).await?;
    let Some(row) = row else { return Ok(None) };
    let seed: Vec<u8> = row.try_get("seed")?;
    let seed = seed.try_into().map_err(|_| bad("token_key", "seed is not 32 bytes long"))?;
    Ok(Some(TokenKey { kid: row.try_get("kid")?, seed }))
}

async fn replace_token_key(conn: &mut SqliteConnection) -> Result<TokenKey, AuthDbError> {
    let key = TokenKey { kid: hex(&random::<8>()?), seed: random()? };
    sqlx::query("INSERT OR REPLACE INTO token_key (id, kid, seed, created_at_ms) VALUES (1, ?, ?, ?)")
        .bind(&key.kid)
        .bind(key.seed.as_slice())
        .bind(now_ms())
        .execute(conn)
        .await?;
    Ok(key)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
