//! The one list of what the publish and subscribe listeners answer: method and path, what a caller must prove, who
//! answers, how it is documented. A new endpoint is a row here, a file beside this one, and its tests.

use crate::access::{Grant, Wants};
use crate::codes;
use crate::endpoints::{Admission, Services, batch, handoff, health, jobs, jobs_batch, publish, receipts, subscribe};
use crate::exchange::Exchange;
use crate::exchange::body::RequestBody;
use crate::exchange::conn::Conn;
use crate::exchange::content_encoding::Decoder;
use crate::exchange::meta::Meta;
use crate::kafka::destination::Destination;
use crate::publish::batch::feed::Feed;
use crate::refusal::Refusal;
use gafka_http::{Head, Method};
use model::Side;
use model::api_doc::{EndpointDoc, Listener};
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Instant;

/// Answers a request whose body is whole; where it went, if it was a publish.
pub type Start = fn(&Services, Exchange, &Head<'_>, &Grant<'_>, RequestBody<'_>, Instant) -> Option<Destination>;
/// Opens a request whose body is used up while it arrives.
pub type Open =
    fn(&Services, &Rc<Conn>, &Meta, &Head<'_>, &Grant<'_>, Instant) -> Result<(Feed, Option<Decoder>), Refusal>;
/// What may come as the body of a request that is to be collected.
pub type Admit = fn(&Services, &Grant<'_>) -> Result<Admission, Refusal>;

/// How an endpoint takes the body of a request.
#[derive(Clone, Copy)]
pub enum Takes {
    /// None; a small one is tolerated and ignored.
    Nothing(Start),
    /// The whole of it at once.
    Whole(Admit, Start),
    /// While it arrives.
    Pieces(Open),
}

/// One endpoint.
pub struct Row {
    /// Its paths of 2017, beside the documented one. `:` begins a name.
    pub aliases: &'static [&'static str],
    /// Methods, as `Allow` lists them.
    pub allow: &'static str,
    pub wants: Wants,
    pub takes: Takes,
    /// Of the same path, one for each listener that has it.
    pub docs: &'static [EndpointDoc],
}

impl Row {
    fn is_on(&self, side: Side) -> bool {
        let listener = match side {
            Side::Publish => Listener::Publish,
            Side::Subscribe => Listener::Subscribe,
        };
        self.docs.iter().any(|doc| doc.listener == listener)
    }

    fn answers(&self, method: Method) -> bool {
        self.docs.iter().any(|doc| doc.method.as_str() == method.as_str())
    }

    fn matches<'p>(&self, path: &'p str, names: &mut [&'p str; NAMES_MAX]) -> bool {
        let documented = self.docs.first().map(|doc| doc.path);
        documented.into_iter().chain(self.aliases.iter().copied()).any(|pattern| matches(pattern, path, names))
    }
}

/// Names in a path.
const NAMES_MAX: usize = 3;
const PROBE: &str = "GET, HEAD, OPTIONS";

const fn probe(start: Start, docs: &'static [EndpointDoc]) -> Row {
    Row { aliases: &[], allow: PROBE, wants: Wants::Nothing, takes: Takes::Nothing(start), docs }
}

pub static ENDPOINTS: &[Row] = &[
    Row {
        aliases: &["/topics/:topic/:ver"],
        allow: "POST, OPTIONS",
        wants: Wants::Publish,
        takes: Takes::Whole(publish::admit, publish::start),
        docs: publish::DOCS,
    },
    Row {
        aliases: &[],
        allow: "POST, OPTIONS",
        wants: Wants::Publish,
        takes: Takes::Pieces(batch::open),
        docs: batch::DOCS,
    },
    Row {
        aliases: &[],
        allow: "POST, OPTIONS",
        wants: Wants::Raw,
        takes: Takes::Whole(publish::admit, publish::start),
        docs: publish::RAW_DOCS,
    },
    Row {
        aliases: &[],
        allow: "POST, OPTIONS",
        wants: Wants::Raw,
        takes: Takes::Pieces(batch::open),
        docs: batch::RAW_DOCS,
    },
    Row {
        aliases: &[],
        allow: "POST, OPTIONS",
        wants: Wants::App,
        takes: Takes::Whole(handoff::admit, handoff::REPLAY),
        docs: handoff::REPLAY_DOCS,
    },
    Row {
        aliases: &[],
        allow: "POST, OPTIONS",
        wants: Wants::App,
        takes: Takes::Whole(handoff::admit, handoff::DROP),
        docs: handoff::DROP_DOCS,
    },
    Row {
        aliases: &[],
        allow: "GET, OPTIONS",
        wants: Wants::App,
        takes: Takes::Nothing(receipts::start),
        docs: receipts::DOCS,
    },
    Row {
        aliases: &[],
        allow: "GET, POST, PUT, DELETE, OPTIONS",
        wants: Wants::Publish,
        takes: Takes::Whole(jobs::admit, jobs::add),
        docs: jobs::ADD_DOCS,
    },
    Row {
        aliases: &[],
        allow: "GET, POST, PUT, DELETE, OPTIONS",
        wants: Wants::Publish,
        takes: Takes::Nothing(jobs::look),
        docs: jobs::LOOK_DOCS,
    },
    Row {
        aliases: &[],
        allow: "GET, POST, PUT, DELETE, OPTIONS",
        wants: Wants::Publish,
        takes: Takes::Nothing(jobs::delete),
        docs: jobs::DELETE_DOCS,
    },
    Row {
        aliases: &[],
        allow: "GET, POST, PUT, DELETE, OPTIONS",
        wants: Wants::Publish,
        takes: Takes::Nothing(jobs::reschedule),
        docs: jobs::RESCHEDULE_DOCS,
    },
    Row {
        aliases: &[],
        allow: "POST, OPTIONS",
        wants: Wants::Publish,
        takes: Takes::Pieces(jobs_batch::open),
        docs: jobs_batch::DOCS,
    },
    Row {
        aliases: &[],
        allow: "POST, OPTIONS",
        wants: Wants::Publish,
        takes: Takes::Nothing(jobs::fire),
        docs: jobs::FIRE_DOCS,
    },
    Row {
        aliases: &[],
        allow: "POST, OPTIONS",
        wants: Wants::Publish,
        takes: Takes::Nothing(jobs::replay),
        docs: jobs::REPLAY_DOCS,
    },
    Row {
        aliases: &[],
        allow: "PUT, OPTIONS",
        wants: Wants::Publish,
        takes: Takes::Nothing(jobs::pause),
        docs: jobs::PAUSE_DOCS,
    },
    Row {
        aliases: &[],
        allow: "PUT, OPTIONS",
        wants: Wants::Publish,
        takes: Takes::Nothing(jobs::resume),
        docs: jobs::RESUME_DOCS,
    },
    Row {
        aliases: &["/topics/:appid/:topic/:ver"],
        // Not HEAD: a poll takes messages, and its answer could not hand them over.
        allow: "GET, OPTIONS",
        wants: Wants::Subscribe,
        takes: Takes::Nothing(subscribe::start),
        docs: subscribe::DOCS,
    },
    probe(health::alive, health::ALIVE_DOCS),
    probe(health::healthz, health::HEALTHZ_DOCS),
    probe(health::readyz, health::READYZ_DOCS),
];

/// What a request comes to.
pub enum Found<'p> {
    /// An endpoint, and the names in its path: decoded, not yet checked against the snapshot.
    Endpoint(&'static Row, [Cow<'p, str>; NAMES_MAX]),
    /// `OPTIONS` on a known path, for browsers, or `OPTIONS *` (RFC 9110 section 9.3.7).
    Options { allow: &'static str },
}

