//! Fetches of many consumer groups on few connections of their brokers.
//!
//! A broker answers the requests of one connection one after the other, so a long poll keeps its connection. One group,
//! one connection would be thousands of them; so the groups' Fetches ("asks") are kept here and put together into few
//! Fetches ("unions") that name the partitions of many asks:
//!
//! ```text
//!                    ┌─ offset is below a known end ─> laggards ──> Now    max_wait 0, one connection, in turn
//!   accept() ─> Ask ─┼─ already named at this place ─> joins that union
//!                    └─ else ─────────────────────> lobby ─┬──> Long   waits as long as asked; its asks are at home there
//!                                                          └──> Door   the last free connection: waits 10 ms at most
//! ```
//!
//! While there are connections to spare every newcomer gets one to itself. When all but one poll, that one is the door:
//! it names everybody of the lobby, for so short a time that a newcomer is named within [`FETCH_DOOR_WAIT`]. Those that
//! stay there without data move to the next long poll that returns, so that the door stays small and quick for
//! the groups that are at work, and rests when nobody is.
//!
//! An ask ends with the first answer that has records or an error for one of its partitions. When its wait is over while
//! a long poll still names it, it is answered empty and the connection is left alone: whoever asks for the same place
//! next joins the poll under way. So idle groups cost the broker one Fetch per connection and wait, however many there are.
//!
//! What an ask costs: O(log n) and a look at each of its broker's polls. What an answer costs: the size of its union. A
//! flush without news costs nothing.
//!
//! Invariants:
//! - An ask is in `laggards`, in `lobby` or in one of `homes`; only a laggard that is named now is in none.
//! - `named_on` is the connection whose Fetch named the ask last and is not answered yet. A lobby's ask that moves home is
//!   named twice for a moment; the first answer counts.
//! - In one union a partition is named once: at one offset, under one leader epoch, with the smallest of the sizes asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchedPartition, FetchedTopic, NO_TOPIC_ID, TopicId,
};
use smallvec::SmallVec;

use crate::limits::{
    FETCH_DOOR_WAIT, FETCH_ENDS_MAX, FETCH_PARTITIONS_MAX, FETCH_PINNED_BYTES_MAX, FETCH_RESPONSE_BYTES_MAX,
    FETCH_RESPONSE_BYTES_MIN, FETCH_SETTLED_AFTER, POLL_CONNECTIONS_MAX,
};
use crate::types::{ConnId, RequestToken};

/// What must be equal among asks that share a request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Terms {
    isolation_level: i8,
    min_bytes: i32,
    rack_id: Bytes,
    /// Every topic has an id: a union with one that has none would name all by name.
    by_id: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    /// With a laggards' request, or waiting for its turn.
    Laggards,
    Lobby,
    Poll(ConnId),
}

/// One user's Fetch.
#[derive(Debug)]
struct Ask {
    broker: u32,
    terms: Terms,
    topics: Vec<FetchTopic>,
    bytes_max: usize,
    wait: Duration,
    timeout: Duration,
    home: Home,
    named_on: Option<ConnId>,
    /// Number of the union that named it last: in the lobby, who was named least lately comes first.
    turn: u64,
    asked_at: Instant,
    /// From when it was named first.
    waits_from: Option<Instant>,
}

impl Ask {
    fn wait_end(&self) -> Option<Instant> {
        self.waits_from.map(|from| from + self.wait)
    }

    fn partitions(&self) -> impl Iterator<Item = (&FetchTopic, &FetchPartition)> {
        self.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |partition| (topic, partition)))
    }

    /// The most it may be given of a partition: never more than of all together.
    fn partition_bytes_max(&self, partition: &FetchPartition) -> i32 {
        partition.partition_max_bytes.min(i32::try_from(self.bytes_max).unwrap_or(i32::MAX))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Long,
    Door,
    Now,
}

/// Topic of a request, and partition.
type Place = (usize, i32);
type Askers = SmallVec<[RequestToken; 1]>;

