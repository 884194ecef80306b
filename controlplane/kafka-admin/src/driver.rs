//! The task that owns the `Client`: calls in, sockets served, answers out.
//!
//! Each turn does everything that can be done now (`serve`), then waits for the first of: a call, a socket's event,
//! the client's next deadline. All state is here; connections are tasks that only carry bytes.
//!
//! A run of records has a tag of its own; its outcomes come in pieces, and are told together.
//!
//! The client waits with a request until its timeout in case a broker comes up. For a person in front of the manager
//! that is long, so a call that has waited `UNREACHABLE_CALL_PATIENCE` while no connection stands at all is answered
//! `Unreachable`: it cannot have been sent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_client::{
    Acks, Client, ConnId, Found, How, Lane, Outcome, ProduceError, Request, RequestError, RequestToken, Response,
    Search, SearchError, Since, Stored, TopicIdx,
};
use kafka_wire::record_batch::{HeaderRef, RecordRef};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::ExactRecord;
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

/// Of each record of a run.
pub(crate) type Outcomes = Vec<Result<Stored, ProduceError>>;

pub(crate) struct Call {
    pub(crate) target: Target,
    pub(crate) lane: Lane,
    pub(crate) request: Request,
    pub(crate) timeout: Duration,
    pub(crate) reply: oneshot::Sender<Result<Response, RequestError>>,
}

pub(crate) struct Produce {
    pub(crate) topic: String,
    /// One or more.
    pub(crate) records: Vec<ExactRecord>,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Outcomes>,
    /// Given back with the outcomes.
    pub(crate) _room: OwnedSemaphorePermit,
}

/// Where the partitions ended when a search did, and what it found.
pub(crate) type Searched = Result<(BTreeMap<i32, i64>, Vec<Found>), SearchError>;

pub(crate) struct Searching {
    pub(crate) topic: String,
    pub(crate) partition: Option<i32>,
    pub(crate) since: Since,
    pub(crate) header: &'static [u8],
    pub(crate) reply: oneshot::Sender<Searched>,
}

pub(crate) enum Command {
    Call(Box<Call>),
    Produce(Box<Produce>),
    Search(Box<Searching>),
    RefreshMetadata,
}

pub(crate) struct Driver {
    client: Client,
    tls: Option<TlsConnector>,
    waiting: HashMap<RequestToken, Waiting>,
    /// Runs on their way, by tag.
    producing: HashMap<u64, Producing>,
    tag_last: u64,
    searches: Vec<Ongoing>,
    sockets: HashMap<ConnId, Socket>,
    events: mpsc::Receiver<(ConnId, Event)>,
    /// For new connections.
    tell: mpsc::Sender<(ConnId, Event)>,
}

struct Waiting {
    since: Instant,
    reply: oneshot::Sender<Result<Response, RequestError>>,
}

struct Ongoing {
    search: Search,
    found: Vec<Found>,
    reply: oneshot::Sender<Searched>,
}

struct Producing {
    /// By index; `None`: not known yet.
    outcomes: Vec<Option<Result<Stored, ProduceError>>>,
    /// How many are not known.
    left: usize,
    reply: oneshot::Sender<Outcomes>,
    _room: OwnedSemaphorePermit,
}

impl Producing {
    fn told(&mut self, outcome: &Outcome) {
        for at in 0..outcome.count {
            let result = outcome.result.clone().map(|stored| Stored {
                offset: if stored.offset < 0 { stored.offset } else { stored.offset + i64::from(at) },
                ..stored
            });
            let known = &mut self.outcomes[(outcome.record_first + at) as usize];
            assert!(known.is_none(), "a record has one outcome: {outcome:?}");
            *known = Some(result);
        }
        self.left -= outcome.count as usize;
    }

