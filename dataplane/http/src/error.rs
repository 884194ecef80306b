//! What a peer is told when its bytes are no acceptable HTTP/1.1.

use std::borrow::Cow;

/// A refused request head or body framing: the answer to give, ready made.
///
/// After it the connection cannot be reused: where the next request would begin is unknown or disputed. Answer with
/// `Connection: close`, stop reading requests, close.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HeadError {
    /// The status to answer with.
    pub status: u16,
    /// Stable snake_case name of the mistake, for the error body and for counters.
    pub code: &'static str,
    /// One sentence for the person who wrote the client.
    pub message: Cow<'static, str>,
}

impl HeadError {
    /// A refusal whose sentence needs no value.
    #[must_use]
    pub const fn new(status: u16, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message: Cow::Borrowed(message) }
    }

    /// A refusal whose sentence says the limit or the value found.
    #[must_use]
    #[cold]
    pub const fn with(status: u16, code: &'static str, message: String) -> Self {
        Self { status, code, message: Cow::Owned(message) }
    }

    /// A 400.
    #[must_use]
    pub const fn bad(code: &'static str, message: &'static str) -> Self {
        Self::new(400, code, message)
    }
}