/// One Fetch on its way, and who is named in it.
#[derive(Debug)]
pub(crate) struct Union {
    broker: u32,
    kind: Kind,
    turn: u64,
    terms: Terms,
    /// As sent.
    pub request: FetchRequest,
    /// The most that one of its asks allows for an answer.
    pub timeout: Duration,
    wait: Duration,
    bytes_asked: usize,
    bytes_largest: usize,
    partition_count: usize,
    by_name: foldhash::HashMap<Bytes, usize>,
    by_id: foldhash::HashMap<TopicId, usize>,
    /// By topic and partition: its place in the request, and who asked.
    named: foldhash::HashMap<Place, (usize, Askers)>,
    asks: Vec<RequestToken>,
    /// When the broker answers at the latest, if it lives.
    returns_at: Instant,
}

impl Union {
    fn new(broker: u32, kind: Kind, turn: u64, terms: Terms, now: Instant) -> Union {
        Union {
            broker,
            kind,
            turn,
            terms,
            request: FetchRequest::default(),
            timeout: Duration::ZERO,
            wait: Duration::ZERO,
            bytes_asked: 0,
            bytes_largest: 0,
            partition_count: 0,
            by_name: Default::default(),
            by_id: Default::default(),
            named: Default::default(),
            asks: Vec::new(),
            returns_at: now,
        }
    }

    /// The partition in this request, if its topic is named and under this id.
    fn find(&self, topic: &FetchTopic, index: i32) -> Option<(&FetchPartition, Place)> {
        let at = *self.by_name.get(&topic.name)?;
        let (position, _) = self.named.get(&(at, index))?;
        let named = &self.request.topics[at];
        (named.id == topic.id).then(|| (&named.partitions[*position], (at, index)))
    }

    /// Is there no room for one more? The first always has.
    fn is_full_for(&self, ask: &Ask, room: usize) -> bool {
        let count: usize = ask.topics.iter().map(|topic| topic.partitions.len()).sum();
        let is_long = self.partition_count + count > FETCH_PARTITIONS_MAX;
        let is_large = self.kind == Kind::Now && self.bytes_asked + ask.bytes_max > room;
        !self.asks.is_empty() && (is_long || is_large)
    }

    /// Can it be put into this request without changing what others asked for?
    fn fits(&self, ask: &Ask) -> bool {
        if ask.terms != self.terms {
            return false;
        }
        let same_topic = |topic: &FetchTopic| {
            let by_name = self.by_name.get(&topic.name).copied();
            let by_id = if topic.id == NO_TOPIC_ID { by_name } else { self.by_id.get(&topic.id).copied() };
            by_name == by_id
        };
        ask.topics.iter().all(same_topic)
            && ask.partitions().all(|(topic, asked)| {
                let place = |p: &FetchPartition| (p.fetch_offset, p.current_leader_epoch);
                self.find(topic, asked.index).is_none_or(|(named, _)| place(named) == place(asked))
            })
    }

    /// Names an ask that fits.
    fn add(&mut self, token: RequestToken, ask: &Ask) {
        self.asks.push(token);
        self.wait = self.wait.max(ask.wait);
        self.timeout = self.timeout.max(ask.timeout);
        self.bytes_asked += ask.bytes_max;
        self.bytes_largest = self.bytes_largest.max(ask.bytes_max);
        for (topic, asked) in ask.partitions() {
            let at = *self.by_name.entry(topic.name.clone()).or_insert_with(|| {
                let partitions = Vec::with_capacity(topic.partitions.len());
                self.request.topics.push(FetchTopic { name: topic.name.clone(), id: topic.id, partitions });
                self.request.topics.len() - 1
            });
            if topic.id != NO_TOPIC_ID {
                self.by_id.insert(topic.id, at);
            }
            let partitions = &mut self.request.topics[at].partitions;
            let bytes_max = ask.partition_bytes_max(asked);
            let (position, askers) = self.named.entry((at, asked.index)).or_insert_with(|| {
                self.partition_count += 1;
                partitions.push(FetchPartition { partition_max_bytes: bytes_max, ..*asked });
                (partitions.len() - 1, SmallVec::new())
            });
            let named = &mut partitions[*position];
            named.partition_max_bytes = named.partition_max_bytes.min(bytes_max);
            askers.push(token);
        }
    }

    /// Would the answer to this request, under way, be an answer to the ask?
    fn names(&self, ask: &Ask, now: Instant) -> bool {
        self.kind != Kind::Now
            && self.returns_at > now
            && self.terms == ask.terms
            && ask.partitions().all(|(topic, asked)| {
                let place = |p: &FetchPartition| (p.fetch_offset, p.current_leader_epoch);
                self.find(topic, asked.index).is_some_and(|(named, _)| {
                    place(named) == place(asked) && named.partition_max_bytes <= ask.partition_bytes_max(asked)
                })
            })
    }

