//! A tenant's connection without sockets: two apps and a third one's topics, a broker that offers everything, and a desk that
//! remembers what it was told.
//!
//! ```text
//!   app1     orders.v1, orders.v10 (with a checksum), capped.v1 and capped.v2 (limited), off.v1 (disabled), away.v1 (elsewhere)
//!   friend   prices.v1 and prices.v10, which app1 may read; hidden.v1, which it may not
//!   zorro    secret.v1, vault.v10
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::pieces::{self, put_count, put_string};
use kafka_wire::shape::{Field, Kind, Shape, walk};
use kafka_wire::shapes::consumer_protocol::{ASSIGNMENT, SUBSCRIPTION};
use kafka_wire::{ApiKey, header};
use model::doc::{AppDoc, GrantDoc, SnapshotDoc, TopicDoc};
use model::quota::{Limits, Measure};
use model::sasl::{Login, SaslMechanism, SaslServer, SaslStep};
use model::scram::ScramParams;
use model::secrets::{PlainSecret, SecretPair, StoredSecret};
use model::tenant::NoTopic;
use model::{App, AppId, ClusterName, Denied, Side, Snapshot, Topic, TopicName, TopicVersion};
use router::answers::{self, AnswerError};
use router::apis::{Api, offered};
use router::in_flight::{Asked, InFlight, Outstanding};
use router::requests::{self, RequestError};
use router::rewrite::api_versions::Asker;
use router::tenant::answers as to_client;
use router::tenant::answers::TenantAnswers;
use router::tenant::fill::Fill;
use router::tenant::found::TopicId;
use router::tenant::ids::{TopicIds, Wanted};
use router::tenant::rename::Called;
use router::tenant::requests as to_kafka;
use router::tenant::requests::{TenantRequests, Turn};
use router::tenant::rules::{Message, Topics};
use router::tenant::session::Session;
use router::tenant::versions::Offered;
use router::tenant::whole::Used;
use router::topology::{Naming, View};

pub const CLUSTER: &str = "main";
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Largest frame of a test's client.
pub const FRAME_BYTES_MAX: usize = 32 << 20;

fn app(id: &str, index: u32, cluster: &str) -> AppDoc {
    // As few rounds as clients accept: nobody attacks these secrets.
    let scram = ScramParams { salt: vec![index as u8; 16], iterations: 4096 };
    let pair = |side: &str| SecretPair {
        current: StoredSecret::derive(&PlainSecret::from_text(&secret(id, side)).expect("a secret"), &scram),
        previous: None,
    };
    AppDoc {
        id: AppId::new(id).expect("an app id"),
        index,
        cluster: ClusterName::new(cluster).expect("a cluster"),
        enabled: true,
        publish: pair("pub"),
        subscribe: pair("sub"),
        scram,
        limits: Limits::default(),
        addresses: Default::default(),
        handoff: true,
    }
}

/// What an app logs in with.
pub fn secret(app: &str, side: &str) -> String {
    format!("{app}-{side}-secret")
}

fn topic(index: u32, owner: &str, name: &str, ver: &str, cluster: &str) -> TopicDoc {
    let limits = match name {
        "capped" => Limits::default().with(Measure::PublishMessages, 5).with(Measure::SubscribeMessages, 5),
        _ => Limits::default(),
    };
    TopicDoc {
        owner: AppId::new(owner).expect("an app id"),
        name: TopicName::new(name).expect("a topic"),
        ver: TopicVersion::new(ver).expect("a version"),
        index,
        cluster: ClusterName::new(cluster).expect("a cluster"),
        enabled: name != "off",
        options: Default::default(),
        limits,
        partitions: None,
        replicas: None,
        retention_ms: None,
        retention_bytes: None,
    }
}

