//! The network between one client and the model cluster, and the driver: what a shard does with sockets, done with
//! queues. Frames may take time; a connection keeps its order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use kafka_client::{
    Acks, Client, ClientConfig, ConnId, Connect, How, Outcome, ProduceError, RequestError, RequestToken, Response,
    Stored, TopicIdx, TopicState,
};
use kafka_wire::record_batch::RecordRef;

use crate::broker::{Cluster, Poll, Reply, Session};

struct Wire {
    node: i32,
    session: Session,
    to_broker: BytesMut,
    to_client: BytesMut,
    held: VecDeque<Vec<Bytes>>,
    /// A long poll, and when its wait is over.
    parked: Option<(Instant, Poll)>,
    /// Answers that the next one overtakes.
    overtaken: Vec<Bytes>,
    /// The client has closed or lost it; what it sent may still arrive.
    cut: bool,
    /// The link lost one direction, or both, and nobody was told: 0 to the broker, 1 to the client.
    deaf: [bool; 2],
    last_arrival: [Instant; 2],
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Parcel {
    ToBroker(ConnId, Vec<u8>),
    ToClient(ConnId, Vec<u8>),
}

/// SplitMix64, the tests' own.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub struct World {
    pub client: Client,
    pub cluster: Cluster,
    pub now: Instant,
    pub start: Instant,
    pub outcomes: Vec<Outcome>,
    pub replies: Vec<(RequestToken, Result<Response, RequestError>)>,
    pub connects: Vec<Connect>,
    pub closes: Vec<String>,
    pub dice: Dice,
    /// Longest time a frame takes; zero delivers at once.
    pub latency_max: Duration,
    wires: BTreeMap<ConnId, Wire>,
    /// SYNs without an answer, and when the first was sent.
    dials: Vec<(Instant, Connect)>,
    /// When each outcome was told.
    pub told_at: BTreeMap<u64, Instant>,
    parcels: BinaryHeap<Reverse<(Instant, u64, Parcel)>>,
    parcel_count: u64,
    tag_next: u64,
}

pub fn config() -> ClientConfig {
    ClientConfig { client_id: "test".into(), bootstrap: vec!["b1:9092".into()], ..ClientConfig::default() }
}

impl World {
    pub fn new(nodes: i32, partitions: usize) -> World {
        World::with(Cluster::new(nodes, partitions), config(), 1)
    }

    pub fn with(cluster: Cluster, config: ClientConfig, seed: u64) -> World {
        let now = Instant::now();
        World {
            client: Client::new(config, seed, now),
            cluster,
            now,
            start: now,
            outcomes: Vec::new(),
            replies: Vec::new(),
            connects: Vec::new(),
            closes: Vec::new(),
            dice: Dice(seed ^ 0xd1ce),
            latency_max: Duration::ZERO,
            wires: BTreeMap::new(),
            dials: Vec::new(),
            told_at: BTreeMap::new(),
            parcels: BinaryHeap::new(),
            parcel_count: 0,
            tag_next: 0,
        }
    }

    /// A world whose client has connected, knows `t` and has its producer id.
    pub fn warm(nodes: i32, partitions: usize) -> (World, TopicIdx) {
        let mut world = World::new(nodes, partitions);
        let topic = world.warm_up();
        (world, topic)
    }

    pub fn warm_up(&mut self) -> TopicIdx {
        let topic = self.client.topic("t");
        let partitions = self.cluster.topics["t"].partitions.len() as i32;
        for partition in 0..partitions {
            self.produce(topic, Some(partition), &format!("warm{partition}"), Acks::All, 30_000);
        }
        self.run(Duration::from_millis(500));
        assert_eq!(self.client.topic_state(topic), TopicState::Known);
        assert_eq!(self.outcomes.len(), partitions as usize, "{:?}", self.outcomes);
        assert!(self.outcomes.iter().all(|outcome| outcome.result.is_ok()), "{:?}", self.outcomes);
        self.outcomes.clear();
        self.cluster.seen.clear();
        topic
    }