    fn join(&mut self, token: RequestToken, ask: &Ask) {
        self.asks.push(token);
        for (topic, asked) in ask.partitions() {
            let place = self.find(topic, asked.index).map(|(_, place)| place);
            if let Some((_, askers)) = place.and_then(|place| self.named.get_mut(&place)) {
                askers.push(token);
            }
        }
    }

    fn finish(&mut self, room: usize, now: Instant) {
        self.wait = match self.kind {
            Kind::Long => self.wait,
            Kind::Door => self.wait.min(FETCH_DOOR_WAIT),
            Kind::Now => Duration::ZERO,
        };
        self.returns_at = now + self.wait;
        let bytes_max = self.bytes_asked.min(room).max(self.bytes_largest);
        self.request.max_wait_ms = i32::try_from(self.wait.as_millis()).unwrap_or(i32::MAX);
        self.request.max_bytes = i32::try_from(bytes_max).unwrap_or(i32::MAX);
        self.request.min_bytes = self.terms.min_bytes;
        self.request.isolation_level = self.terms.isolation_level;
        self.request.rack_id = self.terms.rack_id.clone();
    }
}

/// A broker's connections that long polls use.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    /// Ready and without a request.
    pub idle: Vec<ConnId>,
    pub opening: usize,
    /// That could be opened now.
    pub openable: usize,
}

/// Number in order, token.
type Order = BTreeSet<(u64, u64, RequestToken)>;

#[derive(Debug, Default)]
struct Hub {
    /// Not named now.
    laggards: Order,
    /// Named by the door at most.
    lobby: Order,
    /// Of those, the ones that are not named now.
    unnamed: usize,
    /// Asks by the connection whose long polls name them.
    homes: BTreeMap<ConnId, Order>,
    /// In the lobby and at home.
    polling: usize,
}

/// An ask that is over, and what it is told.
pub(crate) type Answers = Vec<(RequestToken, FetchResponse)>;

/// All asks of one client.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    asks: foldhash::HashMap<RequestToken, Ask>,
    unions: BTreeMap<ConnId, Union>,
    hubs: BTreeMap<u32, Hub>,
    /// Brokers with an ask that could be named if there were a connection for it.
    due: BTreeSet<u32>,
    waits: BTreeSet<(Instant, RequestToken)>,
    /// Where partitions that had records ended, by topic name and index.
    ends: foldhash::HashMap<(Bytes, i32), (TopicId, i64)>,
    turn: u64,
    room: Room,
}

/// The most that one Fetch of several users may bring.
#[derive(Debug, Clone, Copy)]
struct Room(usize);

impl Default for Room {
    fn default() -> Room {
        Room(FETCH_RESPONSE_BYTES_MAX)
    }
}

impl Fetches {
    /// Fetches of several users may bring so much, within limits; what one user asks for is always asked for.
    pub fn set_room(&mut self, bytes: usize) {
        self.room = Room(bytes.clamp(FETCH_RESPONSE_BYTES_MIN, FETCH_RESPONSE_BYTES_MAX));
    }

    // ---- asks

