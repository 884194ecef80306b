//! Is it the admin? Asked before every endpoint that says so.
//!
//! The account is the database's, which processes share: a key that was replaced by one of them is of no use at the
//! others a second later.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use authdb::{Actor, Admin, AuthDb};
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::authenticate::Side;
use model::denied::Denied;
use model::ids::AppId;
use model::presented::{BasicBuffer, Presented};
use model::secrets::SecretHash;

use crate::error::ApiError;
use crate::limits::{ADMIN_REMEMBERED, DENIALS_WINDOW, DENIALS_WRITTEN_MAX};
use crate::serve::Peer;
use crate::shell::RequestId;
use crate::{ManagerState, Shared};

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

    fn is(&self, app: &str, key: &SecretHash) -> bool {
        let known = self.lock();
        known.0.key.matches(key) && known.0.appid == app
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

pub(crate) async fn admin(State(state): State<Shared>, mut request: Request, next: Next) -> Response {
    state.admin.bring_up_to_date(&*state.db, Instant::now()).await;
    match check(&state, &request, Instant::now()) {
        Ok(()) => {
            let actor = Actor { subject: state.admin.appid().to_string(), request_id: request_id(&request) };
            request.extensions_mut().insert(Acting(state.db.acting(actor)));
            next.run(request).await
        }
        Err(denied) => {
            write_down(&state, &request, Instant::now());
            ApiError::from(denied).into_response()
        }
    }
}

fn request_id(request: &Request) -> String {
    request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default()
}

/// The database as whoever asked: what is changed through it is written down as theirs.
#[derive(Clone)]
pub(crate) struct Acting(pub(crate) Arc<dyn AuthDb>);

impl<S: Send + Sync> FromRequestParts<S> for Acting {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(parts.extensions.get::<Acting>().cloned().expect("an endpoint that changes something is behind the login"))
    }
}

/// Puts a refusal into the audit log, unless there were too many lately: guessing must not fill a disk.
fn write_down(state: &Shared, request: &Request, now: Instant) {
    let fits = {
        let mut denials = state.denials.lock().unwrap_or_else(PoisonError::into_inner);
        if denials.0.is_none_or(|since| now.saturating_duration_since(since) >= DENIALS_WINDOW) {
            *denials = (Some(now), 0);
        }
        denials.1 += 1;
        denials.1 <= DENIALS_WRITTEN_MAX
    };
    if !fits {
        return;
    }
    let address = request.extensions().get::<ConnectInfo<Peer>>().map(|peer| peer.0.0.ip().to_string());
    // Who they are is not known: what they say of themselves proves nothing.
    let actor = Actor { subject: address.unwrap_or_else(|| "unknown".to_owned()), request_id: request_id(request) };
    let path: String = request.uri().path().chars().take(200).collect();
    let (db, what) = (state.db.acting(actor), format!("{} {path}", request.method()));
    tokio::spawn(async move {
        if let Err(err) = db.record_denial("login", &what).await {
            tracing::warn!(%err, what, "a refusal could not be written into the audit log");
        }
    });
}

/// Right credentials pass whatever others at the same address did; only wrong ones are counted.
pub(crate) fn check(state: &ManagerState, request: &Request, now: Instant) -> Result<(), Denied> {
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let presented = Presented::from_headers(headers, Side::Publish);
    let mut buffer = BasicBuffer::default();
    let credentials = presented.credentials(&mut buffer)?;
    if state.admin.is(credentials.app, &SecretHash::of(credentials.key)) {
        return Ok(());
    }
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.0.ip());
    let mut limiter = state.login_limiter.lock().expect("nobody panics while counting failures");
    let denied = limiter.failed(address, credentials.app, now);
    tracing::info!(%address, status = denied.status(), "failed login at the manager");
    Err(denied)
}
