//! Principals: who may call the manager beside the admin, in which role, and for which apps; and the key that signs their
//! tokens.
//!
//! A name is one caller's: no principal has the name of an app, of the admin, or of what the audit log calls others. No
//! snapshot shows any of this, so a change here makes no generation.

use std::fmt;

use model::ids::{AppId, PrincipalName};
use model::limits::{PRINCIPAL_APPS_MAX, PRINCIPALS_MAX};
use model::principals::{Role, Visible};
use model::secrets::{PlainSecret, SecretHash};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::apps::app_num;
use crate::audit::Entry;
use crate::error::is_unique_violation;
use crate::rows::{bad, name};
use crate::{AuthDb, AuthDbError, now_ms, random};

const TABLE: &str = "principal";

/// Actors of the audit log that are no principals.
const RESERVED: [&str; 2] = ["system", "unknown"];

/// A principal to be made.
#[derive(Debug, Clone)]
pub struct NewPrincipal {
    pub name: PrincipalName,
    pub role: Role,
    /// What an owner owns, or a reader sees.
    pub apps: Vec<AppId>,
    /// A reader of all of them, those to come too.
    pub every_app: bool,
}

/// What to change; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct PrincipalUpdate {
    pub role: Option<Role>,
    pub apps: Option<Vec<AppId>>,
    pub every_app: Option<bool>,
    pub enabled: Option<bool>,
}

/// What may be shown of a principal at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub name: PrincipalName,
    pub role: Role,
    pub apps: Vec<AppId>,
    pub every_app: bool,
    pub enabled: bool,
    pub created_at_ms: i64,
    /// Since when its key is its key.
    pub key_at_ms: i64,
}

impl Principal {
    pub fn visible(&self) -> Visible {
        if self.role == Role::Admin || self.every_app { Visible::All } else { Visible::Apps(self.apps.clone()) }
    }
}

/// A principal with what proves that it is one.
#[derive(Debug, Clone)]
pub struct PrincipalLogin {
    pub principal: Principal,
    pub key: SecretHash,
    /// Another one after every change: a token holds for one stamp.
    pub stamp: String,
}

/// An app with what proves that it publishes.
#[derive(Debug, Clone)]
pub struct AppLogin {
    pub id: AppId,
    pub enabled: bool,
    pub keys: Vec<SecretHash>,
}

/// What signs tokens. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// Its name in the head of a token.
    pub kid: String,
    /// Of Ed25519.
    pub seed: [u8; 32],
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

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

impl AuthDb {
    /// With its key, to be shown once.
    pub async fn create_principal(&self, new: NewPrincipal) -> Result<(Principal, PlainSecret), AuthDbError> {
        let NewPrincipal { name, role, apps, every_app } = new;
        check(role, &apps, every_app)?;
        let key = PlainSecret::generate(random()?);
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
        change.record(Entry::about("principal.create", &name).after(json(&principal)));
        change.commit_unseen().await?;
        Ok((principal, key))
    }

    /// By name.
    pub async fn list_principals(&self) -> Result<Vec<Principal>, AuthDbError> {
        let rows = sqlx::query(select_principal!("ORDER BY name")).fetch_all(&self.pool().await?).await?;
        rows.iter().map(|row| login(row).map(|login| login.principal)).collect()
    }

    pub async fn get_principal(&self, name: &PrincipalName) -> Result<Principal, AuthDbError> {
        let mut conn = self.pool().await?.acquire().await?;
        Ok(find(&mut conn, name).await?.principal)
    }

    /// What somebody who says that this is their name has to prove; `None`: nobody has this name.
    pub async fn principal_login(&self, name: &str) -> Result<Option<PrincipalLogin>, AuthDbError> {
        let row =
            sqlx::query(select_principal!("WHERE name = ?")).bind(name).fetch_optional(&self.pool().await?).await?;
        row.as_ref().map(login).transpose()
    }

