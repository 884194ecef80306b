//! The task that owns the `Client`: calls in, sockets served, answers out.
//!
//! Each turn does everything that can be done now (`serve`), then waits for the first of: a call, a socket's event,
//! the client's next deadline. All state is here; connections are tasks that only carry bytes.
//!
//! A record has a tag of its own, so that its outcome comes alone.
//!
//! The client waits with a request until its timeout in case a broker comes up. For a person in front of the manager
//! that is long, so a call that has waited `UNREACHABLE_CALL_PATIENCE` while no connection stands at all is answered
//! `Unreachable`: it cannot have been sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kafka_client::{
    Acks, Client, ConnId, How, Lane, ProduceError, Request, RequestError, RequestToken, Response, Stored,
};
use kafka_wire::record_batch::{HeaderRef, RecordRef};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::NewRecord;
use crate::connection::{self, Event};
use crate::limits::{EVENTS_MAX, UNREACHABLE_CALL_PATIENCE};

/// Who should answer: as `kafka_client::Target`, owning its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Any,
    Controller,
    Broker(i32),
    Coordinator(String),
}

impl Target {
    fn borrowed(&self) -> kafka_client::Target<'_> {
        match self {
            Target::Any => kafka_client::Target::Any,
            Target::Controller => kafka_client::Target::Controller,
            Target::Broker(id) => kafka_client::Target::Broker(*id),
            Target::Coordinator(group) => kafka_client::Target::Coordinator(group),
        }
    }
}

pub(crate) struct Call {
    pub(crate) target: Target,
    pub(crate) lane: Lane,
    pub(crate) request: Request,
    pub(crate) timeout: Duration,
    pub(crate) reply: oneshot::Sender<Result<Response, RequestError>>,
}

pub(crate) struct Produce {
    pub(crate) topic: String,
    pub(crate) record: NewRecord,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Result<Stored, ProduceError>>,
    /// Given back with the outcome.
    pub(crate) _room: OwnedSemaphorePermit,
}

pub(crate) enum Command {
    Call(Box<Call>),
    Produce(Box<Produce>),
    RefreshMetadata,
}

pub(crate) struct Driver {
    client: Client,
    tls: Option<TlsConnector>,
    waiting: HashMap<RequestToken, Waiting>,
    /// Records on their way, by tag.
    producing: HashMap<u64, Producing>,
    tag_last: u64,
    sockets: HashMap<ConnId, Socket>,
    events: mpsc::Receiver<(ConnId, Event)>,
    /// For new connections.
    tell: mpsc::Sender<(ConnId, Event)>,
}

struct Waiting {
    since: Instant,
    reply: oneshot::Sender<Result<Response, RequestError>>,
}

struct Producing {
    reply: oneshot::Sender<Result<Stored, ProduceError>>,
    _room: OwnedSemaphorePermit,
}