pub fn snapshot() -> Arc<Snapshot> {
    static SNAPSHOT: OnceLock<Arc<Snapshot>> = OnceLock::new();
    let made = SNAPSHOT.get_or_init(|| {
        let topics = [
            ("app1", "orders", "v1", CLUSTER),
            ("app1", "orders", "v10", CLUSTER),
            ("app1", "capped", "v1", CLUSTER),
            ("app1", "capped", "v2", CLUSTER),
            ("app1", "off", "v1", CLUSTER),
            ("app1", "away", "v1", "elsewhere"),
            ("friend", "prices", "v1", CLUSTER),
            ("friend", "prices", "v10", CLUSTER),
            ("friend", "hidden", "v1", CLUSTER),
            ("zorro", "secret", "v1", CLUSTER),
            ("zorro", "vault", "v10", CLUSTER),
        ];
        let topics =
            topics.iter().zip(1..).map(|((owner, name, ver, cluster), at)| topic(at, owner, name, ver, cluster));
        let grant = GrantDoc::Subscribe {
            app: AppId::new("app1").expect("an app id"),
            owner: AppId::new("friend").expect("an app id"),
            topic: TopicName::new("prices").expect("a topic"),
            ver: None,
        };
        let doc = SnapshotDoc {
            apps: vec![app("app1", 1, CLUSTER), app("friend", 2, CLUSTER), app("zorro", 3, CLUSTER)],
            topics: topics.collect(),
            grants: vec![grant],
            ..SnapshotDoc::default()
        };
        Arc::new(Snapshot::build(doc).expect("a snapshot"))
    });
    Arc::clone(made)
}

/// The name in Kafka of an app's topic.
pub fn physical(owner: &str, topic: &str) -> String {
    let snapshot = snapshot();
    let (plain, long) = (format!("{owner}.{topic}"), format!("{owner}.{topic}."));
    let found = snapshot.topics().find(|topic| *topic.physical == *plain || topic.physical.starts_with(&long));
    found.expect("a topic of the snapshot").physical.to_string()
}

/// Topic ids, of which the proxy knows all but [`ID_UNKNOWN`].
pub const ID_ORDERS: TopicId = [0x11; 16];
pub const ID_ORDERS_10: TopicId = [0x12; 16];
pub const ID_CAPPED: TopicId = [0x13; 16];
pub const ID_CAPPED_2: TopicId = [0x14; 16];
pub const ID_PRICES: TopicId = [0x21; 16];
pub const ID_HIDDEN: TopicId = [0x22; 16];
/// Of a topic that is called as a granted one but for a checksum that is not its own.
pub const ID_LOOKS_GRANTED: TopicId = [0x23; 16];
pub const ID_SECRET: TopicId = [0x31; 16];
pub const ID_UNKNOWN: TopicId = [0x7f; 16];

pub fn ids() -> TopicIds {
    let mut ids = TopicIds::default();
    ids.learn(ID_ORDERS, &physical("app1", "orders.v1"));
    ids.learn(ID_ORDERS_10, &physical("app1", "orders.v10"));
    ids.learn(ID_CAPPED, &physical("app1", "capped.v1"));
    ids.learn(ID_CAPPED_2, &physical("app1", "capped.v2"));
    ids.learn(ID_PRICES, &physical("friend", "prices.v1"));
    ids.learn(ID_HIDDEN, &physical("friend", "hidden.v1"));
    ids.learn(ID_LOOKS_GRANTED, "friend.prices.v1.7");
    ids.learn(ID_SECRET, &physical("zorro", "secret.v1"));
    ids
}

/// A broker that offers every version of everything.
pub fn offers_all() -> Offered {
    let mut body = BytesMut::new();
    body.put_i16(0);
    body.put_u8(101);
    for key in 0..100 {
        for number in [key, 0, 99] {
            body.put_i16(number);
        }
        body.put_u8(0);
    }
    body.put_i32(0);
    body.put_u8(0);
    Offered::read(3, &body.freeze()).expect("an ApiVersions answer")
}

/// An app that has shown one of its secrets.
pub fn login(app: &str, side: Side) -> Login {
    let side = if side == Side::Publish { "pub" } else { "sub" };
    let mut server = SaslServer::new(SaslMechanism::Plain, [0; 18], [0; 32]);
    match server.step(format!("\0{app}\0{}", secret(app, side)).as_bytes(), &snapshot()) {
        SaslStep::Done { login, .. } => login,
        other => panic!("{app} is not let in: {other:?}"),
    }
}

pub fn session(app: &str, side: Side) -> Session {
    Session::begin(login(app, side), ADDRESS, CLUSTER.into(), snapshot()).expect("a session")
}

