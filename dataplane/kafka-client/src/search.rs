//! Looks for records of ours that a topic may have: those that were sent before a crash, and of which no answer was kept.
//!
//! ```text
//!   end? ──▶ (begin?) ──▶ read to the end ──▶ rest ──▶ end? ──▶ read what came ──▶ done
//! ```
//!
//! Each of our records says in a header which it is. From where the sending began, or from a time, every partition is read to
//! its end, and after [`SEARCH_REST`] to its end again: a broker may still have had a dead process's request, or a follower have
//! been behind (consumers see what all in-sync replicas have, and nothing tells us of more). Whoever sends when the search is
//! done knows what is there, but for a request that a broker keeps for longer than that.
//!
//! Isolation is read_uncommitted: a record of ours may stand behind somebody's open transaction.
//!
//! Where sending begins a search with nothing to look for tells where the partitions end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::{HashMap, HashMapExt};
use kafka_wire::cold::types::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::cold::types::{ListOffsetsRequest, ListOffsetsResponse};
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, NO_TOPIC_ID};
use kafka_wire::record_batch::batches;

use crate::group::cluster::Cluster;
use crate::group::limits::{BATCH_DECOMPRESSED_BYTES_MAX, PARTITION_BYTES_LIMIT};
use crate::limits::{
    SEARCH_FETCH_BYTES, SEARCH_FETCH_WAIT, SEARCH_FLIGHTS_MAX, SEARCH_LEADERLESS_WAIT, SEARCH_PATIENCE, SEARCH_REST,
    SEARCH_RETRY_FIRST, SEARCH_RETRY_MAX,
};
use crate::{Client, Lane, Request, RequestError, RequestToken, Response, Target, TopicIdx, TopicState};

/// ListOffsets' names for the ends of a log.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
/// Consumers are no replicas.
const NO_REPLICA: i32 = -1;
const READ_UNCOMMITTED: i8 = 0;

/// Where records of ours may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// Nowhere: only where the partitions end is asked.
    Nothing,
    /// At these offsets or behind them; in no other partition.
    Offsets(BTreeMap<i32, i64>),
    /// Their timestamps are not before this, epoch ms.
    Time(i64),
}

/// A record with the header that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub partition: i32,
    pub offset: i64,
    /// All of it, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl Found {
    /// What the last header of this name says.
    pub fn header(&self, name: &[u8]) -> Option<&[u8]> {
        let mut named = self.headers.iter().rev().filter(|(is, _)| &is[..] == name);
        named.next()?.1.as_deref()
    }
}

/// Why it cannot be told what is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// The cluster says so.
    #[error("the cluster has no such topic, or does not show it to us")]
    NoTopic,
    /// For good.
    #[error("partition {partition} cannot be read: {} ({})", .code.name(), .code.0)]
    Refused { partition: i32, code: ErrorCode },
    /// Its bytes make no sense, here or on the broker.
    #[error("partition {partition} cannot be read: {why}")]
    Damaged { partition: i32, why: String },
    #[error(transparent)]
    Request(RequestError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Where does it end?
    End,
    /// Which is the first record of that time?
    Begin(i64),
    Read,
    /// Until the end is asked again.
    Rest(Instant),
    Done,
    /// Nobody leads it: what it has nobody can tell.
    GivenUp,
}

#[derive(Debug)]
struct Part {
    step: Step,
    /// Where to read next; none before it is known.
    next: Option<i64>,
    end: i64,
    /// It was read to its end before.
    has_rested: bool,
    bytes_max: usize,
    is_asked: bool,
    retry_at: Option<Instant>,
    pause: Duration,
    leaderless_since: Option<Instant>,
}

/// See the module.
#[derive(Debug)]
pub struct Search {
    topic: TopicIdx,
    name: String,
    header: &'static [u8],
    since: Since,
    /// One partition of it, or all.
    partition: Option<i32>,
    parts: BTreeMap<i32, Part>,
    flights: HashMap<RequestToken, i32>,
    found: Vec<Found>,
    failed: Option<SearchError>,
    last_error: Option<String>,
    metadata_at: Option<Instant>,
}

