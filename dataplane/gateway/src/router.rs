//! Method and path to [`Endpoint`]: the one list of what the publish and subscribe listeners answer.

use gafka_http::Method;
use model::Side;
use std::borrow::Cow;

/// A recognised request; names are decoded but not yet checked against the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint<'p> {
    /// `POST /v1/msgs/:topic/:ver` and the 2017 alias `POST /topics/:topic/:ver`.
    Publish { topic: Cow<'p, str>, version: Cow<'p, str> },
    /// `POST /v1/msgs/:topic/:ver/batch`.
    Batch { topic: Cow<'p, str>, version: Cow<'p, str> },
    /// `POST /v1/raw/msgs/:cluster/:topic`.
    Raw { cluster: Cow<'p, str>, topic: Cow<'p, str> },
    /// `POST /v1/raw/msgs/:cluster/:topic/batch`.
    RawBatch { cluster: Cow<'p, str>, topic: Cow<'p, str> },
    /// `GET /v1/msgs/:appid/:topic/:ver` and the 2017 alias `GET /topics/:appid/:topic/:ver`.
    Subscribe { owner: Cow<'p, str>, topic: Cow<'p, str>, version: Cow<'p, str> },
    /// `GET` or `HEAD /alive`: may this node be sent traffic, in the words of the 2017 load balancer.
    Alive,
    /// `GET` or `HEAD /healthz`: the process lives.
    Healthz,
    /// `GET` or `HEAD /readyz`: may this node be sent traffic, and which cluster is down.
    Readyz,
    /// `OPTIONS` on a known path, for browsers, or `OPTIONS *` (RFC 9110 section 9.3.7).
    Options { allow: &'static str },
}

/// Why no endpoint was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    NotFound,
    MethodNotAllowed {
        allow: &'static str,
    },
    /// A percent escape in the path is malformed.
    BadPath,
}

/// Finds the endpoint for a request on `side`.
pub fn route<'p>(side: Side, method: Method, path: &'p str) -> Result<Endpoint<'p>, RouteError> {
    if path == "*" {
        return Ok(Endpoint::Options { allow: "GET, HEAD, POST, OPTIONS" }); // the parser takes * with OPTIONS only
    }
    let mut segments = path.strip_prefix('/').ok_or(RouteError::NotFound)?.split('/');
    let mut next = || segments.next();
    let (a, b, c, d, e, f, rest) = (next(), next(), next(), next(), next(), next(), next());
    if rest.is_some() {
        return Err(RouteError::NotFound);
    }
    let found = match (side, a, b, c, d, e, f) {
        (_, Some("alive"), None, ..) => Known::Alive,
        (_, Some("healthz"), None, ..) => Known::Healthz,
        (_, Some("readyz"), None, ..) => Known::Readyz,
        (Side::Publish, Some("v1"), Some("msgs"), Some(topic), Some(version), None, None)
        | (Side::Publish, Some("topics"), Some(topic), Some(version), None, None, None) => {
            Known::Publish(topic, version)
        }
        (Side::Publish, Some("v1"), Some("msgs"), Some(topic), Some(version), Some("batch"), None) => {
            Known::Batch(topic, version)
        }
        (Side::Publish, Some("v1"), Some("raw"), Some("msgs"), Some(cluster), Some(topic), None) => {
            Known::Raw(cluster, topic)
        }
        (Side::Publish, Some("v1"), Some("raw"), Some("msgs"), Some(cluster), Some(topic), Some("batch")) => {
            Known::RawBatch(cluster, topic)
        }
        (Side::Subscribe, Some("v1"), Some("msgs"), Some(owner), Some(topic), Some(version), None)
        | (Side::Subscribe, Some("topics"), Some(owner), Some(topic), Some(version), None, None) => {
            Known::Subscribe(owner, topic, version)
        }
        _ => return Err(RouteError::NotFound),
    };
    let allow = found.allow();
    if method == Method::Options {
        return Ok(Endpoint::Options { allow });
    }
    if !allow.split(", ").any(|allowed| allowed == method.as_str()) {
        return Err(RouteError::MethodNotAllowed { allow });
    }
    Ok(match found {
        Known::Alive => Endpoint::Alive,
        Known::Healthz => Endpoint::Healthz,
        Known::Readyz => Endpoint::Readyz,
        Known::Publish(topic, version) => Endpoint::Publish { topic: decode(topic)?, version: decode(version)? },
        Known::Batch(topic, version) => Endpoint::Batch { topic: decode(topic)?, version: decode(version)? },
        Known::Raw(cluster, topic) => Endpoint::Raw { cluster: decode(cluster)?, topic: decode(topic)? },
        Known::RawBatch(cluster, topic) => Endpoint::RawBatch { cluster: decode(cluster)?, topic: decode(topic)? },
        Known::Subscribe(owner, topic, version) => {
            Endpoint::Subscribe { owner: decode(owner)?, topic: decode(topic)?, version: decode(version)? }
        }
    })
}

