//! The operator's port: `/healthz`, `/readyz`, `/metrics`, for supervisors, balancers and Prometheus.
//!
//! GET and HEAD only. Nobody logs in here, so it binds loopback by default, and away from loopback it tells no metrics.
//! Bounded in every direction: so many connections, each for so long, a head in so short a time.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// Longest head.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// After an accept that failed, for lack of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one port gives its clients.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at the same time; more wait in the kernel's queue.
    pub connections_max: usize,
    /// A head has to be here after this; so long may a connection also be idle.
    pub head_timeout: Duration,
    /// Then a connection is closed, whatever it does: a reader that takes its metrics this slowly never will.
    pub connection_life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (head_timeout, connection_life) = (Duration::from_secs(10), Duration::from_secs(60));
        Limits { connections_max: 64, head_timeout, connection_life }
    }
}

/// Whether a daemon may take traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    pub ready: bool,
    /// Why not, or what is wrong although it may: a sentence each.
    pub reasons: Vec<String>,
}

/// What the port tells.
pub struct Ops {
    pub readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// Prometheus text.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ops")
    }
}

/// The running port; dropped, it closes, and its connections with it. Keep it until the drain is over.
#[derive(Debug)]
pub struct OpsServer {
    pub address: SocketAddr,
    accepting: AbortHandle,
}

impl Drop for OpsServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Ops {
    /// Listens and serves, in a tokio runtime.
    pub async fn serve(self, address: SocketAddr) -> io::Result<OpsServer> {
        self.serve_with(address, Limits::default()).await
    }

    pub async fn serve_with(self, address: SocketAddr, limits: Limits) -> io::Result<OpsServer> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let accepting =
            tokio::spawn(accept(listener, Arc::new(self), limits, address.ip().is_loopback())).abort_handle();
        Ok(OpsServer { address, accepting })
    }

    fn answer(&self, method: &Method, path: &str, on_loopback: bool) -> Response<Full<Bytes>> {
        if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
            let path: String = path.chars().take(200).collect();
            return refusal(StatusCode::NOT_FOUND, "no_such_endpoint", &format!("there is no {path} here"));
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let message = format!("{method} is not among the methods that the Allow header names");
            let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/healthz" => reply(StatusCode::OK, "application/json", json!({"ok": 1}).to_string()),
            "/readyz" => {
                let Readiness { ready, reasons } = (self.readiness)();
                let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                reply(status, "application/json", json!({"ready": ready, "reasons": reasons}).to_string())
            }
            _ if !on_loopback => {
                let message = "metrics are told on loopback only: this port asks nobody for credentials";
                refusal(StatusCode::FORBIDDEN, "loopback_only", message)
            }
            _ => reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", (self.metrics)()),
        }
    }
}

async fn accept(listener: TcpListener, ops: Arc<Ops>, limits: Limits, on_loopback: bool) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new(); // dropped with this task, and they with it
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(err) => {
                tracing::debug!(%err, "operator's port: accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let ops = Arc::clone(&ops);
        connections.spawn(async move {
            let _permit = permit;
            let served = serve_connection(stream, ops, limits.head_timeout, on_loopback);
            if tokio::time::timeout(limits.connection_life, served).await.is_err() {
                tracing::debug!("operator's port: a connection was closed for its age");
            }
        });
    }
}

