//! The guard before every endpoint: who calls, and may they? Both follow from what the endpoint's document says; an endpoint
//! never asks again. Who is refused is written into the audit log.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use authdb::{Actor, AuthDb};
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::api_doc::{Auth, EndpointDoc};
use model::denied::Denied;
use model::ids::AppId;
use model::principals::{Role, may};

use crate::about::{self, Found};
use crate::caller::{Caller, Unknown, identify};
use crate::error::ApiError;
use crate::limits::{DENIALS_WINDOW, DENIALS_WRITTEN_MAX};
use crate::serve::Peer;
use crate::shell::RequestId;
use crate::{ManagerState, Shared};

/// What one endpoint's guard knows.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) state: Shared,
    pub(crate) doc: Arc<EndpointDoc>,
}

/// Where nobody says where a request came from.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

pub(crate) async fn guard(State(Guard { state, doc }): State<Guard>, request: Request, next: Next) -> Response {
    if doc.auth == Auth::None || (doc.auth == Auth::Metrics && state.on_loopback) {
        return next.run(request).await;
    }
    let address = request.extensions().get::<ConnectInfo<Peer>>().map(|peer| peer.0.0.ip());
    let caller = match identify(&state, request.headers(), address.unwrap_or(NOWHERE), Instant::now()).await {
        Ok(caller) => caller,
        Err(Unknown::Denied(denied)) => {
            // Who they are is not known: what they say of themselves proves nothing.
            let actor = address.map_or("unknown".to_owned(), |address| address.to_string());
            write_down(&state, &request, Instant::now(), "login", &actor, None);
            return ApiError::from(denied).into_response();
        }
        Err(Unknown::Database(err)) => return ApiError::from(err).into_response(),
    };
    match admit(&state, &caller, &doc, request).await {
        Ok(mut request) => {
            let actor = Actor { subject: caller.subject.clone(), request_id: request_id(&request) };
            request.extensions_mut().insert(Acting(state.db.acting(actor)));
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(err) => err.into_response(),
    }
}

/// The request, if it is one that this caller may make.
async fn admit(state: &Shared, caller: &Caller, doc: &EndpointDoc, request: Request) -> Result<Request, ApiError> {
    let (about, request) = match caller.role {
        Role::Admin => (Found::NoApp, request),
        _ => about::find(doc, request).await?,
    };
    let has_key = doc.auth != Auth::Key || caller.stamp.is_some();
    if has_key && may(caller.role, &caller.visible, doc.auth, about.as_about()) {
        return Ok(request);
    }
    let app = if let Found::App(app) = &about { AppId::new(app).ok() } else { None };
    write_down(state, &request, Instant::now(), "forbidden", &caller.subject, app.as_ref());
    Err(Denied::Forbidden { subject: caller.subject.clone() }.into())
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
fn write_down(
    state: &ManagerState,
    request: &Request,
    now: Instant,
    operation: &'static str,
    subject: &str,
    app: Option<&AppId>,
) {
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
    let actor = Actor { subject: subject.to_owned(), request_id: request_id(request) };
    let path: String = request.uri().path().chars().take(200).collect();
    let (db, what) = (state.db.acting(actor), format!("{} {path}", request.method()));
    let app = app.map(|app| app.as_str().to_owned()).unwrap_or_default();
    tokio::spawn(async move {
        if let Err(err) = db.record_denial(operation, &app, &what).await {
            tracing::warn!(%err, what, "a refusal could not be written into the audit log");
        }
    });
}