impl Search {
    /// Of one partition, or of all of the topic.
    pub fn new(topic: TopicIdx, name: &str, partition: Option<i32>, since: Since, header: &'static [u8]) -> Search {
        Search {
            topic,
            name: name.to_owned(),
            header,
            since,
            partition,
            parts: BTreeMap::new(),
            flights: HashMap::new(),
            found: Vec::new(),
            failed: None,
            last_error: None,
            metadata_at: None,
        }
    }

    /// Asks what can be asked now.
    pub fn tick(&mut self, client: &mut Client, now: Instant) {
        self.step(client, now);
    }

    /// False: the token is somebody else's, and so is the reply, which stays.
    pub fn on_reply(
        &mut self,
        client: &mut Client,
        token: RequestToken,
        reply: &mut Option<Result<Response, RequestError>>,
        now: Instant,
    ) -> bool {
        self.answered(client, token, reply, now)
    }

    /// When [`Search::tick`] is due without any reply.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.failed.is_some() {
            return None;
        }
        let rests = self.parts.values().filter_map(|part| match part.step {
            Step::Rest(until) => Some(until),
            _ => part.retry_at,
        });
        rests.chain(self.metadata_at).min()
    }

    /// What was found since the last call.
    pub fn take_found(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }

    /// Where the partitions ended when the search did; `None`: it goes on. Partitions that nobody leads are left out.
    pub fn ended(&self) -> Option<Result<BTreeMap<i32, i64>, SearchError>> {
        if let Some(err) = &self.failed {
            return Some(Err(err.clone()));
        }
        let is_over = |part: &Part| matches!(part.step, Step::Done | Step::GivenUp);
        if self.parts.is_empty() || !self.parts.values().all(is_over) {
            return None;
        }
        let ends =
            self.parts.iter().filter(|(_, part)| part.step == Step::Done).map(|(index, part)| (*index, part.end));
        Some(Ok(ends.collect()))
    }

    /// Why it takes so long.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Nobody wants to know any more.
    pub fn cancel(&mut self, client: &mut Client) {
        self.withdraw(client);
    }

    fn withdraw(&mut self, cluster: &mut impl Cluster) {
        self.flights.drain().for_each(|(token, _)| cluster.cancel(token));
    }

    fn step(&mut self, cluster: &mut impl Cluster, now: Instant) {
        if self.failed.is_some() {
            return;
        }
        self.metadata_at = self.metadata_at.filter(|at| *at > now);
        if self.parts.is_empty() {
            self.topic = cluster.topic(&self.name);
            match (cluster.partition_count(self.topic), cluster.topic_state(self.topic)) {
                (_, TopicState::Missing | TopicState::Denied) => self.failed = Some(SearchError::NoTopic),
                (Some(count), _) => self.begin(count),
                (None, _) => self.ask_metadata(cluster, now),
            }
        }
        let indexes: Vec<i32> = self.parts.keys().copied().collect();
        for index in indexes {
            if self.flights.len() >= SEARCH_FLIGHTS_MAX {
                return;
            }
            self.step_part(index, cluster, now);
        }
    }

    fn begin(&mut self, count: i32) {
        let all = match self.partition {
            Some(partition) => partition..partition.saturating_add(1),
            None => 0..count,
        };
        for index in all {
            let part = Part {
                step: Step::End,
                next: None,
                end: 0,
                has_rested: false,
                bytes_max: SEARCH_FETCH_BYTES,
                is_asked: false,
                retry_at: None,
                pause: SEARCH_RETRY_FIRST,
                leaderless_since: None,
            };
            self.parts.insert(index, part);
        }
    }

    fn ask_metadata(&mut self, cluster: &mut impl Cluster, now: Instant) {
        if self.metadata_at.is_none() {
            cluster.refresh_metadata(now);
            self.metadata_at = Some(now + SEARCH_RETRY_MAX);
        }
    }

    fn step_part(&mut self, index: i32, cluster: &mut impl Cluster, now: Instant) {
        let is_one_of_many = self.partition.is_none();
        let part = self.parts.get_mut(&index).expect("listed by step()");
        if part.is_asked || part.retry_at.is_some_and(|at| at > now) {
            return;
        }
        part.retry_at = None;
        let timestamp = match part.step {
            Step::Done | Step::GivenUp => return,
            Step::Rest(until) if until > now => return,
            Step::Rest(_) => {
                part.step = Step::End;
                LATEST
            }
            Step::End => LATEST,
            Step::Begin(at_ms) => at_ms,
            Step::Read => 0,
        };
        let Some(leader) = cluster.leader(self.topic, index) else {
            let since = *part.leaderless_since.get_or_insert(now);
            // Others of the topic can be used without it.
            let patience = if part.next.is_some() || self.since != Since::Nothing {
                SEARCH_LEADERLESS_WAIT
            } else {
                SEARCH_RETRY_MAX
            };
            if is_one_of_many && now - since >= patience {
                part.step = Step::GivenUp;
                return;
            }
            part.retry_at = Some(now + part.pause);
            part.pause = (part.pause * 2).min(SEARCH_RETRY_MAX);
            self.last_error = Some(format!("partition {index} has no leader"));
            return self.ask_metadata(cluster, now);
        };
        part.leaderless_since = None;
        part.is_asked = true;
        let token = match part.step {
            Step::Read => {
                let (offset, bytes_max) = (part.next.expect("known before it is read"), part.bytes_max);
                let request = self.fetch(index, offset, bytes_max, cluster);
                let timeout = SEARCH_FETCH_WAIT + SEARCH_PATIENCE;
                cluster.request(Target::Broker(leader), Lane::Fetch, Request::Fetch(request), timeout, now)
            }
            _ => {
                let request = Request::Cold(RequestKind::ListOffsets(self.list_offsets(index, timestamp)));
                cluster.request(Target::Broker(leader), Lane::Control, request, SEARCH_PATIENCE, now)
            }
        };
        self.flights.insert(token, index);
    }

    fn list_offsets(&self, index: i32, timestamp: i64) -> ListOffsetsRequest {
        let mut partition = ListOffsetsPartition::default();
        (partition.partition_index, partition.current_leader_epoch, partition.timestamp) = (index, -1, timestamp);
        let name = crate::group::text(&self.name);
        let topic = ListOffsetsTopic::default().with_name(name.into()).with_partitions(vec![partition]);
        ListOffsetsRequest::default()
            .with_replica_id(NO_REPLICA.into())
            .with_isolation_level(READ_UNCOMMITTED)
            .with_topics(vec![topic])
    }

    fn fetch(&self, index: i32, offset: i64, bytes_max: usize, cluster: &impl Cluster) -> FetchRequest {
        let bytes_max = i32::try_from(bytes_max).unwrap_or(i32::MAX);
        FetchRequest {
            max_wait_ms: SEARCH_FETCH_WAIT.as_millis() as i32,
            max_bytes: bytes_max,
            isolation_level: READ_UNCOMMITTED,
            topics: vec![FetchTopic {
                name: self.name.clone().into(),
                id: cluster.topic_id(self.topic).unwrap_or(NO_TOPIC_ID),
                partitions: vec![FetchPartition::consumer(index, offset, bytes_max)],
            }],
            ..FetchRequest::default()
        }
    }

    fn answered(
        &mut self,
        cluster: &mut impl Cluster,
        token: RequestToken,
        reply: &mut Option<Result<Response, RequestError>>,
        now: Instant,
    ) -> bool {
        let Some(index) = self.flights.remove(&token) else { return false };
        let part = self.parts.get_mut(&index).expect("asked about");
        part.is_asked = false;
        match reply.take() {
            Some(Ok(Response::Cold(ResponseKind::ListOffsets(listed)))) => self.listed(index, &listed, cluster, now),
            Some(Ok(Response::Fetch(fetched))) => self.fetched(index, fetched, cluster, now),
            Some(Err(err @ (RequestError::Authentication { .. } | RequestError::Unsupported { .. }))) => {
                self.failed = Some(SearchError::Request(err));
            }
            Some(Err(err)) => self.again(index, err.to_string(), cluster, now),
            Some(Ok(_)) | None => self.again(index, "another answer than was asked for".to_owned(), cluster, now),
        }
        true
    }

    fn again(&mut self, index: i32, why: String, cluster: &mut impl Cluster, now: Instant) {
        let part = self.parts.get_mut(&index).expect("asked about");
        part.retry_at = Some(now + part.pause);
        part.pause = (part.pause * 2).min(SEARCH_RETRY_MAX);
        self.last_error = Some(why);
        self.ask_metadata(cluster, now);
    }

    fn refused(&mut self, index: i32, code: ErrorCode, cluster: &mut impl Cluster, now: Instant) {
        let is_gone = matches!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID)
            && cluster.topic_state(self.topic) != TopicState::Known;
        match code.is_retriable() && !is_gone {
            true => self.again(index, format!("partition {index}: {}", code.name()), cluster, now),
            false => self.failed = Some(SearchError::Refused { partition: index, code }),
        }
    }

    fn listed(&mut self, index: i32, answer: &ListOffsetsResponse, cluster: &mut impl Cluster, now: Instant) {
        let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let Some(found) = partitions.find(|found| found.partition_index == index) else {
            return self.again(index, "an answer without what was asked".to_owned(), cluster, now);
        };
        if found.error_code != ErrorCode::NONE.0 {
            return self.refused(index, ErrorCode(found.error_code), cluster, now);
        }
        let part = self.parts.get_mut(&index).expect("asked about");
        part.pause = SEARCH_RETRY_FIRST;
        match part.step {
            Step::Begin(_) => {
                // No record is that young: what comes is.
                part.next = Some(if found.offset < 0 { part.end } else { found.offset });
                part.step = Step::Read;
            }
            _ => {
                part.end = found.offset;
                part.step = match (&self.since, part.next) {
                    (_, Some(_)) => Step::Read,
                    (Since::Nothing, None) => Step::Done,
                    // Below 0 there are only records without a time, which no time finds.
                    (Since::Time(at_ms), None) => Step::Begin(if *at_ms < 0 { EARLIEST } else { *at_ms }),
                    (Since::Offsets(begins), None) => match begins.get(&index) {
                        Some(begin) => {
                            part.next = Some(*begin);
                            Step::Read
                        }
                        None => Step::Done,
                    },
                };
            }
        }
        part.look_at_end(now);
    }

    fn fetched(&mut self, index: i32, answer: FetchResponse, cluster: &mut impl Cluster, now: Instant) {
        if answer.error != ErrorCode::NONE {
            return self.refused(index, answer.error, cluster, now);
        }
        let mut partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        let Some(fetched) = partitions.find(|fetched| fetched.index == index) else {
            return self.again(index, "an answer without what was asked".to_owned(), cluster, now);
        };
        let part = self.parts.get_mut(&index).expect("asked about");
        let next = part.next.expect("it was read from there");
        match fetched.error {
            ErrorCode::NONE => {}
            // Retention took what was there, or the log was cut: the rest of it is looked at.
            ErrorCode::OFFSET_OUT_OF_RANGE if fetched.log_start_offset > next => {
                part.next = Some(fetched.log_start_offset);
                return part.look_at_end(now);
            }
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                part.next = Some(part.end.max(next));
                return part.look_at_end(now);
            }
            code => return self.refused(index, code, cluster, now),
        }
        let is_empty = fetched.records.is_empty();
        match read(index, next, fetched.records, self.header, &mut self.found) {
            Ok(Some(read_to)) => {
                part.next = Some(read_to);
                part.pause = SEARCH_RETRY_FIRST;
                part.look_at_end(now);
            }
            Ok(None) if !is_empty && part.bytes_max < PARTITION_BYTES_LIMIT => part.bytes_max *= 2,
            // The follower that would let us see more is behind.
            Ok(None) => self.again(index, "nothing to read before the end".to_owned(), cluster, now),
            Err(why) => self.failed = Some(SearchError::Damaged { partition: index, why }),
        }
    }
}