    /// Can this be put together with others? Not when it is of a session or a follower, names nothing, or one partition
    /// twice.
    pub fn takes(request: &FetchRequest) -> bool {
        let mut seen = BTreeSet::new();
        let consumer = request.replica_id == -1 && request.session_id == 0 && request.session_epoch == -1;
        let mut partitions =
            request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (&topic.name, p.index)));
        consumer
            && request.forgotten.is_empty()
            && request.topics.iter().any(|topic| !topic.partitions.is_empty())
            && partitions.all(|partition| seen.insert(partition))
    }

    pub fn len(&self) -> usize {
        self.asks.len()
    }

    /// Keeps an ask that [`Fetches::takes`] until it is answered, removed or lost.
    pub fn accept(&mut self, token: RequestToken, broker: u32, request: FetchRequest, timeout: Duration, now: Instant) {
        debug_assert!(Fetches::takes(&request));
        let by_id = request.topics.iter().all(|topic| topic.id != NO_TOPIC_ID);
        let mut ask = Ask {
            broker,
            terms: Terms {
                isolation_level: request.isolation_level,
                min_bytes: request.min_bytes,
                rack_id: request.rack_id,
                by_id,
            },
            topics: request.topics,
            bytes_max: usize::try_from(request.max_bytes).unwrap_or(0),
            wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
            timeout,
            home: Home::Lobby,
            named_on: None,
            turn: 0,
            asked_at: now,
            waits_from: None,
        };
        let behind = |(topic, asked): (&FetchTopic, &FetchPartition)| {
            let known = self.ends.get(&(topic.name.clone(), asked.index));
            known.is_some_and(|(id, end)| *id == topic.id && asked.fetch_offset < *end)
        };
        if ask.wait.is_zero() || ask.partitions().any(behind) {
            ask.home = Home::Laggards;
        } else if let Some((conn, union)) =
            self.unions.iter_mut().find(|(_, union)| union.broker == broker && union.names(&ask, now))
        {
            union.join(token, &ask);
            (ask.named_on, ask.turn, ask.waits_from) = (Some(*conn), union.turn, Some(now));
            ask.home = if union.kind == Kind::Long { Home::Poll(*conn) } else { Home::Lobby };
            self.waits.insert((now + ask.wait, token));
        }
        if ask.named_on.is_none() {
            self.due.insert(broker);
        }
        self.asks.insert(token, ask);
        self.enter(token);
    }

    /// Puts an ask into the set that its fields name.
    fn enter(&mut self, token: RequestToken) {
        let Some(ask) = self.asks.get(&token) else { return };
        let hub = self.hubs.entry(ask.broker).or_default();
        let key = (ask.turn, token.number(), token);
        match ask.home {
            Home::Laggards if ask.named_on.is_some() => {}
            Home::Laggards => {
                hub.laggards.insert(key);
            }
            Home::Lobby => {
                hub.unnamed += usize::from(ask.named_on.is_none());
                hub.polling += 1;
                hub.lobby.insert(key);
            }
            Home::Poll(conn) => {
                hub.polling += 1;
                hub.homes.entry(conn).or_default().insert(key);
            }
        }
    }

    /// Takes it out of that set, before its fields change.
    fn leave(&mut self, token: RequestToken) {
        let Some(ask) = self.asks.get(&token) else { return };
        let Some(hub) = self.hubs.get_mut(&ask.broker) else { return };
        let key = (ask.turn, token.number(), token);
        match ask.home {
            Home::Laggards => {
                hub.laggards.remove(&key);
            }
            Home::Lobby => {
                hub.unnamed -= usize::from(ask.named_on.is_none());
                hub.polling -= 1;
                hub.lobby.remove(&key);
            }
            Home::Poll(conn) => {
                hub.polling -= 1;
                if let Some(home) = hub.homes.get_mut(&conn) {
                    home.remove(&key);
                    if home.is_empty() {
                        hub.homes.remove(&conn);
                    }
                }
            }
        }
    }

    fn change(&mut self, token: RequestToken, change: impl FnOnce(&mut Ask)) {
        self.leave(token);
        if let Some(ask) = self.asks.get_mut(&token) {
            change(ask);
        }
        self.enter(token);
    }

    /// The ask is over. Gives whether a broker was asked on its behalf.
    pub fn remove(&mut self, token: RequestToken) -> Option<bool> {
        self.leave(token);
        let ask = self.asks.remove(&token)?;
        if let Some(at) = ask.wait_end() {
            self.waits.remove(&(at, token));
        }
        Some(ask.waits_from.is_some())
    }

    // ---- time

    pub fn next_deadline(&self) -> Option<Instant> {
        self.waits.first().map(|(at, _)| *at)
    }

    /// Answers asks whose wait is over, unless the answer of the request that names them is due: that is awaited, for a
    /// broker that says nothing is not one without news.
    pub fn expire(&mut self, now: Instant, answers: &mut Answers) {
        while let Some((at, token)) = self.waits.first().copied().filter(|(at, _)| *at <= now) {
            self.waits.remove(&(at, token));
            let Some(ask) = self.asks.get(&token) else { continue };
            let union = ask.named_on.and_then(|conn| self.unions.get(&conn));
            if union.is_none_or(|union| union.returns_at > now) {
                answers.push((token, empty_answer(ask)));
                self.remove(token);
            }
        }
    }

    // ---- requests

    /// Brokers where something could be sent if there is room.
    pub fn due(&self) -> Vec<u32> {
        self.due.iter().copied().collect()
    }

    /// Nothing more can be sent there now.
    pub fn looked_at(&mut self, broker: u32) {
        let hub = self.hubs.entry(broker).or_default();
        let resting = hub.homes.keys().any(|conn| !self.unions.contains_key(conn));
        if hub.laggards.is_empty() && hub.unnamed == 0 && !resting {
            self.due.remove(&broker);
        }
    }

    pub fn has_laggards(&self, broker: u32) -> bool {
        self.hubs.get(&broker).is_some_and(|hub| !hub.laggards.is_empty())
    }

    /// Asks of the lobby that nobody names now.
    pub fn unnamed_count(&self, broker: u32) -> usize {
        self.hubs.get(&broker).map_or(0, |hub| hub.unnamed)
    }

    /// Asks that are not named now, in order.
    pub fn unnamed(&self, broker: u32) -> Vec<RequestToken> {
        let Some(hub) = self.hubs.get(&broker) else { return Vec::new() };
        let unnamed = |(_, _, token): &&(u64, u64, RequestToken)| self.asks[token].named_on.is_none();
        hub.laggards.iter().chain(hub.lobby.iter().filter(unnamed)).map(|(_, _, token)| *token).collect()
    }

    /// The next request of those that lag, for an idle connection of theirs: in turn, as many as one answer may hold.
    pub fn compose_now(&mut self, broker: u32, now: Instant) -> Option<Union> {
        let order = self.hubs.get(&broker)?.laggards.iter().map(|(_, _, token)| *token);
        self.compose(broker, Kind::Now, order, usize::MAX, now)
    }

    /// The next long poll of a broker, and which idle connection takes it.
    pub fn compose_poll(&mut self, broker: u32, seats: &mut Seats, now: Instant) -> Option<(ConnId, Union)> {
        let hub = self.hubs.get(&broker)?;
        if let Some(seat) = seats.idle.iter().position(|conn| hub.homes.contains_key(conn)) {
            let conn = seats.idle.swap_remove(seat);
            let order = self.settle_home(broker, conn, seats, now);
            return Some((conn, self.compose(broker, Kind::Long, order.into_iter(), usize::MAX, now)?));
        }
        if hub.unnamed == 0 {
            return None;
        }
        let conn = seats.idle.pop()?;
        let others = seats.idle.len() + seats.opening + seats.openable;
        let has_door = self.unions.values().any(|union| union.broker == broker && union.kind == Kind::Door);
        let lobby = hub.lobby.iter().map(|(_, _, token)| *token);
        let longs_left = (POLL_CONNECTIONS_MAX - 1).saturating_sub(hub.homes.len());
        let union = if longs_left == 0 || (others == 0 && !has_door) {
            self.compose(broker, Kind::Door, lobby, usize::MAX, now)
        } else {
            let share = hub.unnamed.div_ceil(longs_left.min(others + 1));
            let newcomers = lobby.filter(|token| self.asks[token].named_on.is_none());
            self.compose(broker, Kind::Long, newcomers, share, now)
        };
        Some((conn, union?))
    }

    /// Who is named next on a connection that was answered: those at home there, without those that can have an idle
    /// connection and with those of the lobby that are quiet, so that every long poll gets its share. Whoever has found no
    /// connection for too long is named in any case.
    fn settle_home(&mut self, broker: u32, conn: ConnId, seats: &Seats, now: Instant) -> Vec<RequestToken> {
        let hub = &self.hubs[&broker];
        let share = hub.polling.div_ceil(POLL_CONNECTIONS_MAX - 1);
        let mut order: Vec<RequestToken> = hub.homes[&conn].iter().map(|(_, _, token)| *token).collect();
        let leaving = order.len().saturating_sub(share).min(seats.idle.len().saturating_sub(1));
        for token in order.split_off(order.len() - leaving) {
            self.change(token, |ask| (ask.home, ask.turn) = (Home::Lobby, 0));
        }
        if leaving > 0 {
            return order;
        }
        for (_, _, token) in &self.hubs[&broker].lobby {
            let ask = &self.asks[token];
            let is_named = ask.named_on.is_some();
            let is_old = ask.asked_at + FETCH_SETTLED_AFTER <= now;
            let has_room = order.len() < share;
            if (is_old && !is_named) || (has_room && (is_old || !is_named)) {
                order.push(*token);
            }
        }
        order
    }

    /// Puts together what goes together, from the front, up to `ask_count_max`.
    fn compose(
        &self,
        broker: u32,
        kind: Kind,
        order: impl Iterator<Item = RequestToken>,
        ask_count_max: usize,
        now: Instant,
    ) -> Option<Union> {
        let mut order = order.peekable();
        let first = order.peek()?;
        let mut union = Union::new(broker, kind, self.turn + 1, self.asks[first].terms.clone(), now);
        for token in order {
            let ask = &self.asks[&token];
            if union.is_full_for(ask, self.room.0) {
                break;
            }
            if union.fits(ask) {
                union.add(token, ask);
            }
            if union.asks.len() >= ask_count_max {
                break;
            }
        }
        union.finish(self.room.0, now);
        Some(union)
    }

    /// The request was written to this connection.
    pub fn sent(&mut self, conn: ConnId, union: Union, now: Instant) {
        self.turn += 1;
        let (kind, turn) = (union.kind, union.turn);
        for token in union.asks.clone() {
            let ask = &self.asks[&token];
            if ask.waits_from.is_none() && !ask.wait.is_zero() {
                self.waits.insert((now + ask.wait, token));
            }
            self.change(token, |ask| {
                ask.named_on = Some(conn);
                ask.turn = turn;
                ask.waits_from.get_or_insert(now);
                if kind == Kind::Long {
                    ask.home = Home::Poll(conn);
                }
            });
        }
        let before = self.unions.insert(conn, union);
        debug_assert!(before.is_none(), "one request at a time");
    }

    /// Asks at home on a connection that takes no request look for another one.
    pub fn leave_homes(&mut self, broker: u32, idle: &[ConnId]) {
        let Some(hub) = self.hubs.get(&broker) else { return };
        let resting = |conn: &&ConnId| !idle.contains(conn) && !self.unions.contains_key(conn);
        let left: Vec<ConnId> = hub.homes.keys().filter(resting).copied().collect();
        left.into_iter().for_each(|conn| self.leave_home(broker, conn));
    }

    fn leave_home(&mut self, broker: u32, conn: ConnId) {
        let home = self.hubs.get(&broker).and_then(|hub| hub.homes.get(&conn)).cloned().unwrap_or_default();
        for (_, _, token) in home {
            self.change(token, |ask| (ask.home, ask.turn) = (Home::Lobby, 0));
        }
    }

    // ---- answers

    /// The connection is gone, or its answer was none. Gives the asks that were named on it and nowhere since; they are
    /// over.
    pub fn lost(&mut self, conn: ConnId) -> Vec<RequestToken> {
        let Some(union) = self.unions.remove(&conn) else { return Vec::new() };
        let is_lost = |token: &RequestToken| self.asks.get(token).is_some_and(|ask| ask.named_on == Some(conn));
        let lost: Vec<RequestToken> = union.asks.iter().copied().filter(is_lost).collect();
        for token in &lost {
            self.remove(*token);
        }
        self.leave_home(union.broker, conn);
        self.due.insert(union.broker);
        lost
    }

    /// What the answer on this connection, `body_bytes` long, tells whom.
    pub fn answered(&mut self, conn: ConnId, response: FetchResponse, body_bytes: usize, now: Instant) -> Answers {
        let Some(union) = self.unions.remove(&conn) else { return Vec::new() };
        self.due.insert(union.broker);
        let whole_error = response.error;
        let found = self.read(&union, response, body_bytes);
        let mut over: BTreeMap<u64, RequestToken> = BTreeMap::new();
        for (place, (_, askers)) in &union.named {
            if whole_error == ErrorCode::NONE && found.get(place).is_none_or(tells) {
                over.extend(askers.iter().map(|token| (token.number(), *token)));
            }
        }
        over.retain(|_, token| self.asks.contains_key(token));
        for token in &union.asks {
            let Some(ask) = self.asks.get(token).filter(|ask| ask.named_on == Some(conn)) else { continue };
            if whole_error != ErrorCode::NONE || ask.wait_end().is_some_and(|at| at <= now) {
                over.insert(token.number(), *token);
            } else if !over.contains_key(&token.number()) {
                // Empty-handed: a laggard is none any more.
                self.change(*token, |ask| {
                    ask.named_on = None;
                    if ask.home == Home::Laggards {
                        ask.home = Home::Lobby;
                    }
                });
            }
        }
        let answer = |token: RequestToken| {
            let topics = match whole_error {
                ErrorCode::NONE => share_of(&self.asks[&token], &union, &found),
                _ => Vec::new(),
            };
            (token, FetchResponse { error: whole_error, topics, ..FetchResponse::default() })
        };
        let answers: Answers = over.into_values().map(answer).collect();
        for (token, _) in &answers {
            self.remove(*token);
        }
        answers
    }

    /// The partitions of an answer, by their place in the request; notes where they end.
    fn read(&mut self, union: &Union, response: FetchResponse, body_bytes: usize) -> Found {
        let mut found = Found::default();
        for topic in response.topics {
            let at = if topic.name.is_empty() { union.by_id.get(&topic.id) } else { union.by_name.get(&topic.name) };
            let Some(at) = at.copied() else { continue };
            let named = &union.request.topics[at];
            for mut partition in topic.partitions {
                let key = (named.name.clone(), partition.index);
                if partition.records.is_empty() {
                    self.ends.remove(&key);
                } else {
                    if self.ends.len() >= FETCH_ENDS_MAX {
                        self.ends.clear(); // costs each laggard one Fetch in the lobby
                    }
                    let stable = self.readable_end(union, &partition);
                    self.ends.insert(key, (named.id, stable));
                    partition.records = unpinned(partition.records, body_bytes);
                }
                found.insert((at, partition.index), partition);
            }
        }
        found
    }

    fn readable_end(&self, union: &Union, partition: &FetchedPartition) -> i64 {
        match union.terms.isolation_level {
            1 if partition.last_stable_offset >= 0 => partition.last_stable_offset,
            _ => partition.high_watermark,
        }
    }
}