/// The desk of both ways.
#[derive(Debug, Default)]
pub struct Told {
    pub requests: Vec<(ApiKey, usize)>,
    pub answers: Vec<(ApiKey, usize)>,
    pub askers: usize,
    pub refused: Vec<String>,
    /// Topic (None: the app), messages, bytes.
    pub used: Vec<(Option<String>, u64, u64)>,
    pub fetched: Vec<(String, u64)>,
    pub hidden: usize,
    pub audited: Vec<String>,
    pub failed: Vec<String>,
    /// What it says when asked.
    pub throttle_ms: i32,
    pub waits: Vec<Duration>,
    pub has_no_memory: bool,
}

impl requests::Watch for Told {
    fn request(&mut self, api: &'static Api, bytes: usize) {
        self.requests.push((api.key, bytes));
    }

    fn asker(&mut self, _: &Asker) {
        self.askers += 1;
    }
}

impl answers::Watch for Told {
    fn answer(&mut self, to: &Outstanding, bytes: usize) {
        self.answers.push((to.api.key, bytes));
    }

    fn hidden(&mut self) {
        self.hidden += 1;
    }
}

impl to_kafka::Desk for Told {
    fn refused(&mut self, why: &NoTopic) {
        self.refused.push(why.to_string());
    }

    fn wait(&mut self, _: Side, _: &App, _: &[&Topic], _: u64) -> Option<Duration> {
        self.waits.pop()
    }

    fn used(&mut self, _: Side, _: &App, topic: Option<&Topic>, messages: u64, bytes: u64) {
        self.used.push((topic.map(|topic| topic.physical.to_string()), messages, bytes));
    }

    fn random(&mut self) -> [u8; 18] {
        [7; 18]
    }

    fn login_failed(&mut self, app: &str, denied: Denied) -> Denied {
        self.failed.push(app.to_owned());
        denied
    }

    fn audit(&mut self, what: &'static str, about: &str) {
        self.audited.push(format!("{what} {about}"));
    }

    fn try_hold(&mut self, _: usize) -> bool {
        !self.has_no_memory
    }
}

impl to_client::Desk for Told {
    fn throttle_ms(&mut self, _: &Asked, _: &Session) -> i32 {
        self.throttle_ms
    }

    fn gives(&mut self, _: &Session, _: &Arc<str>, _: u64) {}

    fn fetched(&mut self, _: &Session, topics: &[Used], _: u64) {
        self.fetched.extend(topics.iter().map(|used| (used.name.to_string(), used.messages)));
    }

    fn try_hold(&mut self, _: usize) -> bool {
        !self.has_no_memory
    }
}

/// A logged-in client and its broker.
pub struct Client {
    pub session: Session,
    pub ids: TopicIds,
    pub offered: Arc<Offered>,
    pub view: View,
    pub node: Option<i32>,
    pub requests: TenantRequests,
    pub answers: TenantAnswers,
    pub in_flight: InFlight,
    pub told: Told,
    /// Ids the brokers were asked about, none of which they knew.
    pub asked_about: Vec<TopicId>,
    pub from_client: BytesMut,
    pub from_broker: BytesMut,
}

impl Client {
    pub fn new(side: Side) -> Client {
        Client::of("app1", side)
    }

    pub fn of(app: &str, side: Side) -> Client {
        static OFFERED: OnceLock<Arc<Offered>> = OnceLock::new();
        Client {
            session: session(app, side),
            ids: ids(),
            offered: Arc::clone(OFFERED.get_or_init(|| Arc::new(offers_all()))),
            view: View { host: "proxy.example".into(), naming: Naming::Ports { first: 9101, base: 0, width: 5 } },
            node: None,
            requests: TenantRequests::new(FRAME_BYTES_MAX),
            answers: TenantAnswers::default(),
            in_flight: InFlight::default(),
            told: Told::default(),
            asked_about: Vec::new(),
            from_client: BytesMut::new(),
            from_broker: BytesMut::new(),
        }
    }

    /// Bytes from the client in such pieces: what leaves for the broker, and what is waited for then.
    pub fn send(&mut self, bytes: &[u8], piece_bytes: usize) -> Result<(Vec<Bytes>, Turn), RequestError> {
        let (mut out, mut turn) = (Vec::new(), Turn::Bytes);
        for piece in bytes.chunks(piece_bytes) {
            self.from_client.extend_from_slice(piece);
            turn = self.pass_requests(&mut out)?;
            if turn != Turn::Bytes {
                break;
            }
        }
        Ok((out, turn))
    }

