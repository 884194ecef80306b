//! Every refusal of the manager: status, code, sentence. One type, so that all endpoints refuse alike.

use authdb::AuthDbError;
use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use kafka_admin::AdminError;
use model::denied::{self, Denied};
use model::ids::NameError;
use model::naming::PhysicalNameTooLong;
use registry::RegistryError;
use serde_json::json;

use crate::fleet;
use crate::limits::{RETRY_AFTER_BUSY_S, RETRY_AFTER_KAFKA_S};

/// An answer other than success: `{"errmsg":…,"code":…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) retry_after_s: Option<u32>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_s: None }
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// What is away now may be there in a moment.
    pub(crate) fn retry_later(self) -> Self {
        if self.status == StatusCode::SERVICE_UNAVAILABLE { self.retry_after(RETRY_AFTER_BUSY_S) } else { self }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(json!({"errmsg": self.message, "code": self.code}));
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = match self.code {
                "bad_token" => denied::WWW_AUTHENTICATE_BEARER,
                _ => denied::WWW_AUTHENTICATE,
            };
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let refusal = denied.refusal();
        Self {
            status: StatusCode::from_u16(refusal.status).expect("a refusal has an HTTP status"),
            code: refusal.code,
            message: refusal.message,
            retry_after_s: refusal.retry_after_s,
        }
    }
}

impl From<NameError> for ApiError {
    fn from(err: NameError) -> Self {
        Self::bad_request("illegal_name", err.to_string())
    }
}

impl From<PhysicalNameTooLong> for ApiError {
    fn from(err: PhysicalNameTooLong) -> Self {
        Self::bad_request("name_too_long", err.to_string())
    }
}

impl From<AuthDbError> for ApiError {
    fn from(err: AuthDbError) -> Self {
        let message = err.to_string();
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, message.clone());
        match &err {
            AuthDbError::NoSuchApp(_) => Self::not_found("no_such_app", message),
            AuthDbError::NoSuchTopic { .. } => Self::not_found("no_such_topic", message),
            AuthDbError::NoSuchVersion { .. } => Self::not_found("no_such_version", message),
            AuthDbError::NoSuchPrincipal(_) => Self::not_found("no_such_principal", message),
            AuthDbError::NameTaken { .. } => conflict("name_taken"),
            AuthDbError::BadPrincipal { .. } => Self::bad_request("bad_principal", message),
            AuthDbError::AppExists(_) => conflict("app_exists"),
            AuthDbError::AppHasTopics { .. } => conflict("app_has_topics"),
            AuthDbError::TopicExists { .. } => conflict("topic_exists"),
            AuthDbError::TooMany { .. } => conflict("limit_reached"),
            AuthDbError::TopicBusy { .. } => conflict("topic_busy"),
            AuthDbError::AppReserved { .. } => conflict("appid_reserved"),
            AuthDbError::TwoSecretsLive { .. } => {
                let hint = "; force=1 replaces the younger, replace=current the older";
                Self::new(StatusCode::CONFLICT, "two_secrets_live", message + hint)
            }
            AuthDbError::GrantToOwner(_) => Self::bad_request("grant_to_owner", message),
            AuthDbError::Busy => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_busy", message).retry_after(RETRY_AFTER_BUSY_S)
            }
            AuthDbError::DiskFull | AuthDbError::ReadOnly => {
                tracing::error!(err = message, "management call failed at the database");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_unwritable", message + ", nothing was changed")
                    .retry_after(RETRY_AFTER_KAFKA_S)
            }
            AuthDbError::BadLocation { .. }
            | AuthDbError::Open { .. }
            | AuthDbError::Migrate { .. }
            | AuthDbError::BadRow { .. }
            | AuthDbError::Random(_)
            | AuthDbError::Database(_) => {
                // Paths and query errors are for the log.
                tracing::error!(err = &err as &dyn std::error::Error, "management call failed at the database");
                let message = "the tenants' database does not answer, nothing was changed";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", message)
                    .retry_after(RETRY_AFTER_BUSY_S)
            }
        }
    }
}

impl From<RegistryError> for ApiError {
    fn from(err: RegistryError) -> Self {
        let message = err.to_string();
        match err {
            RegistryError::NoSuchNode { .. } => Self::not_found("no_such_instance", message),
            RegistryError::Overtaken { .. } => Self::new(StatusCode::CONFLICT, "overtaken", message + "; look again"),
            RegistryError::WishTooLarge { .. } => Self::bad_request("too_many_options", message),
            _ => fleet::away(&message),
        }
    }
}

impl From<AdminError> for ApiError {
    fn from(err: AdminError) -> Self {
        let message = err.to_string();
        match &err {
            AdminError::AlreadyExists { .. } => Self::new(StatusCode::CONFLICT, "kafka_topic_exists", message),
            // The manager asks for legal names only, so another topic is in the way.
            AdminError::NameRefused { .. } => Self::new(StatusCode::CONFLICT, "name_collides", message),
            AdminError::NoSuchTopic { .. } => Self::not_found("no_such_kafka_topic", message),
            AdminError::InvalidReplicationFactor { .. } => Self::bad_request("invalid_replicas", message),
            AdminError::InvalidPartitions { .. } => Self::bad_request("invalid_partitions", message),
            AdminError::InvalidConfig { .. } => Self::bad_request("invalid_config", message),
            AdminError::Unreachable { .. } | AdminError::Stopped => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "kafka_unreachable", message)
                    .retry_after(RETRY_AFTER_KAFKA_S)
            }
            AdminError::Timeout { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, "kafka_timeout", message),
            AdminError::Refused { .. }
            | AdminError::NotAuthorized { .. }
            | AdminError::NotAuthenticated { .. }
            | AdminError::Unusable { .. } => Self::new(StatusCode::BAD_GATEWAY, "kafka_refused", message),
        }
    }
}