async fn serve_connection(stream: TcpStream, ops: Arc<Ops>, head_timeout: Duration, on_loopback: bool) {
    // Answers are one write; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let response = ops.answer(request.method(), request.uri().path(), on_loopback);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(err) = served {
        tracing::debug!(%err, "operator's port: connection ended");
    }
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    reply(status, "application/json", json!({"errmsg": message, "code": code}).to_string())
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const SHORT: Limits = Limits {
        connections_max: 2,
        head_timeout: Duration::from_millis(100),
        connection_life: Duration::from_secs(1),
    };

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), test).await.expect("in time");
        });
    }

    fn ops(ready: bool) -> Ops {
        let reasons = if ready { vec![] } else { vec!["cluster main is down".to_owned()] };
        Ops {
            readiness: Box::new(move || Readiness { ready, reasons: reasons.clone() }),
            metrics: Box::new(|| "up 1\n".to_owned()),
        }
    }

    /// All that comes back until the other side closes; without the date.
    async fn call(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await; // a reset is an end, too
        let answer = String::from_utf8(answer).expect("text");
        answer.split("\r\n").filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n")
    }

    fn check(ready: bool, bind: &str, request: &str, expected: Expect) {
        run(async {
            let server = ops(ready).serve_with(format!("{bind}:0").parse().expect("an address"), SHORT).await;
            let server = server.expect("listens");
            let to = SocketAddr::from(([127, 0, 0, 1], server.address.port()));
            let request = format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            expected.assert_eq(&call(to, &request).await);
        });
    }

    #[test]
    fn health_readiness_and_metrics_are_told() {
        check(
            false,
            "127.0.0.1",
            "GET /healthz",
            expect![[r#"
            HTTP/1.1 200 OK
            content-type: application/json
            cache-control: no-store
            connection: close
            content-length: 8

            {"ok":1}"#]],
        );
        check(
            true,
            "127.0.0.1",
            "GET /readyz?verbose",
            expect![[r#"
            HTTP/1.1 200 OK
            content-type: application/json
            cache-control: no-store
            connection: close
            content-length: 27

            {"ready":true,"reasons":[]}"#]],
        );
        check(
            false,
            "127.0.0.1",
            "GET /readyz",
            expect![[r#"
            HTTP/1.1 503 Service Unavailable
            content-type: application/json
            cache-control: no-store
            connection: close
            content-length: 50

            {"ready":false,"reasons":["cluster main is down"]}"#]],
        );
        check(
            true,
            "127.0.0.1",
            "GET /metrics",
            expect![[r#"
            HTTP/1.1 200 OK
            content-type: text/plain; version=0.0.4; charset=utf-8
            cache-control: no-store
            connection: close
            content-length: 5

            up 1
        "#]],
        );
        check(
            true,
            "127.0.0.1",
            "HEAD /metrics",
            expect![[r#"
            HTTP/1.1 200 OK
            content-type: text/plain; version=0.0.4; charset=utf-8
            cache-control: no-store
            connection: close
            content-length: 5

        "#]],
        );
    }

    #[test]
    fn everything_else_is_refused_with_a_sentence() {
        check(
            true,
            "127.0.0.1",
            "POST /metrics",
            expect![[r#"
            HTTP/1.1 405 Method Not Allowed
            content-type: application/json
            cache-control: no-store
            allow: GET, HEAD
            connection: close
            content-length: 98

            {"code":"method_not_allowed","errmsg":"POST is not among the methods that the Allow header names"}"#]],
        );
        check(
            true,
            "127.0.0.1",
            "GET /",
            expect![[r#"
            HTTP/1.1 404 Not Found
            content-type: application/json
            cache-control: no-store
            connection: close
            content-length: 57

            {"code":"no_such_endpoint","errmsg":"there is no / here"}"#]],
        );
        check(
            true,
            "0.0.0.0",
            "GET /metrics",
            expect![[r#"
            HTTP/1.1 403 Forbidden
            content-type: application/json
            cache-control: no-store
            connection: close
            content-length: 108

            {"code":"loopback_only","errmsg":"metrics are told on loopback only: this port asks nobody for credentials"}"#]],
        );
        check(
            true,
            "0.0.0.0",
            "GET /healthz",
            expect![[r#"
            HTTP/1.1 200 OK
            content-type: application/json
            cache-control: no-store
            connection: close
            content-length: 8

            {"ok":1}"#]],
        );
    }

    #[test]
    fn whoever_says_nothing_or_never_ends_its_head_keeps_nobody_out_for_long() {
        run(async {
            let server =
                ops(true).serve_with("127.0.0.1:0".parse().expect("an address"), SHORT).await.expect("listens");
            let mut silent = Vec::new();
            for head in ["", "GET /metr", "GET /metrics HTTP/1.1\r\nHost: a\r\nX:", ""] {
                let mut stream = TcpStream::connect(server.address).await.expect("connects");
                stream.write_all(head.as_bytes()).await.expect("sent");
                silent.push(stream);
            }
            let answer = call(server.address, "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        });
    }

    #[test]
    fn a_head_without_end_is_cut_off() {
        run(async {
            let server =
                ops(true).serve_with("127.0.0.1:0".parse().expect("an address"), SHORT).await.expect("listens");
            let long = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_BYTES_MAX));
            let answer = call(server.address, &long).await;
            assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        });
    }
}