    /// The same once more, with no more bytes.
    pub fn pass_requests(&mut self, out: &mut Vec<Bytes>) -> Result<Turn, RequestError> {
        loop {
            let mut office = to_kafka::Office {
                session: &mut self.session,
                ids: &self.ids,
                offered: &self.offered,
                node: self.node,
                cluster: CLUSTER,
                now: now(),
            };
            let (requests, told) = (&mut self.requests, &mut self.told);
            match requests.advance(&mut self.from_client, &mut self.in_flight, &mut office, out, told)? {
                Turn::Topics(wanted) => {
                    assert!(
                        !wanted.is_empty() && wanted.iter().all(|one| !self.ids.has(one)),
                        "asked about for nothing"
                    );
                    for one in wanted {
                        match one {
                            Wanted::Id(id) => {
                                self.ids.learn_unknown(id);
                                self.asked_about.push(id);
                            }
                            // What is registered is in Kafka.
                            Wanted::Name(name) => self.ids.learn_there(&name, true),
                        }
                    }
                }
                turn => return Ok(turn),
            }
        }
    }

    /// Bytes from the broker in such pieces: what leaves for the client.
    pub fn receive(&mut self, bytes: &[u8], piece_bytes: usize) -> Result<Vec<Bytes>, AnswerError> {
        let mut out = Vec::new();
        self.pass_answers(&mut out)?;
        for piece in bytes.chunks(piece_bytes) {
            self.from_broker.extend_from_slice(piece);
            self.pass_answers(&mut out)?;
        }
        Ok(out)
    }

    pub fn pass_answers(&mut self, out: &mut Vec<Bytes>) -> Result<to_client::Turn, AnswerError> {
        let mut office = to_client::Office {
            session: &self.session,
            ids: &mut self.ids,
            view: &self.view,
            learned: &mut Vec::new(),
        };
        self.answers.advance(&mut self.from_broker, &mut self.in_flight, &mut office, out, &mut self.told)
    }

    /// Bytes that nobody has decided about.
    pub fn held_bytes(&self) -> (usize, usize) {
        (self.from_client.len(), self.from_broker.len())
    }

    /// A request of another connection's test: nothing was sent, an answer is expected all the same.
    pub fn expect(&mut self, api: ApiKey, version: i16, correlation_id: i32, asked: Asked) {
        let api = offered(api.key()).expect("on the list of all");
        self.in_flight.push(Outstanding { api, version, correlation_id, at: now(), asked: Some(Box::new(asked)) });
    }
}

/// One moment for a whole test: nothing here may depend on it.
pub fn now() -> Instant {
    static NOW: OnceLock<Instant> = OnceLock::new();
    *NOW.get_or_init(Instant::now)
}

fn with_length(mut frame: BytesMut) -> Bytes {
    let length = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

/// A request's frame.
pub fn request(api: ApiKey, version: i16, correlation_id: i32, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::from(&[0; 4][..]);
    header::encode_request_header(&mut frame, api, version, correlation_id, "client-7");
    frame.put_slice(body);
    with_length(frame)
}

/// An answer's frame.
pub fn answer(api: ApiKey, version: i16, correlation_id: i32, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::from(&[0; 4][..]);
    header::encode_response_header(&mut frame, api, version, correlation_id);
    frame.put_slice(body);
    with_length(frame)
}

/// Frames that lie one behind the other, without their lengths.
pub fn frames(out: &[Bytes]) -> Vec<Bytes> {
    let mut rest = Bytes::from(out.concat());
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = i32::from_be_bytes(rest.split_to(4)[..].try_into().expect("a length"));
        frames.push(rest.split_to(length as usize));
    }
    frames
}

/// Correlation id and body of a request's frame without its length.
pub fn request_body(mut frame: Bytes) -> (i32, Bytes) {
    let head = header::decode_request_header(&mut frame).expect("a request");
    (head.correlation_id, frame)
}

/// The same of an answer.
pub fn answer_body(api: ApiKey, version: i16, mut frame: Bytes) -> (i32, Bytes) {
    let correlation_id = header::decode_response_header(&mut frame, api, version).expect("an answer");
    (correlation_id, frame)
}