struct Socket {
    /// TCP, and TLS if asked for, stand.
    connected: bool,
    task: AbortHandle,
    chains: mpsc::Sender<Vec<Bytes>>,
    /// A chain is on its way; the next one is taken from the client when it has been written.
    writing: bool,
    /// Received and not yet a whole frame.
    received: BytesMut,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Driver {
    pub(crate) fn new(client: Client, tls: Option<TlsConnector>) -> Self {
        let (tell, events) = mpsc::channel(EVENTS_MAX);
        let (waiting, producing, sockets) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { client, tls, waiting, producing, tag_last: 0, sockets, events, tell }
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            self.serve();
            let wake_at = self.client.next_deadline().into_iter().chain(self.patience_ends()).min();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Call(call)) => self.start(*call),
                    Some(Command::Produce(produce)) => self.produce(*produce),
                    Some(Command::RefreshMetadata) => self.client.refresh_metadata(Instant::now()),
                    None => return,
                },
                Some((conn, event)) = self.events.recv() => self.on_event(conn, event),
                () = sleep_until(wake_at) => self.client.on_timer(Instant::now()),
            }
        }
    }

    fn start(&mut self, call: Call) {
        let now = Instant::now();
        let token = self.client.request(call.target.borrowed(), call.lane, call.request, call.timeout, now);
        self.waiting.insert(token, Waiting { since: now, reply: call.reply });
    }

    fn produce(&mut self, produce: Produce) {
        let Produce { topic, record, deadline, reply, _room } = produce;
        let now = Instant::now();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| HeaderRef { name: name.as_bytes(), value: Some(value) })
            .collect();
        let record = RecordRef {
            timestamp_ms: since_epoch.map_or(0, |since| since.as_millis() as i64),
            key: record.key.as_deref(),
            value: Some(&record.value),
            headers: &headers,
        };
        self.tag_last += 1;
        let topic = self.client.topic(&topic);
        match self.client.produce(topic, None, &record, How::new(Acks::All, deadline), self.tag_last, 0, now) {
            Ok(()) => drop(self.producing.insert(self.tag_last, Producing { reply, _room })),
            // As below.
            Err(err) => drop(reply.send(Err(err))),
        }
    }

    /// Everything the client wants done now.
    fn serve(&mut self) {
        let now = Instant::now();
        self.client.flush(now);
        while let Some(outcome) = self.client.poll_outcome() {
            if let Some(producing) = self.producing.remove(&outcome.tag) {
                // Whoever asked may have given up.
                let _ = producing.reply.send(outcome.result);
            }
        }
        while let Some((token, reply)) = self.client.poll_reply() {
            if let Some(waiting) = self.waiting.remove(&token) {
                // The caller may have given up.
                let _ = waiting.reply.send(reply);
            }
        }
        if self.patience_ends().is_some_and(|at| at <= now) {
            self.give_up_unreachable(now);
        }
        while let Some((conn, why)) = self.client.poll_close() {
            tracing::debug!(conn = conn.0, why, "connection to broker closed");
            self.sockets.remove(&conn);
        }
        while let Some(connect) = self.client.poll_connect(now) {
            let conn = connect.conn;
            let (chains, inbox) = mpsc::channel(1);
            let task = tokio::spawn(connection::run(connect, self.tls.clone(), self.tell.clone(), inbox));
            let task = task.abort_handle();
            let socket = Socket { connected: false, task, chains, writing: false, received: BytesMut::new() };
            self.sockets.insert(conn, socket);
        }
        while let Some(conn) = self.client.poll_transmit_ready() {
            self.transmit(conn);
        }
    }

    /// When the longest waiting call has waited enough for a first connection. `None`: one stands, or nobody waits.
    fn patience_ends(&self) -> Option<Instant> {
        if self.sockets.values().any(|socket| socket.connected) {
            return None;
        }
        self.waiting.values().map(|waiting| waiting.since + UNREACHABLE_CALL_PATIENCE).min()
    }

    fn give_up_unreachable(&mut self, now: Instant) {
        let why: Arc<str> = self.client.health(now).detail.into();
        let client = &mut self.client;
        let given_up = self.waiting.extract_if(|_, waiting| waiting.since + UNREACHABLE_CALL_PATIENCE <= now);
        for (token, waiting) in given_up {
            client.cancel(token);
            let _ = waiting.reply.send(Err(RequestError::Unreachable { why: Arc::clone(&why) }));
        }
    }

    /// Gives the socket its next chain, unless it is still busy with one.
    fn transmit(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        if socket.writing {
            return;
        }
        let chain = self.client.take_transmit(conn);
        if !chain.is_empty() {
            // It holds one chain and has none; if its task has ended, its last event says so.
            socket.writing = socket.chains.try_send(chain).is_ok();
        }
    }

    fn on_event(&mut self, conn: ConnId, event: Event) {
        let now = Instant::now();
        // Events of a socket that was closed meanwhile.
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        match event {
            Event::Connected => {
                socket.connected = true;
                self.client.on_connected(conn, now);
            }
            Event::Bytes(bytes) => {
                socket.received.extend_from_slice(&bytes);
                self.client.on_bytes(conn, &mut socket.received, now);
            }
            Event::Written => {
                socket.writing = false;
                self.transmit(conn);
            }
            Event::ConnectFailed(why) => {
                self.sockets.remove(&conn);
                self.client.on_connect_failed(conn, why, now);
            }
            Event::Closed(why) => {
                self.sockets.remove(&conn);
                self.client.on_closed(conn, why, now);
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
