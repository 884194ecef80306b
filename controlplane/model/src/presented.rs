//! From request headers to [`Credentials`]: `Appid` with `Pubkey` or `Subkey`, or HTTP Basic with the same values.
//!
//! Gateway and manager share this, so that the same request is judged the same way on every listener:
//!
//! | Headers | Answer |
//! |---|---|
//! | `Appid` and the side's key, non-empty | credentials |
//! | `Authorization: Basic base64(appid:key)` | credentials |
//! | both kinds (any of the three headers beside Basic) | 400 `two_credentials` |
//! | one of them twice; Basic that is no base64, no UTF-8, or has no colon | 400 `bad_credentials` |
//! | none, half of them, another scheme than Basic | 401 |
//! | at the manager: `Authorization: Bearer …` and neither `Appid` nor key | a token: [`Presented::bearer`] |

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::authenticate::{Credentials, Side};
use crate::denied::Denied;
use crate::limits::BASIC_BYTES_MAX;

/// Standard alphabet; padding may be missing, as some clients leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Headers that carry credentials, as found in one request. Feed it every header; it picks its own.
#[derive(Default, Clone, Copy)]
pub struct Presented<'h> {
    appid: Option<&'h [u8]>,
    key: Option<&'h [u8]>,
    authorization: Option<&'h [u8]>,
    repeated: bool,
}

/// Room for decoded Basic credentials: on the stack, wiped by nothing, gone with the request.
pub struct BasicBuffer([u8; BASIC_BYTES_MAX]);

impl Default for BasicBuffer {
    fn default() -> Self {
        Self([0; BASIC_BYTES_MAX])
    }
}

impl<'h> Presented<'h> {
    pub fn from_headers(headers: impl Iterator<Item = (&'h str, &'h [u8])>, side: Side) -> Self {
        let mut presented = Self::default();
        for (name, value) in headers {
            presented.header(name, value, side);
        }
        presented
    }

    /// From headers that a parser already picked out (and has refused when they occurred twice).
    pub fn new(appid: Option<&'h [u8]>, key: Option<&'h [u8]>, authorization: Option<&'h [u8]>) -> Self {
        Self { appid, key, authorization, repeated: false }
    }

    /// Looks at one header. Costs a length comparison for most of them.
    pub fn header(&mut self, name: &str, value: &'h [u8], side: Side) {
        let slot = match name.len() {
            5 if name.eq_ignore_ascii_case("appid") => &mut self.appid,
            6 if name.eq_ignore_ascii_case(side.key_header()) => &mut self.key,
            13 if name.eq_ignore_ascii_case("authorization") => &mut self.authorization,
            _ => return,
        };
        self.repeated |= slot.replace(value).is_some();
    }

    /// The credentials, decoded into `buffer` if they came as Basic. Nothing is compared yet.
    pub fn credentials<'b>(&self, buffer: &'b mut BasicBuffer) -> Result<Credentials<'b>, Denied>
    where
        'h: 'b,
    {
        if self.repeated {
            return Err(Denied::BadCredentials { why: "a credential header is given more than once" });
        }
        let basic = self.authorization.and_then(basic_part);
        let (app, key) = match (self.appid, self.key, basic) {
            (None, None, Some(encoded)) => decode_basic(encoded, buffer)?,
            (_, _, Some(_)) => return Err(Denied::TwoCredentials),
            (Some(app), Some(key), None) => (app, key),
            _ => return Err(Denied::NotAuthenticated),
        };
        // An app id that is not even UTF-8 is the id of nobody.
        let app = std::str::from_utf8(app).map_err(|_| Denied::NotAuthenticated)?;
        if app.is_empty() || key.is_empty() {
            return Err(Denied::NotAuthenticated);
        }
        Ok(Credentials { app, key })
    }

    /// The token, if that is what was sent and nothing else: where headers of an app are, others of the way (a service
    /// mesh) may have added their own.
    pub fn bearer(&self) -> Option<&'h [u8]> {
        let is_alone = self.appid.is_none() && self.key.is_none() && !self.repeated;
        let (scheme, rest) = self.authorization.filter(|_| is_alone)?.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
    }

    /// The app id as far as one was sent in the clear, for counting failures.
    pub fn appid(&self) -> Option<&'h [u8]> {
        self.appid
    }
}

/// What follows `Basic `, if that is the scheme (RFC 7617: the scheme's case does not matter).
fn basic_part(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(6)?;
    scheme.eq_ignore_ascii_case(b"basic ").then(|| rest.trim_ascii())
}

