//! From requests to checked values. Unknown parameters and fields are refused: a misspelt one would silently do
//! nothing.

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use model::ids::{AppId, TopicName, TopicVersion};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::error::ApiError;
use crate::limits::BODY_BYTES_MAX;

/// The query as `T`, which should deny unknown fields.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(query) => Ok(Query(query.0)),
            Err(rejection) => Err(ApiError::bad_request("bad_query", rejection.body_text())),
        }
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

pub(crate) async fn read_body(request: Request) -> Result<axum::body::Bytes, ApiError> {
    if let Some(kind) = request.headers().get(CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let message = format!("expected application/json, got {kind}");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
        }
    }
    let length = request.headers().get(axum::http::header::CONTENT_LENGTH);
    let declared = length.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    let too_large = || {
        let message = format!("the body has more than {BODY_BYTES_MAX} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    if declared.is_some_and(|declared| declared > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|err| {
        let is_length = std::error::Error::source(&err).is_some_and(|cause| cause.to_string().contains("length limit"));
        if is_length { too_large() } else { ApiError::bad_request("bad_body", "the body could not be read to its end") }
    })
}

pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes)
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

/// `1`, `true`, `0`, `false`; the bare name counts as 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "" | "1" | "true" => Ok(Flag(true)),
            "0" | "false" => Ok(Flag(false)),
            _ => Err(serde::de::Error::custom(format_args!("{text:?} is neither 1 nor 0"))),
        }
    }
}