    /// Publishes one record under a tag of its own, without flushing.
    pub fn produce(
        &mut self,
        topic: TopicIdx,
        partition: Option<i32>,
        value: &str,
        acks: Acks,
        timeout_ms: u64,
    ) -> u64 {
        self.try_produce(topic, partition, value, acks, timeout_ms).expect("the record is accepted")
    }

    pub fn try_produce(
        &mut self,
        topic: TopicIdx,
        partition: Option<i32>,
        value: &str,
        acks: Acks,
        timeout_ms: u64,
    ) -> Result<u64, ProduceError> {
        self.produce_as(topic, partition, value, How::new(acks, self.now + Duration::from_millis(timeout_ms)))
    }

    /// Publishes one record, acks=all, that is given back when it cannot be stored.
    pub fn offer(&mut self, topic: TopicIdx, partition: Option<i32>, value: &str) -> Result<u64, ProduceError> {
        let how = How::new(Acks::All, self.now + Duration::from_secs(60)).or_give_back();
        self.produce_as(topic, partition, value, how)
    }

    pub fn produce_as(
        &mut self,
        topic: TopicIdx,
        partition: Option<i32>,
        value: &str,
        how: How,
    ) -> Result<u64, ProduceError> {
        self.tag_next += 1;
        let record = RecordRef { timestamp_ms: 1_000, key: None, value: Some(value.as_bytes()), headers: &[] };
        self.client.produce(topic, partition, &record, how, self.tag_next, 0, self.now)?;
        Ok(self.tag_next)
    }

    pub fn outcome(&self, tag: u64) -> Option<&Result<Stored, ProduceError>> {
        let mut found = self.outcomes.iter().filter(|outcome| outcome.tag == tag);
        let first = found.next();
        assert!(found.next().is_none(), "two outcomes for tag {tag}");
        first.map(|outcome| &outcome.result)
    }

    pub fn stored(&self, tag: u64) -> Stored {
        match self.outcome(tag) {
            Some(Ok(stored)) => *stored,
            other => panic!("tag {tag} should be stored: {other:?}"),
        }
    }

    pub fn error(&self, tag: u64) -> ProduceError {
        match self.outcome(tag) {
            Some(Err(error)) => error.clone(),
            other => panic!("tag {tag} should have failed: {other:?}"),
        }
    }

    // ---- driver

