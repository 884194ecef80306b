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

/// Connections open at the same time; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 64;
/// A head has to be here after this; so long may a connection also be idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest head.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Then a connection is closed, whatever it does: a reader that takes its metrics this slowly never will.
pub const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// After an accept that failed, for lack of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, Arc::new(self), address.ip().is_loopback())).abort_handle();
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

async fn accept(listener: TcpListener, ops: Arc<Ops>, on_loopback: bool) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
            if tokio::time::timeout(CONNECTION_LIFE, serve_connection(stream, ops, on_loopback)).await.is_err() {
                tracing::debug!("operator's port: a connection was closed for its age");
            }
        });
    }
}

async fn serve_connection(stream: TcpStream, ops: Arc<Ops>, on_loopback: bool) {
    // Answers are one write; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let response = ops.answer(request.method(), request.uri().path(), on_loopback);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
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