fn decode_basic<'b>(encoded: &[u8], buffer: &'b mut BasicBuffer) -> Result<(&'b [u8], &'b [u8]), Denied> {
    if encoded.len() > BASIC_BYTES_MAX {
        return Err(Denied::NotAuthenticated);
    }
    let length = BASE64
        .decode_slice(encoded, &mut buffer.0)
        .map_err(|_| Denied::BadCredentials { why: "the Basic credentials are not base64" })?;
    let decoded = &buffer.0[..length];
    let colon = decoded
        .iter()
        .position(|b| *b == b':')
        .ok_or(Denied::BadCredentials { why: "the Basic credentials have no colon between app id and secret" })?;
    Ok((&decoded[..colon], &decoded[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &[u8]) -> String {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    }

    fn check(headers: &[(&str, &str)], expected: &str) {
        let presented = Presented::from_headers(headers.iter().map(|(n, v)| (*n, v.as_bytes())), Side::Publish);
        let mut buffer = BasicBuffer::default();
        let found = match presented.credentials(&mut buffer) {
            Ok(c) => format!("{} {}", c.app, String::from_utf8_lossy(c.key)),
            Err(denied) => {
                let refusal = denied.refusal();
                format!("{} {}", refusal.status, refusal.code)
            }
        };
        assert_eq!(found, expected, "{headers:?}");
    }

    #[test]
    fn either_kind_of_credentials_is_understood() {
        check(&[("Appid", "app1"), ("Pubkey", "s3cret")], "app1 s3cret");
        check(&[("APPID", "app1"), ("host", "x"), ("pubkey", "s3cret")], "app1 s3cret");
        check(&[("Authorization", &basic(b"app1:s3:cret"))], "app1 s3:cret");
        check(&[("authorization", &basic(b"app1:s").replace("Basic", "bAsIc"))], "app1 s");
        check(&[("authorization", basic(b"app1:s").trim_end_matches('='))], "app1 s");
    }

    #[test]
    fn both_kinds_at_once_are_a_bad_request() {
        let basic = basic(b"app1:s");
        check(&[("Appid", "app1"), ("Pubkey", "s"), ("Authorization", &basic)], "400 two_credentials");
        check(&[("Appid", "app1"), ("Authorization", &basic)], "400 two_credentials");
        check(&[("Pubkey", "s"), ("Authorization", &basic)], "400 two_credentials");
    }

    #[test]
    fn missing_credentials_are_not_authenticated() {
        check(&[], "401 not_authenticated");
        check(&[("Appid", "app1")], "401 not_authenticated");
        check(&[("Pubkey", "s")], "401 not_authenticated");
        check(&[("Appid", "app1"), ("Pubkey", "")], "401 not_authenticated");
        check(&[("Appid", "app1"), ("Subkey", "the other side's")], "401 not_authenticated");
        check(&[("Authorization", "Bearer abc")], "401 not_authenticated");
        check(&[("Authorization", &basic(b":s"))], "401 not_authenticated");
        check(&[("Authorization", &format!("Basic {}", "A".repeat(4000)))], "401 not_authenticated");
    }

    #[test]
    fn malformed_credentials_are_a_bad_request() {
        check(&[("Appid", "app1"), ("Appid", "app2"), ("Pubkey", "s")], "400 bad_credentials");
        check(&[("Authorization", "Basic !!!!")], "400 bad_credentials");
        check(&[("Authorization", &basic(b"nocolon"))], "400 bad_credentials");
    }

    #[test]
    fn a_token_is_one_only_where_nothing_else_was_sent() {
        type Headers = &'static [(&'static str, &'static str)];
        let rows: [(Headers, Option<&str>); 6] = [
            (&[("Authorization", "Bearer a.b.c")], Some("a.b.c")),
            (&[("authorization", "bEARER  a.b.c ")], Some("a.b.c")),
            (&[("Authorization", "Bearer")], None),
            (&[("Authorization", "Basic a.b.c")], None),
            (&[("Authorization", "Bearer a"), ("Authorization", "Bearer b")], None),
            (&[("Authorization", "Bearer a"), ("Appid", "app1")], None),
        ];
        for (headers, expected) in rows {
            let presented = Presented::from_headers(headers.iter().map(|(n, v)| (*n, v.as_bytes())), Side::Publish);
            assert_eq!(presented.bearer(), expected.map(str::as_bytes), "{headers:?}");
        }
    }

    #[test]
    fn another_scheme_beside_appid_headers_is_ignored() {
        // A service mesh may add its own bearer token to everything.
        check(&[("Appid", "app1"), ("Pubkey", "s"), ("Authorization", "Bearer abc")], "app1 s");
    }
}