    /// As [`AuthDb::principal_login`], of an app and its secrets for publishing.
    pub async fn app_login(&self, id: &str) -> Result<Option<AppLogin>, AuthDbError> {
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

    /// Its tokens are void from now on. Apps that the role has no use for are taken away with the old role.
    pub async fn update_principal(
        &self,
        name: &PrincipalName,
        update: PrincipalUpdate,
    ) -> Result<Principal, AuthDbError> {
        let mut change = self.change().await?;
        let before = find(change.conn(), name).await?.principal;
        let role = update.role.unwrap_or(before.role);
        let every_app = update.every_app.unwrap_or(role == Role::Reader && before.every_app && update.apps.is_none());
        let apps = match update.apps {
            Some(apps) => apps,
            None if matches!(role, Role::Owner | Role::Reader) && !every_app => before.apps.clone(),
            None => Vec::new(),
        };
        check(role, &apps, every_app)?;
        let num: i64 = sqlx::query_scalar(
            "UPDATE principal SET role = ?, every_app = ?, enabled = ?, stamp = ? WHERE name = ? RETURNING num",
        )
        .bind(role.as_str())
        .bind(every_app)
        .bind(update.enabled.unwrap_or(before.enabled))
        .bind(random::<8>()?.as_slice())
        .bind(name.as_str())
        .fetch_one(change.conn())
        .await?;
        if apps != before.apps {
            set_apps(change.conn(), num, &apps).await?;
        }
        let after = find(change.conn(), name).await?.principal;
        change.record(Entry::about("principal.update", name).before(json(&before)).after(json(&after)));
        change.commit_unseen().await?;
        Ok(after)
    }

    /// The key so far and all tokens are void from now on; the new key, to be shown once.
    pub async fn rotate_principal_key(&self, name: &PrincipalName) -> Result<PlainSecret, AuthDbError> {
        let key = PlainSecret::generate(random()?);
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

    /// `false`: there was none.
    pub async fn delete_principal(&self, name: &PrincipalName) -> Result<bool, AuthDbError> {
        let mut change = self.change().await?;
        let before = match find(change.conn(), name).await {
            Ok(login) => login.principal,
            Err(AuthDbError::NoSuchPrincipal(_)) => return Ok(false),
            Err(err) => return Err(err),
        };
        sqlx::query("DELETE FROM principal WHERE name = ?").bind(name.as_str()).execute(change.conn()).await?;
        change.record(Entry::about("principal.delete", name).before(json(&before)));
        change.commit_unseen().await?;
        Ok(true)
    }

    /// What tokens are signed with, the same for all processes; `None`: none was given out yet.
    pub async fn token_key(&self) -> Result<Option<TokenKey>, AuthDbError> {
        let mut conn = self.pool().await?.acquire().await?;
        token_key(&mut conn).await
    }

    /// Writes down that this handle's actor gets a token of this id, and says what to sign it with: the key is made with
    /// the first token.
    pub async fn begin_token(&self, jti: &str, expires_at_ms: i64) -> Result<TokenKey, AuthDbError> {
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

    /// All tokens given out so far are void from now on.
    pub async fn renew_token_key(&self) -> Result<(), AuthDbError> {
        let mut change = self.change().await?;
        let key = replace_token_key(change.conn()).await?;
        change.record(Entry::about("token_key.renew", &key.kid));
        change.commit_unseen().await
    }
}

/// That no principal has the name that an app or the admin is about to get.
pub(crate) async fn refuse_principals(conn: &mut SqliteConnection, name: &str) -> Result<(), AuthDbError> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT num FROM principal WHERE name = ?").bind(name).fetch_optional(conn).await?;
    if found.is_some() { Err(taken(name, "a principal")) } else { Ok(()) }
}

/// Principals that own or see an app, one by one.
pub(crate) async fn of_app(conn: &mut SqliteConnection, app_num: i64) -> Result<Vec<String>, AuthDbError> {
    let names = sqlx::query_scalar(
        "SELECT name FROM principal JOIN principal_app ON principal_num = num WHERE app_num = ? ORDER BY name",
    );
    Ok(names.bind(app_num).fetch_all(conn).await?)
}

/// Whose rows are read, as a statement takes it: NULL for everybody's, or a JSON array for `json_each`.
pub(crate) fn bound(visible: &Visible) -> Option<String> {
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

/// That a role has apps if it is to have any.
fn check(role: Role, apps: &[AppId], every_app: bool) -> Result<(), AuthDbError> {
    let why = match role {
        Role::Admin if every_app || !apps.is_empty() => "an admin sees every app, and needs none by name",
        Role::Node if every_app || !apps.is_empty() => "a node has nothing to do with apps",
        Role::Owner if every_app => "an owner owns apps by name; who changes every app is an admin",
        Role::Reader if every_app && !apps.is_empty() => "a reader sees every app or some by name, not both",
        _ if apps.len() > PRINCIPAL_APPS_MAX => {
            return Err(AuthDbError::TooMany { what: "apps of one principal", limit: PRINCIPAL_APPS_MAX });
        }
        _ => return Ok(()),
    };
    Err(AuthDbError::BadPrincipal { why })
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

/// For the audit log.
fn json(principal: &Principal) -> Value {
    json!({
        "role": principal.role.as_str(),
        "apps": principal.apps,
        "every_app": principal.every_app,
        "enabled": principal.enabled,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
