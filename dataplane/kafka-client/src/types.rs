//! What goes into a [`crate::Client`] and what comes out of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::compression::Compression;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{FetchRequest, FetchResponse};

use crate::partitioner::Partitioner;
use crate::unsent::Unsent;

/// What a publisher wants to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Acks {
    /// All in-sync replicas; idempotent.
    All,
    /// The leader alone.
    Leader,
    /// Nobody: stored or not, nobody tells.
    None,
}

impl Acks {
    /// As the Produce request carries it.
    pub(crate) fn wire(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        }
    }

    pub(crate) fn lane(self) -> Lane {
        match self {
            Acks::All => Lane::ProduceAll,
            Acks::Leader | Acks::None => Lane::ProduceOther,
        }
    }
}

/// What becomes of a record while it is known that it cannot be stored now.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OnAway {
    /// It waits until its deadline.
    Wait,
    /// It is given back at once, [`ProduceError::Away`], unless it may be stored: then it waits. Only with [`Acks::All`]
    /// and while the client is idempotent; otherwise as Wait.
    GiveBack,
}

/// How a record wants to be produced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct How {
    /// Whom to wait for.
    pub acks: Acks,
    /// Until then it may be sent. Hours are fine: what was sent and not answered is repeated under the same producer id
    /// and sequence until then.
    pub deadline: Instant,
    /// When the cluster is away.
    pub on_away: OnAway,
}

impl How {
    /// Waits until `deadline`, whatever happens.
    pub fn new(acks: Acks, deadline: Instant) -> How {
        How { acks, deadline, on_away: OnAway::Wait }
    }

    /// The same, given back when it cannot be stored now.
    pub fn or_give_back(self) -> How {
        How { on_away: OnAway::GiveBack, ..self }
    }
}

/// One connection for its whole life; a closed connection's id does not come back soon.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ConnId(pub u32);

/// A topic of this client. Its place may be given to another name when nobody has used it for long: then the index is
/// of no topic any more ([`crate::Client::is_current`]), and never comes to mean the other one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct TopicIdx(pub(crate) u32);

impl TopicIdx {
    const PLACE_BITS: u32 = crate::limits::TOPICS_MAX.ilog2();

    /// The place's `generation`th name.
    pub(crate) fn new(place: u32, generation: u32) -> TopicIdx {
        TopicIdx(generation << TopicIdx::PLACE_BITS | place)
    }

    pub(crate) fn place(self) -> u32 {
        self.0 & ((1 << TopicIdx::PLACE_BITS) - 1)
    }
}

/// A request of [`crate::Client::request`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct RequestToken(pub u64);

/// Which of the users of one client asks, in the upper bits of a token: a reply finds its way back without a search.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asker(u32);

const ASKER_SHIFT: u32 = 40;

impl Asker {
    /// Someone who knows its tokens itself.
    pub const NOBODY: Asker = Asker(0);

    /// The user at this place of its owner's table.
    ///
    /// # Panics
    /// From 2^24 - 1 on.
    pub fn of(index: usize) -> Asker {
        assert!(index < (1 << (64 - ASKER_SHIFT)) - 1, "a table of users is smaller: {index}");
        Asker(index as u32 + 1)
    }

    /// The place in its owner's table.
    pub fn index(self) -> Option<usize> {
        (self.0 as usize).checked_sub(1)
    }
}

impl RequestToken {
    pub(crate) fn new(asker: Asker, number: u64) -> RequestToken {
        debug_assert!(number < 1 << ASKER_SHIFT, "a client lives for fewer requests");
        RequestToken(u64::from(asker.0) << ASKER_SHIFT | number)
    }

    /// Grows with every request of a client.
    pub(crate) fn number(self) -> u64 {
        self.0 & ((1 << ASKER_SHIFT) - 1)
    }

    /// Who asked.
    pub fn asker(self) -> Asker {
        Asker((self.0 >> ASKER_SHIFT) as u32)
    }
}

