//! The control plane's hand in Kafka: topics, partitions, configurations, offsets.
//!
//! [`KafkaAdmin`] is a handle to a tokio task that drives a `kafka_client::Client`, the same state machines the
//! gateway's shards drive from io_uring. Everything the control plane does to a cluster goes through
//! [`KafkaAdmin::call`], one choke point for limits and logs; what it has to write there, through
//! [`KafkaAdmin::produce`].
//!
//! [`TopicAdmin`] is what the manager asks for; an operation returns when its effect can be seen on every broker, so
//! that whoever is told "created" can publish.

mod connection;
mod driver;
mod error;
pub mod limits;
mod ops;
mod patience;
mod tls;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_client::{Client, ClientConfig, Found, Lane, Request, RequestError, Response, SearchError, Since};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use driver::Target;
pub use error::AdminError;
pub use kafka_client::{ProduceError, Stored};
pub use tls::{AdminTls, TlsError};

use driver::{Call, Command, Driver, Produce, Searching};

/// What a call of [`TopicAdmin`] returns: boxed, so that the trait can be an object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, AdminError>> + Send + 'a>>;

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    pub replicas: i16,
    /// Topic configuration as Kafka names it: `retention.ms`, …
    pub configs: Vec<(String, String)>,
}

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    pub name: String,
    /// What tells it from another one of that name (KIP-516); `None`: the cluster tells no ids.
    pub id: Option<[u8; 16]>,
    /// By index, from 0 without gaps.
    pub partitions: Vec<PartitionDescription>,
}

impl TopicDescription {
    /// Of the partition that has most.
    pub fn replica_count(&self) -> usize {
        self.partitions.iter().map(|p| p.replicas.len()).max().unwrap_or(0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    pub index: i32,
    /// `None`: nobody leads, it can be neither written nor read right now.
    pub leader: Option<i32>,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// A record to be written to a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewRecord {
    /// Records of one key keep their order; `None`: anywhere.
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
}

/// A record whose every field is somebody else's word, to be stored as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExactRecord {
    /// `None`: by its key; without a key, anywhere.
    pub partition: Option<i32>,
    /// Epoch ms. A topic may be set to keep the broker's time instead.
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// What a partition holds: offsets from `oldest` up to, not including, `newest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffsets {
    pub index: i32,
    pub oldest: i64,
    pub newest: i64,
}

/// What the manager asks of a cluster.
pub trait TopicAdmin: Send + Sync {
    /// Makes the topic and waits until every broker shows all its partitions with a leader.
    fn create_topic<'a>(&'a self, topic: &'a NewTopic) -> Answer<'a, ()>;

    /// Could this topic be made now? Makes nothing; [`AdminError::AlreadyExists`] if it is there.
    fn check_topic<'a>(&'a self, topic: &'a NewTopic) -> Answer<'a, ()>;

    /// Deletes the topic with everything in it, and waits (a while) until no broker shows it.
    fn delete_topic<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;

    fn describe_topic<'a>(&'a self, name: &'a str) -> Answer<'a, TopicDescription>;

    /// Raises the number of partitions to `total` and waits until they can be written.
    fn create_partitions<'a>(&'a self, name: &'a str, total: i32) -> Answer<'a, ()>;

    /// Sets configurations; `None` returns one to the broker's default.
    fn alter_configs<'a>(&'a self, name: &'a str, configs: &'a [(String, Option<String>)]) -> Answer<'a, ()>;

    /// Brokers that are up.
    fn broker_count(&self) -> Answer<'_, usize>;

    /// Names of all consumer groups, sorted; an error unless every broker answers.
    fn list_groups(&self) -> Answer<'_, Vec<String>>;

    /// By partition.
    fn list_offsets<'a>(&'a self, name: &'a str) -> Answer<'a, Vec<PartitionOffsets>>;
}

/// A handle to the client of one cluster. The task ends when the last clone is gone.
#[derive(Clone)]
pub struct KafkaAdmin {
    commands: mpsc::Sender<Command>,
    /// Room for records on their way.
    room: Arc<Semaphore>,
}

impl KafkaAdmin {
    /// Starts the client in the current tokio runtime. It connects when it is first asked for something, so this
    /// fails only if the certificates are of no use. `tls` goes with `config.security.tls`; `None`: the system's roots.
    pub fn connect(config: ClientConfig, tls: Option<AdminTls>) -> Result<KafkaAdmin, TlsError> {
        let connector = if config.security.tls { Some(tls::connector(tls.unwrap_or_default())?) } else { None };
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(TlsError::Random)?;
        let client = Client::new(config, u64::from_le_bytes(seed), Instant::now());
        let (commands, inbox) = mpsc::channel(limits::CALLS_MAX);
        tokio::spawn(Driver::new(client, connector).run(inbox));
        Ok(KafkaAdmin { commands, room: Arc::new(Semaphore::new(limits::RECORDS_MAX)) })
    }

