//! What every request of this listener goes through: request id, CORS, access log, what its head and query must be, and
//! answers for paths and methods that are not routed.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_METHOD, CONNECTION, CONTENT_LENGTH, HOST, ORIGIN, UPGRADE, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::requests;

use crate::Shared;
use crate::error::ApiError;
use crate::input::{check_query_names, refuse_body};
use crate::limits::REQUEST_ID_BYTES_MAX;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Of the request: its own, or one that was made up.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

pub(crate) async fn wrap(State(state): State<Shared>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let request_id = request_id(request.headers());
    request.extensions_mut().insert(RequestId(request_id.to_str().unwrap_or_default().to_owned()));
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

/// What hyper lets pass and the other two listeners do not: a missing or repeated Host (RFC 9112 section 3.2), a body
/// in HTTP/1.0 of which nobody can tell the end, and a wish for WebSocket.
pub(crate) async fn check_head(request: Request, next: Next) -> Response {
    match head_mistake(&request) {
        Some((mistake, closes)) => {
            let mut response = mistake.into_response();
            if closes {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
        None => next.run(request).await,
    }
}

/// The answer, and whether nothing more can be read of the connection.
fn head_mistake(request: &Request) -> Option<(ApiError, bool)> {
    let (headers, is_1_0) = (request.headers(), request.version() == Version::HTTP_10);
    let mut hosts = headers.get_all(HOST).iter();
    if hosts.next().is_none() && !is_1_0 {
        return Some((ApiError::bad_request("missing_host", "an HTTP/1.1 request needs a Host header"), true));
    }
    if hosts.next().is_some() {
        return Some((ApiError::bad_request("duplicate_header", "the header host must not be repeated"), true));
    }
    let has_body = matches!(*request.method(), Method::POST | Method::PUT);
    if is_1_0 && has_body && !headers.contains_key(CONTENT_LENGTH) {
        let message = "a POST or PUT in HTTP/1.0 needs a Content-Length, which may be 0";
        return Some((ApiError::new(StatusCode::LENGTH_REQUIRED, "length_required", message), true));
    }
    if requests::asks_for_websocket(headers.get_all(UPGRADE).iter().map(HeaderValue::as_bytes)) {
        return Some((ApiError::new(StatusCode::NOT_IMPLEMENTED, "not_supported_yet", requests::NO_WEBSOCKET), false));
    }
    None
}

/// Before every endpoint, behind its login: the names of its query are those it describes.
pub(crate) async fn check_query(State(known): State<Arc<[&'static str]>>, request: Request, next: Next) -> Response {
    match check_query_names(request.uri().query(), &known) {
        Ok(()) => next.run(request).await,
        Err(err) => err.into_response(),
    }
}

/// Before every endpoint that describes no body, behind its login: there is none.
pub(crate) async fn check_no_body(request: Request, next: Next) -> Response {
    match refuse_body(request).await {
        Ok(request) => next.run(request).await,
        Err(err) => err.into_response(),
    }
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