enum Known<'p> {
    Alive,
    Healthz,
    Readyz,
    Publish(&'p str, &'p str),
    Batch(&'p str, &'p str),
    Raw(&'p str, &'p str),
    RawBatch(&'p str, &'p str),
    Subscribe(&'p str, &'p str, &'p str),
}

impl Known<'_> {
    fn allow(&self) -> &'static str {
        match self {
            Known::Alive | Known::Healthz | Known::Readyz => "GET, HEAD, OPTIONS",
            Known::Publish(..) | Known::Batch(..) | Known::Raw(..) | Known::RawBatch(..) => "POST, OPTIONS",
            // Not HEAD: a poll takes messages, and its answer could not hand them over.
            Known::Subscribe(..) => "GET, OPTIONS",
        }
    }
}

fn decode(segment: &str) -> Result<Cow<'_, str>, RouteError> {
    if segment.is_empty() {
        return Err(RouteError::NotFound);
    }
    gafka_http::query::segment(segment).map_err(|_| RouteError::BadPath)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(side: Side, rows: &[(&str, &str)], expected: Expect) {
        let shown: String = rows
            .iter()
            .map(|(method, path)| {
                format!("{method} {path}: {:?}\n", route(side, Method::from_token(method).expect("known"), path))
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
                ("GET", "/alive"),
                ("DELETE", "/readyz"),
                ("OPTIONS", "/v1/msgs/orders/v1"),
                ("HEAD", "/readyz"),
                ("OPTIONS", "*"),
            ],
            expect![[r#"
                POST /v1/msgs/orders/v1: Ok(Publish { topic: "orders", version: "v1" })
                POST /topics/orders/v1: Ok(Publish { topic: "orders", version: "v1" })
                POST /v1/msgs/orders/v1/batch: Ok(Batch { topic: "orders", version: "v1" })
                GET /v1/msgs/orders/v1/batch: Err(MethodNotAllowed { allow: "POST, OPTIONS" })
                POST /v1/msgs/orders/v1/other: Err(NotFound)
                POST /v1/raw/msgs/main/some.topic: Ok(Raw { cluster: "main", topic: "some.topic" })
                POST /v1/raw/msgs/main/some.topic/batch: Ok(RawBatch { cluster: "main", topic: "some.topic" })
                POST /v1/raw/msgs/main: Err(NotFound)
                POST /v1/msgs/or%64ers/v1: Ok(Publish { topic: "orders", version: "v1" })
                POST /v1/msgs/or%6/v1: Err(BadPath)
                GET /v1/msgs/orders/v1: Err(MethodNotAllowed { allow: "POST, OPTIONS" })
                POST /v1/msgs//v1: Err(NotFound)
                POST /v1/msgs/orders/v1/: Err(NotFound)
                POST /v1/msgs/app1/orders/v1: Err(NotFound)
                GET /alive: Ok(Alive)
                DELETE /readyz: Err(MethodNotAllowed { allow: "GET, HEAD, OPTIONS" })
                OPTIONS /v1/msgs/orders/v1: Ok(Options { allow: "POST, OPTIONS" })
                HEAD /readyz: Ok(Readyz)
                OPTIONS *: Ok(Options { allow: "GET, HEAD, POST, OPTIONS" })
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
                GET /v1/msgs/app1/orders/v1: Ok(Subscribe { owner: "app1", topic: "orders", version: "v1" })
                GET /topics/app1/orders/v1: Ok(Subscribe { owner: "app1", topic: "orders", version: "v1" })
                POST /v1/msgs/app1/orders/v1: Err(MethodNotAllowed { allow: "GET, OPTIONS" })
                GET /v1/msgs/orders/v1: Err(NotFound)
                HEAD /v1/msgs/app1/orders/v1: Err(MethodNotAllowed { allow: "GET, OPTIONS" })
                GET /healthz: Ok(Healthz)
            "#]],
        );
    }
}
