//! From requests to checked values. Unknown parameters and fields are refused: a misspelt one would silently do
//! nothing.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use model::ids::{AppId, PrincipalName, TopicName, TopicVersion};
use model::requests;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::error::ApiError;
use crate::limits::BODY_BYTES_MAX;

/// Refuses query names that the endpoint does not describe, with the nearest one that it does.
pub(crate) fn check_query_names(query: Option<&str>, known: &[&'static str]) -> Result<(), ApiError> {
    for (_, name) in raw_pairs(query)? {
        requests::parameter(&name, known).map_err(|err| ApiError::bad_request("unknown_parameter", err.to_string()))?;
    }
    Ok(())
}

/// The query without the names of 2017 that change nothing.
pub(crate) fn with_effect(query: Option<&str>) -> Result<String, ApiError> {
    let pairs = raw_pairs(query)?.into_iter();
    let pairs = pairs.filter(|(_, name)| !requests::WITHOUT_EFFECT.contains(&name.as_str()));
    Ok(pairs.map(|(raw, _)| raw).collect::<Vec<_>>().join("&"))
}

/// The pairs of a query as sent, each with its decoded name.
fn raw_pairs(query: Option<&str>) -> Result<Vec<(&str, String)>, ApiError> {
    let query = query.unwrap_or_default();
    let decoded = decode::<Vec<(String, String)>>(query)?;
    let raw = query.split('&').filter(|pair| !pair.is_empty());
    Ok(raw.zip(decoded.into_iter().map(|(name, _)| name)).collect())
}

pub(crate) fn decode<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    let uri = format!("/?{query}").parse::<Uri>();
    let uri = uri.map_err(|_| ApiError::bad_request("bad_query", "the query cannot be decoded"))?;
    match axum::extract::Query::<T>::try_from_uri(&uri) {
        Ok(query) => Ok(query.0),
        Err(rejection) => Err(ApiError::bad_request("bad_query", rejection.body_text())),
    }
}

/// The query as `T`, which should deny unknown fields. Names of 2017 that change nothing do not reach it.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        decode(&with_effect(parts.uri.query())?).map(Query)
    }
}

/// The body as `T`, which should deny unknown fields. A missing `Content-Type` is taken as JSON, another one is not.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let bytes = read_body(request).await?;
        parse_json(&bytes).map(JsonBody)
    }
}

/// Parameters of an endpoint, as its query or as a JSON object in its body; `T` should deny unknown fields.
pub(crate) struct Given<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Given<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let query = with_effect(request.uri().query())?;
        let body = read_body(request).await?;
        match (body.is_empty(), query.is_empty()) {
            (true, _) => decode(&query).map(Given),
            (false, true) => parse_json(&body).map(Given),
            (false, false) => {
                let message = "the parameters stand in the query or in the body, not in both";
                Err(ApiError::bad_request("query_and_body", message))
            }
        }
    }
}

/// Nothing, which takes no more than the first bytes to be sure of.
pub(crate) async fn refuse_body(request: Request) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    match axum::body::to_bytes(body, 0).await {
        Ok(_) => Ok(Request::from_parts(parts, axum::body::Body::empty())),
        Err(_) => Err(ApiError::bad_request("unexpected_body", "this endpoint reads no body; send none")),
    }
}

/// The body; what is not JSON by its `Content-Type` is refused unless it is empty (as `curl -d ''` sends it).
pub(crate) async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    let (parts, body) = request.into_parts();
    read_bytes(&parts.headers, body).await
}

/// As [`read_body`], of a request in its parts.
pub(crate) async fn read_bytes(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default());
    let length = headers.get(axum::http::header::CONTENT_LENGTH);
    let declared = length.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    let too_large = || {
        let message = format!("the body has more than {BODY_BYTES_MAX} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    if declared.is_some_and(|declared| declared > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|err| {
        let is_length = std::error::Error::source(&err).is_some_and(|cause| cause.to_string().contains("length limit"));
        if is_length { too_large() } else { ApiError::bad_request("bad_body", "the body could not be read to its end") }
    })?;
    let essence = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    match essence {
        Some(other) if !bytes.is_empty() && !other.eq_ignore_ascii_case("application/json") => {
            let message = format!("expected application/json, got {other}");
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
        }
        _ => Ok(bytes),
    }
}

pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(requests::without_bom(bytes))
        .map_err(|err| ApiError::bad_request("bad_json", format!("the body is not what is expected: {err}")))
}

/// `:appid` of a path.
pub(crate) struct AppPath(pub(crate) AppId);

impl<S: Send + Sync> FromRequestParts<S> for AppPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(app) = path::<String, S>(parts, state).await?;
        Ok(AppPath(AppId::new(&app)?))
    }
}

/// `:name` of a path.
pub(crate) struct NamePath(pub(crate) PrincipalName);

impl<S: Send + Sync> FromRequestParts<S> for NamePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(name) = path::<String, S>(parts, state).await?;
        Ok(NamePath(PrincipalName::new(&name)?))
    }
}

/// `:appid/:topic/:ver` of a path.
pub(crate) struct TopicPath {
    pub(crate) owner: AppId,
    pub(crate) name: TopicName,
    pub(crate) ver: TopicVersion,
}

impl<S: Send + Sync> FromRequestParts<S> for TopicPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path((owner, name, ver)) = path::<(String, String, String), S>(parts, state).await?;
        Ok(TopicPath { owner: AppId::new(&owner)?, name: TopicName::new(&name)?, ver: TopicVersion::new(&ver)? })
    }
}

pub(crate) async fn path<T: DeserializeOwned + Send, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<Path<T>, ApiError> {
    let found = Path::<T>::from_request_parts(parts, state).await;
    found.map_err(|_| ApiError::bad_request("bad_path", "the path cannot be decoded"))
}

/// `1`, `true`, `0`, `false`. The bare name is refused: here flags decide about deleting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FlagVisitor)
    }
}

/// A text in a query, `true` or `false` in a body.
struct FlagVisitor;

impl serde::de::Visitor<'_> for FlagVisitor {
    type Value = Flag;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(requests::FLAG_VALUES)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Flag, E> {
        Ok(Flag(flag))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Flag, E> {
        let refused = || E::custom(format_args!("{text:?} is none of {}", requests::FLAG_VALUES));
        requests::flag(text).map(Flag).ok_or_else(refused)
    }
}