    fn finish(self) {
        let outcomes = self.outcomes.into_iter().map(|outcome| outcome.expect("nothing is left")).collect();
        // Whoever asked may have given up.
        let _ = self.reply.send(outcomes);
    }
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
        Self { client, tls, waiting, producing, tag_last: 0, searches: Vec::new(), sockets, events, tell }
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            self.serve();
            let searches = self.searches.iter().filter_map(|ongoing| ongoing.search.next_deadline());
            let wake_at = self.client.next_deadline().into_iter().chain(self.patience_ends()).chain(searches).min();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Call(call)) => self.start(*call),
                    Some(Command::Produce(produce)) => self.produce(*produce),
                    Some(Command::Search(searching)) => self.search(*searching),
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
        let Produce { topic, records, deadline, reply, _room } = produce;
        self.tag_last += 1;
        let topic = self.client.topic(&topic);
        let mut ended: Option<ProduceError> = None;
        let mut outcomes: Vec<Option<Result<Stored, ProduceError>>> = Vec::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            let taken = match &ended {
                Some(error) => Err(error.clone()),
                None => self.hand_over(topic, record, deadline, index as u32),
            };
            if let Err(error) = &taken
                && !matches!(error, ProduceError::RecordTooLarge { .. } | ProduceError::Rejected { .. })
            {
                ended.get_or_insert_with(|| error.clone());
            }
            outcomes.push(taken.err().map(Err));
        }
        let left = outcomes.iter().filter(|outcome| outcome.is_none()).count();
        let producing = Producing { outcomes, left, reply, _room };
        match left {
            0 => producing.finish(),
            _ => drop(self.producing.insert(self.tag_last, producing)),
        }
    }

    fn search(&mut self, searching: Searching) {
        let Searching { topic: name, partition, since, header, reply } = searching;
        let topic = self.client.topic(&name);
        let search = Search::new(topic, &name, partition, since, header);
        self.searches.push(Ongoing { search, found: Vec::new(), reply });
    }

    /// Asks what searches want to know; those that ended, or that nobody waits for, go.
    fn tick_searches(&mut self, now: Instant) {
        let client = &mut self.client;
        let mut at = 0;
        while let Some(Ongoing { search, found, reply }) = self.searches.get_mut(at) {
            search.tick(client, now);
            found.extend(search.take_found());
            let ended = search.ended();
            if ended.is_none() && !reply.is_closed() {
                at += 1;
                continue;
            }
            search.cancel(client);
            let Ongoing { found, reply, .. } = self.searches.swap_remove(at);
            if let Some(ended) = ended {
                let _ = reply.send(ended.map(|ends| (ends, found)));
            }
        }
    }

    fn hand_over(
        &mut self,
        topic: TopicIdx,
        record: &ExactRecord,
        deadline: Instant,
        index: u32,
    ) -> Result<(), ProduceError> {
        let headers: Vec<HeaderRef<'_>> =
            record.headers.iter().map(|(name, value)| HeaderRef { name, value: value.as_deref() }).collect();
        let as_record = RecordRef {
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let how = How::new(Acks::All, deadline);
        self.client.produce(topic, record.partition, &as_record, how, self.tag_last, index, Instant::now())
    }

    /// Everything the client wants done now.
    fn serve(&mut self) {
        let now = Instant::now();
        self.tick_searches(now);
        self.client.flush(now);
        while let Some(outcome) = self.client.poll_outcome() {
            let Some(producing) = self.producing.get_mut(&outcome.tag) else { continue };
            producing.told(&outcome);
            if producing.left == 0
                && let Some(producing) = self.producing.remove(&outcome.tag)
            {
                producing.finish();
            }
        }
        let mut is_searched = false;
        while let Some((token, reply)) = self.client.poll_reply() {
            if let Some(waiting) = self.waiting.remove(&token) {
                // The caller may have given up.
                let _ = waiting.reply.send(reply);
                continue;
            }
            let mut reply = Some(reply);
            let client = &mut self.client;
            is_searched |=
                self.searches.iter_mut().any(|ongoing| ongoing.search.on_reply(client, token, &mut reply, now));
        }
        if is_searched {
            self.tick_searches(now);
            self.client.flush(now);
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