/// Which of a broker's connections. A broker works on one request per connection at a time, so requests that wait
/// there (acks=all, long polls, joins) never stand before the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Produce with acks=all.
    ProduceAll,
    /// Produce with other acks.
    ProduceOther,
    /// Fetch that waits at the broker. Few connections, each with one request at a time, which many users share.
    Fetch,
    /// JoinGroup, SyncGroup. Several connections, each with one request at a time.
    Group,
    /// Everything that is answered at once: metadata, heartbeats, commits, admin.
    Control,
    /// Fetch of what is known to be there, which is answered at once: the client's own choice for a [`Lane::Fetch`].
    CatchUp,
}

impl Lane {
    pub(crate) const COUNT: usize = 6;

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Requests of this lane wait at the broker, so each wants a connection of its own.
    pub(crate) fn waits(self) -> bool {
        matches!(self, Lane::Fetch | Lane::Group)
    }
}

/// Who should answer a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// Whoever is reachable.
    Any,
    /// The controller of the last metadata.
    Controller,
    /// The broker with this node id.
    Broker(i32),
    /// The coordinator of this consumer group; looked up when not known.
    Coordinator(&'a str),
}

/// A request other than Produce.
#[allow(clippy::large_enum_variant)] // one per round trip, moved twice; a box would be an allocation for nothing
#[derive(Clone, Debug)]
pub enum Request {
    /// Own codec, records stay slices of the frame.
    Fetch(FetchRequest),
    /// Everything else.
    Cold(RequestKind),
}

/// The answer to a [`Request`], of the same variant.
#[allow(clippy::large_enum_variant)] // as above
#[derive(Clone, Debug)]
pub enum Response {
    /// To [`Request::Fetch`].
    Fetch(FetchResponse),
    /// To [`Request::Cold`].
    Cold(ResponseKind),
}

/// Why a request has no answer. Error codes inside an answer are the caller's to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No answer in time. When `sent`, the broker may have acted on it.
    #[error("no answer in time ({})", if *sent { "request was sent" } else { "request was never sent" })]
    Timeout {
        /// The broker may have acted on it.
        sent: bool,
    },
    /// The connection ended after the request was sent; the broker may have acted on it.
    #[error("connection lost before the answer: {why}")]
    Disconnected {
        /// What the driver or the protocol said.
        why: Arc<str>,
    },
    /// Never sent: the broker cannot be reached or is not known.
    #[error("broker not reachable: {why}")]
    Unreachable {
        /// The last failure.
        why: Arc<str>,
    },
    /// Never sent: the brokers refuse our credentials.
    #[error("brokers refuse our credentials: {why}")]
    Authentication {
        /// The broker's words.
        why: Arc<str>,
    },
    /// Never sent: broker and we share no version of this API.
    #[error("broker does not offer {api:?} in a version we speak (ours {ours_min} to {ours_max}, broker {broker})")]
    Unsupported {
        /// The API.
        api: ApiKey,
        /// Our lowest version.
        ours_min: i16,
        /// Our highest version.
        ours_max: i16,
        /// `min to max` or `none`.
        broker: String,
    },
    /// Never sent: the request cannot be written in the negotiated version.
    #[error("request cannot be encoded: {why}")]
    Encode {
        /// From the codec.
        why: Arc<str>,
    },
    /// The answer was garbage; the connection is closed, the broker may have acted.
    #[error("answer cannot be decoded: {why}")]
    Malformed {
        /// From the codec.
        why: Arc<str>,
    },
    /// Never sent: finding the coordinator was refused for good.
    #[error("coordinator lookup refused: {}", code.name())]
    CoordinatorRefused {
        /// GROUP_AUTHORIZATION_FAILED and the like.
        code: ErrorCode,
    },
    /// Never sent: too many requests wait already.
    #[error("too many requests wait for this cluster")]
    QueueFull,
}