/// A message by its shape, with these names wherever its rule says that names stand; everything else is harmless.
pub struct Spoken<'a> {
    pub topics: &'a [Called],
    /// Groups and transactional ids.
    pub owned: &'a [&'a str],
    pub key_type: i8,
    pub error: i16,
    /// No topic is named where that means all of them.
    pub is_about_all: bool,
}

impl Default for Spoken<'_> {
    fn default() -> Self {
        Spoken { topics: &[], owned: &["g"], key_type: 0, error: 0, is_about_all: false }
    }
}

/// The partition that is spoken of.
pub const PARTITION: i32 = 7;

pub fn called(name: &str) -> Called {
    Called::Name(name.as_bytes().into())
}

impl Spoken<'_> {
    pub fn body(&self, message: &'static Message, version: i16) -> BytesMut {
        Fill::message(message.shape, version, &mut |field, out| self.put(message, version, field, "", out))
    }

    fn structure(
        &self,
        message: &'static Message,
        version: i16,
        fields: &'static [Field],
        owned: &str,
        out: &mut BytesMut,
    ) {
        let flexible = version >= message.shape.flexible_from;
        let given = &mut |field: &'static Field, out: &mut BytesMut| self.put(message, version, field, owned, out);
        Fill { version, flexible, given }.structure(fields, out);
    }

    /// Writes a field that has something to say. `owned` is the group whose element this is in.
    fn put(
        &self,
        message: &'static Message,
        version: i16,
        field: &'static Field,
        owned: &str,
        out: &mut BytesMut,
    ) -> bool {
        let flexible = version >= message.shape.flexible_from;
        let first = self.owned.first().copied().unwrap_or_default();
        match (field.name, field.kind) {
            ("acks", _) => out.put_i16(-1),
            ("key_type", _) => out.put_i8(self.key_type),
            ("error_code" | "partition_error_code", _) => out.put_i16(self.error),
            ("protocol_type", _) => put_string(out, flexible, b"consumer"),
            ("metadata", Kind::Bytes) | ("member_metadata", _) => put_bytes(out, flexible, &self.subscription()),
            ("assignment", Kind::Bytes) | ("member_assignment", _) => put_bytes(out, flexible, &self.assignment()),
            ("protocols" | "assignments" | "members", Kind::Array(Kind::Struct(inner))) => {
                put_count(out, flexible, 1);
                self.structure(message, version, inner, owned, out);
            }
            ("subscribed_topic_names", Kind::Array(_)) => {
                put_count(out, flexible, self.names().len());
                self.names().iter().for_each(|name| put_string(out, flexible, name));
            }
            (name, Kind::String) if message.owned.contains(&name) && self.owned.is_empty() && field.nullable => {
                return false;
            }
            (name, Kind::String) if message.owned.contains(&name) => {
                put_string(out, flexible, if owned.is_empty() { first } else { owned }.as_bytes());
            }
            (name, Kind::Array(Kind::String)) if message.owned.contains(&name) => {
                put_count(out, flexible, self.owned.len());
                self.owned.iter().for_each(|name| put_string(out, flexible, name.as_bytes()));
            }
            (name, Kind::Array(Kind::Struct(inner))) => match message.topics.iter().find(|topics| topics.array == name)
            {
                Some(_) if self.is_about_all && field.nullable => {
                    out.put_slice(if flexible { &[0] } else { &[0xff; 4] })
                }
                Some(topics) => {
                    put_count(out, flexible, self.topics.len());
                    self.topics.iter().for_each(|called| self.topic(message, version, topics, inner, called, out));
                }
                None if inner.iter().any(|field| message.owned.contains(&field.name)) => {
                    put_count(out, flexible, self.owned.len());
                    self.owned.iter().for_each(|owned| self.structure(message, version, inner, owned, out));
                }
                None => return false,
            },
            _ => return false,
        }
        true
    }

    fn topic(
        &self,
        message: &'static Message,
        version: i16,
        topics: &'static Topics,
        fields: &'static [Field],
        called: &Called,
        out: &mut BytesMut,
    ) {
        let flexible = version >= message.shape.flexible_from;
        let given = &mut |field: &'static Field, out: &mut BytesMut| {
            match (field.name, field.kind, called) {
                (name, Kind::String, Called::Name(text)) if name == topics.name => put_string(out, flexible, text),
                ("topic_id", _, Called::Id(id)) => out.put_slice(id),
                ("error_code", ..) => out.put_i16(self.error),
                (name, Kind::Array(Kind::Int32), _) if name == topics.partition => {
                    put_count(out, flexible, 1);
                    out.put_i32(PARTITION);
                }
                (_, Kind::Array(Kind::Struct(inner)), _)
                    if inner.iter().any(|field| field.name == topics.partition) =>
                {
                    put_count(out, flexible, 1);
                    let given = &mut |field: &'static Field, out: &mut BytesMut| match field.name {
                        name if name == topics.partition => {
                            out.put_i32(PARTITION);
                            true
                        }
                        "error_code" | "partition_error_code" => {
                            out.put_i16(self.error);
                            true
                        }
                        _ => false,
                    };
                    Fill { version, flexible, given }.structure(inner, out);
                }
                _ => return false,
            }
            true
        };
        Fill { version, flexible, given }.structure(fields, out);
    }

    fn names(&self) -> Vec<&[u8]> {
        let names = self.topics.iter().filter_map(|called| match called {
            Called::Name(name) => Some(&**name),
            Called::Id(_) => None,
        });
        names.collect()
    }

    /// What a consumer of these topics says.
    fn subscription(&self) -> BytesMut {
        let mut out = BytesMut::from(&[0, 0][..]);
        put_count(&mut out, false, self.names().len());
        self.names().iter().for_each(|name| put_string(&mut out, false, name));
        out.put_i32(-1);
        out
    }

    /// What its leader says.
    fn assignment(&self) -> BytesMut {
        let mut out = BytesMut::from(&[0, 0][..]);
        put_count(&mut out, false, self.names().len());
        for name in self.names() {
            put_string(&mut out, false, name);
            put_count(&mut out, false, 1);
            out.put_i32(PARTITION);
        }
        out.put_i32(-1);
        out
    }
}