/// Finds the endpoint for a request on `side`.
pub fn route<'p>(side: Side, method: Method, path: &'p str) -> Result<Found<'p>, Refusal> {
    if path == "*" {
        return Ok(Found::Options { allow: "GET, HEAD, POST, OPTIONS" }); // the parser takes * with OPTIONS only
    }
    let mut names = [""; NAMES_MAX];
    let mut found = ENDPOINTS.iter().filter(|row| row.is_on(side)).filter(|row| row.matches(path, &mut names));
    let Some(row) = found.next() else {
        return Err(Refusal::new(codes::NO_SUCH_PATH, "there is no such path on this listener"));
    };
    let allow = row.allow;
    if method == Method::Options {
        return Ok(Found::Options { allow });
    }
    if !allow.split(", ").any(|allowed| allowed == method.as_str()) {
        let message = format!("this path answers {allow}");
        return Err(Refusal::new(codes::METHOD_NOT_ALLOWED, message).with("Allow", allow));
    }
    // Those of one path allow the same, and each answers its own.
    let row = std::iter::once(row).chain(found).find(|row| row.answers(method)).unwrap_or(row);
    let [first, second, third] = names;
    Ok(Found::Endpoint(row, [decode(first)?, decode(second)?, decode(third)?]))
}

/// Whether the path is one of the pattern, which names at most three of its segments.
fn matches<'p>(pattern: &str, path: &'p str, names: &mut [&'p str; NAMES_MAX]) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    let mut count = 0;
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(expected), Some(name)) if expected.starts_with(':') && !name.is_empty() => {
                names[count] = name;
                count += 1;
            }
            (Some(expected), Some(segment)) if expected == segment => {}
            _ => return false,
        }
    }
}

fn decode(segment: &str) -> Result<Cow<'_, str>, Refusal> {
    gafka_http::query::segment(segment).map_err(|_| {
        let message = "the path has a malformed percent escape, or an encoded slash or control character";
        Refusal::new(codes::BAD_PATH, message)
    })
}