/// What became of `count` records, `record_first` and following of `tag`, that shared one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// As given to produce.
    pub tag: u64,
    /// Index of the first record under that tag.
    pub record_first: u32,
    /// How many consecutive records.
    pub count: u32,
    /// Where they are, or why not.
    pub result: Result<Stored, ProduceError>,
    /// The records themselves, with [`ProduceError::Away`] and nothing else.
    pub unsent: Option<Unsent>,
}

/// Where the first record of an [`Outcome`] lies; the others follow it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Partition.
    pub partition: i32,
    /// Offset of `record_first`; −1 for [`Acks::None`] and when the broker only says that it has them already.
    pub offset: i64,
    /// Of `record_first`: the broker's append time where the topic keeps that, else the record's own.
    pub timestamp_ms: i64,
}

/// Why records have no offset. Each says whether they may be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// Nothing stored: the cluster has no such topic.
    #[error("topic does not exist in the cluster")]
    TopicUnknown,
    /// Nothing stored: the topic has no such partition.
    #[error("topic has no partition {partition}, it has {partition_count}")]
    PartitionUnknown {
        /// Asked for.
        partition: i32,
        /// How many there are.
        partition_count: i32,
    },
    /// Nothing stored: larger than a batch, here or at the broker (`limit_bytes` 0: the broker's, not told).
    #[error("record of {record_bytes} bytes is larger than the cluster takes")]
    RecordTooLarge {
        /// Encoded, with batch header.
        record_bytes: usize,
        /// Ours; 0 when the broker refused.
        limit_bytes: usize,
    },
    /// Nothing stored: the brokers do not let us write there.
    #[error("not authorized at the broker: {}", code.name())]
    NotAuthorized {
        /// What the broker said.
        code: ErrorCode,
    },
    /// Nothing stored; a retry later can help.
    #[error("cluster not available: {why}")]
    Unavailable {
        /// The last thing that went wrong.
        why: Arc<str>,
    },
    /// Nothing stored, and known at once rather than at the deadline: to those alone who asked for [`OnAway::GiveBack`].
    #[error("cluster is away: {why}")]
    Away {
        /// What is wrong.
        why: Arc<str>,
        /// The partition they would have gone to; None when that is not known.
        partition: Option<i32>,
    },
    /// Stored or not: nobody knows. A retry may store the records twice.
    #[error("outcome unknown: {why}")]
    Unknown {
        /// The last thing that went wrong.
        why: Arc<str>,
    },
    /// Nothing stored: the broker refuses these records for what they are.
    #[error("refused by the broker: {}", code.name())]
    Rejected {
        /// INVALID_RECORD, INVALID_TIMESTAMP, …
        code: ErrorCode,
    },
    /// Nothing stored: more is waiting for this cluster than we hold.
    #[error("too much is waiting for this cluster")]
    QueueFull,
}

impl ProduceError {
    /// The records may be stored; retrying may store them twice.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, ProduceError::Unknown { .. })
    }
}

/// How a topic is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicOptions {
    /// Where keys go.
    pub partitioner: Partitioner,
    /// Of whole batches, when they leave.
    pub compression: Compression,
}

impl Default for TopicOptions {
    fn default() -> TopicOptions {
        TopicOptions { partitioner: Partitioner::Murmur2, compression: Compression::None }
    }
}

/// What the cluster said about a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TopicState {
    /// Not answered yet.
    Pending,
    /// It exists.
    Known,
    /// It does not, confirmed by a second answer.
    Missing,
    /// We may not know.
    Denied,
}

/// Can this cluster be used?
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    /// A broker answers.
    pub reachable: bool,
    /// One sentence for a person.
    pub detail: String,
}

/// A connection the driver should open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connect {
    /// To be named in every later call.
    pub conn: ConnId,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Wrap in TLS for `host`.
    pub tls: bool,
    /// For all of it.
    pub timeout: Duration,
}