    /// Flushes and carries bytes until nothing moves at this instant.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            self.client.flush(self.now);
            if !self.carry() {
                let due = self.client.next_deadline().is_some_and(|at| at <= self.now);
                assert!(!due, "after a flush nothing may be due at once");
                return;
            }
        }
        panic!("the client never comes to rest");
    }

    /// Lets time pass, stopping wherever something is due.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..1_000_000 {
            self.settle();
            let parcel = self.parcels.peek().map(|parcel| parcel.0.0);
            let polls = self.wires.values().filter_map(|wire| wire.parked.as_ref()).map(|(over_at, _)| *over_at);
            let dial = self.dials.iter().filter_map(|(since, connect)| self.next_syn(*since, connect)).min();
            let next = [self.client.next_deadline(), parcel, dial].into_iter().flatten().chain(polls).min();
            match next {
                Some(at) if at <= end => self.now = at.max(self.now),
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("too many steps: the client's timers stand still");
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    /// One round; true when anything moved.
    pub fn carry(&mut self) -> bool {
        let mut moved = false;
        while let Some(connect) = self.client.poll_connect(self.now) {
            moved = true;
            self.connect(&connect);
            self.connects.push(connect);
        }
        moved |= self.dial_again();
        while let Some(conn) = self.client.poll_transmit_ready() {
            moved = true;
            let bytes = self.client.take_transmit(conn).concat();
            self.ship(Parcel::ToBroker(conn, bytes));
        }
        while let Some(Reverse((at, _, _))) = self.parcels.peek() {
            if *at > self.now {
                break;
            }
            moved = true;
            let Reverse((_, _, parcel)) = self.parcels.pop().unwrap();
            match parcel {
                Parcel::ToBroker(conn, bytes) => self.arrive(conn, &bytes),
                Parcel::ToClient(conn, bytes) => self.deliver(conn, &bytes),
            }
        }
        let polling: Vec<ConnId> =
            self.wires.iter().filter(|(_, wire)| wire.parked.is_some()).map(|(conn, _)| *conn).collect();
        for conn in polling {
            let Some(wire) = self.wires.get_mut(&conn) else { continue };
            let Some((over_at, poll)) = wire.parked.take() else { continue };
            match self.cluster.try_poll(&poll, over_at <= self.now) {
                Some(_) if self.cluster.frozen.contains(&wire.node) => {}
                Some(answer) => {
                    moved = true;
                    self.ship(Parcel::ToClient(conn, answer.concat()));
                }
                None => wire.parked = Some((over_at, poll)),
            }
        }
        while let Some((conn, why)) = self.client.poll_close() {
            moved = true;
            self.closes.push(why);
            if let Some(wire) = self.wires.get_mut(&conn) {
                wire.cut = true;
            }
        }
        while let Some(outcome) = self.client.poll_outcome() {
            self.told_at.insert(outcome.tag, self.now);
            self.outcomes.push(outcome);
        }
        while let Some(reply) = self.client.poll_reply() {
            self.replies.push(reply);
        }
        moved
    }

    fn connect(&mut self, connect: &Connect) {
        let node = connect.host.strip_prefix('b').and_then(|node| node.parse().ok());
        let up = node.is_some_and(|node: i32| {
            self.cluster.nodes.get(&node).copied().unwrap_or(false) && !self.cluster.refusing.contains(&node)
        });
        if node.is_some_and(|node| self.cluster.dark.contains(&node)) {
            self.dials.push((self.now, connect.clone()));
            return;
        }
        if !up || connect.port != self.cluster.port(node.unwrap_or_default()) {
            self.client.on_connect_failed(connect.conn, "connection refused".into(), self.now);
            return;
        }
        let wire = Wire {
            node: node.unwrap(),
            session: Session::default(),
            to_broker: BytesMut::new(),
            to_client: BytesMut::new(),
            held: VecDeque::new(),
            parked: None,
            overtaken: Vec::new(),
            cut: false,
            deaf: [false; 2],
            last_arrival: [self.now; 2],
        };
        self.wires.insert(connect.conn, wire);
        self.client.on_connected(connect.conn, self.now);
    }

    /// When the kernel tries again, 1, 3 and 7 s after the first, or gives up.
    fn next_syn(&self, since: Instant, connect: &Connect) -> Option<Instant> {
        let syns = [1, 3, 7].map(|seconds| since + Duration::from_secs(seconds));
        syns.into_iter().chain([since + connect.timeout]).find(|at| *at > self.now)
    }

    fn dial_again(&mut self) -> bool {
        let now = self.now;
        let is_due = |since: &Instant, connect: &Connect| {
            let waited = now - *since;
            [1, 3, 7].map(Duration::from_secs).contains(&waited) || waited >= connect.timeout
        };
        let (due, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.dials).into_iter().partition(|(since, connect)| is_due(since, connect));
        self.dials = left;
        let mut moved = false;
        for (since, connect) in due {
            let dark = self.cluster.dark.iter().any(|node| connect.host == format!("b{node}"));
            if now - since >= connect.timeout {
                moved = true;
                self.client.on_connect_failed(connect.conn, "timed out".into(), now);
            } else if dark {
                self.dials.push((since, connect));
            } else {
                moved = true;
                self.connect(&connect);
            }
        }
        moved
    }

    fn ship(&mut self, parcel: Parcel) {
        let (conn, direction) = match &parcel {
            Parcel::ToBroker(conn, _) => (conn, 0),
            Parcel::ToClient(conn, _) => (conn, 1),
        };
        let delay = match self.latency_max.as_micros() as u64 {
            0 => Duration::ZERO,
            max => Duration::from_micros(self.dice.below(max)),
        };
        let Some(wire) = self.wires.get_mut(conn) else { return };
        let at = (self.now + delay).max(wire.last_arrival[direction]);
        wire.last_arrival[direction] = at;
        self.parcel_count += 1;
        self.parcels.push(Reverse((at, self.parcel_count, parcel)));
    }

    /// Bytes reach the broker.
    fn arrive(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(wire) = self.wires.get_mut(&conn).filter(|wire| !wire.deaf[0]) else { return };
        wire.to_broker.extend_from_slice(bytes);
        loop {
            let Some(wire) = self.wires.get_mut(&conn) else { return };
            let up = self.cluster.nodes.get(&wire.node).copied().unwrap_or(false);
            if !up || self.cluster.frozen.contains(&wire.node) {
                return;
            }
            let Some(head) = wire.to_broker.first_chunk::<4>() else { return };
            let length = i32::from_be_bytes(*head) as usize;
            if wire.to_broker.len() < 4 + length {
                return;
            }
            wire.to_broker.advance(4);
            let frame = wire.to_broker.split_to(length).freeze();
            match self.cluster.handle(wire.node, conn.0, &mut wire.session, frame) {
                // Answers keep their order, so one that is held holds those after it.
                Reply::Answer(answer) if !wire.held.is_empty() => wire.held.push_back(answer),
                Reply::Answer(mut answer) => {
                    answer.append(&mut wire.overtaken);
                    self.ship(Parcel::ToClient(conn, answer.concat()));
                }
                Reply::Overtaken(answer) => wire.overtaken.extend(answer),
                Reply::Held(answer) => wire.held.push_back(answer),
                Reply::Nothing => {}
                Reply::Parked(poll) => wire.parked = Some((self.now + Duration::from_millis(poll.wait_ms), poll)),
                Reply::Close => return self.drop_wire(conn, "closed by the broker"),
            }
        }
    }

    /// Bytes reach the client.
    fn deliver(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(wire) = self.wires.get_mut(&conn).filter(|wire| !wire.cut && !wire.deaf[1]) else { return };
        wire.to_client.extend_from_slice(bytes);
        self.client.on_bytes(conn, &mut wire.to_client, self.now);
    }

    pub fn drop_wire(&mut self, conn: ConnId, why: &str) {
        if self.wires.remove(&conn).is_some() {
            self.client.on_closed(conn, why.into(), self.now);
        }
    }

    /// The client's side ends; what is on its way to the broker still arrives.
    pub fn cut_wire(&mut self, conn: ConnId) {
        if let Some(wire) = self.wires.get_mut(&conn).filter(|wire| !wire.cut) {
            wire.cut = true;
            self.client.on_closed(conn, "reset by peer".into(), self.now);
        }
    }

    /// What is sent in these directions vanishes from now on, and neither side hears of it.
    pub fn half_open(&mut self, conn: ConnId, deaf: [bool; 2]) {
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.deaf = deaf;
        }
    }

    /// The network tells both sides of links that lost a direction.
    pub fn end_half_open(&mut self) {
        let deaf: Vec<ConnId> =
            self.wires.iter().filter(|(_, wire)| wire.deaf != [false; 2]).map(|(conn, _)| *conn).collect();
        deaf.into_iter().for_each(|conn| self.drop_wire(conn, "reset by peer"));
    }

    pub fn open_wires(&self) -> Vec<ConnId> {
        self.wires.iter().filter(|(_, wire)| !wire.cut).map(|(conn, _)| *conn).collect()
    }

    /// A broker dies: its connections end, new ones are refused.
    pub fn kill(&mut self, node: i32) {
        self.cluster.nodes.insert(node, false);
        let conns: Vec<ConnId> =
            self.wires.iter().filter(|(_, wire)| wire.node == node).map(|(conn, _)| *conn).collect();
        conns.into_iter().for_each(|conn| self.drop_wire(conn, "reset by peer"));
    }

    pub fn revive(&mut self, node: i32) {
        self.cluster.nodes.insert(node, true);
    }

    /// Brokers read what reached them while they were frozen.
    pub fn thaw(&mut self) {
        self.cluster.frozen.clear();
        let conns: Vec<ConnId> = self.wires.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.arrive(conn, &[]));
        self.settle();
    }

    /// Sends the answers that were held back.
    pub fn release(&mut self) {
        let conns: Vec<ConnId> = self.wires.keys().copied().collect();
        for conn in conns {
            while let Some(answer) = self.wires.get_mut(&conn).and_then(|wire| wire.held.pop_front()) {
                self.ship(Parcel::ToClient(conn, answer.concat()));
            }
        }
        self.settle();
    }
}