impl Part {
    fn look_at_end(&mut self, now: Instant) {
        if self.step == Step::Read && self.next.is_some_and(|next| next >= self.end) {
            self.end = self.end.max(self.next.unwrap_or(0));
            self.step = if self.has_rested { Step::Done } else { Step::Rest(now + SEARCH_REST) };
            self.has_rested = true;
        }
    }
}

/// Records with the header, from an offset on; where to read next, unless there is not one whole batch.
fn read(
    partition: i32,
    from: i64,
    records: Bytes,
    header: &[u8],
    found: &mut Vec<Found>,
) -> Result<Option<i64>, String> {
    let mut next = None;
    for batch in batches(records) {
        let batch = batch.map_err(|err| err.to_string())?;
        batch.verify_crc().map_err(|err| err.to_string())?;
        next = Some(batch.header.last_offset().saturating_add(1).max(from));
        if batch.header.is_control() || batch.header.last_offset() < from {
            continue;
        }
        let opened = batch.records(BATCH_DECOMPRESSED_BYTES_MAX).map_err(|err| err.to_string())?;
        for record in opened.views() {
            let record = record.map_err(|err| err.to_string())?;
            if record.offset >= from && record.headers().any(|(name, _)| name == header) {
                let copied = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
                let headers = record.headers().map(|(name, value)| (copied(name), value.map(copied))).collect();
                found.push(Found { partition, offset: record.offset, headers });
            }
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use kafka_wire::cold::types::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    use kafka_wire::compression::Compression;
    use kafka_wire::messages::fetch::{FetchedPartition, FetchedTopic, TopicId};
    use kafka_wire::record_batch::{BatchBuilder, HeaderRef, RecordRef, patch_base_offset};

    use super::*;

    const HEADER: &[u8] = b"gafka-id";

    /// A batch of one record as brokers have it: its timestamp, and what its header says.
    #[derive(Clone)]
    struct Stored {
        at_ms: i64,
        id: Option<&'static str>,
        codec: Compression,
    }

    fn stored(at_ms: i64, id: &'static str) -> Stored {
        Stored { at_ms, id: Some(id), codec: Compression::None }
    }

    fn other(at_ms: i64) -> Stored {
        Stored { at_ms, id: None, codec: Compression::None }
    }

    #[derive(Default)]
    struct Log {
        begin: i64,
        records: Vec<Stored>,
        /// Of the records, those that consumers see.
        seen: usize,
        leaderless: bool,
        refuses: Option<ErrorCode>,
    }

    /// A cluster that answers what it is asked, from logs.
    #[derive(Default)]
    struct Logs {
        logs: Vec<Log>,
        missing: bool,
        asked: Vec<(RequestToken, Request)>,
        tokens: u64,
        fetches: usize,
    }

    impl Cluster for Logs {
        fn request(&mut self, _: Target<'_>, _: Lane, request: Request, _: Duration, _: Instant) -> RequestToken {
            self.tokens += 1;
            self.asked.push((RequestToken(self.tokens), request));
            RequestToken(self.tokens)
        }
        fn cancel(&mut self, token: RequestToken) {
            self.asked.retain(|(asked, _)| *asked != token);
        }
        fn invalidate_coordinator(&mut self, _: &str) {}
        fn refresh_metadata(&mut self, _: Instant) {}
        fn topic(&mut self, _: &str) -> TopicIdx {
            TopicIdx(0)
        }
        fn topic_state(&self, _: TopicIdx) -> TopicState {
            if self.missing { TopicState::Missing } else { TopicState::Known }
        }
        fn partition_count(&self, _: TopicIdx) -> Option<i32> {
            (!self.missing).then_some(self.logs.len() as i32)
        }
        fn topic_id(&self, _: TopicIdx) -> Option<TopicId> {
            None
        }
        fn leader(&self, _: TopicIdx, partition: i32) -> Option<i32> {
            (!self.logs[partition as usize].leaderless).then_some(1)
        }
        fn leader_epoch(&self, _: TopicIdx, _: i32) -> Option<i32> {
            None
        }
    }

    impl Logs {
        fn of(logs: &[&[Stored]]) -> Logs {
            let log = |records: &&[Stored]| Log { records: records.to_vec(), seen: records.len(), ..Log::default() };
            Logs { logs: logs.iter().map(log).collect(), ..Logs::default() }
        }

        fn list(&self, request: &ListOffsetsRequest) -> Response {
            assert_eq!((request.isolation_level, request.replica_id.0), (READ_UNCOMMITTED, NO_REPLICA));
            let [asked] = &request.topics[0].partitions[..] else { panic!("one at a time") };
            let log = &self.logs[asked.partition_index as usize];
            let end = log.begin + log.seen as i64;
            let first = |at_ms| log.records[..log.seen].iter().position(|record| record.at_ms >= at_ms);
            let offset = match asked.timestamp {
                LATEST => end,
                EARLIEST => log.begin,
                at_ms => first(at_ms).map_or(-1, |at| log.begin + at as i64),
            };
            let mut found = ListOffsetsPartitionResponse::default();
            (found.partition_index, found.offset) = (asked.partition_index, offset);
            found.error_code = log.refuses.unwrap_or(ErrorCode::NONE).0;
            let topic = ListOffsetsTopicResponse::default().with_partitions(vec![found]);
            Response::Cold(ResponseKind::ListOffsets(ListOffsetsResponse::default().with_topics(vec![topic])))
        }

        /// At most two batches, as a broker gives what fits.
        fn fetch(&mut self, request: &FetchRequest) -> Response {
            self.fetches += 1;
            assert_eq!(request.isolation_level, READ_UNCOMMITTED);
            let asked = &request.topics[0].partitions[0];
            let log = &self.logs[asked.index as usize];
            let mut fetched = FetchedPartition::empty(asked.index, ErrorCode::NONE);
            fetched.log_start_offset = log.begin;
            if asked.fetch_offset < log.begin || asked.fetch_offset > log.begin + log.seen as i64 {
                fetched.error = ErrorCode::OFFSET_OUT_OF_RANGE;
            } else {
                let from = (asked.fetch_offset - log.begin) as usize;
                let mut bytes = Vec::new();
                for at in from..log.seen.min(from + 2) {
                    bytes.extend(batch(log.begin + at as i64, &log.records[at]));
                }
                fetched.records = bytes.into();
            }
            let topic =
                FetchedTopic { name: request.topics[0].name.clone(), id: NO_TOPIC_ID, partitions: vec![fetched] };
            Response::Fetch(FetchResponse {
                throttle_time_ms: 0,
                error: ErrorCode::NONE,
                session_id: 0,
                topics: vec![topic],
            })
        }
    }

    fn batch(offset: i64, stored: &Stored) -> Vec<u8> {
        let mut builder = BatchBuilder::with_capacity(256);
        let ours = stored.id.map(|id| HeaderRef { name: HEADER, value: Some(id.as_bytes()) });
        let theirs = HeaderRef { name: b"theirs", value: Some(b"x") };
        let headers: Vec<HeaderRef<'_>> = [Some(theirs), ours].into_iter().flatten().collect();
        builder.append(&RecordRef { timestamp_ms: stored.at_ms, key: None, value: Some(b"v"), headers: &headers });
        let mut bytes = builder.seal(stored.codec).to_bytes().to_vec();
        patch_base_offset(&mut bytes, offset, 0);
        bytes
    }

    /// Partition, offset and id of what was found.
    type Ids = Vec<(i32, i64, String)>;

    struct Scene {
        search: Search,
        cluster: Logs,
        now: Instant,
        began: Instant,
    }

    impl Scene {
        fn new(cluster: Logs, partition: Option<i32>, since: Since) -> Scene {
            let now = Instant::now();
            let search = Search::new(TopicIdx(0), "t", partition, since, HEADER);
            Scene { search, cluster, now, began: now }
        }

        /// Asks and answers until nothing is asked.
        fn pump(&mut self) {
            loop {
                self.search.step(&mut self.cluster, self.now);
                let Some((token, request)) = self.cluster.asked.pop() else { return };
                let response = match &request {
                    Request::Cold(RequestKind::ListOffsets(list)) => self.cluster.list(list),
                    Request::Fetch(fetch) => self.cluster.fetch(fetch),
                    Request::Cold(other) => panic!("{other:?}"),
                };
                assert!(self.search.answered(&mut self.cluster, token, &mut Some(Ok(response)), self.now));
            }
        }

        /// Until it ended; what it found, and where it ended.
        fn run(&mut self) -> (Ids, Result<BTreeMap<i32, i64>, SearchError>) {
            let mut found = Vec::new();
            for _ in 0..1_000 {
                self.pump();
                let id = |found: &Found| String::from_utf8_lossy(found.header(HEADER).expect("ours")).into_owned();
                found.extend(self.search.take_found().iter().map(|found| (found.partition, found.offset, id(found))));
                if let Some(ended) = self.search.ended() {
                    found.sort();
                    return (found, ended);
                }
                self.now = self.search.next_deadline().expect("something is due").max(self.now);
            }
            panic!("it goes on for ever: {:?}", self.search);
        }
    }

    fn found(expected: &[(i32, i64, &str)]) -> Ids {
        expected.iter().map(|(partition, offset, id)| (*partition, *offset, (*id).to_owned())).collect()
    }

    #[test]
    fn what_stands_behind_the_begin_is_found_whoever_wrote_beside_it_and_nothing_before_it() {
        let packed = Stored { codec: Compression::Zstd, ..stored(7, "packed") };
        let logs: [&[Stored]; 3] = [
            &[stored(1, "before"), other(2), stored(3, "a"), other(4), stored(5, "b"), packed],
            &[stored(1, "c"), other(9)],
            &[other(5)],
        ];
        let offsets = |all: &[(i32, i64)]| Since::Offsets(all.iter().copied().collect());
        for (what, since, partition, expected) in [
            ("nothing is asked for", Since::Nothing, None, found(&[])),
            (
                "from offsets, in those partitions",
                offsets(&[(0, 2), (2, 0)]),
                None,
                found(&[(0, 2, "a"), (0, 4, "b"), (0, 5, "packed")]),
            ),
            ("from offsets, in one partition", offsets(&[(0, 3), (1, 0)]), Some(1), found(&[(1, 0, "c")])),
            ("from the end", offsets(&[(0, 6)]), None, found(&[])),
            ("from a time, in all", Since::Time(3), None, found(&[(0, 2, "a"), (0, 4, "b"), (0, 5, "packed")])),
            ("from a time nobody has reached", Since::Time(1_000), None, found(&[])),
            ("from before all times", Since::Time(-1), Some(1), found(&[(1, 0, "c")])),
        ] {
            let is_quick = since == Since::Nothing;
            let mut scene = Scene::new(Logs::of(&logs), partition, since);
            let (found, ended) = scene.run();
            assert_eq!(found, expected, "{what}");
            let ends = BTreeMap::from([(0, 6), (1, 2), (2, 1)]);
            let ends = ends.into_iter().filter(|(index, _)| partition.is_none_or(|only| only == *index)).collect();
            assert_eq!(ended, Ok(ends), "{what}");
            assert_eq!(scene.now == scene.began, is_quick, "{what}");
            assert!(!is_quick || scene.cluster.fetches == 0, "{what}");
        }
    }

    #[test]
    fn what_comes_while_it_rests_is_found_too() {
        let mut scene = Scene::new(Logs::of(&[&[other(1)]]), None, Since::Offsets([(0, 0)].into()));
        scene.pump();
        scene.cluster.logs[0].records.push(stored(2, "late"));
        scene.cluster.logs[0].seen += 1;
        assert_eq!(scene.search.ended(), None, "it rests");
        assert_eq!(scene.search.next_deadline(), Some(scene.began + SEARCH_REST));
        let (all, ended) = scene.run();
        assert_eq!((all, ended), (found(&[(0, 1, "late")]), Ok([(0, 2)].into())));
    }

    #[test]
    fn retention_that_took_the_begin_leaves_the_rest_to_be_found_and_a_log_that_was_cut_ends_it() {
        for (what, log_begin, since, expected, end) in
            [("retention", 5, 2, found(&[(0, 5, "a"), (0, 6, "b")]), 7), ("cut", 0, 40, found(&[]), 40)]
        {
            let mut logs = Logs::of(&[&[stored(1, "a"), stored(2, "b")]]);
            logs.logs[0].begin = log_begin;
            let (found, ended) = Scene::new(logs, None, Since::Offsets([(0, since)].into())).run();
            assert_eq!((found, ended), (expected, Ok([(0, end)].into())), "{what}");
        }
    }

    #[test]
    fn a_partition_without_a_leader_is_waited_for_alone_and_in_the_end_left_out_of_many() {
        let leaderless = || {
            let mut logs = Logs::of(&[&[stored(1, "a")], &[stored(1, "b")]]);
            logs.logs[1].leaderless = true;
            logs
        };
        for (since, patience) in
            [(Since::Nothing, SEARCH_RETRY_MAX), (Since::Offsets([(0, 0), (1, 0)].into()), SEARCH_LEADERLESS_WAIT)]
        {
            let mut scene = Scene::new(leaderless(), None, since);
            let (_, ended) = scene.run();
            assert_eq!(ended, Ok([(0, 1)].into()));
            let took = scene.now - scene.began;
            assert!((patience..patience + SEARCH_RETRY_MAX).contains(&took), "{took:?}");
        }
        let mut alone = Scene::new(leaderless(), Some(1), Since::Offsets([(1, 0)].into()));
        for _ in 0..200 {
            alone.pump();
            assert_eq!(alone.search.ended(), None);
            alone.now = alone.search.next_deadline().expect("it tries again");
        }
        assert_eq!(alone.search.last_error(), Some("partition 1 has no leader"));
        alone.cluster.logs[1].leaderless = false;
        assert_eq!(alone.run(), (found(&[(1, 0, "b")]), Ok([(1, 1)].into())));
    }

    #[test]
    fn errors_that_pass_are_waited_out_and_those_that_stay_are_told() {
        let since = || Since::Offsets([(0, 0)].into());
        let mut scene = Scene::new(Logs::of(&[&[stored(1, "a")]]), None, since());
        scene.cluster.logs[0].refuses = Some(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        for _ in 0..20 {
            scene.pump();
            scene.now = scene.search.next_deadline().expect("it tries again");
        }
        scene.cluster.logs[0].refuses = None;
        assert_eq!(scene.run().0, found(&[(0, 0, "a")]));

        let mut scene = Scene::new(Logs::of(&[&[]]), None, since());
        scene.cluster.logs[0].refuses = Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        let (_, ended) = scene.run();
        let expected = "partition 0 cannot be read: TOPIC_AUTHORIZATION_FAILED (29)";
        assert_eq!(ended.expect_err("for good").to_string(), expected);

        let mut scene = Scene::new(Logs { missing: true, ..Logs::default() }, None, since());
        assert_eq!(scene.run().1, Err(SearchError::NoTopic));
    }

    #[test]
    fn what_a_cancelled_search_asked_is_withdrawn() {
        let mut scene = Scene::new(Logs::of(&[&[], &[]]), None, Since::Nothing);
        scene.search.step(&mut scene.cluster, scene.now);
        assert_eq!(scene.cluster.asked.len(), 2);
        scene.search.withdraw(&mut scene.cluster);
        assert!(scene.cluster.asked.is_empty());
    }
}