type Found = foldhash::HashMap<Place, FetchedPartition>;

/// Is this worth an answer?
fn tells(partition: &FetchedPartition) -> bool {
    partition.error != ErrorCode::NONE || !partition.records.is_empty() || partition.preferred_read_replica >= 0
}

/// The partitions of one ask, in its order and within its budget, as a broker would keep it: the first one with records
/// comes whatever its size, for it may be a single batch.
fn share_of(ask: &Ask, union: &Union, found: &Found) -> Vec<FetchedTopic> {
    let mut bytes_left = ask.bytes_max;
    let mut is_first = true;
    let mut topics = Vec::with_capacity(ask.topics.len());
    for topic in &ask.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let place = union.find(topic, asked.index).map(|(_, place)| place);
            let Some(partition) = place.and_then(|place| found.get(&place)) else { continue };
            let mut partition = partition.clone();
            if !partition.records.is_empty() {
                if partition.records.len() > bytes_left && !is_first {
                    partition.records = Bytes::new();
                    partition.aborted.clear();
                }
                bytes_left = bytes_left.saturating_sub(partition.records.len());
                is_first = false;
            }
            partitions.push(partition);
        }
        topics.push(FetchedTopic { name: topic.name.clone(), id: topic.id, partitions });
    }
    topics
}

/// What a broker without news answers.
fn empty_answer(ask: &Ask) -> FetchResponse {
    let empty = |partition: &FetchPartition| FetchedPartition::empty(partition.index, ErrorCode::NONE);
    let topics = ask.topics.iter().map(|topic| FetchedTopic {
        name: topic.name.clone(),
        id: topic.id,
        partitions: topic.partitions.iter().map(empty).collect(),
    });
    FetchResponse { topics: topics.collect(), ..FetchResponse::default() }
}

/// Records of one group must not keep the frame of many in memory: a small part of a large one is copied.
fn unpinned(records: Bytes, body_bytes: usize) -> Bytes {
    if body_bytes > FETCH_PINNED_BYTES_MAX && records.len() < body_bytes / 2 {
        return Bytes::copy_from_slice(&records);
    }
    records
}

#[cfg(test)]
mod tests;
