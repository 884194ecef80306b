//! Drives a `kafka_client::Client` over TCP from the thread of a test: sockets written and connected in place, one
//! reading thread for each. Brokers are on loopback, so neither takes time.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_client::{Acks, Client, ClientConfig, ConnId, Connect, How, ProduceError, Stored, TopicIdx};
use kafka_wire::record_batch::RecordRef;

use crate::truth::Sent;

/// However slow the machine is, a test that waits longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(30);

enum Event {
    Bytes(Vec<u8>),
    Closed(String),
}

struct Socket {
    stream: TcpStream,
    received: BytesMut,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Ends its reading thread. Fails when the peer was faster.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// One publisher and everything it ever published.
pub struct Publisher {
    pub client: Client,
    pub sent: Vec<Sent>,
    pub outcomes: BTreeMap<u64, Result<Stored, ProduceError>>,
    /// Connections opened so far.
    pub connects: usize,
    sockets: HashMap<ConnId, Socket>,
    events: Receiver<(ConnId, Event)>,
    tell: Sender<(ConnId, Event)>,
}

/// Short times, so that a test of what takes too long does not.
pub fn config(bootstrap: &str) -> ClientConfig {
    ClientConfig {
        client_id: "mock-cluster-test".into(),
        bootstrap: bootstrap.split(',').map(str::to_owned).collect(),
        request_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(2),
        ..ClientConfig::default()
    }
}

impl Publisher {
    pub fn new(config: ClientConfig) -> Publisher {
        let (tell, events) = channel();
        Publisher {
            client: Client::new(config, 7, Instant::now()),
            sent: Vec::new(),
            outcomes: BTreeMap::new(),
            connects: 0,
            sockets: HashMap::new(),
            events,
            tell,
        }
    }

    /// Publishes one record and gives its tag. It leaves with the next `run`.
    pub fn publish(&mut self, topic: TopicIdx, partition: i32, value: &str, acks: Acks, timeout: Duration) -> u64 {
        let tag = self.sent.len() as u64 + 1;
        let record = RecordRef { timestamp_ms: 1_000, key: Some(b"k"), value: Some(value.as_bytes()), headers: &[] };
        let now = Instant::now();
        let accepted = self.client.produce(topic, Some(partition), &record, How::new(acks, now + timeout), tag, 0, now);
        if let Err(error) = accepted {
            self.outcomes.insert(tag, Err(error));
        }
        self.sent.push(Sent { tag, partition, value: value.into(), acks });
        tag
    }

    /// Serves the client until every record has its outcome.
    pub fn settle(&mut self) {
        self.run_until("every record has an outcome", |publisher| publisher.outcomes.len() == publisher.sent.len());
    }

    /// Serves the client for so long.
    pub fn run(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.step(end);
        }
    }

    /// Serves the client until `done`.
    pub fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Publisher) -> bool) {
        let end = Instant::now() + PATIENCE;
        self.serve();
        while !done(self) {
            let health = self.client.health(Instant::now());
            assert!(Instant::now() < end, "{what}: not in {PATIENCE:?}; {health:?}");
            self.step(end);
        }
    }

    fn step(&mut self, end: Instant) {
        self.serve();
        let wake_at = self.client.next_deadline().map_or(end, |at| at.min(end));
        // At least a little, should the client's deadline lie in the past.
        let wait = wake_at.saturating_duration_since(Instant::now()).max(Duration::from_micros(100));
        if let Ok((conn, event)) = self.events.recv_timeout(wait) {
            self.on_event(conn, event);
            while let Ok((conn, event)) = self.events.try_recv() {
                self.on_event(conn, event);
            }
        }
        self.serve();
    }

    fn on_event(&mut self, conn: ConnId, event: Event) {
        // Events of a socket that was closed meanwhile.
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        match event {
            Event::Bytes(bytes) => {
                socket.received.extend_from_slice(&bytes);
                self.client.on_bytes(conn, &mut socket.received, Instant::now());
            }
            Event::Closed(why) => {
                self.sockets.remove(&conn);
                self.client.on_closed(conn, why, Instant::now());
            }
        }
    }

    /// Everything the client wants done now.
    fn serve(&mut self) {
        let now = Instant::now();
        self.client.flush(now);
        while let Some((conn, _)) = self.client.poll_close() {
            self.sockets.remove(&conn);
        }
        while let Some(connect) = self.client.poll_connect(now) {
            self.connect(&connect);
        }
        while let Some(conn) = self.client.poll_transmit_ready() {
            let Some(socket) = self.sockets.get_mut(&conn) else { continue };
            for part in self.client.take_transmit(conn) {
                // A broken socket shows where it is read.
                let _ = socket.stream.write_all(&part);
            }
        }
        while let Some(outcome) = self.client.poll_outcome() {
            assert_eq!((outcome.record_first, outcome.count), (0, 1), "every record has a tag of its own");
            let before = self.outcomes.insert(outcome.tag, outcome.result);
            assert!(before.is_none(), "two outcomes for tag {}", outcome.tag);
        }
    }

    fn connect(&mut self, connect: &Connect) {
        self.connects += 1;
        let conn = connect.conn;
        let address = (connect.host.as_str(), connect.port).to_socket_addrs().ok().and_then(|mut found| found.next());
        let address = address.expect("brokers of a test have addresses");
        let stream = TcpStream::connect_timeout(&address, connect.timeout)
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .and_then(|stream| Ok((stream.try_clone()?, stream)));
        match stream {
            Ok((reader, stream)) => {
                let tell = self.tell.clone();
                std::thread::spawn(move || read(reader, conn, &tell));
                self.sockets.insert(conn, Socket { stream, received: BytesMut::new() });
                self.client.on_connected(conn, Instant::now());
            }
            Err(err) => self.client.on_connect_failed(conn, err.to_string(), Instant::now()),
        }
        self.client.flush(Instant::now());
    }
}

fn read(mut stream: TcpStream, conn: ConnId, tell: &Sender<(ConnId, Event)>) {
    let mut buffer = vec![0; 64 * 1_024];
    let end = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break "closed by the broker".to_owned(),
            Ok(count) => {
                if tell.send((conn, Event::Bytes(buffer[..count].to_vec()))).is_err() {
                    return;
                }
            }
            Err(err) => break err.to_string(),
        }
    };
    // The publisher may be gone.
    let _ = tell.send((conn, Event::Closed(end)));
}
