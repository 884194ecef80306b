//! Is it the admin? Asked before every endpoint that says so.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::authenticate::Side;
use model::denied::Denied;
use model::presented::{BasicBuffer, Presented};
use model::secrets::SecretHash;

use crate::error::ApiError;
use crate::serve::Peer;
use crate::{ManagerState, Shared};

pub(crate) async fn admin(State(state): State<Shared>, request: Request, next: Next) -> Response {
    match check(&state, &request, Instant::now()) {
        Ok(()) => next.run(request).await,
        Err(denied) => ApiError::from(denied).into_response(),
    }
}

/// Right credentials pass whatever others at the same address did; only wrong ones are counted.
pub(crate) fn check(state: &ManagerState, request: &Request, now: Instant) -> Result<(), Denied> {
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let presented = Presented::from_headers(headers, Side::Publish);
    let mut buffer = BasicBuffer::default();
    let credentials = presented.credentials(&mut buffer)?;
    let key_matches = state.admin.key.matches(&SecretHash::of(credentials.key));
    if key_matches && state.admin.appid == credentials.app {
        return Ok(());
    }
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.0.ip());
    let mut limiter = state.login_limiter.lock().expect("nobody panics while counting failures");
    let denied = limiter.failed(address, credentials.app, now);
    tracing::info!(%address, status = denied.status(), "failed login at the manager");
    Err(denied)
}