    /// Any request to any broker. The answer's error codes are the caller's to read.
    pub async fn call(
        &self,
        target: Target,
        lane: Lane,
        request: Request,
        timeout: Duration,
    ) -> Result<Response, RequestError> {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Call { target, lane, request, timeout, reply });
        let stopped = || RequestError::Unreachable { why: "the admin client has stopped".into() };
        self.commands.send(Command::Call(call)).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Writes a record, as soon as fewer than [`limits::RECORDS_MAX`] are on their way. What this returns then is the
    /// outcome, to be awaited: where all in-sync replicas have it, or why not, `timeout` from now at the latest. Until then
    /// the client repeats what can be repeated without writing it twice. Records leave in the order of these calls.
    ///
    /// A topic that does not exist is an error; it is never made.
    pub async fn produce(
        &self,
        topic: &str,
        record: NewRecord,
        timeout: Duration,
    ) -> impl Future<Output = Result<Stored, ProduceError>> + Send + use<> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let NewRecord { key, value, headers } = record;
        let record = ExactRecord {
            partition: None,
            timestamp_ms: since_epoch.map_or(0, |since| since.as_millis() as i64),
            key: key.map(Bytes::from),
            value: Some(value.into()),
            headers: headers.into_iter().map(|(name, value)| (name.into(), Some(value.into()))).collect(),
        };
        let outcome = self.start_to_produce(topic, vec![record], timeout).await;
        async { outcome.await.pop().expect("an outcome for each record") }
    }

    /// Writes records that follow each other, as [`KafkaAdmin::produce`] does each, and returns when the outcome of each is
    /// known, in their order; the timestamp of one is that of the first that was stored together with it.
    ///
    /// They are handed to the client in one go. Those of one partition that fit into a batch
    /// (`ClientConfig::batch_bytes_max`) share one, unless others write to that partition meanwhile: then they are stored
    /// together or not at all, so that none overtakes one before it that failed. A record that is refused for what it is
    /// itself (too large, rejected) fails alone; anything else that is known at once ends the run: what is behind it is not
    /// sent, and has the same outcome.
    pub async fn produce_run(
        &self,
        topic: &str,
        records: Vec<ExactRecord>,
        timeout: Duration,
    ) -> Vec<Result<Stored, ProduceError>> {
        self.start_to_produce(topic, records, timeout).await.await
    }

    async fn start_to_produce(
        &self,
        topic: &str,
        records: Vec<ExactRecord>,
        timeout: Duration,
    ) -> impl Future<Output = Vec<Result<Stored, ProduceError>>> + Send + use<> {
        let room = Arc::clone(&self.room).acquire_owned().await.expect("it is never closed");
        let (reply, outcomes) = oneshot::channel();
        let (deadline, count) = (Instant::now() + timeout, records.len());
        let produce = Box::new(Produce { topic: topic.to_owned(), records, deadline, reply, _room: room });
        // A stopped driver drops the reply.
        let _ = self.commands.send(Command::Produce(produce)).await;
        async move {
            let stopped = || ProduceError::Unavailable { why: "the admin client has stopped".into() };
            outcomes.await.unwrap_or_else(|_| vec![Err(stopped()); count])
        }
    }

    /// Looks for records with this header, in a partition of a topic or in all: where the partitions ended, and what was found
    /// ([`kafka_client::Search`]). It goes on for as long as the cluster is away; whoever does not want to wait drops this.
    pub async fn search(
        &self,
        topic: &str,
        partition: Option<i32>,
        since: Since,
        header: &'static [u8],
    ) -> Result<(BTreeMap<i32, i64>, Vec<Found>), SearchError> {
        let (reply, answer) = oneshot::channel();
        let searching = Box::new(Searching { topic: topic.to_owned(), partition, since, header, reply });
        let stopped = || SearchError::Request(RequestError::Unreachable { why: "the admin client has stopped".into() });
        self.commands.send(Command::Search(searching)).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Asks the cluster who is who, soon: after an answer that says somebody else is.
    async fn refresh_metadata(&self) {
        // A stopped driver shows in the next call.
        let _ = self.commands.send(Command::RefreshMetadata).await;
    }
}

impl TopicAdmin for KafkaAdmin {
    fn create_topic<'a>(&'a self, topic: &'a NewTopic) -> Answer<'a, ()> {
        Box::pin(ops::create_topic::run(self, topic))
    }

    fn check_topic<'a>(&'a self, topic: &'a NewTopic) -> Answer<'a, ()> {
        Box::pin(ops::create_topic::check(self, topic))
    }

    fn delete_topic<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        Box::pin(ops::delete_topic::run(self, name))
    }

    fn describe_topic<'a>(&'a self, name: &'a str) -> Answer<'a, TopicDescription> {
        Box::pin(ops::describe_topic::run(self, name))
    }

    fn create_partitions<'a>(&'a self, name: &'a str, total: i32) -> Answer<'a, ()> {
        Box::pin(ops::create_partitions::run(self, name, total))
    }

    fn alter_configs<'a>(&'a self, name: &'a str, configs: &'a [(String, Option<String>)]) -> Answer<'a, ()> {
        Box::pin(ops::alter_configs::run(self, name, configs))
    }

    fn broker_count(&self) -> Answer<'_, usize> {
        Box::pin(ops::describe_topic::broker_count(self))
    }

    fn list_groups(&self) -> Answer<'_, Vec<String>> {
        Box::pin(ops::list_groups::run(self))
    }

    fn list_offsets<'a>(&'a self, name: &'a str) -> Answer<'a, Vec<PartitionOffsets>> {
        Box::pin(ops::list_offsets::run(self, name))
    }
}
