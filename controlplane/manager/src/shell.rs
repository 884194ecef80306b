//! What every request of this listener goes through: request id, CORS, access log, and answers for paths and methods
//! that are not routed.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Shared;
use crate::error::ApiError;
use crate::limits::REQUEST_ID_BYTES_MAX;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(crate) async fn wrap(State(state): State<Shared>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let request_id = request_id(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let origin = allowed_origin(&state.cors_origins, request.headers());
    let is_preflight =
        method == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) && origin.is_some();

    let mut response = if is_preflight { preflight() } else { next.run(request).await };
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    // The path cannot hold a secret: secrets travel in headers and bodies, which are not logged.
    tracing::info!(
        target: "access",
        listener = "manager",
        %method,
        path,
        status = response.status().as_u16(),
        micros = began.elapsed().as_micros() as u64,
        request_id = request_id.to_str().unwrap_or_default(),
    );
    response.headers_mut().insert(X_REQUEST_ID, request_id);
    response
}

pub(crate) async fn not_found(request: Request) -> ApiError {
    let message = format!("there is no {} here", request.uri().path().chars().take(200).collect::<String>());
    ApiError::not_found("no_such_endpoint", message)
}

/// axum adds the `Allow` header.
pub(crate) async fn method_not_allowed(method: Method) -> ApiError {
    let message = format!("{method} is not among the methods that the Allow header names");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// The client's id if it is short and visible, else one of ours.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(given) = headers.get(X_REQUEST_ID) {
        let is_visible = given.as_bytes().iter().all(u8::is_ascii_graphic);
        if (1..=REQUEST_ID_BYTES_MAX).contains(&given.len()) && is_visible {
            return given.clone();
        }
    }
    let mut random = [0; 8];
    // Without random numbers all requests have the same id, which is no reason to refuse them.
    let _ = getrandom::fill(&mut random);
    HeaderValue::from_str(&format!("{:016x}", u64::from_be_bytes(random))).expect("hexadecimal digits are visible")
}

fn allowed_origin(allowed: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "Appid, Pubkey, Authorization, Content-Type, X-Request-Id, traceparent"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}
