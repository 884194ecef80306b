//! Who is calling: the admin, a principal, or an app, by a key; one of the first two, or somebody of another issuer, by a
//! token.
//!
//! The database is asked with every request, so a principal that was changed is another one at once, in every process. The
//! admin's account is remembered for a second, and for as long as the database is away: it is how one gets in then.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use authdb::{Admin, AuthDb, AuthDbError};
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use model::authenticate::{Credentials, Side};
use model::denied::Denied;
use model::ids::AppId;
use model::limits::SECRET_BYTES_MAX;
use model::presented::{BasicBuffer, Presented};
use model::principals::{Role, Visible};
use model::secrets::SecretHash;

use crate::error::ApiError;
use crate::limits::{ADMIN_REMEMBERED, TOKEN_BYTES_MAX};
use crate::{ManagerState, tokens};

/// The admin as the database said last.
pub struct AdminAccount {
    known: Mutex<(Admin, Option<Instant>)>,
}

impl AdminAccount {
    /// `admin` holds until the database is asked.
    pub fn new(admin: Admin) -> Self {
        Self { known: Mutex::new((admin, None)) }
    }

    fn lock(&self) -> MutexGuard<'_, (Admin, Option<Instant>)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn appid(&self) -> AppId {
        self.lock().0.appid.clone()
    }

    fn has_key(&self, key: &SecretHash) -> bool {
        self.lock().0.key.matches(key)
    }

    /// Another one after its key was replaced.
    fn stamp(&self) -> String {
        let key = self.lock().0.key;
        let mut stamp = SecretHash::of(&[b"stamp of the admin's tokens".as_slice(), key.as_bytes()].concat()).to_hex();
        stamp.truncate(16);
        stamp
    }

    /// Asks the database if it was not asked lately. While it is away the last answer holds.
    pub(crate) async fn bring_up_to_date(&self, db: &dyn AuthDb, now: Instant) {
        if self.lock().1.is_some_and(|at| now.saturating_duration_since(at) < ADMIN_REMEMBERED) {
            return;
        }
        if let Ok(Some(admin)) = db.admin().await {
            *self.lock() = (admin, Some(now));
        }
    }
}

/// Whoever has proved who they are.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// As the audit log has it.
    pub(crate) subject: String,
    pub(crate) role: Role,
    pub(crate) visible: Visible,
    /// What a token of theirs would be bound to; `None`: they do not get one, because they showed no key of their own.
    pub(crate) stamp: Option<String>,
}

/// Of a request that its guard let in.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(parts.extensions.get::<Caller>().cloned().expect("an endpoint that asks who calls is behind the login"))
    }
}

/// Why nobody was let in.
pub(crate) enum Unknown {
    Denied(Denied),
    /// Nobody can say who they are.
    Database(AuthDbError),
}

impl From<Denied> for Unknown {
    fn from(denied: Denied) -> Self {
        Unknown::Denied(denied)
    }
}

impl From<AuthDbError> for Unknown {
    fn from(err: AuthDbError) -> Self {
        Unknown::Database(err)
    }
}

/// Right credentials pass whatever others at the same address did; only wrong ones are counted.
pub(crate) async fn identify(
    state: &ManagerState,
    headers: &HeaderMap,
    address: IpAddr,
    now: Instant,
) -> Result<Caller, Unknown> {
    state.admin.bring_up_to_date(&*state.db, now).await;
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let presented = Presented::from_headers(headers, Side::Publish);
    let mut buffer = BasicBuffer::default();
    let (found, counted_as) = match presented.bearer() {
        Some(token) => (by_token(state, token).await, "a token"),
        None => {
            let credentials = presented.credentials(&mut buffer)?;
            (by_key(state, &credentials).await, credentials.app)
        }
    };
    match found {
        Err(Unknown::Denied(denied)) if denied.is_failed_login() => {
            let mut limiter = state.login_limiter.lock().expect("nobody panics while counting failures");
            let denied = match limiter.failed(address, counted_as, now) {
                Denied::NotAuthenticated => denied,
                too_many => too_many,
            };
            tracing::info!(%address, status = denied.status(), "failed login at the manager");
            Err(denied.into())
        }
        found => found,
    }
}

/// An unknown name and a wrong key take the same path through the hash and get the same answer.
async fn by_key(state: &ManagerState, credentials: &Credentials<'_>) -> Result<Caller, Unknown> {
    if credentials.key.len() > SECRET_BYTES_MAX {
        return Err(Denied::NotAuthenticated.into());
    }
    let key = SecretHash::of(credentials.key);
    let admin = state.admin.appid();
    if admin == *credentials.app {
        let is_admin = state.admin.has_key(&key);
        return if is_admin { Ok(the_admin(state, true)) } else { Err(Denied::NotAuthenticated.into()) };
    }
    if let Some(login) = state.db.principal_login(credentials.app).await? {
        let principal = login.principal;
        return match (login.key.matches(&key), principal.enabled) {
            (false, _) => Err(Denied::NotAuthenticated.into()),
            (true, false) => Err(Denied::PrincipalDisabled { name: principal.name.into() }.into()),
            (true, true) => Ok(Caller {
                visible: principal.visible(),
                subject: principal.name.into(),
                role: principal.role,
                stamp: Some(login.stamp),
            }),
        };
    }
    let login = state.db.app_login(credentials.app).await?;
    let login = login.filter(|app| app.keys.iter().any(|one| one.matches(&key))).ok_or(Denied::NotAuthenticated)?;
    if !login.enabled {
        return Err(Denied::AppDisabled { app: login.id.into() }.into());
    }
    Ok(Caller {
        subject: format!("app:{}", login.id),
        role: Role::Reader,
        visible: Visible::Apps(vec![login.id]),
        stamp: None,
    })
}

async fn by_token(state: &ManagerState, token: &[u8]) -> Result<Caller, Unknown> {
    const MALFORMED: Denied = Denied::BadToken { why: "cannot be read" };
    if token.len() > TOKEN_BYTES_MAX {
        return Err(MALFORMED.into());
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| MALFORMED)?;
    let ours = state.db.token_key().await?.filter(|key| header.kid.as_ref() == Some(&key.kid));
    let Some(key) = ours else {
        let oidc = state.oidc.as_ref().ok_or(tokens::bad(&jsonwebtoken::errors::ErrorKind::InvalidSignature))?;
        return Ok(oidc.verify(token, &header)?);
    };
    let claims = tokens::verify(token, &key)?;
    if state.admin.appid() == *claims.sub {
        let is_current = claims.stamp == state.admin.stamp();
        return if is_current { Ok(the_admin(state, false)) } else { Err(tokens::VOID.into()) };
    }
    let login = state.db.principal_login(&claims.sub).await?;
    let login = login.filter(|login| login.stamp == claims.stamp && login.principal.enabled).ok_or(tokens::VOID)?;
    let principal = login.principal;
    Ok(Caller { visible: principal.visible(), subject: principal.name.into(), role: principal.role, stamp: None })
}

fn the_admin(state: &ManagerState, by_key: bool) -> Caller {
    Caller {
        subject: state.admin.appid().into(),
        role: Role::Admin,
        visible: Visible::All,
        stamp: by_key.then(|| state.admin.stamp()),
    }
}
