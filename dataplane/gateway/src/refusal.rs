//! Why a request is not served: a status, a stable code, a sentence. Every error answer and every error receipt is one.

use crate::codes::{self, Code};
use gafka_http::HeadError;
use model::Denied;

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// Stable snake_case name.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// What would be right: `Allow` of a 405, `Accept` or `Accept-Encoding` of a 415 (RFC 9110 section 15.5.16).
    pub header: Option<(&'static str, &'static str)>,
    /// Seconds for `Retry-After`.
    pub retry_after_s: Option<u32>,
    /// The connection cannot be used after it.
    pub close: bool,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal::passed_on(code.status, code.name, message)
    }

    /// What another crate found wrong, in its words.
    pub fn passed_on(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
        #[cfg(any(test, debug_assertions))]
        codes::assert_known(status, code);
        let retry_after_s = matches!(status, 429 | 503).then_some(1);
        Refusal { status, code, message: message.into(), header: None, retry_after_s, close: false }
    }

    /// Nothing was stored, because a budget is spent.
    pub fn overloaded(what: &str) -> Refusal {
        Refusal::new(codes::OVERLOADED, format!("nothing was stored: {what}; try again after Retry-After"))
    }

    /// The body is over the topic's limit; nothing was stored.
    pub fn too_large(limit: usize) -> Refusal {
        Refusal::new(codes::MESSAGE_TOO_LARGE, format!("the message is over the limit of {limit} bytes"))
    }

    /// With a header that says what would be right.
    pub fn with(mut self, name: &'static str, value: &'static str) -> Refusal {
        self.header = Some((name, value));
        self
    }

    pub fn closing(mut self) -> Refusal {
        self.close = true;
        self
    }
}

impl From<&Denied> for Refusal {
    fn from(denied: &Denied) -> Refusal {
        let refusal = denied.refusal();
        Refusal {
            retry_after_s: refusal.retry_after_s,
            ..Refusal::passed_on(refusal.status, refusal.code, refusal.message)
        }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Refusal {
        Refusal::from(&denied)
    }
}

/// What follows cannot be told from the next request.
impl From<&HeadError> for Refusal {
    fn from(error: &HeadError) -> Refusal {
        Refusal::passed_on(error.status, error.code, error.message.clone()).closing()
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Refusal {
        Refusal::from(&error)
    }
}