/// Whether a request may be one whose body is used up while it arrives; looked at before it is admitted.
pub fn may_come_in_pieces(side: Side, head: &Head<'_>) -> bool {
    side == Side::Publish && head.method == Method::Post && head.path.ends_with("/batch")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn shown(found: Result<Found<'_>, Refusal>) -> String {
        match found {
            Ok(Found::Endpoint(row, names)) => format!("{} {names:?}", row.docs[0].operation),
            Ok(Found::Options { allow }) => format!("options: {allow}"),
            Err(refusal) => format!("{} {}", refusal.status, refusal.code),
        }
    }

    fn check(side: Side, rows: &[(&str, &str)], expected: Expect) {
        let shown: String = rows
            .iter()
            .map(|(method, path)| {
                let method = Method::from_token(method).expect("known");
                format!("{} {path}: {}\n", method.as_str(), shown(route(side, method, path)))
            })
            .collect();
        expected.assert_eq(&shown);
    }

    #[test]
    fn the_publish_listener_knows_these_paths() {
        check(
            Side::Publish,
            &[
                ("POST", "/v1/msgs/orders/v1"),
                ("POST", "/topics/orders/v1"),
                ("POST", "/v1/msgs/orders/v1/batch"),
                ("GET", "/v1/msgs/orders/v1/batch"),
                ("POST", "/v1/msgs/orders/v1/other"),
                ("POST", "/v1/raw/msgs/main/some.topic"),
                ("POST", "/v1/raw/msgs/main/some.topic/batch"),
                ("POST", "/v1/raw/msgs/main"),
                ("POST", "/v1/msgs/or%64ers/v1"),
                ("POST", "/v1/msgs/or%6/v1"),
                ("GET", "/v1/msgs/orders/v1"),
                ("POST", "/v1/msgs//v1"),
                ("POST", "/v1/msgs/orders/v1/"),
                ("POST", "/v1/msgs/app1/orders/v1"),
                ("POST", "/v1/jobs/orders/v1"),
                ("POST", "/v1/jobs/orders/v1/batch"),
                ("PUT", "/v1/jobs/orders/v1/batch"),
                ("GET", "/v1/receipts/AQAAAAAA"),
                ("POST", "/v1/receipts/AQAAAAAA"),
                ("POST", "/v1/receipts/replay"),
                ("POST", "/v1/receipts/drop"),
                ("GET", "/alive"),
                ("DELETE", "/readyz"),
                ("OPTIONS", "/v1/msgs/orders/v1"),
                ("HEAD", "/readyz"),
                ("OPTIONS", "*"),
            ],
            expect![[r#"
                POST /v1/msgs/orders/v1: publishMessage ["orders", "v1", ""]
                POST /topics/orders/v1: publishMessage ["orders", "v1", ""]
                POST /v1/msgs/orders/v1/batch: publishBatch ["orders", "v1", ""]
                GET /v1/msgs/orders/v1/batch: 405 method_not_allowed
                POST /v1/msgs/orders/v1/other: 404 no_such_path
                POST /v1/raw/msgs/main/some.topic: publishRawMessage ["main", "some.topic", ""]
                POST /v1/raw/msgs/main/some.topic/batch: publishRawBatch ["main", "some.topic", ""]
                POST /v1/raw/msgs/main: 404 no_such_path
                POST /v1/msgs/or%64ers/v1: publishMessage ["orders", "v1", ""]
                POST /v1/msgs/or%6/v1: 400 bad_path
                GET /v1/msgs/orders/v1: 405 method_not_allowed
                POST /v1/msgs//v1: 404 no_such_path
                POST /v1/msgs/orders/v1/: 404 no_such_path
                POST /v1/msgs/app1/orders/v1: 404 no_such_path
                POST /v1/jobs/orders/v1: addJob ["orders", "v1", ""]
                POST /v1/jobs/orders/v1/batch: addJobs ["orders", "v1", ""]
                PUT /v1/jobs/orders/v1/batch: 405 method_not_allowed
                GET /v1/receipts/AQAAAAAA: getReceipt ["AQAAAAAA", "", ""]
                POST /v1/receipts/AQAAAAAA: 405 method_not_allowed
                POST /v1/receipts/replay: replayReceipts ["", "", ""]
                POST /v1/receipts/drop: dropReceipts ["", "", ""]
                GET /alive: alivePublish ["", "", ""]
                DELETE /readyz: 405 method_not_allowed
                OPTIONS /v1/msgs/orders/v1: options: POST, OPTIONS
                HEAD /readyz: readyzPublish ["", "", ""]
                OPTIONS *: options: GET, HEAD, POST, OPTIONS
            "#]],
        );
    }

    #[test]
    fn the_subscribe_listener_knows_these_paths() {
        check(
            Side::Subscribe,
            &[
                ("GET", "/v1/msgs/app1/orders/v1"),
                ("GET", "/topics/app1/orders/v1"),
                ("POST", "/v1/msgs/app1/orders/v1"),
                ("GET", "/v1/msgs/orders/v1"),
                ("HEAD", "/v1/msgs/app1/orders/v1"),
                ("GET", "/healthz"),
            ],
            expect![[r#"
                GET /v1/msgs/app1/orders/v1: pollMessages ["app1", "orders", "v1"]
                GET /topics/app1/orders/v1: pollMessages ["app1", "orders", "v1"]
                POST /v1/msgs/app1/orders/v1: 405 method_not_allowed
                GET /v1/msgs/orders/v1: 404 no_such_path
                HEAD /v1/msgs/app1/orders/v1: 405 method_not_allowed
                GET /healthz: healthzPublish ["", "", ""]
            "#]],
        );
    }
}