fn put_bytes(out: &mut BytesMut, flexible: bool, bytes: &[u8]) {
    put_count(out, flexible, bytes.len());
    out.put_slice(bytes);
}

/// What a message says, as a person would: each topic, group and transactional id in it, and each error.
pub fn heard(message: &'static Message, version: i16, body: &[u8]) -> Vec<String> {
    let flexible = version >= message.shape.flexible_from;
    let mut heard = Vec::new();
    let read = walk(message.shape, version, body, |visit| {
        let bytes = &body[visit.range.clone()];
        let is_name = message.topics.iter().any(|topics| topics.name == visit.field.name)
            || message.owned.contains(&visit.field.name)
            || ["subscribed_topic_names", "topic_name"].contains(&visit.field.name);
        match (visit.field.name, visit.kind) {
            (_, Kind::String) if is_name => match pieces::text(bytes, flexible) {
                Some(name) if name.len() > 60 => heard.push(format!("{} bytes", name.len())),
                Some(name) => heard.push(format!("“{name}”")),
                None => heard.push("null".to_owned()),
            },
            ("topic_id", _) if bytes != [0; 16] => heard.push(format!("id {:02x}", bytes[0])),
            ("error_code" | "partition_error_code", _) => {
                let code = i16::from_be_bytes(bytes.try_into().expect("two bytes"));
                heard.push(format!("{code}"));
            }
            ("metadata" | "member_metadata", Kind::Bytes) => heard.push(inside(&SUBSCRIPTION, bytes, flexible)),
            ("assignment" | "member_assignment", Kind::Bytes) => heard.push(inside(&ASSIGNMENT, bytes, flexible)),
            _ => {}
        }
    });
    let used = read.unwrap_or_else(|err| panic!("{} v{version}: {err}", message.shape.name));
    assert_eq!(used, body.len(), "{} v{version}", message.shape.name);
    heard
}

/// Topics in what consumers tell each other.
fn inside(shape: &'static Shape, field: &[u8], flexible: bool) -> String {
    let bytes = pieces::bytes(field, flexible).unwrap_or_default();
    let Some(body) = bytes.get(2..) else { return "{}".to_owned() };
    let mut names = Vec::new();
    let walked = walk(shape, 0, body, |visit| {
        if matches!(visit.kind, Kind::String) {
            names.push(pieces::text(&body[visit.range], false).unwrap_or("?").to_owned());
        }
    });
    walked.expect("what consumers say");
    format!("{{{}}}", names.join(" "))
}
