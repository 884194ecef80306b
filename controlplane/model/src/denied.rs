//! Every refusal that has to do with who is calling, and what the client gets to see of it.
//!
//! 401 means "we do not know you", 403 "we know you and you may not", 404 "there is no such thing". A topic that
//! exists and one that does not are answered differently to any authenticated app: names are not secret here, and a
//! typing mistake should not look like a missing grant.

use std::fmt;
use std::net::IpAddr;

use crate::limits::ECHO_CHARS_MAX;

/// Value of the `WWW-Authenticate` header that goes with every 401 (RFC 9110 section 11.6.1).
pub const WWW_AUTHENTICATE: &str = "Basic realm=\"gafka\", charset=\"UTF-8\"";

/// A refusal. Texts are the client's own words, shortened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// No credentials, unknown app or wrong secret: one answer for all three.
    NotAuthenticated,
    /// `Appid` headers and `Authorization` in the same request.
    TwoCredentials,
    /// A credential header that occurs twice or cannot be decoded.
    BadCredentials {
        why: &'static str,
    },
    /// Too many failed logins for this address and app id. A right secret would have passed.
    TooManyFailedLogins {
        retry_after_s: u32,
    },
    AppDisabled {
        app: String,
    },
    /// The app may be used from elsewhere only.
    AddressNotAllowed {
        app: String,
        address: IpAddr,
    },
    NotGranted {
        app: String,
        what: String,
    },
    NoSuchApp {
        app: String,
    },
    NoSuchTopic {
        owner: String,
        topic: String,
    },
    NoSuchVersion {
        topic: String,
        ver: String,
    },
    TopicDisabled {
        topic: String,
        ver: String,
    },
    NoSuchCluster {
        cluster: String,
    },
}

/// What goes onto the wire: `{"errmsg":message,"code":code}` with this status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    /// Seconds, for the `Retry-After` header of 429.
    pub retry_after_s: Option<u32>,
}

impl Denied {
    /// The one place that decides how a refusal looks. A 401 also carries [`WWW_AUTHENTICATE`].
    pub fn refusal(&self) -> Refusal {
        let (status, code, message) = match self {
            Denied::NotAuthenticated => {
                (401, "not_authenticated", "the app id or its secret is missing or wrong".to_owned())
            }
            Denied::TwoCredentials => (
                400,
                "two_credentials",
                "send either the Appid header with its secret or HTTP Basic, not both".to_owned(),
            ),
            Denied::BadCredentials { why } => (400, "bad_credentials", (*why).to_owned()),
            Denied::TooManyFailedLogins { retry_after_s } => (
                429,
                "too_many_failed_logins",
                format!("too many failed logins for this app id from this address, try again in {retry_after_s} s"),
            ),
            Denied::AppDisabled { app } => (403, "app_disabled", format!("app {app} is disabled")),
            Denied::AddressNotAllowed { app, address } => {
                (403, "address_not_allowed", format!("app {app} may not be used from {address}"))
            }
            Denied::NotGranted { app, what } => (403, "not_granted", format!("app {app} has no grant to {what}")),
            Denied::NoSuchApp { app } => (404, "no_such_app", format!("there is no app {app}")),
            Denied::NoSuchTopic { owner, topic } => (404, "no_such_topic", format!("app {owner} has no topic {topic}")),
            Denied::NoSuchVersion { topic, ver } => {
                (404, "no_such_version", format!("topic {topic} has no version {ver}"))
            }
            Denied::TopicDisabled { topic, ver } => (403, "topic_disabled", format!("topic {topic} {ver} is disabled")),
            Denied::NoSuchCluster { cluster } => (404, "no_such_cluster", format!("there is no cluster {cluster}")),
        };
        let retry_after_s = match self {
            Denied::TooManyFailedLogins { retry_after_s } => Some(*retry_after_s),
            _ => None,
        };
        Refusal { status, code, message, retry_after_s }
    }

    pub fn status(&self) -> u16 {
        self.refusal().status
    }

    pub fn code(&self) -> &'static str {
        self.refusal().code
    }

    /// Does this count as a failed login?
    pub fn is_failed_login(&self) -> bool {
        matches!(self, Denied::NotAuthenticated)
    }
}

/// The sentence for the client.
impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.refusal().message)
    }
}

impl std::error::Error for Denied {}

/// A client's text as it may appear in an error message: shortened, without control characters.
pub(crate) fn echo(text: &str) -> String {
    let mut shown: String =
        text.chars().take(ECHO_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(ECHO_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_text_is_repeated_short_and_printable() {
        assert_eq!(echo("orders"), "orders");
        assert_eq!(echo("a\r\nb\0"), "a\u{fffd}\u{fffd}b\u{fffd}");
        assert_eq!(echo(&"é".repeat(100)), format!("{}…", "é".repeat(80)));
    }

    #[test]
    fn only_a_429_says_when_to_come_back() {
        assert_eq!(Denied::TooManyFailedLogins { retry_after_s: 9 }.refusal().retry_after_s, Some(9));
        assert_eq!(Denied::NotAuthenticated.refusal().retry_after_s, None);
    }
}
